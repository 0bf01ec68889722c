//! The gate: the pipeline that every request of one tenant passes.
//!
//! What: policy, header rules, caps, budget, credentials, transport, in this order; and the caps and the search for
//! secrets on the way back. One gate, and so one pool of connections, belongs to one tenant.
//! Why credentials come last: no request that is refused has ever held them.
//! Not guaranteed: a request whose head took too long may have reached the vendor.

use super::body::GuardedBody;
use super::errors::{Phase, to_wasi};
use super::headers::{REPLACED, are_alike, belongs_to_host, is_forbidden};
use super::meter::StepMeter;
use super::network::{Network, NetworkError};
use super::policy::{Denial, Policy};
use super::redact::Redactor;
use super::refusals::Asker;
use super::resolver::Lookup;
use super::routes::Routes;
use super::scrub::Scrubber;
use super::undone::execute;
use super::way::{Way, describe};
use crate::sandbox::Limits;
use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use url::Url;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

/// What a gate is made of.
pub struct GateOptions<'a> {
    /// Slug of the connector and name of the instance, for log lines.
    pub connector: &'a str,
    /// See `connector`.
    pub instance: &'a str,
    /// What may leave.
    pub policy: Policy,
    /// Headers to add. Their values are marked sensitive.
    pub credentials: Vec<(HeaderName, HeaderValue)>,
    /// What never comes in or shows up in logs.
    pub redactor: Redactor,
    /// Where the planned host is sent instead, if anywhere.
    pub routes: &'a Routes,
    /// How the network is reached.
    pub network: &'a Network,
    /// Caps and timeouts.
    pub limits: &'a Limits,
}

/// The way out for one tenant.
pub struct Gate {
    connector: String,
    instance: String,
    policy: Policy,
    way: Way,
    credentials: Vec<(HeaderName, HeaderValue)>,
    redactor: Redactor,
    in_flight: Arc<Semaphore>,
    limits: Limits,
}

impl Gate {
    /// Sets up policy and transport. Nothing is connected yet. Names are resolved by `lookup`.
    ///
    /// # Errors
    /// When the proxy cannot be used, or the plan's origin makes no URL.
    pub fn new(options: GateOptions<'_>, lookup: Lookup) -> Result<Self, NetworkError> {
        Self::trusting(options, lookup, BTreeSet::new())
    }

    /// A gate that does not check the addresses of `trusted` names.
    pub(super) fn trusting(
        options: GateOptions<'_>,
        lookup: Lookup,
        trusted: BTreeSet<String>,
    ) -> Result<Self, NetworkError> {
        let GateOptions { connector, instance, policy, credentials, redactor, routes, network, limits } = options;
        let way = Way::to(&policy, routes, network, limits, lookup, trusted)?;
        Ok(Self {
            connector: connector.to_owned(),
            instance: instance.to_owned(),
            policy,
            way,
            credentials: sensitive(credentials),
            redactor,
            in_flight: Arc::new(Semaphore::new(limits.requests_in_flight)),
            limits: limits.clone(),
        })
    }

    /// The same way out with other credentials, and what keeps them in: over the same connections.
    #[must_use]
    pub fn signed(&self, credentials: Vec<(HeaderName, HeaderValue)>, redactor: Redactor) -> Self {
        Self {
            connector: self.connector.clone(),
            instance: self.instance.clone(),
            policy: self.policy.clone(),
            way: self.way.clone(),
            credentials: sensitive(credentials),
            redactor,
            in_flight: Arc::clone(&self.in_flight),
            limits: self.limits.clone(),
        }
    }

