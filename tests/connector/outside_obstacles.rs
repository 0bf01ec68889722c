//! Alerts that belong to no investigation, when something about them fails again and again: what can be collected is.

use std::time::Duration;

use crate::common::native::{Tenant, empty, missing, start, status};
use insightidr_simulator::{
    AlertSpec, Fault, FaultProfile, InvestigationSpec, RateLimit, Rule, SimulatorConfig, World, WorldConfig,
};
use rapid7_insightidr::collect::checkpoint::{Checkpoint, Phase};
use rapid7_insightidr::contract::{Setting, SettingValue};
use serde_json::Value;
use time::OffsetDateTime;

/// Alerts outside investigations from this time on, one each second: their RRNs.
fn add_outside(world: &mut World, from: OffsetDateTime, count: i64) -> Vec<String> {
    let specs = (0..count).map(|number| {
        let created = from + time::Duration::seconds(number);
        AlertSpec { evidence: Some(Vec::new()), ..AlertSpec::new(created, created) }
    });
    let ids: Vec<_> = specs.map(|spec| world.add_alert(None, spec).unwrap()).collect();
    ids.into_iter().map(|id| world.alert_id(id).unwrap()).collect()
}

/// Polls every ten minutes.
fn polls(tenant: &mut Tenant, count: usize) {
    for _ in 0..count {
        tenant.cycle();
        tenant.advance(Duration::from_secs(600));
    }
}

#[test]
fn alerts_of_investigations_that_a_step_has_no_time_to_read_stop_nothing() {
    let mut world = empty();
    let created = start() - time::Duration::days(2);
    let id = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    for number in 0..800 {
        let created = created + time::Duration::seconds(number);
        world
            .add_alert(Some(id), AlertSpec { evidence: Some(Vec::new()), ..AlertSpec::new(created, created) })
            .unwrap();
    }
    let outside = add_outside(&mut world, start() - time::Duration::days(1), 5);
    let mut tenant = Tenant::of(world);
    let wanted = |is_wanted| Setting {
        key: "collect_uninvestigated_alerts".to_owned(),
        value: SettingValue::Boolean(is_wanted),
    };
    tenant.settings.push(wanted(false));
    assert_eq!(tenant.cycle().fetched["alerts"], 800);
    // Twelve requests a step.
    tenant.settings = vec![tenant.settings[0].clone(), wanted(true)];
    tenant.link.takes = Duration::from_secs(2);
    tenant.budget.wall_time_milliseconds = 30_000;
    polls(&mut tenant, 3);
    assert_eq!(missing(&tenant, &outside), Vec::<&String>::new());
    let last = tenant.cycle();
    assert!(last.failure.is_none() && last.degraded.is_empty(), "{last:#?}");
}

#[test]
fn many_alerts_a_day_are_collected_with_few_requests_a_step() {
    let mut world = empty();
    let mut outside = Vec::new();
    for hours in 1..200 {
        outside.extend(add_outside(&mut world, start() - time::Duration::hours(hours), 90));
    }
    let mut tenant = Tenant::of(world);
    tenant.settings.push(Setting { key: "collect_evidence".to_owned(), value: SettingValue::Boolean(false) });
    tenant.budget.requests = 10;
    let cycle = tenant.cycle();
    assert!(cycle.failure.is_none() && cycle.degraded.is_empty(), "{cycle:#?}");
    assert_eq!(missing(&tenant, &outside).len(), 0, "after {} steps", cycle.steps);
}

#[test]
fn an_alert_because_of_which_a_read_of_many_fails_is_passed_over_and_told() {
    let mut world = empty();
    let mut outside = add_outside(&mut world, start() - time::Duration::hours(23), 150);
    outside.extend(add_outside(&mut world, start() + time::Duration::hours(1), 5));
    let bad = outside.remove(20);
    let mut tenant = Tenant::of(world);
    let name = bad.clone();
    tenant.link.spoils = Some(Box::new(move |request, response| {
        let is_of_bad = request.target == format!("/idr/at/alerts/{name}");
        if is_of_bad || request.body.as_ref().is_some_and(|body| body.contains(&name)) {
            (response.status, response.body) = (500, Vec::new());
        }
    }));
    let mut is_told = false;
    for _ in 0..24 {
        let cycle = tenant.cycle();
        is_told |= tenant.collected().len() > 1 && cycle.degraded.contains_key("uninvestigated-alerts");
        tenant.advance(Duration::from_secs(600));
    }
    assert_eq!(missing(&tenant, &outside), Vec::<&String>::new());
    assert!(is_told && missing(&tenant, &[bad]).len() == 1);
    let last = tenant.cycle();
    assert!(last.failure.is_none() && last.degraded.is_empty(), "{last:#?}");
}

