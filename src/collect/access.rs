//! APIs that a tenant or a key may lack.
//!
//! Some of the vendor's APIs exist only for some tenants. One that answers that
//! it is not there is left alone for an hour and then asked again: a role that was
//! put right should soon be of use. Everything else is collected meanwhile.
//!
//! One that has answered before is asked in every cycle, and so is what a key is refused although its API is there. That it
//! is gone is believed when it has been so for [`PATIENCE`]: until then what needs it waits, because much would be lost by
//! a refusal that lasts some minutes.
//!
//! Not guaranteed: what an API would have given that is missing for longer is not gone back to, but for the evidence of alerts
//! while the Alert Triage API was gone ([`super::growing`]).

use serde::{Deserialize, Serialize};

use super::Step;
use crate::api::client::Stop;
use crate::api::errors;
use crate::api::transport::{Clock, Transport};
use crate::contract::{Failure, FailureReason, RetryAdvice};
use crate::times::Utc;

/// Seconds after which a missing API is asked again.
pub const ASK_AGAIN: i64 = 3_600;

/// Seconds for which what has answered before may be missing, or refused, before that is believed: about as long as an alert
/// is held back for another failure.
pub const PATIENCE: i64 = 2_400;

/// Whether an API is there, as far as is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Access {
    /// Not asked yet.
    #[default]
    Unknown,
    /// It answered.
    Available,
    /// It answered with this status at that time.
    Unavailable(u16, Utc),
    /// It answered, and something of it has said since that it is not there; itself since the cycle that began then.
    Doubtful(Option<Utc>),
}

impl Access {
    /// Whether it was there when it was last asked for itself: what one alert of it is refused, or not known, says little.
    #[must_use]
    pub fn is_there(self) -> bool {
        matches!(self, Self::Available | Self::Doubtful(None))
    }

    /// What an answer that says that it is not there leaves known.
    #[must_use]
    pub fn missing(failure: &Failure, now: Utc) -> Self {
        Self::Unavailable(failure.http_status.unwrap_or(0), now)
    }

    /// Whether it is known to be missing, and not worth asking yet. What seems to be known since a time to come was
    /// noted by a clock that was ahead.
    #[must_use]
    pub fn is_missing(self, now: Utc) -> bool {
        matches!(self, Self::Unavailable(_, since) if (0..ASK_AGAIN).contains(&now.seconds_since(since)))
    }

    /// Whether it was missing when it was last asked.
    #[must_use]
    pub fn is_unavailable(self) -> bool {
        matches!(self, Self::Unavailable(..))
    }

    /// Why its stream is unavailable, if it is; `what` names it, `remedy` says
    /// what can be done.
    #[must_use]
    pub fn failure(self, what: &str, remedy: &str) -> Option<Failure> {
        match self {
            Self::Unavailable(status, _) => Some(unavailable(what, status, remedy)),
            Self::Unknown | Self::Available | Self::Doubtful(_) => None,
        }
    }
}

/// What a key may be refused although the API is there.
#[derive(Clone, Copy)]
pub(super) enum Refused {
    /// Reading alerts by their RRNs.
    Alerts,
    /// Evidence and actors.
    Evidence,
}

/// What was refused for longer than [`PATIENCE`], when that was last so, is noted with a minus before the time.
fn believed(last: Utc) -> Option<Utc> {
    (last.0 < 0).then_some(Utc(last.0.saturating_neg()))
}

/// Seconds after which a refusal is the first again, if there was none in between.
const FORGOTTEN: i64 = 6 * 3_600;

/// The state of a stream whose API is there and refuses it.
#[must_use]
pub fn refused(what: &str, remedy: &str) -> Failure {
    errors::plain(
        FailureReason::Forbidden,
        format!("{what} is refused: this key may not read it"),
        &format!("Everything else is collected, and it is asked for again with every alert that is new. {remedy}"),
        RetryAdvice::AfterChange,
    )
}

/// Whether something was refused.
pub(super) fn is_refused(stop: &Stop) -> bool {
    matches!(stop, Stop::Failed(failure) if failure.reason == FailureReason::Forbidden)
}

/// Whether a failure says that something is not there, or not for this key.
#[must_use]
pub fn is_absence(failure: &Failure) -> bool {
    matches!(failure.reason, FailureReason::NotFound | FailureReason::Forbidden)
}

/// The state of a stream whose API answers with this status.
#[must_use]
pub fn unavailable(what: &str, status: u16, remedy: &str) -> Failure {
    Failure {
        http_status: Some(status),
        request_sent: true,
        ..errors::plain(
            if status == 404 { FailureReason::NotFound } else { FailureReason::Forbidden },
            format!("{what} answers {status}: this tenant or key does not have it"),
            &format!("Everything else is collected, and it is asked again every hour. {remedy}"),
            RetryAdvice::AfterSeconds(u64::try_from(ASK_AGAIN).unwrap_or(0)),
        )
    }
}

impl<T: Transport, C: Clock> Step<'_, T, C> {
    /// Whether what is refused now has not been for long: it may be had in the next cycle, which asks first
    /// whether the API is there. Where it is refused always, alerts do not wait for it.
    pub(super) fn is_first_refusal(&mut self, of: Refused) -> bool {
        let now = self.cycle_began();
        // In a first collection it may never have been had: then a second cycle is enough.
        let begun = if self.is_first_collection() { now.plus_seconds(1 - PATIENCE) } else { now };
        let Some(last) = self.state.since_7.refused.get_mut(of as usize) else { return false };
        let since = last.filter(|last| is_recent(believed(*last).unwrap_or(*last), now));
        let is_first = since.is_none_or(|since| believed(since).is_none() && now.seconds_since(since) < PATIENCE);
        *last = Some(if is_first { since.unwrap_or(begun) } else { Utc(now.0.saturating_neg()) });
        is_first
    }

    /// Whether it has been refused for so long, up to the cycle that began then, that this key may not have it.
    pub(super) fn is_refused_since(&self, of: Refused, began: Utc) -> bool {
        let last = self.state.since_7.refused.get(of as usize).copied().flatten();
        last.and_then(believed).is_some_and(|last| is_recent(last, began))
    }

    /// Notes that it was not refused.
    pub(super) fn not_refused(&mut self, of: Refused) {
        if let Some(since) = self.state.since_7.refused.get_mut(of as usize) {
            *since = None;
        }
    }
}

/// Whether a refusal still says something.
fn is_recent(last: Utc, now: Utc) -> bool {
    (0..FORGOTTEN).contains(&now.seconds_since(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_left_alone_for_an_hour() {
        let missing = Access::missing(&unavailable("it", 403, ""), Utc(0));
        assert!(missing.is_missing(Utc(3_599_999_999)) && !missing.is_missing(Utc(3_600_000_000)));
        assert!(!missing.is_missing(Utc(-1_000_000)), "a clock that was ahead holds nothing up");
        assert!(!Access::Unknown.is_missing(Utc(0)) && !Access::Available.is_missing(Utc(0)));
        assert_eq!(missing.failure("it", "").unwrap().http_status, Some(403));
    }
}
