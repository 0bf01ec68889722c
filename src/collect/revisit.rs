//! Going back to investigations with work left to do.
//!
//! Young ones whose alerts may still become visible, ones whose alerts could
//! not be listed, ones that a step had no room to finish; and, at the end of a
//! cycle, ones that have left the list of what is not closed. Each is read
//! singly, which also shows a change of its state. This comes after the listing
//! of new investigations: under a tight limit new data goes first.
//!
//! Where what an investigation waits for is found not to be answered in a step,
//! it is not gone back to in vain: it stays due, and its failures are not counted.
//! Of evidence they are, without asking: what is given up in the end must not wait
//! for as long as new ones keep an outage in sight.

use serde_json::value::RawValue;

use super::Step;
use super::alerts::{LAST_RETRY, WaitsFor, Work, failed_again, failures, waits_for, waits_for_evidence};
use super::checkpoint::{Detour, Known, MISSING, Owed, Phase, Window};
use super::evidence::HELD_BY_LIMIT;
use super::extras;
use super::fan_out::fan_out;
use super::gained::KEPT_DAYS;
use super::listing::DAY;
use super::memory::{OPEN, OWED};
use crate::api::calls;
use crate::api::client::{Client, Stop, is_local};
use crate::api::transport::{Clock, Transport};
use crate::artifact::identity::hash64;
use crate::artifact::investigation::{self, Investigation};
use crate::contract::FailureReason;
use crate::descriptor::INVESTIGATIONS;

/// Requests that one of them takes at least: itself, its alerts, and evidence
/// and actors of one.
const REQUESTS: usize = 4;
/// Investigations that are gone back to at a time.
const GROUP: usize = 32;

/// What is gone back to.
#[derive(Clone, Copy)]
pub(super) enum Round {
    /// What is owed something.
    Owed,
    /// What has left the list of what is not closed.
    Left,
    /// What a listing of this window, or of everything in it, has led to so far.
    Listed(Window, bool, Detour),
}

impl Round {
    /// Where in the cycle this is, when it is done up to an RRN.
    fn phase(self, after: Option<String>) -> Phase {
        match self {
            Self::Owed => Phase::Owed(after),
            Self::Left => Phase::Left(after),
            // What is done is not due again.
            Self::Listed(window, whole, detour) => Phase::Around(window, whole, detour),
        }
    }
}

