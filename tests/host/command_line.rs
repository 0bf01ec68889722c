//! The command line with the real connector: what it says, the exit code, and that a mistake asks nothing of the vendor.
//!
//! Mistakes that need no connector are tested with the host; files that are not what they should be in `broken_files`.

use std::fs;

use crate::common::desk::{Desk, GOOD, good};
use crate::common::host::connector;
use insta::assert_snapshot;
use serde_json::Value;

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
      look_back: there is no such setting; the settings are region, initial_lookback_days, overlap_minutes, collect_alerts, collect_evidence, collect_uninvestigated_alerts, collect_product_alerts, collect_comments, collect_restricted_evidence, max_concurrent_requests
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
    error: the file two-lines.key: the secret api_key holds a character that cannot stand in an HTTP header, at byte 16; only printable ASCII is allowed (was more copied than the secret?)
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

// ---- routes and clock ----------------------------------------------------------------

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
      contract                0.1.1
      size                    SIZE bytes
      SHA-256                 DIGEST

    Streams
      investigations         Threat investigations with alerts and evidence
      alerts                 Detection rule triggers and anomaly alerts
      evidence               Evidence and actors behind alerts, where the tenant has the Alert Triage API
      uninvestigated-alerts  Alerts outside investigations, where the tenant has the Alert Triage API
      product-alerts         Alerts of other Rapid7 products in investigations
      comments               Comments on investigations, if switched on
      restricted-evidence    Restricted evidence of investigations, if switched on and enabled by Rapid7

    Settings
      region: one of us (US 1 (us.api.insight.rapid7.com)), us2 (US 2 (us2.api.insight.rapid7.com)), us3 (US 3 (us3.api.insight.rapid7.com)), eu (EU (eu.api.insight.rapid7.com)), ca (Canada (ca.api.insight.rapid7.com)), au (Australia (au.api.insight.rapid7.com)), ap (Japan (ap.api.insight.rapid7.com)); required
          Region. The region of your Insight Platform account. It stands in the address of the browser when you are logged into Rapid7.
      api_key: secret; required
          API Key. A User Key (or an Organization Key) from Platform Settings, API Keys.
      initial_lookback_days: whole number, 1 to 390; default 28
          Initial look-back (days). How far back the first collection starts. InsightIDR keeps investigations for 13 months.
      overlap_minutes: whole number, 1 to 1440; default 20
          Overlap (minutes). How long after its creation an investigation may first become visible and still be found. Every poll reads again what was created this long before the last one. Alerts without evidence, and alerts outside investigations, come this much later.
      collect_alerts: true or false; default true
          Collect alerts. Collect the alerts of every investigation.
      collect_evidence: true or false; default true
          Collect evidence. Add evidence and actors to alerts, where the tenant has the Alert Triage API. Without it alerts of investigations also lack MITRE techniques, their own priority and tags, and the time they happened. Needs Collect alerts.
      collect_uninvestigated_alerts: true or false; default true
          Collect alerts outside investigations. Collect the alerts that belong to no investigation, where the tenant has the Alert Triage API. Needs Collect alerts.
      collect_product_alerts: true or false; default true
          Collect alerts of other Rapid7 products. Collect what Threat Command and the Insight Agent have alerted on in every investigation. Needs one more request for each investigation that is new or changed.
      collect_comments: true or false; default false
          Collect comments. Collect what people write about investigations. Comments can hold personal data and secrets.
      collect_restricted_evidence: true or false; default false
          Collect restricted evidence. Collect evidence from the endpoint that Rapid7's support enables for an organization.
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
      witfoo:signal-connector/types@0.1.1

    Exports
      witfoo:signal-connector/connector@0.1.1
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
    "collect_uninvestigated_alerts" "boolean" false true [Null, Null] 0
    "collect_product_alerts" "boolean" false true [Null, Null] 0
    "collect_comments" "boolean" false false [Null, Null] 0
    "collect_restricted_evidence" "boolean" false false [Null, Null] 0
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

#[test]
fn a_route_that_would_never_be_taken_is_refused_before_anything_is_sent() {
    let told = Desk::new().refused(&good(&["--route", "eu.api.insight.rapid7.com=http://127.0.0.1:9"]));
    assert_snapshot!(told, @r"
    [WARN] rapid7-insightidr: a route sends what is meant for us.api.insight.rapid7.com to SIMULATOR
    error: --route is for eu.api.insight.rapid7.com, but with these settings the connector only reaches us.api.insight.rapid7.com
    help: route us.api.insight.rapid7.com, or correct the settings
    ");
}
