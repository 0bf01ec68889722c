//! What belongs to an investigation besides its alerts: alerts of Rapid7's
//! other products, comments, restricted evidence.
//!
//! Each kind has an endpoint of its own that may be missing. It is asked
//! whenever the investigation is worked on, each record becomes an artifact
//! once. An endpoint that has answered nothing but 403 or 404 in two cycles is not
//! there: investigations go without it, and it is asked again an hour later. Those
//! of the first of these cycles are gone back to in the second. An endpoint that
//! refuses the key again and again is not there either. What fails otherwise is
//! asked for again, less often each time, for a day and a half.
//!
//! Not guaranteed: a record that is added to an investigation without any
//! change that its row shows is found when the row changes next. For comments,
//! being looked at (`last_accessed`) counts as a change, and those of whatever
//! is not closed are read at every listing of everything.

use serde_json::value::RawValue;

use super::Step;
use super::access::{Access, is_absence};
use super::alert_list::{MOST_PAGES, Room};
use super::alerts::{MOST_OF_EXTRAS, failures_of_extras};
use super::checkpoint::{Known, Owed};
use super::evidence::HELD;
use super::listing::Listing;
use super::memory::OWED;
use crate::api::client::{Client, Stop, is_local};
use crate::api::transport::{Clock, Request, Transport};
use crate::api::{calls, errors, paging};
use crate::artifact::extra::{Extra, Kind, WITH_ALL};
use crate::artifact::investigation::Investigation;
use crate::contract::{Failure, FailureReason, RetryAdvice};
use crate::descriptor::{COMMENTS, PRODUCT_ALERTS, RESTRICTED};
use crate::times::Utc;

/// What an endpoint gave for one investigation.
pub(super) struct ReadExtra {
    kind: Kind,
    /// Records, without those that have been collected.
    rows: Vec<Box<RawValue>>,
    /// Whether these are all there are, or why not.
    pub(super) end: Result<(), Stop>,
}

/// What of an investigation is still to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Lacks {
    /// Nothing.
    Nothing,
    /// What an endpoint may have that has only said in this cycle, and for the first time, that it is not there.
    Unasked,
    /// An endpoint that is there says that it does not know the investigation: one copy of the vendor's data may not know
    /// yet what another knows.
    NotYet,
    /// What could not be read.
    Failed,
}

/// The kinds in the order in which the checkpoint knows them.
const KINDS: [Kind; 3] = [Kind::ProductAlert, Kind::Comment, Kind::Restricted];

/// Investigations of which what is owed is let go at a time: there may be as many as can be remembered.
const LET_GO: usize = 200;

/// The stream of a kind.
fn stream(kind: Kind) -> &'static str {
    match kind {
        Kind::ProductAlert => PRODUCT_ALERTS,
        Kind::Comment => COMMENTS,
        Kind::Restricted => RESTRICTED,
    }
}

