//! Looking back: alerts that the search shows later than the overlap.
//!
//! Nothing says by which of an alert's times the search goes, and these may be days apart (docs/insightidr-api.md), nor how
//! soon it finds a new one. So every six hours it is searched again, from five days before the last time that it was, or as far
//! back as is remembered what was collected.
//!
//! This comes last in a cycle, so that it keeps nothing waiting. What fails here is no failure of the cycle. An alert that
//! fails is looked for again in each of the next ones, until it is collected or waited for no longer: six hours later it might
//! lie too far back.
//!
//! When that was, how far it is, and since when all is remembered stands beside the alerts, under keys that no alert has.
//!
//! Not guaranteed: what shows up later than that; what lies behind a window that fails each time; or, where the search has
//! more than two thousand alerts in five days, what shows up later than it takes for so many.

use super::super::Step;
use super::super::relisting::EVERYTHING;
use super::failing::Failures;
use super::remembered::CUT;
use super::{LONGEST, LONGEST_PASSED, Reached, is_limit, regions};
use crate::api::client::{Stop, is_local};
use crate::api::transport::{Clock, Transport};
use crate::times::Utc;

/// Key under which it is remembered when this was done last.
pub(super) const LOOKED: u64 = regions::LAST_KEY + 1;
/// The same of how far this is, while it is under way.
const REACHED: u64 = LOOKED + 1;
/// The same of since when all that was listed is remembered.
pub(super) const KEPT: u64 = REACHED + 1;
/// Seconds that are gone back at most: four days lay between the times of an alert that was seen.
pub(super) const FARTHEST: i64 = 5 * 86_400;

/// Requests below which a step says little of how much is at hand: a window is cut to what a quarter of them lists.
const A_FEW: usize = 40;

/// What came of looking back in a step.
#[derive(Default)]
struct Round {
    /// A window was gone through that is not gone through again, or some of what is in one was read.
    has_got_on: bool,
    /// An alert has failed.
    has_failed: bool,
}

/// Whether something that is remembered is of this, or of regions, and not of an alert.
pub(super) const fn is_key(key: u64) -> bool {
    key <= KEPT
}

impl<T: Transport, C: Clock> Step<'_, T, C> {
    /// What is remembered of this.
    pub(super) fn of_looking_back(&self, key: u64) -> Option<Utc> {
        self.state.beyond.outside.get(&key).map(|time| Utc(*time))
    }

    /// Looks back, if it is time, in as many steps as it takes.
    pub(in crate::collect) async fn look_back(&mut self) -> Result<(), Stop> {
        if !self.settings.collect_uninvestigated || !self.state.triage.is_there() {
            return Ok(());
        }
        let Some(done) = self.state.beyond.uninvestigated else { return Ok(()) };
        let began = self.began_by_both_clocks();
        let Some(looked) = self.of_looking_back(LOOKED) else {
            self.looked();
            return Ok(());
        };
        // One that seems to be still to come was noted by a clock that was ahead.
        if (0..EVERYTHING).contains(&began.seconds_since(looked)) {
            return Ok(());
        }
        let Some(kept) = self.of_looking_back(KEPT) else { return Ok(()) };
        // From the last time on, however long ago that is; and what is listed before all of it is remembered is not known.
        let farthest = looked.min(began).plus_seconds(-FARTHEST).max(kept).plus_seconds(CUT);
        // From there on this cycle has listed.
        let overlap = self.settings.overlap_minutes.saturating_mul(60);
        let end = done.min(began).plus_seconds(overlap.saturating_neg());
        // What fails here is no failure of what is new.
        let failures = self.state.beyond.outside_failures;
        let under_way = self.of_looking_back(REACHED);
        let has_done = self.output.progress;
        let mut round = Round::default();
        let outcome = self.look_back_from(under_way.map_or(farthest, |at| at.max(farthest)), end, &mut round).await;
        self.state.beyond.outside_failures = failures;
        match outcome {
            // The next cycle goes on before what has failed.
            Ok(()) | Err(Stop::Spent) if round.has_failed => {}
            Ok(()) => {
                self.forget_what_failed(began.plus_seconds(overlap.saturating_neg()));
                self.looked();
            }
            // The next step goes on, or, where this one has got nowhere, the next cycle that looks back.
            Err(Stop::Spent) if round.has_got_on => return Err(Stop::Spent),
            // What the step has done before may have taken its budget: the next one begins with this.
            Err(Stop::Spent) if under_way.is_none() => {
                self.state.beyond.outside.insert(REACHED, farthest.0);
                self.output.progress = true;
                return Err(Stop::Spent);
            }
            // What comes before it may take all that the vendor allows, in each cycle: the next step begins with this.
            Err(stop) if has_done && is_limit(&stop) => return Err(stop),
            // It is gone on with in the next cycle.
            Err(Stop::Allowance(_)) => {}
            Err(Stop::Failed(failure)) if !is_local(&failure) || self.client.is_triage_halted() => {}
            Err(_) => self.looked(),
        }
        Ok(())
    }

    /// Looks from here to there.
    async fn look_back_from(&mut self, mut from: Utc, end: Utc, round: &mut Round) -> Result<(), Stop> {
        let mut span = self.first_span();
        while from < end {
            let until = Utc(from.0.saturating_add(span)).min(end);
            let known = self.state.beyond.outside.len();
            let reached = self.outside_window(from, until, &mut false).await;
            round.has_got_on |= self.state.beyond.outside.len() > known;
            match reached? {
                // So much, or so wrong, is not gone through bit by bit. But what is left of the step may be why it seems so.
                Reached::Less(shorter) if shorter < LONGEST_PASSED => {
                    return if self.client.requests_left() < A_FEW { Err(Stop::Spent) } else { Ok(()) };
                }
                Reached::Less(shorter) => {
                    span = shorter;
                    continue;
                }
                Reached::EndOfOthers(..) => round.has_failed = true,
                Reached::End | Reached::EndOfSomeRegions => {}
            }
            if !round.has_failed {
                self.state.beyond.outside.insert(REACHED, until.0);
                (self.output.progress, round.has_got_on) = (true, true);
            }
            self.forget_outside(self.settings.overlap_minutes.saturating_mul(60));
            span = span.saturating_mul(2).min(LONGEST);
            from = until;
        }
        Ok(())
    }

    /// Lets go of how often alerts have failed where none does any more, as all is done up to the end of this cycle: some have
    /// gone meanwhile.
    fn forget_what_failed(&mut self, end: Utc) {
        if self.state.beyond.uninvestigated.is_some_and(|done| done >= end) {
            self.state.beyond.outside.retain(|key, created| is_key(*key) || Failures::of(*created).is_none());
        }
    }

    /// When the cycle began, by the earlier of the two clocks: either may be wrong.
    fn began_by_both_clocks(&self) -> Utc {
        self.client.by_both_clocks(self.cycle_began())
    }

    /// Notes that this is done until the next time.
    fn looked(&mut self) {
        let began = self.began_by_both_clocks();
        self.state.beyond.outside.remove(&REACHED);
        self.state.beyond.outside.insert(LOOKED, began.0);
    }
}
