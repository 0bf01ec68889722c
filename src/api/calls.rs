//! The endpoints, as requests.
//!
//! Every list is asked for with an explicit size, sort and window, because the
//! vendor's defaults hide data: 20 rows, priority first, 28 days. `index` is a
//! page number. Unknown parameters would be ignored silently, so each one here
//! is spelled as the vendor's description spells it.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::paging::PAGE_SIZE;
use super::transport::{Method, Request};
use crate::times::Utc;

/// Path of the key check.
pub const VALIDATE: &str = "/validate";
/// Path of investigations.
pub const INVESTIGATIONS: &str = "/idr/v2/investigations";
/// Path of the Alert Triage API.
pub const TRIAGE: &str = "/idr/at/alerts";
/// Path of the search of the Alert Triage API.
pub const TRIAGE_SEARCH: &str = "/idr/at/alerts/ops/search";

/// Path of the reads by RRN of the Alert Triage API.
pub const TRIAGE_RRNS: &str = "/idr/at/alerts/ops/rrns";
/// Path of comments.
pub const COMMENTS: &str = "/idr/v1/comments";
/// Path of restricted evidence.
pub const RESTRICTED: &str = "/idr/v1/restricted/investigations";

/// `Accept-version` documented for investigations.
const INVESTIGATIONS_VERSION: &str = "investigations-preview";
/// `Accept-version` documented for comments; newer tenants do not need it.
const COMMENTS_VERSION: &str = "comments-preview";
/// `Accept-version` documented for the Alert Triage API.
const TRIAGE_VERSION: &str = "strong-force-preview";

/// The statuses that are not closed, as far as they are known.
const OPEN: [&str; 3] = ["OPEN", "INVESTIGATING", "WAITING"];

/// What may stand in a path segment as it is. Colons of RRNs may; a slash in an
/// RRN could lead elsewhere and is encoded.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b':').remove(b'-').remove(b'_').remove(b'~');

/// An identifier as one path segment. Dots are encoded too: `..` is no name.
fn segment(id: &str) -> String {
    utf8_percent_encode(id, SEGMENT).to_string()
}

/// A `GET`.
fn get(target: String, accept_version: Option<&'static str>) -> Request {
    Request { method: Method::Get, target, body: None, accept_version }
}

/// Says whether the key is known.
#[must_use]
pub fn validate() -> Request {
    get(VALIDATE.to_owned(), None)
}

/// A page of the investigations created between two instants, both excluded,
/// oldest first; only those that are not closed if so wanted.
#[must_use]
pub fn investigations(after: Utc, before: Utc, index: u64, size: u64, open_only: bool) -> Request {
    let statuses = if open_only { format!("&statuses={}", OPEN.join(",")) } else { String::new() };
    get(
        format!(
            "{INVESTIGATIONS}?index={index}&size={size}&sort=created_time,ASC&start_time={}&end_time={}{statuses}",
            after.query(),
            before.query()
        ),
        Some(INVESTIGATIONS_VERSION),
    )
}

/// Whether the list of what is not closed is asked for by a status.
#[must_use]
pub fn is_asked_for(status: &str) -> bool {
    OPEN.contains(&status)
}

/// The shortest list of investigations: whether the vendor answers at all.
#[must_use]
pub fn any_investigation(now: Utc) -> Request {
    investigations(now.plus_seconds(-60), now, 0, 1, false)
}

/// A page of the investigations created between two instants, those with the
/// newest alert first.
#[must_use]
pub fn investigations_by_alert(after: Utc, before: Utc, index: u64) -> Request {
    get(
        format!(
            "{INVESTIGATIONS}?index={index}&size={PAGE_SIZE}&sort=alerts_most_recent_created_time,DESC&start_time={}&end_time={}",
            after.query(),
            before.query()
        ),
        Some(INVESTIGATIONS_VERSION),
    )
}

/// One investigation.
#[must_use]
pub fn investigation(rrn: &str) -> Request {
    get(format!("{INVESTIGATIONS}/{}", segment(rrn)), Some(INVESTIGATIONS_VERSION))
}

