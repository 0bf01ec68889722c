//! Records as a test pins them, and the forms of their names.
//!
//! Each specification starts from two instants, creation and visibility, and has ordinary values for the rest. A
//! verbatim JSON text wins over every other member for what is served; sorting and filtering use the members.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

use super::{Fields, Organization, OrganizationId};
use crate::moment::parse;
use crate::rng::{hex32, short_id};

/// Somebody to whom an investigation is assigned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// Display name.
    pub name: String,
    /// E-mail address; may be empty (facts 6.1).
    pub email: String,
}

/// An investigation to be added by hand.
#[derive(Debug, Clone)]
pub struct InvestigationSpec {
    /// Its RRN; `None` makes one.
    pub rrn: Option<String>,
    /// Its organization; the first by default.
    pub organization: OrganizationId,
    /// Its title; may be empty.
    pub title: String,
    /// Such as `ALERT` or `USER`.
    pub source: String,
    /// Such as `OPEN`; unknown values are served as they are.
    pub status: String,
    /// Such as `HIGH`.
    pub priority: String,
    /// Such as `UNDECIDED`.
    pub disposition: String,
    /// `None` is `null`.
    pub assignee: Option<Person>,
    /// `None` leaves it out.
    pub responsibility: Option<String>,
    /// `None` leaves the member out; an empty list is `[]`.
    pub tags: Option<Vec<String>>,
    /// Creation, to the microsecond.
    pub created: OffsetDateTime,
    /// When it first shows in any answer.
    pub visible_at: OffsetDateTime,
    /// Its row never shows when its alerts were.
    pub untimed: bool,
    /// The row, verbatim; wins over the members.
    pub json: Option<String>,
}

impl InvestigationSpec {
    /// An open, unassigned investigation of medium priority from an alert.
    pub fn new(created: OffsetDateTime, visible_at: OffsetDateTime) -> Self {
        Self {
            rrn: None,
            organization: OrganizationId(0),
            title: "Suspicious authentication".to_owned(),
            source: "ALERT".to_owned(),
            status: "OPEN".to_owned(),
            priority: "MEDIUM".to_owned(),
            disposition: "UNDECIDED".to_owned(),
            assignee: None,
            responsibility: None,
            tags: None,
            created,
            visible_at,
            untimed: false,
            json: None,
        }
    }

    /// Takes what it can from a row.
    pub(crate) fn read(&mut self, row: &Value) {
        self.title = text_of(row, "title");
        self.source = text_of(row, "source");
        self.status = text_of(row, "status");
        self.priority = text_of(row, "priority");
        self.disposition = text_of(row, "disposition");
        self.assignee = row.get("assignee").and_then(|person| serde_json::from_value(person.clone()).ok());
        self.tags = row.get("tags").and_then(|tags| serde_json::from_value(tags.clone()).ok());
    }

    /// The changeable part.
    pub(crate) fn into_fields(self) -> Fields {
        Fields {
            title: self.title.into(),
            source: self.source.into(),
            status: self.status.into(),
            priority: self.priority.into(),
            disposition: self.disposition.into(),
            assignee: self.assignee,
            responsibility: self.responsibility.map(Cow::from),
            tags: self.tags.map(|tags| tags.into_iter().map(Cow::from).collect()),
            raw: self.json,
        }
    }
}

/// Something that happens to an investigation. All but `Gone` move `last_accessed`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Somebody looked: only `last_accessed` moves.
    Viewed,
    /// A new status.
    Status(Cow<'static, str>),
    /// A new priority.
    Priority(Cow<'static, str>),
    /// A new disposition.
    Disposition(Cow<'static, str>),
    /// A new assignee, or none.
    Assignee(Option<Person>),
    /// A new title.
    Title(Cow<'static, str>),
    /// New tags; `None` is null or absent.
    Tags(Option<Vec<Cow<'static, str>>>),
    /// The whole row is this JSON text from now on.
    Json(String),
    /// It is deleted: every read is 404 from now on.
    Gone,
}

/// Where an alert comes from, which decides the form of its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertKind {
    /// Attacker Behavior Analytics: an RRN, known to the triage API, without event times.
    DetectionRule,
    /// User Behavior Analytics: a UUID, unknown to the triage API.
    UserBehavior,
    /// Made by an investigation: a UUID, unknown to the triage API.
    Investigation,
}

/// An alert to be added by hand.
#[derive(Debug, Clone)]
pub struct AlertSpec {
    /// Its id; `None` makes one of the form its kind has.
    pub id: Option<String>,
    /// Its kind.
    pub kind: AlertKind,
    /// The organization of an alert without investigation; otherwise the investigation's counts.
    pub organization: OrganizationId,
    /// Its title; `None` makes one.
    pub title: Option<String>,
    /// Creation, to the microsecond.
    pub created: OffsetDateTime,
    /// When it is listed.
    pub visible_at: OffsetDateTime,
    /// When the triage API knows it; `None` is when it is listed.
    pub triage_visible_at: Option<OffsetDateTime>,
    /// When the investigation's row shows its time; `None` is when it is listed.
    pub on_row_at: Option<OffsetDateTime>,
    /// When its evidence is listed; `None` is when it is listed.
    pub evidence_visible_at: Option<OffsetDateTime>,
    /// When the last piece of it is, where it comes piece by piece from `evidence_visible_at` on; `None` is all at once.
    pub evidence_whole_at: Option<OffsetDateTime>,
    /// How many evidence records to make when `evidence` is `None`.
    pub evidence_records: u16,
    /// The element of the alert list, verbatim.
    pub json: Option<String>,
    /// The triage alert, verbatim.
    pub triage_json: Option<String>,
    /// The evidence records, verbatim (any text: broken JSON breaks the page, as it should).
    pub evidence: Option<Vec<String>>,
    /// The actors, verbatim.
    pub actors: Option<Vec<String>>,
}

impl AlertSpec {
    /// A detection-rule alert with one evidence record.
    pub fn new(created: OffsetDateTime, visible_at: OffsetDateTime) -> Self {
        Self {
            id: None,
            kind: AlertKind::DetectionRule,
            organization: OrganizationId(0),
            title: None,
            created,
            visible_at,
            triage_visible_at: None,
            on_row_at: None,
            evidence_visible_at: None,
            evidence_whole_at: None,
            evidence_records: 1,
            json: None,
            triage_json: None,
            evidence: None,
            actors: None,
        }
    }
}

/// `rrn:investigation:{region}:{org}:investigation:{12}`.
pub(crate) fn investigation_rrn(organization: &Organization, seed: u64) -> String {
    format!("rrn:investigation:{}:{}:investigation:{}", organization.region, organization.id, short_id(seed, 12))
}

/// `rrn:alerts:{region}:{org}:{kind}:1:{32 hex}`.
pub(crate) fn alert_rrn(organization: &Organization, kind: &str, seed: u64) -> String {
    format!("rrn:alerts:{}:{}:{kind}:1:{}", organization.alert_region(), organization.id, hex32(seed))
}

/// A member as text, empty when it is not there.
pub(crate) fn text_of(row: &Value, member: &str) -> String {
    row.get(member).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// A member as an instant.
pub(crate) fn time_of(row: &Value, member: &str) -> Option<OffsetDateTime> {
    row.get(member).and_then(Value::as_str).and_then(parse)
}
