//! What others may ask of a running host: health, status, metrics, artifacts.
//!
//! Threats: a page in a browser of this machine that asks for
//! `http://127.0.0.1:…` under a name of its own (so the `Host` header has to be
//! an address or `localhost`); somebody else on the network (so beyond loopback
//! a token is required, compared in constant time); a client that sends or reads
//! slowly (so heads have to come in time and bodies are not read). Only `GET` and
//! `HEAD` are answered; nothing can be changed here.
//!
//! Not guaranteed: TLS; beyond this machine, put a proxy in front.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::board::{Board, InstanceState};
use super::metrics::Metrics;
use crate::connectors::serving::Serving;
use crate::store::Store;

/// Time for the head of a request to come.
const HEAD: Duration = Duration::from_secs(10);
/// Time for a whole connection.
const CONNECTION: Duration = Duration::from_secs(60);
/// Connections at once.
const CONNECTIONS: usize = 64;
/// Most artifacts of one answer.
const MOST_ARTIFACTS: u32 = 1_000;

/// What is asked about.
#[derive(Clone)]
pub struct Answers {
    /// Status.
    pub board: Board,
    /// Metrics.
    pub metrics: Metrics,
    /// Connectors.
    pub serving: Arc<dyn Serving>,
    /// Artifacts.
    pub store: Store,
    /// What callers have to bring.
    pub token: Option<Arc<str>>,
}

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, answers: Answers) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    let answers = answers.clone();
                    connections.spawn(async move {
                        let service = service_fn(move |request| respond(answers.clone(), request));
                        let connection = hyper::server::conn::http1::Builder::new()
                            .timer(TokioTimer::new())
                            .header_read_timeout(HEAD)
                            .serve_connection(TokioIo::new(stream), service);
                        // Errors are the client going away.
                        let _ = tokio::time::timeout(CONNECTION, connection).await;
                    });
                }
                // Out of file handles: the connections there are go on.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn respond(answers: Answers, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let head = request.method() == Method::HEAD;
    // A search reads the disk.
    let (parts, _) = request.into_parts();
    let answer = tokio::task::spawn_blocking(move || answer(&answers, &parts)).await;
    let (status, kind, body) =
        answer.unwrap_or_else(|_| text(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be made\n"));
    let length = body.len();
    let mut response = Response::new(Full::from(if head { Vec::new() } else { body.into_bytes() }));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in
        [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-store"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")]
    {
        headers.insert(name, header::HeaderValue::from_static(value));
    }
    if head {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    }
    Ok(response)
}

/// Status, content type, body.
type Answer = (StatusCode, &'static str, String);

fn text(status: StatusCode, body: &str) -> Answer {
    (status, "text/plain; charset=utf-8", body.to_owned())
}

fn answer(answers: &Answers, request: &http::request::Parts) -> Answer {
    if !matches!(request.method, Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
    }
    let path = request.uri.path();
    match &answers.token {
        Some(token) if path != "/healthz" && !bears(request, token) => {
            return text(StatusCode::UNAUTHORIZED, "bring the token: Authorization: Bearer TOKEN\n");
        }
        None if !is_for_loopback(request) => {
            return text(StatusCode::FORBIDDEN, "ask by address or as localhost\n");
        }
        _ => {}
    }
    let page = || answers.board.page(answers.serving.report());
    match path {
        "/healthz" => text(StatusCode::OK, "ok\n"),
        "/status" => {
            let body = serde_json::to_string_pretty(&page()).unwrap_or_default();
            (StatusCode::OK, "application/json", body + "\n")
        }
        "/metrics" => (
            StatusCode::OK,
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            answers.metrics.text(&page()),
        ),
        "/artifacts" => artifacts(answers, request.uri.query().unwrap_or_default()),
        "/" => text(StatusCode::OK, "/healthz /status /metrics /artifacts?query=&instance=&limit=\n"),
        _ => text(StatusCode::NOT_FOUND, "there are /healthz, /status, /metrics and /artifacts?query=\n"),
    }
}

/// Finds artifacts.
fn artifacts(answers: &Answers, query: &str) -> Answer {
    let (mut words, mut instance, mut limit) = (String::new(), None, 20);
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match key.as_ref() {
            "query" => words = value.into_owned(),
            "instance" => instance = Some(value.into_owned()),
            "limit" => match value.parse() {
                Ok(number @ 1..=MOST_ARTIFACTS) => limit = number,
                _ => return text(StatusCode::BAD_REQUEST, "limit is a whole number from 1 to 1000\n"),
            },
            _ => return text(StatusCode::BAD_REQUEST, "there are query, instance and limit\n"),
        }
    }
    match answers.store.search(&words, instance.as_deref(), limit) {
        Err(error) => text(StatusCode::BAD_REQUEST, &format!("{}\n", crate::log::escape(&error.to_string()))),
        Ok(hits) => {
            let hits: Vec<serde_json::Value> = hits
                .iter()
                .map(|hit| {
                    json!({
                        "instance": hit.instance,
                        "id": hit.id.to_string(),
                        "stream": hit.stream,
                        "artifact": serde_json::from_str::<serde_json::Value>(&hit.json).unwrap_or_default(),
                    })
                })
                .collect();
            (StatusCode::OK, "application/json", json!({ "artifacts": hits }).to_string() + "\n")
        }
    }
}

/// Whether the request brings the token.
fn bears(request: &http::request::Parts, token: &str) -> bool {
    let given = request.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default().as_bytes();
    let token = token.as_bytes();
    // As long for any wrong token of the right length.
    given.len() == token.len() && given.iter().zip(token).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

/// Whether the `Host` header names this machine and not a name that somebody
/// made point here.
fn is_for_loopback(request: &http::request::Parts) -> bool {
    let Some(host) = request.headers.get(header::HOST).and_then(|value| value.to_str().ok()) else { return true };
    let is_address = |text: &str| text.parse::<IpAddr>().is_ok() || text.parse::<SocketAddr>().is_ok();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    is_address(host) || is_address(name.trim_matches(['[', ']'])) || name.eq_ignore_ascii_case("localhost")
}

/// Whether every instance that is not disabled is polled and well, for a
/// summary line.
#[must_use]
pub fn is_well(board: &Board) -> bool {
    board.page(Vec::new()).instances.iter().all(|one| matches!(one.state, InstanceState::Ok | InstanceState::Disabled))
}
