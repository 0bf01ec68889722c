//! Filtered and sorted lists of investigations, made once for each state of the world.
//!
//! A [`Snapshot`] holds the rows that show between two moments of a [`Timeline`]; each distinct combination of filter and
//! order is worked out once and kept, so that paging through 100,000 rows costs one sort and then slices. Ties
//! are broken by a hash of the row and the order: stable, and unrelated to creation or insertion.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::NullTimes;
use crate::moment::Micros;
use crate::rng::mix;
use crate::world::timeline::{State, Timeline};
use crate::world::{AlertKind, Investigation};

/// Lists kept for one snapshot. With a running clock and default windows every request is a new list.
const KEPT_LISTS: usize = 64;

/// What a list is sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Field {
    Created,
    Priority,
    Rrn,
    LatestAlert,
    LatestDetection,
    Responsibility,
}

impl Field {
    /// The vendor's name of the field; `None` for a field that cannot be sorted by.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "created_time" => Self::Created,
            "priority" => Self::Priority,
            "rrn" => Self::Rrn,
            "alerts_most_recent_created_time" => Self::LatestAlert,
            "alerts_most_recent_detection_created_time" => Self::LatestDetection,
            "responsibility" => Self::Responsibility,
            _ => return None,
        })
    }
}

/// A criterion of the search call; all are case-insensitive.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Criterion {
    /// One of these texts equals the field.
    Equals(String, Vec<String>),
    /// The field contains this text.
    Contains(String, String),
}

/// Which rows, in which order.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Selection {
    /// Organizations, by number.
    pub(crate) organizations: Vec<u32>,
    /// Created after this, in nanoseconds since 1970.
    pub(crate) after: i128,
    /// Created before this, in nanoseconds since 1970.
    pub(crate) before: i128,
    pub(crate) statuses: Vec<String>,
    pub(crate) sources: Vec<String>,
    pub(crate) priorities: Vec<String>,
    /// The assignee's e-mail address.
    pub(crate) email: Option<String>,
    /// All of these tags.
    pub(crate) tags: Vec<String>,
    pub(crate) search: Vec<Criterion>,
    pub(crate) order: Field,
    pub(crate) descending: bool,
}

/// The rows that show at one state of the world.
#[derive(Debug)]
pub(crate) struct Snapshot {
    revision: usize,
    /// Row numbers by creation, ascending.
    rows: Vec<u32>,
    now: Micros,
    lists: Mutex<HashMap<Selection, Arc<Vec<u32>>>>,
}

impl Snapshot {
    /// The rows that show now.
    pub(crate) fn new(timeline: &Timeline, now: Micros) -> Self {
        let mut rows: Vec<(Micros, u32)> = (0..timeline.world.investigations.len() as u32)
            .filter_map(|number| {
                timeline
                    .world
                    .investigations
                    .get(number as usize)
                    .map(|one| (number, one))
            })
            .filter(|(_, one)| one.shows_at(now))
            .map(|(number, one)| (one.created, number))
            .collect();
        rows.sort_unstable();
        Self {
            revision: timeline.revision(now),
            rows: rows.into_iter().map(|(_, number)| number).collect(),
            now,
            lists: Mutex::default(),
        }
    }

    /// The number of the world's state that it belongs to.
    pub(crate) fn revision(&self) -> usize {
        self.revision
    }

    /// The row numbers of a selection, in order. Searches look at alerts, which come and go without changing a row: they
    /// are worked out each time.
    pub(crate) fn list(
        &self,
        timeline: &Timeline,
        selection: &Selection,
        nulls: NullTimes,
        now: Micros,
    ) -> Arc<Vec<u32>> {
        if !selection.search.is_empty() {
            return Arc::new(self.make(timeline, selection, nulls, now));
        }
        let kept = self
            .lists
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(selection)
            .cloned();
        if let Some(list) = kept {
            return list;
        }
        let list = Arc::new(self.make(timeline, selection, nulls, self.now));
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        if lists.len() >= KEPT_LISTS {
            lists.clear();
        }
        lists.insert(selection.clone(), Arc::clone(&list));
        list
    }

