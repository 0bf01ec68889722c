//! What the operator does with connectors: look, quarantine, release, confirm.
//!
//! What: reads the report and the records of a state directory and writes records, which a running host obeys at its
//! next look.
//! Why through files: it works in the same way whether the host runs or not, and needs no way into the host.
//! Not guaranteed: that the report is newer than the host's last change; it says when it was written.

mod error;

use error::list;
pub use error::{OperatorError, Wanted};

use super::super::serving::{ConnectorReport, ConnectorState, integration_type};
use super::super::{Connector, Plan};
use super::grant::Grant;
use super::home::{Home, Kind};
use super::kept::Kept;
use super::pins::{Allowed, Ceiling, Held, NotGranted, Pin, confirm};
use super::quarantine::{By, Quarantined};
use super::report::Written;
use super::trial::shown;
use crate::instances::failure::FailureReport;
use crate::sandbox::Clock;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;
use time::OffsetDateTime;

/// Fewest characters of a digest that name a version.
const SHORTEST_DIGEST: usize = 6;

/// The connectors of a state directory.
#[derive(Debug)]
pub struct Operator {
    home: Home,
}

/// What is known of them.
#[derive(Debug, Default)]
pub struct Listing {
    /// When a host wrote the report; `None` when none has yet.
    pub written: Option<OffsetDateTime>,
    /// The report, and the records it does not speak of.
    pub connectors: Vec<ConnectorReport>,
    /// What every type may do, by type.
    pub granted: Vec<Granted>,
    /// Records that cannot be read, one text for each.
    pub unreadable: Vec<String>,
}

/// What a type was granted at its first load, or when a version of it was confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Granted {
    /// The type.
    pub integration_type: String,
    /// The version that it was granted for.
    pub version: String,
    /// Its digest.
    pub digest: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub since: OffsetDateTime,
    /// Origins, requests and headers for secrets, one text for each. Origins that the configuration grants a type count
    /// in place of those here.
    pub rights: Vec<String>,
}

/// What was confirmed.
#[derive(Debug, PartialEq, Eq)]
pub struct Confirmed {
    /// The type that it is granted to.
    pub integration_type: String,
    /// The version that asked.
    pub version: String,
    /// Its digest.
    pub digest: String,
    /// What is granted from now on.
    pub granted: Vec<String>,
}

impl Operator {
    /// The records of a state directory.
    ///
    /// # Errors
    /// When no host has used it, or this user cannot see whether one has.
    pub fn at(state: &Path) -> Result<Self, OperatorError> {
        let home = Home::at(state);
        if home.exists()? { Ok(Self { home }) } else { Err(OperatorError::NoHost { path: state.to_owned() }) }
    }

    /// Everything that is known.
    ///
    /// # Errors
    /// When the report cannot be read.
    pub fn list(&self) -> Result<Listing, OperatorError> {
        let mut listing = Listing::default();
        if let Some(report) = self.home.load_report::<Written>()? {
            listing.written = Some(report.written);
            listing.connectors = report.connectors;
        }
        let (records, unreadable) = self.records::<Quarantined>(Kind::Quarantine)?;
        listing.unreadable.extend(unreadable);
        for record in records {
            let known = |row: &ConnectorReport| row.digest == record.digest && row.state == ConnectorState::Quarantined;
            if !listing.connectors.iter().any(known) {
                let may_hold = |row: &ConnectorReport| {
                    row.digest == record.digest || row.digest.is_empty() && row.file == record.file
                };
                let is_gone = listing.written.is_some() && !listing.connectors.iter().any(may_hold);
                listing.connectors.push(quarantined_row(&record, is_gone));
            }
        }
        let (records, unreadable) = self.records::<Held>(Kind::Held)?;
        listing.unreadable.extend(unreadable);
        for record in records {
            let known = |row: &ConnectorReport| row.digest == record.digest && row.state == ConnectorState::Held;
            if !listing.connectors.iter().any(known) {
                listing.connectors.push(held_row(&record));
            }
        }
        for integration_type in self.home.names(Kind::Pins)? {
            match self.home.load::<Pin>(Kind::Pins, &integration_type) {
                Ok(pin) => listing.granted.extend(pin.map(|pin| Granted {
                    integration_type,
                    version: pin.version,
                    digest: pin.digest,
                    since: pin.since,
                    rights: pin.grant.texts(),
                })),
                Err(error) => listing.unreadable.push(error.to_string()),
            }
        }
        listing.granted.sort_by(|a, b| a.integration_type.cmp(&b.integration_type));
        Ok(listing)
    }

