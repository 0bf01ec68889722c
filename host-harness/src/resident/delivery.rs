//! The delivery: artifacts out of the outbox into the sink.
//!
//! Why a thread of its own: an output that is slow, stalled or down stops nothing but itself; polls go on and what they
//! store waits in the outbox. A file is opened anew for every delivery, so it may be moved away and another made.
//! Promise: at least once, in the order of arrival for every instance, also for instances that are gone by now.

mod progress;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use progress::{BLOCKED, BLOCKED_AFTER, Progress, watch};

use super::board::Board;
use super::guard::broken;
use crate::config::SinkConfig;
use crate::egress::NetworkOptions;
use crate::instances::failure::FailureReport;
use crate::instances::report::counted;
use crate::sinks::{BusSink, DrainError, LineForm, LinesSink, Sink, SinkError, drain};
use crate::store::{Store, StoreError, Undelivered};

/// How often the outbox is looked at even when nobody says that something is in it.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Waits after failures in a row, in seconds; the last one stays.
const WAITS: [u64; 6] = [1, 2, 5, 10, 30, 60];

/// Tells the delivery that artifacts wait.
#[derive(Clone, Debug)]
pub struct Bell {
    ring: SyncSender<()>,
}

impl Bell {
    /// Rings. It never blocks; a ring while one is unheard is the same one.
    pub fn ring(&self) {
        let _ = self.ring.try_send(());
    }
}

/// A delivery at work.
#[derive(Debug)]
pub struct Delivery {
    bell: Bell,
    last: Arc<AtomicBool>,
    ended: tokio::sync::oneshot::Receiver<()>,
}

impl Delivery {
    /// Starts; without a sink it only says that there is none.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(store: Store, output: Output, board: Arc<Board>) -> std::io::Result<Self> {
        Self::start_with(store, output, board, BLOCKED_AFTER)
    }

    fn start_with(store: Store, output: Output, board: Arc<Board>, blocked_after: Duration) -> std::io::Result<Self> {
        let runtime = match output.sink {
            // A connection is kept up also while nothing is delivered.
            SinkConfig::Bus(_) => {
                tokio::runtime::Builder::new_multi_thread().worker_threads(1).thread_name("bus").enable_all().build()?
            }
            // This one waits for nothing but the sink.
            _ => tokio::runtime::Builder::new_current_thread().build()?,
        };
        let (ring, rung) = sync_channel(1);
        let (done, ended) = tokio::sync::oneshot::channel();
        let last = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&last);
        board.change_host(|host| {
            host.sink.target = name(&output.sink);
            host.sink.is_there = output.sink != SinkConfig::None;
        });
        let progress = Arc::new(Progress::default());
        tokio::spawn(watch(Arc::downgrade(&progress), Arc::clone(&board), blocked_after));
        std::thread::Builder::new().name("delivery".to_owned()).spawn(move || {
            let board = Arc::clone(&board);
            let work = || run(&runtime, &store, &output, &board, &progress, &rung, &stop);
            if catch_unwind(AssertUnwindSafe(work)).is_err() {
                broken(&board, "the delivery");
            }
            // Whoever waited may have given up.
            let _ = done.send(());
        })?;
        Ok(Self { bell: Bell { ring }, last, ended })
    }

    /// Its bell.
    #[must_use]
    pub fn bell(&self) -> Bell {
        self.bell.clone()
    }

    /// Delivers once more and ends, waiting for that no longer than `within`.
    pub async fn stop(self, within: Duration) {
        self.last.store(true, Ordering::Release);
        self.bell.ring();
        if tokio::time::timeout(within, self.ended).await.is_err() {
            tracing::warn!("the output takes no data; what is left is delivered after the next start");
        }
    }
}

/// Where artifacts go, and how.
#[derive(Clone, Debug)]
pub struct Output {
    /// Where.
    pub sink: SinkConfig,
    /// In what form.
    pub form: LineForm,
    /// How a network is reached, where that is needed.
    pub network: NetworkOptions,
}

