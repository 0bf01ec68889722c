//! Compiled components on disk.
//!
//! What: an entry holds the machine code of one component for one engine and the names that the component was audited by,
//! with the digests of component and engine and a checksum. It is read whole into memory, checked, and only what was
//! checked is run ([`sealed`]).
//! Why so careful: machine code runs with the rights of this process; whoever can write an entry owns the host. So
//! the directory and the entries must belong to this user and be writable by nobody else, an entry is found by what
//! it was made from, and it is used only when its checksum is right: truncated, stale, foreign or damaged entries
//! are compiled again. The checksum finds damage. Against forgery stands that nobody else can write; a digest kept beside
//! the code would not.
//! Whoever writes an entry removes those that are of no use any more: of another engine, or read by nobody for long. An
//! entry's time says when it was last used; the time of reading that a file system keeps is often none.
//! Not guaranteed: protection from somebody who acts as this user or as root (who could replace the host itself), nor
//! from one who controls a directory above; that an entry which is in use is kept: a host that runs for long has read it
//! long ago, and compiles it again when it is started.

use super::audit::Names;
use super::{private, sealed};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use wasmtime::Engine;
use wasmtime::component::Component;
use xxhash_rust::xxh64::Xxh64;

/// First bytes of an entry; the last of them is the version of this format.
const MAGIC: &[u8; 8] = b"SC-AOT\0\x03";

/// Bytes of a digest in hexadecimal.
const HEX: usize = 64;

/// Bytes before the content: magic, digest of the component, digest of the engine, checksum of the content. The content is
/// the length of the names, the names as JSON, and the code. Numbers have their lowest byte first.
const HEADER: usize = MAGIC.len() + 2 * HEX + size_of::<u64>();

/// Most bytes of an entry that are read: far above what the largest component compiles to.
const LARGEST: u64 = 512 << 20;

/// An entry is removed when it was not used for so long.
const UNUSED_FOR: Duration = Duration::from_hours(30 * 24);

/// How often it is noted that an entry is used.
const NOTED_EVERY: Duration = Duration::from_hours(24);

/// Most files that are looked at for those to be removed.
const MOST_LOOKS: usize = 4096;

/// What the names of entries end with.
const ENDING: &str = ".cwasm";

/// A directory of compiled components.
pub(super) struct Cache {
    directory: PathBuf,
}

/// Code of which the digests and the checksum were checked. Only this module makes it.
pub(super) struct Checked {
    /// The whole entry.
    bytes: Vec<u8>,
    /// Where the code begins in it.
    code: usize,
    /// What the component was audited by.
    pub(super) names: Names,
}

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
        let path = self.path(component, engine);
        let Some(bytes) = private::read(&path, LARGEST)? else { return Ok(None) };
        let checked = check(bytes, component, engine)?;
        // An entry whose time cannot be set is compiled again some day.
        let _ = note_use(&path);
        Ok(Some(checked))
    }

    /// Keeps the code of a component for an engine. Written aside and renamed, so that nobody sees half an entry.
    ///
    /// # Errors
    /// When it cannot be written; nothing is left behind then.
    pub(super) fn put(&self, component: &str, engine: &str, names: &Names, code: &[u8]) -> io::Result<()> {
        let names = serde_json::to_vec(names)?;
        let length = u32::try_from(names.len()).map_err(io::Error::other)?.to_le_bytes();
        let content: [&[u8]; 3] = [&length, &names, code];
        let header = header(component, engine, &content);
        private::replace(&self.path(component, engine), &[&header, &length, &names, code])?;
        self.remove_unused(engine);
        Ok(())
    }

    /// Removes entries of this user that are of another engine, or were not used for long. One that cannot be removed takes
    /// room and does no other harm.
    fn remove_unused(&self, engine: &str) {
        let Ok(files) = fs::read_dir(&self.directory) else { return };
        for file in files.take(MOST_LOOKS).flatten() {
            let name = file.file_name();
            let Some(of) = name.to_str().and_then(engine_of) else { continue };
            // Of the entry itself, should it be a link.
            let Ok(metadata) = file.metadata() else { continue };
            let is_own = metadata.is_file() && private::check_owner(&metadata).is_ok();
            if is_own && (of != short(engine) || is_older(&metadata, UNUSED_FOR)) {
                let _ = fs::remove_file(file.path());
            }
        }
    }

    /// Where an entry is.
    fn path(&self, component: &str, engine: &str) -> PathBuf {
        self.directory.join(format!("{component}-{}{ENDING}", short(engine)))
    }
}

impl Checked {
    fn code(&self) -> &[u8] {
        self.bytes.get(self.code..).unwrap_or_default()
    }

    /// Makes the component.
    ///
    /// # Errors
    /// When wasmtime does not accept the code, for example because it was made by another version of it.
    #[allow(unsafe_code, reason = "the only way to load compiled code; see the safety comment")]
    pub(super) fn load(&self, engine: &Engine) -> wasmtime::Result<Component> {
        // SAFETY: the bytes must be what `Engine::precompile_component` returned, unchanged. `check` has found the checksum
        // right that `put`, which is given nothing else, has written beside them, and the component's and the engine's
        // digests likewise; they are in memory of our own, so they cannot have changed since, and neither can the sealed
        // copy of them. The file belongs to this user and nobody else can write it or its directory, so nobody but
        // this user, who could as well replace this program, can have made both code and checksum.
        unsafe {
            // Mapped where it can be: that costs the pages that are run, and no second copy of all of them.
            match sealed::file(self.code()) {
                Some(file) => Component::deserialize_file(engine, file.path())
                    .or_else(|_| Component::deserialize(engine, self.code())),
                None => Component::deserialize(engine, self.code()),
            }
        }
    }
}

