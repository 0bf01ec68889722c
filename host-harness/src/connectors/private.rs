//! Files and directories of this user alone.
//!
//! What: making them, refusing those that others could have written, and replacing a file so that a reader, or a start
//! after a crash, sees either the old content or the new one.
//! Why one place: compiled code, pins and quarantine records are all trusted because nobody else can write them.
//! Not guaranteed: protection from somebody who acts as this user or as root.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Tells temporary files of one process apart.
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// Makes a directory, and those above it, for this user alone.
#[cfg(unix)]
pub(super) fn create_directory(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Makes a directory. Where there are no modes, the rights of the directory above are inherited.
#[cfg(not(unix))]
pub(super) fn create_directory(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)
}

/// Opens a directory of this user alone, making it when it is not there.
///
/// # Errors
/// When it cannot be made or read, is no directory, belongs to somebody else, or can be written by others.
pub(super) fn open_directory(directory: &Path) -> io::Result<()> {
    if !directory.try_exists()? {
        create_directory(directory)?;
    }
    let metadata = fs::metadata(directory)?;
    if !metadata.is_dir() {
        return Err(io::Error::other("it is not a directory"));
    }
    check_owner(&metadata)
}

/// The content of a file of this user alone, at most `most` bytes; `None` when there is no such file.
///
/// # Errors
/// When it cannot be read, is longer, is no file, belongs to somebody else, or can be written by others.
pub(super) fn read(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // Asked of the open file, so that it is the one that is read.
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > most {
        return Err(io::Error::other("it is not a file of reasonable size"));
    }
    check_owner(&metadata)?;
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    file.take(most).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Writes a file aside, waits for the disk, and renames it into place.
///
/// # Errors
/// When it cannot be written; nothing is left behind then, and what was in place stays.
pub(super) fn replace(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let directory = path.parent().ok_or_else(|| io::Error::other("it is in no directory"))?;
    let aside = directory.join(format!(".{}-{}.tmp", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)));
    let written = write_new(&aside, parts).and_then(|()| fs::rename(&aside, path));
    if written.is_err() {
        // It may not exist; and there is nothing more to be done when it cannot be removed.
        let _ = fs::remove_file(&aside);
    }
    written
}

/// Removes a file; one that is not there is no error.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes a new file that only this user can read and write.
fn write_new(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut file = options.open(path)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()
}

/// Refuses what belongs to somebody else or can be written by others.
#[cfg(unix)]
fn check_owner(metadata: &fs::Metadata) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other("it belongs to another user"));
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(io::Error::other("others can write it; take that right away (chmod go-w)"));
    }
    Ok(())
}

/// Where there are no modes, the rights of the directory above are trusted.
#[cfg(not(unix))]
fn check_owner(_metadata: &fs::Metadata) -> io::Result<()> {
    Ok(())
}
