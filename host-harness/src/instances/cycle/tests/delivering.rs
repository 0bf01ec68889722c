//! The courier beside a cycle: what is delivered, when, and that neither waits for the other.

use std::sync::mpsc::{Receiver, Sender, channel};

use super::super::super::courier::Courier;
use super::super::super::report::Delivered;
use super::*;
use crate::sinks::{LinesSink, Sink, SinkError};
use crate::store::Undelivered;

/// More than a test ever takes.
const LONG: Duration = Duration::from_secs(60);

/// A cycle with a courier, to its end.
async fn cycle_into(bench: &Bench, collector: &impl Collector, sink: impl Sink + 'static) -> Cycle {
    let courier = courier(bench, sink);
    let mut cycle = bench.cycle_with(collector, &|_| courier.ring(), std::future::pending()).await;
    cycle.delivered = Some(courier.finish(std::future::pending()).await);
    cycle
}

fn courier(bench: &Bench, sink: impl Sink + 'static) -> Courier {
    Courier::start(bench.store.clone(), bench.instance.clone(), sink)
}

fn count(cycle: &Cycle) -> Option<u64> {
    cycle.delivered.as_ref().map(|delivered| delivered.count)
}

#[tokio::test]
async fn every_step_is_delivered_and_only_what_is_new() {
    let bench = Bench::new();
    let file = bench.dir.path().join("out");
    let collector =
        Scripted::new([Ok(batch(1..4, "a", true)), Ok(batch(2..5, "b", true)), failed(FailureReason::Timeout, 504)]);
    let cycle = cycle_into(&bench, &collector, LinesSink::open(&file).expect("sink")).await;
    assert_eq!((cycle.new, cycle.repeated, count(&cycle)), (4, 2, Some(4)));
    assert_eq!(bench.lines(&file), 4);
}

#[tokio::test]
async fn what_an_earlier_cycle_stored_is_delivered_even_when_this_one_fails_at_once() {
    let bench = Bench::new();
    bench.cycle(&Scripted::new([Ok(batch(1..4, "a", false))])).await;
    let file = bench.dir.path().join("out");
    let collector = Scripted::new([failed(FailureReason::Unauthorized, 401)]);
    let cycle = cycle_into(&bench, &collector, LinesSink::open(&file).expect("sink")).await;
    assert_eq!((cycle.new, count(&cycle), cycle.status()), (0, Some(3), Status::Failed));
    assert_eq!(bench.lines(&file), 3);
}

/// Takes nothing, and counts how often it was tried.
struct Closed(Arc<AtomicU32>);

impl Sink for Closed {
    async fn deliver(&mut self, _: &[Undelivered]) -> Result<usize, SinkError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Err(SinkError::Write { output: "pipe".into(), source: std::io::ErrorKind::BrokenPipe.into() })
    }
}

#[tokio::test]
async fn an_output_that_fails_does_not_stop_the_collecting_and_is_not_tried_again() {
    let bench = Bench::new();
    let tried = Arc::new(AtomicU32::new(0));
    let collector = Scripted::new([Ok(batch(1..4, "a", true)), Ok(batch(4..6, "b", false))]);
    let cycle = cycle_into(&bench, &collector, Closed(tried.clone())).await;
    assert_eq!((cycle.end, cycle.status()), (End::Complete, Status::Degraded));
    assert_eq!((cycle.new, count(&cycle)), (5, Some(0)));
    assert_eq!(cycle.first_failure().map(|f| f.code.as_str()), Some("output-failed"));
    assert_eq!(bench.store.counts().expect("counts").undelivered, 5);
    assert_eq!(tried.load(Ordering::Relaxed), 1);
}

/// Breaks.
struct Broken;

impl Sink for Broken {
    async fn deliver(&mut self, _: &[Undelivered]) -> Result<usize, SinkError> {
        std::panic::resume_unwind(Box::new("broken"))
    }
}

#[tokio::test]
async fn an_output_that_breaks_off_is_a_failure_like_any_other() {
    let bench = Bench::new();
    let cycle = cycle_into(&bench, &Scripted::new([Ok(batch(1..4, "a", false))]), Broken).await;
    assert_eq!((cycle.end, cycle.new, cycle.status()), (End::Complete, 3, Status::Degraded));
    assert_eq!(cycle.first_failure().map(|f| f.code.as_str()), Some("host-error"));
    assert_eq!(bench.store.counts().expect("counts").undelivered, 3);
}

/// Says when it is given something, and takes it when it is told to.
struct Still {
    given: Sender<usize>,
    take: Receiver<()>,
}

impl Still {
    fn new() -> (Self, Receiver<usize>, Sender<()>) {
        let ((given, was_given), (may_take, take)) = (channel(), channel());
        (Self { given, take }, was_given, may_take)
    }
}

impl Sink for Still {
    async fn deliver(&mut self, artifacts: &[Undelivered]) -> Result<usize, SinkError> {
        self.given.send(artifacts.len()).expect("the test");
        self.take.recv_timeout(LONG).expect("to be told");
        Ok(artifacts.len())
    }
}

/// Its last step comes to its end when the output was given what the first has brought.
struct Following {
    script: Scripted,
    given: Mutex<Receiver<usize>>,
}

impl Collector for Following {
    type Yield = Batch;

    async fn poll(&self, checkpoint: Option<Vec<u8>>, budget: Budget) -> (Result<Batch, FailureReport>, Usage) {
        if checkpoint.as_deref() == Some(b"b") {
            self.given.lock().expect("lock").recv_timeout(LONG).expect("a delivery");
        }
        self.script.poll(checkpoint, budget).await
    }
}

#[tokio::test]
async fn steps_go_on_beside_an_output_that_stands_still() {
    let bench = Bench::new();
    let (sink, given, take) = Still::new();
    let steps = [Ok(batch(1..3, "a", true)), Ok(batch(3..4, "b", true)), Ok(batch(4..5, "c", false))];
    let collector = Following { script: Scripted::new(steps), given: Mutex::new(given) };
    let courier = courier(&bench, sink);
    let cycle = bench.cycle_with(&collector, &|_| courier.ring(), std::future::pending()).await;
    assert_eq!((cycle.end, cycle.new), (End::Complete, 4), "collected while the output took nothing");
    assert_eq!(bench.store.counts().expect("counts").undelivered, 4);
    // For what it has, and for what is left.
    (0..2).for_each(|_| take.send(()).expect("the output"));
    assert_eq!(courier.finish(std::future::pending()).await, Delivered { count: 4, failure: None });
}

#[tokio::test]
async fn who_is_told_to_leave_ends_what_is_at_hand_and_leaves_the_rest_in_the_outbox() {
    let bench = Bench::new();
    // More than a portion.
    bench.cycle(&Scripted::new([Ok(batch(1..1_500, "a", false))])).await;
    let (sink, given, take) = Still::new();
    let courier = courier(&bench, sink);
    let portion = given.recv_timeout(LONG).expect("a delivery");
    let mut left = pin!(courier.finish(std::future::ready(())));
    assert!(futures::poll!(&mut left).is_pending(), "the portion is at hand");
    take.send(()).expect("the output");
    let delivered = left.await;
    assert_eq!(delivered, Delivered { count: portion as u64, failure: None });
    assert_eq!(bench.store.counts().expect("counts").undelivered, 1_499 - portion as u64);
}
