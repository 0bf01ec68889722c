//! Evidence and actors of alerts, from the Alert Triage API.
//!
//! Only tenants with the vendor's Alerts experience have that API; elsewhere
//! the whole family answers 403 or 404. Because a wrong region answers 404 too,
//! that is only concluded after the investigations have been listed in the same
//! cycle, and from a probe of the family rather than from one alert. It is
//! asked again every hour, and in every cycle where it was there before.
//!
//! Guaranteed: alerts never wait for an API that is not there, but for those that
//! come while it refuses for the first half an hour, and some more, what it gave before: a refusal that passes
//! costs no alert its evidence. An alert whose
//! evidence fails for another reason is held back and asked for again, and goes
//! with what could be read of it after [`HELD`] failures; it then says so by a tag.
//! Where the vendor limits the rate, or the API answers for no alert at all, that
//! says little about this one, and it takes some hours. An alert
//! without any evidence that is younger than the overlap waits for it. One with some is collected with that, and looked at once
//! more when it is young no longer: with what has come to it meanwhile it is another version.

use serde_json::value::RawValue;

use super::Step;
use super::access::{Refused, is_absence, is_refused};
use super::alert_list::Room;
use super::alerts::failures;
use super::checkpoint::Known;
use super::memory::Found;
use super::triage::Read;
use crate::api::client::{Client, Stop, is_local};
use crate::api::errors::is_outage;
use crate::api::records::Members;
use crate::api::transport::{Clock, Request, Response, Transport};
use crate::api::{calls, paging};
use crate::artifact::alert::{Alert, Context};
use crate::artifact::message::NESTED;
use crate::artifact::{evidence, message};
use crate::contract::{Failure, FailureReason, RetryAdvice};
use crate::descriptor::EVIDENCE;
use crate::times::Utc;

/// Failures after which an alert goes without its evidence.
pub(super) const HELD: u32 = 3;
/// The same where the vendor says that it is asked too often, or does not answer for any: fifteen hours at most.
pub(super) const HELD_BY_LIMIT: u32 = 8;
/// Seconds for which an alert is so young that it is asked for once more when its API does not know it.
const RECENT: i64 = 86_400;
/// Pages of evidence, or of actors, that are read of one alert; one that has
/// more says so by a tag. A message holds far less anyway.
const PAGES: u64 = 10;

/// What became of an alert's evidence.
pub enum Enriched {
    /// The alert can be turned into an artifact.
    Ready(Box<Context>),
    /// It waits for its evidence, which could not be read.
    Held(Box<Failure>),
    /// It is young and has no evidence yet.
    Waiting,
    /// Nothing was asked: the step had to stop.
    Untouched,
}

