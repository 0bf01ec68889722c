//! Tokens that the host fetches for a tenant: OAuth 2.0, client credentials (RFC 6749, 4.4).
//!
//! What: asks for a token with the tenant's secret, and keeps it in the memory of this process until it is about to expire or
//! somebody has found that it is not taken any more.
//! Why the host: a connector that could ask for tokens would have to be given the secret, and be let to a second place.
//! Why kept by what it was had with: a host may set a tenant up anew for each poll, and whoever has another secret, other
//! settings, or another name has to ask for himself.
//! Not guaranteed: that two steps which begin at once do not both ask; that what a server says is true. Of its words only
//! those are shown that the standard gives it for that, without secrets.

use super::errors::{Phase, to_wasi};
use super::kept;
use super::meter::Reception;
use super::network::{Network, NetworkError};
use super::policy::Policy;
use super::redact::Redactor;
use super::resolver::Lookup;
use super::routes::Routes;
use super::secrets::Secrets;
use super::undone::execute;
use super::way::{Way, describe};
use crate::contract::sign_in::{ClientAuthentication, ClientCredentials};
use crate::contract::types::{self, FailureReason, RetryAdvice};
use crate::sandbox::{Limits, clean};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::time::Duration;
use url::Url;
use url::form_urlencoded::{Serializer, byte_serialize};

/// Most bytes of what a server answers: a token is one header, and what is around it is little.
const ANSWER_BYTES: usize = 64 * 1024;

/// How long a token holds of which the server does not say it.
const UNSAID: Duration = Duration::from_hours(1);

/// How long a server is left alone that gave no token, while the one before holds.
const LEFT_ALONE: Duration = Duration::from_mins(1);

/// Longest time in which a token is waited for: it comes before what a step may take.
const TOKEN_WITHIN: Duration = Duration::from_secs(20);

/// No token is kept for longer, whatever the server says.
const LONGEST: Duration = Duration::from_hours(24);

/// Most bytes of an address that is shown: settings may be part of it.
const PLACE_BYTES: usize = 256;

/// Most bytes of a server's description of what is wrong.
const DESCRIPTION_BYTES: usize = 300;

/// What a source of tokens is made of.
pub struct TokenOptions<'a> {
    /// Slug of the connector and name of the instance: no two of them share a token.
    pub connector: &'a str,
    /// See `connector`.
    pub instance: &'a str,
    /// What the connector has planned. It was checked against the contract.
    pub grant: &'a ClientCredentials,
    /// The client's secret.
    pub secret: &'a SecretString,
    /// What the secret is called in the form, for people.
    pub label: &'a str,
    /// What never shows up in texts, the client's secret among it.
    pub secrets: &'a Secrets,
    /// Where planned hosts are sent instead.
    pub routes: &'a Routes,
    /// How the network is reached.
    pub network: &'a Network,
    /// Timeouts.
    pub limits: &'a Limits,
}

/// Where the tokens of one tenant come from.
pub struct TokenSource {
    connector: String,
    instance: String,
    way: Way,
    url: Url,
    /// The address as it is planned, for people.
    place: String,
    /// Without what `authorization` says.
    form: String,
    authorization: Option<HeaderValue>,
    label: String,
    redactor: Redactor,
    timeout: Duration,
    /// So much of its time has to be left of a token that a step begins with.
    margin: Duration,
    /// What a token is kept by.
    key: kept::Key,
}

/// What a server answers (RFC 6749, 5.1 and 5.2).
#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    access_token: Option<String>,
    token_type: Option<String>,
    expires_in: Option<serde_json::Value>,
    error: Option<String>,
    error_description: Option<String>,
}

