//! Opening the database: pragmas, schema, versions.
//!
//! Why these pragmas: WAL lets a search read while a poll writes;
//! `synchronous=FULL` makes every commit survive a power cut, which is what
//! "stored before the connector is called again" means. A commit is one
//! `fsync` per step, so it costs little.
//! Foreign keys are not declared: rows are only written here, in the order
//! that keeps them whole, and checking them costs a look-up per artifact.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::StoreError;
use super::key::FROM_IDS;

/// Marks a database as one of ours (`WFHS`).
const APPLICATION_ID: i64 = 0x5746_4853;

/// Bytes of a page of a new store. An artifact is 1 to 2 KB, of which a page of SQLite's usual 4 KiB holds one or two and
/// wastes what is left: with these a quarter more are stored in a second.
const PAGE: i64 = 16 * 1024;

/// Bytes of the log after which it is copied into the database.
const LOG: i64 = 64 * 1024 * 1024;

/// How each schema version is made from the one before. The version of a
/// database is the number of these that have been applied; entries are never
/// changed, only added.
const MIGRATIONS: &[&str] = &[
    "
    CREATE TABLE instance (
        key       INTEGER PRIMARY KEY,        -- short name of it in other tables
        id        BLOB NOT NULL UNIQUE,       -- random UUID, stays when the name changes
        name      TEXT NOT NULL UNIQUE,
        connector TEXT NOT NULL,              -- slug
        created   INTEGER NOT NULL            -- milliseconds since 1970
    ) STRICT;
    CREATE TABLE checkpoint (
        instance INTEGER PRIMARY KEY,
        bytes    BLOB NOT NULL,
        steps    INTEGER NOT NULL,            -- committed so far, all cycles
        updated  INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE artifact (
        seq      INTEGER PRIMARY KEY,         -- order of arrival
        instance INTEGER NOT NULL,
        id       BLOB NOT NULL,               -- the UUID's 16 bytes; from version 5 on its key
        stream   TEXT NOT NULL,
        stored   INTEGER NOT NULL,
        json     TEXT NOT NULL,
        UNIQUE (instance, id)
    ) STRICT;
    CREATE TABLE outbox (                     -- what no sink has taken yet
        instance INTEGER NOT NULL,
        artifact INTEGER NOT NULL,
        PRIMARY KEY (instance, artifact)
    ) STRICT, WITHOUT ROWID;
    CREATE VIRTUAL TABLE artifact_text USING fts5(
        src_ip, dst_ip, hostname, user, severity, stream, text,
        content='', contentless_delete=1, tokenize='unicode61 remove_diacritics 2'
    );
    INSERT INTO artifact_text(artifact_text, rank) VALUES ('hashsize', 16777216);
",
    "
    ALTER TABLE instance ADD COLUMN handle TEXT;     -- id the operator gave it in the configuration
    CREATE UNIQUE INDEX instance_handle ON instance (handle) WHERE handle IS NOT NULL;
    CREATE TABLE standing (                          -- how an instance stood after its last poll
        instance INTEGER PRIMARY KEY,
        json     TEXT NOT NULL,
        updated  INTEGER NOT NULL
    ) STRICT;
",
    // Parts of the index are merged when there are eight of a size, not four: half of the work, and a search looks at twice
    // as many parts.
    "
    INSERT INTO artifact_text(artifact_text, rank) VALUES ('automerge', 8);
",
    "
    CREATE TABLE swept (                             -- up to where artifacts were let go of: one row, or none
        seq INTEGER PRIMARY KEY
    ) STRICT;
",
    FROM_IDS,
    // A row that is only made shorter keeps its page: what goes is deleted, and its id kept apart.
    "
    CREATE TABLE gone (                              -- artifacts that were let go of
        instance INTEGER NOT NULL,
        id       BLOB NOT NULL,
        PRIMARY KEY (instance, id)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO gone (instance, id) SELECT instance, id FROM artifact WHERE json = '';
    DELETE FROM artifact WHERE json = '';
",
    "
    CREATE TABLE volume (                            -- what came on the last day on which anything came
        instance INTEGER PRIMARY KEY,
        day      INTEGER NOT NULL,                   -- since 1970, UTC
        bytes    INTEGER NOT NULL
    ) STRICT;
    ALTER TABLE swept ADD COLUMN at INTEGER NOT NULL DEFAULT 0;  -- when that was, in milliseconds since 1970
",
    // What is there is not written anew for it: that may be gigabytes. It counts by when it was stored.
    "
    ALTER TABLE artifact ADD COLUMN happened INTEGER;            -- what it says of when it was, in milliseconds since 1970
    CREATE INDEX artifact_happened ON artifact (coalesce(happened, stored), instance);
",
];

/// The schema version this program writes.
fn known_version() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Opens the database for writing and brings its schema up to date. The file
/// must exist; an empty one becomes a new store.
pub(super) fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    let failed = |source| classify(path, source);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
    let version = checked_version(&connection, failed, path)?;
    // A store that is there keeps the size it has.
    connection.pragma_update(None, "page_size", PAGE).map_err(failed)?;
    let mode: String =
        connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0)).map_err(failed)?;
    if !mode.eq_ignore_ascii_case("wal") {
        return Err(StoreError::Directory {
            action: "keep a write-ahead log beside",
            path: path.to_owned(),
            source: std::io::Error::new(
                std::io::ErrorKind::Unsupported,
                format!("the file system only allows journal mode {mode}"),
            ),
        });
    }
    let page: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0)).map_err(failed)?;
    for (name, value) in [
        ("synchronous", 2),         // FULL
        ("cache_size", -16 * 1024), // KiB
        // In pages; so that a page that many steps change is copied once for all of them.
        ("wal_autocheckpoint", LOG / page),
        ("journal_size_limit", LOG),
        ("temp_store", 2), // memory: nothing of the artifacts in a shared /tmp
    ] {
        connection.pragma_update(None, name, value).map_err(failed)?;
    }
    migrate(&mut connection, path, version)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// The oldest version whose rows are read as those of the current one: since then ids are kept as keys.
