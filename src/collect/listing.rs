//! New investigations: the listing by creation time.
//!
//! From the watermark less the overlap to the beginning of the cycle, oldest
//! first. Pages are not counted through: the next request starts just before
//! the last row of the page, so that no window pages deep, a row that appears
//! late in a part already read shifts nothing, and the window can be taken up
//! again at any time. Bounds are exclusive at the vendor and finer than the
//! milliseconds a request carries; starting a millisecond early and knowing
//! what was seen makes up for both. Only when more than a page of investigations
//! share a millisecond is the page number used.
//!
//! Guaranteed: the watermark moves only when the last page of a window is in
//! and everything on it has been turned into artifacts. Rows out of order or
//! outside the window are a failure: the request was not understood as meant,
//! and going on could skip something. A page that fails, or lacks rows, leaves
//! the window where it is, to be asked for again in the next cycle; the cycle
//! goes on with its other parts, the last of which finds most of what lies
//! behind that page.
//!
//! Not guaranteed: an investigation that becomes visible later than the overlap
//! after its creation, and is not yet listed, is not found here.

use super::Step;
use super::access::is_absence;
use super::alerts::Work;
use super::checkpoint::{Known, Owed, Phase, Window};
use super::condensed::{Kept, Trace};
use super::extras::may_have_changed_within;
use super::memory::Found;
use crate::api::calls;
use crate::api::client::{Stop, is_local};
use crate::api::paging::{self, PAGE_SIZE};
use crate::api::transport::{Clock, Transport};
use crate::artifact::identity::hash64;
use crate::artifact::investigation::Investigation;
use crate::contract::FailureReason;
use crate::descriptor::INVESTIGATIONS;
use crate::times::Utc;

/// Seconds in a day.
pub(super) const DAY: i64 = 86_400;

