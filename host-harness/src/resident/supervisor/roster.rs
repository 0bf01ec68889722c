//! The roster: how a configuration becomes the instances that are polled.
//!
//! What: instances that are new are put into the schedule, those that changed keep their place in it unless their interval
//! is another one, and those that are gone or disabled leave it.
//! Promises: a poll at hand is finished and what it comes to is kept, whatever becomes of its instance; after a restart the
//! interval goes on where it was.
//! Not guaranteed: that an instance which is renamed keeps its state without a stable id; see [`super::standing`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use tokio::time::Instant;
use uuid::Uuid;

use super::Work;
use super::entry::Entry;
use crate::config::{Config, ConfigError};
use crate::locks::lock;
use crate::resident::poller::{Record, same};
use crate::resident::resolve::problem;
use crate::resident::status::{InstanceStatus, Past, State};
use crate::schedule::LONGEST_RETRY_AFTER;
use crate::store::Instance;

impl Work {
    /// Takes a configuration.
    pub(super) async fn apply(&mut self, config: Arc<Config>) -> Result<(), ConfigError> {
        let instances = self.identify(&config).await?;
        if let Some(at) = self.being_removed(instances.iter().map(|(instance, _)| &instance.id)) {
            return Err(being_removed(&config, at));
        }
        let configured: BTreeSet<Uuid> = instances.iter().map(|(instance, _)| instance.id).collect();
        let removed: Vec<Arc<Record>> =
            lock(&self.records).values().filter(|record| !configured.contains(&record.instance.id)).cloned().collect();
        for record in removed {
            self.remove(&record.instance);
        }
        for (place, (instance, past)) in instances.into_iter().enumerate() {
            let Some(of_instance) = config.instances.get(place) else { continue };
            let record = Arc::new(Record { config: Arc::clone(of_instance), instance, whole: Arc::clone(&config) });
            self.put(record, past);
        }
        Ok(())
    }

    /// Takes an instance out. A poll at hand is finished; what it comes to is kept.
    fn remove(&mut self, instance: &Instance) {
        let id = instance.id;
        lock(&self.records).remove(&id);
        self.entries.remove(&id);
        self.places.remove(id);
        self.poller.forget(id);
        if let Some(status) = self.board.remove(id) {
            // What is not kept yet is kept from here.
            let will_be = self.in_flight.contains_key(&id) || self.dirty.contains(&id);
            if will_be {
                self.dirty.insert(id);
            }
            // What is being kept may fail to be, or not be read yet by who comes back at once.
            if will_be || self.being_kept.contains(&id) {
                self.leaving.insert(id, (instance.clone(), status.past));
            }
        }
    }

    /// Takes an instance in, new or changed.
    fn put(&mut self, record: Arc<Record>, past: Option<Past>) {
        let id = record.instance.id;
        let before = lock(&self.records).insert(id, Arc::clone(&record));
        let now = Instant::now();
        let wall = self.board.now();
        let interval = self.poller.interval(&record.config);
        let enabled = record.config.enabled;
        let old = self.board.instance(id);
        let past = match (&old, self.leaving.remove(&id), past) {
            (Some(old), _, _) => old.past.clone(),
            (None, Some((_, past)), _) | (None, None, Some(past)) => past,
            (None, None, None) => Past::default(),
        };
        let mut status = InstanceStatus {
            id,
            handle: record.config.handle.clone(),
            name: record.config.name.clone(),
            integration_type: record.config.integration_type.clone(),
            state: if enabled { State::Starting } else { State::Disabled },
            since: wall,
            interval_minutes: minutes(interval),
            polling: self.in_flight.contains_key(&id),
            next_poll: None,
            back_off: None,
            // What its plan is, and so which of them it takes, shows with its next poll.
            routes: old.as_ref().map_or_else(Vec::new, |old| still(&old.routes, &record)),
            past,
        };
        if let Some(old) = &old
            && (old.state == State::Disabled) != enabled
        {
            (status.state, status.since) = (old.state, old.since);
            (status.next_poll, status.back_off) = (old.next_poll, old.back_off.clone());
        }
        if !enabled {
            (status.next_poll, status.back_off) = (None, None);
            self.entries.remove(&id);
            self.places.remove(id);
            self.poller.forget(id);
            self.board.put(status);
            return;
        }
        let within = record.whole.host.first_poll_within.unwrap_or(interval).min(interval);
        let in_flight = self.in_flight.contains_key(&id);
        match self.entries.get_mut(&id) {
            Some(entry) => {
                let same = before.is_some_and(|before| same(&before, &record));
                let same_interval = entry.interval == interval;
                (entry.record, entry.interval) = (record, interval);
                if in_flight {
                    entry.changed |= !same;
                } else if !same_interval || (!same && entry.waits_for_somebody(now)) {
                    let due = if same_interval { entry.soon(id, now) } else { entry.first(id, within, now) };
                    self.set_due(id, due);
                    let wait = due.saturating_duration_since(now);
                    status.show_next(wall + wait, wait);
                }
            }
            None => {
                // A clock that was ahead when it was written says nothing of when it is over.
                let was_ahead = status.past.last_poll.is_some_and(|last| last > wall);
                let latest = wall + LONGEST_RETRY_AFTER;
                status.past.not_before = status.past.not_before.filter(|time| !was_ahead && *time <= latest);
                let until = |time: OffsetDateTime| Duration::try_from(time - wall).ok().map(|wait| now + wait);
                let not_before = status.past.not_before.and_then(until);
                let mut entry = Entry::new(Arc::clone(&record), interval, not_before, now);
                let mut due = entry.first(id, within, now);
                // A poll at hand began with what the configuration said before.
                entry.changed = in_flight;
                // After a restart the interval goes on where it was.
                let since = status.past.last_poll.and_then(|last| Duration::try_from(wall - last).ok());
                if record.whole.host.first_poll_within.is_none()
                    && old.is_none()
                    && let Some(next) = since.and_then(|since| entry.go_on(since, now))
                {
                    due = next;
                }
                self.entries.insert(id, entry);
                if !in_flight {
                    self.set_due(id, due);
                    status.next_poll = Some(wall + due.saturating_duration_since(now));
                }
            }
        }
        self.board.put(status);
    }
}

/// Why an instance cannot come back yet.
fn being_removed(config: &Config, at: usize) -> ConfigError {
    let (line, name) = config.instances.get(at).map_or((1, ""), |one| (one.place.line, one.name.as_str()));
    let reason = format!("all that is stored of {name:?} is being removed at this moment");
    let help = "nothing: it is taken, as a new instance, when that has ended";
    ConfigError { problems: vec![problem(&config.file, line, "instance-being-removed", reason, help.to_owned())] }
}

/// Whole minutes.
pub(super) fn minutes(interval: Duration) -> u32 {
    u32::try_from(interval.as_secs() / 60).unwrap_or(u32::MAX)
}

/// Those of some routes that the configuration still has.
fn still(routes: &[String], record: &Record) -> Vec<String> {
    let there = record.whole.host.routes.texts();
    routes.iter().filter(|route| there.contains(route)).cloned().collect()
}
