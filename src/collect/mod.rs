//! Collecting: what is asked for when, within one step.
//!
//! A cycle is the steps from one polling interval to the end of `more`. It
//! lists what was created since the watermark less the overlap ([`listing`]),
//! collects the alerts of what is new or changed ([`alerts`]) with their
//! evidence ([`evidence`]), and then goes back to investigations with work left
//! to do ([`revisit`]). A step is a pure transaction: everything it learns is in
//! the batch it yields, and nothing moves past what the batch holds.
//!
//! Guarantees, and what they rest on: see [`listing`] and [`alerts`].

pub mod alerts;
pub mod check;
pub mod checkpoint;
pub mod evidence;
pub mod fan_out;
pub mod listing;
pub mod output;
pub mod revisit;

use crate::api::client::{Client, Stop};
use crate::api::transport::{Clock, Transport};
use crate::contract::{Batch, Budget, Failure};
use crate::settings::Settings;
use checkpoint::{Checkpoint, Cycle};
use output::Output;

/// One step under way.
pub struct Step<'a, T, C> {
    client: Client<'a, T, C>,
    settings: &'a Settings,
    budget: Budget,
    state: Checkpoint,
    output: Output,
}

/// Does one step.
///
/// # Errors
///
/// The failure that left nothing to commit; the old checkpoint stands.
pub async fn step<T: Transport, C: Clock>(
    transport: &T,
    clock: &C,
    settings: &Settings,
    checkpoint: Option<&[u8]>,
    budget: Budget,
) -> Result<Batch, Failure> {
    let host = settings.region.host;
    let state = match checkpoint.map(Checkpoint::decode).transpose()? {
        Some(state) if state.host == host => state,
        // The region was changed: what is known of the old one says nothing
        // about the new one.
        Some(_) | None => Checkpoint::new(host),
    };
    let client = Client::new(transport, clock, settings.region, &budget);
    let mut step = Step { client, settings, budget, state, output: Output::default() };
    let outcome = step.run().await;
    step.finish(outcome)
}

impl<T: Transport, C: Clock> Step<'_, T, C> {
    /// The cycle, as far as it goes in this step.
    async fn run(&mut self) -> Result<(), Stop> {
        let now = self.client.now();
        let cycle = self.state.cycle.get_or_insert(Cycle { began: now, listed: false, revisited: None });
        if !cycle.listed {
            self.list_new().await?;
        }
        if self.settings.collect_alerts {
            self.revisit().await?;
        }
        Ok(())
    }

    /// When the cycle began.
    fn cycle_began(&self) -> crate::times::Utc {
        self.state.cycle.as_ref().map_or_else(|| self.client.now(), |cycle| cycle.began)
    }

    /// Whether the step may take more on.
    fn has_room(&self) -> bool {
        u64::try_from(self.output.artifacts.len()).unwrap_or(u64::MAX) < u64::from(self.budget.artifacts)
            && self.output.bytes < self.budget.artifact_bytes
            && !self.client.is_spent(1)
    }
}
