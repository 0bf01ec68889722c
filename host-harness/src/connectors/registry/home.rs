//! What the registry keeps on disk: `connectors/` in the host's state directory.
//!
//! What: small JSON records by kind and name, each replaced by rename and readable by this user only, and components
//! that have proved themselves. The host writes them and so does the operator's command line; the host looks at them
//! again at every scan, so nobody has to tell it.
//! Why files and not the database: the database has one writer, and an operator releases a quarantine while the host
//! runs.
//! Not guaranteed: an order between two records. Each is sound by itself, and any combination of them is safe to start
//! from.

use crate::private;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Most bytes of a record. The largest hold the rules of a plan: 32 of about a kilobyte, of several instances.
const LARGEST: u64 = 4 << 20;

/// A kind of record, which is a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Versions that failed, by digest.
    Quarantine,
    /// What the operator grants, by integration type.
    Pins,
    /// What awaits the operator's confirmation, by digest.
    Held,
    /// The version that proved itself last, by integration type; its component beside it, by digest.
    Kept,
    /// What is being loaded, by digest. One that is there when a host starts is what the one before ended on.
    Trying,
}

impl Kind {
    /// All kinds.
    const ALL: [Self; 5] = [Self::Quarantine, Self::Pins, Self::Held, Self::Kept, Self::Trying];

    /// Name of the directory.
    fn directory(self) -> &'static str {
        match self {
            Self::Quarantine => "quarantine",
            Self::Pins => "pins",
            Self::Held => "held",
            Self::Kept => "kept",
            Self::Trying => "trying",
        }
    }
}

/// Why a record cannot be used, written or removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {why}", path.display())]
pub struct RecordError {
    /// What was tried.
    action: &'static str,
    /// The record.
    pub(super) path: PathBuf,
    /// What is wrong.
    why: String,
}

impl RecordError {
    /// A stable name of the error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        "connector-record"
    }
}

/// The directory.
#[derive(Clone, Debug)]
pub(super) struct Home {
    path: PathBuf,
}

impl Home {
    /// Opens it for a host, making it for this user alone when it is not there.
    ///
    /// # Errors
    /// When it cannot be made, belongs to somebody else, or can be written by others.
    pub(super) fn open(state: &Path) -> Result<Self, RecordError> {
        let home = Self::at(state);
        for directory in std::iter::once(home.path.clone()).chain(Kind::ALL.map(|kind| home.directory(kind))) {
            private::open_directory(&directory).map_err(|error| failed("use", &directory, &error))?;
        }
        Ok(home)
    }

    /// The directory where it is, whether it is there or not.
    pub(super) fn at(state: &Path) -> Self {
        Self { path: state.join("connectors") }
    }

    /// Whether a host has ever used it.
    ///
    /// # Errors
    /// When this user cannot look.
    pub(super) fn exists(&self) -> Result<bool, RecordError> {
        self.path.try_exists().map_err(|error| failed("look at", &self.path, &error))
    }

    /// Where compiled code is kept when the operator names no other place.
    pub(super) fn compiled(&self) -> PathBuf {
        self.path.join("compiled")
    }

    /// Where the report of the running host is.
    fn report(&self) -> PathBuf {
        self.path.join("report.json")
    }

    /// The last report that a host wrote.
    ///
    /// # Errors
    /// When there is one that cannot be read.
    pub(super) fn load_report<T: DeserializeOwned>(&self) -> Result<Option<T>, RecordError> {
        load(&self.report())
    }

