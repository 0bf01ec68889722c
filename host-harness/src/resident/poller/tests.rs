//! Polls of a connector made in memory: what is kept between two, and what is made anew.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use time::OffsetDateTime;

use super::kept::MOST_KEPT;
use super::*;
use crate::config::parse;
use crate::connectors::fixtures::Fixture;
use crate::instances::failure::Retry;
use crate::instances::report::End;
use crate::resident::shelf::Shelf;
use crate::resident::status::{InstanceStatus, Past, State};
use crate::store::Identity;

/// A poller with its surroundings.
struct Desk {
    dir: tempfile::TempDir,
    shelf: Arc<Shelf>,
    store: Store,
    poller: ConnectorPoller,
    stored: Arc<AtomicUsize>,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(&dir.path().join("state")).expect("store");
        let start = OffsetDateTime::from_unix_timestamp(1_800_000_000).expect("time");
        let clock = Clock::virtual_at(start);
        let board = Arc::new(Board::new(Arc::new(move || start), 4));
        let shelf = Shelf::new();
        let serving: Arc<dyn Serving> = shelf.clone();
        let stored = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&stored);
        let poller = ConnectorPoller::new(serving, store.clone(), board, clock, move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        fs::write(dir.path().join("key"), "0123456789").expect("secret");
        Self { dir, shelf, store, poller, stored }
    }

    /// The record of an instance, in a configuration with these lines more.
    fn record(&self, name: &str, host: &str, settings: &str) -> Arc<Record> {
        let text = format!(
            "[host]\nstate = \"s\"\nconnectors = \"c\"\n{host}\n[[instance]]\nname = \"{name}\"\n\
             integration_type = \"fixture\"\n[instance.settings]\n{settings}\n[instance.secrets]\napi_key = \"file:key\"\n"
        );
        let file = self.dir.path().join("conductor.toml");
        let whole = Arc::new(parse(&file, &text).unwrap_or_else(|error| panic!("{error}")));
        let identity = Identity { handle: None, name, connector: "fixture" };
        let found = self.store.identify(&[identity], &[], self.poller.inner.clock.now()).expect("identified");
        let instance = found.into_iter().next().expect("one");
        Arc::new(Record { config: Arc::clone(&whole.instances[0]), instance, whole })
    }

    async fn poll(&self, record: &Arc<Record>) -> Polled {
        let (_running, stop) = watch::channel(Phase::Running);
        self.poller.poll(Arc::clone(record), stop).await
    }

    async fn good(&self, record: &Arc<Record>) -> Version {
        match self.poll(record).await {
            Polled::Cycle(cycle, version) if cycle.end == End::Complete => version,
            other => panic!("{other:?}"),
        }
    }

    async fn refused(&self, record: &Arc<Record>) -> FailureReport {
        match self.poll(record).await {
            Polled::NotBegun(failure) => failure,
            other => panic!("{other:?}"),
        }
    }

    /// The record that the tenant which is kept for an instance was made of.
    fn kept(&self, record: &Record) -> Option<Arc<Record>> {
        lock(&self.poller.inner.kept).get(&record.instance.id).map(|kept| Arc::clone(&kept.record))
    }

    /// The route that the requests of an instance take.
    fn kept_route(&self, record: &Record) -> Option<String> {
        lock(&self.poller.inner.kept).get(&record.instance.id)?.tenant.route().map(str::to_owned)
    }
}

#[tokio::test]
async fn a_poll_without_a_connector_says_what_to_do() {
    let desk = Desk::new();
    let record = desk.record("a", "", "");
    assert!(!desk.poller.is_served(&record.config));
    assert_eq!(desk.poller.interval(&record.config), Duration::from_mins(5));
    let failure = desk.refused(&record).await;
    assert_eq!((failure.code.as_str(), failure.retry), ("connector-missing", Retry::AfterChange));
    let remedy = format!("Put the connector into {}", desk.dir.path().join("c").display());
    assert!(failure.sentence().contains(&remedy), "{failure:?}");
}

