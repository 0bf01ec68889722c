//! Filtered and sorted lists of investigations, made once for each state of the world.
//!
//! A [`Snapshot`] holds the rows that show between two moments of a [`Timeline`]; each distinct combination of filter and
//! order is worked out once and kept, whatever window of time is asked for, so that paging through 100,000 rows costs one
//! sort and then slices (or, in an order other than creation, one pass over as many numbers). Ties are broken by a hash of the row and the order: stable, and unrelated to creation or insertion.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::NullTimes;
use crate::moment::Micros;
use crate::query::Page;
use crate::rng::mix;
use crate::world::timeline::{State, Timeline};
use crate::world::{AlertKind, Investigation};

/// Lists kept for one snapshot, 16 bytes a row each.
const KEPT_LISTS: usize = 16;

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

/// The rows of a page and the number of rows on all pages.
pub(crate) struct Listed {
    pub(crate) rows: Vec<u32>,
    pub(crate) total: usize,
}

/// Rows in order, each with its creation.
type Ordered = Vec<(Micros, u32)>;

/// The rows that show at one state of the world.
#[derive(Debug)]
pub(crate) struct Snapshot {
    revision: usize,
    now: Micros,
    lists: Mutex<HashMap<Selection, Arc<Ordered>>>,
}

impl Snapshot {
    /// The rows that show now.
    pub(crate) fn new(timeline: &Timeline, now: Micros) -> Self {
        Self { revision: timeline.revision(now), now, lists: Mutex::default() }
    }

    /// The number of the world's state that it belongs to.
    pub(crate) fn revision(&self) -> usize {
        self.revision
    }

    /// A page of the rows of a selection that were created within a window with exclusive bounds.
    pub(crate) fn page(
        &self,
        timeline: &Timeline,
        selection: &Selection,
        (after, before): (Micros, Micros),
        nulls: NullTimes,
        now: Micros,
        page: Page,
    ) -> Listed {
        let list = self.list(timeline, selection, nulls, now);
        if selection.order == Field::Created {
            // The window is one run of the list.
            let (from, to) = if selection.descending {
                (
                    list.partition_point(|(created, _)| *created >= before),
                    list.partition_point(|(created, _)| *created > after),
                )
            } else {
                (
                    list.partition_point(|(created, _)| *created <= after),
                    list.partition_point(|(created, _)| *created < before),
                )
            };
            let window = list.get(from..to).unwrap_or_default();
            let rows = page.of(window).iter().map(|(_, number)| *number).collect();
            return Listed { rows, total: window.len() };
        }
        let within: Vec<u32> = list
            .iter()
            .filter(|(created, _)| after < *created && *created < before)
            .map(|(_, number)| *number)
            .collect();
        Listed { rows: page.of(&within).to_vec(), total: within.len() }
    }

    /// All rows of a selection, in order. Searches look at alerts, which come and go without changing a row: they are
    /// worked out each time.
    fn list(&self, timeline: &Timeline, selection: &Selection, nulls: NullTimes, now: Micros) -> Arc<Ordered> {
        if !selection.search.is_empty() {
            return Arc::new(make(timeline, selection, nulls, now));
        }
        // Kept locked meanwhile: whoever asks for the same list waits for it instead of making it as well.
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(list) = lists.get(selection) {
            return Arc::clone(list);
        }
        if lists.len() >= KEPT_LISTS {
            lists.clear();
        }
        let list = Arc::new(make(timeline, selection, nulls, self.now));
        lists.insert(selection.clone(), Arc::clone(&list));
        list
    }
}

/// Filters and sorts every row that shows.
fn make(timeline: &Timeline, selection: &Selection, nulls: NullTimes, now: Micros) -> Ordered {
    let salt = mix(timeline.world.seed, selection.order as u64 + 1);
    let mut chosen: Vec<(Key<'_>, u64, Micros, u32)> = (0..timeline.world.investigations.len() as u32)
        .filter_map(|number| timeline.shown(number, now).map(|(one, state)| (number, one, state)))
        .filter(|(_, one, state)| selection.matches(timeline, one, state, now))
        .map(|(number, one, state)| {
            let tie = mix(one.seed, salt);
            (Key::of(selection.order, one, state), tie, one.created, number)
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
    chosen.into_iter().map(|(.., created, number)| (created, number)).collect()
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
            Field::Responsibility => state.fields.responsibility.as_deref().map_or(Self::Null, Self::Text),
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
    /// Whether the row passes every filter.
    fn matches(&self, timeline: &Timeline, one: &Investigation, state: &State, now: Micros) -> bool {
        let fields = &state.fields;
        let among = |values: &[String], value: &str| values.is_empty() || values.iter().any(|v| v == value);
        let tagged = |tag: &String| fields.tags.iter().flatten().any(|own| own == tag);
        self.organizations.contains(&one.organization)
            && among(&self.statuses, &fields.status)
            && among(&self.sources, &fields.source)
            && among(&self.priorities, &fields.priority)
            && self.email.as_ref().is_none_or(|email| fields.assignee.as_ref().is_some_and(|p| p.email == *email))
            && self.tags.iter().all(tagged)
            && self.search.iter().all(|criterion| criterion.matches(timeline, one, state, now))
    }
}

impl Criterion {
    fn matches(&self, timeline: &Timeline, one: &Investigation, state: &State, now: Micros) -> bool {
        let (field, test): (&str, &dyn Fn(&str) -> bool) = match self {
            Self::Equals(field, values) => (field, &|own: &str| values.iter().any(|value| same(own, value))),
            Self::Contains(field, part) => (field, &|own: &str| own.to_lowercase().contains(&part.to_lowercase())),
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
            "assignee_id" => state.fields.assignee.as_ref().is_some_and(|person| test(&person.email)),
            _ => timeline.alerts_of(one, now).into_iter().any(|number| {
                let Some(alert) = timeline.world.alerts.get(number as usize) else {
                    return false;
                };
                let story = crate::render::alert::Story::of(alert);
                match field {
                    "actor_asset_hostname" => test(story.host),
                    "actor_user_name" => test(story.user.0) || test(story.user.1),
                    "alert_mitre_t_codes" => alert.kind == AlertKind::DetectionRule && test(story.rule.technique),
                    _ => alert.kind == AlertKind::DetectionRule && test(&story.rule_rrn),
                }
            }),
        }
    }
}

fn same(a: &str, b: &str) -> bool {
    a.to_lowercase() == b.to_lowercase()
}
