//! `host-harness status`: what a running host says of itself, as a table.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use http::header;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use super::error::CliError;
use super::output;
use crate::config::DEFAULT_LISTEN;
use crate::log::escape;
use crate::run::watch;

/// Time for the answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest answer, in bytes.
const LARGEST: usize = 64 << 20;

/// Show what a running host does
///
/// Asks the host that listens on the address of the configuration, or on the
/// usual one.
///
/// Exit code 0: every instance is ok, starting or disabled; 1: some instance is
/// degraded or failed, or the host does not answer; 2: wrong usage.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  host-harness status
  host-harness status --watch
  host-harness status --config conductor.toml --json")]
pub(super) struct Status {
    /// Configuration of the host, for its address and token
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address of the host [default: 127.0.0.1:9464, or what the configuration
    /// says]
    #[arg(long, value_name = "ADDRESS", conflicts_with = "config")]
    address: Option<String>,
    /// Show it again every 2 seconds, until stopped
    #[arg(long, conflicts_with = "json")]
    watch: bool,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) async fn run(self) -> Result<u8, CliError> {
        let (address, token) = self.whom()?;
        loop {
            let body = tokio::time::timeout(PATIENCE, ask(&address, token.as_deref())).await.unwrap_or_else(|_| {
                Err(CliError::failed(format!("the host on {address} does not answer within {} s", PATIENCE.as_secs())))
            })?;
            let page: Value = serde_json::from_str(&body)
                .map_err(|error| CliError::failed(format!("the answer of {address} is no status: {error}")))?;
            if self.json {
                output::print(&body)?;
            } else {
                // Clears the screen only where somebody watches.
                let clear = if self.watch { "\u{1b}[2J\u{1b}[H" } else { "" };
                output::print(&format!("{clear}{}", table(&page)))?;
            }
            if !self.watch {
                let states = list(&page, "instances").iter().map(|one| text(one, "state"));
                return Ok(u8::from(states.into_iter().any(|state| matches!(state, "degraded" | "failed"))));
            }
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }

    /// Where the host is, and what it wants to see.
    fn whom(&self) -> Result<(String, Option<String>), CliError> {
        use secrecy::ExposeSecret as _;
        let Some(path) = &self.config else {
            return Ok((self.address.clone().unwrap_or_else(|| DEFAULT_LISTEN.to_owned()), None));
        };
        let (_, config) = watch::read(path)?;
        let address = config.host.listen.ok_or_else(|| {
            CliError::usage("this host serves no status: listen is \"off\"").help("set listen in [host] to an address")
        })?;
        let token =
            config.host.token.map(|source| crate::instances::secrets::read_one("token", &source)).transpose()?;
        Ok((address.to_string(), token.map(|token| token.expose_secret().to_owned())))
    }
}

/// Asks the host.
async fn ask(address: &str, token: Option<&str>) -> Result<String, CliError> {
    let failed = |why: String| {
        CliError::failed(format!("the host on {address} cannot be asked: {why}"))
            .help("is it running? See `host-harness run`; give --config or --address if it listens elsewhere")
    };
    let stream = TcpStream::connect(address).await.map_err(|error| failed(error.to_string()))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(error.to_string()))?;
    let connection = tokio::spawn(connection);
    let mut request = http::Request::get("/status").header(header::HOST, address);
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Empty::<bytes::Bytes>::new()).map_err(|error| failed(error.to_string()))?;
    let response = sender.send_request(request).await.map_err(|error| failed(error.to_string()))?;
    let status = response.status();
    let body =
        Limited::new(response.into_body(), LARGEST).collect().await.map_err(|error| failed(error.to_string()))?;
    connection.abort();
    let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    if status.is_success() { Ok(body) } else { Err(failed(format!("it answers {status}: {}", body.trim()))) }
}

