//! The supervisor: who is polled when, and what came of it.
//!
//! What: one task owns the schedule. It takes configurations, starts polls when they are due and a place is free, and
//! after each decides when the next one is.
//! Promises: no two polls of an instance at once; who has been due longest comes first; missed ticks are not made up for;
//! a poll that was begun is finished, whatever happens to the configuration meanwhile; nothing is polled again at once;
//! those that keep failing hold at most a quarter of the places.
//! Not guaranteed: that a poll begins on time while all places are taken.

mod entry;
mod handle;
mod live;
mod ordered;
mod roster;
mod standing;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use uuid::Uuid;

use entry::Entry;
pub use handle::Supervisor;
use live::Turns;
pub(super) use ordered::Refused;
use ordered::Wish;
use roster::minutes;

use super::board::Board;
use super::poller::{Phase, Polled, Poller, Record};
use super::status::{BackOffStatus, Past, State};
use crate::config::{Config, ConfigError, InstanceConfig};
use crate::instances::failure::FailureReport;
use crate::schedule::{LONGEST_RETRY_AFTER, Next, Outcome, Places};
use crate::store::{Instance, Store};

/// How often what is known of instances is kept in the store.
const KEEP_EVERY: Duration = Duration::from_secs(5);

/// When an instance that is due is looked at again while a connector tries itself on it.
const AFTER_CANARY: Duration = Duration::from_secs(1);

/// What configured instances are known as, shared with those who need to look at them.
type Records = Arc<Mutex<BTreeMap<Uuid, Arc<Record>>>>;

/// What the supervisor is told.
enum Command {
    /// Take this configuration.
    Apply(Arc<Config>, oneshot::Sender<Result<(), ConfigError>>),
    /// Something that these instances may have failed of was changed.
    Wake(Vec<Uuid>),
    /// Every connector that is there at the start was looked at.
    Looked,
    /// An operator has ordered something for an instance.
    Order(Wish),
    /// Everything of an instance that was to be removed is gone, or as much as could be.
    Removed(Uuid),
}

/// What ends a poll.
struct Finished {
    id: Uuid,
    polled: Polled,
}

/// The state of the task.
struct Work {
    store: Store,
    board: Arc<Board>,
    turns: Turns,
    poller: Arc<dyn Poller>,
    records: Records,
    /// Enabled instances.
    entries: HashMap<Uuid, Entry>,
    /// Those being polled and when that began, removed ones among them.
    in_flight: HashMap<Uuid, OffsetDateTime>,
    /// What is known of those that were removed before that was kept.
    leaving: HashMap<Uuid, (Instance, Past)>,
    places: Places,
    /// Those whose past is to be kept.
    dirty: HashSet<Uuid>,
    /// Those whose past is being kept at this moment.
    being_kept: HashSet<Uuid>,
    /// Why that could not be done the last time, so that it is said once.
    not_kept: Option<String>,
    /// Whether the connectors that are there at the start were looked at; see [`Supervisor::looked`].
    looked: bool,
    /// Those that were due before that and had no connector.
    aside: Vec<Uuid>,
    /// Orders that wait until their instance is not busy.
    wishes: Vec<Wish>,
    /// Those of which everything is being removed.
    leaving_for_good: HashSet<Uuid>,
    stop: watch::Receiver<Phase>,
    finished: mpsc::UnboundedSender<Finished>,
    /// A copy of it is with every poll, see `polls` of the task.
    at_hand: mpsc::Sender<()>,
}

impl Work {
    async fn run(
        mut self,
        mut inbox: mpsc::UnboundedReceiver<Command>,
        mut outcomes: mpsc::UnboundedReceiver<Finished>,
    ) {
        let mut stop = self.stop.clone();
        let mut keep = tokio::time::interval(KEEP_EVERY);
        keep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        // Beside the schedule: whoever commits much at once holds the store for as long.
        let mut keeping = None;
        while *stop.borrow() == Phase::Running {
            // Before what is due is begun: whoever has more to collect is hardly ever at rest.
            self.fulfil(keeping.is_none()).await;
            let next = self.dispatch();
            let looked_again = (!self.wishes.is_empty()).then(|| Instant::now() + AFTER_CANARY);
            let next = [next, looked_again].into_iter().flatten().min();
            tokio::select! {
                biased;
                changed = stop.changed() => if changed.is_err() {
                    // The handle was dropped: nobody wants to know what becomes of it.
                    return;
                },
                Some(command) = inbox.recv() => self.obey(command).await,
                Some(finished) = outcomes.recv() => self.finish(finished),
                () = wait_until(next) => {}
                kept = standing::kept(&mut keeping), if keeping.is_some() => self.end_keep(kept),
                _ = keep.tick(), if !self.dirty.is_empty() && keeping.is_none() => keeping = self.begin_keep(),
            }
        }
        self.board.change_host(|host| host.stopping = true);
        while !self.in_flight.is_empty() {
            match outcomes.recv().await {
                Some(finished) => self.finish(finished),
                None => break,
            }
        }
        for _ in 0..2 {
            if keeping.is_some() {
                let kept = standing::kept(&mut keeping).await;
                self.end_keep(kept);
            }
            keeping = keeping.or_else(|| self.begin_keep());
        }
        if keeping.is_some() {
            let kept = standing::kept(&mut keeping).await;
            self.end_keep(kept);
        }
    }

