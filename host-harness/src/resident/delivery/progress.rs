//! Whether an output takes anything.
//!
//! Why it is watched: writing to a pipe that nobody reads ends only when somebody does, and says nothing meanwhile.
//! Not guaranteed: that what is told is true at this moment; it is looked at twelve times in that time.

use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use crate::instances::failure::FailureReport;
use crate::locks::lock;
use crate::resident::board::Board;

/// How long an output may take nothing of what it is given before that is told.
pub(super) const BLOCKED_AFTER: Duration = Duration::from_secs(60);

/// The code of that.
pub(super) const BLOCKED: &str = "output-blocked";

/// Since when the output has been given something and has taken nothing.
#[derive(Debug, Default)]
pub(super) struct Progress(Mutex<Option<Instant>>);

impl Progress {
    /// Something begins, or went on.
    pub(super) fn moved(&self) {
        *lock(&self.0) = Some(Instant::now());
    }

    /// Nothing is to be delivered.
    pub(super) fn rests(&self) {
        *lock(&self.0) = None;
    }

    pub(super) fn stands_for(&self, time: Duration) -> bool {
        lock(&self.0).is_some_and(|since| since.elapsed() >= time)
    }
}

/// Tells of an output that takes nothing, and when it takes something again, as long as there is a delivery.
pub(super) async fn watch(progress: Weak<Progress>, board: Arc<Board>, blocked_after: Duration) {
    let mut was_blocked = false;
    loop {
        tokio::time::sleep(blocked_after / 12).await;
        let Some(progress) = progress.upgrade() else { return };
        let is_blocked = progress.stands_for(blocked_after);
        if is_blocked == was_blocked {
            continue;
        }
        was_blocked = is_blocked;
        let failure = is_blocked.then(|| {
            let message = format!("the output has taken nothing for {} s", blocked_after.as_secs());
            FailureReport::new(BLOCKED, &message, "Look whether what reads it still runs; nothing is lost meanwhile.")
        });
        match &failure {
            Some(failure) => tracing::error!("delivery stands still: {}", failure.sentence()),
            None => tracing::info!("the output takes something again"),
        }
        board.change_host(|host| {
            // What the delivery itself has found out since is newer.
            if host.sink.failure.as_ref().is_none_or(|told| told.code == BLOCKED) {
                host.sink.failure = failure;
            }
        });
    }
}
