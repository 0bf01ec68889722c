//! JSON lines to a file or to standard output.
//!
//! Why appended and synced: a file of artifacts is read by others while it
//! grows; lines are added whole at its end and are on disk before the outbox
//! forgets them. It is opened anew for every delivery and looked for after it,
//! so a delivery into a file that was moved away or removed meanwhile is
//! repeated into the one that took its place. Standard output that leads into
//! a file is synced like one; pipes are flushed, but nobody can know what
//! becomes of it there.
//! A line that was cut off is ended before the next one. Where a delivery
//! failed, the file is made as long again as it was, so that trying again on a
//! full disk does not fill it with repetitions.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{Sink, SinkError};
use crate::store::{Attributed, Undelivered};

/// Bytes of lines after which they are written. Few, because a delivery has megabytes, which are in memory already.
const BUFFER: usize = 128 << 10;

/// How often a delivery is made when the file is another one afterwards.
const ATTEMPTS: u32 = 3;

/// Writes each artifact as one line.
#[derive(Debug)]
pub struct LinesSink {
    /// Absent for standard output.
    path: Option<PathBuf>,
    /// A pipe, a terminal, a device or standard output: it stays open.
    stream: Option<File>,
    /// Whether the last delivery into the stream ended within a line.
    is_within_line: bool,
    form: LineForm,
}

/// What a line is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LineForm {
    /// The artifact, as the connector made it.
    #[default]
    Artifact,
    /// An [`Attributed`] artifact: for who collects for several tenants into one output.
    WithInstance,
}

/// What is behind a path.
enum Opened {
    /// A file on disk: synced after every delivery.
    Regular(File),
    /// Anything else: flushed only.
    Stream(File),
}

impl LinesSink {
    /// A sink into the file, to which is appended; `-` is standard output. A
    /// new file is for its owner only, because artifacts tell much about a
    /// company. It is opened once, so that what is wrong shows at once.
    ///
    /// When it ends in the middle of a line, because a process was killed
    /// while it wrote, that line is ended first: a reader sees one broken
    /// line, and the artifact comes again as a whole.
    pub fn open(output: &Path) -> Result<Self, SinkError> {
        let path = (output.as_os_str() != "-").then(|| output.to_owned());
        let mut sink = Self { path, stream: None, is_within_line: false, form: LineForm::default() };
        match &sink.path {
            None => sink.open_standard()?,
            Some(path) => match open(path).map_err(|source| sink.cannot_open(source))? {
                Opened::Regular(_) => {}
                Opened::Stream(stream) => sink.stream = Some(stream),
            },
        }
        Ok(sink)
    }

    /// The same with lines of this form.
    #[must_use]
    pub fn of_form(self, form: LineForm) -> Self {
        Self { form, ..self }
    }

    /// Lets go of a pipe or a device until the next delivery.
    pub fn release(&mut self) {
        self.stream = None;
    }

    /// Takes standard output.
    fn open_standard(&mut self) -> Result<(), SinkError> {
        // Not through the buffer of the library: what has been written is known to the byte.
        let stream = io::stdout().as_fd().try_clone_to_owned().map_err(|source| self.cannot_open(source))?;
        let stream = File::from(stream);
        // Where it is closed, the language's runtime has opened that in its place: all would be delivered, to nobody.
        if leads_nowhere(&stream) {
            return Err(self.cannot_open(io::Error::other("it is closed, or leads to /dev/null")));
        }
        self.is_within_line |= is_file_within_line(&stream);
        self.stream = Some(stream);
        Ok(())
    }

    /// Delivers into whatever is behind the path now, a file by `append`.
    fn deliver_to(
        &mut self,
        path: &Path,
        artifacts: &[Undelivered],
        mut append: impl FnMut(&File) -> io::Result<()>,
    ) -> Result<(), SinkError> {
        for _ in 0..ATTEMPTS {
            let file = match open(path).map_err(|source| self.cannot_open(source))? {
                Opened::Regular(file) => file,
                Opened::Stream(stream) => {
                    self.stream = Some(stream);
                    return self.deliver_to_stream(artifacts);
                }
            };
            append(&file).map_err(|source| self.cannot_write(source))?;
            if is_behind(&file, path).map_err(|source| self.cannot_write(source))? {
                return Ok(());
            }
            tracing::warn!(
                "{} was moved away or removed while artifacts were written to it; they are written again",
                path.display()
            );
        }
        Err(self.cannot_write(io::Error::other("it is moved away or removed again and again while it is written to")))
    }

    fn deliver_to_stream(&mut self, artifacts: &[Undelivered]) -> Result<(), SinkError> {
        let Some(stream) = &self.stream else { return Ok(()) };
        // Standard output may lead into a file.
        let before = stream.metadata().ok().filter(fs::Metadata::is_file).map(|file| file.len());
        let mut output = Tracked { output: stream, written: 0, is_within_line: self.is_within_line };
        let mut result = lines(&mut output, self.is_within_line, self.form, artifacts);
        if before.is_some() {
            result = result.and_then(|()| stream.sync_data());
        }
        let is_taken_back = result.is_err() && before.is_some_and(|before| take_back(stream, before, output.written));
        if !is_taken_back {
            self.is_within_line = output.is_within_line;
        }
        if result.is_err() {
            // Whoever reads a pipe may come back.
            self.release();
        }
        result.map_err(|source| self.cannot_write(source))
    }

    /// For messages.
    fn name(&self) -> String {
        self.path.as_ref().map_or_else(|| "standard output".to_owned(), |path| path.display().to_string())
    }

    fn cannot_open(&self, source: io::Error) -> SinkError {
        SinkError::Open { output: self.name(), source }
    }

