//! The directory of connectors: which files there are, and which are settled.
//!
//! What: a file is named for judgement once its size, times and identity are the same in two looks, or when it has not
//! been written for a while; then again only when one of them changes. A file is gone when two looks did not find it; one
//! that cannot be looked at is not gone.
//! Why: who copies a file over a slow line writes it bit by bit, and who replaces one may remove it first.
//! Not guaranteed: that a copy which pauses for longer than the time between two looks is not judged half-way; it is
//! refused as damaged then, and judged again when the rest has arrived.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What files of connectors end with.
const ENDING: &str = ".wasm";

/// Most connectors in the directory; those last by name are not looked at.
pub(super) const MOST_FILES: usize = 256;

/// A file not written for this long needs no second look.
const SETTLED_AFTER: Duration = Duration::from_secs(5);

/// Looks without a file after which it is gone.
const MISSING_LOOKS: u32 = 2;

/// Whether a file of this name is taken for a connector.
#[must_use]
pub fn is_connector(name: &str) -> bool {
    !name.starts_with('.') && name.ends_with(ENDING)
}

/// What of a file changes when its content does.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Signature {
    length: u64,
    modified: Option<SystemTime>,
    /// Device, inode and time of the last change of the inode: a copy that keeps the time of the original is seen too.
    identity: (u64, u64, i64, i64),
}

impl Signature {
    #[cfg(unix)]
    fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        let identity = (metadata.dev(), metadata.ino(), metadata.ctime(), metadata.ctime_nsec());
        Self { length: metadata.len(), modified: metadata.modified().ok(), identity }
    }

    #[cfg(not(unix))]
    fn of(metadata: &Metadata) -> Self {
        Self { length: metadata.len(), modified: metadata.modified().ok(), identity: (0, 0, 0, 0) }
    }

    /// Whether it has not been written for a while.
    fn is_old(&self) -> bool {
        self.modified.and_then(|time| time.elapsed().ok()).is_some_and(|age| age >= SETTLED_AFTER)
    }
}

/// A file that is followed.
#[derive(Debug)]
struct Followed {
    signature: Signature,
    /// Whether this signature was given out for judgement.
    judged: bool,
    /// Looks in a row that did not find it.
    missing: u32,
}

/// What a look has found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    /// Names of new or changed files that are settled, in order.
    pub(super) settled: Vec<String>,
    /// Names of files that are gone.
    pub(super) gone: Vec<String>,
    /// Files beyond [`MOST_FILES`].
    pub(super) ignored: usize,
    /// Files that may be there or not: what was tried in vain, one text for each.
    pub(super) unknown: Vec<String>,
    /// What has the name of a connector and is no file, now and at the look before: one text for each.
    pub(super) no_files: Vec<String>,
}

/// The directory.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
    followed: BTreeMap<String, Followed>,
    /// Whether the last look that could be taken saw all there is.
    complete: bool,
    /// What has the name of a connector and is no file, with what it is.
    no_files: BTreeMap<String, &'static str>,
}

