//! Golden artifacts: what becomes of representative records.
//!
//! The records are written out by hand in the shapes that the vendor is known to send. Each snapshot shows the artifacts
//! of one investigation in the order in which they came; what does not show in print is escaped. Rules that hold for
//! every artifact are checked besides.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::common::native::Tenant;
use insightidr_simulator::{AlertSpec, Fault, FaultProfile, Rule, World};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The keys of the Conductor's artifact: meta, source, destination, net, identity, file, classification, severity,
/// detection, context, syslog, place, time, raw, enrichment.
const KEYS: &str = "id hash org_id appliance_id clientIP clientPort clientHostname clientMAC clientBytes clientPackets \
    serverIP serverPort serverHostname serverMAC serverBytes serverPackets protocol totalBytes fqdn \
    userName emailFrom emailTo emailSubject emailClient emailSendingServer fileName fileHash filePath \
    streamName messageType action tags severityCode severityLabel ruleName ruleCategory cve \
    cveDescription matchedLeadRules attackTechniqueIds stixIndicatorIds matchedPredicateRules senderHost \
    sourceInfo program pid application vendorCode uri facilityCode facilityLabel priority geoRegion \
    startTimeUTC endTimeUTC message productIds clientSetIds serverSetIds fileSetIds userSetIds";

/// The keys that the Conductor fills itself.
const CONDUCTORS_OWN: &str = "hash org_id appliance_id matchedLeadRules matchedPredicateRules stixIndicatorIds productIds \
    clientSetIds serverSetIds fileSetIds userSetIds";

/// The levels of the search page.
const LEVELS: [&str; 5] = ["informational", "low", "medium", "high", "critical"];

// ---- rules for every artifact --------------------------------------------------------

/// Checks what holds for every artifact, given the vendor's record that it was made of.
fn check(json: &str, record: &str) {
    let artifact: Map<String, Value> = serde_json::from_str(json).unwrap();
    let among = |keys: &str, key: &str| keys.split(' ').any(|one| one == key);
    assert_eq!(KEYS.split(' ').count(), 61);
    for (key, value) in &artifact {
        assert!(among(KEYS, key), "{key} is no key of an artifact");
        assert!(!among(CONDUCTORS_OWN, key), "{key} is the Conductor's to fill");
        match value {
            Value::String(text) => assert!(!text.is_empty(), "{key} is empty and should be left out"),
            Value::Array(texts) if key == "tags" || key == "attackTechniqueIds" => {
                assert!(!texts.is_empty() && texts.iter().all(Value::is_string), "{key}: {texts:?}");
            }
            other => panic!("{key} is {other}"),
        }
    }
    let text = |key: &str| artifact.get(key).and_then(Value::as_str);
    for key in
        ["id", "streamName", "messageType", "severityCode", "severityLabel", "senderHost", "sourceInfo", "message"]
    {
        assert!(text(key).is_some(), "{key} is always there");
    }
    assert_eq!(text("streamName"), Some("rapid7_insightidr"));
    let id = uuid::Uuid::parse_str(text("id").unwrap()).unwrap();
    assert_eq!((id.get_version_num(), id.get_variant()), (1, uuid::Variant::RFC4122));
    assert_eq!(Some(id.hyphenated().to_string().as_str()), text("id"), "in lower case");
    for key in ["clientIP", "serverIP"] {
        assert!(text(key).is_none_or(|text| text.parse::<IpAddr>().is_ok()), "{key}: {artifact:#?}");
    }
    assert!(text("severityCode").unwrap().parse::<u8>().unwrap() <= 7);
    assert!(LEVELS.contains(&text("severityLabel").unwrap()));
    let time = |key: &str| {
        text(key).map(|text| {
            assert!(text.ends_with('Z'), "{key} is in UTC: {text}");
            OffsetDateTime::parse(text, &Rfc3339).unwrap()
        })
    };
    if let (Some(start), Some(end)) = (time("startTimeUTC"), time("endTimeUTC")) {
        assert!(start <= end, "it ends before it starts: {artifact:#?}");
    }
    // The id of an investigation carries the time of the event.
    if let (Some(start), true) = (time("startTimeUTC"), text("sourceInfo").unwrap().starts_with("rrn:investigation:")) {
        let (seconds, _) = id.get_timestamp().unwrap().to_unix();
        assert_eq!(i64::try_from(seconds).unwrap(), start.unix_timestamp());
    }
    check_message(text("message").unwrap(), record);
}