impl<T: Transport, C: Clock> Step<'_, T, C> {
    /// The kinds that are wanted, and what is known of their endpoints.
    fn wanted_extras(&self) -> impl Iterator<Item = (Kind, Access)> + use<T, C> {
        let wanted =
            [self.settings.collect_product_alerts, self.settings.collect_comments, self.settings.collect_restricted];
        let kinds = KINDS.into_iter().zip(self.state.beyond.extras).zip(wanted);
        kinds.filter_map(|(kind, wanted)| wanted.then_some(kind))
    }

    /// The kinds that are wanted and not known to be missing, nor have seemed to be in this cycle.
    pub(super) fn extra_kinds(&self) -> Vec<Kind> {
        let began = self.cycle_began();
        let is_there = |access: Access| !access.is_missing(began) && access != Access::Doubtful(Some(began));
        self.wanted_extras().filter_map(|(kind, access)| is_there(access).then_some(kind)).collect()
    }

    /// Lets go of what was to be asked for once more, when all that is wanted is missing.
    pub(super) fn let_go_of_extras(&mut self) {
        let began = self.cycle_began();
        if self.wanted_extras().any(|(_, access)| !access.is_missing(began)) {
            return;
        }
        loop {
            let owed = self.state.known.scan(None, OWED);
            let owed = owed.filter(|(_, known)| matches!(known.owed, Owed::Failed(0, due) if due <= began));
            let owed: Vec<(String, Known)> = owed.take(LET_GO).collect();
            if owed.is_empty() {
                return;
            }
            for (rrn, known) in owed {
                self.state.known.put(rrn, Known { owed: Owed::Nothing, ..known }, false);
            }
        }
    }

    /// Notes which endpoints have answered for any investigation of a group, before one that they do not know yet can make
    /// them look as if they were not there.
    pub(super) fn note_answers(&mut self, of_group: &[Vec<ReadExtra>]) {
        for read in of_group.iter().flatten().filter(|read| read.end.is_ok()) {
            if let Some(access) = self.state.beyond.extras.get_mut(read.kind as usize) {
                *access = Access::Available;
            }
        }
    }

    /// Turns what was read of an investigation into artifacts. Tells what is
    /// missing that has to be asked for again.
    ///
    /// # Errors
    ///
    /// What would have stopped any other request.
    pub(super) fn emit_extras(
        &mut self,
        of: &Investigation<'_>,
        extras: Vec<ReadExtra>,
        known: &mut Known,
        at_hand: &[u64],
    ) -> Result<Lacks, Stop> {
        let (host, now) = (self.settings.region.host, self.cycle_began());
        let mut lacks = Lacks::Nothing;
        let mut stop = None;
        for ReadExtra { kind, rows, end } in extras {
            let Some(access) = self.state.beyond.extras.get_mut(kind as usize) else { continue };
            match end {
                Ok(()) => {}
                Err(Stop::Failed(failure))
                    if failure.reason == FailureReason::NotFound && *access == Access::Available =>
                {
                    lacks = lacks.max(Lacks::NotYet);
                }
                // It has never answered: that it is not there it has to say in two cycles.
                Err(Stop::Failed(failure))
                    if is_absence(&failure) && [Access::Unknown, Access::Doubtful(Some(now))].contains(access) =>
                {
                    *access = Access::Doubtful(Some(now));
                }
                Err(Stop::Failed(failure))
                    if is_absence(&failure) && *access != Access::Available
                        || matches!(failure.http_status, Some(401 | 403))
                            && (access.is_unavailable() || failures_of_extras(known.owed) >= HELD) =>
                {
                    *access = Access::missing(&failure, now);
                }
                Err(Stop::Failed(failure)) if is_local(&failure) => {
                    let is_last = failures_of_extras(known.owed) >= MOST_OF_EXTRAS;
                    let failure = if is_last { errors::passed_over(*failure) } else { *failure };
                    self.output.degrade(stream(kind), failure);
                    lacks = Lacks::Failed;
                }
                Err(why) => stop = Stop::or_stronger(stop, why),
            }
            for extra in rows.iter().flat_map(|raw| Extra::all_of(kind, raw, of)) {
                if !extra.is_in(&known.alerts) {
                    self.output.push(extra.artifact(of, host, now).into_contract(stream(kind)));
                    self.output.count(stream(kind), 1);
                    known.remember(extra.key(), at_hand);
                }
            }
        }
        // Asked or not: what is new in this cycle is asked again in the next.
        if of.is_identified() && self.wanted_extras().any(|(_, access)| access == Access::Doubtful(Some(now))) {
            lacks = lacks.max(Lacks::Unasked);
        }
        stop.map_or(Ok(lacks), Err)
    }

    /// Since when whatever was looked at may have a change, or a new comment,
    /// that an earlier listing of this kind has not led to.
    pub(super) fn looked_through(&self, listing: Listing) -> Option<Utc> {
        let [open, everything] = self.state.beyond.listed;
        let since = if listing == Listing::Open { open } else { everything };
        since.map(|since| self.listed_up_to(since).plus_seconds(self.settings.overlap_minutes.saturating_mul(-60)))
    }

    /// Why a stream of these is not there, if it is not.
    pub(super) fn unavailable_extra(&self, name: &str) -> Option<Failure> {
        let (kind, access) = KINDS.into_iter().zip(self.state.beyond.extras).find(|(kind, _)| stream(*kind) == name)?;
        let (what, remedy) = about(kind);
        let again =
            || format!("{what} says that this tenant or key does not have it, and is asked again in the next cycle");
        let is_doubtful = matches!(access, Access::Doubtful(_));
        let doubt = || errors::plain(FailureReason::NotFound, again(), remedy, RetryAdvice::BackOff);
        access.failure(what, remedy).or_else(|| is_doubtful.then(doubt))
    }
}

