//! What is wrong with one page, one record or one of the vendor's APIs stays with it: everything else is collected, for however
//! long that lasts.

use std::cell::Cell;
use std::time::Duration;

use crate::common::native::{Tenant, actions, empty, missing, new_one, polls, start, status};
use insightidr_simulator::{AlertSpec, Change, Fault, FaultProfile, InvestigationSpec, Rule, World};
use rapid7_insightidr::collect::checkpoint::Checkpoint;
use rapid7_insightidr::contract::{Setting, SettingValue};

const LIST: &str = "/idr/v2/investigations";

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

/// No list with one of these records on it can be read.
fn spoil_pages_with(tenant: &mut Tenant, rrns: &[String], code: u16) {
    let names: Vec<String> = rrns.iter().map(|rrn| format!("\"{rrn}\"")).collect();
    tenant.link.spoils = Some(Box::new(move |request, response| {
        let is_list = request.target.starts_with(&format!("{LIST}?"));
        let text = String::from_utf8_lossy(&response.body);
        if is_list && names.iter().any(|name| text.contains(name)) {
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
        spoil_pages_with(&mut tenant, &rrns[150..=150], code);
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
    // Two neighbours: nobody takes that for an outage.
    spoil_pages_with(&mut tenant, &rrns[20..=21], 500);
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
    // The second is the answer when it is asked once more.
    let rule = Rule::new("*/rapid7-product-alerts", status(401)).times(2);
    tenant.link.simulator.set_faults(FaultProfile::new([rule]));
    let cycle = tenant.cycle();
    assert!(cycle.failure.is_none() && cycle.degraded.contains_key("product-alerts"), "{cycle:#?}");
    polls(&mut tenant, 2);
    assert_eq!(actions(&tenant, "product_alert"), 1);
}

#[test]
fn what_one_endpoint_refuses_once_is_asked_for_again_in_the_same_step() {
    let mut world = empty();
    let created = start() - time::Duration::days(1);
    let id = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    let json = r#"{"type":"INSIGHT_AGENT","insight_agent_details":[{"detection_uuid":"u","alert_id":"a"}]}"#;
    world.add_product_alert(id, json).unwrap();
    let mut tenant = Tenant::of(world);
    let refusal = Rule::new("*/rapid7-product-alerts", status(401)).times(1);
    tenant.link.simulator.set_faults(FaultProfile::new([refusal]));
    let cycle = tenant.cycle();
    assert!(cycle.failure.is_none() && cycle.degraded.is_empty(), "{cycle:#?}");
    assert_eq!(actions(&tenant, "product_alert"), 1);
}

#[test]
fn an_endpoint_that_limits_where_another_of_its_api_answers_holds_up_nothing_else() {
    for path in
        ["/idr/at/alerts/ops/rrns", "*/evidences", "/idr/v1/restricted/*", "*/alerts", "*/rapid7-product-alerts"]
    {
        let mut world = empty();
        let mut rrns = two_hours_apart(&mut world, 30);
        let mut tenant = Tenant::of(world);
        for stream in ["collect_comments", "collect_restricted_evidence"] {
            tenant.settings.push(Setting { key: stream.to_owned(), value: SettingValue::Boolean(true) });
        }
        tenant.cycle();
        tenant.link.simulator.set_faults(FaultProfile::new([Rule::new(path, status(429))]));
        let mut ended = 0;
        for _ in 0..16 {
            rrns.push(new_one(&tenant));
            polls(&mut tenant, 1);
            ended += usize::from(Checkpoint::decode(tenant.checkpoint.clone().unwrap()).unwrap().cycle.is_none());
        }
        polls(&mut tenant, 2);
        assert_eq!(missing(&tenant, &rrns), Vec::<&String>::new(), "{path}");
        assert!(ended >= 4, "{path}: cycles come to their ends, {ended} times");
        tenant.link.simulator.set_faults(FaultProfile::default());
        polls(&mut tenant, 80);
        let last = tenant.cycle();
        assert!(last.failure.is_none() && last.degraded.is_empty(), "{path}: {last:#?}");
        assert_eq!(actions(&tenant, "alert"), rrns.len(), "{path}");
    }
}

#[test]
fn what_belongs_to_investigations_and_never_comes_is_given_up_and_costs_no_evidence() {
    for code in [401, 403, 500] {
        let mut world = empty();
        let rrns = two_hours_apart(&mut world, 30);
        let mut tenant = Tenant::of(world);
        // It was there, once.
        tenant.cycle();
        tenant.link.simulator.set_faults(FaultProfile::new([Rule::new("*/rapid7-product-alerts", status(code))]));
        let changed = tenant.link.simulator.now() + time::Duration::minutes(1);
        tenant.link.simulator.change_world(|world| {
            for id in world.investigation_ids() {
                world.add_change(id, changed, Change::Priority("CRITICAL".into())).unwrap();
            }
        });
        polls(&mut tenant, 8);
        // Evidence of a new alert fails, with all tries, for the first time.
        let evidence = Rule::new("*/evidences", status(500)).times(3);
        let product_alerts = Rule::new("*/rapid7-product-alerts", status(code));
        tenant.link.simulator.set_faults(FaultProfile::new([evidence, product_alerts]));
        new_one(&tenant);
        polls(&mut tenant, if code == 500 { 400 } else { 20 });
        let without = |one: &&serde_json::Value| one["tags"].to_string().contains("evidence-");
        assert_eq!(tenant.store.values().filter(without).count(), 0, "{code}");
        assert_eq!(actions(&tenant, "alert"), rrns.len() + 1);
        let before = tenant.link.simulator.request_count();
        let cycle = tenant.cycle();
        let asked = tenant.link.simulator.request_count() - before;
        assert!(asked < 20, "{code}: nothing is owed for ever: {asked} requests");
        assert!(cycle.degraded.is_empty(), "{code}: {cycle:#?}");
        assert_eq!(cycle.unavailable.contains(&"product-alerts".to_owned()), code != 500, "{code}: {cycle:#?}");
    }
}

#[test]
fn investigations_that_cannot_be_read_singly_hide_no_change_of_others() {
    let mut world = empty();
    two_hours_apart(&mut world, 40);
    let mut tenant = Tenant::of(world);
    tenant.cycle();
    tenant.link.spoils = Some(Box::new(|request, response| {
        let single = request.target.strip_prefix(&format!("{LIST}/"));
        if single.is_some_and(|rest| !rest.contains('/')) {
            (response.status, response.body) = (500, Vec::new());
        }
    }));
    // Some leave the list of what is not closed, and are read singly in every cycle from now on.
    let changed = tenant.link.simulator.now() + time::Duration::minutes(1);
    tenant.link.simulator.change_world(|world| {
        let ids: Vec<_> = world.investigation_ids().collect();
        for id in ids.iter().skip(1).step_by(2).take(8) {
            world.add_change(*id, changed, Change::Status("CLOSED".into())).unwrap();
        }
        world.add_change(ids[39], changed, Change::Priority("CRITICAL".into())).unwrap();
    });
    new_one(&tenant);
    polls(&mut tenant, 2);
    let is_critical = |one: &&serde_json::Value| one["severityLabel"] == "critical" && one["action"] != "alert";
    assert_eq!(tenant.store.values().filter(is_critical).count(), 1);
    assert_eq!(actions(&tenant, "alert"), 41);
    polls(&mut tenant, 40);
    let closed = tenant.store.values().filter(|one| one["message"].as_str().unwrap().contains("\"CLOSED\"")).count();
    assert!(closed >= 28, "the listing of everything shows that they are closed: {closed}");
}

#[test]
fn one_investigation_whose_alerts_are_denied_holds_up_no_other() {
    let mut world = empty();
    let rrns = two_hours_apart(&mut world, 40);
    let mut tenant = Tenant::of(world);
    tenant.settings.push(Setting { key: "max_concurrent_requests".to_owned(), value: SettingValue::Integer(1) });
    let denied = rrns.iter().min().unwrap().clone();
    tenant.link.spoils = Some(Box::new(move |request, response| {
        if request.target.contains(&denied) && request.target.contains("/alerts?") {
            (response.status, response.body) = (403, Vec::new());
        }
    }));
    polls(&mut tenant, 1);
    assert_eq!((missing(&tenant, &rrns).len(), actions(&tenant, "alert")), (0, 39));
}

#[test]
fn a_page_of_alerts_that_can_never_be_read_hides_no_other_page() {
    let mut world = empty();
    let created = start() - time::Duration::days(1);
    let id = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    for number in 0..350 {
        let created = created + time::Duration::seconds(number);
        world.add_alert(Some(id), AlertSpec::new(created, created)).unwrap();
    }
    for page in [0, 1] {
        let mut tenant = Tenant::of(world.clone());
        tenant
            .settings
            .push(Setting { key: "collect_uninvestigated_alerts".to_owned(), value: SettingValue::Boolean(false) });
        tenant.link.spoils = Some(Box::new(move |request, response| {
            if request.target.contains(&format!("/alerts?index={page}&")) {
                (response.status, response.body) = (500, Vec::new());
            }
        }));
        polls(&mut tenant, 2);
        assert_eq!(actions(&tenant, "alert"), 250, "page {page}");
        let one = tenant.store.values().find(|one| one["action"] != "alert").unwrap();
        assert!(one["tags"].to_string().contains("alerts-cut"), "it says that it lacks some: {}", one["tags"]);
        tenant.link.spoils = None;
        polls(&mut tenant, 4);
        assert_eq!(actions(&tenant, "alert"), 350);
        let last = tenant.cycle();
        assert!(last.failure.is_none() && last.degraded.is_empty(), "{last:#?}");
    }
}
