//! The board on which everything is written that others look at.
//!
//! Why one place with short locks: whoever asks for the status never waits for a poll, and no poll waits for somebody
//! who reads slowly, because readers take copies.
//! Not guaranteed: a page shows every instance at one moment, but not the store and the connectors at the same one.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;
use time::OffsetDateTime;
use tokio::sync::watch;
use uuid::Uuid;

use super::earlier::Earlier;
use super::status::InstanceStatus;
use crate::config::Problem;
use crate::instances::failure::FailureReport;
use crate::locks::lock;

/// Says what time of day it is.
pub type Now = Arc<dyn Fn() -> OffsetDateTime + Send + Sync>;

/// What is known of the host itself.
#[derive(Clone, Debug, Serialize)]
pub struct HostStatus {
    /// Version of this program.
    pub version: &'static str,
    /// When it started.
    #[serde(with = "time::serde::rfc3339")]
    pub started: OffsetDateTime,
    /// Whether it was told to stop and only finishes what it has begun.
    pub stopping: bool,
    /// The parts of it that have panicked.
    pub broken: Vec<String>,
    /// Whether every connector that was there at the start was looked at: what nothing serves until then may be about to.
    #[serde(skip)]
    pub looked: bool,
    /// Polls at the moment.
    pub polls_running: usize,
    /// Most polls at once.
    pub parallel_polls: usize,
    /// The configuration.
    pub config: ConfigStatus,
    /// Routes of the configuration that runs, `HOST=URL`.
    pub routes: Vec<String>,
    /// Where artifacts go.
    pub sink: SinkStatus,
}

/// What is known of the configuration.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ConfigStatus {
    /// The file.
    pub file: PathBuf,
    /// When the one that runs was taken.
    #[serde(with = "time::serde::rfc3339::option")]
    pub loaded: Option<OffsetDateTime>,
    /// What is wrong with the file as it is now; the one before keeps running. At a start, all of it but instances that
    /// are left out.
    pub problems: Vec<Problem>,
    /// The instances that were left out at the start: names, or lines where there is none.
    pub left_out: Vec<String>,
    /// Keys of `[host]` whose new values count from the next start on.
    pub needs_restart: Vec<&'static str>,
}

/// What is known of the sink.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SinkStatus {
    /// The file, `standard output` or `none`.
    pub target: String,
    /// Artifacts it has taken since the start.
    pub delivered: u64,
    /// Whether there is one.
    #[serde(skip)]
    pub is_there: bool,
    /// Why it takes none at the moment, if so.
    pub failure: Option<FailureReport>,
}

/// Upper bounds of the steps' durations in seconds.
pub const STEP_BOUNDS: [f64; 11] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// How often which durations occurred.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram {
    /// How often one was at most the bound of the same place, and above the one before; last, above all.
    pub counts: [u64; STEP_BOUNDS.len() + 1],
    /// All together, in seconds.
    pub sum: f64,
}

impl Histogram {
    fn add(&mut self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let place = STEP_BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(STEP_BOUNDS.len());
        if let Some(count) = self.counts.get_mut(place) {
            *count += 1;
        }
        self.sum += seconds;
    }
}

/// The board. Shared by everyone who writes on it or reads it.
pub struct Board {
    now: Now,
    instances: Mutex<BTreeMap<Uuid, InstanceStatus>>,
    /// What was counted of an instance when it first came onto the board.
    earlier: Mutex<BTreeMap<Uuid, Earlier>>,
    host: Mutex<HostStatus>,
    /// Whether a part of the host has panicked.
    is_broken: watch::Sender<bool>,
    /// Durations of steps and of requests, by connector.
    steps: Mutex<BTreeMap<String, [Histogram; 2]>>,
}

impl Board {
    /// An empty board.
    #[must_use]
    pub fn new(now: Now, parallel_polls: usize) -> Self {
        let host = HostStatus {
            version: env!("CARGO_PKG_VERSION"),
            started: now(),
            stopping: false,
            broken: Vec::new(),
            looked: false,
            polls_running: 0,
            parallel_polls,
            config: ConfigStatus::default(),
            routes: Vec::new(),
            sink: SinkStatus::default(),
        };
        Self {
            now,
            instances: Mutex::default(),
            earlier: Mutex::default(),
            host: Mutex::new(host),
            is_broken: watch::Sender::new(false),
            steps: Mutex::default(),
        }
    }

    /// The time of day.
    #[must_use]
    pub fn now(&self) -> OffsetDateTime {
        (self.now)()
    }

    /// All instances, by name.
    #[must_use]
    pub fn instances(&self) -> Vec<InstanceStatus> {
        let mut all: Vec<InstanceStatus> = lock(&self.instances).values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// All instances, by name, with what was counted since the start.
    #[must_use]
    pub fn instances_since_start(&self) -> Vec<InstanceStatus> {
        let mut all = self.instances();
        let earlier = lock(&self.earlier);
        for one in &mut all {
            if let Some(earlier) = earlier.get(&one.id) {
                earlier.take_from(&mut one.past);
            }
        }
        all
    }

    /// One instance.
    #[must_use]
    pub fn instance(&self, id: Uuid) -> Option<InstanceStatus> {
        lock(&self.instances).get(&id).cloned()
    }

    /// Puts an instance on the board, in place of what was there of it.
    pub fn put(&self, status: InstanceStatus) {
        lock(&self.earlier).entry(status.id).or_insert_with(|| Earlier::of(&status.past));
        lock(&self.instances).insert(status.id, status);
    }

    /// Changes an instance, if it is on the board.
    pub fn change<R>(&self, id: Uuid, change: impl FnOnce(&mut InstanceStatus) -> R) -> Option<R> {
        lock(&self.instances).get_mut(&id).map(change)
    }

    /// Takes an instance off the board.
    pub fn remove(&self, id: Uuid) -> Option<InstanceStatus> {
        lock(&self.instances).remove(&id)
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> HostStatus {
        lock(&self.host).clone()
    }

    /// Changes what is known of the host.
    pub fn change_host(&self, change: impl FnOnce(&mut HostStatus)) {
        change(&mut lock(&self.host));
    }

    /// Notes that a part of the host has panicked.
    pub(super) fn note_broken(&self, what: &str) {
        self.change_host(|host| host.broken.push(what.to_owned()));
        self.is_broken.send_replace(true);
    }

    /// Waits until one has.
    pub(super) async fn breaks(&self) {
        // The sender lives as long as this.
        let _ = self.is_broken.subscribe().wait_for(|is_broken| *is_broken).await;
    }

    /// Counts a step of a connector, by its slug, and the requests it made.
    pub fn count_step(&self, connector: &str, duration: Duration, of_requests: &[Duration]) {
        let mut all = lock(&self.steps);
        if !all.contains_key(connector) {
            all.insert(connector.to_owned(), Default::default());
        }
        if let Some([steps, requests]) = all.get_mut(connector) {
            steps.add(duration);
            of_requests.iter().for_each(|duration| requests.add(*duration));
        }
    }

    /// Durations of steps, and of requests, by connector.
    #[must_use]
    pub fn steps(&self) -> BTreeMap<String, [Histogram; 2]> {
        lock(&self.steps).clone()
    }
}

impl std::fmt::Debug for Board {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Board").field("instances", &lock(&self.instances).len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_counted_in_the_first_bucket_that_holds_it() {
        let mut histogram = Histogram::default();
        for milliseconds in [1, 10, 11, 60_000, 60_001] {
            histogram.add(Duration::from_millis(milliseconds));
        }
        assert_eq!(histogram.counts, [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        assert!((histogram.sum - 120.023).abs() < 1e-9);
    }
}
