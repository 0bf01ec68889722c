//! What belongs to an investigation besides its alerts: alerts of Rapid7's
//! other products, comments, and evidence of the restricted endpoint. Each is
//! an artifact of its own.
//!
//! Their identity: comments have an RRN; the alert of a product has its own id
//! within its type; an occurrence of restricted evidence has none, and is known
//! by its content.

use std::borrow::Cow;

use super::evidence;
use super::identity::{Version, hash64};
use super::investigation::Investigation;
use super::message::{self, Nested};
use super::mitre::Mitre;
use super::{Artifact, entities, field, message_type, severity};
use crate::api::json::Json;
use crate::api::records::Members;
use crate::times::Utc;

/// The kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An alert of another product, from `rapid7-product-alerts`.
    ProductAlert,
    /// A comment.
    Comment,
    /// An occurrence of restricted evidence.
    Restricted,
}

/// One such record.
#[derive(Debug, Clone)]
pub struct Extra<'a> {
    /// What it is.
    pub kind: Kind,
    raw: Json<'a>,
    members: Members<'a>,
    /// Its name among all records of the tenant.
    pub id: String,
}

impl<'a> Extra<'a> {
    /// Reads a record of an investigation.
    #[must_use]
    pub fn of(kind: Kind, raw: impl Into<Json<'a>>, investigation: &Investigation<'_>) -> Self {
        let raw = raw.into();
        let members = Members::within(raw).unwrap_or_default();
        let own = match kind {
            Kind::ProductAlert => detail(&members).and_then(|detail| detail.text("alert_id").map(Cow::into_owned)),
            Kind::Comment => members.text("rrn").map(Cow::into_owned),
            Kind::Restricted => None,
        };
        let own = own.filter(|id| id.len() <= 512);
        let id = match (kind, own) {
            (Kind::Comment, Some(rrn)) => rrn,
            (_, own) => {
                let own = own
                    .unwrap_or_else(|| format!("{:016x}", hash64([crate::text::compact_json(raw.get()).as_bytes()])));
                let of = match kind {
                    Kind::ProductAlert => members.text("type").unwrap_or(Cow::Borrowed("product-alert")),
                    Kind::Comment => Cow::Borrowed("comment"),
                    Kind::Restricted => Cow::Borrowed("evidence"),
                };
                format!("{}:{of}.{own}", investigation.rrn)
            }
        };
        Self { kind, raw, members, id }
    }

    /// Key among what is known of its investigation.
    #[must_use]
    pub fn key(&self) -> u64 {
        hash64([self.id.as_bytes()])
    }

