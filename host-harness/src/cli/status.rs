//! `host-harness status`: what the resident host is doing.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::HeaderValue;
use http::header::{AUTHORIZATION, HOST};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use secrecy::ExposeSecret;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::net::TcpStream;
use url::Url;

use super::error::{CliError, EXIT_FAILED};
use super::output;
use super::selection::Selection;
use crate::config;
use crate::instances::secrets::{self, Source};
use crate::log::escape;

/// Show what a running host is doing
///
/// Asks the host over HTTP. Exit code 0: every instance shown is ok, starting or
/// disabled, the configuration is sound and the output works, or with --watch
/// nobody reads any more; 1: something is wrong, or nobody answers; 2: wrong
/// usage, or the token cannot be read.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  host-harness status --config /etc/host-harness/conductor.toml
  host-harness status --config /etc/host-harness/conductor.toml --failed
  host-harness status --url http://127.0.0.1:9630 --watch
  host-harness status --json")]
pub(super) struct Status {
    /// The configuration of the host: says where it listens and which token it wants
    #[arg(long, value_name = "FILE", conflicts_with_all = ["url", "token"])]
    config: Option<PathBuf>,
    /// Where the host listens, http:// only [default: http://127.0.0.1:9630]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Where the token is kept: env:NAME or file:PATH
    #[arg(long, value_name = "SOURCE")]
    token: Option<String>,
    /// Show it again every few seconds until interrupted
    #[arg(long)]
    watch: bool,
    /// Print the status as one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    selection: Selection,
}

/// Seconds between two looks of `--watch`.
const EVERY: Duration = Duration::from_secs(2);

/// How long the host may take to answer.
const WITHIN: Duration = Duration::from_secs(20);

/// Most bytes of a status.
const MOST_BYTES: usize = 256 << 20;

/// Where to ask, and with what.
struct Target {
    host: String,
    port: u16,
    token: Option<Source>,
}

impl Status {
    pub(super) async fn run(self) -> Result<u8, CliError> {
        let target = self.target()?;
        // A token that cannot be read is nobody else's fault.
        target.authorization()?;
        let mut has_answered = false;
        loop {
            let status = match target.ask().await {
                // One who watches wants to see the host come back.
                Err(error) if self.watch && has_answered => {
                    let text = format!("{error}\nit is asked again every {} s\n", EVERY.as_secs());
                    if self.json {
                        // What reads the objects is no person.
                        let _ = write!(std::io::stderr(), "{text}");
                    } else if !output::print(&format!("\x1b[2J\x1b[H{text}"))? {
                        return Ok(0);
                    }
                    tokio::time::sleep(EVERY).await;
                    continue;
                }
                other => other?,
            };
            let mut status = status;
            self.selection.apply(&mut status, has_answered)?;
            has_answered = true;
            let good = is_good(&status);
            let is_read = if self.json {
                output::print_json(&status, false)?
            } else if self.watch {
                // Clears the screen and begins at its top.
                output::print(&format!("\x1b[2J\x1b[H{}", page(&status)))?
            } else {
                output::print(&page(&status))?
            };
            if !self.watch {
                return Ok(if good { 0 } else { EXIT_FAILED });
            }
            if !is_read {
                return Ok(0);
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    fn target(&self) -> Result<Target, CliError> {
        if let Some(file) = &self.config {
            let host = config::load_host(file)?;
            let Some(address) = host.listen else {
                return Err(CliError::usage("the host of this configuration does not listen: listen is \"off\""));
            };
            let ip = if address.ip().is_unspecified() { "127.0.0.1".to_owned() } else { bracketed(address) };
            return Ok(Target { host: ip, port: address.port(), token: host.bearer_token });
        }
        let text = self.url.clone().unwrap_or_else(|| format!("http://127.0.0.1:{}", config::DEFAULT_PORT));
        let wrong =
            || CliError::usage("--url is no address of a host").help("write for example --url http://127.0.0.1:9630");
        let url = Url::parse(&text).map_err(|_| wrong())?;
        if url.scheme() == "https" {
            return Err(CliError::usage("--url must begin with http://: the host itself does not speak TLS")
                .help("name the address where the host listens, not that of a proxy in front of it"));
        }
        let host = url.host_str().filter(|_| url.scheme() == "http" && url.username().is_empty()).ok_or_else(wrong)?;
        let token = self
            .token
            .as_deref()
            .map(|text| {
                Source::parse(text).ok_or_else(|| {
                    CliError::usage("--token is not env:NAME or file:PATH (what was given is not shown)")
                })
            })
            .transpose()?;
        Ok(Target { host: host.to_owned(), port: url.port_or_known_default().unwrap_or(80), token })
    }
}

/// The address without port, as it stands in a URL.
fn bracketed(address: SocketAddr) -> String {
    if address.is_ipv6() { format!("[{}]", address.ip()) } else { address.ip().to_string() }
}

impl Target {
    async fn ask(&self) -> Result<Value, CliError> {
        let nobody = |why: String| {
            CliError::failed(format!("no host answers at {}:{}: {why}", self.host, self.port))
                .help("start it with `host-harness run`, or name its configuration with --config")
        };
        let authorization = self.authorization()?;
        let answer = tokio::time::timeout(WITHIN, self.exchange(authorization)).await;
        let (status, body) = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(nobody(error)),
            Err(_) => return Err(nobody(format!("it took more than {} s", WITHIN.as_secs()))),
        };
        let value: Value = serde_json::from_slice(&body).unwrap_or_default();
        match status {
            200 if value.get("instances").is_some() => Ok(value),
            401 => Err(CliError::failed("the host wants a token, or another one")
                .help("name its configuration with --config, or the token's place with --token")),
            _ => Err(nobody(format!("what is there answers with HTTP {status} and is none"))),
        }
    }

    /// The header with the token, if one is wanted.
    fn authorization(&self) -> Result<Option<HeaderValue>, CliError> {
        let Some(source) = &self.token else { return Ok(None) };
        let secrets = secrets::take(&[("token".to_owned(), source.clone())])?;
        let token = secrets.get("token").map(ExposeSecret::expose_secret).unwrap_or_default();
        let header = HeaderValue::from_str(&format!("Bearer {token}"));
        // The error would say nothing more.
        header
            .map(Some)
            .map_err(|_| CliError::usage("the token cannot be sent: it has other characters than those of a line"))
    }

    async fn exchange(&self, authorization: Option<HeaderValue>) -> Result<(u16, Bytes), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let host = self.host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((host, self.port)).await.map_err(|error| text(&error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| text(&error))?;
        tokio::spawn(connection);
        let mut request = http::Request::get("/status").header(HOST, format!("{}:{}", self.host, self.port));
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| text(&error))?;
        let answer = sender.send_request(request).await.map_err(|error| text(&error))?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), MOST_BYTES).collect().await.map_err(|error| text(&error))?;
        Ok((status, body.to_bytes()))
    }
}

