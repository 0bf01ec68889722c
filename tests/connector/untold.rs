//! Alerts that no row of an investigation tells of, or that show in one place before they do in another.

use std::time::Duration;

use crate::common::native::{Tenant, actions, empty, sound, start};
use insightidr_simulator::{AlertSpec, InvestigationSpec, World};
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
