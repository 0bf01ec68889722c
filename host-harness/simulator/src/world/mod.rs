//! The world: what exists, when it was created, when it can be seen, and how it changes.
//!
//! A [`World`] is a plain description. It is generated from a [`crate::WorldConfig`] or built record by record with the
//! `add_*` functions, and may be changed while it is served (`Simulator::change_world`). Everything in it is fixed by
//! the seed and the calls made; the clock only decides which part of it shows. Handles returned by `add_*` belong to
//! the world that gave them; in another world they name another record or none.

mod generate;
mod spec;
pub(crate) mod timeline;
pub(crate) mod vocabulary;

use std::borrow::Cow;

use serde_json::Value;
use time::OffsetDateTime;

pub use self::spec::{AlertKind, AlertSpec, Change, InvestigationSpec, Person};
use self::spec::{text_of, time_of};
use crate::moment::{Micros, SECOND, micros};
use crate::rng::{mix, uuid_of};

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
    #[error(
        "there is no {what} with this handle in this world; use a handle that this world returned"
    )]
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
        if self.region == "us" {
            "us1"
        } else {
            &self.region
        }
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
    pub(crate) product_alerts: Vec<String>,
    /// Comments as (created, verbatim JSON).
    pub(crate) comments: Vec<(Micros, String)>,
    /// Generated: comments and product alerts come from the seed as well.
    pub(crate) generated: bool,
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
    /// When the alert itself is listed.
    pub(crate) visible: Micros,
    /// When its evidence is listed.
    pub(crate) evidence_visible: Micros,
    /// Evidence records from the seed, unless pinned.
    pub(crate) evidence: u16,
    pub(crate) pinned: Option<Box<Pinned>>,
}

/// All that exists.
#[derive(Debug, Clone)]
pub struct World {
    pub(crate) seed: u64,
    pub(crate) start: OffsetDateTime,
    pub(crate) organizations: Vec<Organization>,
    pub(crate) investigations: Vec<Investigation>,
    pub(crate) alerts: Vec<Alert>,
}

impl World {
    /// A world of one organization in region `us`, with both optional APIs, without any record. Its clock starts at
    /// 2026-01-15T12:00:00Z.
    pub fn empty() -> Self {
        Self::empty_in("us")
    }

    /// As [`World::empty`], in another region.
    pub fn empty_in(region: &str) -> Self {
        let mut world = Self::bare(0, crate::WorldConfig::default().start);
        world.add_organization(region, "Example Corp", true, true);
        world
    }

    /// Nothing at all, not even an organization.
    pub(crate) fn bare(seed: u64, start: OffsetDateTime) -> Self {
        Self {
            seed,
            start,
            organizations: Vec::new(),
            investigations: Vec::new(),
            alerts: Vec::new(),
        }
    }

    /// Where a simulator of this world starts its clock unless its configuration says otherwise.
    pub fn set_start(&mut self, start: OffsetDateTime) {
        self.start = start;
    }

    /// Adds an organization; its id is a UUID made from its name and the world's seed. `triage` and `restricted` say
    /// whether it has the Alert Triage API and the restricted evidence endpoint.
    pub fn add_organization(
        &mut self,
        region: &str,
        name: &str,
        triage: bool,
        restricted: bool,
    ) -> OrganizationId {
        let id = uuid_of(mix(self.seed, crate::rng::hash_text(name)));
        let organization = Organization {
            id,
            region: region.to_owned(),
            name: name.to_owned(),
            triage,
            restricted,
        };
        self.organizations.push(organization);
        OrganizationId(self.organizations.len().saturating_sub(1) as u32)
    }

    /// The organizations with their id and region, in order.
    pub fn organizations(&self) -> impl Iterator<Item = (OrganizationId, &str, &str)> {
        self.organizations
            .iter()
            .enumerate()
            .map(|(i, o)| (OrganizationId(i as u32), o.id.as_str(), o.region.as_str()))
    }