    /// The artifact. `now` stands in where neither it nor its investigation
    /// has a readable time.
    #[must_use]
    pub fn artifact(&self, of: &Investigation<'_>, api_host: &str, now: Utc) -> Artifact<'a> {
        let organization = of.members.text("organization_id").unwrap_or_default();
        let version = Version { organization: &organization, record: &self.id, ordinal: 0, fingerprint: 0 };
        let own_time = match self.kind {
            Kind::ProductAlert => None,
            Kind::Comment => self.members.time("created_time"),
            Kind::Restricted => self.members.time("start_time"),
        };
        let event = own_time.or(of.created).unwrap_or(now);
        let priority = of.members.text("priority");
        let title = of.members.text("title");
        let mut tags = Vec::new();
        if self.members.is_empty() {
            tags.push(Cow::Borrowed("unmapped:not-an-object"));
        } else if own_time.is_none() {
            // Told apart from a time of its own.
            tags.push(Cow::Borrowed("time-of-investigation"));
        }
        let mut artifact = Artifact {
            id: version.id(event),
            message_type: message_type::SIEM_EVENT,
            tags,
            severity: severity::of_priority(priority.as_deref()),
            sender_host: version.sender_host(api_host),
            source_info: Some(field(Cow::Owned(self.id.clone()))),
            start: Some(event),
            message: message::message(
                self.raw,
                &[Nested { name: "investigation", records: vec![of.as_parent().to_owned()], single: true }],
            ),
            ..Artifact::default()
        };
        match self.kind {
            Kind::ProductAlert => {
                let product = self.members.text("type");
                let name = detail(&self.members).and_then(|detail| detail.text("alert_type"));
                artifact.action = Some("product_alert".to_owned());
                if !self.members.is_empty() {
                    artifact.message_type =
                        message_type::classify(&Mitre::default(), &[name.as_deref(), product.as_deref()]);
                }
                artifact.rule_name = name.or_else(|| title.map(|title| Cow::Owned(title.into_owned()))).map(field);
                artifact.rule_category = product.map(field);
                artifact.entities = evidence::entities(self.raw);
            }
            Kind::Comment => {
                artifact.action = Some("comment".to_owned());
                // What people say of it is no alarm.
                artifact.severity = severity::of_priority(None);
                artifact.rule_name = title.map(|title| field(Cow::Owned(title.into_owned())));
                artifact.rule_category = self.members.text("visibility").map(field);
                if let Some(name) = self.members.object("creator").and_then(|creator| creator.text("name")) {
                    artifact.entities.offer(entities::Field::UserName, 0, &name);
                }
            }
            Kind::Restricted => {
                let headline = self.members.text("headline");
                artifact.action = Some("evidence".to_owned());
                artifact.message_type =
                    message_type::classify(&Mitre::default(), &[headline.as_deref(), title.as_deref()]);
                artifact.rule_name = headline.map(field);
                artifact.rule_category = Some(Cow::Borrowed("restricted evidence"));
                for piece in self.members.list("evidence") {
                    if let Some(details) = Members::within(piece).unwrap_or_default().raw("details") {
                        artifact.entities.fill_from(evidence::entities(details));
                    }
                }
            }
        }
        artifact
    }
}

/// The member with the details of an alert of another product: an object, or a
/// list that holds one.
fn detail<'a>(members: &Members<'a>) -> Option<Members<'a>> {
    let (_, raw) = members.iter().find(|(name, value)| name.ends_with("_details") && value.get() != "null")?;
    Members::within(raw)
        .or_else(|| raw.elements()?.first().copied().map(|first| Members::within(first).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    const INVESTIGATION: &str = r#"{"rrn":"rrn:investigation:us:o:investigation:A","organization_id":"o","title":"T","priority":"HIGH","created_time":"2026-01-01T00:00:00Z"}"#;

    #[test]
    fn an_alert_of_another_product_is_known_by_its_type_and_id_in_both_shapes() {
        let of = raw(INVESTIGATION);
        let of = Investigation::of(&of);
        for (json, id, name) in [
            (
                r#"{"type":"THREAT_COMMAND","threat_command_details":{"alert_id":"7","alert_type":"Phishing","applicable_close_reasons":[]}}"#,
                "rrn:investigation:us:o:investigation:A:THREAT_COMMAND.7",
                Some("Phishing"),
            ),
            (
                r#"{"type":"INSIGHT_AGENT","insight_agent_details":[{"alert_id":"8","alert_type":"Malware","hostname":"pc-9"}]}"#,
                "rrn:investigation:us:o:investigation:A:INSIGHT_AGENT.8",
                Some("Malware"),
            ),
        ] {
            let raw = raw(json);
            let extra = Extra::of(Kind::ProductAlert, &raw, &of);
            assert_eq!(extra.id, id);
            let artifact = extra.artifact(&of, "us.example", Utc(0));
            assert_eq!(artifact.rule_name.as_deref(), name);
            assert_eq!(artifact.severity.1, "high");
            assert_eq!(artifact.tags, ["time-of-investigation"]);
            let host = artifact.entities.get(entities::Field::ClientHostname);
            assert_eq!(host, (name == Some("Malware")).then_some("pc-9"));
        }
        let (one, other) = (raw(r#"{"type":"X"}"#), raw(r#"{"type":"X","a":1}"#));
        assert_ne!(
            Extra::of(Kind::ProductAlert, &one, &of).key(),
            Extra::of(Kind::ProductAlert, &other, &of).key(),
            "without an id the content tells them apart"
        );
    }

    #[test]
    fn a_comment_is_informational_and_named_by_who_wrote_it() {
        let of = raw(INVESTIGATION);
        let of = Investigation::of(&of);
        let raw = raw(
            r#"{"rrn":"rrn:collaboration:us:o:comment:C","creator":{"type":"USER","name":"Jane"},"body":null,"visibility":"PUBLIC","created_time":"2026-01-02T00:00:00Z"}"#,
        );
        let extra = Extra::of(Kind::Comment, &raw, &of);
        let artifact = extra.artifact(&of, "us.example", Utc(0));
        assert_eq!(artifact.sender_host, "us.example/C.0");
        assert_eq!(artifact.severity.1, "informational");
        assert_eq!(artifact.entities.get(entities::Field::UserName), Some("Jane"));
        assert_eq!(artifact.start, Utc::parse("2026-01-02T00:00:00Z"));
    }

    #[test]
    fn restricted_evidence_is_read_within_its_strings() {
        let of = raw(INVESTIGATION);
        let of = Investigation::of(&of);
        let raw = raw(
            r#"{"headline":"H","start_time":"2026-01-02T00:00:00Z","evidence":[{"type":"OdinMatchEvidence","details":{"matchId":"m"}},
                {"type":"OdinMatchContentEvidence","details":{"content":"{\"hostname\":\"pc-7\",\"process\":{\"name\":\"a.exe\"}}","eventSource":{"name":"x"}}},
                {"type":"HoneypotConnectionEvidence","details":{"account":{"name":"jdoe"},"logline":"{\"source_ip\":\"10.0.0.1\"}"}}]}"#,
        );
        let artifact = Extra::of(Kind::Restricted, &raw, &of).artifact(&of, "us.example", Utc(0));
        assert_eq!(artifact.start, Utc::parse("2026-01-02T00:00:00Z"));
        assert_eq!(
            artifact.entities.iter().collect::<Vec<_>>(),
            [("clientIP", "10.0.0.1"), ("clientHostname", "pc-7"), ("userName", "jdoe"), ("program", "a.exe")]
        );
    }
}
