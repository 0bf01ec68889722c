//! Changes over days of virtual time: new alerts on old investigations, and
//! every state that a poll could see, against the simulator's truth.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::common::native::{Tenant, empty, new_one, sound};
use crate::common::versions::{self, assert_only_joined_came_again, collected, is_closed, shown, version};
use insightidr_simulator::{
    AlertSpec, Change, InvestigationSpec, RateLimit, SimulatorConfig, Truth, World, WorldConfig,
};
use rapid7_insightidr::contract::{Setting, SettingValue};
use time::OffsetDateTime;

/// Polls every `interval` for `days`, and gives the times of the polls.
fn poll_for(tenant: &mut Tenant, days: u64, interval: Duration) -> Vec<OffsetDateTime> {
    let mut polls = Vec::new();
    for _ in 0..(days * 86_400 / interval.as_secs()) {
        polls.push(tenant.link.simulator.now());
        let cycle = tenant.cycle();
        assert!(cycle.failure.is_none() && cycle.degraded.is_empty(), "{cycle:#?}");
        tenant.advance(interval);
    }
    polls
}

/// One quiet day later everything has been listed again.
fn settle(tenant: &mut Tenant) {
    for _ in 0..5 {
        tenant.advance(Duration::from_secs(6 * 3_600));
        let cycle = tenant.cycle();
        assert!(cycle.failure.is_none() && cycle.degraded.is_empty(), "{cycle:#?}");
    }
}

#[test]
fn every_state_that_a_poll_could_see_is_collected_once_and_none_is_invented() {
    for seed in 21..25 {
        let world =
            World::generate(&WorldConfig { seed, investigations: 60, growth_per_day: 60, ..WorldConfig::default() });
        let mut tenant = Tenant::of(world);
        let floor = tenant.link.simulator.now() - time::Duration::days(28);
        let polls = poll_for(&mut tenant, 3, Duration::from_secs(20 * 60));
        settle(&mut tenant);
        let truth = tenant.link.simulator.truth();
        let collected = collected(&tenant);
        for one in truth.investigations.iter().filter(|one| one.created > floor && one.visible_at <= truth.now) {
            let what = format!("seed {seed}: {}", one.rrn);
            let versions = &collected.get(&one.rrn).unwrap_or_else(|| panic!("{what} is missing"));
            // None twice in a row, none that never was.
            assert!(versions.windows(2).all(|pair| pair[0] != pair[1]), "{what}: {versions:#?}");
            let real: BTreeSet<String> = one.versions.iter().map(|version_| version(&version_.value())).collect();
            assert!(versions.iter().all(|version| real.contains(version)), "{what}: {versions:#?} {real:#?}");
            // What a poll saw while it was not closed, and how it was closed.
            let mut was_open = true;
            for poll in &polls {
                let Some(version) = shown(one, *poll) else { continue };
                assert!(
                    is_closed(&version) && !was_open || versions.contains(&version),
                    "{what} at {poll}: {version} {versions:#?}"
                );
                was_open = !is_closed(&version);
            }
            // The last state of all.
            if let Some(last) = shown(one, truth.now) {
                assert_eq!(versions.last(), Some(&last), "{what}");
            }
        }
        assert_only_joined_came_again(&tenant, &truth, time::Duration::minutes(20));
    }
}

#[test]
fn an_investigation_of_any_age_that_gains_an_alert_is_collected_with_all_its_alerts() {
    for seed in 31..34 {
        let config = WorldConfig { seed, investigations: 30, old_investigations: 40, ..WorldConfig::default() };
        let mut tenant = Tenant::of(World::generate(&config));
        let start = tenant.link.simulator.now();
        poll_for(&mut tenant, 3, Duration::from_secs(30 * 60));
        settle(&mut tenant);
        let truth = tenant.link.simulator.truth();
        let floor = start - time::Duration::days(28);
        let collected = tenant.collected();
        let gained: Vec<&String> = gained_within(&truth, floor);
        let old = truth.investigations.iter().filter(|one| one.created < floor && gained.contains(&&one.rrn)).count();
        assert!(old > 5, "seed {seed}: the world has old investigations that gain alerts");
        for alert in
            truth.alerts.iter().filter(|alert| alert.investigation.as_ref().is_some_and(|rrn| gained.contains(&rrn)))
        {
            if alert.visible_at <= truth.now {
                assert!(collected.contains_key(&alert.id), "seed {seed}: {alert:#?}");
                assert_eq!(collected.get(&alert.id), Some(&1), "seed {seed}");
            }
        }
        for rrn in gained {
            assert!(collected.contains_key(rrn), "seed {seed}: {rrn}");
        }
    }
}