impl<T: Transport, C: Clock> Step<'_, T, C> {
    /// Goes back to every investigation that is due, in the order of RRNs
    /// behind `after`.
    pub(super) async fn revisit(&mut self, after: Option<String>, round: Round) -> Result<(), Stop> {
        let mut after = after;
        loop {
            self.let_go_of_extras();
            let due = self.due(after.as_ref(), round);
            let Some(last) = due.last().cloned() else { return Ok(()) };
            if !self.has_room() {
                return Err(Stop::Spent);
            }
            let outcome = self.revisit_group(&due, round).await;
            if outcome.is_err() {
                // What is finished needs not be done again by the next step.
                if let Some(done) = self.finished(&due) {
                    self.enter(round.phase(Some(done)));
                }
            }
            outcome?;
            if due.iter().any(|rrn| matches!(self.state.known.get(rrn).map(|known| known.owed), Some(Owed::Page(_)))) {
                // Not finished: the next step starts with this group again.
                return Err(Stop::Spent);
            }
            after = Some(last);
            self.enter(round.phase(after.clone()));
        }
    }

    /// The next investigations that are due in this cycle.
    fn due(&self, after: Option<&String>, round: Round) -> Vec<String> {
        let (left, listed) = (matches!(round, Round::Left), matches!(round, Round::Listed(..)));
        let began = self.cycle_began();
        // Of what is older than a list shows none can say that it has not changed.
        let all = self.has_listed_everything();
        let oldest = began.plus_seconds(-DAY * KEPT_DAYS);
        let is_past_lists = |known: &Known| (1..oldest.0).contains(&known.created);
        // Until the vendor has said what is left of its allowance, one: reading many could use up what it takes to finish
        // the first, in every step again.
        let most = if self.client.has_heard() {
            GROUP.min(self.client.requests_left() / (REQUESTS + self.extra_kinds().len())).min(self.pace).max(1)
        } else {
            1
        };
        self.state
            .known
            .scan(after.map(String::as_str), if left { OWED | OPEN } else { OWED })
            .filter(|(rrn, known)| match known.owed {
                // In the second round only what a full step had to leave.
                Owed::Page(_) => true,
                // There is nothing to ask for one without a name by.
                _ if left => {
                    known.open
                        && known.listed != self.state.number
                        && !rrn.starts_with(investigation::UNIDENTIFIED)
                        && (all || !is_past_lists(known))
                }
                Owed::Nothing => false,
                Owed::Until(until) => !listed || until <= began,
                owed if self.is_in_vain(owed) => false,
                // Further away than any wait: noted by a clock that was ahead.
                Owed::Failed(_, not_before) => not_before <= began || not_before > began.plus_seconds(LAST_RETRY),
            })
            .map(|(rrn, _)| rrn)
            .take(most)
            .collect()
    }

    /// Whether an investigation waits for what is not answered in this step.
    fn is_in_vain(&self, owed: Owed) -> bool {
        let no_alerts = || self.client.has_ended(&calls::alerts("", 0));
        match waits_for(owed) {
            None => false,
            Some(WaitsFor::Alerts) => no_alerts(),
            Some(WaitsFor::Evidence) => self.unanswered && failures(owed) < HELD_BY_LIMIT || no_alerts(),
            // It may be any of them.
            Some(WaitsFor::Extras) => {
                let kinds = self.extra_kinds();
                !kinds.is_empty() && kinds.into_iter().all(|kind| self.client.has_ended(&extras::first_page(kind, "")))
            }
        }
    }

    /// Counts a failure of what is due and was not gone back to because no alert is answered for: else it would wait for as
    /// long as that lasts.
    pub(super) fn count_in_vain(&mut self) {
        let began = self.cycle_began();
        while self.unanswered {
            let is_due = |owed| matches!(owed, Owed::Failed(_, due) if due <= began) && failures(owed) < HELD_BY_LIMIT;
            let owed = self.state.known.scan(None, OWED);
            let owed =
                owed.filter(|(_, known)| is_due(known.owed) && waits_for(known.owed) == Some(WaitsFor::Evidence));
            let owed: Vec<(String, Known)> = owed.take(200).collect();
            if owed.is_empty() {
                return;
            }
            for (rrn, known) in owed {
                let owed = waits_for_evidence(failed_again(known.owed, began));
                self.state.known.put(rrn, Known { owed, ..known }, false);
            }
        }
    }

    /// Notes that an investigation is not there: for good when it has not been
    /// for as long as the overlap, since one copy of the vendor's data may know
    /// what another does not know yet; until it is listed again.
    fn not_found(&mut self, rrn: &str) {
        let began = self.cycle_began();
        let again = began.plus_seconds(self.settings.overlap_minutes.saturating_mul(60));
        let Some(mut known) = self.state.known.get(rrn) else { return };
        match known.owed {
            Owed::Until(until) if known.listed == MISSING && until > began => {}
            Owed::Until(_) if known.listed == MISSING => {
                known.owed = Owed::Nothing;
                known.open = false;
            }
            // Whatever it was owed: it was there until now.
            _ => {
                known.owed = Owed::Until(again);
                known.listed = MISSING;
            }
        }
        self.state.known.put(rrn.to_owned(), known, false);
    }

    /// The last of those at the start of a group that have nothing left to do in
    /// this cycle.
    fn finished(&self, due: &[String]) -> Option<String> {
        due.iter().take_while(|rrn| self.visited.contains(*rrn)).last().cloned()
    }

    async fn revisit_group(&mut self, due: &[String], round: Round) -> Result<(), Stop> {
        self.visited.clear();
        let reads = fan_out(self.settings.concurrency, due.iter().map(|rrn| read(&self.client, rrn))).await;
        let mut stop = None;
        let mut records = Vec::new();
        for (rrn, result) in due.iter().zip(reads) {
            match result {
                Ok(raw) => records.push((rrn, raw)),
                Err(Stop::Failed(failure)) if failure.reason == FailureReason::NotFound => {
                    self.not_found(rrn);
                    self.visited.push(rrn.clone());
                }
                Err(Stop::Failed(failure)) if is_local(&failure) => {
                    self.visited.push(rrn.clone());
                    let status = failure.http_status.unwrap_or(0);
                    self.output.degrade(INVESTIGATIONS, *failure);
                    // What is owed a page would be due again at once.
                    if let Some(known) = self.state.known.get(rrn)
                        && (matches!(round, Round::Listed(..)) || matches!(known.owed, Owed::Page(_)))
                    {
                        let owed = failed_again(known.owed, self.cycle_began());
                        self.state.since_7.status = status;
                        self.state.known.put(rrn.clone(), Known { owed, ..known }, false);
                    }
                }
                Err(why) => stop = Stop::or_stronger(stop, why),
            }
        }
        let investigations: Vec<(&String, Investigation<'_>)> =
            records.iter().map(|(rrn, raw)| (*rrn, Investigation::of(raw))).collect();
        if matches!(round, Round::Left) {
            let is_beside = |investigation: &Investigation<'_>| {
                let status = investigation.members.text("status");
                investigation.is_open() && !status.is_some_and(|status| calls::is_asked_for(&status))
            };
            let oldest = self.cycle_began().plus_seconds(-DAY * KEPT_DAYS);
            let is_young = |one: &Investigation<'_>| one.created.is_none_or(|created| created > oldest);
            let beside = investigations.iter().filter(|(_, one)| is_beside(one) && is_young(one)).count();
            self.note_beside(beside);
        }
        let mut work = Vec::with_capacity(investigations.len());
        for (rrn, investigation) in &investigations {
            let found = self.state.known.find(rrn);
            match found.known() {
                // It has left the list for a state that no list asks for, long ago.
                Some(known) if known.owed == Owed::Nothing && known.fingerprint == investigation.fingerprint() => {
                    let known = Known { listed: self.state.number, open: investigation.is_open(), ..known.clone() };
                    self.state.known.put((*rrn).clone(), known, false);
                    self.visited.push((*rrn).clone());
                }
                Some(Known { owed: Owed::Page(from_page), .. }) => {
                    work.push(Work { investigation, from_page: *from_page, found });
                }
                _ => work.push(Work { investigation, from_page: 0, found }),
            }
        }
        self.collect(&work).await?;
        self.singly.extend(investigations.iter().map(|(rrn, _)| hash64([rrn.as_bytes()])));
        stop.map_or(Ok(()), Err)
    }
}

/// Reads one investigation.
async fn read<T: Transport, C: Clock>(client: &Client<'_, T, C>, rrn: &str) -> Result<Box<RawValue>, Stop> {
    client.record(&calls::investigation(rrn), rrn).await
}
