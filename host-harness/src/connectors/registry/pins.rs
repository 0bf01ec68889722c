//! What the operator grants is the ceiling.
//!
//! What: the first version of a connector that serves a type is trusted with what its instances ask for then and with where
//! the choices of its form lead them, such as other regions, and that is pinned. A later version, or a later instance, that asks for more is held until the operator confirms. Where the host's
//! configuration names the origins of a type, these and no others are granted; rules and headers are pinned all the
//! same.
//! Why the pinned digest itself may not go to another origin later on: whoever answers there gets a tenant's secret, and
//! a component decides what it plans anew each time it is asked. What its form offered when it was trusted is known from then.
//! Other paths and methods where it may go anyway are its own affair; a component that merely followed it has been
//! trusted with what the first one had.
//! Not guaranteed: that what was asked for at first load is harmless. Name the origins in the configuration where that
//! matters.

use super::super::serving::integration_type;
use super::super::{Connector, Destinations, Plan};
use super::grant::Grant;
use super::home::{Home, Kind, RecordError};
use super::lock;
use crate::sandbox::Clock;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use time::OffsetDateTime;

/// What a type is granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pin {
    /// The component that the operator installed first or confirmed last: what it asks for is granted.
    pub(super) digest: String,
    /// Its version, for people.
    pub(super) version: String,
    /// What every other component of the type may have.
    pub(super) grant: Grant,
    /// When it was installed or confirmed.
    #[serde(with = "time::serde::rfc3339")]
    pub(super) since: OffsetDateTime,
}

/// What awaits confirmation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    /// The type.
    pub(super) integration_type: String,
    /// The component that asks.
    pub(super) digest: String,
    /// Its version, for people.
    pub(super) version: String,
    /// All it asks for, as far as seen.
    pub(super) asked: Grant,
    /// What of it is not granted, one text for each.
    pub(super) lacks: Vec<String>,
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    pub(super) since: OffsetDateTime,
}

/// A plan that lies outside of what the operator grants.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
pub struct NotGranted {
    /// The type.
    integration_type: String,
    /// The component that asks for it.
    digest: String,
    /// What is not granted.
    pub(super) lacks: Vec<String>,
    /// Whether the configuration decides, so that confirming changes nothing.
    configured: bool,
    /// Why the pin cannot be used, if it cannot.
    damaged: Option<String>,
}

impl NotGranted {
    /// See [`NotGranted::code`].
    pub const CODE: &'static str = "not-granted";

    /// A stable name of the error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        Self::CODE
    }

    /// What is asked for.
    fn text(&self) -> String {
        let what = format!("it asks for more than is granted: {}", self.lacks.join(", "));
        match &self.damaged {
            Some(why) => format!("{what} (what was granted is not known: {why})"),
            None => what,
        }
    }

    /// What the operator can do.
    #[must_use]
    pub fn remedy(&self) -> String {
        let integration_type = &self.integration_type;
        if self.configured {
            format!(
                "To allow it, name it among the origins in [grants.{integration_type}] of the configuration, or under sign_in where secrets are sent for tokens; else correct the settings."
            )
        } else {
            // By its digest: another version of the type may ask for something else.
            let digest = self.digest.get(..12).unwrap_or(&self.digest);
            format!(
                "To allow it, run `host-harness connectors confirm --config FILE {digest}`; else correct the settings, or, after an update, go back to the version before."
            )
        }
    }
}

/// What becomes of what a connector has asked for before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// One instance asks now, and others may still ask for that.
    Stays,
    /// All instances were asked anew.
    Goes,
}

/// What the configuration allows connectors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Where connectors may go by integration type, as [`super::origin`] writes it. A type that is not here is granted what it
    /// asked for at first load.
    pub destinations: BTreeMap<String, Destinations>,
    /// Digests, SHA-256 in lower-case hexadecimal, of the only components that may be compiled and run; any when nothing is
    /// said.
    pub components: Option<BTreeSet<String>>,
}

impl Allowed {
    /// Whether a component may be compiled and run.
    ///
    /// # Errors
    /// When components are named and it is none of them.
    pub fn approve(&self, digest: &str) -> Result<(), NotApproved> {
        match &self.components {
            Some(approved) if !approved.contains(digest) => Err(NotApproved { digest: digest.to_owned() }),
            _ => Ok(()),
        }
    }
}

