//! What went wrong on the network, in the words of `wasi:http`.
//!
//! Why: a connector tells its user whether the vendor was down, slow, or never asked; it can only do that when each
//! cause keeps its own code. Causes are found by their types along the chain of sources, never by their texts.
//! Not guaranteed: errors of an HTTP/2 stream that end the connection are told apart only as far as hyper does.

use super::resolver::ResolveError;
use std::error::Error as StdError;
use std::io::ErrorKind;
use wasmtime_wasi_http::Error;

/// While what the error happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Connecting, sending, or waiting for the head of the response.
    Head,
    /// Reading the body of the response.
    Body,
}

/// The code for an error of the client.
pub(super) fn to_wasi(error: &reqwest::Error, phase: Phase) -> Error {
    let connecting = error.is_connect();
    if let Some(known) = classify(error, connecting, phase) {
        return known;
    }
    if error.is_timeout() {
        return match (connecting, phase) {
            (true, _) => Error::ConnectionTimeout,
            (false, Phase::Head) => Error::HttpResponseTimeout,
            (false, Phase::Body) => Error::ConnectionReadTimeout,
        };
    }
    if connecting {
        // A proxy that will not tunnel, for example.
        return Error::DestinationUnavailable;
    }
    Error::HttpProtocolError
}

/// Searches the chain of sources for the first cause that says what happened.
fn classify(error: &(dyn StdError + 'static), connecting: bool, phase: Phase) -> Option<Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = classify_one(error, connecting, phase) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// Looks at one cause.
fn classify_one(error: &(dyn StdError + 'static), connecting: bool, phase: Phase) -> Option<Error> {
    if let Some(error) = error.downcast_ref::<ResolveError>() {
        return Some(match error {
            ResolveError::TimedOut { .. } => Error::DnsTimeout,
            ResolveError::Prohibited { .. } => Error::DestinationIpProhibited,
            ResolveError::Empty { .. } | ResolveError::Failed { .. } => {
                Error::DnsError { rcode: Some("address not available".to_owned()), info_code: None }
            }
        });
    }
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(tls(error));
    }
    if let Some(error) = error.downcast_ref::<std::io::Error>() {
        // `source` of an I/O error skips the error it wraps.
        if let Some(inner) = error.get_ref()
            && let Some(found) = classify(inner, connecting, phase)
        {
            return Some(found);
        }
        return io(error.kind(), connecting, phase);
    }
    let error = error.downcast_ref::<hyper::Error>()?;
    if error.is_incomplete_message() {
        return Some(if phase == Phase::Body { Error::HttpResponseIncomplete } else { Error::ConnectionTerminated });
    }
    if error.is_parse_too_large() {
        return Some(Error::HttpResponseHeaderSectionSize(None));
    }
    if error.is_parse() {
        return Some(Error::HttpProtocolError);
    }
    if error.is_closed() || error.is_canceled() {
        return Some(Error::ConnectionTerminated);
    }
    None
}

/// The code for an error of TLS.
fn tls(error: &rustls::Error) -> Error {
    match error {
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => Error::TlsCertificateError,
        rustls::Error::AlertReceived(alert) => {
            Error::TlsAlertReceived { alert_id: Some(u8::from(*alert)), alert_message: Some(format!("{alert:?}")) }
        }
        _ => Error::TlsProtocolError,
    }
}

/// The code for an error of a socket; nothing when its kind says nothing.
fn io(kind: ErrorKind, connecting: bool, phase: Phase) -> Option<Error> {
    match kind {
        ErrorKind::ConnectionRefused => Some(Error::ConnectionRefused),
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::AddrNotAvailable => {
            Some(Error::DestinationIpUnroutable)
        }
        ErrorKind::UnexpectedEof if phase == Phase::Body => Some(Error::HttpResponseIncomplete),
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::NotConnected
        | ErrorKind::UnexpectedEof => Some(Error::ConnectionTerminated),
        ErrorKind::TimedOut if connecting => Some(Error::ConnectionTimeout),
        ErrorKind::TimedOut => Some(Error::ConnectionReadTimeout),
        // What undoing gzip says of bytes that are not gzip.
        ErrorKind::InvalidData | ErrorKind::InvalidInput if phase == Phase::Body => Some(Error::HttpProtocolError),
        _ => None,
    }
}