/// The instances of a status.
fn instances(status: &Value) -> &[Value] {
    status.get("instances").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// Whether nothing needs anybody's attention.
fn is_good(status: &Value) -> bool {
    let well = |one: &Value| !matches!(text(one, "/state"), "degraded" | "failed");
    instances(status).iter().all(well)
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
fn page(status: &Value) -> String {
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
    let problems = status.pointer("/host/config/problems").and_then(Value::as_array);
    for problem in problems.into_iter().flatten() {
        let line = problem.get("line").and_then(Value::as_u64).map(|line| format!(":{line}")).unwrap_or_default();
        let (file, reason, help) = (text(problem, "/file"), text(problem, "/reason"), text(problem, "/help"));
        lines.push(format!(
            "configuration, not in effect: {}{line}: {}; {}",
            escape(file),
            escape(reason),
            escape(help)
        ));
    }
    let keys = status.pointer("/host/config/needs_restart").and_then(Value::as_array);
    let keys: Vec<&str> = keys.into_iter().flatten().filter_map(Value::as_str).collect();
    if !keys.is_empty() {
        lines.push(format!("counts from the next start on: {}", escape(&keys.join(", "))));
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
    let mut rows = vec![["NAME", "TYPE", "STATE", "LAST POLL", "NEXT POLL", "FETCHED"].map(str::to_owned).to_vec()];
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
        if fetched.is_empty() { "-".to_owned() } else { fetched.join(", ") },
    ]
}

/// What is below the line of an instance: what is wrong, and what the operator may want to know.
fn details(one: &Value, now: OffsetDateTime) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(failure) = one.get("failure").filter(|failure| !failure.is_null()) {
        lines.push(format!("  {}", sentence(failure)));
    } else if let Some(last) = one.get("last_failure").filter(|last| !last.is_null())
        && let Some(at) = moment(last, "/at")
        && now - at < time::Duration::DAY
    {
        lines.push(format!("  was wrong {}: {}", ago(Some(at), now), sentence(last)));
    }
    for stream in one.get("streams").and_then(Value::as_array).into_iter().flatten() {
        if text(stream, "/state") == "unavailable"
            && let Some(failure) = stream.get("failure").filter(|failure| !failure.is_null())
        {
            lines.push(format!("  {} unavailable: {}", escape(text(stream, "/name")), sentence(failure)));
        }
    }
    if let Some(since) = moment(one, "/behind_since") {
        let limit = moment(one, "/not_before")
            .filter(|until| *until > now)
            .map_or_else(String::new, |until| format!("; it asks not to be called for another {}", span(until - now)));
        lines.push(format!(
            "  behind since {}: the vendor has more, which is collected turn by turn{limit}",
            ago(Some(since), now)
        ));
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
                "config": { "problems": [], "needs_restart": [] }, "sink": { "target": "out.jsonl", "failure": null },
            },
            "connectors": [{ "integration_type": "acme", "state": "serving", "file": "acme.wasm" }],
            "instances": [
                {
                    "name": "Acme US", "integration_type": "acme", "state": "ok", "polling": false,
                    "last_poll": "2026-01-15T11:59:48Z", "next_poll": "2026-01-15T12:04:48Z", "failure": null, "hint": null, "routes": [],
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

        NAME     TYPE  STATE     LAST POLL  NEXT POLL  FETCHED
        Acme US  acme  ok        12 s ago   in 4 min   3 events (120), 0 alerts (7)
        off      acme  disabled  -          -          -
        ");
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
        output out.jsonl: no room (output-failed). Make some.
        connector bad.wasm refused: not WebAssembly

        NAME            TYPE  STATE     LAST POLL  NEXT POLL  FETCHED
        Acme\u{1b}[31m  acme  failed    12 s ago   in 4 min   3 events (120), 0 alerts (7)
          the key is not known\u{1b}[2J\nforged (HTTP 401, unauthorized). Check the key.
          Poll less often.
          routed: api.example.com=http://127.0.0.1:8811
        off             acme  disabled  -          -          0 pieces (0)
          evidence unavailable: the key is not known\u{1b}[2J\nforged (HTTP 401, unauthorized). Check the key.
        ");
    }

    #[test]
    fn one_thing_that_is_wrong_is_enough_for_the_exit_code() {
        type Change = fn(&mut Value);
        let changes: [Change; 4] = [
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
