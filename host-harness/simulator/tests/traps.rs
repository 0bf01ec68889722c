//! The treachery of the vendor's API: one test for each trap.
//!
//! No server can show that the vendor throttles detections (trap 16): what it drops is nowhere, not even in the truth.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::HashSet;

use common::{LIST, WIDE, all_rows, at, get, settings, simulator};
use insightidr_simulator::{AlertKind, AlertSpec, Change, InvestigationSpec, NullTimes, Simulator, World, WorldConfig};
use serde_json::Value;
use time::Duration;

/// The clock of empty worlds.
const NOW: &str = "2026-01-15T12:00:00Z";

fn generated() -> Simulator {
    let config = WorldConfig { investigations: 400, old_investigations: 40, ..WorldConfig::default() };
    let simulator = simulator(World::generate(&config));
    simulator.advance(Duration::days(3));
    simulator
}

/// Investigations an hour apart, the youngest one hour old.
fn hourly(count: i64) -> World {
    let mut world = World::empty();
    for hours in (1..=count).rev() {
        let created = at(NOW) - Duration::hours(hours);
        world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    }
    world
}

#[test]
fn unknown_parameters_are_ignored_without_a_word() {
    let simulator = simulator(hourly(5));
    let all = get(&simulator, LIST);
    for query in ["status=CLOSED", "assignee_email=nobody@example.com", "sort_field=rrn", "limit=1"] {
        assert_eq!(get(&simulator, &format!("{LIST}?{query}")).text, all.text);
    }
    assert_eq!(get(&simulator, &format!("{LIST}?statuses=CLOSED")).data().len(), 0);
}

#[test]
fn index_is_a_page_number_and_not_an_offset() {
    let simulator = simulator(hourly(45));
    let query = "sort=created_time,ASC&size=20";
    let first = get(&simulator, &format!("{LIST}?{query}&index=0")).column("rrn");
    let second = get(&simulator, &format!("{LIST}?{query}&index=1")).column("rrn");
    let third = get(&simulator, &format!("{LIST}?{query}&index=2")).column("rrn");
    assert_eq!((first.len(), second.len(), third.len()), (20, 20, 5));
    let distinct: HashSet<_> = first.iter().chain(&second).chain(&third).collect();
    assert_eq!(distinct.len(), 45);
    // A client that adds the page size jumps past the end and is told nothing but the totals.
    let past = get(&simulator, &format!("{LIST}?{query}&index=20"));
    assert_eq!((past.status, past.data().len()), (200, 0));
    assert_eq!(past.json["metadata"]["total_data"], 45);
    assert_eq!(past.json["metadata"]["total_pages"], 3);
}

#[test]
fn the_defaults_hide_data() {
    let mut world = hourly(30);
    let old = at(NOW) - Duration::days(29);
    world.add_investigation(InvestigationSpec::new(old, old)).unwrap();
    let urgent = at(NOW) - Duration::days(27);
    let mut spec = InvestigationSpec::new(urgent, urgent);
    spec.priority = "CRITICAL".to_owned();
    world.add_investigation(spec).unwrap();
    let simulator = simulator(world);
    let page = get(&simulator, LIST);
    assert_eq!(page.data().len(), 20, "twenty rows unless told otherwise");
    assert_eq!(page.json["metadata"]["total_data"], 31, "28 days unless told otherwise");
    assert_eq!(page.data()[0]["priority"], "CRITICAL", "by priority unless told otherwise");
    // An end does not move the start.
    let ended = get(&simulator, &format!("{LIST}?end_time=2025-12-18T00:00:00Z"));
    assert_eq!(ended.json["metadata"]["total_data"], 0);
}

