//! The registry: connectors come, prove themselves, serve and go while tenants are polled.
//!
//! What: a directory is looked at every [`LOOK_EVERY`]. A new component is digested, audited, compiled aside, asked to
//! describe itself, tried on the live instances, kept to what the operator grants, and only then put in place of the
//! one before, which finishes its polls and is put back when the new one fails in its first ones. What fails goes into
//! quarantine. Where the configuration names the components that are approved, no other is even compiled.
//! Why this order: whatever a file holds, what serves goes on serving until something better has been shown.
//! Not guaranteed: that a connector which passes is well-meaning. It reaches what the operator grants and nothing else.

mod canary;
mod files;
mod grant;
mod home;
mod kept;
mod life;
mod look;
mod operator;
mod pins;
mod quarantine;
mod report;
mod state;
mod tidy;
mod trial;
mod trying;
mod turns;
mod verdict;
mod versions;

#[cfg(test)]
mod tests;

pub use canary::outcome;
pub use files::is_connector;
pub use grant::OriginError;
pub use grant::is_among;
pub use grant::origin;
pub use home::RecordError;
pub use operator::Confirmed;
pub use operator::Granted;
pub use operator::Listing;
pub use operator::Operator;
pub use operator::OperatorError;
pub use operator::Wanted;
pub use pins::Allowed;
pub use pins::NotApproved;
pub use pins::NotGranted;
pub use versions::precedence;

pub(super) use pins::Ceiling;

use super::Connector;
use super::apart::Apart;
use super::serving::{ConnectorReport, ConnectorState, LiveInstances, PollOutcome, Serving, integration_type};
use crate::locks::lock;
use crate::sandbox::{Clock, Engine};
use files::Files;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use home::Home;
use quarantine::Quarantine;
use sha2::{Digest as _, Sha256};
use state::State;
use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::sync::{OnceCell, Semaphore, watch};
use trial::{COMPILERS, Loader};
use turns::Turns;
use uuid::Uuid;

/// How often the directory and the operator's records are looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Longest time from the bytes of a component to its description. The largest that is allowed takes a few seconds on
/// two CPUs.
pub const COMPILE_TIME: Duration = Duration::from_secs(30);

/// How a registry is set up.
#[derive(Clone, Debug)]
pub struct RegistryOptions {
    /// Where connectors are: files that end in `.wasm`.
    pub directory: PathBuf,
    /// The host's state directory; the registry uses `connectors/` in it.
    pub state: PathBuf,
    /// Where compiled code is kept; in the state directory when not given.
    pub cache: Option<PathBuf>,
    /// What the configuration allows.
    pub allowed: Allowed,
    /// The time.
    pub clock: Clock,
    /// Longest time for compiling; see [`COMPILE_TIME`].
    pub compile_time: Duration,
    /// How components are compiled in a process of their own; in this one when nothing is said.
    pub apart: Option<Apart>,
}

/// The connectors of a host. Clones are the same registry.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

/// What clones share.
struct Inner {
    home: Home,
    quarantine: Quarantine,
    ceiling: Arc<Ceiling>,
    clock: Clock,
    loader: Loader,
    files: Arc<Mutex<Files>>,
    state: Mutex<State>,
    /// Which contents are being judged.
    turns: Turns,
    /// Places of components whose bytes are in memory to be compiled.
    in_memory: Semaphore,
    /// Done once, before the first look.
    restored: OnceCell<()>,
    /// What was last written to disk.
    written: Mutex<Vec<ConnectorReport>>,
    /// Why the last report could not be written, so that it is said once.
    unwritten: Mutex<String>,
    /// What the last look complained of, so that it is said once.
    complaints: Mutex<Vec<String>>,
    /// When it was last looked for failures that may be forgotten.
    failures_looked: Mutex<Option<OffsetDateTime>>,
    /// What was granted to the types that serve at the last look.
    granted: Mutex<BTreeMap<String, String>>,
    changes: watch::Sender<u64>,
    /// Whether everything that was there at the start was judged.
    looked: watch::Sender<bool>,
}

