//! What happens seldom: a hundred closed investigations gain alerts at once, the clock was wrong for a while, the region is
//! changed, alerts are still to come when nothing else is wrong.

use std::time::Duration;

use crate::common::native::{Tenant, actions, empty, sound, start, status};
use insightidr_simulator::{
    AlertSpec, Change, Fault, FaultProfile, InvestigationSpec, Rule, SimulatorConfig, World, WorldConfig,
};
use rapid7_insightidr::contract::{Setting, SettingValue};
use time::OffsetDateTime;

fn closed(world: &mut World, created: OffsetDateTime) -> insightidr_simulator::InvestigationId {
    let spec = InvestigationSpec { status: "CLOSED".to_owned(), ..InvestigationSpec::new(created, created) };
    world.add_investigation(spec).unwrap()
}

#[test]
fn more_than_a_page_of_closed_investigations_that_gain_alerts_is_found_by_the_next_poll() {
    let mut world = empty();
    for number in 0..250 {
        let id = closed(&mut world, start() - time::Duration::days(60) + time::Duration::minutes(number));
        let at = start() + time::Duration::minutes(30) + time::Duration::seconds(number);
        world.add_alert(Some(id), AlertSpec::new(at, at)).unwrap();
    }
    let mut tenant = Tenant::of(world);
    assert_eq!(sound(&mut tenant).new, 0);
    // Long before everything is listed again.
    tenant.advance(Duration::from_secs(3_600));
    sound(&mut tenant);
    let truth = tenant.link.simulator.truth();
    let collected = tenant.collected();
    let missing = |name: &&String| !collected.contains_key(*name);
    assert_eq!(truth.alerts.iter().map(|alert| &alert.id).filter(missing).count(), 0, "alerts are missing");
    assert_eq!(
        truth.investigations.iter().map(|one| &one.rrn).filter(missing).count(),
        0,
        "investigations are missing"
    );
}

/// A tenant that polled once when the clock was right and once when it was nine days ahead, and for which it is right again.
fn after_a_clock_that_was_ahead(mut tenant: Tenant) -> Tenant {
    sound(&mut tenant);
    tenant.link.simulator.set_now(start() + time::Duration::days(9));
    sound(&mut tenant);
    tenant.link.simulator.set_now(start() + time::Duration::minutes(10));
    tenant
}

#[test]
fn a_clock_that_was_ahead_and_is_right_again_costs_nothing() {
    let mut world = empty();
    let old = closed(&mut world, start() - time::Duration::days(60));
    let mut tenant = after_a_clock_that_was_ahead(Tenant::of(world));
    let at = start() + time::Duration::minutes(6);
    tenant.link.simulator.change_world(|world| {
        let new = world.add_investigation(InvestigationSpec::new(at, at)).unwrap();
        for id in [new, old] {
            world.add_alert(Some(id), AlertSpec::new(at, at)).unwrap();
        }
        world.add_alert(None, AlertSpec::new(at, at)).unwrap();
    });
    for _ in 0..4 {
        sound(&mut tenant);
        tenant.advance(Duration::from_secs(600));
    }
    let truth = tenant.link.simulator.truth();
    let collected = tenant.collected();
    let all = truth.alerts.iter().map(|alert| &alert.id).chain(truth.investigations.iter().map(|one| &one.rrn));
    assert_eq!(all.filter(|name| collected.get(*name) != Some(&1)).collect::<Vec<_>>(), Vec::<&String>::new());
}

#[test]
fn a_clock_that_was_ahead_does_not_put_off_the_listing_of_everything() {
    let mut world = empty();
    let old = closed(&mut world, start() - time::Duration::days(2));
    let mut tenant = after_a_clock_that_was_ahead(Tenant::of(world));
    let changed = start() + time::Duration::hours(1);
    tenant
        .link
        .simulator
        .change_world(|world| world.add_change(old, changed, Change::Priority("CRITICAL".into())).unwrap());
    let mut new = 0;
    for _ in 0..4 {
        tenant.advance(Duration::from_secs(6 * 3_600));
        new += sound(&mut tenant).new;
    }
    assert_eq!(new, 1, "the change of a closed investigation is found within six hours");
}

