//! Alerts as the Alert Triage API has them, with their evidence, their actors
//! and what their rules say of MITRE ATT&CK.
//!
//! Alerts are read by the hundred, and singly what such a read has left out: not where a region has failed, of which that
//! may be. Where such reads are refused, all are read singly if some can be.
//! Where it leaves the codes of a rule out, as searches do, one alert of the
//! rule is read singly, once for each rule and step; another one of it where that
//! is refused or not there. Alerts of a rule whose codes cannot be had are held
//! back as those are whose evidence fails, and say so by a tag in the end.

use std::future::Future;

use futures::future::LocalBoxFuture;
use serde_json::value::RawValue;

use super::Step;
use super::access::is_absence;
use super::evidence::read;
use super::fan_out::fan_out;
use crate::api::client::{Client, Stop, is_local};
use crate::api::records::Members;
use crate::api::transport::{Clock, Transport};
use crate::api::{calls, paging};
use crate::artifact::alert::Context;
use crate::artifact::mitre::Mitre;
use crate::artifact::triage_alert::Details;
use crate::artifact::{evidence, message};
use crate::contract::{Failure, FailureReason};

/// Alerts of one read.
pub(super) const BATCH: usize = 100;

/// Alerts of a rule that are asked for its codes, one after the other.
const OF_RULE: usize = 3;

/// Alerts that are read singly to find out whether they can be, where reads of many are refused.
const SAMPLE: usize = 3;

/// What came of reading an alert: none when there is none, or when its API has
/// no such read.
pub(super) type Read<R> = Result<Option<R>, Stop>;

/// Records by RRN. Lists are searched from end to end here: they are short, and
/// every kind of map is a hundredth of the component.
type Records = Vec<(String, Box<RawValue>)>;

/// An entry of a list by its name.
fn find<'l, V>(list: &'l [(String, V)], name: &str) -> Option<&'l V> {
    list.iter().find(|(known, _)| known == name).map(|(_, value)| value)
}

/// Puts what came of an alert in its place.
fn put<V>(list: &mut [V], at: usize, value: V) {
    if let Some(place) = list.get_mut(at) {
        *place = value;
    }
}

/// The status of an answer that says that there is no such read, or none for this key.
fn status_of_refusal(stop: &Stop) -> Option<u16> {
    match stop {
        Stop::Failed(failure) if is_local(failure) => {
            failure.http_status.filter(|status| matches!(status, 400 | 401 | 403 | 404 | 405))
        }
        _ => None,
    }
}

/// What a request was for, and what came of it.
enum Answer {
    Context(Box<Result<Context, Stop>>),
    Rule(Result<Mitre, Stop>),
}

/// Requests of several kinds are made together.
fn boxed<'p>(part: impl Future<Output = Answer> + 'p) -> LocalBoxFuture<'p, Answer> {
    Box::pin(part)
}

