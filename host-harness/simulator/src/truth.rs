//! The truth: what existed, when it could be seen, and which versions a perfect collector would have emitted.
//!
//! A version of an investigation is a row as it shows from an instant on; a row that differs from the one before in
//! `last_accessed` alone is no version. Versions between two polls cannot be seen by polling: whoever compares takes
//! the version that showed at each poll.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use time::OffsetDateTime;

use crate::moment::{Micros, date};
use crate::render;
use crate::render::alert::Story;
use crate::world::timeline::Timeline;
use crate::world::{AlertKind, Change, Investigation, World};

/// Everything that exists, has existed or will exist in the world.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Truth {
    /// The clock when the truth was told.
    #[serde(with = "time::serde::rfc3339")]
    pub now: OffsetDateTime,
    /// Organizations.
    pub organizations: Vec<TruthOrganization>,
    /// Investigations, in no order that matters.
    pub investigations: Vec<TruthInvestigation>,
    /// Alerts, in no order that matters.
    pub alerts: Vec<TruthAlert>,
}

/// An organization.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TruthOrganization {
    /// Its UUID.
    pub id: String,
    /// Its region code.
    pub region: String,
    /// It has the Alert Triage API.
    pub triage: bool,
    /// It has the restricted evidence endpoint.
    pub restricted_evidence: bool,
}

/// An investigation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TruthInvestigation {
    /// Its RRN.
    pub rrn: String,
    /// The UUID of its organization.
    pub organization: String,
    /// Creation.
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// When it first shows.
    #[serde(with = "time::serde::rfc3339")]
    pub visible_at: OffsetDateTime,
    /// When it disappears, if it does.
    #[serde(with = "time::serde::rfc3339::option")]
    pub gone_at: Option<OffsetDateTime>,
    /// Whether its row never shows when its alerts were.
    pub untimed: bool,
    /// Its versions, oldest first; the first one begins at `visible_at`.
    pub versions: Vec<TruthVersion>,
    /// When it was looked at and nothing else changed.
    #[serde(with = "instants")]
    pub views: Vec<OffsetDateTime>,
    /// The elements of its `rapid7-product-alerts`, those that tests pinned excepted.
    pub product_alerts: Vec<TruthProductAlert>,
    /// Its comments, oldest first.
    pub comments: Vec<TruthComment>,
}

/// An alert of another product. Its row does not show when it comes or changes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TruthProductAlert {
    /// Its own id.
    pub id: String,
    /// When it is first listed.
    #[serde(with = "time::serde::rfc3339")]
    pub visible_at: OffsetDateTime,
    /// When its details change, if they do.
    #[serde(with = "time::serde::rfc3339::option")]
    pub changed_at: Option<OffsetDateTime>,
}

/// A comment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TruthComment {
    /// Its RRN; empty when a test pinned one without.
    pub rrn: String,
    /// When it was written, from when on it is listed.
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// Writing it moved `last_accessed`.
    pub on_row: bool,
}

/// A version of an investigation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TruthVersion {
    /// From when it shows.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The row, byte for byte.
    pub row: Box<RawValue>,
}

impl TruthVersion {
    /// The row as a value. Numbers beyond 64 bits lose digits here, not in `row`.
    pub fn value(&self) -> Value {
        serde_json::from_str(self.row.get()).unwrap_or(Value::Null)
    }
}

/// An alert.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TruthAlert {
    /// Its id: an RRN or a UUID.
    pub id: String,
    /// The UUID of its organization.
    pub organization: String,
    /// The RRN of its investigation, if it belongs to one.
    pub investigation: Option<String>,
    /// Its kind.
    pub kind: AlertKind,
    /// Creation.
    #[serde(with = "time::serde::rfc3339")]
    pub created: OffsetDateTime,
    /// When it was raised (`alerted_at` of the triage API).
    #[serde(with = "time::serde::rfc3339")]
    pub alerted_at: OffsetDateTime,
    /// When its investigation first lists it; without one, as `triage_visible_at`.
    #[serde(with = "time::serde::rfc3339")]
    pub visible_at: OffsetDateTime,
    /// When the triage API gets to know it (if that ever does).
    #[serde(with = "time::serde::rfc3339")]
    pub triage_visible_at: OffsetDateTime,
    /// When something was done to it while it was part of no investigation.
    #[serde(with = "instants")]
    pub worked_on: Vec<OffsetDateTime>,
    /// What its rule says of MITRE ATT&CK, as single reads show it.
    pub mitre_tcodes: Vec<String>,
    /// When the row of its investigation shows its time.
    #[serde(with = "time::serde::rfc3339")]
    pub on_row_at: OffsetDateTime,
    /// The triage API knows it (if its organization has that API).
    pub triage: bool,
    /// When its evidence is first listed.
    #[serde(with = "time::serde::rfc3339")]
    pub evidence_visible_at: OffsetDateTime,
    /// When the last piece of it is: the same, unless it comes piece by piece. So do the actors.
    #[serde(with = "time::serde::rfc3339")]
    pub evidence_whole_at: OffsetDateTime,
    /// The RRNs of its evidence.
    pub evidence: Vec<String>,
    /// The RRNs of its actors.
    pub actors: Vec<String>,
}

