//! Failures, with what the operator can do about them.
//!
//! The remedies say what the Troubleshooting section of the operator's guide
//! says. Messages hold the vendor's own short message but never a whole body.

use std::borrow::Cow;

use super::rate;
use super::records::Members;
use super::transport::{Request, Response, TransportError, TransportErrorKind};
use crate::contract::{Failure, FailureReason, RetryAdvice};
use crate::region::Region;
use crate::text::shown;
use crate::times::Utc;

/// Remedy for 401.
pub const REMEDY_UNAUTHORIZED: &str = "Verify that the API Key is correct and was copied completely, that it has not \
    been revoked in the Insight Platform, and that it is a User Key (not an Organization Key with restrictions).";
/// Remedy for 403.
pub const REMEDY_FORBIDDEN: &str = "The API key user may not have InsightIDR access: verify that the user has Platform \
    Admin or at least read access to InsightIDR.";
/// Remedy for 404.
pub const REMEDY_NOT_FOUND: &str = "Verify that the Region matches your Insight Platform account region: check the URL \
    in your browser when logged into Rapid7.";
/// Remedy for 403 where the key reads investigations.
const REMEDY_ENDPOINT: &str = "The API key reads investigations but may not read this endpoint: verify the role of its \
    user in InsightIDR. It is asked for again automatically.";
/// Remedy for 401 and 403 of alerts that are still to come.
const REMEDY_ALERTS: &str = "The API key reads investigations but may not read all that belongs to them: verify that its \
    user has at least read access to InsightIDR.";
/// Remedy for 404 where investigations are read.
const REMEDY_ABSENT: &str = "This record is not there, or not yet. It is asked for again automatically.";
/// Remedy for 429.
pub const REMEDY_RATE_LIMITED: &str =
    "Increase the Polling Interval to 15 minutes. Exponential backoff is applied automatically.";
/// Remedy for what repetition may mend.
const REMEDY_LATER: &str = "It is tried again automatically and nothing is skipped. If it lasts, ask Rapid7 support and \
    name the correlation id, if there is one.";
/// Remedy for what repetition has not mended.
const REMEDY_PASSED: &str = "It was tried again and again, and is passed over now: everything else is collected. Ask Rapid7 \
    support about it, and name the correlation id, if there is one.";
/// Remedy for a part of the data.
const REMEDY_PARTS: &str = "What the answer has is collected, and what it may lack is asked for again automatically. If it \
    lasts, ask Rapid7 support and name the correlation id, if there is one.";
/// Longest message of the vendor's that is passed on, in characters.
const VENDOR_MESSAGE: usize = 200;

/// The failure that a response is. `None` for 200.
#[must_use]
pub fn from_response(request: &Request, response: &Response, region: Region, now: Utc) -> Option<Failure> {
    let (reason, remedy, retry) = match response.status {
        200 => return None,
        400 => (FailureReason::Internal, remedy_internal(), RetryAdvice::BackOff),
        401 => (
            FailureReason::Unauthorized,
            format!("{REMEDY_UNAUTHORIZED} A key works in its own region only: {}", region_hint(region)),
            RetryAdvice::AfterChange,
        ),
        403 => (FailureReason::Forbidden, REMEDY_FORBIDDEN.to_owned(), RetryAdvice::AfterChange),
        404 => (FailureReason::NotFound, REMEDY_NOT_FOUND.to_owned(), RetryAdvice::AfterChange),
        408 => (FailureReason::Timeout, remedy_reach(region), RetryAdvice::BackOff),
        429 => (
            FailureReason::RateLimited,
            REMEDY_RATE_LIMITED.to_owned(),
            rate::read(response, now).wait.map_or(RetryAdvice::BackOff, RetryAdvice::AfterSeconds),
        ),
        500 => (
            FailureReason::Unavailable,
            format!("{REMEDY_LATER} A wrong region can show like this too: {}", region_hint(region)),
            RetryAdvice::BackOff,
        ),
        501..=599 => (
            FailureReason::Unavailable,
            REMEDY_LATER.to_owned(),
            rate::read(response, now).wait.map_or(RetryAdvice::BackOff, RetryAdvice::AfterSeconds),
        ),
        // Anything else is not in the API's description: a proxy's page, a
        // redirect (never followed), 204, 207 with partial data.
        _ => (FailureReason::MalformedResponse, remedy_malformed(region), RetryAdvice::BackOff),
    };
    // The vendor's error body is `{"message", "correlation_id"}`, or anything.
    let body = std::str::from_utf8(&response.body).ok().and_then(Members::parse).unwrap_or_default();
    let said = body.text("message");
    let correlation_id = response
        .header("r7-correlation-id")
        .map(Cow::Borrowed)
        .or_else(|| body.text("correlation_id"))
        .map(|id| shown(&id, 64));
    let mut message = format!("{} answered {}", described(request, region), response.status);
    if let Some(said) = said {
        message.push_str(&format!(" \"{}\"", shown(&said, VENDOR_MESSAGE)));
    }
    Some(Failure {
        reason,
        message,
        remedy,
        http_status: Some(response.status),
        correlation_id,
        request_sent: true,
        retry,
    })
}

