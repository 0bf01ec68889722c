//! Which polls run when.
//!
//! One loop owns everything about scheduling: a queue of instances by the time
//! they are due, and the polls under way. Whoever is due longest is polled
//! first; no more polls run than may; an instance is never polled twice at once;
//! a turn that was missed is not made up for. A change of the configuration or of
//! a connector reaches an instance at its next poll, which is brought forward
//! when it was waiting for a mend.
//!
//! Not guaranteed: that a poll begins the moment it is due; when all places are
//! taken it waits for one.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::board::{Board, InstanceState};
use super::metrics::Metrics;
use super::poller::{self, Kept, SharedSurrounding};
use super::schedule::{self, Ended};
use crate::config::{Config, InstanceConfig};
use crate::connectors::Connector;
use crate::connectors::serving::{LiveInstance, LiveInstances, PollOutcome, Serving};
use crate::instances::failure::FailureReport;
use crate::instances::report::{Cycle, End};
use crate::sinks::{LinesSink, drain};
use crate::store::{self, Store};

/// How long polls under way may take to end when the host is stopped.
const GRACE: Duration = Duration::from_secs(90);

/// One instance that is configured and enabled.
struct Entry {
    config: Arc<InstanceConfig>,
    stored: store::Instance,
    /// When it is due; none while it is polled.
    due: Option<Instant>,
    /// When it was last due: the beat that its interval keeps.
    beat: Instant,
    failures: u32,
    polls: u64,
    kept: Option<Kept>,
    /// Whether the last poll ended with something that has to be mended.
    broken: bool,
}

/// What a poll came to.
struct Finished {
    name: String,
    config: Arc<InstanceConfig>,
    connector: Option<Connector>,
    cycle: Cycle,
    kept: Option<Kept>,
}

/// Runs the polls.
pub struct Supervisor {
    config: watch::Receiver<Arc<Config>>,
    serving: Arc<dyn Serving>,
    around: SharedSurrounding,
    board: Board,
    metrics: Metrics,
    entries: BTreeMap<String, Entry>,
    queue: BTreeSet<(Instant, String)>,
    polls: JoinSet<Finished>,
    stop: watch::Sender<bool>,
    live: Arc<Live>,
}

/// The instances that a new version of a connector has to prove itself on.
pub struct Live {
    around: SharedSurrounding,
    instances: Mutex<Vec<(Arc<InstanceConfig>, store::Instance)>>,
}

impl Live {
    /// Knows of no instance yet.
    #[must_use]
    pub fn new(around: SharedSurrounding) -> Arc<Self> {
        Arc::new(Self { around, instances: Mutex::default() })
    }
}

impl LiveInstances for Live {
    fn live<'a>(
        &'a self,
        integration_type: &'a str,
        connector: &'a Connector,
    ) -> Pin<Box<dyn Future<Output = Vec<Result<LiveInstance, FailureReport>>> + Send + 'a>> {
        Box::pin(async move {
            let instances = self.instances.lock().unwrap_or_else(PoisonError::into_inner).clone();
            instances
                .iter()
                .filter(|(config, _)| config.integration_type == integration_type)
                .map(|(config, stored)| {
                    let options = poller::tenant_options(config, connector, &self.around)?;
                    let checkpoint =
                        self.around.store.checkpoint(stored).map_err(|error| FailureReport::from(&error))?;
                    Ok(LiveInstance { id: stored.id, options, checkpoint })
                })
                .collect()
        })
    }
}

impl Supervisor {
    /// Sets up, so that the instances are known; nothing is polled yet.
    #[must_use]
    pub fn new(
        config: watch::Receiver<Arc<Config>>,
        serving: Arc<dyn Serving>,
        live: Arc<Live>,
        around: SharedSurrounding,
        board: Board,
        metrics: Metrics,
    ) -> Self {
        let mut supervisor = Self {
            config,
            serving,
            around,
            board,
            metrics,
            entries: BTreeMap::new(),
            queue: BTreeSet::new(),
            polls: JoinSet::new(),
            stop: watch::channel(false).0,
            live,
        };
        supervisor.configure();
        supervisor
    }

