//! One request: within the budget, within the vendor's allowance, repeated
//! where repeating is safe, and its answer turned into data or a failure.
//!
//! Three things end a step early and are told apart by [`Stop`]: a failure, a
//! budget that is used up, and an allowance that is nearly used up. A failure
//! that concerns every request (401, 429, an outage) halts the client, so that
//! a fan-out of a hundred requests does not run into it a hundred times.
//!
//! Every request has what is left of the step to be answered in. One that is
//! still under way then is given up: a host ends a step that goes on for longer,
//! and all that it has learned is lost.
//!
//! Not guaranteed: requests that are under way when the client halts still
//! finish; what they bring is used.

mod judging;

use std::cell::Cell;
use std::time::Duration;

use serde_json::value::RawValue;

use super::calls;
use super::errors;
use super::families::{Allowance, Api, Family, Limit, RESERVE, SINGLE, endpoint};
use super::rate;
use super::records::Members;
use super::transport::{Clock, Request, Response, Transport, TransportErrorKind};
use crate::contract::{Budget, Failure, FailureReason, RetryAdvice};
use crate::region::Region;
use crate::times::Utc;

/// Tries of one request, the first included.
const TRIES: u32 = 3;
/// Wait before the second try; doubled for the third.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// Requests that fail one after the other, each with all its tries, before an
/// outage is taken for granted.
const STRIKES: u32 = 3;
/// Wait when the allowance is used up and the vendor does not say for how long.
const UNKNOWN_RESET: u64 = 60;
/// Seconds for which nothing waits that can do without the API whose allowance is used up for so long.
const LONGEST_WAIT: u64 = 300;

/// Why a request was not answered with data.
#[derive(Debug, Clone, PartialEq)]
pub enum Stop {
    /// It failed. Boxed: this is the rare case of every result.
    Failed(Box<Failure>),
    /// The step's requests or its time are used up. Nothing is wrong.
    Spent,
    /// The vendor's allowance is nearly used up; seconds until it is renewed.
    Allowance(u64),
}

impl Stop {
    /// Whether this concerns one request only, so that others may go on.
    #[must_use]
    pub fn is_local(&self) -> bool {
        match self {
            Self::Failed(failure) => is_local(failure),
            Self::Spent | Self::Allowance(_) => false,
        }
    }

    /// Of two reasons to stop the one that says more: what failed before what is
    /// used up, and the vendor's allowance, which says when to go on, before the
    /// step's own budget. The first of two alike.
    #[must_use]
    pub fn or_stronger(stop: Option<Self>, other: Self) -> Option<Self> {
        let rank = |stop: &Self| match stop {
            Self::Failed(_) => 2,
            Self::Allowance(_) => 1,
            Self::Spent => 0,
        };
        match stop {
            Some(stop) if rank(&stop) >= rank(&other) => Some(stop),
            _ => Some(other),
        }
    }
}

/// Whether a failure concerns one request only.
#[must_use]
pub const fn is_local(failure: &Failure) -> bool {
    !matches!(failure.reason, FailureReason::Unauthorized | FailureReason::RateLimited)
}

/// Sends requests for one step.
pub struct Client<'a, T, C> {
    transport: &'a T,
    clock: &'a C,
    region: Region,
    requests: u32,
    requests_left: Cell<u32>,
    started: Duration,
    wall_time: Duration,
    /// Requests that are made at the same time.
    concurrency: usize,
    /// How long answers have taken, of late and about.
    latency: Cell<Duration>,
    heeds_allowance: bool,
    /// Whether some time has passed since the step before: this one begins a cycle, or a limit has ended that.
    has_waited: bool,
    /// Whether the step has got anything done.
    progress: Cell<bool>,
    heard: Cell<bool>,
    /// Seconds by which the host's clock is ahead of the vendor's, as last heard; less than none where it is behind.
    ahead: Cell<i64>,
    /// Whether the key was found to be good after something was refused to it.
    is_valid: Cell<bool>,
    /// By [`Family`].
    apis: [Api; 7],
    v2: Limit,
    v1: Limit,
    triage: Limit,
}

impl<'a, T: Transport, C: Clock> Client<'a, T, C> {
    /// A client for one step within `budget`. A fifth of the step's time is
    /// kept for the requests under way when it ends.
    pub fn new(transport: &'a T, clock: &'a C, region: Region, budget: &Budget) -> Self {
        Self {
            transport,
            clock,
            region,
            requests: budget.requests,
            requests_left: Cell::new(budget.requests),
            started: clock.elapsed(),
            wall_time: Duration::from_millis(budget.wall_time_milliseconds),
            concurrency: 1,
            latency: Cell::default(),
            heeds_allowance: true,
            has_waited: false,
            progress: Cell::new(false),
            heard: Cell::new(false),
            ahead: Cell::new(0),
            is_valid: Cell::new(false),
            apis: Default::default(),
            v2: Limit::default(),
            v1: Limit::default(),
            triage: Limit::default(),
        }
    }

