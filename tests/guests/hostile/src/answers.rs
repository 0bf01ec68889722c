//! What is returned: what was seen, or what breaks the contract.

use crate::bindings::witfoo::signal_connector::log;
use crate::bindings::witfoo::signal_connector::types::*;
use crate::lies::STREAM;
use crate::{network, surroundings, version};
use serde_json::{Value, json};

/// The id of an artifact.
fn id(number: usize) -> String {
    format!("00000000-0000-1000-8000-{number:012}")
}

fn artifact(id: &str, seen: &Value) -> Artifact {
    let json = json!({"id": id, "streamName": "hostile", "message": seen}).to_string();
    Artifact { id: id.to_owned(), stream: STREAM.to_owned(), json }
}

fn batch(artifacts: Vec<Artifact>, checkpoint: Vec<u8>) -> Batch {
    let fetched = u64::try_from(artifacts.len()).unwrap_or(u64::MAX);
    Batch {
        artifacts,
        checkpoint,
        more: false,
        reports: vec![StreamReport { stream: STREAM.to_owned(), fetched, state: StreamState::Ok }],
        retry_after_seconds: None,
        hint: None,
    }
}

fn failure(text: &str) -> Failure {
    Failure {
        reason: FailureReason::Internal,
        message: text.to_owned(),
        remedy: text.to_owned(),
        http_status: Some(u16::MAX),
        correlation_id: Some(text.to_owned()),
        request_sent: true,
        retry: RetryAdvice::AfterSeconds(u64::MAX),
    }
}

/// Text that is no text for people.
const TRICKS: &str = "\u{1b}[2J\r\n[INFO] other-connector: fetched 0 records\u{202e}\0";

/// What `check` answers.
pub(crate) fn check(act: &str) -> Result<CheckReport, Failure> {
    let report = |stream: &str| StreamReport { stream: stream.to_owned(), fetched: u64::MAX, state: StreamState::Ok };
    let mut found = CheckReport { summary: "well".to_owned(), reports: vec![report(STREAM)] };
    match act {
        "tricks" => found.summary = TRICKS.repeat(1000),
        "other-stream" => found.reports.push(report("other")),
        "many" => found.reports = vec![report(STREAM); 10_000],
        "fail" => return Err(failure(&TRICKS.repeat(1000))),
        "requests" => found.summary = network::sequence(100, "/v1/records").join(", "),
        "echo" => found.summary = network::read("/v1/echo/raw").unwrap_or_else(|error| error),
        _ => {}
    }
    Ok(found)
}

/// What `poll` answers.
pub(crate) fn poll(act: &str, argument: &str, checkpoint: Option<Vec<u8>>) -> Result<Batch, Failure> {
    let steps = checkpoint.as_ref().map_or(0, Vec::len);
    let number = |otherwise: usize| argument.parse().unwrap_or(otherwise);
    let outcomes = match act {
        "attempts" => Some(network::attempts(argument)),
        "follow" => Some(network::follow(argument)),
        "sequence" => Some(network::sequence(100, argument)),
        "flood" => Some(network::flood(400, argument)),
        "hoard" => Some(network::hoard(12, argument)),
        "words" => Some(network::hoard_words(100, number(0))),
        "upload" => Some(network::upload(number(0))),
        "uploads" => Some(network::uploads(12, 1 << 20)),
        "large" => Some(network::large(number(0))),
        "measure" => Some(network::measure(argument)),
        _ => None,
    };
    if let Some(outcomes) = outcomes {
        return Ok(batch(vec![artifact(&id(0), &json!(outcomes))], vec![1]));
    }
    match act {
        "paced" => paced(steps, true),
        "paced-once" => paced(steps, false),
        "look" => Ok(batch(vec![artifact(&id(0), &surroundings::look())], vec![1])),
        "echo" | "echo-fail" | "echo-trap" => echo(act, argument),
        _ => contract(act, argument, steps),
    }
}

/// One artifact a step, perhaps with always more of them, as fast as the server answers. Each says which version made it.
fn paced(steps: usize, more: bool) -> Result<Batch, Failure> {
    let outcome = network::get("/v1/paced");
    if outcome != "status 200" {
        return Err(Failure { reason: FailureReason::Unavailable, http_status: None, ..failure(&outcome) });
    }
    let made = artifact(&id(steps), &json!({"number": steps, "version": version()}));
    Ok(Batch { more, ..batch(vec![made], vec![1; steps.saturating_add(1)]) })
}

