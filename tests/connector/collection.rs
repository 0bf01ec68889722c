//! Collection against the simulator's truth, natively and in virtual time.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::common::faults::faults;
use crate::common::native::{KEY, Tenant, empty, start};
use insightidr_simulator::{
    AlertSpec, ApiKey, Fault, FaultProfile, InvestigationSpec, RateLimit, Rule, SimulatorConfig, Truth,
    TruthInvestigation, World, WorldConfig,
};
use rapid7_insightidr::contract::{Budget, FailureReason, Setting, SettingValue};

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

fn world(seed: u64, investigations: usize) -> World {
    World::generate(&WorldConfig { seed, investigations, ..WorldConfig::default() })
}

/// What has to have been collected by now: investigations created within the
/// look-back and their alerts, as far as they could be seen `ago`.
fn expected(truth: &Truth, start: time::OffsetDateTime, seen: time::OffsetDateTime) -> Vec<String> {
    let from = start - time::Duration::days(28);
    let mut expected: Vec<String> = Vec::new();
    for investigation in &truth.investigations {
        if investigation.created > from && investigation.visible_at <= seen {
            expected.push(investigation.rrn.clone());
        }
    }
    let investigations = expected.clone();
    for alert in &truth.alerts {
        if alert.visible_at <= seen && alert.investigation.as_ref().is_some_and(|rrn| investigations.contains(rrn)) {
            expected.push(alert.id.clone());
        }
    }
    expected
}

fn missing(tenant: &Tenant, start: time::OffsetDateTime, seen: time::OffsetDateTime) -> Vec<String> {
    let collected = tenant.collected();
    expected(&tenant.link.simulator.truth(), start, seen).into_iter().filter(|id| !collected.contains_key(id)).collect()
}

#[test]
fn the_first_cycle_collects_all_that_can_be_seen_and_the_second_nothing() {
    let mut tenant = Tenant::of(world(1, 250));
    let start = tenant.link.simulator.now();
    let first = tenant.cycle();
    assert!(first.failure.is_none() && first.degraded.is_empty(), "{first:#?}");
    assert_eq!(missing(&tenant, start, start), Vec::<String>::new());
    assert!(first.new > 500, "{first:#?}");
    let second = tenant.cycle();
    assert_eq!((second.new, tenant.repeated), (0, 0), "{second:#?}");
    assert_eq!(second.fetched["investigations"], 0);
}

/// Where a fault strikes: the requests it is for, and how many of them pass
/// first.
const PLACES: [(&str, u64); 8] = [
    ("*", 1),
    ("/idr/v2/investigations", 0),
    ("/idr/v2/investigations", 1),
    ("/idr/v2/investigations/*/alerts", 0),
    ("/idr/v2/investigations/*/alerts", 17),
    ("/idr/v2/investigations/*/alerts", 104),
    ("/idr/at/*", 0),
    ("/idr/at/*", 9),
];

#[test]
fn no_fault_at_any_request_loses_a_record() {
    std::thread::scope(|scope| {
        for half in 0..2 {
            scope.spawn(move || faults().into_iter().skip(half).step_by(2).for_each(|fault| one_fault(&fault)));
        }
    });
}

fn one_fault(fault: &Fault) {
    for (path, position) in PLACES {
        for times in [1, u64::MAX] {
            let rule = Rule::new(path, fault.clone()).after(position).times(times);
            let faults = FaultProfile::new([rule]);
            let world =
                WorldConfig { seed: 2, investigations: 110, alerts_per_investigation: 1, ..WorldConfig::default() };
            let mut tenant =
                Tenant::with(World::generate(&world), SimulatorConfig { faults, ..SimulatorConfig::default() });
            let start = tenant.link.simulator.now();
            let what = format!("{} at {position} of {path}, {times} times", fault.name());
            tenant.cycle();
            tenant.cycle();
            tenant.link.simulator.set_faults(FaultProfile::default());
            // Evidence that failed is held back for minutes, not for ever.
            for _ in 0..3 {
                tenant.advance(minutes(10));
                tenant.cycle();
            }
            let last = tenant.cycle();
            assert!(last.failure.is_none() && last.degraded.is_empty(), "{what}: {last:#?}");
            assert_eq!(missing(&tenant, start, start), Vec::<String>::new(), "{what}");
        }
    }
}

