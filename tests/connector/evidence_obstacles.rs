//! Evidence when something about it fails again and again, or takes more than a step has: what can be had is collected.

use std::time::Duration;

use crate::common::native::{Tenant, empty, start, status};
use insightidr_simulator::{AlertSpec, FaultProfile, InvestigationSpec, Rule};
use serde_json::Value;

/// One investigation with so many alerts, each with so many records of evidence: the tenant, and the alerts' RRNs.
fn alerts(count: i64, evidence_records: u16) -> (Tenant, Vec<String>) {
    let mut world = empty();
    let created = start() - time::Duration::days(2);
    let id = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    let mut rrns = Vec::new();
    for number in 0..count {
        let created = created + time::Duration::seconds(number);
        let alert =
            world.add_alert(Some(id), AlertSpec { evidence_records, ..AlertSpec::new(created, created) }).unwrap();
        rrns.push(world.alert_id(alert).unwrap());
    }
    (Tenant::of(world), rrns)
}

/// Polls every ten minutes.
fn polls(tenant: &mut Tenant, count: usize) {
    for _ in 0..count {
        tenant.cycle();
        tenant.advance(Duration::from_secs(600));
    }
}

/// The artifact of an alert.
fn artifact<'t>(tenant: &'t Tenant, rrn: &str) -> Option<&'t Value> {
    tenant.store.values().find(|artifact| artifact["sourceInfo"] == rrn)
}

fn evidence_of(tenant: &Tenant, rrn: &str) -> usize {
    let message: Value = serde_json::from_str(artifact(tenant, rrn).unwrap()["message"].as_str().unwrap()).unwrap();
    message["evidence"].as_array().map_or(0, Vec::len)
}

#[test]
fn an_alert_because_of_which_a_read_of_many_fails_costs_no_other_its_evidence() {
    let (mut tenant, rrns) = alerts(100, 1);
    let name = rrns[40].clone();
    tenant.link.spoils = Some(Box::new(move |request, response| {
        if request.body.as_ref().is_some_and(|body| body.contains(&name)) {
            (response.status, response.body) = (500, Vec::new());
        }
    }));
    polls(&mut tenant, 30);
    for rrn in &rrns {
        assert_eq!(evidence_of(&tenant, rrn), 1, "{rrn}");
        assert!(artifact(&tenant, rrn).unwrap()["tags"].to_string().contains("evidence-cut"), "it is told");
    }
}

#[test]
fn evidence_that_was_read_is_kept_when_the_actors_cannot_be() {
    let (mut tenant, rrns) = alerts(3, 2);
    let fault = status(500);
    tenant.link.simulator.set_faults(FaultProfile::new([Rule::new("*/actors", fault)]));
    polls(&mut tenant, 30);
    for rrn in &rrns {
        assert_eq!(evidence_of(&tenant, rrn), 2);
        let tags = artifact(&tenant, rrn).unwrap()["tags"].to_string();
        assert!(tags.contains("evidence-cut"), "{tags}");
    }
}

#[test]
fn evidence_of_more_pages_than_a_step_may_ask_for_stops_nothing() {
    let (mut tenant, rrns) = alerts(2, 900);
    tenant.budget.requests = 10;
    let cycle = tenant.cycle();
    assert!(cycle.failure.is_none() && cycle.degraded.is_empty(), "{cycle:#?}");
    for rrn in &rrns {
        assert!(evidence_of(&tenant, rrn) >= 100);
    }
}

#[test]
fn evidence_that_is_404_once_comes_although_its_alert_is_older_than_the_overlap() {
    let mut world = empty();
    let created = start() - time::Duration::hours(3);
    let id = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    let alert = world.add_alert(Some(id), AlertSpec::new(created, created)).unwrap();
    let rrn = world.alert_id(alert).unwrap();
    let mut tenant = Tenant::of(world);
    let fault = status(404);
    tenant.link.simulator.set_faults(FaultProfile::new([Rule::new("*/evidences", fault.clone()).times(1)]));
    polls(&mut tenant, 3);
    assert_eq!(evidence_of(&tenant, &rrn), 1);

    // What is never there is not waited for.
    let (mut tenant, rrns) = alerts(1, 1);
    tenant.link.simulator.set_faults(FaultProfile::new([Rule::new("*/evidences", fault)]));
    polls(&mut tenant, 3);
    assert!(artifact(&tenant, &rrns[0]).unwrap()["tags"].to_string().contains("evidence-unavailable"));
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
