//! What a default world has not: what comes in pieces, late, again and again, or not at all; and limits and refusals of single
//! APIs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{LIST, WIDE, all_rows, get, post, settings, simulator};
use insightidr_simulator::{
    AlertSpec, InvestigationSpec, Oddities, RateLimit, Simulator, SimulatorConfig, TruthAlert, World, WorldConfig,
};
use serde_json::{Value, json};
use time::Duration;

/// A world with one of the oddities.
fn world(odd: Oddities) -> World {
    World::generate(&WorldConfig { odd, horizon_days: 4, old_investigations: 40, ..WorldConfig::default() })
}

/// The members of records, each with the forms that it takes: `v` a value, `n` null, `a` absent from some.
fn forms(records: &[Value]) -> BTreeMap<String, BTreeSet<char>> {
    let names: BTreeSet<&String> = records.iter().flat_map(|record| record.as_object().unwrap().keys()).collect();
    let form = |record: &Value, name: &str| match record.get(name) {
        None => 'a',
        Some(Value::Null) => 'n',
        Some(_) => 'v',
    };
    names.into_iter().map(|name| (name.clone(), records.iter().map(|record| form(record, name)).collect())).collect()
}

#[test]
fn evidence_and_actors_of_some_come_piece_by_piece_and_totals_and_versions_move_until_the_last() {
    let simulator = simulator(world(Oddities { piecemeal_percent: 50, ..Oddities::default() }));
    let truth = simulator.truth();
    let (mut grown, mut totals, mut at_once) = (0, BTreeSet::new(), 0);
    for alert in truth.alerts.iter().filter(|alert| alert.triage && alert.evidence_visible_at > truth.now) {
        let path = format!("/idr/at/alerts/{}", alert.id);
        let span = alert.evidence_whole_at - alert.evidence_visible_at;
        at_once += usize::from(span.is_zero());
        let mut before = (0, 0, 0);
        for part in 0..=8 {
            simulator.set_now(alert.evidence_visible_at + span * part / 8);
            let [evidence, actors] =
                ["evidences", "actors"].map(|list| get(&simulator, &format!("{path}/{list}")).json);
            let count = |page: &Value, list: &str| page[list].as_array().unwrap().len();
            let now = (
                count(&evidence, "evidences"),
                count(&actors, "actors"),
                get(&simulator, &path).json["version"].as_u64().unwrap(),
            );
            assert!(now.0 >= before.0 && now.1 >= before.1 && now.2 >= before.2, "they only grow");
            assert!(part == 0 || now.0 == before.0 || now.2 > before.2 || span.is_zero());
            let moved = evidence["metadata"]["total_items"].as_i64().unwrap() - now.0 as i64;
            assert!(part < 8 && !span.is_zero() || moved == 0, "in the end they are right");
            totals.insert(moved);
            grown += usize::from(part > 0 && now.0 > before.0);
            before = now;
        }
        assert_eq!((before.0, before.1), (alert.evidence.len(), alert.actors.len()));
    }
    assert!(grown > 10 && at_once > 10, "{grown} {at_once}");
    assert_eq!(totals.into_iter().collect::<Vec<_>>(), [-1, 0, 1]);
}

#[test]
fn pinned_evidence_can_come_piece_by_piece_too() {
    let mut world = World::empty();
    let start = WorldConfig::default().start;
    let one = world.add_investigation(InvestigationSpec::new(start, start)).unwrap();
    let record = |number: u32| json!({"rrn": format!("rrn:alerts:us1:o:evidence:1:{number}")}).to_string();
    let alert = AlertSpec {
        evidence: Some((0..3).map(record).collect()),
        evidence_whole_at: Some(start + Duration::minutes(4)),
        ..AlertSpec::new(start, start)
    };
    let id = world.add_alert(Some(one), alert).unwrap();
    let id = world.alert_id(id).unwrap();
    let simulator = simulator(world);
    for (minutes, count) in [(0, 1), (1, 1), (2, 2), (3, 2), (4, 3), (9, 3)] {
        simulator.set_now(start + Duration::minutes(minutes));
        let got = get(&simulator, &format!("/idr/at/alerts/{id}/evidences"));
        assert_eq!(got.json["evidences"].as_array().unwrap().len(), count, "after {minutes} minutes");
    }
}

