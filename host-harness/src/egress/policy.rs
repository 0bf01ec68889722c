//! The egress policy of one instance: which requests may leave at all.
//!
//! What: scheme, host, port, method and path prefix of a request are compared with the plan. Everything that the plan
//! does not name is denied.
//! Why paths are compared as they are written: a prefix is only worth something when no server can read the path as
//! one outside of it. So the forms that servers read differently (`..`, `//`, encoded slashes, encoded percent signs,
//! backslashes, control characters) are refused, and all else is left exactly as the guest wrote it.
//! Not guaranteed: what the vendor does behind an allowed path; the query is not looked at.

use crate::contract::types;
use http::{Method, Uri};

/// What an instance may reach, made from a plan that was validated before.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    scheme: &'static str,
    host: String,
    port: u16,
    rules: Vec<types::RequestRule>,
}

/// Why a request may not leave. Each text says what would have been allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Denial {
    /// Another scheme than planned.
    #[error("scheme {actual:?} is not planned; {planned} is")]
    Scheme {
        /// Of the request.
        actual: String,
        /// Of the plan.
        planned: &'static str,
    },
    /// Another host than planned, or one with user information before it.
    #[error("host {actual:?} is not planned; {planned} is")]
    Host {
        /// Of the request.
        actual: String,
        /// Of the plan.
        planned: String,
    },
    /// Another port than planned.
    #[error("port {actual} is not planned; {planned} is")]
    Port {
        /// Of the request.
        actual: u16,
        /// Of the plan.
        planned: u16,
    },
    /// A method that is not in the plan.
    #[error("method {actual} is not planned; {planned} is")]
    Method {
        /// Of the request.
        actual: String,
        /// Of the plan.
        planned: String,
    },
    /// A path outside of the planned prefixes.
    #[error("path {actual:?} is not planned for {method}; what begins with {planned} is")]
    Path {
        /// Of the request.
        method: String,
        /// Of the request.
        actual: String,
        /// Of the plan.
        planned: String,
    },
    /// A path that servers read differently.
    #[error("path {actual:?} is ambiguous: {why}")]
    AmbiguousPath {
        /// Of the request.
        actual: String,
        /// What is ambiguous in it.
        why: &'static str,
    },
    /// A header that only the host may set.
    #[error("header {name} is set by the host and may not come from a connector")]
    Header {
        /// Its name.
        name: String,
    },
    /// A body where none belongs: some servers do not read it, and take it for the next request.
    #[error("a {method} request has no body; send what the vendor wants to know in the path, or by a planned POST")]
    Body {
        /// Of the request.
        method: String,
    },
    /// No authority, or no path.
    #[error("a request without an authority or without a path leads nowhere; set both")]
    Incomplete,
    /// Any request at all, while a connector describes or configures.
    #[error("no request is allowed here: describe and configure run with every import denied")]
    Everything,
}

impl Denial {
    /// A stable name of the reason.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Scheme { .. } => "egress-scheme-denied",
            Self::Host { .. } => "egress-host-denied",
            Self::Port { .. } => "egress-port-denied",
            Self::Method { .. } => "egress-method-denied",
            Self::Path { .. } => "egress-path-denied",
            Self::AmbiguousPath { .. } => "egress-path-ambiguous",
            Self::Header { .. } => "egress-header-denied",
            Self::Body { .. } => "egress-body-denied",
            Self::Incomplete => "egress-incomplete",
            Self::Everything => "egress-denied",
        }
    }
}

impl Policy {
    /// The policy of a plan.
    #[must_use]
    pub fn from_plan(plan: &types::Plan) -> Self {
        Self {
            scheme: match plan.origin.scheme {
                types::Scheme::Https => "https",
                types::Scheme::Http => "http",
            },
            host: plan.origin.host.clone(),
            port: plan.origin.port,
            rules: plan.rules.clone(),
        }
    }

