//! What can go wrong with the state directory.
//!
//! Why its own file: every message names the file or directory, and `help`
//! says what to do, so that the command line only has to print both.

use std::path::PathBuf;
use std::time::Duration;

use super::query::WITH_A_STAR;

/// A failure of the store. Nothing was committed when one is returned.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory, or a file in it, cannot be created, read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Directory {
        /// What was tried, for example `create the state directory`.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The database cannot be read.
    #[error("cannot read the database {}: {source}", path.display())]
    Unreadable {
        /// The database file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process holds the directory.
    #[error("the state directory {} is in use by {}", path.display(), holder_text(*holder))]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The other process, when it could be read.
        holder: Option<u32>,
    },
    /// Somebody else could change what is in the directory.
    #[error("the state directory {} is not this user's alone: {why}", path.display())]
    Exposed {
        /// The directory.
        path: PathBuf,
        /// Whose it is, or who can write to it.
        why: &'static str,
    },
    /// The database is not any more where it was opened.
    #[error("the database {} was removed or replaced while this host used it", path.display())]
    Gone {
        /// The file.
        path: PathBuf,
    },
    /// There is no store to read.
    #[error("there is no state in {}", path.display())]
    Missing {
        /// The directory.
        path: PathBuf,
    },
    /// The file is a database of something else.
    #[error("{} is a database, but not one of host-harness", path.display())]
    Foreign {
        /// The database file.
        path: PathBuf,
    },
    /// A newer program wrote it.
    #[error("{} has schema version {found}; this program knows versions up to {known}", path.display())]
    Newer {
        /// The database file.
        path: PathBuf,
        /// The version found.
        found: i64,
        /// The newest version known.
        known: i64,
    },
    /// An older program wrote it, and whoever only reads cannot bring it up to date.
    #[error("{} has schema version {found}, which is too old to be read; this program writes version {known}", path.display())]
    Older {
        /// The database file.
        path: PathBuf,
        /// The version found.
        found: i64,
        /// The version that this program writes.
        known: i64,
    },
    /// Another program holds the database for longer than is waited for.
    #[error("the database {} is held by another program", path.display())]
    Busy {
        /// The database file.
        path: PathBuf,
    },
    /// The file is damaged.
    #[error("the database {} is damaged: {detail}", path.display())]
    Corrupt {
        /// The database file.
        path: PathBuf,
        /// What SQLite found.
        detail: String,
    },
    /// No room.
    #[error("no room left on the disk of {}", path.display())]
    Full {
        /// The database file.
        path: PathBuf,
    },
    /// The instance has brought as much today as it may.
    #[error("it has brought {} MB of artifacts today, which is all that an instance may bring in a day", most / 1_000_000)]
    Daily {
        /// How much that is, in bytes.
        most: u64,
    },
    /// The instance's name cannot be used.
    #[error("{name:?} is no name for an instance: a name has 1 to 64 characters, none of them a control character")]
    Name {
        /// The name given.
        name: String,
    },
    /// The name belongs to an instance of another connector.
    #[error("the instance {name:?} belongs to the connector {owner}, not to {given}")]
    OtherConnector {
        /// The instance.
        name: String,
        /// The connector it was made for.
        owner: String,
        /// The connector that asked for it.
        given: String,
    },
    /// Two names or ids lead to one instance.
    #[error("this is the same instance as one before: one has the id of the other")]
    Twice,
    /// One instance has this name, and another one has it as its id.
    #[error("{name:?} is the name of one instance and the id of another")]
    Ambiguous {
        /// What was asked for.
        name: String,
    },
    /// No instance has this name.
    #[error("no instance {name:?} in this state directory; there is {}", list(known))]
    UnknownInstance {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// An artifact whose id is not a UUID reached the store.
    #[error("the artifact id {id:?} is not a UUID")]
    ArtifactId {
        /// The id.
        id: String,
    },
    /// A search that is too long to run.
    #[error("the query has {terms} {kind}; at most {most} can be searched for at once")]
    Query {
        /// How many terms it has.
        terms: usize,
        /// What is counted: all terms, or a kind of them.
        kind: &'static str,
        /// How many are allowed.
        most: usize,
    },
    /// A search that took too long.
    #[error("the search took longer than {} s and was ended", within.as_secs())]
    TooLong {
        /// The time it had.
        within: Duration,
        /// Whether it was one without words, for the newest artifacts.
        newest: bool,
    },
    /// Anything else that SQLite says.
    #[error("the database {} failed: {source}", path.display())]
    Sql {
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

impl StoreError {
    /// Whether an instance is asked for that cannot be had, and nothing is wrong with the store.
    #[must_use]
    pub fn is_of_an_instance(&self) -> bool {
        matches!(self, Self::Name { .. } | Self::OtherConnector { .. } | Self::Twice | Self::Ambiguous { .. })
    }

    /// Whether something that is stored cannot be read, and what else is stored may be: that is damage to rows or pages. All
    /// else that SQLite says (a disk that fails, above all) holds for whatever is asked for next as well.
    #[must_use]
    pub fn is_of_what_is_stored(&self) -> bool {
        use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType, Utf8Error};
        match self {
            Self::Corrupt { .. } => true,
            Self::Sql { source, .. } => matches!(
                source,
                FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) | InvalidColumnType(..) | Utf8Error(..)
            ),
            _ => false,
        }
    }

    /// Stable name of the kind of failure, for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Directory { .. } => "state-directory",
            Self::Unreadable { .. } => "state-unreadable",
            Self::Locked { .. } => "state-locked",
            Self::Exposed { .. } => "state-not-private",
            Self::Gone { .. } => "state-gone",
            Self::Missing { .. } => "state-missing",
            Self::Foreign { .. } => "state-foreign",
            Self::Newer { .. } => "state-newer",
            Self::Older { .. } => "state-older",
            Self::Busy { .. } => "state-busy",
            Self::Corrupt { .. } => "state-corrupt",
            Self::Full { .. } => "state-full",
            Self::Daily { .. } => "daily-limit",
            Self::Name { .. } => "instance-name",
            Self::OtherConnector { .. } => "instance-of-other-connector",
            Self::Twice => "config-twice",
            Self::UnknownInstance { .. } => "instance-unknown",
            Self::Ambiguous { .. } => "instance-ambiguous",
            Self::ArtifactId { .. } => "artifact-id",
            Self::Query { .. } => "query-too-long",
            Self::TooLong { .. } => "search-too-long",
            Self::Sql { .. } => "state-failed",
        }
    }

    /// What the operator can do, one or two sentences without a full stop at
    /// the end.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match self {
            Self::Directory { source, .. } if source.kind() == std::io::ErrorKind::ReadOnlyFilesystem => {
                "look at the disk and the log of the system: a file system in which an error was found can only be read from then on; stop the host, have it checked, mount it anew and start the host"
            }
            Self::Directory { .. } => "give a directory that this user can write to",
            Self::Unreadable { .. } => "give a directory that this user can read, or run this as the user of the host",
            Self::Locked { .. } => "wait until the other process has ended, or give each process its own directory",
            Self::Exposed { .. } => {
                "make it this user's alone (chown, chmod go-w), or name a directory below it, which is made for this user alone"
            }
            Self::Gone { .. } => {
                "stop the host, put the state directory back or leave what is there now, and start it; nothing more is collected until then"
            }
            Self::Missing { .. } => "name the directory that was given to `poll --state`, or poll first",
            Self::Foreign { .. } => "give an empty or new directory; nothing was changed in this one",
            Self::Newer { .. } => "use the newer host-harness that wrote it, or another directory; nothing was changed",
            Self::Older { .. } => "start the host, or poll, once with this version: that brings the store up to date",
            Self::Busy { .. } => "try again when backups, checks and other programs that use this file have ended",
            Self::Corrupt { .. } => {
                "restore the directory from a backup, or move it away and poll into a new one: the look-back is collected again and artifacts keep their ids"
            }
            Self::Full { .. } => "free some room and try again; nothing is ever stored by halves",
            Self::Daily { .. } => {
                "nothing is lost: it goes on at midnight UTC; if so much is to be expected of this vendor, raise most_megabytes_per_day (in [host], and start the host anew; of a single poll, --most-megabytes-per-day), else look at its connector"
            }
            Self::Name { .. } => "choose a name such as acme-us",
            Self::OtherConnector { .. } => {
                "correct its integration_type, or give it another id, or another name where it has none; the one that is stored, with all of its artifacts, goes with `host-harness instances remove`"
            }
            Self::Twice => "give each its own id and name",
            Self::Ambiguous { .. } => "see `host-harness instances list`, and name it by what no other has",
            Self::UnknownInstance { .. } => "name one of these",
            Self::ArtifactId { .. } => "report this to whoever maintains the connector",
            Self::Query { kind: WITH_A_STAR, .. } => "search for fewer with a *, or ask more than once",
            Self::Query { .. } => "search for fewer words, or ask more than once",
            Self::TooLong { newest: true, .. } => "ask for fewer artifacts, or when the machine has less to do",
            Self::TooLong { .. } => "narrow it: longer words, fewer of them with a *, a field before them",
            Self::Sql { source, .. } if source.sqlite_error_code() == Some(rusqlite::ErrorCode::SystemIoFailure) => {
                "look at the disk and the log of the system: it could not be read or written; when it works again, what waits is stored and delivered"
            }
            Self::Sql { .. } => "try again; if it stays, check the disk and restore the directory from a backup",
        }
    }
}

/// `process 123`, or what can be said without knowing it.
fn holder_text(holder: Option<u32>) -> String {
    holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

/// Names in quotes, or `none`.
fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}