    fn make(
        &self,
        timeline: &Timeline,
        selection: &Selection,
        nulls: NullTimes,
        now: Micros,
    ) -> Vec<u32> {
        let created = |number: &u32| {
            timeline
                .world
                .investigations
                .get(*number as usize)
                .map_or(0, |one| i128::from(one.created) * 1_000)
        };
        let from = self
            .rows
            .partition_point(|number| created(number) <= selection.after);
        let to = self
            .rows
            .partition_point(|number| created(number) < selection.before);
        let window = self.rows.get(from..to.max(from)).unwrap_or_default();
        let mut chosen: Vec<(Key<'_>, u64, u32)> = window
            .iter()
            .filter_map(|number| {
                timeline
                    .shown(*number, now)
                    .map(|(one, state)| (*number, one, state))
            })
            .filter(|(_, one, state)| selection.matches(timeline, one, state, now))
            .map(|(number, one, state)| {
                let tie = mix(
                    one.seed,
                    mix(timeline.world.seed, selection.order as u64 + 1),
                );
                (Key::of(selection.order, one, state), tie, number)
            })
            .collect();
        chosen.sort_unstable_by(|a, b| {
            let keys = match (a.0.is_null(), b.0.is_null()) {
                (false, false) if selection.descending => b.0.cmp(&a.0),
                (false, false) => a.0.cmp(&b.0),
                (one, other) if nulls == NullTimes::First => other.cmp(&one),
                (one, other) => one.cmp(&other),
            };
            keys.then(a.1.cmp(&b.1))
        });
        chosen.into_iter().map(|(.., number)| number).collect()
    }
}

/// What two rows are compared by.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Key<'a> {
    Null,
    Number(i64),
    Text(&'a str),
}

impl<'a> Key<'a> {
    fn of(field: Field, one: &'a Investigation, state: &'a State) -> Self {
        let time = |instant: Option<Micros>| instant.map_or(Self::Null, Self::Number);
        match field {
            Field::Created => Self::Number(one.created),
            Field::Priority => Self::Number(rank(&state.fields.priority)),
            Field::Rrn => Self::Text(&one.rrn),
            Field::LatestAlert => time(state.latest_alert),
            Field::LatestDetection => time(state.latest_detection),
            Field::Responsibility => state
                .fields
                .responsibility
                .as_deref()
                .map_or(Self::Null, Self::Text),
        }
    }

    fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

/// Where a priority stands; unknown ones stand lowest.
fn rank(priority: &str) -> i64 {
    ["UNSPECIFIED", "LOW", "MEDIUM", "HIGH", "CRITICAL"]
        .iter()
        .position(|known| *known == priority)
        .map_or(-1, |p| p as i64)
}

impl Selection {
    /// Whether the row passes every filter but the window.
    fn matches(
        &self,
        timeline: &Timeline,
        one: &Investigation,
        state: &State,
        now: Micros,
    ) -> bool {
        let fields = &state.fields;
        let among =
            |values: &[String], value: &str| values.is_empty() || values.iter().any(|v| v == value);
        let tagged = |tag: &String| fields.tags.iter().flatten().any(|own| own == tag);
        self.organizations.contains(&one.organization)
            && among(&self.statuses, &fields.status)
            && among(&self.sources, &fields.source)
            && among(&self.priorities, &fields.priority)
            && self
                .email
                .as_ref()
                .is_none_or(|email| fields.assignee.as_ref().is_some_and(|p| p.email == *email))
            && self.tags.iter().all(tagged)
            && self
                .search
                .iter()
                .all(|criterion| criterion.matches(timeline, one, state, now))
    }
}

impl Criterion {
    fn matches(
        &self,
        timeline: &Timeline,
        one: &Investigation,
        state: &State,
        now: Micros,
    ) -> bool {
        let (field, test): (&str, &dyn Fn(&str) -> bool) = match self {
            Self::Equals(field, values) => (field, &|own: &str| {
                values.iter().any(|value| same(own, value))
            }),
            Self::Contains(field, part) => (field, &|own: &str| {
                own.to_lowercase().contains(&part.to_lowercase())
            }),
        };
        let organization = timeline.world.organizations.get(one.organization as usize);
        match field {
            "title" => test(&state.fields.title),
            "priority" => test(&state.fields.priority),
            "status" => test(&state.fields.status),
            "source" => test(&state.fields.source),
            "rrn" => test(&one.rrn),
            "organization_id" => organization.is_some_and(|organization| test(&organization.id)),
            // The simulator gives people no id but their address.
            "assignee_id" => state
                .fields
                .assignee
                .as_ref()
                .is_some_and(|person| test(&person.email)),
            _ => timeline.alerts_of(one, now).into_iter().any(|number| {
                let Some(alert) = timeline.world.alerts.get(number as usize) else {
                    return false;
                };
                let story = crate::render::alert::Story::of(alert);
                match field {
                    "actor_asset_hostname" => test(story.host),
                    "actor_user_name" => test(story.user.0) || test(story.user.1),
                    "alert_mitre_t_codes" => {
                        alert.kind == AlertKind::DetectionRule && test(story.rule.technique)
                    }
                    _ => alert.kind == AlertKind::DetectionRule && test(&story.rule_rrn),
                }
            }),
        }
    }
}

fn same(a: &str, b: &str) -> bool {
    a.to_lowercase() == b.to_lowercase()
}
