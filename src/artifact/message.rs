//! The `message` of an artifact: the vendor's record as one line of JSON.
//!
//! Numbers, unknown members and odd texts stay to the byte; what belongs to the
//! record (alerts, evidence, actors) is nested into it. What is too large is
//! cut with a marker that says how much, and is never dropped silently:
//! `witfoo_cut` maps each member that was cut to its size in bytes (or, for
//! nested lists, to the number of elements left out).

use std::borrow::Cow;

use crate::api::json::Json;
use crate::api::records::Members;
use crate::text::{compact_json, cut, quoted};

/// Largest nested record, in bytes, that is kept whole.
const RECORD: usize = 128 * 1024;
/// What is kept of a long text inside a record that is larger, in bytes.
const TEXT: usize = 16 * 1024;
/// Largest sum of all records nested into one message, in bytes.
pub const NESTED: usize = 512 * 1024;

/// Records to nest under a name.
#[derive(Debug, Clone)]
pub struct Nested {
    /// The member's name; `collected_…` when the record has one of that name.
    pub name: &'static str,
    /// The records, each one line of JSON.
    pub records: Vec<String>,
    /// Whether there is only ever one, which then stands for itself instead of
    /// in a list.
    pub single: bool,
}

/// A record as one line, cut where it is too large.
#[must_use]
pub fn line<'r>(raw: impl Into<Json<'r>>) -> String {
    cut_line(compact_json(raw.into().get()))
}

/// The same for a record of which the members are known.
#[must_use]
pub fn line_of(raw: Json<'_>, members: &Members<'_>) -> String {
    // What is no object has no members that could tell.
    let is_compact = !members.is_empty() && !members.is_spaced();
    cut_line(if is_compact { Cow::Borrowed(raw.get()) } else { compact_json(raw.get()) })
}

/// A line cut if it is too large.
fn cut_line(json: Cow<'_, str>) -> String {
    if json.len() <= RECORD { json.into_owned() } else { shortened(&json) }
}

/// The message: the record with what is nested.
#[must_use]
pub fn message<'r>(raw: impl Into<Json<'r>>, nested: &[Nested]) -> String {
    let raw = raw.into();
    let members = Members::within(raw).unwrap_or_default();
    message_of(line_of(raw, &members), &members, nested)
}

/// The message made of a line and the members that it has.
#[must_use]
pub fn message_of(line: String, taken: &Members<'_>, nested: &[Nested]) -> String {
    let mut message = line;
    // Only an object can hold anything.
    if !message.ends_with('}') {
        return message;
    }
    message.pop();
    let mut left = NESTED;
    let mut cuts = Vec::new();
    for list in nested.iter().filter(|list| !list.records.is_empty()) {
        let prefix = if taken.has(list.name) { "collected_" } else { "" };
        separate(&mut message);
        let (open, close) = if list.single { ("", "") } else { ("[", "]") };
        ["\"", prefix, list.name, "\":", open].into_iter().for_each(|part| message.push_str(part));
        let mut kept = 0_usize;
        for record in &list.records {
            if record.len() > left {
                break;
            }
            left = left.saturating_sub(record.len());
            if kept > 0 {
                message.push(',');
            }
            message.push_str(record);
            kept = kept.saturating_add(1);
        }
        if list.single && kept == 0 {
            message.push_str("null");
        }
        message.push_str(close);
        if kept < list.records.len() {
            cuts.push((format!("{prefix}{}", list.name), list.records.len().saturating_sub(kept)));
        }
    }
    mark(&mut message, &cuts);
    message.push('}');
    message
}

/// A record of the Alert Triage API as one line, without the tenant's token
/// that the vendor puts into it: whoever has that token has a part of the
/// tenant's identity.
#[must_use]
pub fn triage_line<'r>(raw: impl Into<Json<'r>>) -> String {
    let raw = raw.into();
    let members = Members::within(raw).unwrap_or_default();
    if !members.object("organization").is_some_and(|organization| organization.has("product_token")) {
        return line(raw);
    }
    let mut masked = String::with_capacity(raw.get().len());
    masked.push('{');
    for (name, value) in members.iter() {
        push_member(&mut masked, name);
        if name != "organization" {
            masked.push_str(value.get());
            continue;
        }
        masked.push('{');
        for (name, value) in
            Members::within(value).unwrap_or_default().iter().filter(|(name, _)| *name != "product_token")
        {
            push_member(&mut masked, name);
            masked.push_str(value.get());
        }
        masked.push('}');
    }
    masked.push('}');
    // Members of JSON make JSON.
    let line = if members.is_spaced() { compact_json(&masked).into_owned() } else { masked };
    cut_line(Cow::Owned(line))
}

