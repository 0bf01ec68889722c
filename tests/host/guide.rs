//! What the operator's guide promises is true of the product.
//!
//! The guide's facts are written out here, by its sections. The product is asked natively where it says something and
//! through the real host where an operator would look.

use crate::common::host::{Stage, key, text};
use insightidr_simulator::{AlertSpec, Fault, FaultProfile, InvestigationSpec, Rule, World, WorldConfig};
use rapid7_insightidr::api::errors;
use rapid7_insightidr::api::transport::{Method, Request, Response, TransportError, TransportErrorKind};
use rapid7_insightidr::contract::{Failure, RetryAdvice, Scheme, Setting, SettingField, SettingKind, SettingValue};
use rapid7_insightidr::descriptor;
use rapid7_insightidr::region::{self, REGIONS};
use rapid7_insightidr::settings::{self, Settings};
use rapid7_insightidr::times::Utc;
use serde_json::Value;

/// The guide's table of regional endpoints, with the value of the field for each.
const GUIDE_REGIONS: [(&str, &str, &str); 7] = [
    ("us", "US 1", "us.api.insight.rapid7.com"),
    ("us2", "US 2", "us2.api.insight.rapid7.com"),
    ("us3", "US 3", "us3.api.insight.rapid7.com"),
    ("eu", "EU", "eu.api.insight.rapid7.com"),
    ("ca", "Canada", "ca.api.insight.rapid7.com"),
    ("au", "Australia", "au.api.insight.rapid7.com"),
    ("ap", "Japan", "ap.api.insight.rapid7.com"),
];

// ---- header ------------------------------------------------------------------

#[test]
fn the_connector_is_what_the_head_of_the_guide_says() {
    let described = descriptor::describe();
    assert_eq!(described.display_name, "Rapid7 InsightIDR");
    assert_eq!(described.category, "SIEM");
    assert_eq!(described.name, "signal-client.rapid7-insightidr");
    assert_eq!(described.auth_method, "API Key");
    assert_eq!(described.default_poll_minutes, 5);
    assert!(described.multi_instance);
    assert_eq!(described.vendor_docs, "https://docs.rapid7.com/insightidr/api-overview/");
}

// ---- regional endpoints --------------------------------------------------------

fn with_region(code: &str) -> Vec<Setting> {
    vec![Setting { key: "region".to_owned(), value: SettingValue::Text(code.to_owned()) }]
}

#[test]
fn the_regions_are_those_of_the_guide_and_each_reaches_its_endpoint_on_port_443_and_no_other() {
    let regions: Vec<(&str, &str, &str)> =
        REGIONS.iter().map(|region| (region.code, region.label, region.host)).collect();
    assert_eq!(regions, GUIDE_REGIONS);
    for (code, _, endpoint) in GUIDE_REGIONS {
        let plan = settings::plan(&Settings::parse(&with_region(code)).unwrap());
        assert_eq!((plan.origin.scheme, plan.origin.host.as_str(), plan.origin.port), (Scheme::Https, endpoint, 443));
        // It reads: nothing that it may ask for changes anything at the vendor.
        assert!(plan.rules.iter().all(|rule| rule.method == "GET"
            || matches!(rule.path_prefix.as_str(), "/idr/at/alerts/ops/search" | "/idr/at/alerts/ops/rrns")));
    }
}

// ---- the settings form ---------------------------------------------------------

fn field<'a>(fields: &'a [SettingField], label: &str) -> &'a SettingField {
    fields.iter().find(|field| field.label == label).unwrap_or_else(|| panic!("no field {label}"))
}

