//! The retention: artifacts that are older than the operator wants to keep are let go of.
//!
//! Why in small portions with pauses: a commit of a poll never waits for more than one of them.
//! Why slowly at first: what goes does not come again, and a clock may be wrong, at the start of a machine above all. Until
//! the clock has gone as it should for a day, a look lets go of no more than what was stored within a day of the oldest.
//! Not guaranteed: that what is old goes at once; it is looked for every hour. See [`crate::store::Store::forget`] for what
//! stays.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;

use super::board::Board;
use super::guard::guarded;
use crate::instances::report::counted;
use crate::store::{Store, StoreError};

/// How often it is looked for what is old.
const EVERY: Duration = Duration::from_hours(1);

/// Between two looks while the clock is not trusted: a little less than that.
const LEAST_BETWEEN: time::Duration = time::Duration::minutes(55);

/// Artifacts that go in one transaction.
const PORTION: u32 = 500;

/// Between two of these.
const PAUSE: Duration = Duration::from_millis(100);

/// What is kept, and where.
pub struct Retention {
    /// The artifacts.
    pub store: Store,
    /// Knows the time.
    pub board: Arc<Board>,
    /// Days for which they are kept.
    pub days: u16,
    /// Whether those go as well that no sink has taken: there is none.
    pub undelivered: bool,
}

impl Retention {
    /// Works for ever.
    pub async fn run(self) {
        let board = Arc::clone(&self.board);
        guarded(&board, "the retention", self.work()).await;
    }

    async fn work(self) {
        let mut trust = Trust::new(self.board.now());
        let mut looks = tokio::time::interval(EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let is_trusted = trust.look(self.board.now());
            // However often the host is started anew, a clock that is wrong costs no more than it does while one runs.
            if !is_trusted && self.has_looked().await {
                continue;
            }
            match self.once(is_trusted).await {
                Ok(0) => {}
                Ok(gone) => tracing::info!(
                    "let go of {} that {} kept for {}",
                    counted(gone, "artifact"),
                    if gone == 1 { "was" } else { "were" },
                    counted(self.days.into(), "day")
                ),
                Err(error) => tracing::error!("old artifacts stay: {error}; it is tried again in an hour"),
            }
        }
    }

    /// Whether something was let go of within the last hour, by this host or one before.
    async fn has_looked(&self) -> bool {
        let store = self.store.clone();
        let last = tokio::task::spawn_blocking(move || store.last_swept()).await;
        let Ok(Ok(Some(last))) = last else { return false };
        (self.board.now() - last).abs() < LEAST_BETWEEN
    }

