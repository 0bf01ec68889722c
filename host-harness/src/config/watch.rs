//! Noticing that the content of a file has changed.
//!
//! Why by looking and not by notifications: those miss changes on network file systems, through symbolic links (as
//! mounted secrets are) and by renames; a look costs a microsecond. What counts is the content: a file that was only
//! touched has not changed. Content is read again only when size, times or identity differ, or when the file is so
//! young that a change might not show in its times.
//! Not guaranteed: changes that are undone between two looks are not seen.

use std::fs::Metadata;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use crate::files;

/// Time between two looks.
pub const EVERY: Duration = Duration::from_secs(2);

/// A file that was changed less than this ago may be changed again without a new time.
const YOUNG: Duration = Duration::from_secs(3);

/// Most bytes that are looked at.
const MOST: u64 = super::MOST_BYTES + 1;

/// What a file looked like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    meta: Option<[i64; 7]>,
    digest: Option<[u8; 32]>,
    settled: bool,
}

impl Look {
    /// Looks at a file; `before` is what it looked like the last time.
    #[must_use]
    pub fn at(path: &Path, before: Option<&Self>) -> Self {
        let metadata = std::fs::metadata(path).ok();
        let meta = metadata.as_ref().map(identity);
        if let Some(before) = before
            && before.settled
            && before.meta == meta
        {
            return before.clone();
        }
        // A pipe or a device could keep whoever opens it waiting for ever.
        let is_file = metadata.as_ref().is_some_and(Metadata::is_file);
        let age =
            metadata.and_then(|data| data.modified().ok()).and_then(|at| SystemTime::now().duration_since(at).ok());
        Self { meta, digest: is_file.then(|| digest(path)).flatten(), settled: age.is_some_and(|age| age > YOUNG) }
    }

    /// Whether the content is another one; no content is one, too.
    #[must_use]
    pub fn differs(&self, other: &Self) -> bool {
        self.digest != other.digest
    }

    /// SHA-256 of the content; none when it cannot be read.
    #[must_use]
    pub fn digest(&self) -> Option<&[u8; 32]> {
        self.digest.as_ref()
    }
}

fn identity(data: &Metadata) -> [i64; 7] {
    let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    [
        number(data.dev()),
        number(data.ino()),
        number(data.size()),
        data.mtime(),
        data.mtime_nsec(),
        data.ctime(),
        data.ctime_nsec(),
    ]
}

fn digest(path: &Path) -> Option<[u8; 32]> {
    let mut file = files::open(path).ok()?.take(MOST);
    let mut digest = Sha256::new();
    let mut buffer = [0_u8; 16 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Some(digest.finalize().into()),
            Ok(read) => digest.update(buffer.get(..read)?),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

/// Reports each content of a file once, when it has been the same in two looks: one that is being written is not judged.
#[derive(Debug)]
pub struct FileWatch {
    path: PathBuf,
    reported: Look,
    last: Look,
}

impl FileWatch {
    /// Watches a file whose present content is known.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        let look = Look::at(&path, None);
        Self { path, reported: look.clone(), last: look }
    }

    /// Looks; true when there is a content that was not reported yet.
    pub fn look(&mut self) -> bool {
        let look = Look::at(&self.path, Some(&self.last));
        let stable = !look.differs(&self.last);
        let new = stable && look.differs(&self.reported);
        if new {
            self.reported = look.clone();
        }
        self.last = look;
        new
    }

    /// Whether the last look saw the content that was reported last.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        !self.last.differs(&self.reported)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_pipe_in_the_place_of_a_file_has_no_content_and_is_not_waited_for() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().expect("mkfifo").success());
        assert_eq!(Look::at(&path, None).digest(), None);
    }

    #[test]
    fn a_content_is_reported_once_when_it_has_come_to_rest() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("f");
        fs::write(&path, "one").expect("file");
        let mut watch = FileWatch::new(path.clone());
        assert!(!watch.look());
        fs::write(&path, "tw").expect("file");
        assert!(!watch.look(), "it may still be written");
        assert!(!watch.is_at_rest());
        fs::write(&path, "two").expect("file");
        assert!(!watch.look());
        assert!(watch.look());
        assert!(!watch.look() && watch.is_at_rest());
        fs::write(&path, "two").expect("touched");
        assert!(!watch.look() && !watch.look());
    }

    #[test]
    fn a_file_that_goes_and_one_that_comes_by_rename_are_seen() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("f");
        let mut watch = FileWatch::new(path.clone());
        fs::write(dir.path().join("g"), "new").expect("file");
        fs::rename(dir.path().join("g"), &path).expect("renamed");
        assert!(!watch.look() && watch.look());
        fs::remove_file(&path).expect("removed");
        assert!(!watch.look() && watch.look());
    }

    #[test]
    fn a_young_file_is_read_again_even_when_its_times_are_the_same() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("f");
        fs::write(&path, "one").expect("file");
        let first = Look::at(&path, None);
        let mut pretended = Look::at(&path, None);
        fs::write(&path, "two").expect("file");
        pretended.meta = std::fs::metadata(&path).ok().as_ref().map(identity);
        assert!(Look::at(&path, Some(&pretended)).differs(&first));
        pretended.settled = true;
        assert!(!Look::at(&path, Some(&pretended)).differs(&first), "an old one is not");
    }
}
