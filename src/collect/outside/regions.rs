//! Regions behind the search that fail: how long what they may have is looked for again.
//!
//! The mark up to which all is done stays before the first window for which a region has not answered, so that this is listed
//! anew in every cycle. When one has failed for a day, and in some cycles, the mark follows a day behind.
//!
//! Since when, and in how many cycles, is remembered beside the alerts, under two keys that no alert has.
//!
//! Not guaranteed: what a region has that fails for longer than that.

use super::super::Step;
use super::failing::Failures;
use crate::api::transport::{Clock, Transport};
use crate::times::Utc;

/// Key under which it is remembered since when a region has failed.
pub(super) const SINCE: u64 = 0;
/// The last of its keys.
pub(super) const LAST_KEY: u64 = CYCLES;
/// The same of the cycles in which one has.
const CYCLES: u64 = 1;
/// Seconds for which all that was created since a region failed is looked for again, and that are gone back then.
const PATIENCE: i64 = 86_400;
/// Cycles in which a region fails before anything is given up: that one fails in two, days apart, says little.
const MOST_CYCLES: u32 = 12;

/// Whether something that is remembered is of regions, and not of an alert.
const fn is_key(key: u64) -> bool {
    key <= CYCLES
}

impl<T: Transport, C: Clock> Step<'_, T, C> {
    /// Notes that a region has failed in this cycle.
    pub(super) fn note_failed_region(&mut self) {
        let began = self.cycle_began();
        self.state.beyond.outside.entry(SINCE).or_insert(began.0);
    }

    /// In how many cycles in a row one has.
    fn failed_cycles(&self) -> u32 {
        self.state.beyond.outside.get(&CYCLES).and_then(|cycles| Failures::of(*cycles)).unwrap_or_default().alone
    }

    /// Whether what a region may have that fails has been looked for again as long as may be.
    pub(super) fn has_a_region_failed_for_long(&self) -> bool {
        let since = self.state.beyond.outside.get(&SINCE).map(|since| Utc(*since));
        self.failed_cycles() >= MOST_CYCLES
            && since.is_some_and(|since| self.cycle_began().seconds_since(since) >= PATIENCE)
    }

    /// Notes what came of a cycle in which all was to be done up to `end`.
    pub(super) fn note_regions(&mut self, end: Utc) {
        if self.state.beyond.uninvestigated >= Some(end) {
            self.state.beyond.outside.retain(|key, _| !is_key(*key));
            return;
        }
        let cycles = self.failed_cycles().saturating_add(1).min(MOST_CYCLES);
        let failures = Failures { alone: cycles, ..Failures::default() };
        self.state.beyond.outside.insert(CYCLES, failures.created());
        if self.has_a_region_failed_for_long() {
            let oldest = Some(end.plus_seconds(-PATIENCE));
            self.state.beyond.uninvestigated = self.state.beyond.uninvestigated.max(oldest);
        }
    }
}