    /// Switches the Alert Triage API of an organization on or off.
    pub fn set_triage(&mut self, organization: OrganizationId, on: bool) -> Result<(), WorldError> {
        let missing = WorldError::UnknownHandle {
            what: "organization",
        };
        self.organizations
            .get_mut(organization.0 as usize)
            .ok_or(missing)?
            .triage = on;
        Ok(())
    }

    /// Adds an investigation. It shows from `spec.visible_at` on.
    pub fn add_investigation(
        &mut self,
        spec: InvestigationSpec,
    ) -> Result<InvestigationId, WorldError> {
        let organization = self.organizations.get(spec.organization.0 as usize).ok_or(
            WorldError::UnknownHandle {
                what: "organization",
            },
        )?;
        let number = self.investigations.len() as u32;
        let seed = mix(self.seed, 0x1_0000_0000 + u64::from(number));
        let rrn = spec
            .rrn
            .clone()
            .unwrap_or_else(|| spec::investigation_rrn(organization, seed));
        self.investigations.push(Investigation {
            seed,
            organization: spec.organization.0,
            rrn,
            created: micros(spec.created),
            visible: micros(spec.visible_at),
            gone: None,
            first: spec.into_fields(),
            changes: Vec::new(),
            alerts: Vec::new(),
            product_alerts: Vec::new(),
            comments: Vec::new(),
            generated: false,
        });
        Ok(InvestigationId(number))
    }

    /// Adds an investigation whose row is exactly this JSON text. `rrn` and `created_time` must be there and readable;
    /// what else the simulator sorts or filters by is read from it leniently. Alerts and views do not change the text.
    pub fn add_investigation_json(
        &mut self,
        json: &str,
        visible_at: OffsetDateTime,
    ) -> Result<InvestigationId, WorldError> {
        let value = object(json, "investigation")?;
        let unusable = |member, reason: &str| WorldError::UnusableJson {
            what: "investigation",
            member,
            reason: reason.to_owned(),
        };
        let rrn = value
            .get("rrn")
            .and_then(Value::as_str)
            .ok_or_else(|| unusable("rrn", "a string is needed"))?;
        let created = time_of(&value, "created_time")
            .ok_or_else(|| unusable("created_time", "an ISO 8601 time with an offset is needed"))?;
        let organization_text = text_of(&value, "organization_id");
        let organization = self
            .organizations()
            .find(|(_, id, _)| *id == organization_text)
            .map_or(OrganizationId(0), |(handle, ..)| handle);
        let mut spec = InvestigationSpec::new(created, visible_at);
        spec.rrn = Some(rrn.to_owned());
        spec.organization = organization;
        spec.read(&value);
        spec.json = Some(json.to_owned());
        self.add_investigation(spec)
    }

    /// Something that happens to an investigation at an instant. Changes before it is visible are part of how it first
    /// shows.
    pub fn add_change(
        &mut self,
        investigation: InvestigationId,
        at: OffsetDateTime,
        change: Change,
    ) -> Result<(), WorldError> {
        if let Change::Json(text) = &change {
            object(text, "change")?;
        }
        let investigation = self.investigation_mut(investigation)?;
        match change {
            Change::Gone => investigation.gone = Some(micros(at)),
            other => investigation.changes.push((micros(at), other)),
        }
        Ok(())
    }

