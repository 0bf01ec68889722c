//! What is wrong with one page, one record or one of the vendor's APIs stays with it: everything else is collected, for however
//! long that lasts.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::cell::Cell;
use std::time::Duration;

use common::native::{Tenant, empty, start, status};
use insightidr_simulator::{AlertSpec, Change, Fault, FaultProfile, InvestigationSpec, Rule, World};
use rapid7_insightidr::collect::checkpoint::Checkpoint;
use rapid7_insightidr::contract::{Setting, SettingValue};

const LIST: &str = "/idr/v2/investigations";

/// Polls every ten minutes.
fn polls(tenant: &mut Tenant, count: usize) {
    for _ in 0..count {
        tenant.advance(Duration::from_secs(600));
        tenant.cycle();
    }
}

fn actions(tenant: &Tenant, action: &str) -> usize {
    tenant.store.values().filter(|artifact| artifact["action"] == action).count()
}

/// An investigation of now with one alert: its RRN.
fn new_one(tenant: &Tenant) -> String {
    let now = tenant.link.simulator.now();
    tenant.link.simulator.change_world(|world| {
        let id = world.add_investigation(InvestigationSpec::new(now, now)).unwrap();
        world.add_alert(Some(id), AlertSpec::new(now, now)).unwrap();
        world.investigation_rrn(id).unwrap().to_owned()
    })
}

/// So many investigations, two hours apart, every second one closed: their RRNs, the oldest first. Each has an alert.
fn two_hours_apart(world: &mut World, count: i64) -> Vec<String> {
    let mut rrns = Vec::new();
    for number in 0..count {
        let created = start() - time::Duration::hours(2 * (count - number));
        let status = if number % 2 == 0 { "CLOSED" } else { "OPEN" };
        let spec = InvestigationSpec { status: status.to_owned(), ..InvestigationSpec::new(created, created) };
        let id = world.add_investigation(spec).unwrap();
        world.add_alert(Some(id), AlertSpec::new(created, created)).unwrap();
        rrns.push(world.investigation_rrn(id).unwrap().to_owned());
    }
    rrns
}

fn missing<'r>(tenant: &Tenant, rrns: &'r [String]) -> Vec<&'r String> {
    let collected = tenant.collected();
    rrns.iter().filter(|rrn| !collected.contains_key(*rrn)).collect()
}

/// No list with this record on it can be read.
fn spoil_pages_with(tenant: &mut Tenant, rrn: &str, code: u16) {
    let name = format!("\"{rrn}\"");
    tenant.link.spoils = Some(Box::new(move |request, response| {
        let is_list = request.target.starts_with(&format!("{LIST}?"));
        if is_list && response.body.windows(name.len()).any(|part| part == name.as_bytes()) {
            match code {
                200 => response.body = b"<html>".to_vec(),
                _ => (response.status, response.body) = (code, Vec::new()),
            }
        }
    }));
}

#[test]
fn a_page_that_can_never_be_read_holds_up_no_other_page() {
    for code in [500, 400, 200] {
        let mut world = empty();
        let rrns = two_hours_apart(&mut world, 300);
        let mut tenant = Tenant::of(world);
        spoil_pages_with(&mut tenant, &rrns[150], code);
        polls(&mut tenant, 1);
        let first = missing(&tenant, &rrns).len();
        assert!(first > 0, "the page was met");
        let new = new_one(&tenant);
        polls(&mut tenant, 40);
        assert_eq!(missing(&tenant, &[new]), Vec::<&String>::new());
        let left = missing(&tenant, &rrns);
        assert!(left.iter().all(|rrn| rrns[149..=152].contains(rrn)), "{code}: {left:?}");
        tenant.link.spoils = None;
        polls(&mut tenant, 1);
        assert_eq!(missing(&tenant, &rrns), Vec::<&String>::new());
        let last = tenant.cycle();
        assert!(last.failure.is_none() && last.degraded.is_empty(), "{last:#?}");
        assert_eq!(actions(&tenant, "alert"), 301);
    }
}

