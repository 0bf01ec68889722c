//! What had to make room, or was believed to be gone, and shows again: nothing of it is lost.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::Duration;

use crate::common::native::{Tenant, actions, empty, missing, polls, sound, start, status};
use crate::common::versions::collected;
use insightidr_simulator::{
    AlertKind, AlertSpec, Change, FaultProfile, InvestigationId, InvestigationSpec, Rule, Simulator, World,
};
use rapid7_insightidr::contract::{Setting, SettingValue};
use time::OffsetDateTime;

/// Lists of everything, whose window begins 390 days before these worlds.
const EVERYTHING: &str = "sort=created_time,ASC&start_time=2024-12";

/// Closed investigations, a minute apart, the last of them so many days ago.
fn closed(world: &mut World, days: i64, count: i64) -> Vec<InvestigationId> {
    let last = start() - time::Duration::days(days);
    let created = (0..count).map(|number| last - time::Duration::minutes(count - number));
    let add = |created| {
        let spec = InvestigationSpec { status: "CLOSED".into(), ..InvestigationSpec::new(created, created) };
        world.add_investigation(spec).unwrap()
    };
    created.map(add).collect()
}

/// A tenant of a world of which fewer are remembered than there are.
fn of(world: World) -> Tenant {
    let mut tenant = Tenant::of(world);
    tenant.bounds.known = 30;
    let key = "collect_uninvestigated_alerts".to_owned();
    tenant.settings.push(Setting { key, value: SettingValue::Boolean(false) });
    tenant
}

/// An alert that needs no evidence.
fn alert(created: OffsetDateTime) -> AlertSpec {
    AlertSpec { kind: AlertKind::UserBehavior, ..AlertSpec::new(created, created) }
}

/// Does something once, before the first page of the listing of everything is read.
fn before_everything(tenant: &mut Tenant, what: impl Fn(&mut World, OffsetDateTime) + 'static) {
    let done = Cell::new(false);
    tenant.link.meanwhile = Some(Box::new(move |simulator: &Simulator, target| {
        if target.contains(EVERYTHING) && !done.replace(true) {
            simulator.advance(time::Duration::minutes(1));
            let now = simulator.now();
            simulator.change_world(|world| what(world, now));
        }
    }));
}

/// A day of polls in which nothing may go wrong.
fn day(tenant: &mut Tenant) {
    for _ in 0..24 {
        tenant.advance(Duration::from_hours(1));
        sound(tenant);
    }
}

#[test]
fn what_was_collected_and_forgotten_and_changes_before_everything_was_ever_listed_is_not_taken_for_never_known() {
    let mut world = empty();
    let one = closed(&mut world, 60, 100)[50];
    // It is collected because it has gained an alert since the look-back began.
    world.add_alert(Some(one), alert(start() - time::Duration::days(10))).unwrap();
    closed(&mut world, 5, 60);
    let rrn = world.investigation_rrn(one).unwrap().to_owned();
    let mut tenant = of(world);
    let fail = Rule { query: Some(format!("*{EVERYTHING}*")), ..Rule::new("/idr/v2/investigations", status(503)) };
    tenant.link.simulator.set_faults(FaultProfile::new([fail.times(u64::MAX)]));
    assert!(tenant.cycle().degraded.contains_key("investigations"));
    let now = tenant.link.simulator.now() + time::Duration::minutes(5);
    tenant.link.simulator.change_world(|world| world.add_change(one, now, Change::Status("OPEN".into())).unwrap());
    tenant.link.simulator.set_faults(FaultProfile::default());
    day(&mut tenant);
    assert_eq!(collected(&tenant)[&rrn].len(), 2, "closed, and reopened");
    // Nothing else of what was there before the look-back is.
    assert_eq!(tenant.store.len(), 60 + 2 + 1);
}

#[test]
fn an_old_investigation_that_gains_an_alert_while_everything_is_listed_for_the_first_time_is_collected() {
    let mut world = empty();
    let one = closed(&mut world, 60, 100)[50];
    closed(&mut world, 5, 60);
    let rrn = world.investigation_rrn(one).unwrap().to_owned();
    let mut tenant = of(world);
    before_everything(&mut tenant, move |world, now| _ = world.add_alert(Some(one), alert(now)).unwrap());
    sound(&mut tenant);
    day(&mut tenant);
    assert_eq!((missing(&tenant, &[rrn]).len(), actions(&tenant, "alert")), (0, 1));
    assert_eq!(tenant.store.len(), 60 + 1 + 1);
}

