//! Which instance is which.
//!
//! Why an id beside the name: names are for people and change, progress must not. An instance has a random UUID for
//! life; the operator may give it an id of his own in the configuration (its handle), and then it may be renamed. Without
//! a handle it is known by its name.
//! Not guaranteed: an instance without a handle that is renamed is a new one; the state under the old name stays.

use std::collections::HashSet;
use std::sync::atomic::Ordering;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, TransactionBehavior, params};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Instance, Store, StoreError, to_millis};
use crate::sandbox::is_tricky;

/// Longest instance name in characters.
const NAME_CHARACTERS: usize = 64;

/// Whether a text can be the name of an instance: 1 to 64 characters, none that
/// drives a terminal or turns text around, no space at the ends.
#[must_use]
pub fn is_instance_name(name: &str) -> bool {
    let length = name.chars().count();
    (1..=NAME_CHARACTERS).contains(&length) && name.trim() == name && !name.chars().any(is_tricky)
}

impl Store {
    /// The instance of this name; it is made when it does not exist.
    ///
    /// Fails when the name is not usable or belongs to another connector,
    /// whose checkpoint this one could not read.
    pub fn instance(&self, name: &str, connector: &str, now: OffsetDateTime) -> Result<Instance, StoreError> {
        self.identified(None, name, connector, now)
    }

    /// The instance with this handle, or UUID written as a handle, under its present name; without a handle, the one of
    /// this name. It is made when it does not exist. A handle that is new adopts the instance of the name unless that
    /// has one. An instance that had the name before and is another one loses it: it gets `<name> (<its UUID>)`, until
    /// it is asked for under a name again.
    ///
    /// Fails when the name is not usable, or the instance belongs to another connector, whose checkpoint this one could
    /// not read. One of which nothing was ever stored goes over to this connector.
    pub fn identified(
        &self,
        handle: Option<&str>,
        name: &str,
        connector: &str,
        now: OffsetDateTime,
    ) -> Result<Instance, StoreError> {
        let mut found = self.identify(&[Identity { handle, name, connector }], &[], now).map_err(|(_, error)| error)?;
        found.pop().ok_or(StoreError::Name { name: name.to_owned() })
    }

    /// The same for many, in their order and in one transaction: all or none. No two of them may be one instance. Those of
    /// the handles in `reserved` are nobody's, whatever name they have.
    ///
    /// # Errors
    /// One that cannot be had, by its place in the list.
    pub fn identify(
        &self,
        wanted: &[Identity<'_>],
        reserved: &[&str],
        now: OffsetDateTime,
    ) -> Result<Vec<Instance>, (usize, StoreError)> {
        if let Some((at, one)) = wanted.iter().enumerate().find(|(_, one)| !is_instance_name(one.name)) {
            return Err((at, StoreError::Name { name: one.name.to_owned() }));
        }
        self.in_place().map_err(|error| (0, error))?;
        let mut at = 0;
        let found = self.database.write(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut keys = HashSet::with_capacity(wanted.len());
            for handle in reserved {
                keys.extend(by_handle(&transaction, handle)?.map(|instance| instance.key));
            }
            // Who goes by a handle first: until that has its new name, its old one is not free for another.
            let mut order: Vec<(usize, &Identity<'_>)> = wanted.iter().enumerate().collect();
            order.sort_by_key(|(_, one)| one.handle.is_none());
            let mut found = Vec::with_capacity(wanted.len());
            for (place, one) in order {
                at = place;
                let instance = identify(&transaction, one, &keys, (self.highest.load(Ordering::Relaxed), now))?;
                if instance.connector != one.connector {
                    // Dropping the transaction undoes what was done for those before.
                    return Ok(Err(StoreError::OtherConnector {
                        name: instance.name,
                        owner: instance.connector,
                        given: one.connector.to_owned(),
                    }));
                }
                if !keys.insert(instance.key) {
                    return Ok(Err(StoreError::Twice));
                }
                found.push((place, instance));
            }
            transaction.commit()?;
            found.sort_unstable_by_key(|(place, _)| *place);
            Ok(Ok(found.into_iter().map(|(_, instance)| instance).collect()))
        });
        match found {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) | Err(error) => Err((at, error)),
        }
    }
}

/// How an instance is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// The id of the operator's own, or the UUID; none when the name alone counts.
    pub handle: Option<&'a str>,
    /// Its present name.
    pub name: &'a str,
    /// Slug of its connector.
    pub connector: &'a str,
}