impl<T: Transport, C: Clock> Step<'_, T, C> {
    /// Lists windows until the cycle's beginning is reached.
    pub(super) async fn list_new(&mut self) -> Result<(), Stop> {
        loop {
            let window = match self.state.window {
                // A page that failed in an earlier cycle: what has come since lies behind it.
                Some(window) if window.after < self.cycle_began() => Window { before: self.cycle_began(), ..window },
                _ => self.open_window(),
            };
            self.state.window = Some(window);
            match self.list_page(window, Listing::New).await {
                // A clock was far ahead at the first poll: nothing would be new before that time has come.
                Ok(None) | Err(Stop::Failed(_)) if self.state.floor.is_some_and(|floor| floor > window.before) => {
                    (self.state.floor, self.state.watermark, self.state.window) = (None, None, None);
                }
                Err(stop) => {
                    self.pass(stop.clone()).await?;
                    self.unlisted = Some(stop);
                    break;
                }
                Ok(Some(next)) => self.state.window = Some(next),
                Ok(None) => {
                    self.state.watermark = Some(self.client.by_both_clocks(window.before));
                    self.state.window = None;
                    if window.before >= self.cycle_began() {
                        break;
                    }
                }
            }
            self.output.progress = true;
        }
        self.enter(Phase::Gained(0));
        Ok(())
    }

    /// Goes on although a page of a list failed, if that concerns this page only.
    ///
    /// # Errors
    ///
    /// The stop, if it concerns more.
    pub(super) async fn pass(&mut self, stop: Stop) -> Result<(), Stop> {
        let failure = match stop {
            Stop::Failed(failure) if is_local(&failure) && !is_absence(&failure) && !self.client.is_halted() => failure,
            stop => return Err(stop),
        };
        // A step has no time to wait in vain for each of its requests.
        if failure.reason == FailureReason::Timeout {
            match self.client.is_alive().await {
                Ok(true) => {}
                // Where the step has got nothing done, there is more to say than that it is over.
                Err(stop) if self.output.progress => return Err(stop),
                Ok(false) | Err(_) => return Err(Stop::Failed(failure)),
            }
        }
        self.output.degrade(INVESTIGATIONS, *failure);
        Ok(())
    }

    /// The window from where the last one ended to the cycle's beginning.
    fn open_window(&mut self) -> Window {
        let before = self.cycle_began();
        let after = match self.state.watermark {
            Some(watermark) => self.listed_up_to(watermark).plus_seconds(-60 * self.settings.overlap_minutes),
            None => before.plus_seconds(-DAY * self.settings.lookback_days),
        };
        // Before that nothing is new.
        let after = self.state.floor.map_or(after, |floor| after.max(floor));
        if self.state.floor.is_none() {
            self.state.floor = Some(after);
            // What is looked at from now on may have a comment, however many cycles it takes to have listed everything.
            self.state.beyond.listed = [Some(before); 2];
        }
        Window { after: after.just_before(), before, index: 0 }
    }

    /// What is to be listed instead of this window, when the cycle turns out to have begun at another time than its end.
    fn until_now(&mut self, window: Window) -> Window {
        let before = self.cycle_began();
        if self.state.number > 1 && window.after < before {
            return Window { before, ..window };
        }
        // The look-back ends then, too.
        self.state.floor = self.state.floor.filter(|_| self.state.number > 1);
        self.open_window()
    }

    /// Up to when the first listing of everything goes, by creation time: in the
    /// first cycle what was created within the look-back has just been listed.
    pub(super) fn end_of_first(&self) -> Utc {
        let began = self.cycle_began();
        if self.state.number == 1 { self.state.floor.unwrap_or(began) } else { began }
    }

    /// Lists one page and collects what on it is new or changed. Gives the
    /// window that is left, if any.
    pub(super) async fn list_page(&mut self, window: Window, listing: Listing) -> Result<Option<Window>, Stop> {
        if !self.has_room() {
            return Err(Stop::Spent);
        }
        let Window { after, before, index } = window;
        let open_only = listing == Listing::Open && !self.is_unfiltered();
        let mut request = calls::investigations(after, before, index, PAGE_SIZE, open_only);
        let mut answer = self.client.send(&request).await;
        if open_only && matches!(&answer, Err(Stop::Failed(failure)) if failure.http_status == Some(400)) {
            // It may not know one of the statuses.
            let whole = calls::investigations(after, before, index, PAGE_SIZE, false);
            match self.client.send(&whole).await {
                Ok(response) => {
                    (request, answer) = (whole, Ok(response));
                    self.state.since_8.unfiltered = Some(self.cycle_began());
                }
                // What ends every request says more than that this one is refused.
                Err(stop) if !stop.is_local() => return Err(stop),
                Err(_) => {}
            }
        }
        if listing == Listing::New && (self.set_right() || self.set_forward()) {
            return Ok(Some(self.until_now(window)));
        }
        let response = answer?;
        let page = paging::v2_in_parts(&response.body, index)
            .map_err(|why| self.client.malformed(&request, &response, &why))?;
        let mut rows: Vec<Investigation<'_>> = page.rows.iter().map(Investigation::of).collect();
        check_order(&rows, window).map_err(|why| self.client.malformed(&request, &response, why))?;
        // What is behind the end belongs to the next window.
        rows.retain(|row| row.created.is_none_or(|created| created.floor_millisecond() <= before));
        let is_past_end = rows.len() < page.rows.len();
        self.take(&rows, listing).await?;
        if let Some(why) = page.short {
            return Err(self.client.malformed(&request, &response, &why));
        }
        self.listed = true;
        if !page.more || is_past_end {
            return Ok(None);
        }
        let last = rows.iter().filter_map(|row| row.created).max().map_or(after, Utc::just_before);
        Ok(Some(if last > after {
            Window { after: last, index: 0, ..window }
        } else {
            Window { index: index.saturating_add(1), ..window }
        }))
    }

    /// Collects what of listed rows is new or changed, and notes the rest.
    /// When the listing is for changes, rows that were there before the
    /// look-back, have had no alert since and have not been collected are only
    /// remembered, so that a change of them shows.
    ///
    /// # Errors
    ///
    /// When not everything could be collected: the same page has to be asked
    /// for again.
    pub(super) async fn take(&mut self, rows: &[Investigation<'_>], listing: Listing) -> Result<(), Stop> {
        self.note_organization(rows, self.cycle_began())?;
        let all = matches!(listing, Listing::New | Listing::Gained);
        let mut work = Vec::new();
        let (settings, since, began) = (self.settings, self.looked_through(listing), self.cycle_began());
        // Tens of thousands that nobody ever closes may have no alerts at all. That somebody has looked at one says nothing
        // of alerts.
        let reads_alerts = settings.collect_alerts && listing == Listing::Everything;
        let may_have_more = |row: &Investigation<'_>, has_alerts: bool| {
            (settings.collect_comments || reads_alerts && has_alerts && row.hides_alerts())
                && may_have_changed_within(row, listing, since)
        };
        let number = self.state.number;
        let ordinal = self.ordinal_of_forgotten();
        let floor = self.state.floor;
        // A listing of what is older than the look-back for the first time: of what cannot be told nothing was known.
        let first = self.state.relisted.is_none();
        let found: Vec<Found> = rows.iter().map(|row| self.state.known.find(&row.rrn)).collect();
        let past = self.past(rows, &found);
        for ((row, found), past) in rows.iter().zip(found).zip(past) {
            let within = row.created.is_none_or(|created| floor.is_none_or(|floor| created >= floor));
            // An older one with an alert within it is not one that is only known: when it has made room, the listing by
            // latest alert would take it for collected.
            let latest = || row.members.time("latest_alert_time");
            let has_alert_within = || floor.is_some_and(|floor| latest().is_some_and(|latest| latest > floor));
            // It may stand in the list twice.
            let found = self.state.known.again(&row.rrn, found);
            if let Some(before) = found.known() {
                // One from before the look-back that is only known has gained an alert since.
                let has_gained = before.silent && all;
                let is_back = before.is_believed_gone();
                // Its API was gone when alerts of it came.
                let may_have_evidence =
                    listing == Listing::Everything && self.state.triage.is_there() && before.lacks_evidence();
                let from_page =
                    if has_gained || is_back || may_have_evidence { Some(0) } else { Work::page_needed(row, before) };
                // A copy of the vendor's data that lists come from may be behind what a single read has just shown.
                let is_doubtful = from_page == Some(0)
                    && !(all || is_back || matches!(before.owed, Owed::Page(_)))
                    && self.singly.contains(&hash64([row.rrn.as_bytes()]));
                let from_page = from_page.filter(|_| !is_doubtful);
                if let Some(from_page) = from_page {
                    work.push(Work { investigation: row, from_page, found: found.clone() });
                }
                let mut known = found.into_known().unwrap_or_default();
                known.listed = number;
                known.open = row.is_open();
                // Should the step end before that is done.
                if is_back {
                    known.owed = Owed::Page(0);
                }
                if from_page.is_none()
                    && !known.silent
                    && known.owed == Owed::Nothing
                    && (is_doubtful || may_have_more(row, !known.alerts.is_empty()))
                {
                    known.owed = Owed::Until(began);
                    self.noted = self.noted.saturating_add(1);
                }
                self.state.known.put(row.rrn.clone().into_owned(), known, false);
                continue;
            }
            match past {
                Some(Kept::Same) if !(within && may_have_more(row, false)) => {}
                // It was forgotten as it is, but work is left, or there may be more that belongs to it.
                Some(Kept::Same | Kept::Owed) => {
                    let known = Known { silent: false, ordinal, owed: Owed::Until(began), ..seen(row, number) };
                    self.state.known.put(row.rrn.clone().into_owned(), known, true);
                    self.noted = self.noted.saturating_add(1);
                }
                // Not even a hash is left: what nobody has looked at since has, as far as is known, not been changed by
                // a person.
                Some(Kept::TooOld) if !all && (first && !within || !was_looked_at(row, since)) => {}
                None | Some(Kept::Unknown) if !all && !within && !has_alert_within() => {
                    self.state.known.put(row.rrn.clone().into_owned(), seen(row, number), true);
                }
                _ => work.push(Work { investigation: row, from_page: 0, found }),
            }
        }
        self.collect(&work).await?;
        // Of what needed no work no page is owed.
        let owed = |work: &Work<'_>| self.state.known.get(work.investigation.rrn.as_ref()).map(|known| known.owed);
        if work.iter().any(|work| matches!(owed(work), Some(Owed::Page(_)))) { Err(Stop::Spent) } else { Ok(()) }
    }
}