    /// Notes whether the step has got anything done.
    pub fn note(&self, progress: bool) {
        self.progress.set(progress);
    }

    /// How long a step takes on anything: the rest is kept for the requests under way.
    fn time(&self) -> Duration {
        self.wall_time / 5 * 4
    }

    /// How long the step has gone on.
    fn elapsed(&self) -> Duration {
        self.clock.elapsed().saturating_sub(self.started)
    }

    /// All allowances.
    const fn limits(&self) -> [&Limit; 3] {
        [&self.v2, &self.v1, &self.triage]
    }

    /// The same client, which goes on whatever the vendor says is left of its
    /// allowance, until it refuses a request: for when what it says lets nothing
    /// be done.
    #[must_use]
    pub fn heedless(self, heedless: bool) -> Self {
        Self { heeds_allowance: !heedless, ..self }
    }

    /// The same client, in a step before which some time has passed or not.
    #[must_use]
    pub fn waited(self, has_waited: bool) -> Self {
        Self { has_waited, ..self }
    }

    /// The same client, of which so many requests are made at the same time.
    #[must_use]
    pub fn making(self, concurrency: usize) -> Self {
        Self { concurrency, ..self }
    }

    /// The region requests go to.
    pub const fn region(&self) -> Region {
        self.region
    }

    /// The present time: that of the vendor where its answers show that the host's clock is wrong. What is created
    /// is given times by the vendor, and what has been listed up to a time that is still to come has not been listed.
    pub fn now(&self) -> Utc {
        self.clock.now().plus_seconds(self.ahead.get().saturating_neg())
    }

    /// Whether the vendor's answers show that the host's clock is behind.
    pub fn is_behind(&self) -> bool {
        self.ahead.get() < 0
    }

    /// A time up to which something was listed, as it is noted: not later than either clock shows. It may be the date of
    /// answers that is wrong.
    pub fn by_both_clocks(&self, done: Utc) -> Utc {
        done.min(self.clock.now())
    }

    /// Whether the step should take on nothing more: less than `requests` are
    /// left, or no time.
    pub fn is_spent(&self, requests: u32) -> bool {
        self.requests_left.get() < requests || self.elapsed() >= self.time()
    }

    /// Whether the vendor answers any list at all, and soon, which is asked when it does not answer one of them.
    ///
    /// # Errors
    ///
    /// There is no time to ask.
    pub async fn is_alive(&self) -> Result<bool, Stop> {
        if self.is_spent(1) {
            return Err(Stop::Spent);
        }
        Ok(self.once(&calls::any_investigation(self.now()), self.wall_time / 6).await.is_ok())
    }

    /// Requests that may still be made: what is left to the step, in requests or in time for answers that take as long as
    /// they have so far, or of the vendor's allowance as last heard, whichever is less.
    pub fn requests_left(&self) -> usize {
        let time = self.time().saturating_sub(self.elapsed());
        let rounds = time.as_millis().checked_div(self.latency.get().as_millis());
        let in_time = rounds.and_then(|rounds| usize::try_from(rounds).ok()?.checked_mul(self.concurrency));
        let allowed = self
            .limits()
            .into_iter()
            .filter_map(|limit| limit.allowance.get().remaining)
            .map(|remaining| remaining.saturating_sub(RESERVE))
            .chain([u64::from(self.requests_left.get())])
            .min();
        let allowed = allowed.and_then(|allowed| usize::try_from(allowed).ok());
        allowed.into_iter().chain(in_time).min().unwrap_or(usize::MAX)
    }

    /// Whether the vendor has said what is left of its allowance.
    pub fn is_told_allowance(&self) -> bool {
        self.limits().into_iter().any(|limit| limit.allowance.get().remaining.is_some())
    }

    /// Requests that any step like this one may make: its budget, or the most that the vendor has said to allow,
    /// whichever is less. What one record takes has to fit into it.
    pub fn requests_of_a_step(&self) -> u64 {
        let said = self.limits().into_iter().filter_map(|limit| limit.most.get());
        let allowed = said.map(|most| most.saturating_sub(RESERVE));
        allowed.chain([u64::from(self.requests)]).min().unwrap_or(u64::MAX)
    }

