//! A host whose clock is ahead of the vendor's, or behind it, for one poll or for long.

use std::time::Duration;

use crate::common::native::{Tenant, actions, empty, missing, new_one, sound, start};
use insightidr_simulator::{AlertSpec, Change, InvestigationSpec, RateLimit, RetryAfterForm, SimulatorConfig};
use rapid7_insightidr::contract::{Setting, SettingValue};

/// Makes an alert of now outside investigations: its RRN.
fn new_outside(tenant: &Tenant) -> String {
    let now = tenant.link.simulator.now();
    tenant.link.simulator.change_world(|world| {
        let id = world.add_alert(None, AlertSpec::new(now, now)).unwrap();
        world.alert_id(id).unwrap()
    })
}

/// A poll every so many minutes, so many times, behind an alert outside investigations: their RRNs.
fn new_ones(tenant: &mut Tenant, minutes: u64, count: usize) -> Vec<String> {
    let new = |_| {
        tenant.advance(Duration::from_secs(60 * minutes));
        let rrn = new_outside(tenant);
        sound(tenant);
        rrn
    };
    (0..count).map(new).collect()
}

/// How many requests a poll makes.
fn requests(tenant: &mut Tenant) -> usize {
    let before = tenant.link.simulator.requests().len();
    sound(tenant);
    tenant.link.simulator.requests().len() - before
}

#[test]
fn a_clock_that_was_ahead_for_one_poll_costs_no_alert_outside_investigations() {
    for (dated, ahead) in [(true, 86_400), (true, 3_600), (true, 1_500), (false, 86_400)] {
        for minutes in [5, 60] {
            let mut tenant = Tenant::of(empty());
            tenant.link.dated = dated;
            sound(&mut tenant);
            tenant.link.skew.set(ahead);
            tenant.advance(Duration::from_secs(600));
            sound(&mut tenant);
            tenant.link.skew.set(0);
            let mut all = vec![new_outside(&tenant)];
            all.extend(new_ones(&mut tenant, minutes, 24));
            new_ones(&mut tenant, minutes, 12);
            assert_eq!(missing(&tenant, &all).len(), 0, "{ahead} seconds, polls every {minutes} minutes, {dated}");
            assert_eq!(tenant.repeated, 0);
        }
    }
}

#[test]
fn a_clock_that_is_ahead_for_long_costs_no_record() {
    let mut tenant = Tenant::of(empty());
    tenant.link.skew.set(3_600);
    sound(&mut tenant);
    let mut all = Vec::new();
    for _ in 0..6 {
        all.extend(new_ones(&mut tenant, 5, 12));
        all.push(new_one(&tenant));
    }
    // While it still is: all but the last few.
    sound(&mut tenant);
    assert!(missing(&tenant, &all).len() <= 5, "{} are missing", missing(&tenant, &all).len());
    tenant.link.skew.set(0);
    all.extend(new_ones(&mut tenant, 5, 12));
    new_ones(&mut tenant, 5, 12);
    assert_eq!((missing(&tenant, &all).len(), tenant.repeated), (0, 0));
    // What that costs where nothing happens.
    for ahead in [0, 3_600] {
        tenant.link.skew.set(ahead);
        tenant.advance(Duration::from_secs(3_600));
        sound(&mut tenant);
        tenant.advance(Duration::from_secs(300));
        assert_eq!(requests(&mut tenant), if ahead == 0 { 4 } else { 5 }, "the list of what is new is asked for again");
    }
}

