//! A supervisor with a poller that follows a script, in virtual time.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use futures::future::BoxFuture;

use super::*;
use crate::config::parse;
use crate::instances::report::{Cycle, End, State as StreamState, StreamOutcome};
use crate::resident::status::{InstanceStatus, Version};

/// What a poll does, by the instance's name and how often it was polled before: how long it takes, what comes of it.
pub(in crate::resident) type Act = Box<dyn Fn(&str, usize) -> (u64, Polled) + Send + Sync>;

/// A poller that follows a script.
pub(in crate::resident) struct Script {
    pub(in crate::resident) act: Act,
    pub(in crate::resident) began: Instant,
    /// Names and times of the polls so far, in the order of their beginnings.
    pub(in crate::resident) polls: Mutex<Vec<(String, Duration)>>,
    pub(in crate::resident) counts: Mutex<HashMap<String, usize>>,
    pub(in crate::resident) running: Arc<Mutex<HashSet<Uuid>>>,
    pub(in crate::resident) forgotten: Mutex<Vec<Uuid>>,
    pub(in crate::resident) most_at_once: AtomicUsize,
    pub(in crate::resident) served: AtomicBool,
    /// Minutes between polls where the configuration does not say.
    pub(in crate::resident) default_minutes: AtomicU64,
}

impl Poller for Script {
    fn interval(&self, config: &InstanceConfig) -> Duration {
        // As with a connector: what it says counts when it is there.
        let default =
            if self.served.load(Ordering::Relaxed) { self.default_minutes.load(Ordering::Relaxed) } else { 5 };
        Duration::from_mins(config.poll_interval_minutes.map_or(default, u64::from))
    }

    fn is_served(&self, _: &InstanceConfig) -> bool {
        self.served.load(Ordering::Relaxed)
    }

    fn poll(&self, record: Arc<Record>, mut stop: watch::Receiver<Phase>) -> BoxFuture<'static, Polled> {
        let (name, id) = (record.config.name.clone(), record.instance.id);
        {
            let mut running = lock(&self.running);
            assert!(running.insert(id), "two polls of {name} at once");
            self.most_at_once.fetch_max(running.len(), Ordering::Relaxed);
        }
        lock(&self.polls).push((name.clone(), self.began.elapsed()));
        let count = {
            let mut counts = lock(&self.counts);
            let count = counts.entry(name.clone()).or_default();
            *count += 1;
            *count - 1
        };
        let (takes, polled) = (self.act)(&name, count);
        let running = Arc::clone(&self.running);
        Box::pin(async move {
            let polled = tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(takes)) => polled,
                _ = stop.wait_for(|phase| *phase == Phase::Abandoning) => ended(End::Interrupted),
            };
            lock(&running).remove(&id);
            if let Polled::NotBegun(failure) = &polled
                && failure.code == "panic"
            {
                panic!("as the test wants");
            }
            polled
        })
    }

    fn forget(&self, id: Uuid) {
        lock(&self.forgotten).push(id);
    }
}

pub(in crate::resident) fn cycle(end: End) -> Box<Cycle> {
    let mut cycle = Cycle::new();
    cycle.end = end;
    cycle.steps = 1;
    Box::new(cycle)
}

pub(in crate::resident) fn of(cycle: Box<Cycle>) -> Polled {
    Polled::Cycle(cycle, Version { version: "1.0.0".into(), digest: "d".into() })
}

pub(in crate::resident) fn ended(end: End) -> Polled {
    of(cycle(end))
}

pub(in crate::resident) fn good() -> Polled {
    ended(End::Complete)
}

pub(in crate::resident) fn failed(code: &str) -> Polled {
    let mut cycle = cycle(End::Failed);
    cycle.steps = 0;
    cycle.failure = Some(FailureReport::new(code, "it failed", ""));
    of(cycle)
}

/// A cycle that collects something, and of which a stream fails; the vendor may ask for a pause.
pub(in crate::resident) fn partial(retry_after: Option<Duration>) -> Polled {
    let mut cycle = cycle(End::Complete);
    cycle.new = 1;
    cycle.retry_after = retry_after;
    cycle.streams = vec![StreamOutcome {
        name: "alerts".into(),
        noun: "alerts".into(),
        announced: true,
        fetched: 0,
        state: StreamState::Degraded(FailureReport::new("forbidden", "it failed", "")),
    }];
    of(cycle)
}