    /// Whether no more lists of investigations are asked for in this step.
    pub fn is_halted(&self) -> bool {
        self.api(Family::Lists).is_halted()
    }

    /// Whether no more requests are sent to the Alert Triage API in this step.
    pub fn is_triage_halted(&self) -> bool {
        self.api(Family::Triage).is_halted()
    }

    /// Whether no more single alerts are read from the Alert Triage API in this step.
    pub fn ends_reads_of_alerts(&self) -> bool {
        self.api(Family::Triage).halted(SINGLE).is_some()
    }

    /// Counts the failures of lists so far as one: the next is asked for to go around what has failed.
    pub fn forgive_lists(&self) {
        self.forgive(Family::Lists);
    }

    /// The same of the Alert Triage API.
    pub fn forgive_triage(&self) {
        self.forgive(Family::Triage);
    }

    fn forgive(&self, family: Family) {
        let strikes = &self.api(family).strikes;
        strikes.set(strikes.get().min(1));
    }

    /// Whether the vendor has answered in this step, and so has said what is left
    /// of its allowance if it says that at all.
    pub fn has_heard(&self) -> bool {
        self.heard.get()
    }

    /// Sends a request and gives its response with status 200.
    ///
    /// # Errors
    ///
    /// [`Stop`], as said there.
    pub async fn send(&self, request: &Request) -> Result<Response, Stop> {
        let (mut wait, mut tries) = (FIRST_WAIT, 1);
        let mut failed = None;
        let began = self.elapsed();
        let outcome = loop {
            match self.once(request, Duration::MAX).await {
                Err(Stop::Failed(failure))
                    if tries < TRIES
                        && self.may_repeat(request, &failure)
                        // What fails slowly would use up the step.
                        && self.elapsed().saturating_sub(began) < self.wall_time / 6 =>
                {
                    failed = Some(failure);
                    self.clock.sleep(wait).await;
                    wait = wait.saturating_mul(2);
                    tries += 1;
                }
                outcome => break outcome,
            }
        };
        let outcome = match (outcome, failed) {
            // There was no time to repeat it: that is no reason to forget that it has failed.
            (Err(Stop::Spent), Some(failure)) => Err(Stop::Failed(failure)),
            (Err(Stop::Failed(failure)), _) if Family::of(&request.target) != Family::Lists => {
                self.judged(request, failure).await
            }
            (outcome, _) => outcome,
        };
        self.settle(request, outcome, self.elapsed().saturating_sub(began))
    }

    /// Reads a single record and makes sure that it is the one asked for.
    ///
    /// # Errors
    ///
    /// [`Stop`], as said there.
    pub async fn record(&self, request: &Request, rrn: &str) -> Result<Box<RawValue>, Stop> {
        let response = self.send(request).await?;
        let malformed = |why: &str| self.malformed(request, &response, why);
        let raw: Box<RawValue> =
            serde_json::from_slice(&response.body).map_err(|error| malformed(&format!("not JSON: {error}")))?;
        if Members::of(&raw).text("rrn").as_deref() == Some(rrn) {
            Ok(raw)
        } else {
            Err(malformed("another record than the one asked for"))
        }
    }

    /// A response that is not what the API promises.
    pub fn malformed(&self, request: &Request, response: &Response, what: &str) -> Stop {
        Stop::Failed(Box::new(errors::malformed(request, response, self.region, what)))
    }

    /// What is known of a family.
    const fn api(&self, family: Family) -> &Api {
        let [lists, singles, alert_lists, triage, products, comments, restricted] = &self.apis;
        match family {
            Family::Lists => lists,
            Family::Singles => singles,
            Family::AlertLists => alert_lists,
            Family::Triage => triage,
            Family::Products => products,
            Family::Comments => comments,
            Family::Restricted => restricted,
        }
    }

    /// The allowance that a request of a family uses up.
    const fn limit(&self, family: Family) -> &Limit {
        match family {
            Family::Triage => &self.triage,
            Family::Comments | Family::Restricted => &self.v1,
            Family::Lists | Family::Singles | Family::AlertLists | Family::Products => &self.v2,
        }
    }

