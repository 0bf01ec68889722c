//! The Conductor's duplicate filter, run over what is collected: it collapses nothing that is different.
//!
//! The filter stands behind the connector and is not this project's: it takes two artifacts for one when they agree in
//! eleven fields within a sliding window of ten minutes, whatever their ids, times, titles and messages. Different
//! artifacts here are those with different ids.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use crate::common::native::Tenant;
use crate::common::versions::assert_only_joined_came_again;
use insightidr_simulator::{AlertKind, AlertSpec, Change, InvestigationSpec, World, WorldConfig};
use serde_json::Value;
use time::OffsetDateTime;

/// The fields that the filter compares.
const COMPARED: [&str; 11] = [
    "senderHost",
    "clientIP",
    "serverIP",
    "serverPort",
    "protocol",
    "userName",
    "fileName",
    "streamName",
    "messageType",
    "action",
    "severityLabel",
];

/// How long the filter remembers; every duplicate makes it remember anew.
const WINDOW: time::Duration = time::Duration::minutes(10);

/// The filter.
#[derive(Default)]
struct Filter {
    seen: HashMap<Vec<String>, (OffsetDateTime, String)>,
    passed: usize,
    /// Pairs of ids of which the second was collapsed into the first.
    collapsed: Vec<(String, String)>,
}

impl Filter {
    fn take(&mut self, artifact: &Value, at: OffsetDateTime) {
        let id = artifact["id"].as_str().unwrap().to_owned();
        let key = COMPARED.map(|field| artifact[field].as_str().unwrap_or_default().to_owned()).to_vec();
        match self.seen.get_mut(&key) {
            Some((last, first)) if at - *last <= WINDOW => {
                *last = at;
                self.collapsed.push((first.clone(), id));
            }
            _ => {
                self.seen.insert(key, (at, id));
                self.passed += 1;
            }
        }
    }
}

/// Artifacts in the order of their arrival.
type Arrivals = Vec<(OffsetDateTime, Value)>;

/// Polls every five minutes for some hours and gives what arrived when.
fn collect(world: World, hours: u64) -> Arrivals {
    let mut tenant = Tenant::of(world);
    let mut arrivals = Arrivals::new();
    let mut seen = BTreeSet::new();
    for _ in 0..=hours * 12 {
        let cycle = tenant.cycle();
        assert!(cycle.failure.is_none() && cycle.degraded.is_empty(), "{cycle:#?}");
        let now = tenant.link.simulator.now();
        for (id, artifact) in &tenant.store {
            if seen.insert(id.clone()) {
                arrivals.push((now, artifact.clone()));
            }
        }
        tenant.advance(Duration::from_secs(300));
    }
    // An id that comes again would hide what is different.
    assert_only_joined_came_again(&tenant, &tenant.link.simulator.truth(), time::Duration::minutes(20));
    arrivals
}

/// What the filter makes of arrivals.
fn filtered<'a>(arrivals: impl IntoIterator<Item = &'a (OffsetDateTime, Value)>) -> Filter {
    let mut filter = Filter::default();
    for (at, artifact) in arrivals {
        filter.take(artifact, *at);
    }
    filter
}

#[test]
fn the_filter_collapses_nothing_of_a_generated_world() {
    for seed in [21, 22, 23] {
        let config = WorldConfig { seed, investigations: 150, growth_per_day: 400, ..WorldConfig::default() };
        let arrivals = collect(World::generate(&config), 4);
        assert!(arrivals.len() > 500, "{} artifacts", arrivals.len());
        let later = arrivals.iter().filter(|(_, one)| !one["senderHost"].as_str().unwrap().ends_with(".0")).count();
        assert!(later > 5, "{later} later versions");
        let filter = filtered(&arrivals);
        assert_eq!(filter.collapsed, Vec::<(String, String)>::new(), "seed {seed}");
        assert_eq!(filter.passed, arrivals.len());
    }
}

