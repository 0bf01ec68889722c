//! Tenants with more investigations than can be remembered.

use std::time::Duration;

use crate::common::native::{BUDGET, Tenant, empty, missing, new_one, sound, start};
use insightidr_simulator::{Change, Fault, FaultProfile, InvestigationId, InvestigationSpec, Rule, World};
use rapid7_insightidr::collect::checkpoint::Checkpoint;
use rapid7_insightidr::collect::condensed;
use rapid7_insightidr::contract::{Budget, Setting, SettingValue};

/// More than leave a hash behind when they are forgotten.
const MANY: usize = condensed::MOST + 20_000;

/// A tenant with so many investigations, evenly over these days up to ten minutes ago. Every third is open: more than are
/// remembered, so that whatever is closed is forgotten at once.
fn tenant(days: f64) -> (Tenant, Vec<InvestigationId>) {
    let mut world = World::empty();
    let start = time::macros::datetime!(2026-11-01 12:00 UTC);
    world.set_start(start);
    let last = start - time::Duration::minutes(10);
    let investigations = (0..MANY).map(|number| {
        let before = time::Duration::days(1) * (days * (MANY - 1 - number) as f64 / MANY as f64);
        let created = last - before;
        let status = if number.is_multiple_of(3) { "OPEN" } else { "CLOSED" };
        let spec = InvestigationSpec { status: status.to_owned(), ..InvestigationSpec::new(created, created) };
        world.add_investigation(spec).unwrap()
    });
    let investigations = investigations.collect();
    let mut tenant = Tenant::of(world);
    // Steps that end in the middle of pages.
    tenant.budget = Budget { artifacts: 1_950, ..BUDGET };
    for key in ["collect_alerts", "collect_product_alerts"] {
        tenant.settings.push(Setting { key: key.to_owned(), value: SettingValue::Boolean(false) });
    }
    (tenant, investigations)
}

/// Collects all of it, and sees that everything came once.
fn collect(tenant: &mut Tenant) {
    let cycle = tenant.cycle();
    assert!(cycle.failure.is_none() && cycle.degraded.is_empty(), "{cycle:#?}");
    let known = Checkpoint::decode(tenant.checkpoint.clone().unwrap()).unwrap().known.len();
    assert!(known < MANY / 3, "{known} are remembered, so that nothing closed has to be forgotten");
    let collected = tenant.collected();
    assert_eq!(collected.len(), MANY);
    let twice: Vec<_> = collected.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "{} came again: {:?}", twice.len(), &twice[..twice.len().min(5)]);
}

#[test]
fn what_is_forgotten_in_the_middle_of_a_page_or_within_the_overlap_does_not_come_again() {
    // All on one day, which is today, and of which in the end no hash is kept.
    let (mut tenant, _) = tenant(0.4);
    collect(&mut tenant);
    for more in [0, 3_000, 0, 0] {
        // As many at once as make others forgotten.
        let now = tenant.link.simulator.now();
        tenant.link.simulator.change_world(|world| {
            for _ in 0..more {
                let spec = InvestigationSpec { status: "CLOSED".to_owned(), ..InvestigationSpec::new(now, now) };
                world.add_investigation(spec).unwrap();
            }
        });
        tenant.advance(Duration::from_mins(5));
        let cycle = tenant.cycle();
        assert_eq!((cycle.new, tenant.repeated), (more, 0), "{cycle:#?}");
    }
}

#[test]
fn what_is_forgotten_and_merely_looked_at_does_not_come_again_and_a_change_of_it_comes_once() {
    let (mut tenant, investigations) = tenant(20.0);
    collect(&mut tenant);
    tenant.advance(Duration::from_hours(1));
    let closed = |number: &usize| !number.is_multiple_of(3);
    // Of these a hash is left, and of the others nothing.
    let viewed: Vec<usize> = (MANY - condensed::MOST / 2..MANY).filter(closed).step_by(997).collect();
    let changed: Vec<usize> = (1_000..4_000).filter(closed).chain([viewed[0]]).collect();
    let now = tenant.link.simulator.now();
    tenant.link.simulator.change_world(|world| {
        for number in &viewed {
            world.add_change(investigations[*number], now, Change::Viewed).unwrap();
        }
        for number in &changed {
            world.add_change(investigations[*number], now, Change::Priority("LOW".into())).unwrap();
        }
    });
    // Everything is listed again, in steps that end in the middle of pages.
    tenant.advance(Duration::from_hours(7));
    tenant.budget.artifacts = 40;
    let cycle = tenant.cycle();
    assert_eq!((cycle.new, tenant.repeated), (changed.len(), 0), "{cycle:#?}");
}

