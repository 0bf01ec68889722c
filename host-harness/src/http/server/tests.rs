//! Requests over real sockets, polite and otherwise.

use std::net::SocketAddr;
use std::sync::Mutex;

use serde_json::Value;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::connectors::Connector;
use crate::connectors::serving::{ConnectorReport, ConnectorState, PollOutcome, Serving};
use crate::contract::types::{Artifact, Batch};
use crate::http::Access;
use crate::instances::secrets::Source;
use crate::locks::lock;
use crate::resident::board::Board;
use crate::resident::status::{InstanceStatus, Past, State};
use crate::store::{Reader, Store};

/// Nothing that serves, and these files.
struct Nothing(tokio::sync::watch::Sender<u64>, Arc<Mutex<Vec<ConnectorReport>>>);

impl Serving for Nothing {
    fn current(&self, _: &str) -> Option<Connector> {
        None
    }

    fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.0.subscribe()
    }

    fn polled(&self, _: &Connector, _: uuid::Uuid, _: PollOutcome) {}

    fn report(&self) -> Vec<ConnectorReport> {
        lock(&self.1).clone()
    }
}

struct Stage {
    dir: tempfile::TempDir,
    board: Arc<Board>,
    site: Arc<Site>,
    connectors: Arc<Mutex<Vec<ConnectorReport>>>,
    address: SocketAddr,
    task: tokio::task::JoinHandle<io::Result<()>>,
    store: Store,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Stage {
    async fn new(with_token: bool) -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let state = dir.path().join("state");
        let store = Store::open(&state).expect("store");
        let now = OffsetDateTime::UNIX_EPOCH;
        let instance = store.instance("acme", "acme-siem", now).expect("instance");
        let artifact = |number: u128| {
            let id = uuid::Uuid::from_u128(number).to_string();
            Artifact { json: format!(r#"{{"id":"{id}","userName":"user{number}"}}"#), id, stream: "events".into() }
        };
        let batch = Batch {
            artifacts: (1..=30).map(artifact).collect(),
            checkpoint: Vec::new(),
            more: false,
            reports: Vec::new(),
            retry_after_seconds: None,
            hint: None,
        };
        store.commit_step(&instance, &batch, now).expect("commit");
        std::fs::write(dir.path().join("token"), "the-token").expect("token");
        let token = with_token.then(|| Source::File(dir.path().join("token")));
        let access = Access::new(Vec::new(), token).expect("access");
        let board = Arc::new(Board::new(Arc::new(OffsetDateTime::now_utc), 16));
        board.change_host(|host| host.sink.is_there = true);
        let connectors = Arc::default();
        let serving = Arc::new(Nothing(tokio::sync::watch::Sender::new(0), Arc::clone(&connectors)));
        let reader = Reader::open(&state).expect("reader");
        let site = Arc::new(Site::new(Arc::clone(&board), serving, reader, access));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("listener");
        let address = listener.local_addr().expect("address");
        let task = tokio::spawn(serve(Arc::clone(&site), listener));
        Self { dir, board, site, connectors, address, task, store }
    }

    /// Sends bytes and gives everything that comes back.
    async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.expect("connected");
        // The other side may close before everything is sent.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Asks and gives status, head and body.
    async fn ask(&self, method: &str, target: &str, more: &str) -> (u16, String, String) {
        let request = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n");
        let answer = self.raw(request.as_bytes()).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{head}"));
        (status, head.to_ascii_lowercase(), body.to_owned())
    }

    async fn get(&self, target: &str) -> (u16, Value) {
        let (status, _, body) = self.ask("GET", target, "").await;
        (status, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
    }
}

#[tokio::test]
async fn every_page_is_there_and_nothing_is_to_be_stored_or_guessed_at() {
    let stage = Stage::new(false).await;
    for (page, kind) in [
        ("/healthz", "application/json"),
        ("/status", "application/json"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
        ("/artifacts", "application/json"),
        ("/nothing", "application/json"),
    ] {
        let (status, head, _) = stage.ask("GET", page, "").await;
        assert_eq!(status, if page == "/nothing" { 404 } else { 200 }, "{page}");
        for header in [&format!("content-type: {kind}"), "cache-control: no-store", "x-content-type-options: nosniff"] {
            assert!(head.contains(header), "{page}: {head}");
        }
    }
    let (status, _, body) = stage.ask("HEAD", "/status", "").await;
    assert_eq!((status, body.as_str()), (200, ""));
    let (_, page) = stage.get("/status").await;
    let keys: Vec<&String> = page.as_object().expect("object").keys().collect();
    assert_eq!(keys, ["connectors", "host", "instances", "now"]);
    assert!(stage.ask("GET", "/metrics", "").await.2.contains("\nsignal_client_outbox_depth 30\n"));
}

#[tokio::test]
async fn the_page_for_browsers_comes_without_a_token_and_may_do_nothing_but_ask_its_own_host() {
    let stage = Stage::new(true).await;
    for (file, kind) in [("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")] {
        // Also where a link on another site leads to it.
        let (status, head, body) = stage.ask("GET", file, "Sec-Fetch-Site: cross-site\r\n").await;
        assert_eq!(status, 200, "{file}");
        for header in [
            &format!("content-type: {kind}; charset=utf-8"),
            "cache-control: no-store",
            "x-content-type-options: nosniff",
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            "referrer-policy: no-referrer",
            "cross-origin-opener-policy: same-origin",
            "cross-origin-resource-policy: same-origin",
        ] {
            assert!(head.contains(header), "{file}: {header}: {head}");
        }
        assert!(!body.contains("acme"), "{file}: it holds nothing of anybody's");
        let (status, _, body) = stage.ask("HEAD", file, "").await;
        assert_eq!((status, body.as_str()), (200, ""));
        assert_eq!(stage.ask("POST", file, "").await.0, 405);
    }
    let elsewhere = stage.raw(b"GET / HTTP/1.1\r\nHost: evil.example.com\r\nConnection: close\r\n\r\n").await;
    assert!(elsewhere.starts_with("HTTP/1.1 421 "), "{elsewhere}");
}

#[tokio::test]
async fn a_connection_serves_one_request_and_makes_room() {
    let stage = Stage::new(false).await;
    let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answer = stage.raw(request.repeat(3).as_bytes()).await;
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 1, "{answer}");
    assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn an_instance_that_nothing_serves_any_more_shows_before_its_next_poll() {
    let stage = Stage::new(false).await;
    let now = OffsetDateTime::UNIX_EPOCH;
    let status = InstanceStatus {
        id: uuid::Uuid::from_u128(1),
        handle: None,
        name: "a".into(),
        integration_type: "acme_siem".into(),
        state: State::Ok,
        since: now,
        interval_minutes: 1_440,
        polling: false,
        next_poll: None,
        back_off: None,
        routes: Vec::new(),
        past: Past::default(),
    };
    stage.board.put(InstanceStatus { id: uuid::Uuid::from_u128(2), state: State::Disabled, ..status.clone() });
    stage.board.put(status);
    let unserved = async || {
        let (_, page) = stage.get("/status").await;
        let all = page["instances"].as_array().expect("a list").clone();
        let of = |state: &str| all.iter().find(|one| one["state"] == state).expect("there")["unserved"].clone();
        assert_eq!(of("disabled"), false, "nobody wants it polled");
        of("ok")
    };
    assert_eq!(unserved().await, false, "its connector may still be looked at");
    stage.board.change_host(|host| host.looked = true);
    assert_eq!(unserved().await, true);
    let loading = |kind: &str, version: &str| ConnectorReport {
        integration_type: kind.into(),
        version: version.into(),
        digest: "d".into(),
        file: "new.wasm".into(),
        state: ConnectorState::Loading,
        reason: None,
        code: None,
        retry_at: None,
        since: now,
    };
    for (kind, version, expected) in [("acme_siem", "1.0.0", false), ("new.wasm", "", false), ("other", "1.0.0", true)]
    {
        *lock(&stage.connectors) = vec![loading(kind, version)];
        assert_eq!(unserved().await, expected, "{kind} is being loaded");
    }
    let refused = ConnectorReport { state: ConnectorState::Refused, ..loading("acme_siem", "1.0.0") };
    *lock(&stage.connectors) = vec![refused];
    assert_eq!(unserved().await, true);
}

#[tokio::test]
async fn health_says_when_the_host_stops() {
    let stage = Stage::new(true).await;
    assert_eq!(stage.get("/healthz").await, (200, serde_json::json!({ "status": "ok" })), "without the token");
    stage.board.change_host(|host| host.stopping = true);
    assert_eq!(stage.get("/healthz").await, (503, serde_json::json!({ "status": "stopping" })));
}

#[tokio::test]
async fn a_host_that_is_broken_says_of_what_and_is_not_taken_for_one_that_was_told_to_stop() {
    let stage = Stage::new(false).await;
    let metric = async || {
        let text = stage.ask("GET", "/metrics", "").await.2;
        text.lines().find_map(|line| line.strip_prefix("signal_client_broken ").map(str::to_owned))
    };
    assert_eq!(metric().await.as_deref(), Some("0"));
    crate::resident::guard::guarded(&stage.board, "the schedule", async { panic!("as the test wants") }).await;
    let broken = serde_json::json!({ "status": "broken", "broken": ["the schedule"] });
    assert_eq!(stage.get("/healthz").await, (503, broken.clone()));
    assert_eq!(metric().await.as_deref(), Some("1"));
    let (_, page) = stage.get("/status").await;
    assert_eq!((&page["host"]["broken"], &page["host"]["stopping"]), (&broken["broken"], &false.into()));
    // It ends itself then.
    stage.board.change_host(|host| host.stopping = true);
    assert_eq!(stage.get("/healthz").await, (503, broken));
}

#[tokio::test]
async fn artifacts_are_found_as_by_the_search_command() {
    let stage = Stage::new(false).await;
    let (status, page) = stage.get("/artifacts?query=user:user7&instance=acme").await;
    assert_eq!((status, page["artifacts"].as_array().map(Vec::len), &page["complete"]), (200, Some(1), &true.into()));
    let found = &page["artifacts"][0];
    assert_eq!((&found["instance"], &found["stream"]), (&"acme".into(), &"events".into()));
    assert_eq!(found["artifact"]["userName"], "user7");
    assert_eq!(page["notes"], serde_json::json!([]));
    let (_, page) = stage.get("/artifacts?query=userName:user7").await;
    let note = page["notes"][0].as_str().unwrap_or_default();
    assert!(page["artifacts"] == serde_json::json!([]) && note.contains("userName: is no field"), "{page}");
    assert_eq!(stage.get("/artifacts").await.1["artifacts"].as_array().map(Vec::len), Some(20));
    assert_eq!(stage.get("/artifacts?limit=25").await.1["artifacts"].as_array().map(Vec::len), Some(25));
    for bad in
        ["limit=0", "limit=101", "limit=x", "unknown=1", "instance=nobody", &format!("query={}", "x+".repeat(3000))]
    {
        let (status, page) = stage.get(&format!("/artifacts?{bad}")).await;
        assert!(status == 400 && page["error"]["code"].is_string(), "{bad}: {page}");
    }
}

#[tokio::test]
async fn a_page_of_artifacts_ends_at_its_bytes_and_says_so() {
    let stage = Stage::new(false).await;
    let now = OffsetDateTime::UNIX_EPOCH;
    let instance = stage.store.instance("acme", "acme-siem", now).expect("instance");
    let large = |number: u128| {
        let id = uuid::Uuid::from_u128(number).to_string();
        let json = format!(r#"{{"id":"{id}","message":"{}"}}"#, "x".repeat(7 << 20));
        Artifact { json, id, stream: "events".into() }
    };
    let batch = Batch {
        artifacts: (101..=103).map(large).collect(),
        checkpoint: Vec::new(),
        more: false,
        reports: Vec::new(),
        retry_after_seconds: None,
        hint: None,
    };
    stage.store.commit_step(&instance, &batch, now).expect("commit");
    let (status, page) = stage.get("/artifacts").await;
    assert_eq!((status, page["artifacts"].as_array().map(Vec::len), &page["complete"]), (200, Some(2), &false.into()));
}

#[tokio::test]
async fn only_reading_without_a_body_is_answered() {
    let stage = Stage::new(false).await;
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"] {
        let target = if method == "CONNECT" { "localhost:80" } else { "/status" };
        let (status, head, _) = stage.ask(method, target, "").await;
        assert!(status == 405 && head.contains("allow: get, head"), "{method}: {head}");
    }
    assert_eq!(stage.ask("GET", "/status", "Content-Length: 5\r\n").await.0, 400);
    assert_eq!(stage.ask("GET", "/status", "Transfer-Encoding: chunked\r\n").await.0, 400);
}

#[tokio::test]
async fn a_page_in_a_browser_cannot_read_anything_under_a_name_of_its_own() {
    let stage = Stage::new(false).await;
    for page in ["/status", "/healthz", "/metrics", "/artifacts"] {
        let answer = stage
            .raw(format!("GET {page} HTTP/1.1\r\nHost: evil.example.com\r\nConnection: close\r\n\r\n").as_bytes())
            .await;
        assert!(answer.starts_with("HTTP/1.1 421 "), "{page}: {answer}");
    }
}

#[tokio::test]
async fn a_page_of_another_site_cannot_keep_the_store_busy() {
    let stage = Stage::new(false).await;
    for site in ["cross-site", "same-site"] {
        let header = format!("Sec-Fetch-Site: {site}\r\n");
        let (status, _, body) = stage.ask("GET", "/artifacts?query=2*", &header).await;
        assert!(status == 403 && body.contains(r#""code":"cross-site""#), "{site}: {status}: {body}");
    }
    for own in ["none", "same-origin"] {
        assert_eq!(stage.ask("GET", "/artifacts", &format!("Sec-Fetch-Site: {own}\r\n")).await.0, 200, "{own}");
    }
}

#[tokio::test]
async fn a_search_that_goes_on_holds_its_place_until_it_ends_and_nothing_else() {
    let stage = Stage::new(false).await;
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let searching = &stage.site.searching;
    // Nobody waits for it any more.
    let abandoned = stage.site.read(searching, move |_| ended.recv());
    assert!(tokio::time::timeout(Duration::from_millis(50), abandoned).await.is_err());
    assert_eq!(searching.available_permits(), 0, "its thread is still there");
    let other = stage.site.read(searching, |_| ());
    assert!(tokio::time::timeout(Duration::from_millis(50), other).await.is_err());
    assert!(stage.ask("GET", "/metrics", "").await.2.contains("\nsignal_client_outbox_depth 30\n"));
    end.send(()).expect("it waits");
    assert_eq!(stage.get("/artifacts?query=user:user7").await.0, 200);
}

#[tokio::test]
async fn where_a_token_is_set_only_health_is_shown_without_it() {
    let stage = Stage::new(true).await;
    for page in ["/status", "/metrics", "/artifacts", "/nothing"] {
        let (status, head, body) = stage.ask("GET", page, "").await;
        assert!(status == 401 && head.contains("www-authenticate: bearer"), "{page}: {head}");
        assert!(!body.contains("the-token"));
        assert_eq!(stage.ask("GET", page, "Authorization: Bearer wrong-token\r\n").await.0, 401);
    }
    assert_eq!(stage.ask("GET", "/status", "Authorization: Bearer the-token\r\n").await.0, 200);
    std::fs::write(stage.dir.path().join("token"), "another").expect("token");
    assert_eq!(stage.ask("GET", "/status", "Authorization: Bearer the-token\r\n").await.0, 401);
    assert_eq!(stage.ask("GET", "/status", "Authorization: Bearer another\r\n").await.0, 200);
}

#[tokio::test]
async fn nonsense_and_heads_without_end_are_refused_and_others_are_served_meanwhile() {
    let stage = Stage::new(false).await;
    let mut open = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(stage.address).await.expect("connected");
        stream.write_all(b"GET /sta").await.expect("sent");
        open.push(stream);
    }
    let long = format!("GET /status HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(HEAD_BYTES));
    let many = format!("GET /status HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "A: b\r\n".repeat(100));
    for bytes in [long.as_bytes(), many.as_bytes(), b"\0\x01\x02\r\n\r\n", b"GET /status HTTP/9.9\r\n\r\n"] {
        let answer = stage.raw(bytes).await;
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(stage.get("/healthz").await.0, 200);
}
