//! The state directory and its lock.
//!
//! Why: two processes that write the same checkpoints would each undo the
//! other's progress, so a writer holds an exclusive lock on the file `lock`
//! for as long as it lives, and on the directory itself, since a file that looks
//! like something left behind is removed by somebody some day. The kernel drops
//! the locks when the process ends, however it ends, so nothing is ever left locked.
//! Why nobody else may write the directory: whoever can, can put another
//! database in the place of this one, or a link where a file is made.
//! Not guaranteed: locks on network file systems are as good as those are.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::{StoreError, schema};

/// Name of the database inside the directory.
const DATABASE: &str = "state.sqlite";
/// What a host that has run leaves beside the database.
const REPORT: &str = "connectors/report.json";
/// Name of the lock file inside the directory.
const LOCK: &str = "lock";

/// The database file of a state directory.
#[must_use]
pub(super) fn database(dir: &Path) -> PathBuf {
    dir.join(DATABASE)
}

/// Holds the directory until dropped.
#[derive(Debug)]
pub(super) struct DirectoryLock {
    /// Held for their locks only: the file, and the directory where that can be locked.
    _held: (File, Option<File>),
}

/// Creates the directory (mode 0700, parents included) when it is not there,
/// and an empty database file (mode 0600: the log files beside it inherit
/// that), and takes the lock. In a directory with a database of another
/// program nothing is left behind.
pub(super) fn prepare(dir: &Path) -> Result<DirectoryLock, StoreError> {
    let created = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    created.map_err(failed("create the state directory", dir))?;
    check_private(dir)?;
    let path = database(dir);
    let is_new = !dir.join(LOCK).exists();
    let lock = lock(dir)?;
    // Not before the lock: closing a file lets go of the locks that other connections of this process have on it.
    if schema::is_foreign(&path) {
        if is_new {
            // If it cannot be removed, an empty file is left.
            let _ = fs::remove_file(dir.join(LOCK));
        }
        return Err(StoreError::Foreign { path });
    }
    let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
    let database = opened.map_err(failed("write the database", &path))?;
    if dir.join(REPORT).exists() && database.metadata().is_ok_and(|file| file.len() == 0) {
        tracing::warn!(
            "{} was empty or missing, and a host has run here before: a new one is begun, and the look-back is collected and delivered again",
            path.display()
        );
    }
    Ok(lock)
}

/// Makes the empty file, for this user alone, that a copy of the database is written into.
pub(super) fn make_copy(database: &Path) -> Result<PathBuf, StoreError> {
    let copy = database.with_extension("copy");
    let made = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&copy);
    made.map_err(failed("make a copy of the database as", &copy))?;
    Ok(copy)
}

/// Puts the copy in the place of the database, once it is on the disk.
pub(super) fn take_copy(copy: &Path, database: &Path) -> Result<(), StoreError> {
    let synced = File::open(copy).and_then(|file| file.sync_all());
    synced.and_then(|()| fs::rename(copy, database)).map_err(failed("replace the database", database))?;
    let directory = database.parent().unwrap_or(Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed("replace the database", database))
}

/// Removes a copy that was not finished. If it stays it is written over the next time.
pub(super) fn drop_copy(copy: &Path) {
    let _ = fs::remove_file(copy);
}

/// Which file it is, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Inode(u64, u64);

/// The file that a path leads to now, if it leads to one.
pub(super) fn inode(path: &Path) -> Result<Option<Inode>, StoreError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(Inode(metadata.dev(), metadata.ino()))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed("look at the database", path)(error)),
    }
}

/// Bytes that are written to see whether there is room: as many as a small step takes.
const ROOM: usize = 1 << 20;

/// Says whether there is room beside the database, by taking some and giving it back; and whether its disk takes anything: one
/// that failed may have been mounted anew, to be read only.
pub(super) fn try_room(database: &Path) -> Result<(), StoreError> {
    let path = database.with_file_name("room");
    let written = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .and_then(|mut file| file.write_all(&[1; ROOM]).and_then(|()| file.sync_all()));
    // If it stays it is written over the next time.
    let _ = fs::remove_file(&path);
    match written {
        Err(error) if says_of_the_disk(error.kind()) => Err(failed("write the database", database)(error)),
        _ => Ok(()),
    }
}

/// Whether what kept a file from being written keeps the database beside it from being written, too.
fn says_of_the_disk(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::ReadOnlyFilesystem)
}

