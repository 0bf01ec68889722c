//! The status of a host as a page for people.
//!
//! Not guaranteed: that a status of another version of the host has all that is looked for; what is not there is shown as if
//! there were nothing to say.

use indicatif::DecimalBytes;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::output;
use crate::instances::report::counted;
use crate::log::escape;

/// The instances of a status.
fn instances(status: &Value) -> &[Value] {
    status.get("instances").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Whether an instance needs somebody's attention: something is wrong with it, or nothing serves it at this moment.
pub(super) fn needs_somebody(one: &Value) -> bool {
    matches!(text(one, "/state"), "degraded" | "failed") || one.get("unserved") == Some(&Value::Bool(true))
}

/// Whether nothing needs anybody's attention.
pub(super) fn is_good(status: &Value) -> bool {
    instances(status).iter().all(|one| !needs_somebody(one))
        && status.pointer("/host/broken").and_then(Value::as_array).is_none_or(Vec::is_empty)
        && status.pointer("/host/config/problems").and_then(Value::as_array).is_none_or(Vec::is_empty)
        && status.pointer("/host/sink/failure").is_none_or(Value::is_null)
}

/// A text within a value; empty when it is not there.
fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// A number within a value; 0 when it is not there.
fn number(value: &Value, pointer: &str) -> u64 {
    value.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}

/// A time within a value.
fn moment(value: &Value, pointer: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text(value, pointer), &Rfc3339).ok()
}

/// For people. All texts are those of the host and what vendors and connectors say, so all are escaped.
pub(super) fn page(status: &Value) -> String {
    let now = moment(status, "/now").unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let host = |pointer: &str| text(status, &format!("/host{pointer}"));
    let mut lines = vec![format!(
        "host-harness {}, started {}, {} of {} polls running{}",
        escape(host("/version")),
        ago(moment(status, "/host/started"), now),
        number(status, "/host/polls_running"),
        number(status, "/host/parallel_polls"),
        if status.pointer("/host/stopping") == Some(&Value::Bool(true)) { ", stopping" } else { "" }
    )];
    let broken = status.pointer("/host/broken").and_then(Value::as_array);
    for part in broken.into_iter().flatten().filter_map(Value::as_str) {
        lines.push(format!(
            "broken: {} has panicked; report this. The host ends itself, to be started again",
            escape(part)
        ));
    }
    let problems = status.pointer("/host/config/problems").and_then(Value::as_array);
    let left_out = status.pointer("/host/config/left_out").and_then(Value::as_array);
    let left_out: Vec<&str> = left_out.into_iter().flatten().filter_map(Value::as_str).collect();
    let standing = if left_out.is_empty() { "configuration, not in effect" } else { "configuration" };
    for problem in problems.into_iter().flatten() {
        let line = problem.get("line").and_then(Value::as_u64).map(|line| format!(":{line}")).unwrap_or_default();
        let (file, reason, help) = (text(problem, "/file"), text(problem, "/reason"), text(problem, "/help"));
        lines.push(format!("{standing}: {}{line}: {}; {}", escape(file), escape(reason), escape(help)));
    }
    if !left_out.is_empty() {
        lines.push(format!("left out since the start, until that is corrected: {}", escape(&left_out.join(", "))));
    }
    let keys = status.pointer("/host/config/needs_restart").and_then(Value::as_array);
    let keys: Vec<&str> = keys.into_iter().flatten().filter_map(Value::as_str).collect();
    if !keys.is_empty() {
        lines.push(format!("counts from the next start on: {}", escape(&keys.join(", "))));
    }
    let routes = status.pointer("/host/routes").and_then(Value::as_array);
    for route in routes.into_iter().flatten().filter_map(Value::as_str) {
        lines.push(format!("route {}", escape(route)));
    }
    let target = host("/sink/target");
    if !["", "none"].contains(&target) {
        let delivered = number(status, "/host/sink/delivered");
        lines.push(format!("output {}: {delivered} artifacts delivered since the start", escape(target)));
    }
    if let Some(failure) = status.pointer("/host/sink/failure").filter(|failure| !failure.is_null()) {
        lines.push(format!("output {}: {}", escape(host("/sink/target")), sentence(failure)));
    }
    for connector in status.get("connectors").and_then(Value::as_array).into_iter().flatten() {
        if text(connector, "/state") != "serving" {
            let (file, state, reason) =
                (text(connector, "/file"), text(connector, "/state"), text(connector, "/reason"));
            let name = if file.is_empty() { text(connector, "/integration_type") } else { file };
            lines.push(format!("connector {} {}: {}", escape(name), escape(state), escape(reason)));
        }
    }
    lines.push(String::new());
    let mut rows =
        vec![["NAME", "TYPE", "STATE", "LAST POLL", "NEXT POLL", "TODAY", "FETCHED"].map(str::to_owned).to_vec()];
    rows.extend(instances(status).iter().map(|one| row(one, now)));
    let table = output::table("", &rows);
    let mut table = table.lines();
    lines.extend(table.next().map(str::to_owned));
    for (one, line) in instances(status).iter().zip(table) {
        lines.push(line.to_owned());
        lines.extend(details(one, now));
    }
    lines.push(String::new());
    lines.join("\n")
}

/// The line of an instance.
fn row(one: &Value, now: OffsetDateTime) -> Vec<String> {
    let streams = one.get("streams").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let fetched: Vec<String> = streams
        .iter()
        .map(|stream| {
            let (last, total) = (number(stream, "/last"), number(stream, "/total"));
            format!("{last} {} ({total})", escape(text(stream, "/noun")))
        })
        .collect();
    let next = match moment(one, "/next_poll") {
        _ if one.get("polling") == Some(&Value::Bool(true)) => "now".to_owned(),
        Some(next) if next > now => format!("in {}", span(next - now)),
        Some(_) => "due".to_owned(),
        None => "-".to_owned(),
    };
    vec![
        escape(text(one, "/name")),
        escape(text(one, "/integration_type")),
        escape(text(one, "/state")),
        ago(moment(one, "/last_poll"), now),
        next,
        today(one, now),
        if fetched.is_empty() { "-".to_owned() } else { fetched.join(", ") },
    ]
}

