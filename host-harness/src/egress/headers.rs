//! Which headers belong to the host alone.
//!
//! What: the names that a guest may neither set on a request nor see on a response: what frames a message or routes
//! it, what carries credentials, what tells a server to take the request for another one, and the headers that this
//! connector's own credentials go into.
//! Why one list for both directions: a credential header that a server echoes is as much a leak as one that is read.
//! Not guaranteed: other headers are passed on as they are; their values are searched for secrets elsewhere.

use http::HeaderName;
use std::sync::Arc;
use wasmtime_wasi_http::{DEFAULT_FORBIDDEN_HEADERS, ForbiddenHeaderFilter};

/// Besides wasmtime's own list (`host`, `connection`, `transfer-encoding`, `upgrade`, …) and everything that begins
/// with `proxy-`.
const FORBIDDEN: [&str; 9] =
    ["authorization", "cookie", "cookie2", "set-cookie", "expect", "te", "trailer", "forwarded", "alt-svc"];

/// Headers by which servers and frameworks take a request for one of another method or path. With them a guest could
/// have done what its plan does not name.
const OVERRIDES: [&str; 6] = [
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-method",
    "x-original-url",
    "x-rewrite-url",
];

/// Headers the transport sets by itself. What a guest says of them is silently replaced, because guest libraries set
/// them on their own and mean no harm.
pub(super) const REPLACED: [&str; 2] = ["accept-encoding", "content-length"];

/// Whether a header belongs to the host whatever the connector.
#[must_use]
pub(crate) fn belongs_to_host(name: &HeaderName) -> bool {
    let text = name.as_str();
    DEFAULT_FORBIDDEN_HEADERS.contains(name)
        || FORBIDDEN.contains(&text)
        || OVERRIDES.contains(&text)
        || text.starts_with("proxy-")
        || text.starts_with("x-forwarded-")
}

/// Whether a header may carry a credential. `authorization` may; what frames or routes a message may not.
#[must_use]
pub(crate) fn may_carry_credential(name: &HeaderName) -> bool {
    const CONTENT: [&str; 8] = [
        "accept",
        "accept-encoding",
        "content-encoding",
        "content-length",
        "content-type",
        "date",
        "range",
        "user-agent",
    ];
    name.as_str() == "authorization" || !(belongs_to_host(name) || CONTENT.contains(&name.as_str()))
}

/// The filter for a guest whose host adds these credential headers.
#[must_use]
pub(crate) fn forbidden_to_guests(credentials: &[HeaderName]) -> ForbiddenHeaderFilter {
    let credentials = credentials.to_vec();
    Arc::new(move |name| belongs_to_host(name) || credentials.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HeaderName {
        text.parse().unwrap()
    }

    #[test]
    fn framing_routing_and_credential_headers_are_the_hosts() {
        let forbidden = forbidden_to_guests(&[name("X-Api-Key")]);
        for header in [
            "host",
            "connection",
            "keep-alive",
            "transfer-encoding",
            "upgrade",
            "proxy-authorization",
            "proxy-connection",
            "proxy-anything",
            "te",
            "trailer",
            "expect",
            "authorization",
            "cookie",
            "set-cookie",
            "http2-settings",
            "x-api-key",
            "X-API-KEY",
            "x-forwarded-host",
            "X-HTTP-Method-Override",
            "x-http-method",
            "x-method-override",
            "x-original-method",
            "x-original-url",
            "x-rewrite-url",
        ] {
            assert!(forbidden(&name(header)), "{header}");
        }
        for header in
            ["accept", "accept-version", "content-type", "user-agent", "r7-correlation-id", "retry-after", "x-other"]
        {
            assert!(!forbidden(&name(header)), "{header}");
        }
    }

    #[test]
    fn a_credential_goes_into_authorization_or_a_header_of_its_own() {
        for header in ["authorization", "x-api-key", "api-token"] {
            assert!(may_carry_credential(&name(header)), "{header}");
        }
        for header in ["host", "connection", "cookie", "proxy-authorization", "content-length", "user-agent", "te"] {
            assert!(!may_carry_credential(&name(header)), "{header}");
        }
    }
}
