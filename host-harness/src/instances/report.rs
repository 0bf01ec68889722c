//! What a cycle came to: the numbers, the status as the Conductor shows it,
//! and the log lines operators are told to look for.

use std::time::Duration;

use serde::Serialize;

use super::failure::FailureReport;
use crate::contract::types::{DataStream, StreamReport, StreamState};
use crate::sandbox::Usage;
use crate::store::Committed;

/// Status of an instance after a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Every stream was collected or is knowingly unavailable.
    Ok,
    /// Something failed, something was collected.
    Degraded,
    /// Nothing could be collected.
    Failed,
}

impl Status {
    /// The word of the status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
        }
    }
}

/// How a cycle ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The connector said that there is no more.
    Complete,
    /// The limit of steps was reached; more is waiting.
    StepLimit,
    /// The failure of a stream ended it: going on now would not help.
    Postponed,
    /// The vendor asked for a wait that is left to the caller; more is waiting.
    Deferred,
    /// A failure ended it; see [`Cycle::failure`].
    Failed,
    /// It was told to stop.
    Interrupted,
}

/// State of one stream after a cycle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Collected.
    Ok,
    /// Not collected wholly; the rest comes later.
    Degraded(FailureReport),
    /// Not offered to this key or tenant.
    Unavailable(FailureReport),
}

/// One stream over a whole cycle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamOutcome {
    /// Its name.
    pub name: String,
    /// Plural noun of its log line.
    pub noun: String,
    /// Whether it has a log line.
    pub announced: bool,
    /// Records found new or changed, all steps together.
    pub fetched: u64,
    /// The last state reported.
    pub state: State,
}

/// What a sink took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Artifacts, those of earlier cycles included.
    pub count: u64,
    /// Why not all of them, if so.
    pub failure: Option<FailureReport>,
}

/// Everything about one cycle.
#[derive(Clone, Debug)]
pub struct Cycle {
    /// Steps committed.
    pub steps: u32,
    /// Artifacts stored by it.
    pub new: u64,
    /// Bytes of these, as `most_megabytes_per_day` counts them.
    pub bytes: u64,
    /// Artifacts it brought that were stored before.
    pub repeated: u64,
    /// Streams that were reported on, in the order of the descriptor.
    pub streams: Vec<StreamOutcome>,
    /// Names of all streams that the connector describes.
    pub described: Vec<String>,
    /// What ended the cycle early, if something did.
    pub failure: Option<FailureReport>,
    /// What a sink took of it and of what waited before, if one was there.
    pub delivered: Option<Delivered>,
    /// The connector's last hint for the operator.
    pub hint: Option<String>,
    /// How long the vendor asked not to be called when it ended, unless that
    /// was waited for.
    pub retry_after: Option<Duration>,
    /// How it ended.
    pub end: End,
    /// What all its steps used; the peak is the highest of them.
    pub usage: Usage,
    /// How long it took, waiting included.
    pub elapsed: Duration,
}

impl Cycle {
    /// A cycle in which nothing has happened yet.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "a cycle is never left as it begins")]
    pub fn new() -> Self {
        Self {
            steps: 0,
            new: 0,
            bytes: 0,
            repeated: 0,
            streams: Vec::new(),
            described: Vec::new(),
            failure: None,
            delivered: None,
            hint: None,
            retry_after: None,
            end: End::Failed,
            usage: Usage::default(),
            elapsed: Duration::ZERO,
        }
    }

    /// The status that the cycle leaves the instance in.
    #[must_use]
    pub fn status(&self) -> Status {
        let degraded = |stream: &StreamOutcome| matches!(stream.state, State::Degraded(_));
        let nothing = self.new == 0 && self.streams.iter().all(|stream| stream.fetched == 0);
        let all_degraded = !self.streams.is_empty() && self.streams.iter().all(degraded);
        if nothing && (all_degraded || self.failure.is_some()) {
            Status::Failed
        } else if self.failure.is_some() || self.delivery_failure().is_some() || self.streams.iter().any(degraded) {
            Status::Degraded
        } else {
            Status::Ok
        }
    }

