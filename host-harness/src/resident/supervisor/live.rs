//! The instances for new connectors to prove themselves on.

use super::Records;
use crate::connectors::Connector;
use crate::connectors::serving::{Asked, LiveInstances};
use crate::resident::board::lock;
use crate::resident::poller::live;
use crate::sandbox::Clock;
use crate::store::Store;

/// See [`Supervisor::live`](super::Supervisor::live).
pub(super) struct Live {
    pub(super) records: Records,
    pub(super) store: Store,
    pub(super) clock: Clock,
}

impl LiveInstances for Live {
    fn live<'a>(&'a self, kind: &'a str, _: &'a Connector) -> Asked<'a> {
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
                found.push(live(&record, &self.store, self.clock.clone()).await);
            }
            found
        })
    }
}
