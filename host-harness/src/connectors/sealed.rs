//! Files that are in memory only and can never change again.
//!
//! Why: compiled code that is mapped from a file costs the pages that are run. From a file on disk it would be as safe as
//! that file, and one that is cut short while it is mapped ends the process. A sealed file in memory cannot be changed
//! by anybody, this process included.
//! Not guaranteed: that there are any. Only Linux has them, some hardened systems forbid to run what is in them, and
//! without `/proc` they cannot be named. Whoever asks needs another way.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

/// Bytes that are copied at once: few enough to stay near the CPU.
#[cfg(target_os = "linux")]
const AT_ONCE: usize = 128 * 1024;

/// A file that cannot change.
#[derive(Debug)]
pub(super) struct Sealed {
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "there are none"))]
    file: File,
}

/// A sealed file with what `from` has, where this system has such files; `each` is given every piece of it. What was read
/// when an error comes is lost.
#[cfg(target_os = "linux")]
pub(super) fn copy(mut from: impl Read, mut each: impl FnMut(&[u8])) -> io::Result<Sealed> {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
    use std::io::Write as _;
    let mut file = File::from(memfd_create("compiled-component", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    let mut piece = vec![0; AT_ONCE];
    loop {
        let size = match from.read(&mut piece) {
            Ok(0) => break,
            Ok(size) => size,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let piece = piece.get(..size).unwrap_or_default();
        each(piece);
        file.write_all(piece)?;
    }
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok(Sealed { file })
}

/// There are none here.
#[cfg(not(target_os = "linux"))]
pub(super) fn copy(_from: impl Read, _each: impl FnMut(&[u8])) -> io::Result<Sealed> {
    Err(io::ErrorKind::Unsupported.into())
}

impl Sealed {
    /// A name to open it by, as long as this lives.
    #[cfg(target_os = "linux")]
    pub(super) fn path(&self) -> PathBuf {
        use std::os::fd::AsRawFd as _;
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    /// There are none here.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::new()
    }

    /// What is in it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn bytes(&self) -> io::Result<Vec<u8>> {
        use std::io::{Seek as _, SeekFrom};
        let mut bytes = Vec::new();
        let mut file = &self.file;
        file.seek(SeekFrom::Start(0))?;
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::fs::{self, OpenOptions};

    #[test]
    fn what_is_sealed_is_read_and_can_be_changed_by_nobody() {
        let mut pieces = Vec::new();
        let sealed = copy(&b"code"[..], |piece| pieces.extend_from_slice(piece)).expect("this system has sealed files");
        assert_eq!((fs::read(sealed.path()).expect("readable"), pieces), (b"code".to_vec(), b"code".to_vec()));
        for _ in 0..2 {
            assert_eq!(sealed.bytes().expect("readable"), b"code");
        }
        let mut writer = OpenOptions::new().write(true).open(sealed.path()).expect("opened");
        assert!(std::io::Write::write_all(&mut writer, b"x").is_err());
        assert!(writer.set_len(1).is_err() && writer.set_len(100).is_err());
        assert_eq!(fs::read(sealed.path()).expect("readable"), b"code");
    }
}
