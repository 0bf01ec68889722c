//! Letting go of what is old.
//!
//! Why: a host that runs for years would fill any disk. What goes is the content of an artifact and its search text; its
//! id stays, in some hundred bytes, because a record that the vendor shows again must not be stored twice.
//! How: artifacts lie in the order of their arrival, so what was let go of is a beginning of them, and where it ends is
//! kept. The freed pages are used for what comes, so the file stops growing; it does not become smaller.
//! Not guaranteed: that what is old goes while something older has to stay, because no sink has taken it yet or the
//! clock was ahead when it came.

use rusqlite::{TransactionBehavior, params};
use time::OffsetDateTime;

use super::{Store, StoreError, to_millis};

impl Store {
    /// Lets go of at most `most` artifacts that were stored before a time, the oldest first, and gives how many these
    /// were: less than `most` when there are no more. What no sink has taken yet stays, unless `undelivered` says that
    /// there is none.
    ///
    /// # Errors
    /// When the database cannot be written. Nothing has gone then.
    pub fn forget(&self, before: OffsetDateTime, undelivered: bool, most: u32) -> Result<u32, StoreError> {
        let before = to_millis(before);
        self.database.with(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let swept: i64 = transaction.query_row("SELECT coalesce(max(seq), 0) FROM swept", [], |row| row.get(0))?;
            let rows: Vec<(i64, i64, i64, bool)> = transaction
                .prepare_cached(
                    "SELECT a.seq, a.instance, a.stored,
                            EXISTS (SELECT 1 FROM outbox o WHERE o.instance = a.instance AND o.artifact = a.seq)
                     FROM artifact a WHERE a.seq > ?1 ORDER BY a.seq LIMIT ?2",
                )?
                .query_map(params![swept, most], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
                .collect::<Result<_, _>>()?;
            let may_go = |row: &&(i64, i64, i64, bool)| row.2 < before && (undelivered || !row.3);
            let mut last = swept;
            let mut gone = 0;
            for (seq, instance, ..) in rows.iter().take_while(may_go) {
                transaction.prepare_cached("UPDATE artifact SET json = '' WHERE seq = ?1")?.execute([seq])?;
                transaction.prepare_cached("DELETE FROM artifact_text WHERE rowid = ?1")?.execute([seq])?;
                transaction
                    .prepare_cached("DELETE FROM outbox WHERE instance = ?1 AND artifact = ?2")?
                    .execute([instance, seq])?;
                (last, gone) = (*seq, gone + 1);
            }
            if gone > 0 {
                transaction.execute("DELETE FROM swept", [])?;
                transaction.execute("INSERT INTO swept (seq) VALUES (?1)", [last])?;
                transaction.commit()?;
            }
            Ok(gone)
        })
    }
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::super::tests::{artifact, batch, found, store};
    use super::*;
    use crate::store::{Committed, Instance};

    const START: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn days(days: i64) -> OffsetDateTime {
        START + Duration::days(days)
    }

    /// A store with three artifacts that came a day after each other.
    fn stage() -> (tempfile::TempDir, Store, Instance) {
        let (dir, store, instance) = store();
        for day in 0..3 {
            let one = artifact(day, r#","program":"common""#);
            store.commit_step(&instance, &batch(vec![one], b"state"), days(day.into())).expect("committed");
        }
        (dir, store, instance)
    }

    fn forget(store: &Store, before: OffsetDateTime, most: u32) -> u32 {
        store.forget(before, true, most).expect("forgotten")
    }

    #[test]
    fn what_is_old_goes_with_its_search_text_and_is_never_stored_again() {
        let (dir, store, instance) = stage();
        assert_eq!(found(&store, "common"), [2, 1, 0]);
        assert_eq!(forget(&store, days(1), 100), 1, "what is not older stays");
        assert_eq!((found(&store, "common"), found(&store, "")), (vec![2, 1], vec![2, 1]));
        assert_eq!(forget(&store, days(1), 100), 0);
        let again = batch(vec![artifact(0, r#","program":"common""#)], b"state");
        let committed = store.commit_step(&instance, &again, days(9)).expect("committed");
        assert_eq!(committed, Committed { new: 0, repeated: 1 }, "its id is known");
        assert_eq!(found(&store, "common"), [2, 1]);
        // In parts, and over a restart.
        drop(store);
        let store = Store::open(dir.path()).expect("store");
        assert_eq!([1, 1, 1].map(|most| forget(&store, days(99), most)), [1, 1, 0]);
        assert_eq!((found(&store, "common"), found(&store, "")), (vec![], vec![]));
        assert_eq!(store.counts().expect("counts").undelivered, 0);
        assert_eq!(store.checkpoint(&instance).expect("checkpoint").as_deref(), Some(b"state".as_slice()));
        // What comes then is there.
        store.commit_step(&instance, &batch(vec![artifact(7, "")], b"state"), days(99)).expect("committed");
        assert_eq!((forget(&store, days(99), 100), found(&store, "")), (0, vec![7]));
    }

    #[test]
    fn what_no_sink_has_taken_yet_stays_and_what_came_after_it_too() {
        let (_dir, store, instance) = stage();
        assert_eq!(store.forget(days(99), false, 100).expect("forgotten"), 0);
        let waiting = store.undelivered(&instance, 1).expect("waiting");
        store.mark_delivered(&instance, &waiting).expect("delivered");
        assert_eq!(store.forget(days(99), false, 100).expect("forgotten"), 1);
        assert_eq!(found(&store, ""), [2, 1]);
        assert_eq!(store.undelivered(&instance, 9).expect("waiting").len(), 2);
    }
}