#[test]
fn a_step_of_ten_requests_still_gets_there() {
    let mut tenant = Tenant::of(world(3, 30));
    tenant.budget = Budget { requests: 10, artifacts: 1, artifact_bytes: 1, wall_time_milliseconds: 60_000 };
    let start = tenant.link.simulator.now();
    let cycle = tenant.cycle();
    assert!(cycle.failure.is_none(), "{cycle:#?}");
    assert_eq!(missing(&tenant, start, start), Vec::<String>::new());
    assert!(cycle.steps > 10);
}

#[test]
fn evidence_gets_there_with_few_requests_a_step_however_many_are_made_at_once() {
    for (requests, concurrency) in [(10, 8), (12, 8), (16, 8), (10, 32), (24, 32), (40, 32)] {
        for (investigations, alerts) in [(1, 6), (2, 2), (6, 10), (1, 30)] {
            let mut world = empty();
            let now = start();
            for number in 0..investigations {
                let at = now - time::Duration::minutes(120 + number);
                let id = world.add_investigation(InvestigationSpec::new(at, at)).unwrap();
                for _ in 0..alerts {
                    let evidence = Some(vec![r#"{"source_ip":"198.51.100.7"}"#.to_owned()]);
                    world.add_alert(Some(id), AlertSpec { evidence, ..AlertSpec::new(at, at) }).unwrap();
                }
            }
            let mut tenant = Tenant::of(world);
            // Answers take their time, so that requests are under way together.
            tenant.link.pace = Duration::from_millis(1);
            tenant
                .settings
                .push(Setting { key: "max_concurrent_requests".to_owned(), value: SettingValue::Integer(concurrency) });
            tenant.budget.requests = requests;
            let cycle = tenant.cycle();
            let what = format!("{investigations} x {alerts}, {requests} requests, {concurrency} at once");
            assert!(cycle.failure.is_none() && cycle.degraded.is_empty(), "{what}: {cycle:#?}");
            let collected = tenant.collected().len();
            assert_eq!(collected, (investigations * (1 + alerts)) as usize, "{what}");
        }
    }
}

#[test]
fn a_rate_limit_is_waited_out_and_never_run_into() {
    let rate_limit = Some(RateLimit { requests: 50, window: Duration::from_secs(60) });
    let mut tenant = Tenant::with(world(4, 120), SimulatorConfig { rate_limit, ..SimulatorConfig::default() });
    let start = tenant.link.simulator.now();
    let cycle = tenant.cycle();
    assert!(cycle.failure.is_none() && cycle.degraded.is_empty(), "{cycle:#?}");
    assert_eq!(missing(&tenant, start, start), Vec::<String>::new());
    let requests = tenant.link.simulator.requests();
    assert_eq!(requests.iter().filter(|request| request.status == Some(429)).count(), 0);
    // Whoever else has the same key finds two of every window left, or one: a step that begins when no more are left uses
    // one to hear that. Between windows it was waited.
    let pauses = requests.windows(2).filter(|pair| (pair[1].at - pair[0].at).unsigned_abs() > Duration::from_secs(20));
    let begins: Vec<_> = pauses.map(|pair| pair[1].at).collect();
    assert!(begins.len() > 3);
    for pair in begins.windows(2) {
        let of_window = requests.iter().filter(|request| (pair[0]..pair[1]).contains(&request.at)).count();
        assert!(of_window <= 49, "{of_window}");
    }
}

#[test]
fn a_cycle_costs_the_requests_that_the_documents_say() {
    let (investigations, in_hundreds) = (250, 3);
    for triage in [false, true] {
        let world = WorldConfig {
            seed: 14,
            investigations,
            old_investigations: 0,
            alerts_per_investigation: 1,
            exact_alerts: true,
            evidence_per_alert: 1,
            growth_per_day: 0,
            standalone_alerts: 0,
            longest_delay: Duration::ZERO,
            changes: false,
            triage,
            ..WorldConfig::default()
        };
        let mut tenant = Tenant::of(World::generate(&world));
        // Nothing is young any more.
        tenant.advance(minutes(180));
        let cost = |tenant: &mut Tenant| {
            let before = tenant.link.simulator.requests().len();
            assert!(tenant.cycle().failure.is_none());
            let requests = tenant.link.simulator.requests();
            let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
            for request in &requests[before..] {
                let kind = match request.path.rsplit('/').next().unwrap() {
                    "investigations" => "lists",
                    "alerts" => "alerts",
                    "rapid7-product-alerts" => "product alerts",
                    "evidences" | "actors" => "evidence",
                    "search" | "rrns" => "searches",
                    _ => "single records",
                };
                *counts.entry(kind).or_default() += 1;
            }
            counts
        };
        let first = cost(&mut tenant);
        let with_rrn = tenant.link.simulator.truth().alerts.iter().filter(|alert| alert.id.starts_with("rrn:")).count();
        assert_eq!(first["alerts"], investigations);
        assert_eq!(first["product alerts"], investigations);
        assert_eq!(first.get("evidence").copied().unwrap_or_default(), if triage { 2 * with_rrn } else { 0 });
        assert!(first["lists"] <= 4 * in_hundreds, "{first:?}");
        tenant.advance(minutes(5));
        cost(&mut tenant);
        // Nothing has happened: two lists, one of what is not closed in hundreds, one search.
        tenant.advance(minutes(5));
        let quiet = cost(&mut tenant);
        let truth = tenant.link.simulator.truth();
        let is_open =
            |one: &&TruthInvestigation| one.versions.last().is_some_and(|last| last.value()["status"] != "CLOSED");
        let open = truth.investigations.iter().filter(is_open).count();
        // One in a state that no list asks for is read singly.
        let is_listed = |one: &&TruthInvestigation| {
            let status = one.versions.last().unwrap().value()["status"].as_str().unwrap_or_default().to_owned();
            ["OPEN", "INVESTIGATING", "WAITING"].contains(&status.as_str())
        };
        let listed = truth.investigations.iter().filter(is_listed).count();
        assert!(listed < open, "the world has some in other states");
        let wanted =
            [("lists", 2 + listed.div_ceil(100)), ("searches", usize::from(triage)), ("single records", open - listed)];
        assert_eq!(quiet, wanted.into_iter().filter(|(_, count)| *count > 0).collect(), "triage {triage}");
    }
}

#[test]
fn the_first_collection_says_how_far_it_has_come() {
    let mut tenant = Tenant::of(world(11, 450));
    tenant.budget.requests = 100;
    let mut hints = Vec::new();
    loop {
        let batch = tenant.step().unwrap();
        hints.extend(batch.hint);
        if !batch.more {
            break;
        }
    }
    hints.dedup();
    insta::assert_snapshot!(hints.join("\n"), @r"
    First collection, of 28 days: investigations are collected up to those of 2025-12-18.
    First collection, of 28 days: investigations are collected up to those of 2025-12-25.
    First collection, of 28 days: investigations are collected up to those of 2026-01-01.
    First collection, of 28 days: investigations are collected up to those of 2026-01-06.
    First collection, of 28 days: investigations are collected up to those of 2026-01-12.
    The first collection is complete.
    ");
    tenant.advance(minutes(5));
    assert_eq!(tenant.step().unwrap().hint, None);
    // In one step there is nothing to say of it.
    let mut tenant = Tenant::of(world(11, 60));
    assert_eq!(tenant.step().unwrap().hint, None);
}

#[test]
fn limits_of_the_rate_again_and_again_suggest_a_longer_interval() {
    let mut tenant = Tenant::of(world(11, 60));
    let limited =
        Fault::Status { status: 429, body: None, headers: Default::default(), retry_after: Some("30".into()) };
    let mut hints = Vec::new();
    for _ in 0..3 {
        let rule = Rule::new("/idr/v2/investigations/*/alerts", limited.clone()).after(4).times(u64::MAX);
        tenant.link.simulator.set_faults(FaultProfile::new([rule]));
        let batch = tenant.step().unwrap();
        assert_eq!(batch.retry_after_seconds, Some(30));
        hints.push(batch.hint);
        // Nothing at all came of this one: the failure itself says it, and it does not interrupt the row.
        tenant.link.simulator.set_faults(FaultProfile::new([Rule::new("*", limited.clone()).times(u64::MAX)]));
        let failure = tenant.step().unwrap_err();
        assert!(failure.remedy.contains("Increase the Polling Interval to 15 minutes"), "{failure:#?}");
    }
    let advises = |hint: &Option<String>| {
        hint.as_ref().is_some_and(|hint| hint.contains("increase the Polling Interval to 15 minutes"))
    };
    assert_eq!(hints.iter().map(advises).collect::<Vec<_>>(), [false, false, true], "{hints:#?}");
    tenant.link.simulator.set_faults(FaultProfile::default());
    assert!(tenant.cycle().failure.is_none());
    // It went well, so the row begins anew.
    tenant.advance(minutes(5));
    assert_eq!(tenant.step().unwrap().hint, None);
}

#[test]
fn headers_that_allow_nothing_for_ever_are_not_believed_for_ever() {
    for (remaining, reset) in [("0", "9"), ("0", ""), ("1", "0"), ("2", "1")] {
        let headers = [("ratelimit-remaining", remaining), ("ratelimit-reset", reset)];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let mut tenant = Tenant::of(world(12, 30));
        let start = tenant.link.simulator.now();
        let rule = Rule::new("*", Fault::Headers { headers }).times(u64::MAX);
        tenant.link.simulator.set_faults(FaultProfile::new([rule]));
        let cycle = tenant.cycle();
        assert!(cycle.failure.is_none() && cycle.degraded.is_empty(), "{cycle:#?}");
        assert_eq!(missing(&tenant, start, start), Vec::<String>::new(), "{remaining} for {reset}");
    }
}

#[test]
fn an_allowance_that_ends_among_the_rules_of_one_investigation_is_waited_out() {
    // Reads by the hundred leave out the codes of rules, so that each rule costs a request before any evidence is read.
    for requests in 9..30 {
        let rate_limit = Some(RateLimit { requests, window: Duration::from_secs(60) });
        let world = WorldConfig { seed: 4, investigations: 12, alerts_per_investigation: 9, ..WorldConfig::default() };
        let config = SimulatorConfig { rate_limit, thin_hydration: true, ..SimulatorConfig::default() };
        let mut tenant = Tenant::with(World::generate(&world), config);
        let start = tenant.link.simulator.now();
        let cycle = tenant.cycle();
        assert!(cycle.failure.is_none() && cycle.degraded.is_empty(), "{requests} requests a minute: {cycle:#?}");
        assert_eq!(missing(&tenant, start, start), Vec::<String>::new(), "{requests} requests a minute");
    }
}

#[test]
fn an_answer_that_lacks_alerts_costs_them_nothing_of_what_their_rules_say() {
    let world = WorldConfig { seed: 9, investigations: 20, alerts_per_investigation: 3, ..WorldConfig::default() };
    let rule = Rule::new("/idr/at/alerts/ops/rrns", Fault::MissingRows { rows: 3 }).times(u64::MAX);
    let faults = FaultProfile::new([rule]);
    let mut tenant = Tenant::with(World::generate(&world), SimulatorConfig { faults, ..SimulatorConfig::default() });
    let cycle = tenant.cycle();
    assert!(cycle.failure.is_none() && cycle.degraded.is_empty(), "{cycle:#?}");
    let truth = tenant.link.simulator.truth();
    let mut checked = 0;
    for artifact in tenant.store.values().filter(|artifact| artifact["action"] == "alert") {
        let id = artifact["sourceInfo"].as_str().unwrap();
        let alert = truth.alerts.iter().find(|alert| alert.id == id).unwrap();
        let codes = alert.mitre_tcodes.iter().filter(|code| code.starts_with("T1"));
        let known = alert.triage && alert.triage_visible_at <= truth.now;
        for code in codes.filter(|_| known) {
            let found = artifact["attackTechniqueIds"].as_array().is_some_and(|ids| ids.iter().any(|id| id == code));
            assert!(found, "{id} lacks {code}");
            checked += 1;
        }
    }
    assert!(checked > 20, "{checked} codes");
}

#[test]
fn hundreds_of_alerts_outside_investigations_are_collected_ten_requests_at_a_time() {
    let world = WorldConfig { seed: 8, investigations: 3, standalone_alerts: 900, ..WorldConfig::default() };
    let mut tenant = Tenant::of(World::generate(&world));
    tenant.budget = Budget { requests: 10, artifacts: 5_000, artifact_bytes: 16 << 20, wall_time_milliseconds: 60_000 };
    let cycle = tenant.cycle();
    assert!(cycle.failure.is_none() && cycle.degraded.is_empty(), "{cycle:#?}");
    assert!(cycle.fetched["uninvestigated-alerts"] > 600, "{:?}", cycle.fetched);
    // Nothing of a long backlog stays behind that will not be listed again.
    assert!(tenant.checkpoint.as_ref().unwrap().len() < 8_000, "{}", tenant.checkpoint.unwrap().len());
    assert_eq!(tenant.repeated, 0);
}

#[test]
fn a_wrong_region_says_so_and_stores_nothing() {
    let keys = vec![ApiKey::new("eu", KEY)];
    let mut tenant = Tenant::with(world(5, 10), SimulatorConfig { keys, ..SimulatorConfig::default() });
    let failure = tenant.cycle().failure.unwrap();
    assert_eq!(failure.http_status, Some(404));
    assert_eq!(failure.reason, FailureReason::NotFound);
    assert!(failure.remedy.contains("Region"), "{}", failure.remedy);
    assert!(tenant.checkpoint.is_none() && tenant.store.is_empty());
}

#[test]
fn young_alerts_without_evidence_use_up_no_allowance_for_ever() {
    // Each rule costs a request, there are more of them than the vendor allows, and the first alerts wait for evidence.
    for requests in [20, 40, 60] {
        let rate_limit = Some(RateLimit { requests, window: Duration::from_secs(60) });
        let config = SimulatorConfig { rate_limit, thin_hydration: true, ..SimulatorConfig::default() };
        let mut world = World::empty();
        let start = time::macros::datetime!(2026-11-01 00:00 UTC);
        world.set_start(start);
        let created = start - time::Duration::minutes(5);
        let investigation = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
        for number in 0..60 {
            let at = created + time::Duration::seconds(number);
            let shown = at + time::Duration::minutes(if number % 3 == 0 { 0 } else { 18 });
            let spec = AlertSpec { evidence_visible_at: Some(shown), ..AlertSpec::new(at, at) };
            world.add_alert(Some(investigation), spec).unwrap();
        }
        let mut tenant = Tenant::with(world, config);
        for _ in 0..10 {
            let cycle = tenant.cycle();
            assert!(cycle.failure.is_none() && cycle.degraded.is_empty(), "{requests} requests a minute: {cycle:#?}");
            tenant.advance(minutes(5));
        }
        let refused = tenant.link.simulator.requests().iter().filter(|request| request.status == Some(429)).count();
        assert_eq!(refused, 0);
        assert_eq!(missing(&tenant, start, start), Vec::<String>::new(), "{requests} requests a minute");
    }
}
