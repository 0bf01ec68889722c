//! Every kind of fault, as a client sees it, without a socket.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::io::Read;
use std::sync::OnceLock;
use std::time::Duration;

use common::{Got, LIST, get, post, send, settings};
use flate2::read::GzDecoder;
use insightidr_simulator::{Fault, FaultProfile, Outcome, Pace, Request, Rule, Simulator, World, WorldConfig};
use serde_json::{Value, json};

/// 250 investigations, and a fault in JSON on their list.
fn faulty(fault: &Value) -> Simulator {
    let profile = json!({"rules": [{"path": "/idr/*", "fault": fault}]}).to_string();
    let mut settings = settings();
    settings.faults = FaultProfile::from_json(&profile).unwrap();
    let config =
        WorldConfig { investigations: 250, growth_per_day: 0, old_investigations: 0, ..WorldConfig::default() };
    static WORLD: OnceLock<World> = OnceLock::new();
    Simulator::new(WORLD.get_or_init(|| World::generate(&config)).clone(), settings)
}

/// The second page of the list under a fault.
fn page(fault: &Value) -> Got {
    get(&faulty(fault), &format!("{LIST}?size=100&index=1&sort=created_time,ASC"))
}

fn plain() -> Got {
    page(&json!({"kind": "delay", "ms": 0}))
}

#[test]
fn a_status_comes_with_the_vendors_body_or_another() {
    for (status, message) in [
        (400, "Bad Request"),
        (401, "Unauthorized"),
        (403, "Insufficient Permissions"),
        (404, "Entity Not Found"),
        (429, "Too Many Requests"),
        (500, "Internal Server Error"),
        (503, "Service Unavailable"),
        (504, "Gateway Timeout"),
    ] {
        let got = page(&json!({"kind": "status", "status": status}));
        assert_eq!((got.status, got.json["message"].as_str()), (status, Some(message)));
        assert_eq!(got.json.get("correlation_id").is_some(), status != 401);
    }
    let got = page(&json!({"kind": "status", "status": 503, "body": "<h1>down</h1>", "retry_after": "soon",
        "headers": {"RateLimit-Reset": "-1"}}));
    assert_eq!((got.status, got.text.as_str()), (503, "<h1>down</h1>"));
    assert_eq!((got.header("content-type"), got.header("retry-after")), ("text/plain", "soon"));
    assert_eq!(got.header("ratelimit-reset"), "-1");
}

#[test]
fn headers_can_be_replaced_on_a_right_answer() {
    let got =
        page(&json!({"kind": "headers", "headers": {"RateLimit-Remaining": "many", "Content-Type": "text/json"}}));
    assert_eq!((got.status, got.header("ratelimit-remaining"), got.header("content-type")), (200, "many", "text/json"));
    assert_eq!(got.text, plain().text);
}

#[test]
fn connections_break_before_and_after_the_head() {
    let request = || Request::get("us", "key", format!("{LIST}?size=100"));
    let outcome = faulty(&json!({"kind": "reset_before_head"})).handle(request());
    assert!(matches!(outcome, Outcome::ResetBeforeHead { .. }));
    let Outcome::CutShort { reply, sent, reset } = faulty(&json!({"kind": "reset_after_head"})).handle(request())
    else {
        panic!("cut short expected")
    };
    assert!(reset && sent > 0 && sent < reply.body.len());
    let fault = json!({"kind": "truncate", "bytes": 700});
    let Outcome::CutShort { reply, sent, reset } = faulty(&fault).handle(request()) else {
        panic!("cut short expected")
    };
    assert!(!reset && sent == 700 && reply.body.len() > 700);
    let fault = json!({"kind": "truncate", "bytes": 70_000_000});
    let Outcome::CutShort { reply, sent, .. } = faulty(&fault).handle(request()) else { panic!("cut short expected") };
    assert_eq!(sent, reply.body.len() - 1, "at least one byte is missing");
}

#[test]
fn json_can_stop_in_the_middle_of_a_complete_answer() {
    let got = page(&json!({"kind": "truncate_json"}));
    assert_eq!(got.status, 200);
    assert!(got.json.is_null() && plain().text.starts_with(&got.text) && !got.text.is_empty());
    assert_eq!(page(&json!({"kind": "truncate_json", "bytes": 11})).text, plain().text[..11]);
}

#[test]
fn answers_wait_stall_and_drip() {
    let reply = |fault: Value| {
        let reply = faulty(&fault).handle(Request::get("us", "key", LIST)).reply().unwrap();
        (reply.delay, reply.pace, reply.body.len())
    };
    assert_eq!(reply(json!({"kind": "delay", "ms": 30})).0, Duration::from_millis(30));
    assert_eq!(reply(json!({"kind": "stall", "seconds": 1.5})).0, Duration::from_millis(1_500));
    let (delay, pace, length) = reply(json!({"kind": "stall", "seconds": 2, "after_head": true}));
    assert_eq!((delay, pace), (Duration::ZERO, Some(Pace::Pause { after: length / 2, pause: Duration::from_secs(2) })));
    let (_, pace, _) = reply(json!({"kind": "drip", "bytes": 3, "ms": 1}));
    assert_eq!(pace, Some(Pace::Drip { bytes: 3, pause: Duration::from_millis(1) }));
}

