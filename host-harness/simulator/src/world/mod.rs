//! The world: what exists, when it was created, when it can be seen, and how it changes.
//!
//! A [`World`] is a plain description. It is generated from a [`crate::WorldConfig`] or built record by record with the
//! `add_*` functions, and may be changed while it is served (`Simulator::change_world`). Everything in it is fixed by
//! the seed and the calls made; the clock only decides which part of it shows. Handles returned by `add_*` belong to
//! the world that gave them; in another world they name another record or none.

mod build;
mod draw;
mod generate;
mod spec;
pub(crate) mod timeline;
pub(crate) mod vocabulary;

use std::borrow::Cow;

use time::OffsetDateTime;

pub use self::spec::{AlertKind, AlertSpec, Change, InvestigationSpec, Person};
use crate::moment::{Micros, SECOND};
use crate::oddities::Oddities;
use crate::rng::uuid_of;

/// Handle of an organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OrganizationId(pub(crate) u32);

/// Handle of an investigation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InvestigationId(pub(crate) u32);

/// Handle of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AlertId(pub(crate) u32);

/// A record that cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorldError {
    /// The handle names nothing in this world.
    #[error("there is no {what} with this handle in this world; use a handle that this world returned")]
    UnknownHandle {
        /// The kind of record.
        what: &'static str,
    },
    /// The verbatim JSON is not an object, or lacks a member that the simulator sorts or filters by.
    #[error("the verbatim {what} is unusable at {member:?}: {reason}")]
    UnusableJson {
        /// The kind of record.
        what: &'static str,
        /// The member, empty for the whole.
        member: &'static str,
        /// What is wrong.
        reason: String,
    },
}

impl WorldError {
    /// A stable name of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownHandle { .. } => "unknown-handle",
            Self::UnusableJson { .. } => "unusable-json",
        }
    }
}

/// A customer organization.
#[derive(Debug, Clone)]
pub(crate) struct Organization {
    pub(crate) id: String,
    pub(crate) region: String,
    pub(crate) name: String,
    pub(crate) triage: bool,
    pub(crate) restricted: bool,
}

impl Organization {
    /// The region as alert RRNs write it: `us` becomes `us1`, all others stay (facts, section 1).
    pub(crate) fn alert_region(&self) -> &str {
        if self.region == "us" { "us1" } else { &self.region }
    }
}

/// The fields of an investigation that people can change, and those that identify it.
#[derive(Debug, Clone)]
pub(crate) struct Fields {
    pub(crate) title: Cow<'static, str>,
    pub(crate) source: Cow<'static, str>,
    pub(crate) status: Cow<'static, str>,
    pub(crate) priority: Cow<'static, str>,
    pub(crate) disposition: Cow<'static, str>,
    pub(crate) assignee: Option<Person>,
    pub(crate) responsibility: Option<Cow<'static, str>>,
    /// `None`: null or absent by seed; an empty list: `[]`.
    pub(crate) tags: Option<Vec<Cow<'static, str>>>,
    /// Verbatim JSON instead of all the above.
    pub(crate) raw: Option<String>,
}

/// An investigation and all that will happen to it.
#[derive(Debug, Clone)]
pub(crate) struct Investigation {
    pub(crate) seed: u64,
    pub(crate) organization: u32,
    pub(crate) rrn: String,
    pub(crate) created: Micros,
    pub(crate) visible: Micros,
    /// When it disappears: deleted, or past retention.
    pub(crate) gone: Option<Micros>,
    pub(crate) first: Fields,
    /// Not sorted.
    pub(crate) changes: Vec<(Micros, Change)>,
    pub(crate) alerts: Vec<u32>,
    /// Pinned product alerts as (when listed, verbatim JSON).
    pub(crate) product_alerts: Vec<(Micros, String)>,
    /// Comments as (created, verbatim JSON).
    pub(crate) comments: Vec<(Micros, String)>,
    /// Generated: comments and product alerts come from the seed as well.
    pub(crate) generated: bool,
    /// Its row never shows when its alerts were.
    pub(crate) untimed: bool,
    /// Comments and product alerts from the seed come to it at any time.
    pub(crate) late_extras: bool,
}