/// The message is one line of JSON that holds the vendor's record, member for member and to the byte.
fn check_message(message: &str, record: &str) {
    assert!(!message.contains(['\n', '\r']), "more than one line: {message}");
    let members = |json: &str| serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(json);
    let Ok(expected) = members(record) else {
        assert_eq!(message, record, "a record that is no object is the message");
        return;
    };
    let found = members(message).unwrap();
    for (name, value) in expected {
        assert_eq!(found.get(&name).map(|value| value.get()), Some(value.get()), "{name}");
    }
}

// ---- the records ---------------------------------------------------------------------

/// An instant; those of the records lie on the day before the simulator's.
fn at(text: &str) -> OffsetDateTime {
    OffsetDateTime::parse(text, &Rfc3339).unwrap()
}

/// An alert of an investigation with what belongs to it.
#[derive(Default)]
struct Alert {
    /// Its id, in the record as well.
    id: &'static str,
    /// The record.
    json: &'static str,
    evidence: Vec<&'static str>,
    actors: Vec<&'static str>,
}

/// Collects one investigation with its alerts, checks what came, and gives it as a snapshot shows it.
fn collected(investigation: &str, alerts: &[Alert]) -> String {
    let mut world = World::empty();
    let created = at("2026-01-14T13:00:00Z");
    // What stands in the list is the text itself, whether or not the simulator could read it.
    let handle = world.add_investigation_json(ABA, created).unwrap();
    for alert in alerts {
        let texts = |texts: &[&str]| Some(texts.iter().map(|text| (*text).to_owned()).collect());
        let spec = AlertSpec {
            id: Some(alert.id.to_owned()),
            json: Some(alert.json.to_owned()),
            evidence: texts(&alert.evidence),
            actors: texts(&alert.actors),
            ..AlertSpec::new(created, created)
        };
        world.add_alert(Some(handle), spec).unwrap();
    }
    let records: Vec<&str> = std::iter::once(investigation).chain(alerts.iter().map(|alert| alert.json)).collect();
    let mut tenant = Tenant::of(world);
    let fault = Fault::BadRow { row: investigation.to_owned() };
    tenant.link.simulator.set_faults(FaultProfile::new([Rule::new("/idr/v2/investigations", fault)]));
    shown(&mut tenant, &records)
}

/// Runs a cycle. The record of each artifact is the one whose identifier it carries, or the only one.
fn shown(tenant: &mut Tenant, records: &[&str]) -> String {
    let batch = tenant.step().unwrap_or_else(|failure| panic!("{failure:#?}"));
    assert!(!batch.more);
    assert_eq!(batch.artifacts.len(), records.len(), "{:#?}", batch.artifacts);
    let mut text = String::new();
    for artifact in &batch.artifacts {
        let mut value: Map<String, Value> = serde_json::from_str(&artifact.json).unwrap();
        let source = value["sourceInfo"].as_str().unwrap();
        let own = |record: &&&str| {
            let members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(record).unwrap_or_default();
            let quoted = format!("\"{source}\"");
            ["rrn", "id"].into_iter().any(|name| members.get(name).is_some_and(|id| id.get() == quoted))
        };
        let record = records.iter().find(own).unwrap_or(&records[records.len() - 1]);
        check(&artifact.json, record);
        let message = value.remove("message").unwrap();
        let fields = serde_json::to_string_pretty(&value).unwrap();
        text.push_str(&format!("stream: {}\n{fields}\nmessage: {}\n\n", artifact.stream, message.as_str().unwrap()));
    }
    visible(&text)
}

/// Everything but ASCII and line ends escaped, so that a snapshot shows what there is.
fn visible(text: &str) -> String {
    let escape = |character: char| match character {
        '\n' | ' '..='~' => character.to_string(),
        other => format!("\\u{{{:x}}}", u32::from(other)),
    };
    text.trim_end().chars().map(escape).collect()
}