/// Investigations with an alert that came into view after `floor`.
fn gained_within(truth: &Truth, floor: OffsetDateTime) -> Vec<&String> {
    let shown: BTreeSet<&String> = truth
        .investigations
        .iter()
        .filter(|one| one.gone_at.is_none_or(|gone| gone > truth.now))
        .map(|one| &one.rrn)
        .collect();
    let alerts = truth.alerts.iter().filter(|alert| alert.created > floor && alert.on_row_at <= truth.now);
    alerts.filter_map(|alert| alert.investigation.as_ref()).filter(|rrn| shown.contains(rrn)).collect()
}

#[test]
fn a_state_that_returns_is_a_version_of_its_own() {
    let start = WorldConfig::default().start;
    let mut world = World::empty_in("us");
    world.set_start(start);
    let created = start - time::Duration::hours(2);
    let id = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    for (hours, status) in [(1, "CLOSED"), (2, "OPEN"), (3, "CLOSED")] {
        world.add_change(id, start + time::Duration::hours(hours), Change::Status(status.into())).unwrap();
    }
    let mut tenant = Tenant::of(world);
    let mut new = Vec::new();
    for _ in 0..5 {
        new.push(tenant.cycle().new);
        tenant.advance(Duration::from_secs(3_600));
    }
    // Reopening is a change of a closed one: the list of what is not closed
    // shows it at once.
    assert_eq!(new, [1, 1, 1, 1, 0]);
    let statuses: Vec<String> = collected(&tenant)
        .into_values()
        .next()
        .unwrap()
        .iter()
        .map(|version| version.split(versions::SEPARATOR).nth(2).unwrap().to_owned())
        .collect();
    assert_eq!(statuses[1..], ["CLOSED", "OPEN", "CLOSED"]);
}

#[test]
fn a_list_that_is_behind_what_was_read_singly_makes_no_version() {
    let mut tenant = Tenant::of(empty());
    sound(&mut tenant);
    tenant.advance(Duration::from_secs(300));
    let rrn = new_one(&tenant);
    sound(&mut tenant);
    tenant.advance(Duration::from_secs(290));
    let now = tenant.link.simulator.now();
    tenant.link.simulator.change_world(|world| {
        let id = world.investigation_ids().next().unwrap();
        world.add_change(id, now, Change::Priority("CRITICAL".into())).unwrap();
    });
    tenant.advance(Duration::from_secs(10));
    // A single read shows it, since it is young; the list does not yet.
    tenant.link.spoils = Some(Box::new(|request, response| {
        if request.target.starts_with("/idr/v2/investigations?") {
            let text = String::from_utf8(std::mem::take(&mut response.body)).unwrap();
            response.body = text.replace("CRITICAL", "MEDIUM").into_bytes();
        }
    }));
    sound(&mut tenant);
    tenant.link.spoils = None;
    settle(&mut tenant);
    let versions = &collected(&tenant)[&rrn];
    assert_eq!(versions.len(), 2, "{versions:#?}");
}

#[test]
fn many_that_close_at_once_are_read_however_little_the_vendor_allows() {
    for requests in (12..60).step_by(3) {
        let start = WorldConfig::default().start;
        let mut world = World::empty_in("us");
        world.set_start(start);
        for number in 0..40 {
            let created = start - time::Duration::days(1) - time::Duration::minutes(number);
            let id = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
            world.add_alert(Some(id), AlertSpec::new(created, created)).unwrap();
            world.add_change(id, start + time::Duration::hours(1), Change::Status("CLOSED".into())).unwrap();
        }
        let rate_limit = Some(RateLimit { requests, window: Duration::from_secs(60) });
        let mut tenant = Tenant::with(world, SimulatorConfig { rate_limit, ..SimulatorConfig::default() });
        tenant.settings.push(Setting { key: "collect_comments".to_owned(), value: SettingValue::Boolean(true) });
        let first = tenant.cycle();
        assert!(first.failure.is_none() && first.new == 80, "{requests} requests a minute: {first:#?}");
        tenant.advance(Duration::from_secs(3 * 3_600));
        // They have left the list of what is not closed: each is read singly.
        let second = tenant.cycle();
        assert!(second.failure.is_none() && second.degraded.is_empty(), "{requests} requests a minute: {second:#?}");
        assert_eq!(second.new, 40, "{requests} requests a minute");
    }
}