#[tokio::test]
async fn a_tenant_is_kept_until_anything_it_is_made_of_changes() {
    let desk = Desk::new();
    desk.shelf.put(&Fixture::version("1.0.0")).await;
    let first = desk.record("a", "", "");
    assert_eq!(desk.good(&first).await.version, "1.0.0");
    assert_eq!(desk.stored.load(Ordering::Relaxed), 1, "the delivery is told of what was stored");
    // Another edit of the file, in which this instance is as it was.
    let same = desk.record("a", "", "");
    desk.good(&same).await;
    assert!(Arc::ptr_eq(&desk.kept(&first).expect("kept"), &first), "it was not made again");
    assert_eq!(desk.stored.load(Ordering::Relaxed), 1, "nothing new");
    for (host, settings) in [
        ("", "region = \"us\""),
        ("routes = [\"api.example.com=http://127.0.0.1:1\"]", "region = \"us\""),
        (
            "routes = [\"api.example.com=http://127.0.0.1:1\", \"other.example.com=http://127.0.0.1:1\"]\n\
             proxy = \"http://127.0.0.1:2\"",
            "region = \"us\"",
        ),
    ] {
        let other = desk.record("a", host, settings);
        desk.good(&other).await;
        assert!(Arc::ptr_eq(&desk.kept(&first).expect("kept"), &other), "{host} {settings}");
        let route = desk.kept_route(&first);
        let expected = host.contains("routes").then_some("api.example.com=http://127.0.0.1:1");
        assert_eq!(route.as_deref(), expected, "{host}: the one that it takes and no other");
    }
    let last = desk.record("a", "", "");
    desk.good(&last).await;
    // A secret that cannot be used shows at once, and a good one is used at once.
    fs::write(desk.dir.path().join("key"), "").expect("secret");
    let failure = desk.refused(&last).await;
    assert_eq!(failure.retry, Retry::AfterChange, "{failure:?}");
    fs::write(desk.dir.path().join("key"), "9876543210").expect("secret");
    let again = desk.record("a", "", "");
    desk.good(&again).await;
    assert!(Arc::ptr_eq(&desk.kept(&first).expect("kept"), &again), "the one with the old secret is gone");
    // Another version.
    desk.shelf.put(&Fixture::version("1.1.0")).await;
    assert_eq!(desk.good(&again).await.version, "1.1.0");
    desk.poller.forget(again.instance.id);
    assert!(desk.kept(&again).is_none());
}

#[tokio::test]
async fn what_is_forgotten_during_a_poll_is_not_kept_after_it() {
    let desk = Desk::new();
    desk.shelf.put(&Fixture::version("1.0.0")).await;
    let record = desk.record("a", "", "");
    let mut poll = Box::pin(desk.poll(&record));
    // It waits for a look at its files; nothing is kept yet.
    assert!(futures::poll!(&mut poll).is_pending());
    desk.poller.forget(record.instance.id);
    assert!(matches!(poll.await, Polled::Cycle(..)), "it is seen through to its end");
    assert!(desk.kept(&record).is_none());
    desk.good(&record).await;
    assert!(desk.kept(&record).is_some(), "an instance that is back is kept as any");
    assert!(lock(&desk.poller.inner.under_way).is_empty());
}

#[tokio::test]
async fn a_file_of_authorities_that_has_changed_counts_at_the_next_poll() {
    let desk = Desk::new();
    desk.shelf.put(&Fixture::version("1.0.0")).await;
    let file = desk.dir.path().join("ca.pem");
    let pem = || rcgen::generate_simple_self_signed(["proxy".to_owned()]).expect("a certificate").cert.pem();
    fs::write(&file, pem()).expect("authorities");
    let record = || desk.record("a", "extra_ca_files = [\"ca.pem\"]", "");
    let first = record();
    desk.good(&first).await;
    fs::write(&file, "").expect("authorities");
    let failure = desk.refused(&first).await;
    assert!(failure.sentence().contains("ca.pem"), "{failure:?}");
    fs::write(&file, pem()).expect("authorities");
    let again = record();
    desk.good(&again).await;
    assert!(Arc::ptr_eq(&desk.kept(&first).expect("kept"), &again), "the one with the old authority is gone");
}

