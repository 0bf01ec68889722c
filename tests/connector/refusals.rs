//! Endpoints that refuse the key (401, 403), once or always, while others take it: what can be had is collected, and what
//! a refusal that comes once would cost is asked for again.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::common::native::{Tenant, empty, missing, start, status};
use crate::evidence_obstacles::{alerts, artifact, evidence_of, polls};
use insightidr_simulator::{
    AlertSpec, Fault, FaultProfile, InvestigationSpec, Rule, SimulatorConfig, World, WorldConfig,
};
use rapid7_insightidr::contract::{Setting, SettingValue};

/// An investigation that is made now, of two days ago as its alert is, which has evidence: the alert's RRN.
fn new_alert(tenant: &Tenant) -> String {
    let now = tenant.link.simulator.now();
    let created = now - time::Duration::days(2);
    tenant.link.simulator.change_world(|world| {
        let id = world.add_investigation(InvestigationSpec::new(now, now)).unwrap();
        let spec = AlertSpec { evidence_records: 1, ..AlertSpec::new(created, created) };
        let alert = world.add_alert(Some(id), spec).unwrap();
        world.alert_id(alert).unwrap()
    })
}

fn set(tenant: &Tenant, rules: impl IntoIterator<Item = Rule>) {
    tenant.link.simulator.set_faults(FaultProfile::new(rules));
}

#[test]
fn a_refusal_that_comes_once_costs_no_alert_its_evidence() {
    for number in [401, 403] {
        for first in 0..12 {
            let (mut tenant, rrns) = alerts(3, 1);
            let refusal = Rule::new("/idr/at/*", status(number)).after(first).times(1);
            tenant.link.simulator.set_faults(FaultProfile::new([refusal]));
            polls(&mut tenant, 3);
            for rrn in &rrns {
                assert_eq!(evidence_of(&tenant, rrn), 1, "{number} for request {first}: {rrn}");
            }
        }
    }
    // The first question is whether the API is there.
    let (mut tenant, rrns) = alerts(1, 1);
    tenant.link.simulator.set_faults(FaultProfile::new([Rule::new("*/search", status(404)).times(1)]));
    polls(&mut tenant, 1);
    assert_eq!(evidence_of(&tenant, &rrns[0]), 1);
}

#[test]
fn a_refusal_that_comes_once_costs_an_alert_outside_investigations_nothing() {
    for first in 0..8 {
        let mut world = empty();
        let created = start() - time::Duration::days(2);
        let spec = AlertSpec { evidence_records: 1, ..AlertSpec::new(created, created) };
        let alert = world.add_alert(None, spec).unwrap();
        let rrn = world.alert_id(alert).unwrap();
        let mut tenant = Tenant::of(world);
        let refusal = Rule::new("/idr/at/*", status(403)).after(first).times(1);
        tenant.link.simulator.set_faults(FaultProfile::new([refusal]));
        polls(&mut tenant, 4);
        assert_eq!(evidence_of(&tenant, &rrn), 1, "request {first}");
    }
}