#[test]
fn members_are_missing_as_null_and_as_nothing_and_for_a_single_read_the_other_way() {
    let simulator = simulator(world(Oddities { sparse_percent: 30, ..Oddities::default() }));
    let truth = simulator.truth();
    let rows = all_rows(&simulator, WIDE);
    let found = forms(&rows);
    for member in ["organization_id", "assignee", "first_alert_time", "responsibility", "tags"] {
        assert_eq!(found[member].len(), 3, "{member}: {:?}", found[member]);
    }
    for member in ["rrn", "title", "status", "priority", "disposition", "created_time"] {
        assert_eq!(found[member].iter().collect::<String>(), "v", "{member}");
    }
    let mut differ = 0;
    for row in &rows {
        let single = get(&simulator, &format!("{LIST}/{}", row["rrn"].as_str().unwrap())).json;
        differ += usize::from(single != *row);
        for member in ["organization_id", "assignee", "first_alert_time", "latest_alert_time", "status", "tags"] {
            assert_eq!(single[member], row[member], "only absent where the other is null");
        }
    }
    assert!(differ > rows.len() / 2);
    let alerts: Vec<Value> = rows
        .iter()
        .flat_map(|row| get(&simulator, &format!("{LIST}/{}/alerts", row["rrn"].as_str().unwrap())).data().clone())
        .collect();
    let found = forms(&alerts);
    for member in ["alert_source", "alert_type_description", "first_event_time", "detection_rule_rrn"] {
        assert_eq!(found[member].len(), 3, "{member}: {:?}", found[member]);
    }
    let there = |alert: &&TruthAlert| alert.triage && alert.evidence_visible_at <= truth.now;
    let (mut triage, mut evidence, mut actors) = (Vec::new(), Vec::new(), Vec::new());
    for alert in truth.alerts.iter().filter(there) {
        let path = format!("/idr/at/alerts/{}", alert.id);
        triage.push(get(&simulator, &path).json);
        evidence.extend(get(&simulator, &format!("{path}/evidences")).json["evidences"].as_array().unwrap().clone());
        actors.extend(get(&simulator, &format!("{path}/actors")).json["actors"].as_array().unwrap().clone());
    }
    for (records, members) in [
        (&triage, &["assignee", "investigation_rrn", "monitored", "organization", "tags", "updated_at"][..]),
        (&evidence, &["version", "updated_at", "evented_at", "event_type"]),
        (&actors, &["id", "user_id", "display_name"]),
    ] {
        let found = forms(records);
        for member in members {
            assert!(found[*member].is_superset(&['a', 'n'].into()), "{member}: {:?}", found[*member]);
        }
    }
    assert!(triage.iter().all(|alert| alert["rule"]["rrn"].is_string() && alert["version"].is_u64()));
}

#[test]
fn comments_and_product_alerts_come_late_to_investigations_of_any_age() {
    let simulator = simulator(world(Oddities { late_extras_percent: 40, ..Oddities::default() }));
    let truth = simulator.truth();
    let (mut comments, mut products) = (0, 0);
    for one in truth.investigations.iter().filter(|one| truth.now - one.created > Duration::days(40)) {
        for comment in one.comments.iter().filter(|comment| comment.created > truth.now) {
            simulator.set_now(comment.created);
            let got = get(&simulator, &format!("/idr/v1/comments?target={}&size=100", one.rrn));
            assert!(got.text.contains(&comment.rrn));
            comments += 1;
        }
        for alert in one.product_alerts.iter().filter(|alert| alert.visible_at > truth.now) {
            let path = format!("{LIST}/{}/rapid7-product-alerts", one.rrn);
            simulator.set_now(alert.visible_at - Duration::microseconds(1));
            assert!(!get(&simulator, &path).text.contains(&alert.id));
            simulator.set_now(alert.visible_at);
            assert!(get(&simulator, &path).text.contains(&alert.id));
            products += 1;
        }
    }
    assert!(comments > 3 && products > 1, "{comments} {products}");
}

