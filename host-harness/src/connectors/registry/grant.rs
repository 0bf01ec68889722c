//! What a connector asks for, and what it may be given: origins, rules of method and path prefix, headers for secrets.
//!
//! Why a type of its own: a plan says what one instance needs; whether a new version asks for more than the one before
//! is a question about sets, and the answer has to be readable by an operator.
//! Not guaranteed: that every rule is used at every origin. Rules of all instances of a type are taken together.

use crate::contract::types;
use crate::egress::{Policy, is_host_name, lies_below};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use url::Url;

/// A method and the paths it may be used on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Rule {
    /// In upper case.
    pub(super) method: String,
    /// A path itself, and what lies below it.
    pub(super) path_prefix: String,
}

/// A set of rights.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Grant {
    /// For example `https://api.example.com`, with a port when it is not the scheme's own.
    pub(super) origins: BTreeSet<String>,
    /// What may be requested there.
    pub(super) rules: BTreeSet<Rule>,
    /// Headers that carry secrets, in lower case.
    pub(super) headers: BTreeSet<String>,
}

impl Grant {
    /// What a connector with this description asks for with this plan.
    pub(super) fn asked(descriptor: &types::Descriptor, plan: &types::Plan) -> Self {
        let rule =
            |rule: &types::RequestRule| Rule { method: rule.method.clone(), path_prefix: rule.path_prefix.clone() };
        Self {
            origins: BTreeSet::from([Policy::from_plan(plan).origin()]),
            rules: plan.rules.iter().map(rule).collect(),
            headers: descriptor.credentials.iter().map(|credential| credential.header.to_ascii_lowercase()).collect(),
        }
    }

    /// Takes the rights of another in.
    pub(super) fn add(&mut self, other: &Self) {
        self.origins.extend(other.origins.iter().cloned());
        self.rules.extend(other.rules.iter().cloned());
        self.headers.extend(other.headers.iter().cloned());
    }

    /// All rights, one text for each.
    pub(super) fn texts(&self) -> Vec<String> {
        Self::default().lacks(self)
    }

    /// What of `asked` is not granted, one text for each; empty when all is.
    pub(super) fn lacks(&self, asked: &Self) -> Vec<String> {
        let origins = asked.origins.iter().filter(|origin| !is_among(origin, &self.origins)).cloned();
        let covered = |rule: &&Rule| {
            let covers = |own: &Rule| own.method == rule.method && lies_below(&rule.path_prefix, &own.path_prefix);
            !self.rules.iter().any(covers)
        };
        let rules = asked.rules.iter().filter(covered).map(|rule| format!("{} {}", rule.method, rule.path_prefix));
        let headers = asked.headers.difference(&self.headers).map(|header| format!("a secret in {header}"));
        origins.chain(rules).chain(headers).collect()
    }
}

/// What stands for any one label in an operator's origin.
const ANY: &str = "*.";

/// Whether an origin is one of those that are granted: as it is written there, or with any one label in the place of `*`.
pub fn is_among<'a>(origin: &str, granted: impl IntoIterator<Item = &'a String>) -> bool {
    let fits = |pattern: &str| {
        let Some((scheme, domain)) = pattern.split_once("://*.") else { return false };
        origin
            .strip_prefix(scheme)
            .and_then(|rest| rest.strip_prefix("://"))
            .and_then(|host| host.split_once('.'))
            .is_some_and(|(label, rest)| !label.is_empty() && rest == domain)
    };
    granted.into_iter().any(|one| one == origin || fits(one))
}

/// An origin as [`Grant`] writes it, out of what an operator wrote: a URL of scheme, host and perhaps port. The first label of
/// the host may be `*`, where every customer of a vendor has one of his own: it stands for any one label.
///
/// # Errors
/// What is wrong with it.
pub fn origin(text: &str) -> Result<String, OriginError> {
    let wrong = |why| OriginError { text: text.to_owned(), why };
    let url = Url::parse(text).map_err(|_| wrong("it is not a URL"))?;
    if !matches!(url.scheme(), "https" | "http") {
        return Err(wrong("its scheme is neither https nor http"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("it holds a user name or a password"));
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("it holds more than scheme, host and port"));
    }
    let host = url.host_str().unwrap_or_default();
    // What is behind the star belongs to one vendor, and not to a whole country.
    if !is_host_name(host.strip_prefix(ANY).unwrap_or(host)) {
        return Err(wrong(
            "its host is no DNS name with a dot (* is understood as the first of at least three labels, and nowhere else)",
        ));
    }
    Ok(url.origin().ascii_serialization())
}

