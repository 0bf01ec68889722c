//! The cycle: steps until the connector says that there is no more.
//!
//! Why here: what makes collecting safe is the order of things. A step's
//! artifacts and checkpoint are committed together, and before those of the
//! next step; a failure leaves the last committed checkpoint in place. So
//! whatever happens, the next cycle goes on from what is stored. Delivering is
//! not the cycle's business: see [`super::courier`].
//!
//! While a step is checked and committed the next one is under way: that takes
//! as long as collecting when the vendor is fast. That is safe because a step is a pure
//! transaction: it knows nothing but the checkpoint it was given, and when the
//! check or the commit before it fails, what it has yielded is dropped. A crash in between
//! costs the requests of two steps instead of one.
//! Not guaranteed: a cycle is no transaction, its steps are.

use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::collector::{Collector, Yield};
use super::failure::FailureReport;
use super::report::{Cycle, End};
use crate::contract::types::{Batch, Budget, DataStream};
use crate::sandbox::Usage;
use crate::store::{Committed, Instance, Store};

/// How a cycle may go on.
#[derive(Clone, Debug)]
pub struct CycleOptions {
    /// What one step may do.
    pub budget: Budget,
    /// Steps after which the cycle ends although there is more.
    pub most_steps: u32,
    /// Time after which it ends although there is more: no step is begun after
    /// that, so that one who is slow and never done does not keep its place.
    pub longest_turn: Duration,
    /// The longest single wait that a vendor may ask for within a cycle; a
    /// longer one ends it.
    pub longest_wait: Duration,
    /// All waits of a cycle together.
    pub most_waiting: Duration,
    /// Whether a wait longer than that is left to the caller, who comes back
    /// when it has passed. It is then no failure: see [`End::Deferred`] and
    /// [`Cycle::retry_after`].
    pub defer_waits: bool,
}

/// Steps in a row without any progress after which a connector is taken to
/// run in a circle.
const MOST_IDLE_STEPS: u32 = 3;

/// What the cycle takes from its surroundings, so that tests decide it.
pub struct Surroundings<'a> {
    /// The time of day.
    pub now: &'a (dyn Fn() -> OffsetDateTime + Send + Sync),
    /// Waits.
    pub sleep: &'a (dyn Fn(Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync),
    /// Told after every step, for people who watch.
    pub progress: &'a (dyn Fn(&Cycle) + Send + Sync),
    /// Whether to end in good order: no further step is begun, the one at hand
    /// is finished and committed.
    pub stopping: &'a (dyn Fn() -> bool + Send + Sync),
}

/// One instance ready to be polled.
pub struct Run<'a, C> {
    /// Does the steps.
    pub collector: &'a C,
    /// Where everything is kept.
    pub store: &'a Store,
    /// Whose it is.
    pub instance: &'a Instance,
    /// The streams of the connector's descriptor.
    pub streams: &'a [DataStream],
    /// Limits.
    pub options: &'a CycleOptions,
    /// Time and progress.
    pub surroundings: Surroundings<'a>,
}

/// The check and the commit of a step on a thread of their own, where blocking
/// is fine. They come to their end even when nobody waits for them.
type Commit = JoinHandle<Result<(Committed, Batch), FailureReport>>;

