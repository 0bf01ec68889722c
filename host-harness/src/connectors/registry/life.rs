//! The life of a version: seen, judged, serving, taken back, gone.
//!
//! Why the judgement is checked again at its end: it takes seconds, and meanwhile the file may have changed, another
//! version may serve, or the operator may have said no. Then it is void.
//! Not guaranteed: that a judgement is about the newest content of a file; the next look finds what is newer.

use super::kept::{self, Kept};
use super::quarantine::{By, Failed, Quarantined};
use super::report::{self, Written};
use super::state::{Basis, Effect, Reason, Served};
use super::trial::{Fault, Finding, NotLoaded, Passed, not_loaded, prove, shown};
use super::versions::{Order, Place, compare};
use super::{Inner, lock};
use crate::connectors::serving::{ConnectorState, LiveInstances, PollOutcome, integration_type};
use crate::connectors::{Connector, LoadError, hex};
use sha2::{Digest as _, Sha256};
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;
use uuid::Uuid;

/// After how long a file is judged again that the host, not the connector, has failed on.
const HOST_RETRY: Duration = Duration::from_mins(1);

/// A file to be judged.
#[derive(Debug)]
pub(super) struct Job {
    file: String,
    judgement: u64,
}

impl Inner {
    /// Looks at the directory and the records, does at once what needs no compiling, and says what else is to be done.
    pub(super) async fn look(&self) -> Vec<Job> {
        self.restored.get_or_init(|| self.restore()).await;
        let files = std::sync::Arc::clone(&self.files);
        let look = tokio::task::spawn_blocking(move || lock(&files).look()).await;
        let look = match look.map_err(std::io::Error::other).and_then(|look| look) {
            Ok(look) => {
                let ignored = look.ignored;
                self.complain(match ignored {
                    0 => String::new(),
                    _ => format!("{ignored} connectors too many in the directory; the last ones by name are ignored"),
                });
                look
            }
            Err(error) => {
                self.complain(format!("the directory of connectors cannot be read, what serves goes on: {error}"));
                super::files::Look::default()
            }
        };
        for file in &look.gone {
            self.gone(file);
        }
        self.obey_operator();
        self.pass_time();
        self.see_grants();
        self.due(look.settled)
    }

    /// Says what is wrong with the directory, once.
    fn complain(&self, text: String) {
        let mut last = lock(&self.complaint);
        if *last != text {
            if !text.is_empty() {
                tracing::warn!("{}", shown(&text));
            }
            *last = text;
        }
    }

    /// Begins the judgement of what has changed, and of what waited for its time or for something else to change.
    fn due(&self, settled: Vec<String>) -> Vec<Job> {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        let mut due = settled;
        for (file, entry) in &state.files {
            let is_over = entry.retry_at.is_some_and(|at| at <= now);
            let integration_type = entry.version.as_ref().map_or("", |(integration_type, _)| integration_type);
            let has_changed = match &entry.basis {
                None => false,
                Some(Basis::Serving(digest)) => state.serving_digest(integration_type) != digest,
                Some(Basis::Granted(granted)) => self.ceiling.state(integration_type) != *granted,
                Some(Basis::Quarantine) => self.quarantine.holding(&entry.digest, now).is_none(),
            };
            if (is_over || has_changed) && !due.contains(file) {
                due.push(file.clone());
            }
        }
        let jobs: Vec<Job> = due.into_iter().map(|file| Job { judgement: state.begin(&file, now), file }).collect();
        drop(state);
        if !jobs.is_empty() {
            self.changed();
        }
        jobs
    }

    /// Judges one file.
    pub(super) async fn judge(&self, job: Job, live: &dyn LiveInstances) {
        let path = lock(&self.files).path(&job.file);
        let limit = self.loader.engine.limits().component_bytes;
        let (read, bytes) = match tokio::task::spawn_blocking(move || (read(&path, limit), path)).await {
            Ok((Ok(bytes), _)) => (hex(&Sha256::digest(&bytes)), bytes),
            Ok((Err(error), _)) => {
                let (NotLoaded::Never(fault) | NotLoaded::Failed(fault) | NotLoaded::Host(fault)) = not_loaded(&error);
                // A file may be on a disk that comes back.
                let retry = matches!(error, LoadError::Unreadable { .. });
                return self.refuse(&job, fault, None, retry);
            }
            Err(error) => {
                let fault = Fault { code: "host-error", reason: shown(&error.to_string()) };
                return self.refuse(&job, fault, None, true);
            }
        };
        if lock(&self.files).has_changed(&job.file) {
            // It was being written; the next look finds it settled, or not.
            lock(&self.files).judge_again(&job.file);
            return;
        }
        let digest = read;
        match lock(&self.state).judged(&job.file, job.judgement) {
            Some(entry) => entry.digest.clone_from(&digest),
            None => return,
        }
        if self.serves_already(&job, &digest) {
            return;
        }
        if let Some(record) = self.quarantine.holding(&digest, self.clock.now()) {
            return self.show_quarantined(&job.file, job.judgement, &record);
        }
        match self.loader.load(bytes.clone()).await {
            Ok(connector) => self.try_out(&job, connector, bytes, live).await,
            Err(NotLoaded::Never(fault)) => self.refuse(&job, fault, None, false),
            Err(NotLoaded::Host(fault)) => self.refuse(&job, fault, None, true),
            Err(NotLoaded::Failed(fault)) => self.put_into_quarantine(&job, &digest, None, &fault),
        }
    }

