//! One poll of one instance, from its configuration to what came of it.
//!
//! What: the connector that serves it now, its secrets as they are now, a tenant made of them, and a cycle.
//! Why a trait in front: the supervisor is proved with pollers that do what a test wants, in virtual time.
//! Not guaranteed: that a poll collects all that there is; one has a turn, and what is left comes with the next.

mod kept;
mod under_way;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use super::board::Board;
use super::resolve;
use super::status::Version;
use super::tenant::{misfit, on_a_thread, options};
use crate::config::{Config, InstanceConfig};
use crate::connectors::serving::{LiveInstance, NotReady, PollOutcome, Serving};
use crate::connectors::{Connector, Tenant, Unchecked};
use crate::contract::types::Budget;
use crate::instances::collector::Collector;
use crate::instances::cycle::{CycleOptions, Run, Surroundings};
use crate::instances::failure::FailureReport;
use crate::instances::report::{Cycle, State};
use crate::locks::lock;
use crate::sandbox::{Clock, Usage};
use crate::store::{Instance, Store};
use kept::Kept;
pub(super) use kept::{files, same};
use under_way::UnderWay;

/// What a poll may do in one turn. More steps than here follow when the others that are due have had theirs; waits that
/// a vendor asks for are left to the queue, because they would keep a place.
const OPTIONS: CycleOptions = CycleOptions {
    budget: Budget { requests: 500, artifacts: 5_000, artifact_bytes: 16 << 20, wall_time_milliseconds: 60_000 },
    most_steps: 10,
    longest_turn: Duration::from_mins(1),
    longest_wait: Duration::from_secs(5),
    most_waiting: Duration::from_secs(10),
    defer_waits: true,
};

/// An instance ready to be polled: its configuration and where its state is kept.
#[derive(Debug)]
pub struct Record {
    /// Its configuration.
    pub config: Arc<InstanceConfig>,
    /// Its place in the store.
    pub instance: Instance,
    /// The configuration it is part of.
    pub whole: Arc<Config>,
}

/// How far a stop has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// No stop.
    #[default]
    Running,
    /// Steps at hand are finished, no others begun.
    Finishing,
    /// Steps at hand are abandoned.
    Abandoning,
}

/// What came of a poll.
#[derive(Debug)]
pub enum Polled {
    /// A cycle, by a version of the connector.
    Cycle(Box<Cycle>, Version),
    /// It could not begin.
    NotBegun(FailureReport),
}

/// Polls instances.
pub trait Poller: Send + Sync + 'static {
    /// The time between polls of an instance.
    fn interval(&self, config: &InstanceConfig) -> Duration;

    /// Whether there is a connector for an instance.
    fn is_served(&self, config: &InstanceConfig) -> bool;

    /// Polls an instance once.
    fn poll(&self, record: Arc<Record>, stop: watch::Receiver<Phase>) -> BoxFuture<'static, Polled>;

    /// Forgets what is kept for an instance.
    fn forget(&self, id: Uuid);
}

/// The poller that runs connectors.
pub struct ConnectorPoller {
    inner: Arc<Inner>,
}

struct Inner {
    serving: Arc<dyn Serving>,
    store: Store,
    board: Arc<Board>,
    clock: Clock,
    /// Told of the instance after every step that stored something.
    stored: Box<dyn Fn() + Send + Sync>,
    kept: Mutex<HashMap<Uuid, Kept>>,
    /// Streams that were told to be unavailable, by instance.
    unavailable: Mutex<HashMap<Uuid, HashSet<String>>>,
    /// Polls under way, and whether their instance was forgotten meanwhile.
    under_way: Mutex<HashMap<Uuid, bool>>,
    /// Instances whose files are being looked at.
    looking: Arc<Mutex<HashSet<Uuid>>>,
    /// When it was last tried whether the store can be written, and what came of it.
    tried: tokio::sync::Mutex<Option<(Instant, Result<(), FailureReport>)>>,
}

/// How long that counts for all: one tries for those that come at once.
const TRIED_FOR: Duration = Duration::from_secs(5);