/// Why a text is no origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no origin such as https://api.example.com: {why}")]
pub struct OriginError {
    /// What was written.
    text: String,
    /// What is wrong with it.
    why: &'static str,
}

impl OriginError {
    /// A stable name of the error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        "grant-origin"
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::fixtures;
    use super::*;

    fn asked(host: &str, port: u16, rules: &[(&str, &str)]) -> Grant {
        let rules = rules
            .iter()
            .map(|(method, prefix)| types::RequestRule { method: (*method).into(), path_prefix: (*prefix).into() })
            .collect();
        let origin = types::Origin { scheme: types::Scheme::Https, host: host.into(), port };
        Grant::asked(&fixtures::descriptor(), &types::Plan { origin, rules })
    }

    #[test]
    fn what_is_not_granted_is_named_piece_by_piece() {
        let granted = asked("a.example.com", 443, &[("GET", "/v1/"), ("POST", "/v1/search")]);
        let lacks = |host, port, rules: &[(&str, &str)]| granted.lacks(&asked(host, port, rules));
        assert!(lacks("a.example.com", 443, &[("GET", "/v1/")]).is_empty());
        assert!(lacks("a.example.com", 443, &[("GET", "/v1/records"), ("POST", "/v1/search/x")]).is_empty());
        assert_eq!(lacks("b.example.com", 443, &[("GET", "/v1/")]), ["https://b.example.com"]);
        assert_eq!(lacks("a.example.com", 8443, &[("GET", "/v1/")]), ["https://a.example.com:8443"]);
        assert_eq!(lacks("a.example.com", 443, &[("GET", "/")]), ["GET /"]);
        assert_eq!(lacks("a.example.com", 443, &[("GET", "/v10/")]), ["GET /v10/"]);
        assert_eq!(lacks("a.example.com", 443, &[("POST", "/v1/")]), ["POST /v1/"]);
        assert_eq!(lacks("a.example.com", 443, &[("POST", "/v1/searches")]), ["POST /v1/searches"]);
        let mut more = granted.clone();
        more.headers.insert("authorization".into());
        assert_eq!(granted.lacks(&more), ["a secret in authorization"]);
        more.add(&granted);
        assert!(more.lacks(&granted).is_empty());
    }

    #[test]
    fn a_star_stands_for_one_label_of_one_vendor() {
        let granted = Grant {
            origins: ["https://*.example.com".into(), "https://*.example.org:8443".into()].into(),
            ..asked("x.example.net", 443, &[("GET", "/")])
        };
        let lacks = |host, port| granted.lacks(&asked(host, port, &[("GET", "/")]));
        assert_eq!((lacks("acme.example.com", 443), lacks("b.example.org", 8443)), (vec![], vec![]));
        for (host, port) in [
            ("example.com", 443),
            ("a.b.example.com", 443),
            ("acme.example.com", 8443),
            ("acme.example.com.evil.net", 443),
            ("acme.notexample.com", 443),
            ("x.example.net", 443),
        ] {
            assert_eq!(lacks(host, port).len(), 1, "{host}:{port}");
        }
        assert!(!is_among("http://acme.example.com", &granted.origins));
    }

    #[test]
    fn an_operators_origin_is_written_as_a_plans_is() {
        for (text, expected) in [
            ("https://A.example.com", "https://a.example.com"),
            ("https://a.example.com:443/", "https://a.example.com"),
            ("https://a.example.com:8443", "https://a.example.com:8443"),
            ("http://a.example.com:80", "http://a.example.com"),
            ("https://*.Example.com:8443", "https://*.example.com:8443"),
        ] {
            assert_eq!(origin(text).unwrap(), expected);
        }
        for text in [
            "a.example.com",
            "ftp://a.example.com",
            "https://a.example.com/x",
            "https://u@a.example.com",
            "https://*.com",
            "https://*",
            "https://a.*.example.com",
            "https://*a.example.com",
            "https://*.*.example.com",
            "https://10.0.0.1",
            "https://localhost",
            "",
        ] {
            let error = origin(text).unwrap_err();
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        }
    }
}
