//! Compiled components on disk.
//!
//! What: an entry holds the machine code of one component for one engine and the names that the component was audited by,
//! with the digests of component and engine and a checksum. It is copied into memory, checked as it is copied, and only what
//! was checked is run ([`sealed`]).
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
use super::sealed::{self, Sealed};
use crate::private;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
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
    code: Code,
    /// What the component was audited by.
    pub(super) names: Names,
}

/// Code in memory of our own.
enum Code {
    /// Where it can be mapped from: that costs the pages that are run, and no second copy of all of them.
    Sealed(Sealed),
    /// Where there is no such memory.
    Plain(Vec<u8>),
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
        let Some(mut file) = private::open(&path, LARGEST)? else { return Ok(None) };
        let checked = check(&mut file, component, engine)?;
        // An entry whose time cannot be set is compiled again some day.
        let _ = note_use(&file);
        Ok(Some(checked))
    }

    /// Keeps the code of a component for an engine. Written aside and renamed, so that nobody sees half an entry.
    ///
    /// # Errors
    /// When it cannot be written; nothing is left behind then.
    pub(super) fn put(&self, component: &str, engine: &str, names: &Names, code: &[u8]) -> io::Result<()> {
        let names = serde_json::to_vec(names)?;
        let length = u32::try_from(names.len()).map_err(io::Error::other)?.to_le_bytes();
        let mut checksum = Xxh64::new(0);
        [&length, names.as_slice(), code].iter().for_each(|part| checksum.update(part));
        let header = header(component, engine, &checksum);
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

impl Code {
    /// Copies the rest of a file, which counts for the checksum.
    fn copy(file: &mut File, checksum: &mut Xxh64) -> io::Result<Self> {
        let (begin, before) = (file.stream_position()?, checksum.clone());
        if let Ok(sealed) = sealed::copy(&mut *file, |piece| checksum.update(piece)) {
            return Ok(Self::Sealed(sealed));
        }
        file.seek(SeekFrom::Start(begin))?;
        *checksum = before;
        let mut bytes = Vec::new();
        file.take(LARGEST).read_to_end(&mut bytes)?;
        checksum.update(&bytes);
        Ok(Self::Plain(bytes))
    }
}

impl Checked {
    /// Makes the component.
    ///
    /// # Errors
    /// When wasmtime does not accept the code, for example because it was made by another version of it.
    #[allow(unsafe_code, reason = "the only way to load compiled code; see the safety comment")]
    pub(super) fn load(&self, engine: &Engine) -> wasmtime::Result<Component> {
        // SAFETY: the bytes must be what `Engine::precompile_component` returned, unchanged. `check` has found the checksum
        // right that `put`, which is given nothing else, has written beside them, and the component's and the engine's
        // digests likewise. What the checksum was made of is the copy in memory of our own: nobody can change what is sealed, and
        // nobody but this module has what is not. The file belongs to this user and nobody else can write it or its
        // directory, so nobody but this user, who could as well replace this program, can have made both code and checksum.
        unsafe {
            match &self.code {
                // A hardened system may forbid to run what is mapped so.
                Code::Sealed(sealed) => Component::deserialize_file(engine, sealed.path())
                    .or_else(|_| Component::deserialize(engine, sealed.bytes()?)),
                Code::Plain(bytes) => Component::deserialize(engine, bytes),
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
fn note_use(file: &File) -> io::Result<()> {
    if is_older(&file.metadata()?, NOTED_EVERY) { file.set_modified(SystemTime::now()) } else { Ok(()) }
}

/// Whether a file was not written, nor noted to be used, for so long.
fn is_older(metadata: &fs::Metadata, than: Duration) -> bool {
    metadata.modified().ok().and_then(|time| time.elapsed().ok()).is_some_and(|age| age > than)
}

/// The header of an entry whose content has this checksum.
fn header(component: &str, engine: &str, checksum: &Xxh64) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(MAGIC);
    header.extend_from_slice(component.as_bytes());
    header.extend_from_slice(engine.as_bytes());
    header.extend_from_slice(&checksum.digest().to_le_bytes());
    header
}

/// Copies and checks an entry.
fn check(file: &mut File, component: &str, engine: &str) -> io::Result<Checked> {
    let mut beginning = Vec::with_capacity(HEADER);
    file.by_ref().take(u64::try_from(HEADER).unwrap_or(u64::MAX)).read_to_end(&mut beginning)?;
    let mut length = [0; size_of::<u32>()];
    file.read_exact(&mut length).map_err(|_| io::Error::other("it is truncated"))?;
    let (mut names, names_length) = (Vec::new(), u32::from_le_bytes(length));
    file.by_ref().take(names_length.into()).read_to_end(&mut names)?;
    let mut checksum = Xxh64::new(0);
    checksum.update(&length);
    checksum.update(&names);
    let code = Code::copy(file, &mut checksum)?;
    if beginning != header(component, engine, &checksum) {
        return Err(io::Error::other("it is truncated or damaged, or was made from something else"));
    }
    Ok(Checked { code, names: serde_json::from_slice(&names)? })
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

    fn code(checked: &Checked) -> Vec<u8> {
        match &checked.code {
            Code::Sealed(sealed) => sealed.bytes().unwrap(),
            Code::Plain(bytes) => bytes.clone(),
        }
    }

    fn get(cache: &Cache) -> io::Result<Option<Checked>> {
        cache.get(&digest("component"), &digest("engine"))
    }

    #[test]
    fn what_was_put_is_got_back_and_nothing_else_is() {
        let (_folder, cache, _) = cache();
        let checked = get(&cache).unwrap().unwrap();
        assert_eq!((code(&checked), &checked.names), (CODE.to_vec(), &names()));
        assert!(cache.get(&digest("other"), &digest("engine")).unwrap().is_none());
        assert!(cache.get(&digest("component"), &digest("other engine")).unwrap().is_none());
        cache.put(&digest("component"), &digest("engine"), &names(), b"again").unwrap();
        assert_eq!(code(&get(&cache).unwrap().unwrap()), b"again");
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
