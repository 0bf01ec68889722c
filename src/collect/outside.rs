//! Alerts that belong to no investigation, from the Alert Triage API.
//!
//! Their RRNs are listed by time of creation, from where the last cycle ended
//! less the overlap, to as long before now as the overlap: by then what becomes
//! part of an investigation has done so, and is collected with that. RRNs that
//! are new are read by the hundred; those of no investigation, or of one that is
//! not remembered, are collected with their evidence. So are those that their
//! investigation does not list until they are listed here for the last time.
//!
//! The order of a search is not known and its totals move, so nothing rests on
//! either: a window is cut until it holds a few pages, all of it is listed
//! within one step, and it counts as listed only when as many different RRNs
//! came as its total says; when they do not, it is cut too. What was read of a
//! window is known at once, so that a window may take any number of steps.
//!
//! What fails for itself alone, cycle after cycle, is passed over: two
//! milliseconds whose total never comes, an alert that cannot be read while
//! others can. Failures are counted for each alert, so that an outage of hours
//! does not make the first failure behind it the last.
//! The mark up to which all is done goes on up to the first alert that is to be read again.
//!
//! Where a region behind the search fails, the answers of the others are used. What
//! it may have is looked for again in every cycle until all regions answer: for a
//! day ([`regions`]), and then as far back as that.
//!
//! What the search shows later than the overlap is looked for from time to time
//! ([`looking_back`]).
//!
//! Not guaranteed: changes of such an alert after it was collected are not
//! seen. Three alerts in a row that cannot be read look like an outage, and
//! are waited for.

mod failing;
mod joining;
mod looking_back;
mod regions;
mod remembered;

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use failing::Failures;

use super::Step;
use super::access::{Access, Refused, is_absence, is_refused};
use super::alert_list::MOST_PAGES;
use super::checkpoint::Phase;
use super::evidence::HELD;
use super::triage::{BATCH, Read};
use crate::api::client::{Stop, is_local};
use crate::api::json::Json;
use crate::api::transport::{Clock, Response, Transport};
use crate::api::{calls, errors, paging};
use crate::artifact::alert::Context;
use crate::artifact::identity::hash64;
use crate::artifact::triage_alert::TriageAlert;
use crate::contract::{Failure, FailureReason};
use crate::descriptor::{EVIDENCE, UNINVESTIGATED};
use crate::times::Utc;

/// Longest window of one search, in microseconds: the vendor takes 6 months.
const LONGEST: i64 = 28 * 86_400 * 1_000_000;
/// How often the first window of a step is cut in half at most, once for each step before that a rate limit has ended.
const HALVED: u32 = 6;
/// What is tried next of a window that cannot be read: one in so many.
const SHARE: i64 = 16;
/// Shortest window that is cut, in microseconds.
const SHORTEST: i64 = 2_000;
/// RRNs of a window above which it is cut in half.
const MOST: u64 = 1_000;
/// Times that a window is listed again in one step when RRNs are missing.
const AGAIN: u32 = 2;
/// Windows that are passed over in one cycle, at most: with more of them the
/// search itself is at fault.
const MOST_PASSED: u32 = 8;
/// Longest window, in microseconds, whose total never comes that is passed over: what was found of it is collected.
const LONGEST_PASSED: i64 = 3_600 * 1_000_000;

/// Stands for the creation of an alert that is gone: it is looked for once more
/// when its window is listed again. The numbers behind it are those of the
/// failures of an alert that is still to be read ([`failing::Failures`]).
const GONE: i64 = i64::MIN;

/// What a search of a window found.
enum Rrns {
    /// All that is in it.
    All(Vec<String>),
    /// So many times as many as may be at a time, about.
    TooMany(i64),
    /// Not as many as it says, and how. The flag tells whether all of it was read: then it counts what it does not list.
    Fewer(Vec<String>, Box<Failure>, bool),
    /// What the regions have that have answered; others failed.
    OfSomeRegions(Vec<String>, Box<Failure>),
}

/// What came of a window.
enum Reached {
    /// Its end: all of it was collected, or is passed over.
    End,
    /// Its end, as far as regions have answered.
    EndOfSomeRegions,
    /// Its end, without alerts that have failed for themselves, of which the first is as old as that, if it is known.
    EndOfOthers(Stop, Option<Utc>),
    /// Nothing: it is too long, and this length is to be tried.
    Less(i64),
}

impl Rrns {
    /// All that was found where no region has failed.
    fn of(rrns: Vec<String>, partial: Option<Box<Failure>>) -> Self {
        match partial {
            None => Self::All(rrns),
            Some(failure) => Self::OfSomeRegions(rrns, failure),
        }
    }
}

