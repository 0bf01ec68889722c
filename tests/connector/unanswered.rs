//! A vendor that is silent, or slow to fail: steps end in time, what it does answer is collected, and nothing is given up
//! because there was no time for it.

use std::time::Duration;

use crate::common::native::{Cycle, Tenant, empty, missing, new_one, polls, start, status};
use insightidr_simulator::{AlertSpec, Change, Fault, FaultProfile, InvestigationSpec, Rule, World};
use rapid7_insightidr::collect::checkpoint::Checkpoint;
use rapid7_insightidr::contract::{FailureReason, Setting, SettingValue};
use serde_json::Value;

const LIST: &str = "/idr/v2/investigations";
/// Longer than anybody waits.
const SILENCE: Fault = Fault::Stall { seconds: 3_600.0, after_head: false };

/// A tenant whose steps have a minute, as the host gives them.
fn tenant(world: World) -> Tenant {
    let mut tenant = Tenant::of(world);
    tenant.budget.wall_time_milliseconds = 60_000;
    tenant
}

/// Investigations an hour apart, each with an alert: their RRNs, the oldest first.
fn an_hour_apart(world: &mut World, count: i64) -> Vec<String> {
    let add = |number| {
        let created = start() - time::Duration::hours(count - number);
        let id = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
        world.add_alert(Some(id), AlertSpec::new(created, created)).unwrap();
        world.investigation_rrn(id).unwrap().to_owned()
    };
    (0..count).map(add).collect()
}

fn faults(tenant: &Tenant, path: &str, fault: Fault) {
    tenant.link.simulator.set_faults(FaultProfile::new([Rule::new(path, fault)]));
}

fn whole_alerts(tenant: &Tenant) -> usize {
    let is_whole = |one: &&Value| one["action"] == "alert" && !one["tags"].to_string().contains("evidence-");
    tenant.store.values().filter(is_whole).count()
}

fn is_sound(cycle: &Cycle) -> bool {
    cycle.failure.is_none() && cycle.degraded.is_empty()
}

#[test]
fn an_api_that_is_silent_holds_up_no_other() {
    for path in ["/idr/at/*", "/idr/at/alerts/ops/*", "*/rapid7-product-alerts", "*/alerts", "*/evidences"] {
        let mut world = empty();
        let mut rrns = an_hour_apart(&mut world, 10);
        let mut tenant = tenant(world);
        tenant.cycle();
        faults(&tenant, path, SILENCE);
        for _ in 0..4 {
            rrns.push(new_one(&tenant));
            let cycle = polls(&mut tenant, 1);
            assert!(cycle.failure.is_none() && !cycle.degraded.is_empty(), "{path}: {cycle:#?}");
            assert!(!cycle.degraded.contains_key("investigations"), "{path}: {cycle:#?}");
            assert_eq!(missing(&tenant, &rrns), Vec::<&String>::new(), "{path}");
            let state = Checkpoint::decode(tenant.checkpoint.clone().unwrap()).unwrap();
            assert!(state.cycle.is_none(), "{path}: the cycle has come to its end");
        }
        tenant.link.simulator.set_faults(FaultProfile::default());
        assert!(is_sound(&polls(&mut tenant, 40)), "{path}");
        assert_eq!(tenant.store.values().filter(|one| one["action"] == "alert").count(), rrns.len(), "{path}");
    }
}

#[test]
fn a_silent_page_of_a_list_holds_up_no_other_list() {
    let mut world = empty();
    let mut rrns = an_hour_apart(&mut world, 200);
    let mut tenant = tenant(world);
    tenant.cycle();
    tenant.advance(Duration::from_secs(7 * 3_600));
    // No list that holds what is 100 hours old is answered.
    let bad = start() - time::Duration::hours(100);
    tenant.link.slow = Some(Box::new(move |request| {
        let time = |name: &str| {
            let value = request.target.split(['?', '&']).find_map(|part| part.strip_prefix(name))?;
            time::OffsetDateTime::parse(value, &time::format_description::well_known::Rfc3339).ok()
        };
        let is_list = request.target.starts_with(&format!("{LIST}?")) && request.target.contains("created_time,ASC");
        let holds = time("start_time=").is_some_and(|after| after < bad && bad < after + time::Duration::hours(90));
        let holds = holds && time("end_time=").is_some_and(|before| bad < before);
        if is_list && holds { Duration::from_secs(3_600) } else { Duration::ZERO }
    }));
    tenant.link.simulator.change_world(|world| {
        let young = start() - time::Duration::hours(5);
        let late = InvestigationSpec { visible_at: start(), ..InvestigationSpec::new(young, young) };
        let id = world.add_investigation(late).unwrap();
        rrns.push(world.investigation_rrn(id).unwrap().to_owned());
    });
    rrns.push(new_one(&tenant));
    let cycle = polls(&mut tenant, 1);
    assert!(cycle.failure.is_none() && cycle.degraded.contains_key("investigations"), "{cycle:#?}");
    assert_eq!(missing(&tenant, &rrns), Vec::<&String>::new(), "behind that page: {cycle:#?}");
    let state = Checkpoint::decode(tenant.checkpoint.clone().unwrap()).unwrap();
    assert!(
        state
            .relisted
            .is_some_and(|relisted| relisted > rapid7_insightidr::times::Utc::parse("2026-01-01T00:00:00Z").unwrap())
    );
    tenant.link.slow = None;
    assert!(is_sound(&polls(&mut tenant, 1)));
}

