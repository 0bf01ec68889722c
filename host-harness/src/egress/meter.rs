//! What one step has used of the network.
//!
//! Why: the budget of a step is enforced here, and the same counts are reported afterwards.
//! Not guaranteed: a request is counted when it may leave, whether or not a connection is made.

use http::StatusCode;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How the other end has received the requests of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reception {
    /// One was answered, neither with 401 or 403 nor with a failure of the server.
    pub taken: bool,
    /// One was answered with 401.
    pub unauthorized: bool,
    /// One was answered with 403.
    pub forbidden: bool,
}

/// Counters of one step, shared by all its requests.
#[derive(Debug)]
pub struct StepMeter {
    allowed: u32,
    requests: AtomicU32,
    received: AtomicU64,
    denied: AtomicU32,
    taken: AtomicBool,
    unauthorized: AtomicBool,
    forbidden: AtomicBool,
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
            taken: AtomicBool::new(false),
            unauthorized: AtomicBool::new(false),
            forbidden: AtomicBool::new(false),
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

    /// Notes how the other end has answered.
    pub(super) fn answered(&self, status: StatusCode) {
        let noted = match status {
            StatusCode::UNAUTHORIZED => &self.unauthorized,
            StatusCode::FORBIDDEN => &self.forbidden,
            // What a server says that is down says nothing of who asks.
            status if status.is_server_error() => return,
            _ => &self.taken,
        };
        noted.store(true, Ordering::Relaxed);
    }

    /// How the other end has received whoever asks.
    #[must_use]
    pub fn reception(&self) -> Reception {
        let is_noted = |noted: &AtomicBool| noted.load(Ordering::Relaxed);
        Reception {
            taken: is_noted(&self.taken),
            unauthorized: is_noted(&self.unauthorized),
            forbidden: is_noted(&self.forbidden),
        }
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
