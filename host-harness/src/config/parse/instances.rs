//! `[[instance]]` tables, and what they must not have in common.

use std::collections::{BTreeMap, BTreeSet};

use toml::de::{DeTable, DeValue};

use super::super::reader::{At, Section, text};
use super::super::{InstanceConfig, LeftOut, Place};
use super::Parser;
use crate::connectors::NAME_PREFIX;
use crate::connectors::serving::integration_type;
use crate::contract::types::{Setting, SettingValue};
use crate::instances::secrets::Source;
use crate::store::is_instance_name;

/// An `[[instance]]` as far as it could be read.
pub(super) struct Entry {
    /// Who it is.
    pub(super) who: LeftOut,
    /// It, unless that cannot be told.
    pub(super) instance: Option<InstanceConfig>,
    /// Whether nothing is wrong with it.
    pub(super) is_sound: bool,
}

impl<'a> Parser<'a> {
    /// `[[instance]]`.
    pub(super) fn instance(&self, table: &At<&'a DeTable<'_>>) -> Entry {
        let before = self.report.count();
        let section = Section::new(self.report, table.value, "[[instance]]", table.at);
        let handle = section.text("id").and_then(|id| {
            let sound = (1..=64).contains(&id.value.len())
                && id.value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
            if !sound {
                section.wrong(id.at, "id", "of letters, digits, -, _ and ., at most 64");
            }
            sound.then_some(id.value)
        });
        let kind =
            section.required("integration_type", section.text("integration_type"), "integration_type = \"acme_siem\"");
        let kind = kind.and_then(|kind| {
            // A component's own name begins with that of the product it is loaded into.
            let written = integration_type(kind.value.strip_prefix(NAME_PREFIX).unwrap_or(&kind.value));
            let sound = is_type(&written);
            if !sound {
                section.wrong(kind.at, "integration_type", "the connector's name, such as \"acme_siem\"");
            }
            sound.then_some(written)
        });
        let name = section.required("name", section.text("name"), "name = \"acme-us\"").and_then(|name| {
            let sound = is_instance_name(&name.value);
            if !sound {
                section.wrong(
                    name.at,
                    "name",
                    "1 to 64 characters without control characters and without space at the ends",
                );
            }
            sound.then_some(name.value)
        });
        let enabled = section.boolean("enabled").unwrap_or(true);
        let interval = section.integer("poll_interval_minutes", 1..1_441);
        let settings = section.table("settings").map(|table| self.settings(table.value)).unwrap_or_default();
        let secrets = section.table("secrets").map(|table| self.secrets(table.value)).unwrap_or_default();
        let (settings, lines_of_settings) = settings.into_iter().unzip();
        let (secrets, lines_of_secrets) = secrets.into_iter().unzip();
        section.finish();
        let place = Place {
            line: self.report.line(table.at),
            interval: interval.as_ref().map(|minutes| self.report.line(minutes.at)),
            settings: lines_of_settings,
            secrets: lines_of_secrets,
        };
        let who = LeftOut { line: place.line, handle: handle.clone(), name: name.clone() };
        let instance = kind.zip(name).map(|(integration_type, name)| InstanceConfig {
            handle,
            integration_type,
            name,
            enabled,
            poll_interval_minutes: interval.and_then(|minutes| u32::try_from(minutes.value).ok()),
            settings,
            secrets,
            place,
        });
        Entry { who, instance, is_sound: self.report.count() == before }
    }

    /// `[instance.settings]`: whatever the connector's form has; values are not shown, because a secret may stand here
    /// by mistake. Each with its line.
    fn settings(&self, table: &'a DeTable<'_>) -> Vec<(Setting, usize)> {
        let mut settings = Vec::new();
        for (key, value) in table {
            let at = value.span().start;
            let key = key.get_ref().as_ref().to_owned();
            let value = match value.get_ref() {
                DeValue::String(text) => Some(SettingValue::Text(text.as_ref().to_owned())),
                DeValue::Boolean(on) => Some(SettingValue::Boolean(*on)),
                DeValue::Integer(number) => {
                    i64::from_str_radix(number.as_str(), number.radix()).ok().map(SettingValue::Integer)
                }
                _ => None,
            };
            match value {
                Some(value) => settings.push((Setting { key, value }, self.report.line(at))),
                None => self.report.problem(
                    at,
                    "config-value",
                    format!("the setting {key:?} is neither a text, nor a whole number, nor true or false"),
                    "see the settings with `host-harness inspect`",
                ),
            }
        }
        settings
    }

    /// `[instance.secrets]`, each with its line.
    fn secrets(&self, table: &'a DeTable<'_>) -> Vec<((String, Source), usize)> {
        let mut secrets = Vec::new();
        for (key, value) in table {
            let at = value.span().start;
            let key = key.get_ref().as_ref();
            let value = text(value).unwrap_or(At { value: String::new(), at });
            if let Some(source) = self.source(key, &value) {
                secrets.push(((key.to_owned(), source), self.report.line(at)));
            }
        }
        secrets
    }

    /// What instances must not have in common, and how many there may be. Of two with one name or id neither is sound: which
    /// of them has the state that goes by it is not known.
    pub(super) fn counts(&self, entries: &mut [Entry], most: usize) {
        let mut shared = BTreeSet::new();
        let mut lines: BTreeMap<(&str, String), usize> = BTreeMap::new();
        let mut types: BTreeMap<String, Crowd> = BTreeMap::new();
        for entry in &mut *entries {
            let line = entry.who.line;
            for (what, value) in known(&entry.who) {
                if let Some(first) = lines.insert((what, value.clone()), line) {
                    let reason = format!("the {what} {value:?} is that of the instance in line {first}, too");
                    let help = format!("give every instance its own {what}");
                    self.report.problem(self.offset(line), "config-twice", reason, help);
                    shared.insert((what, value));
                }
            }
            let Some(instance) = &entry.instance else { continue };
            let crowd = types.entry(instance.integration_type.clone()).or_default();
            crowd.count += 1;
            if crowd.count > most {
                entry.is_sound = false;
                crowd.first_beyond.get_or_insert(line);
            }
        }
        // Once for a type: whoever adds fifty has made one mistake.
        for (kind, Crowd { count, first_beyond }) in types {
            let Some(line) = first_beyond else { continue };
            let which = if count == most + 1 {
                format!("this is instance {count} of {kind}")
            } else {
                format!("here begin the instances {} to {count} of {kind}", most + 1)
            };
            self.report.problem(
                self.offset(line),
                "config-too-many",
                format!("{which}; at most {most} are allowed"),
                "remove some, or raise most_instances_per_type in [host]",
            );
        }
        for entry in entries {
            entry.is_sound &= known(&entry.who).all(|one| !shared.contains(&one));
        }
    }
}

/// The instances of a type.
#[derive(Default)]
struct Crowd {
    count: usize,
    /// The line of the first one that is too many.
    first_beyond: Option<usize>,
}

/// What an instance has for itself.
fn known(who: &LeftOut) -> impl Iterator<Item = (&'static str, String)> {
    let (name, id) = (who.name.clone().map(|name| ("name", name)), who.handle.clone().map(|id| ("id", id)));
    name.into_iter().chain(id)
}

/// Whether a text can be an integration type.
pub(super) fn is_type(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}