const READABLE: i64 = 5;

/// Opens the database for reading only. It may be of an older version, if its rows are the same.
///
/// Also a reader writes beside the database, who reads what. Where that is not possible, as on a medium that can only be
/// read, and where no log lies beside it, nobody writes into the database either, and it is read as what does not change.
pub(super) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let opened = reader(path, "");
    match &opened {
        Err(StoreError::Unreadable { .. }) if !has_log(path) => reader(path, "?immutable=1").or(opened),
        _ => opened,
    }
}

/// Whether a log lies beside the database; if that cannot be known, it may.
fn has_log(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    match std::fs::symlink_metadata(log) {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::InvalidFilename),
    }
}

/// Opens the database for reading with what is to be said behind its address.
fn reader(path: &Path, options: &str) -> Result<Connection, StoreError> {
    let failed = |source: rusqlite::Error| match classify(path, source) {
        // Whoever reads wants to know that he may not.
        StoreError::Directory { path, source, .. } => StoreError::Unreadable { path, source },
        other => other,
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let unreadable = |source| StoreError::Unreadable { path: path.to_owned(), source };
    let whole = std::path::absolute(path).map_err(unreadable)?;
    // An address, so that no name of a file is taken for one.
    let address =
        url::Url::from_file_path(whole).map_err(|()| unreadable(std::io::ErrorKind::InvalidFilename.into()))?;
    let connection = Connection::open_with_flags(format!("{address}{options}"), flags).map_err(failed)?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
    match checked_version(&connection, failed, path)? {
        0 => Err(StoreError::Missing { path: path.parent().unwrap_or(path).to_owned() }),
        found if found < READABLE => Err(StoreError::Older { path: path.to_owned(), found, known: known_version() }),
        _ => Ok(connection),
    }
}

/// Whether the file is a database of another program, by its first bytes: nothing is changed beside it, as it would be by
/// opening it. A database whose first bytes say nothing yet is judged when it is opened.
pub(super) fn is_foreign(path: &Path) -> bool {
    let mut header = [0; 105];
    if File::open(path).and_then(|mut file| file.read_exact(&mut header)).is_err() {
        return false;
    }
    let number = |at: usize, bytes: usize| {
        let bytes = header.get(at..at + bytes).unwrap_or_default();
        bytes.iter().fold(0_i64, |number, byte| number << 8 | i64::from(*byte))
    };
    // See https://www.sqlite.org/fileformat.html: versions, and whether the first table, which lists all, has rows.
    let (version, application, rows) = (number(60, 4), number(68, 4), number(103, 2));
    header.starts_with(b"SQLite format 3\0")
        && application != APPLICATION_ID
        && (application != 0 || version != 0 || rows != 0)
}

/// The schema version, after making sure that the database is ours and not
/// newer than this program. 0 for an empty one.
fn checked_version(
    connection: &Connection,
    failed: impl Fn(rusqlite::Error) -> StoreError,
    path: &Path,
) -> Result<i64, StoreError> {
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(&failed)?;
    let application: i64 = connection.pragma_query_value(None, "application_id", |row| row.get(0)).map_err(&failed)?;
    let objects: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(&failed)?;
    if application != APPLICATION_ID && (application != 0 || version != 0 || objects != 0) {
        return Err(StoreError::Foreign { path: path.to_owned() });
    }
    if version > known_version() {
        return Err(StoreError::Newer { path: path.to_owned(), found: version, known: known_version() });
    }
    Ok(version)
}

/// Applies what is missing, all in one transaction.
fn migrate(connection: &mut Connection, path: &Path, from: i64) -> Result<(), StoreError> {
    if from == known_version() {
        return Ok(());
    }
    let failed = |source| classify(path, source);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    for step in MIGRATIONS.iter().skip(usize::try_from(from).unwrap_or(0)) {
        transaction.execute_batch(step).map_err(failed)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
    transaction.pragma_update(None, "user_version", known_version()).map_err(failed)?;
    transaction.commit().map_err(failed)
}

/// Turns what SQLite says into what an operator can act on.
pub(super) fn classify(path: &Path, source: rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode;
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StoreError::Corrupt { path, detail: source.to_string() }
        }
        Some(ErrorCode::DiskFull) => StoreError::Full { path },
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy { path },
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => StoreError::Directory {
            action: "write the database",
            path,
            source: std::io::Error::other(source.to_string()),
        },
        _ => StoreError::Sql { path, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::key::Key;

    #[test]
    fn a_store_of_the_first_version_is_brought_up_to_date_with_all_that_is_in_it() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("state.sqlite");
        let old = Connection::open(&path).expect("database");
        old.execute_batch(MIGRATIONS[0]).expect("schema");
        old.execute_batch("INSERT INTO instance VALUES (1, zeroblob(16), 'acme', 'acme-siem', 0)").expect("row");
        stamp(&old, 1);
        drop(old);
        let new = open_writer(&path).expect("migrated");
        let name: String = new
            .query_row("SELECT name FROM instance WHERE handle IS NULL", [], |row| row.get(0))
            .expect("the instance is there");
        assert_eq!(name, "acme");
        assert_eq!(checked_version(&new, |source| classify(&path, source), &path).expect("version"), known_version());
    }

    #[test]
    fn a_store_whose_ids_are_kept_otherwise_is_not_read_but_told_to_be_brought_up_to_date() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("state.sqlite");
        let old = Connection::open(&path).expect("database");
        let (before, since) = MIGRATIONS.split_at(4);
        before.iter().for_each(|step| old.execute_batch(step).expect("schema"));
        stamp(&old, 4);
        let error = open_reader(&path).expect_err("must fail");
        assert_eq!(error.code(), "state-older");
        assert!(error.to_string().contains("has schema version 4, which is too old to be read"), "{error}");
        old.execute_batch(since[0]).expect("schema");
        stamp(&old, 5);
        drop(open_reader(&path).expect("the ids are as they are now"));
    }

    #[test]
    fn a_reader_is_told_that_he_cannot_read() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let error = open_reader(&dir.path().join("none")).expect_err("nothing is there");
        assert_eq!(error.code(), "state-unreadable");
        assert!(error.to_string().starts_with("cannot read the database "), "{error}");
    }

    #[test]
    fn a_store_beside_which_nothing_can_be_written_is_read_unless_a_log_lies_there() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("state.sqlite");
        std::fs::write(&path, "").expect("file");
        drop(open_writer(&path).expect("store"));
        // Whatever rights this user has: with its ending the name of the log is too long for a file.
        let long = dir.path().join(format!("a ?#%41{}", "x".repeat(245)));
        std::fs::rename(&path, &long).expect("renamed");
        let rows = |connection: Connection| {
            connection.query_row("SELECT count(*) FROM artifact", [], |row| row.get::<_, u32>(0)).expect("rows")
        };
        assert_eq!(rows(open_reader(&long).expect("read")), 0);
        assert_eq!(reader(&long, "").expect_err("a reader writes, too").code(), "state-unreadable");
        assert!(!has_log(&path));
        std::fs::write(dir.path().join("state.sqlite-wal"), "").expect("log");
        assert!(has_log(&path));
    }

    fn stamp(database: &Connection, version: i64) {
        database.pragma_update(None, "application_id", APPLICATION_ID).expect("id");
        database.pragma_update(None, "user_version", version).expect("version");
    }

    #[test]
    fn what_version_4_has_let_go_of_is_known_and_takes_no_room_any_more() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("state.sqlite");
        let old = Connection::open(&path).expect("database");
        MIGRATIONS[..4].iter().for_each(|step| old.execute_batch(step).expect("schema"));
        let [first, second] = ["b643a7c0-f209-11f0-bc64-59ce12fe0409", "4be49362-6b0f-4a5b-9bd9-5ae4aef0ea9e"];
        let id = |text| uuid::Uuid::parse_str(text).expect("id").into_bytes();
        let rows = "INSERT INTO artifact VALUES (1, 1, ?1, 's', 0, ''), (2, 1, ?2, 's', 0, '{}')";
        old.execute(rows, [id(first), id(second)]).expect("rows");
        stamp(&old, 4);
        drop(old);
        let new = open_writer(&path).expect("migrated");
        let ids = |table: &str| {
            let mut ids = new.prepare(&format!("SELECT id FROM {table}")).expect("query");
            let ids = ids.query_map([], |row| Ok(row.get::<_, Key>(0)?.0.to_string())).expect("rows");
            ids.collect::<Result<Vec<_>, _>>().expect("ids")
        };
        assert_eq!((ids("gone"), ids("artifact")), (vec![first.to_owned()], vec![second.to_owned()]));
    }
}
