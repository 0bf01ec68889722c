//! What is known of an instance, for whoever looks: status pages, metrics, the command line.
//!
//! Why one structure for all: what is shown, counted and remembered over a restart cannot disagree. Its JSON form is
//! documented in docs/operating.md; fields are only ever added.
//! Not guaranteed: counts since the first poll survive a restart, but a crash can lose the last few seconds of them.

mod work;

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::days::Days;
use super::tally::Tally;
use crate::instances::failure::FailureReport;
use crate::instances::report::{Cycle, End, State as StreamOutcomeState, Status};

pub use work::Work;

/// State of an instance, in the words of the Conductor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not polled yet since the start, or since it was added or enabled.
    Starting,
    /// The last poll collected every stream, or those it could not are knowingly not offered.
    Ok,
    /// The last poll collected something, and something failed.
    Degraded,
    /// The last poll collected nothing, or could not begin.
    Failed,
    /// It is switched off in the configuration.
    Disabled,
}

impl State {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 5] = [Self::Starting, Self::Ok, Self::Degraded, Self::Failed, Self::Disabled];

    /// Its word.
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

/// A version of a connector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// As the connector says it.
    pub version: String,
    /// SHA-256 of the component.
    pub digest: String,
}

/// Everything about one instance.
#[derive(Clone, Debug, Serialize)]
pub struct InstanceStatus {
    /// What its state is kept under; may be written as `id` in the configuration.
    #[serde(serialize_with = "as_text")]
    pub id: Uuid,
    /// The `id` of the configuration, if it has one.
    pub handle: Option<String>,
    /// Its name.
    pub name: String,
    /// Integration type.
    pub integration_type: String,
    /// How it is.
    pub state: State,
    /// Since when it is so.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// Minutes between polls.
    pub interval_minutes: u32,
    /// Whether it is being polled at the moment.
    pub polling: bool,
    /// When it will be polled next; none while it is disabled.
    #[serde(with = "time::serde::rfc3339::option")]
    pub next_poll: Option<OffsetDateTime>,
    /// Why that is later than usual, if it is.
    pub back_off: Option<BackOffStatus>,
    /// The route that its last poll took, if it took one, `HOST=URL`.
    pub routes: Vec<String>,
    /// What is remembered over a restart.
    #[serde(flatten)]
    pub past: Past,
}

impl InstanceStatus {
    /// Shows when the next poll is, and so how long a back-off lasts, if there is one.
    pub(super) fn show_next(&mut self, at: OffsetDateTime, wait: Duration) {
        self.next_poll = Some(at);
        if let Some(back_off) = &mut self.back_off {
            back_off.until = at;
            back_off.seconds = wait.as_secs();
        }
    }
}

/// A back-off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackOffStatus {
    /// Polls in a row that failed.
    pub failures: u32,
    /// How long it is altogether, in seconds.
    pub seconds: u64,
    /// Until when.
    #[serde(with = "time::serde::rfc3339")]
    pub until: OffsetDateTime,
}

/// What polls have come to so far.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Past {
    /// The version that was polled with last.
    pub connector: Option<Version>,
    /// When the last poll began.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_poll: Option<OffsetDateTime>,
    /// When the last poll that left it `ok` began.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_success: Option<OffsetDateTime>,
    /// How the last poll went: `ok`, `degraded`, `failed` or `interrupted`.
    pub last_outcome: Option<Cow<'static, str>>,
    /// What is wrong, when something is: the failure to look at first.
    pub failure: Option<Box<FailureReport>>,
    /// The last thing that was wrong, whether it still is or not.
    pub last_failure: Option<Box<PastFailure>>,
    /// Since when something has been wrong without a break.
    #[serde(with = "time::serde::rfc3339::option")]
    pub failing_since: Option<OffsetDateTime>,
    /// Since when the vendor has had more than polls could collect without a break: a backlog, or an allowance that is too
    /// small.
    #[serde(with = "time::serde::rfc3339::option")]
    pub behind_since: Option<OffsetDateTime>,
    /// When the last poll began that stored something new: a source that has fallen silent is told from one that fails.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_new: Option<OffsetDateTime>,
    /// The connector's hint for the operator.
    pub hint: Option<String>,
    /// Streams, in the order of the connector's description.
    pub streams: Vec<StreamStatus>,
    /// The last poll in numbers.
    pub last: Work,
    /// Everything since the first poll.
    pub total: Work,
    /// The last two days in which it was polled.
    pub days: Days,
    /// Polls by outcome.
    pub polls: Tally,
    /// Failures by code, those of streams included.
    pub failures: Tally,
    /// The vendor asked not to be called before this time.
    #[serde(with = "time::serde::rfc3339::option")]
    pub not_before: Option<OffsetDateTime>,
}

/// Something that was wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastFailure {
    /// When the poll began that met it last.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// What it was.
    #[serde(flatten)]
    pub failure: FailureReport,
}

