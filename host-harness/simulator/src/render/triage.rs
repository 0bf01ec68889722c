//! Alerts of the Alert Triage API (facts 6.3) and their actors (facts 6.4).
//!
//! A search gives the thin form, without MITRE codes; the single read gives them (facts, section 4). The facts are silent
//! on what else a search leaves out: here, by seed, the keys of interest and the rule's name. The alert's version grows
//! with everything that is done to it. As part of an investigation it follows that one's status and disposition; before,
//! and without one, people work on it for itself.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::alert::Story;
use crate::moment::{DAY, MINUTE, Micros, SECOND, vendor};
use crate::rng::{Dice, hex32, mix, short_id, uuid_of};
use crate::world::timeline::Timeline;
use crate::world::vocabulary::TAGS;
use crate::world::{Alert, AlertKind, World};

/// Members that can be missing, or are at times in payloads (facts 6.3).
const OPTIONAL: [&str; 15] = [
    "assignee",
    "monitored",
    "status_transitions",
    "responsibility",
    "priority",
    "disposition",
    "tags",
    "fields",
    "permissions",
    "external_id",
    "rule_matching_keys",
    "rule_keys_of_interest",
    "updated_at",
    "ingested_at",
    "organization",
];

/// How much of an alert an endpoint shows.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Depth {
    /// As a search does: no MITRE codes.
    Thin,
    /// As a single read does.
    Full,
}

/// The alert as JSON text.
pub(crate) fn alert(timeline: &Timeline, alert: &Alert, depth: Depth, now: Micros) -> Bytes {
    match alert.pinned.as_ref().and_then(|pinned| pinned.triage_json.as_ref()) {
        Some(json) => Bytes::from(json.clone()),
        None => super::bytes(&value(timeline, alert, depth, now)),
    }
}

/// When an alert was raised.
pub(crate) fn alerted_at(alert: &Alert) -> Micros {
    alert.created - Story::of(alert).age / 2
}

