//! Alerts outside investigations of which much is to be done: what fails keeps nothing back that would grow for ever, and
//! what takes more than the vendor allows at a time is done in parts.

use std::time::Duration;

use crate::common::native::{Tenant, empty, missing, start, status};
use insightidr_simulator::{AlertSpec, FaultProfile, RateLimit, Rule, SimulatorConfig, World};
use rapid7_insightidr::collect::checkpoint::Checkpoint;
use rapid7_insightidr::contract::{Setting, SettingValue};
use serde_json::{Value, json};
use time::OffsetDateTime;

/// Adds an alert with so many pieces of evidence and an actor, and gives its RRN.
fn add(world: &mut World, created: OffsetDateTime, evidence: usize) -> String {
    let pieces = (0..evidence).map(|number| json!({"rrn": format!("e{number}"), "data": "{}"}).to_string());
    let spec = AlertSpec {
        evidence: Some(pieces.collect()),
        actors: Some(vec![json!({"rrn": "a", "type": "ACCOUNT", "display_name": "jdoe"}).to_string()]),
        ..AlertSpec::new(created, created)
    };
    let id = world.add_alert(None, spec).unwrap();
    world.alert_id(id).unwrap()
}

/// A vendor whose lists of evidence count one piece more than there is: each alert waits until that is believed.
fn miscounting() -> SimulatorConfig {
    SimulatorConfig { long_evidence_totals: true, ..SimulatorConfig::default() }
}

#[test]
fn what_is_listed_anew_in_each_cycle_does_not_grow_while_alert_after_alert_fails() {
    let mut world = empty();
    let every = time::Duration::minutes(10);
    let rrns: Vec<String> = (-6..288).map(|number| add(&mut world, start() + number * every, 1)).collect();
    let mut tenant = Tenant::with(world, miscounting());
    for _ in 0..300 {
        tenant.cycle();
        tenant.advance(Duration::from_secs(600));
        let checkpoint = Checkpoint::decode(tenant.checkpoint.clone().unwrap()).unwrap();
        let (Some(done), now) = (checkpoint.beyond.uninvestigated, tenant.link.simulator.now()) else {
            panic!("nothing is listed");
        };
        // Hours, that is, not days.
        let behind = now - OffsetDateTime::from_unix_timestamp(done.0.div_euclid(1_000_000)).unwrap();
        assert!(behind < time::Duration::hours(5), "{behind} are listed anew");
    }
    assert_eq!(missing(&tenant, &rrns), Vec::<&String>::new());
}

#[test]
fn one_failure_in_a_first_collection_of_more_alerts_than_are_remembered_loses_none() {
    for fails in ["/evidences", ""] {
        let mut world = empty();
        let every = time::Duration::seconds(180);
        let from = start() - time::Duration::days(27);
        let rrns: Vec<String> = (0..12_000).map(|number| add(&mut world, from + number * every, 0)).collect();
        let mut tenant = Tenant::of(world);
        // Once: with all tries of that request.
        let path = if fails.is_empty() {
            "/idr/at/alerts/ops/rrns".to_owned()
        } else {
            format!("/idr/at/alerts/{}{fails}", rrns[5])
        };
        tenant.link.simulator.set_faults(FaultProfile::new([Rule::new(&path, status(500)).times(3)]));
        for _ in 0..30 {
            tenant.cycle();
            tenant.advance(Duration::from_secs(1_800));
        }
        assert_eq!(missing(&tenant, &rrns), Vec::<&String>::new(), "{path}");
        assert!(tenant.again.is_empty(), "came again: {:?}", tenant.again);
    }
}

#[test]
fn a_window_that_takes_more_than_the_vendor_allows_at_a_time_is_gone_through_in_parts() {
    let mut world = empty();
    let every = time::Duration::minutes(40);
    let rrns: Vec<String> = (1..950).map(|number| add(&mut world, start() - number * every, 0)).collect();
    // Its totals move, so that it is listed several times; it limits the rate without saying what is left.
    let config = SimulatorConfig {
        loose_rrns: true,
        rate_headers: false,
        rate_limit: Some(RateLimit { requests: 40, window: Duration::from_secs(60) }),
        ..SimulatorConfig::default()
    };
    let mut tenant = Tenant::with(world, config);
    tenant.settings.push(Setting { key: "collect_evidence".to_owned(), value: SettingValue::Boolean(false) });
    let mut polls = 0;
    while !missing(&tenant, &rrns).is_empty() {
        polls += 1;
        assert!(polls < 100, "{} are missing", missing(&tenant, &rrns).len());
        tenant.cycle();
        tenant.advance(Duration::from_secs(61));
    }
}

#[test]
fn what_can_be_read_of_alerts_is_used_when_they_are_waited_for_no_longer() {
    let mut world = empty();
    let rrns: Vec<String> =
        (1..9).map(|number| add(&mut world, start() - number * time::Duration::hours(5), 0)).collect();
    // Each poll meets the limit: then no failure says anything of one of them, and they are waited for longer.
    let limit = RateLimit { requests: 6, window: Duration::from_secs(60) };
    let config = SimulatorConfig { triage_rate_limit: Some(limit), rate_headers: false, ..miscounting() };
    let mut tenant = Tenant::with(world, config);
    for _ in 0..300 {
        tenant.cycle();
        tenant.advance(Duration::from_secs(61));
    }
    assert_eq!(missing(&tenant, &rrns), Vec::<&String>::new());
    for artifact in tenant.store.values() {
        let message: Value = serde_json::from_str(artifact["message"].as_str().unwrap()).unwrap();
        assert_eq!(message["actors"][0]["display_name"], "jdoe", "{artifact:#}");
        let tags = artifact["tags"].as_array().unwrap();
        assert!(tags.contains(&"evidence-cut".into()) && !tags.contains(&"evidence-unavailable".into()), "{tags:?}");
    }
}