impl Registry {
    /// Opens a registry. Nothing is loaded before the first scan.
    ///
    /// # Errors
    /// When its place in the state directory cannot be used.
    pub fn open(engine: Engine, options: RegistryOptions) -> Result<Self, RecordError> {
        let home = Home::open(&options.state)?;
        let build = format!("{} {}", engine.compatibility(), env!("CARGO_PKG_VERSION"));
        let quarantine = Quarantine::new(home.clone(), super::hex(&Sha256::digest(build)));
        trying::settle(&home, &quarantine, options.clock.now());
        let inner = Inner {
            quarantine,
            ceiling: Arc::new(Ceiling::new(home.clone(), options.clock.clone(), options.allowed)),
            loader: Loader {
                engine,
                cache: options.cache.unwrap_or_else(|| home.compiled()),
                time: options.compile_time,
                apart: options.apart,
                places: Arc::new(Semaphore::new(COMPILERS)),
                home: home.clone(),
                under_way: Arc::default(),
            },
            clock: options.clock,
            files: Arc::new(Mutex::new(Files::new(&options.directory))),
            state: Mutex::default(),
            turns: Turns::default(),
            in_memory: Semaphore::new(COMPILERS),
            restored: OnceCell::new(),
            written: Mutex::default(),
            unwritten: Mutex::default(),
            complaints: Mutex::default(),
            failures_looked: Mutex::default(),
            granted: Mutex::default(),
            changes: watch::Sender::new(0),
            looked: watch::Sender::new(false),
            home,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Takes over a changed configuration and what it allows. What is held, or in quarantine because of the settings of an
    /// instance, is judged again at the next look, and what
    /// was asked for so far is forgotten: who asked may be gone or ask for something else by now, and whoever still asks
    /// does so again.
    pub fn grant(&self, allowed: Allowed) {
        let mut changed = self.inner.ceiling.configure(allowed);
        let asking: Vec<String> = {
            let state = lock(&self.inner.state);
            let serving = state.serving.values().map(|served| served.connector.digest());
            let held = state.files.values().filter(|entry| entry.state == ConnectorState::Held);
            serving.chain(held.map(|entry| entry.digest.as_str())).map(str::to_owned).collect()
        };
        for digest in asking.iter().filter(|digest| self.inner.ceiling.is_held(digest)) {
            self.inner.ceiling.release(digest);
            changed = true;
        }
        if changed {
            self.inner.changed();
        }
        let state = lock(&self.inner.state);
        let waiting: Vec<String> =
            state.files.values().filter(|entry| entry.is_unfit()).map(|entry| entry.digest.clone()).collect();
        drop(state);
        for digest in waiting {
            self.inner.quarantine.hasten(&digest, self.inner.clock.now());
        }
    }

    /// Looks at the directory once and sees everything that is found through to its end. The first scan begins with
    /// the versions that proved themselves before a restart. A file that was written a moment ago is judged by the
    /// next scan.
    pub async fn scan(&self, live: &dyn LiveInstances) {
        let mut judgements: FuturesUnordered<_> =
            self.inner.look(live).await.into_iter().map(|job| self.inner.judge(job, live)).collect();
        while judgements.next().await.is_some() {}
        self.inner.publish().await;
    }

    /// Waits until everything that was there at the first two looks of [`Registry::watch`] was judged: a file that was
    /// written a moment before is judged at the second.
    pub async fn looked(&self) {
        // The sender lives as long as this.
        let _ = self.inner.looked.subscribe().wait_for(|looked| *looked).await;
    }

    /// Scans every [`LOOK_EVERY`] until `stop` ends. A component that takes long to load or to try holds up no other.
    pub async fn watch(&self, live: &dyn LiveInstances, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        let mut judgements = FuturesUnordered::new();
        let mut looks = tokio::time::interval(LOOK_EVERY);
        let (mut looked, mut first) = (0_u32, None);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = &mut stop => return,
                Some(()) = judgements.next(), if !judgements.is_empty() => {}
                _ = looks.tick() => {
                    judgements.extend(self.inner.look(live).await.into_iter().map(|job| self.inner.judge(job, live)));
                    looked = looked.saturating_add(1);
                    if looked == 2 {
                        first = Some(lock(&self.inner.state).judgements);
                    }
                }
            }
            if first.is_some_and(|last| !lock(&self.inner.state).is_judging(last)) {
                first = None;
                self.inner.looked.send_replace(true);
            }
            self.inner.publish().await;
        }
    }
}

impl Serving for Registry {
    fn current(&self, integration_type: &str) -> Option<Connector> {
        let state = lock(&self.inner.state);
        let connector = state.serving.get(integration_type)?.connector.clone();
        Some(connector.beside(state.keys(integration_type)))
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    fn polled(&self, connector: &Connector, instance: Uuid, outcome: PollOutcome) {
        self.inner.polled(&integration_type(connector.slug()), connector.digest(), instance, outcome);
    }

    fn report(&self) -> Vec<ConnectorReport> {
        report::rows(&lock(&self.inner.state))
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("home", &self.inner.home).finish_non_exhaustive()
    }
}
