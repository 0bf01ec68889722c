//! What comes and changes with time and shows in no row: product alerts, comments, alerts of the triage API.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::BTreeSet;

use common::{Got, LIST, at, get, post, simulator};
use insightidr_simulator::{Simulator, SimulatorConfig, TruthAlert, World, WorldConfig};
use serde_json::{Value, json};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

/// A world with some of everything.
fn busy() -> WorldConfig {
    WorldConfig { investigations: 150, standalone_alerts: 120, horizon_days: 5, ..WorldConfig::default() }
}

/// The answer at an instant.
fn seen(simulator: &Simulator, at: OffsetDateTime, path: &str) -> Got {
    simulator.set_now(at);
    get(simulator, path)
}

/// Just before an instant.
fn before(instant: OffsetDateTime) -> OffsetDateTime {
    instant - Duration::microseconds(1)
}

fn triage(alert: &TruthAlert) -> String {
    format!("/idr/at/alerts/{}", alert.id)
}

#[test]
fn product_alerts_come_and_change_when_the_truth_says_so_and_the_row_does_not_show_it() {
    let simulator = simulator(World::generate(&busy()));
    let (mut late, mut changed) = (0, 0);
    for one in &simulator.truth().investigations {
        let row = format!("{LIST}/{}", one.rrn);
        let path = format!("{row}/rapid7-product-alerts");
        for alert in &one.product_alerts {
            let shows = |at| seen(&simulator, at, &path).text.contains(&alert.id);
            assert!(shows(alert.visible_at));
            if alert.visible_at > one.visible_at {
                assert!(!shows(before(alert.visible_at)));
                let rows = [before(alert.visible_at), alert.visible_at].map(|at| seen(&simulator, at, &row).text);
                assert!(rows[0] == rows[1] || one.versions.iter().any(|version| version.at == alert.visible_at));
                late += 1;
            }
            if let Some(at) = alert.changed_at {
                let pending = |at| seen(&simulator, at, &path).text.contains("QUARANTINE_PENDING");
                assert!(pending(before(at)) && !pending(at));
                changed += 1;
            }
        }
    }
    assert!(late > 3 && changed > 3, "{late} {changed}");
}

#[test]
fn comments_come_on_closed_investigations_too_and_only_those_of_users_move_last_accessed() {
    let simulator = simulator(World::generate(&busy()));
    let (mut closed, mut silent) = (0, 0);
    for one in &simulator.truth().investigations {
        let path = format!("/idr/v1/comments?target={}", one.rrn);
        for comment in &one.comments {
            assert!(!seen(&simulator, before(comment.created), &path).text.contains(&comment.rrn));
            let got = seen(&simulator, comment.created, &path);
            let found = got.data().iter().find(|found| found["rrn"] == comment.rrn.as_str()).unwrap();
            assert_eq!(found["creator"]["type"] == "USER", comment.on_row);
            let row = get(&simulator, &format!("{LIST}/{}", one.rrn)).json;
            assert_eq!(at(row["last_accessed"].as_str().unwrap()) == comment.created, comment.on_row);
            silent += usize::from(!comment.on_row);
            closed += usize::from(row["status"] == "CLOSED");
        }
    }
    assert!(closed > 3 && silent > 3, "{closed} {silent}");
}

#[test]
fn an_alert_outside_investigations_can_become_part_of_one() {
    let simulator = simulator(World::generate(&busy()));
    let truth = simulator.truth();
    let later = |alert: &&TruthAlert| alert.visible_at - alert.triage_visible_at >= Duration::minutes(30);
    let joining: Vec<&TruthAlert> = truth.alerts.iter().filter(later).collect();
    assert!(joining.len() > 10);
    for alert in joining {
        let rrn = alert.investigation.as_deref().unwrap();
        let list = format!("{LIST}/{rrn}/alerts?size=100");
        let alone = seen(&simulator, before(alert.visible_at), &triage(alert)).json;
        assert!(alone.get("investigation_rrn").is_none());
        assert!(!get(&simulator, &list).text.contains(&alert.id));
        let joined = seen(&simulator, alert.visible_at, &triage(alert)).json;
        assert_eq!(joined["investigation_rrn"], rrn);
        assert!(get(&simulator, &list).text.contains(&alert.id));
        assert!(joined["version"].as_u64() >= alone["version"].as_u64());
    }
}

