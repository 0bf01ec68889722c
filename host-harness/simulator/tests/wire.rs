//! The server on a real socket: connections, breakage, control endpoints.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::io::ErrorKind;
use std::net::SocketAddr;

use common::{LIST, at, settings};
use insightidr_simulator::{Fault, FaultProfile, InvestigationSpec, Rule, Server, Simulator, World, WorldConfig};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What came back on a connection that was to be closed after one answer.
struct Wire {
    head: String,
    body: Vec<u8>,
    error: Option<ErrorKind>,
}

impl Wire {
    fn length(&self) -> usize {
        let line =
            self.head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
        line.map_or(0, |value| value.parse().unwrap())
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

async fn exchange(address: SocketAddr, text: String) -> Wire {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut all = Vec::new();
    let error = stream.read_to_end(&mut all).await.err().map(|error| error.kind());
    let split = all.windows(4).position(|four| four == b"\r\n\r\n");
    let (head, body) = split.map_or((&all[..], &[][..]), |at| (&all[..at], &all[at + 4..]));
    Wire { head: String::from_utf8(head.to_vec()).unwrap(), body: body.to_vec(), error }
}

fn request(method: &str, path: &str, extra: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: us.api.insight.rapid7.com\r\nX-Api-Key: key\r\nConnection: close\r\nContent-Length: {}\r\n{extra}\r\n{body}",
        body.len()
    )
}

async fn fetch(server: &Server, path: &str) -> Wire {
    exchange(server.addr(), request("GET", path, "", "")).await
}

fn world() -> World {
    World::generate(&WorldConfig { investigations: 150, ..WorldConfig::default() })
}

async fn broken(fault: Fault) -> Wire {
    let mut settings = settings();
    settings.faults = FaultProfile::new([Rule::new("/idr/*", fault)]);
    let server = Server::start(Simulator::new(world(), settings)).await.unwrap();
    fetch(&server, &format!("{LIST}?size=100")).await
}

#[tokio::test]
async fn an_answer_is_the_same_as_in_process() {
    let simulator = Simulator::new(world(), settings());
    let server = Server::start(simulator.clone()).await.unwrap();
    assert_eq!(server.url(), format!("http://{}", server.addr()));
    let path = format!("{LIST}?size=100&sort=created_time,ASC");
    let wire = fetch(&server, &path).await;
    assert!(wire.head.starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(wire.length(), wire.body.len());
    assert_eq!(String::from_utf8(wire.body).unwrap(), common::get(&simulator, &path).text);
    assert_eq!(simulator.most_in_flight(), 1);
}

#[tokio::test]
async fn the_date_of_an_answer_is_that_of_the_simulated_time() {
    let server = Server::start(Simulator::new(world(), settings())).await.unwrap();
    for path in [LIST, "/nothing"] {
        let head = fetch(&server, path).await.head.to_lowercase();
        assert!(head.contains("\r\ndate: ") && head.matches("\r\ndate: ").count() == 1, "{head}");
        let year = WorldConfig::default().start.year().to_string();
        assert!(head.lines().any(|line| line.starts_with("date: ") && line.contains(&year)), "{head}");
    }
}

#[tokio::test]
async fn connections_are_kept_alive() {
    let server = Server::start(Simulator::new(world(), settings())).await.unwrap();
    let keep = request("GET", "/validate", "", "").replace("Connection: close\r\n", "");
    let text = format!("{keep}{keep}{}", request("GET", "/validate", "", ""));
    let wire = exchange(server.addr(), text).await;
    let all = format!("{}{}", wire.head, String::from_utf8_lossy(&wire.body));
    assert_eq!(all.matches("HTTP/1.1 200 OK").count(), 3);
}

#[tokio::test]
async fn a_connection_can_end_after_some_answers_without_notice() {
    let mut settings = settings();
    settings.requests_per_connection = Some(2);
    let server = Server::start(Simulator::new(world(), settings)).await.unwrap();
    let keep = request("GET", "/validate", "", "").replace("Connection: close\r\n", "");
    let mut stream = TcpStream::connect(server.addr()).await.unwrap();
    let mut answers = String::new();
    for _ in 0..2 {
        stream.write_all(keep.as_bytes()).await.unwrap();
        let mut buffer = [0_u8; 4_096];
        while !answers.ends_with('}') {
            let read = stream.read(&mut buffer).await.unwrap();
            assert_ne!(read, 0, "two answers are promised");
            answers.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
        }
        answers.push('\n');
    }
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 2);
    assert!(!answers.to_lowercase().contains("connection: close"));
}

#[tokio::test]
async fn a_reset_before_the_head_sends_nothing() {
    let wire = broken(Fault::ResetBeforeHead {}).await;
    assert_eq!((wire.head.as_str(), wire.error), ("", Some(ErrorKind::ConnectionReset)));
}

#[tokio::test]
async fn a_reset_after_the_head_sends_part_of_the_body() {
    let wire = broken(Fault::ResetAfterHead {}).await;
    assert!(wire.head.starts_with("HTTP/1.1 200 OK"));
    assert_eq!(wire.error, Some(ErrorKind::ConnectionReset));
    assert!(!wire.body.is_empty() && wire.body.len() < wire.length());
}

#[tokio::test]
async fn a_truncated_body_ends_in_good_order_and_too_early() {
    let wire = broken(Fault::Truncate { bytes: 700 }).await;
    assert_eq!((wire.error, wire.body.len()), (None, 700));
    assert!(wire.length() > 700);
}

#[tokio::test]
async fn stalls_and_drips_deliver_in_the_end() {
    for fault in [
        Fault::Stall { seconds: 0.01, after_head: false },
        Fault::Stall { seconds: 0.01, after_head: true },
        Fault::Drip { bytes: 40_000, ms: 1 },
    ] {
        let wire = broken(fault).await;
        assert_eq!(wire.json()["data"].as_array().unwrap().len(), 100);
        assert_eq!(wire.length(), wire.body.len());
    }
}

#[tokio::test]
async fn an_empty_body_and_a_redirect_are_whole_answers() {
    let wire = broken(Fault::EmptyBody {}).await;
    assert_eq!((wire.length(), wire.body.len(), wire.error), (0, 0, None));
    let wire = broken(Fault::Redirect { location: "http://127.0.0.1/".to_owned(), status: 302 }).await;
    assert!(wire.head.starts_with("HTTP/1.1 302") && wire.head.contains("location: http://127.0.0.1/"));
}

#[tokio::test]
async fn bodies_are_compressed_for_those_who_ask() {
    let mut settings = settings();
    settings.gzip = true;
    let server = Server::start(Simulator::new(world(), settings)).await.unwrap();
    let plain = fetch(&server, LIST).await;
    let packed = exchange(server.addr(), request("GET", LIST, "Accept-Encoding: br, gzip\r\n", "")).await;
    assert!(!plain.head.contains("gzip") && packed.head.contains("content-encoding: gzip"));
    let mut inside = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&packed.body[..]), &mut inside).unwrap();
    assert_eq!(inside, plain.body);
}

