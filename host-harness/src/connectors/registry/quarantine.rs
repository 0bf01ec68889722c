//! Versions that failed, by digest.
//!
//! What: a record says what failed, how often, and when it may be tried again: after a minute, then after twice as
//! long each time, up to a day. What has ended the host twice is not tried again by itself, unless it has proved itself
//! in between. A record holds for
//! one build of the host, because another one may cope. An operator's record holds for every build and until it is
//! released.
//! Why persisted: a version that crashes must not be tried afresh with every restart.
//! Not guaranteed: a record that cannot be read holds nothing back. It is reported, and the version has to prove itself
//! like any other.

use super::home::{Home, Kind, RecordError};
use crate::connectors::Connector;
use crate::locks::lock;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use time::OffsetDateTime;

/// The first wait.
const FIRST_WAIT: Duration = Duration::from_mins(1);

/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// Code of what does not take the settings of an instance.
pub(super) const INVALID_SETTINGS: &str = "invalid-settings";

/// Code of what a host ended over.
pub(super) const HOST_ENDED: &str = "host-ended";

/// Who has put a version into quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum By {
    /// The host, because it failed.
    Host,
    /// A person.
    Operator,
}

/// A version in quarantine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Quarantined {
    /// SHA-256 of the component.
    pub(super) digest: String,
    /// Build of the host that it failed on.
    pub(super) host_build: String,
    /// Its integration type; empty when it did not get so far as to say it.
    pub(super) integration_type: String,
    /// Its version; empty likewise.
    pub(super) version: String,
    /// The file it was found in.
    pub(super) file: String,
    /// Who did it.
    pub(super) by: By,
    /// Stable code of the reason.
    pub(super) code: String,
    /// The reason in one line.
    pub(super) reason: String,
    /// Failures so far on this build.
    pub(super) failures: u32,
    /// Whether the host has ended over it before, whatever it failed by since.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) has_ended_host: bool,
    /// When it failed first.
    #[serde(with = "time::serde::rfc3339")]
    pub(super) since: OffsetDateTime,
    /// When it is tried again; never by itself when absent.
    #[serde(with = "time::serde::rfc3339::option")]
    pub(super) retry_at: Option<OffsetDateTime>,
    /// Keys of its settings, if it got so far as to say them: an instance may have those that it waits for.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) form: BTreeSet<String>,
}

impl Quarantined {
    /// Whether it holds a version back on this build of the host at this time.
    pub(super) fn holds(&self, host_build: &str, now: OffsetDateTime) -> bool {
        match self.by {
            By::Operator => true,
            // What is further off than any wait was written by a clock that was ahead.
            By::Host => {
                self.host_build == host_build
                    && self.retry_at.is_none_or(|at| at > now && (at - now).unsigned_abs() <= LONGEST_WAIT)
            }
        }
    }
}

/// What has failed, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failed<'a> {
    /// SHA-256 of the component.
    pub(super) digest: &'a str,
    /// Integration type and version, as far as they are known.
    pub(super) version: Option<(&'a str, &'a str)>,
    /// The file it was found in.
    pub(super) file: &'a str,
    /// Stable code of the reason.
    pub(super) code: &'a str,
    /// The reason in one line.
    pub(super) reason: &'a str,
    /// Itself, when it could be loaded.
    pub(super) connector: Option<&'a Connector>,
}

/// The records of one state directory, for one build of the host.
#[derive(Clone, Debug)]
pub(super) struct Quarantine {
    home: Home,
    host_build: String,
    /// Records that could not be read, and why, so that it is said once: what serves is looked up every two seconds.
    told: Arc<Mutex<BTreeMap<String, String>>>,
}

impl Quarantine {
    /// The records in `home`. `host_build` is a digest of everything that may make a version fail here only.
    pub(super) fn new(home: Home, host_build: String) -> Self {
        Self { home, host_build, told: Arc::default() }
    }

    /// The record that holds a version back now, if one does.
    pub(super) fn holding(&self, digest: &str, now: OffsetDateTime) -> Option<Quarantined> {
        self.load(digest).filter(|record| record.holds(&self.host_build, now))
    }