#[test]
fn no_alert_is_passed_over_because_none_can_be_read_for_hours() {
    let mut world = empty();
    let outside = add_outside(&mut world, start() - time::Duration::hours(23), 150);
    let mut tenant = Tenant::of(world);
    let fault = status(500);
    let rules = ["/idr/at/alerts/ops/rrns", "/idr/at/alerts/rrn*"].map(|path| Rule::new(path, fault.clone()));
    tenant.link.simulator.set_faults(FaultProfile::new(rules));
    polls(&mut tenant, 12);
    tenant.link.simulator.set_faults(FaultProfile::default());
    polls(&mut tenant, 1);
    assert_eq!(missing(&tenant, &outside), Vec::<&String>::new());
}

#[test]
fn pages_of_a_search_that_always_repeat_each_other_are_avoided() {
    let mut world = empty();
    let outside = add_outside(&mut world, start() - time::Duration::hours(23), 250);
    let mut tenant = Tenant::of(world);
    let rule = Rule { query: Some("index=1&*".to_owned()), ..Rule::new("*/ops/search", Fault::DuplicatePage {}) };
    tenant.link.simulator.set_faults(FaultProfile::new([rule]));
    let cycle = tenant.cycle();
    assert!(cycle.failure.is_none() && cycle.degraded.is_empty(), "{cycle:#?}");
    assert_eq!(missing(&tenant, &outside), Vec::<&String>::new());
}

#[test]
fn an_alert_that_is_counted_and_never_listed_stops_nothing_else_and_is_told() {
    let mut world = empty();
    let at = start() - time::Duration::hours(22);
    let mut outside = add_outside(&mut world, start() - time::Duration::hours(23), 30);
    outside.extend(add_outside(&mut world, start() - time::Duration::hours(21), 30));
    outside.extend(add_outside(&mut world, start() + time::Duration::hours(1), 5));
    let mut tenant = Tenant::of(world);
    tenant.link.spoils = Some(Box::new(move |request, response| {
        let Some(body) = request.body.as_ref().filter(|_| request.target.contains("/ops/search")) else { return };
        let body: Value = serde_json::from_str(body).unwrap();
        let time = |name: &str| {
            let text = body["search"][name].as_str().unwrap();
            OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).unwrap()
        };
        if time("start_time") < at && at < time("end_time") {
            let mut page: Value = serde_json::from_slice(&response.body).unwrap();
            let total = page["metadata"]["total_items"].as_u64().unwrap();
            page["metadata"]["total_items"] = (total + 1).into();
            response.body = serde_json::to_vec(&page).unwrap();
        }
    }));
    let mut is_told = false;
    for _ in 0..14 {
        is_told |= tenant.cycle().degraded.contains_key("uninvestigated-alerts");
        tenant.advance(Duration::from_secs(600));
    }
    assert_eq!(missing(&tenant, &outside), Vec::<&String>::new());
    assert!(is_told);
    let last = tenant.cycle();
    assert!(last.failure.is_none() && last.degraded.is_empty(), "{last:#?}");
}

#[test]
fn alerts_of_more_rules_than_a_rate_limit_without_a_word_allows_are_collected() {
    let mut world = empty();
    let outside = add_outside(&mut world, start() - time::Duration::hours(23), 100);
    let rate_limit = Some(RateLimit { requests: 20, window: Duration::from_secs(60) });
    let config =
        SimulatorConfig { rate_limit, rate_headers: false, thin_hydration: true, ..SimulatorConfig::default() };
    let mut tenant = Tenant::with(world, config);
    polls(&mut tenant, 40);
    assert_eq!(missing(&tenant, &outside), Vec::<&String>::new());
}

/// A key that the triage API alone does not take.
fn refused(tenant: &Tenant) {
    let fault = status(401);
    tenant.link.simulator.set_faults(FaultProfile::new([Rule::new("/idr/at/*", fault)]));
}

