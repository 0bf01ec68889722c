//! `status` and `connectors list` against a host that runs and wants a token.

use std::io::{BufReader, Read};
use std::net::TcpListener;
use std::process::{Child, Stdio};

use insta::assert_snapshot;
use serde_json::Value;

use crate::common::process::{Host, PATIENCE};
use crate::hostile::component;
use crate::running::site::{Site, Told, hostile, insightidr};

/// The token of the host.
const TOKEN: &str = "status-token-0123456789abcdef";

/// A host to ask.
struct Desk {
    site: Site,
    host: Host,
    url: String,
}

impl Desk {
    /// A host with an ordinary tenant and one that is switched off.
    fn new() -> Self {
        let mut site = Site::new();
        // `--config` can only be tried with an address that is known before the host is started.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        site.set(&format!("listen = \"{address}\""));
        site.set("bearer_token = \"file:token\"");
        site.secret("token", TOKEN);
        site.install_insightidr();
        site.configure(&format!("{}{}", insightidr("us"), OFF));
        let host = site.start(&[]);
        let mut desk = Self { site, host, url: format!("http://{address}") };
        desk.until(|status| instance(status, "us")["state"] == "ok");
        desk
    }

    fn status(&self, arguments: &[&str]) -> Told {
        self.site.command(&[&["status"], arguments].concat())
    }

    /// Waits until the status is so.
    fn until(&mut self, is: impl Fn(&Value) -> bool) {
        let site = &self.site;
        self.host.until("the status is as wanted", |_| {
            let told = site.command(&["status", "--config", "conductor.toml", "--json"]);
            is(&serde_json::from_str(&told.stdout).unwrap_or_default()).then_some(())
        });
    }

    /// A text with everything replaced that is another one in every run.
    fn stable(&self, text: &str) -> String {
        let text = text.replace(&self.site.stage.url(), "SIMULATOR");
        let line = |line: &str| {
            // What a connector says is its own affair.
            let line = line.split_once(", unauthorized). ").map_or(line, |(before, _)| before);
            // How many failures, and artifacts, there were by then.
            let line = line.split_once("backing off after ").map_or(line, |_| "  backing off");
            let line = line.split_once(" artifacts delivered ").map_or(line, |_| "output artifacts.jsonl: DELIVERED");
            let cells = line.split("  ").filter(|cell| !cell.trim().is_empty()).map(|cell| match cell.trim() {
                cell if cell.ends_with(" ago") => "AGO",
                cell if cell.starts_with("in ") || cell == "polling" || cell == "due" => "NEXT",
                // A digest, as far as it is shown.
                cell if cell.len() == 12 && cell.bytes().all(|byte| byte.is_ascii_hexdigit()) => "DIGEST",
                cell if cell.len() == 20 && cell.starts_with("2026-01-15T") => "TIME",
                // How much there is depends on the simulated world.
                cell if cell.contains(" investigations (") => "COUNTS",
                // And how often it was polled by then.
                cell if cell.contains(" request") && cell.ends_with(" new") => "WORK",
                cell => cell,
            });
            let indent = if line.starts_with("  ") { "  " } else { "" };
            format!("{indent}{}", cells.collect::<Vec<_>>().join(" | "))
        };
        let text = text.lines().map(line).collect::<Vec<_>>().join("\n");
        match text.strip_prefix("host-harness ").and_then(|rest| rest.split_once(", ")) {
            Some((version, rest)) => {
                let running = rest.split_once(" ago, ").map_or(rest, |(_, running)| running);
                format!("host-harness {version}, started AGO, {running}")
            }
            None => text,
        }
    }
}

/// An instance that is switched off.
const OFF: &str = "[[instance]]\nid = \"off-id\"\nname = \"off\"\nintegration_type = \"rapid7_insightidr\"\nenabled = false\n\
                   [instance.settings]\nregion = \"us\"\n[instance.secrets]\napi_key = \"file:us.key\"\n";

fn instance<'a>(status: &'a Value, name: &str) -> &'a Value {
    let all = status["instances"].as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter().find(|one| one["name"] == name).unwrap_or(&Value::Null)
}

/// The names of all fields, with those of the first element for a list.
fn fields(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                fields(value, &format!("{path}.{name}"), found);
            }
        }
        Value::Array(list) if list.first().is_some_and(Value::is_object) => {
            fields(&list[0], &format!("{path}[]"), found);
        }
        _ => found.push(path.trim_start_matches('.').to_owned()),
    }
}