    /// Whether a file holds what serves already: the same file, or one that was renamed. Two files with the same
    /// component are one too many.
    fn serves_already(&self, job: &Job, digest: &str) -> bool {
        let mut state = lock(&self.state);
        let Some(integration_type) = state.served_type(digest).map(str::to_owned) else { return false };
        let Some(served) = state.serving.get_mut(&integration_type) else { return false };
        let version = served.connector.descriptor().version.clone();
        if served.file != job.file && lock(&self.files).has(&served.file) {
            let fault = Fault { code: "duplicate", reason: format!("{} holds the same component", served.file) };
            drop(state);
            let basis = Basis::Serving(digest.to_owned());
            self.name(job, &integration_type, &version);
            self.refuse(job, fault, Some(basis), false);
            return true;
        }
        served.file.clone_from(&job.file);
        let now = self.clock.now();
        let has_proved_itself = served.probation.is_none();
        if let Some(entry) = state.judged(&job.file, job.judgement) {
            entry.version = Some((integration_type.clone(), version.clone()));
            entry.become_(ConnectorState::Serving, None, now);
        }
        drop(state);
        if has_proved_itself {
            let kept = Kept { digest: digest.to_owned(), version, file: job.file.clone() };
            kept::keep(&self.home, &integration_type, &kept);
        }
        self.changed();
        true
    }

    /// Tries a loaded version until the verdict is about the version that serves at its end.
    async fn try_out(&self, job: &Job, new: Connector, bytes: Vec<u8>, live: &dyn LiveInstances) {
        let integration_type = integration_type(new.slug());
        self.name(job, &integration_type, &new.descriptor().version);
        loop {
            let old = {
                let state = lock(&self.state);
                state.serving.get(&integration_type).map(|old| (old.connector.clone(), old.file.clone()))
            };
            let mut notes = Vec::new();
            if let Some((old, file)) = &old {
                let place = |connector: &'_ Connector| connector.descriptor().version.clone();
                let (version, serving) = (place(&new), place(old));
                let old_is_there = lock(&self.files).has(file);
                match compare(
                    Place { version: &version, file: &job.file },
                    Place { version: &serving, file },
                    old_is_there,
                ) {
                    Order::Newer => {}
                    Order::Rebuild => notes.push(format!("it is another build of the same version {version}")),
                    Order::Refused(code, reason) => {
                        let basis = Basis::Serving(old.digest().to_owned());
                        return self.refuse(job, Fault { code, reason }, Some(basis), false);
                    }
                }
            }
            let old = old.map(|(connector, _)| connector);
            match prove(&new, old.as_ref(), &integration_type, &self.ceiling, live).await {
                Finding::Failed(fault) => {
                    let version = Some((integration_type.as_str(), new.descriptor().version.as_str()));
                    return self.put_into_quarantine(job, new.digest(), version, &fault);
                }
                Finding::Held { asked, why } => {
                    self.ceiling.hold(&new, &asked, &why);
                    let fault = Fault { code: why.code(), reason: shown(&format!("{why}. {}", why.remedy())) };
                    let basis = Basis::Granted(self.ceiling.state(&integration_type));
                    return self.settle(job, ConnectorState::Held, fault, Some(basis), None);
                }
                Finding::Passed(mut passed) => {
                    passed.notes.splice(0..0, notes);
                    kept::keep_component(&self.home, new.digest(), &bytes);
                    if self.promote(job, &integration_type, &new, old.as_ref(), &passed) {
                        return;
                    }
                }
            }
        }
    }

