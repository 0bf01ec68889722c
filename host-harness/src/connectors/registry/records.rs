//! What is remembered of connectors between starts: what they were granted,
//! and which have failed.
//!
//! One JSON file in the state directory, replaced by rename, for the owner
//! alone. The command line changes the same file; a running host reads it again
//! at every look. A file that cannot be read is named and kept, and nothing is
//! taken for granted then: every update is held.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::contract::types::{Descriptor, Plan};

/// Name of the file in the state directory.
const FILE: &str = "connectors.json";
/// First time in quarantine; doubled each time after.
const FIRST_QUARANTINE: Duration = Duration::minutes(1);
/// Longest time in quarantine.
const LONGEST_QUARANTINE: Duration = Duration::hours(24);

/// What a type was granted: what its connector asked for when it was first
/// accepted, and what operators' settings have led it to since.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The version it was granted to.
    pub digest: String,
    /// Origins, `https://host:port`.
    pub origins: BTreeSet<String>,
    /// `METHOD /prefix`.
    pub rules: BTreeSet<String>,
    /// `setting to header`.
    pub credentials: BTreeSet<String>,
}

impl Pin {
    /// What a connector asks for with these plans.
    #[must_use]
    pub fn of(digest: &str, descriptor: &Descriptor, plans: &[Plan]) -> Self {
        Self {
            digest: digest.to_owned(),
            origins: plans.iter().map(origin).collect(),
            rules: plans
                .iter()
                .flat_map(|plan| &plan.rules)
                .map(|rule| format!("{} {}", rule.method, rule.path_prefix))
                .collect(),
            credentials: descriptor
                .credentials
                .iter()
                .map(|credential| format!("{} to {}", credential.setting, credential.header.to_ascii_lowercase()))
                .collect(),
        }
    }

    /// What `other` asks for and this does not grant, in words.
    #[must_use]
    pub fn lacks(&self, other: &Self) -> Vec<String> {
        let origins = other.origins.difference(&self.origins).map(|origin| format!("the origin {origin}"));
        // A rule within a granted one asks for nothing new.
        let granted = |rule: &str| {
            self.rules.iter().any(|own| match (own.split_once(' '), rule.split_once(' ')) {
                (Some((method, prefix)), Some((wanted, path))) => {
                    method == wanted
                        && path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                }
                _ => false,
            })
        };
        let rules = other.rules.iter().filter(|rule| !granted(rule)).map(|rule| format!("requests {rule}"));
        let credentials =
            other.credentials.difference(&self.credentials).map(|credential| format!("the secret {credential}"));
        origins.chain(rules).chain(credentials).collect()
    }

    /// Grants what `other` asks for, too.
    pub fn add(&mut self, other: Self) {
        self.digest = other.digest;
        self.origins.extend(other.origins);
        self.rules.extend(other.rules);
        self.credentials.extend(other.credentials);
    }
}

/// The origin of a plan in its one form.
#[must_use]
pub fn origin(plan: &Plan) -> String {
    let scheme = match plan.origin.scheme {
        crate::contract::types::Scheme::Http => "http",
        crate::contract::types::Scheme::Https => "https",
    };
    format!("{scheme}://{}:{}", plan.origin.host, plan.origin.port)
}

/// A version that failed, by its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantine {
    /// Stable code of the reason.
    pub code: String,
    /// Why.
    pub reason: String,
    /// Times that it failed.
    pub times: u32,
    /// The host that it failed on: another build may do better.
    pub host: String,
    /// Since when.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// When it is tried again; never by itself when the operator did it.
    #[serde(with = "time::serde::rfc3339::option")]
    pub retry_at: Option<OffsetDateTime>,
}

/// Everything that is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Records {
    /// Grants by integration type.
    #[serde(default)]
    pub pins: BTreeMap<String, Pin>,
    /// Failed versions by digest.
    #[serde(default)]
    pub quarantine: BTreeMap<String, Quarantine>,
    /// Digests that the operator has released although they ask for more.
    #[serde(default)]
    pub released: BTreeSet<String>,
}

impl Records {
    /// Where they are.
    #[must_use]
    pub fn path(state: &Path) -> PathBuf {
        state.join(FILE)
    }

