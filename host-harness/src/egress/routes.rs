//! Routes: a planned host reached at another address.
//!
//! What: `HOST=URL` sends what is planned for `HOST` to the origin `URL`, for example to a simulator on loopback. The
//! policy, the `Host` header and the credentials stay those of the planned origin; only the connection differs.
//! Why: it is an operator's explicit word, so it is the only way to a loopback or private address and the only way to
//! send anything over plain HTTP.
//! Not guaranteed: that who listens there is trustworthy. The secrets of the tenant are sent to it.

use std::collections::BTreeMap;
use std::fmt;
use url::{Host, Url};

/// Routes by planned host. Empty by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes {
    targets: BTreeMap<String, Url>,
}

/// Why a route is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// No `=` in it.
    #[error("the route {route:?} is not of the form HOST=URL, for example api.example.com=http://127.0.0.1:8811")]
    Form {
        /// The route as given.
        route: String,
    },
    /// The left side is not a host name.
    #[error("the route {route:?} does not begin with a host name in lower case, without scheme, port or path")]
    Host {
        /// The route as given.
        route: String,
    },
    /// The right side is not an origin.
    #[error("the route {route:?} does not lead to an origin: {why}; give http://HOST[:PORT] or https://HOST[:PORT]")]
    Target {
        /// The route as given.
        route: String,
        /// What is wrong with the right side.
        why: String,
    },
    /// Two routes for one host.
    #[error("two routes are given for {host}; keep one")]
    Twice {
        /// The planned host.
        host: String,
    },
}

impl RouteError {
    /// A stable name of the error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Form { .. } => "route-form",
            Self::Host { .. } => "route-host",
            Self::Target { .. } => "route-target",
            Self::Twice { .. } => "route-twice",
        }
    }
}

impl Routes {
    /// No routes: every planned host is reached at its own public address.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads routes, each of the form `HOST=URL`.
    ///
    /// # Errors
    /// At the first one that is malformed or whose host was given before.
    pub fn parse<S: AsRef<str>>(routes: impl IntoIterator<Item = S>) -> Result<Self, RouteError> {
        let mut all = Self::new();
        for route in routes {
            all.add(route.as_ref())?;
        }
        Ok(all)
    }

    /// Adds one route of the form `HOST=URL`.
    ///
    /// # Errors
    /// When it is malformed or its host was given before.
    pub fn add(&mut self, route: &str) -> Result<(), RouteError> {
        // What is echoed must not hold what may be a password (`http://user:password@host`) nor run on for ever.
        let shown =
            || if route.contains('@') { "HOST=URL with a user".to_owned() } else { route.chars().take(200).collect() };
        let (host, target) = route.split_once('=').ok_or_else(|| RouteError::Form { route: shown() })?;
        if !is_host_name(host) {
            return Err(RouteError::Host { route: shown() });
        }
        let wrong = |why: &str| RouteError::Target { route: shown(), why: why.to_owned() };
        let url = Url::parse(target).map_err(|error| wrong(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(wrong("its scheme is neither http nor https"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("it holds a user or password"));
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("it holds a path, query or fragment"));
        }
        if url.port() == Some(0) {
            return Err(wrong("its port is 0"));
        }
        if self.targets.contains_key(host) {
            return Err(RouteError::Twice { host: host.to_owned() });
        }
        self.targets.insert(host.to_owned(), url);
        Ok(())
    }

    /// Where a planned host is sent instead, if it is.
    #[must_use]
    pub fn target(&self, host: &str) -> Option<&Url> {
        self.targets.get(host)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// The route of a planned host, if there is one, as the operator wrote it: `HOST=URL`.
    #[must_use]
    pub fn of(&self, host: &str) -> Option<String> {
        self.target(host).map(|url| format!("{host}={}", url.as_str().trim_end_matches('/')))
    }

    /// All routes as the operator wrote them: `HOST=URL`.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        self.targets.keys().filter_map(|host| self.of(host)).collect()
    }

    /// Planned hosts and where they are sent, in the order of the hosts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Url)> {
        self.targets.iter().map(|(host, url)| (host.as_str(), url))
    }
}

