//! Sinks: where artifacts go.
//!
//! Why a trait: a file, standard output or the Conductor's bus takes them;
//! nothing else in the host knows which. A sink is fed from the outbox, so what
//! it misses it is given later.
//! Promise: every stored artifact is delivered at least once, in the order of
//! arrival, always with the same id. Exactly once is not promised: a crash
//! between a delivery and its record delivers again.

mod bus;
mod lines;

use std::future::Future;

use uuid::Uuid;

use crate::store::{Instance, Store, StoreError, Undelivered};

pub use bus::{BusConfig, BusSink, Subject};
pub use lines::{LineForm, LinesSink};

/// How many artifacts are delivered at a time: enough to make the wait for
/// the disk small, few enough to bound memory.
const PORTION: u32 = 1_000;

/// Takes artifacts for good.
pub trait Sink: Send {
    /// Takes these artifacts and gives how many of them, from the first on, are
    /// safe with the sink (on disk, acknowledged): at least one, of some. When it
    /// fails any of them may have arrived, and all of them come again later.
    fn deliver(&mut self, artifacts: &[Undelivered]) -> impl Future<Output = Result<usize, SinkError>> + Send;
}

/// A text that is no subject of the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a subject is words of printable ASCII with dots between them, 256 bytes at most, without wildcards, and does not \
     begin with $"
)]
pub struct SubjectError;

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
    /// The bus cannot be reached, or lets nobody in.
    #[error("cannot reach {output}: {why}")]
    Unreachable {
        /// The server and the subject.
        output: String,
        /// What is wrong.
        why: String,
    },
    /// Nothing on the bus keeps what is published on the subject.
    #[error("no stream takes what is published to {output}")]
    NoStream {
        /// The server and the subject.
        output: String,
    },
    /// The bus did not say that it has stored what was published.
    #[error("{output} has not stored the artifacts: {why}")]
    NotStored {
        /// The server and the subject.
        output: String,
        /// What is wrong.
        why: String,
    },
    /// An artifact is larger than the bus takes.
    #[error("{output} takes no message of {bytes} bytes, which the artifact {id} has{}", most.map_or_else(String::new, |most| format!(", but at most {most}")))]
    TooLarge {
        /// The server and the subject.
        output: String,
        /// The artifact.
        id: Uuid,
        /// How large it is.
        bytes: usize,
        /// How large it may be, headers included, where that is known.
        most: Option<usize>,
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
    /// Whether it is one artifact that cannot be delivered, and others can.
    #[must_use]
    pub fn is_of_one(&self) -> bool {
        matches!(self, Self::TooLarge { .. })
    }

    /// Stable name of the kind of failure, for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Open { .. } | Self::Unreachable { .. } => "output-unwritable",
            Self::Write { .. } | Self::NoStream { .. } | Self::NotStored { .. } => "output-failed",
            Self::TooLarge { .. } => "output-too-large",
        }
    }

    /// What the operator can do.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match self {
            Self::Open { .. } => {
                "give a file in a directory that exists and that this user can write to, or standard output (--out -, sink = \"stdout\")"
            }
            Self::Unreachable { .. } => {
                "look whether the server runs and can be reached from here, and whether sink_credentials are right; the artifacts are stored and delivered then"
            }
            Self::NoStream { .. } => {
                "make a stream on the server that takes this subject, or correct sink_subject; the artifacts are stored and delivered then"
            }
            Self::NotStored { .. } => {
                "look at the stream (its limits, its disk) and at the server's log; the artifacts are stored and delivered when it takes them"
            }
            Self::TooLarge { .. } => {
                "raise max_payload of the server (and the stream's largest message); until then this artifact, and those of its instance behind it, wait"
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
        let count = sink.deliver(&artifacts).await?;
        let artifacts = artifacts.get(..count).unwrap_or(&artifacts);
        store.mark_delivered(instance, artifacts)?;
        *delivered += u64::try_from(artifacts.len()).unwrap_or(u64::MAX);
        // A sink may never wait for anything; a request to stop is seen here.
        tokio::task::yield_now().await;
    }
}
