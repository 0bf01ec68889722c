//! Files that are in memory only and can never change again.
//!
//! Why: compiled code that is mapped from a file costs the pages that are run. From a file on disk it would be as safe as
//! that file, and one that is cut short while it is mapped ends the process. A sealed file in memory cannot be changed
//! by anybody, this process included.
//! Not guaranteed: that there are any. Only Linux has them, some hardened systems forbid to run what is in them, and
//! without `/proc` they cannot be named. Whoever asks needs another way.

use std::fs::File;
use std::path::PathBuf;

/// A file that cannot change.
pub(super) struct Sealed {
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "there are none"))]
    file: File,
}

/// A sealed file with these bytes, where this system has such files.
#[cfg(target_os = "linux")]
pub(super) fn file(bytes: &[u8]) -> Option<Sealed> {
    use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
    use std::io::Write as _;
    let descriptor = memfd_create("compiled-component", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).ok()?;
    let mut file = File::from(descriptor);
    file.write_all(bytes).ok()?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL).ok()?;
    Some(Sealed { file })
}

/// There are none here.
#[cfg(not(target_os = "linux"))]
pub(super) fn file(_bytes: &[u8]) -> Option<Sealed> {
    None
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
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::fs::{self, OpenOptions};

    #[test]
    fn what_is_sealed_is_read_and_can_be_changed_by_nobody() {
        let sealed = file(b"code").expect("this system has sealed files");
        assert_eq!(fs::read(sealed.path()).expect("readable"), b"code");
        let mut writer = OpenOptions::new().write(true).open(sealed.path()).expect("opened");
        assert!(std::io::Write::write_all(&mut writer, b"x").is_err());
        assert!(writer.set_len(1).is_err() && writer.set_len(100).is_err());
        assert_eq!(fs::read(sealed.path()).expect("readable"), b"code");
    }
}