/// An investigation whose alerts cannot be listed at first and that cannot be read afterwards, for longer than an
/// investigation is waited for. Closed: no list of a poll shows it.
fn believed_gone() -> (Tenant, Vec<InvestigationId>) {
    let mut world = empty();
    let others = closed(&mut world, 3, 20);
    let created = start() - time::Duration::days(2);
    let spec = InvestigationSpec { status: "CLOSED".into(), ..InvestigationSpec::new(created, created) };
    let one = world.add_investigation(spec).unwrap();
    world.add_alert(Some(one), alert(created)).unwrap();
    let rrn = world.investigation_rrn(one).unwrap().to_owned();
    let mut tenant = of(world);
    let fail = |path, code| FaultProfile::new([Rule::new(path, status(code)).times(u64::MAX)]);
    tenant.link.simulator.set_faults(fail(format!("/idr/v2/investigations/{rrn}/alerts"), 500));
    assert!(tenant.cycle().degraded.contains_key("alerts"));
    tenant.link.simulator.set_faults(fail(format!("/idr/v2/investigations/{rrn}"), 404));
    polls(&mut tenant, 7);
    assert_eq!(actions(&tenant, "alert"), 0);
    (tenant, others)
}

#[test]
fn what_was_believed_to_be_gone_and_is_listed_again_has_its_alerts_collected() {
    let (mut tenant, others) = believed_gone();
    let now = tenant.link.simulator.now();
    let low = |world: &mut World, one| world.add_change(one, now, Change::Priority("LOW".into())).unwrap();
    tenant.link.simulator.change_world(|world| others.into_iter().for_each(|one| low(world, one)));
    // Steps end before it is come to, on a page with those.
    tenant.budget.artifacts = 1;
    tenant.settings.push(Setting { key: "max_concurrent_requests".to_owned(), value: SettingValue::Integer(1) });
    // Though it cannot be read singly.
    day(&mut tenant);
    assert_eq!((actions(&tenant, "alert"), tenant.store.len()), (1, 2 * 20 + 2));
    tenant.link.simulator.set_faults(FaultProfile::default());
    day(&mut tenant);
    assert!(tenant.again.is_empty(), "{:?}", tenant.again);
}

#[test]
fn what_was_believed_to_be_gone_and_is_listed_again_when_it_was_forgotten_has_its_alerts_collected() {
    let (mut tenant, _) = believed_gone();
    tenant.link.simulator.set_faults(FaultProfile::default());
    let now = tenant.link.simulator.now();
    tenant.link.simulator.change_world(|world| {
        for _ in 0..40 {
            let spec = InvestigationSpec { status: "CLOSED".into(), ..InvestigationSpec::new(now, now) };
            world.add_investigation(InvestigationSpec { source: "USER".into(), ..spec }).unwrap();
        }
    });
    day(&mut tenant);
    assert_eq!((actions(&tenant, "alert"), tenant.store.len()), (1, 20 + 40 + 2));
}

#[test]
fn no_two_versions_of_what_is_forgotten_again_and_again_have_the_same_sender() {
    let mut world = empty();
    let one = closed(&mut world, 5, 60)[0];
    // It shows late, so that nothing is owed when it has been collected.
    let created = start() - time::Duration::minutes(10);
    let visible_at = start() + time::Duration::minutes(1);
    world.add_alert(Some(one), AlertSpec { visible_at, ..alert(created) }).unwrap();
    let rrn = world.investigation_rrn(one).unwrap().to_owned();
    let mut tenant = of(world);
    sound(&mut tenant);
    for priority in ["HIGH", "LOW"] {
        tenant.advance(Duration::from_hours(7));
        // Others take its room.
        let now = tenant.link.simulator.now();
        tenant.link.simulator.change_world(|world| {
            for _ in 0..40 {
                let spec = InvestigationSpec { status: "CLOSED".into(), ..InvestigationSpec::new(now, now) };
                world.add_investigation(InvestigationSpec { source: "USER".into(), ..spec }).unwrap();
            }
        });
        // Two versions in a poll: first its alert, then this.
        let change = Change::Priority(priority.into());
        before_everything(&mut tenant, move |world, now| world.add_change(one, now, change.clone()).unwrap());
        sound(&mut tenant);
    }
    let versions = tenant.store.values().filter(|artifact| artifact["sourceInfo"] == rrn.as_str());
    let senders: Vec<&str> = versions.map(|artifact| artifact["senderHost"].as_str().unwrap()).collect();
    assert_eq!((senders.len(), senders.iter().collect::<BTreeSet<_>>().len()), (4, 4), "{senders:?}");
}
