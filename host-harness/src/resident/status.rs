//! What is known of an instance, for whoever looks: status pages, metrics, the command line.
//!
//! Why one structure for all: what is shown, counted and remembered over a restart cannot disagree. Its JSON form is
//! documented in docs/operating.md; fields are only ever added.
//! Not guaranteed: counts since the first poll survive a restart, but a crash can lose the last few seconds of them.

use std::borrow::Cow;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use super::days::Days;
use super::tally::Tally;
use crate::instances::failure::FailureReport;
use crate::instances::report::{Cycle, End, State as StreamOutcomeState, Status};

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

/// Polls in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Work {
    /// Steps committed.
    pub steps: u64,
    /// Requests that left.
    pub requests: u64,
    /// Requests that were refused by the egress policy or the budget.
    pub requests_denied: u64,
    /// Bytes of response bodies.
    pub bytes_received: u64,
    /// Artifacts stored.
    pub artifacts_new: u64,
    /// Their bytes, as `most_megabytes_per_day` counts them.
    pub artifact_bytes: u64,
    /// Artifacts that were stored before.
    pub artifacts_repeated: u64,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
    /// Most bytes of memory that a step of the connector used.
    pub guest_memory_peak_bytes: u64,
}

impl Work {
    /// Of one cycle.
    fn of(cycle: &Cycle) -> Self {
        Self {
            steps: cycle.steps.into(),
            requests: cycle.usage.requests.into(),
            requests_denied: cycle.usage.egress_denied.into(),
            bytes_received: cycle.usage.bytes_received,
            artifacts_new: cycle.new,
            artifact_bytes: cycle.bytes,
            artifacts_repeated: cycle.repeated,
            milliseconds: u64::try_from(cycle.elapsed.as_millis()).unwrap_or(u64::MAX),
            guest_memory_peak_bytes: cycle.usage.guest_peak_bytes,
        }
    }

    /// What came since it was as before.
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            steps: self.steps.saturating_sub(before.steps),
            requests: self.requests.saturating_sub(before.requests),
            requests_denied: self.requests_denied.saturating_sub(before.requests_denied),
            bytes_received: self.bytes_received.saturating_sub(before.bytes_received),
            artifacts_new: self.artifacts_new.saturating_sub(before.artifacts_new),
            artifact_bytes: self.artifact_bytes.saturating_sub(before.artifact_bytes),
            artifacts_repeated: self.artifacts_repeated.saturating_sub(before.artifacts_repeated),
            milliseconds: self.milliseconds.saturating_sub(before.milliseconds),
            guest_memory_peak_bytes: self.guest_memory_peak_bytes,
        }
    }

    /// Adds up; of the memory, the most.
    fn add(&mut self, other: Self) {
        self.steps += other.steps;
        self.requests += other.requests;
        self.requests_denied += other.requests_denied;
        self.bytes_received = self.bytes_received.saturating_add(other.bytes_received);
        self.artifacts_new += other.artifacts_new;
        self.artifact_bytes = self.artifact_bytes.saturating_add(other.artifact_bytes);
        self.artifacts_repeated += other.artifacts_repeated;
        self.milliseconds = self.milliseconds.saturating_add(other.milliseconds);
        self.guest_memory_peak_bytes = self.guest_memory_peak_bytes.max(other.guest_memory_peak_bytes);
    }
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
mod tests {
    use super::*;
    use crate::contract::types::{Failure, FailureReason, RetryAdvice, StreamReport, StreamState};
    use crate::instances::tests::descriptor;

    fn version() -> Version {
        Version { version: "1.0.0".into(), digest: "d".into() }
    }

    fn cycle(fetched: u64, state: StreamState) -> Cycle {
        let mut cycle = Cycle::new();
        cycle.described = descriptor().streams.into_iter().map(|stream| stream.name).collect();
        cycle.end = End::Complete;
        cycle.new = fetched;
        cycle.steps = 1;
        let reports = [
            StreamReport { stream: "events".into(), fetched, state: StreamState::Ok },
            StreamReport { stream: "alerts".into(), fetched: 0, state },
        ];
        cycle.add_reports(&descriptor().streams, &reports);
        cycle
    }