#[test]
fn bounds_are_exclusive_to_the_microsecond() {
    let mut world = World::empty();
    for micro in 0..3 {
        let created = at("2026-01-10T00:00:00.000100Z") + Duration::microseconds(micro);
        world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    }
    let simulator = simulator(world);
    let count = |from: &str, to: &str| get(&simulator, &format!("{LIST}?start_time={from}&end_time={to}")).data().len();
    assert_eq!(count("2026-01-10T00:00:00.0001Z", "2026-01-10T00:00:00.000102Z"), 1);
    assert_eq!(count("2026-01-10T00:00:00.000099Z", "2026-01-10T00:00:00.000103Z"), 3);
    assert_eq!(count("2026-01-10T00:00:00.000102Z", "2026-01-11T00:00:00Z"), 0);
    assert_eq!(count("2026-01-10T00:00:00.0000999Z", "2026-01-10T00:00:00.0001019Z"), 2);
}

#[test]
fn ties_have_a_stable_order_that_is_not_the_order_of_insertion() {
    let mut world = World::empty();
    let created = at("2026-01-10T00:00:00Z");
    let inserted: Vec<_> = (0..40)
        .map(|_| {
            let handle = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
            world.investigation_rrn(handle).unwrap().to_owned()
        })
        .collect();
    let simulator = simulator(world);
    let list = |sort: &str| get(&simulator, &format!("{LIST}?size=100&sort={sort}")).column("rrn");
    let listed = list("created_time,ASC");
    assert_eq!(listed, list("created_time,ASC"));
    assert_ne!(listed, inserted);
    assert_ne!(listed, inserted.iter().rev().cloned().collect::<Vec<_>>());
    assert_ne!(listed, list("priority,ASC"), "another order breaks ties otherwise");
}

#[test]
fn a_late_row_appears_behind_newer_ones_and_moves_the_totals() {
    let mut world = hourly(3);
    let created = at(NOW) - Duration::minutes(90);
    let late = world.add_investigation(InvestigationSpec::new(created, at(NOW) + Duration::minutes(10))).unwrap();
    let rrn = world.investigation_rrn(late).unwrap().to_owned();
    let simulator = simulator(world);
    let query = format!("{LIST}?sort=created_time,ASC&end_time={NOW}");
    let before = get(&simulator, &query);
    assert!(!before.column("rrn").contains(&rrn));
    assert_eq!(get(&simulator, &format!("{LIST}/{rrn}")).status, 404);
    simulator.advance(Duration::minutes(10));
    let after = get(&simulator, &query);
    assert_eq!(after.column("rrn").iter().position(|one| *one == rrn), Some(2));
    assert_eq!(after.json["metadata"]["total_data"], 4);
    assert_eq!(get(&simulator, &format!("{LIST}/{rrn}")).status, 200);
}

#[test]
fn an_old_investigation_gains_an_alert_and_only_the_alert_order_shows_it() {
    let mut world = hourly(3);
    let created = at(NOW) - Duration::days(88);
    let old = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    let alerted = at(NOW) + Duration::minutes(1);
    world.add_alert(Some(old), AlertSpec::new(alerted, alerted)).unwrap();
    let rrn = world.investigation_rrn(old).unwrap().to_owned();
    let simulator = simulator(world);
    simulator.advance(Duration::minutes(2));
    assert!(!get(&simulator, &format!("{LIST}?size=100")).column("rrn").contains(&rrn));
    let sweep = "sort=alerts_most_recent_created_time,DESC&start_time=2024-12-01T00:00:00Z";
    let rows = all_rows(&simulator, sweep);
    let row = rows.iter().find(|row| row["rrn"] == rrn.as_str()).unwrap();
    assert_eq!(row["last_accessed"], row["created_time"]);
    assert_eq!(row["latest_alert_time"], "2026-01-15T12:01:00Z");
}

