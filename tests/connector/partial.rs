//! The Alert Triage API where a part of it does not answer: a region behind it, or the read of many alerts. What the rest
//! of it has is used.

use std::time::Duration;

use crate::common::native::{Tenant, empty, missing, polls, sound, start, status};
use crate::evidence_obstacles::{alerts, artifact, evidence_of};
use insightidr_simulator::{AlertSpec, Fault, FaultProfile, Rule, SimulatorConfig, World};
use rapid7_insightidr::contract::{Setting, SettingValue};
use serde_json::Value;
use time::OffsetDateTime;

/// Alerts outside investigations from this time on, so many seconds apart: their RRNs.
fn add_outside(world: &mut World, from: OffsetDateTime, count: i64, seconds: i64) -> Vec<String> {
    let add = |number| {
        let created = from + time::Duration::seconds(seconds * number);
        let alert = world.add_alert(None, AlertSpec { evidence: Some(Vec::new()), ..AlertSpec::new(created, created) });
        world.alert_id(alert.unwrap()).unwrap()
    };
    (0..count).map(add).collect()
}

/// A tenant of which a region does not answer, in which it has something or nothing.
fn of_silent_region(world: World, is_empty: bool) -> Tenant {
    let config = SimulatorConfig { silent_regions: 1_000, silent_regions_are_empty: is_empty, ..Default::default() };
    Tenant::with(world, config)
}

/// Requests of a poll.
fn cost(tenant: &mut Tenant) -> u64 {
    let before = tenant.link.simulator.request_count();
    polls(tenant, 1);
    tenant.link.simulator.request_count() - before
}

fn no_evidence(tenant: &mut Tenant) {
    tenant.settings.push(Setting { key: "collect_evidence".to_owned(), value: SettingValue::Boolean(false) });
}

fn triage_of(tenant: &Tenant, rrn: &str) -> Value {
    let message: Value = serde_json::from_str(artifact(tenant, rrn).unwrap()["message"].as_str().unwrap()).unwrap();
    message["triage"].clone()
}

#[test]
fn what_the_regions_have_that_answer_comes_once_while_another_does_not_answer_for_days() {
    let mut world = empty();
    let mut rrns = add_outside(&mut world, start() - time::Duration::hours(60), 250, 600);
    rrns.extend(add_outside(&mut world, start(), 72 * 2, 1_800));
    let mut tenant = of_silent_region(world, true);
    let cycle = tenant.cycle();
    assert!(cycle.degraded["uninvestigated-alerts"].message.contains("partial data"), "{cycle:#?}");
    for hours in 1..=72 {
        tenant.advance(Duration::from_secs(3_600));
        tenant.cycle();
        let in_time: Vec<String> = rrns[..250 + 2 * (hours - 1)].to_vec();
        assert_eq!(missing(&tenant, &in_time), Vec::<&String>::new(), "after {hours} hours");
    }
    let requests = cost(&mut tenant);
    assert!(requests < 8, "{requests} requests, although a day at most is looked for again");
    tenant.link.simulator.set_silent_regions(0);
    polls(&mut tenant, 3);
    sound(&mut tenant);
    assert_eq!((missing(&tenant, &rrns).len(), tenant.repeated), (0, 0));
}

#[test]
fn what_a_region_has_that_does_not_answer_for_most_of_a_day_comes_when_it_does() {
    let mut world = empty();
    let mut rrns = add_outside(&mut world, start() - time::Duration::days(20), 50, 3_600);
    rrns.extend(add_outside(&mut world, start(), 100, 600));
    let mut tenant = of_silent_region(world, false);
    polls(&mut tenant, 6 * 20);
    let held = missing(&tenant, &rrns).len();
    assert!(held > 40, "{held}: the half is of that region");
    tenant.link.simulator.set_silent_regions(0);
    polls(&mut tenant, 1);
    assert_eq!((missing(&tenant, &rrns).len(), tenant.repeated), (0, 0));
    sound(&mut tenant);
}

