//! APIs that are down for an hour or hours: what that costs in records, and in requests to those that are not.

use std::time::Duration;

use crate::common::native::{Tenant, actions, empty, missing, polls, start, status};
use insightidr_simulator::{AlertKind, AlertSpec, FaultProfile, InvestigationSpec, Rule, World};
use serde_json::Value;

/// Every request to these paths is answered with 503.
fn down(tenant: &Tenant, paths: &[&str]) {
    let rules = paths.iter().map(|path| Rule::new(*path, status(503)));
    tenant.link.simulator.set_faults(FaultProfile::new(rules));
}

fn up(tenant: &Tenant) {
    tenant.link.simulator.set_faults(FaultProfile::default());
}

/// An investigation with an alert that has a piece of evidence, all of `created`: the alert's RRN.
fn with_alert(world: &mut World, created: time::OffsetDateTime) -> String {
    let id = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    let alert = world.add_alert(Some(id), AlertSpec::new(created, created)).unwrap();
    world.alert_id(alert).unwrap()
}

/// A world with a thousand of them, and their alerts.
fn thousand() -> (World, Vec<String>) {
    let mut world = empty();
    let created = |number| start() - time::Duration::days(5) + time::Duration::minutes(number);
    let alerts = (0..1_000).map(|number| with_alert(&mut world, created(number))).collect();
    (world, alerts)
}

/// The message of a record.
fn message(tenant: &Tenant, name: &str) -> Value {
    let artifact = tenant.store.values().find(|artifact| artifact["sourceInfo"] == name).expect("it has come");
    serde_json::from_str(artifact["message"].as_str().unwrap()).unwrap()
}

/// Requests of the next poll.
fn cost(tenant: &mut Tenant) -> u64 {
    let before = tenant.link.simulator.request_count();
    polls(tenant, 1);
    tenant.link.simulator.request_count() - before
}

#[test]
fn evidence_survives_that_the_triage_api_is_down_for_three_quarters_of_an_hour() {
    // The API, or all of it but its search.
    for paths in [&["/idr/at/*"][..], &["/idr/at/alerts/ops/rrns", "/idr/at/alerts/rrn*"]] {
        let mut tenant = Tenant::of(empty());
        tenant.cycle();
        polls(&mut tenant, 1);
        down(&tenant, paths);
        let now = tenant.link.simulator.now();
        let rrn = tenant.link.simulator.change_world(|world| with_alert(world, now));
        for _ in 0..9 {
            tenant.advance(Duration::from_secs(300));
            tenant.cycle();
        }
        up(&tenant);
        polls(&mut tenant, 12);
        let message = message(&tenant, &rrn);
        assert_eq!(message["evidence"].as_array().map(Vec::len), Some(1), "{paths:?} {message:#}");
    }
}

#[test]
fn evidence_of_many_alerts_survives_that_only_that_cannot_be_read() {
    let mut world = empty();
    let alerts: Vec<String> =
        (0..20).map(|number| with_alert(&mut world, start() - time::Duration::hours(number + 2))).collect();
    let mut tenant = Tenant::of(world);
    down(&tenant, &["/idr/at/alerts/*/evidences"]);
    tenant.cycle();
    polls(&mut tenant, 5);
    up(&tenant);
    polls(&mut tenant, 24);
    for rrn in alerts {
        let message = message(&tenant, &rrn);
        assert_eq!(message["evidence"].as_array().map(Vec::len), Some(1), "{message:#}");
    }
}

#[test]
fn lists_of_alerts_that_are_down_cost_no_read_of_everything_in_each_poll() {
    let (world, alerts) = thousand();
    let mut tenant = Tenant::of(world);
    down(&tenant, &["/idr/v2/investigations/*/alerts"]);
    tenant.cycle();
    let costs: Vec<u64> = (0..18).map(|_| cost(&mut tenant)).collect();
    assert!(costs.iter().all(|cost| *cost < 120), "requests of polls: {costs:?}");
    up(&tenant);
    // Those that were not asked for have not waited longer each time.
    polls(&mut tenant, 1);
    let left = missing(&tenant, &alerts).len();
    assert!(left < 300, "{left} of a thousand alerts are missing ten minutes after the outage");
    polls(&mut tenant, 40);
    assert_eq!(missing(&tenant, &alerts).len(), 0);
}

#[test]
fn a_triage_api_that_is_down_costs_no_read_of_everything_in_each_poll() {
    let (world, alerts) = thousand();
    let mut tenant = Tenant::of(world);
    down(&tenant, &["/idr/at/*"]);
    tenant.cycle();
    let costs: Vec<u64> = (0..6).map(|_| cost(&mut tenant)).collect();
    assert!(costs.iter().all(|cost| *cost < 150), "requests of polls: {costs:?}");
    up(&tenant);
    polls(&mut tenant, 40);
    assert_eq!(missing(&tenant, &alerts).len(), 0);
    let message = message(&tenant, &alerts[999]);
    assert_eq!(message["evidence"].as_array().map(Vec::len), Some(1), "{message:#}");
}