#[test]
fn rows_without_an_alert_time_stand_first_or_last_whatever_the_direction() {
    let mut world = hourly(4);
    let created = at(NOW) - Duration::hours(9);
    let with = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    world.add_alert(Some(with), AlertSpec::new(created, created)).unwrap();
    let rrn = world.investigation_rrn(with).unwrap().to_owned();
    for (nulls, expected) in [(NullTimes::First, 4), (NullTimes::Last, 0)] {
        let mut settings = settings();
        settings.null_times = nulls;
        let simulator = Simulator::new(world.clone(), settings);
        for direction in ["ASC", "DESC"] {
            for field in ["alerts_most_recent_created_time", "alerts_most_recent_detection_created_time"] {
                let rows = get(&simulator, &format!("{LIST}?sort={field},{direction}")).column("rrn");
                assert_eq!(rows.iter().position(|one| *one == rrn), Some(expected), "{field} {direction}");
            }
        }
    }
}

#[test]
fn looking_moves_last_accessed_and_nothing_else() {
    let mut world = hourly(1);
    let created = at(NOW) - Duration::hours(2);
    let one = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    world.add_change(one, at(NOW) + Duration::minutes(5), Change::Viewed).unwrap();
    let path = format!("{LIST}/{}", world.investigation_rrn(one).unwrap());
    let simulator = simulator(world);
    let before = get(&simulator, &path).json;
    simulator.advance(Duration::minutes(6));
    let mut after = get(&simulator, &path).json;
    assert_ne!(after["last_accessed"], before["last_accessed"]);
    after["last_accessed"] = before["last_accessed"].clone();
    assert_eq!(after, before);
}

#[test]
fn changes_show_at_their_instant_and_a_state_can_return() {
    let mut world = World::empty();
    let created = at(NOW) - Duration::hours(2);
    let one = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    for (minutes, status) in [(1, "CLOSED"), (2, "OPEN"), (3, "CLOSED")] {
        world.add_change(one, at(NOW) + Duration::minutes(minutes), Change::Status(status.into())).unwrap();
    }
    let simulator = simulator(world);
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(get(&simulator, LIST).column("status").concat());
        simulator.advance(Duration::minutes(1));
    }
    assert_eq!(seen, ["OPEN", "CLOSED", "OPEN", "CLOSED"]);
    assert_eq!(simulator.truth().investigations[0].versions.len(), 4);
}

#[test]
fn alerts_are_absent_at_first_and_a_late_one_appears_behind_a_newer_one() {
    let mut world = World::empty();
    let created = at(NOW);
    let one = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    let newer = created + Duration::minutes(2);
    let older = created + Duration::minutes(1);
    world.add_alert(Some(one), AlertSpec::new(newer, newer)).unwrap();
    world.add_alert(Some(one), AlertSpec::new(older, older + Duration::minutes(9))).unwrap();
    let rrn = world.investigation_rrn(one).unwrap().to_owned();
    let simulator = simulator(world);
    let alerts = || get(&simulator, &format!("{LIST}/{rrn}/alerts"));
    let row = || get(&simulator, &format!("{LIST}/{rrn}")).json;
    assert_eq!(alerts().data().len(), 0);
    assert_eq!(alerts().json["metadata"]["total_pages"], 0);
    simulator.advance(Duration::minutes(3));
    assert_eq!(alerts().column("created_time"), ["2026-01-15T12:02:00Z"]);
    let before = row();
    simulator.advance(Duration::minutes(9));
    assert_eq!(alerts().column("created_time"), ["2026-01-15T12:02:00Z", "2026-01-15T12:01:00Z"]);
    assert_eq!(row()["latest_alert_time"], before["latest_alert_time"]);
}

#[test]
fn the_row_can_show_an_alert_before_the_list_has_it() {
    let mut world = World::empty();
    let created = at(NOW) - Duration::days(3);
    let one = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    let mut alert = AlertSpec::new(at(NOW), at(NOW) + Duration::minutes(8));
    alert.on_row_at = Some(at(NOW) + Duration::minutes(1));
    world.add_alert(Some(one), alert).unwrap();
    let rrn = world.investigation_rrn(one).unwrap().to_owned();
    let simulator = simulator(world);
    simulator.advance(Duration::minutes(2));
    assert_eq!(get(&simulator, LIST).column("latest_alert_time"), [NOW]);
    assert_eq!(get(&simulator, &format!("{LIST}/{rrn}/alerts")).data().len(), 0);
}