#[test]
fn a_page_that_can_never_be_read_any_more_hides_no_change_elsewhere() {
    let mut world = empty();
    let rrns = two_hours_apart(&mut world, 300);
    let mut tenant = Tenant::of(world);
    tenant.cycle();
    spoil_pages_with(&mut tenant, &rrns[20], 500);
    tenant.advance(Duration::from_secs(7 * 3_600));
    let closed = start() - time::Duration::hours(2 * (300 - 200));
    tenant.link.simulator.change_world(|world| {
        let spec = InvestigationSpec { status: "CLOSED".to_owned(), ..InvestigationSpec::new(closed, closed) };
        let late = world.add_investigation(spec).unwrap();
        world.add_change(late, start() + time::Duration::hours(7), Change::Priority("CRITICAL".into())).unwrap();
    });
    let cycle = tenant.cycle();
    assert!(cycle.degraded.contains_key("investigations"), "it is told: {cycle:#?}");
    let is_critical = |one: &&serde_json::Value| one["severityLabel"] == "critical" && one["action"] != "alert";
    assert_eq!(tenant.store.values().filter(is_critical).count(), 1, "behind that page");
    polls(&mut tenant, 1);
    let state = Checkpoint::decode(tenant.checkpoint.clone().unwrap()).unwrap();
    assert!(state.cycle.is_none() && state.relisted > Some(rapid7_insightidr::times::Utc(0)));
    let before = tenant.link.simulator.request_count();
    polls(&mut tenant, 1);
    let asked = tenant.link.simulator.request_count() - before;
    assert!(asked < 40, "not everything is listed in every poll: {asked} requests");
}

#[test]
fn lists_of_which_no_page_can_be_read_cost_few_requests_and_are_a_failure() {
    let mut world = empty();
    two_hours_apart(&mut world, 300);
    let mut tenant = Tenant::of(world);
    tenant.cycle();
    tenant.link.simulator.set_faults(FaultProfile::new([Rule::new(LIST, Fault::Html {})]));
    tenant.advance(Duration::from_secs(7 * 3_600));
    let before = tenant.link.simulator.request_count();
    let cycle = tenant.cycle();
    assert!(cycle.failure.is_some(), "{cycle:#?}");
    let asked = tenant.link.simulator.request_count() - before;
    assert!(asked < 30, "{asked} requests");
}

#[test]
fn a_list_that_counts_one_row_more_than_it_has_is_collected_and_told() {
    let mut world = empty();
    let rrns = two_hours_apart(&mut world, 150);
    let mut tenant = Tenant::of(world);
    tenant.link.spoils = Some(Box::new(|request, response| {
        if request.target.starts_with(&format!("{LIST}?")) {
            let mut page: serde_json::Value = serde_json::from_slice(&response.body).unwrap();
            let total = page["metadata"]["total_data"].as_u64().unwrap();
            page["metadata"]["total_data"] = (total + 1).into();
            response.body = serde_json::to_vec(&page).unwrap();
        }
    }));
    let first = tenant.cycle();
    assert!(first.failure.is_none() && first.degraded.contains_key("investigations"), "{first:#?}");
    assert_eq!(missing(&tenant, &rrns), Vec::<&String>::new());
    let new = new_one(&tenant);
    polls(&mut tenant, 2);
    assert_eq!(missing(&tenant, &[new]), Vec::<&String>::new());
    assert_eq!(actions(&tenant, "alert"), 151, "alerts that wait for their evidence come");
    tenant.link.spoils = None;
    polls(&mut tenant, 1);
    let last = tenant.cycle();
    assert!(last.failure.is_none() && last.degraded.is_empty(), "{last:#?}");
}

#[test]
fn an_old_investigation_that_gains_an_alert_while_the_first_cycle_goes_on_is_collected() {
    let mut world = empty();
    let created = start() - time::Duration::days(60);
    let id = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    let mut tenant = Tenant::of(world);
    // Between the list of what has gained alerts and that of everything.
    let is_done = Cell::new(false);
    tenant.link.meanwhile = Some(Box::new(move |simulator, target| {
        if target.starts_with("/idr/at/") && !is_done.replace(true) {
            simulator.advance(time::Duration::minutes(10));
            let now = simulator.now();
            simulator.change_world(|world| world.add_alert(Some(id), AlertSpec::new(now, now)).unwrap());
        }
    }));
    tenant.cycle();
    tenant.link.meanwhile = None;
    polls(&mut tenant, 6);
    assert_eq!((actions(&tenant, "alert"), tenant.store.len()), (1, 2));
}