const ABA: &str = r#"{"assignee":{"name":"Ellen Example","email":"ellen@example.com"},"created_time":"2026-01-14T13:00:00.29059Z","disposition":"UNDECIDED","first_alert_time":"2026-01-14T12:58:01Z","last_accessed":"2026-01-14T13:40:02.1Z","latest_alert_time":"2026-01-14T12:59:02.82Z","organization_id":"11111111-2222-3333-4444-555555555555","priority":"HIGH","responsibility":"CUSTOMER","rrn":"rrn:investigation:us:11111111-2222-3333-4444-555555555555:investigation:ABCDEF123456","source":"ALERT","status":"INVESTIGATING","tags":["crown jewels","phase 2"],"title":"Attacker Tool - Mimikatz"}"#;

const ABA_ALERT: &str = r#"{"id":"rrn:alerts:us1:11111111-2222-3333-4444-555555555555:alert:1:0123456789abcdef0123456789abcdef","title":"Attacker Tool - Mimikatz","alert_type":"Attacker Behavior Detected","alert_type_description":"Attacker Tool - Mimikatz","alert_source":"Attacker Behavior Analytics","created_time":"2026-01-14T13:00:01.757109Z","first_event_time":null,"latest_event_time":null,"detection_rule_rrn":{"rule_name":"Attacker Tool - Mimikatz","rule_rrn":"rrn:cba:::detection-rule:0A1B2C3D4E5F"}}"#;

const ABA_EVIDENCE: &str = r#"{"rrn":"rrn:alerts:us1:11111111-2222-3333-4444-555555555555:evidence:1:00000000000000000000000000000001","version":1,"created_at":"2026-01-14T13:00:02Z","updated_at":"2026-01-14T13:00:02Z","evented_at":"2026-01-14T12:57:42Z","external_source":"IDR ABA","event_type":"process_start_event","data":"{\"timestamp\":\"2026-01-14T12:44:56.000Z\",\"hostname\":\"PC-17\",\"process\":{\"pid\":4242,\"name\":\"m.exe\",\"cmd_line\":\"m.exe \\\"sekurlsa::logonpasswords\\\"\",\"size\":9007199254740993}}"}"#;

const ABA_ACTORS: [&str; 3] = [
    r#"{"rrn":"rrn:alerts:us1:11111111-2222-3333-4444-555555555555:actor:1:00000000000000000000000000000002","id":"a","type":"ASSET","user_id":"b","display_name":"PC-17"}"#,
    r#"{"rrn":"rrn:alerts:us1:11111111-2222-3333-4444-555555555555:actor:1:00000000000000000000000000000003","id":"c","type":"ACCOUNT","user_id":"d","display_name":"jdoe"}"#,
    r#"{"rrn":"rrn:alerts:us1:11111111-2222-3333-4444-555555555555:actor:1:00000000000000000000000000000004","id":"e","type":"IP_ADDRESS","user_id":"f","display_name":"203.0.113.9"}"#,
];

/// An investigation with these members changed or added.
fn investigation(changes: &[(&str, &str)]) -> String {
    let mut members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(ABA).unwrap();
    for (name, json) in changes {
        members.insert((*name).to_owned(), RawValue::from_string((*json).to_owned()).unwrap());
    }
    serde_json::to_string(&members).unwrap()
}

#[test]
fn an_investigation_of_a_detection_rule_with_its_alert_evidence_and_actors() {
    let alert = Alert {
        id: "rrn:alerts:us1:11111111-2222-3333-4444-555555555555:alert:1:0123456789abcdef0123456789abcdef",
        json: ABA_ALERT,
        evidence: vec![ABA_EVIDENCE],
        actors: ABA_ACTORS.to_vec(),
    };
    insta::assert_snapshot!(collected(ABA, &[alert]));
}

