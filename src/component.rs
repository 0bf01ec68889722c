//! The component: the exports of the world over `wasi:http` and WASI's clocks.
//!
//! Nothing is decided here. Each call parses the settings, runs the library's
//! code to its end and hands the result over.

use std::time::Duration;

use http_body_util::{Empty, Full};
use wstd::http::body::Bytes;
use wstd::http::error::ErrorCode;
use wstd::http::{Body, Client, Method as HttpMethod, Request as HttpRequest};
use wstd::runtime::block_on;

use crate::api::transport::{Clock, Method, Request, Response, Transport, TransportError, TransportErrorKind};
use crate::collect;
use crate::contract::exports::witfoo::signal_connector::connector::Guest;
use crate::contract::{
    Batch, Budget, CheckReport, Descriptor, Failure, FailureReason, FieldError, Plan, RetryAdvice, Setting,
};
use crate::settings::Settings;
use crate::times::Utc;

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest wait for the head of a response, and between two pieces of it.
const SILENCE: Duration = Duration::from_secs(30);

struct Component;

crate::contract::export!(Component with_types_in crate::contract);

impl Guest for Component {
    fn describe() -> Descriptor {
        crate::descriptor::describe()
    }

    fn configure(settings: Vec<Setting>) -> Result<Plan, Vec<FieldError>> {
        Ok(crate::settings::plan(&Settings::parse(&settings)?))
    }

    fn check(settings: Vec<Setting>) -> Result<CheckReport, Failure> {
        let settings = Settings::parse(&settings).map_err(invalid)?;
        let transport = WasiHttp::new(settings.region.host);
        block_on(collect::check::check(&transport, &WasiClock, &settings))
    }

    fn poll(settings: Vec<Setting>, checkpoint: Option<Vec<u8>>, budget: Budget) -> Result<Batch, Failure> {
        let settings = Settings::parse(&settings).map_err(invalid)?;
        let transport = WasiHttp::new(settings.region.host);
        block_on(collect::step(&transport, &WasiClock, &settings, checkpoint.as_deref(), budget))
    }
}

/// Settings that `configure` would have refused.
fn invalid(errors: Vec<FieldError>) -> Failure {
    let listed: Vec<String> = errors.into_iter().map(|error| format!("{} {}", error.key, error.message)).collect();
    crate::api::errors::plain(
        FailureReason::InvalidSettings,
        format!("the settings are not valid: {}", listed.join("; ")),
        "Correct the settings of the instance.",
        RetryAdvice::AfterChange,
    )
}

/// HTTP over `wasi:http`.
struct WasiHttp {
    client: Client,
    host: &'static str,
}

impl WasiHttp {
    fn new(host: &'static str) -> Self {
        let mut client = Client::new();
        client.set_connect_timeout(CONNECT);
        client.set_first_byte_timeout(SILENCE);
        client.set_between_bytes_timeout(SILENCE);
        Self { client, host }
    }
}

impl Transport for WasiHttp {
    async fn send(&self, request: &Request) -> Result<Response, TransportError> {
        let mut builder = HttpRequest::builder()
            .method(match request.method {
                Method::Get => HttpMethod::GET,
                Method::Post => HttpMethod::POST,
            })
            .uri(format!("https://{}{}", self.host, request.target))
            .header("accept", "application/json");
        if let Some(version) = request.accept_version {
            builder = builder.header("accept-version", version);
        }
        // An empty body must write nothing at all: wasmtime has closed it by
        // the time the response arrives.
        let body = match &request.body {
            None => Body::from_http_body(Empty::<Bytes>::new()),
            Some(json) => {
                builder = builder.header("content-type", "application/json");
                Body::from_http_body(Full::new(Bytes::copy_from_slice(json.as_bytes())))
            }
        };
        let request = builder.body(body).map_err(|error| not_sent(&anyhow::Error::new(error)))?;
        let response = self.client.send(request).await.map_err(|error| failed(&error))?;
        let (head, mut body) = response.into_parts();
        let headers = head
            .headers
            .iter()
            .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
            .collect();
        let body = body.contents().await.map_err(|error| broken_off(&error))?.to_vec();
        Ok(Response { status: head.status.as_u16(), headers, body })
    }
}

/// A request that could not even be made.
fn not_sent(error: &anyhow::Error) -> TransportError {
    TransportError { kind: TransportErrorKind::Denied, message: format!("{error:#}"), sent: false }
}

/// A body that ended with an error.
fn broken_off(error: &anyhow::Error) -> TransportError {
    match failed(error) {
        // A stream's error does not always carry its code.
        TransportError { kind: TransportErrorKind::Connection, message, .. } => {
            TransportError { kind: TransportErrorKind::Protocol, message: format!("the response broke off: {message}"), sent: true }
        }
        other => TransportError { sent: true, ..other },
    }
}

/// The error of a request, by its code.
fn failed(error: &anyhow::Error) -> TransportError {
    use TransportErrorKind as Kind;
    let Some(code) = error.downcast_ref::<ErrorCode>() else {
        return TransportError { kind: Kind::Connection, message: format!("{error:#}"), sent: true };
    };
    let (kind, sent, what) = match code {
        ErrorCode::DnsTimeout | ErrorCode::ConnectionTimeout => (Kind::Timeout, false, "no connection in time"),
        ErrorCode::ConnectionReadTimeout | ErrorCode::ConnectionWriteTimeout | ErrorCode::HttpResponseTimeout => {
            (Kind::Timeout, true, "no answer in time")
        }
        ErrorCode::DnsError(_) | ErrorCode::DestinationNotFound => (Kind::Connection, false, "the host name cannot be resolved"),
        ErrorCode::ConnectionRefused | ErrorCode::DestinationUnavailable => (Kind::Connection, false, "the connection is refused"),
        ErrorCode::DestinationIpUnroutable => (Kind::Connection, false, "there is no route to the host"),
        ErrorCode::TlsProtocolError | ErrorCode::TlsCertificateError | ErrorCode::TlsAlertReceived(_) => {
            (Kind::Connection, false, "TLS could not be agreed on, or the certificate is not trusted")
        }
        ErrorCode::ConnectionTerminated => (Kind::Connection, true, "the connection was closed before the answer"),
        ErrorCode::HttpRequestDenied | ErrorCode::DestinationIpProhibited => (Kind::Denied, false, "the host's policy refuses the request"),
        ErrorCode::HttpResponseBodySize(_) | ErrorCode::HttpResponseHeaderSectionSize(_) => {
            (Kind::TooLarge, true, "the response is too large")
        }
        ErrorCode::HttpResponseIncomplete => (Kind::Protocol, true, "the response broke off"),
        ErrorCode::HttpResponseContentCoding(_) | ErrorCode::HttpResponseTransferCoding(_) | ErrorCode::HttpProtocolError => {
            (Kind::Protocol, true, "the response breaks HTTP or its encoding")
        }
        _ => (Kind::Connection, true, "the request failed"),
    };
    TransportError { kind, message: format!("{what} ({code:?})"), sent }
}

/// WASI's clocks.
struct WasiClock;

impl Clock for WasiClock {
    fn now(&self) -> Utc {
        let now = wasi::clocks::wall_clock::now();
        Utc::from_unix(now.seconds, now.nanoseconds)
    }

    fn elapsed(&self) -> Duration {
        Duration::from_nanos(wasi::clocks::monotonic_clock::now())
    }

    async fn sleep(&self, duration: Duration) {
        wstd::time::Timer::after(duration.into()).wait().await;
    }
}