fn text<'p>(value: &'p Value, key: &str) -> &'p str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn list<'p>(value: &'p Value, key: &str) -> &'p [Value] {
    value.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// A time to the second.
fn second(value: &Value, key: &str) -> String {
    let time = text(value, key);
    match time.split_once('.') {
        Some((time, _)) => format!("{time}Z"),
        None if time.is_empty() => "-".to_owned(),
        None => time.to_owned(),
    }
}

/// The page as a person reads it.
fn table(page: &Value) -> String {
    let mut rows = vec![["INSTANCE", "TYPE", "STATE", "LAST POLL", "NEXT POLL", "ARTIFACTS"].map(str::to_owned)];
    for one in list(page, "instances") {
        let polling = one.get("polling").and_then(Value::as_bool).unwrap_or_default();
        rows.push([
            escape(text(one, "name")),
            escape(text(one, "integration_type")),
            text(one, "state").to_owned(),
            second(one, "last_poll"),
            if polling { "under way".to_owned() } else { second(one, "next_poll") },
            one.get("artifacts").map(Value::to_string).unwrap_or_default(),
        ]);
    }
    let mut shown = aligned(&rows);
    let mut notes = String::new();
    for one in list(page, "instances") {
        let name = escape(text(one, "name"));
        if let Some(failure) = one.get("failure").filter(|failure| !failure.is_null()) {
            let status = failure.get("http_status").and_then(Value::as_u64).map(|status| format!("HTTP {status}, "));
            let _ = writeln!(
                notes,
                "{name}: {} ({}{}). {}",
                escape(text(failure, "message").trim_end_matches('.')),
                status.unwrap_or_default(),
                escape(text(failure, "code")),
                escape(text(failure, "remedy"))
            );
        }
        for stream in list(one, "streams").iter().filter(|stream| text(stream, "state") == "unavailable") {
            let _ = writeln!(
                notes,
                "{name}: {} unavailable: {}",
                escape(text(stream, "name")),
                escape(text(stream, "reason"))
            );
        }
        if !text(one, "hint").is_empty() {
            let _ = writeln!(notes, "{name}: {}", escape(text(one, "hint")));
        }
    }
    if !notes.is_empty() {
        let _ = write!(shown, "\n{notes}");
    }
    let mut rows = vec![["CONNECTOR", "VERSION", "STATE", "DIGEST", "FILE"].map(str::to_owned)];
    let mut reasons = String::new();
    for one in list(page, "connectors") {
        rows.push([
            escape(text(one, "integration_type")),
            escape(text(one, "version")),
            text(one, "state").to_owned(),
            text(one, "digest").get(..12).unwrap_or_default().to_owned(),
            escape(text(one, "file")),
        ]);
        if !text(one, "reason").is_empty() {
            let _ = writeln!(reasons, "{}: {}", escape(text(one, "file")), escape(text(one, "reason")));
        }
    }
    let _ = write!(shown, "\n{}{reasons}", aligned(&rows));
    let host = page.get("host").unwrap_or(&Value::Null);
    for problem in list(host, "configuration_problems") {
        let line = problem.get("line").and_then(Value::as_u64).unwrap_or_default();
        let _ = writeln!(
            shown,
            "\nan edit was not taken: {}:{line}: {}",
            escape(text(host, "configuration")),
            escape(text(problem, "message"))
        );
    }
    let undelivered = host.get("undelivered").and_then(Value::as_u64).unwrap_or_default();
    if undelivered > 0 {
        let _ =
            writeln!(shown, "\n{undelivered} artifacts wait to be delivered. {}", escape(text(host, "output_failure")));
    }
    shown
}

/// Rows with columns of one width.
fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    rows.iter()
        .map(|row| {
            let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            format!("{}\n", cells.join("  ").trim_end())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_who_is_well_and_what_to_do_for_the_others() {
        let page = serde_json::json!({
            "host": {"configuration": "conductor.toml", "undelivered": 3, "output_failure": "disk full",
                "configuration_problems": [{"line": 7, "message": "no"}]},
            "instances": [
                {"name": "acme", "integration_type": "acme_siem", "state": "ok", "last_poll": "2026-01-15T12:00:00.123Z",
                    "next_poll": "2026-01-15T12:05:00Z", "artifacts": 12, "polling": false, "failure": null,
                    "streams": [{"name": "evidence", "state": "unavailable", "reason": "not there"}]},
                {"name": "b\u{1b}[31m", "integration_type": "acme_siem", "state": "failed", "polling": true, "artifacts": 0,
                    "failure": {"code": "unauthorized", "http_status": 401, "message": "the key is not known", "remedy": "Use another."}},
            ],
            "connectors": [{"integration_type": "acme_siem", "version": "1.0.0", "state": "serving",
                "digest": "0123456789abcdef", "file": "connectors/acme.wasm"}],
        });
        insta::assert_snapshot!(table(&page));
    }
}