    /// The word for people: the status, or that it was interrupted.
    #[must_use]
    pub fn outcome(&self) -> &'static str {
        if self.end == End::Interrupted { "interrupted" } else { self.status().as_str() }
    }

    /// The failure to show first: what ended the cycle, else what a stream
    /// has, else what kept artifacts from being delivered.
    #[must_use]
    pub fn first_failure(&self) -> Option<&FailureReport> {
        self.failures().next()
    }

    /// All that is wrong, in that order.
    pub fn failures(&self) -> impl Iterator<Item = &FailureReport> {
        let of_streams = self.streams.iter().filter_map(|stream| match &stream.state {
            State::Degraded(failure) => Some(failure),
            State::Ok | State::Unavailable(_) => None,
        });
        self.failure.iter().chain(of_streams).chain(self.delivery_failure())
    }

    /// Why artifacts were stored but not delivered, if so.
    #[must_use]
    pub fn delivery_failure(&self) -> Option<&FailureReport> {
        self.delivered.as_ref()?.failure.as_ref()
    }

    /// Adds what a committed step stored.
    pub(super) fn add_step(&mut self, committed: Committed) {
        self.steps += 1;
        self.new += committed.new;
        self.bytes = self.bytes.saturating_add(committed.bytes);
        self.repeated += committed.repeated;
    }

    /// Adds what a step used.
    pub(super) fn add_usage(&mut self, usage: &Usage) {
        let sum = &mut self.usage;
        sum.requests += usage.requests;
        sum.bytes_received += usage.bytes_received;
        sum.wall += usage.wall;
        sum.guest_cpu = match (sum.guest_cpu, usage.guest_cpu) {
            (Some(a), Some(b)) => Some(a + b),
            (one, other) => one.or(other),
        };
        sum.instructions = match (sum.instructions, usage.instructions) {
            (Some(a), Some(b)) => Some(a.saturating_add(b)),
            (one, other) => one.or(other),
        };
        sum.guest_peak_bytes = sum.guest_peak_bytes.max(usage.guest_peak_bytes);
        sum.egress_denied += usage.egress_denied;
    }

    /// Adds a step's reports: counts add up, the last state counts.
    pub(crate) fn add_reports(&mut self, described: &[DataStream], reports: &[StreamReport]) {
        for report in reports {
            let state = match &report.state {
                StreamState::Ok => State::Ok,
                StreamState::Degraded(failure) => State::Degraded(failure.into()),
                StreamState::Unavailable(failure) => State::Unavailable(failure.into()),
            };
            if let Some(known) = self.streams.iter_mut().find(|known| known.name == report.stream) {
                known.fetched = known.fetched.saturating_add(report.fetched);
                known.state = state;
                continue;
            }
            let described = described.iter().find(|stream| stream.name == report.stream);
            self.streams.push(StreamOutcome {
                name: report.stream.clone(),
                noun: described.map_or_else(|| report.stream.clone(), |stream| stream.noun.clone()),
                announced: described.is_some_and(|stream| stream.announced),
                fetched: report.fetched,
                state,
            });
        }
        let place = |name: &str| described.iter().position(|stream| stream.name == name);
        self.streams.sort_by_key(|stream| place(&stream.name).unwrap_or(usize::MAX));
    }

    /// Writes the log lines of the cycle: the count of every announced stream
    /// that was reported on and of every other that had something, what failed, what is unavailable, a summary.
    /// `told` says of which streams it was told before that they are unavailable: they are for as long as the tenant is as
    /// it is, and who polls every five minutes would say so every five minutes.
    pub fn log(&self, connector: &str, instance: &str, told: impl Fn(&str) -> bool) {
        for stream in &self.streams {
            if stream.announced || stream.fetched > 0 {
                tracing::info!(connector, instance, "fetched {} {}", stream.fetched, stream.noun);
            }
        }
        for stream in &self.streams {
            match &stream.state {
                State::Ok => {}
                State::Degraded(failure) => {
                    tracing::error!(connector, instance, "{} failed: {}", stream.name, failure.sentence());
                }
                State::Unavailable(_) if told(&stream.name) => {}
                State::Unavailable(failure) => {
                    tracing::warn!(connector, instance, "{} unavailable: {}", stream.name, failure.sentence());
                }
            }
        }
        if let Some(failure) = &self.failure {
            tracing::error!(connector, instance, "poll failed: {}", failure.sentence());
        }
        if let Some(failure) = self.delivery_failure() {
            tracing::error!(connector, instance, "delivery failed: {}", failure.sentence());
        }
        match self.end {
            End::Interrupted => {
                tracing::warn!(
                    connector,
                    instance,
                    "poll interrupted: what was stored stays, the next poll goes on from there"
                );
            }
            End::StepLimit => {
                tracing::info!(
                    connector,
                    instance,
                    "instance {instance:?}: poll stopped after {}: more is waiting, the next poll goes on from there",
                    counted(u64::from(self.steps), "step")
                );
            }
            End::Deferred => {
                let seconds = self.retry_after.unwrap_or_default().as_secs();
                tracing::info!(
                    connector,
                    instance,
                    "instance {instance:?}: the vendor asks not to be called for {seconds} s: more is waiting, the next poll goes on from there"
                );
            }
            End::Complete | End::Postponed | End::Failed => {}
        }
        if let Some(hint) = &self.hint {
            tracing::info!(connector, instance, "instance {instance:?}: {hint}");
        }
        let delivered = self.delivered.as_ref().map(|sink| format!(", {} delivered", sink.count)).unwrap_or_default();
        tracing::info!(
            connector,
            instance,
            "instance {instance:?} {}: {} new and {} repeated artifacts{delivered}, {} in {}, {} ms",
            self.outcome(),
            self.new,
            self.repeated,
            counted(u64::from(self.usage.requests), "request"),
            counted(u64::from(self.steps), "step"),
            self.elapsed.as_millis()
        );
    }
}

/// `1 step`, `2 steps`.
#[must_use]
pub fn counted(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