#[test]
fn a_refusal_of_half_an_hour_costs_no_alert_its_evidence_and_a_longer_one_none_that_comes_after_it() {
    for path in ["/idr/at/*", "*/evidences"] {
        for (cycles, is_short) in [(5, true), (24, false)] {
            let (mut tenant, _) = alerts(1, 1);
            polls(&mut tenant, 1);
            set(&tenant, [Rule::new(path, status(403))]);
            let mut meanwhile = Vec::new();
            for _ in 0..cycles {
                meanwhile.push(new_alert(&tenant));
                tenant.advance(Duration::from_secs(300));
                assert_eq!(tenant.cycle().failure, None, "{path}");
            }
            let last = meanwhile.last().unwrap();
            assert_eq!(artifact(&tenant, last).is_none(), is_short, "{path}: it waits for a while, and not for ever");
            set(&tenant, []);
            let after = new_alert(&tenant);
            tenant.advance(Duration::from_secs(300));
            tenant.cycle();
            assert_eq!(evidence_of(&tenant, &after), 1, "{path}: it is asked in every cycle");
            polls(&mut tenant, 6);
            for rrn in &meanwhile {
                assert!(artifact(&tenant, rrn).is_some(), "{path}: {rrn}");
                assert!(!is_short || evidence_of(&tenant, rrn) == 1, "{path}: {rrn}");
            }
            if is_short || path != "/idr/at/*" {
                continue;
            }
            // What was gone as a whole is asked with the next listing of everything.
            polls(&mut tenant, 40);
            let is_whole = |one: &&serde_json::Value| {
                meanwhile.iter().any(|rrn| one["sourceInfo"] == rrn.as_str())
                    && !one["tags"].to_string().contains("evidence-unavailable")
            };
            assert_eq!(tenant.store.values().filter(is_whole).count(), meanwhile.len());
            // And that is it.
            let asked = tenant.link.simulator.request_count();
            let all = tenant.store.len();
            polls(&mut tenant, 40);
            assert_eq!(tenant.store.len(), all);
            let evidence = |one: &&insightidr_simulator::RequestRecord| one.path.ends_with("/evidences");
            let requests = tenant.link.simulator.requests();
            let since = usize::try_from(tenant.link.simulator.request_count() - asked).unwrap();
            let later: Vec<_> = requests.iter().rev().take(since).filter(evidence).collect();
            assert!(later.is_empty(), "{later:#?}");
        }
    }
}

#[test]
fn alerts_do_not_wait_for_evidence_that_is_always_refused() {
    let (mut tenant, _) = alerts(1, 1);
    tenant.link.simulator.set_faults(FaultProfile::new([Rule::new("*/evidences", status(403))]));
    polls(&mut tenant, 2);
    for minutes in [20, 30, 40] {
        let at = start() + time::Duration::minutes(minutes) - time::Duration::days(2);
        let rrn = tenant.link.simulator.change_world(|world| {
            let seen = start() + time::Duration::minutes(minutes);
            let id = world.add_investigation(InvestigationSpec::new(seen, seen)).unwrap();
            let alert = world.add_alert(Some(id), AlertSpec { evidence_records: 1, ..AlertSpec::new(at, at) }).unwrap();
            world.alert_id(alert).unwrap()
        });
        tenant.advance(Duration::from_secs(600));
        let cycle = tenant.cycle();
        assert!(cycle.failure.is_none() && cycle.degraded.is_empty(), "{cycle:#?}");
        assert!(cycle.unavailable.contains(&"evidence".to_owned()), "the operator has to know: {cycle:#?}");
        assert!(artifact(&tenant, &rrn).unwrap()["tags"].to_string().contains("evidence-unavailable"));
    }
}

#[test]
fn a_role_that_was_put_right_is_of_use_within_the_hour() {
    let (mut tenant, rrns) = alerts(1, 1);
    tenant.link.simulator.set_faults(FaultProfile::new([Rule::new("/idr/at/*", status(403))]));
    polls(&mut tenant, 1);
    assert!(artifact(&tenant, &rrns[0]).unwrap()["tags"].to_string().contains("evidence-unavailable"));
    tenant.link.simulator.set_faults(FaultProfile::default());
    tenant.advance(Duration::from_secs(3_600));
    let at = start() + time::Duration::minutes(65);
    let rrn = tenant.link.simulator.change_world(|world| {
        let id = world.add_investigation(InvestigationSpec::new(at, at)).unwrap();
        let alert = world.add_alert(Some(id), AlertSpec { evidence_records: 1, ..AlertSpec::new(at, at) }).unwrap();
        world.alert_id(alert).unwrap()
    });
    polls(&mut tenant, 1);
    assert_eq!(evidence_of(&tenant, &rrn), 1);
}

