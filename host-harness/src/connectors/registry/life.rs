//! The life of a version: read, loaded, tried, put in place.
//!
//! Why the judgement is checked again at its end: it takes seconds, and meanwhile the file may have changed, another
//! version may serve, or the operator may have said no. Then it is void.
//! Not guaranteed: that a judgement is about the newest content of a file; the next look finds what is newer.

use super::kept::{self, Kept};
use super::pins::Before;
use super::quarantine::form;
use super::state::{Basis, Reason, Served};
use super::trial::{Fault, Finding, NotLoaded, Passed, not_loaded, prove, shown};
use super::versions::{Order, Place, compare};
use super::{Inner, lock};
use crate::connectors::file;
use crate::connectors::serving::{ConnectorState, LiveInstances, integration_type};
use crate::connectors::{Connector, LoadError, hex};
use futures::FutureExt as _;
use sha2::{Digest as _, Sha256};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

/// A file to be judged.
#[derive(Debug)]
pub(super) struct Job {
    /// Its name.
    pub(super) file: String,
    /// The number of the judgement.
    pub(super) judgement: u64,
}

impl Inner {
    /// Judges one file. A panic ends this judgement and no other.
    pub(super) async fn judge(&self, job: Job, live: &dyn LiveInstances) {
        if AssertUnwindSafe(self.judge_unguarded(&job, live)).catch_unwind().await.is_err() {
            let reason = "the host panicked while it judged it; report this".to_owned();
            self.refuse(&job, Fault { code: "host-error", reason }, None, true);
        }
    }

    async fn judge_unguarded(&self, job: &Job, live: &dyn LiveInstances) {
        let path = lock(&self.files).path(&job.file);
        let limit = self.loader.engine.limits().component_bytes;
        let digest = match tokio::task::spawn_blocking(move || file::digest(&path, limit)).await {
            Ok(Ok(digest)) => digest,
            Ok(Err(error)) => {
                let (NotLoaded::Never(fault) | NotLoaded::Failed(fault) | NotLoaded::Host(fault)) = not_loaded(&error);
                // A file may be on a disk that comes back.
                let retry = matches!(error, LoadError::Unreadable { .. });
                if !retry && let Some(entry) = lock(&self.state).judged(&job.file, job.judgement) {
                    (entry.digest, entry.version) = (String::new(), None);
                }
                return self.refuse(job, fault, None, retry);
            }
            Err(error) => {
                let fault = Fault { code: "host-error", reason: shown(&error.to_string()) };
                return self.refuse(job, fault, None, true);
            }
        };
        if lock(&self.files).has_changed(&job.file) {
            // It was being written; the next look finds it settled, or not.
            lock(&self.files).judge_again(&job.file);
            return;
        }
        match lock(&self.state).judged(&job.file, job.judgement) {
            // What is known of a file is known of its content.
            Some(entry) if entry.digest != digest => (entry.digest, entry.version) = (digest.clone(), None),
            Some(_) => {}
            None => return,
        }
        // Another file may hold the same, or this one was touched while it was judged.
        let _turn = self.turns.take(&digest).await;
        if lock(&self.state).judged(&job.file, job.judgement).is_none() {
            return;
        }
        if let Err(why) = self.ceiling.approve(&digest) {
            return self.refuse_unapproved(job, &why);
        }
        if self.serves_already(job, &digest) {
            return;
        }
        if let Some(record) = self.quarantine.holding(&digest, self.clock.now()) {
            return self.show_quarantined(&job.file, job.judgement, &record, true);
        }
        // In memory are only those that are compiled, however many wait.
        let Ok(place) = tokio::time::timeout(self.loader.time, self.in_memory.acquire()).await else {
            let reason = "other connectors are being compiled all the time".to_owned();
            return self.refuse(job, Fault { code: "host-error", reason }, None, true);
        };
        let Some(bytes) = self.read_again(job, &digest).await else { return };
        let loaded = self.loader.load(bytes).await;
        drop(place);
        match loaded {
            Ok(connector) => self.try_out(job, connector, live).await,
            Err(NotLoaded::Never(fault)) => self.refuse(job, fault, None, false),
            Err(NotLoaded::Host(fault)) => self.refuse(job, fault, None, true),
            Err(NotLoaded::Failed(fault)) => self.put_into_quarantine(job, &digest, None, &fault),
        }
    }

    /// The bytes of a file that is known to hold this. When it does no longer, it is judged again.
    async fn read_again(&self, job: &Job, digest: &str) -> Option<Vec<u8>> {
        let path = lock(&self.files).path(&job.file);
        let limit = self.loader.engine.limits().component_bytes;
        let digest = digest.to_owned();
        let read = move || file::read(&path, limit).ok().filter(|bytes| hex(&Sha256::digest(bytes)) == digest);
        let bytes = tokio::task::spawn_blocking(read).await.ok().flatten();
        if bytes.is_none() {
            lock(&self.files).judge_again(&job.file);
        }
        bytes
    }