#[test]
fn work_on_an_alert_outside_investigations_shows_in_its_version_and_times() {
    let simulator = simulator(World::generate(&busy()));
    let truth = simulator.truth();
    let mut statuses = BTreeSet::new();
    for alert in truth.alerts.iter().filter(|alert| alert.investigation.is_none()) {
        let mut last = seen(&simulator, alert.triage_visible_at, &triage(alert)).json;
        assert_eq!((last["version"].as_u64(), last["status"].as_str()), (Some(1), Some("OPEN")));
        for (number, work) in (2..).zip(&alert.worked_on) {
            let next = seen(&simulator, *work, &triage(alert)).json;
            assert_eq!(next["version"].as_u64(), Some(number));
            assert_eq!(at(next["updated_at"].as_str().unwrap()), *work);
            assert_ne!(next["status"], last["status"]);
            statuses.insert(next["status"].as_str().unwrap().to_owned());
            last = next;
        }
    }
    assert_eq!(statuses.into_iter().collect::<Vec<_>>(), ["CLOSED", "INVESTIGATING", "OPEN"]);
}

#[test]
fn the_triage_api_can_know_an_alert_before_or_after_its_investigation_lists_it() {
    let simulator = simulator(World::generate(&busy()));
    let truth = simulator.truth();
    let (mut early, mut late) = (0, 0);
    for alert in truth.alerts.iter().filter(|alert| alert.triage && alert.triage_visible_at > truth.now) {
        assert_eq!(seen(&simulator, before(alert.triage_visible_at), &triage(alert)).status, 404);
        assert_eq!(seen(&simulator, alert.triage_visible_at, &triage(alert)).status, 200);
        let body = |at: OffsetDateTime| {
            simulator.set_now(at);
            let text = |at: OffsetDateTime| at.format(&Rfc3339).unwrap();
            let (start, end) = (text(alert.created - Duration::hours(1)), text(at + Duration::hours(1)));
            let body = json!({"search": {"start_time": start, "end_time": end}});
            post(&simulator, "/idr/at/alerts/ops/search?size=100&rrns_only=true", &body).text
        };
        assert!(!body(before(alert.triage_visible_at)).contains(&alert.id));
        assert!(body(alert.triage_visible_at).contains(&alert.id));
        early += usize::from(alert.triage_visible_at < alert.visible_at);
        late += usize::from(alert.triage_visible_at > alert.visible_at);
    }
    assert!(early > 3 && late > 3, "{early} {late}");
}

#[test]
fn a_rule_names_tactics_techniques_and_sub_techniques_and_at_times_nothing() {
    let simulator = simulator(World::generate(&busy()));
    let truth = simulator.truth();
    let mut forms = BTreeSet::new();
    for alert in truth.alerts.iter().filter(|alert| alert.triage && alert.triage_visible_at <= truth.now) {
        let shown = get(&simulator, &triage(alert)).json;
        assert_eq!(shown["rule"]["mitre_tcodes"], json!(alert.mitre_tcodes));
        let form =
            |code: &String| if code.contains(' ') { 't' } else { char::from_digit(code.len() as u32, 36).unwrap() };
        forms.insert(alert.mitre_tcodes.iter().map(form).collect::<String>());
    }
    assert!(forms.contains("") && forms.contains("t5") && forms.contains("t59") && forms.contains("9"), "{forms:?}");
}

#[test]
fn restricted_evidence_holds_strings_of_json_and_strings_that_were_json() {
    let config = WorldConfig { restricted_evidence: true, ..busy() };
    let simulator = simulator(World::generate(&config));
    let (mut whole, mut broken, mut types) = (0, 0, BTreeSet::new());
    for one in simulator.truth().investigations.iter().take(150) {
        let got = get(&simulator, &format!("/idr/v1/restricted/investigations/{}/evidence", one.rrn));
        for evidence in got.json["indicator_occurrences"].as_array().into_iter().flatten() {
            for piece in evidence["evidence"].as_array().unwrap() {
                types.insert(piece["type"].as_str().unwrap().to_owned());
                for text in ["content", "logline"].iter().filter_map(|member| piece["details"][member].as_str()) {
                    let good = serde_json::from_str::<Value>(text).is_ok();
                    *(if good { &mut whole } else { &mut broken }) += 1;
                }
            }
        }
    }
    assert!(whole > 10 && broken > 10 && types.len() == 5, "{whole} {broken} {types:?}");
}

#[test]
fn a_tenant_without_restricted_evidence_gets_the_status_that_is_set() {
    for status in [403, 404] {
        let config = SimulatorConfig { no_restricted_status: status, ..common::settings() };
        let simulator = Simulator::new(World::generate(&WorldConfig::default()), config);
        let rrn = &simulator.truth().investigations[0].rrn;
        assert_eq!(get(&simulator, &format!("/idr/v1/restricted/investigations/{rrn}/evidence")).status, status);
    }
}