#[test]
fn the_form_has_the_fields_of_the_guide_and_needs_no_others() {
    let fields = descriptor::describe().settings;
    let required: Vec<&str> = fields.iter().filter(|field| field.required).map(|field| field.label.as_str()).collect();
    assert_eq!(required, ["Region", "API Key"]);
    let labels: Vec<&str> = fields.iter().map(|field| field.label.as_str()).collect();
    assert_eq!(labels[..2], ["Region", "API Key"], "the guide's fields come first");
    let region = field(&fields, "Region");
    let SettingKind::Choice(choices) = &region.kind else { panic!("{region:?}") };
    for ((code, label, endpoint), choice) in GUIDE_REGIONS.iter().zip(choices) {
        assert_eq!(&choice.value, code);
        assert!(choice.label.contains(label) && choice.label.contains(endpoint), "{choice:?}");
    }
    assert_eq!(choices.len(), GUIDE_REGIONS.len());
    let key = field(&fields, "API Key");
    assert!(matches!(key.kind, SettingKind::Secret), "{key:?}");
    // Both kinds of key that step 1 of the guide makes, and where it makes them.
    for words in ["User Key", "Organization Key", "Platform Settings", "API Keys"] {
        assert!(key.help.contains(words), "{words}: {}", key.help);
    }
    // The value that the guide gives as an example is enough.
    assert_eq!(Settings::parse(&with_region("us")).unwrap().region, region::by_code("us").unwrap());
}

// ---- data types ----------------------------------------------------------------

#[test]
fn the_data_types_are_those_of_the_guide() {
    let streams = descriptor::describe().streams;
    let announced: Vec<(&str, &str)> = streams
        .iter()
        .filter(|stream| stream.announced)
        .map(|stream| (stream.noun.as_str(), stream.description.as_str()))
        .collect();
    assert_eq!(
        announced,
        [
            ("investigations", "Threat investigations with alerts and evidence"),
            ("alerts", "Detection rule triggers and anomaly alerts"),
        ]
    );
}

/// The words of the guide's first row: investigations with alerts and evidence.
#[test]
fn an_investigation_comes_with_its_alerts_and_an_alert_with_its_evidence() {
    let mut world = some_investigations(0);
    let created = WorldConfig::default().start - time::Duration::hours(2);
    let of = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    let evidence = Some(vec![r#"{"rrn":"e","data":"{\"source_ip\":\"10.0.0.7\"}"}"#.to_owned()]);
    let id = world.add_alert(Some(of), AlertSpec { evidence, ..AlertSpec::new(created, created) }).unwrap();
    let rrn = world.alert_id(id).unwrap();
    // And one that no investigation has: the log does not keep quiet about it.
    world.add_alert(None, AlertSpec::new(created, created)).unwrap();
    let stage = Stage::of(world);
    let report = stage.poll("us");
    report.assert_ok();
    assert!(grep(&report.log).contains(&"[INFO] rapid7-insightidr: fetched 1 alerts"), "{}", report.log);
    let line = "[INFO] rapid7-insightidr: fetched 1 uninvestigated alerts";
    assert!(grep(&report.log).contains(&line), "{}", report.log);
    let found = stage.command(&["search", "--state", "state", "--json", "stream:rapid7_insightidr"]).output().unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    let messages: Vec<Value> = found
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|artifact| serde_json::from_str(artifact["message"].as_str().unwrap()).unwrap())
        .collect();
    assert!(messages.iter().any(|message| message["alerts"][0]["id"] == rrn.as_str()), "{found}");
    assert!(messages.iter().any(|message| message["id"] == rrn.as_str() && message["evidence"][0]["rrn"] == "e"));
}

// ---- validate data flow ----------------------------------------------------------

fn some_investigations(count: usize) -> World {
    let mut world = World::empty_in("us");
    let start = WorldConfig::default().start;
    for hour in 1..=count {
        let created = start - time::Duration::hours(i64::try_from(hour).unwrap());
        world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    }
    world
}

/// The lines that `grep "rapid7"` leaves of a log.
fn grep(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.contains("rapid7")).collect()
}

#[test]
fn the_first_good_poll_is_green_logs_the_line_of_the_guide_and_its_artifacts_are_found_in_the_search() {
    let stage = Stage::of(some_investigations(3));
    let report = stage.poll("us");
    report.assert_ok();
    assert!(grep(&report.log).contains(&"[INFO] rapid7-insightidr: fetched 3 investigations"), "{}", report.log);
    assert!(grep(&report.log).contains(&"[INFO] rapid7-insightidr: fetched 0 alerts"), "{}", report.log);
    let found = stage.command(&["search", "--state", "state", "--json", "stream:rapid7_insightidr"]).output().unwrap();
    assert_eq!(String::from_utf8(found.stdout).unwrap().lines().count(), 3);
}