impl Output {
    /// Opens it, if there is one.
    async fn open(&self) -> Result<Option<Opened>, SinkError> {
        let lines = match &self.sink {
            SinkConfig::None => return Ok(None),
            SinkConfig::Stdout => LinesSink::open("-".as_ref())?,
            SinkConfig::File(path) => LinesSink::open(path)?,
            SinkConfig::Bus(config) => {
                let mut bus = BusSink::new(config.clone(), self.network.clone(), self.form);
                bus.connect().await?;
                return Ok(Some(Opened::Bus(Box::new(bus))));
            }
        };
        Ok(Some(Opened::Lines(lines.of_form(self.form))))
    }
}

/// A sink of one kind or another.
enum Opened {
    Lines(LinesSink),
    Bus(Box<BusSink>),
}

impl Opened {
    /// Lets go of what does not have to be kept.
    fn release(&mut self) {
        match self {
            Self::Lines(lines) => lines.release(),
            Self::Bus(bus) => bus.release(),
        }
    }

    async fn deliver(&mut self, artifacts: &[Undelivered]) -> Result<usize, SinkError> {
        match self {
            Self::Lines(lines) => lines.deliver(artifacts).await,
            Self::Bus(bus) => bus.deliver(artifacts).await,
        }
    }
}

impl Output {
    /// Whether it is a pipe, which can only be opened when somebody reads it.
    fn is_pipe(&self) -> bool {
        use std::os::unix::fs::FileTypeExt as _;
        let SinkConfig::File(path) = &self.sink else { return false };
        std::fs::metadata(path).is_ok_and(|file| file.file_type().is_fifo())
    }
}

/// For people.
fn name(sink: &SinkConfig) -> String {
    match sink {
        SinkConfig::None => "none".to_owned(),
        SinkConfig::Stdout => "standard output".to_owned(),
        SinkConfig::File(path) => path.display().to_string(),
        SinkConfig::Bus(config) => config.to_string(),
    }
}

/// A sink whose progress is noted, and shown: a backlog may take hours.
struct Noted<'a> {
    sink: &'a mut Opened,
    progress: &'a Progress,
    board: &'a Board,
}

impl Sink for Noted<'_> {
    async fn deliver(&mut self, artifacts: &[Undelivered]) -> Result<usize, SinkError> {
        let result = self.sink.deliver(artifacts).await;
        self.progress.moved();
        if let Ok(count) = &result {
            // That it takes something after it stood still is told by who watches.
            let was_down = self.board.host().sink.failure.is_some_and(|failure| is_down(&failure));
            self.board.change_host(|host| {
                host.sink.delivered += u64::try_from(*count).unwrap_or(u64::MAX);
                if was_down {
                    host.sink.failure = None;
                }
            });
            if was_down {
                tracing::info!("the output takes artifacts again");
            }
        }
        result
    }
}

/// Whether the output itself was found to take nothing, other than by standing still.
fn is_down(failure: &FailureReport) -> bool {
    failure.code.starts_with("output-") && failure.code != BLOCKED
}

fn run(
    runtime: &Runtime,
    store: &Store,
    output: &Output,
    board: &Board,
    progress: &Progress,
    rung: &Receiver<()>,
    stop: &AtomicBool,
) {
    let mut failures = 0_usize;
    let mut opened = None;
    loop {
        let last = stop.load(Ordering::Acquire);
        // Nothing has to be looked for where nothing takes it.
        let result = match output.sink {
            SinkConfig::None => Ok(None),
            _ => round(runtime, store, output, &mut opened, board, progress),
        };
        progress.rests();
        let wait = match result {
            Ok(undelivered) => {
                let before = board.host().sink.failure;
                // Nothing had to be delivered, or that was told.
                if before.as_ref().is_some_and(is_down) {
                    tracing::info!("the output takes artifacts again");
                }
                failures = 0;
                let rest = if undelivered.as_ref().is_some_and(|left| left.alone) {
                    ""
                } else {
                    " Those of all others are delivered."
                };
                let failure = undelivered.map(|left| left.report());
                if let Some(failure) = failure.as_ref().filter(|failure| before.as_ref() != Some(*failure)) {
                    tracing::error!("delivery failed: {}{rest}", failure.sentence());
                }
                board.change_host(|host| host.sink.failure = failure);
                LOOK_EVERY
            }
            Err(error) => {
                let failure = FailureReport::from(&error);
                // Or it has taken something since that was said.
                if failures == 0 || board.host().sink.failure.is_none() {
                    tracing::error!("delivery failed: {}", failure.sentence());
                }
                board.change_host(|host| host.sink.failure = Some(failure));
                failures += 1;
                Duration::from_secs(WAITS.get(failures - 1).or(WAITS.last()).copied().unwrap_or(60))
            }
        };
        if last {
            return;
        }
        if !rest(rung, wait, failures > 0, stop) {
            return;
        }
    }
}

