//! The watcher: what operators change while the host runs.
//!
//! What: an edited configuration, a rotated secret, another connector. All take effect within seconds; a broken edit is
//! told with file, line and reason while the configuration before keeps running.
//! An edit that was refused is judged again, because its reason may be gone without another edit: as soon as another
//! connector serves one of the instances, and every half a minute.
//! Not guaranteed: an edit is judged when the file has been the same in two looks, so four seconds after it was saved.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use super::board::Board;
use super::guard::guarded;
use super::poller::{Phase, Record, files};
use super::resolve;
use super::supervisor::{Supervisor, unchanged};
use crate::config::watch::{EVERY, FileWatch, Look};
use crate::config::{self, Config, ConfigError};
use crate::connectors::registry::NotGranted;
use crate::connectors::serving::Serving;

/// After how long an edit that was refused is judged again.
const JUDGE_AGAIN: Duration = Duration::from_secs(30);

/// Watches until it is told to stop.
pub struct Watcher {
    file: FileWatch,
    /// When the edit that was refused last is judged again.
    again: Option<Instant>,
    running: Arc<Config>,
    supervisor: Arc<Supervisor>,
    serving: Arc<dyn Serving>,
    board: Arc<Board>,
    /// The files that instances are polled with, as they were last seen.
    looks: HashMap<PathBuf, Look>,
    /// Digests of the connectors by type, as they were last seen.
    versions: HashMap<String, String>,
}

impl Watcher {
    /// A watcher over the file of a configuration that is about to be applied: a secret that is rotated after a poll has
    /// read it is new only to whoever has looked before that poll. `file` has looked before the configuration was read,
    /// so that no edit is lost in between.
    #[must_use]
    pub fn new(
        file: FileWatch,
        running: Arc<Config>,
        supervisor: Arc<Supervisor>,
        serving: Arc<dyn Serving>,
        board: Arc<Board>,
    ) -> Self {
        let config = Arc::clone(&running);
        let (looks, versions) = (HashMap::new(), HashMap::new());
        let mut watcher = Self { file, again: None, running, supervisor, serving, board, looks, versions };
        watcher.know_files(&config);
        watcher
    }

    /// Watches. `granting` is told of every configuration that was taken, for what it grants to connectors.
    pub async fn run(self, stop: watch::Receiver<Phase>, granting: impl Fn(&Config) + Send) {
        let board = Arc::clone(&self.board);
        guarded(&board, "the watcher of the configuration", self.watch(stop, granting)).await;
    }