#[test]
fn what_is_forgotten_for_its_number_costs_nothing_until_it_changes_and_comes_again_only_then() {
    const ALL: i64 = 24_000;
    let start = WorldConfig::default().start;
    let mut world = World::empty_in("us");
    world.set_start(start);
    let mut ids = Vec::new();
    for number in 0..ALL {
        // Over 330 days, the last one a day ago.
        let created = start - time::Duration::days(1) - time::Duration::minutes(20 * (ALL - number));
        let id = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
        world.add_change(id, created + time::Duration::minutes(1), Change::Status("CLOSED".into())).unwrap();
        ids.push(id);
    }
    // One from before the look-back, one that was collected before room had to be made; both go back to what they were,
    // and when they have been forgotten again to what they were before that.
    let many = usize::try_from(ALL).unwrap();
    let changed = [ids[5], ids[many - 1_900]];
    for id in changed {
        for (days, status) in [(1, "OPEN"), (2, "CLOSED"), (3, "OPEN")] {
            world.add_change(id, start + time::Duration::days(days), Change::Status(status.into())).unwrap();
        }
    }
    let rrns = changed.map(|id| world.investigation_rrn(id).unwrap().to_owned());
    // And room is made for many new ones.
    for number in 0..22_000 {
        let hour = if number < 20_000 { 1 } else { 60 };
        let created = start + time::Duration::hours(hour) + time::Duration::milliseconds(50 * number);
        let id = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
        world.add_change(id, created + time::Duration::minutes(1), Change::Status("CLOSED".into())).unwrap();
    }
    let mut tenant = Tenant::of(world);
    let first = tenant.cycle();
    assert!(first.failure.is_none() && first.new > 1_900, "{first:#?}");
    tenant.advance(Duration::from_secs(3 * 3_600));
    let second = tenant.cycle();
    assert_eq!(second.new, 20_000);

    for (hours, new) in [(7, 0), (7, 0), (14, 2), (7, 0), (7, 0), (14, 2), (7, 2_000), (7, 2), (7, 0)] {
        tenant.advance(Duration::from_secs(hours * 3_600));
        let before = tenant.link.simulator.request_count();
        let cycle = tenant.cycle();
        assert!(cycle.failure.is_none() && cycle.degraded.is_empty(), "{cycle:#?}");
        let asked = tenant.link.simulator.request_count() - before;
        println!("{hours} h later: {} new, {asked} requests", cycle.new);
        assert_eq!(cycle.new, new);
        // Everything there is by the hundred, twice since nothing here has an alert whose time would end the listing by
        // latest alert, and little besides.
        assert!(asked < 2 * 460 + 40 + 2 * cycle.new as u64, "{asked} requests");
    }
    let collected = collected(&tenant);
    for rrn in rrns {
        let statuses: Vec<&str> =
            collected[&rrn].iter().map(|version| version.split(versions::SEPARATOR).nth(2).unwrap()).collect();
        assert_eq!(statuses[statuses.len() - 3..], ["OPEN", "CLOSED", "OPEN"], "{rrn}");
    }
    assert!(tenant.again.is_empty(), "{:?}", tenant.again.len());
}

#[test]
fn room_for_many_brings_nothing_from_before_the_look_back_and_loses_no_comment() {
    let start = WorldConfig::default().start;
    let mut world = World::empty_in("us");
    world.set_start(start);
    let mut ids = Vec::new();
    for number in 0..21_500 {
        let created = match number {
            0..500 => start - time::Duration::days(60) + time::Duration::minutes(number),
            _ => start - time::Duration::days(20) + time::Duration::minutes(number - 500),
        };
        let id = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
        world.add_change(id, created + time::Duration::seconds(1), Change::Status("CLOSED".into())).unwrap();
        ids.push(id);
    }
    // A comment on one that was collected and had to make room, and on one from before the look-back.
    for id in [ids[600], ids[100]] {
        let written = start + time::Duration::hours(20);
        world.add_change(id, written, Change::Viewed).unwrap();
        let comment = format!(
            r#"{{"rrn":"rrn:collaboration:us:o:comment:{id:?}","created_time":"2026-01-01T00:00:00Z","body":"seen"}}"#
        );
        world.add_comment(id, written, &comment.replace(['(', ')'], "")).unwrap();
    }
    let mut tenant = Tenant::of(world);
    tenant.settings.push(Setting { key: "collect_comments".to_owned(), value: SettingValue::Boolean(true) });
    // Where a comment may be is found by one cycle and read in the next.
    for (cycle, new) in [21_000, 0, 0, 0, 1, 0].into_iter().enumerate() {
        let report = tenant.cycle();
        assert!(report.failure.is_none() && report.new == new, "cycle {cycle}: {report:#?}");
        tenant.advance(Duration::from_secs(7 * 3_600));
    }
    assert!(tenant.again.is_empty(), "{} came again", tenant.again.len());
}
