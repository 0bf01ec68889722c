//! Failures, as data: what happened, what an operator can do about it, and when to try again.
//!
//! Why no answer's text is in them: a message is shown to people and must hold no part of an answer. Nor does a remedy
//! speak of polls: `check` fails with the same.

use crate::contract::{Failure, FailureReason, FieldError, RetryAdvice};

/// What the service says of a failure beside the status.
#[derive(Debug, Default)]
pub struct Told {
    /// `retry-after`.
    pub retry_after: Option<String>,
    /// `x-request-id`.
    pub request_id: Option<String>,
}

/// A failure without an answer of the service.
fn plain(reason: FailureReason, message: &str, remedy: &str, retry: RetryAdvice) -> Failure {
    Failure {
        reason,
        message: message.to_owned(),
        remedy: remedy.to_owned(),
        http_status: None,
        correlation_id: None,
        request_sent: false,
        retry,
    }
}

/// Settings that `configure` would have refused.
#[must_use]
pub fn invalid(errors: Vec<FieldError>) -> Failure {
    let listed: Vec<String> = errors.into_iter().map(|error| format!("{}: {}", error.key, error.message)).collect();
    let remedy = "Correct the settings of the instance.";
    plain(FailureReason::InvalidSettings, &listed.join(" "), remedy, RetryAdvice::AfterChange)
}

/// A checkpoint of a later version, or a damaged one.
#[must_use]
pub fn unreadable(why: &str) -> Failure {
    let message = format!("The stored checkpoint cannot be read: {why}.");
    let remedy = "Install the version of the connector that wrote it, or newer.";
    plain(FailureReason::CheckpointUnreadable, &message, remedy, RetryAdvice::AfterChange)
}

/// An answer that is not what the service promises.
#[must_use]
pub fn malformed(why: &str) -> Failure {
    let message = format!("The service answered with something unexpected: {why}.");
    let remedy = "Nothing was lost. If it repeats, report it.";
    Failure { request_sent: true, ..plain(FailureReason::MalformedResponse, &message, remedy, RetryAdvice::BackOff) }
}

/// A defect of this connector.
#[must_use]
pub fn internal(why: &str) -> Failure {
    let remedy = "Report this to whoever maintains the connector.";
    plain(FailureReason::Internal, why, remedy, RetryAdvice::BackOff)
}

/// The host allows no more requests.
#[must_use]
pub fn used_up() -> Failure {
    let remedy = "Report this to whoever maintains the connector: it asks for more than a step may.";
    plain(FailureReason::BudgetExhausted, "No more requests are allowed in this step.", remedy, RetryAdvice::BackOff)
}

/// No answer at all.
#[must_use]
pub fn no_answer(timed_out: bool, sent: bool, why: &str) -> Failure {
    let reason = if timed_out { FailureReason::Timeout } else { FailureReason::Unavailable };
    let remedy = "Check the site and the network.";
    Failure { request_sent: sent, ..plain(reason, &format!("No answer: {why}."), remedy, RetryAdvice::BackOff) }
}

/// An answer with a status other than 200.
#[must_use]
pub fn refused(status: u16, told: Told) -> Failure {
    // Only these two ask for a pause. A date instead of seconds is not read: the host then waits as it always does.
    let asked = told.retry_after.filter(|_| matches!(status, 429 | 503)).and_then(|text| text.trim().parse().ok());
    let back_off = asked.map_or(RetryAdvice::BackOff, RetryAdvice::AfterSeconds);
    let (reason, message, remedy, retry) = match status {
        401 => {
            let remedy = "Verify that the token is entered in full and was not revoked.";
            (FailureReason::Unauthorized, "The token is not known.", remedy, RetryAdvice::AfterChange)
        }
        403 => {
            let remedy = "Give the token the right audit:read.";
            (FailureReason::Forbidden, "The token may not read the audit log.", remedy, RetryAdvice::AfterChange)
        }
        404 => {
            let remedy = "Verify the site.";
            (FailureReason::NotFound, "There is no audit log at this site.", remedy, RetryAdvice::AfterChange)
        }
        429 => (
            FailureReason::RateLimited,
            "Too many requests.",
            "Make fewer requests with this token, or ask the vendor for a larger limit.",
            back_off,
        ),
        500.. => {
            let remedy = "Nothing, unless it lasts: then see what the service says of its state.";
            (FailureReason::Unavailable, "The service failed.", remedy, back_off)
        }
        _ => {
            let remedy = "Nothing was lost. If it repeats, report it.";
            (
                FailureReason::MalformedResponse,
                "The service answered with a status that it does not promise.",
                remedy,
                back_off,
            )
        }
    };
    Failure {
        http_status: Some(status),
        correlation_id: told.request_id,
        request_sent: true,
        ..plain(reason, message, remedy, retry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(retry_after: &str) -> Told {
        Told { retry_after: Some(retry_after.to_owned()), request_id: Some("r-1".to_owned()) }
    }

    #[test]
    fn a_pause_that_is_asked_for_is_passed_on_with_the_id_of_the_request() {
        for status in [429, 503] {
            let failure = refused(status, told(" 7 "));
            assert_eq!((failure.retry, failure.correlation_id.as_deref()), (RetryAdvice::AfterSeconds(7), Some("r-1")));
        }
    }

    #[test]
    fn what_is_no_pause_is_none() {
        for text in ["Wed, 21 Oct 2026 07:28:00 GMT", "", "-1", "1.5"] {
            assert_eq!(refused(429, told(text)).retry, RetryAdvice::BackOff, "{text}");
        }
        assert_eq!(refused(500, told("7")).retry, RetryAdvice::BackOff);
        assert_eq!(refused(401, told("7")).retry, RetryAdvice::AfterChange);
    }

    #[test]
    fn every_status_has_a_reason_of_its_kind() {
        for (status, reason) in [
            (302, FailureReason::MalformedResponse),
            (401, FailureReason::Unauthorized),
            (403, FailureReason::Forbidden),
            (404, FailureReason::NotFound),
            (410, FailureReason::MalformedResponse),
            (429, FailureReason::RateLimited),
            (500, FailureReason::Unavailable),
            (503, FailureReason::Unavailable),
        ] {
            let failure = refused(status, Told::default());
            assert_eq!((failure.reason, failure.http_status), (reason, Some(status)));
        }
    }
}
