//! What fails again and again: one record, one page, one part of the vendor's API, or the vendor's allowance. It is told, and
//! everything else is collected all the same.

use std::time::Duration;

use crate::common::native::{Tenant, actions, empty, polls, start, status};
use insightidr_simulator::{
    AlertSpec, Change, Fault, FaultProfile, InvestigationSpec, RateLimit, Rule, SimulatorConfig, World,
};
use rapid7_insightidr::collect::checkpoint::{Checkpoint, Owed, Phase};
use rapid7_insightidr::contract::{Setting, SettingValue};
use time::OffsetDateTime;

/// The list of investigations.
const LIST: &str = "/idr/v2/investigations";

/// Every request to this path with this in its query fails.
fn fails(tenant: &Tenant, path: &str, query: &str, fault: Fault) {
    let rule = Rule { query: Some(query.to_owned()), ..Rule::new(path, fault) };
    tenant.link.simulator.set_faults(FaultProfile::new([rule]));
}

fn state(tenant: &Tenant) -> Checkpoint {
    Checkpoint::decode(tenant.checkpoint.clone().unwrap()).unwrap()
}

fn phase(tenant: &Tenant) -> Option<Phase> {
    state(tenant).cycle.map(|cycle| cycle.phase)
}

/// Steps until the checkpoint is as wanted.
fn steps_until(tenant: &mut Tenant, is_wanted: impl Fn(&Tenant) -> bool) {
    for _ in 0..1_000 {
        tenant.step().unwrap();
        if is_wanted(tenant) {
            return;
        }
    }
    panic!("never as wanted: {:?}", phase(tenant));
}

fn polls_without_faults(tenant: &mut Tenant, count: usize) {
    tenant.link.simulator.set_faults(FaultProfile::default());
    polls(tenant, count);
}

/// An investigation that is created now: its RRN.
fn new_one(tenant: &Tenant) -> String {
    let now = tenant.link.simulator.now();
    tenant.link.simulator.change_world(|world| {
        let id = world.add_investigation(InvestigationSpec::new(now, now)).unwrap();
        world.investigation_rrn(id).unwrap().to_owned()
    })
}

fn closed(world: &mut World, created: OffsetDateTime) -> insightidr_simulator::InvestigationId {
    let spec = InvestigationSpec { status: "CLOSED".to_owned(), ..InvestigationSpec::new(created, created) };
    world.add_investigation(spec).unwrap()
}

#[test]
fn an_investigation_that_was_left_in_the_middle_and_cannot_be_read_stops_nothing_else() {
    let mut world = empty();
    let created = start() - time::Duration::minutes(5);
    let id = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    let rrn = world.investigation_rrn(id).unwrap().to_owned();
    world.add_alert(Some(id), AlertSpec::new(created, created)).unwrap();
    for number in 0..100 {
        let spec = AlertSpec {
            on_row_at: Some(start() + time::Duration::days(30)),
            ..AlertSpec::new(created + time::Duration::seconds(number), start() + time::Duration::minutes(5))
        };
        world.add_alert(Some(id), spec).unwrap();
    }
    let mut tenant = Tenant::of(world);
    tenant.cycle();
    tenant.advance(Duration::from_secs(600));
    tenant.budget.requests = 40;
    steps_until(&mut tenant, |tenant| {
        matches!(phase(tenant), Some(Phase::Owed(_)))
            && matches!(state(tenant).known.get(&rrn).unwrap().owed, Owed::Page(_))
    });
    fails(&tenant, &format!("{LIST}/{rrn}"), "*", Fault::Html {});
    let new = new_one(&tenant);
    polls(&mut tenant, 3);
    assert!(tenant.collected().contains_key(&new));
    assert!(actions(&tenant, "alert") < 101, "the rest is still to come");
    polls_without_faults(&mut tenant, 6);
    assert_eq!(actions(&tenant, "alert"), 101);
}

