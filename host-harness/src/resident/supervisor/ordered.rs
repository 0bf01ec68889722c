//! What operators order for single instances: to begin again, or to leave for good.
//!
//! Why here: between two polls of an instance only, or a poll that began before would store its progress over what was
//! ordered. An order waits for the poll, or the canary step, at hand, and no other is begun before it.
//! Not guaranteed: that it is fulfilled at once; a poll may take minutes.

use tokio::sync::oneshot;
use tokio::time::Instant;
use uuid::Uuid;

use super::{Command, Supervisor, Work, live};
use crate::locks::lock;
use crate::resident::status::State;
use crate::schedule::BackOff;
use crate::store::{Instance, StoreError};

/// An order.
pub(super) struct Wish {
    pub(super) instance: Instance,
    pub(super) what: What,
}

/// What is ordered, and who waits for it.
pub(super) enum What {
    /// Its progress goes, and it is polled soon.
    BeginAgain(oneshot::Sender<Result<bool, Refused>>),
    /// It is polled now.
    Poll(oneshot::Sender<Result<(), Refused>>),
    /// It does not come back until it is told to be removed.
    LetGo(oneshot::Sender<Result<(), Refused>>),
}

/// Why an order is not fulfilled.
#[derive(Debug, thiserror::Error)]
pub(in crate::resident) enum Refused {
    /// It is in the configuration.
    #[error("{name:?} is in the configuration")]
    Configured {
        /// Its name.
        name: String,
    },
    /// It is not polled at all.
    #[error("{name:?} is disabled, or not in the configuration")]
    NotPolled {
        /// Its name.
        name: String,
    },
    /// Something of it waits for the output.
    #[error("no output has taken all artifacts of {name:?} yet")]
    Undelivered {
        /// Its name.
        name: String,
    },
    /// It is there no more.
    #[error("the instance is gone")]
    Gone,
    /// The store cannot do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The host is stopping.
    #[error("the host is stopping")]
    Stopping,
}

impl Refused {
    /// A stable name of the reason.
    pub(in crate::resident) fn code(&self) -> &'static str {
        match self {
            Self::Configured { .. } => "instance-configured",
            Self::NotPolled { .. } => "instance-not-polled",
            Self::Undelivered { .. } => "instance-undelivered",
            Self::Gone => "instance-unknown",
            Self::Store(error) => error.code(),
            Self::Stopping => "host-stopping",
        }
    }

    /// What the operator can do, without a full stop at the end.
    pub(in crate::resident) fn help(&self) -> &'static str {
        match self {
            Self::Configured { .. } => "take it out first, which the host notices within ten seconds",
            Self::NotPolled { .. } => "enable it in the configuration",
            Self::Undelivered { .. } => "wait until they are delivered, or add --undelivered to remove them as well",
            Self::Gone => "see `host-harness instances list`",
            Self::Store(error) => error.help(),
            Self::Stopping => "do it again when it has stopped",
        }
    }
}

impl Supervisor {
    /// Lets an instance begin again, between two polls: its next one, within seconds, collects the whole look-back. Tells
    /// whether there was any progress.
    pub(in crate::resident) async fn begin_again(&self, instance: Instance) -> Result<bool, Refused> {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::Order(Wish { instance, what: What::BeginAgain(reply) }));
        answer.await.unwrap_or(Err(Refused::Stopping))
    }

    /// Polls an instance at once, whatever it waits for: its interval, a back-off, or that its vendor asked for a pause. A poll at
    /// hand is the one.
    pub(in crate::resident) async fn poll_now(&self, instance: Instance) -> Result<(), Refused> {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::Order(Wish { instance, what: What::Poll(reply) }));
        answer.await.unwrap_or(Err(Refused::Stopping))
    }

    /// Lets go of an instance that is in the configuration no more, once its last poll has ended: until
    /// [`Supervisor::removed`] it does not come back, so that it can be removed.
    pub(in crate::resident) async fn let_go(&self, instance: Instance) -> Result<(), Refused> {
        let (reply, answer) = oneshot::channel();
        let _ = self.commands.send(Command::Order(Wish { instance, what: What::LetGo(reply) }));
        answer.await.unwrap_or(Err(Refused::Stopping))
    }

    /// Says that an instance which was let go of may come back: as a new one, if it was removed.
    pub(in crate::resident) fn removed(&self, id: Uuid) {
        let _ = self.commands.send(Command::Removed(id));
    }
}

impl Work {
    /// Fulfils the orders whose instances are not busy. `is_kept`: whether nothing of instances is being kept at this moment.
    pub(super) async fn fulfil(&mut self, is_kept: bool) {
        for wish in std::mem::take(&mut self.wishes) {
            let id = wish.instance.id;
            match wish.what {
                What::LetGo(reply) if lock(&self.records).contains_key(&id) => {
                    // Whoever asked may have gone.
                    let _ = reply.send(Err(Refused::Configured { name: wish.instance.name }));
                }
                What::Poll(reply) => {
                    let _ = reply.send(self.poll_now(wish.instance));
                }
                What::LetGo(reply) if is_kept && live::begin(&self.turns, id) => {
                    self.leaving.remove(&id);
                    self.dirty.remove(&id);
                    self.leaving_for_good.insert(id);
                    live::end(&self.turns, id);
                    let _ = reply.send(Ok(()));
                }
                What::BeginAgain(reply) if is_kept && live::begin(&self.turns, id) => {
                    let done = self.begin_again(wish.instance).await;
                    live::end(&self.turns, id);
                    let _ = reply.send(done);
                }
                _ => self.wishes.push(wish),
            }
        }
    }

    fn poll_now(&mut self, instance: Instance) -> Result<(), Refused> {
        let (id, now) = (instance.id, Instant::now());
        let Some(entry) = self.entries.get_mut(&id) else { return Err(Refused::NotPolled { name: instance.name }) };
        if self.in_flight.contains_key(&id) {
            return Ok(());
        }
        entry.not_before = None;
        self.board.change(id, |status| status.past.not_before = None);
        self.dirty.insert(id);
        self.set_due(id, now);
        self.show_next(id, now, now);
        Ok(())
    }

    async fn begin_again(&mut self, instance: Instance) -> Result<bool, Refused> {
        let (id, store) = (instance.id, self.store.clone());
        // Whatever panics there was told; the order can be given again.
        let done = tokio::task::spawn_blocking(move || store.begin_again(&instance)).await;
        let had_progress = done.map_err(|_| Refused::Stopping)??;
        if let Some((_, past)) = self.leaving.get_mut(&id) {
            past.begin_again();
        }
        let wall = self.board.now();
        let begun = self.board.change(id, |status| {
            status.past.begin_again();
            status.back_off = None;
            if status.state != State::Disabled {
                (status.state, status.since) = (State::Starting, wall);
            }
        });
        if begun.is_some() || self.leaving.contains_key(&id) {
            self.dirty.insert(id);
        }
        let now = Instant::now();
        if let Some(entry) = self.entries.get_mut(&id) {
            (entry.not_before, entry.back_off, entry.went_wrong) = (None, BackOff::default(), false);
            let due = entry.soon(id, now);
            self.set_due(id, due);
            self.show_next(id, due, now);
        }
        Ok(had_progress)
    }

    /// The first of some instances, by its place, that is being removed at this moment.
    pub(super) fn being_removed<'a>(&self, mut instances: impl Iterator<Item = &'a Uuid>) -> Option<usize> {
        instances.position(|id| self.leaving_for_good.contains(id))
    }
}
