//! Collecting: what is asked for when, within one step.
//!
//! A cycle is the steps from one polling interval to the end of `more`. It
//!
//! 1. lists what was created since the watermark less the overlap
//!    ([`listing`]);
//! 2. lists what gained alerts since then, whatever its age ([`gained`]);
//! 3. lists the alerts that belong to no investigation ([`outside`]);
//! 4. goes back to investigations with work left to do ([`revisit`]);
//! 5. lists again what is not closed, and from time to time everything, to find
//!    changes of state ([`relisting`]);
//! 6. reads singly what has left that list ([`revisit`]).
//!
//! Whatever is new or changed is collected with its alerts ([`alerts`]), their
//! evidence ([`evidence`], [`triage`]) and what else belongs to it
//! ([`extras`]). A step is a pure transaction: everything it
//! learns is in the batch it yields, and nothing moves past what the batch
//! holds.
//!
//! Guarantees, and what they rest on: see [`listing`] and [`alerts`].

pub mod access;
mod alert_list;
pub mod alerts;
pub mod check;
pub mod checkpoint;
pub mod condensed;
pub mod evidence;
pub mod extras;
pub mod fan_out;
pub mod forgetting;
mod former;
pub mod gained;
mod growing;
pub mod listing;
pub mod memory;
pub mod organization;
pub mod output;
pub mod outside;
pub mod passes;
mod presence;
mod progress;
pub mod relisting;
pub mod revisit;
pub mod triage;

use crate::api::client::{Client, Stop};
use crate::api::rate::LEEWAY;
use crate::api::transport::{Clock, Transport};
use crate::artifact::mitre::Mitre;
use crate::contract::{Batch, Budget, Failure};
use crate::settings::Settings;
use crate::times::Utc;
use checkpoint::{Checkpoint, Cycle, Detour, Phase};
use forgetting::Bounds;
use listing::DAY;
use output::Output;
use revisit::Round;

/// Steps of a cycle that a rate limit has ended, as [`Checkpoint::rate_limited`]
/// counts them, after which its headers are not believed: they may be junk, and
/// if not, the vendor refuses.
const HEEDLESS_AFTER: u32 = 8;

/// Marks in [`Checkpoint::rate_limited`] that the last step did not end by a limit, but by its budget: the next follows at
/// once.
const WENT_ON: u32 = 1 << 16;

/// One step under way.
pub struct Step<'a, T, C> {
    client: Client<'a, T, C>,
    settings: &'a Settings,
    budget: Budget,
    state: Checkpoint,
    output: Output,
    /// What rules say of MITRE ATT&CK, by the RRN of their version, as far as
    /// it had to be asked for in this step.
    rules: Vec<(String, Mitre)>,
    /// Whether the cycle has begun in this step, by the host's clock, and the vendor has not answered since.
    is_fresh: bool,
    /// Investigations that the group at hand has finished, as far as this cycle
    /// is concerned.
    visited: Vec<String>,
    /// Hashes of the RRNs of investigations that were read singly in this step, and are collected as they were then.
    singly: Vec<u64>,
    /// Most investigations, or alerts outside them, of a group: few at first
    /// when the vendor has limited the rate of the step before, so that some are
    /// finished before it does so again, and twice as many after each group.
    pace: usize,
    /// Whether no alert was answered for, by an API that does not answer: see [`evidence`].
    unanswered: bool,
    /// How many investigations the listings have noted to be gone back to.
    noted: usize,
    /// Whether a page of a list of investigations could be read in this step.
    listed: bool,
    /// Why the list of what is new could not be read to its end in this step.
    unlisted: Option<Stop>,
    /// Whether the rows were found to be of another organization than before.
    moved: bool,
    /// That the Alert Triage API, which was there before, has said in this step that it is not.
    absent: Option<Box<Failure>>,
    /// Whether a step before this one has begun the first collection.
    goes_on_first: bool,
    /// The first time of the oldest alert of a window that has failed in it; its end when none has, none when that is not
    /// known ([`outside`]).
    first_undone: Option<Utc>,
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
    checkpoint: Option<Vec<u8>>,
    budget: Budget,
) -> Result<Batch, Failure> {
    step_within(transport, clock, settings, checkpoint, budget, Bounds::default()).await
}

