//! One bounded step: pages from the checkpoint on, until there are no more or the budget is near its end.

use crate::answers::{self, Page, is_cursor, is_time};
use crate::artifact;
use crate::checkpoint::Checkpoint;
use crate::contract::{Artifact, Batch, Budget, Failure, FailureReason, RetryAdvice, StreamReport, StreamState};
use crate::{failures, settings};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

/// Events asked for at once.
const PAGE: usize = 100;

/// What stays of a step's time to hand over what it has.
const RESERVE: Duration = Duration::from_secs(1);

/// What a step needs of the world, so that tests can be the world.
pub trait Surroundings {
    /// The body of the answer to `GET path`.
    ///
    /// # Errors
    /// When there is none, or one with another status than 200.
    fn get(&mut self, path: &str) -> Result<Vec<u8>, Failure>;
    /// Time since the step began.
    fn elapsed(&self) -> Duration;
    /// Writes into the log.
    fn warn(&self, message: &str);
}

/// Does one step.
///
/// # Errors
/// When there is nothing to commit. After some progress the failure goes along with it.
pub fn step(
    around: &mut impl Surroundings,
    host: &str,
    checkpoint: Option<&[u8]>,
    budget: Budget,
) -> Result<Batch, Failure> {
    let mut step = Step { checkpoint: Checkpoint::read(checkpoint)?.of_site(host), ..Step::default() };
    let most = Duration::from_millis(budget.wall_time_milliseconds).saturating_sub(RESERVE);
    let mut requests = 0;
    let (state, more, retry_after_seconds) = loop {
        // The first page is always asked for, so that a small budget gets on as well.
        let used_up = requests >= budget.requests
            || step.artifacts.len() + PAGE > usize::try_from(budget.artifacts).unwrap_or(usize::MAX)
            || step.bytes >= budget.artifact_bytes
            || around.elapsed() >= most;
        if used_up && requests > 0 {
            break (StreamState::Ok, true, None);
        }
        requests += 1;
        match step.page(around, host) {
            Ok(true) => {}
            Ok(false) => break (StreamState::Ok, false, None),
            Err(failure) if step.artifacts.is_empty() => return Err(failure),
            Err(failure) => break broken_off(failure),
        }
    };
    let fetched = u64::try_from(step.artifacts.len()).unwrap_or(u64::MAX);
    Ok(Batch {
        checkpoint: step.checkpoint.write()?,
        artifacts: step.artifacts,
        more,
        reports: vec![StreamReport { stream: settings::EVENTS.to_owned(), fetched, state }],
        retry_after_seconds,
        hint: None,
    })
}

/// What a failure after some progress becomes: the state of the stream, whether there is more, and the pause.
fn broken_off(failure: Failure) -> (StreamState, bool, Option<u64>) {
    match failure.retry {
        // The host goes on when the pause is over. With `degraded` it would also wait its interval, and ever longer.
        RetryAdvice::AfterSeconds(seconds) if failure.reason == FailureReason::RateLimited => {
            (StreamState::Ok, true, Some(seconds))
        }
        RetryAdvice::AfterSeconds(seconds) => (StreamState::Degraded(failure), true, Some(seconds)),
        RetryAdvice::BackOff | RetryAdvice::AfterChange => (StreamState::Degraded(failure), false, None),
    }
}

/// What a step has so far.
#[derive(Default)]
struct Step {
    checkpoint: Checkpoint,
    artifacts: Vec<Artifact>,
    /// Their ids.
    ids: BTreeSet<String>,
    /// Bytes of the artifacts.
    bytes: u64,
}