    /// Polls until `stop`, then lets the polls under way end.
    pub async fn run(mut self, stop: impl Future<Output = ()> + Send) {
        let mut stop = std::pin::pin!(stop);
        let mut served = self.serving.changes();
        loop {
            self.start_due();
            let next = self.queue.first().map(|(due, _)| *due).filter(|_| self.has_place());
            tokio::select! {
                biased;
                () = &mut stop => break,
                Some(finished) = self.polls.join_next(), if !self.polls.is_empty() => self.joined(finished).await,
                Ok(()) = self.config.changed() => self.configure(),
                Ok(()) = served.changed() => self.served(),
                () = sleep_until(next), if next.is_some() => {}
                else => break,
            }
        }
        self.end().await;
    }

    /// Lets the polls under way end their step.
    async fn end(&mut self) {
        // Nobody listens when nothing is under way.
        self.stop.send_replace(true);
        let deadline = Instant::now() + GRACE;
        while let Ok(Some(finished)) = tokio::time::timeout_at(deadline, self.polls.join_next()).await {
            self.joined(finished).await;
        }
    }

    /// Takes the configuration over.
    fn configure(&mut self) {
        let config = self.config.borrow_and_update().clone();
        let now = Instant::now();
        self.board.retain(|name| config.instances.iter().any(|instance| instance.name == name));
        let wanted = |name: &str| config.instances.iter().any(|instance| instance.enabled && instance.name == name);
        let gone: Vec<String> = self.entries.keys().filter(|name| !wanted(name)).cloned().collect();
        for name in gone {
            if let Some(entry) = self.entries.remove(&name)
                && let Some(due) = entry.due
            {
                self.queue.remove(&(due, name));
            }
        }
        for instance in &config.instances {
            if instance.enabled {
                self.configure_one(&config, instance, now);
            } else {
                self.board.instance(&instance.name, |shown| {
                    shown.name.clone_from(&instance.name);
                    shown.integration_type.clone_from(&instance.integration_type);
                    shown.state = InstanceState::Disabled;
                    shown.next_poll = None;
                });
            }
        }
        let live = self.entries.values().map(|entry| (entry.config.clone(), entry.stored.clone())).collect();
        *self.live.instances.lock().unwrap_or_else(PoisonError::into_inner) = live;
    }

    /// Takes one enabled instance over.
    fn configure_one(&mut self, config: &Config, instance: &InstanceConfig, now: Instant) {
        if let Some(entry) = self.entries.get_mut(&instance.name) {
            if *entry.config != *instance {
                entry.config = Arc::new(instance.clone());
                // Whoever mends something wants to see it.
                self.bring_forward(&instance.name, now);
            }
            return;
        }
        let slug = instance.integration_type.replace('_', "-");
        let clock_now = self.around.clock.now();
        let stored = self.around.store.instance_of(instance.id, &instance.name, &slug, clock_now);
        let stored = match stored {
            Ok(stored) => stored,
            Err(error) => {
                let failure = FailureReport::from(&error);
                tracing::error!(instance = instance.name, "instance {:?}: {}", instance.name, failure.sentence());
                self.board.instance(&instance.name, |shown| {
                    shown.name.clone_from(&instance.name);
                    shown.integration_type.clone_from(&instance.integration_type);
                    shown.take(&poller::failed(failure), clock_now);
                });
                return;
            }
        };
        let interval = self.interval(instance);
        let whole = config.host.first_poll_within_seconds.map_or(interval, Duration::from_secs).min(interval);
        let due = now + schedule::first_poll(stored.id, whole);
        self.board.instance(&instance.name, |shown| {
            shown.id = stored.id.to_string();
            shown.name.clone_from(&instance.name);
            shown.integration_type.clone_from(&instance.integration_type);
            shown.state = InstanceState::Starting;
            shown.interval_minutes = u32::try_from(interval.as_secs() / 60).unwrap_or(u32::MAX);
            shown.next_poll = Some(clock_now + (due - now));
            shown.routes = config
                .host
                .routes
                .iter()
                .map(|(host, url)| format!("{host}={}", url.as_str().trim_end_matches('/')))
                .collect();
        });
        let entry = Entry {
            config: Arc::new(instance.clone()),
            stored,
            due: Some(due),
            beat: due,
            failures: 0,
            polls: 0,
            kept: None,
            broken: false,
        };
        self.queue.insert((due, instance.name.clone()));
        self.entries.insert(instance.name.clone(), entry);
    }

