//! The search call and the Alert Triage family.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::HashSet;

use common::{LIST, at, get, post, send, settings, simulator};
use insightidr_simulator::{
    AlertKind, AlertSpec, InvestigationSpec, Request, Role, Simulator, TruthAlert, World, WorldConfig,
};
use serde_json::{Value, json};
use time::Duration;

const SEARCH: &str = "/idr/v2/investigations/_search";
const TRIAGE: &str = "/idr/at/alerts/ops/search";
const BY_RRN: &str = "/idr/at/alerts/ops/rrns";
const SINCE: &str = "2025-12-01T00:00:00Z";

fn generated() -> Simulator {
    simulator(World::generate(&WorldConfig { investigations: 300, ..WorldConfig::default() }))
}

/// The triage alerts that show now, by the truth.
fn visible(simulator: &Simulator) -> Vec<TruthAlert> {
    let truth = simulator.truth();
    truth.alerts.into_iter().filter(|alert| alert.triage && alert.visible_at <= truth.now).collect()
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_search_call_filters_sorts_and_pages() {
    let simulator = generated();
    let body = json!({
        "search": [
            {"field": "status", "operator": "IN", "value": ["open", "CLOSED"]},
            {"field": "title", "operator": "CONTAINS", "value": "SUSPICIOUS"}],
        "sort": [{"field": "created_time", "order": "ASC"}],
        "start_time": SINCE, "end_time": "2026-01-15T12:00:00.000000+00:00"});
    let page = post(&simulator, &format!("{SEARCH}?size=100"), &body);
    assert_eq!(page.status, 200, "{}", page.text);
    assert!(!page.data().is_empty());
    for row in page.data() {
        assert!(["OPEN", "CLOSED"].contains(&row["status"].as_str().unwrap()));
        assert!(row["title"].as_str().unwrap().to_lowercase().contains("suspicious"));
    }
    let times: Vec<_> = page.column("created_time").iter().map(|text| at(text)).collect();
    assert!(times.is_sorted());
    let plain = post(&simulator, &format!("{SEARCH}?size=100"), &json!({}));
    assert_eq!(plain.text, get(&simulator, &format!("{LIST}?size=100")).text, "the list's defaults");
    let ignored = post(&simulator, &format!("{SEARCH}?size=100"), &json!({"statuses": ["CLOSED"], "index": 3}));
    assert_eq!(ignored.text, plain.text, "unknown members are ignored");
}

#[test]
fn the_search_call_finds_by_what_alerts_say() {
    let simulator = generated();
    for (field, operator, value) in [
        ("alert_mitre_t_codes", "EQUALS", "T1110"),
        ("actor_user_name", "CONTAINS", "jdoe"),
        ("actor_asset_hostname", "EQUALS", "filesrv02"),
    ] {
        let body = json!({"search": [{"field": field, "operator": operator, "value": value}]});
        let page = post(&simulator, &format!("{SEARCH}?size=100"), &body);
        let total = page.json["metadata"]["total_data"].as_u64().unwrap();
        assert!(total > 0 && total < 200, "{field}: {total}");
    }
}

#[test]
fn the_search_call_refuses_what_it_does_not_have() {
    let simulator = simulator(World::empty());
    for body in [
        json!([]),
        json!({"search": {"field": "status"}}),
        json!({"search": [{"field": "created_time", "operator": "EQUALS", "value": "x"}]}),
        json!({"search": [{"field": "status", "operator": "CONTAINS", "value": "O"}]}),
        json!({"search": [{"field": "status", "operator": "EQUALS", "value": ["OPEN"]}]}),
        json!({"search": [{"field": "status", "operator": "IN", "value": "OPEN"}]}),
        json!({"sort": [{"field": "created_time", "order": "asc"}]}),
        json!({"sort": [{"field": "title", "order": "ASC"}]}),
        json!({"start_time": "2026-01-01"}),
        json!({"start_time": 5}),
    ] {
        assert_eq!(post(&simulator, SEARCH, &body).status, 400, "{body}");
    }
    let mut untyped = Request::post("us", "key", SEARCH, &json!({}));
    untyped.headers.remove("content-type");
    assert_eq!(send(&simulator, untyped).status, 415);
    let mut broken = Request::post("us", "key", SEARCH, &json!({}));
    broken.body = "{".into();
    assert_eq!(send(&simulator, broken).status, 400);
}

#[test]
fn a_tenant_without_triage_gets_the_status_that_is_set_for_the_whole_family() {
    for status in [403, 404] {
        let mut settings = settings();
        settings.no_triage_status = status;
        let config = WorldConfig { triage: false, ..WorldConfig::default() };
        let simulator = Simulator::new(World::generate(&config), settings);
        let rrn = visible(&simulator).remove(0).id;
        for path in [
            format!("/idr/at/alerts/{rrn}"),
            format!("/idr/at/alerts/{rrn}/evidences"),
            format!("/idr/at/alerts/{rrn}/actors"),
        ] {
            assert_eq!(get(&simulator, &path).status, status);
        }
        assert_eq!(post(&simulator, TRIAGE, &json!({})).status, status);
        assert_eq!(post(&simulator, BY_RRN, &json!({"rrns": [rrn]})).status, status);
        assert_eq!(get(&simulator, LIST).status, 200, "the rest flows");
    }
}

#[test]
fn a_key_without_triage_is_403_there_alone() {
    let mut settings = settings();
    settings.keys[0].role = Role::NoTriage;
    let simulator = Simulator::new(World::generate(&WorldConfig::default()), settings);
    assert_eq!(get(&simulator, LIST).status, 200);
    assert_eq!(post(&simulator, TRIAGE, &json!({"search": {"start_time": SINCE}})).status, 403);
}

#[test]
fn a_search_for_rrns_lists_every_alert_once_those_outside_investigations_too() {
    let simulator = generated();
    let since = at(SINCE);
    let expected: HashSet<String> =
        visible(&simulator).into_iter().filter(|alert| alert.created > since).map(|alert| alert.id).collect();
    assert!(simulator.truth().alerts.iter().any(|alert| alert.investigation.is_none()));
    let body = json!({"search": {"start_time": SINCE}});
    let mut listed = Vec::new();
    for index in 0.. {
        let page = post(&simulator, &format!("{TRIAGE}?rrns_only=true&size=100&index={index}"), &body).json;
        listed.extend(strings(&page["rrns"]));
        assert_eq!(page["alerts"], json!([]));
        assert_eq!(page["region_failures"], json!([]));
        assert_eq!(page["metadata"]["items_in_index"], strings(&page["rrns"]).len());
        assert_eq!(page["metadata"]["total_items"], expected.len());
        if page["metadata"]["is_last_index"] == true {
            break;
        }
    }
    assert!(listed.len() > 100);
    assert_eq!(listed.len(), expected.len());
    assert_eq!(listed.into_iter().collect::<HashSet<_>>(), expected);
}

#[test]
fn a_full_search_is_thin_its_totals_move_and_deep_pages_repeat_rows() {
    let simulator = generated();
    let body = json!({"search": {"start_time": SINCE}});
    let page = |index: u64| post(&simulator, &format!("{TRIAGE}?size=10&index={index}"), &body).json;
    let totals: HashSet<u64> = (0..12).map(|_| page(0)["metadata"]["total_items"].as_u64().unwrap()).collect();
    assert!(totals.len() > 1, "{totals:?}");
    let rrns: Vec<String> = (0..12)
        .flat_map(|index| page(index)["alerts"].as_array().unwrap().clone())
        .map(|alert| {
            assert_eq!(alert["rule"]["mitre_tcodes"], json!([]));
            alert["rrn"].as_str().unwrap().to_owned()
        })
        .collect();
    let distinct: HashSet<&String> = rrns.iter().collect();
    assert!(distinct.len() < rrns.len(), "some page repeats a row");
    let index_in_body = json!({"search": {"start_time": SINCE, "index": 4}});
    let ignored = post(&simulator, &format!("{TRIAGE}?size=10"), &index_in_body).json;
    assert_eq!(ignored["alerts"], page(0)["alerts"]);
}

#[test]
fn a_triage_search_is_strict_about_its_body() {
    let simulator = generated();
    for body in [
        json!({}),
        json!({"search": {}}),
        json!({"search": {"end_time": SINCE}}),
        json!({"search": {"start_time": "2025-01-01T00:00:00Z"}}),
        json!({"search": {"start_time": SINCE, "end_time": "2025-11-01T00:00:00Z"}}),
        json!({"search": {"start_time": SINCE, "terms": [{"field_ids": ["priority"], "operator": "IS", "terms": ["LOW"]}]}}),
        json!({"search": {"start_time": SINCE, "terms": [{"field_ids": [], "operator": "EQUALS", "terms": ["LOW"]}]}}),
        json!({"search": {"start_time": SINCE}, "sorts": [{"field_id": "created_at", "order": "DESC"}]}),
        json!({"search": {"start_time": SINCE}, "sorts": [{"field_id": "colour", "order": "ASCENDING_NULLS_LAST"}]}),
    ] {
        assert_eq!(post(&simulator, TRIAGE, &body).status, 400, "{body}");
    }
    assert_eq!(post(&simulator, &format!("{TRIAGE}?size=101"), &json!({"search": {"start_time": SINCE}})).status, 400);
}

#[test]
fn a_triage_search_filters_and_sorts() {
    let simulator = generated();
    let body = json!({
        "search": {"start_time": SINCE, "terms": [
            {"field_ids": ["priority"], "operator": "EQUALS", "terms": ["HIGH", "LOW"]},
            {"field_ids": ["title"], "operator": "CONTAINS", "terms": ["attacker"]}]},
        "sorts": [{"field_id": "created_at", "order": "DESCENDING_NULLS_LAST"}]});
    let alerts = post(&simulator, &format!("{TRIAGE}?size=100"), &body).json["alerts"].as_array().unwrap().clone();
    assert!(!alerts.is_empty());
    assert!(alerts.iter().all(|alert| ["HIGH", "LOW"].contains(&alert["priority"].as_str().unwrap())));
    let times: Vec<_> = alerts.iter().map(|alert| at(alert["created_at"].as_str().unwrap())).collect();
    assert!(times.is_sorted_by(|a, b| a >= b));
}

#[test]
fn single_alerts_and_hydration_have_mitre_codes_unless_hydration_is_thin() {
    let world = World::generate(&WorldConfig::default());
    let mut thin = settings();
    thin.thin_hydration = true;
    for (settings, codes) in [(settings(), 2), (thin, 0)] {
        let simulator = Simulator::new(world.clone(), settings);
        let rrn = visible(&simulator).remove(0).id;
        let single = get(&simulator, &format!("/idr/at/alerts/{}", rrn.replace(':', "%3A"))).json;
        assert_eq!(single["rule"]["mitre_tcodes"].as_array().unwrap().len(), 2);
        assert_eq!(single["organization"]["region"], "us1");
        let got = post(&simulator, BY_RRN, &json!({"rrns": [rrn, "rrn:alerts:us1:x:alert:1:unknown"]})).json;
        assert_eq!(got["alerts"].as_array().unwrap().len(), 1, "unknown ones are left out");
        assert_eq!(got["alerts"][0]["rule"]["mitre_tcodes"].as_array().unwrap().len(), codes);
    }
}

#[test]
fn hydration_takes_one_to_a_hundred_rrns() {
    let simulator = generated();
    let rrns: Vec<String> = visible(&simulator).into_iter().map(|alert| alert.id).take(101).collect();
    assert_eq!(post(&simulator, BY_RRN, &json!({"rrns": rrns})).status, 400);
    let got = post(&simulator, BY_RRN, &json!({"rrns": rrns[..100]})).json;
    assert_eq!(got["alerts"].as_array().unwrap().len(), 100);
    let order: Vec<&str> = got["alerts"].as_array().unwrap().iter().map(|a| a["rrn"].as_str().unwrap()).collect();
    assert_ne!(order, rrns[..100], "in an order of its own");
    for body in [json!({}), json!({"rrns": []}), json!({"rrns": [1]}), json!({"rrns": "x"})] {
        assert_eq!(post(&simulator, BY_RRN, &body).status, 400);
    }
    let unknown = json!({"rrns": ["rrn:alerts:us1:x:alert:1:unknown"]});
    assert_eq!(post(&simulator, BY_RRN, &unknown).status, 200);
    assert_eq!(post(&simulator, &format!("{BY_RRN}?strict=true"), &unknown).status, 404);
}

#[test]
fn an_alert_that_is_no_rrn_is_400_and_an_unknown_one_404() {
    let simulator = generated();
    let uuid = simulator.truth().alerts.into_iter().find(|alert| !alert.triage).unwrap().id;
    for suffix in ["", "/evidences", "/actors"] {
        assert_eq!(get(&simulator, &format!("/idr/at/alerts/{uuid}{suffix}")).status, 400);
        assert_eq!(get(&simulator, &format!("/idr/at/alerts/rrn:alerts:us1:x:alert:1:0{suffix}")).status, 404);
    }
}

#[test]
fn evidence_comes_after_its_alert_and_actors_name_who_was_there() {
    let mut world = World::empty();
    let now = at("2026-01-15T12:00:00Z");
    let mut spec = AlertSpec::new(now, now);
    spec.evidence_visible_at = Some(now + Duration::minutes(1));
    spec.evidence_records = 25;
    let alert = world.add_alert(None, spec).unwrap();
    let rrn = world.alert_id(alert).unwrap();
    let simulator = simulator(world);
    let path = format!("/idr/at/alerts/{rrn}/evidences");
    assert_eq!(get(&simulator, &path).json["metadata"]["total_items"], 0);
    simulator.advance(Duration::minutes(1));
    let first = get(&simulator, &path).json;
    assert_eq!(first["evidences"].as_array().unwrap().len(), 20);
    assert_eq!(first["metadata"]["is_last_index"], false);
    let second = get(&simulator, &format!("{path}?index=1")).json;
    assert_eq!(
        (second["evidences"].as_array().unwrap().len(), &second["metadata"]["is_last_index"]),
        (5, &json!(true))
    );
    assert!(first["evidences"][0]["data"].is_string());
    assert_eq!(simulator.truth().alerts[0].evidence.len(), 25);
    let actors = get(&simulator, &format!("/idr/at/alerts/{rrn}/actors")).json;
    for actor in actors["actors"].as_array().unwrap() {
        assert!(["ACCOUNT", "ASSET", "IP_ADDRESS"].contains(&actor["type"].as_str().unwrap()));
    }
}

#[test]
fn a_triage_alert_grows_a_version_with_its_investigation() {
    let mut world = World::empty();
    let now = at("2026-01-15T12:00:00Z");
    let one = world.add_investigation(InvestigationSpec::new(now, now)).unwrap();
    let alert = world.add_alert(Some(one), AlertSpec::new(now, now)).unwrap();
    let path = format!("/idr/at/alerts/{}", world.alert_id(alert).unwrap());
    let change = insightidr_simulator::Change::Status("CLOSED".into());
    world.add_change(one, now + Duration::hours(1), change).unwrap();
    let simulator = simulator(world);
    let before = get(&simulator, &path).json;
    simulator.advance(Duration::hours(1));
    let after = get(&simulator, &path).json;
    assert_eq!((before["version"].as_u64(), after["version"].as_u64()), (Some(1), Some(2)));
    assert_eq!((before["status"].as_str(), after["status"].as_str()), (Some("OPEN"), Some("CLOSED")));
    assert!(at(after["updated_at"].as_str().unwrap()) > at(before["updated_at"].as_str().unwrap()));
}

#[test]
fn pinned_triage_records_are_served_byte_for_byte() {
    let mut world = World::empty();
    let now = at("2026-01-15T12:00:00Z");
    let mut spec = AlertSpec::new(now, now);
    spec.id = Some("rrn:alerts:us1:x:alert:1:aa".to_owned());
    spec.triage_json =
        Some(r#"{ "rrn":"rrn:alerts:us1:x:alert:1:aa","n":1e999 }"#.replace("e999", "00000000000000000000001"));
    spec.evidence = Some(vec![r#"{"rrn":"e1", "data":"{\"a\""}"#.to_owned()]);
    spec.actors = Some(Vec::new());
    let pinned = spec.triage_json.clone().unwrap();
    world.add_alert(None, spec).unwrap();
    let simulator = simulator(world);
    let path = "/idr/at/alerts/rrn:alerts:us1:x:alert:1:aa";
    assert_eq!(get(&simulator, path).text, pinned);
    assert!(get(&simulator, &format!("{path}/evidences")).text.contains(r#"{"rrn":"e1", "data":"{\"a\""}"#));
    assert_eq!(get(&simulator, &format!("{path}/actors")).json["actors"], json!([]));
    assert_eq!(simulator.truth().alerts[0].evidence, ["e1"]);
}

#[test]
fn restricted_evidence_is_an_opt_in_of_the_organization() {
    for restricted in [false, true] {
        let config = WorldConfig { restricted_evidence: restricted, ..WorldConfig::default() };
        let simulator = simulator(World::generate(&config));
        let truth = simulator.truth();
        let with =
            truth.alerts.iter().find(|one| one.kind == AlertKind::DetectionRule && one.evidence_visible_at < truth.now);
        let rrn = with.unwrap().investigation.clone().unwrap();
        let got = get(&simulator, &format!("/idr/v1/restricted/investigations/{rrn}/evidence"));
        if !restricted {
            assert_eq!(got.status, 403);
            continue;
        }
        let evidence = &got.json["indicator_occurrences"][0]["evidence"];
        assert_eq!(evidence[0]["type"], "OdinMatchEvidence");
        let content = evidence[1]["details"]["content"].as_str().unwrap();
        assert!(serde_json::from_str::<Value>(content).unwrap()["process"]["exe_path"].is_string());
    }
}

#[test]
fn a_region_is_silent_in_some_minutes_and_the_answer_is_200_with_a_part() {
    let mut config = settings();
    config.silent_regions = 300;
    let world = World::generate(&WorldConfig { standalone_alerts: 40, ..WorldConfig::default() });
    let simulator = Simulator::new(world, config);
    let body = json!({"search": {"start_time": "2026-01-01T00:00:00Z"}});
    let ask = || post(&simulator, &format!("{TRIAGE}?size=100"), &body);
    let mut partial = 0;
    for _ in 0..200 {
        let answer = ask();
        assert_eq!(answer.status, 200);
        let failures = answer.json["region_failures"].as_array().unwrap().len();
        assert_eq!(ask().json["region_failures"].as_array().unwrap().len(), failures, "all minute long");
        partial += usize::from(failures > 0);
        simulator.advance(Duration::minutes(1));
    }
    assert!((30..90).contains(&partial), "{partial} of 200");
    simulator.set_silent_regions(0);
    assert!((0..50).all(|_| {
        simulator.advance(Duration::minutes(1));
        ask().json["region_failures"].as_array().unwrap().is_empty()
    }));
}
