//! Building a world by hand: every record with the instants at which it is created and seen.
//!
//! What a test pins verbatim is checked to be a JSON object and then kept as text. Handles of another world are refused
//! when they name nothing here; otherwise they name another record.

use serde_json::Value;
use time::OffsetDateTime;

use super::spec::{self, text_of, time_of};
use super::{
    Alert, AlertId, AlertSpec, Change, Investigation, InvestigationId, InvestigationSpec, Organization, OrganizationId,
    Pinned, World, WorldError,
};
use crate::moment::{Micros, micros};
use crate::rng::{mix, uuid_of};

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
            end: Micros::MAX,
            odd: crate::Oddities::default(),
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
    pub fn add_organization(&mut self, region: &str, name: &str, triage: bool, restricted: bool) -> OrganizationId {
        let id = uuid_of(mix(self.seed, crate::rng::hash_text(name)));
        let organization = Organization { id, region: region.to_owned(), name: name.to_owned(), triage, restricted };
        self.organizations.push(organization);
        OrganizationId(self.organizations.len().saturating_sub(1) as u32)
    }

    /// The organizations with their id and region, in order.
    pub fn organizations(&self) -> impl Iterator<Item = (OrganizationId, &str, &str)> {
        self.organizations.iter().enumerate().map(|(i, o)| (OrganizationId(i as u32), o.id.as_str(), o.region.as_str()))
    }

    /// Switches the Alert Triage API of an organization on or off.
    pub fn set_triage(&mut self, organization: OrganizationId, on: bool) -> Result<(), WorldError> {
        let missing = WorldError::UnknownHandle { what: "organization" };
        self.organizations.get_mut(organization.0 as usize).ok_or(missing)?.triage = on;
        Ok(())
    }

    /// Adds an investigation. It shows from `spec.visible_at` on.
    pub fn add_investigation(&mut self, spec: InvestigationSpec) -> Result<InvestigationId, WorldError> {
        let organization = self
            .organizations
            .get(spec.organization.0 as usize)
            .ok_or(WorldError::UnknownHandle { what: "organization" })?;
        let number = self.investigations.len() as u32;
        let seed = mix(self.seed, 0x1_0000_0000 + u64::from(number));
        let rrn = spec.rrn.clone().unwrap_or_else(|| spec::investigation_rrn(organization, seed));
        self.investigations.push(Investigation {
            seed,
            organization: spec.organization.0,
            rrn,
            created: micros(spec.created),
            visible: micros(spec.visible_at),
            gone: None,
            untimed: spec.untimed,
            first: spec.into_fields(),
            changes: Vec::new(),
            alerts: Vec::new(),
            product_alerts: Vec::new(),
            comments: Vec::new(),
            generated: false,
            late_extras: false,
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
        let rrn = value.get("rrn").and_then(Value::as_str).ok_or_else(|| unusable("rrn", "a string is needed"))?;
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
            return Err(WorldError::UnknownHandle { what: "organization" });
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
            triage_visible: spec.triage_visible_at.map_or(visible, micros),
            evidence_visible: spec.evidence_visible_at.map_or(visible, micros),
            evidence_whole: spec.evidence_whole_at.or(spec.evidence_visible_at).map_or(visible, micros),
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

    /// Adds an element to the investigation's `rapid7-product-alerts`, as this JSON text, listed from the beginning.
    pub fn add_product_alert(&mut self, investigation: InvestigationId, json: &str) -> Result<(), WorldError> {
        self.push_product_alert(investigation, Micros::MIN, json)
    }

    /// As [`World::add_product_alert`], listed from an instant on. The row of the investigation does not show it.
    pub fn add_product_alert_at(
        &mut self,
        investigation: InvestigationId,
        at: OffsetDateTime,
        json: &str,
    ) -> Result<(), WorldError> {
        self.push_product_alert(investigation, micros(at), json)
    }

    fn push_product_alert(&mut self, handle: InvestigationId, at: Micros, json: &str) -> Result<(), WorldError> {
        object(json, "product alert")?;
        self.investigation_mut(handle)?.product_alerts.push((at, json.to_owned()));
        Ok(())
    }

    /// Adds a comment as this JSON text, visible from `created` on. It does not move `last_accessed`: add
    /// [`Change::Viewed`] at the same instant for one that does.
    pub fn add_comment(
        &mut self,
        investigation: InvestigationId,
        created: OffsetDateTime,
        json: &str,
    ) -> Result<(), WorldError> {
        object(json, "comment")?;
        self.investigation_mut(investigation)?.comments.push((micros(created), json.to_owned()));
        Ok(())
    }

    /// The investigations, in the order in which they were added.
    pub fn investigation_ids(&self) -> impl Iterator<Item = InvestigationId> + use<> {
        (0..u32::try_from(self.investigation_count()).unwrap_or(u32::MAX)).map(InvestigationId)
    }

    /// The RRN of an investigation.
    pub fn investigation_rrn(&self, investigation: InvestigationId) -> Option<&str> {
        self.investigations.get(investigation.0 as usize).map(|i| i.rrn.as_str())
    }

    /// The id of an alert: an RRN or a UUID.
    pub fn alert_id(&self, alert: AlertId) -> Option<String> {
        self.alerts.get(alert.0 as usize).map(|alert| self.id_of(alert))
    }

    /// Investigations of the world, visible or not.
    pub fn investigation_count(&self) -> usize {
        self.investigations.len()
    }

    /// Alerts of the world, visible or not.
    pub fn alert_count(&self) -> usize {
        self.alerts.len()
    }

    fn investigation_mut(&mut self, handle: InvestigationId) -> Result<&mut Investigation, WorldError> {
        self.investigations.get_mut(handle.0 as usize).ok_or(WorldError::UnknownHandle { what: "investigation" })
    }
}

/// The JSON object in the text, for checking what a test pins. The text itself is served, not this.
fn object(json: &str, what: &'static str) -> Result<Value, WorldError> {
    let unusable = |reason: String| WorldError::UnusableJson { what, member: "", reason };
    let value: Value = serde_json::from_str(json).map_err(|error| unusable(error.to_string()))?;
    if value.is_object() { Ok(value) } else { Err(unusable("an object is needed".to_owned())) }
}