/// Finds, renames or makes one, with a key above `highest`. One of another connector is given back as it is. What is `taken` is
/// not found by its name.
fn identify(
    transaction: &Transaction<'_>,
    one: &Identity<'_>,
    taken: &HashSet<i64>,
    (highest, now): (i64, OffsetDateTime),
) -> rusqlite::Result<Instance> {
    let Identity { handle, name, connector } = *one;
    let found = match handle {
        Some(handle) => match by_handle(transaction, handle)? {
            Some(found) => Some(found),
            None => adopt(transaction, handle, name, connector)?,
        },
        None => by_name(transaction, name)?.filter(|found| !taken.contains(&found.key)),
    };
    let Some(mut found) = found else {
        free(transaction, name)?;
        transaction.execute(
            "INSERT INTO instance (key, id, name, connector, created, handle)
             VALUES (max(coalesce((SELECT max(key) FROM instance), 0), ?6) + 1, ?1, ?2, ?3, ?4, ?5)",
            params![random_uuid(transaction)?.as_bytes(), name, connector, to_millis(now), handle, highest],
        )?;
        return by_name(transaction, name)?.ok_or(rusqlite::Error::QueryReturnedNoRows);
    };
    if found.connector != connector && is_untouched(transaction, found.key)? {
        // Somebody has corrected what it was called by at first.
        transaction.execute("UPDATE instance SET connector = ?2 WHERE key = ?1", params![found.key, connector])?;
        transaction.execute("DELETE FROM standing WHERE instance = ?1", [found.key])?;
        connector.clone_into(&mut found.connector);
    }
    if found.connector == connector && found.name != name {
        free(transaction, name)?;
        transaction.execute("UPDATE instance SET name = ?2 WHERE key = ?1", params![found.key, name])?;
        name.clone_into(&mut found.name);
    }
    Ok(found)
}

/// Whether nothing was ever stored of an instance.
fn is_untouched(connection: &Connection, key: i64) -> rusqlite::Result<bool> {
    let mut touched = connection.prepare_cached(
        "SELECT 1 FROM checkpoint WHERE instance = ?1 UNION ALL SELECT 1 FROM artifact WHERE instance = ?1
         UNION ALL SELECT 1 FROM gone WHERE instance = ?1",
    )?;
    Ok(!touched.exists([key])?)
}

/// The columns `key, id, name, connector`.
pub(super) fn row(row: &Row<'_>) -> rusqlite::Result<Instance> {
    let id: [u8; 16] = row.get(1)?;
    Ok(Instance { key: row.get(0)?, id: Uuid::from_bytes(id), name: row.get(2)?, connector: row.get(3)? })
}

/// The instance of this name, if there is one.
fn by_name(connection: &Connection, name: &str) -> rusqlite::Result<Option<Instance>> {
    connection
        .prepare_cached("SELECT key, id, name, connector FROM instance WHERE name = ?1")?
        .query_row([name], row)
        .optional()
}

/// The instance of this handle or UUID, if there is one.
fn by_handle(connection: &Connection, handle: &str) -> rusqlite::Result<Option<Instance>> {
    let id = Uuid::try_parse(handle).unwrap_or(Uuid::nil());
    connection
        .prepare_cached(
            "SELECT key, id, name, connector FROM instance WHERE handle = ?1 OR id = ?2 ORDER BY handle IS NULL LIMIT 1",
        )?
        .query_row(params![handle, id.as_bytes()], row)
        .optional()
}

/// Gives the instance of this name the handle, if it is of the connector and has none.
fn adopt(connection: &Connection, handle: &str, name: &str, connector: &str) -> rusqlite::Result<Option<Instance>> {
    let adopted = connection.execute(
        "UPDATE instance SET handle = ?1 WHERE name = ?2 AND connector = ?3 AND handle IS NULL",
        [handle, name, connector],
    )?;
    if adopted == 0 { Ok(None) } else { by_name(connection, name) }
}

/// Takes a name away from the instance that has it.
fn free(connection: &Connection, name: &str) -> rusqlite::Result<()> {
    if let Some(other) = by_name(connection, name)? {
        let retired = format!("{name} ({})", other.id);
        connection.execute("UPDATE instance SET name = ?2 WHERE key = ?1", params![other.key, retired])?;
    }
    Ok(())
}