/// Begins a member of an object.
fn push_member(json: &mut String, name: &str) {
    separate(json);
    json.push_str(&quoted(name));
    json.push(':');
}

/// A large record with its long members cut.
fn shortened(json: &str) -> String {
    let mut short = String::from("{");
    let mut cuts = Vec::new();
    let Some(members) = Members::parse(json) else {
        // No object: the start of it, as a text.
        return quoted(cut(json, TEXT));
    };
    for (name, value) in members.iter() {
        let value = value.get();
        let fits = value.len() <= TEXT && short.len().saturating_add(value.len()) <= RECORD;
        separate(&mut short);
        short.push_str(&quoted(cut(name, 256)));
        short.push(':');
        if fits {
            short.push_str(value);
        } else {
            let room = RECORD.saturating_sub(short.len()).min(TEXT) / 2;
            let text: Option<String> = serde_json::from_str(value).ok();
            short.push_str(&quoted(cut(text.as_deref().unwrap_or(value), room)));
            cuts.push((cut(name, 256).to_owned(), value.len()));
        }
        if short.len() > RECORD {
            cuts.push(("…".to_owned(), json.len()));
            break;
        }
    }
    mark(&mut short, &cuts);
    short.push('}');
    short
}

/// Writes the marker, if there is anything to mark.
fn mark(json: &mut String, cuts: &[(String, usize)]) {
    if cuts.is_empty() {
        return;
    }
    separate(json);
    let entries: Vec<String> = cuts.iter().map(|(name, size)| format!("{}:{size}", quoted(name))).collect();
    json.push_str(&format!("\"witfoo_cut\":{{{}}}", entries.join(",")));
}

/// A comma, unless an object has just been opened.
fn separate(json: &mut String) {
    if !json.ends_with('{') {
        json.push(',');
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn a_record_stays_to_the_byte_but_for_its_line_ends() {
        let record = raw("{\n \"id\" : 123456789012345678901234567890,\r\n \"f\": 1.10, \"new\": {\"x\":[ ]} }");
        assert_eq!(message(&record, &[]), r#"{"id":123456789012345678901234567890,"f":1.10,"new":{"x":[]}}"#);
    }

    #[test]
    fn records_are_nested_beside_members_of_the_same_name() {
        let nested = [Nested { name: "alerts", records: vec!["1".to_owned(), "2".to_owned()], single: false }];
        assert_eq!(message(&raw("{}"), &nested), r#"{"alerts":[1,2]}"#);
        assert_eq!(message(&raw(r#"{"alerts":0}"#), &nested), r#"{"alerts":0,"collected_alerts":[1,2]}"#);
        assert_eq!(message(&raw("[7]"), &nested), "[7]");
    }

    #[test]
    fn the_tenants_token_is_left_out_and_nothing_else() {
        let record = raw(r#"{"rrn":"r","organization":{"id":"o","product_token":"S3CRET","flags":[ ]},"n":1.10}"#);
        assert_eq!(triage_line(&record), r#"{"rrn":"r","organization":{"id":"o","flags":[]},"n":1.10}"#);
        let plain = raw(r#"{"rrn":"r","organization":null}"#);
        assert_eq!(triage_line(&*plain), plain.get());
        let twice = raw(r#"{"organization":{"product_token":"S3CRET"},"organization":{"product_token":"S3CRET"}}"#);
        assert!(!triage_line(&*twice).contains("S3CRET"));
    }

    #[test]
    fn what_is_left_out_is_counted() {
        let big = format!("\"{}\"", "x".repeat(NESTED / 2));
        let nested = [Nested { name: "alerts", records: vec![big.clone(), big.clone(), big], single: false }];
        let message = message(&raw("{\"a\":1}"), &nested);
        assert!(message.ends_with(r#"],"witfoo_cut":{"alerts":2}}"#), "{}", &message[message.len() - 60..]);
        assert!(serde_json::from_str::<serde_json::Value>(&message).is_ok());
    }

    #[test]
    fn a_huge_record_is_cut_with_a_marker_and_stays_json() {
        for json in [
            format!(r#"{{"a":1,"data":"{}","z":2}}"#, "ä\\n".repeat(200_000)),
            format!(r#"{{"data":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000)),
            format!(r#"{{{}}}"#, (0..50_000).map(|n| format!("\"k{n}\":{n}")).collect::<Vec<_>>().join(",")),
            format!("\"{}\"", "x".repeat(300_000)),
        ] {
            let short = line(&raw(&json));
            assert!(short.len() < 2 * RECORD, "{}", short.len());
            assert!(serde_json::from_str::<serde_json::Value>(&short).is_ok());
            assert!(short.starts_with('"') || short.contains("witfoo_cut"));
        }
    }
}
