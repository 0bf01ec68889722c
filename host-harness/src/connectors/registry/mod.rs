//! Connectors from a directory, hot.
//!
//! The life of a file: seen twice the same (so that a half-copied one is not
//! judged); not in quarantine; audited, compiled and described off the hot
//! path; no older than what serves its type; asking for no more than was
//! granted; able to configure every live instance; one canary step of one of
//! them, whose result is thrown away. Then it serves, and polls under way end on
//! the version they began with. A version whose first polls all fail by its own
//! fault is taken back. What serves goes on serving whatever becomes of a
//! newcomer.
//!
//! A version is only taken back while none of its polls has stored anything, so
//! no checkpoint is ever newer than the version that has to read it. A canary's
//! result is never stored, for the same reason.
//!
//! Not guaranteed: a version that does harm slowly, after a first good step, is
//! not taken back by itself; see `host-harness connectors quarantine`.

mod records;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use semver::Version;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tokio::sync::watch;
use uuid::Uuid;

pub use records::{Pin, Quarantine, Records, origin};

use super::serving::{
    ConnectorReport, ConnectorState, LiveInstance, LiveInstances, PollOutcome, Serving, integration_type,
};
use super::{Connector, LoadError, hex};
use crate::contract::types::{Budget, FailureReason, Plan};
use crate::instances::failure::FailureReport;
use crate::sandbox::{Clock, Engine, StepError};

/// Time between two looks at the directory: a file is judged at the second.
pub const INTERVAL: Duration = Duration::from_secs(2);
/// Longest time for compiling and describing.
const LOAD: Duration = Duration::from_secs(60);
/// What a canary step may do.
const CANARY: Budget = Budget { requests: 20, artifacts: 200, artifact_bytes: 4 << 20, wall_time_milliseconds: 20_000 };
/// Failures of a new version after which it is taken back.
const PROBATION: u32 = 3;
/// Looks after which it is written down again what operators' settings lead a
/// version to.
const PIN_EVERY: u32 = 15;

/// What a registry is made of.
#[derive(Debug)]
pub struct RegistryOptions {
    /// Where connectors are.
    pub directory: PathBuf,
    /// Where compiled code is kept.
    pub cache: PathBuf,
    /// Where records are kept.
    pub state: PathBuf,
    /// The time of day.
    pub clock: Clock,
}

/// Connectors by type.
pub struct Registry {
    engine: Engine,
    options: RegistryOptions,
    /// This build of the host, for quarantine.
    host: String,
    inner: Mutex<Inner>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    /// Files as they were last seen.
    files: BTreeMap<PathBuf, Seen>,
    /// What serves each type.
    serving: BTreeMap<String, Served>,
    /// Reports of everything, by file.
    reports: BTreeMap<String, ConnectorReport>,
    /// Looks so far.
    looks: u32,
    /// The problem with the records that was last told.
    trouble: Option<String>,
}

/// A file as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    length: u64,
    modified: Option<SystemTime>,
    /// Whether it was judged in this form; what was quarantined or held is
    /// judged again.
    judged: bool,
    digest: Option<String>,
}

/// A version that serves.
struct Served {
    connector: Connector,
    file: PathBuf,
    since: OffsetDateTime,
    /// What served before, while this one is on probation.
    before: Option<(Connector, PathBuf)>,
    failures: u32,
}

/// Why a file does not serve.
struct Refusal {
    state: ConnectorState,
    code: &'static str,
    reason: String,
}

impl Refusal {
    fn refused(code: &'static str, reason: impl Into<String>) -> Self {
        Self { state: ConnectorState::Refused, code, reason: reason.into() }
    }

    fn failed(code: &'static str, reason: impl Into<String>) -> Self {
        Self { state: ConnectorState::Quarantined, code, reason: reason.into() }
    }
}

impl Registry {
    /// A registry that has not looked yet.
    #[must_use]
    pub fn new(engine: Engine, options: RegistryOptions) -> Self {
        let compatibility = hex(&Sha256::digest(engine.compatibility()));
        let host = format!("{}-{}", env!("CARGO_PKG_VERSION"), compatibility.get(..12).unwrap_or_default());
        Self { engine, options, host, inner: Mutex::default(), changes: watch::channel(0).0 }
    }