/// Does one step, with a checkpoint within these bounds; the overlap is that of
/// the settings.
///
/// # Errors
///
/// See [`step`].
pub async fn step_within<T: Transport, C: Clock>(
    transport: &T,
    clock: &C,
    settings: &Settings,
    checkpoint: Option<Vec<u8>>,
    budget: Budget,
    bounds: Bounds,
) -> Result<Batch, Failure> {
    let host = settings.region.host;
    let mut state = match checkpoint.map(Checkpoint::decode).transpose()? {
        Some(state) if state.host == host => state,
        // The region was changed: what is known of the old one says nothing
        // about the new one.
        Some(_) | None => Checkpoint::new(host),
    };
    state.bounds = Bounds { overlap_minutes: settings.overlap_minutes, ..bounds };
    let went_on = state.rate_limited & WENT_ON != 0;
    state.rate_limited &= !WENT_ON;
    let has_waited = state.cycle.is_none() || state.rate_limited > 0 && !went_on;
    let heedless = state.rate_limited >= HEEDLESS_AFTER;
    let goes_on_first = state.cycle.is_some() && state.relisted.is_none();
    let (output, rules, visited) = (Output::default(), Vec::new(), Vec::new());
    let client = Client::new(transport, clock, settings.region, &budget)
        .heedless(heedless)
        .making(settings.concurrency)
        .waited(has_waited);
    let pace = if state.rate_limited > 0 { 1 } else { usize::MAX };
    let (singly, is_fresh, unanswered, noted, listed, unlisted, moved) =
        (Vec::new(), false, false, 0, false, None, false);
    let mut step = Step {
        client,
        settings,
        budget,
        state,
        output,
        rules,
        is_fresh,
        visited,
        singly,
        pace,
        unanswered,
        noted,
        listed,
        unlisted,
        moved,
        absent: None,
        goes_on_first,
        first_undone: None,
    };
    let outcome = step.run().await;
    step.finish(outcome)
}

impl<T: Transport, C: Clock> Step<'_, T, C> {
    /// The cycle, as far as it goes in this step.
    async fn run(&mut self) -> Result<(), Stop> {
        let now = self.client.now();
        if self.state.cycle.is_none() {
            self.state.cycle = Some(Cycle { began: now, phase: Phase::New });
            self.state.number = self.state.number.wrapping_add(1);
            self.is_fresh = true;
        }
        // Each part ends by setting the next; the step may end in any of them.
        while let Some(cycle) = &self.state.cycle {
            match cycle.phase.clone() {
                Phase::New => self.list_new().await?,
                Phase::Gained(page) => self.list_gained(page).await?,
                Phase::Outside(reached) => {
                    self.collect_outside(reached).await?;
                    self.enter(Phase::Owed(None));
                }
                Phase::Owed(after) => {
                    self.revisit(after, Round::Owed).await?;
                    self.count_in_vain();
                    self.start_relisting();
                }
                Phase::Known(window, whole) => self.relist(window, whole, Detour::default()).await?,
                Phase::Around(window, whole, detour) => self.relist(window, whole, detour).await?,
                Phase::Left(after) => {
                    self.revisit(after, Round::Left).await?;
                    self.look_back().await?;
                    break;
                }
            }
        }
        Ok(())
    }

    /// Goes on to a part of the cycle.
    fn enter(&mut self, phase: Phase) {
        self.set_right();
        if let Some(cycle) = &mut self.state.cycle {
            cycle.phase = phase;
        }
        self.output.progress = true;
    }

    /// When the cycle began.
    fn cycle_began(&self) -> Utc {
        self.state.cycle.as_ref().map_or_else(|| self.client.now(), |cycle| cycle.began)
    }

    /// Has the cycle begin at the present time, where an answer of the vendor's has shown that the host's clock, by which it
    /// began, is ahead. Tells whether it was.
    fn set_right(&mut self) -> bool {
        // Before that a clock that is behind is not known to be.
        if !self.client.has_heard() {
            return false;
        }
        let now = self.client.now();
        let ahead = self.state.cycle.as_mut().filter(|cycle| cycle.began.seconds_since(now) >= LEEWAY);
        ahead.map(|cycle| cycle.began = now).is_some()
    }

    /// The same where the first answer of a cycle shows that the clock is behind. Later it could as well be a long cycle.
    fn set_forward(&mut self) -> bool {
        let now = self.client.now();
        let is_behind = self.client.has_heard() && std::mem::take(&mut self.is_fresh) && self.client.is_behind();
        let behind = self.state.cycle.as_mut().filter(|_| is_behind);
        behind.map(|cycle| cycle.began = now).is_some()
    }

    /// Up to when everything is certain to have been listed, where that is noted to be up to `done`. If that is still to come,
    /// a clock was ahead, nobody knows for how long: then a day is gone back.
    fn listed_up_to(&self, done: Utc) -> Utc {
        let began = self.cycle_began();
        if done.seconds_since(began) > LEEWAY { began.plus_seconds(-DAY) } else { done.min(began) }
    }

    /// What the next group of requests may take up.
    fn room(&self) -> alert_list::Room {
        alert_list::Room::new(self.budget.artifacts, self.budget.artifact_bytes.saturating_sub(self.output.bytes))
    }

    /// Whether the step may take more on.
    fn has_room(&self) -> bool {
        u64::try_from(self.output.artifacts.len()).unwrap_or(u64::MAX) < u64::from(self.budget.artifacts)
            && self.output.bytes < self.budget.artifact_bytes
            && !self.client.is_spent(1)
    }
}