impl fmt::Display for Routes {
    /// `HOST -> URL`, joined by commas; `none` when there is none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.targets.is_empty() {
            return f.write_str("none");
        }
        for (at, (host, url)) in self.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{host} -> {}", url.as_str().trim_end_matches('/'))?;
        }
        Ok(())
    }
}

/// Whether a text is a DNS name of at least two labels, in lower case and without a final dot: no address, no port.
pub(crate) fn is_host_name(text: &str) -> bool {
    let label_is_sound = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    text.len() <= 253
        && text.contains('.')
        && text.split('.').all(label_is_sound)
        // The parser of URLs takes `1.2.3.4`, `0x7f.1` and the like for addresses, and so do resolvers.
        && matches!(Host::parse(text), Ok(Host::Domain(_)))
        && text.rsplit('.').next().is_some_and(|last| !last.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_maps_a_host_to_an_origin_and_shows_itself() {
        let routes =
            Routes::parse(["us.api.example.com=http://127.0.0.1:8811", "eu.api.example.com=https://[::1]:9/"]).unwrap();
        assert_eq!(routes.target("us.api.example.com").unwrap().as_str(), "http://127.0.0.1:8811/");
        assert!(routes.target("other.example.com").is_none());
        assert_eq!(
            routes.to_string(),
            "eu.api.example.com -> https://[::1]:9, us.api.example.com -> http://127.0.0.1:8811"
        );
        assert_eq!(Routes::new().to_string(), "none");
    }

    #[test]
    fn malformed_routes_are_refused_by_kind() {
        for (route, code) in [
            ("", "route-form"),
            ("a.example.com", "route-form"),
            ("=http://127.0.0.1", "route-host"),
            ("https://a.example.com=http://127.0.0.1", "route-host"),
            ("a.example.com:443=http://127.0.0.1", "route-host"),
            ("A.example.com=http://127.0.0.1", "route-host"),
            ("10.0.0.1=http://127.0.0.1", "route-host"),
            ("localhost=http://127.0.0.1", "route-host"),
            ("a.example.com=", "route-target"),
            ("a.example.com=127.0.0.1:80", "route-target"),
            ("a.example.com=ftp://127.0.0.1", "route-target"),
            ("a.example.com=http://127.0.0.1/path", "route-target"),
            ("a.example.com=http://127.0.0.1/?q", "route-target"),
            ("a.example.com=http://127.0.0.1:0", "route-target"),
            ("a.example.com=http://127.0.0.1:99999", "route-target"),
            ("a.example.com=http://user:hunter2@127.0.0.1", "route-target"),
        ] {
            let error = Routes::parse([route]).unwrap_err();
            assert_eq!(error.code(), code, "{route}");
            assert!(!error.to_string().contains("hunter2"));
        }
        let twice = Routes::parse(["a.example.com=http://127.0.0.1", "a.example.com=http://127.0.0.2"]).unwrap_err();
        assert_eq!(twice.code(), "route-twice");
    }

    #[test]
    fn host_names_are_names_and_never_addresses() {
        for good in ["a.b", "us.api.insight.example.com", "xn--bcher-kva.example", "1.example.com", "a-b.c1"] {
            assert!(is_host_name(good), "{good}");
        }
        for bad in [
            "",
            "a",
            "localhost",
            "1.2.3.4",
            "127.1",
            "0x7f.1",
            "1.2",
            "[::1]",
            "a..b",
            ".a.b",
            "a.b.",
            "-a.b",
            "a-.b",
            "A.b",
            "a_b.c",
            "a b.c",
            "a.b:80",
            "ü.de",
        ] {
            assert!(!is_host_name(bad), "{bad}");
        }
        assert!(!is_host_name(&format!("{}.com", "a".repeat(64))));
        assert!(!is_host_name(&format!("{}com", "a.".repeat(126))));
    }
}
