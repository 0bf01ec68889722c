//! A look at the directory and at the operator's records, and what follows from it at once.
//!
//! What: files that have come, changed or gone; versions that the operator has put into quarantine; waits that are over;
//! and, before the first look, the versions that proved themselves before a restart.
//! Why apart from judging: a look takes no longer than reading a directory, however long a judgement takes.
//! Not guaranteed: that a change between two looks which is undone again is seen.

use super::files::Look;
use super::kept;
use super::life::Job;
use super::quarantine::By;
use super::state::{Basis, Effect, Served};
use super::trial::{NotLoaded, shown};
use super::{Inner, lock};
use crate::connectors::Connector;
use crate::connectors::serving::{ConnectorState, LiveInstances, integration_type};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use uuid::Uuid;

impl Inner {
    /// Looks at the directory and the records, does at once what needs no compiling, and says what else is to be done.
    pub(super) async fn look(&self, live: &dyn LiveInstances) -> Vec<Job> {
        self.restored.get_or_init(|| self.restore()).await;
        let files = Arc::clone(&self.files);
        let look = tokio::task::spawn_blocking(move || lock(&files).look()).await;
        let look = match look.map_err(std::io::Error::other).and_then(|look| look) {
            Ok(look) => {
                self.complain(complaints(&look));
                look
            }
            Err(error) => {
                let text = format!("the directory of connectors cannot be read, what serves goes on: {error}");
                self.complain(vec![text]);
                Look::default()
            }
        };
        for file in &look.gone {
            self.gone(file);
        }
        self.obey_operator();
        self.pass_time(live);
        self.see_grants();
        self.due(look.settled)
    }

    /// Says what is wrong with the directory, each thing once: again when it was over in between.
    fn complain(&self, texts: Vec<String>) {
        let mut last = lock(&self.complaints);
        for text in texts.iter().filter(|text| !last.contains(text)) {
            tracing::warn!("{}", shown(text));
        }
        *last = texts;
    }

    /// Begins the judgement of what has changed, and of what waited for its time or for something else to change.
    fn due(&self, settled: Vec<String>) -> Vec<Job> {
        let now = self.clock.now();
        let files = lock(&self.state).files.clone();
        let mut due = settled;
        for (file, entry) in files {
            let is_over = entry.retry_at.is_some_and(|at| at <= now);
            let integration_type = entry.version.as_ref().map_or("", |(integration_type, _)| integration_type);
            let has_changed = match &entry.basis {
                None => false,
                Some(Basis::Serving(digest)) => lock(&self.state).serving_digest(integration_type) != digest,
                Some(Basis::Duplicate(digest)) => {
                    let state = lock(&self.state);
                    let served = state.serving.get(integration_type);
                    served.is_none_or(|served| {
                        served.connector.digest() != digest || !state.may_hold(&served.file, digest)
                    })
                }
                Some(Basis::Granted { state, serving }) => {
                    self.ceiling.basis(integration_type) != *state
                        || lock(&self.state).serving_digest(integration_type) != serving
                }
                Some(Basis::Quarantine) => self.quarantine.holding(&entry.digest, now).is_none(),
                Some(Basis::Unapproved) => self.ceiling.approve(&entry.digest).is_ok(),
            };
            if (is_over || has_changed) && !due.contains(&file) {
                due.push(file);
            }
        }
        let mut state = lock(&self.state);
        let jobs: Vec<Job> = due.into_iter().map(|file| Job { judgement: state.begin(&file, now), file }).collect();
        drop(state);
        if !jobs.is_empty() {
            self.changed();
        }
        jobs
    }

    /// Obeys an operator who has put into quarantine what serves, or approves it no longer.
    fn obey_operator(&self) {
        let serving: Vec<(String, Connector, String)> = {
            let state = lock(&self.state);
            let entry =
                |(name, served): (&String, &Served)| (name.clone(), served.connector.clone(), served.file.clone());
            state.serving.iter().map(entry).collect()
        };
        for (integration_type, connector, file) in serving {
            if let Err(why) = self.ceiling.approve(connector.digest()) {
                self.disapprove(&integration_type, &connector, &file, &why);
                continue;
            }
            let record = self.quarantine.holding(connector.digest(), self.clock.now());
            let Some(record) = record.filter(|record| record.by == By::Operator) else { continue };
            // Instances may have settings that only this version knows.
            let record = self.quarantine.with_form(record, &connector);
            let what = self.withdraw(&integration_type, connector.digest());
            tracing::warn!(
                connector = connector.slug(),
                digest = connector.digest(),
                "the operator has put version {} into quarantine, {what}",
                connector.descriptor().version
            );
            self.show_quarantined_serving(&file, connector.digest(), &record, true);
        }
    }

    /// Tells instances that wait for a grant when what is granted has changed.
    fn see_grants(&self) {
        let types: Vec<String> = lock(&self.state).serving.keys().cloned().collect();
        let granted: BTreeMap<String, String> =
            types.into_iter().map(|name| (name.clone(), self.ceiling.state(&name))).collect();
        let mut seen = lock(&self.granted);
        // A type that has just come or gone was told of already.
        let is_new = granted.iter().any(|(name, state)| seen.get(name).is_some_and(|before| before != state));
        *seen = granted;
        drop(seen);
        if is_new {
            self.changed();
        }
    }