#[test]
fn more_than_a_hundred_alerts_need_pages() {
    let mut world = World::empty();
    let created = at(NOW) - Duration::days(1);
    let one = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    for second in 0..230 {
        let at = created + Duration::seconds(second);
        world.add_alert(Some(one), AlertSpec::new(at, at)).unwrap();
    }
    let path = format!("{LIST}/{}/alerts", world.investigation_rrn(one).unwrap());
    let simulator = simulator(world);
    assert_eq!(get(&simulator, &path).data().len(), 20);
    let pages: Vec<usize> =
        (0..4).map(|index| get(&simulator, &format!("{path}?size=100&index={index}")).data().len()).collect();
    assert_eq!(pages, [100, 100, 30, 0]);
    let times = get(&simulator, &format!("{path}?size=100")).column("created_time");
    assert!(times.is_sorted_by(|a, b| a > b), "newest first");
}

#[test]
fn alert_ids_and_rules_come_in_every_shape() {
    let simulator = generated();
    let mut shapes = HashSet::new();
    for row in all_rows(&simulator, WIDE) {
        let path = format!("{LIST}/{}/alerts?size=100", row["rrn"].as_str().unwrap());
        for alert in get(&simulator, &path).data() {
            let id = alert["id"].as_str().unwrap();
            let source = alert.get("alert_source").and_then(Value::as_str).unwrap_or("absent");
            shapes.insert(format!("source {source}"));
            shapes.insert(if id.starts_with("rrn:alerts:us1:") { "rrn id" } else { "uuid id" }.to_owned());
            let rule = &alert["detection_rule_rrn"];
            shapes.insert(match rule {
                Value::Null if id.starts_with("rrn:") => "rule null for a detection".to_owned(),
                Value::Null => "rule null".to_owned(),
                Value::String(_) => "rule string".to_owned(),
                other if other["rule_rrn"].is_string() => "rule object".to_owned(),
                _ => "rule object of objects".to_owned(),
            });
            shapes.insert(format!("event time {}", alert["first_event_time"].is_null()));
        }
    }
    let mut shapes: Vec<_> = shapes.into_iter().collect();
    shapes.sort();
    assert_eq!(
        shapes,
        [
            "event time false",
            "event time true",
            "rrn id",
            "rule null",
            "rule null for a detection",
            "rule object",
            "rule object of objects",
            "rule string",
            "source Attacker Behavior Analytics",
            "source Investigations",
            "source User Behavior Analytics",
            "source absent",
            "uuid id",
        ]
    );
}

#[test]
fn times_have_up_to_six_fraction_digits_without_trailing_zeros() {
    let mut lengths = HashSet::new();
    for row in all_rows(&generated(), WIDE) {
        for member in ["created_time", "last_accessed"] {
            let text = row[member].as_str().unwrap().strip_suffix('Z').unwrap();
            let fraction = text.split_once('.').map_or("", |(_, fraction)| fraction);
            assert!(!fraction.ends_with('0'));
            lengths.insert(fraction.len());
        }
    }
    assert_eq!(lengths, (0..=6).collect());
}

