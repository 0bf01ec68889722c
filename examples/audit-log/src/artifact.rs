//! An event as an artifact: the keys that searches, rules and graphs read, and the whole event in the message.

use crate::answers::is_time;
use crate::contract::{Artifact, Failure};
use crate::{failures, settings};
use serde_json::{Map, Value};

/// The artifact of an event. Its id is the event's own, so the same event always has the same.
///
/// # Errors
/// When the event has no id that can be one.
pub fn of(event: Map<String, Value>, host: &str) -> Result<Artifact, Failure> {
    let text = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let id = text("id");
    if !is_uuid(&id) {
        return Err(failures::malformed("an event has no id that is a UUID in lower case"));
    }
    let mut artifact = Map::new();
    let mut put = |key: &str, value: String| {
        if !value.is_empty() {
            artifact.insert(key.to_owned(), value.into());
        }
    };
    put("id", id.clone());
    put("streamName", "audit_log".to_owned());
    put("messageType", "AuditLog".to_owned());
    put("application", "Audit Log".to_owned());
    // The Conductor takes two artifacts for one that agree in sender, user, address, action and the like within ten
    // minutes. With the id in it, two logins of one user are two.
    put("senderHost", format!("{host}/{id}"));
    put("sourceInfo", id.clone());
    put("action", text("action"));
    put("userName", text("actor"));
    // Nothing but addresses and times may stand in their keys; what is no such thing is in the message all the same.
    put("clientIP", text("address").parse::<std::net::IpAddr>().map_or_else(|_| String::new(), |ip| ip.to_string()));
    put("startTimeUTC", Some(text("time")).filter(|time| is_time(time)).unwrap_or_default());
    put("message", Value::Object(event).to_string());
    Ok(Artifact { id, stream: settings::EVENTS.to_owned(), json: Value::Object(artifact).to_string() })
}

/// Whether a text is a UUID in lower case.
fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The artifact of an event in JSON.
    fn made(event: Value) -> Result<Value, Failure> {
        let Value::Object(event) = event else { panic!("no object") };
        of(event, "acme.audit.example").map(|artifact| serde_json::from_str(&artifact.json).unwrap())
    }

    #[test]
    fn an_event_is_an_artifact_with_its_own_id_and_what_it_says() {
        let id = "a0d17000-0000-4000-8000-000000000007";
        let event = json!({"id": id, "time": "2026-01-02T03:04:05Z", "actor": "jane", "action": "login",
            "address": "198.51.100.7", "detail": "two\nlines"});
        let artifact = made(event.clone()).unwrap();
        for (key, value) in [
            ("id", id),
            ("userName", "jane"),
            ("action", "login"),
            ("clientIP", "198.51.100.7"),
            ("startTimeUTC", "2026-01-02T03:04:05Z"),
            ("senderHost", "acme.audit.example/a0d17000-0000-4000-8000-000000000007"),
        ] {
            assert_eq!(artifact[key], value, "{key}");
        }
        let message = artifact["message"].as_str().unwrap();
        assert!(!message.contains('\n'));
        assert_eq!(serde_json::from_str::<Value>(message).unwrap(), event);
    }

    #[test]
    fn what_an_event_does_not_say_is_left_out_and_without_an_id_there_is_none() {
        let artifact =
            made(json!({"id": "a0d17000-0000-4000-8000-000000000007", "address": "pc-7", "time": 7})).unwrap();
        for key in ["userName", "action", "clientIP", "startTimeUTC"] {
            assert!(artifact.get(key).is_none(), "{key}");
        }
        for id in [json!("7"), json!("A0D17000-0000-4000-8000-000000000007"), json!(7), Value::Null] {
            assert!(made(json!({ "id": id })).is_err(), "{id}");
        }
    }
}
