//! Rows of the v2 list (facts 6.1).

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::moment::{Micros, vendor};
use crate::rng::{Dice, mix};
use crate::world::timeline::State;
use crate::world::{Investigation, World};

/// The row in this state.
pub(crate) fn row(world: &World, investigation: &Investigation, state: &State) -> Bytes {
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
    }
    super::bytes(&Value::Object(row))
}

fn time(instant: Option<Micros>) -> Value {
    instant.map_or(Value::Null, |instant| json!(vendor(instant)))
}
