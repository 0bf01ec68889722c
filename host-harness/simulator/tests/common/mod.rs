//! What the tests of the simulator share: a frozen simulator and short ways to ask it.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its own part")]

use http::HeaderMap;
use insightidr_simulator::{ApiKey, ClockMode, Request, Simulator, SimulatorConfig, World};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The path of the v2 list.
pub const LIST: &str = "/idr/v2/investigations";

/// A frozen clock and the key `key` of region `us`.
pub fn settings() -> SimulatorConfig {
    SimulatorConfig { keys: vec![ApiKey::new("us", "key")], clock: ClockMode::Frozen, ..SimulatorConfig::default() }
}

/// A simulator with these settings.
pub fn simulator(world: World) -> Simulator {
    Simulator::new(world, settings())
}

/// An instant.
pub fn at(text: &str) -> OffsetDateTime {
    OffsetDateTime::parse(text, &Rfc3339).unwrap()
}

/// What a request gave.
pub struct Got {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
    pub json: Value,
}

impl Got {
    /// The list under `data`.
    pub fn data(&self) -> &Vec<Value> {
        self.json["data"].as_array().unwrap_or_else(|| panic!("no data in {}", self.text))
    }

    /// A string member of every element of `data`.
    pub fn column(&self, member: &str) -> Vec<String> {
        self.data().iter().map(|row| row[member].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// A header as text, empty when missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// Sends a request; the connection must not break.
pub fn send(simulator: &Simulator, request: Request) -> Got {
    let reply = simulator.handle(request).reply().expect("a whole answer");
    let text = String::from_utf8_lossy(&reply.body).into_owned();
    let json = serde_json::from_str(&text).unwrap_or(Value::Null);
    Got { status: reply.status.as_u16(), headers: reply.headers, text, json }
}

/// A `GET` with the key `key` in `us`.
pub fn get(simulator: &Simulator, path: &str) -> Got {
    send(simulator, Request::get("us", "key", path))
}

/// A `POST` with the key `key` in `us`.
pub fn post(simulator: &Simulator, path: &str, body: &Value) -> Got {
    send(simulator, Request::post("us", "key", path, body))
}

/// Every row of a v2 selection, page by page; `query` has no `index` and no `size`.
pub fn all_rows(simulator: &Simulator, query: &str) -> Vec<Value> {
    let mut rows = Vec::new();
    for index in 0.. {
        let page = get(simulator, &format!("{LIST}?size=100&index={index}&{query}"));
        assert_eq!(page.status, 200, "{}", page.text);
        rows.extend(page.data().iter().cloned());
        if index + 1 >= page.json["metadata"]["total_pages"].as_u64().unwrap() {
            assert_eq!(page.json["metadata"]["total_data"].as_u64().unwrap(), rows.len() as u64);
            break;
        }
    }
    rows
}

/// A window wide enough for everything, as a query.
pub const WIDE: &str = "sort=created_time,ASC&start_time=2020-01-01T00:00:00Z&end_time=2030-01-01T00:00:00Z";