#[test]
fn an_alert_waits_for_its_evidence_although_the_clock_is_ahead() {
    let mut tenant = Tenant::of(empty());
    tenant.link.skew.set(25 * 60);
    sound(&mut tenant);
    tenant.advance(Duration::from_secs(300));
    let now = tenant.link.simulator.now();
    tenant.link.simulator.change_world(|world| {
        let of = world.add_investigation(InvestigationSpec::new(now, now)).unwrap();
        let soon = Some(now + time::Duration::minutes(1));
        world.add_alert(Some(of), AlertSpec { evidence_visible_at: soon, ..AlertSpec::new(now, now) }).unwrap();
    });
    for _ in 0..12 {
        sound(&mut tenant);
        tenant.advance(Duration::from_secs(300));
    }
    let alert = tenant.store.values().find(|artifact| artifact["action"] == "alert").unwrap();
    assert!(alert["message"].as_str().unwrap().contains("\"evidence\""), "{alert:#}");
}

#[test]
fn comments_on_what_is_closed_come_although_the_clock_is_ahead() {
    let mut world = empty();
    let created = start() - time::Duration::days(2);
    let spec = InvestigationSpec { status: "CLOSED".to_owned(), ..InvestigationSpec::new(created, created) };
    let of = world.add_investigation(spec).unwrap();
    let mut tenant = Tenant::of(world);
    tenant.settings.push(Setting { key: "collect_comments".to_owned(), value: SettingValue::Boolean(true) });
    tenant.link.skew.set(3_600);
    sound(&mut tenant);
    for number in 0..8 {
        tenant.advance(Duration::from_secs(300));
        let now = tenant.link.simulator.now();
        tenant.link.simulator.change_world(|world| {
            let comment = format!(r#"{{"rrn":"rrn:collaboration:us:o:comment:C{number}","body":"seen"}}"#);
            world.add_comment(of, now, &comment).unwrap();
            world.add_change(of, now, Change::Viewed).unwrap();
        });
    }
    for _ in 0..14 {
        tenant.advance(Duration::from_secs(3_600));
        sound(&mut tenant);
    }
    assert_eq!(actions(&tenant, "comment"), 8);
}

#[test]
fn the_look_back_ends_when_the_vendor_says_that_it_is_now() {
    let mut world = empty();
    let created = start() - time::Duration::hours(22);
    let of = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    let rrn = world.investigation_rrn(of).unwrap().to_owned();
    let mut tenant = Tenant::of(world);
    tenant.settings.push(Setting { key: "initial_lookback_days".to_owned(), value: SettingValue::Integer(1) });
    tenant.link.skew.set(3 * 86_400);
    sound(&mut tenant);
    assert_eq!(tenant.collected().get(&rrn), Some(&1));
}

#[test]
fn a_date_that_makes_no_sense_changes_nothing() {
    for date in ["", "soon", "Thu, 01 Jan 1970 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT"] {
        let mut tenant = Tenant::of(empty());
        tenant.link.spoils = Some(Box::new(move |_, response| {
            let said = response.headers.iter_mut().find(|(name, _)| name == "date");
            date.clone_into(&mut said.unwrap().1);
        }));
        sound(&mut tenant);
        let all = new_ones(&mut tenant, 5, 24);
        new_ones(&mut tenant, 5, 12);
        assert_eq!(missing(&tenant, &all).len(), 0, "{date}");
        tenant.advance(Duration::from_secs(3_600));
        sound(&mut tenant);
        tenant.advance(Duration::from_secs(300));
        assert_eq!(requests(&mut tenant), 4, "{date}");
    }
}

#[test]
fn a_clock_that_is_behind_delays_nothing_and_costs_no_record() {
    for behind in [600, 3 * 3_600, 30 * 3_600] {
        let mut tenant = Tenant::of(empty());
        sound(&mut tenant);
        new_ones(&mut tenant, 5, 12);
        tenant.link.skew.set(-behind);
        new_ones(&mut tenant, 5, 2);
        let new = new_one(&tenant);
        let outside = new_outside(&tenant);
        new_ones(&mut tenant, 5, 1);
        assert_eq!(missing(&tenant, &[new]).len(), 0, "five minutes after it was made");
        let mut all = vec![outside];
        all.extend(new_ones(&mut tenant, 5, 6));
        assert_eq!(missing(&tenant, &all[..1]).len(), 0, "half an hour after it was made");
        // And right again.
        tenant.link.skew.set(0);
        all.extend(new_ones(&mut tenant, 5, 12));
        new_ones(&mut tenant, 5, 12);
        assert_eq!((missing(&tenant, &all).len(), tenant.repeated), (0, 0), "{behind} seconds");
        tenant.advance(Duration::from_secs(3_600));
        sound(&mut tenant);
        tenant.advance(Duration::from_secs(300));
        assert_eq!(requests(&mut tenant), 4, "{behind} seconds");
    }
}

#[test]
fn a_first_collection_looks_back_from_the_vendors_present_time_although_the_clock_is_behind() {
    let mut world = empty();
    let rrns = [23, 25].map(|hours| {
        let created = start() - time::Duration::hours(hours);
        let spec = InvestigationSpec { status: "CLOSED".to_owned(), ..InvestigationSpec::new(created, created) };
        let of = world.add_investigation(spec).unwrap();
        world.investigation_rrn(of).unwrap().to_owned()
    });
    let mut tenant = Tenant::of(world);
    tenant.settings.push(Setting { key: "initial_lookback_days".to_owned(), value: SettingValue::Integer(1) });
    tenant.link.skew.set(-3 * 86_400);
    sound(&mut tenant);
    let collected = tenant.collected();
    assert_eq!(rrns.map(|rrn| collected.contains_key(&rrn)), [true, false]);
}

#[test]
fn a_cycle_of_many_steps_is_one_although_the_clock_is_behind() {
    let mut world = empty();
    let mut all = Vec::new();
    for hours in 2..60 {
        let created = start() - time::Duration::hours(hours);
        let of = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
        world.add_alert(Some(of), AlertSpec::new(created, created)).unwrap();
        all.push(world.investigation_rrn(of).unwrap().to_owned());
    }
    let mut tenant = Tenant::of(world);
    tenant.budget.requests = 20;
    tenant.link.skew.set(-3 * 3_600);
    let cycle = sound(&mut tenant);
    assert!(cycle.steps > 5 && missing(&tenant, &all).is_empty(), "{cycle:#?}");
    assert_eq!(tenant.repeated, 0);
}

#[test]
fn dates_of_the_future_cost_no_record_when_they_turn_out_to_be_wrong() {
    let mut tenant = Tenant::of(empty());
    let wrong = std::rc::Rc::new(std::cell::Cell::new(true));
    let (now, simulator) = (std::rc::Rc::clone(&wrong), tenant.link.simulator.clone());
    tenant.link.spoils = Some(Box::new(move |_, response| {
        if now.get() {
            let date = httpdate::fmt_http_date((simulator.now() + time::Duration::hours(3)).into());
            response.headers.retain(|(name, _)| name != "date");
            response.headers.push(("date".to_owned(), date));
        }
    }));
    sound(&mut tenant);
    let mut all = Vec::new();
    // For two days.
    for _ in 0..48 {
        all.extend(new_ones(&mut tenant, 60, 1));
        all.push(new_one(&tenant));
    }
    wrong.set(false);
    new_ones(&mut tenant, 5, 12);
    assert_eq!(missing(&tenant, &all).len(), 0);
}

#[test]
fn a_date_to_come_back_at_is_read_by_the_vendors_clock_where_the_hosts_is_behind() {
    let mut world = empty();
    for hours in 2..62 {
        let created = start() - time::Duration::hours(hours);
        let of = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
        world.add_alert(Some(of), AlertSpec::new(created, created)).unwrap();
    }
    let config = SimulatorConfig {
        rate_limit: Some(RateLimit { requests: 20, window: Duration::from_secs(60) }),
        rate_headers: false,
        retry_after: RetryAfterForm::HttpDate,
        ..SimulatorConfig::default()
    };
    let mut tenant = Tenant::with(world, config);
    tenant.link.skew.set(-3_600);
    let wait = (0..6).find_map(|_| tenant.step().unwrap().retry_after_seconds);
    assert!(wait.is_some_and(|wait| wait <= 120), "told to wait for {wait:?} seconds");
}

#[test]
fn a_clock_that_is_behind_does_not_have_cycles_follow_each_other_while_the_list_of_new_ones_is_silent() {
    let cost = |behind: i64| {
        let mut tenant = Tenant::of(empty());
        tenant.link.skew.set(behind);
        tenant.budget.wall_time_milliseconds = 60_000;
        sound(&mut tenant);
        tenant.advance(Duration::from_secs(600));
        sound(&mut tenant);
        // Only the list of what is new is of the last days, and has no states.
        tenant.link.slow = Some(Box::new(|request| {
            let from = request.target.split(['?', '&']).find_map(|part| part.strip_prefix("start_time="));
            let from = from.and_then(|from| {
                time::OffsetDateTime::parse(from, &time::format_description::well_known::Rfc3339).ok()
            });
            let is_new = request.target.contains("size=100")
                && request.target.contains("created_time,ASC")
                && !request.target.contains("statuses")
                && from.is_some_and(|from| from > start() - time::Duration::days(2));
            if is_new { Duration::from_secs(3_600) } else { Duration::ZERO }
        }));
        tenant.advance(Duration::from_secs(600));
        let before = tenant.link.simulator.request_count();
        let steps = (1..20).find(|_| !tenant.step().is_ok_and(|batch| batch.more)).expect("the cycle ends");
        (steps, tenant.link.simulator.request_count() - before)
    };
    assert_eq!(cost(-3_600), cost(0));
}

#[test]
fn a_clock_that_is_behind_brings_nothing_of_before_the_look_back() {
    for is_behind_at_first in [true, false] {
        let mut world = empty();
        let rrns: Vec<String> = (25..70)
            .map(|hours| {
                let created = start() - time::Duration::hours(hours);
                let spec =
                    InvestigationSpec { status: "CLOSED".to_owned(), ..InvestigationSpec::new(created, created) };
                let of = world.add_investigation(spec).unwrap();
                world.add_alert(Some(of), AlertSpec::new(created, created)).unwrap();
                world.investigation_rrn(of).unwrap().to_owned()
            })
            .collect();
        let mut tenant = Tenant::of(world);
        for (key, value) in [
            ("initial_lookback_days", SettingValue::Integer(1)),
            ("collect_uninvestigated_alerts", SettingValue::Boolean(false)),
        ] {
            tenant.settings.push(Setting { key: key.to_owned(), value });
        }
        let behind = -3 * 86_400;
        tenant.link.skew.set(if is_behind_at_first { behind } else { 0 });
        sound(&mut tenant);
        tenant.link.skew.set(behind);
        for _ in 0..2 {
            tenant.advance(Duration::from_secs(300));
            sound(&mut tenant);
        }
        let came = rrns.iter().filter(|rrn| tenant.collected().contains_key(*rrn)).count();
        assert_eq!(came, 0, "behind at first: {is_behind_at_first}");
    }
}

#[test]
fn a_clock_that_was_far_ahead_at_the_first_poll_costs_nothing_that_comes_later() {
    for (dated, days) in [(false, 40), (true, 40), (true, 400)] {
        let mut tenant = Tenant::of(empty());
        tenant.link.dated = dated;
        tenant.link.skew.set(86_400 * days);
        tenant.cycle();
        tenant.link.skew.set(0);
        let new = |_| {
            tenant.advance(Duration::from_secs(1_800));
            let rrn = new_one(&tenant);
            tenant.cycle();
            rrn
        };
        let rrns: Vec<String> = (0..12).map(new).collect();
        tenant.advance(Duration::from_secs(7_200));
        tenant.cycle();
        assert_eq!(missing(&tenant, &rrns), Vec::<&String>::new(), "{days} days, dated: {dated}");
    }
}