#[tokio::test]
async fn the_clock_is_set_and_moved_over_http() {
    let mut world = World::empty();
    let late = at("2026-01-15T14:00:00Z");
    world.add_investigation(InvestigationSpec::new(late, late)).unwrap();
    let server = Server::start(Simulator::new(world, settings())).await.unwrap();
    let put = |body: &'static str| exchange(server.addr(), request("PUT", "/_simulator/clock", "", body));
    assert_eq!(put("2026-01-15T13:00:00Z").await.json()["now"], "2026-01-15T13:00:00Z");
    assert_eq!(fetch(&server, LIST).await.json()["metadata"]["total_data"], 0);
    assert_eq!(put("+1h").await.json()["now"], "2026-01-15T14:00:00Z");
    assert_eq!(fetch(&server, LIST).await.json()["metadata"]["total_data"], 1);
    assert_eq!(fetch(&server, "/_simulator/clock").await.json()["now"], "2026-01-15T14:00:00Z");
    for bad in ["tomorrow", "+soon", "", "+"] {
        assert!(put(bad).await.head.starts_with("HTTP/1.1 400"), "{bad}");
    }
}

#[tokio::test]
async fn truth_requests_and_faults_are_reached_over_http() {
    let simulator = Simulator::new(world(), settings());
    let server = Server::start(simulator.clone()).await.unwrap();
    fetch(&server, "/validate").await;
    let count = fetch(&server, "/_simulator/requests/count").await.json();
    assert_eq!((count["requests"].as_u64(), count["most_in_flight"].as_u64()), (Some(1), Some(1)));
    assert_eq!(fetch(&server, "/_simulator/requests").await.json()[0]["path"], "/validate");
    let truth: insightidr_simulator::Truth =
        serde_json::from_slice(&fetch(&server, "/_simulator/truth").await.body).unwrap();
    assert_eq!(truth.investigations.len(), simulator.truth().investigations.len());
    let put = |body: &'static str| exchange(server.addr(), request("PUT", "/_simulator/faults", "", body));
    assert!(put(r#"{"rules":[{"path":"/validate","fault":{"kind":"html"}}]}"#).await.head.starts_with("HTTP/1.1 200"));
    assert!(fetch(&server, "/validate").await.body.starts_with(b"<!DOCTYPE"));
    let refused = put(r#"{"rules":[{"path":"/validate","fault":{"kind":"frogs"}}]}"#).await;
    assert!(refused.head.starts_with("HTTP/1.1 400") && refused.json()["message"].as_str().unwrap().contains("frogs"));
    let reset = exchange(server.addr(), request("POST", "/_simulator/reset", "", "")).await;
    assert!(reset.head.starts_with("HTTP/1.1 200"));
    assert_eq!(simulator.request_count(), 0);
    assert!(fetch(&server, "/_simulator/nothing").await.head.starts_with("HTTP/1.1 404"));
    let wrong = exchange(server.addr(), request("POST", "/_simulator/clock", "", "")).await;
    assert!(wrong.head.starts_with("HTTP/1.1 405"));
}

#[tokio::test]
async fn parallel_requests_are_all_served_and_counted() {
    let mut settings = settings();
    settings.latency = std::time::Duration::from_millis(10);
    let simulator = Simulator::new(world(), settings);
    let server = Server::start(simulator.clone()).await.unwrap();
    tokio::join!(fetch(&server, "/validate"), fetch(&server, "/validate"), fetch(&server, "/validate"));
    assert_eq!(simulator.request_count(), 3);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_413() {
    let server = Server::start(Simulator::new(World::empty(), settings())).await.unwrap();
    let head = format!(
        "POST {LIST}/_search HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: key\r\nConnection: close\r\nContent-Length: 99999999\r\n\r\n"
    );
    let wire = exchange(server.addr(), head).await;
    assert!(wire.head.starts_with("HTTP/1.1 413"), "{}", wire.head);
}

#[tokio::test]
async fn a_dropped_server_ends_its_connections() {
    let server = Server::start(Simulator::new(World::empty(), settings())).await.unwrap();
    let mut stream = TcpStream::connect(server.addr()).await.unwrap();
    let keep = request("GET", "/validate", "", "").replace("Connection: close\r\n", "");
    stream.write_all(keep.as_bytes()).await.unwrap();
    let mut start = [0_u8; 12];
    stream.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");
    drop(server);
    let mut rest = Vec::new();
    // It ends, in whatever way; without an end this would wait for ever.
    let _ = stream.read_to_end(&mut rest).await;
}
