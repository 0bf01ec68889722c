//! JSON lines to a file or to standard output.
//!
//! Why appended and synced: a file of artifacts is read by others while it
//! grows; lines are added whole at its end and are on disk before the outbox
//! forgets them. Standard output is flushed, but nobody can know what becomes
//! of it there.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Stdout, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::{Sink, SinkError};
use crate::store::Undelivered;

/// Bytes of lines after which they are written. Few, because a delivery has megabytes, which are in memory already.
const BUFFER: usize = 128 << 10;

/// Writes each artifact as one line.
#[derive(Debug)]
pub struct LinesSink {
    output: Output,
    /// For messages.
    name: String,
}

/// Where the lines go.
#[derive(Debug)]
enum Output {
    /// A file on disk: synced after every delivery.
    Regular(File),
    /// A pipe, a terminal or a device behind a path: flushed only.
    Stream(File),
    /// Standard output.
    Standard(Stdout),
}

impl LinesSink {
    /// Opens the file to append to it; `-` is standard output. A new file is
    /// for its owner only, because artifacts tell much about a company.
    ///
    /// When the file ends in the middle of a line, because a process was
    /// killed while it wrote, that line is ended first: a reader sees one
    /// broken line, and the artifact comes again as a whole.
    pub fn open(output: &Path) -> Result<Self, SinkError> {
        if output.as_os_str() == "-" {
            return Ok(Self::new(Output::Standard(io::stdout()), "standard output".to_owned()));
        }
        let name = output.display().to_string();
        open(output)
            .map(|file| Self::new(file, name.clone()))
            .map_err(|source| SinkError::Open { output: name, source })
    }

    fn new(output: Output, name: String) -> Self {
        Self { output, name }
    }
}

impl Sink for LinesSink {
    async fn deliver(&mut self, artifacts: &[Undelivered]) -> Result<(), SinkError> {
        self.output.write(artifacts).map_err(|source| SinkError::Write { output: self.name.clone(), source })
    }
}

impl Output {
    fn write(&mut self, artifacts: &[Undelivered]) -> io::Result<()> {
        match self {
            Self::Regular(file) => {
                lines(&*file, artifacts)?;
                file.sync_data()
            }
            Self::Stream(file) => lines(&*file, artifacts),
            Self::Standard(stdout) => lines(stdout.lock(), artifacts),
        }
    }
}

/// Writes artifacts, one a line, and flushes. Whole lines at a time: whoever reads a file while it grows meets no half of one.
fn lines(mut output: impl Write, artifacts: &[Undelivered]) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER);
    for artifact in artifacts {
        buffer.extend_from_slice(artifact.json.as_bytes());
        buffer.push(b'\n');
        if buffer.len() >= BUFFER {
            output.write_all(&buffer)?;
            buffer.clear();
        }
    }
    output.write_all(&buffer)?;
    output.flush()
}

/// Opens or creates the file and makes sure that it ends with a whole line.
fn open(path: &Path) -> io::Result<Output> {
    let is_new = !path.exists();
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    if !file.metadata()?.is_file() {
        return Ok(Output::Stream(file));
    }
    if is_new {
        // The name must survive a power cut as well as the lines will.
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()?;
    } else if !ends_with_line_end(path)? {
        file.write_all(b"\n")?;
        tracing::warn!("{} ended within a line; the line was ended, its artifact comes again", path.display());
    }
    Ok(Output::Regular(file))
}

/// Whether the file is empty or its last byte ends a line.
fn ends_with_line_end(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
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
        lines(&mut pieces, &artifacts).expect("written");
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
        async fn deliver(&mut self, artifacts: &[Undelivered]) -> Result<(), SinkError> {
            self.inner.deliver(artifacts).await?;
            self.after = self
                .after
                .checked_sub(1)
                .ok_or_else(|| SinkError::Write { output: "pipe".into(), source: io::ErrorKind::BrokenPipe.into() })?;
            Ok(())
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
}
