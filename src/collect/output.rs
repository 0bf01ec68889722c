//! What a step yields: artifacts, reports, and how it ended.

use super::access::{Refused, refused};
use super::alerts::failures;
use super::checkpoint::Phase;
use super::evidence;
use super::memory::OWED;
use super::presence;
use super::{HEEDLESS_AFTER, Step, WENT_ON};
use crate::api::client::{Stop, is_local};
use crate::api::errors;
use crate::api::transport::{Clock, Transport};
use crate::contract::{Artifact, Batch, Failure, FailureReason, RetryAdvice, StreamReport, StreamState};
use crate::descriptor::{ALERTS, COMMENTS, EVIDENCE, INVESTIGATIONS, PRODUCT_ALERTS, RESTRICTED, UNINVESTIGATED};
use crate::settings::Settings;
use crate::times::Utc;

/// Seconds since its beginning after which another cycle may follow one at once. One that takes as long as a short overlap
/// has not been left unfinished.
const STALE: i64 = 20 * 60;
/// Rate limits in a row after which a longer interval is advised.
const HINT_AFTER: u32 = 3;
const LIMITED: &str =
    "InsightIDR limits the rate of requests again and again: increase the Polling Interval to 15 minutes.";
const ANOTHER_ORGANIZATION: &str = "The API key is that of another InsightIDR organization than before: everything of it \
    is collected from the Initial look-back on. If that is not meant, put the former key back.";