    /// Puts a version in place of the one it was tried against. Says no when another one serves by now.
    fn promote(
        &self,
        job: &Job,
        integration_type: &str,
        new: &Connector,
        old: Option<&Connector>,
        passed: &Passed,
    ) -> bool {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        if state.serving_digest(integration_type) != old.map_or("", Connector::digest) {
            return false;
        }
        let Some(entry) = state.judged(&job.file, job.judgement) else {
            // The file has changed meanwhile; its new content is being judged.
            drop(state);
            kept::drop_component(&self.home, new.digest());
            return true;
        };
        entry.become_(ConnectorState::Serving, None, now);
        self.ceiling.pin(new, &passed.asked);
        self.ceiling.release(new.digest());
        let before = state.serving.remove(integration_type);
        let before_file = before.as_ref().map(|before| before.file.clone()).filter(|file| *file != job.file);
        let connector = new.clone().under(std::sync::Arc::clone(&self.ceiling));
        let served = Served::new(connector, &job.file, now).after(before, &passed.instances);
        let is_on_probation = served.probation.is_some();
        state.serving.insert(integration_type.to_owned(), served);
        if let Some(entry) = before_file.and_then(|file| state.files.get_mut(&file)) {
            let text = format!("{} serves the newer version {}", job.file, new.descriptor().version);
            entry.become_(ConnectorState::Refused, Some(Reason { code: "older-version".to_owned(), text }), now);
            entry.basis = Some(Basis::Serving(new.digest().to_owned()));
        }
        drop(state);
        if !is_on_probation {
            self.proven(integration_type, new, &job.file);
        }
        let slug = new.slug();
        for note in &passed.notes {
            tracing::warn!(connector = slug, "{note}");
        }
        let version = &new.descriptor().version;
        let file = shown(&job.file);
        match old {
            Some(old) => tracing::info!(
                connector = slug,
                digest = new.digest(),
                "version {version} from {file} serves in place of {}",
                old.descriptor().version
            ),
            None => tracing::info!(connector = slug, digest = new.digest(), "version {version} from {file} serves"),
        }
        self.changed();
        true
    }

    /// Keeps a version that has nothing left to show.
    fn proven(&self, integration_type: &str, connector: &Connector, file: &str) {
        let kept = Kept {
            digest: connector.digest().to_owned(),
            version: connector.descriptor().version.clone(),
            file: file.to_owned(),
        };
        kept::keep(&self.home, integration_type, &kept);
        if let Err(error) = self.quarantine.forget(connector.digest()) {
            tracing::warn!("{error}");
        }
    }

    /// Takes note of a poll.
    pub(super) fn polled(&self, integration_type: &str, digest: &str, instance: Uuid, outcome: PollOutcome) {
        let mut state = lock(&self.state);
        let Some(served) = state.serving.get_mut(integration_type) else { return };
        if served.connector.digest() != digest {
            // A poll that the version before has finished.
            return;
        }
        let effect = served.polled(instance, outcome);
        let (connector, file) = (served.connector.clone(), served.file.clone());
        drop(state);
        match effect {
            Effect::None => {}
            Effect::Proven => {
                tracing::info!(connector = connector.slug(), digest, "the version has proved itself");
                self.proven(integration_type, &connector, &file);
                self.changed();
            }
            Effect::Failed => {
                let fault = Fault {
                    code: "probation-failed",
                    reason: format!(
                        "its first {} polls of an instance failed where the version before had worked",
                        super::state::MOST_FAILURES
                    ),
                };
                self.take_back(integration_type, &connector, &file, &fault);
            }
        }
    }

    /// Puts the version before back and the one that failed into quarantine.
    fn take_back(&self, integration_type: &str, failed: &Connector, file: &str, fault: &Fault) {
        let version = Some((integration_type, failed.descriptor().version.as_str()));
        let now = self.clock.now();
        let record = self
            .quarantine
            .put(Failed { digest: failed.digest(), version, file, code: fault.code, reason: &fault.reason }, now);
        let back = self.withdraw(integration_type, failed.digest());
        let what =
            back.map_or_else(|| "nothing serves".to_owned(), |version| format!("version {version} serves again"));
        tracing::error!(
            connector = failed.slug(),
            digest = failed.digest(),
            "version {} is taken back, {what}: {}",
            failed.descriptor().version,
            fault.reason
        );
        self.show_quarantined_serving(file, failed.digest(), &record);
        kept::drop_component(&self.home, failed.digest());
    }