    /// Reads them; none when there is no file.
    ///
    /// # Errors
    ///
    /// What is wrong with the file.
    pub fn read(state: &Path) -> Result<Self, String> {
        let path = Self::path(state);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(format!("cannot read {}: {error}", path.display())),
        };
        serde_json::from_str(&text).map_err(|error| {
            format!(
                "{} is damaged ({error}); restore it from a backup, or remove it to confirm connectors anew",
                path.display()
            )
        })
    }

    /// Writes them: whole or not at all.
    ///
    /// # Errors
    ///
    /// Why they cannot be written.
    pub fn write(&self, state: &Path) -> Result<(), String> {
        let path = Self::path(state);
        let new = path.with_extension("json.new");
        let failed = |error: std::io::Error| format!("cannot write {}: {error}", path.display());
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new).map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
        fs::rename(&new, &path).map_err(failed)
    }

    /// Puts a version into quarantine, for longer each time.
    pub fn put_into_quarantine(&mut self, digest: &str, host: &str, code: &str, reason: &str, now: OffsetDateTime) {
        let times = self.quarantine.get(digest).filter(|known| known.host == host).map_or(0, |known| known.times);
        let wait = FIRST_QUARANTINE.saturating_mul(1 << times.min(20)).min(LONGEST_QUARANTINE);
        self.quarantine.insert(
            digest.to_owned(),
            Quarantine {
                code: code.to_owned(),
                reason: reason.to_owned(),
                times: times.saturating_add(1),
                host: host.to_owned(),
                since: now,
                retry_at: Some(now + wait),
            },
        );
    }

    /// The reason not to try a version now, if there is one.
    #[must_use]
    pub fn is_quarantined(&self, digest: &str, host: &str, now: OffsetDateTime) -> Option<&Quarantine> {
        self.quarantine
            .get(digest)
            .filter(|known| known.retry_at.is_none_or(|retry_at| known.host == host && retry_at > now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH
    }

    #[test]
    fn quarantine_grows_and_ends_and_another_build_of_the_host_may_try() {
        let mut records = Records::default();
        let mut waits = Vec::new();
        let mut at = now();
        for _ in 0..14 {
            records.put_into_quarantine("d", "host-1", "guest-trap", "it trapped", at);
            let retry = records.quarantine.get("d").unwrap().retry_at.unwrap();
            waits.push((retry - at).whole_minutes());
            assert!(records.is_quarantined("d", "host-1", retry - Duration::seconds(1)).is_some());
            assert!(records.is_quarantined("d", "host-1", retry).is_none());
            at = retry;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1440, 1440, 1440]);
        records.put_into_quarantine("d", "host-1", "guest-trap", "it trapped", at);
        assert!(records.is_quarantined("d", "host-2", at).is_none());
        records.quarantine.get_mut("d").unwrap().retry_at = None;
        assert!(
            records.is_quarantined("d", "host-2", at + Duration::days(900)).is_some(),
            "what an operator did stays"
        );
    }

    #[test]
    fn what_is_written_is_read_and_what_is_damaged_is_named_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Records::read(dir.path()), Ok(Records::default()));
        let mut records = Records::default();
        records.put_into_quarantine("d", "h", "c", "r", now());
        records.pins.insert("acme".to_owned(), Pin { digest: "d".to_owned(), ..Pin::default() });
        records.write(dir.path()).unwrap();
        assert_eq!(Records::read(dir.path()), Ok(records));
        std::fs::write(Records::path(dir.path()), "{\"pins\":").unwrap();
        let error = Records::read(dir.path()).unwrap_err();
        assert!(error.contains("is damaged") && Records::path(dir.path()).exists(), "{error}");
    }

    #[test]
    fn more_is_more_and_less_is_not() {
        let pin = |origins: &[&str], rules: &[&str], credentials: &[&str]| {
            let set = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
            Pin { digest: String::new(), origins: set(origins), rules: set(rules), credentials: set(credentials) }
        };
        let own = pin(&["https://a:443"], &["GET /api", "POST /search"], &["key to x-key"]);
        assert!(own.lacks(&pin(&["https://a:443"], &["GET /api/v2"], &[])).is_empty());
        assert_eq!(
            own.lacks(&pin(&["https://b:443"], &["GET /apis", "DELETE /api"], &["key to authorization"])),
            [
                "the origin https://b:443",
                "requests DELETE /api",
                "requests GET /apis",
                "the secret key to authorization"
            ]
        );
    }
}
