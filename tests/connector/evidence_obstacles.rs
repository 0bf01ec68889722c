//! Evidence when something about it fails again and again, or takes more than a step has: what can be had is collected.

use std::time::Duration;

use crate::common::native::{Tenant, empty, missing, start, status};
use insightidr_simulator::{AlertSpec, FaultProfile, InvestigationSpec, Rule, SimulatorConfig};
use serde_json::Value;

/// One investigation with so many alerts, each with so many records of evidence: the tenant, and the alerts' RRNs.
pub(crate) fn alerts(count: i64, evidence_records: u16) -> (Tenant, Vec<String>) {
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
pub(crate) fn polls(tenant: &mut Tenant, count: usize) {
    for _ in 0..count {
        tenant.cycle();
        tenant.advance(Duration::from_secs(600));
    }
}

/// The artifact of an alert.
pub(crate) fn artifact<'t>(tenant: &'t Tenant, rrn: &str) -> Option<&'t Value> {
    tenant.store.values().find(|artifact| artifact["sourceInfo"] == rrn)
}

pub(crate) fn evidence_of(tenant: &Tenant, rrn: &str) -> usize {
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
fn evidence_whose_total_is_wrong_for_good_is_given_up_although_no_step_has_room_for_all_that_waits() {
    let mut world = empty();
    let mut rrns = Vec::new();
    for number in 0..60 {
        let created = start() - time::Duration::hours(2 + number);
        let id = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
        for second in 1..=4 {
            let created = created + time::Duration::seconds(second);
            rrns.push(world.add_alert(Some(id), AlertSpec::new(created, created)).unwrap());
        }
    }
    let rrns: Vec<String> = rrns.into_iter().map(|id| world.alert_id(id).unwrap()).collect();
    let config = SimulatorConfig { long_evidence_totals: true, thin_hydration: true, ..SimulatorConfig::default() };
    let mut tenant = Tenant::with(world, config);
    tenant.budget.requests = 80;
    for _ in 0..12 {
        tenant.cycle();
        tenant.advance(Duration::from_secs(3_600));
    }
    let missing = missing(&tenant, &rrns);
    assert!(missing.is_empty(), "{} of {} alerts wait for ever", missing.len(), rrns.len());
    assert!(rrns.iter().all(|rrn| evidence_of(&tenant, rrn) == 1), "with what there is");
}