#[test]
fn a_key_that_the_triage_api_alone_does_not_take_brings_everything_else() {
    let world = WorldConfig { seed: 81, investigations: 30, ..WorldConfig::default() };
    let mut tenant = Tenant::of(World::generate(&world));
    refused(&tenant);
    let cycle = tenant.cycle();
    assert!(cycle.failure.is_none() && cycle.degraded.is_empty(), "{cycle:#?}");
    assert!(cycle.unavailable.contains(&"evidence".to_owned()), "{cycle:#?}");
    assert!(cycle.fetched["investigations"] > 20 && cycle.fetched["alerts"] > 20, "{cycle:#?}");
}

#[test]
fn a_key_that_the_triage_api_alone_does_not_take_any_more_stops_nothing_else() {
    let mut world = empty();
    add_outside(&mut world, start() - time::Duration::hours(23), 60);
    let mut tenant = Tenant::of(world);
    tenant.budget.requests = 10;
    let phase = |tenant: &Tenant| Checkpoint::decode(tenant.checkpoint.clone().unwrap()).unwrap().cycle.unwrap().phase;
    while !matches!(tenant.checkpoint.as_ref().map(|_| phase(&tenant)), Some(Phase::Outside(_))) {
        tenant.step().unwrap();
    }
    refused(&tenant);
    let cycle = tenant.cycle();
    assert!(cycle.failure.is_none(), "{cycle:#?}");
    polls(&mut tenant, 4);
    let last = tenant.cycle();
    assert!(last.failure.is_none() && last.unavailable.contains(&"uninvestigated-alerts".to_owned()), "{last:#?}");
}

#[test]
fn a_key_that_is_revoked_is_not_taken_for_one_without_the_triage_api() {
    let mut world = empty();
    add_outside(&mut world, start() - time::Duration::hours(23), 60);
    let mut tenant = Tenant::of(world);
    tenant.budget.requests = 10;
    tenant.step().unwrap();
    let before = tenant.checkpoint.clone();
    let fault = status(401);
    tenant.link.simulator.set_faults(FaultProfile::new([Rule::new("*", fault)]));
    let cycle = tenant.cycle();
    assert_eq!(cycle.failure.and_then(|failure| failure.http_status), Some(401));
    assert_eq!(tenant.checkpoint, before);
}

#[test]
fn the_first_failure_of_an_alert_after_an_outage_is_not_its_last() {
    let mut world = empty();
    let outside = add_outside(&mut world, start() - time::Duration::hours(23), 20);
    let mut tenant = Tenant::of(world);
    let down = status(503);
    // Only the search works.
    let reads = ["/idr/at/alerts/ops/rrns", "/idr/at/alerts/rrn:*"].map(|path| Rule::new(path, down.clone()));
    tenant.link.simulator.set_faults(FaultProfile::new(reads));
    polls(&mut tenant, 4);
    assert_eq!(missing(&tenant, &outside).len(), outside.len());
    // Half back: reads of many fail, and one alert when it is read singly.
    let one = Rule::new(format!("/idr/at/alerts/{}", outside[7]), down.clone()).times(3);
    let of_many = Rule::new("/idr/at/alerts/ops/rrns", down).times(3);
    tenant.link.simulator.set_faults(FaultProfile::new([one, of_many]));
    polls(&mut tenant, 3);
    assert_eq!(missing(&tenant, &outside), Vec::<&String>::new());
    let last = tenant.cycle();
    assert!(last.failure.is_none() && last.degraded.is_empty(), "{last:#?}");
}

#[test]
fn an_alert_that_joins_an_investigation_which_does_not_change_by_that_is_collected_with_it() {
    let mut world = empty();
    let created = start() + time::Duration::minutes(5);
    let id = world.add_investigation(InvestigationSpec::new(start(), start())).unwrap();
    world.add_alert(Some(id), AlertSpec::new(created + time::Duration::minutes(5), created)).unwrap();
    // It joins an hour later, and its investigation's row does not show that.
    let joins = start() + time::Duration::hours(1);
    let never = start() + time::Duration::days(300);
    let late = AlertSpec { triage_visible_at: Some(created), on_row_at: Some(never), ..AlertSpec::new(created, joins) };
    let late = world.add_alert(Some(id), late).unwrap();
    let rrn = world.alert_id(late).unwrap();
    let mut tenant = Tenant::of(world);
    let down = status(503);
    tenant.cycle();
    tenant.link.simulator.set_faults(FaultProfile::new([Rule::new("/idr/at/alerts/ops/search", down)]));
    polls(&mut tenant, 18);
    tenant.link.simulator.set_faults(FaultProfile::default());
    polls(&mut tenant, 3);
    assert_eq!(missing(&tenant, &[rrn]), Vec::<&String>::new());
}