impl TruthInvestigation {
    /// The version that shows at this instant, if any.
    pub fn version_at(&self, instant: OffsetDateTime) -> Option<&TruthVersion> {
        if self.gone_at.is_some_and(|gone| gone <= instant) {
            return None;
        }
        self.versions.iter().rev().find(|version| version.at <= instant)
    }
}

/// Tells everything about a world.
pub(crate) fn tell(timeline: &Timeline, now: OffsetDateTime) -> Truth {
    let world = &timeline.world;
    let organization = |number: u32| world.organizations.get(number as usize).map(|o| o.id.clone()).unwrap_or_default();
    let investigations = world.investigations.iter().zip(&timeline.states).map(|(one, states)| {
        let (views, versions): (Vec<_>, Vec<_>) = states.iter().partition(|state| state.viewed_only);
        TruthInvestigation {
            rrn: one.rrn.clone(),
            organization: organization(one.organization),
            created: date(one.created),
            visible_at: date(one.visible),
            gone_at: one.gone.map(date),
            untimed: one.untimed,
            versions: versions
                .into_iter()
                .filter_map(|state| {
                    let row = String::from_utf8(state.row(world, one).to_vec()).ok()?;
                    let row = RawValue::from_string(row).ok()?;
                    Some(TruthVersion { at: date(state.at), row })
                })
                .collect(),
            views: views.into_iter().map(|state| date(state.at)).collect(),
            product_alerts: render::product::drawn(one, world.end).into_iter().map(product_alert).collect(),
            comments: comments(world, one),
        }
    });
    let alerts = world.alerts.iter().map(|alert| TruthAlert {
        id: world.id_of(alert),
        organization: organization(alert.organization),
        investigation: alert
            .investigation
            .and_then(|number| world.investigations.get(number as usize))
            .map(|one| one.rrn.clone()),
        kind: alert.kind,
        created: date(alert.created),
        visible_at: date(alert.visible),
        alerted_at: date(render::triage::alerted_at(alert)),
        triage_visible_at: date(alert.triage_visible),
        worked_on: render::triage::work(world, alert).into_iter().map(|work| date(work.at)).collect(),
        mitre_tcodes: render::triage::codes(alert, &Story::of(alert)).into_iter().map(str::to_owned).collect(),
        on_row_at: date(alert.on_row),
        triage: render::triage::knows(alert, i64::MAX),
        evidence_visible_at: date(alert.evidence_visible),
        evidence_whole_at: date(alert.evidence_whole),
        evidence: render::evidence::names(world, alert),
        actors: render::evidence::named(&render::triage::actors(world, alert, Micros::MAX)),
    });
    Truth {
        now,
        organizations: world
            .organizations
            .iter()
            .map(|o| TruthOrganization {
                id: o.id.clone(),
                region: o.region.clone(),
                triage: o.triage,
                restricted_evidence: o.restricted,
            })
            .collect(),
        investigations: investigations.collect(),
        alerts: alerts.collect(),
    }
}

fn product_alert(alert: render::product::Drawn) -> TruthProductAlert {
    TruthProductAlert { id: alert.id, visible_at: date(alert.at), changed_at: alert.changed.map(date) }
}

fn comments(world: &World, one: &Investigation) -> Vec<TruthComment> {
    let viewed = |at: Micros| one.changes.iter().any(|(when, change)| *when == at && *change == Change::Viewed);
    render::legacy::comments(world, one, Micros::MAX)
        .into_iter()
        .map(|(created, text)| {
            let comment: Value = serde_json::from_str(&text).unwrap_or_default();
            let rrn = comment.get("rrn").and_then(Value::as_str).unwrap_or_default().to_owned();
            TruthComment { rrn, created: date(created), on_row: viewed(created) }
        })
        .collect()
}

/// Instants as RFC 3339 texts.
mod instants {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use time::OffsetDateTime;

    use crate::moment::{micros, parse, vendor};

    pub(super) fn serialize<S: Serializer>(instants: &[OffsetDateTime], out: S) -> Result<S::Ok, S::Error> {
        out.collect_seq(instants.iter().map(|instant| vendor(micros(*instant))))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<OffsetDateTime>, D::Error> {
        let texts = Vec::<String>::deserialize(input)?;
        texts
            .iter()
            .map(|text| parse(text).ok_or_else(|| D::Error::custom(format!("{text} is not an RFC 3339 time"))))
            .collect()
    }
}
