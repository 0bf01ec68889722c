//! The command line with the real connector: what it says, the exit code, and that a mistake asks nothing of the vendor.
//!
//! Mistakes that need no connector are tested with the host. Here every command has the connector, a simulator that
//! could be asked, and an instance that would work but for the one thing that is wrong.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use common::host::{Stage, connector};
use insightidr_simulator::{InvestigationSpec, World, WorldConfig};
use insta::assert_snapshot;
use serde_json::Value;

/// Settings, secret and route of an instance that works.
const GOOD: [&str; 4] = ["--set", "region=us", "--secret", "api_key=env:KEY_US"];

/// What a command came to.
struct Told {
    code: i32,
    stdout: String,
    stderr: String,
}

/// A stage with one investigation to collect and the connector in its directory.
struct Desk {
    stage: Stage,
    route: String,
}

impl Desk {
    fn new() -> Self {
        let mut world = World::empty_in("us");
        let created = WorldConfig::default().start - time::Duration::hours(1);
        world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
        let stage = Stage::of(world);
        std::os::unix::fs::symlink(connector(), stage.dir.path().join("connector.wasm")).unwrap();
        let route = format!("us.api.insight.rapid7.com={}", stage.url());
        Self { stage, route }
    }

    /// Runs a command as it stands. Where the simulator listens shows as `SIMULATOR`.
    fn run(&self, arguments: &[&str]) -> Told {
        let output = self.stage.command(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(&self.stage.url(), "SIMULATOR");
        Told { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Runs `check` or `poll` with the connector, the route and these arguments. Compiled code is shared by all tests.
    fn ask(&self, command: &str, arguments: &[&str]) -> Told {
        let cache = concat!(env!("CARGO_TARGET_TMPDIR"), "/connector-cache");
        let mut all = vec![command, "--connector", "connector.wasm", "--cache", cache, "--route", &self.route];
        if command == "poll" {
            all.extend(["--instance", "acme", "--state", "state", "--clock", "2026-01-15T12:00:00Z"]);
        }
        all.extend(arguments);
        self.run(&all)
    }

    /// What is said when `check` and `poll` refuse these arguments: the same, and nothing was asked of the vendor.
    fn refused(&self, arguments: &[&str]) -> String {
        let said = self.refused_by("check", arguments);
        assert_eq!(said, self.refused_by("poll", arguments), "check and poll say the same");
        said
    }

    fn refused_by(&self, command: &str, arguments: &[&str]) -> String {
        let told = self.ask(command, arguments);
        assert_eq!((told.code, told.stdout.as_str()), (2, ""), "{}", told.stderr);
        assert_eq!(self.stage.simulator.request_count(), 0, "the vendor was asked: {}", told.stderr);
        told.stderr
    }

    fn path(&self, name: &str) -> PathBuf {
        self.stage.dir.path().join(name)
    }

    /// A file for the owner alone.
    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }
}

/// The good arguments and more.
fn good<'a>(more: &[&'a str]) -> Vec<&'a str> {
    GOOD.iter().copied().chain(more.iter().copied()).collect()
}

#[test]
fn the_instance_of_these_tests_works_when_nothing_is_wrong() {
    let desk = Desk::new();
    let told = desk.ask("check", &GOOD);
    assert_eq!(told.code, 0, "{}", told.stderr);
    let told = desk.ask("poll", &good(&["--out", "out.jsonl"]));
    assert_eq!(told.code, 0, "{}", told.stderr);
    assert_eq!(fs::read_to_string(desk.path("out.jsonl")).unwrap().lines().count(), 1);
}

// ---- settings --------------------------------------------------------------------------