    /// One try, of so long at most.
    async fn once(&self, request: &Request, most: Duration) -> Result<Response, Stop> {
        let family = Family::of(&request.target);
        let api = self.api(family);
        if let Some(failure) = api.halted(endpoint(&request.target)) {
            return Err(Stop::Failed(failure));
        }
        if self.is_spent(1) {
            return Err(Stop::Spent);
        }
        let limit = self.limit(family);
        let allowance = &limit.allowance;
        let before = allowance.get();
        // Of an API that has not answered yet, what lists were told may hold, too: the allowance may be one for all.
        let in_flight = self.limits().into_iter().map(|limit| limit.allowance.get().in_flight).sum();
        if limit.is_unheard() && !self.v2.has_more_beside(in_flight) {
            return Err(Stop::Allowance(self.v2.allowance.get().wait.unwrap_or(UNKNOWN_RESET).max(1)));
        }
        if !limit.has_more() {
            let wait = before.wait.unwrap_or(UNKNOWN_RESET).max(1);
            // Lists need none of this allowance, or have more.
            if wait > LONGEST_WAIT && self.v2.has_more() {
                let failure = errors::used_up(request, self.region, wait);
                api.halt(&failure);
                return Err(Stop::Failed(Box::new(failure)));
            }
            return Err(Stop::Allowance(wait));
        }
        self.requests_left.set(self.requests_left.get().saturating_sub(1));
        let number = before.sent + 1;
        allowance.set(Allowance { in_flight: before.in_flight + 1, sent: number, ..before });
        // Of a fifth that is kept, a quarter is for what is done with the answer.
        let began = self.elapsed();
        let patience = (self.wall_time / 20 * 19).saturating_sub(began).min(most);
        let outcome = self.transport.send(request, patience).await;
        let mut after = allowance.get();
        after.in_flight = after.in_flight.saturating_sub(1);
        let response = match outcome {
            Ok(response) => response,
            Err(error) => {
                allowance.set(after);
                // One that began late says nothing of the vendor.
                if error.kind == TransportErrorKind::Timeout && patience < self.wall_time / 3 {
                    return Err(Stop::Spent);
                }
                return Err(Stop::Failed(Box::new(errors::from_transport(request, &error, self.region))));
            }
        };
        self.heard.set(true);
        let (so_far, took) = (self.latency.get(), self.elapsed().saturating_sub(began));
        self.latency.set(if so_far.is_zero() { took } else { (so_far * 3 + took) / 4 });
        if let Some(ahead) = rate::ahead(&response, self.clock.now()) {
            self.ahead.set(ahead);
        }
        let now = self.now();
        let rate = rate::read(&response, now);
        if self.heeds_allowance {
            after.hear(number, rate);
            limit.most.set(limit.most.get().max(rate.remaining));
        }
        allowance.set(after);
        match errors::from_response(request, &response, self.region, now) {
            None => {
                api.answered.set(api.answered.get() | endpoint(&request.target));
                Ok(response)
            }
            Some(mut failure) => {
                if self.api(Family::Lists).answered.get() != 0 {
                    errors::narrow(&mut failure);
                }
                Err(Stop::Failed(Box::new(failure)))
            }
        }
    }

    /// Whether trying again at once may help: the reads of this API change
    /// nothing, so a repetition is always safe.
    fn may_repeat(&self, request: &Request, failure: &Failure) -> bool {
        self.api(Family::of(&request.target)).strikes.get() == 0
            && match failure.reason {
                FailureReason::Unavailable => failure.retry == RetryAdvice::BackOff,
                // A response that broke off; not one that was read and refused.
                FailureReason::MalformedResponse => failure.http_status.is_none(),
                _ => false,
            }
    }

    /// Notes what the outcome, after that time, means for the requests to come: a key that is refused and a limit that is
    /// reached hold for all of them, and a family that is down for its own.
    fn settle(&self, request: &Request, outcome: Result<Response, Stop>, took: Duration) -> Result<Response, Stop> {
        let family = Family::of(&request.target);
        let api = self.api(family);
        match &outcome {
            Ok(_) => api.strikes.set(0),
            Err(Stop::Failed(failure)) => match failure.reason {
                FailureReason::Unauthorized | FailureReason::RateLimited => {
                    self.apis.iter().for_each(|api| api.halt(failure));
                }
                // Answers that break off, each in all its tries, are none.
                FailureReason::MalformedResponse if failure.http_status.is_some() => {}
                FailureReason::Unavailable | FailureReason::Timeout | FailureReason::MalformedResponse => {
                    api.strikes.set(api.strikes.get().saturating_add(1));
                    // There is no time to wait in vain again.
                    let is_slow = took >= self.wall_time / 4 && api.answered.get() == 0;
                    if api.strikes.get() >= STRIKES || is_slow && family != Family::Lists {
                        api.halt(failure);
                    }
                }
                _ => {}
            },
            Err(Stop::Spent | Stop::Allowance(_)) => {}
        }
        outcome
    }
}