    /// Notes a failure and says when the version is tried again, and whether the record is on disk. What an operator has
    /// said stays as it is. What cannot be written is reported; it holds until its time, for as long as this process runs
    /// and the file stays as it is.
    pub(super) fn put(&self, failed: Failed<'_>, now: OffsetDateTime) -> (Quarantined, bool) {
        let before = self.load(failed.digest);
        if let Some(theirs) = before.as_ref().filter(|record| record.by == By::Operator) {
            return (theirs.clone(), true);
        }
        let before = before.filter(|record| record.host_build == self.host_build);
        let failures = before.as_ref().map_or(0, |record| record.failures).saturating_add(1);
        // A wait, however long, would only put off the end of every tenant's collecting. What takes the compiler all memory
        // is as a rule given up first, for its time.
        let had_ended = before.as_ref().is_some_and(|record| record.has_ended_host || record.code == HOST_ENDED);
        let is_fatal = failed.code == HOST_ENDED && had_ended;
        let wait = time::Duration::try_from(wait(failures)).unwrap_or(time::Duration::DAY);
        let (integration_type, version) = failed.version.unwrap_or_default();
        let record = Quarantined {
            digest: failed.digest.to_owned(),
            host_build: self.host_build.clone(),
            integration_type: integration_type.to_owned(),
            version: version.to_owned(),
            file: failed.file.to_owned(),
            by: By::Host,
            code: failed.code.to_owned(),
            reason: failed.reason.to_owned(),
            failures,
            has_ended_host: had_ended || failed.code == HOST_ENDED,
            since: before.map_or(now, |record| record.since),
            retry_at: if is_fatal { None } else { now.checked_add(wait) },
            form: failed.connector.map(form).unwrap_or_default(),
        };
        let saved = self.home.save(Kind::Quarantine, failed.digest, &record);
        if let Err(error) = &saved {
            tracing::error!("a quarantine will not survive a restart: {error}");
        }
        (record, saved.is_ok())
    }

    /// Adds to a record the keys of its connector's settings.
    pub(super) fn with_form(&self, record: Quarantined, connector: &Connector) -> Quarantined {
        let record = Quarantined { form: form(connector), ..record };
        if let Err(error) = self.home.save(Kind::Quarantine, &record.digest, &record) {
            tracing::warn!("the settings of a connector in quarantine are not known after a restart: {error}");
        }
        record
    }

    /// Has a version whose settings were missing or wrong be tried at once: they may have been put right.
    pub(super) fn hasten(&self, digest: &str, now: OffsetDateTime) {
        let Some(record) = self.load(digest) else { return };
        if record.by == By::Host && record.code == INVALID_SETTINGS && record.holds(&self.host_build, now) {
            let record = Quarantined { retry_at: Some(now), ..record };
            if let Err(error) = self.home.save(Kind::Quarantine, digest, &record) {
                tracing::warn!("a connector is not tried before its time: {error}");
            }
        }
    }

    /// Forgets a version's failures. What an operator has said stays.
    pub(super) fn forget(&self, digest: &str) -> Result<(), RecordError> {
        if self.load(digest).is_some_and(|record| record.by == By::Operator) {
            return Ok(());
        }
        self.home.remove(Kind::Quarantine, digest)
    }

    /// A record that can be read.
    fn load(&self, digest: &str) -> Option<Quarantined> {
        let loaded = self.home.load(Kind::Quarantine, digest);
        let mut told = lock(&self.told);
        match &loaded {
            Ok(_) => drop(told.remove(digest)),
            Err(error) => {
                let text = error.to_string();
                if told.get(digest) != Some(&text) {
                    tracing::warn!("a quarantine does not hold, its version is tried again: {error}");
                    told.insert(digest.to_owned(), text);
                }
            }
        }
        loaded.ok().flatten()
    }
}

/// The keys of a connector's settings.
pub(super) fn form(connector: &Connector) -> BTreeSet<String> {
    connector.descriptor().settings.iter().map(|field| field.key.clone()).collect()
}

