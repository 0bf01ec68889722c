//! Versions of investigations: what makes one, and which were collected.

use std::collections::{BTreeMap, BTreeSet};

use insightidr_simulator::{Truth, TruthAlert, TruthInvestigation};
use rapid7_insightidr::collect::checkpoint::Checkpoint;
use serde_json::Value;
use time::OffsetDateTime;

use super::native::Tenant;

/// What stands between the parts of a version. No title has it; attackers' titles have a `|`.
pub const SEPARATOR: &str = "¦";

/// What makes a version, as text, in one order.
pub fn version(row: &Value) -> String {
    let scalars = ["title", "source", "status", "priority", "disposition", "assignee", "responsibility", "tags"];
    scalars
        .into_iter()
        // An alert that becomes visible behind a newer one moves the first time alone.
        .chain(["first_alert_time", "latest_alert_time"])
        .map(|key| match &row[key] {
            Value::Null => String::new(),
            Value::Array(list) if list.is_empty() => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
        .collect::<Vec<_>>()
        .join(SEPARATOR)
}

/// The versions that were collected of each investigation, in order.
pub fn collected(tenant: &Tenant) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<(u32, String)>> = BTreeMap::new();
    for artifact in tenant.store.values() {
        let rrn = artifact["sourceInfo"].as_str().unwrap();
        let sender = artifact["senderHost"].as_str().unwrap();
        let action = artifact["action"].as_str().unwrap_or_default();
        if rrn.contains(":investigation:") && !matches!(action, "alert" | "product_alert" | "comment" | "evidence") {
            let row: Value = serde_json::from_str(artifact["message"].as_str().unwrap()).unwrap();
            let ordinal = sender.rsplit('.').next().unwrap().parse().unwrap();
            found.entry(rrn.to_owned()).or_default().push((ordinal, version(&row)));
        }
    }
    found
        .into_iter()
        .map(|(rrn, mut versions)| {
            versions.sort();
            (rrn, versions.into_iter().map(|(_, version)| version).collect())
        })
        .collect()
}

/// The version of an investigation that shows at an instant.
pub fn shown(investigation: &TruthInvestigation, at: OffsetDateTime) -> Option<String> {
    investigation.version_at(at).map(|state| version(&state.value()))
}

/// Whether a version is closed.
pub fn is_closed(version: &str) -> bool {
    version.split(SEPARATOR).nth(2) == Some("CLOSED")
}

/// Whether an alert became part of its investigation when it had been there for itself.
pub fn has_joined(alert: &TruthAlert) -> bool {
    alert.visible_at - alert.triage_visible_at >= time::Duration::minutes(30)
}

/// Fails if something came again with the same id that may not. An alert may that was collected for itself, because the
/// Alert Triage API knew it and no investigation had it yet when it was as old as the overlap, and then became part of an
/// investigation, whose alerts are collected with it; or because nothing of its investigation had been collected, which is
/// from before the look-back, and then changed.
pub fn assert_only_joined_came_again(tenant: &Tenant, truth: &Truth, overlap: time::Duration) {
    let was_alone =
        |alert: &&TruthAlert| alert.triage_visible_at < alert.visible_at && alert.visible_at - alert.created > overlap;
    let checkpoint = tenant.checkpoint.clone().map(|bytes| Checkpoint::decode(bytes).unwrap());
    let floor = checkpoint.and_then(|checkpoint| checkpoint.floor).map_or(0, |floor| floor.0);
    let microseconds = |time: time::OffsetDateTime| time.unix_timestamp_nanos() / 1_000;
    let is_old = |one: &&TruthInvestigation| microseconds(one.created) <= i128::from(floor);
    let old: BTreeSet<&str> = truth.investigations.iter().filter(is_old).map(|one| one.rrn.as_str()).collect();
    let is_of_old = |alert: &&TruthAlert| alert.investigation.as_deref().is_some_and(|rrn| old.contains(rrn));
    let may_come_again = |alert: &&TruthAlert| was_alone(alert) || is_of_old(alert);
    let joined: BTreeSet<&str> = truth.alerts.iter().filter(may_come_again).map(|alert| alert.id.as_str()).collect();
    let others: Vec<&String> = tenant.again.iter().filter(|name| !joined.contains(name.as_str())).collect();
    assert!(others.is_empty(), "came again: {others:#?}");
}
