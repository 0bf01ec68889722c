//! What can be tried with `wasi:http`: to reach what is not planned, to take more than is given, to smuggle.
//!
//! Every attempt yields a word or two on what came of it, which the test compares: `status 200`, the host's error code,
//! or what could not even be made.

use crate::lies::host;
use serde_json::Value;
use std::collections::BTreeMap;
use wasi::http::outgoing_handler;
use wasi::http::types::{
    Fields, FutureIncomingResponse, IncomingResponse, Method, OutgoingBody, OutgoingRequest, RequestOptions, Scheme,
};
use wasi::io::streams::{OutputStream, StreamError};

/// A request in the words of a test.
#[derive(Default)]
struct Attempt {
    method: String,
    scheme: String,
    authority: String,
    path: String,
    header: Option<(String, String)>,
}

impl Attempt {
    fn planned(path: &str) -> Self {
        Self {
            method: "GET".to_owned(),
            scheme: "https".to_owned(),
            authority: host(),
            path: path.to_owned(),
            header: None,
        }
    }

    /// From `{"method", "scheme", "authority", "path", "header": [name, value]}`; what is left out is as planned.
    fn read(value: &Value) -> Self {
        let planned = Self::planned("/v1/records");
        let text =
            |key: &str, otherwise: String| value.get(key).and_then(Value::as_str).map_or(otherwise, str::to_owned);
        let part = |at: usize| value.get("header")?.get(at)?.as_str().map(str::to_owned);
        Self {
            method: text("method", planned.method),
            scheme: text("scheme", planned.scheme),
            authority: text("authority", planned.authority),
            path: text("path", planned.path),
            header: part(0).zip(part(1)),
        }
    }

    fn request(&self) -> Result<OutgoingRequest, String> {
        let headers = Fields::new();
        if let Some((name, value)) = &self.header {
            headers.append(name, value.as_bytes()).map_err(|error| format!("header {error:?}"))?;
        }
        let request = OutgoingRequest::new(headers);
        let method = match self.method.as_str() {
            "GET" => Method::Get,
            "POST" => Method::Post,
            "DELETE" => Method::Delete,
            "CONNECT" => Method::Connect,
            other => Method::Other(other.to_owned()),
        };
        request.set_method(&method).map_err(|()| "no such method")?;
        let scheme = match self.scheme.as_str() {
            "https" => Scheme::Https,
            "http" => Scheme::Http,
            other => Scheme::Other(other.to_owned()),
        };
        request.set_scheme(Some(&scheme)).map_err(|()| "no such scheme")?;
        request.set_authority(Some(&self.authority)).map_err(|()| "no such authority")?;
        request.set_path_with_query(Some(&self.path)).map_err(|()| "no such path")?;
        Ok(request)
    }

    fn start(&self) -> Result<FutureIncomingResponse, String> {
        outgoing_handler::handle(self.request()?, None).map_err(|code| format!("{code:?}"))
    }

    fn response(&self) -> Result<IncomingResponse, String> {
        wait(&self.start()?)
    }

    /// What comes of it.
    fn outcome(&self) -> String {
        self.response().map_or_else(|error| error, |response| format!("status {}", response.status()))
    }
}

/// Waits for a response.
fn wait(future: &FutureIncomingResponse) -> Result<IncomingResponse, String> {
    future.subscribe().block();
    match future.get() {
        Some(Ok(result)) => result.map_err(|code| format!("{code:?}")),
        _ => Err("no answer".to_owned()),
    }
}

/// What comes of a planned `GET`.
pub(crate) fn get(path: &str) -> String {
    Attempt::planned(path).outcome()
}

/// What comes of each of these requests, a JSON list.
pub(crate) fn attempts(argument: &str) -> Vec<String> {
    let list: Vec<Value> = serde_json::from_str(argument).unwrap_or_default();
    list.iter().map(|value| Attempt::read(value).outcome()).collect()
}

