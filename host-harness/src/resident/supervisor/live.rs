//! The instances for new connectors to prove themselves on.
//!
//! A canary step is a poll: while one runs, its instance is not polled, and one that is being polled, is backing off, or
//! whose vendor wants peace is not lent to any.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use uuid::Uuid;

use super::Records;
use crate::connectors::Connector;
use crate::connectors::serving::{Asked, Lent, LiveInstances};
use crate::resident::board::{Board, lock};
use crate::resident::poller::live;
use crate::sandbox::Clock;
use crate::store::Store;

/// The instances whose vendors are being talked to: by a poll, or by a version that tries itself.
pub(super) type Turns = Arc<Mutex<HashSet<Uuid>>>;

/// Begins a poll or a canary step, unless the instance is busy.
pub(super) fn begin(turns: &Turns, id: Uuid) -> bool {
    lock(turns).insert(id)
}

/// Ends what an instance is busy with.
pub(super) fn end(turns: &Turns, id: Uuid) {
    lock(turns).remove(&id);
}

/// See [`Supervisor::live`](super::Supervisor::live).
pub(super) struct Live {
    pub(super) records: Records,
    pub(super) store: Store,
    pub(super) board: Arc<Board>,
    pub(super) turns: Turns,
    pub(super) clock: Clock,
}

impl LiveInstances for Live {
    fn live<'a>(&'a self, kind: &'a str, connector: &'a Connector) -> Asked<'a> {
        Box::pin(async move {
            let records: Vec<_> = {
                let all = lock(&self.records);
                all.values()
                    .filter(|record| record.config.enabled && record.config.integration_type == kind)
                    .cloned()
                    .collect()
            };
            let mut found = Vec::with_capacity(records.len());
            for record in records {
                found.push(live(&record, connector, &self.store, self.clock.clone()).await);
            }
            found
        })
    }

    fn lend(&self, id: Uuid) -> Option<Lent> {
        let now = self.board.now();
        // Who could not even ask, for want of a connector or a key, spares no vendor by waiting.
        let waits = self.board.instance(id).is_some_and(|one| {
            one.past.not_before.is_some_and(|not_before| not_before > now)
                || (one.back_off.is_some() && one.past.last.requests > 0)
        });
        if waits || !begin(&self.turns, id) {
            return None;
        }
        let turns = Arc::clone(&self.turns);
        Some(Lent::until(move || end(&turns, id)))
    }
}