#[test]
fn a_success_can_be_no_answer_at_all() {
    let html = page(&json!({"kind": "html"}));
    assert_eq!((html.status, html.header("content-type")), (200, "text/html; charset=utf-8"));
    assert_eq!(page(&json!({"kind": "empty_object"})).text, "{}");
    assert_eq!(page(&json!({"kind": "empty_body"})).text, "");
    assert_eq!(page(&json!({"kind": "null_body"})).text, "null");
    for kind in ["html", "empty_object", "empty_body", "null_body"] {
        let got = send(&faulty(&json!({"kind": kind})), Request::get("us", "wrong", LIST));
        assert_eq!(got.status, 200, "such a gateway answers before the key is looked at");
    }
}

#[test]
fn pages_lack_members_or_have_the_wrong_ones() {
    let no_data = page(&json!({"kind": "no_data"})).json;
    assert!(no_data.get("data").is_none() && no_data["metadata"]["total_data"] == 250);
    let null = page(&json!({"kind": "null_data"})).json;
    assert!(null["data"].is_null() && null.get("data").is_some());
    assert!(page(&json!({"kind": "wrong_type"})).json["data"].is_object());
    let bare = page(&json!({"kind": "no_metadata"})).json;
    assert!(bare.get("metadata").is_none() && bare["data"].as_array().unwrap().len() == 100);
}

#[test]
fn rows_are_spoiled_missing_or_nested_too_deep() {
    for row in ["null", "7", "\"x\"", "{}", r#"{"rrn":5}"#] {
        let got = page(&json!({"kind": "bad_row", "row": row}));
        assert_eq!(got.data()[0], serde_json::from_str::<Value>(row).unwrap());
        assert_eq!(got.data()[1..], plain().data()[1..]);
    }
    assert!(page(&json!({"kind": "bad_row", "row": "nonsense"})).json.is_null());
    let missing = page(&json!({"kind": "missing_rows", "rows": 3}));
    assert_eq!((missing.data().len(), &missing.json["metadata"]), (97, &plain().json["metadata"]));
    let deep = page(&json!({"kind": "deep_json", "depth": 10_000}));
    assert!(deep.json.is_null(), "deeper than a careful parser goes");
    assert!(deep.text.contains(&"[".repeat(10_000)));
    assert_eq!(page(&json!({"kind": "deep_json", "depth": 3})).data()[0]["x_deep"], json!([[[]]]));
}

#[test]
fn totals_are_too_small_or_too_large() {
    let short = page(&json!({"kind": "short_total", "less": 120}));
    assert_eq!((short.json["metadata"]["total_data"].as_u64(), short.data().len()), (Some(130), 100));
    assert_eq!(short.json["metadata"]["total_pages"], 2);
    assert_eq!(page(&json!({"kind": "short_total", "less": 999})).json["metadata"]["total_data"], 0);
    let long = page(&json!({"kind": "long_total", "more": 1_000}));
    assert_eq!((long.json["metadata"]["total_data"].as_u64(), long.data().len()), (Some(1_250), 100));
}

#[test]
fn pages_repeat_under_the_number_asked_for() {
    let simulator = faulty(&json!({"kind": "delay", "ms": 0}));
    let right = |index: u64| get(&simulator, &format!("{LIST}?size=100&index={index}&sort=created_time,ASC"));
    let twice = page(&json!({"kind": "duplicate_page"}));
    assert_eq!(twice.data(), right(0).data());
    assert_eq!(twice.json["metadata"]["index"], 1);
    let endless = faulty(&json!({"kind": "endless_pages"}));
    let got = get(&endless, &format!("{LIST}?size=100&index=7&sort=created_time,ASC"));
    assert_eq!(got.data(), right(0).data());
    assert_eq!(got.json["metadata"]["index"], 7);
    assert!(got.json["metadata"]["total_pages"].as_u64().unwrap() > 1_000_000);
    let search = json!({"search": {"start_time": "2025-12-01T00:00:00Z"}});
    let triage = post(&endless, "/idr/at/alerts/ops/search?size=100&index=50&rrns_only=true", &search).json;
    assert_eq!((triage["rrns"].as_array().unwrap().len(), &triage["metadata"]["is_last_index"]), (100, &json!(false)));
}