    /// An origin as [`Policy::origin`] writes it.
    #[must_use]
    pub fn origin_of(origin: &types::Origin) -> String {
        Self::from_plan(&types::Plan { origin: origin.clone(), rules: Vec::new() }).origin()
    }

    /// The planned host.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The planned origin as a URL without a path, for example `https://api.example.com:8443`.
    #[must_use]
    pub fn origin(&self) -> String {
        format!("{}://{}", self.scheme, self.authority())
    }

    /// Host, and port when it is not the scheme's own: what stands in the `Host` header.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.port == default_port(self.scheme) { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }

    /// Decides about one request.
    ///
    /// # Errors
    /// The first thing about it that is not planned.
    pub fn check(&self, method: &Method, uri: &Uri) -> Result<(), Denial> {
        let scheme = uri.scheme_str().unwrap_or_default();
        if scheme != self.scheme {
            return Err(Denial::Scheme { actual: scheme.to_owned(), planned: self.scheme });
        }
        let authority = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
        let host = uri.host().unwrap_or_default();
        if !host.eq_ignore_ascii_case(&self.host) || authority.contains('@') {
            // User information may be a password; only the host is shown.
            return Err(Denial::Host { actual: host.to_owned(), planned: self.host.clone() });
        }
        let port = uri.port_u16().unwrap_or_else(|| default_port(scheme));
        if port != self.port || (uri.port().is_some() && uri.port_u16().is_none()) {
            return Err(Denial::Port { actual: port, planned: self.port });
        }
        self.check_path(method.as_str(), uri.path())
    }

    /// Decides about method and path.
    ///
    /// # Errors
    /// When no rule has the method, or the path is ambiguous or outside of what the rules with the method allow.
    pub fn check_path(&self, method: &str, path: &str) -> Result<(), Denial> {
        let prefixes: Vec<&str> =
            self.rules.iter().filter(|rule| rule.method == method).map(|rule| rule.path_prefix.as_str()).collect();
        if prefixes.is_empty() {
            let mut planned: Vec<&str> = self.rules.iter().map(|rule| rule.method.as_str()).collect();
            planned.sort_unstable();
            planned.dedup();
            return Err(Denial::Method { actual: method.to_owned(), planned: planned.join(", ") });
        }
        if let Some(why) = ambiguity(path) {
            return Err(Denial::AmbiguousPath { actual: path.to_owned(), why });
        }
        if prefixes.iter().any(|prefix| lies_below(path, prefix)) {
            return Ok(());
        }
        Err(Denial::Path { method: method.to_owned(), actual: path.to_owned(), planned: prefixes.join(", ") })
    }
}

/// The port a scheme has when none is given.
fn default_port(scheme: &str) -> u16 {
    if scheme == "http" { 80 } else { 443 }
}

/// Whether a path is a prefix itself or lies below it.
pub(crate) fn lies_below(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/'))
}

/// What about a path servers, proxies and URL parsers do not read alike, if anything.
pub(crate) fn ambiguity(path: &str) -> Option<&'static str> {
    let Some(segments) = path.strip_prefix('/') else {
        return Some("it does not begin with a slash");
    };
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some("it holds spaces, control characters or bytes that are not ASCII; percent-encode them");
    }
    if path.contains('\\') {
        return Some("it holds a backslash");
    }
    let count = segments.split('/').count();
    for (at, segment) in segments.split('/').enumerate() {
        if segment.is_empty() && at + 1 < count {
            return Some("it holds an empty segment (two slashes)");
        }
        let decoded = match decode(segment) {
            Ok(decoded) => decoded,
            Err(why) => return Some(why),
        };
        // What is not UTF-8 some servers read as overlong forms: two bytes for a dot.
        let Ok(decoded) = String::from_utf8(decoded) else {
            return Some("it holds percent-encoded bytes that are not UTF-8");
        };
        if decoded.contains(LIKE_SLASHES) {
            return Some("it holds an encoded character that is taken for a slash");
        }
        // Some servers cut parameters (`;x=1`) off a segment before they look for dots, some spaces and dots off its end.
        let name = decoded.split(';').next().unwrap_or_default();
        if !segment.is_empty() && name.chars().all(|c| c.is_whitespace() || LIKE_DOTS.contains(&c)) {
            return Some("it holds a segment of dots or spaces");
        }
    }
    None
}

