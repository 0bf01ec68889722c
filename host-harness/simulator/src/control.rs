//! Control endpoints, under `/_simulator/`, without a key and untouched by faults, latency and counters.
//!
//! | request | effect |
//! |---|---|
//! | `GET /_simulator/truth` | the truth as JSON ([`crate::Truth`]) |
//! | `GET /_simulator/requests` | the requests kept, as JSON ([`crate::RequestRecord`]) |
//! | `GET /_simulator/requests/count` | `{"requests": n, "most_in_flight": n}` |
//! | `GET /_simulator/clock` | `{"now": "…"}` |
//! | `PUT /_simulator/clock` | body: an RFC 3339 time, or `+1h 30min` to move on; answers the new time |
//! | `PUT /_simulator/faults` | body: a fault profile; replaces the one before |
//! | `POST /_simulator/reset` | forgets requests, counts and allowances; faults begin again |
//!
//! Bind the server to loopback: whoever reaches it may use these.

use bytes::Bytes;
use http::StatusCode;
use serde::Serialize;
use serde_json::json;
use time::Duration;

use crate::fault::FaultProfile;
use crate::message::Reply;
use crate::moment::{micros, parse, vendor};
use crate::simulator::{CONTROL, Simulator};

/// Answers a control request.
pub(crate) fn answer(simulator: &Simulator, method: &str, path: &str, body: &Bytes) -> Reply {
    let text = String::from_utf8_lossy(body);
    match (method, path.strip_prefix(CONTROL).unwrap_or_default()) {
        ("GET", "truth") => written(&simulator.truth()),
        ("GET", "requests") => written(&simulator.requests()),
        ("GET", "requests/count") => {
            written(&json!({"requests": simulator.request_count(), "most_in_flight": simulator.most_in_flight()}))
        }
        ("GET", "clock") => clock(simulator),
        ("PUT", "clock") => match moved(simulator, text.trim()) {
            Ok(()) => clock(simulator),
            Err(message) => Reply::error(StatusCode::BAD_REQUEST, &message, None),
        },
        ("PUT", "faults") => match FaultProfile::from_json(&text) {
            Ok(profile) => {
                simulator.set_faults(profile);
                Reply::json("{}")
            }
            Err(error) => Reply::error(StatusCode::BAD_REQUEST, &error.to_string(), None),
        },
        ("POST", "reset") => {
            simulator.reset_counters();
            Reply::json("{}")
        }
        ("GET" | "PUT" | "POST", "truth" | "requests" | "requests/count" | "clock" | "faults" | "reset") => {
            Reply::error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed", None)
        }
        _ => Reply::error(StatusCode::NOT_FOUND, "There is no such control endpoint", None),
    }
}

fn written(value: &impl Serialize) -> Reply {
    match serde_json::to_vec(value) {
        Ok(body) => Reply::json(body),
        Err(error) => Reply::error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string(), None),
    }
}

fn clock(simulator: &Simulator) -> Reply {
    written(&json!({"now": vendor(micros(simulator.now()))}))
}

/// Sets or moves the clock as the body says.
fn moved(simulator: &Simulator, text: &str) -> Result<(), String> {
    let wrong = || format!("the body must be an RFC 3339 time or a duration such as +1h 30min: {text:?}");
    if let Some(by) = text.strip_prefix('+') {
        let by = humantime::parse_duration(by).map_err(|_| wrong())?;
        simulator.advance(Duration::try_from(by).map_err(|_| wrong())?);
    } else {
        simulator.set_now(parse(text).ok_or_else(wrong)?);
    }
    Ok(())
}
