//! What the simulator refuses, and what a key may see.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::collections::HashSet;
use std::time::Duration as StdDuration;

use common::{LIST, all_rows, at, get, send, settings, simulator};
use http::HeaderValue;
use insightidr_simulator::{
    ApiKey, InvestigationSpec, OrganizationConfig, Request, RetryAfterForm, Role, Simulator, SimulatorConfig, World,
    WorldConfig,
};
use time::Duration;

#[test]
fn a_missing_or_unknown_key_is_401_with_a_message_alone() {
    let simulator = simulator(World::empty());
    for path in ["/validate", LIST, "/idr/at/alerts/x", "/nowhere"] {
        for key in ["", "wrong"] {
            let got = send(&simulator, Request::get("us", key, path));
            assert_eq!((got.status, got.text.as_str()), (401, r#"{"message":"Unauthorized"}"#));
        }
        let mut request = Request::get("us", "key", path);
        request.headers.remove("x-api-key");
        request.headers.insert("authorization", HeaderValue::from_static("Bearer key"));
        assert_eq!(send(&simulator, request).status, 401);
    }
}

#[test]
fn the_documented_version_of_an_api_is_recorded_and_demanded_if_so_set() {
    let of = "rrn:investigation:us:o:investigation:A";
    let families = [
        (LIST.to_owned(), "investigations-preview"),
        (format!("/idr/v1/comments?target={of}"), "comments-preview"),
        ("/idr/at/alerts/rrn:alerts:us1:o:alert:1:ab/evidences".to_owned(), "strong-force-preview"),
    ];
    for versions_needed in [false, true] {
        let simulator = Simulator::new(World::empty(), SimulatorConfig { versions_needed, ..settings() });
        for (path, own) in &families {
            for version in [None, Some("other-preview"), Some(*own)] {
                let mut request = Request::get("us", "key", path);
                if let Some(version) = version {
                    request.headers.insert("Accept-Version", HeaderValue::from_static(version));
                }
                let refused = send(&simulator, request).status == 400;
                assert_eq!(refused, versions_needed && version != Some(own), "{path} {version:?}");
                assert_eq!(simulator.requests().last().unwrap().accept_version.as_deref(), version);
            }
        }
        assert_eq!(get(&simulator, "/validate").status, 200, "it has none");
    }
}

#[test]
fn validate_says_yes_to_a_key_that_may_read_nothing() {
    let mut settings = settings();
    settings.keys[0].role = Role::NoInsightIdr;
    let simulator = Simulator::new(World::empty(), settings);
    let validate = get(&simulator, "/validate");
    assert_eq!((validate.status, validate.text.as_str()), (200, r#"{"message":"Authorized"}"#));
    for path in [LIST, "/idr/v1/investigations", "/idr/at/alerts/x", "/idr/nowhere"] {
        let got = get(&simulator, path);
        assert_eq!(got.status, 403);
        assert_eq!(got.json["message"], "Insufficient Permissions");
        assert_eq!(got.json["correlation_id"], got.header("r7-correlation-id"));
    }
}

#[test]
fn every_answer_has_a_correlation_id_and_a_sent_one_comes_back() {
    let simulator = simulator(World::empty());
    let ids: HashSet<String> = (0..5).map(|_| get(&simulator, LIST).header("r7-correlation-id").to_owned()).collect();
    assert_eq!(ids.len(), 5);
    let mut request = Request::get("us", "key", "/idr/nowhere");
    request.headers.insert("r7-correlation-id", HeaderValue::from_static("mine"));
    let got = send(&simulator, request);
    assert_eq!((got.status, got.header("r7-correlation-id")), (404, "mine"));
    assert_eq!(got.json["correlation_id"], "mine");
}

#[test]
fn another_regions_host_gives_the_status_that_is_set() {
    for (set, expected) in [(404, 404), (401, 401), (500, 500), (9, 404)] {
        let mut settings = settings();
        settings.wrong_region_status = set;
        let simulator = Simulator::new(World::empty(), settings);
        for path in [LIST, "/validate", "/idr/v2/investigations?size=1000"] {
            let got = send(&simulator, Request::get("eu", "key", path));
            assert_eq!(got.status, expected);
            assert_eq!(got.json.get("correlation_id").is_some(), expected != 401);
        }
        assert_eq!(get(&simulator, LIST).status, 200);
    }
}

#[test]
fn validate_can_say_yes_in_every_region() {
    let mut settings = settings();
    settings.validate_anywhere = true;
    let simulator = Simulator::new(World::empty(), settings);
    assert_eq!(send(&simulator, Request::get("eu", "key", "/validate")).status, 200);
    assert_eq!(send(&simulator, Request::get("eu", "wrong", "/validate")).status, 401);
    assert_eq!(send(&simulator, Request::get("eu", "key", LIST)).status, 404);
}

#[test]
fn other_paths_are_404_and_other_methods_405() {
    let simulator = simulator(World::empty());
    for path in ["/", "/idr", "/idr/v2", "/idr/v2/investigations/", "/IDR/v2/investigations", "/idr/v3/investigations"]
    {
        assert_eq!(get(&simulator, path).status, 404, "{path}");
    }
    for (method, path) in [
        ("POST", LIST),
        ("DELETE", LIST),
        ("HEAD", LIST),
        ("GET", "/idr/at/alerts/ops/search"),
        ("PUT", "/idr/v2/investigations/x/alerts"),
    ] {
        let mut request = Request::get("us", "key", path);
        request.method = method.to_owned();
        assert_eq!(send(&simulator, request).status, 405, "{method} {path}");
    }
}

#[test]
fn bad_values_are_400_with_message_and_correlation_id() {
    let simulator = simulator(World::empty());
    for query in ["size=101", "size=0", "index=-1", "statuses=open", "sort=created_time,up", "start_time=now"] {
        let got = get(&simulator, &format!("{LIST}?{query}"));
        assert_eq!(got.status, 400, "{query}");
        assert!(got.json["message"].is_string() && got.json["correlation_id"].is_string());
    }
    let mut world = World::empty();
    let one = world
        .add_investigation(InvestigationSpec::new(at("2026-01-14T00:00:00Z"), at("2026-01-14T00:00:00Z")))
        .unwrap();
    let path = format!("{LIST}/{}/alerts?size=101", world.investigation_rrn(one).unwrap());
    assert_eq!(get(&common::simulator(world), &path).status, 400);
}

#[test]
fn an_unencoded_plus_in_a_time_is_a_blank_and_refused() {
    let simulator = simulator(World::empty());
    assert_eq!(get(&simulator, &format!("{LIST}?start_time=2026-01-01T00:00:00+00:00")).status, 400);
    assert_eq!(get(&simulator, &format!("{LIST}?start_time=2026-01-01T00:00:00%2B00:00")).status, 200);
}

#[test]
fn filters_select_and_combine() {
    let config = WorldConfig { investigations: 300, old_investigations: 0, ..WorldConfig::default() };
    let simulator = simulator(World::generate(&config));
    let all = all_rows(&simulator, "");
    for (query, member, values) in [
        ("statuses=OPEN,WAITING", "status", &["OPEN", "WAITING"][..]),
        ("priorities=HIGH", "priority", &["HIGH"]),
        ("sources=ALERT", "source", &["ALERT"]),
        ("statuses=OPEN&statuses=CLOSED", "status", &["OPEN", "CLOSED"]),
    ] {
        let expected = all.iter().filter(|row| values.contains(&row[member].as_str().unwrap())).count();
        let rows = all_rows(&simulator, query);
        assert!(expected > 0);
        assert_eq!(rows.len(), expected, "{query}");
        assert!(rows.iter().all(|row| values.contains(&row[member].as_str().unwrap())));
    }
    let tagged = all_rows(&simulator, "tags=vip,phishing");
    assert!(!tagged.is_empty());
    for row in &tagged {
        let tags = row["tags"].as_array().unwrap();
        assert!(tags.iter().any(|tag| tag == "vip") && tags.iter().any(|tag| tag == "phishing"), "tags are ANDed");
    }
    let assigned = all_rows(&simulator, "assignee.email=ellen@example.com");
    assert!(!assigned.is_empty() && assigned.iter().all(|row| row["assignee"]["email"] == "ellen@example.com"));
    assert_eq!(all_rows(&simulator, "assignee.email=ELLEN@example.com").len(), 0, "exact");
}

#[test]
fn every_order_is_the_order_it_says() {
    let config = WorldConfig { investigations: 150, ..WorldConfig::default() };
    let simulator = simulator(World::generate(&config));
    let rank = |text: &str| ["UNSPECIFIED", "LOW", "MEDIUM", "HIGH", "CRITICAL"].iter().position(|p| *p == text);
    for (field, member) in [
        ("created_time", "created_time"),
        ("rrn", "rrn"),
        ("priority", "priority"),
        ("alerts_most_recent_created_time", "latest_alert_time"),
    ] {
        for descending in [false, true] {
            let direction = if descending { "DESC" } else { "ASC" };
            let rows = all_rows(&simulator, &format!("sort={field},{direction}"));
            let keys: Vec<(i128, String)> = rows
                .iter()
                .filter_map(|row| row[member].as_str())
                .map(|text| match field {
                    "rrn" => (0, text.to_owned()),
                    "priority" => (rank(text).map_or(-1, |rank| rank as i128), String::new()),
                    _ => (at(text).unix_timestamp_nanos(), String::new()),
                })
                .collect();
            assert!(keys.is_sorted_by(|a, b| if descending { a >= b } else { a <= b }), "{field} {direction}");
        }
    }
}

#[test]
fn a_rate_limit_counts_down_refuses_and_recovers() {
    let mut settings = settings();
    settings.rate_limit = Some("3/60s".parse().unwrap());
    let simulator = Simulator::new(World::empty(), settings);
    let remaining: Vec<String> = (0..3)
        .map(|_| {
            let got = get(&simulator, LIST);
            assert_eq!((got.status, got.header("ratelimit-limit"), got.header("ratelimit-reset")), (200, "3", "60"));
            assert_eq!(got.header("x-ratelimit-remaining"), got.header("ratelimit-remaining"));
            got.header("ratelimit-remaining").to_owned()
        })
        .collect();
    assert_eq!(remaining, ["2", "1", "0"]);
    simulator.advance(Duration::milliseconds(40_500));
    let mut json = Vec::new();
    for _ in 0..6 {
        let got = get(&simulator, LIST);
        assert_eq!((got.status, got.header("ratelimit-reset"), got.header("retry-after")), (429, "20", ""));
        json.push(got.json.is_object());
    }
    assert!(json.contains(&true) && json.contains(&false), "at times the body is not JSON");
    assert_eq!(get(&simulator, "/validate").header("ratelimit-limit"), "", "only /idr is limited");
    simulator.advance(Duration::milliseconds(19_500));
    assert_eq!(get(&simulator, LIST).status, 200);
}

#[test]
fn the_triage_api_has_a_limit_of_its_own_where_that_is_so() {
    let mut settings = settings();
    settings.rate_limit = Some("2/60s".parse().unwrap());
    settings.triage_rate_limit = Some("1/60s".parse().unwrap());
    let simulator = Simulator::new(World::empty(), settings);
    const TRIAGE: &str = "/idr/at/alerts/rrn:alerts:us1:o:alert:1:x";
    assert_eq!(get(&simulator, TRIAGE).header("ratelimit-limit"), "1");
    assert_eq!(get(&simulator, TRIAGE).status, 429);
    assert_eq!((get(&simulator, LIST).status, get(&simulator, LIST).header("ratelimit-remaining")), (200, "0"));
    assert_eq!(get(&simulator, LIST).status, 429);
}

#[test]
fn retry_after_is_absent_seconds_or_a_date() {
    for (form, expected) in [
        (RetryAfterForm::Absent, ""),
        (RetryAfterForm::Seconds, "60"),
        (RetryAfterForm::HttpDate, "Thu, 15 Jan 2026 12:01:00 GMT"),
    ] {
        let mut settings = settings();
        settings.rate_limit = Some("1/60s".parse().unwrap());
        settings.retry_after = form;
        let simulator = Simulator::new(World::empty(), settings);
        assert_eq!(get(&simulator, LIST).header("retry-after"), "");
        let refused = get(&simulator, LIST);
        assert_eq!((refused.status, refused.header("retry-after")), (429, expected));
    }
}

#[test]
fn without_a_rate_limit_there_are_no_rate_headers() {
    assert_eq!(get(&simulator(World::empty()), LIST).header("ratelimit-limit"), "");
}

#[test]
fn tenants_see_their_own_records_and_the_region_only_when_asked() {
    let config = WorldConfig {
        organizations: vec![
            OrganizationConfig::new("us", "One"),
            OrganizationConfig::new("us", "Two"),
            OrganizationConfig::new("eu", "Three"),
        ],
        investigations: 7,
        ..WorldConfig::default()
    };
    let mut two = ApiKey::new("us", "two");
    two.organization = Some("Two".to_owned());
    let keys = vec![ApiKey::new("us", "key"), two, ApiKey::new("eu", "three")];
    let simulator = Simulator::new(World::generate(&config), SimulatorConfig { keys, ..settings() });
    let rrns = |region: &str, key: &str, query: &str| -> HashSet<String> {
        let got = send(&simulator, Request::get(region, key, format!("{LIST}?size=100&{query}")));
        got.column("rrn").into_iter().collect()
    };
    let (one, two, three) = (rrns("us", "key", ""), rrns("us", "two", ""), rrns("eu", "three", ""));
    assert_eq!((one.len(), two.len(), three.len()), (7, 7, 7));
    assert!(one.is_disjoint(&two) && one.is_disjoint(&three));
    let both = rrns("us", "key", "multi-customer=true");
    assert_eq!(both, one.union(&two).cloned().collect());
    // A record of another tenant does not exist for this one.
    let foreign = two.iter().next().unwrap();
    assert_eq!(get(&simulator, &format!("{LIST}/{foreign}")).status, 404);
    assert_eq!(get(&simulator, &format!("{LIST}/{foreign}?multi-customer=true")).status, 200);
    let uuid = get(&simulator, "/idr/v1/investigations").column("id")[0].clone();
    assert_eq!(get(&simulator, &format!("{LIST}/{uuid}?multi-customer=true")).status, 400);
}

#[test]
fn latency_is_part_of_every_answer() {
    let mut settings = settings();
    settings.latency = StdDuration::from_millis(50);
    let simulator = Simulator::new(World::empty(), settings);
    for key in ["key", "wrong"] {
        let reply = simulator.handle(Request::get("us", key, LIST)).reply().unwrap();
        assert_eq!(reply.delay, StdDuration::from_millis(50));
    }
}

#[test]
fn requests_are_recorded_and_counted() {
    let mut settings = settings();
    settings.recorded_requests = 2;
    let simulator = Simulator::new(World::empty(), settings);
    get(&simulator, "/validate");
    get(&simulator, &format!("{LIST}?size=5"));
    send(&simulator, Request::get("eu", "wrong", "/idr/v2/investigations/rrn%3Aa"));
    assert_eq!(simulator.request_count(), 3);
    let records = simulator.requests();
    assert_eq!(records.len(), 2, "as many as are kept");
    assert_eq!((records[0].query.as_str(), records[0].status, records[0].authorized), ("size=5", Some(200), true));
    assert_eq!((records[1].path.as_str(), records[1].region.as_str()), ("/idr/v2/investigations/rrn:a", "eu"));
    assert_eq!((records[1].status, records[1].authorized), (Some(401), false));
    simulator.reset_counters();
    assert_eq!((simulator.request_count(), simulator.requests().len()), (0, 0));
}
