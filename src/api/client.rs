//! One request: within the budget, within the vendor's allowance, repeated
//! where repeating is safe, and its answer turned into data or a failure.
//!
//! Three things end a step early and are told apart by [`Stop`]: a failure, a
//! budget that is used up, and an allowance that is nearly used up. A failure
//! that concerns every request (401, 429, an outage) halts the client, so that
//! a fan-out of a hundred requests does not run into it a hundred times.
//!
//! Not guaranteed: requests that are under way when the client halts still
//! finish; what they bring is used.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use serde_json::value::RawValue;

use super::calls;
use super::errors;
use super::rate;
use super::records::Members;
use super::transport::{Clock, Request, Response, Transport};
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
/// Requests of the allowance that are left to others with the same key.
const RESERVE: u64 = 2;
/// Wait when the allowance is used up and the vendor does not say for how long.
const UNKNOWN_RESET: u64 = 60;
/// How long a request may take that is not answered, its connection included.
const IN_VAIN: Duration = Duration::from_secs(40);
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

/// The vendor's APIs that fail, and are limited, each on its own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    /// Investigations and their alerts: without them nothing can be done.
    Investigations,
    /// The Alert Triage API.
    Triage,
    /// Alerts of other products.
    Products,
    /// Comments and restricted evidence.
    Others,
}

impl Family {
    fn of(target: &str) -> Self {
        let path = target.split('?').next().unwrap_or(target);
        if path.starts_with("/idr/at/") {
            Self::Triage
        } else if path.ends_with("/rapid7-product-alerts") {
            Self::Products
        } else if path.starts_with("/idr/v1/") {
            Self::Others
        } else {
            Self::Investigations
        }
    }
}

/// What is left of an allowance, as last heard.
#[derive(Debug, Clone, Copy, Default)]
struct Allowance {
    remaining: Option<u64>,
    wait: Option<u64>,
    in_flight: u64,
    /// Requests sent so far, and which of them said what is left.
    sent: u64,
    heard_by: u64,
}

impl Allowance {
    /// Hears what the answer to the request with this number says. Answers come
    /// in any order: an older one that promises more was overtaken.
    fn hear(&mut self, number: u64, rate: rate::Rate) {
        let Some(remaining) = rate.remaining else { return };
        if number > self.heard_by || self.remaining.is_none_or(|known| remaining < known) {
            self.remaining = Some(remaining);
            self.wait = rate.wait;
            self.heard_by = self.heard_by.max(number);
        }
    }
}

/// What is known in a step of one of the vendor's APIs ([`Family`]): each is down on its own. The Alert Triage API has an
/// allowance of its own; where that is shared, its answers say so.
#[derive(Default)]
struct Api {
    allowance: Cell<Allowance>,
    /// Requests in a row that it has not answered.
    strikes: Cell<u32>,
    /// Whether it has answered a request in this step.
    answered: Cell<bool>,
    /// The most it has said to be left of its allowance.
    most: Cell<Option<u64>>,
    /// What has ended requests to it.
    halted: RefCell<Option<Box<Failure>>>,
}

impl Api {
    /// Ends requests to it.
    fn halt(&self, why: &Failure) {
        self.halted.borrow_mut().get_or_insert_with(|| Box::new(why.clone()));
    }
}

