//! How secrets sign requests in: the check of what a connector says of it, and what comes of it.
//!
//! Why: what stands here becomes a header of every request, and the address that a client's secret is sent to.
//! Not guaranteed: that a vendor takes it.

use super::error::TenantError;
use super::faults::Faults;
use super::plan::{self, Plan};
use crate::contract::sign_in::{ClientCredentials, Form, Method};
use crate::contract::types;
use crate::egress::{Lookup, Network, NetworkError, Redactor, Routes, Secrets, TokenOptions, TokenSource};
use crate::sandbox::Limits;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeSet;

/// Most bytes of a prefix.
const PREFIX_BYTES: usize = 64;

/// Most bytes of names of users and clients.
const NAME_BYTES: usize = 256;

/// Most bytes of scopes and values.
const VALUE_BYTES: usize = 1024;

/// Most further fields of a form.
const PARAMETERS: usize = 16;

/// Most bytes of a client's secret: with its identifier, in the letters of a form and in base64, it is still a header.
const CLIENT_SECRET_BYTES: usize = 1024;

/// Fields of the form that the host fills.
const OWN_FIELDS: [&str; 4] = ["grant_type", "client_id", "client_secret", "scope"];

/// Checks what a connector says becomes of its secrets.
///
/// # Errors
/// The fields that break the contract, with what they hold; secrets of the tenant are replaced in it.
pub(super) fn check(methods: &[Method], descriptor: &types::Descriptor, redactor: &Redactor) -> Result<(), Faults> {
    let mut faults = Faults::default();
    let mut seen = BTreeSet::new();
    let mut fetches = false;
    // More than there are secrets are wrong anyway, and there are at most 64 of those.
    for (at, method) in methods.iter().enumerate().take(descriptor.settings.len() + 1) {
        let mut wrong = |field: &str, value: &str, why: &str| {
            faults.add_value(format!("sign-in[{at}].{field}"), value, redactor, why);
        };
        if !descriptor.credentials.iter().any(|credential| credential.setting == method.setting) {
            wrong("setting", &method.setting, "must be the key of a secret setting");
        } else if !seen.insert(&method.setting) {
            wrong("setting", &method.setting, "must be unique");
        }
        let sized = |text: &str, least: usize, most: usize| (least..=most).contains(&text.len()) && is_printable(text);
        match &method.form {
            Form::Prefixed(text) if !sized(text, 1, PREFIX_BYTES) || text.starts_with(' ') => {
                wrong("prefixed", text, "must be 1 to 64 printable ASCII characters, the first not a space");
            }
            Form::BasicPassword(user) if !sized(user, 0, NAME_BYTES) || user.contains(':') => {
                wrong("basic-password", user, "must be at most 256 printable ASCII characters without colon");
            }
            Form::BasicUser(password) if !sized(password, 0, NAME_BYTES) => {
                wrong("basic-user", password, "must be at most 256 printable ASCII characters");
            }
            Form::ClientCredentials(_) if std::mem::replace(&mut fetches, true) => {
                wrong("client-credentials", &method.setting, "must be of one secret only");
            }
            Form::ClientCredentials(grant) => check_grant(grant, &mut wrong),
            Form::Prefixed(_) | Form::BasicPassword(_) | Form::BasicUser(_) => {}
        }
    }
    faults.or_none()
}