/// A component that the configuration does not approve.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("approved_components in [host] does not name it; once somebody has approved it, add its SHA-256: {digest}")]
pub struct NotApproved {
    digest: String,
}

impl NotApproved {
    /// A stable name of the error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        "not-approved"
    }
}

/// The ceilings of all types.
pub(in crate::connectors) struct Ceiling {
    home: Home,
    clock: Clock,
    /// What the configuration says.
    configured: Mutex<Allowed>,
    /// Configurations taken so far.
    edits: AtomicU64,
    /// Held while a pin is read, extended and written.
    writing: Mutex<()>,
}

impl Ceiling {
    /// The ceilings kept in `home`.
    pub(super) fn new(home: Home, clock: Clock, configured: Allowed) -> Self {
        Self { home, clock, configured: Mutex::new(configured), edits: AtomicU64::new(0), writing: Mutex::new(()) }
    }

    /// Takes over what a changed configuration grants; says whether that is something else.
    pub(super) fn configure(&self, allowed: Allowed) -> bool {
        self.edits.fetch_add(1, Ordering::Relaxed);
        let mut configured = lock(&self.configured);
        let changed = *configured != allowed;
        *configured = allowed;
        changed
    }

    /// Whether a component may be compiled and run.
    pub(super) fn approve(&self, digest: &str) -> Result<(), NotApproved> {
        lock(&self.configured).approve(digest)
    }

    /// A text that changes when what is granted to a type does.
    pub(super) fn state(&self, integration_type: &str) -> String {
        let pin = self.home.load::<Pin>(Kind::Pins, integration_type).map_err(|error| error.to_string());
        format!("{pin:?} {:?}", lock(&self.configured).destinations.get(integration_type))
    }

    /// A text that changes when the outcome of a trial may: with what is granted, and with every configuration that is
    /// taken, because its instances may ask for something else by now.
    pub(super) fn basis(&self, integration_type: &str) -> String {
        format!("{} {}", self.edits.load(Ordering::Relaxed), self.state(integration_type))
    }

    /// Whether a connector may have what it asks for. Changes nothing.
    pub(super) fn check(&self, connector: &Connector, asked: &Grant) -> Result<(), NotGranted> {
        let integration_type = integration_type(connector.slug());
        let pin = self.home.load::<Pin>(Kind::Pins, &integration_type);
        let configured = lock(&self.configured).destinations.get(&integration_type).cloned();
        let mut granted = match &pin {
            // Trusted as a whole; so is whoever comes first, and whoever follows one that was never used.
            Ok(None) => asked.clone(),
            Ok(Some(pin)) if pin.grant.origins.is_empty() => asked.clone(),
            Ok(Some(pin)) if pin.digest == connector.digest() => asked.clone().with_secrets_as(&pin.grant),
            Ok(Some(pin)) => pin.grant.clone(),
            Err(_) => Grant::default(),
        };
        let by_configuration = configured.is_some();
        if let Some(Destinations { origins, sign_in }) = configured {
            granted = Grant { origins, sign_in, ..granted };
        }
        let lacks = granted.lacks(asked);
        if lacks.is_empty() {
            return Ok(());
        }
        let configured = by_configuration && !granted.leads_to(asked);
        let digest = connector.digest().to_owned();
        Err(NotGranted {
            integration_type,
            digest,
            lacks,
            configured,
            damaged: pin.err().map(|error| error.to_string()),
        })
    }

    /// Grants a connector that is about to serve what it was found to ask for, where the first load decides.
    pub(super) fn pin(&self, connector: &Connector, asked: &Grant) {
        let _writing = lock(&self.writing);
        self.pin_alone(connector, asked);
    }

    /// The same while `writing` is held.
    fn pin_alone(&self, connector: &Connector, asked: &Grant) {
        if asked.origins.is_empty() {
            // No instance has been seen, so nothing has been asked for.
            return;
        }
        let integration_type = integration_type(connector.slug());
        let pinned = match self.home.load::<Pin>(Kind::Pins, &integration_type) {
            Ok(pin) => pin,
            // Nobody but the operator may replace what cannot be read.
            Err(_) => return,
        };
        let mut pin = match pinned {
            Some(pin) if pin.digest == connector.digest() => pin,
            Some(pin) if !pin.grant.origins.is_empty() => return,
            _ => Pin {
                digest: connector.digest().to_owned(),
                version: connector.descriptor().version.clone(),
                grant: Grant::default(),
                since: self.clock.now(),
            },
        };
        let before = pin.clone();
        pin.grant.add(asked);
        if pin == before {
            return;
        }
        match self.home.save(Kind::Pins, &integration_type, &pin) {
            Ok(()) => tracing::info!(
                connector = connector.slug(),
                "{} is granted {} from now on; a version that asks for more is held until it is confirmed",
                connector.slug(),
                pin.grant.places().join(", ")
            ),
            Err(error) => tracing::error!(connector = connector.slug(), "what is granted cannot be pinned: {error}"),
        }
    }