/// How long a version waits after its nth failure.
fn wait(failures: u32) -> Duration {
    let doubled = 2_u32.checked_pow(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST_WAIT.saturating_mul(doubled).min(LONGEST_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn failed() -> Failed<'static> {
        Failed {
            digest: "d",
            version: Some(("acme", "1.0.0")),
            file: "a.wasm",
            code: "connector-trap",
            reason: "why",
            connector: None,
        }
    }

    fn quarantine() -> (tempfile::TempDir, Quarantine) {
        let folder = tempfile::tempdir().unwrap();
        let quarantine = Quarantine::new(Home::open(folder.path()).unwrap(), "build".into());
        (folder, quarantine)
    }

    #[test]
    fn the_wait_doubles_from_a_minute_to_a_day_and_survives_restarts() {
        let (folder, mut quarantine) = quarantine();
        let mut now = NOON;
        for minutes in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1440, 1440] {
            let (record, _) = quarantine.put(failed(), now);
            let retry = now + time::Duration::minutes(minutes);
            assert_eq!((record.retry_at, record.since), (Some(retry), NOON));
            quarantine = Quarantine::new(Home::open(folder.path()).unwrap(), "build".into());
            assert_eq!(quarantine.holding("d", retry - time::Duration::SECOND), Some(record));
            assert_eq!(quarantine.holding("d", retry), None);
            now = retry;
        }
        assert_eq!(wait(u32::MAX), LONGEST_WAIT);
    }

    #[test]
    fn what_a_clock_wrote_that_was_ahead_does_not_hold_for_ever() {
        let (_folder, quarantine) = quarantine();
        let ahead = NOON + time::Duration::days(3_650);
        quarantine.put(failed(), ahead);
        assert!(quarantine.holding("d", ahead).is_some());
        assert_eq!(quarantine.holding("d", NOON), None);
    }

    #[test]
    fn what_ends_the_host_after_its_time_is_up_ends_it_no_more_than_twice() {
        let (_folder, quarantine) = quarantine();
        let put = |code| quarantine.put(Failed { code, ..failed() }, NOON).0.retry_at;
        assert!(put("compile-timeout").is_some() && put(HOST_ENDED).is_some() && put("compile-timeout").is_some());
        assert_eq!(put(HOST_ENDED), None);
    }

    #[test]
    fn another_build_of_the_host_starts_afresh() {
        let (folder, quarantine) = quarantine();
        quarantine.put(failed(), NOON);
        quarantine.put(failed(), NOON);
        let other = Quarantine::new(Home::open(folder.path()).unwrap(), "other".into());
        assert_eq!(other.holding("d", NOON), None);
        assert_eq!(other.put(failed(), NOON).0.failures, 1);
    }

    #[test]
    fn what_an_operator_put_there_stays_until_released() {
        let (folder, quarantine) = quarantine();
        let (mut record, _) = quarantine.put(failed(), NOON);
        record.by = By::Operator;
        quarantine.home.save(Kind::Quarantine, "d", &record).unwrap();
        let other = Quarantine::new(Home::open(folder.path()).unwrap(), "other".into());
        assert!(other.holding("d", NOON + time::Duration::days(1000)).is_some());
        // Nothing that the host finds out changes that.
        other.forget("d").unwrap();
        assert_eq!(other.put(failed(), NOON), (record, true));
        assert!(other.holding("d", NOON + time::Duration::days(9)).is_some());
        other.home.remove(Kind::Quarantine, "d").unwrap();
        assert_eq!(other.holding("d", NOON), None);
    }

    #[test]
    fn an_unreadable_record_holds_nothing_and_is_replaced_by_the_next_failure() {
        let (_folder, quarantine) = quarantine();
        let path = quarantine.home.directory(Kind::Quarantine).join("d.json");
        std::fs::write(&path, "{\"digest\":").unwrap();
        let log = crate::log::captured(|| {
            assert_eq!(quarantine.holding("d", NOON), None);
            assert_eq!(quarantine.holding("d", NOON), None, "which is said once");
        });
        assert!(log.contains("quarantine/d.json") && log.lines().count() == 1, "{log}");
        assert_eq!(quarantine.put(failed(), NOON).0.failures, 1);
        assert!(quarantine.holding("d", NOON).is_some());
    }
}
