//! Changes of state: listing again what is known.
//!
//! The vendor has no filter on changes, so status, priority, disposition,
//! assignee, title and tags are found by listing again: everything that is not
//! closed in every cycle, and everything there is from time to time, which
//! finds changes of closed investigations and whatever became visible later
//! than the overlap. What has left the list of what is not closed is read
//! singly afterwards (`revisit`): it was closed, or is gone.
//!
//! That list is asked for by the statuses that are known to be not closed. Where
//! the vendor does not know one of them, or so many are open with a status that
//! is not among them that reading them singly costs more, everything is listed in
//! each cycle, for a day at a time. What is older than any list shows is
//! read singly when everything is listed.
//!
//! What such a listing leads to beside changes, as comments of what somebody
//! has looked at, is for the next cycle, so that each step gets on. In a tenant
//! with more than can be remembered, where it could be forgotten until then,
//! it is for the middle of the listing.
//!
//! A page that fails, or lacks rows, is gone around: what it would have shown is
//! listed in windows that become longer as long as that goes well, and much
//! shorter where it does not. An hour that cannot be listed is passed over, and
//! if what follows cannot either, twice as much. What lies in it is looked at by the next such
//! listing, and what of it is not closed is read singly, as if it had left the
//! list. A page that is never answered takes most of a step, so the way around it
//! goes on in the next one.
//!
//! Not guaranteed: a state that comes and goes between two listings is not
//! seen.

use super::Step;
use super::checkpoint::{Detour, Phase, Window};
use super::gained::KEPT_DAYS;
use super::listing::{DAY, Listing};
use super::revisit::Round;
use crate::api::client::Stop;
use crate::api::paging::PAGE_SIZE;
use crate::api::transport::{Clock, Transport};

/// Seconds in an hour.
const HOUR: i64 = 3_600;
/// Seconds after which everything is listed again.
pub(super) const EVERYTHING: i64 = 6 * HOUR;
/// Windows in a row that fail, after which the list itself is taken to be at fault.
const MOST_IN_A_ROW: u32 = 8;
/// What of a window that has failed is tried next: one in so many.
const SHARE: i64 = 16;
/// What of the investigations that are remembered may be noted to be gone back
/// to: one in so many.
const NOTED_SHARE: usize = 4;

impl<T: Transport, C: Clock> Step<'_, T, C> {
    /// Begins the listing: of everything if that is due.
    pub(super) fn start_relisting(&mut self) {
        let began = self.cycle_began();
        // One that seems to be still to come was noted by a clock that was ahead.
        let is_recent = |relisted| (0..EVERYTHING).contains(&began.seconds_since(relisted));
        let whole = !self.state.relisted.is_some_and(is_recent);
        let after = began.plus_seconds(-DAY * KEPT_DAYS).just_before();
        // What lies before the look-back is listed once, to be known.
        let before = if self.state.relisted.is_none() { self.end_of_first() } else { began };
        self.state.since_8.beside = 0;
        self.enter(Phase::Known(Window { after, before: before.plus_seconds(1), index: 0 }, whole));
    }

    /// Lists what is left of the window.
    pub(super) async fn relist(&mut self, window: Window, whole: bool, detour: Detour) -> Result<(), Stop> {
        let listing = if whole { Listing::Everything } else { Listing::Open };
        let mut window = window;
        // What a step before this one has led to.
        self.work_off(window, whole, detour).await?;
        let is_resumed = window.after >= self.cycle_began().plus_seconds(-DAY * KEPT_DAYS);
        let Detour { mut span, mut least, mut failed } = detour;
        least = least.max(HOUR);
        let mut end_is_missing = None;
        loop {
            let end = span.map_or(window.before, |span| window.after.plus_seconds(span).min(window.before));
            match self.list_page(Window { before: end, ..window }, listing).await {
                Ok(Some(next)) => window = Window { before: window.before, ..next },
                Ok(None) if end >= window.before => break,
                Ok(None) => {
                    window = Window { after: end.just_before(), index: 0, ..window };
                    span = span.map(|span| span.saturating_mul(2));
                }
                Err(stop) => {
                    self.pass(stop.clone()).await?;
                    self.client.forgive_lists();
                    failed += 1;
                    // It is not this page.
                    if failed > MOST_IN_A_ROW {
                        return Err(stop);
                    }
                    let tried = end.seconds_since(window.after);
                    if tried > least {
                        span = Some((tried / SHARE).max(least));
                    } else {
                        window = Window { after: end, index: 0, ..window };
                        least = least.saturating_mul(2);
                        span = Some(least);
                        if end >= window.before {
                            end_is_missing = Some(stop);
                            break;
                        }
                    }
                    self.enter(Phase::Around(window, whole, Detour { span, least, failed }));
                    continue;
                }
            }
            // That something was passed over is known by this.
            (least, failed) = (if least == HOUR { HOUR } else { HOUR + 1 }, 0);
            self.enter(Phase::Around(window, whole, Detour { span, least, failed }));
            if self.noted > self.state.known.len() / NOTED_SHARE {
                self.work_off(window, whole, Detour { span, least, failed }).await?;
            }
        }
        // The end of the list may be missing, but not all of it.
        if let Some(stop) = end_is_missing.filter(|_| !self.listed && !is_resumed) {
            return Err(stop);
        }
        let began = self.cycle_began();
        let since = Some(self.client.by_both_clocks(began));
        let [open, everything] = &mut self.state.beyond.listed;
        *open = since;
        if whole {
            // What changed in a part that was passed over is looked for once more: in two days, if it fails for that long.
            let passed = everything.filter(|_| least != HOUR).map(|before| before.max(began.plus_seconds(-2 * DAY)));
            *everything = passed.min(since).or(since);
            self.state.relisted = Some(began);
        }
        self.enter(Phase::Left(None));
        Ok(())
    }

    /// Whether what is not closed is listed with all else in this cycle.
    pub(super) fn is_unfiltered(&self) -> bool {
        let began = self.cycle_began();
        self.state.since_8.unfiltered.is_some_and(|since| (0..DAY).contains(&began.seconds_since(since)))
    }

    /// Notes that so many investigations that are open had to be read singly because of their status.
    pub(super) fn note_beside(&mut self, more: usize) {
        let beside = &mut self.state.since_8.beside;
        *beside = beside.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
        let all = self.state.known.len().saturating_add(self.state.condensed.count());
        let pages = u64::try_from(all).unwrap_or(u64::MAX) / PAGE_SIZE;
        // A page of them is no matter.
        if u64::from(*beside) > pages.max(PAGE_SIZE) {
            self.state.since_8.unfiltered = Some(self.cycle_began());
        }
    }

    /// Whether everything has been listed in this cycle.
    pub(super) fn has_listed_everything(&self) -> bool {
        self.state.relisted == Some(self.cycle_began())
    }

    /// Goes back to what has been noted, before it has to make room.
    async fn work_off(&mut self, window: Window, whole: bool, detour: Detour) -> Result<(), Stop> {
        self.noted = 0;
        match self.state.forgotten {
            None => Ok(()),
            Some(_) => self.revisit(None, Round::Listed(window, whole, detour)).await,
        }
    }
}