/// A supervisor with its surroundings.
pub(in crate::resident) struct Stage {
    pub(in crate::resident) dir: tempfile::TempDir,
    pub(in crate::resident) script: Arc<Script>,
    pub(in crate::resident) board: Arc<Board>,
    pub(in crate::resident) supervisor: Arc<Supervisor>,
    pub(in crate::resident) store: Store,
}

pub(in crate::resident) const START: i64 = 1_800_000_000;

impl Stage {
    pub(in crate::resident) fn new(
        parallel: usize,
        act: impl Fn(&str, usize) -> (u64, Polled) + Send + Sync + 'static,
    ) -> Self {
        Self::at(tempfile::tempdir().expect("temporary directory"), Instant::now(), parallel, act)
    }

    /// In a directory that may have a past; the clock showed START at `began`.
    pub(in crate::resident) fn at(
        dir: tempfile::TempDir,
        began: Instant,
        parallel: usize,
        act: impl Fn(&str, usize) -> (u64, Polled) + Send + Sync + 'static,
    ) -> Self {
        let store = Store::open(&dir.path().join("state")).expect("store");
        let start = OffsetDateTime::from_unix_timestamp(START).expect("time");
        let board = Arc::new(Board::new(Arc::new(move || start + began.elapsed()), parallel));
        let script = Arc::new(Script {
            act: Box::new(act),
            began,
            polls: Mutex::default(),
            counts: Mutex::default(),
            running: Arc::default(),
            forgotten: Mutex::default(),
            most_at_once: AtomicUsize::new(0),
            served: AtomicBool::new(true),
            default_minutes: AtomicU64::new(5),
        });
        let poller: Arc<dyn Poller> = script.clone();
        let supervisor = Arc::new(Supervisor::start(store.clone(), Arc::clone(&board), poller, parallel));
        Self { dir, script, board, supervisor, store }
    }

    /// Applies `[[instance]]` tables; each is a name and further lines.
    pub(in crate::resident) async fn apply(&self, instances: &[(&str, &str)]) {
        self.apply_on("", instances).await;
    }

    /// The same with these lines more for the host.
    pub(in crate::resident) async fn apply_on(&self, host: &str, instances: &[(&str, &str)]) {
        self.try_apply_on(host, instances).await.expect("applied");
    }

    /// The same, which may be refused.
    pub(in crate::resident) async fn try_apply_on(
        &self,
        host: &str,
        instances: &[(&str, &str)],
    ) -> Result<(), ConfigError> {
        let mut text = format!("[host]\nstate = \"s\"\nconnectors = \"c\"\nmost_instances_per_type = 100000\n{host}\n");
        for (name, more) in instances {
            text.push_str(&format!("[[instance]]\nname = \"{name}\"\nintegration_type = \"acme\"\n{more}\n"));
        }
        let config = parse(Path::new("c.toml"), &text).unwrap_or_else(|error| panic!("{error}"));
        self.supervisor.apply(Arc::new(config)).await
    }

    pub(in crate::resident) fn id(&self, name: &str) -> Uuid {
        self.status(name).id
    }

    pub(in crate::resident) fn status(&self, name: &str) -> InstanceStatus {
        self.board.instances().into_iter().find(|one| one.name == name).unwrap_or_else(|| panic!("no {name}"))
    }

    /// Seconds at which an instance was polled.
    pub(in crate::resident) fn polls(&self, name: &str) -> Vec<u64> {
        let polls = lock(&self.script.polls);
        polls.iter().filter(|(other, _)| other == name).map(|(_, at)| at.as_secs()).collect()
    }

    /// Seconds between the polls of an instance.
    pub(in crate::resident) fn gaps(&self, name: &str) -> Vec<u64> {
        self.polls(name).windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    /// Ends the host and gives its directory back.
    pub(in crate::resident) async fn end(self) -> tempfile::TempDir {
        self.supervisor.stop().await;
        self.dir
    }
}

pub(in crate::resident) async fn minutes(minutes: u64) {
    tokio::time::sleep(Duration::from_secs(60 * minutes)).await;
}
