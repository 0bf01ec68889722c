//! What of instances is in the store: who they are, and how they stand, so that both outlive a restart.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::task::JoinHandle;
use uuid::Uuid;

use super::Work;
use crate::config::{Config, ConfigError, Problem};
use crate::locks::lock;
use crate::resident::resolve::problem;
use crate::resident::status::Past;
use crate::store::{Identity, Instance, Store};

/// The work of keeping instances: those that the schedule knows to be kept at this moment.
pub(super) struct Keeping(JoinHandle<Result<(), String>>);

/// Waits until they are; gives what was in the way.
pub(super) async fn kept(keeping: &mut Option<Keeping>) -> Option<String> {
    let Some(Keeping(work)) = keeping else { return std::future::pending().await };
    let kept = work.await.map_err(|error| error.to_string()).and_then(|kept| kept);
    *keeping = None;
    kept.err()
}

impl Work {
    /// The instances of a configuration in the store, with what was kept of those that are new here.
    pub(super) async fn identify(&self, config: &Arc<Config>) -> Result<Vec<(Instance, Option<Past>)>, ConfigError> {
        let (store, now) = (self.store.clone(), self.board.now());
        let known: HashSet<Uuid> = lock(&self.records).keys().copied().collect();
        let (config, whole) = (Arc::clone(config), config);
        let work = move || {
            let slugs: Vec<String> =
                config.instances.iter().map(|one| one.integration_type.replace('_', "-")).collect();
            let wanted: Vec<Identity<'_>> = config
                .instances
                .iter()
                .zip(&slugs)
                .map(|(one, slug)| Identity { handle: one.handle.as_deref(), name: &one.name, connector: slug })
                .collect();
            let reserved: Vec<&str> = config.left_out.iter().filter_map(|one| one.handle.as_deref()).collect();
            let found = store.identify(&wanted, &reserved, now).map_err(|(at, error)| {
                let line = config.instances.get(at).map_or(1, |one| one.place.line);
                let help = error.help().to_owned();
                let told = problem(&config.file, line, error.code(), error.to_string(), help);
                let line = told.line.filter(|_| error.is_of_an_instance());
                ConfigError { problems: vec![Problem { line, ..told }] }
            })?;
            Ok(found
                .into_iter()
                .map(|instance| {
                    let past = if known.contains(&instance.id) { None } else { Some(remembered(&store, &instance)) };
                    (instance, past)
                })
                .collect())
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
            let reason = format!("taking the configuration broke off: {error}");
            let told = problem(&whole.file, 1, "internal", reason, "report this".to_owned());
            Err(ConfigError { problems: vec![Problem { line: None, ..told }] })
        })
    }

    /// Begins to keep what has changed in the store.
    pub(super) fn begin_keep(&mut self) -> Option<Keeping> {
        let mut standings = Vec::new();
        let dirty = std::mem::take(&mut self.dirty);
        for id in &dirty {
            let known = match self.leaving.get(id) {
                Some((instance, past)) if !self.in_flight.contains_key(id) => Some((instance.clone(), past.clone())),
                _ => {
                    let record = lock(&self.records).get(id).cloned();
                    record.zip(self.board.instance(*id)).map(|(record, status)| (record.instance.clone(), status.past))
                }
            };
            let Some((instance, past)) = known else { continue };
            match serde_json::to_string(&past) {
                Ok(json) => standings.push((instance, json)),
                Err(error) => tracing::warn!("how {} stands cannot be kept: {error}", instance.name),
            }
        }
        if standings.is_empty() {
            return None;
        }
        let (store, now) = (self.store.clone(), self.board.now());
        let work = tokio::task::spawn_blocking(move || {
            store.keep_standings(&standings, now).map_err(|error| format!("{error}; {}", error.help()))
        });
        self.being_kept = dirty;
        Some(Keeping(work))
    }

    /// Takes in whether they were kept.
    pub(super) fn end_keep(&mut self, trouble: Option<String>) {
        let dirty = std::mem::take(&mut self.being_kept);
        match &trouble {
            // Who has changed meanwhile is kept once more.
            None => self
                .leaving
                .retain(|id, _| !dirty.contains(id) || self.dirty.contains(id) || self.in_flight.contains_key(id)),
            // They are kept with the next that is, if that can be done then.
            Some(_) => self.dirty.extend(dirty),
        }
        if let Some(text) = trouble.as_ref().filter(|_| trouble != self.not_kept) {
            tracing::warn!("how instances stand cannot be kept for now: {text}");
        }
        self.not_kept = trouble;
    }
}

/// What was kept of an instance; nothing when that cannot be read.
fn remembered(store: &Store, instance: &Instance) -> Past {
    store.standing(instance).ok().flatten().and_then(|json| serde_json::from_str(&json).ok()).unwrap_or_default()
}
