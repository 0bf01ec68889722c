//! The list of one investigation's alerts, page after page.
//!
//! What has been collected of a version that is known is counted and let go, so
//! that an investigation of any number of alerts is gone through in steps of
//! any size, and listing it again costs a request for each hundred.
//!
//! A list of several pages that is read from its beginning has to hold as many
//! different alerts as its totals promise; what has moved across the bounds of
//! its pages meanwhile is found by reading it again.
//!
//! Of more alerts than are remembered those are let go, too, that are older than
//! what was gone through at the same version ([`super::passes`]).
//!
//! Not guaranteed: an alert that is pushed across such a bound because another
//! one was taken out of an investigation that takes several steps.

use std::cell::Cell;

use serde_json::value::RawValue;

use super::access::is_absence;
use super::alerts::Work;
use super::checkpoint::{Known, MAX_ALERTS};
use crate::api::client::{Client, Stop, is_local};
use crate::api::transport::{Clock, Response, Transport};
use crate::api::{calls, paging};
use crate::artifact::alert::Alert;
use crate::contract::FailureReason;
use crate::times::Utc;

/// Pages of a list of one investigation after which it cannot be right.
pub(super) const MOST_PAGES: u64 = 1_000;
/// Times that a list is read again when alerts are missing.
const AGAIN: u32 = 2;
/// Pages of one list that may fail without being its end.
const MOST_BAD: u32 = 2;
/// Alerts of a group after which no further page is listed. Fewer than are
/// remembered of one investigation ([`super::checkpoint::MAX_ALERTS`]), so that
/// none of those at hand has to be forgotten.
const MOST_AT_HAND: usize = 2_000;
/// Bytes that one of a record takes up at most: escaped in the message of its
/// artifact.
const ESCAPED: u64 = 2;

/// What a group may still take up of the step's budget. It is looked at before
/// a request, and reckoned with when the answer is there: requests under way
/// together may take up more, and the first always takes what it needs.
pub(super) struct Room {
    records: Cell<usize>,
    bytes: Cell<u64>,
}

impl Room {
    /// Room for so many records of so many bytes as artifacts: at least for one
    /// byte, so that something gets done.
    pub(super) fn new(records: u32, bytes: u64) -> Self {
        let records = usize::try_from(records).unwrap_or(usize::MAX).min(MOST_AT_HAND);
        Self { records: Cell::new(records), bytes: Cell::new(bytes.max(1)) }
    }

    /// Takes it up for a record whose bytes stand in so many artifacts.
    pub(super) fn take(&self, record: &str, artifacts: u64) {
        let bytes = u64::try_from(record.len()).unwrap_or(u64::MAX);
        self.bytes.set(self.bytes.get().saturating_sub(bytes.saturating_mul(ESCAPED * artifacts)));
        self.records.set(self.records.get().saturating_sub(1));
    }

    /// Whether no bytes are left.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.get() == 0
    }

    /// Whether no further page should be listed.
    fn has_enough(&self) -> bool {
        self.is_full() || self.records.get() == 0
    }
}

/// The alerts of one investigation, as far as they could be listed.
#[derive(Default)]
pub(super) struct Listed {
    /// Those that are not known to have been collected, or that belong into
    /// the artifact of a new version.
    pub(super) rows: Vec<Box<RawValue>>,
    /// How many rows there were before each page.
    pages: Vec<usize>,
    /// How many alerts there are, those that were let go included.
    pub(super) count: usize,
    /// When the youngest of those that were let go was created.
    pub(super) newest: Option<Utc>,
    /// Keys of all that were listed, those that were let go included, in their
    /// order; of a single page of an investigation that is not known none.
    keys: Vec<u64>,
    /// The page to go on at, when the listing is not whole.
    pub(super) next_page: Option<u64>,
    /// Why it is not, unless only the step's room has run out.
    pub(super) stop: Option<Stop>,
}

impl Listed {
    /// Whether the investigation is as if it had not been seen: what stopped
    /// the listing would have stopped any other.
    pub(super) fn is_untouched(&self, from_page: u64) -> bool {
        self.next_page == Some(from_page) && self.stop.as_ref().is_some_and(|stop| !stop.is_local())
    }

    /// How many pages lie before the one with this row, or before the last.
    pub(super) fn pages_before(&self, row: Option<usize>) -> u64 {
        let row = row.unwrap_or(self.rows.len());
        let pages = self.pages.partition_point(|start| *start <= row).saturating_sub(1);
        u64::try_from(pages).unwrap_or(u64::MAX)
    }

    /// Keys of what stands within a page of an alert: all of its own page is among them.
    pub(super) fn beside(&self, key: u64) -> &[u64] {
        let page = usize::try_from(paging::PAGE_SIZE).unwrap_or(usize::MAX);
        let Some(at) = self.keys.iter().position(|known| *known == key) else { return &[] };
        self.keys.get(at.saturating_sub(page)..at.saturating_add(page).min(self.keys.len())).unwrap_or_default()
    }
}

