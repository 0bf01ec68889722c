//! The file of a component.
//!
//! Why its digest apart: of many files that wait to be compiled, none has to be in memory.
//! Not guaranteed: that two readings find the same; whoever reads twice compares.

use super::error::LoadError;
use super::hex;
use crate::files;
use sha2::{Digest as _, Sha256};
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

/// Reads a component. This may block.
///
/// # Errors
/// When it cannot be read, or is larger than `limit`.
pub(super) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, LoadError> {
    let mut bytes = Vec::new();
    parts(path, limit, |part| bytes.extend_from_slice(part))?;
    Ok(bytes)
}

/// SHA-256 of a component in lower-case hexadecimal, without having all of it in memory. This may block.
///
/// # Errors
/// As [`read`].
pub(crate) fn digest(path: &Path, limit: u64) -> Result<String, LoadError> {
    let mut digest = Sha256::new();
    parts(path, limit, |part| digest.update(part))?;
    Ok(hex(&digest.finalize()))
}

/// Reads a file part by part, and hardly more than `limit`, whatever size it says it has.
fn parts(path: &Path, limit: u64, mut take: impl FnMut(&[u8])) -> Result<(), LoadError> {
    let unreadable = |error: io::Error| LoadError::Unreadable { path: path.to_owned(), why: error.to_string() };
    let mut file = files::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(unreadable(io::Error::other("it is a directory")));
    }
    let mut size = metadata.len();
    let mut taken = 0_u64;
    let mut buffer = vec![0; 64 << 10];
    while size <= limit {
        let read = match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreadable(error)),
        };
        take(buffer.get(..read).unwrap_or_default());
        taken = taken.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        size = size.max(taken);
    }
    Err(LoadError::TooBig { size, limit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_read_than_may_be_and_the_digest_is_that_of_what_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let content: Vec<u8> = (0..200_000_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
        std::fs::write(&path, &content).unwrap();
        assert_eq!(read(&path, 200_000).unwrap(), content);
        assert_eq!(digest(&path, 200_000).unwrap(), hex(&Sha256::digest(&content)));
        assert!(matches!(read(&path, 199_999), Err(LoadError::TooBig { size: 200_000, limit: 199_999 })));
        assert!(matches!(digest(&path, 199_999), Err(LoadError::TooBig { .. })));
        // Its size is said to be nothing, and it has no end.
        assert!(matches!(read(Path::new("/dev/zero"), 1 << 20), Err(LoadError::TooBig { .. })));
        assert!(matches!(read(folder.path(), 1), Err(LoadError::Unreadable { .. })));
    }
}
