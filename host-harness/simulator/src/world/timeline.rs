//! A world made ready to be served: for each investigation, the states its row goes through.
//!
//! Between two *moments* (an investigation appears, changes or disappears) every list is the same, so lists are made
//! once for each moment and rows are rendered once for each state. Alerts and comments are not part of the moments: they are
//! looked up for one investigation at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;

use super::{AlertKind, Change, Fields, Investigation, World};
use crate::moment::Micros;
use crate::render;
use crate::rng::hash_text;

/// What a row shows from an instant on.
#[derive(Debug)]
pub(crate) struct State {
    /// From when; never before the investigation is visible.
    pub(crate) at: Micros,
    pub(crate) fields: Fields,
    pub(crate) last_accessed: Micros,
    pub(crate) first_alert: Option<Micros>,
    pub(crate) latest_alert: Option<Micros>,
    pub(crate) latest_detection: Option<Micros>,
    /// Differs from the state before it in `last_accessed` alone.
    pub(crate) viewed_only: bool,
    rendered: OnceLock<Bytes>,
}

impl State {
    /// The row as JSON, made at the first call.
    pub(crate) fn row(&self, world: &World, investigation: &Investigation) -> &Bytes {
        self.rendered.get_or_init(|| render::investigation::row(world, investigation, self))
    }
}

/// A world with its states, moments and names.
#[derive(Debug)]
pub(crate) struct Timeline {
    pub(crate) world: World,
    /// Beside `world.investigations`.
    pub(crate) states: Vec<Vec<State>>,
    moments: Vec<Micros>,
    names: HashMap<String, u32>,
    alert_names: OnceLock<HashMap<u64, u32>>,
    /// When the triage API gets to know alerts, sorted.
    alert_moments: Vec<Micros>,
    searches: Mutex<Searches>,
}

/// What makes two triage searches the same: organizations, exclusive bounds in nanoseconds, and the order (descending).
pub(crate) type SearchKey = (Vec<u32>, (i128, i128), Option<bool>);

/// Answers of triage searches, by the number of visible alerts and what was asked.
type Searches = HashMap<(usize, SearchKey), Arc<Vec<u32>>>;

/// Triage searches kept.
const KEPT_SEARCHES: usize = 16;

impl Timeline {
    /// Works out every state of every row.
    pub(crate) fn new(world: World) -> Self {
        let states: Vec<Vec<State>> = world.investigations.iter().map(|one| states(&world, one)).collect();
        let mut moments: Vec<Micros> = states.iter().flatten().map(|state| state.at).collect();
        moments.extend(world.investigations.iter().filter_map(|one| one.gone));
        moments.sort_unstable();
        moments.dedup();
        let mut names = HashMap::with_capacity(world.investigations.len() * 2);
        for (number, one) in world.investigations.iter().enumerate() {
            names.insert(one.rrn.clone(), number as u32);
            names.insert(one.uuid(), number as u32);
        }
        let mut alert_moments: Vec<Micros> = world.alerts.iter().map(|alert| alert.triage_visible).collect();
        alert_moments.sort_unstable();
        Self { world, states, moments, names, alert_names: OnceLock::new(), alert_moments, searches: Mutex::default() }
    }

    /// A number that changes whenever a list may have changed.
    pub(crate) fn revision(&self, now: Micros) -> usize {
        self.moments.partition_point(|moment| *moment <= now)
    }

    /// The number of an investigation by RRN or UUID.
    pub(crate) fn find(&self, name: &str) -> Option<u32> {
        self.names.get(name).copied()
    }

    /// An investigation and the state its row is in, when it shows.
    pub(crate) fn shown(&self, number: u32, now: Micros) -> Option<(&Investigation, &State)> {
        let investigation = self.world.investigations.get(number as usize).filter(|one| one.shows_at(now))?;
        let states = self.states.get(number as usize)?;
        let state = states.get(states.partition_point(|state| state.at <= now).checked_sub(1)?)?;
        Some((investigation, state))
    }

    /// The number of an alert by id.
    pub(crate) fn find_alert(&self, id: &str) -> Option<u32> {
        let names = self.alert_names.get_or_init(|| {
            let numbered = self.world.alerts.iter().enumerate();
            numbered.map(|(number, alert)| (hash_text(&self.world.id_of(alert)), number as u32)).collect()
        });
        let number = names.get(&hash_text(id)).copied()?;
        let alert = self.world.alerts.get(number as usize)?;
        (self.world.id_of(alert) == id).then_some(number)
    }

    /// The answer of a triage search, made unless the same one was asked while the same alerts were visible.
    pub(crate) fn kept_search(&self, key: SearchKey, now: Micros, make: impl FnOnce() -> Vec<u32>) -> Arc<Vec<u32>> {
        let key = (self.alert_moments.partition_point(|moment| *moment <= now), key);
        let mut searches = self.searches.lock().unwrap_or_else(PoisonError::into_inner);
        if searches.len() >= KEPT_SEARCHES && !searches.contains_key(&key) {
            searches.clear();
        }
        Arc::clone(searches.entry(key).or_insert_with(|| Arc::new(make())))
    }

    /// The alerts of an investigation that are listed now, newest first, ties in an arbitrary but fixed order.
    pub(crate) fn alerts_of(&self, investigation: &Investigation, now: Micros) -> Vec<u32> {
        let mut listed: Vec<(std::cmp::Reverse<Micros>, u64, u32)> = investigation
            .alerts
            .iter()
            .filter_map(|number| self.world.alerts.get(*number as usize).map(|alert| (*number, alert)))
            .filter(|(_, alert)| alert.visible <= now)
            .map(|(number, alert)| (std::cmp::Reverse(alert.created), alert.seed, number))
            .collect();
        listed.sort_unstable();
        listed.into_iter().map(|(.., number)| number).collect()
    }
}