    /// Lets go of what is old now, of a day's worth of it where the clock is not trusted, and gives how many these were.
    async fn once(&self, is_trusted: bool) -> Result<u64, StoreError> {
        let now = self.board.now();
        let mut before = now - time::Duration::days(self.days.into());
        if !is_trusted {
            let store = self.store.clone();
            let Ok(oldest) = tokio::task::spawn_blocking(move || store.oldest(now)).await else { return Ok(0) };
            let Some(oldest) = oldest? else { return Ok(0) };
            before = before.min(oldest.saturating_add(time::Duration::DAY));
        }
        let mut all = 0;
        loop {
            let (store, undelivered) = (self.store.clone(), self.undelivered);
            let work = move || store.forget(before, now, undelivered, PORTION);
            // A host that is shutting down needs no room any more.
            let Ok(gone) = tokio::task::spawn_blocking(work).await else { return Ok(all) };
            let gone = gone?;
            all += u64::from(gone);
            if gone < PORTION {
                return Ok(all);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// How long the clock has gone as it should: as far as the one that nobody sets.
struct Trust {
    since: Instant,
    last: (Instant, OffsetDateTime),
}

/// How long it has to.
const TRUSTED_AFTER: Duration = Duration::from_hours(24);

/// What it may be off by between two looks.
const MOST_OFF: time::Duration = time::Duration::minutes(10);

impl Trust {
    fn new(wall: OffsetDateTime) -> Self {
        let now = Instant::now();
        Self { since: now, last: (now, wall) }
    }

    /// Looks at the clock; tells whether it is trusted.
    fn look(&mut self, wall: OffsetDateTime) -> bool {
        let now = Instant::now();
        let (then, shown) = self.last;
        self.last = (now, wall);
        let passed = time::Duration::try_from(now - then).unwrap_or(time::Duration::MAX);
        if ((wall - shown) - passed).abs() > MOST_OFF {
            tracing::warn!("the clock was set, or the machine stood still: for a day old artifacts go slowly only");
            self.since = now;
        }
        now - self.since >= TRUSTED_AFTER
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::contract::types::{Artifact, Batch};

    /// So many artifacts, by their numbers.
    fn artifacts(from: u128, count: u128) -> Batch {
        let one = |number| {
            let id = uuid::Uuid::from_u128(number).to_string();
            Artifact { json: format!(r#"{{"id":"{id}"}}"#), id, stream: "records".into() }
        };
        Batch {
            artifacts: (from..from + count).map(one).collect(),
            checkpoint: Vec::new(),
            more: false,
            reports: Vec::new(),
            retry_after_seconds: None,
            hint: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn artifacts_go_when_they_have_been_kept_for_so_many_days_and_not_before() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(dir.path()).expect("store");
        let start = OffsetDateTime::from_unix_timestamp(1_800_000_000).expect("time");
        let instance = store.instance("acme", "acme-siem", start).expect("instance");
        store.commit_step(&instance, &artifacts(0, 1_200), start).expect("committed");
        let began = tokio::time::Instant::now();
        let board = Arc::new(Board::new(Arc::new(move || start + began.elapsed()), 1));
        tokio::spawn(Retention { store: store.clone(), board, days: 7, undelivered: true }.run());
        tokio::time::sleep(Duration::from_hours(2)).await;
        store.commit_step(&instance, &artifacts(5_000, 1), start + Duration::from_hours(2)).expect("committed");
        let left = || store.search("", None, 10_000).expect("found").len();
        tokio::time::sleep(Duration::from_hours(7 * 24 - 3)).await;
        assert_eq!(left(), 1_201, "in the last hour of the seventh day");
        tokio::time::sleep(Duration::from_mins(150)).await;
        assert_eq!(left(), 1, "the portions of one look");
        tokio::time::sleep(Duration::from_hours(3)).await;
        assert_eq!(left(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_wrong_for_a_while_costs_a_days_worth_a_look_and_what_is_old_goes_within_two_days_all_the_same()
     {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(dir.path()).expect("store");
        let start = OffsetDateTime::from_unix_timestamp(1_800_000_000).expect("time");
        let instance = store.instance("acme", "acme-siem", start).expect("instance");
        for day in 0..60_u128 {
            let stored = start - time::Duration::days(60) + Duration::from_hours(24 * u64::try_from(day).expect("few"));
            store.commit_step(&instance, &artifacts(day, 1), stored).expect("committed");
        }
        // A year ahead at the start, for half an hour.
        let ahead = Arc::new(Mutex::new(time::Duration::days(365)));
        let (began, by) = (tokio::time::Instant::now(), Arc::clone(&ahead));
        let clock = move || start + began.elapsed() + *by.lock().expect("lock");
        let board = Arc::new(Board::new(Arc::new(clock), 1));
        tokio::spawn(Retention { store: store.clone(), board, days: 90, undelivered: true }.run());
        let left = || store.search("", None, 10_000).expect("found").len();
        tokio::time::sleep(Duration::from_mins(30)).await;
        assert_eq!(left(), 59, "one day's worth");
        *ahead.lock().expect("lock") = time::Duration::ZERO;
        tokio::time::sleep(Duration::from_hours(72)).await;
        assert_eq!(left(), 59, "nothing is old");
        // It really is another time: the operator may have wanted that much kept.
        *ahead.lock().expect("lock") = time::Duration::days(365);
        tokio::time::sleep(Duration::from_hours(3)).await;
        assert!((54..59).contains(&left()), "{}", left());
        tokio::time::sleep(Duration::from_hours(26)).await;
        assert_eq!(left(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_is_started_again_and_again_with_a_wrong_clock_lets_go_of_no_more() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(dir.path()).expect("store");
        let start = OffsetDateTime::from_unix_timestamp(1_800_000_000).expect("time");
        let instance = store.instance("acme", "acme-siem", start).expect("instance");
        for day in 0..60_u128 {
            let stored = start + Duration::from_hours(24 * u64::try_from(day).expect("few"));
            store.commit_step(&instance, &artifacts(day, 1), stored).expect("committed");
        }
        let began = tokio::time::Instant::now();
        let wrong = start + time::Duration::days(3_650);
        let left = || store.search("", None, 10_000).expect("found").len();
        let mut seen = Vec::new();
        for _ in 0..30 {
            let board = Arc::new(Board::new(Arc::new(move || wrong + began.elapsed()), 1));
            let host = tokio::spawn(Retention { store: store.clone(), board, days: 90, undelivered: true }.run());
            tokio::time::sleep(Duration::from_mins(5)).await;
            host.abort();
            seen.push(left());
        }
        assert_eq!((seen[0], seen[10]), (59, 59), "within the hour nothing more goes");
        assert!(seen[29] >= 57, "{seen:?}");
    }
}