/// What is refused where only that is, in messages.
pub(super) const EVIDENCE_NAME: &str = "the evidence of alerts";
impl<T: Transport, C: Clock> Step<'_, T, C> {
    /// Reads the evidence of all alerts of a group that are new. The results
    /// stand as the alerts do; the stop is the first that concerns every
    /// request.
    pub(super) async fn enrich(
        &mut self,
        known: &[Found],
        alerts: &[Vec<Alert<'_>>],
    ) -> (Vec<Vec<Enriched>>, Option<Stop>) {
        let mut enriched: Vec<Vec<Enriched>> =
            alerts.iter().map(|alerts| alerts.iter().map(|_| Enriched::Ready(Box::default())).collect()).collect();
        let wanted = self.wanted(known, alerts);
        if wanted.is_empty() {
            return (enriched, None);
        }
        let mut stop = None;
        // Which of them could not be read, or not even the API be found, for the first time.
        let mut unread: Vec<bool> = Vec::new();
        // Which of them the API does not know yet.
        let mut unknown: Vec<bool> = Vec::new();
        let results = match self.probe_if_due().await {
            Ok(()) if self.triage_is_missing().is_some() => {
                wanted.into_iter().map(|job| (job, Ok(Context { missing: true, ..Context::default() }))).collect()
            }
            Ok(()) => {
                let rrns: Vec<&str> = wanted.iter().map(|job| job.id).collect();
                // An API that has alerts but no such read gives no details; any
                // other failure of it is one of every alert that was asked for,
                // of which one may be the cause: in the end each goes without.
                let all = self.read_alerts(&rrns).await;
                unknown = all.iter().map(|read| matches!(read, Ok(None))).collect();
                if all.iter().any(|read| read.as_ref().is_err_and(is_refused)) && self.is_first_refusal(Refused::Alerts)
                {
                    unread = all.iter().map(|read| read.as_ref().is_err_and(is_refused)).collect();
                } else if all.iter().any(Result::is_ok) {
                    self.not_refused(Refused::Alerts);
                }
                let is_put_off = |at: usize| unread.get(at) == Some(&true);
                let read: Vec<Read<&RawValue>> = all
                    .iter()
                    .zip(&wanted)
                    .enumerate()
                    .map(|(at, (read, job))| match read {
                        Ok(raw) => Ok(raw.as_deref()),
                        Err(Stop::Failed(failure)) if is_absence(failure) && !is_put_off(at) => Ok(None),
                        Err(Stop::Failed(failure)) if job.may_lack(failure) => Ok(None),
                        Err(stop) => Err(stop.clone()),
                    })
                    .collect();
                let mut contexts = self.contexts(&rrns, &read, |at| wanted.get(at).is_some_and(Job::is_last)).await;
                for (context, read) in contexts.iter_mut().zip(&all) {
                    if let (Ok(context), Err(Stop::Failed(failure))) = (context, read) {
                        context.is_cut |= !is_absence(failure);
                    }
                }
                wanted.into_iter().zip(contexts).collect()
            }
            Err(why) => {
                unread = vec![matches!(&why, Stop::Failed(failure) if is_absence(failure)); wanted.len()];
                wanted.into_iter().map(|job| (job, Err(why.clone()))).collect()
            }
        };
        let mut absent = false;
        let results: Vec<(Job<'_>, Result<Context, Stop>)> = results;
        let is_put_off = |at: usize| unread.get(at) == Some(&true);
        for (at, (job, result)) in results.into_iter().enumerate() {
            let created = created(alerts, job);
            let outcome = match result {
                Ok(context) => {
                    if !context.missing {
                        self.not_refused(Refused::Evidence);
                    }
                    // Evidence may show before the alert does, of which the rule's codes are to come.
                    let is_known = !context.evidence.is_empty() && unknown.get(at) != Some(&true);
                    if !context.missing && !is_known && self.is_young(created) {
                        Enriched::Waiting
                    } else {
                        self.output.count(EVIDENCE, context.evidence.len());
                        Enriched::Ready(Box::new(context))
                    }
                }
                Err(Stop::Failed(failure)) if is_local(&failure) => {
                    absent |= is_absence(&failure);
                    self.unanswered |= is_outage(&failure) && self.client.is_silent_on_alerts();
                    self.without_evidence(job, created, failure, is_put_off(at))
                }
                Err(why) => {
                    stop = Stop::or_stronger(stop, why);
                    Enriched::Untouched
                }
            };
            if let Some(slot) = enriched.get_mut(job.investigation).and_then(|alerts| alerts.get_mut(job.alert)) {
                *slot = outcome;
            }
        }
        if absent {
            // One alert may be unknown there; the API itself may have gone.
            self.doubt_triage();
        }
        (enriched, stop)
    }

    /// What becomes of an alert, created then, whose evidence failed for itself. `put_off` tells that it was its read, or the
    /// whole API, that was not to be had, for the first time.
    fn without_evidence(
        &mut self,
        job: Job<'_>,
        created: Option<Utc>,
        failure: Box<Failure>,
        put_off: bool,
    ) -> Enriched {
        let is_held = match failure.reason {
            // Not known there yet.
            FailureReason::NotFound if self.is_young(created) => return Enriched::Waiting,
            FailureReason::NotFound => {
                job.failures == 0 && self.is_within(created, RECENT) || put_off && job.failures < HELD
            }
            // Others may have what this one is always refused: then it is the first one again.
            FailureReason::Forbidden => job.failures < HELD && (put_off || self.is_first_refusal(Refused::Evidence)),
            _ if job.may_lack(&failure) && !self.is_outage_of_all(job, &failure) => false,
            _ => {
                self.output.degrade(EVIDENCE, (*failure).clone());
                true
            }
        };
        if is_held {
            Enriched::Held(failure)
        } else {
            Enriched::Ready(Box::new(Context { missing: true, ..Context::default() }))
        }
    }

    /// Whether an alert has failed because no alert is answered for, and not for as long as that is waited for.
    fn is_outage_of_all(&self, job: Job<'_>, failure: &Failure) -> bool {
        job.failures < HELD_BY_LIMIT && is_outage(failure) && self.client.is_silent_on_alerts()
    }

    /// The alerts whose evidence is wanted: new ones, and those that are young no longer and may have got more.
    fn wanted<'w>(&self, known: &[Found], alerts: &'w [Vec<Alert<'_>>]) -> Vec<Job<'w>> {
        let mut jobs = Vec::new();
        if !self.settings.collect_evidence {
            return jobs;
        }
        for (investigation, (found, alerts)) in known.iter().zip(alerts).enumerate() {
            let known = found.known();
            let failures = known.map_or(0, |known| failures(known.owed));
            for (position, alert) in alerts.iter().enumerate() {
                let key = alert.key();
                let may_have_more = |known: &Known| known.pieces(key).is_some() && !self.is_young(alert.created);
                let is_due = |known: &Known| known.alerts.binary_search(&key).is_err() || may_have_more(known);
                if alert.is_in_triage() && known.is_none_or(is_due) {
                    jobs.push(Job { investigation, alert: position, id: &alert.id, failures });
                }
            }
        }
        // Young ones may have to wait, and must not use up in every step what the others need.
        jobs.sort_by_key(|job| self.is_young(created(alerts, *job)));
        jobs
    }

    /// Whether evidence of what was created then may still become visible.
    pub(super) fn is_young(&self, created: Option<Utc>) -> bool {
        self.is_within(created, self.settings.overlap_minutes.saturating_mul(60))
    }

    /// Whether that was less than so many seconds ago.
    fn is_within(&self, created: Option<Utc>, seconds: i64) -> bool {
        created.is_some_and(|created| created.min(self.cycle_began()).plus_seconds(seconds) > self.cycle_began())
    }
}

/// An alert whose evidence is wanted: its place, its RRN, and how often it has
/// failed.
#[derive(Clone, Copy)]
struct Job<'w> {
    investigation: usize,
    alert: usize,
    id: &'w str,
    failures: u32,
}

impl Job<'_> {
    /// Whether the alert goes without what fails this time.
    fn may_lack(&self, failure: &Failure) -> bool {
        let is_limit = failure.http_status == Some(429) || matches!(failure.retry, RetryAdvice::AfterSeconds(_));
        is_local(failure) && self.failures >= if is_limit { HELD_BY_LIMIT } else { HELD }
    }

    /// Whether it has been held back as often as may be.
    fn is_last(&self) -> bool {
        self.failures >= HELD
    }
}