    /// Whether a file holds what serves already: the same file, one that was renamed, or a copy from before the file was
    /// overwritten. Two files with the same component are one too many.
    fn serves_already(&self, job: &Job, digest: &str) -> bool {
        let mut state = lock(&self.state);
        let Some(integration_type) = state.served_type(digest).map(str::to_owned) else { return false };
        let Some(served) = state.serving.get(&integration_type) else { return false };
        let version = served.connector.descriptor().version.clone();
        let file = served.file.clone();
        if file != job.file && lock(&self.files).has(&file) && state.may_hold(&file, digest) {
            let fault = Fault { code: "duplicate", reason: format!("{file} holds the same component") };
            drop(state);
            let basis = Basis::Duplicate(digest.to_owned());
            self.name(job, &integration_type, &version);
            self.refuse(job, fault, Some(basis), false);
            return true;
        }
        let Some(served) = state.serving.get_mut(&integration_type) else { return false };
        served.file.clone_from(&job.file);
        let now = self.clock.now();
        let (has_proved_itself, former) = (served.probation.is_none(), served.former.clone());
        if let Some(entry) = state.judged(&job.file, job.judgement) {
            entry.version = Some((integration_type.clone(), version.clone()));
            entry.move_to(ConnectorState::Serving, None, now);
        }
        drop(state);
        if has_proved_itself {
            let kept = Kept { digest: digest.to_owned(), version, file: job.file.clone(), former };
            kept::keep(&self.home, &integration_type, &kept);
        }
        self.changed();
        true
    }

    /// Tries a loaded version until the verdict is about the version that serves at its end.
    async fn try_out(&self, job: &Job, mut new: Connector, live: &dyn LiveInstances) {
        let integration_type = integration_type(new.slug());
        self.name(job, &integration_type, &new.descriptor().version);
        if let Some(entry) = lock(&self.state).judged(&job.file, job.judgement) {
            entry.form = form(&new);
        }
        loop {
            let old = {
                let state = lock(&self.state);
                let keys = state.keys(&integration_type);
                new = new.beside(keys.clone());
                let beside = |old: &Served| (old.connector.clone().beside(keys.clone()), old.file.clone());
                state.serving.get(&integration_type).map(beside)
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
            // As it was before anybody was asked: what changes meanwhile is a reason to judge again.
            let basis = Basis::Granted {
                state: self.ceiling.basis(&integration_type),
                serving: old.as_ref().map_or_else(String::new, |old| old.digest().to_owned()),
            };
            match prove(&new, old.as_ref(), &integration_type, &self.ceiling, live).await {
                Finding::Failed(fault) => {
                    return self.put_into_quarantine(job, new.digest(), Some(&new), &fault);
                }
                Finding::Held { asked, why } => {
                    self.ceiling.hold(&new, &asked, &why, Before::Goes);
                    let fault = Fault { code: why.code(), reason: shown(&format!("{why}. {}", why.remedy())) };
                    return self.settle(job, ConnectorState::Held, fault, Some(basis), None);
                }
                Finding::Passed(mut passed) => {
                    let Some(bytes) = self.read_again(job, new.digest()).await else { return };
                    // The operator may have said no while it was tried.
                    if let Err(why) = self.ceiling.approve(new.digest()) {
                        return self.refuse_unapproved(job, &why);
                    }
                    if let Some(record) = self.quarantine.holding(new.digest(), self.clock.now()) {
                        return self.show_quarantined(&job.file, job.judgement, &record, true);
                    }
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
            return true;
        };
        entry.move_to(ConnectorState::Serving, None, now);
        self.ceiling.pin(new, &passed.asked);
        self.ceiling.release(new.digest());
        let before = state.serving.remove(integration_type);
        let before_file = before.as_ref().map(|before| before.file.clone()).filter(|file| *file != job.file);
        let connector = new.clone().under(Arc::clone(&self.ceiling));
        let served = Served::new(connector, &job.file, now).after(before, &passed.instances);
        let is_on_probation = served.probation.is_some();
        state.serving.insert(integration_type.to_owned(), served);
        if let Some(entry) = before_file.and_then(|file| state.files.get_mut(&file)) {
            let text = format!("{} serves the newer version {}", job.file, new.descriptor().version);
            entry.move_to(ConnectorState::Refused, Some(Reason { code: "older-version".to_owned(), text }), now);
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

    /// Notes type and version of a file that is being judged.
    fn name(&self, job: &Job, integration_type: &str, version: &str) {
        if let Some(entry) = lock(&self.state).judged(&job.file, job.judgement) {
            entry.version = Some((integration_type.to_owned(), version.to_owned()));
        }
    }
}