#[tokio::test]
async fn no_more_tenants_are_kept_than_may_be_and_the_one_unused_for_longest_goes() {
    let desk = Desk::new();
    desk.shelf.put(&Fixture::version("1.0.0")).await;
    let records: Vec<_> = (0..=MOST_KEPT).map(|number| desk.record(&format!("t{number}"), "", "")).collect();
    for record in &records {
        desk.good(record).await;
        assert!(desk.poller.inner.clock.advance(Duration::from_secs(1)));
        if record.instance.id == records[1].instance.id {
            // Used again, so that it is not the oldest any more.
            desk.good(&records[0]).await;
            assert!(desk.poller.inner.clock.advance(Duration::from_secs(1)));
        }
    }
    assert_eq!(lock(&desk.poller.inner.kept).len(), MOST_KEPT);
    assert!(desk.kept(&records[1]).is_none());
    assert!(desk.kept(&records[0]).is_some() && desk.kept(&records[MOST_KEPT]).is_some());
}

#[tokio::test]
async fn what_a_poll_says_about_the_connector_is_told() {
    let desk = Desk::new();
    let record = desk.record("a", "", "");
    // One step with more to come, and a trap in the next.
    let late = "(if (local.get 2) (then unreachable)) (i32.store8 offset=24 (i32.const {batch}) (i32.const 1)) \
                (i32.const {batch})";
    for (poll, outcome) in [
        (late, PollOutcome::ConnectorFailed),
        (crate::connectors::fixtures::GOOD, PollOutcome::Worked),
        ("unreachable", PollOutcome::ConnectorFailed),
        ("(return (i32.const {bad}))", PollOutcome::ConnectorFailed),
        // Unauthorized.
        ("(return (i32.const {failure}))", PollOutcome::Inconclusive),
    ] {
        desk.shelf.put(&Fixture { poll, ..Fixture::version("1.0.0") }).await;
        let polled = desk.poll(&record).await;
        assert_eq!(lock(&desk.shelf.told).last(), Some(&outcome), "{poll}");
        if poll == late {
            assert!(matches!(polled, Polled::Cycle(cycle, _) if cycle.steps == 1), "it has stored something before");
        }
    }
}

#[tokio::test]
async fn what_keeps_a_poll_from_beginning_is_told_where_the_connector_is_to_blame() {
    let desk = Desk::new();
    let record = desk.record("a", "", "");
    for (configure, outcome) in [
        ("unreachable", PollOutcome::ConnectorFailed),
        // A host without a name.
        ("(i32.store offset=12 (i32.const {plan}) (i32.const 0))", PollOutcome::ConnectorFailed),
        ("(return (i32.const {refused}))", PollOutcome::Inconclusive),
    ] {
        desk.shelf.put(&Fixture { configure, ..Fixture::version("1.0.0") }).await;
        desk.refused(&record).await;
        assert_eq!(lock(&desk.shelf.told).last(), Some(&outcome), "{configure}");
    }
}

#[tokio::test]
async fn who_has_brought_a_days_worth_asks_its_vendor_for_nothing_until_the_next_day() {
    let desk = Desk::new();
    desk.shelf.put(&Fixture::version("1.0.0")).await;
    let record = desk.record("a", "", "");
    desk.poller.inner.board.put(InstanceStatus {
        id: record.instance.id,
        handle: None,
        name: "a".into(),
        integration_type: "fixture".into(),
        state: State::Degraded,
        since: desk.poller.inner.clock.now(),
        interval_minutes: 5,
        polling: false,
        next_poll: None,
        back_off: None,
        routes: Vec::new(),
        past: Past::default(),
    });
    let failed_with = |code: &str| {
        let failure = FailureReport::new(code, "it was so in the last poll", "");
        desk.poller.inner.board.change(record.instance.id, |status| status.past.failure = Some(Box::new(failure)));
    };
    // What the last poll met is over.
    for code in ["daily-limit", "state-failed", "state-full"] {
        failed_with(code);
        desk.good(&record).await;
    }
    desk.store.limit_daily(0);
    failed_with("daily-limit");
    let told = lock(&desk.shelf.told).len();
    assert_eq!(desk.refused(&record).await.code, "daily-limit");
    assert_eq!(lock(&desk.shelf.told).len(), told, "its connector was not called");
}
