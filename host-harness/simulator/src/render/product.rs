//! The elements of `rapid7-product-alerts` (facts 2.5): both members with details, one of them an object or an array.
//!
//! They come and change in silence: the row of the investigation does not show it. (Whether the vendor's does is not
//! known.) An agent's alert says at first that its action is pending.

use serde_json::json;

use crate::moment::{DAY, HOUR, MINUTE, Micros};
use crate::rng::{Dice, mix, uuid_of};
use crate::world::Investigation;

/// A product alert that comes from the seed of its investigation.
pub(crate) struct Drawn {
    /// Its own id.
    pub(crate) id: String,
    /// When it is first listed.
    pub(crate) at: Micros,
    /// When the action of an agent is done.
    pub(crate) changed: Option<Micros>,
    kind: Kind,
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
        return Vec::new();
    }
    let kinds = match (dice.below(3), dice.chance(50)) {
        (0, _) => vec![Kind::ThreatCommand],
        (1, array) => vec![Kind::Agent { array }],
        (_, array) => vec![Kind::ThreatCommand, Kind::Agent { array }],
    };
    let drawn = kinds.into_iter().map(|kind| {
        let at = if dice.chance(50) { one.visible } else { one.visible + dice.between(MINUTE, DAY) };
        let done = at + dice.between(MINUTE, 6 * HOUR);
        let changes = matches!(kind, Kind::Agent { .. }) && dice.chance(60) && done <= end;
        Drawn { id: uuid_of(dice.bits()), at, changed: changes.then_some(done), kind }
    });
    drawn.filter(|alert| alert.at <= end).collect()
}

impl Drawn {
    fn render(&self, now: Micros) -> String {
        let id = &self.id;
        match self.kind {
            Kind::ThreatCommand => json!({"type": "THREAT_COMMAND", "threat_command_details": {
                "alert_id": id, "alert_type": "Phishing", "applicable_close_reasons": ["ProblemSolved", "FalsePositive"]}}),
            Kind::Agent { array } => {
                let pending = self.changed.is_some_and(|changed| now < changed);
                let action = if pending { "QUARANTINE_PENDING" } else { "QUARANTINE" };
                let details = json!({"alert_id": id, "alert_type": "Honey File", "agent_action_taken": action});
                // An object in the specification, an array in one payload.
                let details = if array { json!([details]) } else { details };
                json!({"type": "INSIGHT_AGENT", "insight_agent_details": details})
            }
        }
        .to_string()
    }
}

/// The elements that are listed at this instant: the pinned ones, then the drawn ones.
pub(crate) fn alerts(one: &Investigation, end: Micros, now: Micros) -> Vec<String> {
    let pinned = one.product_alerts.iter().filter(|(at, _)| *at <= now).map(|(_, json)| json.clone());
    let drawn = drawn(one, end).into_iter().filter(|alert| alert.at <= now);
    pinned.chain(drawn.map(|alert| alert.render(now))).collect()
}
