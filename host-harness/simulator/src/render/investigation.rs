//! Rows of the v2 list (facts 6.1).

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::moment::{Micros, vendor};
use crate::rng::{Dice, mix};
use crate::world::timeline::State;
use crate::world::{Investigation, World};

/// Members that can be missing (facts 6.1). The time of the latest alert is only when it is null anyway.
const OPTIONAL: [&str; 5] = ["organization_id", "assignee", "first_alert_time", "responsibility", "tags"];

/// The row in this state, as lists have it.
pub(crate) fn row(world: &World, investigation: &Investigation, state: &State) -> Bytes {
    read(world, investigation, state, 0)
}

/// It as a single read has it, which may leave out what lists have as null.
pub(crate) fn single(world: &World, investigation: &Investigation, state: &State) -> Bytes {
    if world.odd.sparse_percent == 0 || !investigation.generated {
        return state.row(world, investigation).clone();
    }
    read(world, investigation, state, 1)
}

fn read(world: &World, investigation: &Investigation, state: &State, reader: u64) -> Bytes {
    let fields = &state.fields;
    if let Some(raw) = &fields.raw {
        return Bytes::from(raw.clone());
    }
    // The same draws at every state of the row: whether a member is null or absent does not change by itself.
    let mut dice = Dice::new(mix(investigation.seed, 0x0520));
    let organization = world.organizations.get(investigation.organization as usize);
    let mut row = Map::new();
    let mut put = |member: &str, value: Value| {
        row.insert(member.to_owned(), value);
    };
    put("rrn", json!(investigation.rrn));
    put("organization_id", json!(organization.map(|organization| &organization.id)));
    put("title", json!(fields.title));
    put("source", json!(fields.source));
    put("status", json!(fields.status));
    put("priority", json!(fields.priority));
    put("disposition", json!(fields.disposition));
    put("assignee", json!(fields.assignee));
    put("created_time", json!(vendor(investigation.created)));
    put("last_accessed", json!(vendor(state.last_accessed)));
    put("first_alert_time", time(state.first_alert));
    put("latest_alert_time", time(state.latest_alert));
    match &fields.responsibility {
        Some(value) => put("responsibility", json!(value)),
        None if dice.chance(50) => put("responsibility", Value::Null),
        None => {}
    }
    match &fields.tags {
        Some(tags) => put("tags", json!(tags)),
        None if dice.chance(50) => put("tags", Value::Null),
        None => {}
    }
    if investigation.generated {
        // Members that no document knows, one of them a number that a double cannot hold.
        if dice.chance(10) {
            put("x_revision", json!(9_007_199_254_740_993_u64 + dice.below(1_000_000)));
        }
        if dice.chance(5) {
            put("x_future", json!({"nested": [1, {"deep": null}], "score": 0.1}));
        }
        world.odd.thin_out(&mut row, investigation.seed, reader, &OPTIONAL);
        if state.latest_alert.is_none() {
            world.odd.thin_out(&mut row, mix(investigation.seed, 0x1A7E57), reader, &["latest_alert_time"]);
        }
    }
    super::bytes(&Value::Object(row))
}

fn time(instant: Option<Micros>) -> Value {
    instant.map_or(Value::Null, |instant| json!(vendor(instant)))
}
