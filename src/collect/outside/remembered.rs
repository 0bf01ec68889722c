//! Which alerts are remembered as collected: those that may be listed again.
//!
//! Those are the ones of the overlap, however many, and of the time that is looked back to as many as cost little.

use super::super::Step;
use super::super::checkpoint::Phase;
use super::failing::Failures;
use super::looking_back::{FARTHEST, KEPT, LOOKED, is_key};
use super::regions::SINCE;
use crate::api::transport::{Clock, Transport};
use crate::times::Utc;

/// Seconds to a multiple of which a server may cut the beginning of a search.
pub(super) const CUT: i64 = 60;
/// Most alerts remembered as collected.
const MOST_KNOWN: usize = 10_000;
/// Most alerts of one window.
const ONE_WINDOW: usize = 1_000;
/// Most of them that are remembered only for looking back: a few times ten kilobytes.
const MOST_LOOKED_BACK: usize = 2_000;

impl<T: Transport, C: Clock> Step<'_, T, C> {
    /// Whether something has failed before this time, up to which all is listed, and what lies behind it is nearly all that is
    /// remembered. A region that fails is waited for in another way.
    pub(super) fn has_no_room_behind_what_failed(&self, until: Utc) -> bool {
        let outside = &self.state.beyond.outside;
        let fails = |(key, created): (&u64, &i64)| !is_key(*key) && Failures::of(*created).is_some();
        // A window holds so many.
        outside.len() + ONE_WINDOW >= MOST_KNOWN
            && self.state.beyond.uninvestigated < Some(until)
            && (!outside.contains_key(&SINCE) || outside.iter().any(fails))
    }

    /// Notes that all that is listed from there on will be remembered, if that is not so yet.
    pub(super) fn remember_from(&mut self, from: Utc) {
        self.state.beyond.outside.entry(KEPT).or_insert(from.0);
    }

    /// Forgets alerts that will not be listed again, also not in looking back: their ids would be the same anyway.
    pub(super) fn forget_outside(&mut self, overlap: i64) {
        let Some(done) = self.state.beyond.uninvestigated else { return };
        let listed_again = done.plus_seconds(-overlap - CUT).just_before();
        let kept = self.kept_in_mind(listed_again);
        let outside = &mut self.state.beyond.outside;
        // What has failed is still to be read, in a window behind this one.
        outside.retain(|key, created| *created >= kept.0 || Failures::of(*created).is_some() || is_key(*key));
        if outside.len() > MOST_KNOWN {
            // By the second: in as few bytes as do.
            let age = |created: &i64| u32::try_from(created.div_euclid(1_000_000).max(0)).unwrap_or(u32::MAX);
            let mut ages: Vec<u32> = outside.values().map(age).collect();
            let excess = ages.len() - MOST_KNOWN;
            let (_, &mut youngest, _) = ages.select_nth_unstable(excess - 1);
            outside.retain(|key, created| age(created) > youngest || is_key(*key));
            self.forget_before(Utc(i64::from(youngest).saturating_add(1).saturating_mul(1_000_000)));
            // While more is looked for again than can be remembered, what is forgotten is not: it would come again each time.
            let since = Utc(i64::from(youngest).saturating_add(1).saturating_mul(1_000_000)).plus_seconds(overlap);
            let reached = match self.state.cycle.as_ref().map(|cycle| &cycle.phase) {
                Some(Phase::Outside(Some(reached))) => *reached,
                _ => done,
            };
            self.state.beyond.uninvestigated = Some(done.max(since.min(reached)));
        }
    }

    /// Since when what was listed is kept in mind, where `listed_again` is needed anyway. What is more than may be is let go of.
    fn kept_in_mind(&mut self, listed_again: Utc) -> Utc {
        let Some(kept) = self.of_looking_back(KEPT) else { return listed_again };
        let began = self.cycle_began();
        let looked = self.of_looking_back(LOOKED).unwrap_or(began).min(began);
        let farthest = looked.plus_seconds(-FARTHEST).max(kept).min(listed_again);
        let of_these = |(key, created): (&u64, &i64)| {
            (!is_key(*key) && (farthest.0..listed_again.0).contains(created)).then_some(*created)
        };
        let mut created: Vec<i64> = self.state.beyond.outside.iter().filter_map(of_these).collect();
        let Some(excess) = created.len().checked_sub(MOST_LOOKED_BACK).filter(|excess| *excess > 0) else {
            return farthest;
        };
        let (_, &mut youngest, _) = created.select_nth_unstable(excess - 1);
        let kept = Utc(youngest.saturating_add(1)).min(listed_again);
        self.forget_before(kept);
        kept
    }

    /// Notes that of what was created before this not all is remembered.
    fn forget_before(&mut self, before: Utc) {
        if let Some(kept) = self.state.beyond.outside.get_mut(&KEPT) {
            *kept = before.0.max(*kept);
        }
    }
}