/// Tells `wrong` what is wrong with a grant.
fn check_grant(grant: &ClientCredentials, wrong: &mut impl FnMut(&str, &str, &str)) {
    let sized = |text: &str, least: usize, most: usize| (least..=most).contains(&text.len()) && is_printable(text);
    plan::check_origin(&grant.token_origin, "token-origin", wrong);
    if let Some(why) = plan::wrong_path(&grant.token_path) {
        wrong("token-path", &grant.token_path, why);
    }
    if !sized(&grant.client_id, 1, NAME_BYTES) {
        wrong("client-id", &grant.client_id, "must be 1 to 256 printable ASCII characters");
    }
    if let Some(scope) = grant.scope.as_ref().filter(|scope| !sized(scope, 1, VALUE_BYTES)) {
        wrong("scope", scope, "must be 1 to 1024 printable ASCII characters");
    }
    if grant.parameters.len() > PARAMETERS {
        wrong("parameters", &grant.parameters.len().to_string(), "are too many; at most 16 are allowed");
    }
    let mut names = BTreeSet::new();
    for parameter in grant.parameters.iter().take(PARAMETERS) {
        let name = &parameter.name;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if name.is_empty() || name.len() > 64 || !name.bytes().all(is_name) || OWN_FIELDS.contains(&name.as_str()) {
            wrong("parameters.name", name, "must be 1 to 64 of a-z, A-Z, 0-9, _ and -, and none that the host fills");
        } else if !names.insert(name) {
            wrong("parameters.name", name, "must be unique");
        }
        if !sized(&parameter.value, 0, VALUE_BYTES) {
            wrong("parameters.value", &parameter.value, "must be at most 1024 printable ASCII characters");
        }
    }
}

/// Whether a text is of printable ASCII.
fn is_printable(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ')
}

/// The headers that sign a tenant's requests in.
pub(super) struct Signatures {
    /// What is known from the beginning.
    pub(super) fixed: Vec<(HeaderName, HeaderValue)>,
    /// The header of a token, and where that comes from.
    pub(super) token: Option<(HeaderName, TokenSource)>,
    /// The secrets, and what of them is sent in another form.
    pub(super) secrets: Secrets,
}

/// Whose signatures are made, and how the network is reached.
pub(super) struct Signing<'a> {
    /// Slug of the connector.
    pub(super) connector: &'a str,
    /// Name of the instance.
    pub(super) instance: &'a str,
    /// What the connector says of itself.
    pub(super) descriptor: &'a types::Descriptor,
    /// What it plans.
    pub(super) plan: &'a Plan,
    /// The tenant's secrets.
    pub(super) secrets: &'a Secrets,
    /// Where planned hosts are sent instead.
    pub(super) routes: &'a Routes,
    /// How the network is reached.
    pub(super) network: &'a Network,
    /// Timeouts.
    pub(super) limits: &'a Limits,
    /// How names are looked up.
    pub(super) lookup: &'a Lookup,
}

