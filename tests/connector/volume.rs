//! Investigations with thousands of alerts, alerts with megabytes of evidence, and steps that are small for them.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::Duration;

use crate::common::native::{BUDGET, Tenant};
use insightidr_simulator::{AlertSpec, InvestigationId, InvestigationSpec, Simulator, World};
use proptest::prelude::*;
use rapid7_insightidr::collect::checkpoint::{Checkpoint, MAX_ALERTS, Owed};
use rapid7_insightidr::contract::{Budget, Setting, SettingValue};
use time::OffsetDateTime;

/// A tenant with an investigation of a day ago with so many alerts, each with these pieces of evidence.
fn tenant(alerts: usize, evidence: impl Fn(usize) -> Option<Vec<String>>) -> (Tenant, InvestigationId) {
    let mut world = World::empty();
    let start: OffsetDateTime = time::macros::datetime!(2026-11-01 00:00 UTC);
    world.set_start(start);
    let created = start - time::Duration::days(1);
    let investigation = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    for number in 0..alerts {
        let at = created + time::Duration::seconds(number.try_into().unwrap());
        let spec = AlertSpec { evidence: evidence(number), ..AlertSpec::new(at, at) };
        world.add_alert(Some(investigation), spec).unwrap();
    }
    (Tenant::of(world), investigation)
}

/// An alert is there now that was not there before.
fn add_alert(simulator: &Simulator, investigation: InvestigationId) {
    let now = simulator.now();
    simulator.change_world(|world| world.add_alert(Some(investigation), AlertSpec::new(now, now)).unwrap());
}

/// Alerts of the truth that are not in the store exactly once.
fn not_once(tenant: &Tenant) -> Vec<String> {
    let collected = tenant.collected();
    let alerts = tenant.link.simulator.truth().alerts;
    alerts.into_iter().map(|alert| alert.id).filter(|id| collected.get(id) != Some(&1)).collect()
}

fn owed(tenant: &Tenant) -> Vec<Owed> {
    let state = Checkpoint::decode(tenant.checkpoint.clone().unwrap()).unwrap();
    state.known.iter().map(|(_, known)| known.owed).collect()
}

/// Cycles until nothing is owed any more.
fn cycles_to_rest(tenant: &mut Tenant) -> usize {
    for count in 1..10 {
        let cycle = tenant.cycle();
        assert!(cycle.failure.is_none() && cycle.degraded.is_empty(), "{cycle:#?}");
        if owed(tenant).iter().all(|owed| *owed == Owed::Nothing) {
            return count;
        }
        tenant.advance(Duration::from_secs(15 * 60));
    }
    panic!("work is left for ever: {:?}", owed(tenant));
}

#[test]
fn an_investigation_with_more_alerts_than_a_step_may_take_is_collected_whole_and_then_left_alone() {
    for (alerts, requests) in [(1_250, 60), (3_100, 500)] {
        let (mut tenant, _) = tenant(alerts, |_| None);
        tenant.budget = Budget { requests, artifacts: 400, ..BUDGET };
        assert!(cycles_to_rest(&mut tenant) <= 4);
        assert_eq!(not_once(&tenant), Vec::<String>::new());
        // Nobody asks for what is there.
        let before = tenant.link.simulator.requests().len();
        tenant.advance(Duration::from_secs(300));
        assert_eq!(tenant.cycle().new, 0);
        let after = tenant.link.simulator.requests().len();
        assert!(after - before < 10, "{} requests of a cycle with nothing new", after - before);
        assert_eq!(tenant.again, BTreeSet::new());
    }
}

#[test]
fn an_investigation_with_more_alerts_than_are_remembered_is_collected_whole_and_then_left_alone() {
    let (mut tenant, _) = tenant(MAX_ALERTS + 450, |_| Some(Vec::new()));
    tenant.budget = Budget { requests: 300, artifacts: 1_000, ..BUDGET };
    cycles_to_rest(&mut tenant);
    assert_eq!(not_once(&tenant), Vec::<String>::new());
    let before = tenant.link.simulator.requests().len();
    tenant.advance(Duration::from_secs(300));
    assert_eq!(tenant.cycle().new, 0);
    assert!(tenant.link.simulator.requests().len() - before < 10);
}

#[test]
fn more_alerts_outside_investigations_than_are_remembered_come_once() {
    let (mut tenant, _) = tenant(1, |_| None);
    let now = tenant.link.simulator.now();
    let count = 10_300;
    tenant.link.simulator.change_world(|world| {
        for number in 0..count {
            // All within the overlap before what is listed: it will be listed again.
            let at = now - time::Duration::minutes(30) + time::Duration::milliseconds(20 * number);
            let spec = AlertSpec { evidence: Some(Vec::new()), ..AlertSpec::new(at, at) };
            world.add_alert(None, spec).unwrap();
        }
    });
    tenant.settings.push(Setting { key: "collect_evidence".to_owned(), value: SettingValue::Boolean(false) });
    for _ in 0..3 {
        let cycle = tenant.cycle();
        assert!(cycle.failure.is_none() && cycle.degraded.is_empty(), "{cycle:#?}");
        let state = Checkpoint::decode(tenant.checkpoint.clone().unwrap()).unwrap();
        assert!(state.beyond.outside.len() <= 10_000, "{}", state.beyond.outside.len());
        assert_eq!(not_once(&tenant), Vec::<String>::new());
        tenant.advance(Duration::from_secs(300));
    }
}

/// JSON whose text is nothing but what has to be escaped.
fn bulky(bytes: usize) -> String {
    serde_json::json!({ "rrn": "rrn:alerts:us1:o:evidence:1:0", "data": "\"\\".repeat(bytes / 4) }).to_string()
}

