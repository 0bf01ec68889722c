//! Alerts as an investigation lists them (facts 6.2), and what an alert is about.
//!
//! [`Story`] is the one place where the seed of an alert becomes people, machines and a rule, so that its summary, its
//! triage form, its actors and its evidence tell the same story.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::moment::{DAY, MINUTE, Micros, vendor};
use crate::rng::{Dice, mix, short_id};
use crate::world::vocabulary::{ADDRESSES, BEHAVIOURS, DOMAINS, HOSTS, PROCESSES, RULES, Rule, USERS, title};
use crate::world::{Alert, AlertKind, World};

/// Members of an alert that can be missing (facts 6.2).
const OPTIONAL: [&str; 6] = [
    "alert_source",
    "alert_type",
    "alert_type_description",
    "first_event_time",
    "latest_event_time",
    "detection_rule_rrn",
];

/// What an alert is about.
pub(crate) struct Story {
    pub(crate) rule: Rule,
    pub(crate) rule_rrn: String,
    pub(crate) title: Cow<'static, str>,
    pub(crate) kind: &'static str,
    pub(crate) description: &'static str,
    pub(crate) user: (&'static str, &'static str),
    pub(crate) host: &'static str,
    pub(crate) client: &'static str,
    pub(crate) server: &'static str,
    pub(crate) domain: &'static str,
    pub(crate) process: (&'static str, &'static str),
    /// From the event in the log to the creation of the alert: minutes mostly, up to four days.
    pub(crate) age: Micros,
    /// For further draws.
    pub(crate) seed: u64,
}

impl Story {
    /// The story of an alert.
    pub(crate) fn of(alert: &Alert) -> Self {
        let mut dice = Dice::new(mix(alert.seed, 0x57024));
        let rule = dice.pick(&RULES);
        let (kind, description) = match alert.kind {
            AlertKind::DetectionRule => (rule.kind, rule.name),
            AlertKind::UserBehavior => dice.pick(&BEHAVIOURS),
            AlertKind::Investigation => ("Investigation", "Created from an investigation"),
        };
        let drawn = if dice.chance(6) {
            title(&mut dice)
        } else if alert.kind == AlertKind::DetectionRule {
            Cow::Borrowed(rule.name)
        } else {
            Cow::Borrowed(description)
        };
        let pinned = alert.pinned.as_ref().and_then(|pinned| pinned.title.clone());
        let age = if dice.chance(5) { dice.between(DAY, 4 * DAY) } else { dice.between(0, 14 * MINUTE) };
        Self {
            rule,
            rule_rrn: rule_rrn(&mut dice),
            title: pinned.map_or(drawn, Cow::Owned),
            kind,
            description,
            user: dice.pick(&USERS),
            host: dice.pick(&HOSTS),
            client: dice.pick(&ADDRESSES),
            server: dice.pick(&ADDRESSES),
            domain: dice.pick(&DOMAINS),
            process: dice.pick(&PROCESSES),
            age,
            seed: dice.bits(),
        }
    }
}

/// A rule's RRN: region and organization are empty for the vendor's own rules (facts 6.6).
fn rule_rrn(dice: &mut Dice) -> String {
    let id = short_id(dice.bits(), 12);
    if dice.chance(85) {
        format!("rrn:cba:::detection-rule:{id}")
    } else {
        format!("rrn:cba:us:{}:detection-rule:{id}", crate::rng::uuid_of(dice.bits()))
    }
}

/// The element of `GET …/{id}/alerts`.
pub(crate) fn summary(world: &World, alert: &Alert) -> Bytes {
    if let Some(json) = alert.pinned.as_ref().and_then(|pinned| pinned.json.as_ref()) {
        return Bytes::from(json.clone());
    }
    let story = Story::of(alert);
    let mut dice = Dice::new(mix(alert.seed, 0x50FF));
    let mut row = Map::new();
    let mut put = |member: &str, value: Value| {
        row.insert(member.to_owned(), value);
    };
    put("id", json!(world.id_of(alert)));
    put("title", json!(story.title));
    put("alert_type", json!(story.kind));
    put("alert_type_description", json!(story.description));
    // Older records lack the source.
    if dice.chance(90) {
        let source = match alert.kind {
            AlertKind::DetectionRule => "Attacker Behavior Analytics",
            AlertKind::UserBehavior => "User Behavior Analytics",
            AlertKind::Investigation => "Investigations",
        };
        put("alert_source", json!(source));
    }
    // To the millisecond, where the Alert Triage API has microseconds.
    put("created_time", json!(vendor(alert.created.div_euclid(1_000) * 1_000)));
    let (first, latest) = if alert.kind == AlertKind::DetectionRule || dice.chance(10) {
        (Value::Null, Value::Null)
    } else {
        let event = alert.created - story.age;
        (json!(vendor(event)), json!(vendor(event + story.age / 2)))
    };
    put("first_event_time", first);
    put("latest_event_time", latest);
    put("detection_rule_rrn", detection_rule(alert, &story, &mut dice));
    if dice.chance(5) {
        put("x_sequence", json!(18_014_398_509_481_985_u64 + dice.below(1 << 20)));
    }
    world.odd.thin_out(&mut row, alert.seed, 0, &OPTIONAL);
    super::bytes(&Value::Object(row))
}

/// The member that its vendor calls very inconsistent: null, a string, an object, and an object within the object.
fn detection_rule(alert: &Alert, story: &Story, dice: &mut Dice) -> Value {
    if alert.kind != AlertKind::DetectionRule {
        return Value::Null;
    }
    match dice.below(10) {
        0 => Value::Null,
        1..=4 => json!(story.rule_rrn),
        5..=8 => json!({"rule_name": story.rule.name, "rule_rrn": story.rule_rrn}),
        _ => json!({"rule_name": story.rule.name, "rule_rrn": {
            "organizationId": "", "regionCode": "", "service": "cba", "resourceTypes": ["detection-rule"],
            "resource": story.rule_rrn.rsplit(':').next().unwrap_or_default()}}),
    }
}
