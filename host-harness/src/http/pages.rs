//! What is served.
//!
//! Why only `GET` and `HEAD`: nothing can be changed here, so nobody can be made to change anything.
//! Every answer says that it must not be stored, nor taken for another type than it has.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use serde_json::json;
use time::format_description::well_known::Rfc3339;
use tokio::sync::Semaphore;

use super::access::{Access, Refusal};
use super::browser;
use super::metrics::Snapshot;
use crate::connectors::serving::{ConnectorReport, ConnectorState, Serving};
use crate::resident::board::Board;
use crate::resident::status::{InstanceStatus, State};
use crate::store::{Attributed, Most, Period, Reader, StoreError, notes};

/// Artifacts on one page when nothing is said, and at most.
const LIMIT: (u32, u32) = (20, 100);

/// Bytes of artifacts on one page; what does not fit any more is left out.
const MOST_BYTES: usize = 16 << 20;

/// Longest query in bytes.
const LONGEST_QUERY: usize = 4 * 1024;

/// How long a search may take: shorter than an answer may, so that whoever asked learns why there is none.
const SEARCH_WITHIN: Duration = Duration::from_secs(15);

/// Everything that pages are made of.
pub struct Site {
    board: Arc<Board>,
    serving: Arc<dyn Serving>,
    reader: Reader,
    access: Access,
    /// The place of the one search that runs; others wait without holding a thread.
    pub(super) searching: Arc<Semaphore>,
    /// The place of the one look at what waits for delivery, which no search holds up.
    looking: Arc<Semaphore>,
}

/// An answer.
pub(super) type Answer = Response<Full<Bytes>>;

impl Site {
    /// A site.
    #[must_use]
    pub fn new(board: Arc<Board>, serving: Arc<dyn Serving>, reader: Reader, access: Access) -> Self {
        let place = || Arc::new(Semaphore::new(1));
        Self { board, serving, reader, access, searching: place(), looking: place() }
    }

    /// Answers a request by its head.
    pub(super) async fn answer(&self, head: &Parts) -> Answer {
        if let Err(refusal) = self.access.check_host(&head.uri, &head.headers) {
            let status =
                if refusal == Refusal::NoHost { StatusCode::BAD_REQUEST } else { StatusCode::MISDIRECTED_REQUEST };
            return error(status, refusal.code(), &refusal.to_string());
        }
        // A link on a page of another site may lead to the page for browsers, which holds nothing of anybody's.
        let file = browser::file(head.uri.path());
        if file.is_none()
            && let Err(refusal) = Access::check_site(&head.headers)
        {
            return error(StatusCode::FORBIDDEN, refusal.code(), &refusal.to_string());
        }
        if !matches!(head.method, Method::GET | Method::HEAD) {
            let mut answer =
                error(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "only GET and HEAD are answered");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        let length = head.headers.get(CONTENT_LENGTH);
        if length.is_some_and(|length| length != "0") || head.headers.contains_key(TRANSFER_ENCODING) {
            return error(StatusCode::BAD_REQUEST, "body-not-allowed", "a request must have no body");
        }
        if let Some(file) = file {
            return file;
        }
        // Whoever only looks whether the host is alive needs no token; he learns nothing else.
        if head.uri.path() == "/healthz" {
            return self.health();
        }
        if let Err(refusal) = self.access.check_token(&head.headers) {
            let mut answer = error(StatusCode::UNAUTHORIZED, refusal.code(), &refusal.to_string());
            answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return answer;
        }
        match head.uri.path() {
            "/status" => self.status(),
            "/metrics" => self.metrics().await,
            "/artifacts" => self.artifacts(head.uri.query().unwrap_or_default()).await,
            _ => error(StatusCode::NOT_FOUND, "not-found", "there is /, /healthz, /status, /metrics and /artifacts"),
        }
    }

    /// Whether the host runs: 503 once a part of it has panicked, or it was told to stop.
    fn health(&self) -> Answer {
        let host = self.board.host();
        if !host.broken.is_empty() {
            let page = json!({ "status": "broken", "broken": host.broken });
            return json_answer(StatusCode::SERVICE_UNAVAILABLE, &page);
        }
        if host.stopping {
            return json_answer(StatusCode::SERVICE_UNAVAILABLE, &json!({ "status": "stopping" }));
        }
        json_answer(StatusCode::OK, &json!({ "status": "ok" }))
    }

    /// Everything on the board.
    fn status(&self) -> Answer {
        let now = self.board.now().format(&Rfc3339).unwrap_or_default();
        let (host, connectors, all) = (self.board.host(), self.serving.report(), self.board.instances());
        let mut serves = BTreeMap::new();
        let instances: Vec<Shown<'_>> = all
            .iter()
            .map(|one| {
                let kind = one.integration_type.as_str();
                let is_served = *serves
                    .entry(kind)
                    .or_insert_with(|| self.serving.current(kind).is_some() || may_come(kind, &connectors));
                Shown { status: one, unserved: host.looked && !is_served && one.state != State::Disabled }
            })
            .collect();
        let page = json!({ "now": now, "host": host, "connectors": connectors, "instances": instances });
        json_answer(StatusCode::OK, &page)
    }

    async fn metrics(&self) -> Answer {
        let depth = self.read(&self.looking, |reader| reader.outbox_depth()).await.and_then(Result::ok);
        let text = Snapshot::of(&self.board, self.serving.report(), depth).text();
        answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text)
    }

