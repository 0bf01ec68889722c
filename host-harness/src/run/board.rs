//! What is known of every instance: the status page as data.
//!
//! The words are the Conductor's: starting, ok, degraded, failed, disabled.
//! `ok` stands after the first cycle that ended well, so an instance is green
//! within two cycles of whatever was mended.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::config::Problem;
use crate::connectors::serving::ConnectorReport;
use crate::instances::report::{Cycle, State, Status};

/// State of an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InstanceState {
    /// Not polled yet since the host started.
    #[default]
    Starting,
    /// Everything that is offered is collected.
    Ok,
    /// Something is not collected, something is.
    Degraded,
    /// Nothing is collected.
    Failed,
    /// Switched off in the configuration.
    Disabled,
}

impl InstanceState {
    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
            Self::Disabled => "disabled",
        }
    }
}

/// A failure as the status shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Stable name of the reason.
    pub code: String,
    /// Status of the vendor's response.
    pub http_status: Option<u16>,
    /// The vendor's identifier of the request.
    pub correlation_id: Option<String>,
    /// What happened.
    pub message: String,
    /// What to do.
    pub remedy: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
}

/// One stream of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    /// Its name.
    pub name: String,
    /// Records of the last poll.
    pub last: u64,
    /// Records since the host started.
    pub total: u64,
    /// `ok`, `degraded` or `unavailable`.
    pub state: String,
    /// Why it is not `ok`.
    pub reason: Option<String>,
}

/// One instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// What its state is kept under, a UUID; empty while it has none.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its type.
    pub integration_type: String,
    /// Its state.
    pub state: InstanceState,
    /// Whether a poll is under way.
    pub polling: bool,
    /// Version of the connector of the last poll; empty before.
    pub connector_version: String,
    /// Digest of that connector.
    pub connector_digest: String,
    /// Minutes between two polls.
    pub interval_minutes: u32,
    /// When the last poll ended.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_poll: Option<OffsetDateTime>,
    /// When a poll last ended well.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_success: Option<OffsetDateTime>,
    /// When the next one is due; none while one is under way or the instance
    /// is disabled.
    #[serde(with = "time::serde::rfc3339::option")]
    pub next_poll: Option<OffsetDateTime>,
    /// Polls in a row that ended in a failure.
    pub failures_in_a_row: u32,
    /// The last failure; stays until a poll ends well.
    pub failure: Option<Failure>,
    /// The connector's hint.
    pub hint: Option<String>,
    /// Its streams.
    pub streams: Vec<Stream>,
    /// Artifacts stored since the host started.
    pub artifacts: u64,
    /// Routes that are in force for it.
    pub routes: Vec<String>,
}

impl Instance {
    /// Takes the outcome of a poll in.
    pub fn take(&mut self, cycle: &Cycle, now: OffsetDateTime) {
        self.polling = false;
        self.last_poll = Some(now);
        self.artifacts += cycle.new;
        self.hint.clone_from(&cycle.hint);
        self.state = match cycle.status() {
            Status::Ok => InstanceState::Ok,
            Status::Degraded => InstanceState::Degraded,
            Status::Failed => InstanceState::Failed,
        };
        match cycle.first_failure() {
            None => {
                self.failure = None;
                self.failures_in_a_row = 0;
                self.last_success = Some(now);
            }
            Some(failure) => {
                self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
                self.failure = Some(Failure {
                    code: failure.code.clone(),
                    http_status: failure.http_status,
                    correlation_id: failure.correlation_id.clone(),
                    message: failure.message.clone(),
                    remedy: failure.remedy.clone(),
                    at: now,
                });
            }
        }
        for outcome in &cycle.streams {
            let (state, reason) = match &outcome.state {
                State::Ok => ("ok", None),
                State::Degraded(failure) => ("degraded", Some(failure.sentence())),
                State::Unavailable(failure) => ("unavailable", Some(failure.sentence())),
            };
            let known = self.streams.iter().position(|stream| stream.name == outcome.name);
            let place = known.unwrap_or_else(|| {
                self.streams.push(Stream { name: outcome.name.clone(), ..Stream::default() });
                self.streams.len() - 1
            });
            if let Some(stream) = self.streams.get_mut(place) {
                stream.last = outcome.fetched;
                stream.total = stream.total.saturating_add(outcome.fetched);
                stream.state = state.to_owned();
                stream.reason = reason;
            }
        }
    }
}

/// The host as a whole.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Host {
    /// Version of the host.
    pub version: &'static str,
    /// When it started.
    #[serde(with = "time::serde::rfc3339::option")]
    pub started: Option<OffsetDateTime>,
    /// The configuration file.
    pub configuration: String,
    /// When it was last taken.
    #[serde(with = "time::serde::rfc3339::option")]
    pub configured: Option<OffsetDateTime>,
    /// What is wrong with an edit that was not taken; the one before is in
    /// force.
    pub configuration_problems: Vec<Problem>,
    /// Artifacts that no output has taken yet.
    pub undelivered: u64,
    /// Why the output takes nothing, if so.
    pub output_failure: Option<String>,
}

/// Everything, as `/status` shows it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Page {
    /// The host.
    pub host: Host,
    /// Its instances by name.
    pub instances: Vec<Instance>,
    /// Its connectors.
    pub connectors: Vec<ConnectorReport>,
}

/// The board. Clones are the same board.
#[derive(Clone, Debug, Default)]
pub struct Board {
    inner: Arc<RwLock<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    host: Host,
    instances: BTreeMap<String, Instance>,
}

impl Board {
    /// Changes what is known of the host.
    pub fn host(&self, change: impl FnOnce(&mut Host)) {
        change(&mut self.inner.write().unwrap_or_else(PoisonError::into_inner).host);
    }

    /// Changes what is known of an instance; it is made when it is not there.
    pub fn instance(&self, name: &str, change: impl FnOnce(&mut Instance)) {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        change(inner.instances.entry(name.to_owned()).or_default());
    }

    /// Forgets instances that are not configured any more.
    pub fn retain(&self, keep: impl Fn(&str) -> bool) {
        self.inner.write().unwrap_or_else(PoisonError::into_inner).instances.retain(|name, _| keep(name));
    }

    /// What is known of one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Instance> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).instances.get(name).cloned()
    }

    /// Everything.
    #[must_use]
    pub fn page(&self, connectors: Vec<ConnectorReport>) -> Page {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        Page { host: inner.host.clone(), instances: inner.instances.values().cloned().collect(), connectors }
    }
}