/// Whether somebody has looked at an investigation since the last listing of its kind, if there was one.
fn was_looked_at(row: &Investigation<'_>, since: Option<Utc>) -> bool {
    let accessed = row.members.time("last_accessed");
    since.is_some_and(|since| accessed.is_some_and(|accessed| accessed > since))
}

/// An investigation that is known and not collected.
fn seen(row: &Investigation<'_>, number: u32) -> Known {
    Known {
        created: row.created.map_or(0, |created| created.0),
        fingerprint: row.fingerprint(),
        open: row.is_open(),
        silent: true,
        listed: number,
        ..Known::default()
    }
}

/// Investigations that had to make room in the checkpoint.
impl<T, C> Step<'_, T, C> {
    /// Whether an investigation may have been forgotten, as far as its age says.
    pub(super) fn may_be_forgotten(&self, row: &Investigation<'_>) -> bool {
        row.created.is_some_and(|created| self.state.forgotten.is_some_and(|horizon| created <= horizon))
    }

    /// The ordinal of a version of an investigation of which the ordinals so far are not known: above them all. They were
    /// counted on from such a one of an earlier cycle, or part of this one, and in a part an investigation has a version or
    /// two.
    pub(super) fn ordinal_of_forgotten(&self) -> u32 {
        let part = match self.state.cycle.as_ref().map(|cycle| &cycle.phase) {
            None | Some(Phase::New) => 0,
            Some(Phase::Gained(_)) => 1,
            Some(Phase::Outside(_)) => 2,
            Some(Phase::Owed(_)) => 3,
            Some(Phase::Known(..) | Phase::Around(..)) => 4,
            Some(Phase::Left(_)) => 5,
        };
        self.state.number.saturating_mul(16).saturating_add(3 * part)
    }

    /// What is kept of each row, should it not be remembered: nothing of those
    /// that are younger than all that was forgotten.
    fn past(&self, rows: &[Investigation<'_>], found: &[Found]) -> Vec<Option<Kept>> {
        let trace = |row: &Investigation<'_>| {
            Trace::of(&row.rrn, row.created.map_or(0, |created| created.0), row.fingerprint())
        };
        let is_forgotten =
            |(row, found): (&Investigation<'_>, &Found)| found.known().is_none() && self.may_be_forgotten(row);
        let forgotten: Vec<bool> = rows.iter().zip(found).map(is_forgotten).collect();
        let asked = rows.iter().zip(&forgotten).filter(|(_, forgotten)| **forgotten);
        let traces: Vec<Trace> = asked.map(|(row, _)| trace(row)).collect();
        let mut kept = self.state.condensed.look_up(&traces).into_iter();
        forgotten.into_iter().map(|forgotten| if forgotten { kept.next() } else { None }).collect()
    }
}

/// What a listing by creation time is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listing {
    /// What is new.
    New,
    /// What gained alerts.
    Gained,
    /// Changes of what is not closed.
    Open,
    /// Changes of anything.
    Everything,
}

/// Whether the rows are in the order that was asked for, to the millisecond, and in the window that was, to the minute, to
/// which a server may cut its beginning, or round its end: what comes too early is known, or new.
fn check_order(rows: &[Investigation<'_>], window: Window) -> Result<(), &'static str> {
    let earliest = window.after.floor_millisecond().plus_seconds(-60);
    let latest = window.before.plus_seconds(60);
    let mut before = earliest;
    for created in rows.iter().filter_map(|row| row.created).map(Utc::floor_millisecond) {
        if created < earliest || created > latest {
            return Err("investigations outside the window that was asked for");
        }
        if created < before {
            return Err("investigations that are not sorted by created_time as asked for");
        }
        before = created;
    }
    Ok(())
}