#[test]
fn a_page_at_which_a_step_begins_and_that_cannot_be_read_stops_nothing_else() {
    for (parked, query) in [("Gained", "*sort=alerts_most*"), ("Known", "*statuses=*")] {
        for fault in [Fault::Html {}, status(500), Fault::Stall { seconds: 3_600.0, after_head: false }] {
            let mut world = empty();
            for number in 0..900 {
                let created = start() - time::Duration::days(20) + time::Duration::minutes(number);
                world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
            }
            let mut tenant = Tenant::of(world);
            tenant.cycle();
            tenant.advance(Duration::from_secs(3_600));
            tenant.budget.requests = 10;
            steps_until(&mut tenant, |tenant| match phase(tenant) {
                Some(Phase::Gained(page)) => parked == "Gained" && page > 0,
                Some(Phase::Known(..) | Phase::Around(..)) => parked == "Known",
                _ => false,
            });
            tenant.budget = crate::common::native::BUDGET;
            fails(&tenant, LIST, query, fault);
            let new = new_one(&tenant);
            tenant.advance(Duration::from_secs(600));
            let resumed = tenant.cycle();
            assert!(resumed.failure.is_none() && resumed.degraded.contains_key("investigations"), "{resumed:#?}");
            polls(&mut tenant, 1);
            assert!(tenant.collected().contains_key(&new), "{parked}");
            polls_without_faults(&mut tenant, 1);
            let last = tenant.cycle();
            assert!(last.failure.is_none() && last.degraded.is_empty(), "{last:#?}");
        }
    }
}

/// A tenant that never says what is left of its allowance, with more to list than that allows at once.
fn limited_without_a_word() -> Tenant {
    let mut world = empty();
    for number in 0..2_400 {
        closed(&mut world, start() - time::Duration::days(320) + time::Duration::hours(3 * number));
    }
    let id = closed(&mut world, start() - time::Duration::days(2));
    world.add_change(id, start() + time::Duration::hours(8), Change::Priority("CRITICAL".into())).unwrap();
    let rate_limit = Some(RateLimit { requests: 20, window: Duration::from_secs(60) });
    Tenant::with(world, SimulatorConfig { rate_limit, rate_headers: false, ..SimulatorConfig::default() })
}

#[test]
fn a_listing_that_a_rate_limit_without_a_word_interrupts_is_gone_on_with() {
    let mut tenant = limited_without_a_word();
    polls(&mut tenant, 120);
    let last = tenant.store.values().filter(|artifact| artifact["severityLabel"] == "critical").count();
    assert_eq!(last, 1, "the change of one that is closed is found: {:?}", phase(&tenant));
}

#[test]
fn an_alert_that_waits_for_its_evidence_survives_that_its_investigation_is_not_found_once() {
    let mut world = empty();
    let created = start() - time::Duration::minutes(1);
    let id = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    let spec = AlertSpec {
        evidence_visible_at: Some(start() + time::Duration::minutes(15)),
        ..AlertSpec::new(created, created)
    };
    world.add_alert(Some(id), spec).unwrap();
    let rrn = world.investigation_rrn(id).unwrap().to_owned();
    let mut tenant = Tenant::of(world);
    tenant.cycle();
    assert_eq!(actions(&tenant, "alert"), 0);
    tenant.advance(Duration::from_secs(25 * 60));
    let rule = Rule::new(format!("{LIST}/{rrn}"), status(404)).times(1);
    tenant.link.simulator.set_faults(FaultProfile::new([rule]));
    tenant.cycle();
    polls(&mut tenant, 6);
    assert_eq!(actions(&tenant, "alert"), 1);
    let before = tenant.link.simulator.request_count();
    tenant.cycle();
    let asked = tenant.link.simulator.request_count() - before;
    assert!(asked < 8, "nothing is owed any more: {asked} requests");
}

#[test]
fn an_investigation_that_is_gone_is_asked_for_until_that_is_certain_and_not_for_ever() {
    let mut world = empty();
    let created = start() - time::Duration::minutes(1);
    let id = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    world.add_change(id, start() + time::Duration::minutes(5), Change::Gone).unwrap();
    let rrn = world.investigation_rrn(id).unwrap().to_owned();
    let mut tenant = Tenant::of(world);
    tenant.cycle();
    polls(&mut tenant, 12);
    let path = format!("{LIST}/{rrn}");
    let asked = |tenant: &Tenant| tenant.link.simulator.requests().iter().filter(|one| one.path == path).count();
    let before = asked(&tenant);
    polls(&mut tenant, 6);
    assert!(before > 0 && asked(&tenant) == before, "{before} and {} times", asked(&tenant));
}