    /// Starts what is due while there are places; gives when something will be due next, if a place is free for it.
    fn dispatch(&mut self) -> Option<Instant> {
        let now = Instant::now();
        loop {
            let id = match self.places.take(now) {
                Next::Begin(id) => id,
                Next::At(due) => return due,
                Next::Full => return None,
            };
            let Some(entry) = self.entries.get_mut(&id) else {
                self.places.give_back(id);
                continue;
            };
            if !self.looked && !self.poller.is_served(&entry.record.config) {
                self.places.give_back(id);
                self.aside.push(id);
                continue;
            }
            if !live::begin(&self.turns, id) {
                // A new version of its connector is trying itself on it.
                self.places.give_back(id);
                self.set_due(id, now + AFTER_CANARY);
                continue;
            }
            entry.changed = false;
            let started = self.board.now();
            self.in_flight.insert(id, started);
            self.board.change_host(|host| host.polls_running = self.in_flight.len());
            self.board.change(id, |status| status.polling = true);
            let poll = self.poller.poll(Arc::clone(&entry.record), self.stop.clone());
            let (finished, at_hand) = (self.finished.clone(), self.at_hand.clone());
            tokio::spawn(async move {
                let _at_hand = at_hand;
                let polled = AssertUnwindSafe(poll).catch_unwind().await.unwrap_or_else(|_| {
                    Polled::NotBegun(FailureReport::new("internal", "the host panicked during a poll", "Report this."))
                });
                // Nobody listens any more when the host has ended.
                let _ = finished.send(Finished { id, polled });
            });
        }
    }