    /// The component that serves a type at a host with these records, if it is kept there: its file may hold another version by
    /// now, or nothing that can be used. At most `most` bytes.
    #[must_use]
    pub fn serving(&self, integration_type: &str, most: u64) -> Option<Vec<u8>> {
        self.kept(integration_type)?.bytes(&self.home, most).ok()?
    }

    /// Whether a component serves a type at a host with these records, and is kept there.
    #[must_use]
    pub fn serves(&self, integration_type: &str) -> bool {
        self.kept(integration_type).is_some()
    }

    /// The version of a type that is kept, if it serves.
    fn kept(&self, integration_type: &str) -> Option<Kept> {
        let kept = self.home.load::<Kept>(Kind::Kept, integration_type).ok()??;
        let serves = |row: &ConnectorReport| {
            row.integration_type == integration_type
                && row.state == ConnectorState::Serving
                && row.digest == kept.digest
        };
        let rows = self.list().ok()?.connectors;
        // The report of a host that has ended does not know of it.
        let is_out = |row: &ConnectorReport| row.digest == kept.digest && row.state == ConnectorState::Quarantined;
        (rows.iter().any(serves) && !rows.iter().any(is_out)).then_some(kept)
    }

    /// Whether a host with these records would let instances of this component poll: it serves, and is neither held nor in
    /// quarantine. Of a host that has said nothing yet nothing is known, and everything let through.
    ///
    /// # Errors
    /// Why not.
    pub fn would_serve(&self, connector: &Connector) -> Result<(), FailureReport> {
        self.judged(connector, false)
    }

    /// The same, but what such a host has not judged yet, or is judging, is let through: it may serve after the next start.
    ///
    /// # Errors
    /// Why it would not.
    pub fn would_take(&self, connector: &Connector) -> Result<(), FailureReport> {
        self.judged(connector, true)
    }

    /// Whether a component would serve, and whether one that is not judged yet counts as such.
    fn judged(&self, connector: &Connector, unjudged: bool) -> Result<(), FailureReport> {
        let unreadable = |error: OperatorError| FailureReport::new(error.code(), error.to_string(), error.help());
        let listing = self.list().map_err(unreadable)?;
        let kind = integration_type(connector.slug());
        let of_type: Vec<&ConnectorReport> = listing
            .connectors
            .iter()
            .filter(|row| row.integration_type == kind || row.digest == connector.digest())
            .collect();
        let in_state = |state: ConnectorState| move |row: &&&ConnectorReport| row.state == state;
        let own = || of_type.iter().filter(|row| row.digest == connector.digest());
        // What serves may also be held, for an instance that wants to go elsewhere.
        let own = own()
            .find(in_state(ConnectorState::Quarantined))
            .or_else(|| own().find(in_state(ConnectorState::Serving)))
            .or_else(|| own().next());
        let serves =
            of_type.iter().filter(|row| row.digest != connector.digest()).find(in_state(ConnectorState::Serving));
        match (own, serves) {
            (Some(own), _) if own.state == ConnectorState::Serving => Ok(()),
            (None, None) => Ok(()),
            (own, _) if unjudged && own.is_none_or(|own| own.state == ConnectorState::Loading) => Ok(()),
            (own, other) => {
                let state = own.map_or("not judged yet", |own| own.state.name());
                let reason = own.and_then(|own| own.reason.as_ref()).map_or_else(String::new, |why| format!(": {why}"));
                let other = other.map_or_else(String::new, |other| format!("; version {} serves", other.version));
                let message = format!(
                    "version {} in the directory of connectors is {state} by the host{reason}{other}",
                    connector.descriptor().version
                );
                Err(FailureReport::new(
                    "connector-missing",
                    message,
                    "Nothing is sent by what the host does not let serve: see `host-harness connectors list`.",
                ))
            }
        }
    }