/// What a test pinned of an alert.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pinned {
    pub(crate) id: Option<String>,
    pub(crate) title: Option<String>,
    pub(crate) json: Option<String>,
    pub(crate) triage_json: Option<String>,
    pub(crate) evidence: Option<Vec<String>>,
    pub(crate) actors: Option<Vec<String>>,
}

/// An alert. Its text comes from the seed when it is asked for, so that a million of them stay small.
#[derive(Debug, Clone)]
pub(crate) struct Alert {
    pub(crate) seed: u64,
    pub(crate) organization: u32,
    pub(crate) investigation: Option<u32>,
    pub(crate) kind: AlertKind,
    pub(crate) created: Micros,
    /// When the row of its investigation shows its time.
    pub(crate) on_row: Micros,
    /// When its investigation lists it; for an alert of no investigation, when the triage API knows it.
    pub(crate) visible: Micros,
    /// When the triage API knows it: at times before it becomes part of an investigation, or shortly after.
    pub(crate) triage_visible: Micros,
    /// When its evidence is listed.
    pub(crate) evidence_visible: Micros,
    /// When the last piece of it is, of evidence that comes piece by piece; otherwise the same.
    pub(crate) evidence_whole: Micros,
    /// Evidence records from the seed, unless pinned.
    pub(crate) evidence: u16,
    pub(crate) pinned: Option<Box<Pinned>>,
}

/// All that exists.
#[derive(Debug, Clone)]
pub struct World {
    pub(crate) seed: u64,
    pub(crate) start: OffsetDateTime,
    /// What comes from seeds alone (comments, product alerts, work on triage alerts) happens until then.
    pub(crate) end: Micros,
    pub(crate) odd: Oddities,
    pub(crate) organizations: Vec<Organization>,
    pub(crate) investigations: Vec<Investigation>,
    pub(crate) alerts: Vec<Alert>,
}

impl World {
    /// The alert's id, pinned or from its seed.
    pub(crate) fn id_of(&self, alert: &Alert) -> String {
        if let Some(id) = alert.pinned.as_ref().and_then(|pinned| pinned.id.as_ref()) {
            return id.clone();
        }
        match (alert.kind, self.organizations.get(alert.organization as usize)) {
            (AlertKind::DetectionRule, Some(organization)) => spec::alert_rrn(organization, "alert", alert.seed),
            _ => uuid_of(alert.seed),
        }
    }
}

impl Investigation {
    /// Whether it shows at this instant.
    pub(crate) fn shows_at(&self, now: Micros) -> bool {
        self.visible <= now && self.gone.is_none_or(|gone| now < gone)
    }

    /// The UUID by which v1 and old links name it.
    pub(crate) fn uuid(&self) -> String {
        uuid_of(self.seed)
    }
}

impl Alert {
    /// How many of so many pieces are there that come one by one from `first` on, at equal intervals, the last with the last
    /// piece of evidence.
    pub(crate) fn pieces(&self, count: usize, first: Micros, now: Micros) -> usize {
        let (span, passed) = (self.evidence_whole.saturating_sub(first), now.saturating_sub(first));
        match (passed, count) {
            (..0, _) => 0,
            (_, 0 | 1) => count,
            _ if !self.is_piecemeal() || passed >= span => count,
            _ => 1 + (i128::from(passed) * (count as i128 - 1) / i128::from(span)) as usize,
        }
    }

    /// Whether its evidence and its actors come piece by piece.
    pub(crate) fn is_piecemeal(&self) -> bool {
        self.evidence_whole > self.evidence_visible
    }

    /// Whether pieces of it are still to come.
    pub(crate) fn is_in_pieces(&self, now: Micros) -> bool {
        self.is_piecemeal() && now < self.evidence_whole
    }
}

/// The shortest time after an alert's visibility at which generated evidence may show.
pub(crate) const EVIDENCE_DELAY: Micros = SECOND;