impl Signing<'_> {
    /// The headers of the secrets that there are.
    ///
    /// # Errors
    /// When a secret cannot be sent in the form that the connector says, or the network cannot be set up.
    pub(super) fn signatures(&self) -> Result<Signatures, TenantError> {
        // The descriptor, the secrets and the methods were checked, so neither conversion fails; no message may hold the
        // value.
        let unusable =
            |what: &str| NetworkError::Client { why: format!("a credential's {what} cannot stand in a request") };
        let mut signatures = Signatures { fixed: Vec::new(), token: None, secrets: self.secrets.clone() };
        for credential in &self.descriptor.credentials {
            let Some(secret) = self.secrets.get(&credential.setting) else { continue };
            let name = HeaderName::from_bytes(credential.header.as_bytes()).map_err(|_| unusable("header"))?;
            let method = self.plan.sign_in.iter().find(|method| method.setting == credential.setting);
            let value = match method.map(|method| &method.form) {
                Some(Form::ClientCredentials(_)) if secret.expose_secret().len() > CLIENT_SECRET_BYTES => {
                    return Err(
                        self.unfit(credential, "is too long for the secret of a client; was a wrong file given?")
                    );
                }
                Some(Form::ClientCredentials(grant)) => {
                    signatures.token = Some((name, self.source(grant, secret, &credential.setting)?));
                    continue;
                }
                Some(Form::Prefixed(prefix)) => prefixed(prefix, secret.expose_secret()),
                Some(Form::BasicPassword(user)) => basic(user, secret.expose_secret()),
                Some(Form::BasicUser(_)) if secret.expose_secret().contains(':') => {
                    return Err(self.unfit(credential, "holds a colon, which the user of HTTP Basic must not"));
                }
                Some(Form::BasicUser(password)) => basic(secret.expose_secret(), password),
                None => secret.expose_secret().to_owned(),
            };
            let header = HeaderValue::from_str(&value).map_err(|_| unusable("value"))?;
            if method.is_some() {
                let key = format!("{} as sent", credential.setting);
                let long = |_| self.unfit(credential, "is too long for the form in which it is sent");
                signatures.secrets.insert(key, value.into()).map_err(long)?;
            }
            signatures.fixed.push((name, header));
        }
        Ok(signatures)
    }

    /// A secret that does not fit what becomes of it.
    fn unfit(&self, credential: &types::Credential, why: &'static str) -> TenantError {
        TenantError::SecretForm { key: credential.setting.clone(), label: self.label(&credential.setting), why }
    }

    /// What a secret is called in the form.
    fn label(&self, key: &str) -> String {
        let field = self.descriptor.settings.iter().find(|field| field.key == key);
        field.map_or(key, |field| &field.label).to_owned()
    }

    /// Where tokens come from.
    fn source(&self, grant: &ClientCredentials, secret: &SecretString, key: &str) -> Result<TokenSource, TenantError> {
        let options = TokenOptions {
            connector: self.connector,
            instance: self.instance,
            grant,
            secret,
            label: &self.label(key),
            secrets: self.secrets,
            routes: self.routes,
            network: self.network,
            limits: self.limits,
        };
        Ok(TokenSource::new(options, self.lookup.clone())?)
    }
}

/// A secret behind its prefix, unless it was given with it. Only of a prefix that stands apart: with any, a connector could
/// find out what the secret begins with.
fn prefixed(prefix: &str, secret: &str) -> String {
    let has_it = prefix.ends_with([' ', '=']) && secret.starts_with(prefix);
    if has_it { secret.to_owned() } else { format!("{prefix}{secret}") }
}

