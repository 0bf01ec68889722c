//! An investigation as an artifact: one for each version of it.

use std::borrow::Cow;
use std::cell::OnceCell;

use super::identity::{Version, hash64, owner};
use super::message::{self, Nested};
use super::mitre::Mitre;
use super::{Artifact, cve, disposition_tag, field, message_type, severity};
use crate::api::json::Json;
use crate::api::records::Members;
use crate::text::{compact_json, cut, quoted};
use crate::times::Utc;

/// What the names of investigations begin with that came without one.
pub const UNIDENTIFIED: &str = "unidentified:";

/// An investigation as listed.
#[derive(Debug, Clone)]
pub struct Investigation<'a> {
    /// The record.
    pub raw: Json<'a>,
    /// Its members.
    pub members: Members<'a>,
    /// Its RRN; for a record without one a name made of its content.
    pub rrn: Cow<'a, str>,
    /// When it was created, if it says so.
    pub created: Option<Utc>,
    /// See [`Investigation::fingerprint`].
    fingerprint: OnceCell<u64>,
    /// See [`Investigation::as_parent`].
    parent: OnceCell<String>,
}

/// The members that make a version. Not among them: `last_accessed`, which
/// moves when somebody merely looks, and members that are not known yet, so
/// that a field added by the vendor does not make every record new.
const VERSIONED: [&str; 10] = [
    "title",
    "source",
    "status",
    "priority",
    "disposition",
    "assignee",
    "responsibility",
    "tags",
    "first_alert_time",
    "latest_alert_time",
];

impl<'a> Investigation<'a> {
    /// Reads a record. Never fails: see `unmapped` in the artifact.
    #[must_use]
    pub fn of(raw: impl Into<Json<'a>>) -> Self {
        let raw = raw.into();
        let members = Members::within(raw).unwrap_or_default();
        let rrn = members.text("rrn").filter(|rrn| rrn.len() <= 512).unwrap_or_else(|| {
            let hash = hash64([crate::text::compact_json(raw.get()).as_bytes()]);
            Cow::Owned(format!("{UNIDENTIFIED}{hash:016x}"))
        });
        let created = members.time("created_time");
        Self { raw, members, rrn, created, fingerprint: OnceCell::new(), parent: OnceCell::new() }
    }

