//! The store: checkpoints, artifacts, what is still to be delivered, search.
//!
//! Why SQLite: one file, one transaction for a whole step, and a full-text
//! index in the same transaction. A step is either stored with its checkpoint
//! or not at all, so after a crash collecting goes on from the last one, and
//! an artifact that comes again is recognised by its id.
//! Not guaranteed: two processes cannot write one directory (the second gets
//! [`StoreError::Locked`]); reading beside a writer is fine.

mod attributed;
mod commit;
mod directory;
mod error;
mod identity;
mod indexing;
mod key;
mod logic;
mod notes;
mod outbox;
mod period;
mod query;
mod retention;
mod schema;
mod search;
mod standing;
mod tenants;
mod text;
mod typed;
mod volume;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::locks::lock;

pub use attributed::Attributed;
pub use commit::Committed;
pub use error::StoreError;
pub use identity::{Identity, is_instance_name};
pub use outbox::Undelivered;
pub use period::{Period, PeriodError};
pub use search::Found;
pub use search::Hit;
pub use search::Most;
pub use tenants::Standing;

/// An instance as the store knows it: state belongs to `id`, whatever the
/// name becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Random UUID given when the instance was first seen.
    pub id: Uuid,
    /// Unique name given by the operator.
    pub name: String,
    /// Slug of the connector it belongs to.
    pub connector: String,
    /// Its row in the database.
    key: i64,
}

/// How much there is of everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Instances ever polled.
    pub instances: u64,
    /// Artifacts stored; those that were let go of are not among them.
    pub artifacts: u64,
    /// Artifacts that no sink has taken yet.
    pub undelivered: u64,
}

/// The store of one state directory, open for writing and locked. Clones
/// share it. Its functions block (a commit waits for the disk): call them
/// where blocking is fine.
#[derive(Clone, Debug)]
pub struct Store {
    database: Database,
    /// The file that it was opened in.
    file: directory::Inode,
    /// Numbers of artifacts, by instance, that were delivered while that could not be recorded.
    delivered: Arc<Mutex<BTreeMap<i64, BTreeSet<i64>>>>,
    /// Bytes of artifacts that an instance may bring in a day.
    daily: Arc<AtomicU64>,
    /// The highest key of an instance that was removed: whoever still has one of it in hand must not meet another.
    highest: Arc<AtomicI64>,
    /// Held until the last clone is gone.
    _lock: Arc<directory::DirectoryLock>,
}

/// The store of one state directory, open for reading, also while another
/// process polls into it.
#[derive(Clone, Debug)]
pub struct Reader {
    database: Database,
    /// For what takes no time: it never waits behind a search.
    quick: Database,
}

/// Steps of SQLite's machine between two looks at the clock, of which there are millions in a second.
const STEPS_OF_A_LOOK: i32 = 1_000;

/// One connection and the file it belongs to.
#[derive(Clone, Debug)]
struct Database {
    connection: Arc<Mutex<Connection>>,
    path: Arc<PathBuf>,
    /// When it was last found to be in use by another program for too long.
    busy: Arc<Mutex<Option<Instant>>>,
}

/// What whoever asks for this should know of how the query is taken, if there is something.
#[must_use]
pub fn remark(query: &str) -> Option<String> {
    query::remark(query)
}

/// What whoever has asked for this, and found nothing, should know of how the query was taken.
#[must_use]
pub fn notes(query: &str) -> Vec<String> {
    notes::unknown_fields(query)
}

impl Store {
    /// Says whether a directory is one that a store may be in: this user's alone, or not there yet. Nothing is made.
    ///
    /// # Errors
    /// When it is not, or cannot be looked at.
    pub fn check(dir: &Path) -> Result<(), StoreError> {
        directory::check_private(dir)
    }

