//! Turning a right answer into a faulty one.
//!
//! JSON is changed as text: only the outermost object and its list are taken apart, every element stays byte for byte.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Fault;
use crate::gzip;
use crate::message::{Outcome, Pace, Reply};

/// The members that hold a page's list.
const LISTS: [&str; 5] = ["data", "alerts", "evidences", "actors", "rrns"];

/// The page to read instead of the one asked for, when the fault is about that.
pub(crate) fn before(fault: &Fault, index: u64) -> u64 {
    match fault {
        Fault::DuplicatePage {} => index.saturating_sub(1),
        Fault::EndlessPages {} => 0,
        _ => index,
    }
}

/// What becomes of the reply. `index` is the page that the client asked for.
pub(crate) fn apply(fault: &Fault, mut reply: Reply, index: u64, correlation: &str) -> Outcome {
    match fault {
        Fault::Status { status, body, headers, retry_after } => {
            return Outcome::Reply(refused(
                *status,
                body.as_deref(),
                headers,
                retry_after.as_deref(),
                reply,
                correlation,
            ));
        }
        Fault::Headers { headers } => add(&mut reply, headers),
        Fault::ResetBeforeHead {} => return Outcome::ResetBeforeHead { delay: reply.delay },
        Fault::ResetAfterHead {} => {
            let sent = reply.body.len() / 2;
            return Outcome::CutShort { reply, sent, reset: true };
        }
        Fault::Truncate { bytes } => {
            let sent = (*bytes).min(reply.body.len().saturating_sub(1));
            return Outcome::CutShort { reply, sent, reset: false };
        }
        Fault::TruncateJson { bytes } => {
            let kept = bytes.unwrap_or(reply.body.len() / 2).min(reply.body.len().saturating_sub(1));
            reply.body.truncate(kept);
        }
        Fault::Stall { seconds, after_head } => {
            let pause = Duration::try_from_secs_f64(*seconds).unwrap_or_default();
            if *after_head {
                reply.pace = Some(Pace::Pause { after: reply.body.len() / 2, pause });
            } else {
                reply.delay += pause;
            }
        }
        Fault::Drip { bytes, ms } => {
            reply.pace = Some(Pace::Drip { bytes: (*bytes).max(1), pause: Duration::from_millis(*ms) });
        }
        Fault::Delay { ms } => reply.delay += Duration::from_millis(*ms),
        Fault::Html {} => {
            let page = "<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in.</body></html>";
            replace(&mut reply, "text/html; charset=utf-8", page);
        }
        Fault::EmptyObject {} => replace(&mut reply, "application/json", "{}"),
        Fault::EmptyBody {} => replace(&mut reply, "application/json", ""),
        Fault::NullBody {} => replace(&mut reply, "application/json", "null"),
        Fault::InvalidUtf8 {} => reply.body = spoiled(&reply.body),
        Fault::WrongEncoding {} => {
            reply.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Fault::GzipBomb { megabytes } => {
            if let Some(bomb) = gzip::bomb(&reply.body, *megabytes) {
                reply.body = Bytes::from(bomb);
                reply.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
        }
        Fault::BigBody { megabytes } => {
            let mut body = reply.body.to_vec();
            body.resize(body.len().saturating_add(megabytes.saturating_mul(1 << 20)), b' ');
            reply.body = Bytes::from(body);
        }
        Fault::Redirect { location, status } => {
            reply.status = StatusCode::from_u16(*status).unwrap_or(StatusCode::FOUND);
            reply.set("location", location);
            reply.body = Bytes::new();
        }
        _ => change_json(fault, &mut reply, index),
    }
    Outcome::Reply(reply)
}

/// An error instead of the answer. What a rate limit added to the headers stays.
fn refused(
    status: u16,
    body: Option<&str>,
    headers: &BTreeMap<String, String>,
    retry_after: Option<&str>,
    reply: Reply,
    correlation: &str,
) -> Reply {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut out = match body {
        None => {
            let message = match status.as_u16() {
                403 => "Insufficient Permissions",
                404 => "Entity Not Found",
                _ => status.canonical_reason().unwrap_or("Error"),
            };
            let id = (status != StatusCode::UNAUTHORIZED).then_some(correlation);
            Reply::error(status, message, id)
        }
        Some(text) => {
            let kind = if text.starts_with(['{', '[']) { "application/json" } else { "text/plain" };
            Reply::with_type(status, kind, text.to_owned())
        }
    };
    for (name, value) in &reply.headers {
        if !out.headers.contains_key(name) && name != header::CONTENT_ENCODING {
            out.headers.insert(name.clone(), value.clone());
        }
    }
    out.delay = reply.delay;
    if let Some(value) = retry_after {
        out.set("retry-after", value);
    }
    add(&mut out, headers);
    out
}

fn add(reply: &mut Reply, headers: &BTreeMap<String, String>) {
    for (name, value) in headers {
        reply.set(name, value);
    }
}

/// 200 with another body.
fn replace(reply: &mut Reply, kind: &'static str, body: &'static str) {
    reply.status = StatusCode::OK;
    reply.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    reply.body = Bytes::from_static(body.as_bytes());
}

/// A byte that is not UTF-8 after the first quotation mark.
fn spoiled(body: &Bytes) -> Bytes {
    let mut out = body.to_vec();
    let at = out.iter().position(|byte| *byte == b'"').map_or(out.len(), |at| at + 1);
    out.insert(at, 0xFF);
    Bytes::from(out)
}

/// The members of the outermost object, each as its text, which need not stay JSON: that is the point of `bad_row`.
type Members = BTreeMap<String, String>;

fn change_json(fault: &Fault, reply: &mut Reply, index: u64) {
    if !reply.is_json_success() {
        return;
    }
    let Ok(object) = serde_json::from_slice::<BTreeMap<String, Box<RawValue>>>(&reply.body) else {
        return;
    };
    let mut members: Members = object.into_iter().map(|(name, value)| (name, value.get().to_owned())).collect();
    let list = LISTS
        .into_iter()
        .filter(|name| members.contains_key(*name))
        .max_by_key(|name| members.get(*name).map_or(0, String::len));
    match fault {
        Fault::NoData {} => {
            for name in LISTS {
                members.remove(name);
            }
        }
        Fault::NullData {} => set(&mut members, list, "null"),
        Fault::WrongType {} => set(&mut members, list, r#"{"items":[]}"#),
        Fault::NoMetadata {} => {
            members.remove("metadata");
        }
        Fault::BadRow { row } => edit(&mut members, list, |rows| {
            if let Some(first) = rows.first_mut() {
                first.clone_from(row);
            }
        }),
        Fault::MissingRows { rows: missing } => {
            edit(&mut members, list, |rows| rows.truncate(rows.len().saturating_sub(*missing)));
        }
        Fault::DeepJson { depth } => edit(&mut members, list, |rows| {
            let deep = format!("{}{}", "[".repeat(*depth), "]".repeat(*depth));
            // No record is made up where there is none.
            if let Some(first) = rows.first_mut().filter(|first| first.starts_with('{') && first.len() > 2) {
                first.insert_str(1, &format!("\"x_deep\":{deep},"));
            }
        }),
        Fault::ShortTotal { less } => totals(&mut members, |total| total.saturating_sub(*less), index, false),
        Fault::LongTotal { more } => totals(&mut members, |total| total.saturating_add(*more), index, false),
        Fault::DuplicatePage {} => totals(&mut members, |total| total, index, false),
        Fault::EndlessPages {} => totals(&mut members, |_| 1_000_000_000, index, true),
        Fault::RegionFailures {} | Fault::EmptyRegionFailures {} => {
            if *fault == (Fault::RegionFailures {}) {
                edit(&mut members, list, |rows| rows.truncate(rows.len() / 2));
            }
            set(&mut members, Some("region_failures"), r#"[{"region":"us2","message":"Region timed out"}]"#);
        }
        _ => {}
    }
    reply.body = text(&members);
}

/// The object as text.
fn text(members: &Members) -> Bytes {
    let members: Vec<String> =
        members.iter().map(|(name, value)| format!("{}:{value}", Value::from(name.as_str()))).collect();
    Bytes::from(format!("{{{}}}", members.join(",")))
}

/// Replaces a member by a text.
fn set(members: &mut Members, name: Option<&str>, value: &str) {
    if let Some(name) = name {
        members.insert(name.to_owned(), value.to_owned());
    }
}

/// Changes the elements of the list.
fn edit(members: &mut Members, name: Option<&str>, change: impl FnOnce(&mut Vec<String>)) {
    let Some(list) = name.and_then(|name| members.get_mut(name)) else {
        return;
    };
    let Ok(rows) = serde_json::from_str::<Vec<Box<RawValue>>>(list) else {
        return;
    };
    let mut rows: Vec<String> = rows.into_iter().map(|row| row.get().to_owned()).collect();
    change(&mut rows);
    *list = format!("[{}]", rows.join(","));
}

/// Changes the totals of either kind of paging object and makes the rest of it agree.
fn totals(members: &mut Members, change: impl Fn(u64) -> u64, index: u64, endless: bool) {
    let metadata = members.get("metadata").and_then(|text| serde_json::from_str::<Value>(text).ok());
    let Some(Value::Object(mut metadata)) = metadata else {
        return;
    };
    let size = metadata.get("size").and_then(Value::as_u64).unwrap_or(1).max(1);
    for name in ["total_data", "total_items"] {
        if let Some(total) = metadata.get(name).and_then(Value::as_u64) {
            let total = change(total);
            metadata.insert(name.to_owned(), json!(total));
            if metadata.contains_key("total_pages") {
                metadata.insert("total_pages".to_owned(), json!(total.div_ceil(size)));
            }
        }
    }
    metadata.insert("index".to_owned(), json!(index));
    if endless && metadata.contains_key("is_last_index") {
        metadata.insert("is_last_index".to_owned(), json!(false));
    }
    set(members, Some("metadata"), &Value::Object(metadata).to_string());
}
