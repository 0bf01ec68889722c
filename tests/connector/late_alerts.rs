//! Alerts outside investigations that the search shows late: looked for from time to time, as far back as is remembered.

use std::time::Duration;

use crate::common::native::{Tenant, empty, missing, sound, start};
use insightidr_simulator::{AlertSpec, InvestigationSpec, Oddities, RateLimit, SimulatorConfig, World, WorldConfig};
use rapid7_insightidr::api::transport::Request;
use rapid7_insightidr::collect::checkpoint::Checkpoint;
use time::OffsetDateTime;

const SEARCH: &str = "/idr/at/alerts/ops/search";

/// Adds an alert that shows up so long after its creation, and gives its RRN.
fn add(world: &mut World, created: OffsetDateTime, late: time::Duration) -> String {
    let visible = created + late;
    let spec = AlertSpec {
        triage_visible_at: Some(visible),
        evidence_visible_at: Some(visible),
        evidence: Some(Vec::new()),
        ..AlertSpec::new(created, visible)
    };
    let id = world.add_alert(None, spec).unwrap();
    world.alert_id(id).unwrap()
}

/// Polls every half an hour, as many hours.
fn hours(tenant: &mut Tenant, hours: u32) {
    for _ in 0..2 * hours {
        tenant.advance(Duration::from_secs(30 * 60));
        sound(tenant);
    }
}

/// How many searches there were.
fn searches(tenant: &Tenant) -> usize {
    let requests = tenant.link.simulator.requests();
    requests.iter().filter(|request| request.path.starts_with(SEARCH)).count()
}

#[test]
fn an_alert_that_shows_up_hours_or_days_late_is_found_and_comes_once() {
    let hour = time::Duration::hours(1);
    let mut world = empty();
    let rrns = [
        add(&mut world, start() - hour, 3 * hour),
        add(&mut world, start() + hour, 2 * hour),
        add(&mut world, start() + 2 * hour, 24 * hour),
        add(&mut world, start() + 3 * hour, 100 * hour),
    ];
    let late = [2, 3, 26, 103];
    let mut tenant = Tenant::of(world);
    sound(&mut tenant);
    for (rrn, shows) in rrns.iter().zip(late) {
        let is_there = |tenant: &Tenant| missing(tenant, std::slice::from_ref(rrn)).is_empty();
        let mut waited = 0;
        while !is_there(&tenant) {
            hours(&mut tenant, 1);
            waited += 1;
            assert!(waited < 110, "{rrn} is missing");
        }
        let now = tenant.link.simulator.now();
        assert!(now - start() <= (shows + 7) * hour, "{rrn} came {} after the start", now - start());
    }
    hours(&mut tenant, 24);
    assert!(tenant.again.is_empty(), "came again: {:?}", tenant.again);
}

#[test]
fn an_alert_that_shows_up_as_late_as_may_be_and_fails_then_is_not_lost() {
    let hour = time::Duration::hours(1);
    let mut world = empty();
    let rrns = [116, 119].map(|late| add(&mut world, start() + hour, late * hour));
    // Lists of evidence count one piece that is not there: it is waited for three times.
    let config = SimulatorConfig { long_evidence_totals: true, ..SimulatorConfig::default() };
    let mut tenant = Tenant::with(world, config);
    sound(&mut tenant);
    hours(&mut tenant, 140);
    assert_eq!(missing(&tenant, &rrns), Vec::<&String>::new());
    // Then it is searched every six hours again, and not in every cycle.
    let before = searches(&tenant);
    hours(&mut tenant, 12);
    assert!(searches(&tenant) - before <= 24 + 4, "{}", searches(&tenant) - before);
}

#[test]
fn looking_back_has_its_turn_although_alerts_are_not_known_yet_in_each_cycle() {
    // Minutes after which their own API knows those of investigations.
    for lag in [0, 12, 6_000] {
        let mut world = empty();
        let hour = time::Duration::hours(1);
        for number in 0..240 {
            let created = start() + time::Duration::minutes(10 * number + 5);
            let of = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
            let known = Some(created + time::Duration::minutes(lag));
            let spec =
                AlertSpec { triage_visible_at: known, evidence_visible_at: known, ..AlertSpec::new(created, created) };
            world.add_alert(Some(of), spec).unwrap();
        }
        let late: Vec<String> = (0..5).map(|number| add(&mut world, start() + hour * (5 * number), 3 * hour)).collect();
        let mut tenant = Tenant::of(world);
        for _ in 0..240 {
            tenant.cycle();
            tenant.advance(Duration::from_secs(600));
        }
        assert_eq!(missing(&tenant, &late), Vec::<&String>::new(), "{lag} minutes");
    }
}

#[test]
fn looking_back_goes_on_for_as_many_steps_as_it_takes() {
    for requests in [500, 60] {
        let mut world = empty();
        let hour = time::Duration::hours(1);
        let created = |second| start() + hour + time::Duration::seconds(second);
        let rrns: Vec<String> = (0..900).map(|second| add(&mut world, created(second), 2 * hour)).collect();
        let mut tenant = Tenant::of(world);
        tenant.budget.requests = requests;
        sound(&mut tenant);
        hours(&mut tenant, 9);
        assert_eq!(missing(&tenant, &rrns).len(), 0, "with {requests} requests a step");
    }
}