#[test]
fn members_are_null_absent_empty_and_unknown() {
    let rows = all_rows(&generated(), WIDE);
    let any = |test: &dyn Fn(&Value) -> bool| rows.iter().any(test);
    assert!(any(&|row| row.get("tags").is_none()));
    assert!(any(&|row| row.get("tags") == Some(&Value::Null)));
    assert!(any(&|row| row["tags"] == Value::Array(Vec::new())));
    assert!(any(&|row| row["tags"].as_array().is_some_and(|tags| !tags.is_empty())));
    assert!(any(&|row| row.get("responsibility").is_none()));
    assert!(any(&|row| row.get("responsibility") == Some(&Value::Null)));
    assert!(any(&|row| row["assignee"].is_null()));
    assert!(any(&|row| row["assignee"]["email"] == ""));
    assert!(any(&|row| row["title"] == ""));
    assert!(any(&|row| row["title"].as_str().unwrap().contains('\n')));
    assert!(any(&|row| row["title"].as_str().unwrap().len() > 2_000));
    assert!(any(&|row| row["title"].as_str().unwrap().contains('\u{202E}')));
    assert!(any(&|row| row["priority"] == "UNMAPPED"));
    assert!(any(&|row| row["priority"] == "P0_URGENT"));
    assert!(any(&|row| row["status"] == "ESCALATED"));
    assert!(any(&|row| row["x_revision"].as_u64().is_some_and(|number| number > 1 << 53)));
    assert!(any(&|row| row["first_alert_time"].is_null()));
}

#[test]
fn verbatim_rows_are_served_byte_for_byte() {
    let row = r#"{"rrn":"rrn:investigation:us:x:investigation:AAAA","created_time":"2026-01-14T10:00:00.5Z","status":"CLOSED", "big":123456789012345678901234567890.10, "title":"é\u0000"}"#;
    let mut world = World::empty();
    world.add_investigation_json(row, at(NOW)).unwrap();
    let simulator = simulator(world);
    let page = get(&simulator, &format!("{LIST}?statuses=CLOSED"));
    assert!(page.text.contains(row), "{}", page.text);
    assert_eq!(get(&simulator, &format!("{LIST}/rrn:investigation:us:x:investigation:AAAA")).text, row);
}

