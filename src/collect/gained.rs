//! New alerts on old investigations: the listing by latest alert.
//!
//! An investigation of any age can gain an alert without a change of its
//! creation time, so a listing by creation never sees it. This one asks for the
//! investigations of the whole time that the vendor keeps, those with the
//! newest alert first, and stops at the first row whose newest alert is older
//! than the last such listing less the overlap.
//!
//! Rows without an alert time do not stop it: where the vendor sorts them is
//! not known. If the rows are not in order, nothing stops it but the end of the
//! list: slower, and nothing is skipped. Rows that move to the front while the
//! pages are read push others down, to be read twice; they are found themselves
//! in the next cycle. So is everything else when a page fails: the cycle goes on
//! with its other parts.

use super::Step;
use super::checkpoint::Phase;
use super::listing::{DAY, Listing};
use crate::api::client::Stop;
use crate::api::transport::{Clock, Transport};
use crate::api::{calls, paging};
use crate::artifact::investigation::Investigation;
use crate::times::Utc;

/// Days of investigations that are looked at: what the vendor keeps.
pub(super) const KEPT_DAYS: i64 = 390;
/// Pages after which the listing cannot be right.
const MOST_PAGES: u64 = 10_000;

impl<T: Transport, C: Clock> Step<'_, T, C> {
    /// Lists from `page` on until nothing newer can follow.
    pub(super) async fn list_gained(&mut self, page: u64) -> Result<(), Stop> {
        let began = self.cycle_began();
        // In the first cycle the look-back says how old an alert may be.
        let since = match self.state.gained {
            Some(gained) => self.listed_up_to(gained).plus_seconds(-60 * self.settings.overlap_minutes),
            None => self.state.floor.unwrap_or(began),
        };
        let since = self.state.floor.map_or(since, |floor| since.max(floor));
        let (mut index, mut pages) = (page, paging::Pages::default());
        loop {
            match self.gained_page(index, since, &mut pages).await {
                Ok(is_last) if is_last || index >= MOST_PAGES => {
                    self.state.gained = Some(self.client.by_both_clocks(began.min(self.client.now())));
                    break;
                }
                Ok(_) => {
                    index = index.saturating_add(1);
                    self.enter(Phase::Gained(index));
                }
                Err(stop) => {
                    self.pass(stop).await?;
                    break;
                }
            }
        }
        self.enter(Phase::Outside(None));
        Ok(())
    }

    /// Lists one page and collects what on it is new or changed. Tells whether
    /// it was the last that matters.
    async fn gained_page(&mut self, index: u64, since: Utc, pages: &mut paging::Pages) -> Result<bool, Stop> {
        if !self.has_room() {
            return Err(Stop::Spent);
        }
        let began = self.cycle_began();
        // Before the look-back there is much less.
        let before = if self.state.gained.is_none() { self.end_of_first() } else { began };
        let after = began.plus_seconds(-DAY * KEPT_DAYS);
        let request = calls::investigations_by_alert(after, before.plus_seconds(1), index);
        let response = match self.client.send(&request).await {
            Ok(response) => response,
            Err(stop) => return pages.behind_the_end(stop).map(|_| true),
        };
        let page = paging::v2_in_parts(&response.body, index)
            .map_err(|why| self.client.malformed(&request, &response, &why))?;
        pages.note(&page);
        let rows: Vec<Investigation<'_>> = page.rows.iter().map(Investigation::of).collect();
        let times: Vec<Utc> = rows.iter().filter_map(|row| row.members.time("latest_alert_time")).collect();
        let recent: Vec<Investigation<'_>> = rows
            .into_iter()
            .filter(|row| row.members.time("latest_alert_time").is_some_and(|latest| latest > since))
            .collect();
        self.take(&recent, Listing::Gained).await?;
        if let Some(why) = page.short {
            return Err(self.client.malformed(&request, &response, &why));
        }
        self.listed = true;
        let in_order = times.is_sorted_by(|a, b| a.floor_millisecond() >= b.floor_millisecond());
        Ok(!page.more || (in_order && times.last().is_some_and(|oldest| *oldest <= since)))
    }
}
