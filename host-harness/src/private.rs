//! Files and directories of this user alone.
//!
//! What: making them, refusing those that others could have written, and replacing a file so that a reader, or a start
//! after a crash, sees either the old content or the new one.
//! Why one place: compiled code, pins and quarantine records are all trusted because nobody else can write them.
//! Not guaranteed: protection from somebody who acts as this user or as root.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Tells temporary files of one process apart.
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// What the names of temporary files end with.
const ASIDE: &str = ".tmp";

/// Names that are tried besides the first.
const MOST_NAMES: u32 = 1_000;

/// Nobody writes a file for so long.
const LEFT_AFTER: Duration = Duration::from_hours(1);

/// Makes a directory, and those above it, for this user alone.
#[cfg(unix)]
pub(crate) fn create_directory(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Makes a directory. Where there are no modes, the rights of the directory above are inherited.
#[cfg(not(unix))]
pub(crate) fn create_directory(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)
}

/// Opens a directory of this user alone, making it when it is not there. What was left aside in it long ago goes.
///
/// # Errors
/// When it cannot be made or read, is no directory, belongs to somebody else, or can be written by others.
pub(crate) fn open_directory(directory: &Path) -> io::Result<()> {
    if !directory.try_exists()? {
        create_directory(directory)?;
    }
    let metadata = fs::metadata(directory)?;
    if !metadata.is_dir() {
        return Err(io::Error::other("it is not a directory"));
    }
    check_owner(&metadata)?;
    remove_left(directory);
    Ok(())
}

/// Opens a file of this user alone for reading, of at most `most` bytes; `None` when there is no such file.
///
/// # Errors
/// When it cannot be opened, is longer, is no file, belongs to somebody else, or can be written by others.
pub(crate) fn open(path: &Path, most: u64) -> io::Result<Option<File>> {
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
    Ok(Some(file))
}

/// The content of a file of this user alone, at most `most` bytes; `None` when there is no such file.
///
/// # Errors
/// When it cannot be read, or for a reason of [`open`].
pub(crate) fn read(path: &Path, most: u64) -> io::Result<Option<Vec<u8>>> {
    let Some(file) = open(path, most)? else { return Ok(None) };
    let length = file.metadata()?.len();
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    file.take(most).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Writes a file aside, waits for the disk, and renames it into place.
///
/// # Errors
/// When it cannot be written; nothing is left behind then, and what was in place stays.
pub(crate) fn replace(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let directory = path.parent().ok_or_else(|| io::Error::other("it is in no directory"))?;
    let (aside, file) = create_aside(directory)?;
    let written = write(file, parts).and_then(|()| fs::rename(&aside, path));
    if written.is_err() {
        // There is nothing more to be done when it cannot be removed.
        let _ = fs::remove_file(&aside);
    }
    written
}

/// Makes a file to write aside. In a container every process has the same number, so that the name may be taken: by one
/// that was killed, or by one that is just writing it. Then the next name is taken.
fn create_aside(directory: &Path) -> io::Result<(PathBuf, File)> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut left = MOST_NAMES;
    loop {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let aside = directory.join(format!(".{}-{number}{ASIDE}", std::process::id()));
        match options.open(&aside) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && left > 0 => left -= 1,
            opened => return opened.map(|file| (aside, file)),
        }
    }
}

/// Removes what others have left aside who were killed while they wrote.
fn remove_left(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let is_aside = entry.file_name().to_str().is_some_and(|name| name.starts_with('.') && name.ends_with(ASIDE));
        let is_left = || {
            let modified = entry.metadata().and_then(|metadata| metadata.modified()).ok();
            modified.and_then(|time| time.elapsed().ok()).is_some_and(|age| age >= LEFT_AFTER)
        };
        if is_aside && is_left() {
            // It takes room, and does no other harm.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Removes a file; one that is not there is no error.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes a file and waits for the disk.
fn write(mut file: File, parts: &[&[u8]]) -> io::Result<()> {
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()
}

/// Refuses what belongs to somebody else or can be written by others.
#[cfg(unix)]
pub(crate) fn check_owner(metadata: &fs::Metadata) -> io::Result<()> {
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
pub(crate) fn check_owner(_metadata: &fs::Metadata) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn a_name_that_somebody_has_left_or_is_writing_is_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let next = COUNTER.load(Ordering::Relaxed);
        let left = |number: u64| folder.path().join(format!(".{}-{number}.tmp", std::process::id()));
        // Other tests write as well, elsewhere.
        for number in next..next + 500 {
            fs::write(left(number), "theirs").unwrap();
        }
        replace(&folder.path().join("a"), &[b"mine"]).unwrap();
        assert_eq!(fs::read(folder.path().join("a")).unwrap(), b"mine");
        assert_eq!(fs::read(left(next + 250)).unwrap(), b"theirs");
    }

    #[test]
    fn what_was_left_aside_long_ago_goes() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("private");
        open_directory(&directory).unwrap();
        for name in [".1-0.tmp", ".1-1.tmp", "1.tmp", ".1.json"] {
            fs::write(directory.join(name), "x").unwrap();
            let two_hours_ago = SystemTime::now() - Duration::from_hours(2);
            if name != ".1-1.tmp" {
                File::options().write(true).open(directory.join(name)).unwrap().set_modified(two_hours_ago).unwrap();
            }
        }
        open_directory(&directory).unwrap();
        let mut names: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [".1-1.tmp", ".1.json", "1.tmp"], "one may still be written");
    }
}
