//! What a connector asks for, and what it may be given: origins, rules of method and path prefix, headers for secrets.
//!
//! Why a type of its own: a plan says what one instance needs; whether a new version asks for more than the one before
//! is a question about sets, and the answer has to be readable by an operator.
//! Not guaranteed: that every rule is used at every origin. Rules of all instances of a type are taken together.

use super::super::{Destinations, Plan};
use crate::contract::sign_in::{Form, Method};
use crate::contract::types;
use crate::egress::{is_host_name, lies_below};
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
    /// Headers that carry secrets, as they are or in another form of them, in lower case.
    pub(super) headers: BTreeSet<String>,
    /// Headers that carry tokens, likewise. What receives one does not get to know what it is had with.
    #[serde(default)]
    pub(super) tokens: BTreeSet<String>,
    /// Where the host gets tokens, like `origins`.
    #[serde(default)]
    pub(super) sign_in: BTreeSet<String>,
}

impl Grant {
    /// What a connector with this description asks for with this plan.
    pub(super) fn asked(descriptor: &types::Descriptor, plan: &Plan) -> Self {
        let rule =
            |rule: &types::RequestRule| Rule { method: rule.method.clone(), path_prefix: rule.path_prefix.clone() };
        let Destinations { origins, sign_in } = plan.destinations();
        let carries_token = |credential: &&types::Credential| {
            let is_its = |method: &&Method| method.setting == credential.setting;
            let method = plan.sign_in.iter().find(is_its);
            method.is_some_and(|method| matches!(method.form, Form::ClientCredentials(_)))
        };
        let (tokens, headers): (Vec<_>, Vec<_>) = descriptor.credentials.iter().partition(carries_token);
        let names = |all: Vec<&types::Credential>| {
            all.into_iter().map(|credential| credential.header.to_ascii_lowercase()).collect()
        };
        Self {
            origins,
            sign_in,
            rules: plan.egress.rules.iter().map(rule).collect(),
            headers: names(headers),
            tokens: names(tokens),
        }
    }

    /// Takes the rights of another in.
    pub(super) fn add(&mut self, other: &Self) {
        self.origins.extend(other.origins.iter().cloned());
        self.rules.extend(other.rules.iter().cloned());
        self.headers.extend(other.headers.iter().cloned());
        self.tokens.extend(other.tokens.iter().cloned());
        self.sign_in.extend(other.sign_in.iter().cloned());
    }

    /// Takes it in where somebody goes.
    pub(super) fn go(&mut self, destinations: &Destinations) {
        self.origins.extend(destinations.origins.iter().cloned());
        self.sign_in.extend(destinations.sign_in.iter().cloned());
    }

    /// The same rules, with all that says where secrets go from another.
    pub(super) fn with_secrets_as(self, other: &Self) -> Self {
        Self { rules: self.rules, ..other.clone() }
    }

    /// Whether all places that are asked for are among those that are granted.
    pub(super) fn leads_to(&self, asked: &Self) -> bool {
        asked.origins.iter().all(|origin| is_among(origin, &self.origins))
            && asked.sign_in.iter().all(|origin| is_among(origin, &self.sign_in))
    }

    /// All places, one text for each.
    pub(super) fn places(&self) -> Vec<String> {
        let sign_in = self.sign_in.iter().map(|origin| format!("signing in at {origin}"));
        self.origins.iter().cloned().chain(sign_in).collect()
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
        let sign_in = asked.sign_in.iter().filter(|origin| !is_among(origin, &self.sign_in));
        let sign_in = sign_in.map(|origin| format!("signing in at {origin}"));
        let tokens =
            asked.tokens.iter().filter(|header| !self.tokens.contains(*header) && !self.headers.contains(*header));
        let tokens = tokens.map(|header| format!("a token in {header}"));
        origins.chain(sign_in).chain(rules).chain(headers).chain(tokens).collect()
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
        let egress = types::Plan { origin, rules };
        Grant::asked(&fixtures::descriptor(), &Plan { egress, sign_in: Vec::new() })
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
    fn where_a_secret_is_sent_for_a_token_is_granted_by_itself() {
        let granted = asked("a.example.com", 443, &[("GET", "/v1/")]);
        let mut asks = granted.clone();
        asks.sign_in.insert("https://login.example.com".into());
        assert_eq!(granted.lacks(&asks), ["signing in at https://login.example.com"]);
        let mut signs_in = granted.clone();
        signs_in.add(&asks);
        assert_eq!(signs_in.lacks(&asks), Vec::<String>::new());
        // To be let sign in somewhere is not to be let go there, nor the other way round.
        let goes = asked("login.example.com", 443, &[("GET", "/v1/")]);
        assert_eq!(signs_in.lacks(&goes), ["https://login.example.com"]);
        // What a host before has written knew nothing of it.
        let before = r#"{"origins":["https://a.example.com"],"rules":[],"headers":[]}"#;
        assert!(serde_json::from_str::<Grant>(before).unwrap().sign_in.is_empty());
    }

    #[test]
    fn who_was_given_tokens_is_not_given_the_secret() {
        let secret = asked("a.example.com", 443, &[("GET", "/v1/")]);
        let token = Grant { headers: BTreeSet::new(), tokens: secret.headers.clone(), ..secret.clone() };
        assert_eq!(token.lacks(&secret), ["a secret in x-api-key"]);
        assert_eq!(secret.lacks(&token), Vec::<String>::new(), "whoever has the secret may have what is had with it");
        assert_eq!(Grant::default().lacks(&token), ["https://a.example.com", "GET /v1/", "a token in x-api-key"]);
        // Another of its instances, by other settings, does not get further either.
        assert_eq!(secret.clone().with_secrets_as(&token).lacks(&secret), ["a secret in x-api-key"]);
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