/// Waits for the time, or for a bell. While the output is down only that of a stop shortens the wait. False when nobody
/// can ring any more.
fn rest(rung: &Receiver<()>, wait: Duration, is_down: bool, stop: &AtomicBool) -> bool {
    let begun = Instant::now();
    loop {
        match rung.recv_timeout(wait.saturating_sub(begun.elapsed())) {
            Ok(()) if is_down && !stop.load(Ordering::Acquire) => {}
            Ok(()) | Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
    }
}

/// What could not be delivered, while that of other instances could have been.
struct Left {
    /// The first instance that has some.
    instance: String,
    /// Why.
    error: DrainError,
    /// How many more have some, for reasons of their own.
    others: usize,
    /// Whether nothing else could be delivered.
    alone: bool,
}

impl Left {
    fn report(&self) -> FailureReport {
        let failure = FailureReport::from(&self.error);
        let (of_others, why) = match self.others {
            0 => (String::new(), ""),
            others => {
                let others = counted(u64::try_from(others).unwrap_or(u64::MAX), "other instance");
                (format!(" and of {others}"), ", the first because")
            }
        };
        let message =
            format!("artifacts of {:?}{of_others} cannot be delivered{why}: {}", self.instance, failure.message);
        FailureReport { message, ..failure }
    }
}

/// Delivers all that waits. `opened` is kept from round to round, because it knows what it has cut off, and because whoever
/// reads a pipe takes its end for the end of all. What is damaged, or too large, of one instance holds up no other, and is
/// given; where the output has failed, nothing more is tried. A disk that fails may have failed at one place: it is told of the
/// instances that lie there, unless nothing can be read.
fn round(
    runtime: &Runtime,
    store: &Store,
    output: &Output,
    opened: &mut Option<Opened>,
    board: &Board,
    progress: &Progress,
) -> Result<Option<Left>, DrainError> {
    let waiting = store.waiting()?;
    if waiting.is_empty() && (opened.is_some() || output.is_pipe()) {
        return Ok(None);
    }
    progress.moved();
    let sink = match opened {
        Some(opened) => opened,
        // Also when nothing waits: an output that cannot be opened shows before there is something for it.
        None => match runtime.block_on(output.open())? {
            Some(sink) => opened.insert(sink),
            None => return Ok(None),
        },
    };
    let mut undelivered: Option<Left> = None;
    let (mut delivers, mut is_of_disk) = (false, true);
    for instance in waiting {
        let mut noted = Noted { sink, progress, board };
        match runtime.block_on(drain(store, &instance, &mut noted, &mut 0)) {
            Ok(()) => delivers = true,
            Err(error) if is_of_one(&error) || may_be_of_one(&error) => {
                is_of_disk &= !is_of_one(&error);
                match &mut undelivered {
                    Some(left) => left.others += 1,
                    None => undelivered = Some(Left { instance: instance.name, error, others: 0, alone: false }),
                }
            }
            Err(error) => {
                sink.release();
                return Err(error);
            }
        }
    }
    match undelivered {
        Some(left) if is_of_disk && !delivers => {
            sink.release();
            Err(left.error)
        }
        left => Ok(left.map(|left| Left { alone: !delivers, ..left })),
    }
}

/// Whether what the disk could not give may lie at one place, so that the rest can be read.
fn may_be_of_one(error: &DrainError) -> bool {
    matches!(error, DrainError::Store(StoreError::Sql { .. }))
}

/// Whether artifacts of other instances can be delivered all the same. A database that is busy, full or gone is so for all.
fn is_of_one(error: &DrainError) -> bool {
    match error {
        DrainError::Store(error) => error.is_of_what_is_stored(),
        DrainError::Sink(error) => error.is_of_one(),
    }
}

#[cfg(test)]
mod tests;