/// The failure of a request where the same step has read investigations: the
/// region is right and the key is good, so it is about what was asked for alone.
pub fn narrow(failure: &mut Failure) {
    failure.remedy = match failure.http_status {
        Some(403) => REMEDY_ENDPOINT,
        Some(404) => REMEDY_ABSENT,
        Some(500) => REMEDY_LATER,
        _ => return,
    }
    .to_owned();
}

/// The failure that a missing response is.
#[must_use]
pub fn from_transport(request: &Request, error: &TransportError, region: Region) -> Failure {
    let (reason, remedy) = match error.kind {
        TransportErrorKind::Timeout => (FailureReason::Timeout, remedy_reach(region)),
        TransportErrorKind::Connection => (FailureReason::Unavailable, remedy_reach(region)),
        TransportErrorKind::Protocol | TransportErrorKind::TooLarge => {
            (FailureReason::MalformedResponse, remedy_malformed(region))
        }
        TransportErrorKind::Denied => (
            FailureReason::Internal,
            "The host refused a request of the connector. This is a defect of the connector or of the host's \
             configuration: report it with this message."
                .to_owned(),
        ),
    };
    Failure {
        reason,
        message: format!("{}: {}", described(request, region), shown(&error.message, VENDOR_MESSAGE)),
        remedy,
        http_status: None,
        correlation_id: None,
        request_sent: error.sent,
        retry: RetryAdvice::BackOff,
    }
}

/// Whether a failure is that of a service that does not answer, rather than of what it was asked for.
#[must_use]
pub fn is_outage(failure: &Failure) -> bool {
    let is_none = matches!(failure.http_status, None | Some(500..));
    let is_broken = matches!(
        failure.reason,
        FailureReason::Unavailable | FailureReason::Timeout | FailureReason::MalformedResponse
    );
    is_none && is_broken
}

/// A failure of something that is given up.
#[must_use]
pub fn passed_over(failure: Failure) -> Failure {
    Failure { remedy: REMEDY_PASSED.to_owned(), ..failure }
}

/// A failure of an answer of which was used what is there.
#[must_use]
pub fn in_parts(failure: Failure) -> Failure {
    Failure { remedy: REMEDY_PARTS.to_owned(), ..failure }
}

/// A response with status 200 that is not what the API promises. `what` says
/// what is wrong with it.
#[must_use]
pub fn malformed(request: &Request, response: &Response, region: Region, what: &str) -> Failure {
    Failure {
        reason: FailureReason::MalformedResponse,
        message: format!(
            "{} answered {} with something else than the API promises: {}",
            described(request, region),
            response.status,
            shown(what, VENDOR_MESSAGE)
        ),
        remedy: remedy_malformed(region),
        http_status: Some(response.status),
        correlation_id: response.header("r7-correlation-id").map(|id| shown(id, 64)),
        request_sent: true,
        retry: RetryAdvice::BackOff,
    }
}

/// A request that is not made, because the vendor has said that nothing is left of its allowance for so many seconds.
#[must_use]
pub fn used_up(request: &Request, region: Region, seconds: u64) -> Failure {
    Failure {
        reason: FailureReason::Unavailable,
        message: format!("{}: its allowance is used up for {seconds} seconds", described(request, region)),
        remedy: REMEDY_RATE_LIMITED.to_owned(),
        http_status: None,
        correlation_id: None,
        request_sent: false,
        retry: RetryAdvice::AfterSeconds(seconds),
    }
}

/// A failure without a request.
#[must_use]
pub fn plain(reason: FailureReason, message: String, remedy: &str, retry: RetryAdvice) -> Failure {
    Failure {
        reason,
        message,
        remedy: remedy.to_owned(),
        http_status: None,
        correlation_id: None,
        request_sent: false,
        retry,
    }
}

/// Method, host and path, without the query.
fn described(request: &Request, region: Region) -> String {
    let path = request.target.split('?').next().unwrap_or_default();
    format!("{} https://{}{}", request.method.name(), region.host, path)
}

fn region_hint(region: Region) -> String {
    format!(
        "verify that the Region ({}, {}) matches your Insight Platform account region; the URL in your browser when \
         logged into Rapid7 shows it.",
        region.code, region.label
    )
}

/// The alerts of so many investigations are still to come; the last answer of one that failed had this status, 0 for none.
#[must_use]
pub fn waiting(investigations: usize, status: u16) -> Failure {
    const AGAIN: &str = "They are asked for again automatically, less often each time. Nothing is skipped.";
    let (why, remedy) = match status {
        0 | 200 => (String::new(), AGAIN.to_owned()),
        401 | 403 => (format!(": the last answer was HTTP {status}"), format!("{REMEDY_ALERTS} {AGAIN}")),
        _ => (format!(": the last answer was HTTP {status}"), AGAIN.to_owned()),
    };
    let message = format!("the alerts of {investigations} investigation(s) could not be collected yet{why}");
    Failure {
        http_status: (!matches!(status, 0 | 200)).then_some(status),
        ..plain(FailureReason::Unavailable, message, &remedy, RetryAdvice::BackOff)
    }
}

