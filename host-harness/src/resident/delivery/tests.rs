//! Deliveries into files, pipes, and outputs that are not there.

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

fn output(sink: SinkConfig) -> Output {
    Output { sink, form: LineForm::Artifact, network: NetworkOptions::default() }
}

#[tokio::test]
async fn everything_in_the_outbox_is_delivered_also_of_instances_nobody_polls_any_more() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = Store::open(&dir.path().join("state")).expect("store");
    let board = Arc::new(Board::new(Arc::new(|| NOW), 1));
    put(&store, "gone", 1..4);
    let file = dir.path().join("out");
    let delivery =
        Delivery::start(store.clone(), output(SinkConfig::File(file.clone())), Arc::clone(&board)).expect("start");
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
    let mut lines = Opened::Lines(LinesSink::open(&dir.path().join("out")).expect("opened"));
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
    let start =
        || Delivery::start(store.clone(), output(SinkConfig::File(file.clone())), Arc::clone(&board)).expect("start");
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
    let delivery = Delivery::start(store, output(missing), Arc::clone(&board)).expect("start");
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
    let delivery = Delivery::start(store, output(sink), Arc::clone(&board)).expect("start");
    delivery.stop(Duration::from_secs(60)).await;
    let host = board.host();
    assert_eq!((lines(&file), host.sink.delivered), (2, 2));
    let failure = host.sink.failure.expect("it is told");
    assert!(failure.code.starts_with("state-") && failure.message.contains("\"first\""), "{failure:?}");
}

#[tokio::test]
async fn what_cannot_be_read_of_some_instances_is_told_of_all_of_them() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = Store::open(&dir.path().join("state")).expect("store");
    let board = Arc::new(Board::new(Arc::new(|| NOW), 1));
    for (name, number) in [("first", 1), ("second", 2), ("third", 3), ("fourth", 4)] {
        put(&store, name, number..number + 1);
    }
    let damaged = rusqlite::Connection::open(dir.path().join("state/state.sqlite")).expect("open");
    damaged.execute("UPDATE artifact SET id = x'0102' WHERE seq IN (1, 2, 4)", []).expect("damaged");
    drop(damaged);
    let file = dir.path().join("out");
    let delivery = Delivery::start(store, output(SinkConfig::File(file.clone())), Arc::clone(&board)).expect("start");
    delivery.stop(Duration::from_secs(60)).await;
    let failure = board.host().sink.failure.expect("it is told");
    let told = "artifacts of \"first\" and of 2 other instances cannot be delivered, the first because: ";
    assert!(failure.message.starts_with(told), "{failure:?}");
    assert_eq!(lines(&file), 1, "and all others are delivered");
}

#[tokio::test]
async fn a_store_in_which_nothing_can_be_read_is_not_told_as_the_trouble_of_one_instance() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = Store::open(&dir.path().join("state")).expect("store");
    let board = Arc::new(Board::new(Arc::new(|| NOW), 1));
    put(&store, "first", 1..4);
    put(&store, "second", 4..6);
    let rename = |from: &str, to: &str| {
        let other = rusqlite::Connection::open(dir.path().join("state/state.sqlite")).expect("open");
        other.execute_batch(&format!("ALTER TABLE {from} RENAME TO {to}")).expect("renamed");
    };
    rename("artifact", "aside");
    let file = dir.path().join("out");
    let start = || {
        let sink = SinkConfig::File(file.clone());
        Delivery::start(store.clone(), output(sink), Arc::clone(&board)).expect("start")
    };
    start().stop(Duration::from_secs(60)).await;
    let failure = board.host().sink.failure.expect("it is told");
    assert_eq!(failure.code, "state-failed");
    assert!(failure.message.starts_with("the database ") && !failure.message.contains("first"), "{failure:?}");
    rename("aside", "artifact");
    start().stop(Duration::from_secs(60)).await;
    assert_eq!((lines(&file), board.host().sink.failure), (5, None));
}

#[test]
fn a_disk_that_fails_fails_for_all_and_a_row_that_is_damaged_for_its_instance() {
    use rusqlite::{Error, ffi, types::Type};
    let of_sqlite = |code| Error::SqliteFailure(ffi::Error::new(code), None);
    let store = |source| DrainError::Store(StoreError::Sql { path: "state.sqlite".into(), source });
    for code in [ffi::SQLITE_IOERR, ffi::SQLITE_IOERR_READ, ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_NOMEM] {
        assert!(!is_of_one(&store(of_sqlite(code))), "{code}");
    }
    let failure = FailureReport::from(&store(of_sqlite(ffi::SQLITE_IOERR_READ)));
    assert!(failure.sentence().contains("disk I/O error (state-failed). Look at the disk"), "{}", failure.sentence());
    assert!(is_of_one(&store(Error::InvalidColumnType(1, "id".into(), Type::Blob))));
    let (path, detail) = ("state.sqlite".into(), String::new());
    assert!(is_of_one(&DrainError::Store(StoreError::Corrupt { path, detail })));
    let source = std::io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error());
    assert!(!is_of_one(&DrainError::Sink(SinkError::Write { output: "out".into(), source })));
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
    let delivery = Delivery::start(store.clone(), output(sink), board).expect("start");
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
    let delivery = Delivery::start_with(store.clone(), output(sink), Arc::clone(&board), after).expect("start");
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
    let delivery = Delivery::start(store.clone(), output(SinkConfig::None), Arc::clone(&board)).expect("start");
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
        Delivery::start(store.clone(), output(SinkConfig::File(file.clone())), Arc::clone(&board)).expect("start");
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