/// The alert as a value.
pub(crate) fn value(timeline: &Timeline, alert: &Alert, depth: Depth, now: Micros) -> Value {
    let world = &timeline.world;
    let story = Story::of(alert);
    let mut dice = Dice::new(mix(alert.seed, 0x7214));
    let organization = world.organizations.get(alert.organization as usize);
    let shown = alert.investigation.and_then(|number| timeline.shown(number, now).map(|shown| (number, shown)));
    let shown = shown.filter(|_| alert.visible <= now);
    let work = work(world, alert);
    let done: Vec<&Work> = work.iter().filter(|work| work.at <= now).collect();
    let since = shown.map_or((0, None), |(number, _)| changes_since(timeline, number, alert, now));
    let pieces = pieces(alert, now);
    let version = 1 + done.len() + since.0 + pieces.map_or(0, |(count, _)| count);
    let updated = since.1.or(done.last().map(|work| work.at)).unwrap_or(alert.created + SECOND);
    let updated = updated.max(pieces.map_or(Micros::MIN, |(_, last)| last));
    let state = shown.map(|(_, (_, state))| state);
    let status = match (state, done.last()) {
        (Some(state), _) => state.fields.status.as_ref(),
        (None, Some(work)) => work.status,
        (None, None) => "OPEN",
    };
    let disposition = match (state, done.last()) {
        (Some(state), _) => state.fields.disposition.as_ref(),
        (None, Some(work)) => work.disposition,
        (None, None) => "UNDECIDED",
    };
    let own = dice.pick(&["INFO", "LOW", "MEDIUM", "HIGH", "CRITICAL", "UNMAPPED"]);
    let (mitre, thin) = match depth {
        Depth::Thin => (Vec::new(), alert.seed % 3),
        Depth::Full => (codes(alert, &story), 2),
    };
    let mut rule = Map::new();
    rule.insert("rrn".to_owned(), json!(story.rule_rrn));
    if dice.chance(60) && thin != 0 {
        rule.insert("name".to_owned(), json!(story.rule.name));
    }
    rule.insert("mitre_tcodes".to_owned(), json!(mitre));
    let lacking: &[&str] = if mitre.is_empty() { &["name", "mitre_tcodes"] } else { &["name"] };
    world.odd.thin_out(&mut rule, mix(alert.seed, 0x2C1E), depth as u64, lacking);
    rule.insert(
        "version_rrn".to_owned(),
        json!(format!("rrn:cba:::detection-rule:version:{}", short_id(story.seed, 12))),
    );
    let mut out = Map::new();
    let mut put = |member: &str, value: Value| {
        out.insert(member.to_owned(), value);
    };
    put("rrn", json!(world.id_of(alert)));
    put("version", json!(version));
    put("created_at", json!(vendor(alert.created)));
    put("updated_at", json!(vendor(updated)));
    put("alerted_at", json!(vendor(alerted_at(alert))));
    put("ingested_at", json!(vendor(alert.created - 5_302)));
    put("external_source", json!("IDR ABA"));
    put("external_id", json!(uuid_of(story.seed)));
    put(
        "organization",
        json!({
        "id": organization.map(|o| &o.id), "name": organization.map(|o| &o.name),
        "region": organization.map(|o| o.alert_region()), "product_token": "375EA8EDACEB1603216A",
        "customer_id": uuid_of(mix(world.seed, u64::from(alert.organization))),
        "customer_name": organization.map(|o| &o.name), "flags": []}),
    );
    put("title", json!(story.title));
    put("type", json!(story.kind));
    put("rule", Value::Object(rule));
    put("rule_matching_keys", json!([{"key": "entryType", "values": ["process_start_event"]}]));
    let keys = json!([
        {"key": "account", "values": [story.user.0]}, {"key": "source_ip", "values": [story.client]},
        {"key": "hostname", "values": [story.host]}]);
    put("rule_keys_of_interest", if thin == 1 { json!([]) } else { keys });
    put("responsibility", json!(dice.pick(&["UNMAPPED", "CUSTOMER", "MDR"])));
    put("priority", json!(own));
    put("status", json!(status));
    put("disposition", json!(disposition));
    if let Some(person) = state.and_then(|state| state.fields.assignee.as_ref()) {
        let (first, last) = person.name.split_once(' ').unwrap_or((&person.name, ""));
        put(
            "assignee",
            json!({"at": vendor(updated), "id": uuid_of(story.seed), "email": person.email,
            "first_name": first, "last_name": last}),
        );
    }
    if let Some((_, (investigation, _))) = shown {
        put("investigation_rrn", json!(investigation.rrn));
    }
    let tags: Vec<&str> = if dice.chance(20) { vec![dice.pick(&TAGS)] } else { Vec::new() };
    put("tags", json!(tags));
    put("permissions", json!({"canEdit": false}));
    put("fields", json!([]));
    world.odd.thin_out(&mut out, alert.seed, depth as u64, &OPTIONAL);
    if shown.is_none() {
        world.odd.thin_out(&mut out, mix(alert.seed, 0x1A7E57), depth as u64, &["investigation_rrn"]);
    }
    Value::Object(out)
}

/// How many pieces of evidence an alert has got that come one by one, and when the last of them came.
fn pieces(alert: &Alert, now: Micros) -> Option<(usize, Micros)> {
    let all = usize::from(alert.evidence);
    let there = alert.pieces(all, alert.evidence_visible, now);
    let last = there.checked_sub(1).filter(|_| alert.is_piecemeal())?;
    let span = alert.evidence_whole - alert.evidence_visible;
    Some((there, alert.evidence_visible + span * last as i64 / (all as i64 - 1).max(1)))
}

/// The changes of its investigation since the alert has been part of it, and when the last one was.
fn changes_since(timeline: &Timeline, investigation: u32, alert: &Alert, now: Micros) -> (usize, Option<Micros>) {
    let states = timeline.states.get(investigation as usize).map(Vec::as_slice).unwrap_or_default();
    let since = states.iter().filter(|state| state.at <= now && state.at > alert.visible && !state.viewed_only);
    (since.clone().count(), since.map(|state| state.at).max())
}