#[test]
fn evidence_that_cannot_be_had_of_more_alerts_than_a_step_can_ask_for_holds_nothing_up() {
    for fault in [status(401), status(403), status(404), Fault::Html {}] {
        let (mut tenant, mut rrns) = alerts(20, 1);
        tenant.budget.requests = 10;
        set(&tenant, [Rule::new("*/evidences", fault.clone())]);
        for _ in 0..30 {
            polls(&mut tenant, 1);
            if missing(&tenant, &rrns).is_empty() {
                break;
            }
        }
        assert_eq!(missing(&tenant, &rrns), Vec::<&String>::new(), "{fault:?}");
        set(&tenant, []);
        rrns.push(new_alert(&tenant));
        polls(&mut tenant, 2);
        assert_eq!(evidence_of(&tenant, &rrns[20]), 1, "{fault:?}");
    }
}

#[test]
fn a_moment_in_which_the_key_is_refused_costs_no_alert_its_evidence() {
    for path in ["*/evidences", "/idr/at/*"] {
        for number in [401, 403] {
            for times in 1..8 {
                let (mut tenant, _) = alerts(1, 1);
                polls(&mut tenant, 1);
                let rrns: Vec<String> = (0..60).map(|_| new_alert(&tenant)).collect();
                let before = tenant.link.simulator.requests().len();
                set(&tenant, [Rule::new(path, status(number)).times(times)]);
                polls(&mut tenant, 1);
                set(&tenant, []);
                polls(&mut tenant, 2);
                for rrn in &rrns {
                    assert_eq!(evidence_of(&tenant, rrn), 1, "{times} times {number} for {path}: {rrn}");
                }
                let refused = tenant.link.simulator.requests().split_off(before).len();
                assert!(refused < 600, "{refused} requests for {times} times {number}");
            }
        }
    }
}

#[test]
fn an_api_that_is_missing_for_a_moment_after_it_was_there_costs_no_alert_its_evidence() {
    for number in [403, 404] {
        let (mut tenant, _) = alerts(1, 1);
        polls(&mut tenant, 1);
        let rrns: Vec<String> = (0..60).map(|_| new_alert(&tenant)).collect();
        let rules = [Rule::new("*/evidences", status(403)).times(1), Rule::new("*/search", status(number)).times(4)];
        set(&tenant, rules);
        polls(&mut tenant, 1);
        set(&tenant, []);
        polls(&mut tenant, 2);
        for rrn in &rrns {
            assert_eq!(evidence_of(&tenant, rrn), 1, "{number}: {rrn}");
        }
    }
}

#[test]
fn an_endpoint_that_refuses_the_key_leaves_the_others_of_its_api_to_a_busy_tenant() {
    let mut world = empty();
    let created = start() - time::Duration::days(2);
    let spec = || AlertSpec { evidence: Some(Vec::new()), ..AlertSpec::new(created, created) };
    let outside: Vec<_> = (0..5).map(|_| world.add_alert(None, spec()).unwrap()).collect();
    let outside: Vec<String> = outside.into_iter().map(|id| world.alert_id(id).unwrap()).collect();
    let mut tenant = Tenant::of(world);
    set(&tenant, [Rule::new("*/evidences", status(401))]);
    for _ in 0..4 {
        new_alert(&tenant);
        polls(&mut tenant, 1);
    }
    assert_eq!(missing(&tenant, &outside), Vec::<&String>::new());
}

#[test]
fn an_alert_that_is_always_refused_does_not_wait_for_long_where_others_are_not() {
    let (mut tenant, rrns) = alerts(2, 1);
    set(&tenant, [Rule::new(format!("*{}/evidences", rrns[0]), status(403))]);
    polls(&mut tenant, 1);
    assert!(artifact(&tenant, &rrns[0]).is_none());
    for _ in 0..3 {
        let other = new_alert(&tenant);
        polls(&mut tenant, 1);
        assert_eq!(evidence_of(&tenant, &other), 1);
        tenant.advance(Duration::from_secs(1_200));
    }
    assert!(artifact(&tenant, &rrns[0]).unwrap()["tags"].to_string().contains("evidence-unavailable"));
}

