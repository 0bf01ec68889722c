//! Which headers belong to the host alone.
//!
//! What: the names that a guest may neither set on a request nor see on a response: what frames a message or routes
//! it, what carries credentials, what tells a server to take the request for another one, and the headers that this
//! connector's own credentials go into.
//! Why one list for both directions: a credential header that a server echoes is as much a leak as one that is read.
//! Why `_` counts as `-`: servers that hand headers to programs as variables (CGI, WSGI) take the one for the other.
//! Not guaranteed: other headers are passed on as they are; their values are searched for secrets elsewhere.

use http::HeaderName;
use std::borrow::Cow;
use std::sync::Arc;
use wasmtime_wasi_http::{DEFAULT_FORBIDDEN_HEADERS, ForbiddenHeaderFilter};

/// Besides wasmtime's own list (`host`, `connection`, `transfer-encoding`, `upgrade`, …) and everything that begins
/// with `proxy-`.
const FORBIDDEN: [&str; 9] =
    ["authorization", "cookie", "cookie2", "set-cookie", "expect", "te", "trailer", "forwarded", "alt-svc"];

/// Headers by which a guest could choose how an answer is cut or written, and so get a secret that a server repeats past
/// the search for it.
const ANSWER_FORMS: [&str; 3] = ["accept-charset", "if-range", "range"];

/// Headers by which servers and frameworks take a request for one of another method or path. With them a guest could
/// have done what its plan does not name.
/// Names that they take for the address of whoever asks are among them: a guest is nobody else.
const OVERRIDES: [&str; 18] = [
    "cf-connecting-ip",
    "client-ip",
    "fastly-client-ip",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-host",
    "x-http-method",
    "x-http-method-override",
    "x-http-verb",
    "x-method",
    "x-method-override",
    "x-middleware-subrequest",
    "x-originating-ip",
    "x-real-ip",
    "x-remote-addr",
    "x-remote-ip",
    "x-rewrite-url",
];

/// How the names of whole families of such headers begin.
const FAMILIES: [&str; 4] = ["proxy-", "x-envoy-", "x-forwarded-", "x-original-"];

/// Headers the transport sets by itself. What a guest says of them is silently replaced, because guest libraries set
/// them on their own and mean no harm.
pub(super) const REPLACED: [&str; 3] = ["accept-encoding", "content-length", "user-agent"];

/// Other headers that say how a message is to be read, which a guest may set.
const READ_BY: [&str; 3] = ["accept", "content-encoding", "content-type"];

/// Whether a header belongs to the host whatever the connector.
#[must_use]
pub(crate) fn belongs_to_host(name: &HeaderName) -> bool {
    let text = plain(name);
    let text = text.as_ref();
    DEFAULT_FORBIDDEN_HEADERS.iter().any(|forbidden| forbidden == text)
        || FORBIDDEN.contains(&text)
        || OVERRIDES.contains(&text)
        || FAMILIES.iter().any(|family| text.starts_with(family))
}

/// Whether a guest may not set a header, whatever the connector.
#[must_use]
pub(super) fn is_forbidden(name: &HeaderName) -> bool {
    belongs_to_host(name) || ANSWER_FORMS.contains(&plain(name).as_ref()) || is_second(name)
}

/// Whether a name is another spelling, with `_`, of a header that is there already or may be. Where a server takes both for
/// the same it might believe this one: with a length of its own, the rest of a body would be the next request.
fn is_second(name: &HeaderName) -> bool {
    match plain(name) {
        Cow::Borrowed(_) => false,
        Cow::Owned(text) => REPLACED.contains(&text.as_str()) || READ_BY.contains(&text.as_str()),
    }
}

/// Whether servers may take two headers for the same.
#[must_use]
pub(super) fn are_alike(one: &HeaderName, other: &HeaderName) -> bool {
    one == other || plain(one) == plain(other)
}

/// A name as servers see it that do not tell `_` from `-`.
fn plain(name: &HeaderName) -> Cow<'_, str> {
    let text = name.as_str();
    if text.contains('_') { text.replace('_', "-").into() } else { text.into() }
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
    Arc::new(move |name| is_forbidden(name) || credentials.iter().any(|credential| are_alike(credential, name)))
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
            "X_API_KEY",
            "x-api_key",
            "x_forwarded_for",
            "transfer_encoding",
            "x_http_method_override",
            "x-original-host",
            "x-envoy-original-path",
            "x-host",
            "x-real-ip",
            "x-http-verb",
            "x-method",
            "True-Client-IP",
            "x-cluster-client-ip",
            "X-Client-IP",
            "CF-Connecting-IP",
            "x_remote_addr",
            "x-middleware-subrequest",
            "user_agent",
            "range",
            "if-range",
            "accept-charset",
            "content_length",
            "Content_Length",
            "accept_encoding",
            "content_type",
            "content_encoding",
        ] {
            assert!(forbidden(&name(header)), "{header}");
        }
        for header in
            ["accept", "accept-version", "content-type", "content-length", "user-agent", "retry-after", "x_other"]
        {
            assert!(!forbidden(&name(header)), "{header}");
        }
    }

    #[test]
    fn a_credential_goes_into_authorization_or_a_header_of_its_own() {
        for header in ["authorization", "x-api-key", "api-token", "api_token"] {
            assert!(may_carry_credential(&name(header)), "{header}");
        }
        for header in ["host", "connection", "cookie", "proxy-authorization", "content-length", "user-agent", "te"] {
            assert!(!may_carry_credential(&name(header)), "{header}");
        }
    }
}