    /// Takes in what came of a poll and decides when the next one is.
    fn finish(&mut self, Finished { id, polled }: Finished) {
        let Some(started) = self.in_flight.remove(&id) else { return };
        live::end(&self.turns, id);
        self.places.give_back(id);
        self.board.change_host(|host| host.polls_running = self.in_flight.len());
        self.dirty.insert(id);
        if let Some((_, past)) = self.leaving.get_mut(&id) {
            take_in(past, &polled, started, self.board.now());
            return;
        }
        // It may have been polled by another version than the interval was taken from.
        self.follow_interval(id);
        let due = self.entries.get_mut(&id).map(|entry| entry.after(&polled));
        let now = Instant::now();
        let wall = self.board.now();
        if let Some((due, _)) = &due {
            self.set_due(id, *due);
        }
        if let Some(entry) = self.entries.get(&id).filter(|entry| entry.is_at_rest(now)) {
            let pause = entry.not_before.unwrap_or(now).saturating_duration_since(now);
            let (name, minutes) = (&entry.record.config.name, pause.as_secs() / 60);
            tracing::warn!(
                connector = entry.record.config.integration_type.replace('_', "-"),
                instance = name,
                "{name:?} is not polled for {minutes} min, as the vendor asks for, or its connector by mistake; SIGHUP, an \
                 edit of the instance or another version of the connector ends that"
            );
        }
        self.board.change(id, |status| {
            status.polling = false;
            if let Some(state) = take_in(&mut status.past, &polled, started, wall)
                && status.state != State::Disabled
                && status.state != state
            {
                status.state = state;
                status.since = wall;
            }
            if let Some((due, back_off)) = due {
                let at = |due: Instant| wall + due.saturating_duration_since(now);
                status.next_poll = Some(at(due));
                status.back_off = back_off.map(|failures| BackOffStatus {
                    failures,
                    seconds: due.saturating_duration_since(now).as_secs(),
                    until: at(due),
                });
            }
        });
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Apply(config, reply) => {
                let result = self.apply(config).await;
                // Whoever asked may have gone.
                let _ = reply.send(result);
            }
            Command::Order(wish) => self.wishes.push(wish),
            Command::Removed(id) => {
                self.leaving_for_good.remove(&id);
            }
            Command::Wake(ids) => {
                for id in ids {
                    self.wake(id);
                }
            }
            Command::Looked => {
                self.looked = true;
                for id in self.entries.keys().copied().collect::<Vec<_>>() {
                    if self.follow_interval(id) && !self.in_flight.contains_key(&id) {
                        self.begin_anew(id);
                    }
                }
                for id in std::mem::take(&mut self.aside) {
                    // One that was taken out, or put at another time, meanwhile stays so.
                    if self.entries.contains_key(&id) && !self.in_flight.contains_key(&id) && !self.places.waits(id) {
                        self.set_due(id, Instant::now());
                    }
                }
            }
        }
    }

    /// Takes the interval over that the instance's connector wants now; tells whether it is another one.
    fn follow_interval(&mut self, id: Uuid) -> bool {
        let Some(entry) = self.entries.get_mut(&id) else { return false };
        let interval = self.poller.interval(&entry.record.config);
        if entry.interval == interval {
            return false;
        }
        entry.interval = interval;
        self.board.change(id, |status| status.interval_minutes = minutes(interval));
        true
    }

    /// Gives an instance that has not been polled its place within an interval that is another than was thought.
    fn begin_anew(&mut self, id: Uuid) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let now = Instant::now();
        if entry.polls > 0 || entry.record.whole.host.first_poll_within.is_some() {
            return;
        }
        let last = self.board.instance(id).and_then(|status| status.past.last_poll);
        let since = last.and_then(|last| Duration::try_from(self.board.now() - last).ok());
        let due = since.and_then(|since| entry.go_on(since, now));
        let due = due.unwrap_or_else(|| entry.first(id, entry.interval, now));
        self.set_due(id, due);
        self.show_next(id, due, now);
    }

    /// Polls an instance soon if something is wrong with it or it was told to wait for long, and at once if it only waited
    /// for its connector.
    fn wake(&mut self, id: Uuid) {
        self.go_on(id);
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if self.in_flight.contains_key(&id) {
            entry.changed = true;
        } else if entry.waits_for_somebody(Instant::now()) {
            let now = Instant::now();
            let due = entry.soon(id, now);
            self.set_due(id, due);
            self.show_next(id, due, now);
        }
    }

    /// Puts an instance that was set aside for want of a connector back, once there is one.
    fn go_on(&mut self, id: Uuid) {
        if !self.aside.contains(&id)
            || !self.entries.get(&id).is_some_and(|entry| self.poller.is_served(&entry.record.config))
        {
            return;
        }
        self.aside.retain(|other| *other != id);
        self.follow_interval(id);
        // One that was put at another time meanwhile stays so.
        if !self.in_flight.contains_key(&id) && !self.places.waits(id) {
            self.set_due(id, Instant::now());
        }
    }

    /// Puts an instance into the queue that it belongs to.
    fn set_due(&mut self, id: Uuid, due: Instant) {
        let fails = self.entries.get(&id).is_some_and(|entry| entry.back_off.failures > 0);
        self.places.set(id, due, fails);
    }

    /// Writes on the board when an instance is polled next.
    fn show_next(&self, id: Uuid, due: Instant, now: Instant) {
        let wait = due.saturating_duration_since(now);
        let at = self.board.now() + wait;
        self.board.change(id, |status| status.show_next(at, wait));
    }
}

/// Takes a poll that has ended now into what is known of an instance. What the vendor asks for counts although nobody
/// may want the instance polled any more: it may come back before that time.
fn take_in(past: &mut Past, polled: &Polled, started: OffsetDateTime, now: OffsetDateTime) -> Option<State> {
    past.not_before = match polled {
        Polled::Cycle(cycle, _) => Outcome::of(cycle).retry_after.map(|asked| now + asked.min(LONGEST_RETRY_AFTER)),
        Polled::NotBegun(_) => None,
    };
    match polled {
        Polled::Cycle(cycle, version) => past.polled(cycle, version.clone(), started),
        Polled::NotBegun(failure) => Some(past.not_begun(failure.clone(), started)),
    }
}

/// Waits until a time, or for ever.
async fn wait_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Whether the instance of a record means the same in another configuration, for [`super::resolve::check`].
pub(super) fn unchanged(record: &Record, config: &Config, instance: &InstanceConfig) -> bool {
    record.config.means_the_same(instance)
        && record.whole.grants.get(&instance.integration_type) == config.grants.get(&instance.integration_type)
}

#[cfg(test)]
pub(in crate::resident) mod tests;
