//! An alert of the Alert Triage API that belongs to no investigation, or to none that is known.
//!
//! It has the same identity as it would have as an alert of an investigation:
//! should it join one later, the artifact has the same id.

use std::borrow::Cow;

use super::alert::{Context, id_time, nested, times};
use super::identity::{Version, owner};
use super::message;
use super::{Artifact, cve, disposition_tag, field, message_type, severity};
use crate::api::json::Json;
use crate::api::records::Members;
use crate::times::Utc;

/// Most tags that are taken over.
const TAGS: usize = 64;

/// What an alert says of itself in the Alert Triage API, whether or not it
/// belongs to an investigation.
#[derive(Debug, Clone, Default)]
pub struct Details {
    /// When it was created.
    pub created: Option<Utc>,
    /// When it happened.
    pub alerted: Option<Utc>,
    /// Its own priority.
    pub priority: Option<String>,
    /// What was found of it.
    pub disposition: Option<String>,
    /// Name of its rule.
    pub rule_name: Option<String>,
    /// RRN of its rule.
    pub rule_rrn: Option<String>,
    /// Its tags.
    pub tags: Vec<String>,
}

impl Details {
    /// Reads a record.
    #[must_use]
    pub fn of(alert: &Members<'_>) -> Self {
        let rule = alert.object("rule").unwrap_or_default();
        let owned = |text: Option<Cow<'_, str>>| text.map(Cow::into_owned);
        Self {
            created: alert.time("created_at"),
            alerted: alert.time("alerted_at"),
            priority: owned(alert.text("priority")),
            disposition: owned(alert.text("disposition")),
            rule_name: owned(rule.text("name")),
            rule_rrn: owned(rule.text("rrn")),
            tags: alert.texts("tags").into_iter().take(TAGS).map(|tag| field(tag).into_owned()).collect(),
        }
    }
}

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

    /// The first of the times by which a search may have found it, if it says when it was created.
    #[must_use]
    pub fn first_time(&self) -> Option<Utc> {
        let created = self.created()?;
        Some(self.members.time("alerted_at").map_or(created, |alerted| alerted.min(created)))
    }

    /// The artifact. `now` stands in where the record has no readable time. Investigations are of one organization
    /// (`is_organization`): where the RRN names that one too, it is that whose the alert is, whatever its record calls it. So it
    /// is where the record calls it nothing.
    #[must_use]
    pub fn artifact(
        &self,
        context: Context,
        api_host: &str,
        now: Utc,
        is_organization: impl Fn(&str) -> bool,
    ) -> Artifact<'a> {
        let organization = self.members.object("organization").unwrap_or_default();
        let owner = owner(&self.rrn).map(Cow::Borrowed);
        let said = organization.text("id").filter(|_| !owner.as_deref().is_some_and(is_organization));
        let organization = said.or(owner).unwrap_or_default();
        let version = Version { organization: &organization, record: &self.rrn, ordinal: 0, fingerprint: 0 };
        let details = Details::of(&self.members);
        let created = details.created.unwrap_or(now);
        let rule_name = details.rule_name.map(Cow::Owned);
        let title = self.members.text("title");
        let kind = self.members.text("type");
        let mut tags: Vec<Cow<'a, str>> = details.tags.into_iter().map(Cow::Owned).collect();
        tags.extend(details.disposition.as_deref().and_then(disposition_tag));
        if details.created.is_none() {
            tags.push(Cow::Borrowed("unmapped:no-created-time"));
        }
        tags.extend(context.tags());
        let record = message::triage_line(self.raw);
        let nested = nested(context.evidence, context.actors);
        let (start, end) = times((None, None), context.entities.seen, details.alerted, created);
        Artifact {
            id: version.id(id_time(created)),
            message_type: match details.created {
                None => message_type::SIEM_EVENT,
                Some(_) => {
                    message_type::classify(&context.mitre, &[kind.as_deref(), rule_name.as_deref(), title.as_deref()])
                }
            },
            action: Some("alert".to_owned()),
            tags,
            severity: severity::of_priority(details.priority.as_deref()),
            cve: cve::first_in(&[rule_name.as_deref(), title.as_deref()]),
            rule_name: rule_name.or(title).map(field),
            rule_category: kind.or_else(|| self.members.text("external_source")).map(field),
            attack_technique_ids: context.mitre.techniques,
            sender_host: version.sender_host(api_host),
            source_info: Some(field(self.rrn.clone())),
            vendor_code: details.rule_rrn.map(|rrn| field(Cow::Owned(rrn))),
            start: Some(start),
            end,
            entities: context.entities,
            message: message::message_of(record, &self.members, &nested),
        }
    }
}
