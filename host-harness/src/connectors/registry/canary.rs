//! The canary step: one real poll of a live instance, of which nothing is kept.
//!
//! What: a new version polls with the instance's settings, secrets and checkpoint and a small budget. What it returns
//! is checked and thrown away. When it fails, the version that serves does the same, and only a failure that the old
//! one does not share speaks against the new one.
//! Why harmless: a step is pure; the vendor sees a few requests more, and the store nothing.
//! Promises: an instance that is being polled, is backing off, or whose vendor wants peace is not tried.
//! Not guaranteed: that a version which passes collects what it should; that is what its first polls are watched for.

use super::super::serving::{Lent, LiveInstance, LiveInstances, PollOutcome};
use super::super::{ConfigureError, Connector, TenantError};
use super::trial::Fault;
use crate::contract::types::{Budget, FailureReason};
use crate::sandbox::{StepError, Usage};
use std::time::Duration;
use uuid::Uuid;

/// What a canary step may do: enough for a page of a list and what belongs to it.
pub(super) const BUDGET: Budget =
    Budget { requests: 20, artifacts: 200, artifact_bytes: 4 << 20, wall_time_milliseconds: 30_000 };

/// Instances that are tried until one gives a clear answer.
const MOST_INSTANCES: usize = 3;

/// Seconds that one is waited for which is being polled, or has to wait, when none was free so far.
const PATIENCE: u32 = 5;

/// What the canary has found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Canary {
    /// It worked.
    Worked,
    /// Nothing speaks against the version, and nothing for it: why, in one line.
    Inconclusive(String),
    /// It failed.
    Failed(Fault),
}

/// Tries a version on live instances. `old` is what serves now.
pub(super) async fn canary(
    new: &Connector,
    old: Option<&Connector>,
    integration_type: &str,
    live: &dyn LiveInstances,
) -> Canary {
    let mut instances: Vec<_> = live.live(integration_type, new).await.into_iter().flatten().collect();
    // Reading a checkpoint is what a new version fails at most easily, so those that have one come first.
    instances.sort_by_key(|instance| (instance.checkpoint.is_none(), instance.id));
    let mut unclear = "no instance is configured to try it on".to_owned();
    let mut faults = Vec::new();
    let mut tried = 0;
    for instance in instances {
        if tried >= MOST_INSTANCES {
            break;
        }
        let (id, name) = (instance.id, instance.options.name.clone());
        // No two polls of an instance at once, and none that the vendor does not want.
        let Some(_lent) = borrow(live, id, tried == 0).await else {
            if tried == 0 {
                unclear = format!("instance {name} is being polled, or waits after a failure");
            }
            continue;
        };
        tried += 1;
        let tried = attempt(new, instance).await;
        let Err(failure) = tried else { return Canary::Worked };
        let suspect = match failure.speaks {
            PollOutcome::ConnectorFailed => true,
            // A new version that no longer understands the vendor, or its own settings, blames others.
            _ => old.is_some() && failure.may_be_its_own,
        };
        let text = format!("instance {name}: {}", failure.text);
        if !suspect {
            unclear = text;
            continue;
        }
        let Some(old) = old else {
            // Nothing serves that could do better: let others say whether it fails for all.
            faults.push(Fault { code: failure.code, reason: text });
            continue;
        };
        let again = live.live(integration_type, old).await.into_iter().flatten().find(|instance| instance.id == id);
        let compared = match again {
            Some(instance) => attempt(old, instance).await.err(),
            None => Some(failure.clone()),
        };
        match compared {
            None => return Canary::Failed(Fault { code: failure.code, reason: text }),
            Some(of_old)
                if failure.speaks == PollOutcome::ConnectorFailed && of_old.speaks != PollOutcome::ConnectorFailed =>
            {
                // The old one got as far as the vendor; the new one did not.
                return Canary::Failed(Fault { code: failure.code, reason: text });
            }
            Some(_) => unclear = format!("{text}; the version that serves fails there, too"),
        }
    }
    faults.into_iter().next().map_or(Canary::Inconclusive(unclear), Canary::Failed)
}

/// Takes an instance out of the schedule; waits a while for it, if told so.
async fn borrow(live: &dyn LiveInstances, id: Uuid, wait: bool) -> Option<Lent> {
    let mut left = if wait { PATIENCE } else { 0 };
    loop {
        match live.lend(id) {
            None if left > 0 => left -= 1,
            lent => return lent,
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Why an attempt did not work.
#[derive(Clone, Debug)]
struct Failure {
    speaks: PollOutcome,
    /// Whether the connector may be to blame although it blames others.
    may_be_its_own: bool,
    code: &'static str,
    text: String,
}

/// One poll whose result is thrown away.
async fn attempt(connector: &Connector, instance: LiveInstance) -> Result<(), Failure> {
    let LiveInstance { options, checkpoint, .. } = instance;
    let tenant = connector.tenant(options).await.map_err(|error| {
        let speaks = match &error {
            TenantError::Configure(ConfigureError::Step(_) | ConfigureError::Plan(_)) => PollOutcome::ConnectorFailed,
            _ => PollOutcome::Inconclusive,
        };
        Failure { speaks, may_be_its_own: false, code: error.code(), text: error.to_string() }
    })?;
    match tenant.poll(checkpoint, BUDGET).await {
        (Ok(_thrown_away), _) => Ok(()),
        (Err(error), usage) => Err(Failure {
            speaks: outcome(&error, &usage),
            may_be_its_own: may_be_its_own(&error),
            code: error.code(),
            text: error.to_string(),
        }),
    }
}

/// What the failure of a step says about the connector.
#[must_use]
pub fn outcome(error: &StepError, usage: &Usage) -> PollOutcome {
    match error {
        StepError::Trap { .. }
        | StepError::MemoryLimit { .. }
        | StepError::CpuLimit { .. }
        | StepError::BadBatch { .. } => PollOutcome::ConnectorFailed,
        // Who waits without having asked anybody for anything waits for nothing.
        StepError::WallClock { .. } if usage.requests == 0 => PollOutcome::ConnectorFailed,
        StepError::Failure(failure)
            if matches!(failure.reason, FailureReason::CheckpointUnreadable | FailureReason::Internal) =>
        {
            PollOutcome::ConnectorFailed
        }
        _ => PollOutcome::Inconclusive,
    }
}

/// Whether a failure for which the connector blames others may be its own.
fn may_be_its_own(error: &StepError) -> bool {
    match error {
        StepError::WallClock { .. } => true,
        StepError::Failure(failure) => matches!(
            failure.reason,
            FailureReason::InvalidSettings
                | FailureReason::MalformedResponse
                | FailureReason::NotFound
                | FailureReason::BudgetExhausted
        ),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_without_having_asked_anybody_is_to_blame_and_who_waits_for_the_vendor_is_not() {
        let error = StepError::WallClock { limit: Duration::from_secs(30) };
        assert_eq!(outcome(&error, &Usage::default()), PollOutcome::ConnectorFailed);
        assert_eq!(outcome(&error, &Usage { requests: 1, ..Usage::default() }), PollOutcome::Inconclusive);
        let error = StepError::Host { why: "no memory".into() };
        assert_eq!(outcome(&error, &Usage::default()), PollOutcome::Inconclusive);
    }
}
