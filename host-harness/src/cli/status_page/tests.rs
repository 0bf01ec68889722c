//! The page of a host that is well, and of one that is not.

use serde_json::json;

use super::*;

fn status() -> Value {
    json!({
        "now": "2026-01-15T12:00:00Z",
        "host": {
            "version": "0.1.0", "started": "2026-01-15T09:00:00Z", "polls_running": 1, "parallel_polls": 16, "stopping": false,
            "config": { "problems": [], "needs_restart": [] }, "sink": { "target": "out.jsonl", "delivered": 31, "failure": null },
        },
        "connectors": [{ "integration_type": "acme", "state": "serving", "file": "acme.wasm" }],
        "instances": [
            {
                "name": "Acme US", "integration_type": "acme", "state": "ok", "polling": false,
                "last_poll": "2026-01-15T11:59:48Z", "next_poll": "2026-01-15T12:04:48Z", "failure": null, "hint": null, "routes": [],
                "last_new": "2026-01-15T11:40:00Z",
                "days": [
                    { "day": "2026-01-15", "polls": 140, "requests": 412, "bytes_received": 3_100_000, "artifacts_new": 37, "artifact_bytes": 90_000 },
                    { "day": "2026-01-14", "polls": 288, "requests": 900, "bytes_received": 9_000_000, "artifacts_new": 80, "artifact_bytes": 200_000 },
                ],
                "streams": [
                    { "name": "events", "noun": "events", "state": "ok", "last": 3, "total": 120, "failure": null },
                    { "name": "alerts", "noun": "alerts", "state": "ok", "last": 0, "total": 7, "failure": null },
                ],
            },
            { "name": "off", "integration_type": "acme", "state": "disabled", "polling": false, "last_poll": null, "next_poll": null, "streams": [] },
        ],
    })
}