#[test]
fn an_endpoint_of_product_alerts_that_is_down_costs_no_read_of_everything_in_each_poll() {
    let (world, _) = thousand();
    let mut tenant = Tenant::of(world);
    tenant.cycle();
    down(&tenant, &["*/rapid7-product-alerts"]);
    let now = tenant.link.simulator.now();
    tenant.link.simulator.change_world(|world| {
        for number in 0..1_000 {
            with_alert(world, now + time::Duration::seconds(number / 2));
        }
    });
    let costs: Vec<u64> = (0..8).map(|_| cost(&mut tenant)).collect();
    assert!(costs[3..].iter().all(|cost| *cost < 120), "requests of polls: {costs:?}");
}

#[test]
fn alerts_that_could_not_be_listed_are_not_held_up_by_a_triage_api_that_is_down() {
    let mut world = empty();
    for number in 0..60 {
        let created = start() - time::Duration::days(5) + time::Duration::hours(number);
        let of = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
        let kind = AlertKind::UserBehavior;
        world.add_alert(Some(of), AlertSpec { kind, ..AlertSpec::new(created, created) }).unwrap();
    }
    let mut tenant = Tenant::of(world);
    down(&tenant, &["/idr/v2/investigations/*/alerts"]);
    tenant.cycle();
    // One that waits for evidence comes before them.
    let now = tenant.link.simulator.now();
    tenant.link.simulator.change_world(|world| with_alert(world, now));
    down(&tenant, &["/idr/at/*"]);
    polls(&mut tenant, 2);
    assert_eq!(actions(&tenant, "alert"), 60);
}

#[test]
fn an_alert_outside_investigations_survives_that_it_cannot_be_read_for_hours() {
    let mut tenant = Tenant::of(empty());
    tenant.cycle();
    let now = tenant.link.simulator.now();
    let rrn = tenant.link.simulator.change_world(|world| {
        let alert = world.add_alert(None, AlertSpec::new(now, now)).unwrap();
        world.alert_id(alert).unwrap()
    });
    down(&tenant, &["/idr/at/alerts/ops/rrns", "/idr/at/alerts/rrn*"]);
    for _ in 0..50 {
        tenant.advance(Duration::from_secs(300));
        tenant.cycle();
    }
    up(&tenant);
    polls(&mut tenant, 2);
    assert_eq!(missing(&tenant, &[rrn]).len(), 0, "the alert is lost for good");
}

#[test]
fn an_alert_of_a_forgotten_investigation_survives_that_the_list_of_new_ones_fails_for_hours() {
    let mut world = empty();
    let created = start() - time::Duration::days(20);
    let closed =
        |at, untimed| InvestigationSpec { status: "CLOSED".to_owned(), untimed, ..InvestigationSpec::new(at, at) };
    let of = world.add_investigation(closed(created, true)).unwrap();
    for number in 0..80 {
        world.add_investigation(closed(created + time::Duration::hours(number), false)).unwrap();
    }
    let mut tenant = Tenant::of(world);
    tenant.bounds.known = 30;
    tenant.cycle();
    let now = tenant.link.simulator.now();
    let rrn = tenant.link.simulator.change_world(|world| {
        let alert = world.add_alert(Some(of), AlertSpec::new(now, now)).unwrap();
        world.alert_id(alert).unwrap()
    });
    let query = Some("*sort=created_time*".to_owned());
    let rule = Rule { query, ..Rule::new("/idr/v2/investigations", status(500)) };
    tenant.link.simulator.set_faults(FaultProfile::new([rule]));
    polls(&mut tenant, 9);
    up(&tenant);
    polls(&mut tenant, 6);
    assert_eq!(tenant.collected().get(&rrn), Some(&1));
}

#[test]
fn evidence_that_is_not_answered_for_for_days_keeps_no_alert_for_ever() {
    let scenarios: [(&[&str], usize); 3] = [
        (&["/idr/at/alerts/*/evidences"], 1),
        (&["/idr/at/alerts/*/evidences"], 4),
        (&["/idr/at/alerts/ops/rrns", "/idr/at/alerts/rrn*"], 1),
    ];
    for (paths, each) in scenarios {
        let mut tenant = Tenant::of(empty());
        tenant.cycle();
        down(&tenant, paths);
        // New ones come all the while, and those of the first six hours are looked for.
        let mut first = Vec::new();
        for poll in 0..6 * 30 {
            tenant.advance(Duration::from_secs(600));
            let created = tenant.link.simulator.now() - time::Duration::minutes(5);
            let new = tenant
                .link
                .simulator
                .change_world(|world| (0..each).map(|_| with_alert(world, created)).collect::<Vec<_>>());
            if poll < 36 {
                first.extend(new);
            }
            tenant.cycle();
        }
        assert_eq!(missing(&tenant, &first).len(), 0, "{paths:?}, {each} in each poll, of {}", first.len());
    }
}