/// A command that shows something again and again. Ended with the test.
struct Watching {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Watching {
    fn start(desk: &Desk, more: &[&str]) -> Self {
        let arguments = [&["status", "--config", "conductor.toml", "--watch"], more].concat();
        let mut child = desk.site.stage.command(&arguments).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// Reads until something has come so many times.
    fn until(&mut self, what: &str, times: usize) -> String {
        let mut text = Vec::new();
        let mut byte = [0];
        while String::from_utf8_lossy(&text).matches(what).count() < times {
            assert_eq!(self.output.read(&mut byte).unwrap(), 1, "it ended: {}", String::from_utf8_lossy(&text));
            text.push(byte[0]);
        }
        String::from_utf8(text).unwrap()
    }
}

#[test]
fn the_commands_tell_what_a_running_host_does_and_who_may_ask() {
    let mut desk = Desk::new();
    let url = desk.url.clone();

    // Who may ask.
    for wrong in [&["status", "--url", &url][..], &["status", "--url", &url, "--token", "env:KEY_US"]] {
        let told = desk.site.command(wrong);
        assert_eq!((told.code, told.stdout.as_str()), (1, ""), "{told:?}");
        assert!(told.stderr.starts_with("error: the host wants a token, or another one\nhelp: name its"), "{told:?}");
    }
    let told = desk.status(&["--url", &url, "--token", TOKEN]);
    assert!(told.code == 2 && !told.stderr.contains(TOKEN), "{told:?}");
    let told = desk.status(&["--url", &url, "--config", "conductor.toml"]);
    assert_eq!(told.code, 2, "{told:?}");
    let told = desk.status(&["--url", &url, "--token", "file:no-such-file"]);
    assert!(told.code == 2 && told.stderr.contains("no-such-file"), "{told:?}");

    // The table, by each way to ask.
    let by_config = desk.status(&["--config", "conductor.toml"]);
    assert_eq!((by_config.code, by_config.stderr.as_str()), (0, ""), "{by_config:?}");
    let page = desk.stable(&by_config.stdout);
    assert_snapshot!("status_table", page);
    assert!(by_config.stdout.contains(" investigations (") && by_config.stdout.contains(" alerts ("), "{by_config:?}");
    for token in ["file:token", "env:STATUS_TOKEN"] {
        let mut command = desk.site.stage.command(&["status", "--url", &url, "--token", token]);
        let output = command.env("STATUS_TOKEN", TOKEN).output().unwrap();
        assert_eq!(desk.stable(&String::from_utf8(output.stdout).unwrap()), page, "{token}");
    }

    // JSON: what the host says, in one line.
    let told = desk.status(&["--config", "conductor.toml", "--json"]);
    assert_eq!((told.code, told.stdout.lines().count()), (0, 1));
    let status: Value = serde_json::from_str(&told.stdout).unwrap();
    let mut found = Vec::new();
    for part in ["host", "connectors"] {
        fields(&status[part], part, &mut found);
    }
    fields(instance(&status, "us"), "instances[]", &mut found);
    assert_snapshot!("status_fields", found.join("\n"));
    let us = instance(&status, "us");
    assert_eq!((&us["state"], &us["last_outcome"], &us["failure"]), (&"ok".into(), &"ok".into(), &Value::Null));
    assert_eq!(instance(&status, "off")["state"], "disabled");

    // What serves.
    let listed = desk.site.command(&["connectors", "list", "--config", "conductor.toml"]);
    assert_eq!(listed.code, 0);
    assert_snapshot!(desk.stable(&listed.stdout), @"rapid7_insightidr | 0.1.0 | serving | TIME | DIGEST | rapid7.wasm");
    let granted = desk.site.command(&["connectors", "list", "--grants", "--config", "conductor.toml"]);
    let (rows, granted) = granted.stdout.split_at(listed.stdout.len());
    assert_eq!(rows, listed.stdout);
    assert_snapshot!("connectors_granted", granted.replace(granted.split(' ').nth(4).unwrap(), "TIME,"));
    let same = desk.site.command(&["connectors", "list", "--state", "state"]);
    assert_eq!((same.code, same.stdout), (0, listed.stdout));
    let listed = desk.site.command(&["connectors", "list", "--config", "conductor.toml", "--json"]);
    let listed: Value = serde_json::from_str(&listed.stdout).unwrap();
    assert_eq!(listed["connectors"], status["connectors"]);
    assert_eq!(listed["granted"][0]["integration_type"], "rapid7_insightidr", "{listed:#}");
    assert!(listed["written"].as_str().unwrap().starts_with("2026-01-15T12:"), "{listed:#}");

    // Again and again, and what changes meanwhile is seen.
    let mut pages = Watching::start(&desk, &[]);
    let clear = "\u{1b}[2J\u{1b}[H";
    let first = pages.until(clear, 2);
    assert!(first.starts_with(clear), "{first:?}");
    let first = first.trim_matches(|c| clear.contains(c)).to_owned();
    assert!(desk.stable(&first).contains("us | rapid7_insightidr | ok | AGO | NEXT"), "{first}");
    let mut objects = Watching::start(&desk, &["--json"]);
    for line in objects.until("\n", 2).lines() {
        assert!(serde_json::from_str::<Value>(line).unwrap()["instances"].is_array(), "{line}");
    }
    desk.site.install("hostile.wasm", &component::describing("header-host"));
    desk.until(|status| {
        status["connectors"].as_array().is_some_and(|rows| rows.iter().any(|row| row["state"] == "refused"))
    });
    desk.site.secret("wrong.key", "this-key-is-unknown-0123456789");
    desk.site.secret("hostile.key", "0123456789abcdef");
    let wrong = insightidr("wrong").replace("us.key", "wrong.key");
    desk.site.configure(&format!("{}{}{wrong}{}", insightidr("us"), OFF, hostile("orphan", "poll:honest", "")));
    let failed = pages.until("(HTTP 401, unauthorized)", 1);
    assert!(failed.contains("wrong"), "{failed}");

    // Something is wrong: the exit code says so, the page what and what to do.
    desk.until(|status| {
        instance(status, "wrong")["state"] == "failed" && instance(status, "orphan")["state"] == "failed"
    });
    let told = desk.status(&["--config", "conductor.toml"]);
    assert_eq!(told.code, 1, "{told:?}");
    assert_snapshot!("status_trouble", desk.stable(&told.stdout));
    assert_eq!(desk.status(&["--config", "conductor.toml", "--json"]).code, 1);

    // Nobody is there any more; who watches sees that, and the host when it is back.
    let Desk { site, host, .. } = desk;
    assert_eq!(host.stop("TERM").code, 0);
    let gone = pages.until("it is asked again every 2 s", 1);
    assert!(gone.contains("no host answers at 127.0.0.1:"), "{gone}");
    let told = site.command(&["status", "--config", "conductor.toml"]);
    assert!(told.code == 1 && told.stderr.contains("no host answers at 127.0.0.1:"), "{told:?}");
    let listed = site.command(&["connectors", "list", "--config", "conductor.toml"]);
    assert!(listed.code == 0 && listed.stdout.contains("rapid7_insightidr  0.1.0  serving"), "{listed:?}");
    assert!(listed.stderr.contains("as a host reported at 2026-01-15T12:"), "{listed:?}");
    site.configure(&format!("{}{}", insightidr("us"), insightidr("later")));
    let host = site.start(&[]);
    pages.until("later", 1);
    // Where objects are wanted nothing else is written, whatever happens.
    loop {
        let line = objects.until("\n", 1);
        let status: Value = serde_json::from_str(&line).unwrap();
        assert!(status["instances"].is_array(), "{line}");
        if instance(&status, "later").is_object() {
            break;
        }
    }
    assert_eq!(host.stop("TERM").code, 0);
}

#[test]
fn a_connector_that_was_removed_is_missed_before_the_next_poll() {
    let mut desk = Desk::new();
    let file = desk.site.path("connectors/rapid7.wasm");
    std::fs::remove_file(&file).unwrap();
    desk.until(|status| instance(status, "us")["unserved"] == true);
    let told = desk.status(&["--config", "conductor.toml"]);
    let line = "  nothing serves rapid7_insightidr at this moment: see `host-harness connectors list`";
    assert_eq!((told.code, told.stdout.matches(line).count()), (1, 1), "one is switched off: {told:?}");
    let shown = desk.status(&["--config", "conductor.toml", "--failed", "--json"]);
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(shown["instances"].as_array().unwrap().len(), 1, "{shown:#}");
    assert_eq!((&shown["instances"][0]["name"], &shown["instances"][0]["state"]), (&"us".into(), &"ok".into()));
    desk.site.install_insightidr();
    desk.until(|status| instance(status, "us")["unserved"] == false);
    assert_eq!(desk.status(&["--config", "conductor.toml"]).code, 0);
    assert_eq!(desk.host.stop("TERM").code, 0);
}

#[test]
fn one_who_watches_stops_when_nobody_reads_any_more() {
    let site = Site::new();
    site.configure("");
    let host = site.start(&[]);
    let url = host.url();
    for more in [&[][..], &["--json"]] {
        let arguments = [&["status", "--url", &url, "--watch"], more].concat();
        let mut watching = site.stage.command(&arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut first = [0];
        watching.stdout.take().unwrap().read_exact(&mut first).unwrap();
        // The pipe is closed here.
        let began = std::time::Instant::now();
        let code = loop {
            match watching.try_wait().unwrap() {
                Some(status) => break status.code(),
                None if began.elapsed() > PATIENCE => {
                    watching.kill().unwrap();
                    panic!("it goes on for nobody: {more:?}");
                }
                None => std::thread::sleep(std::time::Duration::from_millis(50)),
            }
        };
        assert_eq!(code, Some(0), "{more:?}");
    }
}
