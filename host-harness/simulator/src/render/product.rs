//! The elements of `rapid7-product-alerts` (facts 2.5): both members with details, one of them an object or an array, at
//! times both members in one element, in either order.
//!
//! They come and change in silence: the row of the investigation does not show it. (Whether the vendor's does is not
//! known.) An agent's alert says at first that its action is pending.

use serde_json::{Value, json};

use crate::moment::{DAY, HOUR, MINUTE, Micros};
use crate::oddities::late;
use crate::rng::{Dice, hash_text, mix, uuid_of};
use crate::world::{Investigation, World};

/// A product alert that comes from the seed of its investigation.
pub(crate) struct Drawn {
    /// Its own id.
    pub(crate) id: String,
    /// When it is first listed.
    pub(crate) at: Micros,
    /// When the action of an agent is done.
    pub(crate) changed: Option<Micros>,
    kind: Kind,
    /// How it stands in the element of the one before it, if it does.
    joined: Option<Joined>,
}

/// Where the details stand among those of the same element.
#[derive(Clone, Copy)]
enum Joined {
    Before,
    Behind,
}

/// The details and their form.
enum Kind {
    ThreatCommand,
    Agent { array: bool },
}

/// The drawn ones: one generated investigation in twelve has one or two, half of them from the beginning and the others
/// within a day; nothing happens after `end`.
pub(crate) fn drawn(one: &Investigation, end: Micros) -> Vec<Drawn> {
    let mut dice = Dice::new(mix(one.seed, 0x009A));
    if !one.generated || !dice.chance(8) {
        return coming_late(one, end).into_iter().collect();
    }
    let kinds = match (dice.below(3), dice.chance(50)) {
        (0, _) => vec![Kind::ThreatCommand],
        (1, array) => vec![Kind::Agent { array }],
        (_, array) => vec![Kind::ThreatCommand, Kind::Agent { array }],
    };
    let mut drawn: Vec<Drawn> = Vec::new();
    for kind in kinds {
        let at = if dice.chance(50) { one.visible } else { one.visible + dice.between(MINUTE, DAY) };
        let done = at + dice.between(MINUTE, 6 * HOUR);
        let changes = matches!(kind, Kind::Agent { .. }) && dice.chance(60) && done <= end;
        drawn.push(Drawn { id: uuid_of(dice.bits()), at, changed: changes.then_some(done), kind, joined: None });
    }
    // Both in one element, as in one payload.
    if let [first, second] = drawn.as_mut_slice()
        && dice.chance(50)
    {
        first.at = first.at.max(second.at);
        second.at = first.at;
        second.changed = second.changed.filter(|changed| *changed > second.at);
        second.joined = Some(if dice.chance(50) { Joined::Before } else { Joined::Behind });
    }
    drawn.retain(|alert| alert.at <= end);
    drawn.extend(coming_late(one, end));
    drawn
}

/// The one that comes to some investigations at any time.
fn coming_late(one: &Investigation, end: Micros) -> Option<Drawn> {
    let mut dice = Dice::new(mix(one.seed, 0x009B));
    let (kind, at) = (Kind::Agent { array: dice.chance(50) }, late(one, end, &mut dice));
    one.late_extras.then(|| Drawn { id: uuid_of(dice.bits()), at, changed: None, kind, joined: None })
}

impl Drawn {
    /// The type of its element when it stands there alone or first, its member, and the details.
    fn parts(&self, now: Micros) -> (&'static str, &'static str, Value) {
        let id = &self.id;
        match self.kind {
            Kind::ThreatCommand => {
                let details = json!({"alert_id": id, "alert_type": "Phishing",
                    "applicable_close_reasons": ["ProblemSolved", "FalsePositive"]});
                ("THREAT_COMMAND", "threat_command_details", details)
            }
            Kind::Agent { array } => {
                let pending = self.changed.is_some_and(|changed| now < changed);
                let action = if pending { "QUARANTINE_PENDING" } else { "QUARANTINE" };
                let details = json!({"alert_id": id, "alert_type": "Honey File", "agent_action_taken": action});
                // An object in the specification, an array in one payload.
                let details = if array { json!([details]) } else { details };
                // And the type with a space, beside the array.
                (if array { "INSIGHT AGENT" } else { "INSIGHT_AGENT" }, "insight_agent_details", details)
            }
        }
    }
}

/// An element: an alert, and another whose details stand there as well.
fn render(world: &World, alert: &Drawn, other: Option<&Drawn>, now: Micros) -> String {
    let (kind, member, details) = alert.parts(now);
    let Some(other) = other else {
        let mut element = json!({"type": kind, member: details});
        let both = ["threat_command_details", "insight_agent_details"];
        let absent = both.map(|one| if one == member { "" } else { one });
        if let Some(members) = element.as_object_mut() {
            world.odd.thin_out(members, hash_text(&alert.id), 0, &absent);
            members.remove("");
        }
        return element.to_string();
    };
    let (_, other_member, other_details) = other.parts(now);
    // Put together as text: the order of the members counts.
    let (own, others) = (format!(r#""{member}":{details}"#), format!(r#""{other_member}":{other_details}"#));
    let (first, second) = if matches!(other.joined, Some(Joined::Before)) { (others, own) } else { (own, others) };
    format!(r#"{{"type":"{kind}",{first},{second}}}"#)
}

/// The elements that are listed at this instant: the pinned ones, then the drawn ones.
pub(crate) fn alerts(world: &World, one: &Investigation, now: Micros) -> Vec<String> {
    let pinned = one.product_alerts.iter().filter(|(at, _)| *at <= now).map(|(_, json)| json.clone());
    let drawn: Vec<Drawn> = drawn(one, world.end).into_iter().filter(|alert| alert.at <= now).collect();
    let joined = |at: usize| drawn.get(at + 1).filter(|other| other.joined.is_some());
    let elements = drawn.iter().enumerate().filter(|(_, alert)| alert.joined.is_none());
    pinned.chain(elements.map(|(at, alert)| render(world, alert, joined(at), now))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::WorldConfig;

    #[test]
    fn both_details_stand_in_one_element_at_times_in_either_order_and_each_is_listed_once() {
        let world = World::generate(&WorldConfig { investigations: 600, ..WorldConfig::default() });
        let mut orders = [0_usize; 2];
        for one in &world.investigations {
            let told = drawn(one, world.end);
            let elements = alerts(&world, one, Micros::MAX);
            for alert in &told {
                let stands = elements.iter().filter(|element| element.contains(&alert.id)).count();
                assert_eq!(stands, 1, "{elements:?}");
            }
            for element in &elements {
                let value: Value = serde_json::from_str(element).unwrap();
                let at = |member: &str| element.find(member);
                if let (Some(threat), Some(agent)) = (at("threat_command_details"), at("insight_agent_details")) {
                    assert_eq!(value["type"], "THREAT_COMMAND");
                    orders[usize::from(agent < threat)] += 1;
                }
            }
        }
        assert!(orders.iter().all(|count| *count > 0), "{orders:?}");
    }
}