/// Refuses a directory that somebody else could change. One that is not there is fine: it is made for this user alone.
pub(super) fn check_private(dir: &Path) -> Result<(), StoreError> {
    let metadata = match fs::metadata(dir) {
        // It is made at the start, where it can be.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let above = dir.ancestors().skip(1).find(|above| above.as_os_str().is_empty() || above.exists());
            let above = above.filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
            return access(above, Access::WRITE_OK | Access::EXEC_OK)
                .map_err(|error| failed("create the state directory", dir)(error.into()));
        }
        other => other.map_err(failed("look at the state directory", dir))?,
    };
    let user = rustix::process::geteuid().as_raw();
    match exposure(metadata.uid(), metadata.mode(), user) {
        Some(why) => Err(StoreError::Exposed { path: dir.to_owned(), why }),
        None => Ok(()),
    }
}

/// Why a directory of this owner and mode is not this user's alone, if so. Root could do everything anyway; and where this
/// is root, as in a container, the directory is as a rule one of whoever started that.
fn exposure(owner: u32, mode: u32, user: u32) -> Option<&'static str> {
    if owner != user && owner != 0 && user != 0 {
        Some("it belongs to another user")
    } else if mode & 0o022 != 0 {
        Some("other users can write to it")
    } else {
        None
    }
}

/// What the system said about a file or directory here.
fn failed(action: &'static str, path: &Path) -> impl Fn(io::Error) -> StoreError {
    move |source| match source.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full { path: path.to_owned() },
        _ => StoreError::Directory { action, path: path.to_owned(), source },
    }
}

/// Takes the lock and writes this process' id into the file, so that whoever
/// comes second can say who is first.
fn lock(dir: &Path) -> Result<DirectoryLock, StoreError> {
    let path = dir.join(LOCK);
    let failed = failed("lock", &path);
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(&failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(StoreError::Locked { path: dir.to_owned(), holder: holder(&file) });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    // Not every file system locks directories.
    let directory = File::open(dir).ok();
    if directory.as_ref().is_some_and(|directory| matches!(directory.try_lock(), Err(TryLockError::WouldBlock))) {
        return Err(StoreError::Locked { path: dir.to_owned(), holder: None });
    }
    file.set_len(0).map_err(&failed)?;
    file.seek(SeekFrom::Start(0)).map_err(&failed)?;
    writeln!(file, "{}", std::process::id()).map_err(&failed)?;
    Ok(DirectoryLock { _held: (file, directory) })
}

/// The process id in a lock file, if one can be read.
fn holder(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_directory_that_others_can_write_to_is_refused_and_nothing_is_made_in_it() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let set = |mode| fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).expect("mode");
        for mode in [0o777, 0o1777, 0o770, 0o702] {
            set(mode);
            let error = prepare(dir.path()).expect_err("must fail");
            assert_eq!(error.code(), "state-not-private");
            assert!(error.to_string().ends_with("is not this user's alone: other users can write to it"), "{error}");
            assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 0);
        }
        set(0o755);
        prepare(dir.path()).expect("may be read");
    }

    #[test]
    fn a_directory_belongs_to_this_user_or_to_root() {
        assert_eq!([exposure(7, 0o700, 7), exposure(0, 0o755, 7), exposure(0, 0o700, 0)], [None; 3]);
        assert_eq!(exposure(8, 0o700, 7), Some("it belongs to another user"));
        assert_eq!(exposure(8, 0o700, 0), None, "a directory that a container was given");
        assert_eq!(exposure(0, 0o775, 7), Some("other users can write to it"));
    }

    #[test]
    fn a_full_disk_is_told_from_a_right_that_is_missing() {
        let code = |error| failed("lock", Path::new("lock"))(io::Error::from_raw_os_error(error)).code();
        let error = |error: rustix::io::Errno| code(error.raw_os_error());
        use rustix::io::Errno;
        assert_eq!(
            [Errno::NOSPC, Errno::DQUOT, Errno::ACCESS].map(error),
            ["state-full", "state-full", "state-directory"]
        );
        // What a file of another name could not be made for says nothing of the database.
        let says = |error: Errno| says_of_the_disk(io::Error::from(error).kind());
        assert_eq!([Errno::NOSPC, Errno::DQUOT, Errno::ROFS, Errno::ACCESS].map(says), [true, true, true, false]);
        let read_only = failed("write the database", Path::new("state.sqlite"))(Errno::ROFS.into());
        assert!(read_only.help().starts_with("look at the disk"), "{}", read_only.help());
    }
}
