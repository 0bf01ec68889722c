//! The clerk: what an operator orders while the host runs is carried out, and answered.
//!
//! What: looks for orders in the state directory and does what they say with the store of the host.
//! Why beside the schedule: a tenant that leaves may have millions of artifacts; they go in portions, between which the
//! steps of others are stored.
//! Not guaranteed: that an order which was begun is finished by a host that stops. It can be given again.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::board::Board;
use super::delivery::Bell;
use super::guard::guarded;
use super::supervisor::{Refused, Supervisor};
use crate::instances::report::counted;
use crate::log::escape;
use crate::orders::{Answer, Order, OrderError, Orders, SIGN_EVERY};
use crate::store::{Instance, Store, StoreError};

/// How often orders are looked for.
const EVERY: Duration = Duration::from_millis(500);

/// Between two portions of what goes.
const PAUSE: Duration = Duration::from_millis(20);

/// Carries orders out.
#[derive(Clone)]
pub(crate) struct Clerk {
    pub(crate) orders: Orders,
    pub(crate) store: Store,
    pub(crate) supervisor: Arc<Supervisor>,
    /// Of the delivery.
    pub(crate) bell: Bell,
}

impl Clerk {
    /// Works for ever.
    pub(crate) async fn run(self, board: Arc<Board>) {
        guarded(&board, "what carries orders out", self.work()).await;
    }

    async fn work(self) {
        let (mut is_open, mut told) = (false, None);
        let mut looks = tokio::time::interval(EVERY);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let orders = self.orders.clone();
            // From a place that others could have written to nothing is taken.
            let look = move || if is_open { Ok(()) } else { orders.open() }.and_then(|()| orders.take());
            match spawn_blocking(look).await.unwrap_or_else(|_| Ok(Vec::new())) {
                Ok(taken) => {
                    (is_open, told) = (true, None);
                    for (ticket, order) in taken {
                        tokio::spawn(self.clone().carry_out(ticket, order));
                    }
                }
                Err(error) => {
                    is_open = false;
                    let text = Some(error.to_string());
                    if text != told {
                        tracing::warn!("orders to this host cannot be taken: {error}");
                    }
                    told = text;
                }
            }
        }
    }

    /// Does what is ordered, shows that it is at it, and answers.
    async fn carry_out(self, ticket: Uuid, order: Order) {
        let (removed, progress) = watch::channel(0);
        let work = self.fulfil(&order, removed);
        tokio::pin!(work);
        let mut signs = tokio::time::interval(SIGN_EVERY);
        let mut number = 0;
        let answer = loop {
            tokio::select! {
                answer = &mut work => break answer,
                _ = signs.tick() => {
                    number += 1;
                    let (orders, removed) = (self.orders.clone(), *progress.borrow());
                    tell(spawn_blocking(move || orders.sign(ticket, number, removed)).await.unwrap_or(Ok(())));
                }
            }
        };
        if let Answer::Refused { message, .. } = &answer {
            tracing::warn!("an order is refused: {}", escape(message));
        }
        let orders = self.orders.clone();
        tell(spawn_blocking(move || orders.answer(ticket, &answer)).await.unwrap_or(Ok(())));
    }

    async fn fulfil(&self, order: &Order, removed: watch::Sender<u64>) -> Answer {
        let done = match order {
            Order::BeginAgain { instance } => self.begin_again(instance).await,
            Order::Remove { instance, undelivered } => self.remove(instance, *undelivered, removed).await,
            Order::Poll { instance } => self.poll(instance).await,
            Order::DeliverAgain { instance, since } => self.deliver_again(instance, *since).await,
        };
        done.unwrap_or_else(|refused| Answer::Refused {
            code: refused.code().to_owned(),
            message: refused.to_string(),
            help: refused.help().to_owned(),
        })
    }

    async fn begin_again(&self, id: &str) -> Result<Answer, Refused> {
        let instance = self.known(id).await?;
        let (connector, name) = (instance.connector.clone(), instance.name.clone());
        let had_progress = self.supervisor.begin_again(instance).await?;
        tracing::info!(
            connector,
            instance = name,
            "{name:?} begins again, as ordered: the whole look-back is collected"
        );
        Ok(Answer::BegunAgain { had_progress })
    }

    async fn poll(&self, id: &str) -> Result<Answer, Refused> {
        let instance = self.known(id).await?;
        let (connector, name) = (instance.connector.clone(), instance.name.clone());
        self.supervisor.poll_now(instance).await?;
        tracing::info!(connector, instance = name, "{name:?} is polled now, as ordered");
        Ok(Answer::Polled)
    }

    async fn deliver_again(&self, id: &str, since: Option<OffsetDateTime>) -> Result<Answer, Refused> {
        let instance = self.known(id).await?;
        let (connector, name) = (instance.connector.clone(), instance.name.clone());
        let artifacts = self.in_store(move |store| store.deliver_again(&instance, since)).await?;
        self.bell.ring();
        let text = counted(artifacts, "artifact");
        tracing::info!(connector, instance = name, "{text} of {name:?} are delivered once more, as ordered");
        Ok(Answer::Waiting { artifacts })
    }

    async fn remove(&self, id: &str, undelivered: bool, progress: watch::Sender<u64>) -> Result<Answer, Refused> {
        let instance = self.known(id).await?;
        self.supervisor.let_go(instance.clone()).await?;
        let gone = match self.may_go(&instance, undelivered).await {
            Ok(()) => self.remove_all(&instance, progress).await,
            Err(refused) => Err(refused),
        };
        self.supervisor.removed(instance.id);
        let artifacts = counted(gone?, "artifact");
        let (connector, name) = (instance.connector, instance.name);
        tracing::info!(connector, instance = name, "{name:?} is removed with {artifacts}, as ordered");
        Ok(Answer::Removed)
    }

    /// Removes all of an instance and gives how many artifacts these were. A host that ends waits a moment for the portion at hand; what of it
    /// is not done then is not done at all.
    async fn remove_all(&self, instance: &Instance, progress: watch::Sender<u64>) -> Result<u64, Refused> {
        let instance = instance.clone();
        let work = move |store: Store| {
            store.remove_all(&instance, |removed| {
                // Nobody looks any more when the host has ended.
                let is_wanted = progress.send(removed).is_ok();
                std::thread::sleep(PAUSE);
                is_wanted
            })
        };
        self.in_store(work).await?.ok_or(Refused::Stopping)
    }

    /// Whether nothing of an instance waits for the output, or it may go all the same. Its last poll may have ended just now.
    async fn may_go(&self, instance: &Instance, undelivered: bool) -> Result<(), Refused> {
        let of = instance.clone();
        let waits = !undelivered && !self.in_store(move |store| store.undelivered(&of, 1)).await?.is_empty();
        if waits { Err(Refused::Undelivered { name: instance.name.clone() }) } else { Ok(()) }
    }

    async fn known(&self, id: &str) -> Result<Instance, Refused> {
        let id = Uuid::try_parse(id).map_err(|_| Refused::Gone)?;
        self.in_store(move |store| store.by_id(id)).await?.ok_or(Refused::Gone)
    }

    /// Does something in the store, where it may block.
    async fn in_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, Refused> {
        let store = self.store.clone();
        Ok(spawn_blocking(move || work(store)).await.map_err(|_| Refused::Stopping)??)
    }
}

/// Says that nobody learns what comes of an order.
fn tell(done: Result<(), OrderError>) {
    if let Err(error) = done {
        tracing::warn!("whoever gave an order cannot be told what comes of it: {error}");
    }
}
