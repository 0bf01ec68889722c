//! The alerts of investigations that are new, changed or owed.
//!
//! Investigations are worked through in groups: all pages of alerts of the
//! group's members at once, as many requests at a time as the settings allow,
//! then the evidence of the alerts that are new, then the artifacts, in the
//! order of the list. A group is a multiple of the concurrency, so that cutting
//! the list into groups costs no round trip. What a group takes up in bytes is
//! bounded by what the step's budget has left ([`super::alert_list::Room`]).
//!
//! Guaranteed: an investigation is remembered as collected only with its
//! artifacts in the batch. One whose alerts cannot be listed is collected
//! without them and owed the rest; a failure that concerns every request leaves
//! it for the next step as if it had not been seen.

use std::borrow::Cow;
use std::future::Future;

use futures::future::LocalBoxFuture;

use super::Step;
use super::alert_list::{Listed, list};
use super::checkpoint::{Known, MAX_ALERTS, Owed};
use super::evidence::Enriched;
use super::extras::{Lacks, ReadExtra};
use super::fan_out::fan_out;
use super::memory::Found;
use crate::api::client::Stop;
use crate::api::transport::{Clock, Transport};
use crate::artifact::alert::Alert;
use crate::artifact::investigation::Investigation;
use crate::artifact::message::{self, Nested};
use crate::contract::Failure;
use crate::descriptor::{ALERTS, INVESTIGATIONS};
use crate::times::Utc;

/// Groups hold this many investigations for each concurrent request.
const GROUP: usize = 4;
/// Requests that one investigation takes at least: its alerts, and evidence and
/// actors of one. What else is collected of it comes on top.
const REQUESTS: usize = 3;
/// Seconds during which an investigation made of alerts may still lack them.
const YOUNG: i64 = 3_600;
/// First wait, in seconds, before alerts that could not be collected are asked
/// for again; doubled each time.
const FIRST_RETRY: i64 = 240;
/// Longest such wait, in seconds.
pub(super) const LAST_RETRY: i64 = 6 * 3_600;

/// Marks in a count of failures that it was the evidence of alerts that failed, and not their list.
const OF_EVIDENCE: u32 = 1 << 15;
/// Counts of failures from here on are those of what belongs to an investigation besides its alerts ([`super::extras`]):
/// neither an alert nor its evidence is given up for them.
pub(super) const OF_EXTRAS: u32 = 1 << 16;
/// Failures of those after which an investigation goes without: they take a day and a half.
pub(super) const MOST_OF_EXTRAS: u32 = 12;

/// An investigation to collect.
pub struct Work<'a> {
    /// It.
    pub investigation: &'a Investigation<'a>,
    /// The page of alerts to begin at.
    pub from_page: u64,
    /// What was remembered of it.
    pub found: Found,
}

impl Work<'_> {
    /// The page to begin at of a listed investigation that is known, if there is work on it: it has changed, or its alerts
    /// have not been listed to the end.
    pub fn page_needed(investigation: &Investigation<'_>, known: &Known) -> Option<u64> {
        match known.owed {
            Owed::Page(page) => Some(page),
            _ => (known.fingerprint != investigation.fingerprint()).then_some(0),
        }
    }
}

/// What one request of a group was for, and what came of it.
enum Answer {
    Alerts(Listed),
    Extra(ReadExtra),
}

/// What there is to turn into artifacts of one investigation.
struct Gathered<'a> {
    /// What was remembered of it before.
    found: Found,
    listed: &'a Listed,
    alerts: &'a [Alert<'a>],
    enriched: Vec<Enriched>,
    extras: Vec<ReadExtra>,
}

/// Requests of a group are of several kinds but are made together.
fn boxed<'p>(part: impl Future<Output = Answer> + 'p) -> LocalBoxFuture<'p, Answer> {
    Box::pin(part)
}