/// Reads what a server sends back, and hands it out in every way there is. Several paths stand between spaces.
fn echo(act: &str, paths: &str) -> Result<Batch, Failure> {
    let read = |path| network::read(path).unwrap_or_else(|error| error);
    let seen = paths.split(' ').map(read).collect::<Vec<_>>().join("\n");
    log::write(log::Level::Info, &format!("seen: {seen}"));
    eprintln!("seen: {seen}");
    match act {
        "echo-fail" => return Err(failure(&format!("seen: {seen}"))),
        "echo-trap" => std::process::abort(),
        _ => {}
    }
    let mut batch = batch(vec![artifact(&id(0), &json!(seen))], seen.clone().into_bytes());
    batch.hint = Some(format!("seen: {seen}"));
    batch.reports = vec![StreamReport {
        stream: STREAM.to_owned(),
        fetched: 1,
        state: StreamState::Degraded(failure(&format!("seen: {seen}"))),
    }];
    Ok(batch)
}

/// An artifact with a text of this many bytes, made without a second copy of it.
fn long(bytes: usize) -> String {
    let mut json = String::with_capacity(bytes.saturating_add(100));
    json.push_str(&format!("{{\"id\":\"{}\",\"message\":\"", id(0)));
    json.extend(std::iter::repeat_n('x', bytes));
    json.push_str("\"}");
    json
}

/// Breaks the contract, or stretches it.
fn contract(act: &str, argument: &str, steps: usize) -> Result<Batch, Failure> {
    let good = |n: usize| artifact(&id(n), &json!("good"));
    let raw = |json: String| Artifact { id: id(0), stream: STREAM.to_owned(), json };
    let one = |artifact: Artifact| batch(vec![artifact], vec![1]);
    let mut batch = match act {
        "huge-artifact" => one(raw(long(8 << 20))),
        "huge-answer" => one(raw(long(14 << 20))),
        "many-artifacts" => batch((0..30_000).map(good).collect(), vec![1]),
        "no-json" => one(raw("not json".to_owned())),
        "cut-json" => one(raw(format!("{{\"id\":\"{}\"", id(0)))),
        "two-lines" => one(raw(format!("{{\"id\":\"{}\",\n\"a\":1}}", id(0)))),
        "two-objects" => one(raw(format!("{{\"id\":\"{0}\"}}{{\"id\":\"{0}\"}}", id(0)))),
        "other-id-inside" => one(raw(format!("{{\"id\":\"{}\"}}", id(7)))),
        "two-ids-inside" => one(raw(format!("{{\"id\":\"{0}\",\"id\":\"{1}\"}}", id(0), id(7)))),
        "no-uuid" => one(Artifact { id: TRICKS.to_owned(), ..good(0) }),
        "twice" => batch(vec![good(0), good(1), good(0)], vec![1]),
        "other-stream" => one(Artifact { stream: TRICKS.to_owned(), ..good(0) }),
        "other-tenant" => one(artifact(argument, &json!("of another tenant"))),
        "deep" => {
            let depth = 200_000;
            one(raw(format!("{{\"id\":\"{}\",\"a\":{}{}}}", id(0), "[".repeat(depth), "]".repeat(depth))))
        }
        "deep-text" => {
            let depth = 200_000;
            one(artifact(&id(0), &json!(format!("{}{}", "[".repeat(depth), "]".repeat(depth)))))
        }
        "half-characters" => one(raw(format!("{{\"id\":\"{}\",\"a\":\"\\ud800 \\u0000 \\u202e\"}}", id(0)))),
        "huge-number" => one(raw(format!("{{\"id\":\"{}\",\"a\":1{}}}", id(0), "0".repeat(100_000)))),
        "huge-checkpoint" => batch(vec![good(0)], vec![7; (1 << 20) + 1]),
        "rewritten-checkpoint" => batch(vec![], vec![0xff; (1 << 20) + 1]),
        "more" => Batch { more: true, ..batch(vec![good(steps)], vec![1; steps.saturating_add(1)]) },
        "more-of-nothing" => Batch { more: true, ..batch(vec![], vec![1]) },
        "wait" => Batch { retry_after_seconds: Some(u64::MAX), more: true, ..batch(vec![good(0)], vec![1]) },
        "absurd" => batch(vec![good(0)], vec![1]),
        "fail" => return Err(failure(&TRICKS.repeat(1000))),
        "unreadable" => return Err(Failure { reason: FailureReason::CheckpointUnreadable, ..failure("unreadable") }),
        "many-reports" | "other-report" | "tricks" => batch(vec![good(0)], vec![1]),
        _ => batch(vec![good(steps)], vec![1; steps.saturating_add(1)]),
    };
    let report = |stream: &str, state| StreamReport { stream: stream.to_owned(), fetched: u64::MAX, state };
    match act {
        "absurd" => batch.reports = vec![report(STREAM, StreamState::Degraded(failure("absurd")))],
        "many-reports" => batch.reports = vec![report(STREAM, StreamState::Ok); 10_000],
        "other-report" => batch.reports = vec![report("other", StreamState::Ok)],
        "tricks" => {
            batch.hint = Some(TRICKS.repeat(1000));
            batch.reports = vec![report(STREAM, StreamState::Unavailable(failure(&TRICKS.repeat(1000))))];
        }
        _ => {}
    }
    Ok(batch)
}