impl ConnectorPoller {
    /// A poller with connectors from `serving`, state in `store`, and `stored` told when artifacts wait for delivery.
    pub fn new(
        serving: Arc<dyn Serving>,
        store: Store,
        board: Arc<Board>,
        clock: Clock,
        stored: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let inner = Inner {
            serving,
            store,
            board,
            clock,
            stored: Box::new(stored),
            kept: Mutex::default(),
            unavailable: Mutex::default(),
            under_way: Mutex::default(),
            looking: Arc::default(),
            tried: tokio::sync::Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }
}

impl Poller for ConnectorPoller {
    fn interval(&self, config: &InstanceConfig) -> Duration {
        let connector = self.inner.serving.current(&config.integration_type);
        resolve::interval(config, connector.as_ref().map(Connector::descriptor))
    }

    fn is_served(&self, config: &InstanceConfig) -> bool {
        self.inner.serving.current(&config.integration_type).is_some()
    }

    fn poll(&self, record: Arc<Record>, stop: watch::Receiver<Phase>) -> BoxFuture<'static, Polled> {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            let _under_way = UnderWay::begin(&inner, record.instance.id);
            let tenant = match inner.try_store(&record.instance).await {
                Ok(()) => inner.tenant(&record).await,
                Err(failure) => Err(failure),
            };
            match tenant {
                Ok(tenant) => {
                    let route = tenant.route().map(str::to_owned);
                    inner.board.change(record.instance.id, |status| status.routes = route.into_iter().collect());
                    inner.cycle(&record, &tenant, stop).await
                }
                Err(failure) => {
                    let slug = record.config.integration_type.replace('_', "-");
                    let name = record.config.name.as_str();
                    tracing::error!(connector = slug, instance = name, "poll failed: {}", failure.sentence());
                    Polled::NotBegun(failure)
                }
            }
        })
    }

    fn forget(&self, id: Uuid) {
        self.inner.forget(id);
    }
}

impl Inner {
    /// Forgets what is kept for an instance, and what a poll of it that is under way is about to keep.
    fn forget(&self, id: Uuid) {
        if let Some(forgotten) = lock(&self.under_way).get_mut(&id) {
            *forgotten = true;
        }
        lock(&self.kept).remove(&id);
        lock(&self.unavailable).remove(&id);
    }

    /// Whether what an instance collects can be stored, as far as its last poll gives reason to doubt it: what is asked of
    /// a vendor and cannot be stored is asked for again, and takes from its allowance every time.
    async fn try_store(&self, instance: &Instance) -> Result<(), FailureReport> {
        let Some(failure) = self.board.instance(instance.id).and_then(|status| status.past.failure) else {
            return Ok(());
        };
        match failure.code.as_str() {
            "daily-limit" => {
                let (store, instance, now) = (self.store.clone(), instance.clone(), self.clock.now());
                let tried = on_a_thread("looking what came today", move || store.try_volume(&instance, now)).await?;
                tried.map_err(|error| FailureReport::from(&error))
            }
            code if code.starts_with("state-") => self.try_write().await,
            _ => Ok(()),
        }
    }

    /// Whether the store can be written.
    async fn try_write(&self) -> Result<(), FailureReport> {
        let mut last = self.tried.lock().await;
        if let Some((at, tried)) = &*last
            && at.elapsed() < TRIED_FOR
        {
            return tried.clone();
        }
        let store = self.store.clone();
        let tried = on_a_thread("trying the database", move || store.try_write()).await;
        let tried = tried.and_then(|tried| tried.map_err(|error| FailureReport::from(&error)));
        *last = Some((Instant::now(), tried.clone()));
        tried
    }

    /// Notes which streams are unavailable now, and gives those of which that was told before, since the start.
    fn tell_unavailable(&self, id: Uuid, cycle: &Cycle) -> HashSet<String> {
        // A cycle that says nothing of streams changes nothing.
        if cycle.streams.is_empty() {
            return HashSet::new();
        }
        let unavailable = cycle.streams.iter().filter(|stream| matches!(stream.state, State::Unavailable(_)));
        let now = unavailable.map(|stream| stream.name.clone()).collect();
        lock(&self.unavailable).insert(id, now).unwrap_or_default()
    }

