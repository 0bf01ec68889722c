//! What connectors are allowed: `[grants.<type>]`, and which components there may be at all.

use std::collections::{BTreeMap, BTreeSet};

use toml::de::{DeTable, DeValue};

use super::super::reader::{At, Section};
use super::Parser;
use super::instances::is_type;
use crate::connectors::registry::origin;
use crate::connectors::serving::integration_type;
use crate::connectors::{Destinations, NAME_PREFIX};

impl<'a> Parser<'a> {
    /// The digests in `approved_components` of `[host]`; nothing when that is not there. An empty list approves none.
    pub(super) fn approved(&self, section: &Section<'a, '_>, host: &DeTable<'_>) -> Option<BTreeSet<String>> {
        let key = "approved_components";
        let digests = section.texts(key).into_iter().filter_map(|digest| self.digest(&digest)).collect();
        host.contains_key(key).then_some(digests)
    }

    /// A SHA-256, as `sha256sum` and `host-harness inspect` write it, in lower case.
    fn digest(&self, text: &At<String>) -> Option<String> {
        let digest = text.value.strip_prefix("sha256:").unwrap_or(&text.value).to_ascii_lowercase();
        let is_sound = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_sound {
            self.report.problem(
                text.at,
                "config-value",
                "an entry of approved_components in [host] is no SHA-256",
                "write the 64 hexadecimal digits that `sha256sum CONNECTOR.wasm` gives",
            );
        }
        is_sound.then_some(digest)
    }

    /// `[grants.<type>]`.
    pub(super) fn grants(&self, table: &'a DeTable<'_>) -> BTreeMap<String, Destinations> {
        let mut grants = BTreeMap::new();
        for (key, value) in table {
            let at = value.span().start;
            let DeValue::Table(table) = value.get_ref() else {
                self.report.problem(
                    at,
                    "config-value",
                    format!("[grants.{}] must be a table", key.get_ref()),
                    "write [grants.TYPE]",
                );
                continue;
            };
            let section = Section::new(self.report, table, "[grants]", at);
            let all = |key: &'static str| {
                section.texts(key).into_iter().filter_map(|origin| self.origin(&origin, key)).collect()
            };
            let destinations = Destinations { origins: all("origins"), sign_in: all("sign_in") };
            section.required(
                "origins",
                Some(()).filter(|()| table.contains_key("origins")),
                "origins = [\"https://api.example.com\"]",
            );
            section.finish();
            let written = key.get_ref();
            let kind = integration_type(written.strip_prefix(NAME_PREFIX).unwrap_or(written));
            if !is_type(&kind) {
                self.report.problem(
                    key.span().start,
                    "config-value",
                    format!("[grants.{written}] is for no connector"),
                    "write the connector's name, such as [grants.acme_siem]",
                );
            }
            if grants.insert(kind, destinations).is_some() {
                self.report.problem(
                    key.span().start,
                    "config-twice",
                    format!("[grants.{written}] is for the same connector as another table of [grants]"),
                    "write all origins of a connector into one table",
                );
            }
        }
        grants
    }

    /// An origin, in the form in which plans are compared with it.
    fn origin(&self, text: &At<String>, key: &str) -> Option<String> {
        let origin = origin(&text.value).ok();
        if origin.is_none() {
            self.report.problem(
                text.at,
                "config-value",
                format!("an entry of {key} is no origin"),
                "write scheme, host and perhaps port, such as \"https://us.api.example.com\"",
            );
        }
        origin
    }
}
