//! The canary step: one real poll of a live instance, of which nothing is kept.
//!
//! What: a new version polls with the instance's settings, secrets and checkpoint and a small budget. What it returns
//! is checked and thrown away. When it fails, the version that serves does the same, and only a failure that the old
//! one does not share speaks against the new one.
//! Why harmless: a step is pure; the vendor sees a few requests more, and the store nothing.
//! Promises: an instance that is being polled, is backing off, or whose vendor wants peace is not tried; nor is one whose
//! plan lies outside of what the operator grants, because its key would go where nobody has allowed it to.
//! Not guaranteed: that a version which passes collects what it should; that is what its first polls are watched for.

use super::super::serving::{Lent, LiveInstances, PollOutcome};
use super::super::{ConfigureError, Connector, TenantError, TenantOptions};
use super::grant::Grant;
use super::pins::Ceiling;
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

/// Seconds that are waited, in all, until one of them is free: each may be polled just now, or have to wait.
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

/// Tries a version on instances that were found to be within what is granted, and of which is known whether each has a
/// checkpoint. `old` is what serves now.
pub(super) async fn canary(
    new: &Connector,
    old: Option<&Connector>,
    ceiling: &Ceiling,
    mut instances: Vec<(Uuid, bool)>,
    live: &dyn LiveInstances,
) -> Canary {
    // Reading a checkpoint is what a new version fails at most easily, so those that have one come first.
    instances.sort_by_key(|(id, has_checkpoint)| (!has_checkpoint, *id));
    let mut instances: Vec<Uuid> = instances.into_iter().map(|(id, _)| id).collect();
    let mut unclear = "there is no instance to try it on".to_owned();
    let mut faults = Vec::new();
    let mut tried = 0;
    let mut patience = PATIENCE;
    while tried < MOST_INSTANCES && !instances.is_empty() {
        let Some((id, _lent)) = borrow(live, &mut instances, patience).await else {
            if tried == 0 {
                unclear = "each instance is being polled, or waits after a failure".to_owned();
            }
            break;
        };
        // One that was tried may be enough, so others are not waited for.
        patience = 0;
        let Some((options, checkpoint)) = ask(live, id, new).await else {
            unclear = "an instance has changed since the trial began, or cannot be read".to_owned();
            continue;
        };
        let name = options.name.clone();
        tried += 1;
        let Err(failure) = attempt(new, ceiling, options, checkpoint).await else { return Canary::Worked };
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
            unclear.clone_from(&text);
            faults.push(Fault { code: failure.code, reason: text });
            continue;
        };
        let compared = match ask(live, id, old).await {
            Some((options, checkpoint)) => attempt(old, ceiling, options, checkpoint).await.err(),
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
    // One instance's trouble is that instance's; what fails for every one that was tried is the version's.
    let faulty = faults.len();
    match faults.into_iter().next() {
        Some(fault) if faulty == tried => Canary::Failed(fault),
        _ => Canary::Inconclusive(unclear),
    }
}

/// Takes the first that is free out of the list and out of the schedule: no two polls of an instance at once, and none
/// that its vendor does not want. Waits so many seconds for one, all together.
async fn borrow(live: &dyn LiveInstances, instances: &mut Vec<Uuid>, patience: u32) -> Option<(Uuid, Lent)> {
    for second in 0..=patience {
        if second > 0 {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let free = instances.iter().enumerate().find_map(|(place, id)| Some((place, live.lend(*id)?)));
        if let Some((place, lent)) = free {
            return Some((instances.remove(place), lent));
        }
    }
    None
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

/// What an instance polls with: what its tenant is made of, and its checkpoint. `None` when that cannot be had.
async fn ask(live: &dyn LiveInstances, id: Uuid, connector: &Connector) -> Option<(TenantOptions, Option<Vec<u8>>)> {
    let Some(Ok(instance)) = live.ready(id, connector).await else { return None };
    Some((instance.options, live.checkpoint(id).await.ok()?))
}

/// One poll whose result is thrown away. What is granted is checked for the very tenant that polls: its settings may have
/// changed since the trial began.
async fn attempt(
    connector: &Connector,
    ceiling: &Ceiling,
    options: TenantOptions,
    checkpoint: Option<Vec<u8>>,
) -> Result<(), Failure> {
    let tenant = connector.tenant(options).await.map_err(|error| {
        let speaks = match &error {
            TenantError::Configure(ConfigureError::Step(_) | ConfigureError::Plan(_)) => PollOutcome::ConnectorFailed,
            _ => PollOutcome::Inconclusive,
        };
        // A new version may say another form, which the secret does not fit.
        let may_be_its_own = matches!(error, TenantError::SecretForm { .. });
        Failure { speaks, may_be_its_own, code: error.code(), text: error.to_string() }
    })?;
    if let Err(why) = ceiling.check(connector, &Grant::asked(connector.descriptor(), tenant.plan())) {
        let speaks = PollOutcome::Inconclusive;
        return Err(Failure { speaks, may_be_its_own: false, code: why.code(), text: why.to_string() });
    }
    let mut polled = tenant.poll(checkpoint.clone(), BUDGET).await;
    if let (Err(StepError::Failure(failure)), usage) = &polled
        && (usage.reception.unauthorized || usage.reception.forbidden)
        && matches!(failure.reason, FailureReason::Unauthorized | FailureReason::Forbidden)
    {
        // The small budget may have left nothing for what a token that was taken back costs.
        polled = tenant.poll(checkpoint, BUDGET).await;
    }
    match polled {
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
        | StepError::BadBatch { .. }
        | StepError::BadReport { .. } => PollOutcome::ConnectorFailed,
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
                // It may sign in wrongly, ask for another scope, or for what its token is not good for.
                | FailureReason::Unauthorized
                | FailureReason::Forbidden
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
    use crate::connectors::serving::{Asked, LiveInstance, NotReady};
    use crate::instances::failure::FailureReport;
    use std::sync::Mutex;

    /// Instances of which one becomes free after so many that were asked for in vain.
    struct Busy {
        asked: Mutex<Vec<Uuid>>,
        free_after: usize,
    }

    impl LiveInstances for Busy {
        fn ids(&self, _: &str) -> Vec<Uuid> {
            Vec::new()
        }

        fn ready<'a>(&'a self, _: Uuid, _: &'a Connector) -> Asked<'a, Option<Result<LiveInstance, NotReady>>> {
            Box::pin(std::future::ready(None))
        }

        fn checkpoint(&self, _: Uuid) -> Asked<'_, Result<Option<Vec<u8>>, Box<FailureReport>>> {
            Box::pin(std::future::ready(Ok(None)))
        }

        fn lend(&self, id: Uuid) -> Option<Lent> {
            let mut asked = self.asked.lock().unwrap();
            asked.push(id);
            (asked.len() > self.free_after).then(|| Lent::until(|| {}))
        }
    }

    fn instances(number: u128) -> Vec<Uuid> {
        (0..number).map(Uuid::from_u128).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn busy_instances_are_waited_for_all_together_and_not_one_by_one() {
        let mut all = instances(200);
        let live = Busy { asked: Mutex::default(), free_after: usize::MAX };
        let start = tokio::time::Instant::now();
        assert!(borrow(&live, &mut all, PATIENCE).await.is_none());
        assert_eq!(start.elapsed(), Duration::from_secs(PATIENCE.into()));
        assert_eq!((all.len(), live.asked.lock().unwrap().len()), (200, 200 * (PATIENCE as usize + 1)));

        // The third is free in the second look.
        let mut all = instances(10);
        let live = Busy { asked: Mutex::default(), free_after: 12 };
        let start = tokio::time::Instant::now();
        let (lent, _) = borrow(&live, &mut all, PATIENCE).await.unwrap();
        assert_eq!((lent, all.len(), start.elapsed()), (Uuid::from_u128(2), 9, Duration::from_secs(1)));
        // Without patience nobody is waited for.
        let live = Busy { asked: Mutex::default(), free_after: usize::MAX };
        assert!(borrow(&live, &mut all, 0).await.is_none());
        assert_eq!(start.elapsed(), Duration::from_secs(1));
    }

    #[test]
    fn who_waits_without_having_asked_anybody_is_to_blame_and_who_waits_for_the_vendor_is_not() {
        let error = StepError::WallClock { limit: Duration::from_secs(30) };
        assert_eq!(outcome(&error, &Usage::default()), PollOutcome::ConnectorFailed);
        assert_eq!(outcome(&error, &Usage { requests: 1, ..Usage::default() }), PollOutcome::Inconclusive);
        let error = StepError::Host { why: "no memory".into() };
        assert_eq!(outcome(&error, &Usage::default()), PollOutcome::Inconclusive);
    }
}