impl<C: Collector> Run<'_, C> {
    /// Runs one cycle. It never fails as such: what went wrong is in the
    /// result. When `stop` ends, the step at hand is abandoned (a commit is
    /// finished) and the cycle ends.
    pub async fn cycle(self, stop: impl Future<Output = ()> + Send) -> Cycle {
        let started = Instant::now();
        let mut cycle = Cycle::new();
        cycle.described = self.streams.iter().map(|stream| stream.name.clone()).collect();
        let mut commit = None;
        let outcome = {
            let mut stop = pin!(stop);
            tokio::select! {
                biased;
                () = &mut stop => Ok(End::Interrupted),
                outcome = self.steps(&mut cycle, &mut commit) => outcome,
            }
        };
        match outcome {
            Ok(end) => cycle.end = end,
            Err(failure) => cycle.failure = Some(failure),
        }
        // One that a stop came upon is waited for, so that what is stored is counted.
        if let Err(failure) = self.stored(&mut cycle, &mut commit).await {
            cycle.failure.get_or_insert(failure);
        }
        cycle.elapsed = started.elapsed();
        cycle
    }

    /// All steps. Dropping this at any await leaves the store whole.
    async fn steps(&self, cycle: &mut Cycle, commit: &mut Option<Commit>) -> Result<End, FailureReport> {
        let (collector, budget) = (self.collector, self.options.budget);
        let mut checkpoint = self.checkpoint().await?;
        let begun = Instant::now();
        let mut idle = 0;
        let mut waited = Duration::ZERO;
        let mut polled = collector.poll(checkpoint.clone(), budget).await;
        loop {
            let (result, usage) = polled;
            cycle.add_usage(&usage);
            let yielded = result?;
            let batch = yielded.batch();
            self.tell(cycle, batch, &usage);
            // Whatever it brought: from the same checkpoint the next step brings the same.
            idle = if checkpoint.as_ref() == Some(&batch.checkpoint) { idle + 1 } else { 0 };
            checkpoint = Some(batch.checkpoint.clone());
            let (more, wait) = (batch.more, batch.retry_after_seconds);
            let is_ahead = more
                && wait.is_none()
                && idle < MOST_IDLE_STEPS
                && !self.is_over(cycle.steps + 1, begun)
                && !(self.surroundings.stopping)();
            if is_ahead {
                let next = async { Ok(collector.poll(checkpoint.clone(), budget).await) };
                ((), polled) = tokio::try_join!(self.keep(yielded, cycle, commit), next)?;
                continue;
            }
            self.keep(yielded, cycle, commit).await?;
            if !more {
                return Ok(End::Complete);
            }
            if (self.surroundings.stopping)() {
                return Ok(End::Interrupted);
            }
            if idle >= MOST_IDLE_STEPS {
                return no_progress(cycle);
            }
            if let Some(seconds) = wait {
                let wait = Duration::from_secs(seconds);
                waited = waited.saturating_add(wait);
                if wait > self.options.longest_wait || waited > self.options.most_waiting {
                    return if self.options.defer_waits { Ok(End::Deferred) } else { postponed(cycle, seconds) };
                }
                if self.is_over(cycle.steps, begun) {
                    // Nothing would come after it.
                    return Ok(End::StepLimit);
                }
                tracing::info!(
                    connector = self.instance.connector,
                    instance = self.instance.name,
                    "the vendor asks for a pause of {seconds} s; it is waited for"
                );
                (self.surroundings.sleep)(wait).await;
                // It has been waited for.
                cycle.retry_after = None;
                if (self.surroundings.stopping)() {
                    return Ok(End::Interrupted);
                }
            }
            if self.is_over(cycle.steps, begun) {
                return Ok(End::StepLimit);
            }
            polled = collector.poll(checkpoint.clone(), budget).await;
        }
    }

    /// Whether no further step is begun after so many.
    fn is_over(&self, steps: u32, begun: Instant) -> bool {
        begun.elapsed() >= self.options.longest_turn || steps >= self.options.most_steps
    }

    /// Tells what a step came to, for those who look closely.
    fn tell(&self, cycle: &Cycle, batch: &Batch, usage: &Usage) {
        tracing::debug!(
            connector = self.instance.connector,
            instance = self.instance.name,
            step = cycle.steps + 1,
            requests = usage.requests,
            artifacts = batch.artifacts.len(),
            artifact_bytes = batch.artifacts.iter().map(|one| one.json.len()).sum::<usize>(),
            checkpoint_bytes = batch.checkpoint.len(),
            guest_peak_bytes = usage.guest_peak_bytes,
            "a step is done"
        );
    }

    /// The checkpoint to go on from, read where blocking is fine.
    async fn checkpoint(&self) -> Result<Option<Vec<u8>>, FailureReport> {
        let (store, instance) = (self.store.clone(), self.instance.clone());
        tokio::task::spawn_blocking(move || store.checkpoint(&instance))
            .await
            .map_err(|error| {
                FailureReport::new("host-error", format!("reading the checkpoint broke off: {error}"), "Report this.")
            })?
            .map_err(|error| FailureReport::from(&error))
    }

    /// Checks and commits a step.
    async fn keep(
        &self,
        yielded: C::Yield,
        cycle: &mut Cycle,
        commit: &mut Option<Commit>,
    ) -> Result<(), FailureReport> {
        let (store, instance, now) = (self.store.clone(), self.instance.clone(), (self.surroundings.now)());
        *commit = Some(tokio::task::spawn_blocking(move || {
            let mut batch = yielded.checked()?;
            let committed = store.commit_step(&instance, &batch, now).map_err(|error| FailureReport::from(&error))?;
            // Let go of here, where it takes nobody's time.
            batch.artifacts.clear();
            Ok((committed, batch))
        }));
        self.stored(cycle, commit).await?;
        (self.surroundings.progress)(cycle);
        Ok(())
    }

    /// Waits for the commit at hand, if there is one, and counts what it has
    /// stored.
    async fn stored(&self, cycle: &mut Cycle, commit: &mut Option<Commit>) -> Result<(), FailureReport> {
        let Some(handle) = commit else { return Ok(()) };
        let outcome = handle.await;
        *commit = None;
        let (committed, batch) = outcome.map_err(|error| {
            FailureReport::new("host-error", format!("storing a step broke off: {error}"), "Report this.")
        })??;
        cycle.add_step(committed);
        cycle.add_reports(self.streams, &batch.reports);
        // An empty one takes back what was said.
        cycle.hint = batch.hint.or(cycle.hint.take()).filter(|hint| !hint.is_empty());
        cycle.retry_after = batch.retry_after_seconds.map(Duration::from_secs);
        Ok(())
    }
}

/// The end of a cycle that goes in a circle: what a stream says of it, or that
/// it does.
fn no_progress(cycle: &Cycle) -> Result<End, FailureReport> {
    if cycle.first_failure().is_some() {
        return Ok(End::Postponed);
    }
    Err(FailureReport::new(
        "no-progress",
        format!("the connector asked {MOST_IDLE_STEPS} times to go on without having moved its checkpoint"),
        "Report this to whoever maintains the connector: a checkpoint has to move before there can be `more`.",
    ))
}

/// The end of a cycle that the vendor wants to have later: what a stream says
/// of it, or how much later.
fn postponed(cycle: &Cycle, seconds: u64) -> Result<End, FailureReport> {
    if cycle.first_failure().is_some() {
        return Ok(End::Postponed);
    }
    Err(FailureReport::new(
        "rate-limited",
        format!("the vendor asks not to be called for {seconds} seconds; what is left is collected by a later poll"),
        "Nothing has to be done; what was collected is stored. Where this is said although nothing is behind, poll less often.",
    ))
}

#[cfg(test)]
mod tests;
