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
//! Whoever writes an entry removes those that are of no use any more: of another engine, or read by nobody for long; and of
//! the others as many as have to go for the rest to take no more room than [`MOST_BYTES`], and be no more than
//! [`MOST_ENTRIES`], those first that were used least recently. An entry's time says when it was last used; the time of reading that a file system keeps is often none.
//! Not guaranteed: protection from somebody who acts as this user or as root (who could replace the host itself), nor
//! from one who controls a directory above; that an entry which is in use is kept: what runs is in memory, and needs its
//! entry no more. A host that runs for long has read it long ago, and compiles it again when it is started.

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

/// Most bytes of all entries: hundreds of ordinary ones, and a few of the largest.
const MOST_BYTES: u64 = 2 << 30;

/// Most entries, however small: so many are looked at in no time.
const MOST_ENTRIES: usize = 1_024;

/// Most files that are looked at for those to be removed: all entries, and some that others have put there.
const MOST_LOOKS: usize = 4_096;

/// What the names of entries end with.
const ENDING: &str = ".cwasm";

/// A directory of compiled components.
pub(super) struct Cache {
    directory: PathBuf,
    /// Most bytes of its entries.
    most: u64,
}

/// An entry that may be removed for others to have room.
struct Entry {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
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
        Ok(Self { directory: directory.to_owned(), most: MOST_BYTES })
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
        let _ = file.set_modified(SystemTime::now());
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
        let path = self.path(component, engine);
        private::replace(&path, &[&header, &length, &names, code])?;
        let others = self.remove_unused(engine, &path);
        // It has to be there for whoever had it made, whatever times the others have.
        let own = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        make_room(others, self.most.saturating_sub(own));
        Ok(())
    }

    /// Removes entries of this user that are of another engine, or were not used for long, and gives the others but `new`. One
    /// that cannot be removed takes room and does no other harm.
    fn remove_unused(&self, engine: &str, new: &Path) -> Vec<Entry> {
        let mut left = Vec::new();
        let Ok(files) = fs::read_dir(&self.directory) else { return left };
        for file in files.take(MOST_LOOKS).flatten() {
            let name = file.file_name();
            let Some(of) = name.to_str().and_then(engine_of) else { continue };
            // Of the entry itself, should it be a link.
            let Ok(metadata) = file.metadata() else { continue };
            let path = file.path();
            if !metadata.is_file() || private::check_owner(&metadata).is_err() || path == new {
                continue;
            }
            if of != short(engine) || is_older(&metadata, UNUSED_FOR) {
                let _ = fs::remove_file(path);
            } else {
                let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                left.push(Entry { path, bytes: metadata.len(), used });
            }
        }
        left
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

/// Removes entries until the others have so many bytes at most, and there is a place for one more: those first that were used
/// least recently.
fn make_room(mut entries: Vec<Entry>, most: u64) {
    entries.sort_unstable_by_key(|entry| entry.used);
    let mut bytes = entries.iter().fold(0_u64, |sum, entry| sum.saturating_add(entry.bytes));
    let mut count = entries.len();
    for entry in entries {
        if bytes <= most && count < MOST_ENTRIES {
            return;
        }
        // Another process may have been faster. One that stays takes room, and the next does not go in its place.
        let _ = fs::remove_file(&entry.path);
        bytes = bytes.saturating_sub(entry.bytes);
        count = count.saturating_sub(1);
    }
}

/// Whether a file was neither written nor used for so long.
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
mod tests;
