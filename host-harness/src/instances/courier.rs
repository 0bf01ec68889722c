//! The courier: takes what a cycle stores to the sink while the cycle goes on.
//!
//! Why beside it: a sink writes and waits for the disk, and may stand still altogether; neither is to take the time of
//! the steps. What it has not taken waits in the outbox for the next poll.
//! Not guaranteed: that a sink which stands still is left. Whoever waits for the courier waits for the portion at hand.

use std::future::Future;
use std::pin::pin;
use std::sync::mpsc::{SyncSender, sync_channel};

use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::failure::FailureReport;
use super::report::Delivered;
use crate::sinks::{DrainError, Sink, drain};
use crate::store::{Instance, Store};

/// A courier on its way.
#[derive(Debug)]
pub struct Courier {
    bell: SyncSender<()>,
    leave: watch::Sender<bool>,
    work: JoinHandle<(u64, Result<(), DrainError>)>,
}

impl Courier {
    /// Begins with what waits already, on a thread of the runtime for what blocks. A sink that fails is not tried again.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn start<S: Sink + 'static>(store: Store, instance: Instance, mut sink: S) -> Self {
        let (bell, rung) = sync_channel(1);
        let (leave, mut left) = watch::channel(false);
        let runtime = Handle::current();
        let work = tokio::task::spawn_blocking(move || {
            let mut count = 0;
            loop {
                let result = runtime.block_on(async {
                    tokio::select! {
                        biased;
                        Ok(_) = left.wait_for(|left| *left) => Ok(()),
                        result = drain(&store, &instance, &mut sink, &mut count) => result,
                    }
                });
                // When nobody can ring any more, what was stored before the last ring has been delivered.
                if result.is_err() || *left.borrow() || rung.recv().is_err() {
                    return (count, result);
                }
            }
        });
        Self { bell, leave, work }
    }

    /// Tells it that something was stored. It never blocks.
    pub fn ring(&self) {
        // A ring that nobody has heard yet, or will, is as good as two.
        let _ = self.bell.try_send(());
    }

    /// Waits until all is delivered that is stored, or until the sink has failed. When `stop` ends, for the portion at hand
    /// only: what is left waits in the outbox.
    pub async fn finish(self, stop: impl Future<Output = ()>) -> Delivered {
        self.ring();
        let Self { bell, leave, work } = self;
        drop(bell);
        let mut delivered = pin!(outcome(work));
        tokio::select! {
            biased;
            () = stop => leave.send_replace(true),
            delivered = &mut delivered => return delivered,
        };
        delivered.await
    }
}

async fn outcome(work: JoinHandle<(u64, Result<(), DrainError>)>) -> Delivered {
    match work.await {
        Ok((count, result)) => Delivered { count, failure: result.err().map(|error| FailureReport::from(&error)) },
        Err(error) => {
            let message = format!("delivering broke off: {error}");
            Delivered { count: 0, failure: Some(FailureReport::new("host-error", message, "Report this.")) }
        }
    }
}
