//! The rules of the cycle, with a collector that does what the test says.

mod beside;
mod delivering;

use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use uuid::Uuid;

use super::super::report::{State, Status};
use super::super::tests::descriptor;
use super::*;
use crate::contract::types::{Artifact, Failure, FailureReason, RetryAdvice, StreamReport, StreamState};
use crate::sandbox::Usage;

/// Answers polls from a script and remembers the checkpoints it was given.
/// A script that has run out never answers.
#[derive(Default)]
struct Scripted {
    answers: Mutex<VecDeque<Result<Batch, FailureReport>>>,
    checkpoints: Mutex<Vec<Option<Vec<u8>>>>,
}

impl Scripted {
    fn new(answers: impl IntoIterator<Item = Result<Batch, FailureReport>>) -> Self {
        Self { answers: Mutex::new(answers.into_iter().collect()), checkpoints: Mutex::default() }
    }
}

/// Nothing is left to be checked.
impl Yield for Batch {
    fn batch(&self) -> &Batch {
        self
    }

    fn checked(self) -> Result<Batch, FailureReport> {
        Ok(self)
    }
}

impl Collector for Scripted {
    type Yield = Batch;

    async fn poll(&self, checkpoint: Option<Vec<u8>>, _: Budget) -> (Result<Batch, FailureReport>, Usage) {
        self.checkpoints.lock().expect("lock").push(checkpoint);
        let answer = self.answers.lock().expect("lock").pop_front();
        let usage = Usage {
            requests: 2,
            guest_cpu: Some(Duration::from_millis(3)),
            guest_peak_bytes: 1_000,
            ..Usage::default()
        };
        match answer {
            Some(answer) => (answer, usage),
            None => std::future::pending().await,
        }
    }
}