impl Files {
    /// Nothing has been looked at yet.
    pub(super) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned(), followed: BTreeMap::new(), complete: false, no_files: BTreeMap::new() }
    }

    /// Where a file is.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Whether a file of this name was there at the last look that could be taken, or is not gone yet.
    pub(super) fn has(&self, name: &str) -> bool {
        self.followed.contains_key(name)
    }

    /// Whether a file is no longer what the last look has seen.
    pub(super) fn has_changed(&self, name: &str) -> bool {
        let now = fs::metadata(self.path(name)).ok().map(|metadata| Signature::of(&metadata));
        self.followed.get(name).map(|followed| &followed.signature) != now.as_ref()
    }

    /// Has a file judged again, for example because it changed while it was read.
    pub(super) fn judge_again(&mut self, name: &str) {
        if let Some(followed) = self.followed.get_mut(name) {
            followed.judged = false;
        }
    }

    /// Whether every file there is was given out for judgement as it is now.
    pub(super) fn is_settled(&self) -> bool {
        self.complete && self.followed.values().all(|followed| followed.judged && followed.missing == 0)
    }

    /// Whether there certainly is no file of this name.
    pub(super) fn is_absent(&self, name: &str) -> bool {
        match fs::metadata(self.path(name)) {
            Ok(metadata) => !metadata.is_file(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        }
    }

    /// Looks at the directory. A file that cannot be looked at, for want of a right or because a network file system has
    /// a bad moment, stays what it was.
    ///
    /// # Errors
    /// When it cannot be read; then nothing is known, and nothing counts as gone.
    pub(super) fn look(&mut self) -> io::Result<Look> {
        let mut found = BTreeMap::new();
        let (mut unknown, mut no_files) = (BTreeMap::new(), BTreeMap::new());
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if !is_connector(&name) {
                continue;
            }
            // Links are followed: what they lead to is the connector.
            match fs::metadata(entry.path()) {
                Ok(metadata) if metadata.is_file() => {
                    found.insert(name, Signature::of(&metadata));
                }
                Ok(_) => {
                    no_files.insert(name, "is no file");
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    unknown.insert(name, error);
                }
                // What is no link was removed just now.
                Err(_) if entry.path().is_symlink() => {
                    no_files.insert(name, "is a link to what is not there");
                }
                Err(_) => {}
            }
        }
        self.complete = unknown.is_empty();
        let mut look = Look { ignored: found.len().saturating_sub(MOST_FILES), ..Look::default() };
        found = found.into_iter().take(MOST_FILES).collect();
        for (name, followed) in &mut self.followed {
            if !found.contains_key(name) && !unknown.contains_key(name) {
                followed.missing += 1;
                if followed.missing >= MISSING_LOOKS {
                    look.gone.push(name.clone());
                }
            }
        }
        self.followed.retain(|_, followed| followed.missing < MISSING_LOOKS);
        // Who replaces what a link leads to may remove it first.
        let stayed = no_files.iter().filter(|(name, what)| self.no_files.get(*name) == Some(what));
        look.no_files = stayed.map(|(name, what)| format!("{name} {what}")).collect();
        self.no_files = no_files;
        look.unknown = unknown.iter().map(|(name, error)| format!("{name}: {error}")).collect();
        for (name, signature) in found {
            if self.see(&name, signature) {
                look.settled.push(name);
            }
        }
        Ok(look)
    }

    /// Takes note of a file; says whether it is to be judged.
    fn see(&mut self, name: &str, signature: Signature) -> bool {
        let is_old = signature.is_old();
        let before = self.followed.get(name);
        let is_same = before.is_some_and(|before| before.signature == signature);
        let was_judged = is_same && before.is_some_and(|before| before.judged);
        let judge = !was_judged && (is_same || is_old);
        self.followed.insert(name.to_owned(), Followed { signature, judged: was_judged || judge, missing: 0 });
        judge
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    fn directory() -> (tempfile::TempDir, Files) {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::new(folder.path());
        (folder, files)
    }

    /// Writes a file that counts as fresh however slow the test is, or as old.
    fn write(files: &Files, name: &str, content: &str, old: bool) {
        fs::write(files.path(name), content).unwrap();
        let hour = Duration::from_hours(1);
        let time = if old { SystemTime::now() - hour } else { SystemTime::now() + hour };
        File::options().write(true).open(files.path(name)).unwrap().set_modified(time).unwrap();
    }

    fn look(files: &mut Files) -> (Vec<String>, Vec<String>) {
        let look = files.look().unwrap();
        (look.settled, look.gone)
    }

    fn settled(files: &mut Files) -> Vec<String> {
        look(files).0
    }

    #[test]
    fn a_fresh_file_is_judged_when_two_looks_agree_and_then_never_again() {
        let (_folder, mut files) = directory();
        write(&files, "a.wasm", "half", false);
        assert!(settled(&mut files).is_empty());
        write(&files, "a.wasm", "half and whole", false);
        assert!(settled(&mut files).is_empty(), "it is still being written");
        assert_eq!(settled(&mut files), ["a.wasm"]);
        assert!(settled(&mut files).is_empty());
        files.judge_again("a.wasm");
        assert_eq!(settled(&mut files), ["a.wasm"]);
    }

    #[test]
    fn a_file_that_lies_there_for_long_is_judged_at_once() {
        let (_folder, mut files) = directory();
        write(&files, "b.wasm", "b", true);
        write(&files, "a.wasm", "a", true);
        assert_eq!(settled(&mut files), ["a.wasm", "b.wasm"]);
        assert!(settled(&mut files).is_empty());
    }

    #[test]
    fn a_change_that_keeps_size_and_time_is_seen() {
        let (_folder, mut files) = directory();
        write(&files, "a.wasm", "one", true);
        let time = fs::metadata(files.path("a.wasm")).unwrap().modified().unwrap();
        assert_eq!(settled(&mut files), ["a.wasm"]);
        fs::write(files.path("other"), "two").unwrap();
        File::options().write(true).open(files.path("other")).unwrap().set_modified(time).unwrap();
        fs::rename(files.path("other"), files.path("a.wasm")).unwrap();
        assert_eq!(settled(&mut files), ["a.wasm"]);
    }

    #[test]
    fn a_file_is_gone_when_two_looks_miss_it_and_new_when_it_comes_back() {
        let (_folder, mut files) = directory();
        write(&files, "a.wasm", "a", true);
        assert_eq!(settled(&mut files), ["a.wasm"]);
        fs::remove_file(files.path("a.wasm")).unwrap();
        assert_eq!(look(&mut files), (vec![], vec![]));
        assert!(files.has("a.wasm"));
        write(&files, "a.wasm", "b", false);
        assert_eq!(look(&mut files), (vec![], vec![]), "replaced by removing it first");
        assert_eq!(settled(&mut files), ["a.wasm"]);
        fs::remove_file(files.path("a.wasm")).unwrap();
        assert_eq!(look(&mut files), (vec![], vec![]));
        assert_eq!(look(&mut files), (vec![], vec!["a.wasm".to_owned()]));
        assert!(!files.has("a.wasm"));
        write(&files, "a.wasm", "b", true);
        assert_eq!(settled(&mut files), ["a.wasm"]);
    }

    #[test]
    fn only_visible_files_that_end_in_wasm_count() {
        let (folder, mut files) = directory();
        for name in ["a.txt", ".hidden.wasm", "wasm", "a.wasm.part"] {
            write(&files, name, "x", true);
        }
        fs::create_dir(folder.path().join("folder.wasm")).unwrap();
        assert_eq!(settled(&mut files), [] as [&str; 0]);
    }

    #[cfg(unix)]
    #[test]
    fn what_has_the_name_of_a_connector_and_is_no_file_is_named_when_two_looks_agree() {
        let (folder, mut files) = directory();
        fs::create_dir(folder.path().join("folder.wasm")).unwrap();
        std::os::unix::fs::symlink("nowhere", folder.path().join("link.wasm")).unwrap();
        let mut no_files = || files.look().unwrap().no_files;
        assert_eq!(no_files(), [] as [&str; 0], "it may be on its way");
        assert_eq!(no_files(), ["folder.wasm is no file", "link.wasm is a link to what is not there"]);
        fs::create_dir(folder.path().join("nowhere")).unwrap();
        assert_eq!(no_files(), ["folder.wasm is no file"]);
        assert_eq!(no_files(), ["folder.wasm is no file", "link.wasm is no file"]);
    }

    #[test]
    fn a_directory_that_cannot_be_read_takes_nothing_away() {
        let (folder, mut files) = directory();
        let aside = folder.path().with_extension("aside");
        write(&files, "a.wasm", "a", true);
        assert_eq!(settled(&mut files), ["a.wasm"]);
        fs::rename(folder.path(), &aside).unwrap();
        for _ in 0..5 {
            files.look().unwrap_err();
        }
        assert!(files.has("a.wasm"));
        fs::rename(&aside, folder.path()).unwrap();
        assert_eq!(look(&mut files), (vec![], vec![]));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_cannot_be_looked_at_is_not_gone() {
        let (_folder, mut files) = directory();
        write(&files, "a.wasm", "a", true);
        assert_eq!(settled(&mut files), ["a.wasm"]);
        assert!(files.is_settled());
        let (path, aside) = (files.path("a.wasm"), files.path("aside"));
        fs::rename(&path, &aside).unwrap();
        // A link to itself cannot be followed, and is neither there nor absent.
        std::os::unix::fs::symlink("a.wasm", &path).unwrap();
        for _ in 0..5 {
            let look = files.look().unwrap();
            assert!(look.gone.is_empty() && look.unknown[0].starts_with("a.wasm: "), "{look:?}");
        }
        assert!(files.has("a.wasm") && !files.is_absent("a.wasm") && !files.is_settled());
        fs::rename(&aside, &path).unwrap();
        // The rename has changed the inode's time.
        assert_eq!(look(&mut files), (vec!["a.wasm".to_owned()], vec![]));
        // A link that leads nowhere is absent.
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("nowhere", &path).unwrap();
        assert!(files.is_absent("a.wasm"));
        assert_eq!(look(&mut files), (vec![], vec![]));
        assert_eq!(look(&mut files), (vec![], vec!["a.wasm".to_owned()]));
    }

    #[test]
    fn files_beyond_the_most_are_counted_and_not_judged() {
        let (_folder, mut files) = directory();
        for number in 0..MOST_FILES + 3 {
            write(&files, &format!("{number:05}.wasm"), "x", true);
        }
        let look = files.look().unwrap();
        assert_eq!((look.settled.len(), look.ignored), (MOST_FILES, 3));
    }
}
