//! Files that somebody names, opened and read so that nobody waits for ever.
//!
//! Why: whoever opens a named pipe waits until somebody writes to it, and a device may have no end.
//! Not guaranteed: that a file system answers. What may lie on one that does not is read on a thread of its own.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{Error, ErrorKind, Read as _, Result};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

/// Opens a file to read it.
///
/// # Errors
/// Also for a named pipe. One that this process was given open, as `<(…)` of a shell does, is read.
pub(crate) fn open(path: &Path) -> Result<File> {
    let is_given = ["/dev/fd/", "/proc/self/fd/", "/dev/stdin"].iter().any(|place| path.starts_with(place));
    if is_given {
        return File::open(path);
    }
    refuse_pipe(&std::fs::metadata(path)?)?;
    // A pipe may have taken its place meanwhile; this does not wait for one. Files do not know it.
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    refuse_pipe(&file.metadata()?)?;
    Ok(file)
}

fn refuse_pipe(metadata: &Metadata) -> Result<()> {
    if metadata.file_type().is_fifo() {
        return Err(Error::new(ErrorKind::InvalidInput, "it is a pipe and no file"));
    }
    Ok(())
}

/// Reads a file whole.
///
/// # Errors
/// Also when it has more than `most` bytes; no more than those are read.
pub(crate) fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most {
        return Err(Error::other(format!("it has more than {most} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn a_pipe_in_the_place_of_a_file_is_not_waited_for_and_one_that_was_given_is_read() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
        assert_eq!(read(&path, 10).expect_err("must fail").to_string(), "it is a pipe and no file");
        // What `<(…)` of a shell is.
        let (given, mut writer) = std::io::pipe().expect("pipe");
        writer.write_all(b"one").expect("written");
        drop(writer);
        let path = format!("/dev/fd/{}", given.as_raw_fd());
        assert_eq!(read(Path::new(&path), 10).expect("read"), b"one");
    }

    #[test]
    fn no_more_is_read_than_may_be() {
        let error = read(Path::new("/dev/zero"), 1 << 20).expect_err("must fail");
        assert_eq!(error.to_string(), "it has more than 1048576 bytes");
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("file");
        std::fs::write(&path, "12345").expect("file");
        assert_eq!(read(&path, 5).expect("read"), b"12345");
        assert!(read(&path, 4).is_err());
    }
}