fn batch(ids: std::ops::Range<u128>, checkpoint: &str, more: bool) -> Batch {
    let artifacts: Vec<_> = ids
        .map(|number| {
            let id = Uuid::from_u128(number).to_string();
            Artifact { json: format!(r#"{{"id":"{id}"}}"#), id, stream: "events".into() }
        })
        .collect();
    let fetched = artifacts.len() as u64;
    Batch {
        artifacts,
        checkpoint: checkpoint.as_bytes().to_vec(),
        more,
        reports: vec![report("alerts", 0, StreamState::Ok), report("events", fetched, StreamState::Ok)],
        retry_after_seconds: None,
        hint: None,
    }
}

fn report(stream: &str, fetched: u64, state: StreamState) -> StreamReport {
    StreamReport { stream: stream.into(), fetched, state }
}

fn failure(reason: FailureReason, status: u16) -> Failure {
    Failure {
        reason,
        message: "the vendor said no".into(),
        remedy: "Ask again.".into(),
        http_status: Some(status),
        correlation_id: Some("c-1".into()),
        request_sent: true,
        retry: RetryAdvice::BackOff,
    }
}

fn failed(reason: FailureReason, status: u16) -> Result<Batch, FailureReport> {
    Err((&failure(reason, status)).into())
}

/// A store in a temporary directory and the waits that were asked for.
struct Bench {
    dir: tempfile::TempDir,
    store: Store,
    instance: Instance,
    waits: Arc<Mutex<Vec<u64>>>,
    options: CycleOptions,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(&dir.path().join("state")).expect("store");
        let instance = store.instance("acme", "acme-siem", OffsetDateTime::UNIX_EPOCH).expect("instance");
        let budget = Budget { requests: 10, artifacts: 10, artifact_bytes: 1 << 20, wall_time_milliseconds: 1_000 };
        let options = CycleOptions {
            budget,
            most_steps: 100,
            longest_turn: Duration::MAX,
            longest_wait: Duration::from_secs(60),
            most_waiting: Duration::from_secs(150),
            defer_waits: false,
        };
        Self { dir, store, instance, waits: Arc::default(), options }
    }

    async fn cycle_with(
        &self,
        collector: &impl Collector,
        progress: &(dyn Fn(&Cycle) + Send + Sync),
        stop: impl Future<Output = ()> + Send,
    ) -> Cycle {
        let waits = self.waits.clone();
        let run = Run {
            collector,
            store: &self.store,
            instance: &self.instance,
            streams: &descriptor().streams,
            options: &self.options,
            surroundings: Surroundings {
                now: &|| OffsetDateTime::UNIX_EPOCH,
                sleep: &move |wait| {
                    waits.lock().expect("lock").push(wait.as_secs());
                    Box::pin(std::future::ready(()))
                },
                progress,
                stopping: &|| false,
            },
        };
        run.cycle(stop).await
    }

    async fn cycle(&self, collector: &impl Collector) -> Cycle {
        self.cycle_with(collector, &|_| {}, std::future::pending()).await
    }

    fn checkpoint(&self) -> Option<String> {
        let bytes = self.store.checkpoint(&self.instance).expect("checkpoint");
        bytes.map(|bytes| String::from_utf8(bytes).expect("text"))
    }

    fn lines(&self, file: &Path) -> usize {
        fs::read_to_string(file).expect("output").lines().count()
    }
}

#[tokio::test]
async fn steps_follow_each_other_from_checkpoint_to_checkpoint_until_there_is_no_more() {
    let bench = Bench::new();
    let collector =
        Scripted::new([Ok(batch(1..4, "a", true)), Ok(batch(4..5, "b", true)), Ok(batch(4..6, "c", false))]);
    let cycle = bench.cycle(&collector).await;
    assert_eq!(*collector.checkpoints.lock().expect("lock"), [None, Some(b"a".to_vec()), Some(b"b".to_vec())]);
    assert_eq!((cycle.end, cycle.status()), (End::Complete, Status::Ok));
    assert_eq!((cycle.steps, cycle.new, cycle.repeated, cycle.delivered), (3, 5, 1, None));
    assert_eq!((cycle.usage.requests, cycle.usage.guest_peak_bytes), (6, 1_000));
    assert_eq!(cycle.usage.guest_cpu, Some(Duration::from_millis(9)));
    assert_eq!(bench.checkpoint().as_deref(), Some("c"));
    let streams: Vec<_> = cycle.streams.iter().map(|stream| (stream.name.as_str(), stream.fetched)).collect();
    assert_eq!(streams, [("events", 6), ("alerts", 0)], "in the order of the descriptor");
}

#[tokio::test]
async fn the_next_cycle_goes_on_from_the_last_checkpoint() {
    let bench = Bench::new();
    bench.cycle(&Scripted::new([Ok(batch(1..2, "a", false))])).await;
    let collector = Scripted::new([Ok(batch(0..0, "a", false))]);
    let cycle = bench.cycle(&collector).await;
    assert_eq!(*collector.checkpoints.lock().expect("lock"), [Some(b"a".to_vec())]);
    assert_eq!((cycle.status(), cycle.new, cycle.steps), (Status::Ok, 0, 1));
}

#[tokio::test]
async fn a_failure_leaves_what_was_committed_and_nothing_more() {
    let bench = Bench::new();
    let collector = Scripted::new([Ok(batch(1..4, "a", true)), failed(FailureReason::Unavailable, 503)]);
    let cycle = bench.cycle(&collector).await;
    assert_eq!((cycle.end, cycle.status()), (End::Failed, Status::Degraded));
    assert_eq!(bench.checkpoint().as_deref(), Some("a"));
    assert_eq!(cycle.first_failure().map(|f| (f.code.as_str(), f.http_status)), Some(("unavailable", Some(503))));

    let bench = Bench::new();
    let cycle = bench.cycle(&Scripted::new([failed(FailureReason::Unauthorized, 401)])).await;
    assert_eq!((cycle.status(), cycle.steps), (Status::Failed, 0));
    assert_eq!(bench.checkpoint(), None);
}

#[tokio::test]
async fn the_last_report_of_a_stream_counts() {
    let bench = Bench::new();
    let mut first = batch(1..2, "a", true);
    first.reports = vec![report("events", 1, StreamState::Degraded(failure(FailureReason::Timeout, 504)))];
    let cycle = bench.cycle(&Scripted::new([Ok(first), Ok(batch(2..3, "b", false))])).await;
    assert_eq!(cycle.status(), Status::Ok, "the stream has recovered");

    let bench = Bench::new();
    let mut last = batch(2..3, "b", false);
    last.reports = vec![report("alerts", 0, StreamState::Degraded(failure(FailureReason::Timeout, 504)))];
    let cycle = bench.cycle(&Scripted::new([Ok(batch(1..2, "a", true)), Ok(last)])).await;
    assert_eq!((cycle.end, cycle.status()), (End::Complete, Status::Degraded));
    assert_eq!(cycle.first_failure().map(|f| f.code.as_str()), Some("timeout"));
}

#[tokio::test]
async fn a_stream_that_is_not_offered_is_no_failure() {
    let bench = Bench::new();
    let mut only = batch(1..2, "a", false);
    only.reports.push(report("evidence", 0, StreamState::Unavailable(failure(FailureReason::Forbidden, 403))));
    let cycle = bench.cycle(&Scripted::new([Ok(only)])).await;
    assert_eq!(cycle.status(), Status::Ok);
    assert_eq!(cycle.first_failure(), None);
    assert!(matches!(cycle.streams.last().map(|stream| &stream.state), Some(State::Unavailable(_))));
}

#[tokio::test]
async fn when_every_stream_fails_and_nothing_came_the_instance_has_failed() {
    let bench = Bench::new();
    let mut only = batch(0..0, "a", false);
    only.reports = vec![report("events", 0, StreamState::Degraded(failure(FailureReason::Unavailable, 500)))];
    assert_eq!(bench.cycle(&Scripted::new([Ok(only)])).await.status(), Status::Failed);
}

fn limited(checkpoint: &str, seconds: u64) -> Result<Batch, FailureReport> {
    Ok(Batch { retry_after_seconds: Some(seconds), ..batch(0..0, checkpoint, true) })
}

#[tokio::test]
async fn a_short_wait_that_the_vendor_asks_for_is_waited_within_the_cycle() {
    let bench = Bench::new();
    let collector = Scripted::new([limited("a", 60), limited("b", 30), Ok(batch(1..2, "c", false))]);
    let cycle = bench.cycle(&collector).await;
    assert_eq!(*bench.waits.lock().expect("lock"), [60, 30]);
    assert_eq!(cycle.status(), Status::Ok);
}

#[tokio::test]
async fn a_long_wait_ends_the_cycle_instead() {
    let bench = Bench::new();
    let cycle = bench.cycle(&Scripted::new([limited("a", 61)])).await;
    assert_eq!(*bench.waits.lock().expect("lock"), [0u64; 0]);
    assert_eq!((cycle.end, cycle.first_failure().map(|f| f.code.as_str())), (End::Failed, Some("rate-limited")));
    assert_eq!(bench.checkpoint().as_deref(), Some("a"), "the step itself is committed");
}

#[tokio::test]
async fn many_short_waits_end_the_cycle_too() {
    let bench = Bench::new();
    let collector = Scripted::new([limited("a", 60), limited("b", 60), limited("c", 60)]);
    let cycle = bench.cycle(&collector).await;
    assert_eq!(*bench.waits.lock().expect("lock"), [60, 60]);
    assert_eq!(cycle.end, End::Failed);
}

#[tokio::test]
async fn a_wait_after_the_last_step_is_not_waited() {
    let bench = Bench::new();
    let last = Batch { retry_after_seconds: Some(30), ..batch(1..2, "a", false) };
    assert_eq!(bench.cycle(&Scripted::new([Ok(last)])).await.end, End::Complete);
    assert_eq!(*bench.waits.lock().expect("lock"), [0u64; 0]);
}

#[tokio::test]
async fn a_wait_after_which_no_step_would_come_is_not_waited_but_told() {
    let mut bench = Bench::new();
    bench.options.most_steps = 1;
    let cycle = bench.cycle(&Scripted::new([limited("a", 30)])).await;
    assert_eq!((cycle.end, cycle.retry_after), (End::StepLimit, Some(Duration::from_secs(30))));
    assert_eq!(*bench.waits.lock().expect("lock"), [0u64; 0]);
}

#[tokio::test]
async fn a_long_wait_with_a_reason_given_by_a_stream_is_told_once() {
    let bench = Bench::new();
    let mut only = batch(1..2, "a", true);
    only.retry_after_seconds = Some(900);
    only.reports = vec![report("events", 1, StreamState::Degraded(failure(FailureReason::RateLimited, 429)))];
    let cycle = bench.cycle(&Scripted::new([Ok(only)])).await;
    assert_eq!((cycle.end, cycle.status(), cycle.failure.is_none()), (End::Postponed, Status::Degraded, true));
    assert_eq!(cycle.first_failure().and_then(|f| f.http_status), Some(429));
}

#[tokio::test]
async fn a_connector_that_goes_in_a_circle_is_stopped() {
    let bench = Bench::new();
    let circle = || Ok(batch(0..0, "a", true));
    let collector = Scripted::new([circle(), circle(), circle(), circle(), circle(), circle()]);
    let cycle = bench.cycle(&collector).await;
    assert_eq!(cycle.steps, 4, "the first one has moved the checkpoint");
    assert_eq!(cycle.first_failure().map(|f| f.code.as_str()), Some("no-progress"));
    assert_eq!(cycle.status(), Status::Failed, "nothing was collected");
}

#[tokio::test]
async fn a_connector_that_brings_the_same_page_for_ever_is_stopped_as_well() {
    let bench = Bench::new();
    let collector = Scripted::new(std::iter::repeat_with(|| Ok(batch(0..3, "a", true))).take(6));
    let cycle = bench.cycle(&collector).await;
    assert_eq!((cycle.steps, cycle.new), (4, 3));
    assert_eq!(cycle.first_failure().map(|f| f.code.as_str()), Some("no-progress"));
}

#[tokio::test]
async fn the_limit_of_steps_ends_the_cycle_without_a_failure() {
    let mut bench = Bench::new();
    bench.options.most_steps = 2;
    let cycle = bench.cycle(&Scripted::new([Ok(batch(1..2, "a", true)), Ok(batch(2..3, "b", true))])).await;
    assert_eq!((cycle.end, cycle.steps, cycle.status()), (End::StepLimit, 2, Status::Ok));
}

#[tokio::test]
async fn a_turn_that_has_lasted_long_enough_ends_after_the_step_at_hand() {
    let mut bench = Bench::new();
    bench.options.longest_turn = Duration::ZERO;
    let cycle = bench.cycle(&Scripted::new([Ok(batch(1..2, "a", true)), Ok(batch(2..3, "b", true))])).await;
    assert_eq!((cycle.end, cycle.steps, cycle.status()), (End::StepLimit, 1, Status::Ok));
}

#[tokio::test]
async fn a_stop_abandons_the_step_at_hand_and_keeps_those_before() {
    let bench = Bench::new();
    let collector = Scripted::new([Ok(batch(1..3, "a", true))]);
    let second_poll = std::future::poll_fn(|context| {
        context.waker().wake_by_ref();
        let polls = collector.checkpoints.lock().expect("lock").len();
        if polls == 2 { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    });
    let cycle = bench.cycle_with(&collector, &|_| {}, second_poll).await;
    assert_eq!((cycle.end, cycle.steps, cycle.new), (End::Interrupted, 1, 2));
    assert_eq!(bench.checkpoint().as_deref(), Some("a"));
}

#[tokio::test]
async fn a_batch_that_cannot_be_stored_ends_the_cycle_with_the_old_checkpoint() {
    let bench = Bench::new();
    let mut bad = batch(4..6, "b", true);
    bad.artifacts.push(Artifact { id: "none".into(), stream: "events".into(), json: "{}".into() });
    let cycle = bench.cycle(&Scripted::new([Ok(batch(1..4, "a", true)), Ok(bad)])).await;
    assert_eq!(cycle.first_failure().map(|f| f.code.as_str()), Some("artifact-id"));
    assert_eq!((cycle.new, bench.checkpoint().as_deref()), (3, Some("a")));
}

#[tokio::test]
async fn the_log_lines_of_a_cycle_are_those_that_operators_look_for() {
    let bench = Bench::new();
    let mut only = batch(1..3, "a", true);
    only.reports = vec![
        report("events", 2, StreamState::Ok),
        report("alerts", 0, StreamState::Degraded(failure(FailureReason::Unavailable, 503))),
        report("evidence", 0, StreamState::Unavailable(failure(FailureReason::Forbidden, 403))),
    ];
    only.hint = Some("Poll every 15 minutes.".into());
    let mut cycle = bench.cycle(&Scripted::new([Ok(only), failed(FailureReason::Unauthorized, 401)])).await;
    cycle.elapsed = Duration::from_millis(7);
    let text = crate::log::captured(|| cycle.log("acme-siem", "us", |_| false));
    insta::assert_snapshot!(text, @r#"
    [INFO] acme-siem: fetched 2 events
    [INFO] acme-siem: fetched 0 alerts
    [ERROR] acme-siem: alerts failed: the vendor said no (HTTP 503, unavailable). Ask again. instance="us"
    [WARN] acme-siem: evidence unavailable: the vendor said no (HTTP 403, forbidden). Ask again. instance="us"
    [ERROR] acme-siem: poll failed: the vendor said no (HTTP 401, unauthorized). Ask again. instance="us"
    [INFO] acme-siem: instance "us": Poll every 15 minutes.
    [INFO] acme-siem: instance "us" degraded: 2 new and 0 repeated artifacts, 4 requests in 1 step, 7 ms
    "#);
    let again = crate::log::captured(|| cycle.log("acme-siem", "us", |stream| stream == "evidence"));
    assert_eq!(again.lines().count(), text.lines().count() - 1, "{again}");
    assert!(!again.contains("evidence"), "{again}");
}

#[tokio::test]
async fn a_long_wait_is_left_to_a_caller_that_wants_it_and_is_no_failure() {
    let mut bench = Bench::new();
    bench.options.defer_waits = true;
    let cycle = bench.cycle(&Scripted::new([limited("a", 61)])).await;
    assert_eq!((cycle.end, cycle.status()), (End::Deferred, Status::Ok));
    assert_eq!(cycle.retry_after, Some(Duration::from_secs(61)));
    assert_eq!(bench.checkpoint().as_deref(), Some("a"), "the step itself is committed");
}

#[tokio::test]
async fn what_the_vendor_asked_for_at_the_end_of_a_cycle_is_told() {
    let bench = Bench::new();
    let last = Batch { retry_after_seconds: Some(30), ..batch(1..2, "b", false) };
    let cycle = bench.cycle(&Scripted::new([limited("a", 10), Ok(last)])).await;
    assert_eq!((cycle.end, cycle.retry_after), (End::Complete, Some(Duration::from_secs(30))));
    let cycle = bench.cycle(&Scripted::new([limited("a", 10), Ok(batch(2..3, "b", false))])).await;
    assert_eq!(cycle.retry_after, None, "the first wait is over");
}

#[tokio::test]
async fn a_stop_in_good_order_finishes_the_step_at_hand_and_begins_no_other() {
    let bench = Bench::new();
    let collector = Scripted::new([Ok(batch(1..3, "a", true)), Ok(batch(3..4, "b", true))]);
    let run = Run {
        collector: &collector,
        store: &bench.store,
        instance: &bench.instance,
        streams: &descriptor().streams,
        options: &bench.options,
        surroundings: Surroundings {
            now: &|| OffsetDateTime::UNIX_EPOCH,
            sleep: &|_| Box::pin(std::future::ready(())),
            progress: &|_| {},
            stopping: &|| true,
        },
    };
    let cycle = run.cycle(std::future::pending()).await;
    assert_eq!((cycle.end, cycle.steps, cycle.new), (End::Interrupted, 1, 2));
    assert_eq!(bench.checkpoint().as_deref(), Some("a"));
}

#[tokio::test]
async fn a_stop_during_a_wait_begins_no_other_step() {
    let bench = Bench::new();
    let collector = Scripted::new([limited("a", 5), Ok(batch(3..4, "b", true)), Ok(batch(4..5, "c", false))]);
    let stopping = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (set, get) = (stopping.clone(), stopping);
    let run = Run {
        collector: &collector,
        store: &bench.store,
        instance: &bench.instance,
        streams: &descriptor().streams,
        options: &bench.options,
        surroundings: Surroundings {
            now: &|| OffsetDateTime::UNIX_EPOCH,
            sleep: &move |_| {
                set.store(true, std::sync::atomic::Ordering::Relaxed);
                Box::pin(std::future::ready(()))
            },
            progress: &|_| {},
            stopping: &move || get.load(std::sync::atomic::Ordering::Relaxed),
        },
    };
    let cycle = run.cycle(std::future::pending()).await;
    assert_eq!((cycle.end, cycle.steps), (End::Interrupted, 1));
}

#[tokio::test]
async fn a_hint_of_an_earlier_step_stays() {
    let bench = Bench::new();
    let first = Batch { hint: Some("poll less".into()), ..batch(1..2, "a", true) };
    let collector = Scripted::new([Ok(first), Ok(batch(2..3, "b", false))]);
    assert_eq!(bench.cycle(&collector).await.hint.as_deref(), Some("poll less"));
}
