//! Files and pipes that are cut off, moved away, removed or full.

use std::fs;

use time::OffsetDateTime;
use uuid::Uuid;

use super::super::{DrainError, drain};
use super::*;
use crate::contract::types::{Artifact, Batch};
use crate::store::{Instance, Store};

const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

/// A store with artifacts of these numbers waiting for delivery.
fn waiting(dir: &Path, numbers: std::ops::Range<u128>) -> (Store, Instance) {
    let store = Store::open(&dir.join("state")).expect("store");
    let instance = store.instance("acme", "acme-siem", NOW).expect("instance");
    let artifacts = numbers
        .map(|number| {
            let id = Uuid::from_u128(number).to_string();
            Artifact { json: format!(r#"{{"id":"{id}"}}"#), id, stream: "alerts".into() }
        })
        .collect();
    let batch = Batch {
        artifacts,
        checkpoint: Vec::new(),
        more: false,
        reports: Vec::new(),
        retry_after_seconds: None,
        hint: None,
    };
    store.commit_step(&instance, &batch, NOW).expect("commit");
    (store, instance)
}

fn ids(file: &Path) -> Vec<u128> {
    let text = fs::read_to_string(file).expect("output");
    let id = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(Uuid::try_parse(value.get("id")?.as_str()?).ok()?.as_u128())
    };
    text.lines().map(|line| id(line).unwrap_or_else(|| panic!("bad line {line:?}"))).collect()
}

#[tokio::test]
async fn a_line_says_whose_it_is_when_that_is_wanted() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("out.jsonl");
    let (store, instance) = waiting(dir.path(), 1..2);
    let mut sink = LinesSink::open(&file).expect("sink").of_form(LineForm::WithInstance);
    drain(&store, &instance, &mut sink, &mut 0).await.expect("drained");
    let id = "00000000-0000-0000-0000-000000000001";
    assert_eq!(
        fs::read_to_string(&file).expect("output"),
        format!(
            "{{\"instance\":\"acme\",\"id\":\"{id}\",\"stream\":\"alerts\",\"stored\":\"1970-01-01T00:00:00Z\",\"artifact\":{{\"id\":\"{id}\"}}}}\n"
        )
    );
}

#[tokio::test]
async fn artifacts_are_appended_one_a_line_and_leave_the_outbox() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("out.jsonl");
    fs::write(&file, "{\"id\":\"00000000-0000-0000-0000-000000000063\"}\n").expect("file");
    let (store, instance) = waiting(dir.path(), 1..2_501);
    let mut delivered = 0;
    let mut sink = LinesSink::open(&file).expect("sink");
    drain(&store, &instance, &mut sink, &mut delivered).await.expect("drained");
    assert_eq!(delivered, 2_500);
    assert_eq!(ids(&file), std::iter::once(99).chain(1..2_501).collect::<Vec<_>>());
    drain(&store, &instance, &mut sink, &mut delivered).await.expect("nothing left");
    assert_eq!(delivered, 2_500);
}

