//! The delivery: artifacts out of the outbox into the sink.
//!
//! Why a thread of its own: an output that is slow, stalled or down stops nothing but itself; polls go on and what they
//! store waits in the outbox. A file is opened anew for every delivery, so it may be moved away and another made.
//! Why it is watched: writing to a pipe that nobody reads ends only when somebody does, and says nothing meanwhile.
//! Promise: at least once, in the order of arrival for every instance, also for instances that are gone by now.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use super::board::Board;
use super::guard::broken;
use crate::config::SinkConfig;
use crate::instances::failure::FailureReport;
use crate::locks::lock;
use crate::sinks::{DrainError, LineForm, LinesSink, Sink, SinkError, drain};
use crate::store::{Store, Undelivered};

/// How often the outbox is looked at even when nobody says that something is in it.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Waits after failures in a row, in seconds; the last one stays.
const WAITS: [u64; 6] = [1, 2, 5, 10, 30, 60];

/// How long an output may take nothing of what it is given before that is told.
const BLOCKED_AFTER: Duration = Duration::from_secs(60);

/// The code of that.
const BLOCKED: &str = "output-blocked";

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
    pub fn start(store: Store, sink: SinkConfig, form: LineForm, board: Arc<Board>) -> std::io::Result<Self> {
        Self::start_with(store, sink, form, board, BLOCKED_AFTER)
    }

    fn start_with(
        store: Store,
        sink: SinkConfig,
        form: LineForm,
        board: Arc<Board>,
        blocked_after: Duration,
    ) -> std::io::Result<Self> {
        // Sinks are asynchronous; this one waits for nothing but them.
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        let (ring, rung) = sync_channel(1);
        let (done, ended) = tokio::sync::oneshot::channel();
        let last = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&last);
        board.change_host(|host| {
            host.sink.target = name(&sink);
            host.sink.is_there = sink != SinkConfig::None;
        });
        let progress = Arc::new(Progress::default());
        tokio::spawn(watch(Arc::downgrade(&progress), Arc::clone(&board), blocked_after));
        std::thread::Builder::new().name("delivery".to_owned()).spawn(move || {
            let board = Arc::clone(&board);
            let work = || run(&runtime, &store, &Output { sink, form }, &board, &progress, &rung, &stop);
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
struct Output {
    sink: SinkConfig,
    form: LineForm,
}

impl Output {
    /// Opens it, if there is one.
    fn open(&self) -> Result<Option<LinesSink>, SinkError> {
        let lines = match &self.sink {
            SinkConfig::None => return Ok(None),
            SinkConfig::Stdout => LinesSink::open("-".as_ref())?,
            SinkConfig::File(path) => LinesSink::open(path)?,
        };
        Ok(Some(lines.of_form(self.form)))
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
    }
}

/// Since when the output has been given something and has taken nothing.
#[derive(Debug, Default)]
struct Progress(Mutex<Option<Instant>>);

impl Progress {
    /// Something begins, or went on.
    fn moved(&self) {
        *lock(&self.0) = Some(Instant::now());
    }

    /// Nothing is to be delivered.
    fn rests(&self) {
        *lock(&self.0) = None;
    }

    fn stands_for(&self, time: Duration) -> bool {
        lock(&self.0).is_some_and(|since| since.elapsed() >= time)
    }
}

/// A sink whose progress is noted, and shown: a backlog may take hours.
struct Noted<'a> {
    sink: &'a mut LinesSink,
    progress: &'a Progress,
    board: &'a Board,
}

impl Sink for Noted<'_> {
    async fn deliver(&mut self, artifacts: &[Undelivered]) -> Result<(), SinkError> {
        let result = self.sink.deliver(artifacts).await;
        self.progress.moved();
        if result.is_ok() {
            // That it takes something after it stood still is told by who watches.
            let was_down = self.board.host().sink.failure.is_some_and(|failure| failure.code != BLOCKED);
            self.board.change_host(|host| {
                host.sink.delivered += u64::try_from(artifacts.len()).unwrap_or(u64::MAX);
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

/// Tells of an output that takes nothing, and when it takes something again, as long as there is a delivery.
async fn watch(progress: Weak<Progress>, board: Arc<Board>, blocked_after: Duration) {
    let mut was_blocked = false;
    loop {
        tokio::time::sleep(blocked_after / 12).await;
        let Some(progress) = progress.upgrade() else { return };
        let is_blocked = progress.stands_for(blocked_after);
        if is_blocked == was_blocked {
            continue;
        }
        was_blocked = is_blocked;
        let failure = is_blocked.then(|| {
            let message = format!("the output has taken nothing for {} s", blocked_after.as_secs());
            FailureReport::new(BLOCKED, &message, "Look whether what reads it still runs; nothing is lost meanwhile.")
        });
        match &failure {
            Some(failure) => tracing::error!("delivery stands still: {}", failure.sentence()),
            None => tracing::info!("the output takes something again"),
        }
        board.change_host(|host| {
            // What the delivery itself has found out since is newer.
            if host.sink.failure.as_ref().is_none_or(|told| told.code == BLOCKED) {
                host.sink.failure = failure;
            }
        });
    }
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
    let mut lines = None;
    loop {
        let last = stop.load(Ordering::Acquire);
        // Nothing has to be looked for where nothing takes it.
        let result = match output.sink {
            SinkConfig::None => Ok(()),
            _ => round(runtime, store, output, &mut lines, board, progress),
        };
        progress.rests();
        let wait = match result {
            Ok(()) => {
                // Nothing had to be delivered, or that was told.
                if board.host().sink.failure.is_some_and(|failure| failure.code != BLOCKED) {
                    tracing::info!("the output takes artifacts again");
                }
                failures = 0;
                board.change_host(|host| host.sink.failure = None);
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

/// Delivers all that waits. `lines` is kept from round to round, because it knows what it has cut off, and because whoever
/// reads a pipe takes its end for the end of all. What cannot be read of one instance holds up no other.
fn round(
    runtime: &Runtime,
    store: &Store,
    output: &Output,
    lines: &mut Option<LinesSink>,
    board: &Board,
    progress: &Progress,
) -> Result<(), DrainError> {
    let waiting = store.waiting()?;
    if waiting.is_empty() && (lines.is_some() || output.is_pipe()) {
        return Ok(());
    }
    progress.moved();
    let lines = match lines {
        Some(lines) => lines,
        // Also when nothing waits: an output that cannot be opened shows before there is something for it.
        None => match output.open()? {
            Some(opened) => lines.insert(opened),
            None => return Ok(()),
        },
    };
    let mut unread = None;
    for instance in waiting {
        let mut noted = Noted { sink: lines, progress, board };
        match runtime.block_on(drain(store, &instance, &mut noted, &mut 0)) {
            Ok(()) => {}
            Err(error @ DrainError::Sink(_)) => {
                lines.release();
                return Err(error);
            }
            Err(error @ DrainError::Store(_)) => {
                tracing::debug!(instance = instance.name, "its artifacts cannot be read: {error}");
                unread.get_or_insert(error);
            }
        }
    }
    unread.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use time::OffsetDateTime;

    use super::*;
    use crate::contract::types::{Artifact, Batch};

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn put(store: &Store, instance: &str, numbers: std::ops::Range<u128>) {
        let artifact = |number| {
            let id = uuid::Uuid::from_u128(number).to_string();
            Artifact { json: format!(r#"{{"id":"{id}"}}"#), id, stream: "events".into() }
        };
        let batch = Batch {
            artifacts: numbers.map(artifact).collect(),
            checkpoint: Vec::new(),
            more: false,
            reports: Vec::new(),
            retry_after_seconds: None,
            hint: None,
        };
        let instance = store.instance(instance, "acme", NOW).expect("instance");
        store.commit_step(&instance, &batch, NOW).expect("commit");
    }

    fn lines(file: &Path) -> usize {
        std::fs::read_to_string(file).map_or(0, |text| text.lines().count())
    }

    #[tokio::test]
    async fn everything_in_the_outbox_is_delivered_also_of_instances_nobody_polls_any_more() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(&dir.path().join("state")).expect("store");
        let board = Arc::new(Board::new(Arc::new(|| NOW), 1));
        put(&store, "gone", 1..4);
        let file = dir.path().join("out");
        let delivery =
            Delivery::start(store.clone(), SinkConfig::File(file.clone()), LineForm::Artifact, Arc::clone(&board))
                .expect("start");
        put(&store, "acme", 4..6);
        delivery.bell().ring();
        delivery.stop(Duration::from_secs(60)).await;
        assert_eq!((lines(&file), board.host().sink.delivered), (5, 5));
        assert_eq!(store.waiting().expect("waiting"), []);
    }

    #[tokio::test]
    async fn an_output_that_has_taken_a_part_of_a_backlog_is_not_down_any_more() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(&dir.path().join("state")).expect("store");
        put(&store, "acme", 1..4);
        let instance = store.instance("acme", "acme", NOW).expect("instance");
        let board = Board::new(Arc::new(|| NOW), 1);
        board.change_host(|host| host.sink.failure = Some(FailureReport::new("output-failed", "it is full", "")));
        let mut lines = LinesSink::open(&dir.path().join("out")).expect("opened");
        let progress = Progress::default();
        let portion = store.undelivered(&instance, 2).expect("undelivered");
        Noted { sink: &mut lines, progress: &progress, board: &board }.deliver(&portion).await.expect("delivered");
        assert_eq!((board.host().sink.failure, board.host().sink.delivered), (None, 2));
    }

    #[tokio::test]
    async fn an_output_that_is_down_is_told_on_the_board_and_loses_nothing() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(&dir.path().join("state")).expect("store");
        let board = Arc::new(Board::new(Arc::new(|| NOW), 1));
        put(&store, "acme", 1..4);
        let file = dir.path().join("missing/out");
        let start = || {
            Delivery::start(store.clone(), SinkConfig::File(file.clone()), LineForm::Artifact, Arc::clone(&board))
                .expect("start")
        };
        start().stop(Duration::from_secs(60)).await;
        let failure = board.host().sink.failure.expect("failure");
        assert_eq!(failure.code, "output-unwritable");
        std::fs::create_dir(dir.path().join("missing")).expect("directory");
        start().stop(Duration::from_secs(60)).await;
        assert_eq!((lines(&file), board.host().sink.failure), (3, None));
    }

    #[tokio::test]
    async fn an_output_that_cannot_be_opened_is_told_before_there_is_anything_for_it() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(&dir.path().join("state")).expect("store");
        let board = Arc::new(Board::new(Arc::new(|| NOW), 1));
        let missing = SinkConfig::File(dir.path().join("missing/out"));
        let delivery = Delivery::start(store, missing, LineForm::Artifact, Arc::clone(&board)).expect("start");
        delivery.stop(Duration::from_secs(60)).await;
        let failure = board.host().sink.failure.expect("failure");
        assert_eq!(failure.code, "output-unwritable");
    }

    #[tokio::test]
    async fn what_cannot_be_read_of_one_instance_holds_up_no_other_and_is_told() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(&dir.path().join("state")).expect("store");
        let board = Arc::new(Board::new(Arc::new(|| NOW), 1));
        put(&store, "first", 1..4);
        put(&store, "second", 4..6);
        let damaged = rusqlite::Connection::open(dir.path().join("state/state.sqlite")).expect("open");
        damaged.execute("UPDATE artifact SET id = x'0102' WHERE seq = 2", []).expect("damaged");
        drop(damaged);
        let file = dir.path().join("out");
        let sink = SinkConfig::File(file.clone());
        let delivery = Delivery::start(store, sink, LineForm::Artifact, Arc::clone(&board)).expect("start");
        delivery.stop(Duration::from_secs(60)).await;
        let host = board.host();
        assert_eq!((lines(&file), host.sink.delivered), (2, 2));
        assert!(host.sink.failure.is_some_and(|failure| failure.code.starts_with("state-")));
    }

    #[tokio::test]
    async fn a_pipe_stays_open_from_one_delivery_to_the_next() {
        use std::io::{BufRead as _, BufReader};
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(&dir.path().join("state")).expect("store");
        let board = Arc::new(Board::new(Arc::new(|| NOW), 1));
        let pipe = dir.path().join("pipe");
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0).expect("pipe");
        let (read, mut taken) = tokio::sync::mpsc::unbounded_channel();
        let (path, sink) = (pipe.clone(), SinkConfig::File(pipe));
        let reader = std::thread::spawn(move || {
            // One reader, which goes when the pipe has ended.
            let all = BufReader::new(std::fs::File::open(path).expect("open")).lines();
            all.map_while(Result::ok).filter(|line| read.send(line.clone()).is_ok()).count()
        });
        put(&store, "acme", 1..4);
        let delivery = Delivery::start(store.clone(), sink, LineForm::Artifact, board).expect("start");
        for _ in 0..3 {
            taken.recv().await.expect("a line");
        }
        put(&store, "acme", 4..6);
        delivery.bell().ring();
        for _ in 0..2 {
            taken.recv().await.expect("the reader is still there");
        }
        delivery.stop(Duration::from_secs(60)).await;
        assert_eq!(reader.join().expect("reader"), 5);
    }

    #[tokio::test]
    async fn an_output_that_takes_nothing_is_told_until_it_does() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(&dir.path().join("state")).expect("store");
        let board = Arc::new(Board::new(Arc::new(|| NOW), 1));
        put(&store, "acme", 1..4);
        let pipe = dir.path().join("pipe");
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, mode, 0).expect("pipe");
        let (sink, after) = (SinkConfig::File(pipe.clone()), Duration::from_millis(200));
        let delivery =
            Delivery::start_with(store.clone(), sink, LineForm::Artifact, Arc::clone(&board), after).expect("start");
        let until = async |is_blocked: bool| {
            for _ in 0..1_000 {
                let failure = board.host().sink.failure;
                if failure.as_ref().is_some_and(|failure| failure.code == BLOCKED) == is_blocked {
                    return failure;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            panic!("not within ten seconds: {is_blocked}");
        };
        until(true).await;
        let reader = std::thread::spawn(move || std::fs::read_to_string(pipe).expect("read"));
        assert_eq!(until(false).await, None);
        delivery.stop(Duration::from_secs(60)).await;
        assert_eq!((reader.join().expect("reader").lines().count(), board.host().sink.delivered), (3, 3));
    }

    #[tokio::test]
    async fn without_a_sink_everything_stays_in_the_store() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(&dir.path().join("state")).expect("store");
        let board = Arc::new(Board::new(Arc::new(|| NOW), 1));
        put(&store, "acme", 1..4);
        let delivery =
            Delivery::start(store.clone(), SinkConfig::None, LineForm::Artifact, Arc::clone(&board)).expect("start");
        delivery.stop(Duration::from_secs(60)).await;
        assert_eq!((store.counts().expect("counts").undelivered, board.host().sink.target.as_str()), (3, "none"));
    }

    #[test]
    fn while_the_output_is_down_only_a_stop_shortens_the_wait() {
        let (ring, rung) = sync_channel(1);
        let stop = Arc::new(AtomicBool::new(false));
        let wait = Duration::from_millis(300);
        let begun = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..5 {
                    let _ = ring.try_send(());
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
            assert!(rest(&rung, wait, true, &stop));
        });
        assert!(begun.elapsed() >= wait, "{:?}", begun.elapsed());
        let begun = Instant::now();
        ring.try_send(()).expect("rung");
        assert!(rest(&rung, Duration::from_secs(60), false, &stop));
        stop.store(true, Ordering::Release);
        ring.try_send(()).expect("rung");
        assert!(rest(&rung, Duration::from_secs(60), true, &stop));
        assert!(begun.elapsed() < Duration::from_secs(30));
    }

    #[tokio::test]
    async fn an_output_that_comes_back_is_used_without_a_bell() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(&dir.path().join("state")).expect("store");
        let board = Arc::new(Board::new(Arc::new(|| NOW), 1));
        put(&store, "acme", 1..4);
        let file = dir.path().join("missing/out");
        let delivery =
            Delivery::start(store.clone(), SinkConfig::File(file.clone()), LineForm::Artifact, Arc::clone(&board))
                .expect("start");
        while board.host().sink.failure.is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        std::fs::create_dir(dir.path().join("missing")).expect("directory");
        for _ in 0..1_000 {
            if lines(&file) == 3 {
                return drop(delivery);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nothing was delivered within ten seconds");
    }
}