    /// Writes the report.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn save_report<T: Serialize>(&self, report: &T) -> Result<(), RecordError> {
        save(&self.report(), report)
    }

    /// A record; `None` when there is none of this name.
    ///
    /// # Errors
    /// When there is one that cannot be used: unreadable, damaged, or writable by others.
    pub(super) fn load<T: DeserializeOwned>(&self, kind: Kind, name: &str) -> Result<Option<T>, RecordError> {
        load(&self.record(kind, name))
    }

    /// Writes a record.
    ///
    /// # Errors
    /// When it cannot be written; an older one stays.
    pub(super) fn save<T: Serialize>(&self, kind: Kind, name: &str, record: &T) -> Result<(), RecordError> {
        save(&self.record(kind, name), record)
    }

    /// Removes a record; one that is not there is no error.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub(super) fn remove(&self, kind: Kind, name: &str) -> Result<(), RecordError> {
        let path = self.record(kind, name);
        private::remove(&path).map_err(|error| failed("remove", &path, &error))
    }

    /// The names of all records of a kind, in order.
    ///
    /// # Errors
    /// When the directory is there and cannot be read.
    pub(super) fn names(&self, kind: Kind) -> Result<Vec<String>, RecordError> {
        let directory = self.directory(kind);
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("read", &directory, &error)),
        };
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|name| name.strip_suffix(".json").map(str::to_owned))
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort();
        Ok(names)
    }

    /// Keeps the bytes of a component.
    ///
    /// # Errors
    /// When they cannot be written.
    pub(super) fn keep_component(&self, digest: &str, bytes: &[u8]) -> Result<(), RecordError> {
        let path = self.component(digest);
        private::replace(&path, &[bytes]).map_err(|error| failed("write", &path, &error))
    }

    /// The kept bytes of a component, at most `most`.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(super) fn kept_component(&self, digest: &str, most: u64) -> Result<Option<Vec<u8>>, RecordError> {
        let path = self.component(digest);
        private::read(&path, most).map_err(|error| failed("read", &path, &error))
    }

    /// The digests of all kept components.
    pub(super) fn components(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.directory(Kind::Kept)) else { return Vec::new() };
        entries
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok()?.strip_suffix(".wasm").map(str::to_owned))
            .collect()
    }

    /// Removes the kept bytes of a component.
    ///
    /// # Errors
    /// When they cannot be removed.
    pub(super) fn drop_component(&self, digest: &str) -> Result<(), RecordError> {
        let path = self.component(digest);
        private::remove(&path).map_err(|error| failed("remove", &path, &error))
    }

    /// Where records of a kind are.
    pub(super) fn directory(&self, kind: Kind) -> PathBuf {
        self.path.join(kind.directory())
    }

    /// Where a record is. Names are digests and integration types, of which neither holds a separator.
    fn record(&self, kind: Kind, name: &str) -> PathBuf {
        self.directory(kind).join(format!("{name}.json"))
    }

    /// Where a kept component is.
    fn component(&self, digest: &str) -> PathBuf {
        self.directory(Kind::Kept).join(format!("{digest}.wasm"))
    }
}

/// The error of an operation.
fn failed(action: &'static str, path: &Path, why: &dyn std::fmt::Display) -> RecordError {
    RecordError { action, path: path.to_owned(), why: why.to_string() }
}

/// Reads a record.
fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, RecordError> {
    match private::read(path, LARGEST) {
        Ok(None) => Ok(None),
        Ok(Some(bytes)) => serde_json::from_slice(&bytes).map(Some).map_err(|error| failed("understand", path, &error)),
        Err(error) => Err(failed("read", path, &error)),
    }
}

/// Writes a record.
fn save<T: Serialize>(path: &Path, record: &T) -> Result<(), RecordError> {
    let bytes = serde_json::to_vec_pretty(record).map_err(|error| failed("write", path, &error))?;
    private::replace(path, &[&bytes, b"\n"]).map_err(|error| failed("write", path, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> (tempfile::TempDir, Home) {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        (folder, home)
    }

    #[test]
    fn a_record_is_replaced_whole_and_removed() {
        let (_folder, home) = home();
        assert_eq!(home.load::<Vec<u32>>(Kind::Pins, "a").unwrap(), None);
        home.save(Kind::Pins, "a", &[1, 2]).unwrap();
        home.save(Kind::Pins, "a", &[3]).unwrap();
        home.save(Kind::Pins, "b", &[4]).unwrap();
        assert_eq!(home.load::<Vec<u32>>(Kind::Pins, "a").unwrap(), Some(vec![3]));
        assert_eq!(home.names(Kind::Pins).unwrap(), ["a", "b"]);
        home.remove(Kind::Pins, "a").unwrap();
        home.remove(Kind::Pins, "a").unwrap();
        assert_eq!(home.names(Kind::Pins).unwrap(), ["b"]);
        assert_eq!(home.names(Kind::Held).unwrap(), [] as [String; 0]);
    }

    #[test]
    fn a_half_written_record_is_an_error_and_one_left_aside_is_not_seen() {
        let (_folder, home) = home();
        home.save(Kind::Quarantine, "a", &[1, 2, 3]).unwrap();
        let path = home.record(Kind::Quarantine, "a");
        let whole = fs::read(&path).unwrap();
        // A crash before the rename leaves the old record and a file aside.
        fs::write(home.directory(Kind::Quarantine).join(".1-1.tmp"), &whole[..3]).unwrap();
        assert_eq!(home.load::<Vec<u32>>(Kind::Quarantine, "a").unwrap(), Some(vec![1, 2, 3]));
        assert_eq!(home.names(Kind::Quarantine).unwrap(), ["a"]);
        for length in 0..whole.len() - 2 {
            fs::write(&path, &whole[..length]).unwrap();
            let error = home.load::<Vec<u32>>(Kind::Quarantine, "a").unwrap_err();
            assert_eq!(error.code(), "connector-record");
            assert!(error.to_string().contains("quarantine/a.json"), "{error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn records_are_this_users_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let (folder, home) = home();
        home.save(Kind::Pins, "a", &[1]).unwrap();
        let path = home.record(Kind::Pins, "a");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(home.load::<Vec<u32>>(Kind::Pins, "a").unwrap_err().to_string().contains("others can write it"));
        fs::set_permissions(home.directory(Kind::Pins), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Home::open(folder.path()).unwrap_err().to_string().contains("pins"));
    }
}