/// Keeps what was written at a time.
struct Pieces(Vec<Vec<u8>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.push(bytes.to_vec());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn lines_are_written_some_at_a_time_and_whole() {
    let dir = tempfile::tempdir().expect("temporary directory");
    // Lines of 46 bytes.
    let count = u32::try_from(3 * BUFFER / 46).expect("few");
    let (store, instance) = waiting(dir.path(), 0..count.into());
    let artifacts = store.undelivered(&instance, count).expect("waiting");
    let mut pieces = Pieces(Vec::new());
    lines(&mut pieces, false, LineForm::Artifact, &artifacts).expect("written");
    assert!((3..6).contains(&pieces.0.len()), "{} pieces", pieces.0.len());
    assert!(pieces.0.iter().all(|piece| piece.is_empty() || piece.ends_with(b"}\n")));
    let lines = pieces.0.concat().split(|byte| *byte == b'\n').count() - 1;
    assert_eq!(lines, artifacts.len());
}

/// Fails for good after some deliveries, after the lines have arrived.
struct Dies {
    inner: LinesSink,
    after: u32,
}

impl Sink for Dies {
    async fn deliver(&mut self, artifacts: &[Undelivered]) -> Result<usize, SinkError> {
        let count = self.inner.deliver(artifacts).await?;
        self.after = self
            .after
            .checked_sub(1)
            .ok_or_else(|| SinkError::Write { output: "pipe".into(), source: io::ErrorKind::BrokenPipe.into() })?;
        Ok(count)
    }
}

#[tokio::test]
async fn what_an_interrupted_delivery_left_comes_out_of_the_next_sink_and_nothing_is_lost() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (store, instance) = waiting(dir.path(), 1..3_001);
    let mut delivered = 0;
    let mut sink = Dies { inner: LinesSink::open(&dir.path().join("a")).expect("sink"), after: 1 };
    let error = drain(&store, &instance, &mut sink, &mut delivered).await.expect_err("must fail");
    assert!(matches!(error, DrainError::Sink(_)));
    assert_eq!(delivered, 1_000, "only what is known to have arrived counts");

    let mut sink = LinesSink::open(&dir.path().join("b")).expect("sink");
    drain(&store, &instance, &mut sink, &mut delivered).await.expect("drained");
    assert_eq!(ids(&dir.path().join("a")), (1..2_001).collect::<Vec<_>>());
    assert_eq!(ids(&dir.path().join("b")), (1_001..3_001).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_line_that_was_cut_off_is_ended_before_new_ones() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("out.jsonl");
    fs::write(&file, "{\"id\":\"cut").expect("file");
    let (store, instance) = waiting(dir.path(), 1..2);
    let mut sink = LinesSink::open(&file).expect("sink");
    drain(&store, &instance, &mut sink, &mut 0).await.expect("drained");
    let text = fs::read_to_string(&file).expect("output");
    assert_eq!(text, format!("{{\"id\":\"cut\n{{\"id\":\"{}\"}}\n", Uuid::from_u128(1)));
}

/// Takes some bytes and no more.
struct Narrow(Vec<u8>, usize);

impl Write for Narrow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.1);
        if count == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.1 -= count;
        self.0.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_was_cut_off_is_known_to_the_byte() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (store, instance) = waiting(dir.path(), 1..3);
    let artifacts = store.undelivered(&instance, 2).expect("waiting");
    let line = artifacts[0].json.len() + 1;
    for (room, is_within_line) in [(0, false), (line - 1, true), (line, false), (line + 1, true)] {
        let mut output = Tracked { output: Narrow(Vec::new(), room), written: 0, is_within_line: false };
        lines(&mut output, false, LineForm::Artifact, &artifacts).expect_err("full");
        assert_eq!((output.written, output.is_within_line), (room as u64, is_within_line), "{room}");
    }
}

#[tokio::test]
async fn a_line_that_was_cut_off_in_a_pipe_is_ended_by_the_next_delivery() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (store, instance) = waiting(dir.path(), 1..2);
    let file = dir.path().join("stream");
    let stream = Some(File::create(&file).expect("file"));
    let mut sink = LinesSink { path: None, stream, is_within_line: true, form: LineForm::Artifact };
    drain(&store, &instance, &mut sink, &mut 0).await.expect("drained");
    assert!(fs::read_to_string(&file).expect("output").starts_with("\n{"));
    assert!(!sink.is_within_line);
    sink.deliver(&[]).await.expect("nothing to write");
    assert!(fs::read_to_string(&file).expect("output").ends_with("}\n"));
}

#[test]
fn standard_output_that_leads_into_a_line_that_was_cut_off_is_recognised() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("out");
    for (text, is_within_line) in [("", false), ("{\"id\":\"cut", true), ("{}\n", false)] {
        fs::write(&path, text).expect("file");
        let stream = OpenOptions::new().append(true).open(&path).expect("open");
        assert_eq!(is_file_within_line(&stream), is_within_line, "{text:?}");
    }
    assert!(!is_file_within_line(&OpenOptions::new().append(true).open("/dev/null").expect("open")));
}

#[tokio::test]
async fn a_pipe_that_failed_is_opened_anew() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (store, instance) = waiting(dir.path(), 1..2);
    let mut sink = LinesSink::open(Path::new("/dev/full")).expect("sink");
    let error = drain(&store, &instance, &mut sink, &mut 0).await.expect_err("full");
    assert!(matches!(error, DrainError::Sink(SinkError::Write { .. })), "{error}");
    assert!(sink.stream.is_none());
    let file = dir.path().join("out");
    sink.path = Some(file.clone());
    drain(&store, &instance, &mut sink, &mut 0).await.expect("drained");
    assert_eq!(ids(&file), [1]);
}

#[tokio::test]
async fn a_file_that_is_moved_away_or_removed_between_deliveries_is_made_anew() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (store, instance) = waiting(dir.path(), 1..4);
    let all = store.undelivered(&instance, 3).expect("waiting");
    let (file, old) = (dir.path().join("out"), dir.path().join("out.1"));
    let mut sink = LinesSink::open(&file).expect("sink");
    sink.deliver(&all[..1]).await.expect("first");
    fs::rename(&file, &old).expect("moved");
    sink.deliver(&all[1..2]).await.expect("second");
    assert_eq!((ids(&old), ids(&file)), (vec![1], vec![2]));
    fs::remove_file(&file).expect("removed");
    sink.deliver(&all[2..]).await.expect("third");
    assert_eq!(ids(&file), [3]);
}