/// When the alert of a job was created.
fn created(alerts: &[Vec<Alert<'_>>], job: Job<'_>) -> Option<Utc> {
    alerts.get(job.investigation).and_then(|alerts| alerts.get(job.alert)?.created)
}

/// Evidence and actors of one alert. When it is the last time (`is_last`), what
/// was read before a failure is used, and what is there of a list that lacks something.
pub(super) async fn read<T: Transport, C: Clock>(
    client: &Client<'_, T, C>,
    rrn: &str,
    room: &Room,
    is_last: bool,
) -> Result<Context, Stop> {
    if room.is_full() {
        return Err(Stop::Spent);
    }
    let mut context = Context::default();
    let (evidence, entities) = (&mut context.evidence, &mut context.entities);
    let mut found = Vec::new();
    let mut lines = Lines { room, bytes: 0 };
    let evidence_is_whole = read_pages(
        client,
        is_last,
        |index| calls::evidences(rrn, index),
        |raw| {
            let line = lines.line(raw);
            if !line.is_empty() {
                found.push(evidence::entities(raw));
            }
            evidence.push(line);
        },
    )
    .await;
    let evidence_is_whole = match evidence_is_whole {
        Err(Stop::Failed(failure)) if is_last && is_local(&failure) && !evidence.is_empty() => false,
        outcome => outcome?,
    };
    let actors = &mut context.actors;
    let mut lines = Lines { room, bytes: 0 };
    let actors_are_whole = read_pages(
        client,
        is_last,
        |index| calls::actors(rrn, index),
        |raw| {
            entities.add_actor(&Members::of(raw));
            actors.push(lines.line(raw));
        },
    )
    .await;
    let actors_are_whole = match actors_are_whole {
        Err(Stop::Failed(failure)) if is_last && is_local(&failure) && !(evidence.is_empty() && actors.is_empty()) => {
            false
        }
        outcome => outcome?,
    };
    // What the vendor has named comes before what a log line says.
    found.into_iter().for_each(|found| entities.fill_from(found));
    context.is_cut = !(evidence_is_whole && actors_are_whole);
    Ok(context)
}

/// The lines of one list of an alert. What lies behind as many bytes as a
/// message holds is only counted there, so it is neither kept nor looked into.
struct Lines<'r> {
    room: &'r Room,
    bytes: usize,
}