/// Whether a page failed for itself alone, so that the next may be read.
fn is_bad_page(stop: &Stop) -> bool {
    matches!(stop, Stop::Failed(failure)
        if is_local(failure) && !is_absence(failure) && failure.reason != FailureReason::Timeout)
}

/// Lists the alerts of one investigation. A page that fails for itself alone is
/// gone on behind. What was created before `through` was gone through at this
/// version. What was created up to `whole` has all its evidence.
pub(super) async fn list<T: Transport, C: Clock>(
    client: &Client<'_, T, C>,
    work: &Work<'_>,
    known: Option<&Known>,
    through: Option<Utc>,
    whole: Utc,
    room: &Room,
) -> Listed {
    let mut listed = Listed::default();
    if !work.investigation.is_identified() {
        return listed;
    }
    // A new version holds its alerts.
    let known = known.filter(|known| !known.alerts.is_empty() && known.fingerprint == work.investigation.fingerprint());
    // As long as all that is known has a key, that says more.
    let through = through.filter(|_| known.is_some_and(|known| known.alerts.len() >= MAX_ALERTS));
    let mut index = work.from_page;
    let (mut pages, mut tries, mut bad) = (paging::Pages::default(), 0, 0);
    // What there is to read of the new alerts of a page takes more than the page: a quarter of the requests is for pages.
    let left = client.requests_left();
    loop {
        listed.next_page = Some(index);
        if room.is_full() {
            if index == work.from_page {
                listed.stop = Some(Stop::Spent);
            }
            return listed;
        }
        let request = calls::alerts(&work.investigation.rrn, index);
        let (response, failed) = match client.send(&request).await {
            Ok(response) => (response, None),
            Err(stop) => (Response::default(), Some(stop)),
        };
        let read = || paging::v2(&response.body, index).map_err(|why| client.malformed(&request, &response, &why));
        let page = match failed.map_or_else(read, Err).or_else(|stop| pages.behind_the_end(stop)) {
            Ok(page) => page,
            Err(stop) => {
                let goes_on = bad < MOST_BAD && is_bad_page(&stop);
                listed.stop = listed.stop.or(Some(stop));
                if !goes_on {
                    return listed;
                }
                listed.pages.push(listed.rows.len());
                (bad, index) = (bad + 1, index.saturating_add(1));
                continue;
            }
        };
        let is_long = page.more || index > work.from_page;
        // New alerts push old ones down, so a page may begin with what the one
        // before ended with; but never is it the same page.
        let same = pages.is_again(&page);
        if same || index >= MOST_PAGES {
            let why = if same { "the same page of alerts again" } else { "pages of alerts without end" };
            listed.stop = Some(client.malformed(&request, &response, why));
            return listed;
        }
        listed.pages.push(listed.rows.len());
        listed.count = listed.count.saturating_add(page.rows.len());
        for row in &page.rows {
            if is_long || known.is_some() {
                let alert = Alert::of(row);
                let key = alert.key();
                listed.keys.push(key);
                let is_gone_through = || through.is_some_and(|through| alert.created.is_some_and(|it| it < through));
                if known.is_some_and(|known| known.alerts.binary_search(&key).is_ok()) || is_gone_through() {
                    listed.newest = listed.newest.max(alert.created);
                    // It is looked at again when nothing comes to it any more.
                    let is_whole = alert.created.is_none_or(|created| created <= whole);
                    if !(is_whole && known.is_some_and(|known| known.pieces(key).is_some())) {
                        continue;
                    }
                }
            }
            // It stands in its own artifact and in that of the investigation.
            room.take(row.get(), 2);
            listed.rows.push((*row).to_owned());
        }
        if page.more {
            index = index.saturating_add(1);
            let is_enough = !listed.rows.is_empty() && client.requests_left() < left - left / 4;
            if room.has_enough() || is_enough {
                listed.next_page = Some(index);
                return listed;
            }
            continue;
        }
        listed.next_page = None;
        let mut keys = listed.keys.clone();
        keys.sort_unstable();
        keys.dedup();
        let different = u64::try_from(keys.len()).unwrap_or(u64::MAX);
        if work.from_page > 0 || index == 0 || bad > 0 || different >= page.total_rows {
            return listed;
        }
        if tries >= AGAIN {
            let total = page.total_rows;
            let why = format!("{different} different alerts where its totals promise {total}");
            listed.stop = Some(client.malformed(&request, &response, &why));
            return listed;
        }
        tries += 1;
        (listed, pages, index) = (Listed::default(), paging::Pages::default(), 0);
    }
}