/// A tenant whose comments are collected, of a closed investigation that was looked at, with a comment, after its first poll.
fn commented(fault: (&str, u16)) -> Tenant {
    let mut world = empty();
    let id = closed(&mut world, start() - time::Duration::days(2));
    let at = start() + time::Duration::minutes(6 * 60 + 30);
    let rrn = world.investigation_rrn(id).unwrap().to_owned();
    world.add_comment(id, at, r#"{"rrn":"rrn:collaboration:us:o:comment:C","body":"seen"}"#).unwrap();
    world.add_change(id, at, Change::Viewed).unwrap();
    let mut tenant = Tenant::of(world);
    tenant.settings.push(Setting { key: "collect_comments".to_owned(), value: SettingValue::Boolean(true) });
    tenant.cycle();
    tenant.advance(Duration::from_secs(7 * 3_600));
    tenant.cycle();
    let (path, code) = fault;
    let rule = Rule::new(path.replace("{rrn}", &rrn), status(code)).times(1);
    tenant.link.simulator.set_faults(FaultProfile::new([rule]));
    polls(&mut tenant, 1);
    assert_eq!(actions(&tenant, "comment"), 0, "the fault was met");
    tenant
}

#[test]
fn a_comment_survives_that_it_or_its_investigation_is_not_found_once() {
    for path in ["/idr/v2/investigations/{rrn}", "/idr/v1/comments"] {
        let mut tenant = commented((path, 404));
        polls(&mut tenant, 6);
        assert_eq!(actions(&tenant, "comment"), 1, "{path}");
    }
}

#[test]
fn a_comment_on_a_young_investigation_survives_that_it_is_not_found_once() {
    let mut world = empty();
    let created = start() - time::Duration::minutes(1);
    let id = closed(&mut world, created);
    world.add_alert(Some(id), AlertSpec::new(created, created)).unwrap();
    let at = start() + time::Duration::minutes(5);
    world.add_comment(id, at, r#"{"rrn":"rrn:collaboration:us:o:comment:C","body":"seen"}"#).unwrap();
    let mut tenant = Tenant::of(world);
    tenant.settings.push(Setting { key: "collect_comments".to_owned(), value: SettingValue::Boolean(true) });
    tenant.cycle();
    tenant.advance(Duration::from_secs(25 * 60));
    tenant.link.simulator.set_faults(FaultProfile::new([Rule::new("/idr/v1/comments", status(404)).times(1)]));
    tenant.cycle();
    polls(&mut tenant, 6);
    assert_eq!(actions(&tenant, "comment"), 1);
}

/// A tenant whose first cycle a fault has interrupted after what is new was collected: a closed investigation.
fn interrupted_at_first() -> (Tenant, insightidr_simulator::InvestigationId) {
    let mut world = empty();
    let id = closed(&mut world, start() - time::Duration::days(2));
    let mut tenant = Tenant::of(world);
    tenant.settings.push(Setting { key: "collect_comments".to_owned(), value: SettingValue::Boolean(true) });
    fails(&tenant, LIST, "*sort=alerts_most*", Fault::Html {});
    let first = tenant.cycle();
    assert!(first.new == 1 && phase(&tenant).is_none(), "{first:#?}");
    tenant.link.simulator.set_faults(FaultProfile::default());
    (tenant, id)
}

#[test]
fn a_comment_that_is_written_while_the_first_cycle_cannot_end_is_collected() {
    let (mut tenant, id) = interrupted_at_first();
    let at = start() + time::Duration::minutes(10);
    tenant.link.simulator.change_world(|world| {
        world.add_comment(id, at, r#"{"rrn":"rrn:collaboration:us:o:comment:C","body":"seen"}"#).unwrap();
        world.add_change(id, at, Change::Viewed).unwrap();
    });
    tenant.advance(Duration::from_secs(3_600));
    for _ in 0..4 {
        tenant.cycle();
        tenant.advance(Duration::from_secs(7 * 3_600));
    }
    assert_eq!(actions(&tenant, "comment"), 1);
}

#[test]
fn an_alert_that_is_gained_while_the_first_cycle_cannot_end_is_found_by_the_next() {
    let (mut tenant, id) = interrupted_at_first();
    let at = start() + time::Duration::minutes(10);
    tenant.link.simulator.change_world(|world| world.add_alert(Some(id), AlertSpec::new(at, at)).unwrap());
    tenant.advance(Duration::from_secs(3_600));
    tenant.cycle();
    assert_eq!(actions(&tenant, "alert"), 1);
}

#[test]
fn an_investigation_whose_list_of_alerts_takes_all_of_a_step_is_collected_and_stops_nothing() {
    let mut world = empty();
    let created = start() - time::Duration::days(2);
    let id = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    for number in 0..1_200 {
        let created = created + time::Duration::seconds(number);
        world
            .add_alert(Some(id), AlertSpec { evidence: Some(Vec::new()), ..AlertSpec::new(created, created) })
            .unwrap();
    }
    let mut tenant = Tenant::of(world);
    tenant.budget.requests = 12;
    let cycle = tenant.cycle();
    assert!(cycle.failure.is_none() && cycle.degraded.is_empty(), "{cycle:#?}");
    assert_eq!(actions(&tenant, "alert"), 1_200);
}

#[test]
fn an_investigation_with_more_rules_than_a_rate_limit_without_a_word_allows_is_collected_and_stops_nothing() {
    let mut world = empty();
    let created = start() - time::Duration::days(2);
    let id = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    for number in 0..100 {
        let created = created + time::Duration::seconds(number);
        world.add_alert(Some(id), AlertSpec::new(created, created)).unwrap();
    }
    let rate_limit = Some(RateLimit { requests: 20, window: Duration::from_secs(60) });
    let config =
        SimulatorConfig { rate_limit, rate_headers: false, thin_hydration: true, ..SimulatorConfig::default() };
    let mut tenant = Tenant::with(world, config);
    tenant.cycle();
    let new = new_one(&tenant);
    polls(&mut tenant, 60);
    assert_eq!(actions(&tenant, "alert"), 100);
    assert!(tenant.store.values().any(|artifact| artifact["sourceInfo"] == *new), "what is new is not held up");
    let last = tenant.cycle();
    assert!(last.failure.is_none() && last.degraded.is_empty(), "{last:#?}");
}

/// A poll every five minutes, a new investigation with a product alert in every fifth one, and this at first where product
/// alerts are asked for: how many came of six.
fn product_alerts(fault: Rule) -> usize {
    let mut tenant = Tenant::of(empty());
    let json = r#"{"type":"THREAT_COMMAND","threat_command_details":{"alert_id":"7"}}"#;
    tenant.link.simulator.set_faults(FaultProfile::new([fault]));
    for poll in 0..60 {
        if poll % 5 == 0 && poll < 30 {
            let now = tenant.link.simulator.now();
            tenant.link.simulator.change_world(|world| {
                let id = closed(world, now - time::Duration::minutes(5));
                world.add_product_alert(id, json).unwrap();
            });
        }
        tenant.cycle();
        tenant.advance(Duration::from_secs(300));
    }
    actions(&tenant, "product_alert")
}

#[test]
fn an_endpoint_that_is_404_the_first_time_it_is_asked_is_believed_in_the_second_cycle_only() {
    for number in [403, 404] {
        let fault = Rule::new("*/rapid7-product-alerts", status(number));
        assert_eq!(product_alerts(fault.clone().times(1)), 6, "{number}");
        assert_eq!(product_alerts(fault), 0, "{number}");
    }
}

#[test]
fn what_was_not_asked_for_because_an_endpoint_did_not_seem_to_be_there_is_asked_for_when_it_is() {
    let json = r#"{"type":"THREAT_COMMAND","threat_command_details":{"alert_id":"7"}}"#;
    let tenant_of_many = || {
        let mut world = empty();
        for number in 0..200 {
            let id = closed(&mut world, start() - time::Duration::hours(number + 2));
            world.add_product_alert(id, json).unwrap();
        }
        Tenant::of(world)
    };
    let fault = Rule::new("*/rapid7-product-alerts", status(404));
    let mut tenant = tenant_of_many();
    tenant.link.simulator.set_faults(FaultProfile::new([fault.clone()]));
    let cycle = tenant.cycle();
    assert!(cycle.failure.is_none() && cycle.degraded.is_empty(), "{cycle:#?}");
    assert!(cycle.unavailable.contains(&"product-alerts".to_owned()), "it is told: {cycle:#?}");
    tenant.link.simulator.set_faults(FaultProfile::default());
    polls(&mut tenant, 1);
    assert_eq!(actions(&tenant, "product_alert"), 200);

    // Where it is not there, few are gone back to, once.
    let mut tenant = tenant_of_many();
    tenant.link.simulator.set_faults(FaultProfile::new([fault]));
    tenant.cycle();
    let before = tenant.link.simulator.requests().len();
    let cycle = polls(&mut tenant, 1);
    assert!(cycle.unavailable.contains(&"product-alerts".to_owned()), "{cycle:#?}");
    let spent = tenant.link.simulator.requests().len() - before;
    assert!(spent < 120, "{spent} requests to find out that it is not there");
    let before = tenant.link.simulator.requests().len();
    polls(&mut tenant, 1);
    let spent = tenant.link.simulator.requests().split_off(before);
    assert!(spent.iter().all(|one| !one.path.contains("rrn:")), "nothing is owed any more: {spent:#?}");
}
