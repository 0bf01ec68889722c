//! A small connector, as an example: it reads the audit log of a made-up service.
//!
//! The service keeps events in the order in which they happened and gives them page by page:
//! `GET /v1/events?after=CURSOR&limit=N` answers `{"events": [{"id": "UUID", …}], "next": "CURSOR"}`, where `next` is the
//! place after the last event of the page. That is all the state there is, and it is the checkpoint.
//!
//! How it is cut: here, what the connector is and what it collects in a step; `http`, one request; `failures`, what a
//! failed request means for an operator. docs/writing-a-connector.md goes through it.
//! Not guaranteed: an event that the service puts before the cursor later is never seen.

// Built natively, as part of the workspace, there is nothing to export.
#![cfg(target_arch = "wasm32")]

mod failures;
mod http;

#[allow(
    missing_docs,
    unsafe_code,
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    reason = "generated code; the documentation stands in wit/"
)]
mod bindings {
    wit_bindgen::generate!({
        path: "../../wit",
        world: "signal-connector",
        with: {
            "wasi:io/error@0.2.12": wasi::io::error,
            "wasi:io/poll@0.2.12": wasi::io::poll,
            "wasi:io/streams@0.2.12": wasi::io::streams,
            "wasi:clocks/wall-clock@0.2.12": wasi::clocks::wall_clock,
            "wasi:clocks/monotonic-clock@0.2.12": wasi::clocks::monotonic_clock,
            "wasi:http/types@0.2.12": wasi::http::types,
            "wasi:http/outgoing-handler@0.2.12": wasi::http::outgoing_handler,
        },
    });
}

use bindings::exports::witfoo::signal_connector::connector::Guest;
use bindings::witfoo::signal_connector::types::*;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::time::Duration;
use wasi::clocks::monotonic_clock;

struct AuditLog;

#[allow(unsafe_code, unreachable_pub, reason = "generated code")]
mod glue {
    use super::{AuditLog, bindings};

    bindings::export!(AuditLog with_types_in super::bindings);
}

/// The one stream.
const EVENTS: &str = "events";

/// Events asked for at once.
const PAGE: usize = 100;

/// What stays of a step's time to hand over what it has.
const RESERVE: Duration = Duration::from_secs(1);

impl Guest for AuditLog {
    /// Pure: the same answer each time, no request, no clock.
    fn describe() -> Descriptor {
        let field = |key: &str, label: &str, help: &str, kind| SettingField {
            key: key.to_owned(),
            label: label.to_owned(),
            help: help.to_owned(),
            kind,
            required: true,
            default: None,
        };
        Descriptor {
            name: "signal-client.audit-log".to_owned(),
            display_name: "Audit Log".to_owned(),
            category: "Audit".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            vendor_docs: "https://docs.audit.example/api".to_owned(),
            auth_method: "Token".to_owned(),
            default_poll_minutes: 5,
            minimum_poll_minutes: 1,
            multi_instance: true,
            streams: vec![DataStream {
                name: EVENTS.to_owned(),
                noun: "audit events".to_owned(),
                description: "Everything that people and programs did in the account.".to_owned(),
                announced: true,
            }],
            settings: vec![
                field("site", "Site", "The first part of https://SITE.audit.example.", SettingKind::Text(63)),
                field("token", "Token", "A token with the right audit:read.", SettingKind::Secret),
            ],
            // The host adds it to every request. This connector never sees the token.
            credentials: vec![Credential { setting: "token".to_owned(), header: "x-audit-token".to_owned() }],
        }
    }

    /// Pure as well: whether the settings make sense, and what an instance with them needs to reach. Nothing else leaves.
    fn configure(settings: Vec<Setting>) -> Result<Plan, Vec<FieldError>> {
        let host = host(&settings)?;
        let rule = |path: &str| RequestRule { method: "GET".to_owned(), path_prefix: path.to_owned() };
        Ok(Plan {
            origin: Origin { scheme: Scheme::Https, host, port: 443 },
            rules: vec![rule("/v1/events"), rule("/v1/whoami")],
        })
    }

    /// One light request.
    fn check(settings: Vec<Setting>) -> Result<CheckReport, Failure> {
        /// What the service says of the token.
        #[derive(Deserialize)]
        struct WhoAmI {
            account: String,
        }
        let host = host(&settings).map_err(failures::invalid)?;
        let WhoAmI { account } = parse(&http::get(&host, "/v1/whoami")?)?;
        let report = StreamReport { stream: EVENTS.to_owned(), fetched: 0, state: StreamState::Ok };
        Ok(CheckReport { summary: format!("The token belongs to the account {account}."), reports: vec![report] })
    }

    /// One bounded step: pages from the checkpoint on, until there are no more or the budget is near its end.
    fn poll(settings: Vec<Setting>, checkpoint: Option<Vec<u8>>, budget: Budget) -> Result<Batch, Failure> {
        let host = host(&settings).map_err(failures::invalid)?;
        let mut step = Step::from(checkpoint.as_deref())?;
        let started = monotonic_clock::now();
        let most = Duration::from_millis(budget.wall_time_milliseconds).saturating_sub(RESERVE);
        let mut requests = 0;
        let (state, more) = loop {
            let elapsed = Duration::from_nanos(monotonic_clock::now().saturating_sub(started));
            // The first page is always asked for, so that a small budget gets on as well.
            let used_up = requests >= budget.requests
                || step.artifacts.len() + PAGE > usize::try_from(budget.artifacts).unwrap_or(usize::MAX)
                || step.bytes >= budget.artifact_bytes
                || elapsed >= most;
            if used_up && requests > 0 {
                break (StreamState::Ok, true);
            }
            requests += 1;
            match step.page(&host) {
                Ok(true) => {}
                Ok(false) => break (StreamState::Ok, false),
                // With nothing to commit the failure is the answer; otherwise it goes along with the progress.
                Err(failure) if step.artifacts.is_empty() => return Err(failure),
                Err(failure) => break (StreamState::Degraded(failure), false),
            }
        };
        let fetched = u64::try_from(step.artifacts.len()).unwrap_or(u64::MAX);
        Ok(Batch {
            checkpoint: step.checkpoint.write()?,
            artifacts: step.artifacts,
            more,
            reports: vec![StreamReport { stream: EVENTS.to_owned(), fetched, state }],
            retry_after_seconds: None,
            hint: None,
        })
    }
}