    /// Opens the store in `dir` for writing. A directory that does not exist
    /// is created (mode 0700), an empty one becomes a new store.
    ///
    /// Fails when the directory cannot be written or is in use, and when
    /// what is in it is damaged, foreign or newer; then it is left as it is.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let lock = directory::prepare(dir)?;
        let path = directory::database(dir);
        let connection = schema::open_writer(&path)?;
        let file = directory::inode(&path)?.ok_or_else(|| StoreError::Gone { path: path.clone() })?;
        Ok(Self {
            database: Database::new(connection, path),
            file,
            delivered: Arc::default(),
            daily: Arc::new(AtomicU64::new(u64::MAX)),
            highest: Arc::default(),
            _lock: Arc::new(lock),
        })
    }

    /// Whether the file that was opened is still the one under its name: SQLite would go on writing into one that nobody
    /// finds again.
    ///
    /// # Errors
    /// [`StoreError::Gone`] when it is not.
    pub fn in_place(&self) -> Result<(), StoreError> {
        match directory::inode(&self.database.path)? {
            Some(now) if now == self.file => Ok(()),
            _ => Err(StoreError::Gone { path: self.database.path.to_path_buf() }),
        }
    }

    /// Whether there is room on the disk again for a step, which is tried.
    ///
    /// # Errors
    /// [`StoreError::Full`] when there is none, [`StoreError::Directory`] when the disk can only be read; what else is in the
    /// way shows when something is stored.
    pub fn try_room(&self) -> Result<(), StoreError> {
        directory::try_room(&self.database.path)
    }

    /// Whether a step could be stored now, as far as can be tried without storing anything: the database is in its place,
    /// there is room, a row of it and of its full text can be written, and what is written reaches the disk.
    ///
    /// # Errors
    /// What is in the way.
    pub fn try_write(&self) -> Result<(), StoreError> {
        self.in_place()?;
        self.try_room()?;
        self.database.write(|connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute("INSERT INTO artifact_text (rowid, text) VALUES (?1, 'tried')", [i64::MAX])?;
            // Where a savepoint begins, the full text is written out.
            transaction.execute_batch("SAVEPOINT tried; RELEASE tried")?;
            transaction.rollback()?;
            // All that was in memory. A disk that has become one to read, or fails, shows when something is committed: the
            // version as it is.
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
            transaction.pragma_update(None, "user_version", version)?;
            transaction.commit()
        })
    }

    /// See [`Reader::search`].
    #[cfg(test)]
    pub(crate) fn search(&self, query: &str, instance: Option<&str>, limit: u32) -> Result<Vec<Hit>, StoreError> {
        Ok(search::run(&self.database, query, instance, Most::hits(limit))?.hits)
    }

    /// See [`Reader::counts`].
    #[cfg(test)]
    pub(crate) fn counts(&self) -> Result<Counts, StoreError> {
        self.database.counts()
    }
}

impl Reader {
    /// Opens the store in `dir` for reading. Fails with
    /// [`StoreError::Missing`] when there is none.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let path = directory::database(dir);
        match std::fs::metadata(&path) {
            Ok(file) if file.is_file() => {}
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(StoreError::Unreadable { path, source });
            }
            _ => return Err(StoreError::Missing { path: dir.to_owned() }),
        }
        let database = Database::new(schema::open_reader(&path)?, path.clone());
        Ok(Self { database, quick: Database::new(schema::open_reader(&path)?, path) })
    }

    /// Finds artifacts, those stored last first, at most `limit`.
    ///
    /// All terms of the query must match, unless OR stands between them; NOT
    /// before one leaves out what it finds. Both are understood in capitals;
    /// AND binds closer than OR, and brackets hold together. A term is a word, a `"quoted
    /// phrase"`, a word with a trailing `*` for any ending (behind a dot or a
    /// hyphen, for any words that follow), or one of these, or a bracket, behind a field: `src_ip:` `dst_ip:` `hostname:` `user:` `severity:`
    /// `stream:`; with a hyphen before the field it is left out. A UUID is found as a whole or by its beginning with a `*`, a
    /// time by its day (`2026-01-15`), down to its second
    /// (`2026-01-15T11:59`, `2026-01-15 11:59`) or by its beginning with a `*` (`2026-01*`), as it
    /// is written. Words are what stands between spaces and punctuation: those
    /// of languages that are written without spaces are not told apart.
    /// Whatever else is typed is
    /// searched for as text; no query is a syntax error. An empty query finds
    /// the newest artifacts.
    pub fn search(&self, query: &str, instance: Option<&str>, limit: u32) -> Result<Vec<Hit>, StoreError> {
        Ok(search::run(&self.database, query, instance, Most::hits(limit))?.hits)
    }

    /// The same, but it ends where it would be too large, and fails with [`StoreError::TooLong`] when it takes too long.
    /// The time begins when the searches of others before it have ended.
    pub fn search_at_most(&self, query: &str, instance: Option<&str>, most: Most) -> Result<Found, StoreError> {
        search::run(&self.database, query, instance, most)
    }

    /// Counts over all instances.
    pub fn counts(&self) -> Result<Counts, StoreError> {
        self.database.counts()
    }

    /// How many artifacts no sink has taken yet. Unlike [`Reader::counts`] it
    /// does not look at the others, however many there are, and does not wait for searches.
    pub fn outbox_depth(&self) -> Result<u64, StoreError> {
        self.quick.with(|connection| {
            let rows: i64 = connection.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0))?;
            Ok(rows.unsigned_abs())
        })
    }
}

