//! Compiled components on disk.
//!
//! What: an entry holds the machine code of one component for one engine, with the digests of both and of the code
//! itself. It is read whole into memory, checked, and only what was checked is run.
//! Why so careful: machine code runs with the rights of this process; whoever can write an entry owns the host. So
//! the directory and the entries must belong to this user and be writable by nobody else, an entry is found by what
//! it was made from, and it is used only when its own digest is right: truncated, stale, foreign or damaged entries
//! are compiled again.
//! Not guaranteed: protection from somebody who acts as this user or as root (who could replace the host itself), nor
//! from one who controls a directory above. Nothing is ever removed: old entries may be deleted at any time.

use super::{hex, private};
use sha2::{Digest, Sha256};
use std::io;
use std::path::{Path, PathBuf};
use wasmtime::Engine;
use wasmtime::component::Component;

/// First bytes of an entry; the last of them is the version of this format.
const MAGIC: &[u8; 8] = b"SC-AOT\0\x01";

/// Bytes of a digest in hexadecimal.
const HEX: usize = 64;

/// Bytes before the code: magic, digest of the component, digest of the engine, digest of the code.
const HEADER: usize = MAGIC.len() + 3 * HEX;

/// Most bytes of an entry that are read: far above what the largest component compiles to.
const LARGEST: u64 = 512 << 20;

/// A directory of compiled components.
pub(super) struct Cache {
    directory: PathBuf,
}

/// Code of which the digests were checked. Only this module makes it.
pub(super) struct Checked(Vec<u8>);

impl Cache {
    /// Opens a directory, making it (readable and writable by this user only) when it is not there.
    ///
    /// # Errors
    /// When it cannot be made or read, is no directory, belongs to somebody else, or can be written by others.
    pub(super) fn open(directory: &Path) -> io::Result<Self> {
        private::open_directory(directory)?;
        Ok(Self { directory: directory.to_owned() })
    }

    /// The code of a component for an engine, if a sound entry is there. `component` and `engine` are digests in
    /// hexadecimal.
    ///
    /// # Errors
    /// When there is an entry that may not be used; the text says why.
    pub(super) fn get(&self, component: &str, engine: &str) -> io::Result<Option<Checked>> {
        match private::read(&self.path(component, engine), LARGEST)? {
            Some(bytes) => check(bytes, component, engine).map(Some),
            None => Ok(None),
        }
    }

    /// Keeps the code of a component for an engine. Written aside and renamed, so that nobody sees half an entry.
    ///
    /// # Errors
    /// When it cannot be written; nothing is left behind then.
    pub(super) fn put(&self, component: &str, engine: &str, code: &[u8]) -> io::Result<()> {
        private::replace(&self.path(component, engine), &[&header(component, engine, code), code])
    }

    /// Where an entry is. The engine's digest is shortened, for the length of names; the entry holds all of it.
    fn path(&self, component: &str, engine: &str) -> PathBuf {
        let engine = engine.get(..16).unwrap_or(engine);
        self.directory.join(format!("{component}-{engine}.cwasm"))
    }
}

impl Checked {
    /// Makes the component.
    ///
    /// # Errors
    /// When wasmtime does not accept the code, for example because it was made by another version of it.
    #[allow(unsafe_code, reason = "the only way to load compiled code; see the safety comment")]
    pub(super) fn load(&self, engine: &Engine) -> wasmtime::Result<Component> {
        // SAFETY: the bytes must be what `Engine::precompile_component` returned, unchanged. `check` has compared
        // their SHA-256 with the one that `put`, which is given nothing else, has written beside them, and the
        // component's and the engine's digests likewise; they are in memory of our own, so they cannot have changed
        // since. The file belongs to this user and nobody else can write it or its directory, so nobody but this
        // user, who could as well replace this program, can have made both code and digest.
        unsafe { Component::deserialize(engine, &self.0) }
    }
}

/// The header of an entry.
fn header(component: &str, engine: &str, code: &[u8]) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(component.as_bytes());
    header.extend_from_slice(engine.as_bytes());
    header.extend_from_slice(hex(&Sha256::digest(code)).as_bytes());
    header
}

/// Checks an entry and gives its code.
fn check(mut bytes: Vec<u8>, component: &str, engine: &str) -> io::Result<Checked> {
    let (Some(found), Some(code)) = (bytes.get(..HEADER), bytes.get(HEADER..)) else {
        return Err(io::Error::other("it is truncated"));
    };
    if found != header(component, engine, code) {
        return Err(io::Error::other("it is damaged, or was made from something else"));
    }
    bytes.drain(..HEADER);
    Ok(Checked(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const CODE: &[u8] = b"machine code";

    fn digest(of: &str) -> String {
        hex(&Sha256::digest(of))
    }

    fn cache() -> (tempfile::TempDir, Cache, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("a/b");
        let cache = Cache::open(&directory).unwrap();
        cache.put(&digest("component"), &digest("engine"), CODE).unwrap();
        let path = cache.path(&digest("component"), &digest("engine"));
        (folder, cache, path)
    }

    fn get(cache: &Cache) -> io::Result<Option<Checked>> {
        cache.get(&digest("component"), &digest("engine"))
    }

    #[test]
    fn what_was_put_is_got_back_and_nothing_else_is() {
        let (_folder, cache, _) = cache();
        assert_eq!(get(&cache).unwrap().unwrap().0, CODE);
        assert!(cache.get(&digest("other"), &digest("engine")).unwrap().is_none());
        assert!(cache.get(&digest("component"), &digest("other engine")).unwrap().is_none());
        cache.put(&digest("component"), &digest("engine"), b"again").unwrap();
        assert_eq!(get(&cache).unwrap().unwrap().0, b"again");
        let names = fs::read_dir(&cache.directory).unwrap().count();
        assert_eq!(names, 1, "nothing is left aside");
    }

    #[test]
    fn truncated_and_damaged_entries_are_refused() {
        let (_folder, cache, path) = cache();
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(get(&cache).is_err(), "cut at {length}");
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, &damaged).unwrap();
            assert!(get(&cache).is_err(), "damaged at {at}");
        }
        fs::write(&path, [whole.as_slice(), b"x"].concat()).unwrap();
        assert!(get(&cache).is_err());
        fs::write(&path, &whole).unwrap();
        assert!(get(&cache).unwrap().is_some());
    }

    #[test]
    fn an_entry_under_another_name_is_refused() {
        let (_folder, cache, path) = cache();
        fs::copy(&path, cache.path(&digest("other"), &digest("engine"))).unwrap();
        assert!(cache.get(&digest("other"), &digest("engine")).is_err());
        // A file name holds the beginning of the engine's digest only; the entry holds all of it.
        let alike = format!("{}{}", &digest("engine")[..16], &digest("other engine")[16..]);
        assert!(cache.get(&digest("component"), &alike).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn what_others_can_write_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let (_folder, cache, path) = cache();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&cache.directory), 0o700);
        assert_eq!(mode(&path), 0o600);
        for wrong in [0o620, 0o602, 0o666] {
            fs::set_permissions(&path, fs::Permissions::from_mode(wrong)).unwrap();
            assert!(get(&cache).is_err(), "{wrong:o}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(get(&cache).unwrap().is_some());
        for wrong in [0o770, 0o702, 0o777] {
            fs::set_permissions(&cache.directory, fs::Permissions::from_mode(wrong)).unwrap();
            assert!(Cache::open(&cache.directory).is_err(), "{wrong:o}");
        }
    }

    #[test]
    fn a_file_in_place_of_the_directory_is_refused() {
        let (_folder, _cache, path) = cache();
        assert!(Cache::open(&path).is_err());
    }
}