/// HTTP Basic.
fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::descriptor;
    use super::*;
    use crate::contract::sign_in::{ClientAuthentication, Parameter};
    use crate::contract::types::{Origin, Scheme};

    fn method(form: Form) -> Vec<Method> {
        vec![Method { setting: "api_key".into(), form }]
    }

    fn grant() -> ClientCredentials {
        ClientCredentials {
            token_origin: Origin { scheme: Scheme::Https, host: "login.example.com".into(), port: 443 },
            token_path: "/oauth2/token".into(),
            client_id: "client".into(),
            scope: Some("read".into()),
            parameters: vec![Parameter { name: "audience".into(), value: "https://api.example.com/".into() }],
            authentication: ClientAuthentication::Basic,
        }
    }

    fn changed(change: impl FnOnce(&mut ClientCredentials)) -> Vec<Method> {
        let mut grant = grant();
        change(&mut grant);
        method(Form::ClientCredentials(grant))
    }

    fn parameter(name: &str, value: &str) -> Parameter {
        Parameter { name: name.into(), value: value.into() }
    }

    #[test]
    fn what_is_sound_passes() {
        for methods in [
            Vec::new(),
            method(Form::Prefixed("Bearer ".into())),
            method(Form::Prefixed("Token token=".into())),
            method(Form::BasicPassword("a user".into())),
            method(Form::BasicUser(String::new())),
            method(Form::BasicUser("a:b".into())),
            changed(|_| {}),
            changed(|grant| (grant.scope, grant.parameters) = (None, Vec::new())),
        ] {
            assert_eq!(check(&methods, &descriptor(), &Redactor::default()), Ok(()), "{methods:?}");
        }
    }

    #[test]
    fn every_field_that_breaks_the_contract_is_named() {
        let setting = |key: &str| vec![Method { setting: key.into(), form: Form::Prefixed("x ".into()) }];
        let twice = [method(Form::Prefixed("x ".into())), changed(|_| {})].concat();
        let table = [
            ("sign-in[0].setting", setting("region")),
            ("sign-in[0].setting", setting("nothing")),
            ("sign-in[1].setting", twice),
            ("sign-in[0].prefixed", method(Form::Prefixed(String::new()))),
            ("sign-in[0].prefixed", method(Form::Prefixed(" Bearer".into()))),
            ("sign-in[0].prefixed", method(Form::Prefixed("Bearer\r\nx: y".into()))),
            ("sign-in[0].prefixed", method(Form::Prefixed("x".repeat(65)))),
            ("sign-in[0].basic-password", method(Form::BasicPassword("a:b".into()))),
            ("sign-in[0].basic-user", method(Form::BasicUser("ü".into()))),
            ("sign-in[0].basic-user", method(Form::BasicUser("x".repeat(257)))),
            ("sign-in[0].token-origin.host", changed(|grant| grant.token_origin.host = "10.0.0.1".into())),
            ("sign-in[0].token-origin.port", changed(|grant| grant.token_origin.port = 0)),
            ("sign-in[0].token-path", changed(|grant| grant.token_path = "token".into())),
            ("sign-in[0].token-path", changed(|grant| grant.token_path = "//evil.example/token".into())),
            ("sign-in[0].token-path", changed(|grant| grant.token_path = "/token?x=y".into())),
            ("sign-in[0].client-id", changed(|grant| grant.client_id = String::new())),
            ("sign-in[0].client-id", changed(|grant| grant.client_id = "a\nb".into())),
            ("sign-in[0].scope", changed(|grant| grant.scope = Some(String::new()))),
            ("sign-in[0].parameters", changed(|grant| grant.parameters = vec![parameter("a", ""); 17])),
            ("sign-in[0].parameters.name", changed(|grant| grant.parameters.push(parameter("scope", "")))),
            ("sign-in[0].parameters.name", changed(|grant| grant.parameters.push(parameter("client_secret", "")))),
            ("sign-in[0].parameters.name", changed(|grant| grant.parameters.push(parameter("a b", "")))),
            ("sign-in[0].parameters.name", changed(|grant| grant.parameters.push(parameter("audience", "")))),
            ("sign-in[0].parameters.value", changed(|grant| grant.parameters.push(parameter("a", "\0")))),
        ];
        for (field, methods) in table {
            let faults = check(&methods, &descriptor(), &Redactor::default()).expect_err(field);
            assert_eq!(faults.all()[0].field, field, "{faults}");
        }
    }

    #[test]
    fn only_one_secret_fetches_tokens() {
        let mut descriptor = descriptor();
        let other = types::SettingField { key: "other".into(), ..descriptor.settings[0].clone() };
        descriptor.settings.push(other);
        descriptor.credentials.push(types::Credential { setting: "other".into(), header: "x-other".into() });
        let mut methods = [changed(|_| {}), changed(|_| {})].concat();
        methods[1].setting = "other".into();
        let faults = check(&methods, &descriptor, &Redactor::default()).unwrap_err();
        insta::assert_snapshot!(faults, @r#"sign-in[1].client-credentials "other" must be of one secret only"#);
    }

    #[test]
    fn no_list_is_gone_through_for_ever() {
        let methods = vec![method(Form::Prefixed(String::new())).remove(0); 100_000];
        assert!(check(&methods, &descriptor(), &Redactor::default()).unwrap_err().all().len() < 10);
    }

    #[test]
    fn a_secret_that_was_given_with_its_prefix_has_it_once() {
        assert_eq!(prefixed("Bearer ", "abc"), "Bearer abc");
        assert_eq!(prefixed("Bearer ", "Bearer abc"), "Bearer abc");
        assert_eq!(prefixed("ab", "abc"), "ababc", "or a connector could guess");
        assert_eq!(basic("a", "b"), "Basic YTpi");
    }
}