#[test]
fn failures_of_an_alert_are_counted_although_windows_before_it_are_listed_again() {
    let mut world = empty();
    let mut outside = add_outside(&mut world, start() - time::Duration::hours(23), 1_500);
    let bad = outside.remove(1_450);
    let mut tenant = Tenant::of(world);
    tenant.settings.push(Setting { key: "collect_evidence".to_owned(), value: SettingValue::Boolean(false) });
    let name = bad.clone();
    tenant.link.spoils = Some(Box::new(move |request, response| {
        let is_of_bad = request.target == format!("/idr/at/alerts/{name}");
        if is_of_bad || request.body.as_ref().is_some_and(|body| body.contains(&name)) {
            (response.status, response.body) = (500, Vec::new());
        }
    }));
    polls(&mut tenant, 30);
    assert_eq!(missing(&tenant, &outside), Vec::<&String>::new());
    let last = tenant.cycle();
    assert!(last.failure.is_none() && last.degraded.is_empty(), "{last:#?}");
}

/// What a spoiled answer says that it has, in a search.
fn total_of(body: &[u8]) -> u64 {
    let page: Value = serde_json::from_slice(body).unwrap_or_default();
    page["metadata"]["total_items"].as_u64().unwrap_or(0)
}

#[test]
fn a_search_that_fails_when_it_finds_many_is_cut_until_it_answers() {
    for code in [500, 504, 400] {
        let mut world = empty();
        let outside = add_outside(&mut world, start() - time::Duration::hours(30), 300);
        let mut tenant = Tenant::of(world);
        tenant.link.spoils = Some(Box::new(move |request, response| {
            if request.target.contains("/ops/search") && total_of(&response.body) > 20 {
                (response.status, response.body) = (code, Vec::new());
            }
        }));
        polls(&mut tenant, 6);
        assert_eq!(missing(&tenant, &outside).len(), 0, "{code}");
        let last = tenant.cycle();
        assert!(last.failure.is_none() && last.degraded.is_empty(), "{code}: {last:#?}");
    }
}

#[test]
fn alerts_are_read_singly_where_they_cannot_be_read_by_the_hundred() {
    for code in [403, 404] {
        let mut world = empty();
        let outside = add_outside(&mut world, start() - time::Duration::hours(30), 120);
        let mut tenant = Tenant::of(world);
        tenant.budget.requests = 60;
        let rule = Rule::new("/idr/at/alerts/ops/rrns", status(code));
        tenant.link.simulator.set_faults(FaultProfile::new([rule]));
        polls(&mut tenant, 2);
        assert_eq!(missing(&tenant, &outside).len(), 0, "{code}");
    }
}

#[test]
fn alerts_go_without_evidence_that_never_comes() {
    let mut world = empty();
    let mut outside = add_outside(&mut world, start() - time::Duration::hours(30), 12);
    outside.extend(add_outside(&mut world, start() + time::Duration::hours(1), 3));
    let mut tenant = Tenant::of(world);
    tenant.link.simulator.set_faults(FaultProfile::new([Rule::new("*/evidences", status(500))]));
    polls(&mut tenant, 6);
    assert_eq!(missing(&tenant, &outside).len(), outside.len(), "an outage of an hour is waited for");
    polls(&mut tenant, 40);
    assert_eq!(missing(&tenant, &outside).len(), 0);
}

#[test]
fn a_search_that_always_counts_one_too_many_is_collected_at_once() {
    let mut world = empty();
    let mut outside = add_outside(&mut world, start() - time::Duration::hours(30), 200);
    for hours in 1..4 {
        outside.extend(add_outside(&mut world, start() + time::Duration::hours(hours), 5));
    }
    let mut tenant = Tenant::of(world);
    tenant.link.spoils = Some(Box::new(|request, response| {
        if request.target.contains("/ops/search") {
            let mut page: Value = serde_json::from_slice(&response.body).unwrap();
            if let Some(total) = page["metadata"]["total_items"].as_u64() {
                page["metadata"]["total_items"] = (total + 1).into();
            }
            response.body = serde_json::to_vec(&page).unwrap();
        }
    }));
    polls(&mut tenant, 60);
    assert_eq!(missing(&tenant, &outside).len(), 0);
    tenant.link.spoils = None;
    polls(&mut tenant, 2);
    let last = tenant.cycle();
    assert!(last.failure.is_none() && last.degraded.is_empty(), "{last:#?}");
    assert_eq!(tenant.repeated, 0);
}
