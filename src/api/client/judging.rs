//! What a failure says of all requests of its kind, and what it says of the key.
//!
//! Why: the vendor's APIs are refused and limited each for itself, with the same answers as a key that is revoked and a
//! limit that holds for all. Which of them it is, another request tells.

use std::time::Duration;

use super::super::calls;
use super::super::families::{Family, OF_EVIDENCE, SEARCH, endpoint};
use super::super::transport::{Clock, Request, Response, Transport};
use super::{Client, Stop};
use crate::contract::{Failure, FailureReason};

/// Requests of a step that have to be left for asking again what was refused.
const SPARE: u32 = 6;

impl<T: Transport, C: Clock> Client<'_, T, C> {
    /// Whether no read of an alert, its evidence or its actors is answered in this step: none was so far, or what is asked
    /// for last, evidence and actors, was not when requests were ended.
    pub fn is_silent_on_alerts(&self) -> bool {
        let api = self.api(Family::Triage);
        let answered = api.answered.get();
        answered & !SEARCH == 0 || api.is_halted() && answered & OF_EVIDENCE == 0
    }

    /// Whether nothing of the kind of this request is asked for any more in this step.
    pub fn has_ended(&self, request: &Request) -> bool {
        self.api(Family::of(&request.target)).halted(endpoint(&request.target)).is_some()
    }

    /// What a failure of one of the other families comes to when it concerns that alone.
    ///
    /// A key that it alone refuses lacks the Alert Triage API, as many tenants do, and is a failure of any other: whether it
    /// is refused otherwise is asked at that moment, since it may have been revoked meanwhile, and the same is asked once
    /// more where there are requests to spare: much would go without what this family gives. Of the Alert Triage API only
    /// the endpoint is refused, unless it is that which is asked whether the API is there. A limit that is reached at
    /// the first request of a step that was waited for, and does not hold for lists of investigations, has been waited for in
    /// vain: that family is as good as down, and nothing else waits for it. So is one at the first request to one of its
    /// endpoints, if the step has got nothing done. Any other is waited for: what is collected slowly is collected whole.
    pub(super) async fn judged(&self, request: &Request, failure: Box<Failure>) -> Result<Response, Stop> {
        let family = Family::of(&request.target);
        let api = self.api(family);
        let this = endpoint(&request.target);
        // Another that was under way with it has been judged.
        if let Some(halted) = api.halted(this) {
            return Err(Stop::Failed(halted));
        }
        let is_refused = failure.reason == FailureReason::Unauthorized;
        let (control, reason) = match failure.reason {
            FailureReason::Unauthorized if family == Family::Triage => (calls::validate(), FailureReason::Forbidden),
            FailureReason::Unauthorized => (calls::validate(), FailureReason::Unavailable),
            FailureReason::RateLimited
                if self.has_waited
                    && (api.answered.get() == 0 || !self.progress.get() && api.answered.get() & this == 0) =>
            {
                (calls::any_investigation(self.now()), FailureReason::Unavailable)
            }
            _ => return Err(Stop::Failed(failure)),
        };
        // Once in a step: of a small budget every request counts.
        if !(is_refused && self.is_valid.get()) {
            match self.once(&control, Duration::MAX).await {
                Ok(_) => self.is_valid.set(is_refused || self.is_valid.get()),
                Err(stop @ (Stop::Spent | Stop::Allowance(_))) if is_refused => return Err(stop),
                Err(_) => return Err(Stop::Failed(failure)),
            }
        }
        // A small budget is for what can be had: of ten requests none is left for this.
        if is_refused
            && self.requests_left.get() > SPARE
            && let Ok(response) = self.once(request, Duration::MAX).await
        {
            return Ok(response);
        }
        let failure = Box::new(Failure { reason, ..*failure });
        if is_refused && family == Family::Triage && this != SEARCH {
            api.refuse(this, &failure);
        } else {
            api.halt(&failure);
        }
        Err(Stop::Failed(failure))
    }
}
