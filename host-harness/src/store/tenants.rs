//! Instances as operators deal with them: listed, begun again, removed.
//!
//! Why removed here and not let go of: what belongs to a tenant who has left must go, whatever its age, with its ids and
//! its search text, and nothing may be left that a later tenant could meet.
//! How: in portions, each a transaction, the instance itself last; so whoever is interrupted goes on where it stopped.
//! Not guaranteed: that the file becomes smaller, or that no word is left in its free pages, before [`Store::scrub`].

use std::sync::atomic::Ordering;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Database, Instance, Reader, Store, StoreError, directory, from_millis, identity};

/// An instance, and how much of it there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its name, which nobody else has.
    pub name: String,
    /// The id that the operator gave it, if any.
    pub handle: Option<String>,
    /// Slug of its connector.
    pub connector: String,
    /// Artifacts that are stored.
    pub artifacts: u64,
    /// Those of them that no sink has taken yet.
    pub undelivered: u64,
    /// Steps that were ever stored since it was made, or begun again.
    pub steps: u64,
    /// When the last of them was.
    pub last_step: Option<OffsetDateTime>,
}

/// Artifacts that go in one transaction when all of an instance do.
const PORTION: u32 = 1_000;

/// What there is of each instance: one pass over the index of artifacts.
const STANDINGS: &str = "
    SELECT i.name, i.handle, i.connector,
           (SELECT count(*) FROM artifact a WHERE a.instance = i.key),
           (SELECT count(*) FROM outbox o WHERE o.instance = i.key),
           coalesce(c.steps, 0), c.updated
    FROM instance i LEFT JOIN checkpoint c ON c.instance = i.key ORDER BY i.name";

impl Reader {
    /// The instance of this name, or of this id that the operator gave it.
    ///
    /// # Errors
    /// [`StoreError::UnknownInstance`] when there is none, [`StoreError::Ambiguous`] when one has the name and another one
    /// the id.
    pub fn known(&self, name: &str) -> Result<Instance, StoreError> {
        self.database.known(name)
    }

    /// Every instance that there ever was and that has not been removed, by name.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn instances(&self) -> Result<Vec<Standing>, StoreError> {
        self.database.with(|connection| {
            let count = |number: i64| number.unsigned_abs();
            connection
                .prepare(STANDINGS)?
                .query_map([], |row| {
                    Ok(Standing {
                        name: row.get(0)?,
                        handle: row.get(1)?,
                        connector: row.get(2)?,
                        artifacts: count(row.get(3)?),
                        undelivered: count(row.get(4)?),
                        steps: count(row.get(5)?),
                        last_step: row.get::<_, Option<i64>>(6)?.map(from_millis),
                    })
                })?
                .collect()
        })
    }
}

impl Database {
    fn known(&self, name: &str) -> Result<Instance, StoreError> {
        let mut found: Vec<Instance> = self.with(|connection| {
            connection
                .prepare("SELECT key, id, name, connector FROM instance WHERE name = ?1 OR handle = ?1")?
                .query_map([name], identity::row)?
                .collect()
        })?;
        if found.len() > 1 {
            return Err(StoreError::Ambiguous { name: name.to_owned() });
        }
        if let Some(found) = found.pop() {
            return Ok(found);
        }
        let known = self.with(|connection| {
            connection.prepare("SELECT name FROM instance ORDER BY name")?.query_map([], |row| row.get(0))?.collect()
        })?;
        Err(StoreError::UnknownInstance { name: name.to_owned(), known })
    }
}

impl Store {
    /// See [`Reader::known`].
    ///
    /// # Errors
    /// The same.
    pub fn known(&self, name: &str) -> Result<Instance, StoreError> {
        self.database.known(name)
    }

