//! The check of a batch.
//!
//! What: artifacts are one-line JSON objects that hold their own id, ids are UUIDs and unique, streams are known,
//! nothing exceeds its cap; secrets are replaced and texts cleaned.
//! Why in two parts: what the next step and people are given (checkpoint, reports, hint) is checked at once; the artifacts,
//! which take long, beside the next step.
//! Why all or nothing: a batch and its checkpoint are one transaction, so a batch that is wrong anywhere is committed
//! nowhere.
//! Why some characters are written as escapes: what an artifact holds is shown on terminals, and there are characters of
//! two bytes (C1) that some of them take for the beginning of a command. To a reader of JSON nothing changes.
//! Not guaranteed: the keys of an artifact besides `id`. Cost: one pass of a JSON parser that keeps nothing, and a search
//! for the first byte of those characters.

use super::answers::{Cleaner, believed};
use crate::contract::types::{Artifact, Batch, Descriptor, StreamReport};
use crate::sandbox::Limits;
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use uuid::Uuid;

/// The one member of an artifact that is looked at. A second `id` in the object is an error of its parser.
#[derive(Deserialize)]
struct WithId<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
}

/// Checks and cleans everything of a batch but its artifacts: what the next step and people are given. Takes no longer
/// for many artifacts than for few.
///
/// # Errors
/// What is wrong.
pub(super) fn check_frame(
    batch: Batch,
    descriptor: &Descriptor,
    limits: &Limits,
    cleaner: Cleaner<'_>,
) -> Result<Batch, String> {
    if batch.checkpoint.len() > limits.checkpoint_bytes {
        return Err(format!(
            "the checkpoint has {} bytes; at most {} are allowed",
            batch.checkpoint.len(),
            limits.checkpoint_bytes
        ));
    }
    if batch.artifacts.len() > limits.artifacts {
        return Err(format!("it holds {} artifacts; at most {} are allowed", batch.artifacts.len(), limits.artifacts));
    }
    check_size(&batch.artifacts, limits)?;
    check_reports(&batch.reports, &streams(descriptor), cleaner)?;
    if batch.reports.is_empty() {
        // Else whoever says nothing would be taken for one who has nothing to complain about.
        return Err("it reports on no stream".to_owned());
    }
    Ok(Batch {
        reports: cleaner.reports(batch.reports),
        hint: batch.hint.map(|hint| cleaner.text(&hint)),
        retry_after_seconds: batch.retry_after_seconds.map(believed),
        ..batch
    })
}

/// Checks and cleans the artifacts of a batch.
///
/// # Errors
/// What is wrong, and where.
pub(super) fn check_artifacts(
    artifacts: Vec<Artifact>,
    descriptor: &Descriptor,
    limits: &Limits,
    cleaner: Cleaner<'_>,
) -> Result<Vec<Artifact>, String> {
    let streams = streams(descriptor);
    let artifacts = artifacts
        .into_iter()
        .enumerate()
        .map(|(at, artifact)| {
            check_artifact(artifact, &streams, cleaner).map_err(|why| format!("artifact {at}: {why}"))
        })
        .collect::<Result<Vec<_>, _>>()?;
    // Again, because replacing and escaping may have made them longer.
    check_size(&artifacts, limits)?;
    let mut ids = HashSet::with_capacity(artifacts.len());
    for (at, artifact) in artifacts.iter().enumerate() {
        // All of them are UUIDs by now; as numbers they are hashed in half the time.
        if !ids.insert(Uuid::try_parse(&artifact.id).map_err(|error| format!("artifact {at}: {error}"))?) {
            return Err(format!("artifact {at}: the id {} occurs twice in the batch", artifact.id));
        }
    }
    Ok(artifacts)
}

/// The names of the streams that are described.
pub(super) fn streams(descriptor: &Descriptor) -> BTreeSet<&str> {
    descriptor.streams.iter().map(|stream| stream.name.as_str()).collect()
}

/// Checks that artifacts are not too large together.
fn check_size(artifacts: &[Artifact], limits: &Limits) -> Result<(), String> {
    let total: usize = artifacts.iter().map(|artifact| artifact.json.len()).sum();
    if total > limits.batch_bytes {
        return Err(format!("its artifacts have {total} bytes together; at most {} are allowed", limits.batch_bytes));
    }
    Ok(())
}

/// Checks that reports are about streams there are, each at most once.
pub(super) fn check_reports(
    reports: &[StreamReport],
    streams: &BTreeSet<&str>,
    cleaner: Cleaner<'_>,
) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for report in reports {
        if !streams.contains(report.stream.as_str()) {
            return Err(format!(
                "a report is about the stream {:?}, which is not described",
                cleaner.text(&report.stream)
            ));
        }
        if !seen.insert(report.stream.as_str()) {
            return Err(format!("two reports are about the stream {}", report.stream));
        }
    }
    Ok(())
}

