//! Tasks that must not end without a word.
//!
//! Why: a task that panics ends alone. The host would go on without its schedule, or without seeing edits, and say that
//! it is well; whoever restarts it by its health would never do so.
//! Not guaranteed: that the host ends by itself. What else it does is of use until somebody restarts it.

use std::future::Future;
use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;

use super::board::Board;

/// Does something; should it panic, that is told, and the health of the host is that of one that stops.
pub(crate) async fn guarded(board: &Board, what: &str, work: impl Future<Output = ()>) {
    if AssertUnwindSafe(work).catch_unwind().await.is_err() {
        broken(board, what);
    }
}

/// Tells that something has panicked, and lets the health of the host be that of one that stops.
pub(super) fn broken(board: &Board, what: &str) {
    tracing::error!("the host is broken: {what} has panicked; report this, and start the host again");
    board.change_host(|host| host.stopping = true);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use time::OffsetDateTime;

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_shows_in_the_health_of_the_host() {
        let board = Board::new(Arc::new(|| OffsetDateTime::UNIX_EPOCH), 1);
        guarded(&board, "a task", async {}).await;
        assert!(!board.host().stopping);
        guarded(&board, "a task", async { panic!("as the test wants") }).await;
        assert!(board.host().stopping);
    }
}
