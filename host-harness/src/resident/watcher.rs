//! The watcher: what operators change while the host runs.
//!
//! What: an edited configuration, a rotated secret, another connector. All take effect within seconds; a broken edit is
//! told with file, line and reason while the configuration before keeps running.
//! An edit that was refused is judged again, because its reason may be gone without another edit: as soon as another
//! connector serves one of the instances, and every half a minute.
//! Not guaranteed: an edit is judged when the file has been the same in two looks, so four seconds after it was saved.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::Instant;
use uuid::Uuid;

use super::board::Board;
use super::guard::guarded;
use super::poller::{Phase, Record, files};
use super::resolve;
use super::supervisor::{Supervisor, unchanged};
use super::tenant::ANSWERS_WITHIN;
use crate::config::watch::{EVERY, FileWatch, Look};
use crate::config::{self, Config, ConfigError, InstanceConfig};
use crate::connectors::registry::NotGranted;
use crate::connectors::serving::Serving;
use crate::locks::lock;

/// After how long an edit that was refused is judged again.
const JUDGE_AGAIN: Duration = Duration::from_secs(30);

/// Watches until it is told to stop.
pub struct Watcher {
    file: Arc<Mutex<FileWatch>>,
    /// Looks at the files of instances that are under way, one for each directory: a file system that does not answer holds
    /// up nothing but those that lie there.
    looking: JoinSet<(PathBuf, HashMap<PathBuf, Look>)>,
    /// Their directories.
    under_way: HashSet<PathBuf>,
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
        let file = Arc::new(Mutex::new(file));
        let mut watcher = Self {
            file,
            looking: JoinSet::new(),
            under_way: HashSet::new(),
            again: None,
            running,
            supervisor,
            serving,
            board,
            looks,
            versions,
        };
        // At the start, before anything else is under way; but a file system that does not answer must not keep it up.
        let unknown = unknown_files(&watcher.looks, &config);
        let (seen, looked) = std::sync::mpsc::channel();
        // Without a thread nothing comes from it.
        let looking = move || drop(seen.send(look(unknown, &HashMap::new())));
        drop(std::thread::Builder::new().name("first-look".to_owned()).spawn(looking));
        watcher.looks = looked.recv_timeout(ANSWERS_WITHIN).unwrap_or_default();
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
            let seen = tokio::select! {
                _ = stop.wait_for(|phase| *phase != Phase::Running) => return,
                Some(looked) = self.looking.join_next() => Seen::Files(looked.unwrap_or_default()),
                _ = ticks.tick() => Seen::Time,
                Ok(()) = changes.changed() => Seen::Connectors,
            };
            let woken = match seen {
                Seen::Files((directory, looks)) => {
                    self.under_way.remove(&directory);
                    self.new_files(looks, &self.supervisor.records())
                }
                Seen::Connectors => {
                    let records = self.supervisor.records();
                    let mut woken = self.new_connectors(&records);
                    if !woken.is_empty() && self.again.is_some() {
                        // At the next look: the file may be being written.
                        self.again = Some(Instant::now());
                    }
                    woken.extend(self.not_granted(&records));
                    woken
                }
                Seen::Time => {
                    let (edited, is_at_rest) = self.look_at_configuration().await;
                    if edited || (is_at_rest && self.again.is_some_and(|at| at <= Instant::now())) {
                        self.reload(edited, &granting).await;
                    }
                    self.look_at_files();
                    Vec::new()
                }
            };
            self.supervisor.wake(woken);
        }
    }

    /// Looks at the configuration: whether it has another content, and whether nothing is being written.
    async fn look_at_configuration(&self) -> (bool, bool) {
        let file = Arc::clone(&self.file);
        let look = move || {
            let mut file = lock(&file);
            (file.look(), file.is_at_rest())
        };
        spawn_blocking(look).await.unwrap_or_default()
    }

    /// Begins to look at the files of instances, but where the last look is still under way.
    fn look_at_files(&mut self) {
        let mut directories: HashMap<PathBuf, HashSet<PathBuf>> = HashMap::new();
        for file in all_files(&self.supervisor.records()) {
            let directory = file.parent().unwrap_or(Path::new("")).to_owned();
            directories.entry(directory).or_default().insert(file);
        }
        for (directory, files) in directories {
            if !self.under_way.insert(directory.clone()) {
                continue;
            }
            let known = |file: &PathBuf| Some((file.clone(), self.looks.get(file)?.clone()));
            let before: HashMap<PathBuf, Look> = files.iter().filter_map(known).collect();
            self.looking.spawn_blocking(move || (directory, look(files, &before)));
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
                for told in resolve::for_another_version(&config, |kind| self.serving.current(kind)) {
                    tracing::warn!("{told}");
                }
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
        let records: HashMap<&str, &Record> =
            records.iter().map(|record| (record.config.name.as_str(), &**record)).collect();
        let known = |instance: &InstanceConfig| {
            records.get(instance.name.as_str()).is_some_and(|record| unchanged(record, &config, instance))
        };
        let problems = resolve::check(&config, known, |kind| self.serving.current(kind)).await;
        if !problems.is_empty() {
            return Err(ConfigError { problems });
        }
        self.know_files(&config).await;
        self.know_connectors(&config);
        self.supervisor.apply(Arc::clone(&config)).await?;
        // Not before: what is refused grants nothing. Whoever was polled in between and lacked it is woken.
        granting(&config);
        Ok(config)
    }

    /// Looks at the files of instances that were not looked at before.
    async fn know_files(&mut self, config: &Config) {
        let unknown = unknown_files(&self.looks, config);
        // Those of a file system that does not answer are new when it does.
        let looking = spawn_blocking(move || look(unknown, &HashMap::new()));
        if let Ok(Ok(looks)) = tokio::time::timeout(ANSWERS_WITHIN, looking).await {
            self.looks.extend(looks);
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
    fn new_files(&mut self, looks: HashMap<PathBuf, Look>, records: &[Arc<Record>]) -> Vec<Uuid> {
        let is_new = |file: &PathBuf, now: &Look| self.looks.get(file).is_some_and(|before| before.differs(now));
        let changed: HashSet<PathBuf> =
            looks.iter().filter(|(file, now)| is_new(file, now)).map(|(file, _)| file.clone()).collect();
        // Those of instances that are gone are forgotten; those of instances that came meanwhile stay known.
        let all = all_files(records);
        self.looks.extend(looks);
        self.looks.retain(|file, _| all.contains(file));
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

/// What the watcher has seen.
enum Seen {
    /// The files of instances in a directory.
    Files((PathBuf, HashMap<PathBuf, Look>)),
    /// That other connectors serve, or something else is granted.
    Connectors,
    /// That it is time to look.
    Time,
}

/// Looks at files; `before` is what they looked like.
fn look(files: HashSet<PathBuf>, before: &HashMap<PathBuf, Look>) -> HashMap<PathBuf, Look> {
    let one = |file: PathBuf| {
        let look = Look::at(&file, before.get(&file));
        (file, look)
    };
    files.into_iter().map(one).collect()
}

/// The files that instances are polled with.
fn all_files(records: &[Arc<Record>]) -> HashSet<PathBuf> {
    records.iter().flat_map(|record| files(&record.config, &record.whole)).collect()
}

/// Those of a configuration that were not looked at before.
fn unknown_files(looks: &HashMap<PathBuf, Look>, config: &Config) -> HashSet<PathBuf> {
    let all = config.instances.iter().flat_map(|instance| files(instance, config));
    all.filter(|file| !looks.contains_key(file)).collect()
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
        host.config.left_out = config.left_out.iter().map(ToString::to_string).collect();
        host.config.needs_restart = needs_restart;
        host.routes = config.host.routes.texts();
    });
}

#[cfg(test)]
mod tests;