    /// Whether it would let an instance with this plan poll. `allowed` is what the configuration says.
    ///
    /// # Errors
    /// When the plan lies outside of what is granted.
    pub fn would_admit(&self, connector: &Connector, plan: &Plan, allowed: Allowed) -> Result<(), NotGranted> {
        let ceiling = Ceiling::new(self.home.clone(), Clock::system(), allowed);
        ceiling.check(connector, &Grant::asked(connector.descriptor(), plan))
    }

    /// Puts a version into quarantine until it is released. `which` is a type (then what serves it is meant), a file,
    /// or the beginning of a digest. Gives the digest.
    ///
    /// # Errors
    /// When nothing or several things go by that name, or the record cannot be written.
    pub fn quarantine(&self, which: &str, reason: &str, now: OffsetDateTime) -> Result<String, OperatorError> {
        let rows = self.list()?.connectors;
        let serving = |row: &&ConnectorReport| {
            row.integration_type == integration_type(which) && row.state == ConnectorState::Serving
        };
        let row = match rows.iter().find(serving) {
            Some(row) => row,
            None => one(which, Wanted::Connector, rows.iter().filter(|row| !row.digest.is_empty()), |row| {
                (row.integration_type.as_str(), row.file.as_str(), row.digest.as_str())
            })?,
        };
        let record = Quarantined {
            digest: row.digest.clone(),
            host_build: String::new(),
            integration_type: row.integration_type.clone(),
            version: row.version.clone(),
            file: row.file.clone(),
            by: By::Operator,
            code: "operator".to_owned(),
            reason: shown(reason),
            failures: 0,
            has_ended_host: false,
            since: now,
            retry_at: None,
            // The host knows it, and adds it when it obeys.
            form: BTreeSet::new(),
        };
        self.home.save(Kind::Quarantine, &record.digest, &record)?;
        Ok(record.digest)
    }

    /// Takes versions out of quarantine: they are tried again at the host's next look. `which` is a type, a file or the
    /// beginning of a digest; `None` is all of them. Gives the digests.
    ///
    /// # Errors
    /// When nothing goes by that name, or a record cannot be removed.
    pub fn release(&self, which: Option<&str>) -> Result<Vec<String>, OperatorError> {
        let names = self.home.names(Kind::Quarantine)?;
        let records = self.records::<Quarantined>(Kind::Quarantine)?.0;
        let chosen: Vec<String> = match which {
            None => names,
            Some(which) => {
                let goes_by = |digest: &String| {
                    let record = records.iter().find(|record| record.digest == *digest);
                    let (name, file) =
                        record.map_or(("", ""), |record| (record.integration_type.as_str(), record.file.as_str()));
                    goes_by(which, name, file, digest)
                };
                let chosen: Vec<String> = names.iter().filter(|digest| goes_by(digest)).cloned().collect();
                if chosen.is_empty() {
                    let known = names.iter().map(|digest| short(digest)).collect();
                    return Err(OperatorError::Unknown { which: which.to_owned(), wanted: Wanted::Quarantined, known });
                }
                chosen
            }
        };
        for digest in &chosen {
            self.home.remove(Kind::Quarantine, digest)?;
        }
        Ok(chosen)
    }

