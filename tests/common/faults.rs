//! Everything that can go wrong with an answer.

use std::collections::BTreeMap;

use insightidr_simulator::Fault;

/// Headers by name.
fn headers(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Everything that can go wrong with an answer, and can pass.
pub fn faults() -> Vec<Fault> {
    let status = |status| Fault::Status { status, body: None, headers: Default::default(), retry_after: None };
    vec![
        status(400),
        status(401),
        status(403),
        status(404),
        status(408),
        status(429),
        status(500),
        status(502),
        status(503),
        status(504),
        status(204),
        status(207),
        Fault::Status {
            status: 429,
            body: Some("slow down".into()),
            headers: Default::default(),
            retry_after: Some("7".into()),
        },
        Fault::Status { status: 503, body: None, headers: Default::default(), retry_after: Some("soon".into()) },
        // A date in the simulated future.
        Fault::Status {
            status: 429,
            body: None,
            headers: Default::default(),
            retry_after: Some("Thu, 15 Jan 2026 12:01:30 GMT".into()),
        },
        Fault::ResetBeforeHead {},
        Fault::ResetAfterHead {},
        Fault::Truncate { bytes: 10 },
        Fault::TruncateJson { bytes: None },
        Fault::Stall { seconds: 3_600.0, after_head: false },
        Fault::Stall { seconds: 3_600.0, after_head: true },
        Fault::Html {},
        Fault::EmptyObject {},
        Fault::EmptyBody {},
        Fault::NullBody {},
        Fault::NoData {},
        Fault::NullData {},
        Fault::WrongType {},
        Fault::NoMetadata {},
        Fault::MissingRows { rows: 3 },
        Fault::ShortTotal { less: 60 },
        Fault::LongTotal { more: 500 },
        Fault::DuplicatePage {},
        Fault::EndlessPages {},
        Fault::RegionFailures {},
        Fault::EmptyRegionFailures {},
        Fault::InvalidUtf8 {},
        Fault::WrongEncoding {},
        Fault::GzipBomb { megabytes: 64 },
        Fault::BadRow { row: "{\"rrn\":".into() },
        Fault::Redirect { location: "https://elsewhere.example/".into(), status: 302 },
    ]
}

/// What is odd with an answer but does not make it wrong, and answers that never come whole.
pub fn oddities() -> Vec<Fault> {
    vec![
        Fault::Delay { ms: 120_000 },
        Fault::Drip { bytes: 64, ms: 10 },
        Fault::DeepJson { depth: 60 },
        Fault::BigBody { megabytes: 1 },
        Fault::Headers { headers: headers(&[("ratelimit-remaining", "0"), ("ratelimit-reset", "9")]) },
        Fault::Headers {
            headers: headers(&[("ratelimit-remaining", "-1"), ("x-ratelimit-reset", "99999999999999999999")]),
        },
        Fault::Headers {
            headers: headers(&[("retry-after", "Wed, 21 Oct 2015 07:28:00 GMT"), ("ratelimit-limit", "ø")]),
        },
    ]
}

/// Whether a fault says that something is not there, or not for this key: that
/// is believed for a while.
pub fn is_absence(fault: &Fault) -> bool {
    matches!(fault, Fault::Status { status: 403 | 404, .. })
}
