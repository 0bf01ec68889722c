//! What lies on disk goes when nothing stands behind it any more.
//!
//! What: what a version asked for, once it neither serves nor is held; components that a restart would not go on with and
//! that could not be put back; failures of versions that no file holds any more, a day after they could have been tried.
//! Why by looking and not at every change: a version leaves in many ways (overwritten, removed while the host was down,
//! refused after all, put back, superseded), and one that is forgotten could be confirmed by its type, or fill the disk.
//! Not guaranteed: that it goes at once; it is looked for whenever the directory is, and failures once an hour.

use super::home::{Home, Kind};
use super::kept;
use super::quarantine::{By, Quarantined};
use super::state::{Entry, State};
use super::{Inner, lock};
use crate::connectors::serving::ConnectorState;
use std::collections::BTreeSet;
use time::OffsetDateTime;

/// How often failures are looked through.
const FAILURES_EVERY: time::Duration = time::Duration::HOUR;

/// How long failures are remembered of what no file holds, counted from when it could have been tried again.
const FAILURES_KEPT: time::Duration = time::Duration::DAY;

impl Inner {
    /// Lets go of what nothing stands behind.
    pub(super) fn tidy(&self) {
        let now = self.clock.now();
        // While a file was not read yet, nobody knows what it holds.
        let is_settled = lock(&self.files).is_settled();
        let state = lock(&self.state);
        let serving: BTreeSet<&str> = serving(&state).collect();
        kept::tidy(&self.home, &serving);
        let is_read = |entry: &Entry| !entry.digest.is_empty() || entry.state != ConnectorState::Loading;
        if !is_settled || !state.files.values().all(is_read) {
            return;
        }
        let asking: BTreeSet<&str> = state
            .serving
            .values()
            .map(|served| served.connector.digest())
            .chain(state.files.values().filter(|entry| may_ask(entry)).map(|entry| entry.digest.as_str()))
            .collect();
        for digest in self.home.names(Kind::Held).unwrap_or_default() {
            if !asking.contains(digest.as_str()) {
                self.ceiling.release(&digest);
            }
        }
        let mut looked = lock(&self.failures_looked);
        if looked.is_none_or(|last| last + FAILURES_EVERY <= now) {
            *looked = Some(now);
            let files = state.files.values().map(|entry| entry.digest.as_str());
            forget_failures(&self.home, &files.chain(serving).collect(), now);
        }
    }
}

/// Digests of what serves, and of what would be put back.
fn serving(state: &State) -> impl Iterator<Item = &str> {
    state.serving.values().flat_map(|served| {
        let previous = served.probation.as_ref().map(|probation| probation.previous.connector.digest());
        std::iter::once(served.connector.digest()).chain(previous)
    })
}

/// Whether what a file holds may still get what it asked for: it is held, or nobody knows yet.
fn may_ask(entry: &Entry) -> bool {
    match entry.state {
        ConnectorState::Held | ConnectorState::Loading => true,
        // Its disk may come back.
        ConnectorState::Refused => entry.retry_at.is_some(),
        ConnectorState::Serving | ConnectorState::Quarantined => false,
    }
}

/// Forgets failures of what is in no use. What an operator has said stays.
fn forget_failures(home: &Home, in_use: &BTreeSet<&str>, now: OffsetDateTime) {
    for digest in home.names(Kind::Quarantine).unwrap_or_default() {
        let is_over = |record: Quarantined| {
            record.by == By::Host && record.retry_at.is_some_and(|at| at.saturating_add(FAILURES_KEPT) <= now)
        };
        if !in_use.contains(digest.as_str())
            && home.load::<Quarantined>(Kind::Quarantine, &digest).ok().flatten().is_some_and(is_over)
            && let Err(error) = home.remove(Kind::Quarantine, &digest)
        {
            tracing::warn!("{error}");
        }
    }
}