    /// Grants what a version asks for. `which` is a type, or the beginning of a digest where several versions ask.
    ///
    /// # Errors
    /// When nothing or several things go by that name, or a record cannot be written.
    pub fn confirm(&self, which: &str, now: OffsetDateTime) -> Result<Confirmed, OperatorError> {
        let records = self.records::<Held>(Kind::Held)?.0;
        let named = |held: &Held| format!("{} (asks for {})", short(&held.digest), list(&held.lacks));
        let held =
            one(which, Wanted::Held, records.iter(), |held| (held.integration_type.as_str(), "", held.digest.as_str()));
        let held = held.map_err(|error| match error {
            OperatorError::Ambiguous { which, .. } => {
                let is_one = |held: &&Held| goes_by(&which, &held.integration_type, "", &held.digest);
                let known = records.iter().filter(is_one).map(named).collect();
                OperatorError::Ambiguous { which, known }
            }
            other => other,
        })?;
        confirm(&self.home, held, now)?;
        Ok(Confirmed {
            integration_type: held.integration_type.clone(),
            version: held.version.clone(),
            digest: held.digest.clone(),
            granted: held.lacks.clone(),
        })
    }

    /// The records of a kind that can be read, and what is wrong with the others.
    fn records<T: serde::de::DeserializeOwned>(&self, kind: Kind) -> Result<(Vec<T>, Vec<String>), OperatorError> {
        let (mut records, mut unreadable) = (Vec::new(), Vec::new());
        for name in self.home.names(kind)? {
            match self.home.load(kind, &name) {
                Ok(record) => records.extend(record),
                Err(error) => unreadable.push(error.to_string()),
            }
        }
        Ok((records, unreadable))
    }
}

/// The one thing that goes by a name. `names` gives type, file and digest.
fn one<'a, T>(
    which: &str,
    wanted: Wanted,
    things: impl Iterator<Item = &'a T>,
    names: impl Fn(&'a T) -> (&'a str, &'a str, &'a str),
) -> Result<&'a T, OperatorError> {
    let mut known: Vec<String> = Vec::new();
    let mut found: Vec<(&'a T, &'a str)> = Vec::new();
    for thing in things {
        let (name, file, digest) = names(thing);
        known.push(format!("{name} {}", short(digest)));
        if goes_by(which, name, file, digest) && !found.iter().any(|(_, other)| *other == digest) {
            found.push((thing, digest));
        }
    }
    known.dedup();
    match found.as_slice() {
        [] => Err(OperatorError::Unknown { which: which.to_owned(), wanted, known }),
        [(thing, _)] => Ok(thing),
        _ => {
            let known = found.iter().map(|(_, digest)| short(digest)).collect();
            Err(OperatorError::Ambiguous { which: which.to_owned(), known })
        }
    }
}

/// Whether a version goes by a name: its type, its file, or the beginning of its digest.
fn goes_by(which: &str, name: &str, file: &str, digest: &str) -> bool {
    let is_digest = which.len() >= SHORTEST_DIGEST && digest.starts_with(&which.to_ascii_lowercase());
    !which.is_empty() && (is_digest || file == which || name == integration_type(which))
}

/// The beginning of a digest, as it is shown.
fn short(digest: &str) -> String {
    digest.get(..12).unwrap_or(digest).to_owned()
}

/// The row of a record that the report does not speak of. `is_gone`: no file holds the version, so its file's name says
/// nothing any more, and it is not tried at any time.
fn quarantined_row(record: &Quarantined, is_gone: bool) -> ConnectorReport {
    let row = ConnectorReport {
        integration_type: record.integration_type.clone(),
        version: record.version.clone(),
        digest: record.digest.clone(),
        file: record.file.clone(),
        state: ConnectorState::Quarantined,
        reason: Some(record.reason.clone()),
        code: Some(record.code.clone()),
        retry_at: record.retry_at,
        since: record.since,
    };
    if !is_gone {
        return row;
    }
    let reason = format!("{}; its file is gone", record.reason);
    ConnectorReport { file: String::new(), retry_at: None, reason: Some(reason), ..row }
}

/// The same for what awaits confirmation.
fn held_row(record: &Held) -> ConnectorReport {
    ConnectorReport {
        integration_type: record.integration_type.clone(),
        version: record.version.clone(),
        digest: record.digest.clone(),
        file: String::new(),
        state: ConnectorState::Held,
        reason: Some(format!("some instance needs what is not granted: {}", record.lacks.join(", "))),
        code: Some("not-granted".to_owned()),
        retry_at: None,
        since: record.since,
    }
}