/// The digest of an engine as names have it: short, for their length. The entry holds all of it.
fn short(engine: &str) -> &str {
    engine.get(..16).unwrap_or(engine)
}

/// The engine that a file is an entry of, if its name is that of an entry.
fn engine_of(name: &str) -> Option<&str> {
    let (component, engine) = name.strip_suffix(ENDING)?.split_once('-')?;
    let is_hex = |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    (is_hex(component, HEX) && is_hex(engine, 16)).then_some(engine)
}

/// Notes that an entry is used.
fn note_use(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    if is_older(&file.metadata()?, NOTED_EVERY) { file.set_modified(SystemTime::now()) } else { Ok(()) }
}

/// Whether a file was not written, nor noted to be used, for so long.
fn is_older(metadata: &fs::Metadata, than: Duration) -> bool {
    metadata.modified().ok().and_then(|time| time.elapsed().ok()).is_some_and(|age| age > than)
}

/// The header of an entry.
fn header(component: &str, engine: &str, content: &[&[u8]]) -> Vec<u8> {
    let mut checksum = Xxh64::new(0);
    content.iter().for_each(|part| checksum.update(part));
    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(component.as_bytes());
    header.extend_from_slice(engine.as_bytes());
    header.extend_from_slice(&checksum.digest().to_le_bytes());
    header
}

/// Checks an entry and gives its code.
fn check(bytes: Vec<u8>, component: &str, engine: &str) -> io::Result<Checked> {
    let truncated = || io::Error::other("it is truncated");
    let (found, content) = bytes.split_at_checked(HEADER).ok_or_else(truncated)?;
    if found != header(component, engine, &[content]) {
        return Err(io::Error::other("it is damaged, or was made from something else"));
    }
    let (length, rest) = content.split_first_chunk().ok_or_else(truncated)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(io::Error::other)?;
    let names = serde_json::from_slice(rest.get(..length).ok_or_else(truncated)?)?;
    let code = HEADER + size_of::<u32>() + length;
    Ok(Checked { bytes, code, names })
}

#[cfg(test)]
mod tests {
    use super::super::hex;
    use super::*;
    use sha2::{Digest, Sha256};

    const CODE: &[u8] = b"machine code";

    fn digest(of: &str) -> String {
        hex(&Sha256::digest(of))
    }

    fn names() -> Names {
        super::super::audit::read(&super::super::fixtures::component()).unwrap()
    }

    fn cache() -> (tempfile::TempDir, Cache, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("a/b");
        let cache = Cache::open(&directory).unwrap();
        cache.put(&digest("component"), &digest("engine"), &names(), CODE).unwrap();
        let path = cache.path(&digest("component"), &digest("engine"));
        (folder, cache, path)
    }

    fn get(cache: &Cache) -> io::Result<Option<Checked>> {
        cache.get(&digest("component"), &digest("engine"))
    }

    #[test]
    fn what_was_put_is_got_back_and_nothing_else_is() {
        let (_folder, cache, _) = cache();
        let checked = get(&cache).unwrap().unwrap();
        assert_eq!((checked.code(), &checked.names), (CODE, &names()));
        assert!(cache.get(&digest("other"), &digest("engine")).unwrap().is_none());
        assert!(cache.get(&digest("component"), &digest("other engine")).unwrap().is_none());
        cache.put(&digest("component"), &digest("engine"), &names(), b"again").unwrap();
        assert_eq!(get(&cache).unwrap().unwrap().code(), b"again");
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
    fn what_is_of_no_use_any_more_goes_when_an_entry_is_written_and_nothing_else_does() {
        let (_folder, cache, path) = cache();
        let old = |path: &Path, days: u64| {
            let time = SystemTime::now() - Duration::from_hours(24 * days);
            File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        };
        let put = |component: &str, engine: &str| {
            cache.put(&digest(component), &digest(engine), &names(), CODE).unwrap();
            cache.path(&digest(component), &digest(engine))
        };
        let (unused, used, young) = (put("unused", "engine"), put("used", "engine"), put("young", "engine"));
        old(&unused, 31);
        old(&used, 31);
        old(&young, 29);
        assert!(cache.get(&digest("used"), &digest("engine")).unwrap().is_some());
        let others: Vec<PathBuf> = ["notes.txt", "a-b.cwasm", "sub"].map(|name| cache.directory.join(name)).into();
        fs::write(&others[0], "x").unwrap();
        fs::write(&others[1], "x").unwrap();
        fs::create_dir(&others[2]).unwrap();
        others[..2].iter().for_each(|path| old(path, 100));
        put("new", "engine");
        let is_there = |path: &PathBuf| path.exists();
        assert!(!is_there(&unused));
        assert!([&path, &used, &young].into_iter().chain(&others).all(is_there));
        // Another version of the host.
        let new = put("new", "other engine");
        assert!(![&path, &used, &young].into_iter().any(is_there));
        assert!([&new].into_iter().chain(&others).all(is_there));
    }

    #[test]
    fn use_is_noted_once_a_day() {
        let (_folder, cache, path) = cache();
        for (hours, noted) in [(25, true), (23, false)] {
            let before = SystemTime::now() - Duration::from_hours(hours);
            File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
            get(&cache).unwrap().unwrap();
            assert_eq!(fs::metadata(&path).unwrap().modified().unwrap() > before, noted, "{hours} hours");
        }
    }

    #[test]
    fn a_file_in_place_of_the_directory_is_refused() {
        let (_folder, _cache, path) = cache();
        assert!(Cache::open(&path).is_err());
    }
}
