//! The check before an instance is saved: key, region and access.
//!
//! Up to four light requests: the key alone; one investigation, which proves
//! region and role; its alerts; and the Alert Triage API.

use serde_json::value::RawValue;

use super::evidence;
use crate::api::client::{Client, Stop};
use crate::api::errors::{self, REMEDY_RATE_LIMITED};
use crate::api::records::Members;
use crate::api::transport::{Clock, Response, Transport};
use crate::api::{calls, paging};
use crate::contract::{Budget, CheckReport, Failure, FailureReason, RetryAdvice, StreamReport, StreamState};
use crate::descriptor::{ALERTS, EVIDENCE, INVESTIGATIONS};
use crate::settings::Settings;

/// Tries included, and time for slow answers.
const BUDGET: Budget = Budget { requests: 12, artifacts: 1, artifact_bytes: 1, wall_time_milliseconds: 60_000 };
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
    let mut reports = vec![report(INVESTIGATIONS, StreamState::Ok)];
    if settings.collect_alerts {
        reports.push(report(ALERTS, alerts(&client, page.rows.first().copied()).await));
    }
    if settings.collect_evidence {
        let probe = calls::triage_probe(now.plus_seconds(-86_400), now);
        reports.push(report(EVIDENCE, triage(client.send(&probe).await)));
    }
    Ok(CheckReport {
        summary: format!(
            "The key works in region {} ({}); {} investigation(s) are there to be read.",
            settings.region.code, settings.region.label, page.total_rows
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

fn report(stream: &str, state: StreamState) -> StreamReport {
    StreamReport { stream: stream.to_owned(), fetched: 0, state }
}

/// Whether the Alert Triage API is there.
fn triage(result: Result<Response, Stop>) -> StreamState {
    match result.map_err(failure) {
        Ok(_) => StreamState::Ok,
        Err(Failure {
            reason: FailureReason::NotFound | FailureReason::Forbidden, http_status: Some(status), ..
        }) => StreamState::Unavailable(evidence::unavailable(status)),
        Err(failure) => StreamState::Degraded(failure),
    }
}

/// A stop as a failure.
fn failure(stop: Stop) -> Failure {
    match stop {
        Stop::Failed(failure) => *failure,
        Stop::Allowance(wait) => errors::plain(
            FailureReason::RateLimited,
            "the allowance of requests is used up".to_owned(),
            REMEDY_RATE_LIMITED,
            RetryAdvice::AfterSeconds(wait),
        ),
        Stop::Spent => errors::plain(
            FailureReason::Timeout,
            "the check took too long".to_owned(),
            "Try again.",
            RetryAdvice::BackOff,
        ),
    }
}