    /// Searches as `host-harness search` does.
    async fn artifacts(&self, query: &str) -> Answer {
        let wrong = |message: &str| error(StatusCode::BAD_REQUEST, "bad-query", message);
        if query.len() > LONGEST_QUERY {
            return wrong("what stands behind the ? is longer than 4 KiB");
        }
        let (mut text, mut instance, mut limit, mut before) = (String::new(), None, LIMIT.0, None);
        let (mut since, mut until) = (None, None);
        for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match key.as_ref() {
                "query" => text = value.into_owned(),
                "instance" => instance = Some(value.into_owned()),
                "limit" => match value.parse() {
                    Ok(number) if (1..=LIMIT.1).contains(&number) => limit = number,
                    _ => return wrong("limit must be 1 to 100"),
                },
                "before" => match value.parse() {
                    Ok(number) => before = Some(number),
                    Err(_) => return wrong("before must be what next was"),
                },
                "since" => since = Some(value).filter(|text| !text.is_empty()),
                "until" => until = Some(value).filter(|text| !text.is_empty()),
                _ => return wrong("there is query, instance, since, until, limit and before"),
            }
        }
        let period = match Period::between(since.as_deref(), until.as_deref(), self.board.now()) {
            Ok(period) => period,
            Err(no_time) => return wrong(&no_time.to_string()),
        };
        let most = Most { hits: limit, bytes: MOST_BYTES, within: Some(SEARCH_WITHIN), before, period };
        let asked = text.clone();
        let search = move |reader: &Reader| reader.search_at_most(&text, instance.as_deref(), most);
        let found = match self.read(&self.searching, search).await {
            Some(Ok(found)) => found,
            Some(Err(failure @ (StoreError::UnknownInstance { .. } | StoreError::Query { .. }))) => {
                return error(StatusCode::BAD_REQUEST, failure.code(), &failure.to_string());
            }
            Some(Err(failure @ StoreError::TooLong { .. })) => {
                let message = format!("{failure}; {}", failure.help());
                return error(StatusCode::BAD_REQUEST, failure.code(), &message);
            }
            Some(Err(failure)) => {
                return error(StatusCode::INTERNAL_SERVER_ERROR, failure.code(), "the store could not be searched");
            }
            None => return error(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the search broke off"),
        };
        let notes = if found.hits.is_empty() { notes(&asked) } else { Vec::new() };
        let artifacts = found.hits.iter().map(Attributed::from).collect();
        let is_full = found.hits.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
        let next = found.last.filter(|_| is_full || !found.complete);
        let page = FoundPage { artifacts, complete: found.complete, next, notes };
        answer(StatusCode::OK, JSON, serde_json::to_string(&page).unwrap_or_default())
    }

    /// Reads the store where blocking is fine. The place is held until that has ended, also when nobody waits for it any
    /// more: however often is asked, no more threads are taken, which commits need as well.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        places: &Arc<Semaphore>,
        work: impl FnOnce(&Reader) -> T + Send + 'static,
    ) -> Option<T> {
        let place = Arc::clone(places).acquire_owned().await.ok()?;
        let reader = self.reader.clone();
        let read = move || {
            let _place = place;
            work(&reader)
        };
        tokio::task::spawn_blocking(read).await.ok()
    }
}

/// An instance on the page of `/status`.
#[derive(serde::Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    status: &'a InstanceStatus,
    /// Whether nothing serves its type at this moment, whatever its last poll came to: that may be a day ago.
    unserved: bool,
}

/// Whether something that is being loaded may serve this type. A file whose type is not known yet may hold it.
fn may_come(kind: &str, connectors: &[ConnectorReport]) -> bool {
    let may = |one: &ConnectorReport| one.integration_type == kind || one.version.is_empty();
    connectors.iter().any(|one| one.state == ConnectorState::Loading && may(one))
}

/// The page of `/artifacts`.
#[derive(serde::Serialize)]
struct FoundPage<'a> {
    /// Those found, stored last first.
    artifacts: Vec<Attributed<'a>>,
    /// Whether all that were asked for are here; the page has a limit in bytes.
    complete: bool,
    /// Where there may be more, what `before` has to be for those that came before them.
    next: Option<i64>,
    /// Where nothing was found, what there is to know of how the query was taken.
    notes: Vec<String>,
}

const JSON: &str = "application/json";

/// An answer of JSON.
fn json_answer(status: StatusCode, value: &serde_json::Value) -> Answer {
    answer(status, JSON, value.to_string())
}

/// An error: a stable code and a sentence.
pub(super) fn error(status: StatusCode, code: &str, message: &str) -> Answer {
    json_answer(status, &json!({ "error": { "code": code, "message": message } }))
}

/// An answer with the headers that all have.
pub(super) fn answer(status: StatusCode, kind: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
