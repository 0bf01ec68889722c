//! HTTP over `wasi:http`, on wstd's reactor.
//!
//! Why not wstd's own client: it brings a second model of headers and bodies
//! that makes up a quarter of the component, and reads bodies without a bound.
//! Here a request is made from the host's types directly and a body is read in
//! pieces as large as the host has them.
//!
//! Not guaranteed: headers whose values are not UTF-8 are left out.

use std::cell::Cell;
use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, select};
use wasi::clocks::monotonic_clock::{self, subscribe_duration, subscribe_instant};
use wasi::http::outgoing_handler;
use wasi::http::types::{
    ErrorCode, Fields, IncomingBody, IncomingResponse, Method as WasiMethod, OutgoingBody, OutgoingRequest,
    RequestOptions, Scheme,
};
use wasi::io::streams::{InputStream, StreamError};
use wstd::runtime::AsyncPollable;

use crate::api::transport::{Method, Request, Response, Transport, TransportError, TransportErrorKind as Kind};

/// Longest wait for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Longest wait for the head of a response, and between two pieces of it.
const SILENCE: Duration = Duration::from_secs(30);
/// Most bytes asked of the host at once.
const PIECE: u64 = 256 << 10;
/// Largest response, in bytes. A page of a hundred records is a fraction of it.
const LARGEST: usize = 8 << 20;
/// A response that is larger than this is read alone: others that large wait
/// until it is done with. So what is being read at one time stays well within
/// the memory that hosts give, however many requests are made together.
const BULKY: usize = 256 << 10;
/// Nanoseconds after which one that waits looks again: it is rare, and then what
/// it waits for takes many times that.
const MOMENT: u64 = 2_000_000;

/// Sends requests to one API host.
pub(crate) struct WasiHttp {
    host: &'static str,
    /// Whether a bulky response is being read.
    bulky: Cell<bool>,
}

impl WasiHttp {
    /// Requests to `host`, by TLS.
    pub(crate) const fn new(host: &'static str) -> Self {
        Self { host, bulky: Cell::new(false) }
    }

    /// The request in the host's types, and its body to be written.
    fn outgoing(
        &self,
        request: &Request,
        patience: Duration,
    ) -> Result<(OutgoingRequest, RequestOptions, Option<OutgoingBody>), ()> {
        let headers = Fields::new();
        let set = |name: &str, value: &str| headers.append(name, value.as_bytes()).map_err(|_| ());
        set("accept", "application/json")?;
        if let Some(version) = request.accept_version {
            set("accept-version", version)?;
        }
        if request.body.is_some() {
            set("content-type", "application/json")?;
        }
        let outgoing = OutgoingRequest::new(headers);
        outgoing.set_method(match request.method {
            Method::Get => &WasiMethod::Get,
            Method::Post => &WasiMethod::Post,
        })?;
        outgoing.set_scheme(Some(&Scheme::Https))?;
        outgoing.set_authority(Some(self.host))?;
        outgoing.set_path_with_query(Some(&request.target))?;
        let nanoseconds = |duration: Duration| u64::try_from(duration.as_nanos()).ok();
        let options = RequestOptions::new();
        // Both together take all of it at most.
        options.set_connect_timeout(nanoseconds(CONNECT.min(patience / 4)))?;
        options.set_first_byte_timeout(nanoseconds(SILENCE.min(patience / 4 * 3)))?;
        options.set_between_bytes_timeout(nanoseconds(SILENCE))?;
        // A body that is never opened is an empty one.
        let body = if request.body.is_some() { Some(outgoing.body()?) } else { None };
        Ok((outgoing, options, body))
    }
}

impl Transport for WasiHttp {
    async fn send(&self, request: &Request, patience: Duration) -> Result<Response, TransportError> {
        let end = monotonic_clock::now().saturating_add(u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX));
        let (outgoing, options, body) = self.outgoing(request, patience).map_err(|()| TransportError {
            kind: Kind::Denied,
            message: "the host does not take the request".to_owned(),
            sent: false,
        })?;
        let future = outgoing_handler::handle(outgoing, Some(options)).map_err(|code| failed(&code))?;
        if let (Some(body), Some(json)) = (body, &request.body) {
            write(body, json.as_bytes()).await?;
        }
        AsyncPollable::new(future.subscribe()).wait_for().await;
        match future.get() {
            Some(Ok(Ok(response))) => self.read(&response, end).await,
            Some(Ok(Err(code))) => Err(failed(&code)),
            // Neither can be: it was waited for, and is asked once.
            Some(Err(())) | None => Err(broken_off("the host gave no answer")),
        }
    }
}

/// Writes a request's body.
async fn write(body: OutgoingBody, mut bytes: &[u8]) -> Result<(), TransportError> {
    let closed = |_| broken_off("the request could not be written");
    {
        let stream = body.write().map_err(|()| broken_off("the request could not be written"))?;
        while !bytes.is_empty() {
            AsyncPollable::new(stream.subscribe()).wait_for().await;
            let room = usize::try_from(stream.check_write().map_err(closed)?).unwrap_or(usize::MAX);
            let (piece, rest) = bytes.split_at(room.min(bytes.len()));
            stream.write(piece).map_err(closed)?;
            bytes = rest;
        }
        stream.flush().map_err(closed)?;
        AsyncPollable::new(stream.subscribe()).wait_for().await;
    }
    OutgoingBody::finish(body, None).map_err(|code| failed(&code))
}

