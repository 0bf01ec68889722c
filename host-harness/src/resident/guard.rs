//! Tasks that must not end without a word.
//!
//! Why: a task that panics ends alone. The host would go on without its schedule, or without seeing edits, and say that
//! it is well. So it is told which part has panicked, in log, status, health and metrics, and the host ends in good order
//! and with a failure, for whatever started it to start it again.
//! Not guaranteed: that it ends at once, see [`beyond_repair`]; nor that a start mends it. A poll that panics is none of
//! these parts: it fails alone.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::time::Instant;

use super::board::Board;

/// How long a host runs at least. What panics at every start must not keep the rest from its work, and within this time
/// every instance with the usual interval is due once.
const RUNS_AT_LEAST: Duration = Duration::from_mins(5);

/// Waits until a part of the host has panicked and the host, which began then, has run for [`RUNS_AT_LEAST`].
pub(crate) async fn beyond_repair(board: &Board, began: Instant) {
    board.breaks().await;
    tokio::time::sleep_until(began + RUNS_AT_LEAST).await;
}

/// Does something; should it panic, that is told, and the host is broken.
pub(crate) async fn guarded(board: &Board, what: &str, work: impl Future<Output = ()>) {
    if AssertUnwindSafe(work).catch_unwind().await.is_err() {
        broken(board, what);
    }
}

/// Tells that a part has panicked, and that the host is broken.
pub(super) fn broken(board: &Board, what: &str) {
    tracing::error!("the host is broken: {what} has panicked; report this. It ends itself, to be started again");
    board.note_broken(what);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use time::OffsetDateTime;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_shows_in_the_health_of_the_host_and_ends_it() {
        let board = Board::new(Arc::new(|| OffsetDateTime::UNIX_EPOCH), 1);
        let began = Instant::now();
        guarded(&board, "a task", async {}).await;
        assert!(board.host().broken.is_empty());
        let day = Duration::from_hours(24);
        assert!(tokio::time::timeout(day, beyond_repair(&board, began)).await.is_err(), "it is well");
        guarded(&board, "a task", async { panic!("as the test wants") }).await;
        assert_eq!((board.host().broken, board.host().stopping), (vec!["a task".to_owned()], false));
        let at = Instant::now();
        beyond_repair(&board, began).await;
        assert_eq!(at.elapsed(), Duration::ZERO);
        beyond_repair(&board, at).await;
        assert!(at.elapsed() >= RUNS_AT_LEAST, "what panics at every start");
    }
}