    /// Adds an alert, to an investigation or, with `None`, to the first organization's triage list alone.
    pub fn add_alert(
        &mut self,
        investigation: Option<InvestigationId>,
        spec: AlertSpec,
    ) -> Result<AlertId, WorldError> {
        for (text, what) in [(&spec.json, "alert"), (&spec.triage_json, "triage alert")] {
            if let Some(text) = text {
                object(text, what)?;
            }
        }
        let number = self.alerts.len() as u32;
        let seed = mix(self.seed, 0x2_0000_0000 + u64::from(number));
        let organization = match investigation {
            Some(handle) => {
                let investigation = self.investigation_mut(handle)?;
                investigation.alerts.push(number);
                investigation.organization
            }
            None => spec.organization.0,
        };
        if self.organizations.get(organization as usize).is_none() {
            return Err(WorldError::UnknownHandle {
                what: "organization",
            });
        }
        let visible = micros(spec.visible_at);
        self.alerts.push(Alert {
            seed,
            organization,
            investigation: investigation.map(|handle| handle.0),
            kind: spec.kind,
            created: micros(spec.created),
            on_row: spec.on_row_at.map_or(visible, micros),
            visible,
            evidence_visible: spec.evidence_visible_at.map_or(visible, micros),
            evidence: spec.evidence_records,
            pinned: Some(Box::new(Pinned {
                id: spec.id,
                title: spec.title,
                json: spec.json,
                triage_json: spec.triage_json,
                evidence: spec.evidence,
                actors: spec.actors,
            })),
        });
        Ok(AlertId(number))
    }

    /// Adds an element to the investigation's `rapid7-product-alerts`, as this JSON text.
    pub fn add_product_alert(
        &mut self,
        investigation: InvestigationId,
        json: &str,
    ) -> Result<(), WorldError> {
        object(json, "product alert")?;
        self.investigation_mut(investigation)?
            .product_alerts
            .push(json.to_owned());
        Ok(())
    }

    /// Adds a comment as this JSON text, visible from `created` on.
    pub fn add_comment(
        &mut self,
        investigation: InvestigationId,
        created: OffsetDateTime,
        json: &str,
    ) -> Result<(), WorldError> {
        object(json, "comment")?;
        self.investigation_mut(investigation)?
            .comments
            .push((micros(created), json.to_owned()));
        Ok(())
    }

    /// The RRN of an investigation.
    pub fn investigation_rrn(&self, investigation: InvestigationId) -> Option<&str> {
        self.investigations
            .get(investigation.0 as usize)
            .map(|i| i.rrn.as_str())
    }

    /// The id of an alert: an RRN or a UUID.
    pub fn alert_id(&self, alert: AlertId) -> Option<String> {
        self.alerts
            .get(alert.0 as usize)
            .map(|alert| self.id_of(alert))
    }

    /// Investigations of the world, visible or not.
    pub fn investigation_count(&self) -> usize {
        self.investigations.len()
    }

    /// Alerts of the world, visible or not.
    pub fn alert_count(&self) -> usize {
        self.alerts.len()
    }

    /// The alert's id, pinned or from its seed.
    pub(crate) fn id_of(&self, alert: &Alert) -> String {
        if let Some(id) = alert.pinned.as_ref().and_then(|pinned| pinned.id.as_ref()) {
            return id.clone();
        }
        match (
            alert.kind,
            self.organizations.get(alert.organization as usize),
        ) {
            (AlertKind::DetectionRule, Some(organization)) => {
                spec::alert_rrn(organization, "alert", alert.seed)
            }
            _ => uuid_of(alert.seed),
        }
    }

    fn investigation_mut(
        &mut self,
        handle: InvestigationId,
    ) -> Result<&mut Investigation, WorldError> {
        self.investigations
            .get_mut(handle.0 as usize)
            .ok_or(WorldError::UnknownHandle {
                what: "investigation",
            })
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

/// The shortest time after an alert's visibility at which generated evidence may show.
pub(crate) const EVIDENCE_DELAY: Micros = SECOND;

/// The JSON object in the text, for checking what a test pins. The text itself is served, not this.
fn object(json: &str, what: &'static str) -> Result<Value, WorldError> {
    let unusable = |reason: String| WorldError::UnusableJson {
        what,
        member: "",
        reason,
    };
    let value: Value = serde_json::from_str(json).map_err(|error| unusable(error.to_string()))?;
    if value.is_object() {
        Ok(value)
    } else {
        Err(unusable("an object is needed".to_owned()))
    }
}
