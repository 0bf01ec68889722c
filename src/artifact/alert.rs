//! An alert as an artifact: one for each alert, and another one when more evidence of it has come.

use std::borrow::Cow;
use std::cell::OnceCell;

use super::entities::Entities;
use super::identity::{Version, hash64};
use super::investigation::Investigation;
use super::message::{self, Nested};
use super::mitre::Mitre;
use super::triage_alert::Details;
use super::{Artifact, cve, disposition_tag, field, message_type, severity};
use crate::api::json::Json;
use crate::api::records::Members;
use crate::times::Utc;

/// An alert as listed with its investigation.
#[derive(Debug, Clone)]
pub struct Alert<'a> {
    /// The record.
    pub raw: Json<'a>,
    /// Its members.
    pub members: Members<'a>,
    /// Its id: an RRN or a UUID; for a record without one a name made of its
    /// content.
    pub id: Cow<'a, str>,
    /// When it was created, if it says so.
    pub created: Option<Utc>,
    /// See [`Alert::key`].
    key: OnceCell<u64>,
}

/// What is known about an alert besides the record.
#[derive(Debug, Clone, Default)]
pub struct Context {
    /// Evidence, each one line of JSON.
    pub evidence: Vec<String>,
    /// Actors, each one line of JSON.
    pub actors: Vec<String>,
    /// What actors and evidence say.
    pub entities: Entities,
    /// The alert as the Alert Triage API has it, one line of JSON.
    pub triage: Option<String>,
    /// What it says of itself there.
    pub details: Details,
    /// What the rule says of MITRE ATT&CK.
    pub mitre: Mitre,
    /// Whether there should be evidence but none can be had.
    pub missing: bool,
    /// Whether there is more to it than was read: evidence, actors, or what its record and its rule say.
    pub is_cut: bool,
}

/// The most pieces that are counted.
const MOST_PIECES: u32 = 1_000;

impl Context {
    /// How many pieces of evidence and actors there are, as far as they are counted.
    #[must_use]
    pub fn pieces(&self) -> u32 {
        u32::try_from(self.evidence.len().saturating_add(self.actors.len())).unwrap_or(u32::MAX).min(MOST_PIECES)
    }

    /// What the alert says of its evidence by tags.
    pub(super) fn tags<'t>(&self) -> Vec<Cow<'t, str>> {
        let tags = [(self.missing, "evidence-unavailable"), (self.is_cut, "evidence-cut")];
        tags.into_iter().filter_map(|(holds, tag)| holds.then_some(Cow::Borrowed(tag))).collect()
    }
}

/// The time in the id of an alert. The list of an investigation has its
/// creation to the millisecond and the Alert Triage API to the microsecond: the
/// id is the same whichever of them it was collected from.
pub(super) fn id_time(created: Utc) -> Utc {
    created.floor_millisecond()
}

/// Seconds around an alert in which its log lines can have been written: what is
/// further off comes of a clock that is wrong, and would not be found by its time.
const LATE: i64 = 30 * 86_400;

/// When it happened and last happened: what the vendor says of it, else when the
/// log lines of the evidence were written (a rule fires up to days later, when
/// they arrive), else when the rule fired, else when the alert was created.
pub(super) fn times(
    said: (Option<Utc>, Option<Utc>),
    seen: Option<(Utc, Utc)>,
    alerted: Option<Utc>,
    created: Utc,
) -> (Utc, Option<Utc>) {
    let fired = alerted.unwrap_or(created);
    let seen = seen.filter(|(first, _)| *first <= fired && fired.seconds_since(*first) <= LATE);
    let start = said.0.or(seen.map(|(first, _)| first)).unwrap_or(fired);
    // Evidence is added to alerts that have been there for a while.
    let last = seen.map(|(_, last)| last).filter(|last| last.seconds_since(fired) <= LATE);
    (start, said.1.or(last).filter(|end| *end >= start))
}

/// Evidence and actors as they stand in the message of any alert.
pub(super) fn nested(evidence: Vec<String>, actors: Vec<String>) -> [Nested; 2] {
    [
        Nested { name: "evidence", records: evidence, single: false },
        Nested { name: "actors", records: actors, single: false },
    ]
}

impl<'a> Alert<'a> {
    /// Reads a record. Never fails: see `unmapped` in the artifact.
    #[must_use]
    pub fn of(raw: impl Into<Json<'a>>) -> Self {
        let raw = raw.into();
        let members = Members::within(raw).unwrap_or_default();
        let id = members.text("id").filter(|id| id.len() <= 512).unwrap_or_else(|| {
            let hash = hash64([crate::text::compact_json(raw.get()).as_bytes()]);
            Cow::Owned(format!("unidentified:{hash:016x}"))
        });
        let created = members.time("created_time");
        Self { raw, members, id, created, key: OnceCell::new() }
    }