    /// Hash of what makes a version of it. Made when it is first asked for: of
    /// many rows that are listed nobody does.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        *self.fingerprint.get_or_init(|| fingerprint(&self.members))
    }

    /// What of it stands in the message of whatever belongs to it.
    #[must_use]
    pub fn as_parent(&self) -> &str {
        self.parent.get_or_init(|| {
            let members = [
                ("rrn", Some(self.rrn.clone())),
                ("title", self.members.text("title")),
                ("priority", self.members.text("priority")),
            ];
            let members: Vec<String> = members
                .into_iter()
                .filter_map(|(name, value)| Some(format!("\"{name}\":{}", quoted(cut(&value?, 1024)))))
                .collect();
            format!("{{{}}}", members.join(","))
        })
    }

    /// The vendor's organization; where the record does not say it, whose its RRN says that it is: alerts of it have one id
    /// wherever they were collected from.
    #[must_use]
    pub fn organization(&self) -> Cow<'a, str> {
        let said = self.members.text("organization_id");
        said.or_else(|| owner(&self.rrn).map(|owner| Cow::Owned(owner.to_owned()))).unwrap_or_default()
    }

    /// Whether it is not closed. A state that nobody knows yet is not closed:
    /// the list of what is not closed will lack it, so it is read singly.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.members.text("status").is_some_and(|status| status != "CLOSED")
    }

    /// Whether it was made of a detection, and its title is that of a rule. What
    /// a person has opened has a title that a person has written.
    fn is_detection(&self) -> bool {
        !self.members.text("source").is_some_and(|source| matches!(source.as_ref(), "USER" | "MANUAL"))
    }

    /// Whether its row does not tell when it gains an alert: the time of the latest one is null at times, for
    /// investigations that have alerts, too.
    #[must_use]
    pub fn hides_alerts(&self) -> bool {
        self.members.time("latest_alert_time").is_none()
    }

    /// Whether it could have alerts to ask for.
    #[must_use]
    pub fn is_identified(&self) -> bool {
        !self.rrn.starts_with(UNIDENTIFIED)
    }

    /// The time of version `ordinal`: the creation for the first one, the
    /// latest change that the record shows for later ones. `now` stands in
    /// where the record has no readable time.
    #[must_use]
    pub fn event_time(&self, ordinal: u32, now: Utc) -> Utc {
        let created = self.created.unwrap_or(now);
        if ordinal == 0 {
            return created;
        }
        ["last_accessed", "latest_alert_time"].iter().filter_map(|key| self.members.time(key)).fold(created, Utc::max)
    }

    /// The artifact of version `ordinal`, with what is nested into its message.
    #[must_use]
    pub fn artifact(&self, ordinal: u32, api_host: &str, nested: &[Nested], now: Utc) -> Artifact<'a> {
        let organization = self.organization();
        let version =
            Version { organization: &organization, record: &self.rrn, ordinal, fingerprint: self.fingerprint() };
        let event = self.event_time(ordinal, now);
        let mut tags: Vec<Cow<'a, str>> = self.members.texts("tags").into_iter().take(64).map(field).collect();
        let unmapped = if self.members.is_empty() {
            Some("unmapped:not-an-object")
        } else if !self.is_identified() {
            Some("unmapped:no-rrn")
        } else if self.created.is_none() {
            Some("unmapped:no-created-time")
        } else {
            None
        };
        let (title, disposition) = (self.members.text("title"), self.members.text("disposition"));
        tags.extend(disposition.as_deref().and_then(disposition_tag));
        tags.extend(unmapped.map(Cow::Borrowed));
        let is_alarm = unmapped.is_none() && self.is_detection() && !disposition.is_some_and(|one| is_harmless(&one));
        Artifact {
            id: version.id(event),
            message_type: if is_alarm {
                message_type::classify(&Mitre::default(), &[title.as_deref()])
            } else {
                message_type::SIEM_EVENT
            },
            action: self.members.text("status").map(|status| cut(&status, 64).to_ascii_lowercase()),
            tags,
            severity: severity::of_priority(self.members.text("priority").as_deref()),
            cve: cve::first_in(&[title.as_deref()]),
            rule_name: title.map(field),
            rule_category: self.members.text("source").map(field),
            sender_host: version.sender_host(api_host),
            source_info: Some(field(self.rrn.clone())),
            start: Some(event),
            // Alerts commonly come before the investigation that is made of them.
            end: self.members.time("latest_alert_time").filter(|end| *end >= event),
            message: message::message_of(message::line_of(self.raw, &self.members), &self.members, nested),
            ..Artifact::default()
        }
    }
}

/// Whether somebody has found that nothing bad happened: rules that look at the
/// event class alone would sound the alarm all the same.
fn is_harmless(disposition: &str) -> bool {
    matches!(disposition, "BENIGN" | "NOT_APPLICABLE" | "FALSE_POSITIVE" | "SECURITY_TEST")
}

/// Where among [`VERSIONED`] a member is. Told by constants, of which the compiler makes comparisons of whole words: this is
/// asked of every member of every row.
fn versioned(name: &str) -> Option<usize> {
    Some(match name {
        "title" => 0,
        "source" => 1,
        "status" => 2,
        "priority" => 3,
        "disposition" => 4,
        "assignee" => 5,
        "responsibility" => 6,
        "tags" => 7,
        "first_alert_time" => 8,
        "latest_alert_time" => 9,
        _ => return None,
    })
}

