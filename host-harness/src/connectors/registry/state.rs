//! What the registry knows: which version serves each type, and what has become of each file.
//!
//! What: the transitions of a version's life that need neither files nor WebAssembly: taking over, the first polls
//! that decide whether it stays, going back.
//! Why apart: these rules are proved with a few lines each.
//! Not guaranteed: that a version which passed its first polls works for ever.

use super::super::Connector;
use super::super::serving::{ConnectorState, PollOutcome};
use super::quarantine::{INVALID_SETTINGS, form};
use std::collections::{BTreeMap, BTreeSet};
use time::OffsetDateTime;
use uuid::Uuid;

/// Polls of one instance in which a new version may fail before it is taken back.
pub(super) const MOST_FAILURES: u32 = 3;

/// How long the version before is kept when some instance never gets so far as to show anything.
pub(super) const LONGEST_PROBATION: time::Duration = time::Duration::DAY;

/// A version that serves.
#[derive(Debug)]
pub(super) struct Served {
    /// The version.
    pub(super) connector: Connector,
    /// The file it came from.
    pub(super) file: String,
    /// Keys of settings that only the version before knew: instances may still have them.
    pub(super) former: BTreeSet<String>,
    /// Since when it serves.
    pub(super) since: OffsetDateTime,
    /// Whether the last poll of an instance that says something about the connector worked.
    pub(super) worked: BTreeMap<Uuid, bool>,
    /// What is to be shown yet.
    pub(super) probation: Option<Probation>,
}

/// The time in which a new version can be taken back.
#[derive(Debug)]
pub(super) struct Probation {
    /// What served before, and proved itself.
    pub(super) previous: Box<Served>,
    /// Instances that worked before and have not worked since, with their failures.
    awaited: BTreeMap<Uuid, u32>,
    /// When it ends at the latest.
    until: OffsetDateTime,
}

/// What a poll has led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing.
    None,
    /// The version has proved itself.
    Proven,
    /// It failed too often; the version before is to be put back.
    Failed,
}

impl Served {
    /// A version that nothing has to be shown of.
    pub(super) fn new(connector: Connector, file: &str, now: OffsetDateTime) -> Self {
        Self {
            connector,
            file: file.to_owned(),
            former: BTreeSet::new(),
            since: now,
            worked: BTreeMap::new(),
            probation: None,
        }
    }

    /// Takes the place of a version. `instances` are those configured, and whether each has a checkpoint.
    pub(super) fn after(mut self, old: Option<Self>, instances: &[(Uuid, bool)]) -> Self {
        let Some(mut old) = old else { return self };
        self.former = form(&old.connector);
        self.former.retain(|key| !form(&self.connector).contains(key));
        // What never proved itself is nothing to go back to.
        let (last, mut previous) = match old.probation.take() {
            Some(probation) => (old.worked, *probation.previous),
            None => (BTreeMap::new(), old),
        };
        previous.probation = None;
        let awaited: BTreeMap<Uuid, u32> = instances
            .iter()
            // After a restart nothing was polled yet; a checkpoint says that it worked once.
            .filter(|(id, has_checkpoint)| *last.get(id).or_else(|| previous.worked.get(id)).unwrap_or(has_checkpoint))
            .map(|(id, _)| (*id, 0))
            .collect();
        if !awaited.is_empty() {
            let until = self.since.checked_add(LONGEST_PROBATION).unwrap_or(self.since);
            self.probation = Some(Probation { previous: Box::new(previous), awaited, until });
        }
        self
    }

    /// Takes note of a poll.
    pub(super) fn polled(&mut self, instance: Uuid, outcome: PollOutcome) -> Effect {
        let worked = match outcome {
            PollOutcome::Worked => true,
            PollOutcome::ConnectorFailed => false,
            PollOutcome::Inconclusive => return Effect::None,
        };
        self.worked.insert(instance, worked);
        let Some(probation) = &mut self.probation else { return Effect::None };
        if worked {
            probation.awaited.remove(&instance);
            return if probation.awaited.is_empty() { self.end_probation() } else { Effect::None };
        }
        let Some(failures) = probation.awaited.get_mut(&instance) else { return Effect::None };
        *failures += 1;
        if *failures >= MOST_FAILURES { Effect::Failed } else { Effect::None }
    }

    /// Ends a probation whose time is over, or of whose instances none is left that has anything to show.
    pub(super) fn pass_time(&mut self, now: OffsetDateTime, live: &[Uuid]) -> Effect {
        let Some(probation) = &mut self.probation else { return Effect::None };
        probation.awaited.retain(|instance, _| live.contains(instance));
        if probation.until <= now || probation.awaited.is_empty() { self.end_probation() } else { Effect::None }
    }

    /// Lets go of the version before.
    fn end_probation(&mut self) -> Effect {
        self.probation = None;
        Effect::Proven
    }
}

/// What has become of a file.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// SHA-256 of its content; empty until it was read.
    pub(super) digest: String,
    /// Integration type and version, once they are known.
    pub(super) version: Option<(String, String)>,
    /// What has become of it.
    pub(super) state: ConnectorState,
    /// Why.
    pub(super) reason: Option<Reason>,
    /// When it is judged again by itself.
    pub(super) retry_at: Option<OffsetDateTime>,
    /// Since when it is in this state.
    pub(super) since: OffsetDateTime,
    /// What the judgement depended on; when that changes, it is judged again.
    pub(super) basis: Option<Basis>,
    /// Counts the judgements begun, so that the result of an outdated one is recognised.
    pub(super) judgement: u64,
    /// Keys of its settings, while it neither serves nor is refused, and if they are known.
    pub(super) form: BTreeSet<String>,
}