/// Something that is done to an alert outside investigations.
pub(crate) struct Work {
    /// When.
    pub(crate) at: Micros,
    status: &'static str,
    disposition: &'static str,
}

/// What is done to an alert outside investigations, in order: it is taken up, closed, opened again. Pinned alerts are left
/// alone, and those that join an investigation from then on.
pub(crate) fn work(world: &World, alert: &Alert) -> Vec<Work> {
    if alert.pinned.is_some() || (alert.investigation.is_some() && alert.triage_visible == alert.visible) {
        return Vec::new();
    }
    let mut dice = Dice::new(mix(alert.seed, 0x3042));
    let verdict = dice.pick(&["BENIGN", "MALICIOUS", "FALSE_POSITIVE"]);
    let steps = [("INVESTIGATING", "UNDECIDED"), ("CLOSED", verdict), ("OPEN", "UNDECIDED"), ("CLOSED", verdict)];
    let count = dice.below(2 * steps.len() as u64) as usize;
    let mut at = alert.triage_visible;
    let until = if alert.investigation.is_some() { alert.visible.min(world.end) } else { world.end };
    let work = steps.into_iter().take(count).map(|(status, disposition)| {
        at += dice.between(5 * MINUTE, DAY);
        Work { at, status, disposition }
    });
    work.take_while(|work| work.at < until).collect()
}

/// What the alert's rule says of MITRE ATT&CK: names of tactics and codes of techniques and sub-techniques in one list,
/// in no order; at times nothing.
pub(crate) fn codes(alert: &Alert, story: &Story) -> Vec<&'static str> {
    let rule = story.rule;
    let technique = rule.technique;
    let parent = technique.split_once('.').map_or(technique, |(parent, _)| parent);
    match mix(alert.seed, 0x717E) % 20 {
        0 => Vec::new(),
        1..=3 => vec![technique],
        4..=6 => vec![technique, rule.tactic],
        7..=9 => vec![rule.tactic, parent, technique],
        _ => vec![rule.tactic, technique],
    }
}

/// The actors that are there at this instant: an account, an asset, an address, of which some may be missing.
pub(crate) fn actors(world: &World, alert: &Alert, now: Micros) -> Vec<String> {
    let there = |count: usize| alert.pieces(count, alert.triage_visible, now);
    if let Some(actors) = alert.pinned.as_ref().and_then(|pinned| pinned.actors.as_ref()) {
        return actors.get(..there(actors.len())).unwrap_or_default().to_vec();
    }
    let story = Story::of(alert);
    let Some(organization) = world.organizations.get(alert.organization as usize) else {
        return Vec::new();
    };
    let mut dice = Dice::new(mix(alert.seed, 0xAC7));
    let all = [("ACCOUNT", story.user.0), ("ASSET", story.host), ("IP_ADDRESS", story.client)];
    let kept: Vec<_> = all.into_iter().filter(|_| dice.chance(75)).collect();
    let there = there(kept.len());
    kept.into_iter()
        .enumerate()
        .take(there)
        .map(|(number, (kind, name))| {
            let seed = mix(story.seed, number as u64);
            let mut actor = json!({
                "rrn": format!("rrn:alerts:{}:{}:actor:1:{}", organization.alert_region(), organization.id, hex32(seed)),
                "id": uuid_of(seed), "type": kind, "user_id": uuid_of(mix(seed, 1)), "display_name": name});
            if let Some(members) = actor.as_object_mut() {
                world.odd.thin_out(members, seed, 0, &["id", "user_id", "display_name"]);
            }
            actor.to_string()
        })
        .collect()
}

/// Whether the triage API knows the alert at this instant.
pub(crate) fn knows(alert: &Alert, now: Micros) -> bool {
    let kind = match alert.pinned.as_ref().and_then(|pinned| pinned.id.as_ref()) {
        Some(id) => id.starts_with("rrn:alerts:"),
        None => alert.kind == AlertKind::DetectionRule,
    };
    kind && alert.triage_visible <= now
}