#[test]
fn the_page_is_a_table_that_a_person_reads() {
    assert!(is_good(&status()));
    let mut recovered = status();
    recovered["instances"][0]["last_failure"] = json!({
        "at": "2026-01-15T09:00:00Z", "code": "rate-limited", "http_status": 429, "correlation_id": null,
        "message": "too many requests", "remedy": "Poll less often.",
    });
    assert!(is_good(&recovered), "what is over counts no more");
    assert!(
        page(&recovered).contains("  was wrong 3 h ago: too many requests (HTTP 429, rate-limited). Poll less often."),
        "{}",
        page(&recovered)
    );
    recovered["instances"][0]["last_failure"]["at"] = "2026-01-13T09:00:00Z".into();
    assert_eq!(page(&recovered), page(&status()), "for a day");
    insta::assert_snapshot!(page(&status()), @r"
    host-harness 0.1.0, started 3 h ago, 1 of 16 polls running
    output out.jsonl: 31 artifacts delivered since the start

    NAME     TYPE  STATE     LAST POLL  NEXT POLL  TODAY                          FETCHED
    Acme US  acme  ok        12 s ago   in 4 min   412 requests, 3.10 MB, 37 new  3 events (120), 0 alerts (7)
    off      acme  disabled  -          -          -                              -
    ");
}

#[test]
fn a_poll_under_way_is_shown_as_such_and_one_that_waits_for_its_turn_as_due() {
    let mut status = status();
    status["now"] = "2026-01-15T12:04:49Z".into();
    let next = |status: &Value| row(&status["instances"][0], moment(status, "/now").unwrap())[4].clone();
    assert_eq!(next(&status), "due");
    status["instances"][0]["polling"] = true.into();
    assert_eq!(next(&status), "polling");
}

#[test]
fn a_source_that_has_fallen_silent_is_shown_so_and_yesterday_is_not_today() {
    let mut status = status();
    assert!(!page(&status).contains("nothing new"));
    status["now"] = "2026-01-18T12:00:00Z".into();
    let shown = page(&status);
    assert!(shown.contains("\n  nothing new for 3 d\n") && !shown.contains("412 requests"), "{shown}");
    assert!(is_good(&status), "it may be quiet there");
}

#[test]
fn whoever_is_behind_is_shown_so_and_for_how_long_the_vendor_wants_peace() {
    let mut status = status();
    status["instances"][0]["behind_since"] = "2026-01-15T09:00:00Z".into();
    let line = "  behind since 3 h ago: the vendor has more, which is collected turn by turn";
    assert!(page(&status).contains(&format!("{line}\n")), "{}", page(&status));
    assert!(is_good(&status), "it is at work");
    status["instances"][0]["not_before"] = "2026-01-15T12:10:00Z".into();
    assert!(
        page(&status).contains(&format!("{line}; it asks not to be called for another 10 min")),
        "{}",
        page(&status)
    );
}

#[test]
fn what_is_wrong_is_told_where_it_is_with_what_to_do_and_nothing_drives_a_terminal() {
    let mut status = status();
    let failure = json!({
        "code": "unauthorized", "http_status": 401, "correlation_id": null,
        "message": "the key is not known\u{1b}[2J\nforged", "remedy": "Check the key.",
    });
    status["instances"][0]["state"] = "failed".into();
    status["instances"][0]["name"] = "Acme\u{1b}[31m".into();
    status["instances"][0]["failure"] = failure.clone();
    status["instances"][0]["hint"] = "Poll less often.".into();
    status["instances"][0]["routes"] = json!(["api.example.com=http://127.0.0.1:8811"]);
    status["instances"][1]["streams"] = json!([{ "name": "evidence", "noun": "pieces", "state": "unavailable", "last": 0, "total": 0, "failure": failure }]);
    status["host"]["config"]["problems"] =
        json!([{ "file": "c.toml", "line": 7, "reason": "it is broken", "help": "mend it" }]);
    status["host"]["config"]["needs_restart"] = json!(["listen"]);
    status["host"]["sink"]["failure"] =
        json!({ "code": "output-failed", "message": "no room", "remedy": "Make some." });
    status["connectors"][0] =
        json!({ "integration_type": "acme", "state": "refused", "file": "bad.wasm", "reason": "not WebAssembly" });
    assert!(!is_good(&status));
    insta::assert_snapshot!(page(&status), @r"
    host-harness 0.1.0, started 3 h ago, 1 of 16 polls running
    configuration, not in effect: c.toml:7: it is broken; mend it
    counts from the next start on: listen
    output out.jsonl: 31 artifacts delivered since the start
    output out.jsonl: no room (output-failed). Make some.
    connector bad.wasm refused: not WebAssembly

    NAME            TYPE  STATE     LAST POLL  NEXT POLL  TODAY                          FETCHED
    Acme\u{1b}[31m  acme  failed    12 s ago   in 4 min   412 requests, 3.10 MB, 37 new  3 events (120), 0 alerts (7)
      the key is not known\u{1b}[2J\nforged (HTTP 401, unauthorized). Check the key.
      Poll less often.
      routed: api.example.com=http://127.0.0.1:8811
    off             acme  disabled  -          -          -                              0 pieces (0)
      evidence unavailable: the key is not known\u{1b}[2J\nforged (HTTP 401, unauthorized). Check the key.
    ");
}

#[test]
fn every_stream_that_fails_is_named_and_nothing_is_said_twice() {
    let failure = |code: &str| json!({ "code": code, "http_status": null, "correlation_id": null, "message": "no answer", "remedy": "Wait." });
    let stream = |name: &str, state: &str, failure: &Value| json!({ "name": name, "noun": name, "state": state, "last": 0, "total": 0, "failure": failure });
    let mut status = status();
    let one = &mut status["instances"][0];
    one["state"] = "degraded".into();
    one["failure"] = failure("timeout");
    one["streams"] = json!([
        stream("events", "degraded", &failure("timeout")),
        stream("alerts", "degraded", &failure("unavailable")),
        stream("comments", "degraded", &failure("timeout")),
        stream("evidence", "unavailable", &failure("unavailable")),
        stream("users", "ok", &Value::Null),
    ]);
    let lines = |status: &Value| -> Vec<String> {
        page(status).lines().filter(|line| line.starts_with("  ")).map(str::to_owned).collect()
    };
    let streams = [
        "  events, comments degraded: no answer (timeout). Wait.",
        "  alerts degraded: no answer (unavailable). Wait.",
        "  evidence unavailable: no answer (unavailable). Wait.",
    ];
    assert_eq!(lines(&status), streams);
    // What ended the poll is no stream's.
    status["instances"][0]["failure"] = failure("host-error");
    assert_eq!(lines(&status), [&["  no answer (host-error). Wait."][..], &streams].concat());
}

#[test]
fn a_part_of_the_host_that_has_panicked_is_named() {
    let mut status = status();
    status["host"]["broken"] = json!(["the schedule"]);
    let page = page(&status);
    let line = "broken: the schedule has panicked; report this. The host ends itself, to be started again";
    assert_eq!(page.lines().nth(1), Some(line), "{page}");
}

#[test]
fn that_nothing_serves_an_instance_is_told_once() {
    let mut status = status();
    status["instances"][0]["unserved"] = true.into();
    let line = "\n  nothing serves acme at this moment: see `host-harness connectors list`\n";
    assert!(page(&status).contains(line), "{}", page(&status));
    status["instances"][0]["failure"] =
        json!({ "code": "connector-missing", "message": "no connector serves acme", "remedy": "Put one there." });
    assert!(!page(&status).contains("nothing serves"), "{}", page(&status));
}

#[test]
fn a_back_off_and_the_pause_that_a_vendor_asks_for_are_shown() {
    let mut status = status();
    status["instances"][0]["back_off"] = json!({ "failures": 1, "seconds": 60, "until": "2026-01-15T12:01:00Z" });
    assert!(page(&status).contains("\n  backing off after a failure\n"), "{}", page(&status));
    status["instances"][0]["back_off"]["failures"] = 3.into();
    status["instances"][0]["not_before"] = "2026-01-15T12:10:00Z".into();
    let lines = "\n  backing off after 3 failures in a row\n  the vendor asks not to be called for another 10 min\n";
    assert!(page(&status).contains(lines), "{}", page(&status));
    status["instances"][0]["not_before"] = "2026-01-15T11:10:00Z".into();
    assert!(!page(&status).contains("the vendor asks"), "it is over");
}

#[test]
fn the_page_for_browsers_has_the_same_facts() {
    let (own, other) = (include_str!("../status_page.rs"), include_str!("../../http/browser/page.js"));
    let own = own.split("#[cfg(test)]").next().unwrap_or_default();
    for fact in [
        "back_off",
        "behind_since",
        "broken",
        "delivered",
        "hint",
        "last_failure",
        "left_out",
        "needs_restart",
        "not_before",
        "routes",
        "stopping",
        "unserved",
    ] {
        assert!(own.contains(fact), "{fact}");
        assert!(other.contains(fact), "{fact} is not on the page for browsers");
    }
}

#[test]
fn what_was_left_out_at_the_start_is_named() {
    let mut status = status();
    status["host"]["config"]["problems"] =
        json!([{ "file": "c.toml", "line": 7, "reason": "it is broken", "help": "mend it" }]);
    status["host"]["config"]["left_out"] = json!(["Acme\u{1b}", "line 9"]);
    let page = page(&status);
    let lines: Vec<&str> = page.lines().skip(1).take(2).collect();
    assert_eq!(
        lines,
        [
            "configuration: c.toml:7: it is broken; mend it",
            "left out since the start, until that is corrected: Acme\\u{1b}, line 9"
        ]
    );
}

#[test]
fn one_thing_that_is_wrong_is_enough_for_the_exit_code() {
    type Change = fn(&mut Value);
    let changes: [Change; 6] = [
        |status| status["host"]["broken"] = json!(["the schedule"]),
        |status| status["instances"][0]["unserved"] = true.into(),
        |status| status["instances"][0]["state"] = "degraded".into(),
        |status| status["instances"][0]["state"] = "failed".into(),
        |status| status["host"]["config"]["problems"] = json!([{}]),
        |status| status["host"]["sink"]["failure"] = json!({}),
    ];
    for change in changes {
        let mut status = status();
        change(&mut status);
        assert!(!is_good(&status));
    }
    let mut status = status();
    status["instances"][0]["state"] = "starting".into();
    assert!(is_good(&status));
}

#[test]
fn a_span_is_told_in_its_largest_unit() {
    let spans = [0, 119, 120, 7_199, 7_200, 200_000].map(|seconds| span(time::Duration::seconds(seconds)));
    assert_eq!(spans, ["0 s", "119 s", "2 min", "119 min", "2 h", "2 d"]);
}
