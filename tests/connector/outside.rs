//! Alerts that belong to no investigation: what becomes of each member, what never leaves, and one that spoils nothing for
//! the others.

use std::time::Duration;

use crate::common::native::{Tenant, empty, missing, polls, sound, start};
use insightidr_simulator::{
    AlertId, AlertSpec, Fault, FaultProfile, InvestigationSpec, Rule, SimulatorConfig, World, WorldConfig,
};
use rapid7_insightidr::contract::{Setting, SettingValue};
use serde_json::{Value, json};

/// The RRN of the alert that is pinned.
const RRN: &str = "rrn:alerts:us1:11111111-2222-3333-4444-555555555555:alert:1:0123456789abcdef0123456789abcdef";

/// An alert in which every member has a value of its own, so that none can stand in for another.
fn record() -> Value {
    json!({
        "rrn": RRN, "version": 3, "created_at": "2026-01-14T13:00:00.5Z", "updated_at": "2026-01-14T13:07:00Z",
        "alerted_at": "2026-01-14T12:58:00Z", "ingested_at": "2026-01-14T12:59:00Z", "external_source": "IDR ABA",
        "organization": {"id": "11111111-2222-3333-4444-555555555555", "product_token": "S3CRET-T0KEN"},
        "title": "A title", "type": "A type",
        "rule": {"rrn": "rrn:cba:::detection-rule:A", "version_rrn": "rrn:cba:::detection-rule:version:B",
            "name": "Mimikatz", "mitre_tcodes": ["Credential Access", "T1003.001"]},
        "rule_keys_of_interest": [{"key": "hostname", "values": ["pc-7"]}],
        "priority": "CRITICAL", "status": "OPEN", "disposition": "UNDECIDED", "tags": ["crown jewels"],
    })
}

/// A tenant whose only alert outside investigations is the record.
fn tenant(record: &Value) -> (Tenant, AlertId) {
    let mut world = World::empty();
    let start = WorldConfig::default().start;
    world.set_start(start);
    let created = start - time::Duration::hours(23);
    let spec = AlertSpec {
        id: Some(RRN.to_owned()),
        triage_json: Some(record.to_string()),
        evidence: Some(vec![json!({"rrn": "e", "data": "{\"source_ip\":\"10.0.0.7\"}"}).to_string()]),
        actors: Some(vec![json!({"type": "ACCOUNT", "display_name": "jdoe"}).to_string()]),
        ..AlertSpec::new(created, created)
    };
    let id = world.add_alert(None, spec).unwrap();
    (Tenant::of(world), id)
}

#[test]
fn every_member_of_an_alert_outside_investigations_goes_where_it_belongs() {
    let (mut tenant, _) = tenant(&record());
    let batch = tenant.step().unwrap();
    assert_eq!(batch.artifacts.len(), 1);
    assert_eq!(batch.artifacts[0].stream, "uninvestigated-alerts");
    let mut artifact: Value = serde_json::from_str(&batch.artifacts[0].json).unwrap();
    let message: Value = serde_json::from_str(artifact["message"].as_str().unwrap()).unwrap();
    assert_eq!(message["evidence"][0]["rrn"], "e");
    assert_eq!(message["actors"][0]["display_name"], "jdoe");
    assert_eq!(message["rule"]["version_rrn"], "rrn:cba:::detection-rule:version:B");
    artifact.as_object_mut().unwrap().retain(|key, _| !matches!(key.as_str(), "id" | "message"));
    assert_eq!(
        artifact,
        json!({
            "streamName": "rapid7_insightidr", "application": "InsightIDR", "action": "alert",
            "messageType": "credential_access", "severityCode": "2", "severityLabel": "critical",
            "tags": ["crown jewels"], "ruleName": "Mimikatz", "ruleCategory": "A type",
            "attackTechniqueIds": ["T1003.001"], "vendorCode": "rrn:cba:::detection-rule:A", "sourceInfo": RRN,
            "senderHost": "us.api.insight.rapid7.com/0123456789abcdef0123456789abcdef.0",
            "startTimeUTC": "2026-01-14T12:58:00Z",
            "clientIP": "10.0.0.7", "clientHostname": "pc-7", "userName": "jdoe",
        })
    );
}

/// The alert of a tenant as an artifact.
fn alert_of(tenant: &Tenant) -> &Value {
    let alerts: Vec<&Value> = tenant.store.values().filter(|artifact| artifact["action"] == "alert").collect();
    assert_eq!(alerts.len(), 1, "one alert is one artifact: {alerts:#?}");
    alerts[0]
}