#[test]
fn the_filter_collapses_no_two_records_however_much_alike_they_are() {
    let mut world = World::empty_in("us");
    let start = WorldConfig::default().start;
    let created = start - time::Duration::hours(3);
    for _ in 0..150 {
        let investigation = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
        for kind in [AlertKind::DetectionRule, AlertKind::UserBehavior, AlertKind::Investigation] {
            let spec = AlertSpec { kind, title: Some("Same".to_owned()), ..AlertSpec::new(created, created) };
            // Same people and machines.
            let actors = Some(vec![r#"{"type":"ACCOUNT","display_name":"jdoe"}"#.to_owned()]);
            world.add_alert(Some(investigation), AlertSpec { actors, ..spec }).unwrap();
        }
    }
    let arrivals = collect(world, 0);
    assert_eq!(arrivals.len(), 150 * 4);
    assert_eq!(filtered(&arrivals).collapsed, Vec::<(String, String)>::new());
}

#[test]
fn the_filter_collapses_no_two_alerts_whose_ids_look_alike() {
    let mut world = World::empty_in("us");
    let created = WorldConfig::default().start - time::Duration::hours(3);
    let long = "x".repeat(70);
    let ids = ["agent-7:1".to_owned(), "agent-8:1".to_owned(), format!("{long}1"), format!("{long}2")];
    let agent = |details: &str| format!(r#"{{"type":"INSIGHT_AGENT","insight_agent_details":[{{{details}}}]}}"#);
    for _ in 0..2 {
        let investigation = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
        for id in &ids {
            let alert = agent(&format!(r#""alert_id":"{id}""#));
            world.add_product_alert(investigation, &alert).unwrap();
        }
        world.add_product_alert(investigation, &agent(r#""hostname":"pc-9""#)).unwrap();
    }
    let investigation = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    for id in &ids {
        let spec =
            AlertSpec { id: Some(id.clone()), kind: AlertKind::UserBehavior, ..AlertSpec::new(created, created) };
        world.add_alert(Some(investigation), AlertSpec { title: Some("Same".to_owned()), ..spec }).unwrap();
    }
    let arrivals = collect(world, 0);
    assert_eq!(arrivals.len(), 3 + 2 * 5 + 4);
    assert_eq!(filtered(&arrivals).collapsed, Vec::<(String, String)>::new());
}

#[test]
fn the_filter_collapses_no_version_of_an_investigation_not_even_one_whose_state_returns() {
    let mut world = World::empty_in("us");
    let start = WorldConfig::default().start;
    let created = start - time::Duration::minutes(2);
    let investigation = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    world.add_alert(Some(investigation), AlertSpec::new(created, created)).unwrap();
    for (number, status) in ["CLOSED", "OPEN", "CLOSED"].into_iter().enumerate() {
        let at = start + time::Duration::minutes(4 + 5 * i64::try_from(number).unwrap());
        world.add_change(investigation, at, Change::Status(status.into())).unwrap();
    }
    let arrivals = collect(world, 1);
    let actions: Vec<&str> = arrivals
        .iter()
        .filter(|(_, artifact)| artifact["sourceInfo"].as_str().unwrap().starts_with("rrn:investigation:"))
        .map(|(_, artifact)| artifact["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions, ["open", "closed", "open", "closed"], "every state that was seen came as a version");
    assert_eq!(filtered(&arrivals).collapsed, Vec::<(String, String)>::new());
}

#[test]
fn without_the_record_in_the_sender_the_filter_would_collapse_much() {
    let config = WorldConfig { seed: 21, investigations: 150, growth_per_day: 400, ..WorldConfig::default() };
    let mut arrivals = collect(World::generate(&config), 1);
    for (_, artifact) in &mut arrivals {
        let host = artifact["senderHost"].as_str().unwrap().split('/').next().unwrap().to_owned();
        assert_eq!(host, "us.api.insight.rapid7.com");
        artifact["senderHost"] = host.into();
    }
    let filter = filtered(&arrivals);
    assert!(filter.collapsed.len() > 50, "the filter does nothing: {} of {}", filter.collapsed.len(), arrivals.len());
}

#[test]
fn the_filter_of_this_test_forgets_after_ten_quiet_minutes() {
    let artifact = serde_json::json!({"id": "a", "senderHost": "x"});
    let start = WorldConfig::default().start;
    let after = |minutes: &[i64]| {
        let arrivals: Arrivals =
            minutes.iter().map(|minutes| (start + time::Duration::minutes(*minutes), artifact.clone())).collect();
        filtered(&arrivals).passed
    };
    assert_eq!(after(&[0, 5]), 1);
    assert_eq!(after(&[0, 11]), 2);
    assert_eq!(after(&[0, 9, 18]), 1, "the window slides");
    let different: BTreeMap<&str, &str> = COMPARED.iter().map(|field| (*field, "y")).collect();
    let filter = filtered(&[
        (start, artifact.clone()),
        (start, serde_json::json!({"id": "b", "x": 1})),
        (start, {
            let mut other = serde_json::to_value(different).unwrap();
            other["id"] = "c".into();
            other
        }),
    ]);
    assert_eq!(filter.passed, 3);
}