#[test]
fn unusable_verbatim_rows_are_refused_by_name() {
    let mut world = World::empty();
    for (json, member) in [("[]", ""), ("{", ""), ("{}", "rrn"), (r#"{"rrn":"r"}"#, "created_time")] {
        let error = world.add_investigation_json(json, at(NOW)).unwrap_err();
        assert_eq!(error.code(), "unusable-json");
        assert!(error.to_string().contains(&format!("{member:?}")), "{error}");
    }
}

#[test]
fn an_investigation_is_found_by_rrn_by_uuid_and_with_encoded_colons() {
    let simulator = simulator(hourly(1));
    let rrn = get(&simulator, LIST).column("rrn").concat();
    let uuid = get(&simulator, "/idr/v1/investigations").column("id").concat();
    let raw = get(&simulator, &format!("{LIST}/{rrn}"));
    assert_eq!(raw.status, 200);
    assert_eq!(get(&simulator, &format!("{LIST}/{}", rrn.replace(':', "%3A"))).text, raw.text);
    assert_eq!(get(&simulator, &format!("{LIST}/{uuid}")).text, raw.text);
    assert_eq!(get(&simulator, &format!("{LIST}/{}/alerts", rrn.replace(':', "%3a"))).status, 200);
}

#[test]
fn a_deleted_investigation_is_gone() {
    let mut world = hourly(2);
    let created = at(NOW) - Duration::hours(5);
    let one = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    world.add_change(one, at(NOW) + Duration::minutes(1), Change::Gone).unwrap();
    let path = format!("{LIST}/{}", world.investigation_rrn(one).unwrap());
    let simulator = simulator(world);
    assert_eq!(get(&simulator, &path).status, 200);
    simulator.advance(Duration::minutes(1));
    assert_eq!(get(&simulator, &path).status, 404);
    assert_eq!(get(&simulator, &format!("{path}/alerts")).status, 404);
    assert_eq!(get(&simulator, LIST).data().len(), 2);
}

#[test]
fn product_alerts_are_a_bare_array() {
    let mut world = hourly(1);
    let created = at(NOW) - Duration::hours(5);
    let one = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    world.add_product_alert(one, r#"{"type":"THREAT_COMMAND"}"#).unwrap();
    let path = format!("{LIST}/{}/rapid7-product-alerts", world.investigation_rrn(one).unwrap());
    assert_eq!(get(&simulator(world), &path).text, r#"[{"type":"THREAT_COMMAND"}]"#);
    let simulator = generated();
    let shapes: HashSet<(bool, bool)> = all_rows(&simulator, WIDE)
        .iter()
        .flat_map(|row| {
            let path = format!("{LIST}/{}/rapid7-product-alerts", row["rrn"].as_str().unwrap());
            get(&simulator, &path).json.as_array().unwrap().clone()
        })
        .map(|one| (one["insight_agent_details"].is_array(), one["insight_agent_details"].is_object()))
        .collect();
    assert_eq!(shapes.len(), 3, "threat command, agent as an array, agent as an object");
}

#[test]
fn comments_lack_their_metadata_at_times_and_bodies_can_be_null() {
    let simulator = generated();
    let (mut with, mut without, mut null_bodies, mut comments) = (0, 0, 0, 0);
    for row in all_rows(&simulator, WIDE) {
        let page = get(&simulator, &format!("/idr/v1/comments?target={}", row["rrn"].as_str().unwrap()));
        assert_eq!(page.status, 200);
        *(if page.json.get("metadata").is_some() { &mut with } else { &mut without }) += 1;
        comments += page.data().len();
        null_bodies += page.data().iter().filter(|comment| comment["body"].is_null()).count();
    }
    assert!(with > 0 && without > 0 && comments > null_bodies && null_bodies > 0);
}

#[test]
fn version_one_lists_everything_and_leaves_members_out() {
    let simulator = generated();
    let page = get(&simulator, "/idr/v1/investigations?size=1000");
    assert!(page.data().len() > 440, "any time when not told");
    let times: Vec<_> = page.column("created_time").iter().map(|text| at(text)).collect();
    assert!(times.is_sorted_by(|a, b| a >= b), "newest first");
    assert!(page.data().iter().any(|row| row.get("assignee").is_none()));
    assert!(page.data().iter().all(|row| !row.get("assignee").is_some_and(Value::is_null)));
    assert!(page.data().iter().any(|row| row.get("rrn").is_none()));
    assert!(page.data().iter().any(|row| { row["alerts"].as_array().is_some_and(|alerts| !alerts.is_empty()) }));
    assert_eq!(get(&simulator, "/idr/v1/investigations?size=1001").status, 400);
}

#[test]
fn the_size_in_the_metadata_is_at_times_the_number_returned() {
    let simulator = simulator(hourly(47));
    let sizes: HashSet<u64> = (0..8)
        .map(|index| {
            get(&simulator, &format!("{LIST}?size=9&index={index}")).json["metadata"]["size"].as_u64().unwrap()
        })
        .collect();
    assert!(sizes.is_subset(&HashSet::from([9, 2])), "{sizes:?}");
    let asked: HashSet<u64> = (0..20)
        .map(|seed| {
            let mut config = WorldConfig { seed, investigations: 3, growth_per_day: 0, ..WorldConfig::default() };
            config.old_investigations = 0;
            let simulator = common::simulator(World::generate(&config));
            get(&simulator, &format!("{LIST}?size=50")).json["metadata"]["size"].as_u64().unwrap()
        })
        .collect();
    assert_eq!(asked, HashSet::from([3, 50]));
}

#[test]
fn only_detection_alerts_have_rrns() {
    let mut world = World::empty();
    let mut spec = AlertSpec::new(at(NOW), at(NOW));
    spec.kind = AlertKind::UserBehavior;
    let uba = world.add_alert(None, spec.clone()).unwrap();
    spec.kind = AlertKind::DetectionRule;
    let aba = world.add_alert(None, spec).unwrap();
    assert_eq!(world.alert_id(uba).unwrap().len(), 36);
    assert!(world.alert_id(aba).unwrap().starts_with("rrn:alerts:us1:"), "the alert's region code is us1, not us");
}