    fn forbidden() -> Failure {
        Failure {
            reason: FailureReason::Forbidden,
            message: "no".into(),
            remedy: "Ask.".into(),
            http_status: Some(403),
            correlation_id: None,
            request_sent: true,
            retry: RetryAdvice::AfterChange,
        }
    }

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(seconds).expect("time")
    }

    #[test]
    fn an_instance_is_behind_from_the_first_poll_that_leaves_something_to_the_first_that_does_not() {
        let mut past = Past::default();
        let mut poll = |end, seconds| {
            let cycle = Cycle { end, ..cycle(1, StreamState::Ok) };
            past.polled(&cycle, version(), at(seconds));
            past.behind_since
        };
        assert_eq!(poll(End::Complete, 1), None);
        assert_eq!(poll(End::Deferred, 2), Some(at(2)));
        assert_eq!(poll(End::StepLimit, 3), Some(at(2)));
        assert_eq!(poll(End::Failed, 4), Some(at(2)), "nobody knows");
        assert_eq!(poll(End::Complete, 5), None);
    }

    #[test]
    fn polls_add_up_and_the_last_one_decides_the_state() {
        let mut past = Past::default();
        assert_eq!(past.polled(&cycle(3, StreamState::Ok), version(), at(10)), Some(State::Ok));
        let degraded = cycle(2, StreamState::Degraded(forbidden()));
        assert_eq!(past.polled(&degraded, version(), at(20)), Some(State::Degraded));
        assert_eq!(past.polled(&degraded, version(), at(30)), Some(State::Degraded));
        assert_eq!((past.last_success, past.failing_since, past.last_poll), (Some(at(10)), Some(at(20)), Some(at(30))));
        assert_eq!(past.failure.as_ref().and_then(|failure| failure.http_status), Some(403));
        assert_eq!((past.streams[0].last, past.streams[0].total, past.streams[1].state.as_ref()), (2, 7, "degraded"));
        assert_eq!((past.failures["forbidden"], past.polls["degraded"], past.polls["ok"]), (2, 2, 1));
        assert_eq!((past.total.steps, past.total.artifacts_new), (3, 7));

        assert_eq!(past.polled(&cycle(0, StreamState::Ok), version(), at(40)), Some(State::Ok));
        assert_eq!((past.failure.clone(), past.failing_since), (None, None), "green again at the next good poll");
        let last = past.last_failure.expect("what was wrong is still told");
        assert_eq!((last.at, last.failure.http_status, last.failure.remedy.as_str()), (at(30), Some(403), "Ask."));
    }

    #[test]
    fn a_stream_that_is_not_offered_is_shown_and_is_no_failure() {
        let mut past = Past::default();
        let state = past.polled(&cycle(1, StreamState::Unavailable(forbidden())), version(), at(10));
        assert_eq!((state, past.failure.clone()), (Some(State::Ok), None));
        assert!(past.failures.is_empty());
        assert_eq!(past.streams[1].failure.as_ref().map(|failure| failure.remedy.as_str()), Some("Ask."));
    }

    #[test]
    fn what_a_day_came_to_and_when_something_was_new_is_known() {
        let mut past = Past::default();
        past.polled(&Cycle { bytes: 900, ..cycle(3, StreamState::Ok) }, version(), at(10));
        past.polled(&cycle(0, StreamState::Ok), version(), at(20));
        past.not_begun(FailureReport::new("secret-unset", "no", "Set it."), at(30));
        let days: Vec<_> = past.days.iter().map(|day| (day.polls, day.artifacts_new, day.artifact_bytes)).collect();
        assert_eq!((past.last_new, days), (Some(at(10)), vec![(3, 3, 900)]));
        past.polled(&cycle(1, StreamState::Ok), version(), at(86_400));
        let days: Vec<_> = past.days.iter().map(|day| (day.polls, day.artifacts_new)).collect();
        assert_eq!((past.last_new, days), (Some(at(86_400)), vec![(1, 1), (3, 3)]));
    }

    #[test]
    fn an_interrupted_poll_changes_no_state() {
        let mut past = Past::default();
        past.polled(&cycle(1, StreamState::Degraded(forbidden())), version(), at(10));
        let mut interrupted = cycle(1, StreamState::Ok);
        interrupted.end = End::Interrupted;
        assert_eq!(past.polled(&interrupted, version(), at(20)), None);
        assert!(past.failure.is_some());
        assert_eq!(past.last_outcome.as_deref(), Some("interrupted"));
    }

    #[test]
    fn what_is_remembered_can_be_read_again_and_by_older_and_newer_programs() {
        let mut past = Past::default();
        past.not_begun(FailureReport::new("secret-unset", "no", "Set it."), at(10));
        let text = serde_json::to_string(&past).expect("JSON");
        let again: Past = serde_json::from_str(&text).expect("read");
        assert_eq!(again.failure, past.failure);
        let other: Past = serde_json::from_str(r#"{"polls":{"ok":3},"something_new":1}"#).expect("read");
        assert_eq!(other.polls["ok"], 3);
    }

    #[test]
    fn a_stream_that_was_not_asked_has_nothing_of_the_last_poll() {
        let mut past = Past::default();
        past.polled(&cycle(3, StreamState::Ok), version(), at(10));
        let mut empty = Cycle::new();
        empty.described = cycle(0, StreamState::Ok).described;
        empty.end = End::Failed;
        past.polled(&empty, version(), at(20));
        assert_eq!((past.streams[0].last, past.streams[0].total), (0, 3));
    }

    #[test]
    fn a_stream_that_the_version_does_not_describe_any_more_is_shown_no_more() {
        let mut past = Past::default();
        past.polled(&cycle(3, StreamState::Degraded(forbidden())), version(), at(10));
        let mut other = cycle(1, StreamState::Ok);
        other.described.retain(|name| name != "alerts");
        other.streams.retain(|stream| stream.name != "alerts");
        past.polled(&other, version(), at(20));
        assert_eq!(past.streams.iter().map(|stream| stream.name.as_str()).collect::<Vec<_>>(), ["events"]);
    }
}