    /// One cycle, with its log lines.
    async fn cycle(&self, record: &Record, tenant: &Tenant, stop: watch::Receiver<Phase>) -> Polled {
        let connector = tenant.connector();
        let collector = Observed { tenant, board: &self.board };
        let phase = stop.clone();
        let run = Run {
            collector: &collector,
            store: &self.store,
            instance: &record.instance,
            // Delivery is a task of its own: an output that is slow or down stops no poll.
            streams: &connector.descriptor().streams,
            options: &OPTIONS,
            surroundings: Surroundings {
                now: &|| self.clock.now(),
                sleep: &|wait| Box::pin(tokio::time::sleep(wait)),
                progress: &|cycle| {
                    if cycle.new > 0 {
                        (self.stored)();
                    }
                },
                stopping: &move || *phase.borrow() != Phase::Running,
            },
        };
        let mut stop = stop;
        let cycle = run
            .cycle(async move {
                if stop.wait_for(|phase| *phase == Phase::Abandoning).await.is_err() {
                    // Nobody is left who could stop it.
                    std::future::pending::<()>().await;
                }
            })
            .await;
        let before = self.tell_unavailable(record.instance.id, &cycle);
        cycle.log(connector.slug(), &record.config.name, |stream| before.contains(stream));
        self.serving.polled(connector, record.instance.id, verdict(&cycle));
        let version =
            Version { version: connector.descriptor().version.clone(), digest: connector.digest().to_owned() };
        Polled::Cycle(Box::new(cycle), version)
    }
}

/// What a cycle says about the connector.
fn verdict(cycle: &Cycle) -> PollOutcome {
    match &cycle.failure {
        // Whatever it has stored before: the next poll would fail there again, and what lies beyond is never collected.
        Some(failure) if failure.is_of_connector() => PollOutcome::ConnectorFailed,
        _ if cycle.steps > 0 => PollOutcome::Worked,
        // Who waits without having asked anybody for anything waits for nothing; else it may have been the vendor.
        Some(failure) if failure.code == "wall-clock-limit" && cycle.usage.requests == 0 => {
            PollOutcome::ConnectorFailed
        }
        _ => PollOutcome::Inconclusive,
    }
}

/// A tenant whose steps are counted.
struct Observed<'a> {
    tenant: &'a Tenant,
    board: &'a Board,
}

impl Collector for Observed<'_> {
    type Yield = Unchecked;

    async fn poll(&self, checkpoint: Option<Vec<u8>>, budget: Budget) -> (Result<Unchecked, FailureReport>, Usage) {
        let (result, usage) = Collector::poll(self.tenant, checkpoint, budget).await;
        self.board.count_step(self.tenant.connector().slug(), usage.wall, &usage.request_times);
        (result, usage)
    }
}

/// An instance for a new version to prove itself on, or why it cannot be set up for that version: what a poll would
/// refuse is to show before the version serves.
pub(super) async fn live(
    record: &Record,
    connector: &Connector,
    store: &Store,
    clock: Clock,
) -> Result<LiveInstance, NotReady> {
    let (store, instance) = (store.clone(), record.instance.clone());
    let steps = on_a_thread("reading its progress", move || store.steps(&instance))
        .await
        .and_then(|read| read.map_err(|error| FailureReport::from(&error)));
    // Every step leaves one.
    let has_checkpoint = matches!(steps, Ok(1..));
    let config = &*resolve::own(&record.config, connector);
    let options = match misfit(config, &record.whole, connector) {
        Some(failure) => Err(failure),
        None => options(config, &record.whole, clock).await,
    };
    let ready = match (options, steps) {
        (Ok(options), Ok(_)) => Ok(LiveInstance { id: record.instance.id, options, has_checkpoint }),
        (Err(failure), _) | (_, Err(failure)) => Err(failure),
    };
    ready.map_err(|failure| NotReady {
        id: record.instance.id,
        name: record.config.name.clone(),
        has_checkpoint,
        failure: Box::new(failure),
    })
}

/// The checkpoint of an instance, for a new version to try itself on.
pub(super) async fn checkpoint(record: &Record, store: &Store) -> Result<Option<Vec<u8>>, FailureReport> {
    let (store, instance) = (store.clone(), record.instance.clone());
    on_a_thread("reading its progress", move || store.checkpoint(&instance))
        .await
        .and_then(|read| read.map_err(|error| FailureReport::from(&error)))
}

#[cfg(test)]
mod tests;