#[test]
fn an_alert_that_joins_an_investigation_later_keeps_its_id() {
    for collect_evidence in [true, false] {
        let mut world = World::empty();
        let start = WorldConfig::default().start;
        world.set_start(start);
        let before = start - time::Duration::hours(3);
        let of = world.add_investigation(InvestigationSpec::new(before, before)).unwrap();
        // The two APIs say its creation to the microsecond and to the millisecond.
        let created = start - time::Duration::hours(1) + time::Duration::microseconds(757_109);
        let joins = start + time::Duration::hours(1);
        let spec = AlertSpec { triage_visible_at: Some(created), ..AlertSpec::new(created, joins) };
        world.add_alert(Some(of), spec).unwrap();
        let mut tenant = Tenant::of(world);
        let value = SettingValue::Boolean(collect_evidence);
        tenant.settings.push(Setting { key: "collect_evidence".to_owned(), value });
        assert_eq!(tenant.cycle().fetched["uninvestigated-alerts"], 1);
        let id = alert_of(&tenant)["id"].clone();
        tenant.advance(Duration::from_secs(2 * 3_600));
        assert_eq!(tenant.cycle().fetched["alerts"], 1, "it is collected with its investigation");
        assert_eq!(alert_of(&tenant)["id"], id, "evidence: {collect_evidence}");
    }
}

#[test]
fn an_alert_of_an_investigation_says_what_its_own_record_says_where_the_list_says_nothing() {
    for (priority, severity) in [("CRITICAL", "critical"), ("INFO", "informational"), ("UNMAPPED", "low")] {
        let mut world = World::empty();
        let start = WorldConfig::default().start;
        world.set_start(start);
        let created = start - time::Duration::hours(23);
        let spec = InvestigationSpec { priority: "LOW".to_owned(), ..InvestigationSpec::new(created, created) };
        let of = world.add_investigation(spec).unwrap();
        let mut record = record();
        record["priority"] = json!(priority);
        record["investigation_rrn"] = json!(world.investigation_rrn(of).unwrap());
        let row = json!({"id": RRN, "title": "T", "created_time": "2026-01-14T13:00:00.5Z", "first_event_time": null,
            "latest_event_time": null, "detection_rule_rrn": {"rule_name": "N", "rule_rrn": {"resource": "A"}}});
        let spec = AlertSpec {
            id: Some(RRN.to_owned()),
            json: Some(row.to_string()),
            triage_json: Some(record.to_string()),
            ..AlertSpec::new(created, created)
        };
        world.add_alert(Some(of), spec).unwrap();
        let mut tenant = Tenant::of(world);
        assert_eq!(tenant.cycle().fetched["alerts"], 1);
        let alert = alert_of(&tenant);
        assert_eq!(alert["severityLabel"], severity, "{priority}");
        assert_eq!(alert["vendorCode"], "rrn:cba:::detection-rule:A");
        assert_eq!(alert["startTimeUTC"], "2026-01-14T12:58:00Z", "when it happened, not when it was created");
        assert_eq!(alert["tags"], json!(["crown jewels"]));
    }
}

#[test]
fn the_tenants_token_is_in_no_artifact_of_any_stream() {
    let (mut pinned, _) = tenant(&record());
    let world = WorldConfig { seed: 61, investigations: 40, standalone_alerts: 40, ..WorldConfig::default() };
    let mut generated = Tenant::of(World::generate(&world));
    for tenant in [&mut pinned, &mut generated] {
        let batch = tenant.step().unwrap();
        assert!(batch.artifacts.iter().any(|artifact| artifact.stream == "uninvestigated-alerts"));
        for artifact in &batch.artifacts {
            for secret in ["product_token", "S3CRET-T0KEN", "375EA8EDACEB1603216A"] {
                assert!(!artifact.json.contains(secret), "{}: {}", artifact.stream, artifact.json);
            }
        }
    }
}

/// The evidence of one alert cannot be had, ever: of one outside investigations and of one of an investigation.
#[test]
fn an_alert_whose_evidence_never_comes_goes_without_it_and_holds_up_nothing() {
    for investigated in [false, true] {
        let (mut tenant, _) = tenant(&record());
        let bad = tenant.link.simulator.change_world(|world| {
            let start = WorldConfig::default().start;
            let created = start - time::Duration::hours(22);
            let of = investigated.then(|| world.add_investigation(InvestigationSpec::new(created, created)).unwrap());
            let bad = world.add_alert(of, AlertSpec::new(created, created)).unwrap();
            // One that is created later, for which nothing is wrong.
            let later = start + time::Duration::minutes(30);
            world.add_alert(None, AlertSpec::new(later, later)).unwrap();
            world.alert_id(bad).unwrap()
        });
        let status = Fault::Status { status: 500, body: None, headers: Default::default(), retry_after: None };
        let rule = Rule::new(format!("/idr/at/alerts/{bad}/evidences"), status).times(u64::MAX);
        tenant.link.simulator.set_faults(FaultProfile::new([rule]));
        for _ in 0..12 {
            tenant.cycle();
            tenant.advance(Duration::from_secs(10 * 60));
        }
        let last = tenant.cycle();
        assert!(last.failure.is_none() && last.degraded.is_empty(), "{last:#?}");
        let alerts: Vec<&Value> = tenant.store.values().filter(|artifact| artifact["action"] == "alert").collect();
        assert_eq!(alerts.len(), 3, "investigated {investigated}: {alerts:#?}");
        for alert in alerts {
            let is_bad = alert["sourceInfo"] == bad.as_str();
            let is_told = alert["tags"].as_array().is_some_and(|tags| tags.contains(&"evidence-unavailable".into()));
            assert_eq!(is_told, is_bad, "{alert:#?}");
        }
    }
}

