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
//! and going on could skip something.
//!
//! Not guaranteed: an investigation that becomes visible later than the overlap
//! after its creation, and is not yet listed, is not found here.

use super::Step;
use super::alerts::Work;
use super::checkpoint::{Owed, Window};
use crate::api::calls;
use crate::api::client::Stop;
use crate::api::paging::{self, PAGE_SIZE};
use crate::api::transport::{Clock, Transport};
use crate::artifact::investigation::Investigation;
use crate::times::Utc;

/// Seconds in a day.
const DAY: i64 = 86_400;

impl<T: Transport, C: Clock> Step<'_, T, C> {
    /// Lists windows until the cycle's beginning is reached.
    pub(super) async fn list_new(&mut self) -> Result<(), Stop> {
        loop {
            let window = match self.state.window {
                Some(window) => window,
                None => self.open_window(),
            };
            self.state.window = Some(window);
            match self.list_page(window).await? {
                Some(next) => self.state.window = Some(next),
                None => {
                    self.state.watermark = Some(window.before);
                    self.state.window = None;
                    if window.before >= self.cycle_began() {
                        break;
                    }
                }
            }
            self.output.progress = true;
        }
        if let Some(cycle) = &mut self.state.cycle {
            cycle.listed = true;
        }
        Ok(())
    }

    /// The window from where the last one ended to the cycle's beginning.
    fn open_window(&self) -> Window {
        let before = self.cycle_began();
        let after = match self.state.watermark {
            Some(watermark) => watermark.min(before).plus_seconds(-60 * self.settings.overlap_minutes),
            None => before.plus_seconds(-DAY * self.settings.lookback_days),
        };
        Window { after: after.just_before(), before, index: 0 }
    }

    /// Lists one page and collects what is on it. Gives the window that is
    /// left, if any.
    async fn list_page(&mut self, window: Window) -> Result<Option<Window>, Stop> {
        if !self.has_room() {
            return Err(Stop::Spent);
        }
        let request = calls::investigations(window.after, window.before, window.index, PAGE_SIZE);
        let response = self.client.send(&request).await?;
        let page =
            paging::v2(&response.body, window.index).map_err(|why| self.client.malformed(&request, &response, &why))?;
        let rows: Vec<Investigation<'_>> = page.rows.iter().map(|raw| Investigation::of(raw)).collect();
        check_order(&rows, window).map_err(|why| self.client.malformed(&request, &response, why))?;
        let work: Vec<Work<'_>> = rows
            .iter()
            .filter_map(|investigation| {
                Work::if_needed(investigation, self.state.known.get(investigation.rrn.as_ref()))
            })
            .collect();
        self.collect(&work).await?;
        if rows
            .iter()
            .any(|row| matches!(self.state.known.get(row.rrn.as_ref()).map(|known| known.owed), Some(Owed::Page(_))))
        {
            return Err(Stop::Spent);
        }
        if !page.more {
            return Ok(None);
        }
        let last = rows.iter().filter_map(|row| row.created).max().map_or(window.after, Utc::just_before);
        Ok(Some(if last > window.after {
            Window { after: last, index: 0, ..window }
        } else {
            Window { index: window.index.saturating_add(1), ..window }
        }))
    }
}

/// Whether the rows are in the order and the window that were asked for, to
/// the millisecond.
fn check_order(rows: &[Investigation<'_>], window: Window) -> Result<(), &'static str> {
    let mut before = window.after.floor_millisecond();
    for created in rows.iter().filter_map(|row| row.created).map(Utc::floor_millisecond) {
        if created < window.after.floor_millisecond() || created > window.before {
            return Err("investigations outside the window that was asked for");
        }
        if created < before {
            return Err("investigations that are not sorted by created_time as asked for");
        }
        before = created;
    }
    Ok(())
}