    /// Ends probations whose time is over.
    fn pass_time(&self, live: &dyn LiveInstances) {
        let now = self.clock.now();
        let types: Vec<String> = lock(&self.state).serving.keys().cloned().collect();
        let ids: BTreeMap<String, Vec<Uuid>> = types.into_iter().map(|name| (name.clone(), live.ids(&name))).collect();
        let mut state = lock(&self.state);
        let over: Vec<_> = state
            .serving
            .iter_mut()
            .filter_map(|(name, served)| {
                let live = ids.get(name).map_or(&[][..], Vec::as_slice);
                (served.pass_time(now, live) == Effect::Proven)
                    .then(|| (name.clone(), served.connector.clone(), served.file.clone()))
            })
            .collect();
        drop(state);
        for (integration_type, connector, file) in over {
            self.proven(&integration_type, &connector, &file);
            self.changed();
        }
    }

    /// A file is gone: what it held serves no longer, unless another file holds the same.
    fn gone(&self, file: &str) {
        let mut state = lock(&self.state);
        state.files.remove(file);
        let types: Vec<String> =
            state.serving.iter().filter(|(_, served)| served.file == file).map(|(name, _)| name.clone()).collect();
        let (mut stopped, mut moved) = (Vec::new(), Vec::new());
        for integration_type in types {
            let digest = state.serving_digest(&integration_type).to_owned();
            let now = self.clock.now();
            let elsewhere = state.files.iter_mut().find(|(_, entry)| entry.digest == digest);
            if let Some((other, entry)) = elsewhere {
                entry.move_to(ConnectorState::Serving, None, now);
                let other = other.clone();
                if let Some(served) = state.serving.get_mut(&integration_type) {
                    served.file.clone_from(&other);
                    let mut digest = digest;
                    if let Some(probation) = &mut served.probation {
                        // A restart goes on with what is proven, and looks for it where it was.
                        if probation.previous.file == file {
                            probation.previous.file.clone_from(&other);
                        }
                        probation.previous.connector.digest().clone_into(&mut digest);
                    }
                    moved.push((integration_type, digest, other));
                }
            } else if let Some(served) = state.serving.remove(&integration_type) {
                let next = state.successor(&integration_type).map(str::to_owned);
                stopped.push((integration_type, served.connector, next));
            }
        }
        drop(state);
        for (integration_type, digest, other) in moved {
            kept::moved(&self.home, &integration_type, &digest, &other);
        }
        for (integration_type, connector, next) in stopped {
            let (slug, file) = (connector.slug(), shown(file));
            match next {
                // If it does not serve in the end, its own line says why.
                Some(next) => {
                    tracing::info!(connector = slug, "{file} is gone; {} is tried in its place", shown(&next));
                }
                None => tracing::warn!(
                    connector = slug,
                    "{file} is gone, so nothing serves; checkpoints and artifacts stay"
                ),
            }
            kept::forget(&self.home, &integration_type);
        }
        self.changed();
    }

    /// Goes on with the versions that proved themselves before a restart, as far as their files are still there.
    async fn restore(&self) {
        let most = self.loader.engine.limits().component_bytes;
        kept::tidy(&self.home, &BTreeSet::new());
        for (name, kept, bytes) in kept::all(&self.home, most) {
            if lock(&self.files).is_absent(&kept.file)
                || self.quarantine.holding(&kept.digest, self.clock.now()).is_some()
                || self.ceiling.approve(&kept.digest).is_err()
            {
                continue;
            }
            match self.loader.load_again(bytes).await {
                Ok(connector) if integration_type(connector.slug()) == name => {
                    let connector = connector.under(Arc::clone(&self.ceiling));
                    let served = Served::new(connector, &kept.file, self.clock.now());
                    let served = Served { former: kept.former, ..served };
                    lock(&self.state).serving.insert(name, served);
                }
                Ok(_) => {
                    tracing::warn!("the kept component of {name} is another connector's, it is not used")
                }
                Err(NotLoaded::Never(fault) | NotLoaded::Failed(fault) | NotLoaded::Host(fault)) => {
                    tracing::warn!("the kept component of {name} is not used: {}", fault.reason);
                }
            }
        }
        self.changed();
    }
}

/// Most entries of a directory that are complained of, each in a line of its own.
const MOST_COMPLAINTS: usize = 16;

/// What is wrong with a directory that could be read.
fn complaints(look: &Look) -> Vec<String> {
    let too_many = (look.ignored > 0)
        .then(|| format!("{} connectors too many in the directory; the last ones by name are ignored", look.ignored));
    let unknown = look.unknown.first();
    let unknown = unknown.map(|why| format!("a connector cannot be looked at, what it holds stays as it is: {why}"));
    let no_files = look.no_files.iter().take(MOST_COMPLAINTS);
    let no_files = no_files.map(|why| format!("in the directory of connectors {why}; it is passed over"));
    too_many.into_iter().chain(unknown).chain(no_files).collect()
}
