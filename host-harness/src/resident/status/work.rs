//! Polls in numbers: of one, of all, and what came in between.
//!
//! Why one structure: the last poll, a day and everything since the first poll are counted alike, so they add up.
//! Not guaranteed: that a sum is right beyond the largest number.

use serde::{Deserialize, Serialize};

use crate::instances::report::Cycle;

/// Polls in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Work {
    /// Steps committed.
    pub steps: u64,
    /// Requests that left.
    pub requests: u64,
    /// Requests that were refused by the egress policy or the budget.
    pub requests_denied: u64,
    /// Bytes of response bodies.
    pub bytes_received: u64,
    /// Artifacts stored.
    pub artifacts_new: u64,
    /// Their bytes, as `most_megabytes_per_day` counts them.
    pub artifact_bytes: u64,
    /// Artifacts that were stored before.
    pub artifacts_repeated: u64,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
    /// Most bytes of memory that a step of the connector used.
    pub guest_memory_peak_bytes: u64,
}

impl Work {
    /// Of one cycle.
    pub(super) fn of(cycle: &Cycle) -> Self {
        Self {
            steps: cycle.steps.into(),
            requests: cycle.usage.requests.into(),
            requests_denied: cycle.usage.egress_denied.into(),
            bytes_received: cycle.usage.bytes_received,
            artifacts_new: cycle.new,
            artifact_bytes: cycle.bytes,
            artifacts_repeated: cycle.repeated,
            milliseconds: u64::try_from(cycle.elapsed.as_millis()).unwrap_or(u64::MAX),
            guest_memory_peak_bytes: cycle.usage.guest_peak_bytes,
        }
    }

    /// What came since it was as before.
    pub(in crate::resident) fn since(self, before: Self) -> Self {
        Self {
            steps: self.steps.saturating_sub(before.steps),
            requests: self.requests.saturating_sub(before.requests),
            requests_denied: self.requests_denied.saturating_sub(before.requests_denied),
            bytes_received: self.bytes_received.saturating_sub(before.bytes_received),
            artifacts_new: self.artifacts_new.saturating_sub(before.artifacts_new),
            artifact_bytes: self.artifact_bytes.saturating_sub(before.artifact_bytes),
            artifacts_repeated: self.artifacts_repeated.saturating_sub(before.artifacts_repeated),
            milliseconds: self.milliseconds.saturating_sub(before.milliseconds),
            guest_memory_peak_bytes: self.guest_memory_peak_bytes,
        }
    }

    /// Adds up; of the memory, the most.
    pub(super) fn add(&mut self, other: Self) {
        self.steps += other.steps;
        self.requests += other.requests;
        self.requests_denied += other.requests_denied;
        self.bytes_received = self.bytes_received.saturating_add(other.bytes_received);
        self.artifacts_new += other.artifacts_new;
        self.artifact_bytes = self.artifact_bytes.saturating_add(other.artifact_bytes);
        self.artifacts_repeated += other.artifacts_repeated;
        self.milliseconds = self.milliseconds.saturating_add(other.milliseconds);
        self.guest_memory_peak_bytes = self.guest_memory_peak_bytes.max(other.guest_memory_peak_bytes);
    }
}
