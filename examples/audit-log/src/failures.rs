//! Failures, as data: what happened, what an operator can do about it, and when to try again.
//!
//! Why no request's text is in them: a message is shown to people and must hold no part of an answer.

use crate::bindings::witfoo::signal_connector::types::{Failure, FailureReason, FieldError, RetryAdvice};

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
pub(crate) fn invalid(errors: Vec<FieldError>) -> Failure {
    let listed: Vec<String> = errors.into_iter().map(|error| format!("{}: {}", error.key, error.message)).collect();
    let remedy = "Correct the settings of the instance.";
    plain(FailureReason::InvalidSettings, &listed.join("; "), remedy, RetryAdvice::AfterChange)
}

/// A checkpoint of another version, or a damaged one.
pub(crate) fn unreadable(why: &str) -> Failure {
    let message = format!("The stored checkpoint cannot be read: {why}.");
    let remedy = "Install the version of the connector that wrote it, or newer.";
    plain(FailureReason::CheckpointUnreadable, &message, remedy, RetryAdvice::AfterChange)
}

/// An answer that is not what the service promises.
pub(crate) fn malformed(why: &str) -> Failure {
    let message = format!("The service answered with something unexpected: {why}.");
    let remedy = "Nothing was lost; the next poll tries again. If it repeats, report it.";
    Failure { request_sent: true, ..plain(FailureReason::MalformedResponse, &message, remedy, RetryAdvice::BackOff) }
}

/// A defect of this connector.
pub(crate) fn internal(why: &str) -> Failure {
    let remedy = "Report this to whoever maintains the connector.";
    plain(FailureReason::Internal, why, remedy, RetryAdvice::BackOff)
}

/// No answer at all.
pub(crate) fn no_answer(timed_out: bool, sent: bool, why: &str) -> Failure {
    let reason = if timed_out { FailureReason::Timeout } else { FailureReason::Unavailable };
    let remedy = "Check the site and the network. The next poll tries again.";
    Failure { request_sent: sent, ..plain(reason, &format!("No answer: {why}."), remedy, RetryAdvice::BackOff) }
}

/// An answer with a status other than 200. `retry_after` in seconds, if the service asked for it.
pub(crate) fn refused(status: u16, retry_after: Option<u64>) -> Failure {
    let back_off = retry_after.map_or(RetryAdvice::BackOff, RetryAdvice::AfterSeconds);
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
        429 => (FailureReason::RateLimited, "Too many requests.", "Poll less often.", back_off),
        _ => {
            let remedy = "The service is down or in trouble. The next poll tries again.";
            (FailureReason::Unavailable, "The service failed.", remedy, back_off)
        }
    };
    Failure { http_status: Some(status), request_sent: true, ..plain(reason, message, remedy, retry) }
}