#[test]
fn region_failures_come_with_part_of_the_data() {
    let simulator = faulty(&json!({"kind": "region_failures"}));
    let search = json!({"search": {"start_time": "2025-12-01T00:00:00Z"}});
    let got = post(&simulator, "/idr/at/alerts/ops/search?size=100&rrns_only=true", &search);
    assert_eq!((got.status, got.json["rrns"].as_array().unwrap().len()), (200, 50));
    assert_eq!(got.json["region_failures"][0]["region"], "us2");
}

#[test]
fn bytes_are_not_utf8_not_compressed_or_far_too_many() {
    let raw = |fault: Value| faulty(&fault).handle(Request::get("us", "key", LIST)).reply().unwrap();
    assert!(std::str::from_utf8(&raw(json!({"kind": "invalid_utf8"})).body).is_err());
    let wrong = raw(json!({"kind": "wrong_encoding"}));
    assert_eq!(wrong.headers["content-encoding"], "gzip");
    assert!(wrong.body.starts_with(b"{"));
    let bomb = raw(json!({"kind": "gzip_bomb", "megabytes": 20}));
    assert_eq!(bomb.headers["content-encoding"], "gzip");
    assert!(bomb.body.len() < 100_000);
    let inside = GzDecoder::new(&bomb.body[..]).read_to_end(&mut Vec::new()).unwrap();
    assert!(inside > 20 << 20);
    let big = raw(json!({"kind": "big_body", "megabytes": 3}));
    assert!(big.body.len() > 3 << 20);
    assert!(serde_json::from_slice::<Value>(&big.body).is_ok());
}

#[test]
fn redirects_say_where_to() {
    let got = page(&json!({"kind": "redirect", "location": "http://169.254.169.254/"}));
    assert_eq!((got.status, got.header("location"), got.text.as_str()), (302, "http://169.254.169.254/", ""));
    assert_eq!(page(&json!({"kind": "redirect", "location": "/", "status": 308})).status, 308);
}

#[test]
fn faults_that_change_json_leave_refusals_alone() {
    for kind in ["no_data", "region_failures", "duplicate_page"] {
        let got = send(&faulty(&json!({"kind": kind})), Request::get("us", "wrong", LIST));
        assert_eq!(got.text, r#"{"message":"Unauthorized"}"#);
    }
}

#[test]
fn faults_can_be_replaced_and_begin_again_on_reset() {
    let simulator = faulty(&json!({"kind": "html"}));
    simulator.set_faults(FaultProfile::new([Rule::new(LIST, Fault::EmptyObject {}).after(1).times(1)]));
    let run = || (0..3).map(|_| get(&simulator, LIST).text == "{}").collect::<Vec<_>>();
    assert_eq!(run(), [false, true, false]);
    assert_eq!(run(), [false, false, false]);
    simulator.reset_counters();
    assert_eq!(run(), [false, true, false]);
    let records = simulator.requests();
    assert_eq!(records[1].fault.as_deref(), Some("empty_object"));
    assert_eq!(records[0].fault, None);
}

#[test]
fn every_kind_round_trips_through_json_under_its_name() {
    for fault in [
        json!({"kind": "status", "status": 500}),
        json!({"kind": "headers", "headers": {}}),
        json!({"kind": "reset_before_head"}),
        json!({"kind": "reset_after_head"}),
        json!({"kind": "truncate", "bytes": 1}),
        json!({"kind": "truncate_json"}),
        json!({"kind": "stall", "seconds": 1}),
        json!({"kind": "drip", "bytes": 1, "ms": 1}),
        json!({"kind": "delay", "ms": 1}),
        json!({"kind": "html"}),
        json!({"kind": "empty_object"}),
        json!({"kind": "empty_body"}),
        json!({"kind": "null_body"}),
        json!({"kind": "no_data"}),
        json!({"kind": "null_data"}),
        json!({"kind": "wrong_type"}),
        json!({"kind": "no_metadata"}),
        json!({"kind": "bad_row", "row": "1"}),
        json!({"kind": "missing_rows", "rows": 1}),
        json!({"kind": "short_total", "less": 1}),
        json!({"kind": "long_total", "more": 1}),
        json!({"kind": "duplicate_page"}),
        json!({"kind": "endless_pages"}),
        json!({"kind": "region_failures"}),
        json!({"kind": "deep_json", "depth": 1}),
        json!({"kind": "invalid_utf8"}),
        json!({"kind": "wrong_encoding"}),
        json!({"kind": "gzip_bomb", "megabytes": 1}),
        json!({"kind": "big_body", "megabytes": 1}),
        json!({"kind": "redirect", "location": "/"}),
    ] {
        let text = json!({"rules": [{"path": "*", "fault": fault}]}).to_string();
        let profile = FaultProfile::from_json(&text).unwrap();
        assert_eq!(fault["kind"], profile.rules[0].fault.name());
        let again = FaultProfile::from_json(&serde_json::to_string(&profile).unwrap()).unwrap();
        assert_eq!(again, profile);
    }
}