#[test]
fn a_refusal_costs_no_evidence_of_an_investigation_in_which_something_else_has_failed() {
    let (mut tenant, rrns) = alerts(3, 1);
    set(&tenant, [Rule::new("/idr/v2/investigations/*/alerts", status(500))]);
    polls(&mut tenant, 1);
    for path in ["/idr/at/alerts/ops/rrns", "*/evidences"] {
        set(&tenant, [Rule::new(path, status(403))]);
        polls(&mut tenant, 1);
    }
    set(&tenant, []);
    polls(&mut tenant, 4);
    for rrn in &rrns {
        assert_eq!(evidence_of(&tenant, rrn), 1);
    }
}

#[test]
fn alerts_outside_investigations_that_the_key_may_not_read_for_a_while_come_when_it_may() {
    for path in ["/idr/at/alerts/ops/rrns", "/idr/at/alerts/rrn:*"] {
        let mut world = empty();
        let created = start() - time::Duration::days(2);
        let outside: Vec<_> =
            (0..5).map(|_| world.add_alert(None, AlertSpec::new(created, created)).unwrap()).collect();
        let outside: Vec<String> = outside.into_iter().map(|id| world.alert_id(id).unwrap()).collect();
        let mut tenant = Tenant::of(world);
        set(&tenant, ["/idr/at/alerts/ops/rrns", path].map(|path| Rule::new(path, status(401))));
        polls(&mut tenant, 30);
        set(&tenant, []);
        polls(&mut tenant, 8);
        assert_eq!(missing(&tenant, &outside), Vec::<&String>::new(), "{path}");
    }
}

#[test]
fn an_alert_outside_investigations_is_not_gone_because_it_is_refused_once() {
    let mut world = empty();
    let created = start() - time::Duration::days(2);
    let outside: Vec<_> = (0..3).map(|_| world.add_alert(None, AlertSpec::new(created, created)).unwrap()).collect();
    let outside: Vec<String> = outside.into_iter().map(|id| world.alert_id(id).unwrap()).collect();
    let mut tenant = Tenant::of(world);
    // Together they cannot be read; singly, not this time.
    let singly = outside.iter().map(|rrn| Rule::new(format!("/idr/at/alerts/{rrn}"), status(403)).times(1));
    set(&tenant, singly.chain([Rule::new("/idr/at/alerts/ops/rrns", status(403))]));
    polls(&mut tenant, 4);
    assert_eq!(missing(&tenant, &outside), Vec::<&String>::new());
}

#[test]
fn alerts_outside_investigations_that_are_always_refused_are_told_of() {
    let mut world = empty();
    let created = start() - time::Duration::days(2);
    world.add_alert(None, AlertSpec::new(created, created)).unwrap();
    let mut tenant = Tenant::of(world);
    set(&tenant, [Rule::new("/idr/at/alerts/ops/rrns", status(403)), Rule::new("/idr/at/alerts/rrn:*", status(403))]);
    for _ in 0..3 {
        let cycle = tenant.cycle();
        assert!(cycle.failure.is_none() && cycle.degraded.contains_key("uninvestigated-alerts"), "{cycle:#?}");
        tenant.advance(Duration::from_secs(600));
    }
}

#[test]
fn a_small_budget_is_enough_where_all_that_stands_beside_alerts_is_refused() {
    let (mut tenant, rrns) = alerts(3, 1);
    for key in ["collect_product_alerts", "collect_comments", "collect_restricted_evidence"] {
        tenant.settings.push(Setting { key: key.to_owned(), value: SettingValue::Boolean(true) });
    }
    tenant.budget.requests = 10;
    let beside = ["*/rapid7-product-alerts", "/idr/v1/comments*", "/idr/v1/restricted/*"];
    set(&tenant, beside.map(|path| Rule::new(path, status(401))));
    polls(&mut tenant, 3);
    for rrn in &rrns {
        assert_eq!(evidence_of(&tenant, rrn), 1);
    }
}

