//! What was counted of an instance before this process.
//!
//! Why: what is remembered over a restart is kept a few seconds after it is shown, so a crash loses some of it, and a
//! counter that goes back by a little is taken for one that began anew: all of its past is then counted once more.
//! Metrics therefore count from the start of the process; the status has everything since the first poll.

use super::status::{Past, Work};
use super::tally::Tally;

/// The counts of an instance when it was first seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Earlier {
    total: Work,
    polls: Tally,
    failures: Tally,
    streams: Vec<(String, u64)>,
}

impl Earlier {
    /// What is counted so far.
    pub(super) fn of(past: &Past) -> Self {
        Self {
            total: past.total,
            polls: past.polls.clone(),
            failures: past.failures.clone(),
            streams: past.streams.iter().map(|stream| (stream.name.clone(), stream.total)).collect(),
        }
    }

    /// Takes it out of what is counted by now.
    pub(super) fn take_from(&self, past: &mut Past) {
        past.total = past.total.since(self.total);
        past.polls = past.polls.since(&self.polls);
        past.failures = past.failures.since(&self.failures);
        for stream in &mut past.streams {
            let before = self.streams.iter().find(|(name, _)| *name == stream.name).map_or(0, |(_, total)| *total);
            stream.total = stream.total.saturating_sub(before);
        }
    }
}
