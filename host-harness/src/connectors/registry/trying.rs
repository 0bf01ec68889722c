//! What is being loaded, written down before it is, so that a host which ends over it knows at its next start.
//!
//! Why: a compiler that takes all memory ends the whole process, and nobody is left to put the component into
//! quarantine; without a record the host would do the same again, and again.
//! Why a second time is the last: what has ended the host twice would end it, and with it the collecting of all tenants,
//! after every wait there is. It stays in quarantine until an operator releases it, or another build of the host runs.
//! Not guaranteed: that the component is to blame. Whoever kills a host while it loads something has it wait a minute,
//! as after any failure; killed twice in a row over the same one, somebody has to look.

use super::home::{Home, Kind};
use super::quarantine::{Failed, HOST_ENDED, Quarantine};
use time::OffsetDateTime;

/// A record of something that is being loaded; removed when this is dropped.
#[derive(Debug)]
pub(super) struct Trying {
    home: Home,
    digest: String,
}

impl Trying {
    /// Writes the record. What cannot be written is reported and keeps nothing from being loaded.
    pub(super) fn begin(home: &Home, digest: &str) -> Self {
        if let Err(error) = home.save(Kind::Trying, digest, &()) {
            tracing::warn!("should the host end over a connector, it will not be known: {error}");
        }
        Self { home: home.clone(), digest: digest.to_owned() }
    }
}

impl Drop for Trying {
    fn drop(&mut self) {
        if let Err(error) = self.home.remove(Kind::Trying, &self.digest) {
            tracing::warn!("{error}");
        }
    }
}

/// Puts into quarantine what a host before this one was loading when it ended.
pub(super) fn settle(home: &Home, quarantine: &Quarantine, now: OffsetDateTime) {
    let digests = home.names(Kind::Trying).unwrap_or_else(|error| {
        tracing::warn!("{error}");
        Vec::new()
    });
    for digest in digests {
        let reason = "the host ended while it was compiling and trying this component";
        quarantine
            .put(Failed { digest: &digest, version: None, file: "", code: HOST_ENDED, reason, connector: None }, now);
        tracing::error!(digest, "a connector goes into quarantine: {reason}");
        if let Err(error) = home.remove(Kind::Trying, &digest) {
            tracing::warn!("{error}");
        }
    }
}
