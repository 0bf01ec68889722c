//! The service that the example connector reads, and a tenant of it.

use std::sync::{Arc, Mutex};

use host_harness::connectors::{Connector, Tenant, TenantOptions};
use host_harness::contract::types::{Batch, Budget, Setting, SettingValue};
use host_harness::egress::{NetworkOptions, Routes, Secrets};
use host_harness::sandbox::Clock;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::vendor::{Request, Vendor, reply};

/// The token that the service knows.
pub const TOKEN: &str = "audit-token-0123456789";

/// What the service does next instead of answering well, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// An answer with this status.
    Status(u16),
    /// Half of an answer.
    CutShort,
    /// `200` and `{}`.
    Empty,
    /// `200` and a page.
    Html,
    /// The page with a cursor that leads nowhere.
    SameCursor,
}

/// The service and what it holds.
pub struct AuditService {
    pub vendor: Vendor,
    events: Arc<Mutex<Vec<Value>>>,
    trouble: Arc<Mutex<Option<(usize, Trouble)>>>,
}

/// The id of an event.
pub fn event_id(number: usize) -> String {
    format!("a0d17000-0000-4000-8000-{number:012}")
}

impl AuditService {
    /// A service with this many events.
    pub fn with(count: usize) -> Self {
        let events: Arc<Mutex<Vec<Value>>> = Arc::default();
        let trouble: Arc<Mutex<Option<(usize, Trouble)>>> = Arc::default();
        let (held, planned) = (events.clone(), trouble.clone());
        let vendor = Vendor::start(move |request, stream| {
            let trouble = {
                let mut planned = planned.lock().unwrap();
                match planned.take() {
                    Some((0, trouble)) => Some(trouble),
                    later => {
                        *planned = later.map(|(requests, trouble)| (requests - 1, trouble));
                        None
                    }
                }
            };
            let (status, body) = answer(request, &held.lock().unwrap());
            match trouble {
                None => reply(stream, status, &[("content-type", "application/json")], body.to_string().as_bytes()),
                Some(Trouble::Status(status)) => {
                    reply(stream, status, &[("retry-after", "7"), ("x-request-id", "r-1")], b"{}")
                }
                Some(Trouble::Empty) => reply(stream, 200, &[], b"{}"),
                Some(Trouble::Html) => reply(stream, 200, &[], b"<html>Under maintenance</html>"),
                Some(Trouble::SameCursor) => {
                    let mut body = body;
                    body["next"] = request.parameter("after").into();
                    reply(stream, 200, &[], body.to_string().as_bytes())
                }
                Some(Trouble::CutShort) => {
                    use std::io::Write;
                    let text = body.to_string();
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", text.len());
                    let half = &text.as_bytes()[..text.len() / 2];
                    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(half));
                    false
                }
            }
        });
        let service = Self { vendor, events, trouble };
        service.add(count);
        service
    }

    /// More events happen.
    pub fn add(&self, count: usize) {
        let mut events = self.events.lock().unwrap();
        for _ in 0..count {
            let number = events.len();
            events.push(json!({
                "id": event_id(number),
                "time": "2026-01-02T03:04:05Z",
                "actor": format!("user{}@acme.example", number % 7),
                "action": "login",
                "address": "198.51.100.7",
                "detail": {"number": number, "text": "ünïcode \"quoted\""},
            }));
        }
    }

    /// The ids of all events.
    pub fn ids(&self) -> Vec<String> {
        (0..self.events.lock().unwrap().len()).map(event_id).collect()
    }

    /// Trouble after this many more requests.
    pub fn plan(&self, after: usize, trouble: Trouble) {
        *self.trouble.lock().unwrap() = Some((after, trouble));
    }

    /// What a tenant of it is made of.
    pub fn options(&self, name: &str) -> TenantOptions {
        let mut secrets = Secrets::new();
        secrets.insert("token", TOKEN.into()).unwrap();
        let site = Setting { key: "site".to_owned(), value: SettingValue::Text("acme".to_owned()) };
        TenantOptions {
            name: name.to_owned(),
            settings: vec![site],
            secrets,
            routes: Routes::parse([self.vendor.route("acme.audit.example")]).unwrap(),
            clock: Clock::virtual_at(OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()),
            network: NetworkOptions::default(),
        }
    }

    /// A tenant of it.
    pub async fn tenant(&self, connector: &Connector, name: &str) -> Tenant {
        connector.tenant(self.options(name)).await.unwrap()
    }
}

/// What the service says to a request.
fn answer(request: &Request, events: &[Value]) -> (u16, Value) {
    if request.headers("x-audit-token") != [TOKEN] {
        return (401, json!({"error": "who are you?"}));
    }
    if request.path() == "/v1/whoami" {
        return (200, json!({"account": "acme"}));
    }
    let limit: usize = request.parameter("limit").unwrap().parse().unwrap();
    // All of it happened at one time, so with `since` it is the beginning as well.
    let from = request.parameter("after").map_or(0, |after| after.strip_prefix("c-").unwrap().parse().unwrap());
    let page: Vec<&Value> = events.iter().skip(from).take(limit).collect();
    let next = (!page.is_empty()).then(|| format!("c-{}", from + page.len()));
    (200, json!({"events": page, "next": next}))
}

/// Whole collections need several steps of this.
pub const SMALL_BUDGET: Budget =
    Budget { requests: 2, artifacts: 250, artifact_bytes: 1 << 20, wall_time_milliseconds: 60_000 };

/// Every batch of a collection from the beginning.
pub async fn collect(tenant: &Tenant) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    loop {
        let checkpoint = batches.last().map(|batch| batch.checkpoint.clone());
        let (batch, _) = tenant.poll(checkpoint, SMALL_BUDGET).await;
        let batch = batch.unwrap_or_else(|error| panic!("{}: {error}", tenant.name()));
        batches.push(batch);
        if batches.last().is_some_and(|batch| !batch.more) {
            return batches;
        }
    }
}