/// What can happen to a row.
enum Event<'a> {
    Change(&'a Change),
    Alert { created: Micros, detection: bool },
}

/// The states of one row, from the moment it is visible.
fn states(world: &World, investigation: &Investigation) -> Vec<State> {
    let mut events: Vec<(Micros, Event<'_>)> =
        investigation.changes.iter().map(|(at, change)| (*at, Event::Change(change))).collect();
    for alert in investigation.alerts.iter().filter_map(|number| world.alerts.get(*number as usize)) {
        let detection = alert.kind == AlertKind::DetectionRule;
        events.push((alert.on_row, Event::Alert { created: alert.created, detection }));
    }
    events.sort_by_key(|(at, _)| *at);

    let mut states: Vec<State> = vec![State {
        at: investigation.visible,
        fields: investigation.first.clone(),
        last_accessed: investigation.created,
        first_alert: None,
        latest_alert: None,
        latest_detection: None,
        viewed_only: false,
        rendered: OnceLock::new(),
    }];
    for (at, event) in events {
        let Some(last) = states.last_mut() else {
            continue;
        };
        if at > last.at {
            let next = after(last, at, &event, investigation.untimed);
            // A row that shows nothing of its alerts is not another one for them.
            if !(investigation.untimed && matches!(event, Event::Alert { .. })) {
                states.push(next);
            }
        } else {
            // Before it is visible, or at the same instant as the state before: one state.
            let before = (last.at, last.viewed_only);
            *last = after(last, at, &event, investigation.untimed);
            last.viewed_only &= before.1;
            last.at = before.0;
        }
    }
    states.iter_mut().for_each(read_times);
    states
}

/// A verbatim row is sorted by the alert time that it shows, when it shows one.
fn read_times(state: &mut State) {
    let Some(raw) = &state.fields.raw else { return };
    let Ok(row) = serde_json::from_str::<serde_json::Value>(raw) else {
        return;
    };
    if row.get("latest_alert_time").is_some() {
        state.latest_alert = super::spec::time_of(&row, "latest_alert_time").map(crate::moment::micros);
        state.latest_detection = state.latest_alert;
    }
}

/// The state that an event leads to.
fn after(last: &State, at: Micros, event: &Event<'_>, is_untimed: bool) -> State {
    let mut next = State {
        at,
        fields: last.fields.clone(),
        last_accessed: last.last_accessed,
        first_alert: last.first_alert,
        latest_alert: last.latest_alert,
        latest_detection: last.latest_detection,
        viewed_only: matches!(event, Event::Change(Change::Viewed)),
        rendered: OnceLock::new(),
    };
    match event {
        Event::Alert { .. } if is_untimed => {}
        Event::Alert { created, detection } => {
            next.first_alert = Some(next.first_alert.map_or(*created, |first| first.min(*created)));
            next.latest_alert = next.latest_alert.max(Some(*created));
            if *detection {
                next.latest_detection = next.latest_detection.max(Some(*created));
            }
        }
        Event::Change(change) => {
            next.last_accessed = at;
            apply(&mut next.fields, change);
        }
    }
    next
}

/// Changes the fields.
fn apply(fields: &mut Fields, change: &Change) {
    match change {
        Change::Viewed | Change::Gone => {}
        Change::Status(value) => fields.status = value.clone(),
        Change::Priority(value) => fields.priority = value.clone(),
        Change::Disposition(value) => fields.disposition = value.clone(),
        Change::Assignee(value) => fields.assignee = value.clone(),
        Change::Title(value) => fields.title = value.clone(),
        Change::Tags(value) => fields.tags = value.clone(),
        Change::Json(text) => {
            if let Ok(row) = serde_json::from_str::<serde_json::Value>(text) {
                let epoch = time::OffsetDateTime::UNIX_EPOCH;
                let mut spec = super::InvestigationSpec::new(epoch, epoch);
                spec.read(&row);
                *fields = spec.into_fields();
            }
            fields.raw = Some(text.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;
    use crate::world::{AlertSpec, InvestigationSpec};

    #[test]
    fn changes_before_visibility_are_folded_into_the_first_state() {
        let mut world = World::empty();
        let t = world.start;
        let one = world.add_investigation(InvestigationSpec::new(t, t + Duration::minutes(5))).unwrap();
        world.add_change(one, t + Duration::minutes(1), Change::Status("CLOSED".into())).unwrap();
        world.add_change(one, t + Duration::minutes(9), Change::Viewed).unwrap();
        world.add_alert(Some(one), AlertSpec::new(t, t + Duration::minutes(20))).unwrap();
        let timeline = Timeline::new(world);
        let states = timeline.states.first().unwrap();
        let summary: Vec<(&str, bool, bool)> = states
            .iter()
            .map(|state| (state.fields.status.as_ref(), state.viewed_only, state.latest_alert.is_some()))
            .collect();
        assert_eq!(summary, [("CLOSED", false, false), ("CLOSED", true, false), ("CLOSED", false, true)]);
    }

    #[test]
    fn an_alert_does_not_move_last_accessed() {
        let mut world = World::empty();
        let t = world.start;
        let one = world.add_investigation(InvestigationSpec::new(t, t)).unwrap();
        world.add_alert(Some(one), AlertSpec::new(t + Duration::days(80), t + Duration::days(80))).unwrap();
        let timeline = Timeline::new(world);
        let state = timeline.states.first().and_then(|states| states.last()).unwrap();
        assert_eq!(state.last_accessed, crate::moment::micros(t));
        assert!(state.latest_alert > Some(state.last_accessed));
    }
}
