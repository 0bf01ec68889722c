//! What the collection needs from outside: HTTP and clocks.
//!
//! Why traits: the same collection code runs in the component over `wasi:http`
//! and natively over whatever a test or benchmark gives it. Futures need not be
//! `Send`: the component has one thread.

use std::time::Duration;

use crate::times::Utc;

/// A request to the API host. Scheme and host are the transport's business, as
/// is the API key, which the host adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `GET` or `POST`.
    pub method: Method,
    /// Path and query, percent-encoded.
    pub target: String,
    /// JSON body of a `POST`.
    pub body: Option<String>,
    /// Value of `Accept-version`, for endpoints documented with one.
    pub accept_version: Option<&'static str>,
}

/// Request methods of a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `GET`
    Get,
    /// `POST`, used by the vendor for searches.
    Post,
}

impl Method {
    /// The method's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
}

/// A whole response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Headers, names in lower case; values that are not UTF-8 are left out.
    pub headers: Vec<(String, String)>,
    /// Body, decoded.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of this name (lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Why there is no response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportError {
    /// The kind of failure.
    pub kind: TransportErrorKind,
    /// What happened, for the operator.
    pub message: String,
    /// Whether the request may have reached the vendor.
    pub sent: bool,
}

/// Kinds of missing responses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportErrorKind {
    /// Nothing came in time.
    Timeout,
    /// No connection, or it broke.
    Connection,
    /// The response broke HTTP, or its encoding, or was cut short.
    Protocol,
    /// The response is larger than is taken.
    TooLarge,
    /// The host refused the request: policy, not the network.
    Denied,
}

/// Sends requests.
#[allow(async_fn_in_trait, reason = "single-threaded by design; see the module header")]
pub trait Transport {
    /// Sends one request and reads the whole response, which has to be there
    /// within `patience`; a transport may have less.
    ///
    /// # Errors
    ///
    /// When there is no whole response.
    async fn send(&self, request: &Request, patience: Duration) -> Result<Response, TransportError>;
}

/// Tells the time and waits.
#[allow(async_fn_in_trait, reason = "single-threaded by design; see the module header")]
pub trait Clock {
    /// Wall-clock time, which may jump.
    fn now(&self) -> Utc;
    /// Monotonic time since some fixed instant.
    fn elapsed(&self) -> Duration;
    /// Waits.
    async fn sleep(&self, duration: Duration);
}
