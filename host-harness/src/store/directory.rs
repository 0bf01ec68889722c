//! The state directory and its lock.
//!
//! Why: two processes that write the same checkpoints would each undo the
//! other's progress, so a writer holds an exclusive lock on the file `lock`
//! for as long as it lives. The kernel drops the lock when the process ends,
//! however it ends, so nothing is ever left locked.
//! Not guaranteed: locks on network file systems are as good as those are.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::StoreError;

/// Name of the database inside the directory.
const DATABASE: &str = "state.sqlite";
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
    /// Held for its lock only.
    _file: File,
}

/// Creates the directory (mode 0700, parents included) when it is not there,
/// and an empty database file (mode 0600: the log files beside it inherit
/// that), and takes the lock.
pub(super) fn prepare(dir: &Path) -> Result<DirectoryLock, StoreError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|source| StoreError::Directory {
        action: "create the state directory",
        path: dir.to_owned(),
        source,
    })?;
    let lock = lock(dir)?;
    let path = database(dir);
    OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(|source| StoreError::Directory {
        action: "write the database",
        path,
        source,
    })?;
    Ok(lock)
}

/// Takes the lock and writes this process' id into the file, so that whoever
/// comes second can say who is first.
fn lock(dir: &Path) -> Result<DirectoryLock, StoreError> {
    let path = dir.join(LOCK);
    let failed = |source| StoreError::Directory { action: "lock", path: path.clone(), source };
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(StoreError::Locked { path: dir.to_owned(), holder: holder(&file) });
        }
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    file.set_len(0).map_err(failed)?;
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    Ok(DirectoryLock { _file: file })
}

/// The process id in a lock file, if one can be read.
fn holder(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