/// Checks and cleans one artifact.
fn check_artifact(artifact: Artifact, streams: &BTreeSet<&str>, cleaner: Cleaner<'_>) -> Result<Artifact, String> {
    let Artifact { id, stream, json } = artifact;
    if !is_uuid(&id) {
        return Err(format!("its id {:?} is not a UUID in lower case", cleaner.text(&id)));
    }
    if !streams.contains(stream.as_str()) {
        return Err(format!("its stream {:?} is not described", cleaner.text(&stream)));
    }
    // Before the other checks, so that what replacing a secret may have broken is seen by them.
    let json = match cleaner.redactor.redact(&json) {
        Cow::Borrowed(_) => json,
        Cow::Owned(redacted) => redacted,
    };
    if !json.starts_with('{') {
        return Err("it is not a JSON object".to_owned());
    }
    if memchr::memchr2(b'\n', b'\r', json.as_bytes()).is_some() {
        return Err("it is more than one line".to_owned());
    }
    let inner: WithId<'_> = serde_json::from_str(&json).map_err(|error| {
        // The parser's message names positions and keys, not values.
        format!("it is not a JSON object with an id: {error}")
    })?;
    if inner.id != id {
        return Err(format!("the id inside is {:?} and not {id}", cleaner.text(&inner.id)));
    }
    // It is JSON by now, so such a character can only be in a text, where an escape means the same.
    let json = escape_c1(&json).unwrap_or(json);
    Ok(Artifact { id, stream, json })
}

/// The JSON with its C1 control characters as escapes; nothing when there are none.
fn escape_c1(json: &str) -> Option<String> {
    let is_c1 = |c: char| matches!(c, '\u{80}'..='\u{9f}');
    // Each begins with this byte, which few texts hold.
    let first = memchr::memchr(0xc2, json.as_bytes())?;
    if !json.get(first..)?.contains(is_c1) {
        return None;
    }
    let mut escaped = String::with_capacity(json.len().saturating_add(64));
    for part in json.split_inclusive(is_c1) {
        match part.chars().next_back().filter(|c| is_c1(*c)) {
            Some(c) => {
                escaped.push_str(part.get(..part.len() - c.len_utf8()).unwrap_or_default());
                escaped.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            None => escaped.push_str(part),
        }
    }
    Some(escaped)
}

/// Whether a text is a UUID in the form of RFC 9562 in lower case.
fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        })
}

#[cfg(test)]
mod tests {
    use super::super::fixtures;
    use super::*;
    use crate::contract::types::{Failure, FailureReason, RetryAdvice, StreamState};
    use crate::egress::{Redactor, Secrets};

    const ID: &str = "0d9e7a7a-53b6-1f0b-8a8e-1fb1b6b8ab1d";