/// Why a file is in its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reason {
    /// Stable code.
    pub(super) code: String,
    /// In one line.
    pub(super) text: String,
}

/// What a judgement depended on besides the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Basis {
    /// This digest serves the type.
    Serving(String),
    /// It asks for more than is granted.
    Granted {
        /// What was granted to the type, and the configuration it was judged by.
        state: String,
        /// This digest served the type; one that is higher has the last word, whatever is granted.
        serving: String,
    },
    /// This digest serves the type, and its file holds the same.
    Duplicate(String),
    /// There is a quarantine record.
    Quarantine,
    /// The configuration does not approve it.
    Unapproved,
}

impl Entry {
    /// Whether it is in quarantine because an instance's settings do not fit it.
    pub(super) fn is_unfit(&self) -> bool {
        self.state == ConnectorState::Quarantined
            && self.reason.as_ref().is_some_and(|reason| reason.code == INVALID_SETTINGS)
    }

    /// A file that is being judged.
    pub(super) fn loading(judgement: u64, now: OffsetDateTime) -> Self {
        Self {
            digest: String::new(),
            version: None,
            state: ConnectorState::Loading,
            reason: None,
            retry_at: None,
            since: now,
            basis: None,
            judgement,
            form: BTreeSet::new(),
        }
    }

    /// Moves on to a state.
    pub(super) fn move_to(&mut self, state: ConnectorState, reason: Option<Reason>, now: OffsetDateTime) {
        if self.state != state {
            self.since = now;
        }
        self.state = state;
        self.reason = reason;
        self.retry_at = None;
        self.basis = None;
        if matches!(state, ConnectorState::Serving | ConnectorState::Refused) {
            self.form.clear();
        }
    }
}

/// All that is known.
#[derive(Debug, Default)]
pub(super) struct State {
    /// By integration type.
    pub(super) serving: BTreeMap<String, Served>,
    /// By name of the file.
    pub(super) files: BTreeMap<String, Entry>,
    /// Judgements begun so far.
    pub(super) judgements: u64,
}

impl State {
    /// The type that a digest serves.
    pub(super) fn served_type(&self, digest: &str) -> Option<&str> {
        self.serving.iter().find(|(_, served)| served.connector.digest() == digest).map(|(name, _)| name.as_str())
    }

    /// Digest of what serves a type; empty when nothing does.
    pub(super) fn serving_digest(&self, integration_type: &str) -> &str {
        self.serving.get(integration_type).map_or("", |served| served.connector.digest())
    }

    /// The keys of settings that a version of a type knows which serves, has served before that, or may serve when
    /// something has changed: an instance may have any of them.
    pub(super) fn keys(&self, integration_type: &str) -> BTreeSet<String> {
        let serving = self.serving.get(integration_type);
        let served =
            serving.into_iter().flat_map(|served| form(&served.connector).into_iter().chain(served.former.clone()));
        let is_of_type = |entry: &&Entry| entry.version.as_ref().is_some_and(|(name, _)| name == integration_type);
        served.chain(self.files.values().filter(is_of_type).flat_map(|entry| entry.form.clone())).collect()
    }

    /// Whether one of the judgements up to this one is under way.
    pub(super) fn is_judging(&self, last: u64) -> bool {
        self.files.values().any(|entry| entry.state == ConnectorState::Loading && entry.judgement <= last)
    }

    /// A file that was turned away in favour of what served a type, or is being judged: it is tried now that nothing
    /// serves.
    pub(super) fn successor(&self, integration_type: &str) -> Option<&str> {
        let waits = |entry: &Entry| match &entry.basis {
            Some(Basis::Serving(_) | Basis::Duplicate(_) | Basis::Granted { .. }) => true,
            Some(Basis::Quarantine | Basis::Unapproved) => false,
            None => entry.state == ConnectorState::Loading,
        };
        let is_of_type =
            |entry: &Entry| entry.version.as_ref().is_some_and(|(name, _)| name == integration_type) && waits(entry);
        self.files.iter().find(|(_, entry)| is_of_type(entry)).map(|(file, _)| file.as_str())
    }

    /// Whether a file holds this digest, as far as is known: one that was not read yet may hold anything.
    pub(super) fn may_hold(&self, file: &str, digest: &str) -> bool {
        self.files.get(file).is_none_or(|entry| entry.digest.is_empty() || entry.digest == digest)
    }

    /// Begins to judge a file and gives the number of the judgement.
    pub(super) fn begin(&mut self, file: &str, now: OffsetDateTime) -> u64 {
        self.judgements += 1;
        let judgement = self.judgements;
        let entry = self.files.entry(file.to_owned()).or_insert_with(|| Entry::loading(judgement, now));
        entry.judgement = judgement;
        entry.move_to(ConnectorState::Loading, None, now);
        judgement
    }

    /// The entry of a file, while this judgement is its newest.
    pub(super) fn judged(&mut self, file: &str, judgement: u64) -> Option<&mut Entry> {
        self.files.get_mut(file).filter(|entry| entry.judgement == judgement)
    }
}
