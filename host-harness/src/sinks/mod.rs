//! Sinks: where artifacts go.
//!
//! Why a trait: today a file or standard output takes them, later the
//! Conductor's bus; nothing else in the host knows which. A sink is fed from
//! the outbox, so what it misses it is given later.
//! Promise: every stored artifact is delivered at least once, in the order of
//! arrival, always with the same id. Exactly once is not promised: a crash
//! between a delivery and its record delivers again.

mod lines;

use std::future::Future;

use crate::store::{Instance, Store, StoreError, Undelivered};

pub use lines::{LineForm, LinesSink};

/// How many artifacts are delivered at a time: enough to make the wait for
/// the disk small, few enough to bound memory.
const PORTION: u32 = 1_000;

/// Takes artifacts for good.
pub trait Sink: Send {
    /// Takes these artifacts. When it returns without error they are safe
    /// with the sink (on disk, acknowledged); when it fails any of them may
    /// have arrived, and all of them come again later.
    fn deliver(&mut self, artifacts: &[Undelivered]) -> impl Future<Output = Result<(), SinkError>> + Send;
}

/// Why artifacts could not be delivered. They stay in the outbox.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The output cannot be opened.
    #[error("cannot open {output} for the artifacts: {source}")]
    Open {
        /// The file, or `standard output`.
        output: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The output stopped taking data.
    #[error("cannot write the artifacts to {output}: {source}")]
    Write {
        /// The file, or `standard output`.
        output: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl SinkError {
    /// Stable name of the kind of failure, for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Open { .. } => "output-unwritable",
            Self::Write { .. } => "output-failed",
        }
    }

    /// What the operator can do.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match self {
            Self::Open { .. } => {
                "give a file in a directory that exists and that this user can write to, or standard output (--out -, sink = \"stdout\")"
            }
            Self::Write { .. } => {
                "the artifacts are stored; they are delivered when the output works again: by a host that runs, or by the next poll with the same state directory"
            }
        }
    }
}

/// Why the outbox could not be drained.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    /// The sink failed.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Delivers all that waits in the outbox of the instance and adds how many
/// that are to `delivered`, as it goes, so that it is right after a failure or
/// when the future is dropped, too.
pub async fn drain<S: Sink>(
    store: &Store,
    instance: &Instance,
    sink: &mut S,
    delivered: &mut u64,
) -> Result<(), DrainError> {
    loop {
        let artifacts = store.undelivered(instance, PORTION)?;
        if artifacts.is_empty() {
            return Ok(());
        }
        sink.deliver(&artifacts).await?;
        store.mark_delivered(instance, &artifacts)?;
        *delivered += u64::try_from(artifacts.len()).unwrap_or(u64::MAX);
        // A sink may never wait for anything; a request to stop is seen here.
        tokio::task::yield_now().await;
    }
}