    /// The instance of this id, if there is one.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn by_id(&self, id: Uuid) -> Result<Option<Instance>, StoreError> {
        self.database.with(|connection| {
            connection
                .prepare("SELECT key, id, name, connector FROM instance WHERE id = ?1")?
                .query_row([id.as_bytes()], identity::row)
                .optional()
        })
    }

    /// Lets an instance begin again: its next poll collects the look-back. What is stored stays and is not stored twice;
    /// what has changed since it was first collected may come once more, as it is now. Tells whether there was any progress.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn begin_again(&self, instance: &Instance) -> Result<bool, StoreError> {
        self.database.write(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let had_progress = transaction.execute("DELETE FROM checkpoint WHERE instance = ?1", [instance.key])? > 0;
            // With it goes what a vendor asked for: somebody is at hand who wants it to be polled.
            transaction.execute("DELETE FROM standing WHERE instance = ?1", [instance.key])?;
            transaction.commit()?;
            Ok(had_progress)
        })
    }

    /// Removes everything of an instance, in portions, between which others store theirs. After each one, but the last,
    /// `go_on` is told how many artifacts have gone so far, and says whether it goes on; it is where to pause. Gives how many
    /// these were, or nothing when it was not to go on: what is left can be removed later.
    ///
    /// # Errors
    /// When the database cannot be written. What has gone before stays gone.
    pub fn remove_all(
        &self,
        instance: &Instance,
        mut go_on: impl FnMut(u64) -> bool,
    ) -> Result<Option<u64>, StoreError> {
        let mut removed = 0_u64;
        loop {
            let gone = self.remove(instance, PORTION)?;
            removed = removed.saturating_add(gone.into());
            if gone < PORTION {
                return Ok(Some(removed));
            }
            if !go_on(removed) {
                return Ok(None);
            }
        }
    }

    /// Removes at most `most` artifacts of an instance, delivered or not, and gives how many these were; when there are
    /// no more, everything else that is known of it.
    ///
    /// # Errors
    /// When the database cannot be written. Of this portion nothing has gone then.
    pub(crate) fn remove(&self, instance: &Instance, most: u32) -> Result<u32, StoreError> {
        self.highest.fetch_max(instance.key, Ordering::Relaxed);
        self.database.write(|connection| {
            // What goes is overwritten in its pages.
            connection.pragma_update(None, "secure_delete", 1)?;
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let rows: Vec<i64> = transaction
                .prepare_cached("SELECT seq FROM artifact WHERE instance = ?1 LIMIT ?2")?
                .query_map(params![instance.key, most], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            if !rows.is_empty() {
                // The number of an artifact is never given again.
                let last = "SELECT max((SELECT max(seq) FROM artifact), coalesce((SELECT max(seq) FROM swept), 0))";
                let last: i64 = transaction.query_row(last, [], |row| row.get(0))?;
                let at: i64 = transaction.query_row("SELECT coalesce(max(at), 0) FROM swept", [], |row| row.get(0))?;
                transaction.execute("DELETE FROM swept", [])?;
                transaction.execute("INSERT INTO swept (seq, at) VALUES (?1, ?2)", [last, at])?;
            }
            // At once: whoever comes back under its name before all has gone begins anew, and collects what went.
            for table in ["checkpoint", "standing"] {
                transaction.execute(&format!("DELETE FROM {table} WHERE instance = ?1"), [instance.key])?;
            }
            let mut gone = 0;
            for seq in rows {
                transaction.prepare_cached("DELETE FROM artifact WHERE seq = ?1")?.execute([seq])?;
                transaction.prepare_cached("DELETE FROM artifact_text WHERE rowid = ?1")?.execute([seq])?;
                transaction
                    .prepare_cached("DELETE FROM outbox WHERE instance = ?1 AND artifact = ?2")?
                    .execute([instance.key, seq])?;
                gone += 1;
            }
            if gone < most {
                for table in ["outbox", "gone", "volume"] {
                    transaction.execute(&format!("DELETE FROM {table} WHERE instance = ?1"), [instance.key])?;
                }
                transaction.execute("DELETE FROM instance WHERE key = ?1", [instance.key])?;
            }
            transaction.commit()?;
            Ok(gone)
        })
    }

    /// Writes index and database anew, without anything of what was removed, and ends the use of this store: open it again.
    /// It takes the time of copying all that is stored, and as much room on the disk again, but no more memory.
    ///
    /// # Errors
    /// When there is no room for the copy, somebody else reads the database, or it cannot be written; what is stored is as it
    /// was then.
    pub fn scrub(self) -> Result<(), StoreError> {
        let copy = directory::make_copy(&self.database.path)?;
        let copied = self.database.write(|connection| {
            connection.execute("INSERT INTO artifact_text(artifact_text) VALUES ('optimize')", [])?;
            connection.execute("VACUUM INTO ?1", [copy.to_string_lossy()])?;
            // The log belongs to the old file, and would damage the new one. It goes with this, unless somebody else has
            // the file open.
            connection.busy_timeout(Duration::ZERO)?;
            let mode: String = connection.pragma_update_and_check(None, "journal_mode", "delete", |row| row.get(0))?;
            if !mode.eq_ignore_ascii_case("delete") {
                return Ok(false);
            }
            let old = std::mem::replace(connection, Connection::open_in_memory()?);
            old.close().map(|()| true).map_err(|(_, error)| error)
        });
        match copied {
            Ok(true) => directory::take_copy(&copy, &self.database.path),
            Ok(false) => {
                directory::drop_copy(&copy);
                Err(StoreError::Busy { path: self.database.path.to_path_buf() })
            }
            Err(error) => {
                directory::drop_copy(&copy);
                Err(error)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NOW, artifact, batch, counted, found, store};
    use super::*;

    fn standings(dir: &tempfile::TempDir) -> Vec<Standing> {
        Reader::open(dir.path()).expect("reader").instances().expect("instances")
    }

    #[test]
    fn an_instance_that_is_removed_leaves_nothing_and_others_have_what_they_had() {
        let (dir, store, leaving) = store();
        let staying = store.identified(Some("s"), "staying", "acme-siem", NOW).expect("instance");
        for (instance, first) in [(&leaving, 0), (&staying, 10), (&leaving, 20)] {
            let word = if first == 10 { "kept" } else { "zebrafish" };
            let all = (first..first + 5).map(|number| artifact(number, &format!(r#","program":"{word}""#))).collect();
            store.commit_step(instance, &batch(all, b"state"), NOW).expect("committed");
        }
        store.keep_standings(&[(leaving.clone(), "{}".to_owned())], NOW).expect("kept");
        let before = standings(&dir);
        assert_eq!(before.iter().map(|one| one.artifacts).collect::<Vec<_>>(), [10, 5]);
        assert_eq!((before[0].undelivered, before[0].steps, before[0].last_step), (10, 2, Some(NOW)));
        assert_eq!(before[1].handle.as_deref(), Some("s"));

        assert_eq!(store.remove(&leaving, 4).expect("removed"), 4);
        assert_eq!(
            store.checkpoint(&leaving).expect("read"),
            None,
            "what has gone is collected anew, should it come back"
        );
        // Whoever stops here finds no more waiting than there is.
        assert_eq!(standings(&dir)[0].undelivered, 6);
        assert_eq!([4, 4].map(|most| store.remove(&leaving, most).expect("removed")), [4, 2]);
        // Not while somebody else has it open.
        let reader = Reader::open(dir.path()).expect("reader");
        assert_eq!(reader.instances().expect("instances").len(), 1);
        assert_eq!(store.clone().scrub().expect_err("in use").code(), "state-busy");
        assert_eq!(reader.instances().expect("instances").len(), 1);
        drop(reader);
        store.scrub().expect("scrubbed");
        let store = Store::open(dir.path()).expect("store");
        assert_eq!(standings(&dir), before[1..]);
        assert!(found(&store, "zebrafish").is_empty());
        assert_eq!(found(&store, "kept").len(), 5);
        assert_eq!(store.checkpoint(&staying).expect("read").as_deref(), Some(b"state".as_slice()));
        assert!(matches!(store.known("acme"), Err(StoreError::UnknownInstance { .. })));
        // No number is given twice, and one of the same name is new.
        let later = store.instance("later", "acme-siem", NOW).expect("instance");
        assert_eq!(store.remove(&later, 1).expect("removed"), 0);
        let latest = store.instance("latest", "acme-siem", NOW).expect("instance");
        assert_ne!(latest.key, later.key, "whoever has the one in hand does not meet the other");
        assert_eq!(store.by_id(latest.id).expect("read"), Some(latest));
        assert_eq!(store.by_id(later.id).expect("read"), None);
        let again = store.instance("acme", "acme-siem", NOW).expect("instance");
        assert_eq!((store.checkpoint(&again).expect("read"), store.standing(&again).expect("read")), (None, None));
        let one = store.commit_step(&again, &batch(vec![artifact(0, "")], b""), NOW).expect("committed");
        assert_eq!(counted(one), (1, 0));
        let seq: i64 = store
            .database
            .with(|connection| connection.query_row("SELECT max(seq) FROM artifact", [], |row| row.get(0)))
            .expect("read");
        assert_eq!(seq, 16);
        drop(store);
        for entry in std::fs::read_dir(dir.path()).expect("list") {
            let bytes = std::fs::read(entry.expect("entry").path()).expect("file");
            assert!(memchr::memmem::find(&bytes, b"zebrafish").is_none());
        }
    }

    #[test]
    fn all_of_an_instance_goes_in_portions_and_whoever_stops_in_between_can_go_on_later() {
        let (dir, store, leaving) = store();
        let all = (0..2 * PORTION + 1).map(|number| artifact(number, "")).collect();
        store.commit_step(&leaving, &batch(all, b"state"), NOW).expect("committed");
        let mut told = Vec::new();
        let mut stop_at = |most: usize| {
            store
                .remove_all(&leaving, |removed| {
                    told.push(removed);
                    told.len() < most
                })
                .expect("removed")
        };
        assert_eq!(stop_at(1), None, "it was stopped");
        assert_eq!(standings(&dir)[0].artifacts, u64::from(PORTION + 1));
        assert_eq!(stop_at(99), Some(u64::from(PORTION + 1)));
        assert_eq!((told, standings(&dir)), (vec![u64::from(PORTION); 2], vec![]));
    }

    #[test]
    fn one_that_begins_again_keeps_its_artifacts_and_stores_none_twice() {
        let (_dir, store, instance) = store();
        store.commit_step(&instance, &batch(vec![artifact(0, "")], b"state"), NOW).expect("committed");
        assert!(store.begin_again(&instance).expect("begun again"));
        assert!(!store.begin_again(&instance).expect("nothing left"));
        assert_eq!(store.checkpoint(&instance).expect("read"), None);
        let again = store.commit_step(&instance, &batch(vec![artifact(0, ""), artifact(1, "")], b"new"), NOW);
        assert_eq!(again.map(counted).expect("committed"), (1, 1));
    }

    #[test]
    fn an_instance_is_known_by_its_name_and_by_its_id() {
        let (_dir, store, _) = store();
        let one = store.identified(Some("acme"), "Other", "acme-siem", NOW).expect("instance");
        assert_eq!(store.known("Other").expect("by name"), one);
        let error = store.known("acme").expect_err("the name of one, the id of another");
        assert_eq!(error.code(), "instance-ambiguous");
        let id = store.identified(Some("id"), "Third", "acme-siem", NOW).expect("instance");
        assert_eq!(store.known("id").expect("by id"), id);
    }
}