    /// Takes a digest away from its type. Gives the version that was put back, if there was one.
    fn withdraw(&self, integration_type: &str, digest: &str) -> Option<String> {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        if state.serving_digest(integration_type) != digest {
            return None;
        }
        let previous = state.serving.remove(integration_type)?.probation.map(|probation| *probation.previous);
        let back = previous.map(|previous| {
            let version = previous.connector.descriptor().version.clone();
            if let Some(entry) =
                state.files.get_mut(&previous.file).filter(|entry| entry.digest == previous.connector.digest())
            {
                entry.become_(ConnectorState::Serving, None, now);
            }
            state.serving.insert(integration_type.to_owned(), previous);
            version
        });
        drop(state);
        self.changed();
        back
    }

    /// Obeys an operator who has put into quarantine what serves.
    fn obey_operator(&self) {
        let serving: Vec<(String, Connector, String)> = {
            let state = lock(&self.state);
            let entry =
                |(name, served): (&String, &Served)| (name.clone(), served.connector.clone(), served.file.clone());
            state.serving.iter().map(entry).collect()
        };
        for (integration_type, connector, file) in serving {
            let record = self.quarantine.holding(connector.digest(), self.clock.now());
            let Some(record) = record.filter(|record| record.by == By::Operator) else { continue };
            let back = self.withdraw(&integration_type, connector.digest());
            let what =
                back.map_or_else(|| "nothing serves".to_owned(), |version| format!("version {version} serves again"));
            tracing::warn!(
                connector = connector.slug(),
                digest = connector.digest(),
                "the operator has put version {} into quarantine, {what}",
                connector.descriptor().version
            );
            self.show_quarantined_serving(&file, connector.digest(), &record);
        }
    }

    /// Tells instances that wait for a grant when what is granted has changed.
    fn see_grants(&self) {
        let types: Vec<String> = lock(&self.state).serving.keys().cloned().collect();
        let granted: Vec<String> = types.iter().map(|name| self.ceiling.state(name)).collect();
        let mut seen = lock(&self.granted);
        if *seen != granted {
            *seen = granted;
            drop(seen);
            self.changed();
        }
    }

    /// Ends probations whose time is over.
    fn pass_time(&self) {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        let over: Vec<_> = state
            .serving
            .iter_mut()
            .filter_map(|(name, served)| {
                (served.pass_time(now) == Effect::Proven)
                    .then(|| (name.clone(), served.connector.clone(), served.file.clone()))
            })
            .collect();
        drop(state);
        for (integration_type, connector, file) in over {
            self.proven(&integration_type, &connector, &file);
            self.changed();
        }
    }

    /// A file is gone: what it held serves no longer, unless another file holds the same.
    fn gone(&self, file: &str) {
        let mut state = lock(&self.state);
        let digest = state.files.remove(file).map(|entry| entry.digest).unwrap_or_default();
        let types: Vec<String> =
            state.serving.iter().filter(|(_, served)| served.file == file).map(|(name, _)| name.clone()).collect();
        let mut stopped = Vec::new();
        for integration_type in types {
            let digest = state.serving_digest(&integration_type).to_owned();
            let now = self.clock.now();
            let elsewhere = state.files.iter_mut().find(|(_, entry)| entry.digest == digest);
            if let Some((other, entry)) = elsewhere {
                entry.become_(ConnectorState::Serving, None, now);
                let other = other.clone();
                if let Some(served) = state.serving.get_mut(&integration_type) {
                    served.file = other;
                }
            } else if let Some(served) = state.serving.remove(&integration_type) {
                stopped.push((integration_type, served.connector));
            }
        }
        drop(state);
        if !digest.is_empty() {
            self.ceiling.release(&digest);
        }
        for (integration_type, connector) in stopped {
            tracing::warn!(
                connector = connector.slug(),
                "{} is gone, so nothing serves; checkpoints and artifacts stay",
                shown(file)
            );
            kept::forget(&self.home, &integration_type);
        }
        self.changed();
    }

    /// Goes on with the versions that proved themselves before a restart, as far as their files are still there.
    async fn restore(&self) {
        let most = self.loader.engine.limits().component_bytes;
        kept::tidy(&self.home);
        for (integration_type, kept, bytes) in kept::all(&self.home, most) {
            if !lock(&self.files).path(&kept.file).is_file()
                || self.quarantine.holding(&kept.digest, self.clock.now()).is_some()
            {
                continue;
            }
            match self.loader.load(bytes).await {
                Ok(connector) if super::integration_type(connector.slug()) == integration_type => {
                    let connector = connector.under(std::sync::Arc::clone(&self.ceiling));
                    let served = Served::new(connector, &kept.file, self.clock.now());
                    lock(&self.state).serving.insert(integration_type, served);
                }
                Ok(_) => {
                    tracing::warn!("the kept component of {integration_type} is another connector's, it is not used")
                }
                Err(NotLoaded::Never(fault) | NotLoaded::Failed(fault) | NotLoaded::Host(fault)) => {
                    tracing::warn!("the kept component of {integration_type} is not used: {}", fault.reason);
                }
            }
        }
        self.changed();
    }