#[test]
fn a_file_that_took_the_place_of_another_is_told_from_it() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("out");
    let file = File::create(&path).expect("file");
    assert!(is_behind(&file, &path).expect("looked"));
    fs::rename(&path, dir.path().join("out.1")).expect("moved");
    assert!(!is_behind(&file, &path).expect("looked"));
    File::create(&path).expect("another");
    assert!(!is_behind(&file, &path).expect("looked"));
}

#[test]
fn whether_a_line_was_cut_off_is_seen_of_the_file_that_is_written_to_and_not_of_what_took_its_place() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (store, instance) = waiting(dir.path(), 1..2);
    let all = store.undelivered(&instance, 1).expect("waiting");
    let (path, old) = (dir.path().join("out"), dir.path().join("out.1"));
    for (opened, in_its_place, is_ended) in [("{\"id\":\"cut", "{}\n", true), ("{}\n", "{\"id\":\"cut", false)] {
        fs::write(&path, opened).expect("file");
        let Opened::Regular(file) = open(&path).expect("opened") else { panic!("it is a file") };
        fs::rename(&path, &old).expect("moved");
        fs::write(&path, in_its_place).expect("another");
        append(&file, &path, LineForm::Artifact, &all).expect("written");
        let end = if is_ended { "\n" } else { "" };
        let written = fs::read_to_string(&old).expect("output");
        assert_eq!(written, format!("{opened}{end}{}\n", all[0].json));
        assert_eq!(fs::read_to_string(&path).expect("other"), in_its_place);
    }
}

#[test]
fn a_file_that_is_gone_when_its_lines_are_written_gets_them_again_in_its_place() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (store, instance) = waiting(dir.path(), 1..3);
    let all = store.undelivered(&instance, 2).expect("waiting");
    let file = dir.path().join("out");
    let mut sink = LinesSink::open(&file).expect("sink");
    for removals in 0..4 {
        let mut left = removals;
        let delivered = sink.deliver_to(&file, &all, |opened| {
            append(opened, &file, LineForm::Artifact, &all)?;
            if left == 0 {
                return Ok(());
            }
            left -= 1;
            fs::remove_file(&file)
        });
        if removals < ATTEMPTS {
            delivered.expect("delivered");
            assert_eq!(ids(&file), [1, 2], "{removals}");
            fs::remove_file(&file).expect("removed");
        } else {
            assert_eq!(delivered.expect_err("gone").code(), "output-failed");
        }
    }
}

#[test]
fn a_delivery_that_fails_takes_no_room_and_nothing_of_others() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("out");
    let file = OpenOptions::new().append(true).create(true).open(&path).expect("open");
    (&file).write_all(b"theirs\nhalf of").expect("written");
    take_back(&file, 7, 7);
    assert_eq!(fs::read(&path).expect("output"), b"theirs\n");
    (&file).write_all(b"half of\nof others\n").expect("written");
    take_back(&file, 7, 7);
    assert_eq!(fs::read(&path).expect("output"), b"theirs\nhalf of\nof others\n");
}

#[test]
fn an_output_that_cannot_be_opened_is_named() {
    let error = LinesSink::open(Path::new("/no/such/directory/out.jsonl")).expect_err("must fail");
    insta::assert_snapshot!(error, @"cannot open /no/such/directory/out.jsonl for the artifacts: No such file or directory (os error 2)");
    assert_eq!(error.code(), "output-unwritable");
    let error = LinesSink::open(Path::new("/")).expect_err("must fail");
    assert_eq!(error.code(), "output-unwritable");
}

#[tokio::test]
async fn a_device_is_written_to_without_being_synced() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (store, instance) = waiting(dir.path(), 1..3);
    let mut sink = LinesSink::open(Path::new("/dev/null")).expect("sink");
    drain(&store, &instance, &mut sink, &mut 0).await.expect("drained");
    let mut sink = LinesSink::open(Path::new("/dev/full")).expect("sink");
    sink.deliver(&[]).await.expect("nothing to write");
}

#[test]
fn nobody_else_may_read_the_output() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("out");
    drop(LinesSink::open(&file).expect("open"));
    assert_eq!(fs::metadata(&file).expect("file").permissions().mode() & 0o777, 0o600);
}