/// One stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamStatus {
    /// Its name.
    pub name: String,
    /// Plural noun of its records.
    pub noun: String,
    /// `ok`, `degraded` or `unavailable`: one of [`StreamStatus::STATES`].
    pub state: Cow<'static, str>,
    /// Records of the last poll.
    pub last: u64,
    /// Records since the first poll.
    pub total: u64,
    /// Why it is not `ok`.
    pub failure: Option<Box<FailureReport>>,
}

impl StreamStatus {
    /// All states, in the order in which they are shown.
    pub const STATES: [&'static str; 3] = ["ok", "degraded", "unavailable"];
}

impl Past {
    /// Takes a poll in that began at `started`; gives the state that the instance is in now, or nothing when that stays
    /// as it was.
    pub fn polled(&mut self, cycle: &Cycle, version: Version, started: OffsetDateTime) -> Option<State> {
        self.connector = Some(version);
        self.began(cycle.outcome(), started);
        self.last = Work::of(cycle);
        self.total.add(self.last);
        self.days.add(started.date(), &self.last);
        if cycle.new > 0 {
            self.last_new = Some(started);
        }
        match cycle.end {
            End::Complete => self.behind_since = None,
            End::StepLimit | End::Deferred | End::Postponed => {
                self.behind_since.get_or_insert(started);
            }
            // Nobody knows.
            End::Interrupted | End::Failed => {}
        }
        self.hint.clone_from(&cycle.hint);
        // Another version may describe others.
        self.streams.retain(|known| cycle.described.contains(&known.name));
        for stream in &mut self.streams {
            stream.last = 0;
        }
        for outcome in &cycle.streams {
            let (state, failure) = match &outcome.state {
                StreamOutcomeState::Ok => ("ok", None),
                StreamOutcomeState::Degraded(failure) => ("degraded", Some(failure.clone())),
                StreamOutcomeState::Unavailable(failure) => ("unavailable", Some(failure.clone())),
            };
            if let Some(failure) = &failure
                && state == "degraded"
            {
                self.count_failure(failure);
            }
            let before = self.streams.iter().find(|known| known.name == outcome.name).map_or(0, |known| known.total);
            let status = StreamStatus {
                name: outcome.name.clone(),
                noun: outcome.noun.clone(),
                state: Cow::Borrowed(state),
                last: outcome.fetched,
                total: before.saturating_add(outcome.fetched),
                failure: failure.map(Box::new),
            };
            match self.streams.iter_mut().find(|known| known.name == outcome.name) {
                Some(known) => *known = status,
                None => {
                    self.streams.reserve_exact(1);
                    self.streams.push(status);
                }
            }
        }
        if let Some(failure) = &cycle.failure {
            self.count_failure(failure);
        }
        if cycle.end == End::Interrupted {
            return None;
        }
        self.failure = cycle.first_failure().cloned().map(Box::new);
        self.remember_failure(started);
        let state = match cycle.status() {
            Status::Ok => State::Ok,
            Status::Degraded => State::Degraded,
            Status::Failed => State::Failed,
        };
        self.settle(state, started);
        Some(state)
    }

    /// Forgets what a poll from the beginning will say anew, and what the vendor asked for: somebody is at hand who wants
    /// it to be polled. What was counted stays.
    pub(super) fn begin_again(&mut self) {
        (self.failure, self.failing_since, self.behind_since) = (None, None, None);
        (self.hint, self.not_before) = (None, None);
    }

    /// Takes in a poll that could not begin.
    pub fn not_begun(&mut self, failure: FailureReport, started: OffsetDateTime) -> State {
        self.began("failed", started);
        self.count_failure(&failure);
        self.last = Work::default();
        self.days.add(started.date(), &self.last);
        self.failure = Some(Box::new(failure));
        // What they were is no news of them any more.
        for stream in &mut self.streams {
            stream.last = 0;
            if stream.state == "ok" {
                (stream.state, stream.failure) = (Cow::Borrowed("degraded"), self.failure.clone());
            }
        }
        self.remember_failure(started);
        self.settle(State::Failed, started);
        State::Failed
    }

    fn began(&mut self, outcome: &'static str, started: OffsetDateTime) {
        self.last_poll = Some(started);
        self.last_outcome = Some(Cow::Borrowed(outcome));
        self.polls.count(outcome);
    }

    fn settle(&mut self, state: State, started: OffsetDateTime) {
        if state == State::Ok {
            self.last_success = Some(started);
            self.failing_since = None;
        } else {
            self.failing_since.get_or_insert(started);
        }
    }

    fn remember_failure(&mut self, at: OffsetDateTime) {
        if let Some(failure) = self.failure.clone() {
            self.last_failure = Some(Box::new(PastFailure { at, failure: *failure }));
        }
    }

    fn count_failure(&mut self, failure: &FailureReport) {
        self.failures.count(failure.code.clone());
    }
}

/// A UUID as it is written.
fn as_text<S: serde::Serializer>(id: &Uuid, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

/// Whole seconds until a time, rounded up; 0 when it is past.
#[must_use]
pub fn seconds_until(time: OffsetDateTime, now: OffsetDateTime) -> u64 {
    Duration::try_from(time - now).map_or(0, |wait| wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}

#[cfg(test)]
mod tests;