    /// Notes type and version of a file that is being judged.
    fn name(&self, job: &Job, integration_type: &str, version: &str) {
        if let Some(entry) = lock(&self.state).judged(&job.file, job.judgement) {
            entry.version = Some((integration_type.to_owned(), version.to_owned()));
        }
    }

    /// Refuses a file; `retry`: the host or its disk is to blame, so it is judged again soon.
    fn refuse(&self, job: &Job, fault: Fault, basis: Option<Basis>, retry: bool) {
        let retry_at =
            retry.then(|| self.clock.now().checked_add(time::Duration::try_from(HOST_RETRY).ok()?)).flatten();
        self.settle(job, ConnectorState::Refused, fault, basis, retry_at);
    }

    /// Ends a judgement.
    fn settle(
        &self,
        job: &Job,
        to: ConnectorState,
        fault: Fault,
        basis: Option<Basis>,
        retry_at: Option<time::OffsetDateTime>,
    ) {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        let Some(entry) = state.judged(&job.file, job.judgement) else { return };
        entry.become_(to, Some(Reason { code: fault.code.to_owned(), text: fault.reason.clone() }), now);
        entry.basis = basis;
        entry.retry_at = retry_at;
        drop(state);
        let what = if to == ConnectorState::Held { "held" } else { "refused" };
        tracing::warn!(code = fault.code, "the connector {} is {what}: {}", shown(&job.file), fault.reason);
        self.changed();
    }

    /// Puts what a file holds into quarantine.
    fn put_into_quarantine(&self, job: &Job, digest: &str, version: Option<(&str, &str)>, fault: &Fault) {
        let record = self.quarantine.put(
            Failed { digest, version, file: &job.file, code: fault.code, reason: &fault.reason },
            self.clock.now(),
        );
        tracing::warn!(
            code = fault.code,
            digest,
            "the connector {} goes into quarantine: {}",
            shown(&job.file),
            fault.reason
        );
        self.show_quarantined(&job.file, job.judgement, &record);
    }

    /// Shows that a file holds a version in quarantine.
    fn show_quarantined(&self, file: &str, judgement: u64, record: &Quarantined) {
        let now = self.clock.now();
        if let Some(entry) = lock(&self.state).judged(file, judgement) {
            let reason = Reason { code: record.code.clone(), text: shown(&record.reason) };
            entry.become_(ConnectorState::Quarantined, Some(reason), now);
            if entry.version.is_none() && !record.integration_type.is_empty() {
                entry.version = Some((shown(&record.integration_type), shown(&record.version)));
            }
            entry.since = record.since;
            entry.retry_at = record.retry_at;
            entry.basis = Some(Basis::Quarantine);
        }
        self.changed();
    }

    /// The same for a version that served, if its file still holds it.
    fn show_quarantined_serving(&self, file: &str, digest: &str, record: &Quarantined) {
        let judgement = {
            let state = lock(&self.state);
            state.files.get(file).filter(|entry| entry.digest == digest).map(|entry| entry.judgement)
        };
        if let Some(judgement) = judgement {
            self.show_quarantined(file, judgement, record);
        }
    }

    /// Tells whoever watches that something has changed.
    pub(super) fn changed(&self) {
        self.changes.send_modify(|number| *number = number.wrapping_add(1));
    }

    /// Writes the report to disk when it says something new.
    pub(super) async fn publish(&self) {
        let connectors = report::rows(&lock(&self.state));
        if *lock(&self.written) == connectors {
            return;
        }
        lock(&self.written).clone_from(&connectors);
        let (home, written) = (self.home.clone(), Written { written: self.clock.now(), connectors });
        let saved = tokio::task::spawn_blocking(move || home.save_report(&written)).await;
        if let Ok(Err(error)) = saved {
            tracing::warn!("{error}");
        }
    }
}

/// Reads a component.
fn read(path: &Path, limit: u64) -> Result<Vec<u8>, LoadError> {
    let unreadable = |error: std::io::Error| LoadError::Unreadable { path: path.to_owned(), why: error.to_string() };
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let size = file.metadata().map_err(unreadable)?.len();
    if size > limit {
        return Err(LoadError::TooBig { size, limit });
    }
    let mut bytes = Vec::new();
    // One byte more than allowed shows that it has grown.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}
