//! Investigations that are open and that no list of what is open shows: what they cost, and what is seen of them.

use std::cell::Cell;
use std::time::Duration;

use crate::common::native::{Tenant, empty, polls, sound, start, status};
use insightidr_simulator::{
    AlertSpec, Change, FaultProfile, InvestigationId, InvestigationSpec, Rule, SimulatorConfig, World,
};
use rapid7_insightidr::api::transport::Response;
use rapid7_insightidr::contract::{Setting, SettingValue};

/// A tenant of this world, of which investigations alone are collected.
fn tenant(world: World) -> Tenant {
    let mut tenant = Tenant::of(world);
    for key in ["collect_alerts", "collect_product_alerts"] {
        tenant.settings.push(Setting { key: key.to_owned(), value: SettingValue::Boolean(false) });
    }
    tenant
}

/// Fifteen hundred investigations in a state, of so many days ago.
fn many(state: &str, days: i64) -> (World, Vec<InvestigationId>) {
    let mut world = empty();
    let ids = (0..1_500).map(|number| {
        let created = start() - time::Duration::days(days) + time::Duration::minutes(number / 2);
        let spec = InvestigationSpec { status: state.to_owned(), ..InvestigationSpec::new(created, created) };
        let of = world.add_investigation(spec).unwrap();
        // Without any alert they would all stand at the end of the list by latest alert.
        world.add_alert(Some(of), AlertSpec::new(created, created)).unwrap();
        of
    });
    let ids = ids.collect();
    (world, ids)
}

/// Requests of the next poll.
fn cost(tenant: &mut Tenant) -> u64 {
    let before = tenant.link.simulator.request_count();
    tenant.advance(Duration::from_secs(600));
    sound(tenant);
    tenant.link.simulator.request_count() - before
}

/// Changes an investigation.
fn change(tenant: &Tenant, of: InvestigationId, change: Change) {
    let now = tenant.link.simulator.now();
    tenant.link.simulator.change_world(|world| world.add_change(of, now, change).unwrap());
}

/// Whether any version of an investigation has this priority.
fn has_come(tenant: &Tenant, severity: &str) -> bool {
    tenant.store.values().any(|artifact| artifact["severityLabel"] == severity)
}

#[test]
fn what_is_open_in_a_state_that_nobody_knew_costs_few_requests_and_a_change_of_it_is_seen_by_the_next_poll() {
    let (world, ids) = many("ON_HOLD", 20);
    let mut tenant = tenant(world);
    sound(&mut tenant);
    polls(&mut tenant, 2);
    for _ in 0..3 {
        let cost = cost(&mut tenant);
        assert!(cost < 40, "{cost} requests of a poll in which nothing has happened");
    }
    change(&tenant, ids[700], Change::Priority("CRITICAL".into()));
    cost(&mut tenant);
    assert!(has_come(&tenant, "critical"));
    // Nor is that so for ever, when they are closed.
    let (all, now) = (tenant.collected(), tenant.link.simulator.now());
    assert_eq!(all.len(), 1_500);
    tenant.link.simulator.change_world(|world| {
        for id in &ids {
            world.add_change(*id, now, Change::Status("CLOSED".into())).unwrap();
        }
    });
    polls(&mut tenant, 1);
    tenant.advance(Duration::from_secs(2 * 86_400));
    polls(&mut tenant, 1);
    let cost = cost(&mut tenant);
    assert!(cost < 6, "{cost} requests of a poll in a tenant in which everything is closed");
}

#[test]
fn what_is_open_for_longer_than_the_vendor_lists_costs_few_requests_and_a_change_of_it_is_seen_within_six_hours() {
    let (world, ids) = many("OPEN", 389);
    let mut tenant = tenant(world);
    sound(&mut tenant);
    tenant.advance(Duration::from_secs(3 * 86_400));
    sound(&mut tenant);
    polls(&mut tenant, 2);
    for _ in 0..3 {
        let cost = cost(&mut tenant);
        assert!(cost < 40, "{cost} requests of a poll in which nothing has happened");
    }
    change(&tenant, ids[700], Change::Priority("CRITICAL".into()));
    polls(&mut tenant, 36);
    assert!(has_come(&tenant, "critical"));
}

#[test]
fn a_vendor_that_does_not_know_one_of_the_states_hides_no_change() {
    let (world, ids) = many("OPEN", 20);
    let mut tenant = tenant(world);
    let rule = Rule { query: Some("*WAITING*".to_owned()), ..Rule::new("/idr/v2/investigations", status(400)) };
    tenant.link.simulator.set_faults(FaultProfile::new([rule]));
    sound(&mut tenant);
    polls(&mut tenant, 2);
    change(&tenant, ids[700], Change::Priority("CRITICAL".into()));
    let cost = cost(&mut tenant);
    assert!(has_come(&tenant, "critical"));
    assert!(cost < 40, "{cost} requests");
}

#[test]
fn a_list_that_is_refused_whatever_it_is_asked_for_is_told() {
    let (world, _) = many("OPEN", 20);
    let mut tenant = tenant(world);
    sound(&mut tenant);
    let rule =
        Rule { query: Some("*sort=created_time*".to_owned()), ..Rule::new("/idr/v2/investigations", status(400)) };
    tenant.link.simulator.set_faults(FaultProfile::new([rule]));
    let cycle = polls(&mut tenant, 1);
    assert!(cycle.failure.is_some() || cycle.degraded.contains_key("investigations"), "{cycle:#?}");
    tenant.link.simulator.set_faults(FaultProfile::default());
    polls(&mut tenant, 1);
    assert!(cost(&mut tenant) < 40);
    let last = tenant.link.simulator.requests();
    assert!(last.iter().rev().take(20).any(|one| one.query.contains("statuses=")), "the states are asked for again");
}

#[test]
fn a_limit_that_ends_the_list_without_statuses_is_waited_for_and_not_taken_for_a_refusal_of_the_list() {
    let (world, ids) = many("OPEN", 20);
    let config = SimulatorConfig { knows_waiting: false, ..SimulatorConfig::default() };
    let mut tenant = Tenant::with(world, config);
    sound(&mut tenant);
    let (refused, limited) = (Cell::new(false), Cell::new(0));
    tenant.link.spoils = Some(Box::new(move |request, response| {
        if refused.replace(response.status == 400) && limited.get() < 1 && response.status == 200 {
            assert!(!request.target.contains("statuses"));
            limited.set(limited.get() + 1);
            *response = Response { status: 429, headers: vec![("retry-after".into(), "7".into())], body: Vec::new() };
        }
    }));
    change(&tenant, ids[700], Change::Priority("CRITICAL".into()));
    let began = tenant.link.simulator.now();
    cost(&mut tenant);
    let waited = tenant.link.simulator.now() - began;
    assert!(waited >= time::Duration::seconds(607), "it waits for as long as the vendor says, and not {waited}");
    assert!(has_come(&tenant, "critical"));
}