/// A page of the alerts of an investigation, newest first.
#[must_use]
pub fn alerts(rrn: &str, index: u64) -> Request {
    get(
        format!("{INVESTIGATIONS}/{}/alerts?index={index}&size={PAGE_SIZE}", segment(rrn)),
        Some(INVESTIGATIONS_VERSION),
    )
}

/// A page of the evidence of an alert.
#[must_use]
pub fn evidences(alert_rrn: &str, index: u64) -> Request {
    get(format!("{TRIAGE}/{}/evidences?index={index}&size={PAGE_SIZE}", segment(alert_rrn)), Some(TRIAGE_VERSION))
}

/// A page of the actors of an alert.
#[must_use]
pub fn actors(alert_rrn: &str, index: u64) -> Request {
    get(format!("{TRIAGE}/{}/actors?index={index}&size={PAGE_SIZE}", segment(alert_rrn)), Some(TRIAGE_VERSION))
}

/// All alerts of Rapid7's other products in an investigation; this list has no
/// pages.
#[must_use]
pub fn product_alerts(rrn: &str) -> Request {
    get(format!("{INVESTIGATIONS}/{}/rapid7-product-alerts", segment(rrn)), Some(INVESTIGATIONS_VERSION))
}

/// A page of the comments on an investigation, oldest first, so that a new one
/// shifts nothing.
#[must_use]
pub fn comments(rrn: &str, index: u64, size: u64) -> Request {
    get(
        format!("{COMMENTS}?target={}&index={index}&size={size}&sortDirection=ASC", segment(rrn)),
        Some(COMMENTS_VERSION),
    )
}

/// The restricted evidence of an investigation, which has no pages.
#[must_use]
pub fn restricted_evidence(rrn: &str) -> Request {
    get(format!("{RESTRICTED}/{}/evidence", segment(rrn)), None)
}

/// One alert of the Alert Triage API, with the MITRE codes of its rule.
#[must_use]
pub fn triage_alert(rrn: &str) -> Request {
    get(format!("{TRIAGE}/{}", segment(rrn)), Some(TRIAGE_VERSION))
}

/// Alerts of the Alert Triage API by their RRNs, at most 100.
#[must_use]
pub fn triage_alerts(rrns: &[&str]) -> Request {
    let rrns: Vec<String> = rrns.iter().map(|rrn| crate::text::quoted(rrn)).collect();
    post(TRIAGE_RRNS.to_owned(), format!(r#"{{"rrns":[{}]}}"#, rrns.join(",")))
}

/// A page of the RRNs of the alerts created between two instants, both
/// excluded, in no order. With RRNs only, because pages of whole alerts are
/// inconsistent when they are deep.
#[must_use]
pub fn triage_search(after: Utc, before: Utc, index: u64, size: u64) -> Request {
    post(
        format!("{TRIAGE_SEARCH}?index={index}&size={size}&rrns_only=true"),
        format!(r#"{{"search":{{"start_time":"{}","end_time":"{}"}}}}"#, after.query(), before.query()),
    )
}

/// A `POST` of the Alert Triage API. They only read.
fn post(target: String, body: String) -> Request {
    Request { method: Method::Post, target, body: Some(body), accept_version: Some(TRIAGE_VERSION) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_rrn_cannot_leave_its_segment() {
        assert_eq!(
            alerts("rrn:investigation:us:7a-b:investigation:AB_C", 3).target,
            "/idr/v2/investigations/rrn:investigation:us:7a-b:investigation:AB_C/alerts?index=3&size=100"
        );
        assert_eq!(investigation("../../x?y#ü").target, "/idr/v2/investigations/%2E%2E%2F%2E%2E%2Fx%3Fy%23%C3%BC");
    }

    #[test]
    fn lists_are_never_left_to_the_vendors_defaults() {
        let target = investigations(Utc(0), Utc(1_000_000), 2, 100, false).target;
        assert_eq!(
            target,
            "/idr/v2/investigations?index=2&size=100&sort=created_time,ASC&start_time=1970-01-01T00:00:00.000Z&end_time=1970-01-01T00:00:01.000Z"
        );
    }
}
