//! Checkpoints and the one transaction of a step.
//!
//! Why: the promise of the store is made in `commit_step`: artifacts, their
//! search text, their outbox rows and the checkpoint are stored together or
//! not at all.

use rusqlite::{OptionalExtension, Transaction, TransactionBehavior, params};
use time::OffsetDateTime;
use uuid::Uuid;

use super::indexing::index;
use super::key::Key;
use super::period::happened;
use super::{Instance, Store, StoreError, to_millis, volume};
use crate::contract::types::{Artifact, Batch};

/// What a committed step added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Artifacts that were not stored before.
    pub new: u64,
    /// Artifacts whose id was stored before; they are left as they were, or
    /// gone if they have been let go of.
    pub repeated: u64,
    /// Bytes of the new ones, as [`Store::limit_daily`] counts them.
    pub bytes: u64,
}

impl Store {
    /// The checkpoint of the last committed step, absent before the first.
    pub fn checkpoint(&self, instance: &Instance) -> Result<Option<Vec<u8>>, StoreError> {
        self.database.with(|connection| {
            connection
                .prepare_cached("SELECT bytes FROM checkpoint WHERE instance = ?1")?
                .query_row([instance.key], |row| row.get(0))
                .optional()
        })
    }

    /// How many steps were ever committed for the instance.
    pub fn steps(&self, instance: &Instance) -> Result<u64, StoreError> {
        self.database.with(|connection| {
            let steps: Option<i64> = connection
                .prepare_cached("SELECT steps FROM checkpoint WHERE instance = ?1")?
                .query_row([instance.key], |row| row.get(0))
                .optional()?;
            Ok(steps.unwrap_or(0).unsigned_abs())
        })
    }

    /// Stores a step: its artifacts, unless their ids are stored already,
    /// and its checkpoint, in one transaction that has reached the disk when
    /// this returns. On any failure nothing of it is stored; one is that the
    /// database is not under its name any more, another that the instance has
    /// brought as much today as it may ([`Store::limit_daily`]).
    pub fn commit_step(
        &self,
        instance: &Instance,
        batch: &Batch,
        now: OffsetDateTime,
    ) -> Result<Committed, StoreError> {
        self.in_place()?;
        let ids = batch
            .artifacts
            .iter()
            .map(|artifact| {
                Uuid::try_parse(&artifact.id).map_err(|_| StoreError::ArtifactId { id: artifact.id.clone() })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let now = to_millis(now);
        self.database.write(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            if let Err(over) = self.judge(volume::brought(&transaction, instance.key, now)?) {
                return Ok(Err(over));
            }
            let committed = insert(&transaction, instance.key, &batch.artifacts, &ids, now)?;
            transaction
                .prepare_cached(
                    "INSERT INTO checkpoint (instance, bytes, steps, updated) VALUES (?1, ?2, 1, ?3)
                     ON CONFLICT (instance) DO UPDATE SET bytes = ?2, steps = steps + 1, updated = ?3",
                )?
                .execute(params![instance.key, batch.checkpoint, now])?;
            transaction.commit()?;
            Ok(Ok(committed))
        })?
    }
}

/// Inserts the artifacts that are new, with search text and outbox row.
fn insert(
    transaction: &Transaction<'_>,
    instance: i64,
    artifacts: &[Artifact],
    ids: &[Uuid],
    now: i64,
) -> rusqlite::Result<Committed> {
    let mut artifact_row = transaction.prepare_cached(
        "INSERT INTO artifact (seq, instance, id, stream, stored, json, happened) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT (instance, id) DO NOTHING",
    )?;
    // Asked apart: a statement that could write several rows begins a savepoint, and at each of these the full text is
    // written out.
    let mut gone_row = transaction.prepare_cached("SELECT 1 FROM gone WHERE instance = ?1 AND id = ?2")?;
    let mut outbox_row = transaction.prepare_cached("INSERT INTO outbox (instance, artifact) VALUES (?1, ?2)")?;
    // The number of an artifact is never given again, not even when the last one has been let go of.
    let last = "SELECT max(coalesce((SELECT max(seq) FROM artifact), 0), coalesce((SELECT max(seq) FROM swept), 0))";
    let mut seq: i64 = transaction.prepare_cached(last)?.query_row([], |row| row.get(0))?;
    let mut committed = Committed::default();
    let mut new = Vec::with_capacity(artifacts.len());
    for (artifact, id) in artifacts.iter().zip(ids) {
        let key = Key(*id);
        let json = artifact.json.as_str();
        let row = params![seq + 1, instance, key, artifact.stream, now, json, happened(json)];
        if gone_row.exists(params![instance, key])? || artifact_row.execute(row)? == 0 {
            committed.repeated += 1;
            continue;
        }
        committed.new += 1;
        seq += 1;
        outbox_row.execute([instance, seq])?;
        new.push((seq, artifact));
    }
    index(transaction, &new)?;
    committed.bytes = volume::of(new.iter().map(|(_, artifact)| *artifact));
    volume::add(transaction, instance, committed.bytes, now)?;
    Ok(committed)
}