impl TokenSource {
    /// Sets up the way to the server. Nothing is connected yet.
    ///
    /// # Errors
    /// When the proxy cannot be used, or the origin makes no URL.
    pub fn new(options: TokenOptions<'_>, lookup: Lookup) -> Result<Self, NetworkError> {
        let TokenOptions { connector, instance, grant, secret, label, secrets, routes, network, limits } = options;
        let policy = Policy::from_plan(&types::Plan { origin: grant.token_origin.clone(), rules: Vec::new() });
        let way = Way::to(&policy, routes, network, limits, lookup, BTreeSet::new())?;
        let wrong = |why: String| NetworkError::Client { why };
        let url = way.target.join(&grant.token_path).map_err(|error| wrong(error.to_string()))?;
        if url.origin() != way.target.origin() {
            return Err(wrong("the path of the token's address leads elsewhere".to_owned()));
        }
        let mut form = Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        if let Some(scope) = &grant.scope {
            form.append_pair("scope", scope);
        }
        form.extend_pairs(grant.parameters.iter().map(|parameter| (&parameter.name, &parameter.value)));
        let mut secrets = secrets.clone();
        let authorization = match grant.authentication {
            ClientAuthentication::Basic => {
                // Both are encoded as in a form before they are joined: RFC 6749, 2.3.1.
                let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
                let pair = format!("{}:{}", encoded(&grant.client_id), encoded(secret.expose_secret()));
                let value = format!("Basic {}", STANDARD.encode(pair));
                let mut header = HeaderValue::from_str(&value).map_err(|error| wrong(error.to_string()))?;
                header.set_sensitive(true);
                // In the letters of a form it may look unlike the secret itself.
                secrets.insert("as sent", value.into()).map_err(|_| wrong("the secret is too long".to_owned()))?;
                Some(header)
            }
            ClientAuthentication::Form => {
                form.append_pair("client_id", &grant.client_id);
                form.append_pair("client_secret", secret.expose_secret());
                None
            }
        };
        let form = form.finish();
        let authorized = authorization.as_ref().map_or(&[][..], HeaderValue::as_bytes);
        let mut hash = Sha256::new();
        let place = format!("{}{}", policy.origin(), grant.token_path);
        let texts = [connector, instance, &place, url.as_str(), &form];
        for part in texts.map(str::as_bytes).into_iter().chain([authorized]) {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        Ok(Self {
            connector: connector.to_owned(),
            instance: instance.to_owned(),
            place,
            way,
            url,
            form,
            authorization,
            label: label.to_owned(),
            redactor: Redactor::new(&secrets),
            timeout: limits.connect_timeout.saturating_add(limits.first_byte_timeout).min(TOKEN_WITHIN),
            margin: limits.wall_per_step,
            key: hash.finalize().into(),
        })
    }

    /// A token to begin a step with: one that is kept, or a new one. Where no other is had, one that holds still.
    ///
    /// # Errors
    /// Why none was had, in the words of the contract.
    pub async fn token(&self) -> Result<SecretString, types::Failure> {
        if let Some(token) = kept::current(&self.key) {
            return Ok(token);
        }
        match self.fetch().await {
            Ok((value, holds)) => {
                kept::keep(self.key, value.clone(), holds, self.margin);
                Ok(value)
            }
            Err(failure) => {
                let alone = match failure.retry {
                    RetryAdvice::AfterSeconds(seconds) => Duration::from_secs(seconds).max(LEFT_ALONE),
                    // Servers lock clients out that go on asking with a wrong secret.
                    RetryAdvice::AfterChange => 15 * LEFT_ALONE,
                    RetryAdvice::BackOff => LEFT_ALONE,
                };
                let token = kept::make_do(&self.key, alone).ok_or_else(|| failure.clone())?;
                self.warn(&format!("{}; the one before is used while it holds", failure.message));
                Ok(token)
            }
        }
    }

    /// How the vendor has received a step with this token. Whether another one is worth asking for.
    pub fn received(&self, token: &SecretString, reception: Reception) -> bool {
        kept::received(&self.key, token, reception)
    }

    /// Tells the operator.
    fn warn(&self, what: &str) {
        tracing::warn!(connector = self.connector, instance = self.instance, "{what}");
    }

    /// Asks for a token. Gives how long it holds as well.
    async fn fetch(&self) -> Result<(SecretString, Duration), types::Failure> {
        let late = |_| self.failure(FailureReason::Timeout, None, "there was no answer in time", None);
        let (status, retry_after, body) = tokio::time::timeout(self.timeout, self.ask()).await.map_err(late)??;
        let answer: Option<Answer> = serde_json::from_slice(&body).ok();
        if !status.is_success() {
            return Err(self.refused(status, retry_after, answer.unwrap_or_default()));
        }
        let malformed = |what: &str| self.failure(FailureReason::MalformedResponse, Some(status), what, None);
        let answer = answer.ok_or_else(|| malformed("the answer is not the JSON object that it should be"))?;
        let kind = answer.token_type.as_deref().unwrap_or("Bearer");
        // The second is what some gateways call it.
        if !["bearer", "bearertoken"].contains(&kind.to_ascii_lowercase().as_str()) {
            return Err(malformed("the token is of another type than Bearer"));
        }
        let value: SecretString = match &answer.access_token {
            Some(token) => token.as_str().into(),
            // There are servers that call a refusal a success.
            None if answer.error.is_some() => return Err(self.refused(status, retry_after, answer)),
            None => return Err(malformed("there is no access_token in the answer")),
        };
        // A token is kept out of texts and stands in a header, as a secret.
        let mut sound = Secrets::new();
        if sound.insert("token", value.clone()).is_err() || value.expose_secret().contains(' ') {
            return Err(malformed("the access_token cannot stand in a header"));
        }
        let holds = match answer.expires_in {
            None | Some(serde_json::Value::Null) => UNSAID,
            Some(seconds) => seconds_of(&seconds).unwrap_or(UNSAID),
        };
        tracing::debug!(
            connector = self.connector,
            instance = self.instance,
            "a token was had from {}; it holds for {} s",
            clean(&self.redactor, &self.place, PLACE_BYTES),
            holds.as_secs()
        );
        Ok((value, holds.min(LONGEST)))
    }

    /// Sends the request; gives status, how long to wait, and body.
    async fn ask(&self) -> Result<(StatusCode, Option<u64>, Vec<u8>), types::Failure> {
        let mut request = reqwest::Request::new(Method::POST, self.url.clone());
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        if let Some(host) = &self.way.host_header {
            headers.insert(HOST, host.clone());
        }
        if let Some(value) = &self.authorization {
            headers.insert(AUTHORIZATION, value.clone());
        }
        *request.body_mut() = Some(self.form.clone().into());
        let response = execute(&self.way.client, request).await.map_err(|error| self.unreached(&error))?;
        self.way.advice.got_through();
        let (head, body) = response.into_parts();
        let retry_after = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let body = Limited::new(body, ANSWER_BYTES).collect().await.map_err(|_| {
            self.failure(
                FailureReason::MalformedResponse,
                Some(head.status),
                "the answer broke off or is too long",
                None,
            )
        })?;
        Ok((head.status, retry_after, body.to_bytes().into()))
    }

    /// Nothing was answered.
    fn unreached(&self, error: &reqwest::Error) -> types::Failure {
        let code = to_wasi(error, Phase::Head);
        if let Some(advice) = self.way.advice.about(&code, error.is_connect()) {
            self.warn(&advice);
        }
        let reason = if error.is_timeout() { FailureReason::Timeout } else { FailureReason::Unavailable };
        let failure = self.failure(reason, None, &describe(error), None);
        types::Failure { request_sent: !error.is_connect(), ..failure }
    }

    /// The server gave no token.
    fn refused(&self, status: StatusCode, retry_after: Option<u64>, answer: Answer) -> types::Failure {
        let code = answer.error.as_deref().and_then(|code| CODES.iter().find(|known| **known == code));
        // Some vendors refuse in words of their own; a 400 is one of a client then, whose settings are wrong.
        let reason = match (status.as_u16(), code.copied()) {
            (429, _) => FailureReason::RateLimited,
            (500.., _) => FailureReason::Unavailable,
            (404, _) => FailureReason::NotFound,
            (403, _) | (_, Some("invalid_scope")) => FailureReason::Forbidden,
            (400 | 401, None) | (_, Some(_)) => FailureReason::Unauthorized,
            _ => FailureReason::MalformedResponse,
        };
        let mut what = code.map_or_else(|| "the server gave none".to_owned(), |code| (*code).to_owned());
        if let Some(description) = answer.error_description.filter(|_| code.is_some()) {
            what = format!("{what}: {description}");
        }
        self.failure(reason, Some(status), &what, retry_after)
    }

    /// A failure in the words of the contract.
    fn failure(
        &self,
        reason: FailureReason,
        status: Option<StatusCode>,
        what: &str,
        retry_after: Option<u64>,
    ) -> types::Failure {
        let what = clean(&self.redactor, what, DESCRIPTION_BYTES);
        let place = clean(&self.redactor, &self.place, PLACE_BYTES);
        let label = &self.label;
        let remedy = match reason {
            FailureReason::Unauthorized => format!(
                "Verify the client's identifier in the settings and its secret ({label}), that they belong together and neither has expired, and the other settings of signing in."
            ),
            FailureReason::Forbidden => format!(
                "Verify the client's identifier in the settings and its secret ({label}), and at the vendor that this client may have what it asks for."
            ),
            FailureReason::NotFound => {
                "Verify the settings that the address of the tokens is made of, such as region or tenant.".to_owned()
            }
            FailureReason::RateLimited => "It is tried again later; other programs may use the same client.".to_owned(),
            FailureReason::Unavailable | FailureReason::Timeout => {
                format!("Verify that this machine reaches {place}, and the state of the vendor. It is tried again.")
            }
            _ => "Verify the settings, and that nothing on the way answers in the vendor's place. It is tried again."
                .to_owned(),
        };
        let retry = match (reason, retry_after) {
            (_, Some(seconds)) => RetryAdvice::AfterSeconds(seconds.min(LONGEST.as_secs())),
            (FailureReason::Unauthorized | FailureReason::Forbidden | FailureReason::NotFound, None) => {
                RetryAdvice::AfterChange
            }
            _ => RetryAdvice::BackOff,
        };
        types::Failure {
            reason,
            message: format!("no token was had from {place}: {what}"),
            remedy,
            http_status: status.map(|status| status.as_u16()),
            correlation_id: None,
            request_sent: true,
            retry,
        }
    }
}

/// What a server may say is wrong (RFC 6749, 5.2). Anything else is not shown.
const CODES: [&str; 7] = [
    "invalid_request",
    "invalid_client",
    "invalid_grant",
    "unauthorized_client",
    "unsupported_grant_type",
    "invalid_scope",
    "access_denied",
];

/// Seconds, which some servers write as a text.
fn seconds_of(value: &serde_json::Value) -> Option<Duration> {
    let seconds = match value {
        serde_json::Value::String(text) => text.trim().parse().ok()?,
        number => number.as_f64()?,
    };
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_time_is_a_number_of_seconds_however_it_is_written() {
        for (value, seconds) in [
            (json!(3600), Some(3600.0)),
            (json!("3599"), Some(3599.0)),
            (json!(" 60 "), Some(60.0)),
            (json!(0.5), Some(0.5)),
            (json!(0), Some(0.0)),
            (json!(-1), None),
            (json!(1e300), None),
            (json!("soon"), None),
            (json!(true), None),
            (json!([1]), None),
        ] {
            assert_eq!(seconds_of(&value).map(|time| time.as_secs_f64()), seconds, "{value}");
        }
    }
}
