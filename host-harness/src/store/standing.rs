//! How instances stood after their last poll.
//!
//! Why kept: after a restart the status still says when an instance was polled last and what was wrong with it, and a
//! vendor that asked for an hour of peace gets it.
//! Not guaranteed: the text is opaque here; whoever writes it reads it, and takes what it cannot read for nothing.

use rusqlite::{OptionalExtension, TransactionBehavior, params};
use time::OffsetDateTime;

use super::{Instance, Store, StoreError, to_millis};

impl Store {
    /// What was kept last, if anything was.
    pub fn standing(&self, instance: &Instance) -> Result<Option<String>, StoreError> {
        self.database.with(|connection| {
            connection
                .prepare_cached("SELECT json FROM standing WHERE instance = ?1")?
                .query_row([instance.key], |row| row.get(0))
                .optional()
        })
    }

    /// Keeps how instances stand, in place of what was kept of them before, all in one transaction.
    pub fn keep_standings(&self, standings: &[(Instance, String)], now: OffsetDateTime) -> Result<(), StoreError> {
        self.database.write(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            {
                let mut statement = transaction.prepare_cached(
                    "INSERT INTO standing (instance, json, updated) VALUES (?1, ?2, ?3)
                     ON CONFLICT (instance) DO UPDATE SET json = ?2, updated = ?3",
                )?;
                for (instance, json) in standings {
                    statement.execute(params![instance.key, json, to_millis(now)])?;
                }
            }
            transaction.commit()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_standing_is_there_after_the_store_is_opened_again() {
        let now = OffsetDateTime::UNIX_EPOCH;
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(dir.path()).expect("store");
        let instance = store.instance("acme", "acme-siem", now).expect("instance");
        assert_eq!(store.standing(&instance).expect("read"), None);
        for text in ["one", "two"] {
            store.keep_standings(&[(instance.clone(), text.to_owned())], now).expect("kept");
        }
        drop(store);
        let store = Store::open(dir.path()).expect("store");
        assert_eq!(store.standing(&instance).expect("read").as_deref(), Some("two"));
    }
}