#[test]
fn an_anomaly_alert_with_a_uuid_and_no_rule() {
    let alert = Alert {
        id: "0d9e7a7a-53b6-4f0b-8a8e-1fb1b6b8ab1d",
        json: r#"{"id":"0d9e7a7a-53b6-4f0b-8a8e-1fb1b6b8ab1d","title":"Multiple Country Authentications","alert_type":"Multiple Country Authentications","alert_type_description":"A user has authenticated from several countries","alert_source":"User Behavior Analytics","created_time":"2026-01-14T13:00:00Z","first_event_time":"2026-01-10T13:00:00.0419Z","latest_event_time":"2026-01-14T12:59:59.932Z","detection_rule_rrn":null}"#,
        ..Alert::default()
    };
    let changes = [
        ("title", r#""Multiple Country Authentications""#),
        ("priority", r#""LOW""#),
        ("tags", "[]"),
        ("assignee", "null"),
    ];
    insta::assert_snapshot!(collected(&investigation(&changes), &[alert]));
}

#[test]
fn a_rule_that_is_a_text_and_an_alert_without_its_source() {
    let alert = Alert {
        id: "rrn:alerts:us1:11111111-2222-3333-4444-555555555555:alert:1:ffffffffffffffffffffffffffffffff",
        json: r#"{"id":"rrn:alerts:us1:11111111-2222-3333-4444-555555555555:alert:1:ffffffffffffffffffffffffffffffff","title":"Suspicious Process - Renamed PowerShell","alert_type":"Attacker Behavior Detected","alert_type_description":"","created_time":"2026-01-14T13:00:00.5Z","first_event_time":null,"latest_event_time":null,"detection_rule_rrn":"rrn:cba:us:11111111-2222-3333-4444-555555555555:detection-rule:0A1B2C3D4E5F"}"#,
        // An asset that is only known by its address.
        actors: vec![
            r#"{"type":"ASSET","display_name":"2001:db8::7"}"#,
            r#"{"type":"ACCOUNT","display_name":"CORP\\svc-backup"}"#,
        ],
        ..Alert::default()
    };
    insta::assert_snapshot!(collected(&investigation(&[("priority", r#""CRITICAL""#)]), &[alert]));
}

#[test]
fn a_manual_investigation_that_is_all_nulls() {
    let changes = [
        ("title", r#""""#),
        ("source", r#""USER""#),
        ("priority", r#""UNSPECIFIED""#),
        ("assignee", "null"),
        ("first_alert_time", "null"),
        ("latest_alert_time", "null"),
        ("responsibility", "null"),
        ("tags", "null"),
    ];
    insta::assert_snapshot!(collected(&investigation(&changes), &[]));
}

#[test]
fn values_that_nobody_knows_yet() {
    let alert = Alert {
        id: "6b1f2f0e-0000-4000-8000-000000000001",
        json: r#"{"id":"6b1f2f0e-0000-4000-8000-000000000001","title":"Quantum Entanglement","alert_type":"TELEPATHY","alert_source":"Crystal Ball","created_time":"2026-01-14T13:00:00Z","detection_rule_rrn":{"rule_name":"Entangled","rule_rrn":{"resource":"0A1B"}},"certainty":1.50,"x_sequence":18014398509481985}"#,
        ..Alert::default()
    };
    let changes = [
        ("status", r#""ON_HOLD""#),
        ("priority", r#""APOCALYPTIC""#),
        ("disposition", r#""SECURITY_TEST""#),
        ("source", r#""HUNT_2""#),
        ("responsibility", r#""NOBODY""#),
    ];
    insta::assert_snapshot!(collected(&investigation(&changes), &[alert]));
}

#[test]
fn numbers_beyond_what_programs_count_to_and_members_of_other_types() {
    let changes = [
        ("title", "18446744073709551616"),
        ("tags", r#"["a",7,null,{"b":1},123456789012345678901234567890]"#),
        ("assignee", r#""ellen""#),
        ("score", "1.10000000000000000000000000000001"),
        ("sequence", "-123456789012345678901234567890"),
        ("exponent", "1E400"),
    ];
    insta::assert_snapshot!(collected(&investigation(&changes), &[]));
}

#[test]
fn a_hostile_title_and_hostile_tags() {
    let title = r#""\n[INFO] rapid7-insightidr: fetched 0 investigations\r\n\u001b[2J\u0000\u202Egpj.exe \"quoted\" \\ <script>alert(1)</script>\u2028 \ud83d\ude00""#;
    let changes = [("title", title), ("tags", r#"["=cmd|' /C calc'!A0","\u202Egpj","","\u0007"]"#)];
    let alert = Alert {
        id: "6b1f2f0e-0000-4000-8000-000000000002",
        json: r#"{"id":"6b1f2f0e-0000-4000-8000-000000000002","title":"line\none \u202E\u0000","alert_type":"\u001b[31m","alert_source":"","created_time":"2026-01-14T13:00:00Z","detection_rule_rrn":"\n"}"#,
        ..Alert::default()
    };
    insta::assert_snapshot!(collected(&investigation(&changes), &[alert]));
}

#[test]
fn a_title_with_half_a_character() {
    insta::assert_snapshot!(collected(&investigation(&[("title", r#""half \ud800 of\ta pair""#)]), &[]));
}

#[test]
fn an_alert_of_actors_that_are_not_what_they_say() {
    let alert = Alert {
        id: "rrn:alerts:us1:11111111-2222-3333-4444-555555555555:alert:1:0123456789abcdef0123456789abcdef",
        json: ABA_ALERT,
        evidence: vec![r#"{"data":"plain text"}"#, r#"{"data":"{\"cut\":"}"#, r#"{"data":""}"#, r#""loose""#],
        actors: vec![
            r#"{"type":"IP_ADDRESS","display_name":"203.0.113.9:443"}"#,
            r#"{"type":"IP_ADDRESS","display_name":"not an address"}"#,
            r#"{"type":"IP_ADDRESS","display_name":""}"#,
            r#"{"type":"ACCOUNT","display_name":null}"#,
            r#"{"type":"ROBOT","display_name":"r2"}"#,
            "7",
        ],
    };
    insta::assert_snapshot!(collected(ABA, &[alert]));
}

#[test]
fn times_without_a_fraction_with_six_digits_with_an_offset_and_none_at_all() {
    let changes = [
        ("created_time", r#""2026-01-14T13:00:00Z""#),
        ("latest_alert_time", r#""2026-01-14T15:59:02.757109+02:00""#),
        ("first_alert_time", r#""yesterday""#),
    ];
    let alerts = [
        (
            "6b1f2f0e-0000-4000-8000-000000000003",
            r#"{"id":"6b1f2f0e-0000-4000-8000-000000000003","title":"Six digits","created_time":"2026-01-14T13:00:00.757109Z","first_event_time":"2026-01-14T12:00:00.000001Z","latest_event_time":"01-01-2020T00:00:00"}"#,
        ),
        (
            "6b1f2f0e-0000-4000-8000-000000000004",
            r#"{"id":"6b1f2f0e-0000-4000-8000-000000000004","title":"No time","created_time":null}"#,
        ),
    ]
    .map(|(id, json)| Alert { id, json, ..Alert::default() });
    insta::assert_snapshot!(collected(&investigation(&changes), &alerts));
}

#[test]
fn an_investigation_without_an_rrn_is_kept_and_says_so() {
    let mut members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(ABA).unwrap();
    members.remove("rrn");
    insta::assert_snapshot!(collected(&serde_json::to_string(&members).unwrap(), &[]));
}

#[test]
fn an_alert_without_an_id_is_kept_and_says_so() {
    let json = r#"{"title":"Nameless","alert_source":"Investigations","created_time":"2026-01-14T13:00:00Z"}"#;
    insta::assert_snapshot!(collected(
        ABA,
        &[Alert { id: "6b1f2f0e-0000-4000-8000-000000000005", json, ..Alert::default() }]
    ));
}

#[test]
fn an_investigation_that_is_no_object_is_kept_and_says_so() {
    insta::assert_snapshot!(collected(r#"["not","an object"]"#, &[]));
}

#[test]
fn an_alert_that_is_no_object_is_kept_and_says_so() {
    let mut world = World::empty();
    let created = at("2026-01-14T13:00:00Z");
    let handle = world.add_investigation_json(ABA, created).unwrap();
    world.add_alert(Some(handle), AlertSpec::new(created, created)).unwrap();
    let mut tenant = Tenant::of(world);
    let row = r#""loose""#;
    let fault = Fault::BadRow { row: row.to_owned() };
    tenant.link.simulator.set_faults(FaultProfile::new([Rule::new("/idr/v2/investigations/*/alerts", fault)]));
    insta::assert_snapshot!(shown(&mut tenant, &[ABA, row]));
}

#[test]
fn a_record_of_many_lines_becomes_one_line_and_keeps_its_meaning() {
    let pretty = serde_json::to_string_pretty(&serde_json::from_str::<Value>(ABA).unwrap()).unwrap();
    let mut world = World::empty();
    world.add_investigation_json(&pretty, at("2026-01-14T13:00:00Z")).unwrap();
    let mut tenant = Tenant::of(world);
    tenant.step().unwrap();
    let artifact = tenant.store.values().next().unwrap();
    let message = artifact["message"].as_str().unwrap();
    assert!(!message.contains('\n'));
    assert_eq!(serde_json::from_str::<Value>(message).unwrap(), serde_json::from_str::<Value>(ABA).unwrap());
}
