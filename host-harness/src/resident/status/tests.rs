//! Polls in a row, and what is known after each.

use super::*;
use crate::contract::types::{Failure, FailureReason, RetryAdvice, StreamReport, StreamState};
use crate::instances::tests::descriptor;

fn version() -> Version {
    Version { version: "1.0.0".into(), digest: "d".into() }
}

fn cycle(fetched: u64, state: StreamState) -> Cycle {
    let mut cycle = Cycle::new();
    cycle.described = descriptor().streams.into_iter().map(|stream| stream.name).collect();
    cycle.end = End::Complete;
    cycle.new = fetched;
    cycle.steps = 1;
    let reports = [
        StreamReport { stream: "events".into(), fetched, state: StreamState::Ok },
        StreamReport { stream: "alerts".into(), fetched: 0, state },
    ];
    cycle.add_reports(&descriptor().streams, &reports);
    cycle
}

fn forbidden() -> Failure {
    Failure {
        reason: FailureReason::Forbidden,
        message: "no".into(),
        remedy: "Ask.".into(),
        http_status: Some(403),
        correlation_id: None,
        request_sent: true,
        retry: RetryAdvice::AfterChange,
    }
}

fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).expect("time")
}

#[test]
fn an_instance_is_behind_from_the_first_poll_that_leaves_something_to_the_first_that_does_not() {
    let mut past = Past::default();
    let mut poll = |end, seconds| {
        let cycle = Cycle { end, ..cycle(1, StreamState::Ok) };
        past.polled(&cycle, version(), at(seconds));
        past.behind_since
    };
    assert_eq!(poll(End::Complete, 1), None);
    assert_eq!(poll(End::Deferred, 2), Some(at(2)));
    assert_eq!(poll(End::StepLimit, 3), Some(at(2)));
    assert_eq!(poll(End::Failed, 4), Some(at(2)), "nobody knows");
    assert_eq!(poll(End::Complete, 5), None);
}

#[test]
fn polls_add_up_and_the_last_one_decides_the_state() {
    let mut past = Past::default();
    assert_eq!(past.polled(&cycle(3, StreamState::Ok), version(), at(10)), Some(State::Ok));
    let degraded = cycle(2, StreamState::Degraded(forbidden()));
    assert_eq!(past.polled(&degraded, version(), at(20)), Some(State::Degraded));
    assert_eq!(past.polled(&degraded, version(), at(30)), Some(State::Degraded));
    assert_eq!((past.last_success, past.failing_since, past.last_poll), (Some(at(10)), Some(at(20)), Some(at(30))));
    assert_eq!(past.failure.as_ref().and_then(|failure| failure.http_status), Some(403));
    assert_eq!((past.streams[0].last, past.streams[0].total, past.streams[1].state.as_ref()), (2, 7, "degraded"));
    assert_eq!((past.failures["forbidden"], past.polls["degraded"], past.polls["ok"]), (2, 2, 1));
    assert_eq!((past.total.steps, past.total.artifacts_new), (3, 7));

    assert_eq!(past.polled(&cycle(0, StreamState::Ok), version(), at(40)), Some(State::Ok));
    assert_eq!((past.failure.clone(), past.failing_since), (None, None), "green again at the next good poll");
    let last = past.last_failure.expect("what was wrong is still told");
    assert_eq!((last.at, last.failure.http_status, last.failure.remedy.as_str()), (at(30), Some(403), "Ask."));
}

#[test]
fn a_stream_that_is_not_offered_is_shown_and_is_no_failure() {
    let mut past = Past::default();
    let state = past.polled(&cycle(1, StreamState::Unavailable(forbidden())), version(), at(10));
    assert_eq!((state, past.failure.clone()), (Some(State::Ok), None));
    assert!(past.failures.is_empty());
    assert_eq!(past.streams[1].failure.as_ref().map(|failure| failure.remedy.as_str()), Some("Ask."));
}

#[test]
fn what_a_day_came_to_and_when_something_was_new_is_known() {
    let mut past = Past::default();
    past.polled(&Cycle { bytes: 900, ..cycle(3, StreamState::Ok) }, version(), at(10));
    past.polled(&cycle(0, StreamState::Ok), version(), at(20));
    past.not_begun(FailureReport::new("secret-unset", "no", "Set it."), at(30));
    let days: Vec<_> = past.days.iter().map(|day| (day.polls, day.artifacts_new, day.artifact_bytes)).collect();
    assert_eq!((past.last_new, days), (Some(at(10)), vec![(3, 3, 900)]));
    past.polled(&cycle(1, StreamState::Ok), version(), at(86_400));
    let days: Vec<_> = past.days.iter().map(|day| (day.polls, day.artifacts_new)).collect();
    assert_eq!((past.last_new, days), (Some(at(86_400)), vec![(1, 1), (3, 3)]));
}

#[test]
fn an_interrupted_poll_changes_no_state() {
    let mut past = Past::default();
    past.polled(&cycle(1, StreamState::Degraded(forbidden())), version(), at(10));
    let mut interrupted = cycle(1, StreamState::Ok);
    interrupted.end = End::Interrupted;
    assert_eq!(past.polled(&interrupted, version(), at(20)), None);
    assert!(past.failure.is_some());
    assert_eq!(past.last_outcome.as_deref(), Some("interrupted"));
}

#[test]
fn what_is_remembered_can_be_read_again_and_by_older_and_newer_programs() {
    let mut past = Past::default();
    past.not_begun(FailureReport::new("secret-unset", "no", "Set it."), at(10));
    let text = serde_json::to_string(&past).expect("JSON");
    let again: Past = serde_json::from_str(&text).expect("read");
    assert_eq!(again.failure, past.failure);
    let other: Past = serde_json::from_str(r#"{"polls":{"ok":3},"something_new":1}"#).expect("read");
    assert_eq!(other.polls["ok"], 3);
}

#[test]
fn a_stream_that_was_not_asked_has_nothing_of_the_last_poll() {
    let mut past = Past::default();
    past.polled(&cycle(3, StreamState::Ok), version(), at(10));
    let mut empty = Cycle::new();
    empty.described = cycle(0, StreamState::Ok).described;
    empty.end = End::Failed;
    past.polled(&empty, version(), at(20));
    assert_eq!((past.streams[0].last, past.streams[0].total), (0, 3));
}

#[test]
fn a_stream_that_the_version_does_not_describe_any_more_is_shown_no_more() {
    let mut past = Past::default();
    past.polled(&cycle(3, StreamState::Degraded(forbidden())), version(), at(10));
    let mut other = cycle(1, StreamState::Ok);
    other.described.retain(|name| name != "alerts");
    other.streams.retain(|stream| stream.name != "alerts");
    past.polled(&other, version(), at(20));
    assert_eq!(past.streams.iter().map(|stream| stream.name.as_str()).collect::<Vec<_>>(), ["events"]);
}
