//! The check before an instance is saved: key, region and access.
//!
//! A few light requests: the key alone; one investigation, which proves region
//! and role; its alerts; the Alert Triage API; and one for each stream that is
//! switched on besides.

use serde_json::value::RawValue;

use super::access::{is_absence, unavailable};
use super::alert_list::Room;
use super::output::streams;
use super::{extras, presence};
use crate::api::client::{Client, Stop};
use crate::api::errors::{self, REMEDY_RATE_LIMITED};
use crate::api::records::Members;
use crate::api::transport::{Clock, Response, Transport};
use crate::api::{calls, paging};
use crate::artifact::extra::Kind;
use crate::artifact::investigation::Investigation;
use crate::contract::{Budget, CheckReport, Failure, FailureReason, RetryAdvice, StreamReport, StreamState};
use crate::descriptor::{ALERTS, COMMENTS, EVIDENCE, PRODUCT_ALERTS, RESTRICTED, UNINVESTIGATED};
use crate::settings::Settings;

/// Tries included, and time for slow answers. What hosts give.
const BUDGET: Budget = Budget { requests: 16, artifacts: 1, artifact_bytes: 1, wall_time_milliseconds: 60_000 };
/// Seconds back from now in which an investigation is looked for.
const WINDOW: i64 = 390 * 86_400;

/// Tries the settings.
///
/// # Errors
///
/// The failure because of which nothing can be collected.
pub async fn check<T: Transport, C: Clock>(
    transport: &T,
    clock: &C,
    settings: &Settings,
) -> Result<CheckReport, Failure> {
    let client = Client::new(transport, clock, settings.region, &BUDGET);
    client.send(&calls::validate()).await.map_err(failure)?;
    let now = client.now();
    let request = calls::investigations(now.plus_seconds(-WINDOW), now, 0, 1, false);
    let response = client.send(&request).await.map_err(failure)?;
    let page =
        paging::v2_of(&response.body, 0, 1).map_err(|why| failure(client.malformed(&request, &response, &why)))?;
    let mut reports = Vec::new();
    let mut triage_state = None;
    for stream in streams(settings) {
        let state = match stream {
            ALERTS => alerts(&client, page.rows.first().copied()).await,
            EVIDENCE | UNINVESTIGATED => match &triage_state {
                Some(known) => StreamState::clone(known),
                None => {
                    let probe = calls::triage_search(now.plus_seconds(-86_400), now, 0, 1);
                    triage_state.insert(triage(client.send(&probe).await)).clone()
                }
            },
            PRODUCT_ALERTS => extra(&client, Kind::ProductAlert, page.rows.first().copied()).await,
            COMMENTS => extra(&client, Kind::Comment, page.rows.first().copied()).await,
            RESTRICTED => extra(&client, Kind::Restricted, page.rows.first().copied()).await,
            _ => StreamState::Ok,
        };
        reports.push(report(stream, state));
    }
    Ok(CheckReport {
        summary: format!(
            "The key works in region {} ({}); {} of the last {} days are there to be read. The first poll collects the last {} days.",
            settings.region.code,
            settings.region.label,
            if page.has_totals { format!("{} investigation(s)", page.total_rows) } else { "investigations".to_owned() },
            WINDOW / 86_400,
            settings.lookback_days,
        ),
        reports,
    })
}

/// Whether the alerts of an investigation can be read; taken for granted where
/// there is none.
async fn alerts<T: Transport, C: Clock>(client: &Client<'_, T, C>, investigation: Option<&RawValue>) -> StreamState {
    let Some(rrn) = investigation.and_then(|raw| Members::of(raw).text("rrn")) else { return StreamState::Ok };
    let request = calls::alerts(&rrn, 0);
    let result = match client.send(&request).await {
        Ok(response) => {
            paging::v2(&response.body, 0).map(drop).map_err(|why| client.malformed(&request, &response, &why))
        }
        Err(stop) => Err(stop),
    };
    match result {
        Ok(()) => StreamState::Ok,
        Err(stop) => StreamState::Degraded(failure(stop)),
    }
}

/// Whether what else belongs to an investigation can be read; taken for granted
/// where there is none.
async fn extra<T: Transport, C: Clock>(
    client: &Client<'_, T, C>,
    kind: Kind,
    investigation: Option<&RawValue>,
) -> StreamState {
    let Some(investigation) = investigation.map(Investigation::of).filter(Investigation::is_identified) else {
        return StreamState::Ok;
    };
    match extras::read(client, kind, &investigation, None, &Room::new(1, 1)).await.end.map_err(failure) {
        Ok(_) => StreamState::Ok,
        Err(failure) if is_absence(&failure) => {
            let (what, remedy) = extras::about(kind);
            StreamState::Unavailable(unavailable(what, failure.http_status.unwrap_or(0), remedy))
        }
        Err(failure) => StreamState::Degraded(failure),
    }
}

fn report(stream: &str, state: StreamState) -> StreamReport {
    StreamReport { stream: stream.to_owned(), fetched: 0, state }
}

/// Whether the Alert Triage API is there.
fn triage(result: Result<Response, Stop>) -> StreamState {
    match result.map_err(failure) {
        Ok(_) => StreamState::Ok,
        Err(failure) if is_absence(&failure) => {
            let status = failure.http_status.unwrap_or(0);
            StreamState::Unavailable(unavailable(presence::NAME, status, presence::REMEDY))
        }
        Err(failure) => StreamState::Degraded(failure),
    }
}

/// A stop as a failure, without what is said of tries to come: there are none after a check.
fn failure(stop: Stop) -> Failure {
    match stop {
        Stop::Failed(failure) => errors::of_one_try(*failure),
        Stop::Allowance(wait) => errors::of_one_try(errors::plain(
            FailureReason::RateLimited,
            "the allowance of requests is used up".to_owned(),
            REMEDY_RATE_LIMITED,
            RetryAdvice::AfterSeconds(wait),
        )),
        Stop::Spent => errors::plain(
            FailureReason::Timeout,
            "the check took too long".to_owned(),
            "Try again.",
            RetryAdvice::BackOff,
        ),
    }
}
