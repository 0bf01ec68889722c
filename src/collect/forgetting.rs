//! What of a checkpoint makes room when it is full.
//!
//! The oldest goes, what is closed first, then what is open. What is about to
//! be listed again stays longer than both: with nothing left of it, it would
//! come a second time. What has work left to do stays longest. Of whatever goes
//! hashes are kept ([`super::condensed`]), with whether there is work left: of
//! what is believed to be gone there is, should it be listed again.
//!
//! Not guaranteed: that all that is about to be listed again stays. It goes too
//! when there is more of it than fits.

use std::cmp::Ordering;

use super::checkpoint::{Checkpoint, Cycle, Known, MAX_BYTES, MAX_KNOWN, Owed, Phase};
use super::condensed::Trace;
use crate::times::Utc;

/// What a checkpoint is kept within. Smaller ones are for tests: what is
/// forgotten within them would take a hundred thousand investigations else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Most investigations remembered.
    pub known: usize,
    /// Most bytes written.
    pub bytes: usize,
    /// Minutes before the watermark that the next cycle lists again.
    pub overlap_minutes: i64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { known: MAX_KNOWN, bytes: MAX_BYTES, overlap_minutes: 0 }
    }
}

impl Checkpoint {
    /// Forgets the oldest investigations down to `most`.
    pub(super) fn forget(&mut self, most: usize) {
        let excess = self.known.len().saturating_sub(most);
        if excess == 0 {
            return;
        }
        let is_listed_again = self.listed_again();
        // Told apart by every other second, in as few bytes as do: this is at the end of a step, when most is in memory.
        let age = |known: &Known| match known.owed {
            Owed::Nothing if is_listed_again(known) => u32::MAX - 1,
            Owed::Nothing => {
                let created = u32::try_from(known.created.div_euclid(2_000_000).max(0)).unwrap_or(u32::MAX);
                created.min((1 << 31) - 2) | (u32::from(known.open) << 31)
            }
            _ => u32::MAX,
        };
        let mut ages = Vec::with_capacity(self.known.len());
        let most = ages.capacity();
        ages.extend(self.known.packed_values().map(|known| age(&known)).take(most));
        let excess = excess.min(ages.len());
        if excess == 0 {
            return;
        }
        let (older, &mut youngest, _) = ages.select_nth_unstable(excess - 1);
        // Older than the youngest that goes: all; of its age: as many as it takes.
        let mut same = excess - older.iter().filter(|age| **age < youngest).count();
        drop(ages);
        let mut horizon = self.forgotten.map_or(i64::MIN, |before| before.0);
        let mut gone = Vec::with_capacity(excess);
        self.known.retain(|rrn, known| {
            let goes = match age(known).cmp(&youngest) {
                Ordering::Less => true,
                Ordering::Equal if same > 0 => {
                    same -= 1;
                    true
                }
                _ => false,
            };
            if goes {
                horizon = horizon.max(known.created);
                let trace = Trace::of(rrn, known.created, known.fingerprint);
                let is_done = known.owed == Owed::Nothing && !known.is_believed_gone();
                gone.push(if is_done { trace } else { trace.owed() });
            }
            !goes
        });
        self.forgotten = Some(Utc(horizon));
        self.condensed.insert(&gone);
    }

    /// Tells which investigations the next step or cycle lists again, whatever
    /// else it lists: those of the overlap, and those of a page that a step has
    /// ended in.
    fn listed_again(&self) -> impl Fn(&Known) -> bool + use<> {
        let overlap = |until: Utc| until.plus_seconds(-60 * self.bounds.overlap_minutes).just_before();
        let from = match self.window {
            Some(window) => Some(window.after.min(overlap(window.before))),
            None => self.watermark.map(overlap),
        };
        let window = match &self.cycle {
            Some(Cycle { phase: Phase::Known(window, _) | Phase::Around(window, ..), .. }) => Some(*window),
            _ => None,
        };
        let number = self.number;
        move |known| {
            from.is_some_and(|from| known.created >= from.0)
                || window.is_some_and(|window| {
                    known.listed == number && (window.after.0..window.before.0).contains(&known.created)
                })
        }
    }
}