    /// The names of the headers this gate adds.
    pub(super) fn credential_names(&self) -> Vec<HeaderName> {
        self.credentials.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Caps and timeouts.
    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Passes one request through the pipeline.
    pub(super) async fn send(
        &self,
        meter: Arc<StepMeter>,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> Result<Response<WasiBody>, Error> {
        let options = options.unwrap_or_default();
        let (parts, body) = request.into_parts();
        if let Err(denial) = self.decide(&parts) {
            self.refuse(&meter, &denial);
            return Err(Error::HttpRequestDenied);
        }
        let path = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        if path.len() > self.limits.request_target_bytes {
            return Err(Error::HttpRequestUriTooLong);
        }
        let head = head_size(&parts.headers);
        if head > self.limits.request_head_bytes {
            return Err(Error::HttpRequestHeaderSectionSize(u32::try_from(head).ok()));
        }
        let url = self.url(&parts.method, path, &meter)?;
        let shorter = |asked: Option<Duration>, most: Duration| asked.map_or(most, |asked| asked.min(most));
        let first_byte = shorter(options.first_byte_timeout, self.limits.first_byte_timeout);
        let between_bytes = shorter(options.between_bytes_timeout, self.limits.between_bytes_timeout);
        let connect = shorter(options.connect_timeout, self.limits.connect_timeout);

        // Before its body is taken in: what waits for a place holds none of this host's memory. Whoever finds none has a
        // slow vendor, and has not used up a budget.
        let place = Arc::clone(&self.in_flight).acquire_owned();
        let place = tokio::time::timeout(first_byte, place)
            .await
            .map_err(|_| Error::ConnectionTimeout)?
            .map_err(|_| Error::InternalError(None))?;
        let body = tokio::time::timeout(first_byte, collect(body, self.limits.request_body_bytes))
            .await
            .map_err(|_| Error::ConnectionWriteTimeout)??;
        // Whatever else there is, a server may not expect a body with it.
        let has_body = matches!(parts.method, http::Method::POST | http::Method::PUT | http::Method::PATCH);
        if !has_body && !body.is_empty() {
            self.refuse(&meter, &Denial::Body { method: parts.method.to_string() });
            return Err(Error::HttpRequestDenied);
        }
        if !meter.take_request() {
            self.asker().refused(&meter, "egress-budget", &"the step has used up its budget of requests");
            return Err(Error::ConnectionLimitReached);
        }

        let mut outgoing = reqwest::Request::new(parts.method, url);
        *outgoing.headers_mut() = self.headers(parts.headers);
        if !body.is_empty() {
            *outgoing.body_mut() = Some(body.into());
        }
        // The client has its own timeout for connecting; this one covers the head as a whole.
        let started = tokio::time::Instant::now();
        let response =
            tokio::time::timeout(connect.saturating_add(first_byte), execute(&self.way.client, outgoing)).await;
        meter.add_time(started.elapsed());
        let response = response.map_err(|_| Error::HttpResponseTimeout)?.map_err(|error| {
            tracing::debug!(
                connector = self.connector,
                instance = self.instance,
                "request failed: {}",
                self.redactor.redact(&describe(&error))
            );
            let code = to_wasi(&error, Phase::Head);
            if let Some(advice) = self.way.advice.about(&code, error.is_connect()) {
                tracing::warn!(connector = self.connector, instance = self.instance, "{advice}");
            }
            code
        })?;
        self.way.advice.got_through();
        meter.answered(response.status());
        let (mut parts, body) = response.into_parts();
        self.clean(&mut parts.headers)?;
        parts.headers = apart(&parts.headers);
        parts.extensions.clear();
        let scrubber = Scrubber::new(self.redactor.clone());
        let body = GuardedBody::new(body, place, scrubber, meter, self.limits.response_body_bytes, between_bytes);
        Ok(Response::from_parts(parts, body.boxed_unsync()))
    }

    /// Policy and header rules.
    fn decide(&self, parts: &http::request::Parts) -> Result<(), Denial> {
        self.policy.check(&parts.method, &parts.uri)?;
        // Guests cannot even make such headers (see `Hooks`); this holds should that ever change.
        let added = |name: &HeaderName| self.credentials.iter().any(|(credential, _)| are_alike(credential, name));
        match parts.headers.keys().find(|name| is_forbidden(name) || added(name)) {
            Some(name) => Err(Denial::Header { name: name.to_string() }),
            None => Ok(()),
        }
    }

    /// Where a path is really sent. The policy has seen the path as the guest wrote it; what the URL parser makes of
    /// it must be allowed as well.
    fn url(&self, method: &http::Method, path_and_query: &str, meter: &StepMeter) -> Result<Url, Error> {
        let origin = self.way.target.as_str().trim_end_matches('/');
        let url = Url::parse(&format!("{origin}{path_and_query}")).map_err(|_| Error::HttpRequestUriInvalid)?;
        if url.origin() != self.way.target.origin() {
            return Err(Error::HttpRequestUriInvalid);
        }
        if let Err(denial) = self.policy.check_path(method.as_str(), url.path()) {
            self.refuse(meter, &denial);
            return Err(Error::HttpRequestUriInvalid);
        }
        Ok(url)
    }

    /// The headers that are sent: the guest's, without what the transport sets, and the host's.
    fn headers(&self, mut headers: HeaderMap) -> HeaderMap {
        for name in REPLACED {
            headers.remove(name);
        }
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        // So that the other end of a route can tell what was meant.
        if let Some(host) = &self.way.host_header {
            headers.insert(HOST, host.clone());
        }
        for (name, value) in &self.credentials {
            headers.insert(name.clone(), value.clone());
        }
        headers
    }

    /// Removes from a response's head what a guest may not see, and refuses what it could not read.
    fn clean(&self, headers: &mut HeaderMap) -> Result<(), Error> {
        let head = head_size(headers);
        if head > self.limits.response_head_bytes {
            return Err(Error::HttpResponseHeaderSectionSize(u32::try_from(head).ok()));
        }
        // Gzip has been undone and the header that said so removed; whatever is still there was not undone.
        match headers.get(CONTENT_ENCODING).map(|value| value.as_bytes().to_ascii_lowercase()) {
            None => {}
            Some(coding) if coding == b"identity" => {
                headers.remove(CONTENT_ENCODING);
            }
            Some(coding) => {
                // Only known names are told: a vendor's own words would be a way around the search for secrets.
                let known = ["gzip", "deflate", "br", "zstd", "compress"];
                let name = known.iter().find(|name| name.as_bytes() == coding).map(|name| (*name).to_owned());
                return Err(Error::HttpResponseContentCoding(name));
            }
        }
        if !headers.get_all(CONTENT_TYPE).iter().all(is_searchable) {
            return Err(Error::HttpResponseContentCoding(None));
        }
        if let Some(length) = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok())
            && length.parse::<u64>().is_ok_and(|length| length > self.limits.response_body_bytes)
        {
            return Err(Error::HttpResponseBodySize(length.parse().ok()));
        }
        let hidden: Vec<HeaderName> = headers
            .iter()
            .filter(|(name, value)| {
                belongs_to_host(name)
                    || self.credentials.iter().any(|(credential, _)| are_alike(credential, name))
                    || self.redactor.finds_in(value.as_bytes())
                    || self.redactor.finds_in(name.as_str().as_bytes())
            })
            .map(|(name, _)| name.clone())
            .collect();
        for name in hidden {
            headers.remove(name);
        }
        Ok(())
    }

    /// Counts a refused request and tells why, unless enough was told.
    pub(super) fn refuse(&self, meter: &StepMeter, denial: &Denial) {
        self.asker().refused(meter, denial.code(), denial);
    }

    /// Whose requests these are.
    fn asker(&self) -> Asker<'_> {
        Asker {
            connector: &self.connector,
            instance: &self.instance,
            redactor: &self.redactor,
            most: self.limits.refusals_logged,
        }
    }
}

