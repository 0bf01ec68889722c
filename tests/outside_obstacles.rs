//! Alerts that belong to no investigation, when something about them fails again and again: what can be collected is.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::time::Duration;

use common::native::Tenant;
use insightidr_simulator::{AlertSpec, InvestigationSpec, World, WorldConfig};
use rapid7_insightidr::contract::{Setting, SettingValue};
use time::OffsetDateTime;

fn start() -> OffsetDateTime {
    WorldConfig::default().start
}

fn empty() -> World {
    let mut world = World::empty_in("us");
    world.set_start(start());
    world
}

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

fn missing<'r>(tenant: &Tenant, rrns: &'r [String]) -> Vec<&'r String> {
    let collected = tenant.collected();
    rrns.iter().filter(|rrn| !collected.contains_key(*rrn)).collect()
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