#[test]
fn techniques_that_only_evidence_names_are_those_of_the_alert() {
    let mut world = empty();
    let created = start() - time::Duration::days(2);
    let id = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    let data = r#"{\"mitre_technique_id_and_name\":\"T1059.001 - PowerShell\"}"#;
    let spec =
        AlertSpec { evidence: Some(vec![format!(r#"{{"data":"{data}"}}"#)]), ..AlertSpec::new(created, created) };
    let alert = world.add_alert(Some(id), spec).unwrap();
    let rrn = world.alert_id(alert).unwrap();
    let mut tenant = Tenant::of(world);
    tenant.link.spoils = Some(Box::new(|request, response| {
        // A rule without codes, wherever it is shown.
        if request.target.starts_with("/idr/at/alerts/") && !request.target.contains("/evidences") {
            let text = String::from_utf8(std::mem::take(&mut response.body)).unwrap();
            response.body = text.replace("\"mitre_tcodes\"", "\"none\"").into_bytes();
        }
    }));
    tenant.cycle();
    assert_eq!(artifact(&tenant, &rrn).unwrap()["attackTechniqueIds"], serde_json::json!(["T1059.001"]));
}

/// A tenant in which only reads of single alerts give the codes of their rules, of which the first ones are answered by
/// this status: what has come of the alerts, in several cycles, by their RRNs.
fn with_rules_refused(number: u16, times: usize) -> BTreeMap<String, serde_json::Value> {
    let world = World::generate(&WorldConfig {
        seed: 9,
        investigations: 30,
        old_investigations: 0,
        growth_per_day: 0,
        ..WorldConfig::default()
    });
    let mut tenant = Tenant::with(world, SimulatorConfig { thin_hydration: true, ..SimulatorConfig::default() });
    let asked = Cell::new(0);
    tenant.link.spoils = Some(Box::new(move |request, response| {
        let path = request.target.split('?').next().unwrap();
        if path.starts_with("/idr/at/alerts/rrn:") && !path.ends_with("/evidences") && !path.ends_with("/actors") {
            asked.set(asked.get() + 1);
            if asked.get() <= times {
                (response.status, response.body) = (number, Vec::new());
            }
        }
    }));
    polls(&mut tenant, 12);
    let alerts = tenant.store.into_values().filter(|artifact| artifact["action"] == "alert");
    alerts.map(|alert| (alert["sourceInfo"].as_str().unwrap().to_owned(), alert)).collect()
}

#[test]
fn a_refusal_that_comes_once_costs_no_alert_what_its_rule_says() {
    let wanted = with_rules_refused(200, 0);
    assert!(wanted.values().filter(|alert| alert["attackTechniqueIds"].is_array()).count() > 20);
    // After one that is refused for all, and again when it is repeated, none is asked for in the same step.
    for (number, most) in [(401, 4), (403, 30), (404, 30)] {
        for times in [1, 2, 3, most] {
            let alerts = with_rules_refused(number, times);
            let poorer: Vec<_> = wanted.keys().filter(|rrn| alerts.get(*rrn) != wanted.get(*rrn)).collect();
            assert!(poorer.is_empty(), "{times} times {number}: {poorer:?}, as {:#?}", alerts.get(poorer[0]));
        }
    }
}

#[test]
fn an_alert_whose_rule_is_always_refused_has_its_evidence_and_says_what_it_lacks() {
    let wanted = with_rules_refused(200, 0);
    for number in [401, 403, 404] {
        let alerts = with_rules_refused(number, usize::MAX);
        assert_eq!(alerts.len(), wanted.len());
        for (rrn, alert) in wanted.iter().filter(|(_, alert)| alert["attackTechniqueIds"].is_array()) {
            let without = &alerts[rrn];
            assert!(without["tags"].to_string().contains("\"evidence-cut\""), "{number}: {without:#}");
            assert_eq!(without["clientIP"], alert["clientIP"], "{number}: {rrn}");
        }
    }
}