    /// The connectors have changed: whoever waited for a mend is polled now.
    fn served(&mut self) {
        let now = Instant::now();
        let broken: Vec<String> =
            self.entries.iter().filter(|(_, entry)| entry.broken).map(|(name, _)| name.clone()).collect();
        for name in broken {
            self.bring_forward(&name, now);
        }
    }

    /// Makes an instance due at once, unless it is polled.
    fn bring_forward(&mut self, name: &str, now: Instant) {
        if let Some(entry) = self.entries.get_mut(name)
            && let Some(due) = entry.due
            && due > now
        {
            self.queue.remove(&(due, name.to_owned()));
            entry.due = Some(now);
            self.queue.insert((now, name.to_owned()));
        }
    }

    /// Time between two polls.
    fn interval(&self, instance: &InstanceConfig) -> Duration {
        let connector = self.serving.current(&instance.integration_type);
        let described = connector.as_ref().map(Connector::descriptor);
        let least = described.map_or(1, |descriptor| descriptor.minimum_poll_minutes);
        let default = described.map_or(5, |descriptor| descriptor.default_poll_minutes);
        let minutes = instance.poll_interval_minutes.unwrap_or(default).max(least).max(1);
        Duration::from_secs(60 * u64::from(minutes))
    }

    fn has_place(&self) -> bool {
        self.polls.len() < self.config.borrow().host.parallel_polls
    }

    /// Starts what is due, longest due first, as far as there are places.
    fn start_due(&mut self) {
        let now = Instant::now();
        while self.has_place() && self.queue.first().is_some_and(|(due, _)| *due <= now) {
            if let Some((due, name)) = self.queue.pop_first() {
                self.start(name, due);
            }
        }
    }

    fn start(&mut self, name: String, due: Instant) {
        let Some(entry) = self.entries.get_mut(&name) else { return };
        entry.due = None;
        entry.beat = due;
        let (config, stored, kept) = (entry.config.clone(), entry.stored.clone(), entry.kept.take());
        let connector = self.serving.current(&config.integration_type);
        let around = self.around.clone();
        let granted = self.config.borrow().grants.get(&config.integration_type).cloned();
        let mut stop = self.stop.subscribe();
        self.board.instance(&name, |shown| {
            shown.polling = true;
            shown.next_poll = None;
        });
        self.polls.spawn(async move {
            let (cycle, kept) = match &connector {
                None => (poller::failed(no_connector(&config.integration_type)), None),
                Some(connector) => {
                    let stop = async move {
                        // The sender lives as long as the supervisor.
                        let _ = stop.wait_for(|stop| *stop).await;
                    };
                    poller::poll(&config, &stored, connector, kept, granted.as_deref(), &around, stop).await
                }
            };
            Finished { name, config, connector, cycle, kept }
        });
    }