impl Lines<'_> {
    fn line(&mut self, raw: &RawValue) -> String {
        // Reading it costs time, kept or not.
        self.room.take(raw.get(), 1);
        if self.bytes > NESTED {
            return String::new();
        }
        let line = message::line(raw);
        self.bytes = self.bytes.saturating_add(line.len());
        line
    }
}

/// Reads the pages of a list of the Alert Triage API. Tells whether it was read
/// to its end. A page that lacks rows is a failure, unless it is the last time (`is_last`): its totals are known to move,
/// and may be wrong for good.
async fn read_pages<T: Transport, C: Clock>(
    client: &Client<'_, T, C>,
    is_last: bool,
    call: impl Fn(u64) -> Request,
    mut take: impl FnMut(&RawValue),
) -> Result<bool, Stop> {
    let (mut pages, mut is_whole, mut rows) = (paging::Pages::default(), true, 0_u64);
    // Evidence and actors of one alert have to fit into one step.
    for index in 0..PAGES.min(client.requests_of_a_step() / 4).max(1) {
        let request = call(index);
        let response = match client.send(&request).await {
            Ok(response) => response,
            Err(stop) => {
                let total = pages.behind_the_end(stop)?.total_rows;
                let is_all = rows >= total;
                if is_all || is_last {
                    return Ok(is_whole && is_all);
                }
                // It is no 404 of the alert.
                let page = Response { status: 200, ..Response::default() };
                return Err(client.malformed(
                    &request,
                    &page,
                    &format!("{rows} rows where its totals promise {total}"),
                ));
            }
        };
        let page = paging::triage(&response.body, index).map_err(|why| client.malformed(&request, &response, &why))?;
        if pages.is_again(&page) {
            return Err(client.malformed(&request, &response, "the same page again"));
        }
        page.rows.iter().for_each(|raw| take(raw));
        rows = rows.saturating_add(u64::try_from(page.rows.len()).unwrap_or(u64::MAX));
        if let Some(why) = page.lack() {
            is_whole = false;
            if !is_last {
                return Err(client.malformed(&request, &response, why));
            }
        }
        if !page.more {
            return Ok(is_whole);
        }
    }
    Ok(false)
}