/// Follows a redirect as a careless library would.
pub(crate) fn follow(path: &str) -> Vec<String> {
    let response = match Attempt::planned(path).response() {
        Ok(response) => response,
        Err(error) => return vec![error],
    };
    let location = response.headers().get("location");
    let location = location.first().map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default();
    let (scheme, rest) = location.split_once("://").unwrap_or(("", ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let next = Attempt {
        scheme: scheme.to_owned(),
        authority: authority.to_owned(),
        path: format!("/{path}"),
        ..Attempt::planned("")
    };
    vec![format!("status {}", response.status()), location, next.outcome()]
}

/// How often each came.
fn tally(outcomes: impl Iterator<Item = String>) -> Vec<String> {
    let mut counts = BTreeMap::<String, usize>::new();
    for outcome in outcomes {
        *counts.entry(outcome).or_default() += 1;
    }
    counts.into_iter().map(|(outcome, count)| format!("{count} {outcome}")).collect()
}

/// Makes one request after the other.
pub(crate) fn sequence(count: usize, path: &str) -> Vec<String> {
    tally((0..count).map(|_| get(path)))
}

/// Opens many requests at once, and waits for all.
pub(crate) fn flood(count: usize, path: &str) -> Vec<String> {
    let started: Vec<_> = (0..count).map(|_| Attempt::planned(path).start()).collect();
    tally(started.into_iter().map(|future| match future.and_then(|future| wait(&future)) {
        Ok(response) => format!("status {}", response.status()),
        Err(error) => error,
    }))
}

/// Gets many responses one after the other and reads none, but keeps them all.
pub(crate) fn hoard(count: usize, path: &str) -> Vec<String> {
    let mut kept = Vec::new();
    let outcomes: Vec<String> = (0..count)
        .map(|_| match Attempt::planned(path).response() {
            Ok(response) => {
                let status = response.status();
                kept.push((response.consume(), response));
                format!("status {status}")
            }
            Err(error) => error,
        })
        .collect();
    tally(outcomes.into_iter())
}

/// Makes headers until there is no room for them anywhere.
pub(crate) fn hoard_fields() {
    loop {
        let fields = Fields::new();
        while fields.append("x-large", &[b'x'; 8192]).is_ok() {}
        std::mem::forget(fields);
    }
}

/// Gives many requests one text each that is as long as this, keeps them all, and tells how many took it.
pub(crate) fn hoard_words(count: usize, bytes: usize) -> Vec<String> {
    let long = "x".repeat(bytes);
    let path = format!("/{long}");
    let mut kept = Vec::new();
    let mut hoard = |what: &str, set: &dyn Fn(&OutgoingRequest) -> Result<(), ()>| {
        let taken = (0..count).filter(|_| {
            let request = OutgoingRequest::new(Fields::new());
            let is_taken = set(&request).is_ok();
            kept.push(request);
            is_taken
        });
        format!("{} {what}", taken.count())
    };
    let method = Method::Other(long.clone());
    let scheme = Scheme::Other(long.clone());
    vec![
        hoard("methods", &|request| request.set_method(&method)),
        hoard("schemes", &|request| request.set_scheme(Some(&scheme))),
        hoard("authorities", &|request| request.set_authority(Some(&long))),
        hoard("paths", &|request| request.set_path_with_query(Some(&path))),
    ]
}

/// Sends a body of this many bytes.
pub(crate) fn upload(bytes: usize) -> Vec<String> {
    let attempt = Attempt { method: "POST".to_owned(), ..Attempt::planned("/v1/search") };
    let sent = attempt.request().and_then(|request| {
        let body = request.body().map_err(|()| "no body")?;
        let future = outgoing_handler::handle(request, None).map_err(|code| format!("{code:?}"))?;
        {
            let stream = body.write().map_err(|()| "no stream")?;
            for _ in 0..bytes.div_ceil(4096) {
                if stream.blocking_write_and_flush(&[b'x'; 4096]).is_err() {
                    break;
                }
            }
        }
        let _ = OutgoingBody::finish(body, None);
        wait(&future).map(|response| format!("status {}", response.status()))
    });
    vec![sent.unwrap_or_else(|error| error)]
}

/// Opens many requests and writes a body of up to this many bytes to each, ends none, and keeps all.
pub(crate) fn uploads(count: usize, bytes: usize) -> Vec<String> {
    let attempt = Attempt { method: "POST".to_owned(), ..Attempt::planned("/v1/search") };
    let mut taken = 0_usize;
    let mut kept = Vec::new();
    for _ in 0..count {
        let Ok(request) = attempt.request() else { continue };
        let Ok(body) = request.body() else { continue };
        let Ok(future) = outgoing_handler::handle(request, Some(RequestOptions::new())) else { continue };
        let stream = body.write();
        if let Ok(stream) = &stream {
            taken = taken.saturating_add(fill(stream, bytes));
        }
        kept.push((future, stream, body));
    }
    vec![taken.to_string()]
}

/// Writes as much as the host takes within some milliseconds of patience.
fn fill(stream: &OutputStream, bytes: usize) -> usize {
    let mut taken = 0_usize;
    let mut patience = 20;
    while taken < bytes && patience > 0 {
        match stream.check_write() {
            Ok(0) => {
                patience -= 1;
                wasi::clocks::monotonic_clock::subscribe_duration(1_000_000).block();
            }
            Ok(room) => {
                let piece = usize::try_from(room).unwrap_or(4096).min(4096).min(bytes.saturating_sub(taken));
                if stream.write(&vec![b'x'; piece]).is_err() || stream.flush().is_err() {
                    break;
                }
                taken = taken.saturating_add(piece);
            }
            Err(_) => break,
        }
    }
    taken
}

/// Sends a target and a head of this many bytes.
pub(crate) fn large(bytes: usize) -> Vec<String> {
    let target = Attempt::planned(&format!("/v1/{}", "x".repeat(bytes)));
    let header = Some(("x-large".to_owned(), "x".repeat(bytes)));
    let head = Attempt { header, ..Attempt::planned("/v1/records") };
    vec![target.outcome(), head.outcome()]
}

/// Everything of an answer: status, headers, and body as far as it comes.
pub(crate) fn read(path: &str) -> Result<String, String> {
    let response = Attempt::planned(path).response()?;
    let mut text = format!("{}\n", response.status());
    for (name, value) in response.headers().entries() {
        text.push_str(&format!("{name}: {}\n", String::from_utf8_lossy(&value)));
    }
    let body = response.consume().map_err(|()| "no body")?;
    let stream = body.stream().map_err(|()| "no stream")?;
    loop {
        match stream.blocking_read(65_536) {
            Ok(piece) => text.push_str(&String::from_utf8_lossy(&piece)),
            Err(StreamError::Closed) => return Ok(text),
            Err(StreamError::LastOperationFailed(error)) => return Err(error.to_debug_string()),
        }
    }
}

/// Bytes of a body as far as it comes, and how it ends.
pub(crate) fn measure(path: &str) -> Vec<String> {
    let measured = Attempt::planned(path).response().and_then(|response| {
        let body = response.consume().map_err(|()| "no body")?;
        let stream = body.stream().map_err(|()| "no stream")?;
        let mut bytes = 0_usize;
        loop {
            match stream.blocking_read(65_536) {
                Ok(piece) => bytes = bytes.saturating_add(piece.len()),
                Err(StreamError::Closed) => return Ok(format!("{bytes} bytes")),
                Err(StreamError::LastOperationFailed(_)) => return Ok(format!("{bytes} bytes, then broken")),
            }
        }
    });
    vec![measured.unwrap_or_else(|error| error)]
}
