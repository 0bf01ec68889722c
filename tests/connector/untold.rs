//! Alerts that no row of an investigation tells of, or that show in one place before they do in another.

use std::time::Duration;

use crate::common::native::{Tenant, actions, empty, missing, sound, start};
use insightidr_simulator::{AlertSpec, Change, InvestigationSpec, World};
use rapid7_insightidr::contract::{Setting, SettingValue};

#[test]
fn an_alert_that_the_row_of_its_investigation_does_not_tell_is_found_with_the_listing_of_everything() {
    let mut world = empty();
    let created = start() - time::Duration::days(3);
    let one = world
        .add_investigation(InvestigationSpec { untimed: true, ..InvestigationSpec::new(created, created) })
        .unwrap();
    let added = |world: &mut World, at| world.add_alert(Some(one), AlertSpec::new(at, at)).unwrap();
    added(&mut world, created);
    let gained = start() + time::Duration::minutes(30);
    added(&mut world, gained);
    let mut tenant = Tenant::of(world);
    // Where the Alert Triage API has alerts before they join, they come from there.
    tenant
        .settings
        .push(Setting { key: "collect_uninvestigated_alerts".to_owned(), value: SettingValue::Boolean(false) });
    sound(&mut tenant);
    assert_eq!(actions(&tenant, "alert"), 1);
    // The listing notes it, the poll after it reads its alerts.
    for _ in 0..2 {
        tenant.advance(Duration::from_secs(6 * 3_600));
        sound(&mut tenant);
    }
    assert_eq!(actions(&tenant, "alert"), 2);
    let investigations = tenant.store.len() - actions(&tenant, "alert");
    assert_eq!(investigations, 1, "its row has not changed");
}

#[test]
fn an_alert_that_no_row_tells_of_on_an_investigation_that_was_never_collected_comes_for_itself() {
    let mut world = empty();
    // Before the look-back, and without a time of its latest alert.
    let created = start() - time::Duration::days(60);
    let old = InvestigationSpec { untimed: true, ..InvestigationSpec::new(created, created) };
    let one = world.add_investigation(old).unwrap();
    world.add_alert(Some(one), AlertSpec::new(created, created)).unwrap();
    let gained = start() + time::Duration::minutes(30);
    let alert = world.add_alert(Some(one), AlertSpec::new(gained, gained)).unwrap();
    let rrn = world.alert_id(alert).unwrap();
    let mut tenant = Tenant::of(world);
    sound(&mut tenant);
    for _ in 0..3 {
        tenant.advance(Duration::from_secs(3_600));
        sound(&mut tenant);
    }
    assert_eq!(tenant.collected().get(&rrn), Some(&1));
    assert_eq!(actions(&tenant, "alert"), 1, "and not what was there before");
}

#[test]
fn an_alert_whose_evidence_shows_before_its_record_waits_for_that() {
    let mut world = empty();
    let created = start() - time::Duration::minutes(1);
    let one = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    let soon = start() + time::Duration::minutes(1);
    let spec = AlertSpec { triage_visible_at: Some(soon), ..AlertSpec::new(created, created) };
    world.add_alert(Some(one), AlertSpec { evidence_visible_at: Some(soon), ..spec }).unwrap();
    let mut tenant = Tenant::of(world);
    tenant.link.meanwhile = Some(Box::new(|simulator, target| {
        if target.contains("/evidences") {
            simulator.advance(Duration::from_secs(90).try_into().unwrap());
        }
    }));
    sound(&mut tenant);
    tenant.advance(Duration::from_secs(300));
    sound(&mut tenant);
    let alerts: Vec<&serde_json::Value> =
        tenant.store.values().filter(|artifact| artifact["action"] == "alert").collect();
    let message: serde_json::Value = serde_json::from_str(alerts[0]["message"].as_str().unwrap()).unwrap();
    assert!(message["evidence"].is_array() && message["triage"].is_object(), "{message:#}");
}