impl<T: Transport, C: Clock> Step<'_, T, C> {
    /// Reads alerts, in their order: by the hundred, and singly what such a read
    /// leaves out, or all where it is refused and some can be read so. What there is no room to read singly is to be asked
    /// for again.
    pub(super) async fn read_alerts(&self, rrns: &[&str]) -> Vec<Read<Box<RawValue>>> {
        let client = &self.client;
        let batches =
            fan_out(self.settings.concurrency, rrns.chunks(BATCH).map(|batch| read_batch(client, batch))).await;
        let mut alerts: Vec<Read<Box<RawValue>>> = Vec::with_capacity(rrns.len());
        let (mut left_out, mut refused) = (Vec::new(), Vec::new());
        for (batch, asked) in batches.into_iter().zip(rrns.chunks(BATCH)) {
            let (mut records, partial) = match batch {
                Ok(read) => read,
                Err(stop) => {
                    if let Some(status) = status_of_refusal(&stop) {
                        refused.extend(asked.iter().enumerate().map(|(at, rrn)| (alerts.len() + at, *rrn, status)));
                    }
                    alerts.extend(asked.iter().map(|_| Err(stop.clone())));
                    continue;
                }
            };
            for rrn in asked {
                match records.iter().position(|(known, _)| known == rrn) {
                    Some(at) => alerts.push(Ok(Some(records.swap_remove(at).1))),
                    None => {
                        // The region that has it may be the one that has failed.
                        if partial.is_none() {
                            left_out.push((alerts.len(), *rrn));
                        }
                        alerts.push(Err(partial.clone().unwrap_or(Stop::Spent)));
                    }
                }
            }
        }
        let most = || (client.requests_left() / 4).max(1);
        // The vendor's own clients read alerts singly: where reads of many are not to be had, those may be.
        let sample: Vec<(usize, &str)> =
            refused.iter().map(|(at, rrn, _)| (*at, *rrn)).take(SAMPLE.min(most())).collect();
        let read = self.read_each(&sample).await;
        // One that is as little there as the read of many says nothing.
        let says_something = |(read, (.., status)): (&Read<_>, &(_, _, u16))| match read {
            Ok(Some(_)) => true,
            Ok(None) => *status != 404,
            Err(_) => false,
        };
        if read.iter().zip(&refused).any(says_something) {
            for ((at, _), read) in sample.iter().zip(read) {
                put(&mut alerts, *at, read);
            }
            for (at, rrn, _) in refused.into_iter().skip(sample.len()) {
                put(&mut alerts, at, Err(Stop::Spent));
                left_out.push((at, rrn));
            }
        }
        left_out.truncate(most());
        for ((at, _), read) in left_out.iter().zip(self.read_each(&left_out).await) {
            put(&mut alerts, *at, read);
        }
        alerts
    }

    /// Reads alerts singly.
    async fn read_each(&self, alerts: &[(usize, &str)]) -> Vec<Read<Box<RawValue>>> {
        let reads = alerts.iter().map(|(_, rrn)| read_alert(&self.client, rrn));
        let reads = fan_out(self.settings.concurrency, reads).await.into_iter();
        reads
            .map(|read| match read {
                Err(Stop::Failed(failure)) if failure.reason == FailureReason::NotFound => Ok(None),
                other => other.map(Some),
            })
            .collect()
    }

    /// Everything that is known of alerts that were read, in their order.
    /// Evidence is asked for last: what there is no room for is then missing for
    /// some alerts, and not for all of them in every step.
    /// Of those that are asked for the last time, by their places, what could be
    /// read is used.
    pub(super) async fn contexts(
        &mut self,
        rrns: &[&str],
        alerts: &[Read<&RawValue>],
        is_last: impl Fn(usize) -> bool,
    ) -> Vec<Result<Context, Stop>> {
        let mut unknown = self.unknown_rules(rrns, alerts);
        // Some requests have to be left for the evidence, or no alert would ever
        // be finished: rules beyond that wait for another step, and so do their
        // alerts. Where the vendor limits the rate without a word, nobody knows
        // how many requests are left: then a few are tried first.
        let most = if self.client.is_told_allowance() { usize::MAX } else { self.pace };
        unknown.truncate((self.client.requests_left() / 4).min(most).max(1));
        let may_be_read: Vec<bool> = alerts
            .iter()
            .map(|alert| match alert {
                Ok(Some(raw)) => rule_without_codes(&Members::of(raw))
                    .is_none_or(|rule| find(&self.rules, &rule).is_some() || find(&unknown, &rule).is_some()),
                Ok(None) => true,
                Err(_) => false,
            })
            .collect();
        let (client, room) = (&self.client, self.room());
        let room = &room;
        let rules = unknown.iter().map(|(_, rrns)| boxed(async move { Answer::Rule(read_codes(client, rrns).await) }));
        let contexts = rrns
            .iter()
            .zip(&may_be_read)
            .enumerate()
            .filter(|(_, (_, may_be_read))| self.settings.collect_evidence && **may_be_read)
            .map(|(at, (rrn, _))| (*rrn, is_last(at)))
            .map(|(rrn, last)| boxed(async move { Answer::Context(Box::new(read(client, rrn, room, last).await)) }));
        // As many alerts at once as can be finished with what is left: each takes two requests, and a step that spends all of
        // them on first halves finishes none, nor does the next.
        let left = client.requests_left().saturating_sub(rules.len());
        let at_once = self.settings.concurrency.min(left / 2).max(1);
        let mut answers = fan_out(at_once, rules.chain(contexts)).await.into_iter();
        let mut failed_rules = Vec::new();
        for ((rule, _), answer) in unknown.into_iter().zip(answers.by_ref()) {
            match answer {
                Answer::Rule(Ok(mitre)) => self.rules.push((rule, mitre)),
                Answer::Rule(Err(stop)) => failed_rules.push((rule, stop)),
                Answer::Context(_) => {}
            }
        }
        alerts
            .iter()
            .zip(may_be_read)
            .enumerate()
            .map(|(at, (alert, may_be_read))| {
                let record = alert.clone()?;
                if !may_be_read {
                    return Err(Stop::Spent);
                }
                let mut context = match self.settings.collect_evidence.then(|| answers.next()).flatten() {
                    Some(Answer::Context(context)) => (*context)?,
                    _ => Context::default(),
                };
                if let Some(raw) = record {
                    match add_details(&mut context, raw, &self.rules, &failed_rules) {
                        Err(stop) if stop.is_local() && is_last(at) => context.is_cut = true,
                        outcome => outcome?,
                    }
                    context.triage = Some(message::triage_line(raw));
                }
                if context.mitre.techniques.is_empty() {
                    context.mitre.techniques = evidence::techniques(&context.evidence);
                }
                Ok(context)
            })
            .collect()
    }

    /// The rules of these alerts whose codes neither they nor an earlier read
    /// give, each with the RRNs of some alerts of it.
    fn unknown_rules<'r>(&self, rrns: &[&'r str], alerts: &[Read<&RawValue>]) -> Vec<(String, Vec<&'r str>)> {
        let mut unknown: Vec<(String, Vec<&str>)> = Vec::new();
        for (rrn, alert) in rrns.iter().zip(alerts) {
            if let Ok(Some(raw)) = alert
                && let Some(rule) = rule_without_codes(&Members::of(raw))
                && find(&self.rules, &rule).is_none()
            {
                match unknown.iter_mut().find(|(known, _)| *known == rule) {
                    Some((_, of_rule)) if of_rule.len() < OF_RULE => of_rule.push(rrn),
                    Some(_) => {}
                    None => unknown.push((rule, vec![rrn])),
                }
            }
        }
        unknown
    }
}