/// What an instance came to today: what is asked of its vendor, and what of that was new.
fn today(one: &Value, now: OffsetDateTime) -> String {
    let today = now.date().to_string();
    let days = one.get("days").and_then(Value::as_array).into_iter().flatten();
    days.clone().find(|day| text(day, "/day") == today).map_or_else(
        || "-".to_owned(),
        |day| {
            let (requests, new) = (number(day, "/requests"), number(day, "/artifacts_new"));
            format!("{}, {}, {new} new", counted(requests, "request"), DecimalBytes(number(day, "/bytes_received")))
        },
    )
}

/// The streams of an instance that are not `ok`: which and how, and why. Those of which the same is to be said are one.
fn troubled(one: &Value) -> Vec<(String, String)> {
    let mut told: Vec<(&str, Vec<String>, String)> = Vec::new();
    for stream in one.get("streams").and_then(Value::as_array).into_iter().flatten() {
        let Some(failure) = stream.get("failure").filter(|failure| !failure.is_null()) else { continue };
        let (state, name, why) = (text(stream, "/state"), escape(text(stream, "/name")), sentence(failure));
        match told.iter_mut().find(|(of, _, same)| *of == state && *same == why) {
            Some((_, names, _)) => names.push(name),
            None => told.push((state, vec![name], why)),
        }
    }
    let which =
        |(state, names, why): (&str, Vec<String>, String)| (format!("{} {}", names.join(", "), escape(state)), why);
    told.into_iter().map(which).collect()
}

/// What is below the line of an instance: what is wrong, and what the operator may want to know.
fn details(one: &Value, now: OffsetDateTime) -> Vec<String> {
    let mut lines = Vec::new();
    let troubled = troubled(one);
    // What its last poll came to may be a day old; when it says so itself that is enough.
    if one.get("unserved") == Some(&Value::Bool(true)) && text(one, "/failure/code") != "connector-missing" {
        lines.push(format!(
            "  nothing serves {} at this moment: see `host-harness connectors list`",
            escape(text(one, "/integration_type"))
        ));
    }
    // What is said of a stream is not said twice.
    let is_told = |why: &String| troubled.iter().any(|(_, told)| told == why);
    if let Some(failure) = one.get("failure").filter(|failure| !failure.is_null()) {
        let why = sentence(failure);
        if !is_told(&why) {
            lines.push(format!("  {why}"));
        }
    } else if let Some(last) = one.get("last_failure").filter(|last| !last.is_null())
        && let Some(at) = moment(last, "/at")
        && now - at < time::Duration::DAY
        && !is_told(&sentence(last))
    {
        lines.push(format!("  was wrong {}: {}", ago(Some(at), now), sentence(last)));
    }
    lines.extend(troubled.iter().map(|(which, why)| format!("  {which}: {why}")));
    if let Some(back_off) = one.get("back_off").filter(|back_off| !back_off.is_null()) {
        let failures = match number(back_off, "/failures") {
            1 => "a failure".to_owned(),
            many => format!("{many} failures in a row"),
        };
        lines.push(format!("  backing off after {failures}"));
    }
    let pause = moment(one, "/not_before").filter(|until| *until > now).map(|until| span(until - now));
    if let Some(since) = moment(one, "/behind_since") {
        let limit = pause.map_or_else(String::new, |pause| format!("; it asks not to be called for another {pause}"));
        lines.push(format!(
            "  behind since {}: the vendor has more, which is collected turn by turn{limit}",
            ago(Some(since), now)
        ));
    } else if let Some(pause) = pause {
        lines.push(format!("  the vendor asks not to be called for another {pause}"));
    }
    if let Some(last) = moment(one, "/last_new").filter(|last| now - *last > time::Duration::DAY)
        && text(one, "/state") == "ok"
    {
        lines.push(format!("  nothing new for {}", span(now - last)));
    }
    let hint = text(one, "/hint");
    if !hint.is_empty() {
        lines.push(format!("  {}", escape(hint)));
    }
    for route in one.get("routes").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        lines.push(format!("  routed: {}", escape(route)));
    }
    lines
}

/// `<message> (HTTP 401, unauthorized). <remedy>`
fn sentence(failure: &Value) -> String {
    let failure = serde_json::from_value::<crate::instances::failure::FailureReport>(failure.clone());
    failure.map_or_else(|_| "failed".to_owned(), |failure| escape(&failure.sentence()))
}

/// `3 min ago`, or a dash.
fn ago(time: Option<OffsetDateTime>, now: OffsetDateTime) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{} ago", span(now - time)))
}

/// A span of time in its largest unit.
fn span(span: time::Duration) -> String {
    let seconds = span.whole_seconds().max(0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
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
            page(&recovered)
                .contains("  was wrong 3 h ago: too many requests (HTTP 429, rate-limited). Poll less often."),
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
        let lines =
            "\n  backing off after 3 failures in a row\n  the vendor asks not to be called for another 10 min\n";
        assert!(page(&status).contains(lines), "{}", page(&status));
        status["instances"][0]["not_before"] = "2026-01-15T11:10:00Z".into();
        assert!(!page(&status).contains("the vendor asks"), "it is over");
    }

    #[test]
    fn the_page_for_browsers_has_the_same_facts() {
        let (own, other) = (include_str!("status_page.rs"), include_str!("../http/browser/page.js"));
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
}