    fn batch() -> Batch {
        Batch {
            artifacts: vec![Artifact {
                id: ID.into(),
                stream: "records".into(),
                json: format!(r#"{{"id":"{ID}","n":[1,{{}}]}}"#),
            }],
            checkpoint: vec![1, 2, 3],
            more: true,
            reports: vec![StreamReport { stream: "records".into(), fetched: 1, state: StreamState::Ok }],
            retry_after_seconds: Some(3),
            hint: Some("poll less".into()),
        }
    }

    fn redactor() -> Redactor {
        let mut secrets = Secrets::new();
        secrets.insert("k", "hunter2-hunter2".into()).unwrap();
        Redactor::new(&secrets)
    }

    fn run(batch: Batch) -> Result<Batch, String> {
        let limits = Limits { checkpoint_bytes: 10, artifacts: 3, batch_bytes: 1000, ..Limits::default() };
        let (descriptor, redactor) = (fixtures::descriptor(), redactor());
        let cleaner = Cleaner { redactor: &redactor, most: 200 };
        let batch = check_frame(batch, &descriptor, &limits, cleaner)?;
        Ok(Batch { artifacts: check_artifacts(batch.artifacts, &descriptor, &limits, cleaner)?, ..batch })
    }

    #[test]
    fn a_sound_batch_passes_unchanged() {
        assert_eq!(run(batch()).unwrap(), batch());
    }

    #[test]
    fn whatever_breaks_the_contract_is_said_with_its_place() {
        type Change = fn(&mut Batch);
        let table: Vec<(&str, Change)> = vec![
            ("checkpoint has 11 bytes", |b| b.checkpoint = vec![0; 11]),
            ("holds 4 artifacts", |b| b.artifacts = vec![b.artifacts[0].clone(); 4]),
            ("bytes together", |b| b.artifacts[0].json = format!("{{\"id\":\"{ID}\",\"x\":\"{}\"}}", "x".repeat(1000))),
            ("artifact 1: the id", |b| b.artifacts.push(b.artifacts[0].clone())),
            ("not a UUID", |b| b.artifacts[0].id = ID.to_uppercase()),
            ("not a UUID", |b| b.artifacts[0].id = "{0d9e7a7a-53b6-1f0b-8a8e-1fb1b6b8ab1d}".into()),
            ("not a UUID", |b| b.artifacts[0].id = ID.replace('-', "")),
            ("its stream \"other\"", |b| b.artifacts[0].stream = "other".into()),
            ("not a JSON object", |b| b.artifacts[0].json = "[]".into()),
            ("not a JSON object", |b| b.artifacts[0].json = format!("[\"{ID}\"]")),
            ("not a JSON object", |b| b.artifacts[0].json = " {}".into()),
            ("not a JSON object", |b| b.artifacts[0].json = "{}".into()),
            ("not a JSON object", |b| b.artifacts[0].json = format!(r#"{{"id":"{ID}""#)),
            ("not a JSON object", |b| b.artifacts[0].json = format!(r#"{{"id":"{ID}"}} {{}}"#)),
            ("duplicate field", |b| b.artifacts[0].json = format!(r#"{{"id":"{ID}","id":"{ID}"}}"#)),
            ("invalid type", |b| b.artifacts[0].json = r#"{"id":7}"#.into()),
            ("more than one line", |b| b.artifacts[0].json = format!("{{\"id\":\"{ID}\",\n\"a\":1}}")),
            ("the id inside is \"x\"", |b| b.artifacts[0].json = r#"{"id":"x"}"#.into()),
            ("stream \"nothing\"", |b| b.reports[0].stream = "nothing".into()),
            ("two reports", |b| b.reports.push(b.reports[0].clone())),
            ("reports on no stream", |b| b.reports.clear()),
        ];
        for (expected, change) in table {
            let mut batch = batch();
            change(&mut batch);
            let why = run(batch).unwrap_err();
            assert!(why.contains(expected), "{why:?} does not say {expected:?}");
        }
    }

    #[test]
    fn no_character_that_a_terminal_acts_upon_is_left_in_an_artifact() {
        let mut batch = batch();
        let json = |text: &str| format!(r#"{{"id":"{ID}","k{text}":["ü{text}","§ {text}"]}}"#);
        batch.artifacts[0].json = json("\u{9b}31m\u{80}\u{9f}");
        let artifact = run(batch.clone()).unwrap().artifacts.remove(0);
        assert_eq!(artifact.json, json("\\u009b31m\\u0080\\u009f"));
        let read = |json: &str| serde_json::from_str::<serde_json::Value>(json).unwrap();
        assert_eq!(read(&artifact.json), read(&batch.artifacts[0].json), "to a reader nothing has changed");
        // Others that begin with the same byte stay as they are.
        batch.artifacts[0].json = json("\u{a0}\u{bf}");
        assert_eq!(run(batch.clone()).unwrap().artifacts[0].json, batch.artifacts[0].json);
        // The limit holds for what is handed on.
        batch.artifacts[0].json = json(&"\u{9b}".repeat(100));
        assert!(run(batch).unwrap_err().contains("bytes together"));
    }

    #[test]
    fn of_a_pause_a_day_is_believed() {
        let mut batch = batch();
        batch.retry_after_seconds = Some(u64::MAX);
        let failure = Failure {
            reason: FailureReason::RateLimited,
            message: "later".into(),
            remedy: String::new(),
            http_status: None,
            correlation_id: None,
            request_sent: true,
            retry: RetryAdvice::AfterSeconds(86_401),
        };
        batch.reports[0].state = StreamState::Degraded(failure);
        let clean = run(batch).unwrap();
        assert_eq!(clean.retry_after_seconds, Some(86_400));
        let StreamState::Degraded(failure) = &clean.reports[0].state else { panic!("{clean:?}") };
        assert!(matches!(failure.retry, RetryAdvice::AfterSeconds(86_400)), "{failure:?}");
    }

    #[test]
    fn an_id_may_be_written_with_escapes() {
        let mut batch = batch();
        batch.artifacts[0].json = format!(r#"{{"id":"\u0030{}"}}"#, &ID[1..]);
        run(batch).unwrap();
    }

    #[test]
    fn secrets_are_replaced_in_everything_that_is_returned() {
        let mut batch = batch();
        batch.artifacts[0].json = format!(r#"{{"id":"{ID}","message":"key hunter2-hunter2"}}"#);
        batch.hint = Some("hunter2-hunter2\n".into());
        let failure = Failure {
            reason: FailureReason::Internal,
            message: "hunter2-hunter2".into(),
            remedy: "hunter2-hunter2".into(),
            http_status: Some(7),
            correlation_id: Some("hunter2-hunter2".into()),
            request_sent: true,
            retry: RetryAdvice::BackOff,
        };
        batch.reports[0].state = StreamState::Degraded(failure);
        let clean = run(batch).unwrap();
        assert!(!format!("{clean:?}").contains("hunter2"), "{clean:?}");
        assert_eq!(clean.hint.as_deref(), Some("[redacted]\\n"));
        assert_eq!(clean.artifacts[0].json, format!(r#"{{"id":"{ID}","message":"key [redacted]"}}"#));
    }
}