/// The failure without what is said of tries to come.
#[must_use]
pub fn of_one_try(failure: Failure) -> Failure {
    let sentences = failure.remedy.split_inclusive(". ");
    let remedy: String = sentences.filter(|sentence| !sentence.contains("automatically")).collect();
    if remedy.is_empty() { failure } else { Failure { remedy: remedy.trim_end().to_owned(), ..failure } }
}

fn remedy_reach(region: Region) -> String {
    format!(
        "Confirm that the regional endpoint {} is reachable on port 443 (DNS, firewall, proxy). It is tried again \
         automatically.",
        region.host
    )
}

fn remedy_malformed(region: Region) -> String {
    format!(
        "Nothing of the answer was used and it is asked for again automatically. If it lasts, look for a proxy or \
         firewall that answers in place of {}, or ask Rapid7 support.",
        region.host
    )
}

fn remedy_internal() -> String {
    "The vendor refused a request of the connector as wrong. This is a defect of the connector: report it with this message."
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::transport::Method;
    use super::*;
    use crate::region;

    fn failure(status: u16, body: &str, headers: &[(&str, &str)]) -> Failure {
        let request = Request {
            method: Method::Get,
            target: "/idr/v2/investigations?size=100".to_owned(),
            body: None,
            accept_version: None,
        };
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let response = Response { status, headers, body: body.as_bytes().to_vec() };
        from_response(&request, &response, region::by_code("us").unwrap(), Utc(0)).unwrap()
    }

    #[test]
    fn nothing_is_said_of_tries_to_come_where_there_are_none() {
        for (failure, expected) in [
            (failure(503, "", &[]), "If it lasts, ask Rapid7 support"),
            (failure(408, "", &[]), "(DNS, firewall, proxy)."),
            (failure(429, "", &[]), "Increase the Polling Interval to 15 minutes."),
            (failure(401, "", &[]), "was copied completely"),
        ] {
            let remedy = of_one_try(failure).remedy;
            assert!(remedy.contains(expected) && !remedy.contains("automatically"), "{remedy}");
        }
        let only =
            plain(FailureReason::Unavailable, "m".to_owned(), "It is asked again automatically.", RetryAdvice::BackOff);
        assert_eq!(of_one_try(only.clone()), only, "a remedy is left");
    }

    #[test]
    fn every_status_has_its_reason_and_the_remedy_of_the_guide() {
        use FailureReason as R;
        for (status, reason, remedy) in [
            (400, R::Internal, "defect of the connector"),
            (401, R::Unauthorized, "User Key (not an Organization Key with restrictions)"),
            (403, R::Forbidden, "Platform Admin or at least read access to InsightIDR"),
            (404, R::NotFound, "Region matches your Insight Platform account region"),
            (408, R::Timeout, "us.api.insight.rapid7.com is reachable on port 443"),
            (429, R::RateLimited, "Increase the Polling Interval to 15 minutes"),
            (500, R::Unavailable, "wrong region can show like this too"),
            (503, R::Unavailable, "tried again automatically"),
            (204, R::MalformedResponse, "proxy or firewall"),
            (207, R::MalformedResponse, "proxy or firewall"),
            (302, R::MalformedResponse, "proxy or firewall"),
        ] {
            let failure = failure(status, "", &[]);
            assert_eq!((failure.reason, failure.http_status), (reason, Some(status)));
            assert!(failure.remedy.contains(remedy), "{status}: {}", failure.remedy);
        }
    }

    #[test]
    fn what_fails_alone_is_not_the_fault_of_the_region_or_of_the_whole_key() {
        for (status, remedy) in [(403, "may not read this endpoint"), (404, "not yet"), (500, "tried again")] {
            let mut failure = failure(status, "", &[]);
            narrow(&mut failure);
            assert!(failure.remedy.contains(remedy), "{status}: {}", failure.remedy);
            assert!(!failure.remedy.contains("egion"), "{status}: {}", failure.remedy);
        }
        let mut other = failure(401, "", &[]);
        narrow(&mut other);
        assert!(other.remedy.contains("User Key"), "a key can be revoked at any time");
    }

    #[test]
    fn the_vendors_words_and_correlation_id_are_passed_on_safely() {
        let body = r#"{"message":"Insufficient\nPermissions","correlation_id":"from-body"}"#;
        let first = failure(403, body, &[]);
        assert_eq!(
            first.message,
            "GET https://us.api.insight.rapid7.com/idr/v2/investigations answered 403 \"Insufficient\\nPermissions\""
        );
        assert_eq!(first.correlation_id.as_deref(), Some("from-body"));
        let second = failure(403, "<html>", &[("r7-correlation-id", "from-header")]);
        assert!(second.message.ends_with("answered 403"));
        assert_eq!(second.correlation_id.as_deref(), Some("from-header"));
    }

    #[test]
    fn a_rate_limit_says_when_to_come_back_if_the_vendor_does() {
        assert_eq!(failure(429, "", &[]).retry, RetryAdvice::BackOff);
        assert_eq!(failure(429, "", &[("ratelimit-reset", "19")]).retry, RetryAdvice::AfterSeconds(19));
    }
}