#[test]
fn after_a_failure_the_next_good_poll_is_green() {
    let stage = Stage::of(some_investigations(1));
    stage.simulator.set_faults(FaultProfile::new([Rule::new("*", unauthorized())]));
    assert_eq!(stage.poll("us").json["status"], "failed");
    stage.simulator.set_faults(FaultProfile::default());
    stage.poll("us").assert_ok();
}

#[test]
fn nothing_to_collect_is_green_and_says_none() {
    let report = Stage::of(World::empty_in("us")).poll("us");
    report.assert_ok();
    assert!(grep(&report.log).contains(&"[INFO] rapid7-insightidr: fetched 0 investigations"), "{}", report.log);
}

// ---- troubleshooting ---------------------------------------------------------------

fn unauthorized() -> Fault {
    Fault::Status { status: 401, body: None, headers: Default::default(), retry_after: None }
}

fn request() -> Request {
    let target = "/idr/v2/investigations?size=100".to_owned();
    Request { method: Method::Get, target, body: None, accept_version: None }
}

/// What an operator is told about a status.
fn failure(status: u16) -> Failure {
    let response = Response { status, ..Response::default() };
    errors::from_response(&request(), &response, region::by_code("us").unwrap(), Utc(0)).unwrap()
}

/// Each entry of the guide's Troubleshooting: the status, and its words.
const TROUBLESHOOTING: [(u16, &[&str]); 4] = [
    (
        401,
        &[
            "API Key is correct and was copied completely",
            "not been revoked in the Insight Platform",
            "User Key (not an Organization Key with restrictions)",
        ],
    ),
    (404, &["Region matches your Insight Platform account region", "the URL in your browser when logged into Rapid7"]),
    (
        403,
        &[
            "The API key user may not have InsightIDR access",
            "verify that the user has Platform Admin or at least read access to InsightIDR",
        ],
    ),
    (429, &["Increase the Polling Interval to 15 minutes", "Exponential backoff", "automatically"]),
];

#[test]
fn every_failure_gives_the_advice_of_the_guide_and_names_its_number() {
    for (status, words) in TROUBLESHOOTING {
        let failure = failure(status);
        for words in words {
            assert!(failure.remedy.contains(words), "{status}: \"{words}\" is not in: {}", failure.remedy);
        }
        assert_eq!(failure.http_status, Some(status));
        assert!(failure.message.contains(&status.to_string()), "{}", failure.message);
        // Failures of one kind are not mistaken for another.
        for (other, others) in TROUBLESHOOTING.iter().filter(|(other, _)| *other != status) {
            assert!(!failure.remedy.contains(others[0]), "{status} gives the advice for {other}: {}", failure.remedy);
        }
    }
}

#[test]
fn a_rate_limit_is_backed_off_from_and_a_wrong_key_is_not_tried_again_and_again() {
    assert_eq!(failure(429).retry, RetryAdvice::BackOff);
    for status in [401, 403, 404] {
        assert_eq!(failure(status).retry, RetryAdvice::AfterChange, "{status}");
    }
}

#[test]
fn an_endpoint_that_cannot_be_reached_is_named_with_its_port() {
    let error = TransportError { kind: TransportErrorKind::Connection, message: "refused".to_owned(), sent: false };
    let failure = errors::from_transport(&request(), &error, region::by_code("ca").unwrap());
    assert!(
        failure
            .remedy
            .contains("Confirm that the regional endpoint ca.api.insight.rapid7.com is reachable on port 443")
    );
}

#[test]
fn the_log_of_a_failed_poll_has_the_number_and_the_advice_that_operators_are_told_to_look_for() {
    let stage = Stage::of(some_investigations(1));
    stage.simulator.set_faults(FaultProfile::new([Rule::new("*", unauthorized())]));
    let report = stage.poll("us");
    let line = grep(&report.log)
        .into_iter()
        .find(|line| line.contains("poll failed") && line.contains("401"))
        .unwrap_or_else(|| panic!("{}", report.log));
    for words in TROUBLESHOOTING[0].1 {
        assert!(line.contains(words), "\"{words}\" is not in: {line}");
    }
    assert!(!report.log.contains(&key("us")));
    assert_eq!(text(&report.json["failure"]["code"]), "unauthorized");
}
