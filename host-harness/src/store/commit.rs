//! Instances, checkpoints and the one transaction of a step.
//!
//! Why: the promise of the store is made in `commit_step`: artifacts, their
//! search text, their outbox rows and the checkpoint are stored together or
//! not at all.

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use time::OffsetDateTime;
use uuid::Uuid;

use super::text::Searchable;
use super::{Instance, Store, StoreError, to_millis};
use crate::contract::types::{Artifact, Batch};

/// What a committed step added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Artifacts that were not stored before.
    pub new: u64,
    /// Artifacts whose id was stored before; they are left as they were.
    pub repeated: u64,
}

/// Longest instance name in characters.
const NAME_CHARACTERS: usize = 64;

impl Store {
    /// The instance of this name; it is made when it does not exist.
    ///
    /// Fails when the name is not usable or belongs to another connector,
    /// whose checkpoint this one could not read.
    pub fn instance(&self, name: &str, connector: &str, now: OffsetDateTime) -> Result<Instance, StoreError> {
        if !is_usable(name) {
            return Err(StoreError::Name { name: name.to_owned() });
        }
        let instance = self.database.with(|connection| {
            if let Some(found) = find(connection, name)? {
                return Ok(found);
            }
            connection.execute(
                "INSERT INTO instance (id, name, connector, created) VALUES (?1, ?2, ?3, ?4)",
                params![random_uuid(connection)?.as_bytes(), name, connector, to_millis(now)],
            )?;
            find(connection, name)?.ok_or(rusqlite::Error::QueryReturnedNoRows)
        })?;
        if instance.connector != connector {
            return Err(StoreError::OtherConnector {
                name: instance.name,
                owner: instance.connector,
                given: connector.to_owned(),
            });
        }
        Ok(instance)
    }

    /// The instance of this id; it is made when it does not exist, and takes
    /// the name when it had another. Without an id, the instance of this name.
    ///
    /// Fails like [`Store::instance`], and when the name belongs to another
    /// id.
    pub fn instance_of(
        &self,
        id: Option<Uuid>,
        name: &str,
        connector: &str,
        now: OffsetDateTime,
    ) -> Result<Instance, StoreError> {
        let Some(id) = id else { return self.instance(name, connector, now) };
        let holder = self.database.with(|connection| {
            let holder: Option<Uuid> = find(connection, name)?.map(|instance| instance.id);
            if holder.is_none() {
                let renamed =
                    connection.execute("UPDATE instance SET name = ?1 WHERE id = ?2", params![name, id.as_bytes()])?;
                if renamed == 0 && is_usable(name) {
                    connection.execute(
                        "INSERT INTO instance (id, name, connector, created) VALUES (?1, ?2, ?3, ?4)",
                        params![id.as_bytes(), name, connector, to_millis(now)],
                    )?;
                }
            }
            Ok(holder)
        })?;
        match holder {
            Some(holder) if holder != id => Err(StoreError::OtherId { name: name.to_owned(), holder, given: id }),
            _ => self.instance(name, connector, now),
        }
    }

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
    /// this returns. On any failure nothing of it is stored.
    pub fn commit_step(
        &self,
        instance: &Instance,
        batch: &Batch,
        now: OffsetDateTime,
    ) -> Result<Committed, StoreError> {
        let ids = batch
            .artifacts
            .iter()
            .map(|artifact| {
                Uuid::try_parse(&artifact.id).map_err(|_| StoreError::ArtifactId { id: artifact.id.clone() })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let now = to_millis(now);
        self.database.with(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let committed = insert(&transaction, instance.key, &batch.artifacts, &ids, now)?;
            transaction
                .prepare_cached(
                    "INSERT INTO checkpoint (instance, bytes, steps, updated) VALUES (?1, ?2, 1, ?3)
                     ON CONFLICT (instance) DO UPDATE SET bytes = ?2, steps = steps + 1, updated = ?3",
                )?
                .execute(params![instance.key, batch.checkpoint, now])?;
            transaction.commit()?;
            Ok(committed)
        })
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
        "INSERT INTO artifact (instance, id, stream, stored, json) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (instance, id) DO NOTHING",
    )?;
    let mut outbox_row = transaction.prepare_cached("INSERT INTO outbox (instance, artifact) VALUES (?1, ?2)")?;
    let mut text_row = transaction.prepare_cached(
        "INSERT INTO artifact_text (rowid, src_ip, dst_ip, hostname, user, severity, stream, text)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    let mut committed = Committed::default();
    let mut text = Searchable::default();
    for (artifact, id) in artifacts.iter().zip(ids) {
        let added = artifact_row.execute(params![instance, id.as_bytes(), artifact.stream, now, artifact.json])?;
        if added == 0 {
            committed.repeated += 1;
            continue;
        }
        committed.new += 1;
        let seq = transaction.last_insert_rowid();
        outbox_row.execute([instance, seq])?;
        text.read(&artifact.stream, &artifact.json);
        text_row.execute(params![
            seq,
            text.src_ip,
            text.dst_ip,
            text.hostname,
            text.user,
            text.severity,
            text.stream,
            text.text
        ])?;
    }
    Ok(committed)
}

/// Whether an instance can have this name.
fn is_usable(name: &str) -> bool {
    let length = name.chars().count();
    (1..=NAME_CHARACTERS).contains(&length) && name.trim() == name && !name.chars().any(char::is_control)
}

/// The instance of this name, if there is one.
fn find(connection: &Connection, name: &str) -> rusqlite::Result<Option<Instance>> {
    connection
        .prepare_cached("SELECT key, id, name, connector FROM instance WHERE name = ?1")?
        .query_row([name], |row| {
            let id: [u8; 16] = row.get(1)?;
            Ok(Instance { key: row.get(0)?, id: Uuid::from_bytes(id), name: row.get(2)?, connector: row.get(3)? })
        })
        .optional()
}

/// A random UUID (version 4) from SQLite's generator, which the system seeds.
fn random_uuid(connection: &Connection) -> rusqlite::Result<Uuid> {
    let bytes: [u8; 16] = connection.query_row("SELECT randomblob(16)", [], |row| row.get(0))?;
    Ok(uuid::Builder::from_random_bytes(bytes).into_uuid())
}