/// Investigations of which a quarter is remembered, each looked at and with a new comment.
fn commented() -> Tenant {
    let mut world = World::empty();
    let start = time::macros::datetime!(2026-11-01 12:00 UTC);
    world.set_start(start);
    let add = |world: &mut World, number: u32| {
        let created = start - time::Duration::minutes(i64::from(number));
        let status = if number.is_multiple_of(3) { "CLOSED" } else { "OPEN" };
        let spec = InvestigationSpec { status: status.to_owned(), ..InvestigationSpec::new(created, created) };
        world.add_investigation(spec).unwrap()
    };
    let investigations: Vec<InvestigationId> = (60..1_060).map(|number| add(&mut world, number)).collect();
    let mut tenant = Tenant::of(world);
    tenant.bounds.known = 250;
    for (key, on) in [("collect_alerts", false), ("collect_product_alerts", false), ("collect_comments", true)] {
        tenant.settings.push(Setting { key: key.to_owned(), value: SettingValue::Boolean(on) });
    }
    let cycle = tenant.cycle();
    assert_eq!((cycle.new, cycle.failure), (1_000, None));
    tenant.advance(Duration::from_hours(7));
    let now = tenant.link.simulator.now();
    tenant.link.simulator.change_world(|world| {
        for (number, investigation) in investigations.iter().enumerate() {
            let comment = format!(r#"{{"rrn":"rrn:collaboration:us:o:comment:{number}","body":"seen"}}"#);
            world.add_change(*investigation, now, Change::Viewed).unwrap();
            world.add_comment(*investigation, now, &comment).unwrap();
        }
    });
    // More than the overlap, within which it would be asked for twice.
    tenant.advance(Duration::from_hours(1));
    tenant
}

#[test]
fn comments_come_at_once_where_more_is_looked_at_than_can_be_remembered() {
    let mut tenant = commented();
    // What the last pages of the listing have led to comes in the next cycle.
    let first = tenant.cycle();
    tenant.advance(Duration::from_mins(5));
    let second = tenant.cycle();
    assert_eq!((first.new + second.new, tenant.repeated), (1_000, 0), "{first:#?} {second:#?}");
}

#[test]
fn where_more_is_looked_at_than_can_be_remembered_what_cannot_be_read_holds_nothing_up() {
    let mut tenant = commented();
    let rule = Rule::new("/idr/v2/investigations/*", Fault::Html {}).after(20).times(u64::MAX);
    tenant.link.simulator.set_faults(FaultProfile::new([rule]));
    // Less than what cannot be read takes.
    tenant.budget.requests = 60;
    let first = tenant.cycle();
    assert!(first.failure.is_none() && first.degraded.contains_key("investigations"), "{first:#?}");
    tenant.link.simulator.set_faults(FaultProfile::default());
    let mut new = first.new;
    for _ in 0..3 {
        tenant.advance(Duration::from_hours(7));
        new += tenant.cycle().new;
    }
    assert_eq!(new, 1_000);
}

#[test]
fn a_cycle_that_takes_longer_than_a_short_overlap_is_not_followed_by_another_at_once() {
    let mut world = empty();
    for number in 0..300 {
        let created = start() - time::Duration::minutes(number + 10);
        world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    }
    let mut tenant = Tenant::of(world);
    for (key, value) in [
        ("overlap_minutes", SettingValue::Integer(1)),
        ("collect_alerts", SettingValue::Boolean(false)),
        ("collect_product_alerts", SettingValue::Boolean(false)),
    ] {
        tenant.settings.push(Setting { key: key.to_owned(), value });
    }
    sound(&mut tenant);
    tenant.advance(Duration::from_secs(300));
    tenant.link.pace = Duration::from_secs(30);
    let before = tenant.link.simulator.requests().len();
    assert_eq!(sound(&mut tenant).steps, 1);
    assert!(tenant.link.simulator.requests().len() - before > 4, "it takes minutes");

    // One that lay unfinished for an hour is: it says nothing of what has come since.
    tenant.advance(Duration::from_secs(300));
    tenant.budget.requests = 3;
    assert!(tenant.step().unwrap().more);
    tenant.budget = BUDGET;
    tenant.advance(Duration::from_secs(3_600));
    let new = [new_one(&tenant)];
    sound(&mut tenant);
    assert_eq!(missing(&tenant, &new), Vec::<&String>::new());
}
