//! How much an instance may bring in a day.
//!
//! Why: a connector that brings something new with every step is polled on, and would fill the disk for all tenants. What it
//! may bring is bound by the day and not altogether, so that nobody who collects for years meets the bound: the next day, it goes
//! on where it stopped, by itself.
//! What counts are the bytes of new artifacts, and for each of them what its rows take besides. In the file that is about
//! twice as much, because of the search text.
//! Days are those of UTC, by the clock of the host: one that is set back or ahead begins another day.
//! Not guaranteed: that a day's bound is not passed by what one step brings.

use std::sync::atomic::Ordering;

use rusqlite::{Connection, OptionalExtension, Transaction, params};
use time::OffsetDateTime;

use super::{Instance, Store, StoreError, to_millis};
use crate::contract::types::Artifact;

/// Bytes that the rows and keys of an artifact take besides what it says.
const ROWS: u64 = 256;

/// Milliseconds of a day.
const DAY: i64 = 86_400_000;

impl Store {
    /// From now on every instance may bring so many bytes of artifacts a day. Clones of the store share it.
    pub fn limit_daily(&self, bytes: u64) {
        self.daily.store(bytes, Ordering::Relaxed);
    }

    /// Whether an instance may bring anything more today.
    ///
    /// # Errors
    /// [`StoreError::Daily`] when it may not; another when the database cannot be read.
    pub fn try_volume(&self, instance: &Instance, now: OffsetDateTime) -> Result<(), StoreError> {
        let now = to_millis(now);
        let brought = self.database.with(|connection| brought(connection, instance.key, now))?;
        self.judge(brought)
    }

    /// Judges what an instance has brought today.
    pub(super) fn judge(&self, brought: u64) -> Result<(), StoreError> {
        let most = self.daily.load(Ordering::Relaxed);
        if brought >= most { Err(StoreError::Daily { most }) } else { Ok(()) }
    }
}

/// What an instance has brought on the day of a time.
pub(super) fn brought(connection: &Connection, instance: i64, now: i64) -> rusqlite::Result<u64> {
    let mut row = connection.prepare_cached("SELECT bytes FROM volume WHERE instance = ?1 AND day = ?2")?;
    let bytes = row.query_row([instance, now.div_euclid(DAY)], |row| row.get::<_, i64>(0)).optional()?;
    Ok(bytes.unwrap_or(0).unsigned_abs())
}

/// What artifacts count.
pub(super) fn of<'a>(artifacts: impl Iterator<Item = &'a Artifact>) -> u64 {
    artifacts.map(|artifact| ROWS.saturating_add(u64::try_from(artifact.json.len()).unwrap_or(u64::MAX))).sum()
}

/// Counts what an instance has brought.
pub(super) fn add(transaction: &Transaction<'_>, instance: i64, bytes: u64, now: i64) -> rusqlite::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    transaction
        .prepare_cached(
            "INSERT INTO volume (instance, day, bytes) VALUES (?1, ?2, ?3)
             ON CONFLICT (instance) DO UPDATE SET day = ?2, bytes = ?3 + CASE WHEN day = ?2 THEN bytes ELSE 0 END",
        )?
        .execute(params![instance, now.div_euclid(DAY), i64::try_from(bytes).unwrap_or(i64::MAX)])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::super::tests::{NOW, artifact, batch, store};
    use super::*;

    #[test]
    fn who_has_brought_a_days_worth_waits_for_the_next_and_loses_nothing() {
        let (dir, store, instance) = store();
        let other = store.instance("other", "acme-siem", NOW).expect("instance");
        let commit = |store: &Store, of: &Instance, number, now| {
            let one = artifact(number, &format!(r#","program":"{}""#, "x".repeat(1_000)));
            store.commit_step(of, &batch(vec![one], format!("{number}").as_bytes()), now)
        };
        store.limit_daily(2_500);
        let midnight = NOW.replace_time(time::Time::MIDNIGHT);
        let late = midnight + Duration::hours(23);
        // Each counts what it says and what its rows take; the bound is met after the second.
        for number in 0..2 {
            store.try_volume(&instance, late).expect("there is room");
            commit(&store, &instance, number, late).expect("committed");
        }
        let refused = commit(&store, &instance, 2, late).expect_err("it is over");
        assert_eq!(
            (refused.code(), store.try_volume(&instance, late).expect_err("over").code()),
            ("daily-limit", "daily-limit")
        );
        assert_eq!(
            store.checkpoint(&instance).expect("read").as_deref(),
            Some(b"1".as_slice()),
            "it goes on from there"
        );
        // What came before does not count again.
        for _ in 0..5 {
            commit(&store, &other, 0, late).expect("another has its own");
        }
        assert_eq!(store.try_volume(&other, late).ok(), Some(()));
        // Over a restart, until the day has ended.
        drop(store);
        let store = Store::open(dir.path()).expect("store");
        assert_eq!(store.try_volume(&instance, late).ok(), Some(()), "without a bound nothing is over");
        store.limit_daily(2_500);
        assert!(store.try_volume(&instance, late).is_err());
        let next = midnight + Duration::DAY;
        store.try_volume(&instance, next).expect("another day");
        commit(&store, &instance, 2, next).expect("committed");
        assert_eq!(store.counts().expect("counts").artifacts, 4);
    }

    #[test]
    fn what_says_nothing_counts_what_it_takes() {
        let (_dir, store, instance) = store();
        store.limit_daily(100 * ROWS);
        let mut steps = 0;
        while store
            .commit_step(&instance, &batch((steps * 10..steps * 10 + 10).map(|n| artifact(n, "")).collect(), b""), NOW)
            .is_ok()
        {
            steps += 1;
        }
        assert!((2..10).contains(&steps), "{steps}");
    }
}