    fn cannot_write(&self, source: io::Error) -> SinkError {
        SinkError::Write { output: self.name(), source }
    }
}

impl Sink for LinesSink {
    async fn deliver(&mut self, artifacts: &[Undelivered]) -> Result<usize, SinkError> {
        match self.path.clone() {
            Some(path) if self.stream.is_none() => {
                let form = self.form;
                self.deliver_to(&path, artifacts, |file| append(file, &path, form, artifacts))?;
            }
            _ => {
                if self.stream.is_none() {
                    self.open_standard()?;
                }
                self.deliver_to_stream(artifacts)?;
            }
        }
        Ok(artifacts.len())
    }
}

/// Knows how much was written, and whether the last of it ended a line.
struct Tracked<W> {
    output: W,
    written: u64,
    is_within_line: bool,
}

impl<W: Write> Write for Tracked<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.output.write(bytes)?;
        self.written = self.written.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        if let Some(last) = bytes.get(..count).and_then(<[u8]>::last) {
            self.is_within_line = *last != b'\n';
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

/// Appends to a file and waits for the disk; the path is for messages. On failure the file is as long as before, unless others write to it as well.
fn append(file: &File, path: &Path, form: LineForm, artifacts: &[Undelivered]) -> io::Result<()> {
    let is_within_line = !ends_with_line_end(file)?;
    if is_within_line {
        tracing::warn!("{} ended within a line; the line was ended, its artifact comes again", path.display());
    }
    let before = file.metadata()?.len();
    let mut output = Tracked { output: file, written: 0, is_within_line };
    let result = lines(&mut output, is_within_line, form, artifacts).and_then(|()| file.sync_data());
    if result.is_err() {
        take_back(file, before, output.written);
    }
    result
}

/// Makes a file as long as it was before so many bytes were written, unless others have written to it as well. Tells whether
/// it is; what cannot be taken back is only repeated.
fn take_back(mut file: &File, before: u64, written: u64) -> bool {
    file.metadata().is_ok_and(|now| now.len() == before.saturating_add(written))
        && file.set_len(before).is_ok()
        // Who has opened it without appending would leave a hole.
        && file.seek(SeekFrom::End(0)).is_ok()
}

/// Writes artifacts, one a line, and flushes. Whole lines at a time: whoever reads a file while it grows meets no half of one.
/// A line that was begun is ended first.
fn lines(mut output: impl Write, is_within_line: bool, form: LineForm, artifacts: &[Undelivered]) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(BUFFER);
    if is_within_line && !artifacts.is_empty() {
        buffer.push(b'\n');
    }
    for artifact in artifacts {
        match form {
            LineForm::Artifact => buffer.extend_from_slice(artifact.json.as_bytes()),
            LineForm::WithInstance => serde_json::to_writer(&mut buffer, &Attributed::from(artifact))?,
        }
        buffer.push(b'\n');
        if buffer.len() >= BUFFER {
            output.write_all(&buffer)?;
            buffer.clear();
        }
    }
    output.write_all(&buffer)?;
    output.flush()
}

/// Opens or creates the file: one on disk for reading as well, so that its end is seen of what is written to, whatever is
/// behind the path by then. Who could read from a pipe would pass for its reader, and would never learn that there is none.
fn open(path: &Path) -> io::Result<Opened> {
    let before = fs::metadata(path).ok();
    let seems_file = before.as_ref().is_none_or(fs::Metadata::is_file);
    let mut file = open_as(path, seems_file)?;
    let is_file = file.metadata()?.is_file();
    if is_file != seems_file {
        // Somebody has put something else there in between.
        file = open_as(path, is_file)?;
    }
    if !is_file {
        return Ok(Opened::Stream(file));
    }
    if before.is_none() {
        // The name must survive a power cut as well as the lines will.
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent)?.sync_all()?;
    }
    Ok(Opened::Regular(file))
}

/// Opens what is behind a path to append to it, and maybe to read it.
fn open_as(path: &Path, readable: bool) -> io::Result<File> {
    OpenOptions::new().read(readable).append(true).create(true).mode(0o600).open(path)
}

/// Whether the file is still the one that is found at the path.
fn is_behind(file: &File, path: &Path) -> io::Result<bool> {
    let written = file.metadata()?;
    match fs::metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (written.dev(), written.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a stream leads into a file that ends within a line: standard output may, behind what another process has written.
fn is_file_within_line(stream: &File) -> bool {
    let name = format!("/proc/self/fd/{}", stream.as_raw_fd());
    // It is open for writing only; where it cannot be opened by this name, nothing can be known of its end.
    let ends_with_line_end = || File::open(name).and_then(|file| ends_with_line_end(&file));
    stream.metadata().is_ok_and(|metadata| metadata.is_file()) && !ends_with_line_end().unwrap_or(true)
}

/// Whether the file is empty or its last byte ends a line.
fn ends_with_line_end(file: &File) -> io::Result<bool> {
    let Some(at) = file.metadata()?.len().checked_sub(1) else { return Ok(true) };
    let mut last = [0];
    // Nothing is there where somebody has shortened it just now.
    Ok(file.read_at(&mut last, at)? == 0 || last == *b"\n")
}

/// Whether it is the device that takes everything and keeps nothing.
fn leads_nowhere(stream: &File) -> bool {
    let device = |metadata: io::Result<std::fs::Metadata>| {
        metadata.ok().filter(|metadata| metadata.file_type().is_char_device()).map(|metadata| metadata.rdev())
    };
    device(stream.metadata())
        .is_some_and(|device_of_stream| Some(device_of_stream) == device(std::fs::metadata("/dev/null")))
}

#[cfg(test)]
mod tests;
