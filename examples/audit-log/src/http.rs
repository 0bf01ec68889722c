//! One request over `wasi:http`, waited for.
//!
//! Why not concurrently: this service is read in order anyway. The InsightIDR connector shows how to have many requests
//! under way at once.

use crate::contract::Failure;
use crate::failures::{self, Told};
use wasi::http::outgoing_handler;
use wasi::http::types::{ErrorCode, Fields, IncomingResponse, OutgoingRequest, Scheme};
use wasi::io::streams::StreamError;

/// Most bytes of an answer. A page is far below.
const LARGEST: usize = 8 << 20;

/// Bytes read at once.
const PIECE: u64 = 1 << 16;

/// The body of an answer with status 200. Any other status is a failure.
pub(crate) fn get(host: &str, path: &str) -> Result<Vec<u8>, Failure> {
    let refused = |()| failures::internal("The host does not take the request.");
    let headers = Fields::new();
    headers.append("accept", b"application/json").map_err(|_| refused(()))?;
    let request = OutgoingRequest::new(headers);
    request.set_scheme(Some(&Scheme::Https)).map_err(refused)?;
    request.set_authority(Some(host)).map_err(refused)?;
    request.set_path_with_query(Some(path)).map_err(refused)?;
    let pending = outgoing_handler::handle(request, None).map_err(|code| failed(&code))?;
    pending.subscribe().block();
    match pending.get() {
        Some(Ok(Ok(response))) if response.status() == 200 => read(&response),
        Some(Ok(Ok(response))) => {
            let told =
                Told { retry_after: header(&response, "retry-after"), request_id: header(&response, "x-request-id") };
            Err(failures::refused(response.status(), told))
        }
        Some(Ok(Err(code))) => Err(failed(&code)),
        Some(Err(())) | None => Err(failures::internal("The host gave no answer.")),
    }
}

/// Reads a body to its end. One that breaks off is a failure, not a short body.
fn read(response: &IncomingResponse) -> Result<Vec<u8>, Failure> {
    let gone = |()| failures::internal("The host gave no body.");
    let body = response.consume().map_err(gone)?;
    let stream = body.stream().map_err(gone)?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(PIECE) {
            Ok(piece) if bytes.len() + piece.len() > LARGEST => {
                return Err(failures::malformed("the answer is larger than a page can be"));
            }
            Ok(piece) => bytes.extend_from_slice(&piece),
            Err(StreamError::Closed) => return Ok(bytes),
            Err(StreamError::LastOperationFailed(_)) => return Err(failures::malformed("the answer broke off")),
        }
    }
}

/// A header of an answer, if it is there and a text.
fn header(response: &IncomingResponse, name: &str) -> Option<String> {
    response.headers().get(name).into_iter().next().and_then(|value| String::from_utf8(value).ok())
}

/// A request that got no answer.
fn failed(code: &ErrorCode) -> Failure {
    match code {
        ErrorCode::HttpRequestDenied => failures::internal("The request is not in the plan."),
        ErrorCode::HttpRequestUriInvalid => failures::internal("The request has no sound address."),
        ErrorCode::ConnectionLimitReached => failures::used_up(),
        ErrorCode::DnsTimeout | ErrorCode::ConnectionTimeout => {
            failures::no_answer(true, false, "no connection in time")
        }
        ErrorCode::HttpResponseTimeout | ErrorCode::ConnectionReadTimeout => {
            failures::no_answer(true, true, "the service is silent")
        }
        ErrorCode::DnsError(_) => failures::no_answer(false, false, "the name of the site cannot be resolved"),
        ErrorCode::ConnectionRefused => failures::no_answer(false, false, "the connection was refused"),
        ErrorCode::TlsCertificateError => failures::no_answer(false, false, "its certificate is not trusted"),
        _ => failures::no_answer(false, true, "the connection failed"),
    }
}