#[test]
fn an_alert_that_two_investigations_show_is_one_artifact_and_stops_nothing() {
    let mut world = empty();
    let created = start() - time::Duration::days(1);
    for _ in 0..2 {
        let id = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
        let json = format!(r#"{{"title":"without an id","created_time":"{}Z"}}"#, "2026-01-01T00:00:00");
        world.add_alert(Some(id), AlertSpec { json: Some(json), ..AlertSpec::new(created, created) }).unwrap();
    }
    let mut tenant = Tenant::of(world);
    let cycle = tenant.cycle();
    assert!(cycle.failure.is_none() && cycle.degraded.is_empty(), "{cycle:#?}");
    assert_eq!((actions(&tenant, "alert"), tenant.store.len()), (1, 3));
}

#[test]
fn alerts_that_do_not_say_to_which_investigation_they_belong_stop_nothing() {
    let mut world = empty();
    let rrns = two_hours_apart(&mut world, 20);
    let mut tenant = Tenant::of(world);
    tenant.link.spoils = Some(Box::new(|request, response| {
        if request.target.contains("/ops/rrns") {
            let text = String::from_utf8(response.body.clone()).unwrap();
            response.body = text.replace("\"investigation_rrn\"", "\"x\"").into_bytes();
        }
    }));
    let cycle = tenant.cycle();
    assert!(cycle.failure.is_none() && cycle.degraded.is_empty(), "{cycle:#?}");
    assert_eq!(missing(&tenant, &rrns), Vec::<&String>::new());
    assert_eq!(actions(&tenant, "alert"), 20);
}

#[test]
fn a_limit_of_the_triage_api_alone_holds_up_nothing_else_however_long_it_lasts() {
    let long = Fault::Status { status: 429, body: None, headers: Default::default(), retry_after: Some("3600".into()) };
    for limit in [status(429), long] {
        let mut world = empty();
        let rrns = two_hours_apart(&mut world, 60);
        let mut tenant = Tenant::of(world);
        tenant.cycle();
        let mut news = Vec::new();
        tenant.link.simulator.set_faults(FaultProfile::new([Rule::new("/idr/at/*", limit)]));
        for _ in 0..6 {
            news.push(new_one(&tenant));
            polls(&mut tenant, 1);
            assert_eq!(missing(&tenant, &news), Vec::<&String>::new());
        }
        let cycle = tenant.cycle();
        assert!(cycle.failure.is_none() && cycle.degraded.contains_key("alerts"), "{cycle:#?}");
        assert!(!cycle.degraded.contains_key("investigations"), "{cycle:#?}");
        tenant.link.simulator.set_faults(FaultProfile::default());
        polls(&mut tenant, 40);
        let with_evidence = |artifact: &&serde_json::Value| {
            artifact["action"] == "alert" && !artifact["tags"].to_string().contains("evidence-unavailable")
        };
        assert_eq!(tenant.store.values().filter(with_evidence).count(), rrns.len() + news.len());
    }
}

#[test]
fn an_endpoint_of_something_else_that_fails_or_is_limited_holds_up_nothing_else() {
    for fault in [status(500), status(429), status(401)] {
        for path in ["*/rapid7-product-alerts", "/idr/v1/comments"] {
            let mut world = empty();
            let rrns = two_hours_apart(&mut world, 250);
            let mut tenant = Tenant::of(world);
            tenant.settings.push(Setting { key: "collect_comments".to_owned(), value: SettingValue::Boolean(true) });
            tenant.link.simulator.set_faults(FaultProfile::new([Rule::new(path, fault.clone())]));
            let cycle = tenant.cycle();
            assert!(cycle.failure.is_none(), "{path}: {cycle:#?}");
            assert!(!cycle.degraded.contains_key("investigations"), "{path}: {cycle:#?}");
            assert_eq!(missing(&tenant, &rrns), Vec::<&String>::new(), "{path}");
            assert_eq!(actions(&tenant, "alert"), 250, "{path}");
            let new = new_one(&tenant);
            polls(&mut tenant, 2);
            assert_eq!(missing(&tenant, &[new]), Vec::<&String>::new());
        }
    }
}

#[test]
fn product_alerts_survive_that_their_endpoint_alone_refuses_the_key_once() {
    let mut world = empty();
    let created = start() - time::Duration::days(1);
    let id = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    let json = r#"{"type":"INSIGHT_AGENT","insight_agent_details":[{"detection_uuid":"u","alert_id":"a"}]}"#;
    world.add_product_alert(id, json).unwrap();
    let mut tenant = Tenant::of(world);
    let rule = Rule::new("*/rapid7-product-alerts", status(401)).times(1);
    tenant.link.simulator.set_faults(FaultProfile::new([rule]));
    let cycle = tenant.cycle();
    assert!(cycle.failure.is_none() && cycle.degraded.contains_key("product-alerts"), "{cycle:#?}");
    polls(&mut tenant, 2);
    assert_eq!(actions(&tenant, "product_alert"), 1);
}