/// Hash of the versioned members. Null, absent and empty are the same, and
/// times are compared as instants.
fn fingerprint(members: &Members<'_>) -> u64 {
    let mut found = [None; VERSIONED.len()];
    // Of several with one name the last counts.
    for (name, value) in members.iter() {
        if let Some(place) = versioned(name).and_then(|at| found.get_mut(at)) {
            *place = Some(value);
        }
    }
    let mut parts: Vec<(&str, Cow<'_, str>)> = Vec::with_capacity(VERSIONED.len());
    for (key, raw) in VERSIONED.into_iter().zip(found) {
        let Some(raw) = raw.filter(|raw| raw.get() != "null") else { continue };
        let is_time = matches!(key, "first_alert_time" | "latest_alert_time");
        let time = if is_time { raw.scalar().and_then(|text| Utc::parse(&text)) } else { None };
        let compact = || if members.is_spaced() { compact_json(raw.get()) } else { Cow::Borrowed(raw.get()) };
        let value = time.map_or_else(compact, |time| Cow::Owned(time.0.to_string()));
        if !matches!(value.as_ref(), "\"\"" | "[]" | "{}") {
            parts.push((key, value));
        }
    }
    hash64(parts.iter().flat_map(|(key, value)| [key.as_bytes(), value.as_bytes()]))
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    fn print(json: &str) -> u64 {
        Investigation::of(&raw(json)).fingerprint()
    }

    #[test]
    fn every_versioned_member_has_its_place() {
        for (at, name) in VERSIONED.iter().enumerate() {
            assert_eq!(versioned(name), Some(at));
        }
        assert_eq!(versioned("last_accessed"), None);
    }

    #[test]
    fn a_view_and_an_unknown_member_make_no_version_but_every_state_does() {
        let base = r#"{"rrn":"r","status":"OPEN","assignee":null,"tags":[]}"#;
        assert_eq!(print(base), print(r#"{"last_accessed":"2026-01-01T00:00:00Z","new":1,"status":"OPEN","rrn":"r"}"#));
        for changed in [
            r#"{"rrn":"r","status":"CLOSED"}"#,
            r#"{"rrn":"r","status":"OPEN","assignee":{"name":"a","email":""}}"#,
            r#"{"rrn":"r","status":"OPEN","tags":["x"]}"#,
            r#"{"rrn":"r","status":"OPEN","title":"t"}"#,
            r#"{"rrn":"r","status":"OPEN","priority":"LOW"}"#,
            r#"{"rrn":"r","status":"OPEN","disposition":"BENIGN"}"#,
            r#"{"rrn":"r","status":"OPEN","latest_alert_time":"2026-01-01T00:00:00Z"}"#,
        ] {
            assert_ne!(print(base), print(changed), "{changed}");
        }
    }

    #[test]
    fn the_same_instant_written_otherwise_is_no_change() {
        assert_eq!(
            print(r#"{"rrn":"r","latest_alert_time":"2026-01-01T00:00:00.500Z"}"#),
            print(r#"{"rrn":"r","latest_alert_time":"2026-01-01T00:00:00.5Z"}"#)
        );
    }

    #[test]
    fn what_cannot_be_mapped_becomes_an_artifact_that_says_why() {
        for (json, tag) in [
            ("7", "unmapped:not-an-object"),
            ("null", "unmapped:not-an-object"),
            (r#"{"title":"x"}"#, "unmapped:no-rrn"),
            (r#"{"rrn":"rrn:investigation:us:o:investigation:A"}"#, "unmapped:no-created-time"),
        ] {
            let raw = raw(json);
            let artifact = Investigation::of(&raw).artifact(0, "us.example", &[], Utc(0));
            assert_eq!(artifact.tags, [tag]);
            assert_eq!(artifact.message_type, "siem_event");
            assert_eq!(artifact.message, json);
        }
    }

    #[test]
    fn what_people_write_and_what_they_found_harmless_has_no_class_that_sounds_an_alarm() {
        for (source, disposition, class) in [
            ("ALERT", "UNDECIDED", "malicious_software"),
            ("ALERT", "MALICIOUS", "malicious_software"),
            ("HUNT", "UNDECIDED", "malicious_software"),
            ("USER", "UNDECIDED", "siem_event"),
            ("MANUAL", "MALICIOUS", "siem_event"),
            ("ALERT", "BENIGN", "siem_event"),
            ("ALERT", "NOT_APPLICABLE", "siem_event"),
            ("ALERT", "FALSE_POSITIVE", "siem_event"),
            ("ALERT", "SECURITY_TEST", "siem_event"),
        ] {
            let raw = raw(&format!(
                r#"{{"rrn":"rrn:investigation:us:o:investigation:A","title":"Malware found","source":"{source}",
                "status":"CLOSED","disposition":"{disposition}","tags":["a"],"created_time":"2026-01-01T00:00:00Z"}}"#
            ));
            let artifact = Investigation::of(&raw).artifact(0, "us.example", &[], Utc(0));
            assert_eq!(artifact.message_type, class, "{source} {disposition}");
            let tag = format!("disposition:{}", disposition.to_lowercase());
            let tags = if disposition == "UNDECIDED" { vec!["a"] } else { vec!["a", &tag] };
            assert_eq!(artifact.tags, tags, "what is open is found by its having none");
        }
    }

    #[test]
    fn later_versions_are_timed_by_the_change_they_show() {
        let raw = raw(
            r#"{"rrn":"r","created_time":"2026-01-01T00:00:00Z","last_accessed":"2026-01-03T00:00:00Z","latest_alert_time":"2026-01-02T00:00:00Z"}"#,
        );
        let investigation = Investigation::of(&raw);
        assert_eq!(investigation.event_time(0, Utc(0)), Utc::parse("2026-01-01T00:00:00Z").unwrap());
        assert_eq!(investigation.event_time(1, Utc(0)), Utc::parse("2026-01-03T00:00:00Z").unwrap());
    }
}
