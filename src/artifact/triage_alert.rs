//! An alert of the Alert Triage API that belongs to no investigation.
//!
//! It has the same identity as it would have as an alert of an investigation:
//! should it join one later, the artifact has the same id.

use std::borrow::Cow;

use super::alert::{Context, nested};
use super::identity::Version;
use super::message;
use super::{Artifact, field, message_type, severity};
use crate::api::json::Json;
use crate::api::records::Members;
use crate::times::Utc;

/// An alert as the Alert Triage API has it.
#[derive(Debug, Clone)]
pub struct TriageAlert<'a> {
    /// The record.
    pub raw: Json<'a>,
    /// Its members.
    pub members: Members<'a>,
    /// Its RRN; empty for a record without one.
    pub rrn: Cow<'a, str>,
}

impl<'a> TriageAlert<'a> {
    /// Reads a record.
    #[must_use]
    pub fn of(raw: impl Into<Json<'a>>) -> Self {
        let raw = raw.into();
        let members = Members::within(raw).unwrap_or_default();
        let rrn = members.text("rrn").unwrap_or_default();
        Self { raw, members, rrn }
    }

    /// Whether it belongs to an investigation, and is collected with that.
    #[must_use]
    pub fn is_investigated(&self) -> bool {
        self.investigation().is_some()
    }

    /// The RRN of the investigation that it belongs to, if it does.
    #[must_use]
    pub fn investigation(&self) -> Option<Cow<'a, str>> {
        self.members.text("investigation_rrn")
    }

    /// When it was created, if it says so.
    #[must_use]
    pub fn created(&self) -> Option<Utc> {
        self.members.time("created_at")
    }

    /// The artifact. `now` stands in where the record has no readable time.
    #[must_use]
    pub fn artifact(&self, context: Context, api_host: &str, now: Utc) -> Artifact<'a> {
        let organization = self.members.object("organization").unwrap_or_default();
        let organization = organization.text("id").unwrap_or_default();
        let version = Version { organization: &organization, record: &self.rrn, ordinal: 0, fingerprint: 0 };
        let created = self.created().unwrap_or(now);
        let start = self.members.time("alerted_at").unwrap_or(created);
        let rule = self.members.object("rule").unwrap_or_default();
        let rule_name = rule.text("name");
        let title = self.members.text("title");
        let kind = self.members.text("type");
        let mut tags: Vec<Cow<'a, str>> = self.members.texts("tags").into_iter().take(64).map(field).collect();
        if self.created().is_none() {
            tags.push(Cow::Borrowed("unmapped:no-created-time"));
        }
        tags.extend(context.tags());
        let record = message::triage_line(self.raw);
        let nested = nested(context.evidence, context.actors);
        Artifact {
            id: version.id(created),
            message_type: match self.created() {
                None => message_type::SIEM_EVENT,
                Some(_) => {
                    message_type::classify(&context.mitre, &[kind.as_deref(), rule_name.as_deref(), title.as_deref()])
                }
            },
            action: Some("alert".to_owned()),
            tags,
            severity: severity::of_priority(self.members.text("priority").as_deref()),
            rule_name: rule_name.or(title).map(field),
            rule_category: kind.or_else(|| self.members.text("external_source")).map(field),
            attack_technique_ids: context.mitre.techniques,
            sender_host: version.sender_host(api_host),
            source_info: Some(field(self.rrn.clone())),
            vendor_code: rule.text("rrn").map(field),
            start: Some(start),
            end: None,
            entities: context.entities,
            message: message::message_of(record, &self.members, &nested),
        }
    }
}
