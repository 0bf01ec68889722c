//! The report of a poll, for programs and for people.

use serde_json::{Value, json};

use super::output;
use crate::connectors::Connector;
use crate::contract::types::{StreamReport, StreamState};
use crate::egress::Routes;
use crate::instances::failure::FailureReport;
use crate::instances::report::{Cycle, End, State, StreamOutcome, counted};
use crate::log::escape;

/// Who was polled, how and to where.
pub(super) struct Polled<'a> {
    pub(super) instance: &'a str,
    pub(super) connector: &'a Connector,
    pub(super) routes: &'a Routes,
    /// The output, when there is one.
    pub(super) output: Option<&'a str>,
}

/// The report of `poll --json`. Fields are only ever added.
pub(super) fn as_json(polled: &Polled<'_>, cycle: &Cycle) -> Value {
    let descriptor = polled.connector.descriptor();
    let mut report = cycle_json(cycle);
    if let Value::Object(fields) = &mut report {
        fields.insert("instance".into(), polled.instance.into());
        fields.insert(
            "connector".into(),
            json!({ "name": descriptor.name, "version": descriptor.version, "digest": polled.connector.digest() }),
        );
        let routes: Vec<String> = polled.routes.texts();
        fields.insert("routes".into(), routes.into());
    }
    report
}

/// What of the report the cycle alone decides.
fn cycle_json(cycle: &Cycle) -> Value {
    json!({
        "status": cycle.status(),
        "end": end(cycle.end),
        "steps": cycle.steps,
        "requests": cycle.usage.requests,
        "requests_denied": cycle.usage.egress_denied,
        "bytes_received": cycle.usage.bytes_received,
        "artifacts": { "new": cycle.new, "repeated": cycle.repeated, "delivered": delivered(cycle) },
        "streams": cycle.streams.iter().map(stream).collect::<Vec<_>>(),
        "failure": cycle.first_failure(),
        "hint": cycle.hint,
        "wall_ms": u64::try_from(cycle.elapsed.as_millis()).unwrap_or(u64::MAX),
        "guest_cpu_ms": cycle.usage.guest_cpu.map(|time| time.as_secs_f64() * 1_000.0),
        "guest_peak_bytes": cycle.usage.guest_peak_bytes,
    })
}

/// How many artifacts an output took.
fn delivered(cycle: &Cycle) -> u64 {
    cycle.delivered.as_ref().map_or(0, |delivered| delivered.count)
}

/// The word for how a cycle ended.
fn end(end: End) -> &'static str {
    match end {
        End::Complete => "complete",
        End::StepLimit => "step-limit",
        End::Postponed => "postponed",
        End::Deferred => "deferred",
        End::Failed => "failed",
        End::Interrupted => "interrupted",
    }
}

fn stream(stream: &StreamOutcome) -> Value {
    let (state, failure) = match &stream.state {
        State::Ok => ("ok", None),
        State::Degraded(failure) => ("degraded", Some(failure)),
        State::Unavailable(failure) => ("unavailable", Some(failure)),
    };
    json!({ "name": stream.name, "fetched": stream.fetched, "state": state, "failure": failure })
}

/// A stream of a check report, in the same form.
pub(super) fn stream_of_check(report: &StreamReport) -> Value {
    let (state, failure) = match &report.state {
        StreamState::Ok => ("ok", None),
        StreamState::Degraded(failure) => ("degraded", Some(FailureReport::from(failure))),
        StreamState::Unavailable(failure) => ("unavailable", Some(FailureReport::from(failure))),
    };
    json!({ "name": report.stream, "state": state, "failure": failure })
}

/// The report for people.
pub(super) fn page(polled: &Polled<'_>, cycle: &Cycle) -> String {
    let descriptor = polled.connector.descriptor();
    let title = format!("{} ({} {})", polled.instance, descriptor.display_name, descriptor.version);
    page_of(&title, polled.output, cycle)
}