impl Database {
    fn new(connection: Connection, path: PathBuf) -> Self {
        Self { connection: Arc::new(Mutex::new(connection)), path: Arc::new(path), busy: Arc::default() }
    }

    /// The connection. A panic of an earlier holder has rolled its
    /// transaction back, so a poisoned lock is fine to take.
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` on the connection and explains its failure.
    fn with<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        work(&mut self.lock()).map_err(|source| schema::classify(&self.path, source))
    }

    /// The same for what writes. Where somebody else keeps the database to himself, one waits for that, and fails; whoever
    /// queued behind him meanwhile to write as well fails with him instead of waiting as long again, one after the other.
    fn write<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T, StoreError> {
        let asked = Instant::now();
        let mut connection = self.lock();
        if lock(&self.busy).is_some_and(|found| found > asked) {
            return Err(StoreError::Busy { path: self.path.to_path_buf() });
        }
        let result = work(&mut connection);
        drop(connection);
        result.map_err(|source| {
            // SQLite tells a full disk from one that fails, but not a quota that is used up, or a disk that can only be read.
            let is_io = source.sqlite_error_code() == Some(ErrorCode::SystemIoFailure);
            let full = if is_io { directory::try_room(&self.path).err() } else { None };
            let error = full.unwrap_or_else(|| schema::classify(&self.path, source));
            if matches!(error, StoreError::Busy { .. }) {
                *lock(&self.busy) = Some(Instant::now());
            }
            error
        })
    }

    /// The same, but SQLite gives up when `work` takes longer than `within`.
    fn with_within<T>(
        &self,
        within: Option<Duration>,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let Some(within) = within else { return self.with(work) };
        let mut connection = self.lock();
        let begun = Instant::now();
        let result = connection
            .progress_handler(STEPS_OF_A_LOOK, Some(move || begun.elapsed() >= within))
            .and_then(|()| work(&mut connection));
        // Whoever comes next has a time of his own. It cannot fail; if it did, the next one would end at once.
        let _ = connection.progress_handler(0, None::<fn() -> bool>);
        result.map_err(|source| match source.sqlite_error_code() {
            Some(ErrorCode::OperationInterrupted) => StoreError::TooLong { within, newest: false },
            _ => schema::classify(&self.path, source),
        })
    }

    fn counts(&self) -> Result<Counts, StoreError> {
        self.with(|connection| {
            let count = |table: &str| -> rusqlite::Result<u64> {
                let rows: i64 = connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?;
                Ok(rows.unsigned_abs())
            };
            Ok(Counts { instances: count("instance")?, artifacts: count("artifact")?, undelivered: count("outbox")? })
        })
    }
}

/// A time as the database keeps it: milliseconds since 1970.
fn to_millis(time: OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

/// The inverse of [`to_millis`]; a number outside the range of years becomes
/// the start of 1970.
fn from_millis(millis: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests;