    /// Looks again and again.
    pub async fn watch(&self, live: &dyn LiveInstances) {
        loop {
            self.look(live).await;
            tokio::time::sleep(INTERVAL).await;
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.send_modify(|number| *number = number.wrapping_add(1));
    }

    /// Looks at the directory once and does what follows from it.
    pub async fn look(&self, live: &dyn LiveInstances) {
        let found = match files(&self.options.directory) {
            Ok(found) => found,
            Err(error) => {
                self.tell(Some(format!(
                    "cannot read the directory of connectors {}: {error}",
                    self.options.directory.display()
                )));
                return;
            }
        };
        let records = match Records::read(&self.options.state) {
            Ok(records) => {
                self.tell(None);
                Ok(records)
            }
            Err(problem) => {
                self.tell(Some(problem.clone()));
                Err(problem)
            }
        };
        self.gone(&found);
        let mut due: Vec<PathBuf> = Vec::new();
        {
            let mut inner = self.inner();
            inner.looks = inner.looks.wrapping_add(1);
            for (path, length, modified) in found {
                match inner.files.get_mut(&path) {
                    Some(seen) if seen.length == length && seen.modified == modified => {
                        if !seen.judged || self.is_due_again(seen, &records) {
                            due.push(path);
                        }
                    }
                    _ => {
                        inner.files.insert(path, Seen { length, modified, judged: false, digest: None });
                    }
                }
            }
            // What was put into quarantine by hand stops serving.
            if let Ok(records) = &records {
                self.drop_quarantined(&mut inner, records);
            }
        }
        for path in due {
            self.judge(&path, live, records.clone()).await;
        }
        if self.inner().looks % PIN_EVERY == 1 {
            self.pin_what_serves(live).await;
        }
    }

    /// Whether a file that was judged may fare better now.
    fn is_due_again(&self, seen: &Seen, records: &Result<Records, String>) -> bool {
        let (Some(digest), Ok(records)) = (&seen.digest, records) else { return false };
        records.is_quarantined(digest, &self.host, self.options.clock.now()).is_none()
    }

    /// Tells a problem with the surroundings once.
    fn tell(&self, problem: Option<String>) {
        let mut inner = self.inner();
        if inner.trouble != problem {
            if let Some(problem) = &problem {
                tracing::error!("{problem}");
            }
            inner.trouble = problem;
        }
    }

    /// Forgets files that are gone; what they served is not served any more.
    fn gone(&self, found: &[(PathBuf, u64, Option<SystemTime>)]) {
        let mut inner = self.inner();
        let is_there = |path: &Path| found.iter().any(|(there, ..)| there == path);
        let gone: Vec<PathBuf> = inner.files.keys().filter(|path| !is_there(path)).cloned().collect();
        for path in &gone {
            inner.files.remove(path);
            inner.reports.remove(&path.display().to_string());
        }
        let types: Vec<String> = inner
            .serving
            .iter()
            .filter(|(_, served)| gone.contains(&served.file))
            .map(|(kind, _)| kind.clone())
            .collect();
        for kind in &types {
            inner.serving.remove(kind);
            tracing::warn!("connector of type {kind} removed: its file is gone; state and checkpoints stay");
        }
        drop(inner);
        if !gone.is_empty() {
            self.changed();
        }
    }

    /// Stops what the operator has put into quarantine.
    fn drop_quarantined(&self, inner: &mut Inner, records: &Records) {
        let stopped: Vec<String> = inner
            .serving
            .iter()
            .filter(|(_, served)| {
                records.quarantine.get(served.connector.digest()).is_some_and(|known| known.retry_at.is_none())
            })
            .map(|(kind, _)| kind.clone())
            .collect();
        for kind in stopped {
            if let Some(served) = inner.serving.remove(&kind) {
                tracing::warn!(
                    "connector of type {kind} stopped: version {} is in quarantine",
                    served.connector.descriptor().version
                );
                if let Some(seen) = inner.files.get_mut(&served.file) {
                    seen.judged = false;
                }
                self.changes.send_modify(|number| *number = number.wrapping_add(1));
            }
        }
    }

    /// Judges one file.
    async fn judge(&self, path: &Path, live: &dyn LiveInstances, records: Result<Records, String>) {
        let now = self.options.clock.now();
        let name = path.display().to_string();
        let mut report = ConnectorReport {
            integration_type: path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default(),
            version: String::new(),
            digest: String::new(),
            file: name.clone(),
            state: ConnectorState::Loading,
            reason: None,
            code: None,
            retry_at: None,
            since: now,
        };
        let outcome = self.try_file(path, live, &records, &mut report).await;
        if let Some(seen) = self.inner().files.get_mut(path) {
            seen.judged = true;
            // Only what time or the operator can mend is judged again.
            let again = outcome.as_ref().err().is_some_and(|refusal| refusal.state != ConnectorState::Refused);
            seen.digest = (again && !report.digest.is_empty()).then(|| report.digest.clone());
        }
        match outcome {
            Ok(()) => report.state = ConnectorState::Serving,
            Err(refusal) => {
                if refusal.state == ConnectorState::Quarantined && refusal.code != "quarantined" {
                    self.put_into_quarantine(&report.digest, refusal.code, &refusal.reason);
                }
                let retry_at = Records::read(&self.options.state)
                    .ok()
                    .and_then(|records| records.quarantine.get(&report.digest)?.retry_at);
                report.retry_at = retry_at.filter(|_| refusal.state == ConnectorState::Quarantined);
                let before = self.inner().reports.get(&name).map(|known| (known.state, known.reason.clone()));
                if before != Some((refusal.state, Some(refusal.reason.clone()))) {
                    tracing::error!(
                        "connector {name} {}: {}",
                        format!("{:?}", refusal.state).to_lowercase(),
                        refusal.reason
                    );
                }
                report.state = refusal.state;
                report.code = Some(refusal.code.to_owned());
                report.reason = Some(refusal.reason);
            }
        }
        self.inner().reports.insert(name, report);
        self.changed();
    }

    /// Everything that a file has to pass.
    async fn try_file(
        &self,
        path: &Path,
        live: &dyn LiveInstances,
        records: &Result<Records, String>,
        report: &mut ConnectorReport,
    ) -> Result<(), Refusal> {
        let bytes = tokio::fs::read(path)
            .await
            .map_err(|error| Refusal::refused("unreadable", format!("it cannot be read: {error}")))?;
        report.digest = hex(&Sha256::digest(&bytes));
        let now = self.options.clock.now();
        let records = records.as_ref().map_err(|problem| Refusal {
            state: ConnectorState::Held,
            code: "records-damaged",
            reason: problem.clone(),
        })?;
        if let Some(known) = records.is_quarantined(&report.digest, &self.host, now) {
            return Err(Refusal {
                state: ConnectorState::Quarantined,
                code: "quarantined",
                reason: known.reason.clone(),
            });
        }
        let load = Connector::from_bytes(&self.engine, bytes, Some(&self.options.cache));
        let connector = match tokio::time::timeout(LOAD, load).await {
            Err(_) => {
                return Err(Refusal::failed(
                    "load-timeout",
                    format!("it was not compiled and described within {} s", LOAD.as_secs()),
                ));
            }
            Ok(Err(error)) => return Err(of_load(&error)),
            Ok(Ok(connector)) => connector,
        };
        let kind = integration_type(connector.slug());
        report.integration_type.clone_from(&kind);
        report.version.clone_from(&connector.descriptor().version);
        let version = self.check_version(&kind, path, &connector)?;
        let instances = live.live(&kind, &connector).await;
        let (ready, plans) = self.configure(&connector, instances).await?;
        let wants = Pin::of(connector.digest(), connector.descriptor(), &plans);
        if let Some(pin) = records.pins.get(&kind)
            && pin.digest != connector.digest()
            && !pin.origins.is_empty()
            && !records.released.contains(connector.digest())
        {
            let more = pin.lacks(&wants);
            if !more.is_empty() {
                return Err(Refusal {
                    state: ConnectorState::Held,
                    code: "asks-for-more",
                    reason: format!(
                        "it asks for more than was granted: {}; if that is right, `host-harness connectors release {}`",
                        more.join(", "),
                        connector.digest().get(..12).unwrap_or_default()
                    ),
                });
            }
        }
        canary(&connector, ready).await?;
        let mut pinned = records.clone();
        pinned.pins.entry(kind.clone()).or_default().add(wants);
        pinned.quarantine.remove(connector.digest());
        if let Err(problem) = pinned.write(&self.options.state) {
            self.tell(Some(problem));
        }
        self.serve(kind, path, connector, version, now);
        Ok(())
    }

    /// A version that may follow what serves. Equal ones are builds of one.
    fn check_version(&self, kind: &str, path: &Path, connector: &Connector) -> Result<Version, Refusal> {
        let text = &connector.descriptor().version;
        let version = Version::parse(text)
            .map_err(|error| Refusal::refused("version", format!("its version {text:?} is not one ({error})")))?;
        let inner = self.inner();
        if let Some(served) = inner.serving.get(kind)
            && let Ok(serving) = Version::parse(&served.connector.descriptor().version)
            && version < serving
        {
            return Err(Refusal::refused(
                "downgrade",
                format!(
                    "version {version} is older than {serving}, which serves; checkpoints may be newer than it reads. Remove {} to go back",
                    served.file.display()
                ),
            ));
        }
        if let Some(served) = inner.serving.get(kind)
            && served.file != path
            && served.connector.descriptor().version == *text
        {
            return Err(Refusal::refused(
                "duplicate",
                format!("version {version} of this type is already served by {}", served.file.display()),
            ));
        }
        Ok(version)
    }

    /// Configures every live instance. Instances whose own settings or secrets
    /// are at fault say nothing about the version.
    async fn configure(
        &self,
        connector: &Connector,
        instances: Vec<Result<LiveInstance, FailureReport>>,
    ) -> Result<(Vec<LiveInstance>, Vec<Plan>), Refusal> {
        let before = self.current(&integration_type(connector.slug()));
        let (mut ready, mut plans) = (Vec::new(), Vec::new());
        for instance in instances.into_iter().flatten() {
            match connector.configure(&instance.options.settings).await {
                Ok(plan) => {
                    plans.push(plan);
                    ready.push(instance);
                }
                Err(error) => {
                    // What the version before did not take either is the operator's to mend.
                    let took_it = match &before {
                        Some(before) => before.configure(&instance.options.settings).await.is_ok(),
                        None => false,
                    };
                    if took_it {
                        return Err(Refusal::failed(
                            "configure",
                            format!(
                                "it does not take the settings of the instance {:?}: {error}",
                                instance.options.name
                            ),
                        ));
                    }
                }
            }
        }
        Ok((ready, plans))
    }

    /// Makes a version the one that serves its type.
    fn serve(&self, kind: String, path: &Path, connector: Connector, version: Version, now: OffsetDateTime) {
        let mut inner = self.inner();
        let before = inner.serving.remove(&kind);
        match &before {
            Some(before) if before.connector.digest() != connector.digest() => tracing::info!(
                "connector of type {kind}: version {version} ({}) serves instead of {}; polls under way end on the old one",
                connector.digest().get(..12).unwrap_or_default(),
                before.connector.descriptor().version
            ),
            Some(_) => {}
            None => tracing::info!(
                "connector of type {kind}: version {version} ({}) serves",
                connector.digest().get(..12).unwrap_or_default()
            ),
        }
        if let Some(before) = &before
            && before.file != path
        {
            let file = before.file.display().to_string();
            if let Some(report) = inner.reports.get_mut(&file) {
                report.state = ConnectorState::Refused;
                report.code = Some("replaced".to_owned());
                report.reason = Some(format!("version {version} in {} serves", path.display()));
            }
        }
        let before = before
            .map(|served| (served.connector, served.file))
            .filter(|(before, _)| before.digest() != connector.digest());
        inner.serving.insert(kind, Served { connector, file: path.to_owned(), since: now, before, failures: 0 });
    }

    /// Puts a version into quarantine.
    fn put_into_quarantine(&self, digest: &str, code: &str, reason: &str) {
        let now = self.options.clock.now();
        let written = Records::read(&self.options.state).and_then(|mut records| {
            records.put_into_quarantine(digest, &self.host, code, reason, now);
            records.write(&self.options.state)
        });
        if let Err(problem) = written {
            self.tell(Some(problem));
        }
    }

    /// Writes down what operators' settings lead the versions that serve to.
    async fn pin_what_serves(&self, live: &dyn LiveInstances) {
        let serving: Vec<(String, Connector)> =
            self.inner().serving.iter().map(|(kind, served)| (kind.clone(), served.connector.clone())).collect();
        for (kind, connector) in serving {
            let instances = live.live(&kind, &connector).await;
            let Ok((_, plans)) = self.configure(&connector, instances).await else { continue };
            let wants = Pin::of(connector.digest(), connector.descriptor(), &plans);
            let Ok(mut records) = Records::read(&self.options.state) else { continue };
            let before = records.clone();
            records.pins.entry(kind).or_default().add(wants);
            if records != before
                && let Err(problem) = records.write(&self.options.state)
            {
                self.tell(Some(problem));
            }
        }
    }
}

impl Serving for Registry {
    fn current(&self, integration_type: &str) -> Option<Connector> {
        self.inner().serving.get(integration_type).map(|served| served.connector.clone())
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn polled(&self, connector: &Connector, _instance: Uuid, outcome: PollOutcome) {
        let kind = integration_type(connector.slug());
        let mut inner = self.inner();
        let Some(served) = inner.serving.get_mut(&kind) else { return };
        if served.connector.digest() != connector.digest() || served.before.is_none() {
            return;
        }
        match outcome {
            PollOutcome::Inconclusive => return,
            PollOutcome::Worked => {
                served.before = None;
                return;
            }
            PollOutcome::ConnectorFailed => served.failures = served.failures.saturating_add(1),
        }
        if served.failures < PROBATION {
            return;
        }
        if let Some((before, file)) = served.before.take() {
            let failed = std::mem::replace(&mut served.connector, before);
            let failed_file = std::mem::replace(&mut served.file, file);
            let reason =
                format!("its first {PROBATION} polls failed by its own fault; the version before serves again");
            tracing::error!("connector of type {kind}: version {} taken back: {reason}", failed.descriptor().version);
            let name = failed_file.display().to_string();
            if let Some(report) = inner.reports.get_mut(&name) {
                report.state = ConnectorState::Quarantined;
                report.code = Some("probation".to_owned());
                report.reason = Some(reason.clone());
            }
            drop(inner);
            self.put_into_quarantine(failed.digest(), "probation", &reason);
            self.changed();
        }
    }

    fn report(&self) -> Vec<ConnectorReport> {
        let inner = self.inner();
        let mut reports: Vec<ConnectorReport> = inner.reports.values().cloned().collect();
        for (kind, served) in &inner.serving {
            // What was taken back to serves without its file.
            let file = served.file.display().to_string();
            let known = reports.iter_mut().find(|report| report.digest == served.connector.digest());
            match known {
                Some(report) => report.state = ConnectorState::Serving,
                None => reports.push(ConnectorReport {
                    integration_type: kind.clone(),
                    version: served.connector.descriptor().version.clone(),
                    digest: served.connector.digest().to_owned(),
                    file,
                    state: ConnectorState::Serving,
                    reason: None,
                    code: None,
                    retry_at: None,
                    since: served.since,
                }),
            }
        }
        reports
            .sort_by(|a, b| (&a.integration_type, &a.file, &a.digest).cmp(&(&b.integration_type, &b.file, &b.digest)));
        reports
    }
}

/// One step of one instance, whose result is thrown away. Failures of the
/// vendor or the network say nothing about the version.
async fn canary(connector: &Connector, ready: Vec<LiveInstance>) -> Result<(), Refusal> {
    let Some(instance) = ready.into_iter().next() else { return Ok(()) };
    let name = instance.options.name.clone();
    let Ok(tenant) = connector.tenant(instance.options).await else { return Ok(()) };
    let (result, _) = tenant.poll(instance.checkpoint, CANARY).await;
    let failure = match result {
        Ok(_) => return Ok(()),
        Err(StepError::Failure(failure))
            if !matches!(failure.reason, FailureReason::Internal | FailureReason::CheckpointUnreadable) =>
        {
            tracing::warn!("the canary step of {name:?} says nothing about the new version: {}", failure.message);
            return Ok(());
        }
        Err(error) => error,
    };
    Err(Refusal::failed("canary", format!("its canary step for the instance {name:?} failed: {failure}")))
}

/// Why a component cannot be loaded: for good, or by something it did.
fn of_load(error: &LoadError) -> Refusal {
    match error {
        LoadError::Describe(_) => Refusal::failed("describe", error.to_string()),
        LoadError::Host { .. } => Refusal::failed("host", error.to_string()),
        _ => Refusal::refused("not-a-connector", error.to_string()),
    }
}

/// The `.wasm` files of a directory, with length and time, in order.
fn files(directory: &Path) -> std::io::Result<Vec<(PathBuf, u64, Option<SystemTime>)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "wasm")
            && let Ok(metadata) = std::fs::metadata(&path)
            && metadata.is_file()
        {
            found.push((path, metadata.len(), metadata.modified().ok()));
        }
    }
    found.sort();
    Ok(found)
}