/// The growing result of a step.
#[derive(Debug, Default)]
pub struct Output {
    /// The artifacts so far.
    pub artifacts: Vec<Artifact>,
    /// Their bytes.
    pub bytes: u64,
    /// Records found new or changed, by stream.
    fetched: Vec<(&'static str, u64)>,
    /// The first failure of each stream.
    failures: Vec<(&'static str, Failure)>,
    /// Whether anything was learned that is worth committing.
    pub progress: bool,
}

impl Output {
    /// Adds an artifact.
    pub fn push(&mut self, artifact: Artifact) {
        self.progress = true;
        self.bytes = self.bytes.saturating_add(u64::try_from(artifact.json.len()).unwrap_or(u64::MAX));
        self.artifacts.push(artifact);
    }

    /// The artifacts, each id once: a record that the vendor shows in two places of one step is the same one, and a host
    /// refuses a batch that holds an id twice.
    fn distinct(artifacts: Vec<Artifact>) -> Vec<Artifact> {
        let mut ids: Vec<(&str, usize)> = artifacts.iter().enumerate().map(|(at, one)| (one.id.as_str(), at)).collect();
        ids.sort_unstable();
        let pairs = ids.iter().zip(ids.iter().skip(1));
        let again: Vec<usize> = pairs.filter(|(one, next)| one.0 == next.0).map(|(_, next)| next.1).collect();
        if again.is_empty() {
            return artifacts;
        }
        artifacts.into_iter().enumerate().filter(|(at, _)| !again.contains(at)).map(|(_, artifact)| artifact).collect()
    }

    /// Counts records found new or changed.
    pub fn count(&mut self, stream: &'static str, records: usize) {
        let records = u64::try_from(records).unwrap_or(u64::MAX);
        match self.fetched.iter_mut().find(|(name, _)| *name == stream) {
            Some((_, count)) => *count = count.saturating_add(records),
            None => self.fetched.push((stream, records)),
        }
    }

    /// Notes that a stream is not collected whole. When to try again is said with that of investigations only: a host heeds
    /// it for the whole instance, and they do not wait for anything else.
    pub fn degrade(&mut self, stream: &'static str, failure: Failure) {
        if !self.failures.iter().any(|(name, _)| *name == stream) {
            let retry = if stream == INVESTIGATIONS { failure.retry } else { RetryAdvice::BackOff };
            self.failures.push((stream, Failure { retry, ..failure }));
        }
    }
}

impl<T: Transport, C: Clock> Step<'_, T, C> {
    /// Ends the step.
    ///
    /// # Errors
    ///
    /// The failure, when there is nothing to commit.
    pub(super) fn finish(mut self, outcome: Result<(), Stop>) -> Result<Batch, Failure> {
        let began = self.cycle_began();
        // No list at all could be read: whatever else was learned can be learned again.
        if let (Some(Stop::Failed(failure)), Err(Stop::Failed(_))) = (self.unlisted.take(), &outcome)
            && !self.listed
            && self.output.artifacts.is_empty()
        {
            return Err(*failure);
        }
        // A step that got nothing done where the one before had ended: the next would do no more, and all else would
        // wait for that. So the cycle goes on behind it.
        let is_stuck =
            !self.output.progress && self.state.cycle.as_ref().is_some_and(|cycle| cycle.phase != Phase::New);
        let (mut goes_on, mut went_on) = (false, false);
        let (more, retry_after_seconds) = match outcome {
            Ok(()) => {
                self.state.rate_limited = 0;
                // A cycle that was left unfinished long ago, by a crash or an
                // outage, says nothing about what has come since: another one
                // follows at once.
                let overlap = self.settings.overlap_minutes.saturating_mul(60);
                let now = self.client.by_both_clocks(self.client.now());
                let is_stale = now.seconds_since(self.cycle_began()) >= overlap.max(STALE);
                self.state.cycle = None;
                (is_stale, None)
            }
            Err(Stop::Spent) if self.output.progress => {
                // What was found to be junk is so until the cycle ends, and so is that the vendor limits the rate without a
                // word: a step that took on less because of it would be followed by one that takes on too much again.
                if self.state.rate_limited < HEEDLESS_AFTER && self.client.is_told_allowance() {
                    self.state.rate_limited = 0;
                }
                went_on = true;
                (true, None)
            }
            Err(Stop::Spent) if is_stuck => {
                self.output.degrade(INVESTIGATIONS, exhausted());
                (self.skip_part(), None)
            }
            Err(Stop::Spent) => return Err(exhausted()),
            Err(Stop::Allowance(wait)) => {
                let in_vain = !self.output.progress;
                self.state.rate_limited = if in_vain { self.state.rate_limited.saturating_add(1) } else { 0 };
                (true, Some(wait))
            }
            Err(Stop::Failed(failure)) if !(self.output.progress || is_stuck && is_local(&failure)) => {
                return Err(*failure);
            }
            Err(Stop::Failed(failure)) => {
                let wait = match (failure.reason, failure.retry) {
                    (FailureReason::RateLimited, RetryAdvice::AfterSeconds(wait)) => Some(wait),
                    _ => None,
                };
                if failure.reason == FailureReason::RateLimited {
                    self.state.rate_limited = self.state.rate_limited.saturating_add(1);
                }
                // Nothing is wrong with what is listed: beginning anew would end here again.
                goes_on = failure.reason == FailureReason::RateLimited
                    || self.output.progress && matches!(failure.retry, RetryAdvice::AfterSeconds(_));
                let failed = *failure;
                self.output.degrade(INVESTIGATIONS, failed.clone());
                if self.settings.collect_alerts {
                    self.output.degrade(ALERTS, failed.clone());
                }
                let goes_behind = is_stuck && is_local(&failed) && self.skip_part();
                (wait.is_some() || goes_behind, wait)
            }
        };
        if !(more || goes_on) {
            self.state.cycle = None;
        }
        let is_limited = self.state.rate_limited >= HINT_AFTER;
        let first = self.first_collection(more);
        let trouble = if self.moved { Some(ANOTHER_ORGANIZATION) } else { is_limited.then_some(LIMITED) };
        let hints: Vec<&str> = trouble.into_iter().chain(first.as_deref()).collect();
        let hint = (!hints.is_empty()).then(|| hints.join(" "));
        if went_on && self.state.rate_limited > 0 {
            self.state.rate_limited |= WENT_ON;
        }
        let waiting = self.waiting();
        if waiting == 0 {
            self.state.since_7.status = 0;
        }
        let reports = self.reports(began, waiting);
        Ok(Batch {
            checkpoint: self.state.encode()?,
            artifacts: Output::distinct(self.output.artifacts),
            more,
            reports,
            retry_after_seconds,
            hint,
        })
    }

    /// Goes on to the part of the cycle behind the present one. Tells whether there is one.
    fn skip_part(&mut self) -> bool {
        match self.state.cycle.as_ref().map(|cycle| &cycle.phase) {
            Some(Phase::New) => self.enter(Phase::Gained(0)),
            Some(Phase::Gained(_)) => self.enter(Phase::Outside(None)),
            Some(Phase::Outside(_)) => self.enter(Phase::Owed(None)),
            Some(Phase::Owed(_)) => self.start_relisting(),
            Some(Phase::Known(..) | Phase::Around(..)) => self.enter(Phase::Left(None)),
            Some(Phase::Left(_)) | None => return false,
        }
        true
    }

    /// How many investigations wait for alerts that could not be collected.
    fn waiting(&self) -> usize {
        if !self.settings.collect_alerts {
            return 0;
        }
        self.state.known.scan(None, OWED).filter(|(_, known)| failures(known.owed) > 0).count()
    }

    /// One report for each stream that is switched on, of a step of a cycle that began then and leaves so many investigations
    /// waiting for alerts.
    fn reports(&self, began: Utc, waiting: usize) -> Vec<StreamReport> {
        streams(self.settings)
            .into_iter()
            .map(|stream| StreamReport {
                stream: stream.to_owned(),
                fetched: self.output.fetched.iter().find(|(name, _)| *name == stream).map_or(0, |(_, count)| *count),
                state: self.state_of(stream, began, waiting),
            })
            .collect()
    }

    /// The state of a stream at the end of the step.
    fn state_of(&self, stream: &str, began: Utc, waiting: usize) -> StreamState {
        let missing = match stream {
            EVIDENCE | UNINVESTIGATED => self.triage_is_missing(),
            _ => self.unavailable_extra(stream),
        };
        let is_refused = stream == EVIDENCE && self.is_refused_since(Refused::Evidence, began);
        let missing = missing.or_else(|| is_refused.then(|| refused(evidence::EVIDENCE_NAME, presence::REMEDY)));
        if let Some(failure) = missing {
            return StreamState::Unavailable(failure);
        }
        if let Some((_, failure)) = self.output.failures.iter().find(|(name, _)| *name == stream) {
            return StreamState::Degraded(failure.clone());
        }
        if stream == ALERTS && waiting > 0 {
            return StreamState::Degraded(errors::waiting(waiting, self.state.since_7.status));
        }
        StreamState::Ok
    }
}

/// The streams that are switched on.
pub(super) fn streams(settings: &Settings) -> Vec<&'static str> {
    [
        (true, INVESTIGATIONS),
        (settings.collect_alerts, ALERTS),
        (settings.collect_evidence, EVIDENCE),
        (settings.collect_uninvestigated, UNINVESTIGATED),
        (settings.collect_product_alerts, PRODUCT_ALERTS),
        (settings.collect_comments, COMMENTS),
        (settings.collect_restricted, RESTRICTED),
    ]
    .into_iter()
    .filter_map(|(on, stream)| on.then_some(stream))
    .collect()
}

/// The budget let nothing be done.
fn exhausted() -> Failure {
    errors::plain(
        FailureReason::BudgetExhausted,
        "the budget of the step was used up before anything could be collected".to_owned(),
        "Give a step more requests (10 are enough for any) or more time.",
        RetryAdvice::BackOff,
    )
}