/// A random UUID (version 4) from SQLite's generator, which the system seeds.
fn random_uuid(connection: &Connection) -> rusqlite::Result<Uuid> {
    let bytes: [u8; 16] = connection.query_row("SELECT randomblob(16)", [], |row| row.get(0))?;
    Ok(uuid::Builder::from_random_bytes(bytes).into_uuid())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(dir.path()).expect("store");
        (dir, store)
    }

    fn id(store: &Store, handle: Option<&str>, name: &str) -> Uuid {
        let found = store.identified(handle, name, "acme", NOW).expect(name);
        assert_eq!(found.name, name);
        found.id
    }

    #[test]
    fn an_instance_with_a_handle_may_be_renamed_and_stays_the_same() {
        let (_dir, store) = store();
        let first = id(&store, Some("a"), "one");
        assert_eq!(id(&store, Some("a"), "two"), first);
        assert_eq!(id(&store, None, "two"), first, "the name leads to it, too");
        assert_ne!(id(&store, None, "one"), first, "the old name is free");
    }

    #[test]
    fn an_instance_that_had_no_handle_is_adopted_by_the_first_one_and_by_no_other() {
        let (_dir, store) = store();
        let first = id(&store, None, "one");
        assert_eq!(id(&store, Some("a"), "one"), first);
        assert_ne!(id(&store, Some("b"), "one"), first, "another handle is another instance");
        assert_eq!(id(&store, Some("a"), "uno"), first);
    }

    #[test]
    fn two_instances_can_change_names() {
        let (_dir, store) = store();
        let (a, b) = (id(&store, Some("a"), "one"), id(&store, Some("b"), "two"));
        assert_eq!(id(&store, Some("a"), "two"), a);
        assert_eq!(id(&store, Some("b"), "one"), b);
    }

    #[test]
    fn the_uuid_that_the_status_shows_is_a_handle() {
        let (_dir, store) = store();
        let first = id(&store, None, "one");
        assert_eq!(id(&store, Some(&first.to_string()), "renamed"), first);
    }

    /// Stores something of an instance.
    fn touch(store: &Store, name: &str) {
        let instance = store.known(name).expect("known");
        let batch = super::super::tests::batch(Vec::new(), b"progress");
        store.commit_step(&instance, &batch, NOW).expect("committed");
    }

    #[test]
    fn an_instance_of_another_connector_is_refused_and_left_as_it_is() {
        let (_dir, store) = store();
        let first = id(&store, Some("a"), "one");
        touch(&store, "one");
        let error = store.identified(Some("a"), "two", "other", NOW).expect_err("must fail");
        assert_eq!(error.code(), "instance-of-other-connector");
        assert_eq!(id(&store, None, "one"), first);
    }

    #[test]
    fn of_many_all_are_had_or_nothing_has_changed() {
        let (_dir, store) = store();
        let first = id(&store, Some("a"), "one");
        touch(&store, "one");
        let one = |handle, name, connector| Identity { handle, name, connector };
        let wanted = [one(Some("a"), "renamed", "acme"), one(None, "new", "acme"), one(Some("a"), "x", "other")];
        let (at, error) = store.identify(&wanted, &[], NOW).expect_err("must fail");
        assert_eq!((at, error.code()), (2, "instance-of-other-connector"));
        assert_eq!(store.counts().expect("counts").instances, 1);
        assert_eq!(id(&store, None, "one"), first);
        let uuid = first.to_string();
        let twice =
            [one(None, "new", "acme"), one(Some("a"), "renamed", "acme"), one(Some(uuid.as_str()), "x", "acme")];
        let (at, error) = store.identify(&twice, &[], NOW).expect_err("must fail");
        assert_eq!((at, error.code()), (2, "config-twice"));
        assert_eq!(
            (store.counts().expect("counts").instances, id(&store, None, "one")),
            (1, first),
            "nothing has changed"
        );
        let found = store.identify(&wanted[..2], &[], NOW).expect("found");
        assert_eq!((found[0].id, found[0].name.as_str(), found.len()), (first, "renamed", 2));
    }

    #[test]
    fn a_name_that_one_gives_up_is_free_for_another_in_whatever_order_they_stand() {
        let (_dir, store) = store();
        let first = id(&store, Some("a"), "one");
        let wanted = [
            Identity { handle: None, name: "one", connector: "acme" },
            Identity { handle: Some("a"), name: "renamed", connector: "acme" },
        ];
        let found = store.identify(&wanted, &[], NOW).expect("found");
        assert_eq!((found[0].name.as_str(), found[1].name.as_str()), ("one", "renamed"), "in the order asked");
        assert!(found[1].id == first && found[0].id != first);
    }

    #[test]
    fn what_is_kept_for_somebody_is_given_to_nobody_by_its_name() {
        let (_dir, store) = store();
        let first = id(&store, Some("a"), "one");
        let wanted = [Identity { handle: None, name: "one", connector: "acme" }];
        let found = store.identify(&wanted, &["a", "unknown"], NOW).expect("found");
        assert_ne!(found[0].id, first);
        assert_eq!(id(&store, Some("a"), "again"), first, "its state is there when it comes back");
    }

    #[test]
    fn a_handle_adopts_nothing_of_another_connector() {
        let (_dir, store) = store();
        let first = id(&store, None, "one");
        let other = store.identified(Some("a"), "one", "other", NOW).expect("an instance of its own");
        assert_ne!(other.id, first);
    }
}
