//! The next step goes on beside the check and the commit of one.

use super::*;

/// Holds the lock of the database until it is asked for the second step.
struct Holding {
    script: Scripted,
    lock: Mutex<rusqlite::Connection>,
}

impl Collector for Holding {
    type Yield = Batch;

    async fn poll(&self, checkpoint: Option<Vec<u8>>, budget: Budget) -> (Result<Batch, FailureReport>, Usage) {
        let change = if checkpoint.is_none() { "BEGIN IMMEDIATE" } else { "ROLLBACK" };
        self.lock.lock().expect("lock").execute_batch(change).expect("the lock of the database");
        self.script.poll(checkpoint, budget).await
    }
}

#[tokio::test]
async fn the_next_step_is_under_way_while_one_is_stored() {
    let bench = Bench::new();
    let database = rusqlite::Connection::open(bench.dir.path().join("state/state.sqlite")).expect("database");
    let script = Scripted::new([Ok(batch(1..4, "a", true)), Ok(batch(3..6, "b", false))]);
    let cycle = bench.cycle(&Holding { script, lock: Mutex::new(database) }).await;
    assert_eq!((cycle.end, cycle.steps, cycle.new, cycle.repeated), (End::Complete, 2, 5, 1));
    assert_eq!(bench.checkpoint().as_deref(), Some("b"));
}

/// A step that is found to be against the contract no sooner than the next one is under way.
struct Refused(Batch, std::sync::mpsc::Receiver<()>);

impl Yield for Refused {
    fn batch(&self) -> &Batch {
        &self.0
    }

    fn checked(self) -> Result<Batch, FailureReport> {
        self.1.recv_timeout(Duration::from_secs(60)).expect("the next step");
        Err(FailureReport::new("bad-batch", "artifact 0: it is not a JSON object".to_owned(), "Report this."))
    }
}

/// Yields one that is refused, and then waits for ever.
struct Refusing(Mutex<Option<std::sync::mpsc::Sender<()>>>);

impl Collector for Refusing {
    type Yield = Refused;

    async fn poll(&self, _: Option<Vec<u8>>, _: Budget) -> (Result<Refused, FailureReport>, Usage) {
        let before = self.0.lock().expect("lock").take();
        if let Some(next) = before {
            next.send(()).expect("somebody checks");
            return std::future::pending().await;
        }
        let (next, checks) = std::sync::mpsc::channel();
        *self.0.lock().expect("lock") = Some(next);
        (Ok(Refused(batch(1..3, "a", true), checks)), Usage::default())
    }
}

#[tokio::test]
async fn artifacts_are_checked_beside_the_next_step_and_if_they_are_refused_neither_step_counts() {
    let bench = Bench::new();
    let cycle = bench.cycle(&Refusing(Mutex::default())).await;
    assert_eq!((cycle.end, cycle.steps, cycle.new), (End::Failed, 0, 0));
    assert_eq!(cycle.first_failure().map(|f| f.code.as_str()), Some("bad-batch"));
    assert_eq!((bench.checkpoint(), bench.store.counts().expect("counts").artifacts), (None, 0));
}

#[tokio::test]
async fn what_comes_after_a_step_that_cannot_be_stored_is_dropped() {
    let bench = Bench::new();
    let mut bad = batch(1..3, "a", true);
    bad.artifacts.push(Artifact { id: "none".into(), stream: "events".into(), json: "{}".into() });
    let cycle = bench.cycle(&Scripted::new([Ok(bad), Ok(batch(4..6, "b", false))])).await;
    assert_eq!((cycle.end, cycle.steps, cycle.new), (End::Failed, 0, 0));
    assert_eq!(cycle.first_failure().map(|f| f.code.as_str()), Some("artifact-id"));
    assert_eq!((bench.checkpoint(), bench.store.counts().expect("counts").artifacts), (None, 0));
}

#[tokio::test]
async fn a_step_that_is_being_stored_when_a_stop_comes_is_stored_and_counted() {
    let bench = Bench::new();
    let database = rusqlite::Connection::open(bench.dir.path().join("state/state.sqlite")).expect("database");
    let collector = Holding { script: Scripted::new([Ok(batch(1..3, "a", true))]), lock: Mutex::new(database) };
    let stop = std::future::poll_fn(|context| {
        context.waker().wake_by_ref();
        let polls = collector.script.checkpoints.lock().expect("lock").len();
        if polls == 2 { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    });
    let cycle = bench.cycle_with(&collector, &|_| {}, stop).await;
    assert_eq!((cycle.end, cycle.steps, cycle.new), (End::Interrupted, 1, 2));
    assert_eq!(bench.checkpoint().as_deref(), Some("a"));
}
