//! Letting go of what is old.
//!
//! Why: a host that runs for years would fill any disk. What goes is an artifact and its search text; its id stays, in some
//! forty bytes, because a record that the vendor shows again must not be stored twice.
//! How: artifacts lie in the order of their arrival, so what goes is a beginning of them, in whole pages. These are used for
//! what comes, so the file stops growing but for the ids; it does not become smaller.
//! Not guaranteed: that what is old goes while something older has to stay, because no sink has taken it yet; that what came
//! while the clock was ahead goes before the time that it says has passed. It holds up nothing else.

use rusqlite::{OptionalExtension, TransactionBehavior, params};
use time::OffsetDateTime;

use super::{Store, StoreError, from_millis, to_millis};

/// Artifacts that are looked at for one that is not of a time to come: as many as came in a long spell of a wrong clock.
const MOST_LOOKED_AT: i64 = 100_000;

impl Store {
    /// When the artifact that has been stored for longest was stored, of those that were before a time; none when there is
    /// no such artifact among those that came first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn oldest(&self, before: OffsetDateTime) -> Result<Option<OffsetDateTime>, StoreError> {
        let before = to_millis(before);
        self.database.with(|connection| {
            // Not all of them: a clock of long ago would have every one be looked at.
            let mut first = connection.prepare_cached(
                "SELECT stored FROM (SELECT stored FROM artifact ORDER BY seq LIMIT ?2) WHERE stored < ?1 LIMIT 1",
            )?;
            first.query_row([before, MOST_LOOKED_AT], |row| row.get(0)).optional().map(|stored| stored.map(from_millis))
        })
    }

    /// When artifacts were last let go of, by the clock of then; none when none were.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn last_swept(&self) -> Result<Option<OffsetDateTime>, StoreError> {
        self.database.with(|connection| {
            let mut last = connection.prepare_cached("SELECT at FROM swept WHERE at > 0")?;
            last.query_row([], |row| row.get(0)).optional().map(|at| at.map(from_millis))
        })
    }

    /// Lets go of at most `most` artifacts that were stored before a time, the oldest first, and gives how many these
    /// were: less than `most` when there are no more. What no sink has taken yet stays, unless `undelivered` says that
    /// there is none. What says that it was stored after `now` is passed over: the clock was ahead then. Where more than a
    /// hundred thousand such come first, what is behind them stays.
    ///
    /// # Errors
    /// When the database cannot be written. Nothing has gone then.
    pub fn forget(
        &self,
        before: OffsetDateTime,
        now: OffsetDateTime,
        undelivered: bool,
        most: u32,
    ) -> Result<u32, StoreError> {
        let (before, now) = (to_millis(before), to_millis(now));
        self.database.write(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let rows: Vec<(i64, i64, Vec<u8>, i64, bool)> = transaction
                .prepare_cached(
                    "SELECT a.seq, a.instance, a.id, a.stored,
                            EXISTS (SELECT 1 FROM outbox o WHERE o.instance = a.instance AND o.artifact = a.seq)
                     FROM (SELECT * FROM artifact ORDER BY seq LIMIT ?3) a WHERE a.stored <= ?2 ORDER BY a.seq LIMIT ?1",
                )?
                .query_map(params![most, now, MOST_LOOKED_AT], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
                })?
                .collect::<Result<_, _>>()?;
            let may_go = |row: &&(i64, i64, Vec<u8>, i64, bool)| row.3 < before && (undelivered || !row.4);
            let mut last = 0;
            let mut gone = 0;
            for (seq, instance, id, ..) in rows.iter().take_while(may_go) {
                transaction
                    .prepare_cached("INSERT INTO gone (instance, id) VALUES (?1, ?2)")?
                    .execute(params![instance, id])?;
                transaction.prepare_cached("DELETE FROM artifact WHERE seq = ?1")?.execute([seq])?;
                transaction.prepare_cached("DELETE FROM artifact_text WHERE rowid = ?1")?.execute([seq])?;
                transaction
                    .prepare_cached("DELETE FROM outbox WHERE instance = ?1 AND artifact = ?2")?
                    .execute([instance, seq])?;
                (last, gone) = (*seq, gone + 1);
            }
            if gone > 0 {
                // The number of an artifact is never given again; that of one that was removed may be higher.
                let before: Option<i64> = transaction.query_row("SELECT max(seq) FROM swept", [], |row| row.get(0))?;
                transaction.execute("DELETE FROM swept", [])?;
                transaction.execute(
                    "INSERT INTO swept (seq, at) VALUES (?1, ?2)",
                    [before.map_or(last, |before| before.max(last)), now],
                )?;
                transaction.commit()?;
            }
            Ok(gone)
        })
    }
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::super::tests::{artifact, batch, counted, found, store};
    use super::*;
    use crate::store::Instance;

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
        store.forget(before, days(99), true, most).expect("forgotten")
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
        assert_eq!(counted(committed), (0, 1), "its id is known");
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
    fn what_comes_takes_the_room_of_what_goes() {
        const A_DAY: u32 = 1_000;
        let (_dir, store, instance) = store();
        let mut words = 0_u64;
        let mut word = || {
            words += 1;
            format!("{:016x}", words.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        };
        // Every artifact has words of its own, as ids are; the last two days are kept.
        let pages: Vec<i64> = (0..24)
            .map(|day| {
                let mut one = |number| {
                    let own: Vec<String> = (0..20).map(|_| word()).collect();
                    artifact(number, &format!(r#","program":"{}""#, own.join(" ")))
                };
                let all = (day * A_DAY..(day + 1) * A_DAY).map(&mut one).collect();
                store.commit_step(&instance, &batch(all, b"state"), days(day.into())).expect("committed");
                forget(&store, days(i64::from(day) - 1), 10_000);
                let pages = |connection: &mut rusqlite::Connection| {
                    connection.query_row("SELECT page_count FROM pragma_page_count", [], |row| row.get(0))
                };
                store.database.with(pages).expect("pages")
            })
            .collect();
        let grown = |from: usize, to: usize| pages[to] - pages[from];
        // A day takes 257 pages, of which its ids keep ten.
        assert!(grown(7, 23) < 16 * grown(0, 1) / 10, "{pages:?}");
    }

    #[test]
    fn the_number_of_an_artifact_is_never_given_again() {
        let (_dir, store, instance) = stage();
        let last = store.undelivered(&instance, 9).expect("waiting").pop().expect("one");
        assert_eq!(forget(&store, days(99), 9), 3);
        store.commit_step(&instance, &batch(vec![artifact(9, "")], b"state"), days(9)).expect("committed");
        store.mark_delivered(&instance, &[last]).expect("delivered");
        assert_eq!(store.undelivered(&instance, 9).expect("waiting").len(), 1, "the one that is gone was meant");
    }

    #[test]
    fn what_came_while_the_clock_was_ahead_holds_nothing_else_up() {
        let (_dir, store, instance) = store();
        for (number, day) in [(0, 1), (1, 3_650), (2, 2), (3, 90)] {
            store.commit_step(&instance, &batch(vec![artifact(number, "")], b"state"), days(day)).expect("committed");
        }
        assert_eq!(store.oldest(days(99)).expect("read"), Some(days(1)));
        assert_eq!(forget(&store, days(60), 1), 1);
        assert_eq!(
            (store.oldest(days(99)).expect("read"), store.last_swept().expect("read")),
            (Some(days(2)), Some(days(99)))
        );
        assert_eq!((forget(&store, days(60), 9), found(&store, "")), (1, vec![3, 1]));
        // Numbers are not given again, whatever was removed and let go of since.
        let last = |store: &Store| {
            store.commit_step(&instance, &batch(vec![artifact(9, "")], b"state"), days(99)).expect("committed");
            let last = |connection: &mut rusqlite::Connection| {
                connection.query_row("SELECT max(seq) FROM artifact", [], |row| row.get::<_, i64>(0))
            };
            store.database.with(last).expect("read")
        };
        let other = store.instance("other", "acme-siem", days(99)).expect("instance");
        let of_other = batch(vec![artifact(5, ""), artifact(6, "")], b"state");
        store.commit_step(&other, &of_other, days(99)).expect("committed");
        store.remove(&other, 99).expect("removed");
        assert_eq!(forget(&store, days(91), 9), 1);
        assert_eq!(last(&store), 7, "4 of this, 2 of the other that was removed");
    }

    #[test]
    fn what_no_sink_has_taken_yet_stays_and_what_came_after_it_too() {
        let (_dir, store, instance) = stage();
        assert_eq!(store.forget(days(99), days(99), false, 100).expect("forgotten"), 0);
        let waiting = store.undelivered(&instance, 1).expect("waiting");
        store.mark_delivered(&instance, &waiting).expect("delivered");
        assert_eq!(store.forget(days(99), days(99), false, 100).expect("forgotten"), 1);
        assert_eq!(found(&store, ""), [2, 1]);
        assert_eq!(store.undelivered(&instance, 9).expect("waiting").len(), 2);
    }
}