impl Step {
    /// Takes in the next page; says whether there may be more. A page that is not sound moves nothing.
    fn page(&mut self, around: &mut impl Surroundings, host: &str) -> Result<bool, Failure> {
        let from = match (&self.checkpoint.after, &self.checkpoint.since) {
            (Some(after), _) => format!("&after={after}"),
            (None, Some(since)) => format!("&since={since}"),
            (None, None) => String::new(),
        };
        let body = match around.get(&format!("/v1/events?limit={PAGE}{from}")) {
            // The cursor has expired. Events come again then, with the ids they had: the host keeps one of each.
            Err(failure) if failure.http_status == Some(410) && self.checkpoint.after.take().is_some() => {
                around.warn("the cursor has expired, going on from the time of the last event");
                return Ok(true);
            }
            answer => answer?,
        };
        let page: Page = answers::parse(&body)?;
        // An empty page is the end, and only that: a short one may be followed by more.
        let Some(last) = page.events.last() else { return Ok(false) };
        let time = last.get("time").and_then(Value::as_str).filter(|time| is_time(time)).map(str::to_owned);
        let next = page.next.filter(|next| is_cursor(next) && self.checkpoint.after.as_ref() != Some(next));
        let next = next.ok_or_else(|| failures::malformed("the page has events and no cursor that leads on"))?;
        let artifacts =
            page.events.into_iter().map(|event| artifact::of(event, host)).collect::<Result<Vec<_>, _>>()?;
        for artifact in artifacts {
            // The service may show an event on two pages; a batch may not hold an id twice.
            if self.ids.insert(artifact.id.clone()) {
                self.bytes = self.bytes.saturating_add(u64::try_from(artifact.json.len()).unwrap_or(u64::MAX));
                self.artifacts.push(artifact);
            }
        }
        self.checkpoint.after = Some(next);
        self.checkpoint.since = time.or_else(|| self.checkpoint.since.take());
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failures::Told;
    use serde_json::json;

    const BUDGET: Budget =
        Budget { requests: 10, artifacts: 5_000, artifact_bytes: 1 << 24, wall_time_milliseconds: 60_000 };

    /// A service of 250 events that answers one request, counted from 0, with a status instead.
    struct Service {
        asked: Vec<String>,
        trouble: Option<(usize, u16)>,
    }

    impl Surroundings for Service {
        fn get(&mut self, path: &str) -> Result<Vec<u8>, Failure> {
            self.asked.push(path.to_owned());
            if let Some((_, status)) = self.trouble.filter(|(at, _)| at + 1 == self.asked.len()) {
                return Err(failures::refused(status, Told { retry_after: Some("30".to_owned()), request_id: None }));
            }
            let from = path.split_once("after=c-").map_or(0, |(_, from)| from.parse().unwrap());
            let events: Vec<_> = (from..250.min(from + PAGE))
                .map(|at| json!({"id": format!("a0d17000-0000-4000-8000-{at:012}"), "time": "2026-01-02T03:04:05Z"}))
                .collect();
            let next = format!("c-{}", from + events.len());
            Ok(json!({"events": events, "next": next}).to_string().into_bytes())
        }

        fn elapsed(&self) -> Duration {
            Duration::ZERO
        }

        fn warn(&self, _: &str) {}
    }

    /// A step from a checkpoint against a service in trouble, and what was asked.
    fn stepped(
        checkpoint: Option<&str>,
        budget: Budget,
        trouble: Option<(usize, u16)>,
    ) -> (Result<Batch, Failure>, Vec<String>) {
        let mut service = Service { asked: Vec::new(), trouble };
        let batch = step(&mut service, "acme.audit.example", checkpoint.map(str::as_bytes), budget);
        (batch, service.asked)
    }

    #[test]
    fn all_pages_are_read_and_the_checkpoint_stands_behind_the_last() {
        let (batch, asked) = stepped(None, BUDGET, None);
        let batch = batch.unwrap();
        assert_eq!((batch.artifacts.len(), batch.more, asked.len()), (250, false, 4));
        let written = r#"{"version":3,"site":"acme.audit.example","after":"c-250","since":"2026-01-02T03:04:05Z"}"#;
        assert_eq!(String::from_utf8(batch.checkpoint).unwrap(), written);
        let (batch, asked) = stepped(Some(written), BUDGET, None);
        assert_eq!((batch.unwrap().artifacts.len(), asked.len()), (0, 1));
    }

    #[test]
    fn a_cursor_of_another_site_is_not_gone_on_from() {
        for (site, artifacts) in [("acme.audit.example", 0), ("other.audit.example", 250)] {
            let written = format!(r#"{{"version":3,"site":"{site}","after":"c-250","since":null}}"#);
            let (batch, _) = stepped(Some(&written), BUDGET, None);
            assert_eq!(batch.unwrap().artifacts.len(), artifacts, "{site}");
        }
    }

    #[test]
    fn a_budget_that_is_used_up_ends_the_step_and_not_the_collecting() {
        for budget in [Budget { requests: 1, ..BUDGET }, Budget { artifacts: 10, ..BUDGET }] {
            let (batch, asked) = stepped(None, budget, None);
            let batch = batch.unwrap();
            assert_eq!((batch.artifacts.len(), batch.more, asked.len()), (100, true, 1));
        }
    }

    #[test]
    fn a_failure_is_the_answer_or_goes_along_with_the_progress() {
        for status in [401, 429, 503] {
            assert_eq!(stepped(None, BUDGET, Some((0, status))).0.unwrap_err().http_status, Some(status));
        }
        for (status, degraded, more, pause) in [
            (401, true, false, None),
            (429, false, true, Some(30)),
            (500, true, false, None),
            (503, true, true, Some(30)),
        ] {
            let batch = stepped(None, BUDGET, Some((1, status))).0.unwrap();
            let is_degraded = matches!(batch.reports[0].state, StreamState::Degraded(_));
            assert_eq!((batch.artifacts.len(), is_degraded), (100, degraded), "{status}");
            assert_eq!((batch.more, batch.retry_after_seconds), (more, pause), "{status}");
        }
    }

    #[test]
    fn a_cursor_that_has_expired_is_followed_by_the_time_of_the_last_event_or_else_by_all() {
        for (checkpoint, next) in [
            (r#"{"version":2,"after":"c-9","since":"2026-01-02T03:04:05Z"}"#, "&since=2026-01-02T03:04:05Z"),
            (r#"{"version":1,"after":"c-9"}"#, ""),
        ] {
            let (batch, asked) = stepped(Some(checkpoint), BUDGET, Some((0, 410)));
            assert_eq!(batch.unwrap().artifacts.len(), 250);
            assert_eq!(
                asked[..2],
                ["/v1/events?limit=100&after=c-9".to_owned(), format!("/v1/events?limit=100{next}")]
            );
        }
    }
}
