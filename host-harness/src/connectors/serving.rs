//! Where whoever polls meets whoever loads connectors.
//!
//! What: [`Serving`] answers which version of a connector serves an integration type and is told how polls went;
//! [`LiveInstances`] answers which instances a new version has to prove itself on.
//! Why two traits: connectors are loaded without knowing how instances are configured and scheduled, and instances are
//! scheduled without knowing where connectors come from.
//! Not guaranteed: that the answer is still the newest when it is used; a poll keeps the version it began with.

use super::{Connector, TenantOptions};
use crate::instances::failure::FailureReport;
use serde::{Deserialize, Serialize};
use std::future::Future;
use std::pin::Pin;
use time::OffsetDateTime;
use tokio::sync::watch;
use uuid::Uuid;

/// The integration type of a connector's slug: `rapid7-insightidr` serves `rapid7_insightidr`. Configurations may write
/// either.
#[must_use]
pub fn integration_type(slug: &str) -> String {
    slug.replace('-', "_")
}

/// The connectors that serve, by integration type (in the form of [`integration_type`]).
pub trait Serving: Send + Sync {
    /// The version that serves this type now; `None` when there is none.
    fn current(&self, integration_type: &str) -> Option<Connector>;

    /// Changes its number whenever an answer of [`Serving::current`] or [`Serving::report`] has changed.
    fn changes(&self) -> watch::Receiver<u64>;

    /// Told after every poll, so that a version that fails where the one before did not can be taken back.
    fn polled(&self, connector: &Connector, instance: Uuid, outcome: PollOutcome);

    /// Every connector known, for status and metrics, in a stable order.
    fn report(&self) -> Vec<ConnectorReport>;
}

/// How a poll went, as far as it says something about the connector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollOutcome {
    /// At least one step was committed, and the connector did not fail after it.
    Worked,
    /// The vendor, the network or the settings were to blame: nothing about the connector.
    Inconclusive,
    /// The connector itself failed: trap, limit passed, broken contract, unreadable checkpoint, internal failure.
    ConnectorFailed,
}

/// An answer of [`LiveInstances`].
pub type Asked<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The instances that are configured, for a new version to prove itself on. They are asked for one by one, so that the
/// secrets and the checkpoint of one tenant at a time are in memory.
pub trait LiveInstances: Send + Sync {
    /// Every enabled instance of the type.
    fn ids(&self, integration_type: &str) -> Vec<Uuid>;

    /// One of them, set up for this version of its connector, or why it cannot be; `None` when it is enabled no more.
    fn ready<'a>(&'a self, id: Uuid, connector: &'a Connector) -> Asked<'a, Option<Result<LiveInstance, NotReady>>>;

    /// The checkpoint of its last committed step.
    fn checkpoint(&self, id: Uuid) -> Asked<'_, Result<Option<Vec<u8>>, Box<FailureReport>>>;

    /// Takes one of them out of the schedule for a canary step, until what is given is dropped. `None` while it is being
    /// polled, is backing off, or its vendor wants peace. By default they are always free.
    fn lend(&self, id: Uuid) -> Option<Lent> {
        let _ = id;
        Some(Lent::until(|| {}))
    }
}

/// An instance that is lent to a canary step; dropping it gives it back.
pub struct Lent(Option<Box<dyn FnOnce() + Send>>);

impl Lent {
    /// One that is given back so.
    pub fn until(back: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(back)))
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(back) = self.0.take() {
            back();
        }
    }
}

/// One of them.
#[derive(Debug)]
pub struct LiveInstance {
    /// What its state is kept under.
    pub id: Uuid,
    /// What a tenant is made of, name, settings and secrets among it.
    pub options: TenantOptions,
    /// Whether it has a checkpoint.
    pub has_checkpoint: bool,
}

/// An instance that cannot be set up for a version.
#[derive(Clone, Debug)]
pub struct NotReady {
    /// What its state is kept under.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// Whether it has a checkpoint.
    pub has_checkpoint: bool,
    /// Why.
    pub failure: Box<FailureReport>,
}

/// What is known of a connector file or version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectorReport {
    /// Integration type; the file's name while the type is not known.
    pub integration_type: String,
    /// Version as the connector says it; empty while not known.
    pub version: String,
    /// SHA-256 of the component, lower-case hexadecimal; empty when the file could not be read.
    pub digest: String,
    /// File it came from; empty when it is gone.
    pub file: String,
    /// What has become of it.
    pub state: ConnectorState,
    /// Why, in one line; of one that serves, what is still to be shown.
    pub reason: Option<String>,
    /// Stable code of the reason.
    pub code: Option<String>,
    /// When it will be tried again, if it will be by itself.
    #[serde(with = "time::serde::rfc3339::option")]
    pub retry_at: Option<OffsetDateTime>,
    /// When it came into this state.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
}

/// What has become of a connector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ConnectorState {
    /// It serves its type.
    Serving,
    /// It is being compiled or is proving itself; what served before still does.
    Loading,
    /// It wants more than the operator granted; see `connectors confirm`.
    Held,
    /// It failed and is not tried before its time; see `connectors release`.
    Quarantined,
    /// It cannot run here: damaged, of another contract, older than what serves.
    Refused,
}

impl ConnectorState {
    /// Its name, as status and JSON show it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Loading => "loading",
            Self::Held => "held",
            Self::Quarantined => "quarantined",
            Self::Refused => "refused",
        }
    }
}