    /// A poll has ended.
    async fn joined(&mut self, finished: Result<Finished, tokio::task::JoinError>) {
        let finished = match finished {
            Ok(finished) => finished,
            Err(error) => {
                // Its entry stays without a turn until the configuration is taken again.
                tracing::error!("a poll broke off: {error}");
                let lost: Vec<String> = self
                    .entries
                    .iter()
                    .filter(|(_, entry)| entry.due.is_none())
                    .map(|(name, _)| name.clone())
                    .collect();
                if self.polls.is_empty() {
                    let due = Instant::now() + schedule::SLOW_RETRY;
                    for name in lost {
                        if let Some(entry) = self.entries.get_mut(&name) {
                            entry.due = Some(due);
                            self.queue.insert((due, name));
                        }
                    }
                }
                return;
            }
        };
        let Finished { name, config, connector, cycle, kept } = finished;
        let slug =
            connector.as_ref().map_or_else(|| config.integration_type.replace('_', "-"), |c| c.slug().to_owned());
        cycle.log(&slug, &name);
        let now = self.around.clock.now();
        self.metrics.polled(&name, &slug, &cycle);
        let Some(entry) = self.entries.get_mut(&name) else { return };
        if let Some(connector) = &connector {
            self.serving.polled(connector, entry.stored.id, outcome(&cycle));
        }
        entry.kept = kept;
        entry.polls = entry.polls.wrapping_add(1);
        let ended = ended(&cycle);
        entry.failures = if matches!(ended, Ended::Troubled { .. }) { entry.failures.saturating_add(1) } else { 0 };
        entry.broken = ended == Ended::Broken;
        let (id, failures, polls, beat) = (entry.stored.id, entry.failures, entry.polls, entry.beat);
        let stored = entry.stored.clone();
        let interval = self.interval(&config);
        let wait = schedule::until_next(id, interval, ended, failures, polls);
        let instant = Instant::now();
        // The beat is kept where that lies ahead; a turn that was missed is not made up for.
        let due = Some(beat + wait).filter(|due| ended == Ended::Well && *due > instant).unwrap_or(instant + wait);
        // A change of the configuration during the poll is a reason to look at once.
        let due = if self.entries.get(&name).is_some_and(|entry| *entry.config != *config) { instant } else { due };
        if let Some(entry) = self.entries.get_mut(&name) {
            entry.due = Some(due);
            self.queue.insert((due, name.clone()));
        }
        self.metrics.waiting(&name, if ended == Ended::Well { Duration::ZERO } else { wait });
        self.board.instance(&name, |shown| {
            shown.take(&cycle, now);
            shown.next_poll = Some(now + (due - instant));
            shown.interval_minutes = u32::try_from(interval.as_secs() / 60).unwrap_or(u32::MAX);
            if let Some(connector) = &connector {
                shown.connector_version.clone_from(&connector.descriptor().version);
                connector.digest().clone_into(&mut shown.connector_digest);
            }
        });
        self.deliver(&stored).await;
    }

    /// Empties the outbox of an instance. An output that is down stops nothing
    /// but this.
    async fn deliver(&self, stored: &store::Instance) {
        let output = self.config.borrow().host.output.clone();
        let store: &Store = &self.around.store;
        let failure = match output {
            None => None,
            Some(output) => match LinesSink::open(&output) {
                Err(error) => Some(FailureReport::from(&error)),
                Ok(mut sink) => {
                    let mut delivered = 0;
                    drain(store, stored, &mut sink, &mut delivered).await.err().map(|error| FailureReport::from(&error))
                }
            },
        };
        let undelivered = store.counts().map_or(0, |counts| counts.undelivered);
        self.metrics.undelivered(undelivered);
        let failure = failure.map(|failure| failure.sentence());
        if let Some(failure) = &failure {
            tracing::error!("delivery failed, artifacts wait in the store: {failure}");
        }
        self.board.host(|host| {
            host.undelivered = undelivered;
            host.output_failure = failure;
        });
    }
}

/// What the end of a cycle means for the next one.
fn ended(cycle: &Cycle) -> Ended {
    match (cycle.first_failure(), cycle.end) {
        (_, End::StepLimit) => Ended::Unfinished,
        (Some(failure), _) if cycle.failure.is_some() || cycle.new == 0 => Ended::of(failure),
        (Some(failure), _) => match Ended::of(failure) {
            // Something is collected: the rest is asked for at the usual time.
            Ended::Broken => Ended::Well,
            other => other,
        },
        (None, _) => Ended::Well,
    }
}

/// What a cycle says of its connector.
fn outcome(cycle: &Cycle) -> PollOutcome {
    const OWN: [&str; 5] = ["internal", "checkpoint-unreadable", "no-progress", "bad-batch", "plan"];
    match &cycle.failure {
        Some(failure) if failure.code.starts_with("guest-") || OWN.contains(&failure.code.as_str()) => {
            PollOutcome::ConnectorFailed
        }
        _ if cycle.steps > 0 => PollOutcome::Worked,
        _ => PollOutcome::Inconclusive,
    }
}

/// No connector serves the type.
fn no_connector(integration_type: &str) -> FailureReport {
    FailureReport::new(
        "no-connector",
        format!("no connector of type {integration_type} is loaded"),
        "Put its .wasm file into the directory of connectors, or see with `host-harness status` why it is not used.",
    )
}

/// Sleeps until an instant; for ever without one.
async fn sleep_until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