#[test]
fn a_clock_that_was_ahead_does_not_put_off_what_failed_then() {
    let mut world = empty();
    one_with_an_alert(&mut world);
    let mut tenant = Tenant::of(world);
    tenant.link.simulator.set_now(start() + time::Duration::days(9));
    tenant.link.simulator.set_faults(on("/idr/v2/investigations/*/alerts", Fault::Html {}, u64::MAX));
    assert!(tenant.cycle().degraded.contains_key("alerts"));
    tenant.link.simulator.set_now(start());
    polls(&mut tenant, 1);
    assert_eq!(actions(&tenant, "alert"), 1);
}

#[test]
fn a_clock_that_was_ahead_hides_no_comment() {
    let mut world = empty();
    let old = closed(&mut world, start() - time::Duration::days(2));
    let mut tenant = Tenant::of(world);
    tenant.settings.push(Setting { key: "collect_comments".to_owned(), value: SettingValue::Boolean(true) });
    let mut tenant = after_a_clock_that_was_ahead(tenant);
    let at = start() + time::Duration::minutes(6);
    tenant.link.simulator.change_world(|world| {
        world.add_comment(old, at, r#"{"rrn":"rrn:collaboration:us:o:comment:C","body":"seen"}"#).unwrap();
        world.add_change(old, at, Change::Viewed).unwrap();
    });
    polls(&mut tenant, 1);
    assert_eq!(actions(&tenant, "comment"), 1);
}

#[test]
fn alerts_that_are_still_to_come_are_told_by_every_poll_until_they_are_there() {
    let mut world = empty();
    let created = start() - time::Duration::hours(5);
    let id = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    world.add_alert(Some(id), AlertSpec::new(created, created)).unwrap();
    let mut tenant = Tenant::of(world);
    let html = Rule::new("/idr/v2/investigations/*/alerts", Fault::Html {}).times(u64::MAX);
    tenant.link.simulator.set_faults(FaultProfile::new([html]));
    assert_eq!(tenant.cycle().degraded["alerts"].http_status, Some(200));
    tenant.link.simulator.set_faults(FaultProfile::default());
    // Not asked for again yet, and not there: so all is not well.
    tenant.advance(Duration::from_secs(60));
    let waiting = tenant.cycle();
    assert_eq!(waiting.new, 0);
    let failure = &waiting.degraded["alerts"];
    assert!(failure.message.contains("the alerts of 1 investigation(s) could not be collected yet"), "{failure:#?}");
    tenant.advance(Duration::from_secs(600));
    assert_eq!(sound(&mut tenant).new, 1);
}

#[test]
fn alerts_that_are_still_to_come_because_they_were_refused_are_told_with_the_refusal() {
    let mut world = empty();
    one_with_an_alert(&mut world);
    let mut tenant = Tenant::of(world);
    tenant.link.simulator.set_faults(FaultProfile::new([Rule::new("/idr/v2/investigations/*/alerts", status(403))]));
    tenant.cycle();
    tenant.advance(Duration::from_secs(60));
    let failure = tenant.cycle().degraded["alerts"].clone();
    assert!(failure.message.ends_with("could not be collected yet: the last answer was HTTP 403"), "{failure:#?}");
    assert!(failure.remedy.contains("read access to InsightIDR"), "{failure:#?}");
}

/// An investigation of five hours ago that is open, with an alert.
fn one_with_an_alert(world: &mut World) -> insightidr_simulator::InvestigationId {
    let created = start() - time::Duration::hours(5);
    let id = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    world.add_alert(Some(id), AlertSpec::new(created, created)).unwrap();
    id
}

const PRODUCT_ALERT: &str =
    r#"{"type":"THREAT_COMMAND","threat_command_details":{"alert_id":"7","alert_type":"Phishing"}}"#;

fn on(path: &str, fault: Fault, times: u64) -> FaultProfile {
    FaultProfile::new([Rule::new(path, fault).times(times)])
}

/// Polls every ten minutes, without faults from now on.
fn polls(tenant: &mut Tenant, count: usize) {
    tenant.link.simulator.set_faults(FaultProfile::default());
    for _ in 0..count {
        tenant.advance(Duration::from_secs(600));
        tenant.cycle();
    }
    sound(tenant);
}

#[test]
fn product_alerts_that_could_not_be_read_are_asked_for_again() {
    let mut world = empty();
    let id = one_with_an_alert(&mut world);
    world.add_product_alert(id, PRODUCT_ALERT).unwrap();
    let mut tenant = Tenant::of(world);
    tenant.link.simulator.set_faults(on("/idr/v2/investigations/*/rapid7-product-alerts", Fault::Html {}, 9));
    assert!(tenant.cycle().degraded.contains_key("product-alerts"));
    polls(&mut tenant, 4);
    assert_eq!(actions(&tenant, "product_alert"), 1);
}

/// A poll in which the product alerts of a new investigation are 404, once, at an endpoint that has answered before.
fn after_one_404() -> (Tenant, crate::common::native::Cycle) {
    let mut world = empty();
    one_with_an_alert(&mut world);
    let mut tenant = Tenant::of(world);
    sound(&mut tenant);
    // Old enough not to be gone back to for its youth.
    tenant.advance(Duration::from_secs(3 * 3_600));
    tenant.link.simulator.change_world(|world| {
        let at = start() + time::Duration::minutes(10);
        let id = world.add_investigation(InvestigationSpec::new(at, at)).unwrap();
        world.add_product_alert(id, PRODUCT_ALERT).unwrap();
    });
    tenant.link.simulator.set_faults(on("/idr/v2/investigations/*/rapid7-product-alerts", status(404), 1));
    let cycle = tenant.cycle();
    (tenant, cycle)
}

#[test]
fn one_404_of_an_endpoint_that_is_there_switches_nothing_off() {
    assert_eq!(after_one_404().1.unavailable, Vec::<String>::new());
}

#[test]
fn what_is_404_once_at_an_endpoint_that_is_there_is_asked_for_again() {
    let (mut tenant, _) = after_one_404();
    polls(&mut tenant, 6);
    assert_eq!(actions(&tenant, "product_alert"), 1);
}

#[test]
fn a_404_for_one_investigation_is_not_believed_where_another_is_answered_at_the_same_time() {
    let mut world = empty();
    for _ in 0..3 {
        let id = one_with_an_alert(&mut world);
        world.add_product_alert(id, PRODUCT_ALERT).unwrap();
    }
    let mut tenant = Tenant::of(world);
    // Nothing is known of the endpoint yet.
    tenant.link.simulator.set_faults(on("/idr/v2/investigations/*/rapid7-product-alerts", status(404), 1));
    assert_eq!(tenant.cycle().unavailable, Vec::<String>::new());
    polls(&mut tenant, 8);
    assert_eq!(actions(&tenant, "product_alert"), 3);
}

#[test]
fn an_alert_waits_for_what_its_rule_says_when_that_cannot_be_read() {
    let mut checked = 0;
    for seconds in 0..6 {
        let mut world = empty();
        let created = start() - time::Duration::hours(5) + time::Duration::seconds(seconds);
        let id = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
        let alert = world.add_alert(Some(id), AlertSpec::new(created, created)).unwrap();
        let alert = world.alert_id(alert).unwrap();
        let mut tenant = Tenant::with(world, SimulatorConfig { thin_hydration: true, ..SimulatorConfig::default() });
        tenant.link.simulator.set_faults(on(&format!("/idr/at/alerts/{alert}"), status(500), 3));
        tenant.cycle();
        polls(&mut tenant, 4);
        let artifact = tenant.store.values().find(|artifact| artifact["sourceInfo"] == alert.as_str()).unwrap();
        let ids = artifact["attackTechniqueIds"].as_array().cloned().unwrap_or_default();
        let truth = tenant.link.simulator.truth();
        for code in truth.alerts[0].mitre_tcodes.iter().filter(|code| code.starts_with("T1")) {
            assert!(ids.iter().any(|id| id == code), "{code} is not among {ids:?}");
            checked += 1;
        }
    }
    assert!(checked > 0);
}

#[test]
fn a_cycle_that_is_taken_up_again_hours_later_is_followed_by_another_at_once() {
    let mut world = empty();
    for number in 0..40 {
        let created = start() - time::Duration::days(1) + time::Duration::minutes(number);
        world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    }
    let late = start() + time::Duration::hours(2);
    world.add_investigation(InvestigationSpec::new(late, late)).unwrap();
    let mut tenant = Tenant::of(world);
    tenant.budget.requests = 20;
    tenant.leaves_after = Some(1);
    assert!(tenant.cycle().left);
    tenant.advance(Duration::from_secs(3 * 3_600));
    sound(&mut tenant);
    assert_eq!(tenant.store.len(), 41);
}

#[test]
fn an_investigation_that_is_not_found_for_a_moment_keeps_what_it_is_owed() {
    let mut world = empty();
    one_with_an_alert(&mut world);
    let mut tenant = Tenant::of(world);
    tenant.link.simulator.set_faults(on("/idr/v2/investigations/*/alerts", Fault::Html {}, 9));
    tenant.cycle();
    // One copy of the vendor's data does not know it, when it is gone back to.
    tenant.link.simulator.set_faults(on("/idr/v2/investigations/*", status(404), 1));
    tenant.advance(Duration::from_secs(600));
    tenant.cycle();
    polls(&mut tenant, 6);
    assert_eq!(actions(&tenant, "alert"), 1);
}

#[test]
fn a_single_read_that_fails_is_told() {
    let mut world = empty();
    let id = one_with_an_alert(&mut world);
    world.add_change(id, start() + time::Duration::minutes(10), Change::Status("CLOSED".into())).unwrap();
    let mut tenant = Tenant::of(world);
    sound(&mut tenant);
    tenant.advance(Duration::from_secs(1_200));
    tenant.link.simulator.set_faults(on("/idr/v2/investigations/*", Fault::Html {}, 9));
    assert!(tenant.cycle().degraded.contains_key("investigations"));
    polls(&mut tenant, 1);
    assert_eq!(actions(&tenant, "closed"), 1);
}

#[test]
fn alerts_that_failed_for_days_are_there_six_hours_after_they_can_be_had() {
    let mut world = empty();
    one_with_an_alert(&mut world);
    let mut tenant = Tenant::of(world);
    tenant.link.simulator.set_faults(on("/idr/v2/investigations/*/alerts", Fault::Html {}, u64::MAX));
    for _ in 0..80 {
        tenant.cycle();
        tenant.advance(Duration::from_secs(3_600));
    }
    tenant.link.simulator.set_faults(FaultProfile::default());
    for _ in 0..7 {
        tenant.advance(Duration::from_secs(3_600));
        tenant.cycle();
    }
    assert_eq!(actions(&tenant, "alert"), 1);
}

#[test]
fn alerts_of_a_young_investigation_that_its_row_does_not_show_are_found() {
    let mut world = empty();
    let created = start() - time::Duration::minutes(5);
    let id = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    let spec = AlertSpec {
        on_row_at: Some(start() + time::Duration::days(30)),
        ..AlertSpec::new(created, created + time::Duration::minutes(30))
    };
    world.add_alert(Some(id), spec).unwrap();
    let mut tenant = Tenant::of(world);
    polls(&mut tenant, 6);
    assert_eq!(actions(&tenant, "alert"), 1);
}

/// The evidence in the message of the only alert, and its tags.
fn evidence(tenant: &Tenant) -> (Vec<String>, serde_json::Value) {
    let alert = tenant.store.values().find(|artifact| artifact["action"] == "alert").unwrap();
    let message: serde_json::Value = serde_json::from_str(alert["message"].as_str().unwrap()).unwrap();
    let pieces = message["evidence"].as_array().cloned().unwrap_or_default();
    (pieces.iter().map(|piece| piece["n"].to_string()).collect(), alert["tags"].clone())
}

/// An investigation of a day ago with an alert that has so many small pieces of evidence.
fn with_evidence(count: usize) -> Tenant {
    let mut world = empty();
    let created = start() - time::Duration::days(1);
    let id = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    let pieces = (0..count).map(|number| format!(r#"{{"n":{number}}}"#)).collect();
    world.add_alert(Some(id), AlertSpec { evidence: Some(pieces), ..AlertSpec::new(created, created) }).unwrap();
    Tenant::of(world)
}

#[test]
fn the_same_page_of_evidence_again_is_asked_for_anew() {
    let mut tenant = with_evidence(150);
    let rule = Rule::new("/idr/at/alerts/*/evidences", Fault::DuplicatePage {}).after(1).times(1);
    tenant.link.simulator.set_faults(FaultProfile::new([rule]));
    tenant.cycle();
    polls(&mut tenant, 3);
    assert_eq!(evidence(&tenant).0, (0..150).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[test]
fn more_evidence_than_is_read_is_told_by_a_tag() {
    for (count, tags) in [(999, serde_json::Value::Null), (1_001, serde_json::json!(["evidence-cut"]))] {
        let mut tenant = with_evidence(count);
        sound(&mut tenant);
        let (pieces, found) = evidence(&tenant);
        assert_eq!((pieces.len(), found), (count.min(1_000), tags), "{count}");
    }
}

#[test]
fn a_young_alert_that_the_triage_api_does_not_know_yet_waits_for_its_evidence() {
    let mut world = empty();
    let created = start() - time::Duration::minutes(1);
    let id = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    let known = Some(created + time::Duration::minutes(9));
    let spec = AlertSpec {
        triage_visible_at: known,
        evidence_visible_at: known,
        evidence: Some(vec![r#"{"n":0}"#.to_owned()]),
        ..AlertSpec::new(created, created)
    };
    world.add_alert(Some(id), spec).unwrap();
    let mut tenant = Tenant::of(world);
    sound(&mut tenant);
    assert_eq!(actions(&tenant, "alert"), 0);
    polls(&mut tenant, 2);
    assert_eq!(evidence(&tenant), (vec!["0".to_owned()], serde_json::Value::Null));
}

#[test]
fn an_outage_of_the_triage_api_alone_does_not_hold_up_investigations() {
    let world = WorldConfig { seed: 72, investigations: 300, alerts_per_investigation: 2, ..WorldConfig::default() };
    let mut tenant = Tenant::of(World::generate(&world));
    tenant.link.simulator.set_faults(on("/idr/at/alerts/*/evidences", status(503), u64::MAX));
    let cycle = tenant.cycle();
    assert!(cycle.fetched["investigations"] > 250, "{cycle:#?}");
}

#[test]
fn a_server_that_cuts_the_beginning_of_a_window_to_whole_minutes_holds_nothing_up() {
    for cut in [1, 60] {
        let mut world = empty();
        for number in 0..300 {
            let created = start() - time::Duration::hours(1) + time::Duration::milliseconds(100 * number + 500);
            world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
        }
        let config = SimulatorConfig { start_cut: Duration::from_secs(cut), ..SimulatorConfig::default() };
        let mut tenant = Tenant::with(world, config);
        let cycle = sound(&mut tenant);
        assert_eq!(cycle.new, 300, "cut to {cut} s");
        tenant.advance(Duration::from_secs(300));
        assert_eq!(sound(&mut tenant).new, 0);
        assert!(tenant.again.is_empty());
    }
}

#[test]
fn lists_without_totals_end_with_a_page_that_is_not_full() {
    let mut world = empty();
    for number in 0..200 {
        let created = start() - time::Duration::hours(30) + time::Duration::minutes(number);
        let one = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
        for alert in 0..(if number == 0 { 230 } else { 1 }) {
            let at = created + time::Duration::seconds(alert);
            world.add_alert(Some(one), AlertSpec::new(at, at)).unwrap();
        }
    }
    let mut tenant = Tenant::with(world, SimulatorConfig { no_totals: true, ..SimulatorConfig::default() });
    sound(&mut tenant);
    assert_eq!(actions(&tenant, "alert"), 429);
    tenant.advance(Duration::from_secs(300));
    assert_eq!(sound(&mut tenant).new, 0);
}
