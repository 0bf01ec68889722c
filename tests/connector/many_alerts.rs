//! Investigations of more alerts than are remembered of one.

use std::time::Duration;

use crate::common::native::{BUDGET, Tenant, empty, missing, new_one, polls, start, status};
use insightidr_simulator::{AlertKind, AlertSpec, FaultProfile, InvestigationId, InvestigationSpec, Rule};
use rapid7_insightidr::contract::{Budget, Setting, SettingValue};

/// What the host gives a step.
const OF_A_HOST: Budget = Budget { requests: 500, ..BUDGET };

/// An alert of then, shown from then on, without evidence: that costs what evidence costs.
fn spec(created: time::OffsetDateTime, visible: time::OffsetDateTime) -> AlertSpec {
    AlertSpec { evidence: Some(Vec::new()), ..AlertSpec::new(created, visible) }
}

/// A tenant of one investigation with so many alerts, one a second since five days ago, and their names.
fn tenant(alerts: i64) -> (Tenant, InvestigationId, Vec<String>) {
    let mut world = empty();
    let created = start() - time::Duration::days(5);
    let id = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    let names = (0..alerts).map(|number| {
        let at = created + time::Duration::seconds(number);
        let alert = world.add_alert(Some(id), spec(at, at)).unwrap();
        world.alert_id(alert).unwrap()
    });
    let names = names.collect();
    let mut tenant = Tenant::of(world);
    let uninvestigated = "collect_uninvestigated_alerts".to_owned();
    tenant.settings.push(Setting { key: uninvestigated, value: SettingValue::Boolean(false) });
    (tenant, id, names)
}

/// Adds an alert of so many minutes ago that shows in so many minutes: its name.
fn gain(tenant: &Tenant, of: InvestigationId, ago: i64, shows: i64) -> String {
    let now = tenant.link.simulator.now();
    tenant.link.simulator.change_world(|world| {
        let spec = spec(now - time::Duration::minutes(ago), now + time::Duration::minutes(shows));
        let alert = world.add_alert(Some(of), spec).unwrap();
        world.alert_id(alert).unwrap()
    })
}

/// Requests of the next poll, after so many minutes.
fn cost(tenant: &mut Tenant, minutes: u64) -> u64 {
    let before = tenant.link.simulator.request_count();
    tenant.advance(Duration::from_secs(60 * minutes));
    tenant.cycle();
    tenant.link.simulator.request_count() - before
}

#[test]
fn a_cycle_ends_when_an_investigation_of_more_alerts_than_are_remembered_gains_some() {
    for (alerts, requests, gained) in [(4_300, 500, 1), (4_400, 60, 1), (5_000, 1_000, 3), (7_000, 500, 30)] {
        let (mut tenant, of, names) = tenant(alerts);
        tenant.cycle();
        assert_eq!(missing(&tenant, &names).len(), 0);
        tenant.advance(Duration::from_secs(1_800));
        tenant.cycle();
        tenant.budget.requests = requests;
        let gained: Vec<String> = (0..gained).map(|_| gain(&tenant, of, 0, 0)).collect();
        let before = tenant.link.simulator.request_count();
        let steps = (1..400).find(|_| !tenant.step().unwrap().more);
        let sent = tenant.link.simulator.request_count() - before;
        assert!(steps.is_some(), "no end after {sent} requests: {alerts} alerts, {requests} requests a step");
        // They wait for evidence as long as they are young.
        polls(&mut tenant, 4);
        assert_eq!(missing(&tenant, &gained).len(), 0);
    }
}

#[test]
fn what_is_new_is_collected_beside_an_investigation_of_more_alerts_than_are_remembered() {
    let (mut tenant, of, _) = tenant(4_300);
    tenant.cycle();
    tenant.advance(Duration::from_secs(1_800));
    tenant.cycle();
    tenant.budget = OF_A_HOST;
    gain(&tenant, of, 0, 0);
    for _ in 0..4 {
        tenant.step().unwrap();
    }
    tenant.advance(Duration::from_secs(600));
    let new = new_one(&tenant);
    // Six hours, of which each has fifteen steps.
    for _ in 0..6 {
        for _ in 0..15 {
            if !tenant.step().unwrap().more {
                break;
            }
        }
        tenant.advance(Duration::from_secs(3_600));
    }
    assert_eq!(missing(&tenant, &[new]).len(), 0);
}

#[test]
fn looking_again_at_an_investigation_of_more_alerts_than_are_remembered_costs_its_pages_only() {
    let (mut tenant, of, _) = tenant(4_300);
    tenant.cycle();
    tenant.advance(Duration::from_secs(1_800));
    tenant.cycle();
    tenant.budget = OF_A_HOST;
    gain(&tenant, of, 0, 0);
    tenant.cycle();
    let costs: Vec<u64> = (0..6).map(|_| cost(&mut tenant, 5)).collect();
    assert!(costs.iter().all(|cost| *cost < 80), "requests of polls: {costs:?}");
    assert!(costs[5] < 10, "it is not looked at for ever: {costs:?}");
}