fn page_of(title: &str, output: Option<&str>, cycle: &Cycle) -> String {
    let row = |name: &str, text: String| vec![escape(name), escape(&text)];
    let mut rows = Vec::new();
    for stream in &cycle.streams {
        let state = match &stream.state {
            State::Ok => String::new(),
            State::Degraded(failure) => format!(", failed: {}", failure.sentence()),
            State::Unavailable(failure) => format!(", unavailable: {}", failure.sentence()),
        };
        rows.push(row(&stream.name, format!("{} fetched{state}", stream.fetched)));
    }
    let delivered = match output {
        Some(output) => format!("{} delivered to {output}", delivered(cycle)),
        None => "kept until a poll with --out delivers them".to_owned(),
    };
    rows.push(row("artifacts", format!("{} new, {} repeated, {delivered}", cycle.new, cycle.repeated)));
    let requests = counted(u64::from(cycle.usage.requests), "request");
    let steps = counted(u64::from(cycle.steps), "step");
    rows.push(row("work", format!("{requests} in {steps}, {} ms", cycle.elapsed.as_millis())));
    if let Some(failure) = cycle.failure.as_ref().or(cycle.delivery_failure()) {
        rows.push(row("failure", failure.sentence()));
    }
    if let Some(hint) = &cycle.hint {
        rows.push(row("hint", hint.clone()));
    }
    format!("{}: {}\n{}", escape(title), cycle.outcome(), output::table("  ", &rows))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::contract::types::{DataStream, Failure, FailureReason, RetryAdvice};
    use crate::instances::report::Delivered;
    use crate::sandbox::Usage;

    fn cycle() -> Cycle {
        let failure = Failure {
            reason: FailureReason::Forbidden,
            message: "not\nallowed".into(),
            remedy: "Ask for the right.".into(),
            http_status: Some(403),
            correlation_id: Some("c-1".into()),
            request_sent: true,
            retry: RetryAdvice::AfterChange,
        };
        let stream = |name: &str| DataStream {
            name: name.into(),
            noun: name.into(),
            description: String::new(),
            announced: true,
        };
        let report = |stream: &str, fetched, state| StreamReport { stream: stream.into(), fetched, state };
        let mut cycle = Cycle::new();
        cycle.add_reports(
            &[stream("events"), stream("evidence")],
            &[report("events", 3, StreamState::Ok), report("evidence", 0, StreamState::Unavailable(failure.clone()))],
        );
        cycle.steps = 1;
        cycle.new = 3;
        cycle.repeated = 2;
        cycle.delivered = Some(Delivered { count: 3, failure: None });
        cycle.end = End::Complete;
        cycle.elapsed = Duration::from_millis(42);
        cycle.usage = Usage {
            requests: 5,
            bytes_received: 1_000,
            guest_cpu: Some(Duration::from_micros(1_500)),
            guest_peak_bytes: 65_536,
            ..Usage::default()
        };
        cycle
    }

    #[test]
    fn the_page_shows_counts_and_states_on_lines_of_their_own() {
        insta::assert_snapshot!(page_of("acme (Acme 1.0)", Some("out.jsonl"), &cycle()), @r"
        acme (Acme 1.0): ok
          events     3 fetched
          evidence   0 fetched, unavailable: not\nallowed (HTTP 403, forbidden). Ask for the right.
          artifacts  3 new, 2 repeated, 3 delivered to out.jsonl
          work       5 requests in 1 step, 42 ms
        ");
    }

    #[test]
    fn without_an_output_the_page_says_where_the_artifacts_are() {
        let mut cycle = cycle();
        cycle.failure = Some(FailureReport::new("timeout", "no answer", "Try again."));
        cycle.hint = Some("Poll less often.".into());
        cycle.end = End::Failed;
        insta::assert_snapshot!(page_of("acme (Acme 1.0)", None, &cycle), @r"
        acme (Acme 1.0): degraded
          events     3 fetched
          evidence   0 fetched, unavailable: not\nallowed (HTTP 403, forbidden). Ask for the right.
          artifacts  3 new, 2 repeated, kept until a poll with --out delivers them
          work       5 requests in 1 step, 42 ms
          failure    no answer (timeout). Try again.
          hint       Poll less often.
        ");
    }

    #[test]
    fn the_json_report_has_the_documented_fields() {
        let mut cycle = cycle();
        cycle.failure = Some(FailureReport::new("timeout", "no answer", "Try again."));
        insta::assert_snapshot!(format!("{:#}", cycle_json(&cycle)), @r#"
        {
          "artifacts": {
            "delivered": 3,
            "new": 3,
            "repeated": 2
          },
          "bytes_received": 1000,
          "end": "complete",
          "failure": {
            "code": "timeout",
            "correlation_id": null,
            "http_status": null,
            "message": "no answer",
            "remedy": "Try again."
          },
          "guest_cpu_ms": 1.5,
          "guest_peak_bytes": 65536,
          "hint": null,
          "requests": 5,
          "requests_denied": 0,
          "status": "degraded",
          "steps": 1,
          "streams": [
            {
              "failure": null,
              "fetched": 3,
              "name": "events",
              "state": "ok"
            },
            {
              "failure": {
                "code": "forbidden",
                "correlation_id": "c-1",
                "http_status": 403,
                "message": "not\nallowed",
                "remedy": "Ask for the right."
              },
              "fetched": 0,
              "name": "evidence",
              "state": "unavailable"
            }
          ],
          "wall_ms": 42
        }
        "#);
    }
}