#[test]
fn more_than_can_be_remembered_is_not_collected_again_and_again_while_a_region_does_not_answer() {
    let mut world = empty();
    let rrns = add_outside(&mut world, start() - time::Duration::hours(10), 12_000, 2);
    let mut tenant = of_silent_region(world, true);
    no_evidence(&mut tenant);
    polls(&mut tenant, 3);
    assert_eq!(missing(&tenant, &rrns).len(), 0);
    let repeated = tenant.repeated;
    let requests = cost(&mut tenant);
    assert!(requests < 250 && tenant.repeated == repeated, "{requests} requests, {} again", tenant.repeated - repeated);
}

#[test]
fn an_alert_of_an_investigation_has_its_record_while_a_region_does_not_answer_that_has_nothing_of_it() {
    let (mut tenant, rrns) = alerts(3, 1);
    let rule = Rule::new("/idr/at/alerts/ops/*", Fault::EmptyRegionFailures {});
    tenant.link.simulator.set_faults(FaultProfile::new([rule]));
    tenant.cycle();
    for rrn in &rrns {
        assert!(triage_of(&tenant, rrn).is_object());
        assert_eq!(evidence_of(&tenant, rrn), 1);
    }
}

#[test]
fn alerts_have_their_records_where_only_single_reads_of_them_are_there() {
    for code in [400, 401, 403, 404, 405] {
        let (mut tenant, rrns) = alerts(120, 1);
        let outside =
            tenant.link.simulator.change_world(|world| add_outside(world, start() - time::Duration::hours(3), 120, 10));
        tenant.link.simulator.set_faults(FaultProfile::new([Rule::new("/idr/at/alerts/ops/rrns", status(code))]));
        let cycle = sound(&mut tenant);
        assert_eq!(missing(&tenant, &outside).len(), 0, "{code}: {cycle:#?}");
        assert!(rrns.iter().all(|rrn| triage_of(&tenant, rrn).is_object()), "{code}");
        assert!(tenant.store.values().all(|one| !one["tags"].to_string().contains("evidence")), "{code}");
    }
}

#[test]
fn where_no_alert_can_be_read_at_all_that_is_found_out_from_a_few() {
    let (mut tenant, rrns) = alerts(90, 1);
    let key = "collect_uninvestigated_alerts".to_owned();
    tenant.settings.push(Setting { key, value: SettingValue::Boolean(false) });
    tenant.link.spoils = Some(Box::new(|request, response| {
        if request.target.ends_with("/ops/rrns") || is_single(&request.target) {
            (response.status, response.body) = (403, Vec::new());
        }
    }));
    tenant.cycle();
    let singly = tenant.link.simulator.requests().iter().filter(|one| is_single(&one.path)).count();
    assert!(singly <= 3, "{singly} reads of single alerts");
    polls(&mut tenant, 3);
    assert_eq!(missing(&tenant, &rrns).len(), 0);
}

/// Whether that is a read of one alert.
fn is_single(target: &str) -> bool {
    target.rsplit_once('/').is_some_and(|(path, rrn)| path == "/idr/at/alerts" && rrn.starts_with("rrn"))
}

#[test]
fn a_backlog_is_not_looked_through_for_ever_while_a_region_fails() {
    let mut world = empty();
    add_outside(&mut world, start() - time::Duration::days(20), 12_000, 144);
    add_outside(&mut world, start(), 48 * 3_600 / 144, 144);
    let mut tenant = of_silent_region(world, true);
    let key = "collect_evidence".to_owned();
    tenant.settings.push(Setting { key, value: SettingValue::Boolean(false) });
    tenant.cycle();
    let mut cost = 0;
    for _ in 0..36 {
        tenant.advance(Duration::from_secs(3_600));
        let before = tenant.link.simulator.request_count();
        tenant.cycle();
        cost = tenant.link.simulator.request_count() - before;
    }
    // A day has six hundred alerts.
    assert!(cost < 40, "{cost} requests in the last poll");
}
