//! The outbox: artifacts that are stored but that no sink has taken yet.
//!
//! Why: storing and delivering cannot be one transaction, because a file or
//! a bus knows nothing of SQLite. So an artifact enters the outbox in the
//! transaction that stores it and leaves it after the sink has it for sure: a
//! crash in between delivers it again, with the same id.
//! While the store cannot record what was delivered, on a full disk for
//! example, it is kept in mind and recorded before anything else is given out:
//! the same artifacts are not delivered again and again meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard, PoisonError};

use rusqlite::{TransactionBehavior, params};
use time::OffsetDateTime;
use uuid::Uuid;

use super::key::Key;
use super::{Instance, Store, StoreError, from_millis};

/// Bytes of artifacts after which a portion ends, so that a backlog of large
/// ones takes no more memory than the largest step did.
const PORTION_BYTES: usize = 16 << 20;

/// Artifacts that are looked at in one transaction when they are delivered again.
const PORTION: i64 = 10_000;

/// An artifact that waits for delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undelivered {
    /// Name of the instance that collected it.
    pub instance: Arc<str>,
    /// Its id, for sinks that recognise repetitions.
    pub id: Uuid,
    /// Its data stream.
    pub stream: String,
    /// When it was stored.
    pub stored: OffsetDateTime,
    /// The artifact, one line.
    pub json: String,
    /// Its row.
    seq: i64,
}

impl Store {
    /// What waits for delivery, in the order of arrival, at most `limit` and
    /// about 16 MiB; empty only when nothing waits.
    pub fn undelivered(&self, instance: &Instance, limit: u32) -> Result<Vec<Undelivered>, StoreError> {
        self.record_delivered(instance)?;
        let name: Arc<str> = instance.name.as_str().into();
        self.database.with(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT a.seq, a.id, a.stream, a.json, a.stored FROM outbox o JOIN artifact a ON a.seq = o.artifact
                 WHERE o.instance = ?1 ORDER BY o.artifact LIMIT ?2",
            )?;
            let rows = statement.query_map(params![instance.key, limit], |row| {
                let Key(id) = row.get(1)?;
                Ok(Undelivered {
                    instance: Arc::clone(&name),
                    seq: row.get(0)?,
                    id,
                    stream: row.get(2)?,
                    json: row.get(3)?,
                    stored: from_millis(row.get(4)?),
                })
            })?;
            let mut portion = Vec::new();
            let mut bytes = 0_usize;
            for artifact in rows {
                let artifact: Undelivered = artifact?;
                bytes = bytes.saturating_add(artifact.json.len());
                portion.push(artifact);
                if bytes >= PORTION_BYTES {
                    break;
                }
            }
            Ok(portion)
        })
    }

    /// The instances for which something waits, those removed from the
    /// configuration among them.
    pub fn waiting(&self) -> Result<Vec<Instance>, StoreError> {
        self.database.with(|connection| {
            connection
                .prepare_cached(
                    "SELECT key, id, name, connector FROM instance
                     WHERE EXISTS (SELECT 1 FROM outbox WHERE outbox.instance = key) ORDER BY key",
                )?
                .query_map([], super::identity::row)?
                .collect()
        })
    }

    /// Takes delivered artifacts out of the outbox, all or none. Those that
    /// are not in it are passed over.
    pub fn mark_delivered(&self, instance: &Instance, delivered: &[Undelivered]) -> Result<(), StoreError> {
        let new = delivered.iter().map(|artifact| artifact.seq);
        self.unrecorded().entry(instance.key).or_default().extend(new);
        self.record_delivered(instance)
    }

    /// Puts what is stored of an instance, from this time on, into the outbox once more: for an output that has lost it. Gives how
    /// many artifacts wait that did not before. They come with the ids that they have.
    ///
    /// # Errors
    /// When the database cannot be written. What was put there before stays there.
    pub fn deliver_again(&self, instance: &Instance, since: Option<OffsetDateTime>) -> Result<u64, StoreError> {
        // What was delivered a moment ago would be taken out again.
        self.record_delivered(instance)?;
        let since = since.map_or(i64::MIN, super::to_millis);
        let (mut last, mut added) = (i64::MIN, 0_u64);
        loop {
            let portion = self.database.write(|connection| {
                let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
                // Its end in the order of arrival: those between two of them may be of other instances.
                let end: Option<i64> = transaction
                    .prepare_cached(
                        "SELECT max(seq) FROM (SELECT seq FROM artifact WHERE seq > ?1 ORDER BY seq LIMIT ?2)",
                    )?
                    .query_row([last, PORTION], |row| row.get(0))?;
                let Some(end) = end else { return Ok(None) };
                let new = transaction
                    .prepare_cached(
                        "INSERT OR IGNORE INTO outbox (instance, artifact)
                         SELECT instance, seq FROM artifact
                         WHERE seq > ?1 AND seq <= ?2 AND +instance = ?3 AND stored >= ?4",
                    )?
                    .execute([last, end, instance.key, since])?;
                transaction.commit()?;
                Ok(Some((end, new)))
            })?;
            let Some((end, new)) = portion else { return Ok(added) };
            last = end;
            added = added.saturating_add(u64::try_from(new).unwrap_or(u64::MAX));
        }
    }

    /// Records what was delivered of an instance and is not recorded yet.
    fn record_delivered(&self, instance: &Instance) -> Result<(), StoreError> {
        let mut unrecorded = self.unrecorded();
        let Some(delivered) = unrecorded.get(&instance.key) else { return Ok(()) };
        self.database.write(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            {
                let mut statement =
                    transaction.prepare_cached("DELETE FROM outbox WHERE instance = ?1 AND artifact = ?2")?;
                for seq in delivered {
                    statement.execute([instance.key, *seq])?;
                }
            }
            transaction.commit()
        })?;
        unrecorded.remove(&instance.key);
        Ok(())
    }

    fn unrecorded(&self) -> MutexGuard<'_, BTreeMap<i64, BTreeSet<i64>>> {
        self.delivered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