    /// Whether nothing is pinned for its type and the configuration names no origins, so that what it asks for now decides.
    pub(in crate::connectors) fn is_first(&self, connector: &Connector) -> bool {
        let integration_type = integration_type(connector.slug());
        let pin = self.home.load::<Pin>(Kind::Pins, &integration_type);
        let is_unpinned = pin.is_ok_and(|pin| pin.is_none_or(|pin| pin.grant.origins.is_empty()));
        is_unpinned && !lock(&self.configured).destinations.contains_key(&integration_type)
    }

    /// Decides about the plan of an instance of a connector that serves: pins or refuses. `choices` are where
    /// its form leads to: they are granted with the plan where nothing was before.
    ///
    /// # Errors
    /// When the plan lies outside; what it lacks then awaits confirmation.
    pub(in crate::connectors) fn admit(
        &self,
        connector: &Connector,
        plan: &Plan,
        choices: &Destinations,
    ) -> Result<(), NotGranted> {
        let asked = Grant::asked(connector.descriptor(), plan);
        // In one step: of two instances that are polled first at the same moment, each would find that nothing is pinned.
        let writing = lock(&self.writing);
        let checked = self.check(connector, &asked);
        if checked.is_ok() {
            let mut granted = asked.clone();
            if self.is_first(connector) {
                granted.go(choices);
            }
            self.pin_alone(connector, &granted);
        }
        drop(writing);
        checked.inspect_err(|error| self.hold(connector, &asked, error, Before::Stays))
    }

    /// Notes what a connector asks for, so that the operator can confirm it.
    pub(super) fn hold(&self, connector: &Connector, asked: &Grant, why: &NotGranted, what_was_asked: Before) {
        if why.configured {
            return;
        }
        let _writing = lock(&self.writing);
        let before = self.home.load::<Held>(Kind::Held, connector.digest()).ok().flatten();
        let mut held = before.clone().unwrap_or_else(|| Held {
            integration_type: why.integration_type.clone(),
            digest: connector.digest().to_owned(),
            version: connector.descriptor().version.clone(),
            asked: Grant::default(),
            lacks: Vec::new(),
            since: self.clock.now(),
        });
        if what_was_asked == Before::Goes {
            (held.asked, held.lacks) = (Grant::default(), Vec::new());
        }
        held.asked.add(asked);
        held.lacks.extend(why.lacks.iter().cloned());
        held.lacks.sort();
        held.lacks.dedup();
        if before.as_ref() != Some(&held)
            && let Err(error) = self.home.save(Kind::Held, connector.digest(), &held)
        {
            tracing::error!(connector = connector.slug(), "what awaits confirmation cannot be kept: {error}");
        }
    }

    /// Whether something that a component asked for awaits confirmation.
    pub(super) fn is_held(&self, digest: &str) -> bool {
        // One that cannot be read is one.
        !matches!(self.home.load::<Held>(Kind::Held, digest), Ok(None))
    }

    /// Forgets what a component asked for: it is gone, or has it now, or who asked may have changed.
    pub(super) fn release(&self, digest: &str) {
        if let Err(error) = self.home.remove(Kind::Held, digest) {
            tracing::warn!("{error}");
        }
    }
}

/// The operator's confirmation: what was held is granted.
///
/// # Errors
/// When the pin cannot be written.
pub(super) fn confirm(home: &Home, held: &Held, now: OffsetDateTime) -> Result<(), RecordError> {
    // A pin that cannot be read is replaced: the operator has just said what is granted.
    let before = home.load::<Pin>(Kind::Pins, &held.integration_type).ok().flatten();
    let mut grant = before.map_or_else(Grant::default, |pin| pin.grant);
    grant.add(&held.asked);
    let pin = Pin { digest: held.digest.clone(), version: held.version.clone(), grant, since: now };
    home.save(Kind::Pins, &held.integration_type, &pin)?;
    home.remove(Kind::Held, &held.digest)
}