#[test]
fn a_missing_or_wrong_region_names_those_there_are() {
    let desk = Desk::new();
    let secret = ["--secret", "api_key=env:KEY_US"];
    assert_snapshot!(desk.refused(&secret), @r"
    error: the connector does not take these settings:
      region: is required; it is one of us (US 1), us2 (US 2), us3 (US 3), eu (EU), ca (Canada), au (Australia), ap (Japan)
    help: see the settings with `host-harness inspect`
    ");
    let with = |region: &'static str| [&secret[..], &["--set", region][..]].concat();
    assert_snapshot!(desk.refused(&with("region=us4")), @r#"
    error: the connector does not take these settings:
      region: is one of us (US 1), us2 (US 2), us3 (US 3), eu (EU), ca (Canada), au (Australia), ap (Japan), not "us4"
    help: see the settings with `host-harness inspect`
    "#);
    assert_snapshot!(desk.refused(&with("region=US 1")), @r#"
    error: the connector does not take these settings:
      region: is one of us (US 1), us2 (US 2), us3 (US 3), eu (EU), ca (Canada), au (Australia), ap (Japan), not "US 1"
    help: see the settings with `host-harness inspect`
    "#);
    assert_snapshot!(desk.refused(&with("region=")), @r#"
    error: the connector does not take these settings:
      region: is one of us (US 1), us2 (US 2), us3 (US 3), eu (EU), ca (Canada), au (Australia), ap (Japan), not ""
    help: see the settings with `host-harness inspect`
    "#);
}

#[test]
fn a_setting_that_does_not_exist_names_those_that_do() {
    assert_snapshot!(Desk::new().refused(&good(&["--set", "look_back=7"])), @r"
    error: the connector does not take these settings:
      look_back: there is no such setting; the settings are region, initial_lookback_days, overlap_minutes, collect_alerts, collect_evidence, max_concurrent_requests
    help: see the settings with `host-harness inspect`
    ");
}

#[test]
fn numbers_out_of_range_and_no_numbers_are_named_all_at_once_with_their_ranges() {
    let numbers = ["--set", "initial_lookback_days=391", "overlap_minutes=0", "max_concurrent_requests=2.5"];
    assert_snapshot!(Desk::new().refused(&good(&numbers)), @r#"
    error: the connector does not take these settings:
      initial_lookback_days: is a whole number from 1 to 390, not 391
      overlap_minutes: is a whole number from 1 to 1440, not 0
      max_concurrent_requests: is a whole number from 1 to 32, not the text "2.5"
    help: see the settings with `host-harness inspect`
    "#);
    let numbers =
        ["--set", "initial_lookback_days=99999999999999999999", "overlap_minutes=", "max_concurrent_requests=-1"];
    assert_snapshot!(Desk::new().refused(&good(&numbers)), @r#"
    error: the connector does not take these settings:
      initial_lookback_days: is a whole number from 1 to 390, not the text "99999999999999999999"
      overlap_minutes: is a whole number from 1 to 1440, not the text ""
      max_concurrent_requests: is a whole number from 1 to 32, not -1
    help: see the settings with `host-harness inspect`
    "#);
}

#[test]
fn a_switch_that_is_neither_on_nor_off_is_named() {
    assert_snapshot!(Desk::new().refused(&good(&["--set", "collect_alerts=perhaps", "collect_evidence=1"])), @r#"
    error: the connector does not take these settings:
      collect_alerts: is true or false, not the text "perhaps"
      collect_evidence: is true or false, not the text "1"
    help: see the settings with `host-harness inspect`
    "#);
}

#[test]
fn a_setting_given_twice_is_refused() {
    assert_snapshot!(Desk::new().refused(&good(&["--set", "overlap_minutes=5", "--set", "overlap_minutes=6"])), @r#"
    error: the setting "overlap_minutes" is given twice
    help: keep one
    "#);
}

// ---- secrets ---------------------------------------------------------------------------

#[test]
fn the_key_among_the_settings_is_refused_and_not_shown() {
    let said = Desk::new().refused(&["--set", "region=us", "api_key=hunter2hunter2"]);
    assert!(!said.contains("hunter2"), "{said}");
    assert_snapshot!(said, @r#"
    error: "api_key" is a secret, and secrets are not taken from the command line
    help: put it into an environment variable or a file and give --secret api_key=env:NAME or --secret api_key=file:PATH; change the secret if it was real
    "#);
}

#[test]
fn a_missing_and_an_unknown_secret_are_named() {
    let desk = Desk::new();
    assert_snapshot!(desk.refused(&["--set", "region=us"]), @r#"
    error: the secret "api_key" (API Key) is missing
    help: add --secret api_key=env:NAME or --secret api_key=file:PATH
    "#);
    assert_snapshot!(desk.refused(&good(&["--secret", "token=env:KEY_US"])), @r#"
    error: the connector has no secret "token"; it has "api_key"
    help: see the settings with `host-harness inspect`
    "#);
    assert_snapshot!(desk.refused(&["--secret", "api_key=env:KEY_US", "--secret", "region=env:KEY_US"]), @r#"
    error: "region" is no secret but an ordinary setting
    help: give it with --set region=VALUE
    "#);
    assert_snapshot!(desk.refused(&good(&["--secret", "api_key=env:KEY_EU"])), @r#"
    error: the secret "api_key" is given twice
    help: keep one
    "#);
}

#[test]
fn a_source_without_a_secret_is_named() {
    let desk = Desk::new();
    desk.write("empty.key", "");
    desk.write("blank.key", "\n");
    desk.write("two-lines.key", "0123456789abcdef\n0123456789abcdef\n");
    desk.write("binary.key", b"\xff\xfe0123456789");
    let with = |source: &str| desk.refused(&["--set", "region=us", "--secret", &format!("api_key={source}")]);
    assert_snapshot!(with("env:NOT_SET_ANYWHERE"), @r#"
    error: the environment variable NOT_SET_ANYWHERE for the secret "api_key" is not set
    help: set and export it first, for example with: read -rs NOT_SET_ANYWHERE && export NOT_SET_ANYWHERE
    "#);
    assert_snapshot!(with("file:missing.key"), @r#"
    error: cannot read missing.key for the secret "api_key": No such file or directory (os error 2)
    help: name a file that this user can read
    "#);
    assert_snapshot!(with("file:empty.key"), @r"
    error: the file empty.key: the secret api_key is empty; give its value
    help: copy the secret again, whole and without anything else
    ");
    assert_snapshot!(with("file:blank.key"), @r"
    error: the file blank.key: the secret api_key is empty; give its value
    help: copy the secret again, whole and without anything else
    ");
    assert_snapshot!(with("file:two-lines.key"), @r"
    error: the file two-lines.key: the secret api_key holds a character that cannot stand in an HTTP header, at byte 16; only printable ASCII without leading or trailing spaces is allowed (was it copied with a line end?)
    help: copy the secret again, whole and without anything else
    ");
    assert_snapshot!(with("file:binary.key"), @r#"
    error: the secret "api_key" from the file binary.key is not text
    help: copy the secret again, whole and without anything else
    "#);
    assert_snapshot!(with("file:."), @r#"
    error: cannot read . for the secret "api_key": Is a directory (os error 21)
    help: name a file that this user can read
    "#);
    assert_snapshot!(with("prompt"), @r"
    error: a --secret is not of the form KEY=env:NAME or KEY=file:PATH (what was given is not shown: it may be a secret)
    help: put the secret into an environment variable or a file and name that, for example --secret api_key=env:API_KEY
    ");
}

// ---- routes, clock, output ----------------------------------------------------------------

#[test]
fn a_route_that_is_none_is_refused() {
    let desk = Desk::new();
    let with = |route: &str| desk.refused(&good(&["--route", route]));
    assert_snapshot!(with("eu.api.insight.rapid7.com"), @r#"error: the route "eu.api.insight.rapid7.com" is not of the form HOST=URL, for example api.example.com=http://127.0.0.1:8811"#);
    assert_snapshot!(with("https://eu.api.insight.rapid7.com=http://127.0.0.1:1"), @r#"error: the route "https://eu.api.insight.rapid7.com=http://127.0.0.1:1" does not begin with a host name in lower case, without scheme, port or path"#);
    assert_snapshot!(with("eu.api.insight.rapid7.com=127.0.0.1:1"), @r#"error: the route "eu.api.insight.rapid7.com=127.0.0.1:1" does not lead to an origin: relative URL without a base; give http://HOST[:PORT] or https://HOST[:PORT]"#);
    assert_snapshot!(with("eu.api.insight.rapid7.com=http://127.0.0.1:1/path"), @r#"error: the route "eu.api.insight.rapid7.com=http://127.0.0.1:1/path" does not lead to an origin: it holds a path, query or fragment; give http://HOST[:PORT] or https://HOST[:PORT]"#);
    assert_snapshot!(with("us.api.insight.rapid7.com=http://127.0.0.1:1"), @"error: two routes are given for us.api.insight.rapid7.com; keep one");
}

#[test]
fn a_clock_that_cannot_be_read_is_refused() {
    let desk = Desk::new();
    assert_snapshot!(desk.refused_by("check", &good(&["--clock", "2026-01-15 noon"])), @r"
    error: invalid value '2026-01-15 noon' for '--clock <RFC3339>': the 'hour' component could not be parsed; write it as in RFC 3339, for example 2026-01-15T12:00:00Z

    For more information, try '--help'.
    ");
}

#[test]
fn an_output_that_cannot_be_written_is_refused_before_anything_is_asked() {
    let desk = Desk::new();
    fs::create_dir(desk.path("directory")).unwrap();
    assert_snapshot!(desk.refused_by("poll", &good(&["--out", "directory"])), @r"
    [WARN] rapid7-insightidr: a route sends what is meant for us.api.insight.rapid7.com to SIMULATOR
    error: cannot open directory for the artifacts: Is a directory (os error 21)
    help: give a file in a directory that exists and that this user can write to, or - for standard output
    ");
    assert_snapshot!(desk.refused_by("poll", &good(&["--out", "no/such/directory/out.jsonl"])), @r"
    [WARN] rapid7-insightidr: a route sends what is meant for us.api.insight.rapid7.com to SIMULATOR
    error: cannot open no/such/directory/out.jsonl for the artifacts: No such file or directory (os error 2)
    help: give a file in a directory that exists and that this user can write to, or - for standard output
    ");
}

// ---- the state directory ------------------------------------------------------------------

/// A state directory that one good poll has filled.
fn filled() -> Desk {
    let desk = Desk::new();
    assert_eq!(desk.ask("poll", &GOOD).code, 0);
    desk.stage.simulator.reset_counters();
    desk
}

#[test]
fn a_damaged_database_is_named_and_left_as_it_is() {
    let desk = filled();
    let damaged = desk.write("state/state.sqlite", "not a database ".repeat(1_000));
    assert_snapshot!(desk.refused_by("poll", &GOOD), @r"
    error: the database state/state.sqlite is damaged: file is not a database
    help: restore the directory from a backup, or move it away and poll into a new one: the look-back is collected again and artifacts keep their ids
    ");
    assert_eq!(fs::read(damaged).unwrap(), "not a database ".repeat(1_000).as_bytes(), "nothing was changed");
}

#[test]
fn a_state_directory_that_is_a_file_is_named() {
    let desk = Desk::new();
    desk.write("state", "");
    assert_snapshot!(desk.refused_by("poll", &GOOD), @r"
    error: cannot create the state directory state: File exists (os error 17)
    help: give a directory that this user can write to
    ");
}

#[test]
fn a_database_of_something_else_is_named() {
    let desk = filled();
    // The application id of the database's header.
    set(&desk.path("state/state.sqlite"), 68, 0x0BAD_CAFE);
    assert_snapshot!(desk.refused_by("poll", &GOOD), @r"
    error: state/state.sqlite is a database, but not one of host-harness
    help: give an empty or new directory; nothing was changed in this one
    ");
}

#[test]
fn a_database_of_a_newer_program_is_named_and_left_as_it_is() {
    let desk = filled();
    let database = desk.path("state/state.sqlite");
    // The user version of the database's header.
    set(&database, 60, 99);
    let before = fs::read(&database).unwrap();
    assert_snapshot!(desk.refused_by("poll", &GOOD), @r"
    error: state/state.sqlite has schema version 99; this program knows versions up to 1
    help: use the newer host-harness that wrote it, or another directory; nothing was changed
    ");
    assert_eq!(fs::read(&database).unwrap(), before, "nothing was changed");
}

/// Writes a number into a database's header, where its log has been folded in.
fn set(database: &Path, at: usize, number: u32) {
    let mut bytes = fs::read(database).unwrap();
    assert_eq!(&bytes[..16], b"SQLite format 3\0");
    bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
    fs::write(database, bytes).unwrap();
}

#[test]
fn a_state_directory_in_use_is_refused_and_names_the_process() {
    let desk = filled();
    let held = host_harness::store::Store::open(&desk.path("state")).unwrap();
    let said = desk.refused_by("poll", &GOOD).replace(&std::process::id().to_string(), "PID");
    assert_snapshot!(said, @r"
    error: the state directory state is in use by process PID
    help: wait until the other process has ended, or give each process its own directory
    ");
    drop(held);
    assert_eq!(desk.ask("poll", &GOOD).code, 0, "as soon as it is free it goes on");
}

// ---- the component ----------------------------------------------------------------------------

/// What is said of a file that is to be the connector, by every command that loads one.
fn said_of(desk: &Desk, file: &str) -> String {
    let inspected = desk.run(&["inspect", file]);
    let checked = desk.run(&[&["check", "--connector", file][..], &GOOD].concat());
    let state = ["--instance", "acme", "--state", "state"];
    let polled = desk.run(&[&["poll", "--connector", file][..], &state, &GOOD].concat());
    for told in [&inspected, &checked, &polled] {
        assert_eq!((told.code, told.stdout.as_str()), (2, ""), "{}", told.stderr);
        assert_eq!(told.stderr, inspected.stderr);
    }
    assert_eq!(desk.stage.simulator.request_count(), 0);
    inspected.stderr
}

#[test]
fn a_connector_that_is_not_there_or_no_file_is_named() {
    let desk = Desk::new();
    assert_snapshot!(said_of(&desk, "missing.wasm"), @r"
    error: cannot read missing.wasm: No such file or directory (os error 2)
    help: name the .wasm file of a connector that this user can read
    ");
    fs::create_dir(desk.path("directory.wasm")).unwrap();
    assert_snapshot!(said_of(&desk, "directory.wasm"), @r"
    error: cannot read directory.wasm: it is a directory
    help: name the .wasm file of a connector that this user can read
    ");
    desk.write("empty.wasm", "");
    assert_snapshot!(said_of(&desk, "empty.wasm"), @r"
    error: empty.wasm: this is not WebAssembly: it does not begin with the bytes of a .wasm file
    help: name the .wasm file of a signal connector
    ");
}

#[test]
fn a_connector_cut_off_anywhere_is_corrupt() {
    let desk = Desk::new();
    let whole = fs::read(connector()).unwrap();
    for length in [9, 100, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
        desk.write("cut.wasm", &whole[..length]);
        let told = desk.run(&["inspect", "cut.wasm"]);
        assert_eq!((told.code, told.stdout.as_str()), (2, ""), "cut at {length}: {}", told.stderr);
        let (first, rest) = told.stderr.split_once('\n').unwrap();
        assert!(first.starts_with("error: cut.wasm: the component is corrupt: "), "cut at {length}: {first}");
        assert_eq!(rest, "help: copy or build the connector again, whole\n", "cut at {length}");
    }
}

#[test]
fn a_component_of_another_world_says_what_it_is() {
    let desk = Desk::new();
    let write = |name: &str, text: &str| desk.write(name, wat::parse_str(text).unwrap());
    write("command.wasm", r#"(component (instance $i) (export "wasi:cli/run@0.2.0" (instance $i)))"#);
    assert_snapshot!(said_of(&desk, "command.wasm"), @r"
    error: command.wasm: the component does not export witfoo:signal-connector/connector (0.1.x); it exports wasi:cli/run@0.2.0
    help: name the .wasm file of a signal connector
    ");
    write("sockets.wasm", r#"(component (import "wasi:sockets/tcp@0.2.0" (instance)))"#);
    let said = said_of(&desk, "sockets.wasm");
    assert!(
        said.starts_with(
            "error: sockets.wasm: the component imports wasi:sockets/tcp@0.2.0, which connectors do not get"
        )
    );
    assert!(said.ends_with("help: do not use this connector; report it to whoever maintains it\n"), "{said}");
    write(
        "later.wasm",
        r#"(component (instance $i) (export "witfoo:signal-connector/connector@0.2.0" (instance $i)))"#,
    );
    assert_snapshot!(said_of(&desk, "later.wasm"), @r"
    error: later.wasm: the component is made for witfoo:signal-connector/connector@0.2.0; this host accepts witfoo:signal-connector 0.1.x
    help: use a version of the connector that was built for this host, or a host of its time
    ");
    write("module.wasm", "(module)");
    assert_snapshot!(said_of(&desk, "module.wasm"), @r"
    error: module.wasm: this is a core WebAssembly module, not a component; build it for wasm32-wasip2, or wrap it with `wasm-tools component new`
    help: name the .wasm file of a signal connector
    ");
}

// ---- inspect and help ---------------------------------------------------------------------------

#[test]
fn inspect_shows_what_the_connector_is_needs_and_may_do() {
    let desk = Desk::new();
    let told = desk.run(&["inspect", "connector.wasm"]);
    assert_eq!((told.code, told.stderr.as_str()), (0, ""));
    // What changes with every build.
    let size = fs::metadata(connector()).unwrap().len();
    assert!(told.stdout.contains(&format!("{size} bytes")), "{}", told.stdout);
    let stable = |line: &str| match line.trim_start().split("  ").next() {
        Some("size") => "  size                    SIZE bytes".to_owned(),
        Some("SHA-256") => "  SHA-256                 DIGEST".to_owned(),
        _ => line.to_owned(),
    };
    let page: Vec<String> = told.stdout.lines().map(stable).collect();
    assert_snapshot!(page.join("\n"), @r"
    Rapid7 InsightIDR
      name                    signal-client.rapid7-insightidr
      version                 0.1.0
      category                SIEM
      vendor's documentation  https://docs.rapid7.com/insightidr/api-overview/
      signs in with           API Key
      polling interval        5 min, at least 1 min
      several instances       yes
      contract                0.1.0
      size                    SIZE bytes
      SHA-256                 DIGEST

    Streams
      investigations  Threat investigations with alerts and evidence
      alerts          Detection rule triggers and anomaly alerts
      evidence        Evidence and actors behind alerts, where the tenant has the Alert Triage API

    Settings
      region: one of us (US 1 (us.api.insight.rapid7.com)), us2 (US 2 (us2.api.insight.rapid7.com)), us3 (US 3 (us3.api.insight.rapid7.com)), eu (EU (eu.api.insight.rapid7.com)), ca (Canada (ca.api.insight.rapid7.com)), au (Australia (au.api.insight.rapid7.com)), ap (Japan (ap.api.insight.rapid7.com)); required
          Region. The region of your Insight Platform account. It stands in the address of the browser when you are logged into Rapid7.
      api_key: secret; required
          API Key. A User Key (or an Organization Key) from Platform Settings, API Keys.
      initial_lookback_days: whole number, 1 to 390; default 28
          Initial look-back (days). How far back the first collection starts. InsightIDR keeps investigations for 13 months.
      overlap_minutes: whole number, 1 to 1440; default 20
          Overlap (minutes). How long after its creation an investigation may first become visible and still be found. Every poll reads again what was created this long before the last one.
      collect_alerts: true or false; default true
          Collect alerts. Collect the alerts of every investigation.
      collect_evidence: true or false; default true
          Collect evidence. Add evidence and actors to alerts, where the tenant has the Alert Triage API. Needs Collect alerts.
      max_concurrent_requests: whole number, 1 to 32; default 8
          Concurrent requests. How many requests to InsightIDR may be under way at once.

    Secrets are added by the host, the connector never sees them
      api_key  in the header x-api-key

    Imports
      wasi:cli/environment@0.2.12
      wasi:cli/exit@0.2.12
      wasi:cli/stderr@0.2.12
      wasi:cli/stdin@0.2.12
      wasi:cli/stdout@0.2.12
      wasi:cli/terminal-input@0.2.12
      wasi:cli/terminal-output@0.2.12
      wasi:cli/terminal-stderr@0.2.12
      wasi:cli/terminal-stdin@0.2.12
      wasi:cli/terminal-stdout@0.2.12
      wasi:clocks/monotonic-clock@0.2.12
      wasi:clocks/wall-clock@0.2.12
      wasi:http/outgoing-handler@0.2.12
      wasi:http/types@0.2.12
      wasi:io/error@0.2.12
      wasi:io/poll@0.2.12
      wasi:io/streams@0.2.12
      wasi:random/insecure-seed@0.2.12
      witfoo:signal-connector/types@0.1.0

    Exports
      witfoo:signal-connector/connector@0.1.0
    ");
}

#[test]
fn inspect_gives_programs_the_same() {
    let desk = Desk::new();
    let told = desk.run(&["inspect", "connector.wasm", "--json"]);
    assert_eq!((told.code, told.stderr.as_str()), (0, ""));
    assert_eq!(told.stdout.lines().count(), 1, "one object on one line");
    let mut page: Value = serde_json::from_str(&told.stdout).unwrap();
    let keys: Vec<&String> = page.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "auth_method",
            "category",
            "contract_version",
            "credentials",
            "default_poll_minutes",
            "digest",
            "display_name",
            "exports",
            "imports",
            "minimum_poll_minutes",
            "multi_instance",
            "name",
            "settings",
            "size",
            "slug",
            "streams",
            "vendor_docs",
            "version",
        ]
    );
    let digest = page["digest"].as_str().unwrap();
    assert!(digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{digest}");
    assert!(desk.run(&["inspect", "connector.wasm"]).stdout.contains(digest));
    assert_eq!(page["size"].as_u64(), Some(fs::metadata(connector()).unwrap().len()));
    assert_eq!(page["slug"], "rapid7-insightidr");
    assert_eq!(page["credentials"], serde_json::json!([{"setting": "api_key", "header": "x-api-key"}]));
    let settings = page["settings"].as_array_mut().unwrap();
    // The choices and texts are those of the page.
    let brief: Vec<String> = settings
        .iter()
        .map(|one| {
            let choices = one["choices"].as_array().map_or(0, Vec::len);
            let range = [&one["minimum"], &one["maximum"]];
            format!("{} {} {} {} {range:?} {choices}", one["key"], one["kind"], one["required"], one["default"])
        })
        .collect();
    assert_snapshot!(brief.join("\n"), @r#"
    "region" "choice" true null [Null, Null] 7
    "api_key" "secret" true null [Null, Null] 0
    "initial_lookback_days" "integer" false 28 [Number(1), Number(390)] 0
    "overlap_minutes" "integer" false 20 [Number(1), Number(1440)] 0
    "collect_alerts" "boolean" false true [Null, Null] 0
    "collect_evidence" "boolean" false true [Null, Null] 0
    "max_concurrent_requests" "integer" false 8 [Number(1), Number(32)] 0
    "#);
}

#[test]
fn every_command_has_a_help_with_an_example_of_itself() {
    let desk = Desk::new();
    let overview = desk.run(&["--help"]);
    assert_eq!((overview.code, overview.stderr.as_str()), (0, ""));
    let (_, commands) = overview.stdout.split_once("Commands:\n").unwrap();
    let commands: Vec<&str> = commands
        .lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    for name in ["inspect", "check", "poll", "search", "simulate"] {
        assert!(commands.contains(&name), "{name} is not among {commands:?}");
    }
    for command in commands.into_iter().filter(|command| *command != "help") {
        let told = desk.run(&[command, "--help"]);
        assert_eq!((told.code, told.stderr.as_str()), (0, ""), "{command}");
        let (_, examples) = told.stdout.split_once("Examples:").unwrap_or_else(|| panic!("{command}: {}", told.stdout));
        assert!(examples.contains(&format!("host-harness {command}")), "{command}: {examples}");
    }
}