#[test]
fn a_growing_investigation_gains_alerts_until_the_end_some_of_them_at_one_instant() {
    let odd = Oddities { growing_investigations: 2, growing_alerts: 300, ..Oddities::default() };
    let simulator = simulator(world(odd));
    let truth = simulator.truth();
    let large = |one: &&insightidr_simulator::TruthInvestigation| {
        truth.alerts.iter().filter(|alert| alert.investigation.as_deref() == Some(&one.rrn)).count() >= 300
    };
    let large: Vec<_> = truth.investigations.iter().filter(large).collect();
    assert_eq!(large.len(), 2);
    for one in large {
        let total = |days: i64| {
            simulator.set_now(truth.now + Duration::days(days));
            get(&simulator, &format!("{LIST}/{}/alerts?size=100", one.rrn)).json["metadata"]["total_data"].as_u64()
        };
        let totals = [0, 1, 2, 3, 5].map(|days| total(days).unwrap());
        assert!(totals.windows(2).all(|pair| pair[0] < pair[1]) && totals[4] >= 300, "{totals:?}");
        let mut created: Vec<_> =
            truth.alerts.iter().filter(|a| a.investigation.as_deref() == Some(&one.rrn)).map(|a| a.created).collect();
        created.sort();
        assert!(created.windows(2).filter(|pair| pair[0] == pair[1]).count() > 20);
    }
}

#[test]
fn an_oddity_changes_nothing_else_of_a_world() {
    let ids = |odd: Oddities| {
        let truth = simulator(world(odd)).truth();
        let investigations = truth.investigations.iter().map(|one| (one.rrn.clone(), one.visible_at));
        let alerts = truth.alerts.iter().map(|alert| (alert.id.clone(), alert.evidence_visible_at));
        investigations.chain(alerts).collect::<BTreeSet<_>>()
    };
    let plain = ids(Oddities::default());
    let odd = Oddities { piecemeal_percent: 50, sparse_percent: 30, late_extras_percent: 40, ..Oddities::default() };
    assert_eq!(ids(odd), plain);
    let more = ids(Oddities { growing_investigations: 1, growing_alerts: 50, ..odd });
    assert!(more.is_superset(&plain) && more.len() > plain.len() + 50);
}

#[test]
fn the_comments_api_can_have_a_limit_of_its_own() {
    let limit = |requests| Some(RateLimit { requests, window: std::time::Duration::from_secs(60) });
    let config = SimulatorConfig { rate_limit: limit(3), v1_rate_limit: limit(1), ..settings() };
    let simulator = Simulator::new(World::empty(), config);
    let comments = "/idr/v1/comments?target=rrn:x";
    let statuses = [comments, comments, LIST, LIST, LIST, LIST].map(|path| get(&simulator, path).status);
    assert_eq!(statuses, [200, 429, 200, 200, 200, 429]);
}

#[test]
fn a_status_that_is_not_known_is_refused_by_the_list_as_any_wrong_value_is() {
    let config = SimulatorConfig { knows_waiting: false, ..settings() };
    let simulator = Simulator::new(World::generate(&WorldConfig::default()), config);
    assert_eq!(get(&simulator, &format!("{LIST}?statuses=OPEN,INVESTIGATING,WAITING")).status, 400);
    assert_eq!(get(&simulator, &format!("{LIST}?statuses=OPEN,INVESTIGATING")).status, 200);
    assert!(all_rows(&simulator, WIDE).iter().any(|row| row["status"] == "WAITING"), "they are there all the same");
}

#[test]
fn the_beginning_of_a_search_can_be_cut_as_that_of_a_list_is() {
    let mut world = World::empty();
    let start = WorldConfig::default().start;
    world.add_alert(None, AlertSpec::new(start - Duration::seconds(30), start - Duration::seconds(30))).unwrap();
    let found = |cut: u64| {
        let config = SimulatorConfig { start_cut: std::time::Duration::from_secs(cut), ..settings() };
        let simulator = Simulator::new(world.clone(), config);
        let body = json!({"search": {"start_time": "2026-01-15T11:59:45Z", "end_time": "2026-01-15T12:00:00Z"}});
        post(&simulator, "/idr/at/alerts/ops/search?rrns_only=true", &body).json["rrns"].as_array().unwrap().len()
    };
    assert_eq!([0, 1, 60].map(found), [0, 0, 1]);
}
