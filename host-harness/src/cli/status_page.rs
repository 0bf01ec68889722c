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
        _ if one.get("polling") == Some(&Value::Bool(true)) => "polling".to_owned(),
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
mod tests;