/// Whether it is the vendor's limit that ends a step.
fn is_limit(stop: &Stop) -> bool {
    match stop {
        Stop::Allowance(_) => true,
        Stop::Failed(failure) => failure.reason == FailureReason::RateLimited,
        Stop::Spent => false,
    }
}

/// How many there are.
fn number(rrns: &[String]) -> u64 {
    u64::try_from(rrns.len()).unwrap_or(u64::MAX)
}

impl<T: Transport, C: Clock> Step<'_, T, C> {
    /// Collects what is new up to the overlap before the cycle's beginning.
    /// `reached` is how far an earlier step of the cycle came.
    pub(super) async fn collect_outside(&mut self, reached: Option<Utc>) -> Result<(), Stop> {
        if !self.settings.collect_uninvestigated {
            return Ok(());
        }
        if let Err(stop) = self.probe_if_due().await {
            return self.outside_failed(stop);
        }
        if self.state.triage != Access::Available {
            return Ok(());
        }
        let overlap = self.settings.overlap_minutes.saturating_mul(60);
        let end = self.cycle_began().plus_seconds(overlap.saturating_neg());
        let done = self.state.beyond.uninvestigated.map(|done| self.listed_up_to(done).min(end));
        self.state.beyond.uninvestigated = done;
        // What became visible late is looked for once more.
        let again = done.map(|done| done.plus_seconds(overlap.saturating_neg()));
        let noted = self.client.by_both_clocks(self.cycle_began()).plus_seconds(overlap.saturating_neg());
        let mut from = reached.or(again.max(self.state.floor)).unwrap_or(end);
        if reached.is_none() {
            // Without a gap between them, so that a window moves it only from its own beginning.
            self.state.beyond.uninvestigated = done.max(Some(from.min(noted)));
            self.remember_from(from);
        }
        let mut span = self.first_span();
        let (mut passed, mut failed) = (false, None);
        while from < end {
            let until = Utc(from.0.saturating_add(span)).min(end);
            match self.outside_window(from, until, &mut passed).await {
                Ok(Reached::Less(shorter)) => span = shorter,
                Ok(reached) => {
                    let is_end = matches!(reached, Reached::End);
                    let mut done = if is_end { until } else { from };
                    // What lies behind it does not wait for it. The mark goes on up to it, and not further: else what is
                    // listed anew in each cycle would grow for as long as anything fails.
                    if let Reached::EndOfOthers(stop, first) = reached {
                        failed = Stop::or_stronger(failed, stop);
                        done = first
                            .map(Utc::just_before)
                            .filter(|first| *first < until)
                            .map_or(from, |first| first.max(from));
                    }
                    self.enter(Phase::Outside(Some(until)));
                    let beyond = &mut self.state.beyond;
                    let is_next = beyond.uninvestigated.is_none_or(|done| done >= from);
                    let done = Some(done.min(noted));
                    // What fails may lie behind it still, and what was listed before says nothing about that.
                    if is_next && beyond.uninvestigated < done {
                        beyond.uninvestigated = done;
                        if is_end {
                            beyond.outside_failures = if passed { HELD } else { beyond.outside_failures.min(1) };
                        }
                    }
                    // Not only at the end: what is remembered of a long backlog would outgrow the checkpoint.
                    self.forget_outside(overlap);
                    span = span.saturating_mul(2).min(LONGEST);
                    from = until;
                    // What has failed would be forgotten for the sake of what lies behind it: that is left to the next
                    // cycle, which begins with what has failed.
                    if self.has_no_room_behind_what_failed(until.min(noted)) {
                        break;
                    }
                }
                Err(stop) => {
                    // That it was too much at a time is to be remembered.
                    let is_refused = matches!(stop, Stop::Failed(_)) && is_limit(&stop);
                    self.output.progress |= is_refused && self.state.rate_limited < HALVED;
                    return self.outside_failed(stop);
                }
            }
        }
        if let Some(stop) = failed {
            return self.outside_failed(stop);
        }
        if from < end {
            return Ok(());
        }
        self.note_regions(end.min(noted));
        self.forget_outside(overlap);
        self.state.beyond.outside_failures = if passed { HELD } else { 0 };
        Ok(())
    }

    /// Length of the first window of a step. What is listed is listed within one step: where the vendor limits the rate, a
    /// long window may take more requests than it allows at a time, again and again.
    fn first_span(&self) -> i64 {
        LONGEST >> self.state.rate_limited.min(HALVED)
    }

    /// A failure of this stream alone leaves the others to go on.
    fn outside_failed(&mut self, stop: Stop) -> Result<(), Stop> {
        match stop {
            Stop::Failed(failure) if is_absence(&failure) => {
                // One call may be missing; the API itself may have gone.
                self.doubt_triage();
                self.output.degrade(UNINVESTIGATED, *failure);
                Ok(())
            }
            Stop::Failed(failure) if is_local(&failure) => {
                self.state.beyond.outside_failures = self.state.beyond.outside_failures.saturating_add(1);
                self.output.degrade(UNINVESTIGATED, *failure);
                Ok(())
            }
            stop => Err(stop),
        }
    }

    /// Collects one window.
    /// `passed` is set where it is passed over what it counts and does not list.
    async fn outside_window(&mut self, from: Utc, until: Utc, passed: &mut bool) -> Result<Reached, Stop> {
        if !self.has_room() {
            return Err(Stop::Spent);
        }
        self.first_undone = Some(until);
        let span = until.0.saturating_sub(from.0);
        let rrns = match self.outside_rrns(from, until).await? {
            Rrns::All(rrns) => rrns,
            Rrns::TooMany(share) => return Ok(Reached::Less((span / share).max(SHORTEST))),
            Rrns::OfSomeRegions(rrns, failure) => {
                self.note_failed_region();
                let for_long = self.has_a_region_failed_for_long();
                let told = if for_long { errors::passed_over(*failure) } else { errors::in_parts(*failure) };
                self.output.degrade(UNINVESTIGATED, told);
                self.outside_new(rrns, until).await?;
                return Ok(Reached::EndOfSomeRegions);
            }
            Rrns::Fewer(rrns, failure, is_read) => {
                // They are there, whatever else is.
                self.outside_new(rrns, until).await?;
                let failures = &mut self.state.beyond.outside_failures;
                if span > if is_read && *failures >= HELD { LONGEST_PASSED } else { SHORTEST } {
                    return Ok(Reached::Less((span / if is_read { 2 } else { SHARE }).max(SHORTEST)));
                }
                if is_read && *failures >= HELD {
                    // It may do so always.
                    *passed = true;
                    self.output.degrade(UNINVESTIGATED, errors::passed_over(*failure));
                    return Ok(Reached::End);
                }
                if !(HELD..HELD + MOST_PASSED).contains(failures) {
                    *failures = if *failures < HELD { *failures } else { 0 };
                    return Err(Stop::Failed(failure));
                }
                *failures += 1;
                self.output.degrade(UNINVESTIGATED, errors::passed_over(*failure));
                return Ok(Reached::End);
            }
        };
        match self.outside_new(rrns, until).await {
            Err(Stop::Failed(failure))
                if is_local(&failure) && !is_absence(&failure) && !self.client.is_triage_halted() =>
            {
                Ok(Reached::EndOfOthers(Stop::Failed(failure), self.first_undone))
            }
            outcome => outcome.map(|()| Reached::End),
        }
    }

    /// Reads what of a window that ends then is new.
    async fn outside_new(&mut self, rrns: Vec<String>, until: Utc) -> Result<(), Stop> {
        let (known, new): (Vec<String>, Vec<String>) = rrns.into_iter().partition(|rrn| self.is_done(rrn));
        let another = known.first().map(String::as_str);
        let mut failed = None;
        for batch in new.chunks(BATCH) {
            match self.outside_batch(batch, until, another).await {
                Err(stop) if stop.is_local() && !self.client.is_triage_halted() => failed = failed.or(Some(stop)),
                outcome => outcome?,
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// The RRNs of a window.
    async fn outside_rrns(&self, from: Utc, until: Utc) -> Result<Rrns, Stop> {
        let can_be_cut = until.0.saturating_sub(from.0) > SHORTEST;
        let (mut rrns, mut seen) = (Vec::new(), BTreeMap::<u64, i64>::new());
        let (mut index, mut tries, mut pages) = (0_u64, 0, paging::Pages::default());
        let mut partial = None;
        loop {
            // Bounds are excluded, and finer than a request can say.
            let request = calls::triage_search(from.just_before(), until, index, paging::PAGE_SIZE);
            let answer = self.client.send(&request).await;
            let end = answer.as_ref().err().and_then(|stop| pages.behind_the_end(stop.clone()).ok());
            let response = match answer {
                Ok(response) => response,
                Err(_) if end.is_some() => Response { status: 200, ..Response::default() },
                // As below; and one that takes too much may be answered in parts.
                Err(Stop::Failed(failure))
                    if is_local(&failure)
                        && !is_absence(&failure)
                        && !self.client.is_triage_halted()
                        && self.state.beyond.outside_failures > 0 =>
                {
                    self.client.forgive_triage();
                    return Ok(Rrns::Fewer(rrns, failure, false));
                }
                Err(stop) => return Err(stop),
            };
            let malformed = |why: &str| errors::malformed(&request, &response, self.client.region(), why);
            let page = match end.map_or_else(|| paging::triage_rrns(&response.body, index), Ok) {
                Ok(page) => page,
                // It may be so for a moment, and of every window.
                Err(why) if self.state.beyond.outside_failures == 0 => {
                    return Err(Stop::Failed(Box::new(malformed(&why))));
                }
                Err(why) => return Ok(Rrns::Fewer(rrns, Box::new(malformed(&why)), false)),
            };
            if pages.is_again(&page) {
                return Ok(Rrns::Fewer(rrns, Box::new(malformed("the same page again")), false));
            }
            for rrn in page.rows.iter().filter_map(|raw| Json::from(raw).scalar()) {
                if seen.insert(hash64([rrn.as_bytes()]), 0).is_none() {
                    rrns.push(rrn.into_owned());
                }
            }
            // All of it is listed within one step, which also has to read some of it.
            let share = u64::try_from(self.client.requests_left() / 4).unwrap_or(u64::MAX).max(1);
            let most = if index == 0 { MOST.min(share.saturating_mul(paging::PAGE_SIZE)) } else { MOST };
            if can_be_cut && page.total_rows > most {
                return Ok(Rrns::TooMany(i64::try_from(page.total_rows / most).unwrap_or(i64::MAX).saturating_add(1)));
            }
            partial = partial.or_else(|| page.partial.as_deref().map(|why| Box::new(malformed(why))));
            if page.more && page.short.is_none() && index < MOST_PAGES {
                index = index.saturating_add(1);
                continue;
            }
            // It may count what it has nothing of.
            if number(&rrns) >= page.total_rows || partial.is_some() {
                return Ok(Rrns::of(rrns, partial));
            }
            if tries >= AGAIN {
                let why = format!("{} different alerts where its totals promise {}", rrns.len(), page.total_rows);
                return Ok(Rrns::Fewer(rrns, Box::new(malformed(&why)), true));
            }
            (index, tries, pages) = (0, tries + 1, paging::Pages::default());
        }
    }

    /// Reads alerts of a window that ends then and collects those of no
    /// investigation. What is unknown when it is read is gone. `another` is one
    /// that was read earlier.
    async fn outside_batch(&mut self, rrns: &[String], until: Utc, another: Option<&str>) -> Result<(), Stop> {
        if !self.has_room() {
            return Err(Stop::Spent);
        }
        self.client.note(self.output.progress);
        let names: Vec<&str> = rrns.iter().map(String::as_str).collect();
        let (mut records, mut unread, mut refused) = (Vec::new(), None, Vec::new());
        let (mut gone, mut why) = (Vec::new(), None);
        for (rrn, read) in names.iter().zip(self.read_alerts(&names).await) {
            match read {
                Ok(Some(record)) => records.push(record),
                Ok(None) => gone.push(*rrn),
                // There may be no such read, or it answers like that when it knows none of them.
                Err(Stop::Failed(failure)) if is_absence(&failure) => refused.push(*rrn),
                Err(stop) if stop.is_local() && self.state.beyond.outside_failures >= HELD => {
                    why = why.or(Some(stop));
                    refused.push(*rrn);
                }
                Err(stop) => unread = Stop::or_stronger(unread, stop),
            }
        }
        if unread.is_some() {
            self.first_undone = None;
        }
        // What is read takes more requests: the others have their turn in the next step.
        let most = (self.client.requests_left() / 4).max(1);
        if refused.len() > most {
            refused.truncate(most);
            unread = Stop::or_stronger(unread, Stop::Spent);
        }
        if let Err(stop) = self.read_singly(&refused, &mut records, &mut gone, (until, another)).await {
            self.first_undone = None;
            // What took the time of the step says more.
            let why = why.filter(|_| stop == Stop::Spent && records.is_empty());
            unread = Stop::or_stronger(unread, why.unwrap_or(stop));
        }
        if !gone.is_empty() && records.is_empty() {
            // All of them, or the API itself?
            self.doubt_triage();
            self.probe_if_due().await?;
            if let Some(failure) = self.triage_is_missing() {
                return Err(Stop::Failed(Box::new(failure)));
            }
        }
        for rrn in gone {
            self.done_with(rrn, GONE);
        }
        let (investigated, alerts): (Vec<_>, Vec<_>) = records
            .iter()
            .map(|raw| (TriageAlert::of(raw), &**raw))
            .partition(|(alert, _): &(TriageAlert<'_>, _)| self.comes_with_its_investigation(alert));
        for (alert, _) in investigated {
            if self.has_come(&alert) {
                self.done_with(&alert.rrn, alert.created().unwrap_or(until).0);
            } else {
                self.owe(&alert);
            }
        }
        let mut left = alerts.as_slice();
        while !left.is_empty() {
            if !self.has_room() {
                return Err(Stop::Spent);
            }
            // As many at a time as leaves requests for all of what one needs.
            let most = (self.client.requests_left() / 4).clamp(1, self.settings.concurrency.saturating_mul(4));
            let (group, rest) = left.split_at(most.min(self.pace).min(left.len()));
            match self.outside_group(group).await {
                // What fails for itself keeps no other waiting.
                Err(stop) if stop.is_local() && !self.client.is_triage_halted() => {
                    unread = Stop::or_stronger(unread, stop);
                }
                outcome => outcome?,
            }
            self.pace = self.pace.saturating_mul(2);
            left = rest;
        }
        unread.map_or(Ok(()), Err)
    }

    /// Whether an alert needs not be read again.
    fn is_done(&self, rrn: &str) -> bool {
        let known = self.state.beyond.outside.get(&hash64([rrn.as_bytes()]));
        known.is_some_and(|created| Failures::of(*created).is_none())
    }

    /// Notes that an alert, created then, needs not be read again.
    fn done_with(&mut self, rrn: &str, created: i64) {
        self.state.beyond.outside.insert(hash64([rrn.as_bytes()]), created);
        self.output.progress = true;
    }

    /// Notes that an alert of the window at hand is to be read again. By which of its times it was found is not known.
    fn is_undone(&mut self, alert: &TriageAlert<'_>) {
        self.first_undone = self.first_undone.min(alert.first_time());
    }

    /// Turns alerts into artifacts.
    async fn outside_group(&mut self, alerts: &[(TriageAlert<'_>, &RawValue)]) -> Result<(), Stop> {
        self.client.note(self.output.progress);
        let (host, now) = (self.settings.region.host, self.cycle_began());
        let rrns: Vec<&str> = alerts.iter().map(|(alert, _)| alert.rrn.as_ref()).collect();
        let read: Vec<Read<&RawValue>> = alerts.iter().map(|(_, raw)| Ok(Some(*raw))).collect();
        let last: Vec<bool> = rrns.iter().map(|rrn| self.may_be_the_last_time(rrn)).collect();
        let is_last = |at: usize| last.get(at).is_some_and(|last| *last);
        let mut failed = None;
        for ((alert, _), context) in alerts.iter().zip(self.contexts(&rrns, &read, is_last).await) {
            let halted = self.client.is_triage_halted();
            let context = match context {
                // The record stands for itself.
                Ok(context) => {
                    self.not_refused(Refused::Evidence);
                    Context { triage: None, ..context }
                }
                // It may be had in the next cycle.
                Err(stop @ Stop::Failed(_))
                    if is_refused(&stop)
                        && self.is_first_refusal(Refused::Evidence)
                        && !self.has_failed_for_good(&alert.rrn, halted) =>
                {
                    self.is_undone(alert);
                    failed = Stop::or_stronger(failed, stop);
                    continue;
                }
                // Where none of them can be had, as in an outage, that is no fault of this one, but no reason to wait for ever.
                Err(Stop::Failed(failure))
                    if is_absence(&failure) || is_local(&failure) && self.has_failed_for_good(&alert.rrn, halted) =>
                {
                    Context { missing: true, ..Context::default() }
                }
                Err(stop) => {
                    self.is_undone(alert);
                    failed = Stop::or_stronger(failed, stop);
                    continue;
                }
            };
            self.output.count(EVIDENCE, context.evidence.len());
            let known = self.state.since_7.organization;
            let artifact = alert.artifact(context, host, now, |organization| known.is(organization));
            self.output.push(artifact.into_contract(UNINVESTIGATED));
            self.output.count(UNINVESTIGATED, 1);
            self.done_with(&alert.rrn, alert.created().unwrap_or(now).0);
            self.note_in_its_investigation(alert);
        }
        failed.map_or(Ok(()), Err)
    }
}