#[test]
fn looking_back_has_its_turn_where_each_cycle_takes_what_the_vendor_allows() {
    // One investigation an hour, a poll every other hour: a cycle takes nearly all that the vendor allows.
    for (requests, rate_headers) in [(26, false), (27, false), (19, true), (28, true)] {
        let mut world = empty();
        let hour = time::Duration::hours(1);
        for number in 0..300 {
            let created = start() + hour * number - time::Duration::minutes(3);
            let of = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
            world.add_alert(Some(of), AlertSpec::new(created, created)).unwrap();
        }
        let late: Vec<String> = (0..8).map(|number| add(&mut world, start() + hour * (6 * number), 4 * hour)).collect();
        let limit = RateLimit { requests, window: Duration::from_secs(30 * 60) };
        let config = SimulatorConfig { rate_limit: Some(limit), rate_headers, ..SimulatorConfig::default() };
        let mut tenant = Tenant::with(world, config);
        for _ in 0..150 {
            tenant.advance(Duration::from_secs(2 * 3_600 + 1));
            tenant.cycle();
        }
        assert_eq!(missing(&tenant, &late), Vec::<&String>::new(), "{requests} requests, headers: {rate_headers}");
    }
}

#[test]
fn whichever_of_their_times_the_search_goes_by_all_are_found() {
    // One in twenty was raised a day or two before its creation.
    let world = WorldConfig {
        seed: 5,
        investigations: 0,
        old_investigations: 0,
        growth_per_day: 300,
        standalone_alerts: 20,
        horizon_days: 1,
        exact_alerts: true,
        odd: Oddities { late_alerts_percent: 20, ..Oddities::default() },
        ..WorldConfig::default()
    };
    for searches_by_alerted in [false, true] {
        let config = SimulatorConfig { searches_by_alerted, ..SimulatorConfig::default() };
        let mut tenant = Tenant::with(World::generate(&world), config);
        sound(&mut tenant);
        hours(&mut tenant, 24 * 6);
        let truth = tenant.link.simulator.truth();
        let alerts = truth.alerts.iter().filter(|alert| {
            let time = if searches_by_alerted { alert.alerted_at } else { alert.created };
            let seen = alert.triage_visible_at - time < time::Duration::hours(4 * 24 + 16);
            // What was there before the first poll is as far back as the look-back goes.
            alert.investigation.is_none() && seen
        });
        let rrns: Vec<String> = alerts.map(|alert| alert.id.clone()).collect();
        assert!(rrns.len() > 280, "{}", rrns.len());
        let missing = missing(&tenant, &rrns);
        assert!(missing.is_empty(), "by alerted_at: {searches_by_alerted}: {} are missing", missing.len());
        assert!(tenant.again.is_empty(), "came again: {:?}", tenant.again);
    }
}

#[test]
fn looking_back_costs_a_search_for_each_hundred_alerts_every_six_hours() {
    let mut world = empty();
    for number in 0..150 {
        add(&mut world, start() - time::Duration::minutes(30 + 10 * number), time::Duration::ZERO);
    }
    let mut tenant = Tenant::of(world);
    sound(&mut tenant);
    let before = searches(&tenant);
    hours(&mut tenant, 24);
    // One a poll, and two pages every six hours.
    assert_eq!(searches(&tenant) - before, 48 + 4 * 2, "in a day of 48 polls");
    let requests = tenant.link.simulator.requests();
    let reads = requests.iter().filter(|request| request.path.contains("ops/rrns")).count();
    assert!(reads <= 2, "what is known is read no more: {reads}");
}

#[test]
fn a_failure_in_looking_back_is_no_failure_and_keeps_nothing_waiting() {
    let mut world = empty();
    let hour = time::Duration::hours(1);
    let late = add(&mut world, start() + hour, 3 * hour);
    let new: Vec<String> =
        (0..48).map(|number| add(&mut world, start() + hour / 2 * number, time::Duration::ZERO)).collect();
    let mut tenant = Tenant::of(world);
    sound(&mut tenant);
    // A search that begins more than two hours ago fails.
    let is_far = move |request: &Request, now: OffsetDateTime| {
        let body: serde_json::Value =
            serde_json::from_str(request.body.as_deref().unwrap_or_default()).unwrap_or_default();
        let from = body["search"]["start_time"].as_str().unwrap_or_default();
        OffsetDateTime::parse(from, &time::format_description::well_known::Rfc3339)
            .is_ok_and(|from| now - from > 2 * hour)
    };
    let clock = tenant.link.simulator.clone();
    tenant.link.spoils = Some(Box::new(move |request, response| {
        if request.target.starts_with(SEARCH) && is_far(request, clock.now()) {
            (response.status, response.body) = (500, Vec::new());
        }
    }));
    for _ in 0..48 {
        tenant.advance(Duration::from_secs(30 * 60));
        let cycle = tenant.cycle();
        assert!(cycle.failure.is_none() && cycle.degraded.is_empty(), "{cycle:#?}");
    }
    hours(&mut tenant, 1);
    assert_eq!(missing(&tenant, &new), Vec::<&String>::new());
    assert_eq!(missing(&tenant, std::slice::from_ref(&late)), [&late]);
    tenant.link.spoils = None;
    hours(&mut tenant, 7);
    assert_eq!(missing(&tenant, &[late]), Vec::<&String>::new(), "with the next time");
}

#[test]
fn what_is_remembered_for_looking_back_is_bounded_and_what_is_forgotten_does_not_come_again() {
    let mut world = empty();
    for number in 0..5_000 {
        let created = start() - time::Duration::seconds(30 * number);
        let spec = AlertSpec { evidence: Some(Vec::new()), ..AlertSpec::new(created, created) };
        world.add_alert(None, spec).unwrap();
    }
    let mut tenant = Tenant::of(world);
    sound(&mut tenant);
    hours(&mut tenant, 14);
    assert_eq!(tenant.store.len(), 5_000);
    assert!(tenant.again.is_empty(), "{} came again", tenant.again.len());
    let known = Checkpoint::decode(tenant.checkpoint.clone().unwrap()).unwrap().beyond.outside.len();
    assert!((1_900..2_100).contains(&known), "{known} are remembered");
}
