//! The retention: artifacts that are older than the operator wants to keep are let go of.
//!
//! Why in small portions with pauses: a commit of a poll never waits for more than one of them.
//! Not guaranteed: that what is old goes at once; it is looked for every hour. See [`crate::store::Store::forget`] for what
//! stays.

use std::sync::Arc;
use std::time::Duration;

use super::board::Board;
use super::guard::guarded;
use crate::instances::report::counted;
use crate::store::{Store, StoreError};

/// How often it is looked for what is old.
const EVERY: Duration = Duration::from_hours(1);

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
        let mut looks = tokio::time::interval(EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            match self.once().await {
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

    /// Lets go of all that is old now, and gives how many these were.
    async fn once(&self) -> Result<u64, StoreError> {
        let before = self.board.now() - time::Duration::days(self.days.into());
        let mut all = 0;
        loop {
            let (store, undelivered) = (self.store.clone(), self.undelivered);
            let work = move || store.forget(before, undelivered, PORTION);
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

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;
    use crate::contract::types::{Artifact, Batch};

    #[tokio::test(start_paused = true)]
    async fn artifacts_go_when_they_have_been_kept_for_so_many_days_and_not_before() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(dir.path()).expect("store");
        let start = OffsetDateTime::from_unix_timestamp(1_800_000_000).expect("time");
        let instance = store.instance("acme", "acme-siem", start).expect("instance");
        let artifacts = |from: u128, count: u128| Batch {
            artifacts: (from..from + count)
                .map(|number| {
                    let id = uuid::Uuid::from_u128(number).to_string();
                    Artifact { json: format!(r#"{{"id":"{id}"}}"#), id, stream: "records".into() }
                })
                .collect(),
            checkpoint: Vec::new(),
            more: false,
            reports: Vec::new(),
            retry_after_seconds: None,
            hint: None,
        };
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
}