#[test]
fn an_alert_that_shows_late_beside_more_alerts_than_are_remembered_is_collected() {
    for minutes in [5, 10, 30, 120] {
        let (mut tenant, of, _) = tenant(4_300);
        tenant.cycle();
        tenant.advance(Duration::from_secs(1_800));
        tenant.cycle();
        tenant.budget = OF_A_HOST;
        // The last one shows at once, and hides those that were made before it and show after the next poll.
        let late: Vec<String> = (1..15).map(|ago| gain(&tenant, of, ago, 4)).collect();
        gain(&tenant, of, 0, 0);
        tenant.cycle();
        for _ in 0..12 {
            cost(&mut tenant, minutes);
        }
        assert_eq!(missing(&tenant, &late).len(), 0, "polls every {minutes} minutes");
    }
}

#[test]
fn an_alert_that_joins_long_after_it_was_made_comes_with_the_next_version() {
    let (mut tenant, of, _) = tenant(4_300);
    tenant.cycle();
    tenant.advance(Duration::from_secs(1_800));
    tenant.cycle();
    tenant.budget = OF_A_HOST;
    // Among the oldest: on pages that the step in which the version is new does not come to.
    let joined: Vec<String> = (0..5).map(|minutes| gain(&tenant, of, 5 * 24 * 60 - minutes, 0)).collect();
    gain(&tenant, of, 0, 0);
    for _ in 0..4 {
        cost(&mut tenant, 10);
    }
    assert_eq!(missing(&tenant, &joined).len(), 0);
}

#[test]
fn alerts_that_come_while_more_than_are_remembered_are_listed_for_the_first_time_are_collected() {
    for requests in [300, 500] {
        let (mut tenant, of, mut names) = tenant(6_000);
        tenant.budget.requests = requests;
        for _ in 0..12 {
            assert!(tenant.step().unwrap().more);
        }
        // All is down for two hours, and the cycle given up.
        tenant.link.simulator.set_faults(FaultProfile::new([Rule::new("/idr/*", status(503))]));
        for _ in 0..4 {
            names.push(gain(&tenant, of, 0, 0));
            polls(&mut tenant, 3);
        }
        tenant.link.simulator.set_faults(FaultProfile::default());
        polls(&mut tenant, 12);
        assert_eq!(missing(&tenant, &names).len(), 0, "{requests} requests a step");
    }
}

#[test]
fn alerts_that_fail_beside_more_than_are_remembered_are_collected_later() {
    let (mut tenant, of, _) = tenant(4_300);
    tenant.cycle();
    tenant.advance(Duration::from_secs(1_800));
    tenant.cycle();
    tenant.budget = OF_A_HOST;
    let kind = AlertKind::UserBehavior;
    let now = tenant.link.simulator.now();
    let mut names = vec![gain(&tenant, of, 0, 0)];
    names.push(tenant.link.simulator.change_world(|world| {
        let alert = world.add_alert(Some(of), AlertSpec { kind, ..AlertSpec::new(now, now) }).unwrap();
        world.alert_id(alert).unwrap()
    }));
    tenant.link.simulator.set_faults(FaultProfile::new([Rule::new("/idr/at/*", status(503))]));
    polls(&mut tenant, 6);
    tenant.link.simulator.set_faults(FaultProfile::default());
    polls(&mut tenant, 24);
    assert_eq!(missing(&tenant, &names).len(), 0);
    let costs: Vec<u64> = (0..3).map(|_| cost(&mut tenant, 5)).collect();
    assert!(costs.iter().all(|cost| *cost < 10), "requests of polls: {costs:?}");
}

#[test]
fn an_alert_that_joins_behind_a_pass_of_an_earlier_version_comes() {
    let (mut tenant, id, _) = tenant(6_000);
    tenant.budget.requests = 1_000;
    for _ in 0..4 {
        assert!(tenant.step().unwrap().more, "it takes several steps");
    }
    // Another version while its pages are gone through, and an older alert on one that is done with.
    let now = tenant.link.simulator.now();
    let joined = tenant.link.simulator.change_world(|world| {
        let old = start() - time::Duration::days(5) + time::Duration::milliseconds(5_950_500);
        let [old, new] = [old, now].map(|created| world.add_alert(Some(id), spec(created, now)).unwrap());
        [world.alert_id(old).unwrap(), world.alert_id(new).unwrap()]
    });
    tenant.cycle();
    tenant.budget = BUDGET;
    polls(&mut tenant, 8);
    assert_eq!(missing(&tenant, &joined), [""; 0]);
}