/// Whether a listing for changes shows that something may have come to an
/// investigation that its row does not tell: a comment, or an alert where the row
/// does not say when the latest one was. Those are read in the next cycle, one
/// investigation at a time, so that each step gets on.
pub(super) fn may_have_changed_within(row: &Investigation<'_>, listing: Listing, since: Option<Utc>) -> bool {
    let looked_at =
        || row.members.time("last_accessed").is_some_and(|accessed| since.is_none_or(|since| accessed > since));
    match listing {
        Listing::New | Listing::Gained => false,
        Listing::Open => looked_at(),
        Listing::Everything => row.is_open() || looked_at(),
    }
}

/// The endpoint of a kind in messages, and what can be done where it is missing.
pub(super) fn about(kind: Kind) -> (&'static str, &'static str) {
    match kind {
        Kind::ProductAlert => {
            ("the endpoint of product alerts", "Nothing has to be done if the tenant has no other Rapid7 product.")
        }
        Kind::Comment => {
            ("the endpoint of comments", "Use a key whose role may read comments, or switch off Collect comments.")
        }
        Kind::Restricted => (
            "the endpoint of restricted evidence",
            "Ask Rapid7's support to enable it for the organization, or switch off Collect restricted evidence.",
        ),
    }
}

/// The first, or only, request for the records of a kind of one investigation.
pub(super) fn first_page(kind: Kind, rrn: &str) -> Request {
    match kind {
        Kind::ProductAlert => calls::product_alerts(rrn),
        Kind::Comment => calls::comments(rrn, 0, paging::PAGE_SIZE),
        Kind::Restricted => calls::restricted_evidence(rrn),
    }
}

/// Reads the records of a kind of one investigation, as far as there is room.
pub(super) async fn read<T: Transport, C: Clock>(
    client: &Client<'_, T, C>,
    kind: Kind,
    of: &Investigation<'_>,
    known: Option<&Known>,
    room: &Room,
) -> ReadExtra {
    let mut rows = Vec::new();
    let end = read_pages(client, kind, of, known, room, &mut rows).await;
    ReadExtra { kind, rows, end }
}

async fn read_pages<T: Transport, C: Clock>(
    client: &Client<'_, T, C>,
    kind: Kind,
    of: &Investigation<'_>,
    known: Option<&Known>,
    room: &Room,
    taken: &mut Vec<Box<RawValue>>,
) -> Result<(), Stop> {
    let rrn = of.rrn.as_ref();
    let (mut index, mut pages) = (0_u64, paging::Pages::default());
    loop {
        if room.is_full() {
            return Err(Stop::Spent);
        }
        let request = match kind {
            Kind::Comment => calls::comments(rrn, index, paging::PAGE_SIZE),
            _ => first_page(kind, rrn),
        };
        let response = match client.send(&request).await {
            Ok(response) => response,
            Err(stop) => return pages.behind_the_end(stop).map(drop),
        };
        let (rows, more) = match kind {
            Kind::ProductAlert => paging::bare(&response.body).map(|rows| (rows, false)),
            Kind::Comment => paging::comments(&response.body, index, paging::PAGE_SIZE).and_then(|page| {
                if pages.is_again(&page) { Err("the same page again".to_owned()) } else { Ok((page.rows, page.more)) }
            }),
            Kind::Restricted => paging::listed(&response.body, &["indicator_occurrences"]).map(|rows| (rows, false)),
        }
        .map_err(|why| client.malformed(&request, &response, &why))?;
        for row in rows {
            let extras = Extra::all_of(kind, row, of);
            let is_new = |extra: &&Extra<'_>| known.is_none_or(|known| !extra.is_in(&known.alerts));
            let new = extras.iter().filter(is_new).count();
            if new > 0 {
                // Those behind these have each a part of it, and one more holds all of these.
                room.take(row.get(), u64::try_from(new.min(WITH_ALL + 1)).unwrap_or(u64::MAX));
                taken.push(row.to_owned());
            }
        }
        if !more {
            return Ok(());
        }
        index = index.saturating_add(1);
        if index >= MOST_PAGES {
            return Err(client.malformed(&request, &response, "pages without end"));
        }
    }
}