/// What is a dot, or becomes one or more where text is brought into another form (NFKC, best fit).
const LIKE_DOTS: [char; 7] = ['.', '\u{2024}', '\u{2025}', '\u{2026}', '\u{3002}', '\u{ff0e}', '\u{ff61}'];

/// What becomes a slash or a backslash in the same way.
const LIKE_SLASHES: [char; 7] = ['\u{2044}', '\u{2215}', '\u{2216}', '\u{29f8}', '\u{29f9}', '\u{ff0f}', '\u{ff3c}'];

/// Undoes percent-encoding once.
fn decode(segment: &str) -> Result<Vec<u8>, &'static str> {
    let mut decoded = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let mut digit =
            || bytes.next().and_then(|byte| char::from(byte).to_digit(16)).and_then(|d| u8::try_from(d).ok());
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err("it holds a percent sign without two hexadecimal digits");
        };
        match high << 4 | low {
            b'/' | b'\\' => return Err("it holds an encoded slash or backslash"),
            b'%' => return Err("it holds an encoded percent sign (double encoding)"),
            0..=0x1f | 0x7f => return Err("it holds an encoded control character"),
            byte => decoded.push(byte),
        }
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy::from_plan(&types::Plan {
            origin: types::Origin { scheme: types::Scheme::Https, host: "us.api.example.com".into(), port: 443 },
            rules: [("GET", "/idr/v2/"), ("GET", "/validate"), ("POST", "/idr/v2/investigations/_search")]
                .map(|(method, prefix)| types::RequestRule { method: method.into(), path_prefix: prefix.into() })
                .to_vec(),
        })
    }

    fn verdict(method: &str, uri: &str) -> &'static str {
        match policy().check(&method.parse().unwrap(), &uri.parse().unwrap()) {
            Ok(()) => "allowed",
            Err(denial) => {
                assert!(!denial.to_string().is_empty());
                denial.code()
            }
        }
    }

    #[test]
    fn only_the_planned_origin_methods_and_paths_pass() {
        let table = [
            ("GET", "https://us.api.example.com/idr/v2/investigations?index=0&sort=created_time,ASC", "allowed"),
            ("POST", "https://us.api.example.com/idr/v2/investigations/_search", "allowed"),
            ("GET", "https://us.api.example.com:443/validate", "allowed"),
            ("GET", "https://US.API.example.COM/validate", "allowed"),
            ("GET", "https://us.api.example.com/validate/more", "allowed"),
            ("GET", "https://us.api.example.com/idr/v2/", "allowed"),
            ("GET", "http://us.api.example.com/validate", "egress-scheme-denied"),
            ("GET", "/validate", "egress-scheme-denied"),
            ("GET", "https://eu.api.example.com/validate", "egress-host-denied"),
            ("GET", "https://us.api.example.com./validate", "egress-host-denied"),
            ("GET", "https://us.api.example.com.evil.com/validate", "egress-host-denied"),
            ("GET", "https://evil.com@us.api.example.com/validate", "egress-host-denied"),
            ("GET", "https://us.api.example.com@evil.com/validate", "egress-host-denied"),
            ("GET", "https://127.0.0.1/validate", "egress-host-denied"),
            ("GET", "https://us.api.example.com:8443/validate", "egress-port-denied"),
            ("GET", "https://us.api.example.com:80/validate", "egress-port-denied"),
            ("POST", "https://us.api.example.com/idr/v2/investigations/bulk_close", "egress-path-denied"),
            ("POST", "https://us.api.example.com/validate", "egress-path-denied"),
            ("PUT", "https://us.api.example.com/idr/v2/investigations", "egress-method-denied"),
            ("get", "https://us.api.example.com/validate", "egress-method-denied"),
            ("CONNECT", "https://us.api.example.com/validate", "egress-method-denied"),
            ("GET", "https://us.api.example.com", "egress-path-denied"),
            ("GET", "https://us.api.example.com/", "egress-path-denied"),
            ("GET", "https://us.api.example.com/idr/v2", "egress-path-denied"),
            ("GET", "https://us.api.example.com/idr/v1/investigations", "egress-path-denied"),
            ("GET", "https://us.api.example.com/validated", "egress-path-denied"),
            ("GET", "https://us.api.example.com/IDR/v2/investigations", "egress-path-denied"),
            ("GET", "https://us.api.example.com/%69dr/v2/investigations", "egress-path-denied"),
        ];
        for (method, uri, expected) in table {
            assert_eq!(verdict(method, uri), expected, "{method} {uri}");
        }
    }

    #[test]
    fn resource_names_with_colons_pass_raw_and_encoded() {
        for id in [
            "rrn:investigation:us:org:investigation:ABC",
            "rrn%3Ainvestigation%3aus%3Aorg:investigation:ABC",
            "a.b..c",
            "..a",
            "a%2Eb",
            "%2Ehidden",
            "a;v=1",
            "a@b",
            "x%20y",
            "%C3%BC",
            "a%20.b.%20c",
            "a..",
        ] {
            assert_eq!(policy().check_path("GET", &format!("/idr/v2/investigations/{id}/alerts")), Ok(()), "{id}");
        }
    }

    #[test]
    fn paths_that_servers_read_differently_are_refused() {
        for path in [
            "/idr/v2/../v1/users",
            "/idr/v2/..",
            "/idr/v2/./x",
            "/idr/v2/.",
            "/idr/v2/%2e%2e/v1",
            "/idr/v2/.%2E/v1",
            "/idr/v2/%2E",
            "/idr/v2/..;/v1",
            "/idr/v2/..;x=1/v1",
            "/idr/v2/%2e%2e%3b/v1",
            "/idr/v2//x",
            "//idr/v2/x",
            "/idr/v2/a%2Fb",
            "/idr/v2/a%2fb",
            "/idr/v2/a%5cb",
            "/idr/v2/a\\b",
            "/idr/v2/a%252Fb",
            "/idr/v2/a%00",
            "/idr/v2/a%0d%0aX:1",
            "/idr/v2/a%7f",
            "/idr/v2/a%",
            "/idr/v2/a%2",
            "/idr/v2/a%zz",
            "/idr/v2/%c0%ae%c0%ae/v1",
            "/idr/v2/a%ff",
            "/idr/v2/%c0%afv1",
            "/idr/v2/..%20/v1",
            "/idr/v2/%20../v1",
            "/idr/v2/.%20./v1",
            "/idr/v2/..%c2%a0/v1",
            "/idr/v2/.../v1",
            "/idr/v2/%20/v1",
            "/idr/v2/..%20;x/v1",
            "/idr/v2/;x/v1",
            "/idr/v2/%ef%bc%8e%ef%bc%8e/v1",
            "/idr/v2/%e2%80%a5/v1",
            "/idr/v2/a%ef%bc%8fb",
            "/idr/v2/a%e2%88%95b",
            "/idr/v2/ü",
            "/idr/v2/a b",
            "*",
            "",
        ] {
            let denial = policy().check_path("GET", path).unwrap_err();
            assert_eq!(denial.code(), "egress-path-ambiguous", "{path}");
        }
    }

    #[test]
    fn the_authority_names_the_port_only_when_it_is_not_the_schemes_own() {
        assert_eq!(policy().origin(), "https://us.api.example.com");
        let other = Policy { port: 8443, ..policy() };
        assert_eq!(other.origin(), "https://us.api.example.com:8443");
        assert_eq!(other.check(&Method::GET, &"https://us.api.example.com:8443/validate".parse().unwrap()), Ok(()));
    }
}
