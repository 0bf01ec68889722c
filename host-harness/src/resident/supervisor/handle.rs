//! What others have of a supervisor: it is started, told what has changed, looked into, and stopped.
//!
//! Why apart from the schedule: that is one task's own, and whoever has this only sends it messages.
//! Not guaranteed: that what is said is done when these return, other than where they wait for it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::live::{Live, Turns};
use super::{Command, Records, Work};
use crate::config::{Config, ConfigError};
use crate::connectors::serving::LiveInstances;
use crate::locks::lock;
use crate::resident::board::Board;
use crate::resident::guard::guarded;
use crate::resident::poller::{Phase, Poller, Record};
use crate::sandbox::Clock;
use crate::schedule::Places;
use crate::store::Store;

/// How long steps at hand are given at a stop: the wall-clock time of a step and its grace.
const FINISH_WITHIN: Duration = Duration::from_secs(75);

/// How long abandoned polls are waited for: they end at once, unless a commit is under way.
const ABANDON_WITHIN: Duration = Duration::from_secs(10);

/// A supervisor at work. Dropping it ends its polls without notice; [`Supervisor::stop`] is the good way.
pub struct Supervisor {
    pub(super) commands: mpsc::UnboundedSender<Command>,
    phase: watch::Sender<Phase>,
    records: Records,
    store: Store,
    board: Arc<Board>,
    turns: Turns,
    task: Mutex<Option<Task>>,
}

/// What has to end at a stop.
struct Task {
    schedule: JoinHandle<()>,
    /// Says that there is no more when the last poll has ended, also where the schedule has ended before it.
    polls: mpsc::Receiver<()>,
}

impl Supervisor {
    /// Starts without any instance.
    #[must_use]
    pub fn start(store: Store, board: Arc<Board>, poller: Arc<dyn Poller>, parallel: usize) -> Self {
        let (commands, inbox) = mpsc::unbounded_channel();
        let (finished, outcomes) = mpsc::unbounded_channel();
        let (phase, stop) = watch::channel(Phase::Running);
        let (at_hand, polls) = mpsc::channel(1);
        let records = Records::default();
        let turns = Turns::default();
        let work = Work {
            store: store.clone(),
            board: Arc::clone(&board),
            turns: Arc::clone(&turns),
            poller,
            records: Arc::clone(&records),
            entries: HashMap::new(),
            in_flight: HashMap::new(),
            leaving: HashMap::new(),
            places: Places::new(parallel),
            dirty: HashSet::new(),
            being_kept: HashSet::new(),
            not_kept: None,
            looked: false,
            aside: Vec::new(),
            wishes: Vec::new(),
            leaving_for_good: HashSet::new(),
            stop,
            finished,
            at_hand,
        };
        let of_task = Arc::clone(&board);
        let schedule = async move { guarded(&of_task, "the schedule", work.run(inbox, outcomes)).await };
        let task = Mutex::new(Some(Task { schedule: tokio::spawn(schedule), polls }));
        Self { commands, phase, records, store, board, turns, task }
    }

    /// Replaces the configuration. Instances that are new or enabled are polled within their interval; those that are
    /// gone or disabled finish the poll at hand and keep their state.
    ///
    /// # Errors
    /// What is wrong with it as seen from the store; the one before keeps running.
    pub async fn apply(&self, config: Arc<Config>) -> Result<(), ConfigError> {
        let (reply, answer) = oneshot::channel();
        // A supervisor that is gone is stopping; then nothing has to be applied any more.
        let _ = self.commands.send(Command::Apply(config, reply));
        answer.await.unwrap_or(Ok(()))
    }

    /// Says that something was changed that these instances may have failed of: those with which something is wrong are
    /// polled within seconds, unless the vendor asked for more, and so are those that were told to wait for long.
    pub fn wake(&self, ids: Vec<Uuid>) {
        let _ = self.commands.send(Command::Wake(ids));
    }

    /// Says that every connector that is there at the start was looked at. Until then an instance that nothing serves yet
    /// waits when it is due: its connector may still be compiling.
    pub fn looked(&self) {
        self.board.change_host(|host| host.looked = true);
        let _ = self.commands.send(Command::Looked);
    }

    /// The configured instances.
    #[must_use]
    pub fn records(&self) -> Vec<Arc<Record>> {
        lock(&self.records).values().cloned().collect()
    }

    /// The instances for new connectors to prove themselves on.
    #[must_use]
    pub fn live(&self, clock: Clock) -> Arc<dyn LiveInstances> {
        Arc::new(Live {
            records: Arc::clone(&self.records),
            store: self.store.clone(),
            board: Arc::clone(&self.board),
            turns: Arc::clone(&self.turns),
            clock,
        })
    }

    /// Stops in good order: no further poll is begun, those at hand finish their step; what has not ended then within
    /// the deadline of a step is abandoned, which loses nothing that was stored. Polls of a schedule that has panicked
    /// are waited for as well.
    pub async fn stop(&self) {
        let _ = self.phase.send(Phase::Finishing);
        let Some(mut task) = lock(&self.task).take() else { return };
        if tokio::time::timeout(FINISH_WITHIN, task.end()).await.is_ok() {
            return;
        }
        tracing::warn!("a poll did not end in time and is abandoned; what was stored stays");
        let _ = self.phase.send(Phase::Abandoning);
        if tokio::time::timeout(ABANDON_WITHIN, task.end()).await.is_err() {
            task.schedule.abort();
        }
    }
}

impl Task {
    /// Waits until everything has ended.
    async fn end(&mut self) {
        if !self.schedule.is_finished() {
            // What it panicked of was told.
            let _ = (&mut self.schedule).await;
        }
        while self.polls.recv().await.is_some() {}
    }
}
