//! The instances for new connectors to prove themselves on.
//!
//! A canary step is a poll: while one runs, its instance is not polled, and one that is being polled, is backing off, or
//! whose vendor wants peace is not lent to any.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use uuid::Uuid;

use super::Records;
use crate::connectors::Connector;
use crate::connectors::serving::{Asked, Lent, LiveInstance, LiveInstances, NotReady};
use crate::instances::failure::FailureReport;
use crate::locks::lock;
use crate::resident::board::Board;
use crate::resident::poller::{Record, checkpoint, live};
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
    fn ids(&self, integration_type: &str) -> Vec<Uuid> {
        let all = lock(&self.records);
        let of_type =
            |record: &&Arc<Record>| record.config.enabled && record.config.integration_type == integration_type;
        all.values().filter(of_type).map(|record| record.instance.id).collect()
    }

    fn ready<'a>(&'a self, id: Uuid, connector: &'a Connector) -> Asked<'a, Option<Result<LiveInstance, NotReady>>> {
        Box::pin(async move {
            let record = lock(&self.records).get(&id).filter(|record| record.config.enabled).cloned()?;
            Some(live(&record, connector, &self.store, self.clock.clone()).await)
        })
    }

    fn checkpoint(&self, id: Uuid) -> Asked<'_, Result<Option<Vec<u8>>, Box<FailureReport>>> {
        let record = lock(&self.records).get(&id).cloned();
        Box::pin(async move {
            match record {
                Some(record) => checkpoint(&record, &self.store).await.map_err(Box::new),
                None => Ok(None),
            }
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