impl WasiHttp {
    /// Reads a response to its end, until then at the latest.
    async fn read(&self, response: &IncomingResponse, end: u64) -> Result<Response, TransportError> {
        let headers = response
            .headers()
            .entries()
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_ascii_lowercase(), String::from_utf8(value).ok()?)))
            .collect();
        let status = response.status();
        let body = response.consume().map_err(|()| broken_off("the host gave no body"))?;
        let mut alone = false;
        let bytes = self.read_body(&body, end, &mut alone).await;
        if alone {
            self.bulky.set(false);
        }
        // Dropping the body, trailers unread, closes the response.
        Ok(Response { status, headers, body: bytes? })
    }

    /// Reads a body. `alone` tells whether it was bulky, and others wait.
    async fn read_body(&self, body: &IncomingBody, end: u64, alone: &mut bool) -> Result<Vec<u8>, TransportError> {
        let stream = body.stream().map_err(|()| broken_off("the host gave no body"))?;
        let mut pieces: Vec<Vec<u8>> = Vec::new();
        let mut taken = 0_usize;
        loop {
            match stream.read(PIECE) {
                Ok(piece) if piece.is_empty() => wait(&stream, end).await?,
                Ok(piece) => {
                    taken = taken.saturating_add(piece.len());
                    if taken > LARGEST {
                        return Err(too_large());
                    }
                    pieces.push(piece);
                    if taken > BULKY && !*alone {
                        while self.bulky.replace(true) {
                            if monotonic_clock::now() >= end {
                                return Err(no_answer());
                            }
                            AsyncPollable::new(subscribe_duration(MOMENT)).wait_for().await;
                        }
                        *alone = true;
                    }
                }
                Err(StreamError::Closed) => return Ok(joined(pieces)),
                Err(StreamError::LastOperationFailed(error)) => {
                    return Err(match wasi::http::types::http_error_code(&error) {
                        Some(code) => TransportError { sent: true, ..failed(&code) },
                        None => broken_off("the response broke off"),
                    });
                }
            }
        }
    }
}

/// Waits for the next piece of a body. A vendor that sends one now and then goes on for as long as it likes otherwise.
async fn wait(stream: &InputStream, end: u64) -> Result<(), TransportError> {
    let more = AsyncPollable::new(stream.subscribe());
    let left = end.saturating_sub(monotonic_clock::now());
    if u128::from(left) > SILENCE.as_nanos() {
        // The host's own timer ends it before.
        more.wait_for().await;
        return Ok(());
    }
    let over = AsyncPollable::new(subscribe_instant(end));
    match select(pin!(more.wait_for()), pin!(over.wait_for())).await {
        Either::Left(_) => Ok(()),
        Either::Right(_) => Err(no_answer()),
    }
}

fn no_answer() -> TransportError {
    TransportError { kind: Kind::Timeout, message: "no whole answer in time".to_owned(), sent: true }
}

/// The pieces as one; most responses are one piece.
fn joined(mut pieces: Vec<Vec<u8>>) -> Vec<u8> {
    if pieces.len() == 1 { pieces.pop().unwrap_or_default() } else { pieces.concat() }
}

fn too_large() -> TransportError {
    TransportError {
        kind: Kind::TooLarge,
        message: "the response is larger than a page of records can be".to_owned(),
        sent: true,
    }
}

fn broken_off(message: &str) -> TransportError {
    TransportError { kind: Kind::Protocol, message: message.to_owned(), sent: true }
}

/// A request's failure, by its code.
fn failed(code: &ErrorCode) -> TransportError {
    let (kind, sent, message) = match code {
        ErrorCode::DnsTimeout | ErrorCode::ConnectionTimeout => (Kind::Timeout, false, "no connection in time"),
        ErrorCode::ConnectionReadTimeout | ErrorCode::ConnectionWriteTimeout | ErrorCode::HttpResponseTimeout => {
            (Kind::Timeout, true, "no answer in time")
        }
        ErrorCode::DnsError(_) | ErrorCode::DestinationNotFound => {
            (Kind::Connection, false, "the host name cannot be resolved")
        }
        ErrorCode::ConnectionRefused | ErrorCode::DestinationUnavailable => {
            (Kind::Connection, false, "the connection was refused")
        }
        ErrorCode::DestinationIpUnroutable => (Kind::Connection, false, "there is no route to the host"),
        ErrorCode::TlsProtocolError | ErrorCode::TlsCertificateError | ErrorCode::TlsAlertReceived(_) => {
            (Kind::Connection, false, "TLS could not be agreed on, or the certificate is not trusted")
        }
        ErrorCode::ConnectionTerminated => (Kind::Connection, true, "the connection was closed before the answer"),
        ErrorCode::ConnectionLimitReached => (Kind::Denied, false, "the host allows no more connections"),
        ErrorCode::HttpRequestDenied => (Kind::Denied, false, "the host's policy refuses the request"),
        ErrorCode::DestinationIpProhibited => {
            (Kind::Denied, false, "the host's policy refuses the address of the host name")
        }
        ErrorCode::HttpResponseBodySize(_) => (Kind::TooLarge, true, "the response is larger than the host allows"),
        ErrorCode::HttpResponseHeaderSectionSize(_) | ErrorCode::HttpResponseHeaderSize(_) => {
            (Kind::TooLarge, true, "the response has more headers than the host allows")
        }
        ErrorCode::HttpResponseIncomplete => (Kind::Protocol, true, "the response broke off"),
        ErrorCode::HttpResponseContentCoding(_) => (Kind::Protocol, true, "the response is not encoded as it says"),
        ErrorCode::HttpResponseTransferCoding(_) | ErrorCode::HttpProtocolError => {
            (Kind::Protocol, true, "the response breaks HTTP")
        }
        ErrorCode::InternalError(Some(detail)) => {
            return TransportError {
                kind: Kind::Connection,
                message: format!("the request failed: {detail}"),
                sent: true,
            };
        }
        _ => (Kind::Connection, true, "the request failed"),
    };
    TransportError { kind, message: message.to_owned(), sent }
}