/// The checkpoint, written as JSON. The version comes first, so that a later connector can tell what it reads.
#[derive(Serialize, Deserialize)]
struct Checkpoint {
    /// Of this form: 1.
    version: u32,
    /// Where to go on; absent at the very beginning.
    after: Option<String>,
}

impl Checkpoint {
    fn read(bytes: Option<&[u8]>) -> Result<Self, Failure> {
        let Some(bytes) = bytes else {
            return Ok(Self { version: 1, after: None });
        };
        match serde_json::from_slice::<Self>(bytes) {
            Ok(checkpoint) if checkpoint.version == 1 => Ok(checkpoint),
            // Never a silent restart: the host keeps the bytes, and an operator decides.
            Ok(newer) => Err(failures::unreadable(&format!("it has version {}", newer.version))),
            Err(error) => Err(failures::unreadable(&error.to_string())),
        }
    }

    fn write(&self) -> Result<Vec<u8>, Failure> {
        serde_json::to_vec(self).map_err(|error| failures::internal(&error.to_string()))
    }
}

/// What a step has so far.
struct Step {
    checkpoint: Checkpoint,
    artifacts: Vec<Artifact>,
    /// Their ids.
    ids: BTreeSet<String>,
    /// Bytes of the artifacts.
    bytes: u64,
}

/// A page of the service.
#[derive(Deserialize)]
struct Page {
    events: Vec<Map<String, Value>>,
    next: Option<String>,
}

impl Step {
    fn from(checkpoint: Option<&[u8]>) -> Result<Self, Failure> {
        Ok(Self { checkpoint: Checkpoint::read(checkpoint)?, artifacts: Vec::new(), ids: BTreeSet::new(), bytes: 0 })
    }

    /// Takes in the next page; says whether there may be more. A page that is not sound moves nothing.
    fn page(&mut self, host: &str) -> Result<bool, Failure> {
        let mut path = format!("/v1/events?limit={PAGE}");
        if let Some(after) = &self.checkpoint.after {
            path.push_str("&after=");
            path.push_str(after);
        }
        let page: Page = parse(&http::get(host, &path)?)?;
        if page.events.is_empty() {
            return Ok(false);
        }
        let next = page.next.filter(|next| is_cursor(next) && self.checkpoint.after.as_ref() != Some(next));
        let next = next.ok_or_else(|| failures::malformed("the page has events and no cursor that leads on"))?;
        let artifacts = page.events.into_iter().map(artifact).collect::<Result<Vec<_>, _>>()?;
        // An empty page is the end, and only that: a short one may be followed by more.
        for artifact in artifacts {
            // The service may show an event on two pages; a batch may not hold an id twice.
            if self.ids.insert(artifact.id.clone()) {
                self.bytes = self.bytes.saturating_add(u64::try_from(artifact.json.len()).unwrap_or(u64::MAX));
                self.artifacts.push(artifact);
            }
        }
        self.checkpoint.after = Some(next);
        Ok(true)
    }
}

/// The artifact of an event. Its id is the event's own, so the same event always has the same.
fn artifact(event: Map<String, Value>) -> Result<Artifact, Failure> {
    let text = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let id = text("id");
    if !is_uuid(&id) {
        return Err(failures::malformed("an event has no id that is a UUID in lower case"));
    }
    let mut artifact = Map::new();
    artifact.insert("id".to_owned(), id.as_str().into());
    artifact.insert("streamName".to_owned(), "audit_log".into());
    for (key, from) in [("userName", "actor"), ("action", "action"), ("clientIP", "address"), ("startTimeUTC", "time")]
    {
        let value = text(from);
        if !value.is_empty() {
            artifact.insert(key.to_owned(), value.into());
        }
    }
    artifact.insert("message".to_owned(), Value::Object(event).to_string().into());
    Ok(Artifact { id, stream: EVENTS.to_owned(), json: Value::Object(artifact).to_string() })
}

/// The host of a site, or what is wrong with the settings.
fn host(settings: &[Setting]) -> Result<String, Vec<FieldError>> {
    let wrong = |message: &str| vec![FieldError { key: "site".to_owned(), message: message.to_owned() }];
    let site = settings.iter().find_map(|setting| match (setting.key.as_str(), &setting.value) {
        ("site", SettingValue::Text(site)) => Some(site),
        _ => None,
    });
    let site = site.ok_or_else(|| wrong("A site is needed, for example acme."))?;
    let sound = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if site.is_empty() || site.starts_with('-') || site.ends_with('-') || !site.bytes().all(sound) {
        return Err(wrong("A site is made of a-z, 0-9 and -, for example acme."));
    }
    Ok(format!("{site}.audit.example"))
}

/// Reads an answer. One that is not what the service promises is a failure, never an empty page.
fn parse<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| failures::malformed(&error.to_string()))
}

/// Whether a cursor can stand in a query as it is.
fn is_cursor(text: &str) -> bool {
    (1..=256).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// Whether a text is a UUID in lower case.
fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        })
}
