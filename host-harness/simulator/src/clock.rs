//! The virtual clock: it runs with real time from where it was set, or stands still.

use std::time::Instant;

use time::{Duration, OffsetDateTime};

/// The clock: where it was set, and when in real time.
pub(crate) struct Clock {
    base: OffsetDateTime,
    since: Instant,
    running: bool,
}

impl Clock {
    /// A clock that shows this instant now.
    pub(crate) fn new(base: OffsetDateTime, running: bool) -> Self {
        Self { base, since: Instant::now(), running }
    }

    /// What it shows.
    pub(crate) fn now(&self) -> OffsetDateTime {
        let passed = if self.running { self.since.elapsed() } else { std::time::Duration::ZERO };
        Duration::try_from(passed).ok().and_then(|passed| self.base.checked_add(passed)).unwrap_or(self.base)
    }

    /// Sets it, forwards or back.
    pub(crate) fn set(&mut self, now: OffsetDateTime) {
        self.base = now;
        self.since = Instant::now();
    }
}