#[test]
fn evidence_of_any_size_passes_in_steps_that_keep_to_their_bytes() {
    let (mut tenant, _) = tenant(100, |_| Some(vec![bulky(120_000), bulky(120_000), bulky(60_000)]));
    let concurrency = 4;
    tenant
        .settings
        .push(Setting { key: "max_concurrent_requests".to_owned(), value: SettingValue::Integer(concurrency) });
    tenant.budget = Budget { artifact_bytes: 4 << 20, ..BUDGET };
    // Those under way together when the room has run out: each with its evidence escaped, and its record.
    let slack = u64::try_from(concurrency).unwrap() * 2 * (512 << 10);
    let mut steps = 0;
    loop {
        let batch = tenant.step().unwrap();
        steps += 1;
        let bytes: u64 = batch.artifacts.iter().map(|artifact| u64::try_from(artifact.json.len()).unwrap()).sum();
        assert!(bytes <= tenant.budget.artifact_bytes + slack, "{bytes} bytes in step {steps}");
        if !batch.more {
            break;
        }
    }
    assert!(steps > 5, "{steps} steps");
    assert_eq!(not_once(&tenant), Vec::<String>::new());
    for artifact in tenant.store.values().filter(|artifact| artifact["action"] == "alert") {
        let message: serde_json::Value = serde_json::from_str(artifact["message"].as_str().unwrap()).unwrap();
        assert_eq!(message["evidence"].as_array().unwrap().len(), 3);
    }
}

#[test]
fn more_evidence_than_a_message_holds_is_counted_and_not_kept() {
    let pieces = 60;
    let (mut tenant, _) = tenant(1, |_| Some((0..pieces).map(|_| bulky(40_000)).collect()));
    assert!(tenant.cycle().failure.is_none());
    let alert = tenant.store.values().find(|artifact| artifact["action"] == "alert").unwrap();
    let message: serde_json::Value = serde_json::from_str(alert["message"].as_str().unwrap()).unwrap();
    let kept = message["evidence"].as_array().unwrap().len();
    assert!((5..pieces).contains(&kept), "{kept}");
    assert_eq!(message["witfoo_cut"]["evidence"], pieces - kept);
}

#[test]
fn a_list_of_alerts_that_changes_while_its_pages_are_read_is_read_again() {
    let (mut tenant, investigation) = tenant(250, |_| None);
    let done = Cell::new(false);
    tenant.link.meanwhile = Some(Box::new(move |simulator, target| {
        if target.contains("/alerts?index=1") && !done.replace(true) {
            add_alert(simulator, investigation);
        }
    }));
    assert!(tenant.cycle().degraded.is_empty());
    assert_eq!(not_once(&tenant), Vec::<String>::new());

    // One that changes without end is a failure of the stream, and loses nothing.
    let (mut tenant, investigation) = self::tenant(250, |_| None);
    tenant.link.meanwhile = Some(Box::new(move |simulator, target| {
        if target.contains("/alerts?index=1") {
            add_alert(simulator, investigation);
        }
    }));
    let cycle = tenant.cycle();
    let failure = &cycle.degraded["alerts"];
    assert!(failure.message.contains("different alerts where its totals promise"), "{failure:#?}");
    tenant.link.meanwhile = None;
    for _ in 0..2 {
        tenant.advance(Duration::from_secs(600));
        tenant.cycle();
    }
    assert_eq!(not_once(&tenant), Vec::<String>::new());
}

#[test]
fn an_investigation_of_several_pages_is_left_alone_once_it_is_collected_however_few_the_requests_of_a_step() {
    let (mut tenant, investigation) = tenant(299, |_| Some(Vec::new()));
    tenant.budget = Budget { requests: 12, artifacts: 1, artifact_bytes: 1, ..BUDGET };
    // It is listed again and again as long as the youngest of its alerts is young.
    add_alert(&tenant.link.simulator, investigation);
    for _ in 0..5 {
        assert!(tenant.cycle().failure.is_none());
        tenant.advance(Duration::from_secs(15 * 60));
    }
    assert_eq!(not_once(&tenant), Vec::<String>::new());
    assert!(owed(&tenant).iter().all(|owed| *owed == Owed::Nothing), "{:?}", owed(&tenant));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any number of alerts, in steps of any size, with an alert that comes in between.
    #[test]
    fn a_large_investigation_is_collected_whole_in_steps_of_any_size(
        alerts in 1_usize..500,
        requests in 12_u32..200,
        artifacts in 1_u32..500,
        bytes in prop_oneof![Just(1_u64), 10_000_u64..400_000, Just(64 << 20)],
        pieces in 0_usize..3,
        late in 0_usize..40,
    ) {
        let (mut tenant, investigation) = tenant(alerts, |_| Some(vec!["{}".to_owned(); pieces]));
        tenant.budget = Budget { requests, artifacts, artifact_bytes: bytes, ..BUDGET };
        let mut left = late;
        for _ in 0..3_000 {
            if left == 1 {
                add_alert(&tenant.link.simulator, investigation);
            }
            left = left.saturating_sub(1);
            let batch = tenant.step().unwrap();
            if !batch.more && left == 0 {
                break;
            }
        }
        for _ in 0..4 {
            tenant.advance(Duration::from_secs(15 * 60));
            prop_assert!(tenant.cycle().failure.is_none());
        }
        prop_assert_eq!(not_once(&tenant), Vec::<String>::new());
        prop_assert!(owed(&tenant).iter().all(|owed| *owed == Owed::Nothing), "{:?}", owed(&tenant));
    }
}
