//! What one step has used of the network.
//!
//! Why: the budget of a step is enforced here, and the same counts are reported afterwards.
//! Not guaranteed: a request is counted when it may leave, whether or not a connection is made.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Counters of one step, shared by all its requests.
#[derive(Debug)]
pub struct StepMeter {
    allowed: u32,
    requests: AtomicU32,
    received: AtomicU64,
    denied: AtomicU32,
    turned_away: AtomicBool,
    times: Mutex<Vec<Duration>>,
}

impl StepMeter {
    /// A meter for a step that may make this many requests.
    #[must_use]
    pub fn new(allowed: u32) -> Self {
        Self {
            allowed,
            requests: AtomicU32::new(0),
            received: AtomicU64::new(0),
            denied: AtomicU32::new(0),
            turned_away: AtomicBool::new(false),
            times: Mutex::default(),
        }
    }

    /// Takes one request from the budget; false when it is used up.
    pub(super) fn take_request(&self) -> bool {
        self.requests
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| (used < self.allowed).then_some(used + 1))
            .is_ok()
    }

    /// Counts bytes of a response body.
    pub(super) fn add_received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts a request that was refused. Gives how many there were before it.
    pub(super) fn add_denied(&self) -> u32 {
        let count = |denied: u32| Some(denied.saturating_add(1));
        self.denied.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count).unwrap_or_else(|denied| denied)
    }

    /// Notes that the other end does not let in whoever asks.
    pub(super) fn set_turned_away(&self) {
        self.turned_away.store(true, Ordering::Relaxed);
    }

    /// Whether the other end has answered one of its requests with 401 or 403.
    #[must_use]
    pub fn turned_away(&self) -> bool {
        self.turned_away.load(Ordering::Relaxed)
    }

    /// Notes how long a request took to the head of its response, or to its failure.
    pub(super) fn add_time(&self, time: Duration) {
        self.times.lock().unwrap_or_else(PoisonError::into_inner).push(time);
    }

    /// Takes out how long each request took that has ended.
    #[must_use]
    pub fn take_times(&self) -> Vec<Duration> {
        std::mem::take(&mut self.times.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Requests that left.
    #[must_use]
    pub fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Bytes of response bodies that came, after decompression.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Requests that were refused, by the policy or because the budget was used up.
    #[must_use]
    pub fn denied(&self) -> u32 {
        self.denied.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_of_requests_cannot_be_passed() {
        let meter = StepMeter::new(2);
        assert!(meter.take_request() && meter.take_request());
        assert!(!meter.take_request() && !meter.take_request());
        assert_eq!(meter.requests(), 2);
    }
}