/// Sends requests for one step.
pub struct Client<'a, T, C> {
    transport: &'a T,
    clock: &'a C,
    region: Region,
    requests: u32,
    requests_left: Cell<u32>,
    started: Duration,
    time: Duration,
    heeds_allowance: bool,
    heard: Cell<bool>,
    investigations: Api,
    triage: Api,
    products: Api,
    others: Api,
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
            time: Duration::from_millis(budget.wall_time_milliseconds / 5 * 4),
            heeds_allowance: true,
            heard: Cell::new(false),
            investigations: Api::default(),
            triage: Api::default(),
            products: Api::default(),
            others: Api::default(),
        }
    }

    /// All of the vendor's APIs.
    const fn apis(&self) -> [&Api; 4] {
        [&self.investigations, &self.triage, &self.products, &self.others]
    }

    /// The same client, which goes on whatever the vendor says is left of its
    /// allowance, until it refuses a request: for when what it says lets nothing
    /// be done.
    #[must_use]
    pub fn heedless(self, heedless: bool) -> Self {
        Self { heeds_allowance: !heedless, ..self }
    }

    /// The region requests go to.
    pub const fn region(&self) -> Region {
        self.region
    }

    /// The wall clock.
    pub fn now(&self) -> Utc {
        self.clock.now()
    }

    /// Whether the step should take on nothing more: less than `requests` are
    /// left, or no time.
    pub fn is_spent(&self, requests: u32) -> bool {
        self.requests_left.get() < requests || self.clock.elapsed().saturating_sub(self.started) >= self.time
    }

    /// Whether the step could wait in vain for one more answer.
    pub fn has_time_to_wait(&self) -> bool {
        self.time.saturating_sub(self.clock.elapsed().saturating_sub(self.started)) > IN_VAIN
    }

    /// Requests that may still be made: what is left to the step, or of the
    /// vendor's allowance as last heard, whichever is less.
    pub fn requests_left(&self) -> usize {
        let allowed = [&self.investigations, &self.triage]
            .into_iter()
            .filter_map(|api| api.allowance.get().remaining)
            .map(|remaining| remaining.saturating_sub(RESERVE))
            .chain([u64::from(self.requests_left.get())])
            .min();
        allowed.and_then(|allowed| usize::try_from(allowed).ok()).unwrap_or(usize::MAX)
    }

    /// Whether the vendor has said what is left of its allowance.
    pub fn is_told_allowance(&self) -> bool {
        [&self.investigations, &self.triage].into_iter().any(|api| api.allowance.get().remaining.is_some())
    }

    /// Requests that any step like this one may make: its budget, or the most that the vendor has said to allow,
    /// whichever is less. What one record takes has to fit into it.
    pub fn requests_of_a_step(&self) -> u64 {
        let said = [&self.investigations, &self.triage].into_iter().filter_map(|api| api.most.get());
        let allowed = said.map(|most| most.saturating_sub(RESERVE));
        allowed.chain([u64::from(self.requests)]).min().unwrap_or(u64::MAX)
    }

    /// Whether no more requests for investigations are sent in this step.
    pub fn is_halted(&self) -> bool {
        self.investigations.halted.borrow().is_some()
    }

    /// Whether no more requests are sent to the Alert Triage API in this step.
    pub fn is_triage_halted(&self) -> bool {
        self.triage.halted.borrow().is_some()
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
        let outcome = loop {
            match self.once(request).await {
                Err(Stop::Failed(failure)) if tries < TRIES && self.may_repeat(request, &failure) => {
                    self.clock.sleep(wait).await;
                    wait = wait.saturating_mul(2);
                    tries += 1;
                }
                outcome => break outcome,
            }
        };
        let outcome = match outcome {
            Err(Stop::Failed(failure)) if Family::of(&request.target) != Family::Investigations => {
                Err(self.judged(request, failure).await)
            }
            outcome => outcome,
        };
        self.settle(request, outcome)
    }

    /// What a failure of one of the other APIs comes to when it concerns that alone.
    ///
    /// A key that it alone refuses lacks the Alert Triage API, as many tenants do, and is a failure of any other: whether it
    /// is refused otherwise is asked at that moment, since it may have been revoked meanwhile. A limit that is reached at the first request of a step, and does not hold for
    /// investigations, has been waited for in vain: that API is as good as down, and nothing else waits for it. One that
    /// is reached later is waited for: what is collected slowly is collected whole.
    async fn judged(&self, request: &Request, failure: Box<Failure>) -> Stop {
        let api = self.api(&request.target);
        let (control, reason) = match failure.reason {
            FailureReason::Unauthorized if Family::of(&request.target) == Family::Triage => {
                (calls::validate(), FailureReason::Forbidden)
            }
            FailureReason::Unauthorized => (calls::validate(), FailureReason::Unavailable),
            FailureReason::RateLimited if !api.answered.get() => {
                (calls::any_investigation(self.now()), FailureReason::Unavailable)
            }
            _ => return Stop::Failed(failure),
        };
        match self.once(&control).await {
            Ok(_) => {
                let failure = Box::new(Failure { reason, ..*failure });
                if failure.http_status == Some(429) {
                    api.halt(&failure);
                }
                Stop::Failed(failure)
            }
            Err(stop @ (Stop::Spent | Stop::Allowance(_))) if failure.http_status == Some(401) => stop,
            Err(_) => Stop::Failed(failure),
        }
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

    /// The API of a request.
    fn api(&self, target: &str) -> &Api {
        match Family::of(target) {
            Family::Investigations => &self.investigations,
            Family::Triage => &self.triage,
            Family::Products => &self.products,
            Family::Others => &self.others,
        }
    }

    /// The allowance that a request uses up.
    fn allowance(&self, target: &str) -> &Api {
        if Family::of(target) == Family::Triage { &self.triage } else { &self.investigations }
    }

    /// One try.
    async fn once(&self, request: &Request) -> Result<Response, Stop> {
        let api = self.api(&request.target);
        if let Some(failure) = api.halted.borrow().as_ref() {
            return Err(Stop::Failed(failure.clone()));
        }
        if self.is_spent(1) {
            return Err(Stop::Spent);
        }
        let limited = self.allowance(&request.target);
        let allowance = &limited.allowance;
        let before = allowance.get();
        if before.remaining.is_some_and(|remaining| remaining < before.in_flight + 1 + RESERVE) {
            let wait = before.wait.unwrap_or(UNKNOWN_RESET).max(1);
            let others = self.investigations.allowance.get();
            let is_alone = others.remaining.is_none_or(|remaining| remaining > others.in_flight + RESERVE);
            if wait > LONGEST_WAIT && Family::of(&request.target) == Family::Triage && is_alone {
                let failure = errors::used_up(request, self.region, wait);
                api.halt(&failure);
                return Err(Stop::Failed(Box::new(failure)));
            }
            return Err(Stop::Allowance(wait));
        }
        self.requests_left.set(self.requests_left.get().saturating_sub(1));
        let number = before.sent + 1;
        allowance.set(Allowance { in_flight: before.in_flight + 1, sent: number, ..before });
        let outcome = self.transport.send(request).await;
        let mut after = allowance.get();
        after.in_flight = after.in_flight.saturating_sub(1);
        let response = match outcome {
            Ok(response) => response,
            Err(error) => {
                allowance.set(after);
                return Err(Stop::Failed(Box::new(errors::from_transport(request, &error, self.region))));
            }
        };
        self.heard.set(true);
        let now = self.clock.now();
        let rate = rate::read(&response, now);
        if self.heeds_allowance {
            after.hear(number, rate);
            limited.most.set(limited.most.get().max(rate.remaining));
        }
        allowance.set(after);
        match errors::from_response(request, &response, self.region, now) {
            None => {
                api.answered.set(true);
                Ok(response)
            }
            Some(mut failure) => {
                if self.investigations.answered.get() {
                    errors::narrow(&mut failure);
                }
                Err(Stop::Failed(Box::new(failure)))
            }
        }
    }

    /// Whether trying again at once may help: the reads of this API change
    /// nothing, so a repetition is always safe.
    fn may_repeat(&self, request: &Request, failure: &Failure) -> bool {
        self.api(&request.target).strikes.get() == 0
            && match failure.reason {
                FailureReason::Unavailable => failure.retry == RetryAdvice::BackOff,
                // A response that broke off; not one that was read and refused.
                FailureReason::MalformedResponse => failure.http_status.is_none(),
                _ => false,
            }
    }

    /// Notes what the outcome means for the requests to come: a key that is refused and a limit that is reached hold for
    /// all of them, and an API that is down for its own.
    fn settle(&self, request: &Request, outcome: Result<Response, Stop>) -> Result<Response, Stop> {
        let api = self.api(&request.target);
        match &outcome {
            Ok(_) => api.strikes.set(0),
            Err(Stop::Failed(failure)) => match failure.reason {
                FailureReason::Unauthorized | FailureReason::RateLimited => {
                    self.apis().into_iter().for_each(|api| api.halt(failure));
                }
                FailureReason::Unavailable | FailureReason::Timeout => {
                    api.strikes.set(api.strikes.get().saturating_add(1));
                    if api.strikes.get() >= STRIKES {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_was_overtaken_does_not_promise_what_is_used_up() {
        let rate = |remaining| rate::Rate { remaining: Some(remaining), wait: Some(remaining) };
        let mut allowance = Allowance::default();
        allowance.hear(2, rate(7));
        allowance.hear(1, rate(8));
        assert_eq!((allowance.remaining, allowance.wait), (Some(7), Some(7)));
        allowance.hear(1, rate(3));
        assert_eq!(allowance.remaining, Some(3), "the lower of two is the safe one");
        allowance.hear(3, rate::Rate { remaining: None, wait: Some(1) });
        assert_eq!(allowance.wait, Some(3), "who does not say it says nothing");
        allowance.hear(4, rate(50));
        assert_eq!(allowance.remaining, Some(50), "a later request sees a new window");
    }
}