#[test]
fn a_search_whose_pages_repeat_each_other_is_made_again_and_loses_nothing() {
    for after in [2, 3] {
        let mut world = World::empty();
        let start = WorldConfig::default().start;
        world.set_start(start);
        for number in 0..250 {
            let created = start - time::Duration::hours(20) + time::Duration::seconds(number);
            world
                .add_alert(None, AlertSpec { evidence: Some(Vec::new()), ..AlertSpec::new(created, created) })
                .unwrap();
        }
        let mut tenant = Tenant::of(world);
        // Behind the question whether the API is there, and the first page.
        let rule = Rule::new("/idr/at/alerts/ops/search", Fault::DuplicatePage {}).after(after).times(1);
        tenant.link.simulator.set_faults(FaultProfile::new([rule]));
        let cycle = tenant.cycle();
        assert!(cycle.failure.is_none() && cycle.degraded.is_empty(), "{cycle:#?}");
        assert!(tenant.link.simulator.requests().iter().any(|request| request.fault.is_some()), "the fault was met");
        assert_eq!(tenant.store.len(), 250, "page {} was the one before", after - 1);
    }
}

#[test]
fn an_alert_on_the_seam_of_two_windows_is_collected() {
    let mut world = World::empty();
    let start = WorldConfig::default().start;
    world.set_start(start);
    // A window is 28 days long: here one ends and the next begins.
    let seam = start - time::Duration::days(28);
    for created in [seam - time::Duration::milliseconds(1), seam, seam + time::Duration::milliseconds(1)] {
        world.add_alert(None, AlertSpec::new(created, created)).unwrap();
    }
    let mut tenant = Tenant::of(world);
    tenant.settings.push(Setting { key: "initial_lookback_days".to_owned(), value: SettingValue::Integer(56) });
    assert!(tenant.cycle().degraded.is_empty());
    assert_eq!(tenant.store.len(), 3);
}

/// A world of so many alerts outside investigations, one a minute, the last of them that long ago: it, and their RRNs.
fn alone(count: i64, ago: time::Duration) -> (World, Vec<String>) {
    let mut world = empty();
    let created = (0..count).map(|number| start() - ago - time::Duration::minutes(number));
    let ids: Vec<AlertId> = created.map(|at| world.add_alert(None, AlertSpec::new(at, at)).unwrap()).collect();
    let rrns = ids.into_iter().map(|id| world.alert_id(id).unwrap()).collect();
    (world, rrns)
}

#[test]
fn an_alert_whose_evidence_has_a_wrong_total_for_good_keeps_no_other_waiting() {
    let (world, rrns) = alone(30, time::Duration::hours(2));
    let mut tenant = Tenant::with(world, SimulatorConfig { long_evidence_totals: true, ..SimulatorConfig::default() });
    tenant.settings.push(Setting { key: "max_concurrent_requests".to_owned(), value: SettingValue::Integer(1) });
    polls(&mut tenant, 4);
    let missing = missing(&tenant, &rrns);
    assert!(missing.is_empty(), "{} of {} wait for their turn to fail", missing.len(), rrns.len());
}

#[test]
fn a_search_whose_beginning_is_cut_to_the_minute_brings_nothing_again() {
    let (world, rrns) = alone(90, time::Duration::seconds(31));
    let cut = Duration::from_secs(60);
    let mut tenant = Tenant::with(world, SimulatorConfig { start_cut: cut, ..SimulatorConfig::default() });
    for _ in 0..60 {
        tenant.advance(Duration::from_secs(97));
        sound(&mut tenant);
    }
    assert!(missing(&tenant, &rrns).is_empty());
    assert!(tenant.again.is_empty(), "came again: {:?}", tenant.again);
}

#[test]
fn alerts_whose_evidence_has_a_wrong_total_for_good_keep_no_later_ones_waiting_however_many_there_are() {
    let (world, rrns) = alone(1_300, time::Duration::minutes(30));
    let config = SimulatorConfig { long_evidence_totals: true, ..SimulatorConfig::default() };
    let mut tenant = Tenant::with(world, config);
    polls(&mut tenant, 4);
    let missing = missing(&tenant, &rrns);
    assert!(missing.is_empty(), "{} of {} wait for their window", missing.len(), rrns.len());
}
