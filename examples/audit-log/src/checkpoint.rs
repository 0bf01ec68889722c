//! What a step leaves to the next: JSON with a version, so that a later connector can tell what it reads.
//!
//! | version | since | has |
//! |---|---|---|
//! | 1 | 1.0.0 | `after` |
//! | 2 | 1.1.0 | `after`, `since` |
//! | 3 | 1.2.0 | `site`, `after`, `since` |
//!
//! Why the site is in it: a cursor means something where it came from and nowhere else, and the settings of an instance may be
//! edited. Another site is begun with from its beginning.

use crate::contract::Failure;
use crate::failures;
use serde::{Deserialize, Serialize};

/// The version that is written.
const VERSION: u32 = 3;

/// Where to go on. Nothing of it at the very beginning.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// The host that it all came from; not known of what older versions wrote.
    pub site: Option<String>,
    /// The cursor.
    pub after: Option<String>,
    /// When the last event happened, for when the cursor has expired.
    pub since: Option<String>,
}

/// What every version begins with.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

#[derive(Deserialize)]
struct Version1 {
    after: Option<String>,
}

#[derive(Deserialize)]
struct Version2 {
    after: Option<String>,
    since: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Version3 {
    version: u32,
    site: Option<String>,
    after: Option<String>,
    since: Option<String>,
}

impl Checkpoint {
    /// Reads what any version has written.
    ///
    /// # Errors
    /// When it cannot be read. Never a silent restart: the host keeps the bytes, and an operator decides.
    pub fn read(bytes: Option<&[u8]>) -> Result<Self, Failure> {
        let Some(bytes) = bytes else { return Ok(Self::default()) };
        match parse::<Versioned>(bytes)?.version {
            // The time comes with the next event.
            1 => parse(bytes).map(|Version1 { after }| Self { site: None, after, since: None }),
            2 => parse(bytes).map(|Version2 { after, since }| Self { site: None, after, since }),
            VERSION => parse(bytes).map(|Version3 { site, after, since, .. }| Self { site, after, since }),
            other => Err(failures::unreadable(&format!("it has version {other}"))),
        }
    }

    /// Where to go on at this site: at the beginning, where the checkpoint is of another one.
    #[must_use]
    pub fn of_site(self, site: &str) -> Self {
        let is_of_it = self.site.as_deref().is_none_or(|of| of == site);
        Self { site: Some(site.to_owned()), ..if is_of_it { self } else { Self::default() } }
    }

    /// In the newest version.
    ///
    /// # Errors
    /// Never, as far as anybody knows.
    pub fn write(self) -> Result<Vec<u8>, Failure> {
        let Self { site, after, since } = self;
        let written = serde_json::to_vec(&Version3 { version: VERSION, site, after, since });
        written.map_err(|_| failures::internal("The checkpoint cannot be written."))
    }
}

/// Reads one form.
fn parse<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|_| failures::unreadable("it is damaged"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::FailureReason;

    #[test]
    fn every_version_that_was_ever_written_is_read() {
        let checkpoint = |after: Option<&str>, since: Option<&str>| Checkpoint {
            site: None,
            after: after.map(str::to_owned),
            since: since.map(str::to_owned),
        };
        let of_acme = Checkpoint { site: Some("acme".to_owned()), ..checkpoint(Some("c-7"), None) };
        for (written, read) in [
            (r#"{"version":1,"after":null}"#, checkpoint(None, None)),
            (r#"{"version":1,"after":"c-7"}"#, checkpoint(Some("c-7"), None)),
            (
                r#"{"version":2,"after":"c-7","since":"2026-01-02T03:04:05Z"}"#,
                checkpoint(Some("c-7"), Some("2026-01-02T03:04:05Z")),
            ),
            (r#"{"version":3,"site":"acme","after":"c-7","since":null}"#, of_acme),
        ] {
            assert_eq!(Checkpoint::read(Some(written.as_bytes())).unwrap(), read, "{written}");
            assert_eq!(Checkpoint::read(Some(&read.write().unwrap())), Checkpoint::read(Some(written.as_bytes())));
        }
        assert_eq!(Checkpoint::read(None).unwrap(), Checkpoint::default());
    }

    #[test]
    fn what_cannot_be_read_is_a_failure_and_no_beginning() {
        for bytes in ["", "{}", "garbage", r#"{"version":4}"#, r#"{"version":2,"after":7}"#] {
            let failure = Checkpoint::read(Some(bytes.as_bytes())).unwrap_err();
            assert_eq!(failure.reason, FailureReason::CheckpointUnreadable, "{bytes}");
        }
    }
}