    async fn watch(mut self, mut stop: watch::Receiver<Phase>, granting: impl Fn(&Config) + Send) {
        let mut changes = self.serving.changes();
        // What was loaded since the first configuration was applied is news to whoever was polled before.
        let woken = self.new_connectors(&self.supervisor.records());
        self.supervisor.wake(woken);
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let connectors = tokio::select! {
                _ = stop.wait_for(|phase| *phase != Phase::Running) => return,
                _ = ticks.tick() => false,
                Ok(()) = changes.changed() => true,
            };
            let woken = if connectors {
                let records = self.supervisor.records();
                let mut woken = self.new_connectors(&records);
                if !woken.is_empty() && self.again.is_some() {
                    // At the next look: the file may be being written.
                    self.again = Some(Instant::now());
                }
                woken.extend(self.not_granted(&records));
                woken
            } else {
                let edited = self.file.look();
                if edited || (self.file.is_at_rest() && self.again.is_some_and(|at| at <= Instant::now())) {
                    self.reload(edited, &granting).await;
                }
                self.new_files(&self.supervisor.records())
            };
            self.supervisor.wake(woken);
        }
    }

    /// Takes the edited file, or one that was refused before, or says what is wrong with it.
    async fn reload(&mut self, edited: bool, granting: &(impl Fn(&Config) + Send)) {
        let taken = self.take(granting).await;
        self.again = taken.is_err().then(|| Instant::now() + JUDGE_AGAIN);
        match taken {
            Ok(config) => {
                let keys = self.running.host.needs_restart(&config.host);
                if !keys.is_empty() {
                    tracing::warn!("{} of [host] counts from the next start on", keys.join(", "));
                }
                loaded(&self.board, &config, keys);
                // What needs a restart is compared with what runs, not with the last edit.
                let host = self.running.host.clone();
                self.running = Arc::new(Config { host, ..config.as_ref().clone() });
            }
            // It was told before.
            Err(error) if !edited && self.board.host().config.problems == error.problems => {}
            Err(error) => {
                for problem in &error.problems {
                    tracing::error!("the configuration is not taken, the one before keeps running: {problem}");
                }
                self.board.change_host(|host| host.config.problems = error.problems);
            }
        }
    }

    async fn take(&mut self, granting: &(impl Fn(&Config) + Send)) -> Result<Arc<Config>, ConfigError> {
        let config = Arc::new(config::load(&self.running.file)?);
        let records = self.supervisor.records();
        let known = |instance: &_| unchanged(&records, &config, instance);
        let problems = resolve::check(&config, known, |kind| self.serving.current(kind)).await;
        if !problems.is_empty() {
            return Err(ConfigError { problems });
        }
        self.know_files(&config);
        self.know_connectors(&config);
        self.supervisor.apply(Arc::clone(&config)).await?;
        // Not before: what is refused grants nothing. Whoever was polled in between and lacked it is woken.
        granting(&config);
        Ok(config)
    }

    /// Looks at the files of instances that were not looked at before.
    fn know_files(&mut self, config: &Config) {
        for file in config.instances.iter().flat_map(|instance| files(instance, config)) {
            self.looks.entry(file).or_insert_with_key(|file| Look::at(file, None));
        }
    }

    /// Looks at the connectors of types that had no instance before.
    fn know_connectors(&mut self, config: &Config) {
        for instance in &config.instances {
            let kind = &instance.integration_type;
            if !self.versions.contains_key(kind) {
                self.versions.insert(kind.clone(), self.digest(kind));
            }
        }
    }

    /// The digest of what serves a type; empty when nothing does.
    fn digest(&self, kind: &str) -> String {
        self.serving.current(kind).map(|connector| connector.digest().to_owned()).unwrap_or_default()
    }

    /// The instances with a file that has another content than at the last look.
    fn new_files(&mut self, records: &[Arc<Record>]) -> Vec<Uuid> {
        let all: HashSet<PathBuf> = records.iter().flat_map(|record| files(&record.config, &record.whole)).collect();
        let mut changed = HashSet::new();
        let mut looks = HashMap::with_capacity(all.len());
        for file in all {
            let before = self.looks.remove(&file);
            let now = Look::at(&file, before.as_ref());
            if before.is_some_and(|before| before.differs(&now)) {
                changed.insert(file.clone());
            }
            looks.insert(file, now);
        }
        self.looks = looks;
        let new = |record: &&Arc<Record>| {
            record.config.enabled && files(&record.config, &record.whole).iter().any(|file| changed.contains(file))
        };
        let mut woken = Vec::new();
        for record in records.iter().filter(new) {
            let is_authority = record.whole.host.network.extra_ca_files.iter().any(|file| changed.contains(file));
            let what = if is_authority { "a file of authorities" } else { "a secret" };
            tracing::info!(instance = record.config.name, "{what} of {:?} has changed", record.config.name);
            woken.push(record.instance.id);
        }
        woken
    }

    /// The instances that wait for a grant. What is granted may have changed whenever anything about connectors has.
    fn not_granted(&self, records: &[Arc<Record>]) -> Vec<Uuid> {
        let waits = |id: &Uuid| {
            let status = self.board.instance(*id);
            status.and_then(|status| status.past.failure).is_some_and(|failure| failure.code == NotGranted::CODE)
        };
        records.iter().filter(|record| record.config.enabled).map(|record| record.instance.id).filter(waits).collect()
    }

    /// The instances that another connector serves than at the last look.
    fn new_connectors(&mut self, records: &[Arc<Record>]) -> Vec<Uuid> {
        let mut versions = HashMap::new();
        for record in records {
            let kind = &record.config.integration_type;
            if !versions.contains_key(kind) {
                versions.insert(kind.clone(), self.digest(kind));
            }
        }
        let changed = |record: &&Arc<Record>| {
            let kind = &record.config.integration_type;
            self.versions.get(kind) != versions.get(kind)
        };
        let new = records.iter().filter(changed).map(|record| record.instance.id).collect();
        self.versions = versions;
        new
    }
}

/// Writes on the board that a configuration was taken.
pub fn loaded(board: &Board, config: &Config, needs_restart: Vec<&'static str>) {
    let enabled = config.instances.iter().filter(|instance| instance.enabled).count();
    tracing::info!(
        "configuration {} taken: {}, {enabled} of them enabled",
        config.file.display(),
        crate::instances::report::counted(config.instances.len() as u64, "instance")
    );
    for doubt in config.doubts() {
        tracing::warn!("{doubt}");
    }
    let now = board.now();
    board.change_host(|host| {
        host.config.file.clone_from(&config.file);
        host.config.loaded = Some(now);
        host.config.problems = Vec::new();
        host.config.needs_restart = needs_restart;
    });
}

#[cfg(test)]
mod tests;