#[test]
fn the_list_of_what_is_new_may_be_silent_and_the_other_lists_go_on() {
    let mut world = empty();
    let old = start() - time::Duration::days(60);
    let id = world.add_investigation(InvestigationSpec::new(old, old)).unwrap();
    let mut tenant = tenant(world);
    tenant.cycle();
    tenant.link.slow = Some(Box::new(|request| {
        // A light list of one investigation is answered.
        let is_new = request.target.contains("size=100")
            && request.target.contains("created_time,ASC")
            && !request.target.contains("statuses");
        if is_new { Duration::from_secs(3_600) } else { Duration::ZERO }
    }));
    tenant.advance(Duration::from_secs(600));
    let now = tenant.link.simulator.now();
    tenant.link.simulator.change_world(|world| world.add_alert(Some(id), AlertSpec::new(now, now)).unwrap());
    let cycle = polls(&mut tenant, 1);
    assert!(cycle.failure.is_none() && cycle.degraded.contains_key("investigations"), "{cycle:#?}");
    assert_eq!(tenant.store.values().filter(|one| one["action"] == "alert").count(), 1, "it gained an alert");
    tenant.link.slow = None;
    assert!(is_sound(&polls(&mut tenant, 2)));
}

#[test]
fn a_vendor_that_is_silent_altogether_is_a_failure_at_once() {
    let mut world = empty();
    an_hour_apart(&mut world, 3);
    let mut tenant = tenant(world);
    tenant.cycle();
    faults(&tenant, "*", SILENCE);
    let cycle = polls(&mut tenant, 1);
    assert_eq!(cycle.failure.map(|failure| failure.reason), Some(FailureReason::Timeout));
    assert_eq!(cycle.steps, 1);
}

#[test]
fn an_answer_that_fails_slowly_is_a_failure_and_no_lack_of_time() {
    for path in ["/idr/at/alerts/ops/rrns", "*/evidences", "*/alerts", "*/rapid7-product-alerts"] {
        let mut world = empty();
        let mut rrns = an_hour_apart(&mut world, 5);
        let mut tenant = tenant(world);
        faults(&tenant, path, status(504));
        let suffix = path.trim_start_matches('*').to_owned();
        tenant.link.slow = Some(Box::new(move |request| {
            let path = request.target.split('?').next().unwrap();
            if path.ends_with(&suffix) { Duration::from_secs(29) } else { Duration::ZERO }
        }));
        for _ in 0..40 {
            rrns.push(new_one(&tenant));
            let cycle = polls(&mut tenant, 1);
            assert!(cycle.failure.is_none(), "{path}: {cycle:#?}");
            let told: Vec<_> = cycle.degraded.values().map(|failure| failure.reason).collect();
            assert!(!told.contains(&FailureReason::BudgetExhausted), "{path}: {cycle:#?}");
        }
        assert_eq!(missing(&tenant, &rrns), Vec::<&String>::new(), "{path}");
        tenant.link.simulator.set_faults(FaultProfile::default());
        tenant.link.slow = None;
        assert!(is_sound(&polls(&mut tenant, 60)), "{path}");
        assert_eq!(tenant.store.values().filter(|one| one["action"] == "alert").count(), rrns.len(), "{path}");
    }
}

#[test]
fn slow_answers_make_slow_steps_and_nothing_is_lost() {
    let mut world = empty();
    let rrns = an_hour_apart(&mut world, 30);
    let mut tenant = tenant(world);
    // Here answers come one after the other, however many are asked for.
    tenant.settings.push(Setting { key: "max_concurrent_requests".to_owned(), value: SettingValue::Integer(1) });
    tenant.link.slow = Some(Box::new(|_| Duration::from_secs(5)));
    let cycle = tenant.cycle();
    assert!(is_sound(&cycle), "{cycle:#?}");
    assert_eq!(missing(&tenant, &rrns), Vec::<&String>::new());
    polls(&mut tenant, 2);
    assert_eq!(whole_alerts(&tenant), rrns.len());
}

#[test]
fn a_comment_on_what_is_closed_outlives_a_page_that_fails_while_everything_is_listed() {
    let comment = "rrn:collaboration:us:o:comment:C";
    let mut world = empty();
    let mut ids = Vec::new();
    for minute in 0..3 {
        let at = start() - time::Duration::days(10) + time::Duration::minutes(minute);
        let spec = InvestigationSpec { status: "CLOSED".to_owned(), ..InvestigationSpec::new(at, at) };
        let id = world.add_investigation(spec).unwrap();
        world.add_alert(Some(id), AlertSpec::new(at, at)).unwrap();
        ids.push(id);
    }
    let rrn = world.investigation_rrn(ids[1]).unwrap().to_owned();
    let at = start() + time::Duration::hours(3);
    world.add_comment(ids[1], at, &format!(r#"{{"rrn":"{comment}","body":"seen"}}"#)).unwrap();
    world.add_change(ids[1], at, Change::Viewed).unwrap();
    let mut tenant = Tenant::of(world);
    tenant.settings.push(Setting { key: "collect_comments".to_owned(), value: SettingValue::Boolean(true) });
    let hours = |tenant: &mut Tenant, hours: u32| {
        for _ in 0..2 * hours {
            tenant.advance(Duration::from_secs(1_800));
            tenant.cycle();
        }
    };
    tenant.cycle();
    hours(&mut tenant, 5);
    // From before the time at which everything is listed until after it.
    tenant.link.spoils = Some(Box::new(move |request, response| {
        let has_it = String::from_utf8_lossy(&response.body).contains(&rrn);
        if request.target.starts_with(&format!("{LIST}?")) && has_it {
            (response.status, response.body) = (500, Vec::new());
        }
    }));
    hours(&mut tenant, 3);
    tenant.link.spoils = None;
    hours(&mut tenant, 8);
    assert_eq!(missing(&tenant, &[comment.to_owned()]), Vec::<&String>::new());
}