/// An alert that its record says to belong to an investigation before that lists it, created then: its RRN.
fn said_to_belong(world: &mut World, to: insightidr_simulator::InvestigationId, spec: AlertSpec) -> String {
    let id = "rrn:alerts:us1:11111111-2222-3333-4444-555555555555:alert:1:0123456789abcdef0123456789abcdef";
    let record = serde_json::json!({
        "rrn": id, "created_at": spec.created.format(&time::format_description::well_known::Rfc3339).unwrap(),
        "investigation_rrn": world.investigation_rrn(to).unwrap(), "rule": {"rrn": "r", "mitre_tcodes": ["T1110"]},
    });
    let (id, triage_json) = (Some(id.to_owned()), Some(record.to_string()));
    let spec = AlertSpec { id: id.clone(), triage_json, triage_visible_at: Some(spec.created), ..spec };
    world.add_alert(Some(to), spec).unwrap();
    id.unwrap()
}

#[test]
fn an_alert_that_is_said_to_belong_to_an_investigation_before_that_lists_it_comes_once() {
    for (status, late) in [("CLOSED", 15), ("CLOSED", 30), ("CLOSED", 40), ("OPEN", 40), ("CLOSED", 600)] {
        for minutes in [5, 60] {
            let mut world = empty();
            let created = start() - time::Duration::hours(3);
            let spec = InvestigationSpec { status: status.to_owned(), ..InvestigationSpec::new(created, created) };
            let of = world.add_investigation(spec).unwrap();
            // A newer one is there before it, so that the row does not change by it.
            for at in [created, start() + time::Duration::minutes(2)] {
                world.add_alert(Some(of), AlertSpec::new(at, at)).unwrap();
            }
            let at = start() + time::Duration::minutes(1);
            let spec = AlertSpec::new(at, at + time::Duration::minutes(late));
            let change = Change::Priority("LOW".into());
            world.add_change(of, start() + time::Duration::hours(12), change).unwrap();
            let rrn = said_to_belong(&mut world, of, spec);
            let mut tenant = Tenant::of(world);
            for _ in 0..36 {
                sound(&mut tenant);
                tenant.advance(Duration::from_secs(60 * minutes));
            }
            assert_eq!(tenant.collected().get(&rrn), Some(&1), "{status}, {late}, every {minutes} minutes");
            assert_eq!((actions(&tenant, "alert"), tenant.repeated), (3, 0), "{status}, {late}");
        }
    }
}

#[test]
fn an_alert_of_an_investigation_that_is_gone_before_it_lists_any_comes_for_itself() {
    let mut tenant = Tenant::of(empty());
    sound(&mut tenant);
    tenant.advance(Duration::from_secs(300));
    let now = tenant.link.simulator.now();
    let rrn = tenant.link.simulator.change_world(|world| {
        let of = world.add_investigation(InvestigationSpec::new(now, now)).unwrap();
        world.add_change(of, now + time::Duration::minutes(2), Change::Gone).unwrap();
        said_to_belong(world, of, AlertSpec::new(now, now + time::Duration::minutes(1)))
    });
    for _ in 0..24 {
        sound(&mut tenant);
        tenant.advance(Duration::from_secs(300));
    }
    assert_eq!(missing(&tenant, &[rrn]), Vec::<&String>::new());
}

#[test]
fn alerts_within_the_look_back_of_an_older_investigation_that_tells_no_times_come_for_themselves() {
    let mut world = empty();
    let created = start() - time::Duration::days(60);
    let old = InvestigationSpec { untimed: true, ..InvestigationSpec::new(created, created) };
    let of = world.add_investigation(old).unwrap();
    let add = |hours| {
        let at = start() - time::Duration::hours(hours);
        let alert = world.add_alert(Some(of), AlertSpec::new(at, at)).unwrap();
        world.alert_id(alert).unwrap()
    };
    let rrns: Vec<String> = [50, 5].map(add).into();
    let mut tenant = Tenant::of(world);
    sound(&mut tenant);
    assert_eq!(missing(&tenant, &rrns), Vec::<&String>::new());
    for _ in 0..4 {
        tenant.advance(Duration::from_secs(3_600));
        sound(&mut tenant);
    }
    assert_eq!((actions(&tenant, "alert"), tenant.repeated), (2, 0));
}