/// Adds what the alert itself says.
///
/// # Errors
///
/// That its rule could not be read.
fn add_details(
    context: &mut Context,
    raw: &RawValue,
    rules: &[(String, Mitre)],
    failed: &[(String, Stop)],
) -> Result<(), Stop> {
    let alert = Members::of(raw);
    context.details = Details::of(&alert);
    if let Some(rule) = alert.object("rule") {
        context.mitre = Mitre::of_rule(&rule);
    }
    context.entities.fill_from(evidence::of_keys(&alert.list("rule_keys_of_interest")));
    if let Some(rule) = rule_without_codes(&alert) {
        if let Some(stop) = find(failed, &rule) {
            return Err(stop.clone());
        }
        if let Some(mitre) = find(rules, &rule) {
            context.mitre = mitre.clone();
        }
    }
    Ok(())
}

/// The RRN of the alert's rule (of its version where that is known), if the
/// alert does not give its codes.
fn rule_without_codes(alert: &Members<'_>) -> Option<String> {
    let rule = alert.object("rule")?;
    if !Mitre::of_rule(&rule).is_empty() {
        return None;
    }
    rule.text("version_rrn").or_else(|| rule.text("rrn")).map(|rrn| rrn.into_owned())
}

/// Reads alerts by their RRNs; what is unknown there is left out. So is what a region has that has failed: the failure of
/// what is missing then.
async fn read_batch<T: Transport, C: Clock>(
    client: &Client<'_, T, C>,
    rrns: &[&str],
) -> Result<(Records, Option<Stop>), Stop> {
    let request = calls::triage_alerts(rrns);
    let response = client.send(&request).await?;
    let malformed = |why: String| client.malformed(&request, &response, &why);
    let (rows, partial) = paging::listed_in_parts(&response.body, &["alerts", "data"]).map_err(malformed)?;
    let records =
        rows.into_iter().filter_map(|raw| Some((Members::of(raw).text("rrn")?.into_owned(), raw.to_owned()))).collect();
    Ok((records, partial.map(malformed)))
}

/// Reads one alert of a rule for its codes, or another one where that is refused or not there.
///
/// # Errors
///
/// A refusal is none of the alert's own record and evidence, which were read: it is told as a failure of any other kind.
async fn read_codes<T: Transport, C: Clock>(client: &Client<'_, T, C>, rrns: &[&str]) -> Result<Mitre, Stop> {
    let mut stop = None;
    for rrn in rrns {
        match read_alert(client, rrn).await {
            Ok(raw) => {
                return Ok(Members::of(&raw).object("rule").map(|rule| Mitre::of_rule(&rule)).unwrap_or_default());
            }
            Err(Stop::Failed(failure)) if is_absence(&failure) => {
                stop = Some(Stop::Failed(Box::new(Failure { reason: FailureReason::Unavailable, ..*failure })));
            }
            Err(why) => {
                stop = Stop::or_stronger(stop, why);
                break;
            }
        }
    }
    Err(stop.unwrap_or(Stop::Spent))
}

/// Reads one alert.
pub(super) async fn read_alert<T: Transport, C: Clock>(
    client: &Client<'_, T, C>,
    rrn: &str,
) -> Result<Box<RawValue>, Stop> {
    client.record(&calls::triage_alert(rrn), rrn).await
}