    /// Key of the alert among those of its investigation.
    #[must_use]
    pub fn key(&self) -> u64 {
        *self.key.get_or_init(|| hash64([self.id.as_bytes()]))
    }

    /// Whether the Alert Triage API can know it: only RRNs may be asked there.
    #[must_use]
    pub fn is_in_triage(&self) -> bool {
        self.id.starts_with("rrn:alerts:")
    }

    /// Name and RRN of the detection rule, in any of the vendor's three shapes
    /// (null, a text, an object).
    fn rule(&self) -> (Option<Cow<'a, str>>, Option<Cow<'a, str>>) {
        let Some(raw) = self.members.raw("detection_rule_rrn") else { return (None, None) };
        match Members::within(raw) {
            Some(object) => (object.text("rule_name"), object.text("rule_rrn")),
            None => (None, raw.scalar().filter(|rrn| !rrn.is_empty())),
        }
    }

    /// The artifact, of version `ordinal`. What the Alert Triage API has says more than the list of
    /// the investigation, whose severity the alert has when it has none of its
    /// own; `now` stands in where the record has no readable time.
    #[must_use]
    pub fn artifact(
        &self,
        of: &Investigation<'_>,
        context: Context,
        ordinal: u32,
        api_host: &str,
        now: Utc,
    ) -> Artifact<'a> {
        let organization = of.organization();
        let version = Version { organization: &organization, record: &self.id, ordinal, fingerprint: 0 };
        let evidence_tags = context.tags();
        let details = context.details;
        let own_time = details.created.or(self.created);
        let first_event = self.members.time("first_event_time");
        let created = own_time.or(first_event).or(of.created).unwrap_or(now);
        let said = (first_event, self.members.time("latest_event_time"));
        let (start, end) = times(said, context.entities.seen, details.alerted, created);
        let (rule_name, rule_rrn) = self.rule();
        let rule_name = rule_name.or(details.rule_name.map(Cow::Owned));
        let rule_rrn = rule_rrn.or(details.rule_rrn.map(Cow::Owned));
        let title = self.members.text("title").or_else(|| self.members.text("alert_type_description"));
        let kind = self.members.text("alert_type");
        let unmapped = if self.members.is_empty() {
            Some("unmapped:not-an-object")
        } else if self.id.starts_with("unidentified:") {
            Some("unmapped:no-id")
        } else if own_time.is_none() {
            Some("unmapped:no-created-time")
        } else {
            None
        };
        let disposition = details.disposition.as_deref().and_then(disposition_tag);
        let own_tags = details.tags.into_iter().map(Cow::Owned).chain(disposition);
        let tags = own_tags.chain(unmapped.map(Cow::Borrowed)).chain(evidence_tags).collect();
        let before = [
            Nested { name: "investigation", records: vec![of.as_parent().to_owned()], single: true },
            Nested { name: "triage", records: context.triage.into_iter().collect(), single: true },
        ];
        let nested: Vec<Nested> = before.into_iter().chain(nested(context.evidence, context.actors)).collect();
        Artifact {
            id: version.id(id_time(created)),
            message_type: match unmapped {
                Some(_) => message_type::SIEM_EVENT,
                None => {
                    message_type::classify(&context.mitre, &[kind.as_deref(), rule_name.as_deref(), title.as_deref()])
                }
            },
            action: Some("alert".to_owned()),
            tags,
            severity: severity::of_first(&[details.priority.as_deref(), of.members.text("priority").as_deref()]),
            cve: cve::first_in(&[rule_name.as_deref(), title.as_deref()]),
            rule_name: rule_name.or(title).map(field),
            rule_category: kind.or_else(|| self.members.text("alert_source")).map(field),
            attack_technique_ids: context.mitre.techniques,
            sender_host: version.sender_host(api_host),
            source_info: Some(field(self.id.clone())),
            vendor_code: rule_rrn.map(field),
            start: Some(start),
            end,
            entities: context.entities,
            message: message::message_of(message::line_of(self.raw, &self.members), &self.members, &nested),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn the_rule_is_read_in_its_three_shapes() {
        for (shape, name, code) in [
            ("null", None, None),
            (r#""rrn:cba:::detection-rule:A""#, None, Some("rrn:cba:::detection-rule:A")),
            (
                r#"{"rule_name":"N","rule_rrn":"rrn:cba:::detection-rule:A"}"#,
                Some("N"),
                Some("rrn:cba:::detection-rule:A"),
            ),
            ("[7]", None, None),
        ] {
            let raw = raw(&format!(r#"{{"id":"x","detection_rule_rrn":{shape}}}"#));
            let (found, rrn) = Alert::of(&raw).rule();
            assert_eq!((found.as_deref(), rrn.as_deref()), (name, code), "{shape}");
        }
    }

    /// What an alert says of its times, given what is known besides.
    fn times_of(members: &str, alerted: &str, timestamps: &[&str]) -> (String, Option<String>) {
        let record =
            format!(r#"{{"id":"rrn:alerts:us1:o:alert:1:ab","created_time":"2026-01-05T00:00:00Z"{members}}}"#);
        let (record, of) = (raw(&record), raw(r#"{"rrn":"rrn:investigation:us:o:investigation:A"}"#));
        let triage = format!(r#"{{"created_at":"2026-01-05T00:00:00Z","alerted_at":"{alerted}"}}"#);
        let mut context = Context { details: Details::of(&Members::parse(&triage).unwrap()), ..Context::default() };
        for timestamp in timestamps {
            let data = format!(r#"{{"timestamp":"{timestamp}","list":[{{"timestamp":"2000-01-01T00:00:00Z"}}]}}"#);
            let evidence = raw(&format!(r#"{{"data":{}}}"#, serde_json::to_string(&data).unwrap()));
            context.entities.fill_from(super::super::evidence::entities(&evidence));
        }
        let artifact = Alert::of(&record).artifact(&Investigation::of(&of), context, 0, "us.example", Utc(0));
        (artifact.start.unwrap().rfc3339(), artifact.end.map(Utc::rfc3339))
    }

    #[test]
    fn it_happened_when_the_log_lines_were_written_and_not_when_the_rule_fired() {
        let fired = "2026-01-04T23:59:59Z";
        let lines = ["2026-01-01T10:00:00.5Z", "2026-01-01T09:00:00Z", "2026-01-02T00:00:00Z", "yesterday"];
        let times = |start: &str, end: Option<&str>| (start.to_owned(), end.map(str::to_owned));
        assert_eq!(times_of("", fired, &lines), times("2026-01-01T09:00:00Z", Some("2026-01-02T00:00:00Z")));
        let said = r#","first_event_time":"2026-01-01T08:00:00Z","latest_event_time":"2026-01-01T08:30:00Z""#;
        assert_eq!(times_of(said, fired, &lines), times("2026-01-01T08:00:00Z", Some("2026-01-01T08:30:00Z")));
        // A clock that is ahead, one that stands still, and no evidence at all.
        for lines in [&["2026-01-05T00:00:01Z"][..], &["1970-01-02T00:00:00Z"], &["2025-11-01T00:00:00Z"], &[]] {
            assert_eq!(times_of("", fired, lines).0, fired, "{lines:?}");
        }
        assert_eq!(times_of("", "", &lines).0, "2026-01-01T09:00:00Z", "it was created after that");
    }

    #[test]
    fn what_was_found_of_it_and_the_vulnerability_it_names_can_be_searched_for() {
        let (record, of) = (
            raw(
                r#"{"id":"rrn:alerts:us1:o:alert:1:ab","title":"Exploit - cve-2021-44228","created_time":"2026-01-05T00:00:00Z"}"#,
            ),
            raw(r#"{"rrn":"rrn:investigation:us:o:investigation:A"}"#),
        );
        let triage = Members::parse(r#"{"disposition":"FALSE_POSITIVE","tags":["x"]}"#).unwrap();
        let context = Context { details: Details::of(&triage), ..Context::default() };
        let artifact = Alert::of(&record).artifact(&Investigation::of(&of), context, 0, "us.example", Utc(0));
        assert_eq!(artifact.tags, ["x", "disposition:false_positive"]);
        let json = artifact.into_contract("alerts").json;
        assert!(json.contains(r#""cve":"CVE-2021-44228""#), "{json}");
    }

    #[test]
    fn only_rrns_are_asked_of_the_triage_api() {
        assert!(Alert::of(&raw(r#"{"id":"rrn:alerts:us1:o:alert:1:ab"}"#)).is_in_triage());
        assert!(!Alert::of(&raw(r#"{"id":"0a0b0c0d-0000-0000-0000-000000000000"}"#)).is_in_triage());
        assert!(!Alert::of(&raw(r#"{"title":"x"}"#)).is_in_triage());
    }

    #[test]
    fn two_alerts_without_an_id_are_two_alerts() {
        assert_ne!(Alert::of(&raw(r#"{"title":"x"}"#)).key(), Alert::of(&raw(r#"{"title":"y"}"#)).key());
    }
}