impl<T: Transport, C: Clock> Step<'_, T, C> {
    /// Collects investigations with their alerts.
    pub(super) async fn collect(&mut self, work: &[Work<'_>]) -> Result<(), Stop> {
        let mut left = work;
        while !left.is_empty() {
            if left.len() < work.len() && !self.has_room() {
                return Err(Stop::Spent);
            }
            // A small budget goes to few investigations that can be finished,
            // not to many that cannot.
            let most = self
                .settings
                .concurrency
                .saturating_mul(GROUP)
                .min(self.client.requests_left() / (REQUESTS + self.extra_kinds().len()))
                .min(self.pace)
                .max(1);
            let (group, rest) = left.split_at(most.min(left.len()));
            self.collect_group(group).await?;
            self.pace = self.pace.saturating_mul(2);
            left = rest;
        }
        Ok(())
    }

    async fn collect_group(&mut self, group: &[Work<'_>]) -> Result<(), Stop> {
        self.client.note(self.output.progress);
        // Of one that stands in the list twice it is not the latest: that counts when it is emitted.
        let known: Vec<Found> = group.iter().map(|work| work.found.clone()).collect();
        let (listed, extras) = self.list_group(group, &known).await;
        let alerts: Vec<Vec<Alert<'_>>> =
            listed.iter().map(|listed| listed.rows.iter().map(Alert::of).collect()).collect();
        let (enriched, mut stop) = self.enrich(&known, &alerts).await;
        self.note_answers(&extras);
        let results = group.iter().zip(known).zip(&listed).zip(&alerts).zip(enriched).zip(extras);
        for (((((work, found), listed), alerts), enriched), extras) in results {
            if !listed.is_untouched(work.from_page) {
                self.emit(work, Gathered { found, listed, alerts, enriched, extras }, &mut stop);
            }
        }
        for listed in listed {
            if let Some(why) = listed.stop.filter(|stop| !stop.is_local()) {
                stop = Stop::or_stronger(stop, why);
            }
        }
        stop.map_or(Ok(()), Err)
    }

    /// Lists the alerts of a group and whatever else belongs to its members, as
    /// many requests at a time as may be.
    async fn list_group(&self, group: &[Work<'_>], known: &[Found]) -> (Vec<Listed>, Vec<Vec<ReadExtra>>) {
        let room = self.room();
        let kinds = self.extra_kinds();
        let whole = self.whole_up_to();
        let (room, client) = (&room, &self.client);
        let listings = group.iter().zip(known).filter(|_| self.settings.collect_alerts).map(|(work, known)| {
            let through = self.gone_through(&work.investigation.rrn);
            boxed(async move { Answer::Alerts(list(client, work, known.known(), through, whole, room).await) })
        });
        let identified = group.iter().zip(known).filter(|(work, _)| work.investigation.is_identified());
        let extras = identified.flat_map(|(work, known)| {
            kinds.iter().map(move |kind| {
                let read = super::extras::read(client, *kind, work.investigation, known.known(), room);
                boxed(async move { Answer::Extra(read.await) })
            })
        });
        let mut answers = fan_out(self.settings.concurrency, listings.chain(extras)).await.into_iter();
        let mut listed: Vec<Listed> = Vec::with_capacity(group.len());
        if self.settings.collect_alerts {
            listed.extend(answers.by_ref().take(group.len()).map(|answer| match answer {
                Answer::Alerts(listed) => listed,
                Answer::Extra(_) => Listed::default(),
            }));
        } else {
            listed.extend(group.iter().map(|_| Listed::default()));
        }
        let extras = group
            .iter()
            .map(|work| {
                let count = if work.investigation.is_identified() { kinds.len() } else { 0 };
                answers
                    .by_ref()
                    .take(count)
                    .filter_map(|answer| match answer {
                        Answer::Extra(read) => Some(read),
                        Answer::Alerts(_) => None,
                    })
                    .collect()
            })
            .collect();
        (listed, extras)
    }

    /// Turns an investigation and its alerts into artifacts and remembers them.
    fn emit(&mut self, work: &Work<'_>, gathered: Gathered<'_>, stop: &mut Option<Stop>) {
        let Gathered { found, listed, alerts, enriched, extras } = gathered;
        let investigation = work.investigation;
        let host = self.settings.region.host;
        let now = self.cycle_began();
        // It may stand in the list twice.
        let before = self.state.known.again(investigation.rrn.as_ref(), found).into_known();
        let mut known = before.clone().unwrap_or_default();
        let ordinal = match &before {
            // Its versions so far are not known.
            None if self.may_be_forgotten(investigation) => Some(self.ordinal_of_forgotten()),
            None => Some(0),
            Some(before) if before.silent => Some(0),
            Some(before) if before.fingerprint == investigation.fingerprint() => None,
            Some(before) => Some(before.ordinal.saturating_add(1)),
        };
        if let Some(ordinal) = ordinal {
            let nested = Nested {
                name: "alerts",
                records: alerts.iter().map(|alert| message::line(alert.raw)).collect(),
                single: false,
            };
            let mut artifact = investigation.artifact(ordinal, host, &[nested], now);
            // Its other alerts have artifacts of their own, now or later.
            if listed.stop.is_some() || listed.next_page.is_some() || work.from_page > 0 {
                artifact.tags.push(Cow::Borrowed("alerts-cut"));
            }
            self.output.push(artifact.into_contract(INVESTIGATIONS));
            self.output.count(INVESTIGATIONS, 1);
            known.ordinal = ordinal;
            known.fingerprint = investigation.fingerprint();
            known.created = investigation.created.unwrap_or(now).0;
            known.silent = false;
        }
        let mut failure = listed.stop.as_ref().and_then(local_failure);
        let of_evidence = failure.is_none();
        let mut untouched = false;
        // Going back for the young ones would be to list all of it again, in which others have made room meanwhile. They
        // are listed again when it is over.
        let is_long = known.alerts.len().saturating_add(alerts.len()) > MAX_ALERTS;
        let has_marks = known.has_room_for_marks(alerts);
        let waits = |alert: &Alert<'_>| is_long && self.is_young(alert.created);
        // The first alert that is not done, unless it waits.
        let is_undone =
            |(alert, enriched): (&Alert<'_>, &Enriched)| !matches!(enriched, Enriched::Ready(_)) && !waits(alert);
        let undone = alerts.iter().zip(&enriched).position(is_undone);
        let mut at_hand: Vec<u64> = Vec::new();
        if is_long {
            at_hand.extend(alerts.iter().map(Alert::key));
            // What is done of the page to go on at must not make room for the rest of it.
            let key = undone.and_then(|undone| alerts.get(undone)).map(Alert::key);
            at_hand.extend(key.map(|key| listed.beside(key)).unwrap_or_default());
            at_hand.sort_unstable();
        }
        for (alert, enriched) in alerts.iter().zip(enriched) {
            let context = match enriched {
                Enriched::Ready(context) => *context,
                not_ready => {
                    match not_ready {
                        Enriched::Held(why) => failure = failure.or(Some(why)),
                        // In a step that could do nothing else, young ones wait
                        // like those without evidence: the next step would do no
                        // more.
                        Enriched::Untouched => {
                            let is_young = self.is_young(alert.created);
                            untouched |= !is_young || self.output.progress && !is_long;
                        }
                        // Its evidence is asked for again while its investigation
                        // is owed another look, which is as long as it may be late.
                        Enriched::Waiting | Enriched::Ready(_) => {}
                    }
                    continue;
                }
            };
            let key = alert.key();
            let is_new = known.alerts.binary_search(&key).is_err();
            let is_young = self.is_young(alert.created);
            let had = known.pieces(key).filter(|_| !is_young);
            let has = context.pieces();
            // What was there and is gone may come back.
            let is_to_come = context.missing && self.absent.is_some();
            let may_grow = is_new
                && has_marks
                && self.settings.collect_evidence
                && alert.is_in_triage()
                && (is_to_come || is_young && !context.missing);
            if is_new || had.is_some_and(|had| has > had) {
                // With more pieces it is another version: their number tells which.
                let ordinal = if is_new { 0 } else { has };
                self.output.push(alert.artifact(investigation, context, ordinal, host, now).into_contract(ALERTS));
                self.output.count(ALERTS, 1);
                known.remember(key, &at_hand);
            }
            if may_grow || had.is_some() && !is_to_come {
                known.note_pieces(key, may_grow.then_some(has));
            }
        }
        let lacks = match self.emit_extras(investigation, extras, &mut known, &at_hand) {
            Ok(lacks) => lacks,
            Err(why) => {
                untouched = true;
                *stop = Stop::or_stronger(stop.take(), why);
                Lacks::Nothing
            }
        };
        // The next step goes on with it.
        let is_unfinished = untouched && failure.is_none();
        known.owed = match (&failure, listed.next_page) {
            // How often it has failed is not to be forgotten for want of room: it would never be given up. What of it is done
            // is remembered, if that is not too much.
            (None, _)
                if let Owed::Failed(times, due) = known.owed
                    && untouched
                    && !is_long =>
            {
                Owed::Failed(times, due.min(now))
            }
            // Pages that are done need not be listed again, however many there are. But not where alerts before those that
            // were not come to have failed: they would take up the next step as they took up this one.
            (None, _) if untouched => Owed::Page(work.from_page.saturating_add(listed.pages_before(undone))),
            (Some(_), _) => {
                let owed = failed_again(known.owed, now);
                if of_evidence { waits_for_evidence(owed) } else { owed }
            }
            (None, Some(page)) => Owed::Page(page),
            (None, None) => {
                let until =
                    self.settings.collect_alerts.then(|| self.young(work, listed, alerts, &known, now)).flatten();
                // A young one is asked again in every cycle anyway.
                let failed = (lacks == Lacks::Failed).then(|| extras_failed_again(known.owed, now));
                let not_yet = match lacks {
                    Lacks::NotYet => self.not_yet(known.owed, now),
                    // In the next cycle, and not later in this one.
                    Lacks::Unasked => Owed::Failed(0, Utc(now.0.saturating_add(1))),
                    Lacks::Nothing | Lacks::Failed => Owed::Nothing,
                };
                match (until, not_yet) {
                    (Some(until), Owed::Until(other)) => Owed::Until(until.max(other)),
                    (Some(until), _) => Owed::Until(until),
                    (None, not_yet) => failed.unwrap_or(not_yet),
                }
            }
        };
        if let Some(failure) = failure {
            self.state.since_7.status = failure.http_status.unwrap_or(0);
            self.output.degrade(ALERTS, *failure);
        }
        self.note_pass(&investigation.rrn, work.from_page, ordinal.is_some(), &known);
        if !(is_unfinished || matches!(known.owed, Owed::Page(_))) {
            self.visited.push(investigation.rrn.clone().into_owned());
        }
        known.open = investigation.is_open();
        known.listed = self.state.number;
        self.output.progress |= before.as_ref() != Some(&known);
        self.state.known.put(investigation.rrn.clone().into_owned(), known, before.is_none());
    }

    /// Until when alerts of this investigation may still become visible: it is
    /// young and made of alerts but has none, or the newest alert, listed or
    /// only shown by its row, is younger than the overlap and another may lie
    /// hidden behind it.
    fn young(&self, work: &Work<'_>, listed: &Listed, alerts: &[Alert<'_>], known: &Known, now: Utc) -> Option<Utc> {
        let investigation = work.investigation;
        let overlap = self.settings.overlap_minutes.saturating_mul(60);
        let promised = investigation.members.time("latest_alert_time");
        let newest = alerts.iter().filter_map(|alert| alert.created).chain(promised).max().max(listed.newest);
        // What has come to the front while later pages were listed is found by
        // listing all of it once more. Of more than are remembered that may take
        // several steps itself: in the cycle that it began in its row shows what
        // has come, or the next cycle does.
        let is_again = || known.alerts.len() < MAX_ALERTS || self.began_earlier(&investigation.rrn);
        let newest = if work.from_page > 0 && is_again() { Some(now) } else { newest };
        let hidden = newest.map(|newest| newest.min(now).plus_seconds(overlap));
        let absent = investigation
            .created
            .filter(|_| listed.count == 0 && work.from_page == 0)
            .filter(|_| investigation.is_identified() && !is_manual(investigation))
            .map(|created| created.plus_seconds(YOUNG));
        hidden.max(absent).filter(|until| *until > now)
    }

    /// What an endpoint does not know yet is asked for again as long as anything may be late, from when it was first not
    /// known. When that is over for another reason, it may be the first time: then once more after as long.
    fn not_yet(&self, before: Owed, now: Utc) -> Owed {
        let overlap = self.settings.overlap_minutes.saturating_mul(60);
        match before {
            Owed::Until(until) if until > now => before,
            Owed::Until(_) => Owed::Failed(0, now.plus_seconds(overlap.min(LAST_RETRY))),
            Owed::Failed(0, _) => Owed::Nothing,
            _ => Owed::Until(now.plus_seconds(overlap)),
        }
    }
}

/// Whether people made the investigation: then it may well have no alerts.
fn is_manual(investigation: &Investigation<'_>) -> bool {
    matches!(investigation.members.text("source").as_deref(), Some("USER" | "MANUAL"))
}

/// One more failure, and a longer wait.
pub(super) fn failed_again(before: Owed, now: Utc) -> Owed {
    let times = failures(before).saturating_add(1);
    Owed::Failed(times, now.plus_seconds(wait(times)))
}

/// How often alerts, or their evidence, have failed.
pub(super) fn failures(owed: Owed) -> u32 {
    if let Owed::Failed(times @ ..OF_EXTRAS, _) = owed { times & !OF_EVIDENCE } else { 0 }
}

/// The same where it was evidence.
pub(super) fn waits_for_evidence(owed: Owed) -> Owed {
    if let Owed::Failed(times, not_before) = owed { Owed::Failed(times | OF_EVIDENCE, not_before) } else { owed }
}

/// What an investigation waits for whose alerts, or something else of it, could not be collected.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum WaitsFor {
    /// The list of its alerts, as far as is known.
    Alerts,
    /// Evidence of them.
    Evidence,
    /// What belongs to it besides.
    Extras,
}

/// What that is.
pub(super) fn waits_for(owed: Owed) -> Option<WaitsFor> {
    match owed {
        Owed::Failed(0, _) | Owed::Nothing | Owed::Page(_) | Owed::Until(_) => None,
        Owed::Failed(OF_EXTRAS.., _) => Some(WaitsFor::Extras),
        Owed::Failed(times, _) if times & OF_EVIDENCE != 0 => Some(WaitsFor::Evidence),
        Owed::Failed(..) => Some(WaitsFor::Alerts),
    }
}

/// How often what belongs to it besides has failed.
pub(super) fn failures_of_extras(owed: Owed) -> u32 {
    if let Owed::Failed(times, _) = owed { times.saturating_sub(OF_EXTRAS) } else { 0 }
}

/// The same of what belongs to an investigation besides its alerts, until that has failed too often.
fn extras_failed_again(before: Owed, now: Utc) -> Owed {
    let times = failures_of_extras(before).saturating_add(1);
    if times > MOST_OF_EXTRAS { Owed::Nothing } else { Owed::Failed(OF_EXTRAS + times, now.plus_seconds(wait(times))) }
}

/// Seconds to wait after so many failures.
fn wait(failures: u32) -> i64 {
    FIRST_RETRY.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LAST_RETRY)
}

fn local_failure(stop: &Stop) -> Option<Box<Failure>> {
    match stop {
        Stop::Failed(failure) if stop.is_local() => Some(failure.clone()),
        _ => None,
    }
}
