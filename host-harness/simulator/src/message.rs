//! Requests and answers, in process.
//!
//! [`Outcome`] says what a client would see on the wire, broken connections included, so that a test can drive the
//! simulator without a socket and the server can act it out. Nothing here waits: delays are values.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;

/// A request as it comes off the wire.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method, in capitals.
    pub method: String,
    /// Path and query as sent, such as `/idr/v2/investigations?size=100`.
    pub path_and_query: String,
    /// The headers; `Host` and `X-Api-Key` count.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Request {
    /// A `GET` with a key, to a region's host.
    pub fn get(region: &str, key: &str, path_and_query: impl Into<String>) -> Self {
        Self::build("GET", region, key, path_and_query.into(), Bytes::new())
    }

    /// A `POST` of JSON with a key, to a region's host.
    pub fn post(region: &str, key: &str, path_and_query: impl Into<String>, body: &Value) -> Self {
        let mut request = Self::build("POST", region, key, path_and_query.into(), Bytes::from(body.to_string()));
        request.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request
    }

    fn build(method: &str, region: &str, key: &str, path_and_query: String, body: Bytes) -> Self {
        let mut headers = HeaderMap::new();
        if let Ok(host) = HeaderValue::from_str(&format!("{region}.api.insight.rapid7.com")) {
            headers.insert(header::HOST, host);
        }
        if let Ok(key) = HeaderValue::from_str(key) {
            headers.insert("x-api-key", key);
        }
        Self { method: method.to_owned(), path_and_query, headers, body }
    }
}

/// How the body of a reply is paced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// A pause after so many bytes, then the rest.
    Pause {
        /// Bytes before the pause.
        after: usize,
        /// How long.
        pause: Duration,
    },
    /// Pieces of so many bytes with a pause before each.
    Drip {
        /// Bytes in a piece, 1 or more.
        bytes: usize,
        /// How long.
        pause: Duration,
    },
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers, without `Content-Length` and `Date`.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Real time before the head is sent.
    pub delay: Duration,
    /// How the body is paced; `None` is at once.
    pub pace: Option<Pace>,
}

/// What a client sees.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// A whole answer.
    Reply(Reply),
    /// The connection is reset, after the delay, before anything is sent.
    ResetBeforeHead {
        /// Real time before that.
        delay: Duration,
    },
    /// The head, which announces the whole body, and the body's beginning; then the connection ends.
    CutShort {
        /// The answer as announced.
        reply: Reply,
        /// Bytes of its body that are sent.
        sent: usize,
        /// A reset instead of an end in good order.
        reset: bool,
    },
}

impl Outcome {
    /// The whole answer; `None` when the connection broke.
    pub fn reply(self) -> Option<Reply> {
        match self {
            Self::Reply(reply) => Some(reply),
            Self::ResetBeforeHead { .. } | Self::CutShort { .. } => None,
        }
    }

    /// The status that a client sees, if it sees one.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Reply(reply) | Self::CutShort { reply, .. } => Some(reply.status),
            Self::ResetBeforeHead { .. } => None,
        }
    }
}

/// A request that was made, as the simulator saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// When, on the simulator's clock.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// The method.
    pub method: String,
    /// The region code of the host.
    pub region: String,
    /// The path, percent-decoded.
    pub path: String,
    /// The raw query, empty when there was none.
    pub query: String,
    /// What it said in `Accept-version`, if anything.
    pub accept_version: Option<String>,
    /// The status sent, if any.
    pub status: Option<u16>,
    /// The name of the fault that struck, if any.
    pub fault: Option<String>,
    /// The key was good for the region.
    pub authorized: bool,
}

impl Reply {
    /// 200 with JSON.
    pub(crate) fn json(body: impl Into<Bytes>) -> Self {
        Self::with_type(StatusCode::OK, "application/json", body)
    }

    /// Any status, content type and body.
    pub(crate) fn with_type(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self { status, headers, body: body.into(), delay: Duration::ZERO, pace: None }
    }

    /// An error of the vendor's form, with the correlation id when there is one.
    pub(crate) fn error(status: StatusCode, message: &str, correlation: Option<&str>) -> Self {
        let body = match correlation {
            Some(id) => json!({"message": message, "correlation_id": id}),
            None => json!({"message": message}),
        };
        Self::with_type(status, "application/json", body.to_string())
    }

    /// Adds or replaces a header; one that HTTP cannot carry is left out.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
            self.headers.insert(name, value);
        }
    }

    /// Whether it is a success with JSON in it.
    pub(crate) fn is_json_success(&self) -> bool {
        let json =
            self.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
        self.status.is_success() && json
    }
}
