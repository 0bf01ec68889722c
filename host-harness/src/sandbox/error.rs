//! How a step fails, and what it has used.
//!
//! Why one enum: whoever schedules steps decides by stable codes, and whoever looks at a status reads the remedy;
//! neither cares whether the vendor, the connector or the sandbox said no.
//! Not guaranteed: texts may be reworded; codes may not.

use crate::contract::types;
use crate::egress::Reception;
use std::time::Duration;

/// Why the sandbox itself cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// The engine's configuration is not possible on this machine.
    #[error("cannot start the WebAssembly engine: {why}")]
    Engine {
        /// What wasmtime says.
        why: String,
    },
    /// The interfaces for guests cannot be linked.
    #[error("cannot link the host's interfaces: {why}")]
    Linker {
        /// What wasmtime says.
        why: String,
    },
    /// The thread that ticks epochs cannot be started.
    #[error("cannot start the thread that limits CPU time: {why}")]
    Ticker {
        /// What the operating system says.
        why: String,
    },
}

impl SandboxError {
    /// A stable name of the error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Engine { .. } => "sandbox-engine",
            Self::Linker { .. } => "sandbox-linker",
            Self::Ticker { .. } => "sandbox-ticker",
        }
    }
}

/// Why a step has yielded nothing. Nothing of it may be committed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// The connector says what failed. Its texts are cleaned: no secrets, no control characters.
    #[error("{}", .0.message)]
    Failure(types::Failure),
    /// The connector's code trapped.
    #[error("the connector crashed: {what}")]
    Trap {
        /// What trapped, and what the connector wrote to its standard error.
        what: String,
    },
    /// It asked for more memory than it may have.
    #[error("the connector needs more than the {limit} bytes of memory it may have")]
    MemoryLimit {
        /// In bytes.
        limit: usize,
    },
    /// It was on the CPU for too long.
    #[error("the connector used more than the {limit:?} of CPU time that a step may have")]
    CpuLimit {
        /// How long it may.
        limit: Duration,
    },
    /// It took too long altogether.
    #[error("the step took longer than {limit:?}")]
    WallClock {
        /// How long it may.
        limit: Duration,
    },
    /// What it returned breaks the contract.
    #[error("the connector returned a batch that breaks the contract: {why}")]
    BadBatch {
        /// What is wrong, and where.
        why: String,
    },
    /// The report of its check breaks the contract.
    #[error("the connector returned a check report that breaks the contract: {why}")]
    BadReport {
        /// What is wrong, and where.
        why: String,
    },
    /// The host could not run it.
    #[error("the step could not be run: {why}")]
    Host {
        /// Why.
        why: String,
    },
}

impl StepError {
    /// A stable name of the error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Failure(failure) => reason_code(failure.reason),
            Self::Trap { .. } => "connector-trap",
            Self::MemoryLimit { .. } => "memory-limit",
            Self::CpuLimit { .. } => "cpu-limit",
            Self::WallClock { .. } => "wall-clock-limit",
            Self::BadBatch { .. } | Self::BadReport { .. } => "bad-batch",
            Self::Host { .. } => "host-error",
        }
    }

    /// Status of the vendor's response, if one was the cause.
    #[cfg(test)]
    pub(crate) fn http_status(&self) -> Option<u16> {
        match self {
            Self::Failure(failure) => failure.http_status,
            _ => None,
        }
    }

    /// What an operator can do about it, one or two sentences.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Self::Failure(failure) => failure.remedy.clone(),
            Self::Trap { .. } | Self::BadBatch { .. } | Self::BadReport { .. } => {
                { "This is a defect of the connector. Install another version of it, or report it with this message." }
                    .to_owned()
            }
            Self::MemoryLimit { .. } => {
                "Give the step a smaller budget. If that does not help, this is a defect of the connector.".to_owned()
            }
            Self::CpuLimit { .. } => {
                "Give the step a smaller budget. If that does not help, this is a defect of the connector.".to_owned()
            }
            Self::WallClock { .. } => {
                "The vendor or the network is slow, or the connector waits for nothing. If this repeats, check the connection."
                    .to_owned()
            }
            Self::Host { .. } => {
                "Try again. If it repeats, check the memory and the limits of this machine.".to_owned()
            }
        }
    }
}

/// The stable name of a connector's reason, as in the contract.
#[must_use]
pub fn reason_code(reason: types::FailureReason) -> &'static str {
    match reason {
        types::FailureReason::InvalidSettings => "invalid-settings",
        types::FailureReason::Unauthorized => "unauthorized",
        types::FailureReason::Forbidden => "forbidden",
        types::FailureReason::NotFound => "not-found",
        types::FailureReason::RateLimited => "rate-limited",
        types::FailureReason::Unavailable => "unavailable",
        types::FailureReason::Timeout => "timeout",
        types::FailureReason::MalformedResponse => "malformed-response",
        types::FailureReason::CheckpointUnreadable => "checkpoint-unreadable",
        types::FailureReason::BudgetExhausted => "budget-exhausted",
        types::FailureReason::Internal => "internal",
    }
}

/// What a step has used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Requests that left.
    pub requests: u32,
    /// How long each request took to the head of its response, or to its failure; of one step, not of many.
    pub request_times: Vec<Duration>,
    /// Bytes of response bodies, after decompression.
    pub bytes_received: u64,
    /// Time from the start of the instance to the result.
    pub wall: Duration,
    /// Time the step was on the CPU, the host's work within calls included; nothing when the step never ran.
    pub guest_cpu: Option<Duration>,
    /// WebAssembly instructions of the guest, where the engine counts them.
    pub instructions: Option<u64>,
    /// Most bytes of linear memory in use at once.
    pub guest_peak_bytes: u64,
    /// Requests that were refused.
    pub egress_denied: u32,
    /// How the other end has received its requests; of one that was done once more, the last time.
    pub reception: Reception,
}

impl Usage {
    /// What a step has used that was done once more: that of both.
    #[must_use]
    pub(crate) fn after(mut self, first: &Self) -> Self {
        self.requests = self.requests.saturating_add(first.requests);
        self.bytes_received = self.bytes_received.saturating_add(first.bytes_received);
        self.egress_denied = self.egress_denied.saturating_add(first.egress_denied);
        self.guest_peak_bytes = self.guest_peak_bytes.max(first.guest_peak_bytes);
        self.request_times.splice(..0, first.request_times.iter().copied());
        self.wall = self.wall.saturating_add(first.wall);
        self.guest_cpu = match (self.guest_cpu, first.guest_cpu) {
            (Some(now), Some(before)) => Some(now.saturating_add(before)),
            (now, before) => now.or(before),
        };
        self.instructions = match (self.instructions, first.instructions) {
            (Some(now), Some(before)) => Some(now.saturating_add(before)),
            (now, before) => now.or(before),
        };
        self
    }
}
