//! What a judgement, an operator or the first polls of a version lead to.
//!
//! What: a file is refused, held or put into quarantine; a version has proved itself, or is taken back for the one
//! before. Each is said in one line of the log and stands in the report.
//! Not guaranteed: that what cannot be written to disk survives a restart; that is said as well.

use super::kept::{self, Kept};
use super::life::Job;
use super::pins::NotApproved;
use super::quarantine::{Failed, Quarantined};
use super::report::{self, Written};
use super::state::{Basis, Effect, MOST_FAILURES, Reason};
use super::trial::{Fault, shown};
use super::{Inner, lock};
use crate::connectors::Connector;
use crate::connectors::serving::{ConnectorState, PollOutcome, integration_type};
use std::time::Duration;
use time::OffsetDateTime;
use uuid::Uuid;

/// After how long a file is judged again that the host, not the connector, has failed on.
const HOST_RETRY: Duration = Duration::from_mins(1);

impl Inner {
    /// Keeps a version that has nothing left to show.
    pub(super) fn proven(&self, integration_type: &str, connector: &Connector, file: &str) {
        let former = lock(&self.state).serving.get(integration_type).map(|served| served.former.clone());
        let kept = Kept {
            digest: connector.digest().to_owned(),
            version: connector.descriptor().version.clone(),
            file: file.to_owned(),
            former: former.unwrap_or_default(),
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
                        MOST_FAILURES
                    ),
                };
                self.take_back(integration_type, &connector, &file, &fault);
            }
        }
    }

    /// Puts the version before back and the one that failed into quarantine.
    pub(super) fn take_back(&self, integration_type: &str, failed: &Connector, file: &str, fault: &Fault) {
        let version = Some((integration_type, failed.descriptor().version.as_str()));
        let now = self.clock.now();
        let (record, saved) = self.quarantine.put(
            Failed {
                digest: failed.digest(),
                version,
                file,
                code: fault.code,
                reason: &fault.reason,
                connector: Some(failed),
            },
            now,
        );
        let what = self.withdraw(integration_type, failed.digest());
        tracing::error!(
            connector = failed.slug(),
            digest = failed.digest(),
            "version {} is taken back, {what}: {}",
            failed.descriptor().version,
            fault.reason
        );
        self.show_quarantined_serving(file, failed.digest(), &record, saved);
    }

    /// Refuses a file whose content is not approved.
    pub(super) fn refuse_unapproved(&self, job: &Job, why: &NotApproved) {
        let fault = Fault { code: why.code(), reason: why.to_string() };
        self.refuse(job, fault, Some(Basis::Unapproved), false);
    }

    /// Stops what serves and is not approved any more.
    pub(super) fn disapprove(&self, integration_type: &str, connector: &Connector, file: &str, why: &NotApproved) {
        let what = self.withdraw(integration_type, connector.digest());
        let version = &connector.descriptor().version;
        tracing::warn!(
            connector = connector.slug(),
            digest = connector.digest(),
            "the configuration approves version {version} no longer, {what}"
        );
        let now = self.clock.now();
        let mut state = lock(&self.state);
        if let Some(entry) = state.files.get_mut(file).filter(|entry| entry.digest == connector.digest()) {
            entry.move_to(
                ConnectorState::Refused,
                Some(Reason { code: why.code().to_owned(), text: why.to_string() }),
                now,
            );
            entry.basis = Some(Basis::Unapproved);
        }
    }

    /// Takes a digest away from its type. Says what serves in its place.
    pub(super) fn withdraw(&self, integration_type: &str, digest: &str) -> String {
        match self.put_back(integration_type, digest) {
            Some(version) => format!("version {version} serves again"),
            None => "nothing serves".to_owned(),
        }
    }

    /// The same; gives the version that was put back, if there was one.
    fn put_back(&self, integration_type: &str, digest: &str) -> Option<String> {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        if state.serving_digest(integration_type) != digest {
            return None;
        }
        let withdrawn = state.serving.remove(integration_type)?;
        let mut moved = None;
        let previous = withdrawn.probation.map(|probation| *probation.previous);
        let previous = previous.filter(|previous| self.ceiling.approve(previous.connector.digest()).is_ok());
        let back = previous.map(|mut previous| {
            if !lock(&self.files).has(&previous.file) {
                // Else nobody could stop it by removing a file.
                previous.file = withdrawn.file;
                moved = Some((previous.connector.digest().to_owned(), previous.file.clone()));
            }
            let version = previous.connector.descriptor().version.clone();
            if let Some(entry) =
                state.files.get_mut(&previous.file).filter(|entry| entry.digest == previous.connector.digest())
            {
                entry.move_to(ConnectorState::Serving, None, now);
            }
            state.serving.insert(integration_type.to_owned(), previous);
            version
        });
        drop(state);
        if let Some((digest, file)) = moved {
            kept::moved(&self.home, integration_type, &digest, &file);
        }
        self.changed();
        back
    }

    /// Refuses a file; `retry`: the host or its disk is to blame, so it is judged again soon.
    pub(super) fn refuse(&self, job: &Job, fault: Fault, basis: Option<Basis>, retry: bool) {
        let retry_at =
            retry.then(|| self.clock.now().checked_add(time::Duration::try_from(HOST_RETRY).ok()?)).flatten();
        self.settle(job, ConnectorState::Refused, fault, basis, retry_at);
    }

    /// Ends a judgement.
    pub(super) fn settle(
        &self,
        job: &Job,
        to: ConnectorState,
        fault: Fault,
        basis: Option<Basis>,
        retry_at: Option<OffsetDateTime>,
    ) {
        let now = self.clock.now();
        let mut state = lock(&self.state);
        let Some(entry) = state.judged(&job.file, job.judgement) else { return };
        entry.move_to(to, Some(Reason { code: fault.code.to_owned(), text: fault.reason.clone() }), now);
        entry.basis = basis;
        entry.retry_at = retry_at;
        drop(state);
        let what = if to == ConnectorState::Held { "held" } else { "refused" };
        tracing::warn!(code = fault.code, "the connector {} is {what}: {}", shown(&job.file), fault.reason);
        self.changed();
    }

    /// Puts what a file holds into quarantine.
    pub(super) fn put_into_quarantine(&self, job: &Job, digest: &str, connector: Option<&Connector>, fault: &Fault) {
        let kind = connector.map(|connector| integration_type(connector.slug()));
        let version = kind.as_deref().zip(connector.map(|connector| connector.descriptor().version.as_str()));
        let (record, saved) = self.quarantine.put(
            Failed { digest, version, file: &job.file, code: fault.code, reason: &fault.reason, connector },
            self.clock.now(),
        );
        tracing::warn!(
            code = fault.code,
            digest,
            "the connector {} goes into quarantine: {}",
            shown(&job.file),
            fault.reason
        );
        self.show_quarantined(&job.file, job.judgement, &record, saved);
    }

    /// Shows that a file holds a version in quarantine. A record that is not on disk cannot go from there: only its time
    /// counts.
    pub(super) fn show_quarantined(&self, file: &str, judgement: u64, record: &Quarantined, is_saved: bool) {
        let now = self.clock.now();
        if let Some(entry) = lock(&self.state).judged(file, judgement) {
            let reason = Reason { code: record.code.clone(), text: shown(&record.reason) };
            entry.move_to(ConnectorState::Quarantined, Some(reason), now);
            if entry.version.is_none() && !record.integration_type.is_empty() {
                entry.version = Some((shown(&record.integration_type), shown(&record.version)));
            }
            entry.since = record.since;
            entry.retry_at = record.retry_at;
            entry.basis = is_saved.then_some(Basis::Quarantine);
            entry.form.clone_from(&record.form);
        }
        self.changed();
    }

    /// The same for a version that served, if its file still holds it.
    pub(super) fn show_quarantined_serving(&self, file: &str, digest: &str, record: &Quarantined, is_saved: bool) {
        let judgement = {
            let state = lock(&self.state);
            state.files.get(file).filter(|entry| entry.digest == digest).map(|entry| entry.judgement)
        };
        if let Some(judgement) = judgement {
            self.show_quarantined(file, judgement, record, is_saved);
        }
    }

    /// Tells whoever watches that something has changed.
    pub(super) fn changed(&self) {
        self.changes.send_modify(|number| *number = number.wrapping_add(1));
    }

    /// Lets go of what nothing stands behind, and writes the report to disk when it says something new.
    pub(super) async fn publish(&self) {
        self.tidy();
        let connectors = report::rows(&lock(&self.state));
        if *lock(&self.written) == connectors {
            return;
        }
        let (home, written) =
            (self.home.clone(), Written { written: self.clock.now(), connectors: connectors.clone() });
        let saved = tokio::task::spawn_blocking(move || home.save_report(&written)).await;
        let trouble = match saved {
            Ok(Ok(())) => {
                *lock(&self.written) = connectors;
                String::new()
            }
            // It is written at the next look, if that can be done then.
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        let mut last = lock(&self.unwritten);
        if *last != trouble {
            if !trouble.is_empty() {
                tracing::warn!("{trouble}");
            }
            *last = trouble;
        }
    }
}