/// Whether a body of this type is written so that the search for secrets, which are ASCII, finds them.
fn is_searchable(content_type: &HeaderValue) -> bool {
    const LIKE_ASCII: [&str; 6] = ["utf-8", "utf8", "us-ascii", "iso-8859-1", "iso-8859-15", "windows-1252"];
    let text = content_type.as_bytes().to_ascii_lowercase();
    let text = String::from_utf8_lossy(&text);
    text.split(';').filter_map(|part| part.split_once('=')).filter(|(key, _)| key.trim() == "charset").all(
        |(_, charset)| {
            LIKE_ASCII.contains(&charset.trim_matches(|c: char| c.is_whitespace() || matches!(c, '"' | '\'')))
        },
    )
}

/// The same headers, in memory of their own. The client's are parts of what it has read from the connection at once, which
/// a guest that keeps one of them would keep whole.
fn apart(headers: &HeaderMap) -> HeaderMap {
    let mut copied = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            copied.append(name, value);
        }
    }
    copied
}

/// Kept out of HTTP/2 header compression and of every Debug.
fn sensitive(mut credentials: Vec<(HeaderName, HeaderValue)>) -> Vec<(HeaderName, HeaderValue)> {
    for (_, value) in &mut credentials {
        value.set_sensitive(true);
    }
    credentials
}

/// Reads the body of a request whole.
async fn collect(body: WasiBody, cap: usize) -> Result<Bytes, Error> {
    match Limited::new(body, cap).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Error::HttpRequestBodySize(u64::try_from(cap).ok())),
        // The guest gave the body up half way.
        Err(_) => Err(Error::HttpProtocolError),
    }
}

/// Bytes of a message's head as HTTP/1.1 would write it.
fn head_size(headers: &HeaderMap) -> usize {
    // Name, colon, space, value, line end.
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_a_guest_keeps_are_not_parts_of_what_was_read_at_once() {
        let read = Bytes::from("one two".repeat(1000));
        let mut headers = HeaderMap::new();
        for part in [0..3, 4..7] {
            headers.append("x-many", HeaderValue::from_maybe_shared(read.slice(part)).unwrap());
        }
        let copied = apart(&headers);
        assert_eq!(copied, headers);
        let within = |value: &HeaderValue| read.as_ptr_range().contains(&value.as_bytes().as_ptr());
        assert!(headers.values().all(within) && !copied.values().any(within));
    }
}
