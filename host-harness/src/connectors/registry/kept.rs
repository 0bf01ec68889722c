//! The version of each type that proved itself last, kept so that a restart goes on with it.
//!
//! Why: a file may have been replaced by a version that is held, refused or in quarantine. What served before then
//! exists nowhere but here.
//! Not guaranteed: that it is used when its file is gone. Who removes a connector's file wants it to stop.

use super::home::{Home, Kind, RecordError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// A kept version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// SHA-256 of the component, and its name beside this record.
    pub(super) digest: String,
    /// Its version, for people.
    pub(super) version: String,
    /// The file it came from.
    pub(super) file: String,
    /// Keys of settings that only the version before knew: instances may still have them.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) former: BTreeSet<String>,
}

impl Kept {
    /// Its component, at most `most` bytes; none when it is missing or damaged.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn bytes(&self, home: &Home, most: u64) -> Result<Option<Vec<u8>>, RecordError> {
        let is_it = |bytes: &Vec<u8>| super::super::hex(&Sha256::digest(bytes)) == self.digest;
        Ok(home.kept_component(&self.digest, most)?.filter(is_it))
    }
}

/// Keeps the component of a version, before it is known whether it proves itself.
pub(super) fn keep_component(home: &Home, digest: &str, bytes: &[u8]) {
    report(home.keep_component(digest, bytes));
}

/// Makes a version the one that a restart goes on with.
pub(super) fn keep(home: &Home, integration_type: &str, kept: &Kept) {
    let before = home.load::<Kept>(Kind::Kept, integration_type).ok().flatten();
    if before.as_ref() == Some(kept) {
        return;
    }
    report(home.save(Kind::Kept, integration_type, kept));
}

/// Forgets a type: its file is gone.
pub(super) fn forget(home: &Home, integration_type: &str) {
    report(home.remove(Kind::Kept, integration_type));
}

/// Says that a version that a restart goes on with is in another file now.
pub(super) fn moved(home: &Home, integration_type: &str, digest: &str, file: &str) {
    if let Ok(Some(mut kept)) = home.load::<Kept>(Kind::Kept, integration_type)
        && kept.digest == digest
    {
        file.clone_into(&mut kept.file);
        keep(home, integration_type, &kept);
    }
}

/// Lets go of components that no record names, unless they are in use. A record that cannot be written for now still
/// names the version before.
pub(super) fn tidy(home: &Home, in_use: &BTreeSet<&str>) {
    let mut idle = home.components();
    idle.retain(|digest| !in_use.contains(digest.as_str()));
    if idle.is_empty() {
        return;
    }
    let named: Vec<String> = home
        .names(Kind::Kept)
        .unwrap_or_default()
        .iter()
        .filter_map(|name| home.load::<Kept>(Kind::Kept, name).ok()?.map(|kept| kept.digest))
        .collect();
    for digest in idle.into_iter().filter(|digest| !named.contains(digest)) {
        report(home.drop_component(&digest));
    }
}

/// All kept versions with their types, and their components, each at most `most` bytes. Records and components that
/// cannot be used are reported and left out.
pub(super) fn all(home: &Home, most: u64) -> Vec<(String, Kept, Vec<u8>)> {
    let names = home.names(Kind::Kept).unwrap_or_else(|error| {
        report(Err(error));
        Vec::new()
    });
    names
        .into_iter()
        .filter_map(|name| {
            let kept = home.load::<Kept>(Kind::Kept, &name).map_err(|error| report(Err(error))).ok()??;
            match kept.bytes(home, most) {
                Ok(Some(bytes)) => Some((name, kept, bytes)),
                Ok(None) => {
                    tracing::warn!("the kept component of {name} is missing or damaged, it is not used");
                    None
                }
                Err(error) => {
                    report(Err(error));
                    None
                }
            }
        })
        .collect()
}

/// Reports what could not be done; only a restart would miss it.
fn report(result: Result<(), RecordError>) {
    if let Err(error) = result {
        tracing::warn!("what a restart goes on with is not kept: {error}");
    }
}
