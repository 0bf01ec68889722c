//! The real component, in the real host, against the simulator over HTTP.

use std::time::Duration;

use crate::common::host::{Stage, key, text};
use insightidr_simulator::{
    AlertSpec, Fault, FaultProfile, InvestigationSpec, OrganizationConfig, RateLimit, Role, Rule, SimulatorConfig,
    World, WorldConfig,
};
use serde_json::Value;

fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(60 * minutes)
}

fn config(seed: u64, investigations: usize) -> WorldConfig {
    WorldConfig { seed, investigations, ..WorldConfig::default() }
}

#[test]
fn the_first_poll_collects_everything_and_the_second_nothing() {
    let stage = Stage::of(World::generate(&config(11, 230)));
    let start = stage.simulator.now();
    let first = stage.poll("us");
    first.assert_ok();
    assert_eq!(stage.missing("us", start), Vec::<String>::new());
    assert_eq!(first.new_artifacts(), first.artifacts.len() as u64);
    let investigations = first.json["streams"][0]["fetched"].as_u64().unwrap();
    let alerts = first.json["streams"][1]["fetched"].as_u64().unwrap();
    let fetched = first.json["streams"].as_array().unwrap().iter();
    let records: u64 =
        fetched.filter(|stream| stream["name"] != "evidence").map(|stream| stream["fetched"].as_u64().unwrap()).sum();
    assert!(investigations >= 230 && records == first.new_artifacts(), "{:#}", first.json);
    for line in [
        format!("[INFO] rapid7-insightidr: fetched {investigations} investigations"),
        format!("[INFO] rapid7-insightidr: fetched {alerts} alerts"),
    ] {
        assert!(first.log.lines().any(|logged| logged == line), "{line} is not in {}", first.log);
    }
    let second = stage.poll("us");
    second.assert_ok();
    assert_eq!((second.new_artifacts(), second.artifacts.len()), (0, 0));
    assert!(
        second.log.lines().any(|line| line == "[INFO] rapid7-insightidr: fetched 0 investigations"),
        "{}",
        second.log
    );
}

#[test]
fn new_and_late_rows_are_found_by_later_polls_and_nothing_comes_twice() {
    let stage = Stage::of(World::generate(&WorldConfig { growth_per_day: 400, ..config(12, 60) }));
    let start = stage.simulator.now();
    let mut new = 0;
    for _ in 0..8 {
        new += stage.poll("us").assert_ok().new_artifacts();
        stage.advance(minutes(10));
    }
    // One hour without growth lets the latest rows and alerts show.
    for _ in 0..2 {
        new += stage.poll("us").assert_ok().new_artifacts();
    }
    let truth = stage.simulator.truth();
    let collected = stage.collected("us");
    let seen = stage.simulator.now() - time::Duration::minutes(10);
    let late = truth.investigations.iter().filter(|one| one.visible_at - one.created > time::Duration::minutes(5));
    assert!(late.clone().any(|one| one.created > start && one.visible_at <= seen), "the world has late rows");
    for one in truth.investigations.iter().filter(|one| one.created > start && one.visible_at <= seen) {
        assert!(collected.contains(&one.rrn), "{one:#?}");
    }
    let ids: std::collections::BTreeSet<String> = stage.delivered("us").iter().map(|one| text(&one["id"])).collect();
    assert_eq!((ids.len(), ids.len() as u64), (stage.delivered("us").len(), new), "no id is delivered twice");
}

#[test]
fn more_than_a_page_of_alerts_in_one_investigation_is_collected_whole() {
    let mut world = World::empty_in("us");
    let start = world_start();
    world.set_start(start);
    let created = start - time::Duration::hours(5);
    let investigation = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    for second in 0..257 {
        let at = created + time::Duration::seconds(second);
        world.add_alert(Some(investigation), AlertSpec::new(at, at)).unwrap();
    }
    let stage = Stage::of(world);
    let report = stage.poll("us");
    report.assert_ok();
    assert_eq!(report.json["streams"][1]["fetched"], 257);
    assert_eq!(stage.missing("us", start), Vec::<String>::new());
}

fn world_start() -> time::OffsetDateTime {
    WorldConfig::default().start
}

/// A failure: how it is brought about, and what the operator sees.
struct Case {
    name: &'static str,
    rules: Vec<Rule>,
    reason: &'static str,
    status: Option<u64>,
    remedy: &'static str,
}

fn status(status: u16) -> Fault {
    Fault::Status { status, body: None, headers: Default::default(), retry_after: None }
}

#[test]
fn every_failure_says_what_to_do_and_the_next_good_poll_collects_everything() {
    let list = "/idr/v2/investigations";
    let alerts = "/idr/v2/investigations/*/alerts";
    let case = |name, rules, reason, status, remedy| Case { name, rules, reason, status, remedy };
    let cases = [
        case(
            "401",
            vec![Rule::new(list, status(401))],
            "unauthorized",
            Some(401),
            "Verify that the API Key is correct",
        ),
        case(
            "401 halfway",
            vec![Rule::new(list, status(401)).after(1)],
            "unauthorized",
            Some(401),
            "has not been revoked",
        ),
        case(
            "403",
            vec![Rule::new(list, status(403))],
            "forbidden",
            Some(403),
            "Platform Admin or at least read access",
        ),
        case("404", vec![Rule::new("*", status(404))], "not-found", Some(404), "Region matches your Insight Platform"),
        case("429", vec![Rule::new(list, status(429))], "rate-limited", Some(429), "Polling Interval to 15 minutes"),
        case("500", vec![Rule::new("*", status(500)).after(3)], "unavailable", Some(500), "tried again automatically"),
        case("reset", vec![Rule::new(list, Fault::ResetBeforeHead {})], "unavailable", None, "reachable on port 443"),
        case("html", vec![Rule::new(list, Fault::Html {})], "malformed-response", Some(200), "proxy or firewall"),
        case(
            "{}",
            vec![Rule::new(list, Fault::EmptyObject {}).after(1)],
            "malformed-response",
            Some(200),
            "asked for again",
        ),
        case(
            "cut",
            vec![Rule::new(list, Fault::Truncate { bytes: 900 })],
            "malformed-response",
            None,
            "asked for again",
        ),
        case("encoding", vec![Rule::new(list, Fault::WrongEncoding {})], "malformed-response", None, "asked for again"),
        case(
            "bomb",
            vec![Rule::new(list, Fault::GzipBomb { megabytes: 200 })],
            "malformed-response",
            None,
            "asked for again",
        ),
        case("alerts 403", vec![Rule::new(alerts, status(403))], "forbidden", Some(403), "may not read this endpoint"),
        case(
            "alerts {}",
            vec![Rule::new(alerts, Fault::EmptyObject {})],
            "malformed-response",
            Some(200),
            "asked for again",
        ),
    ];
    for case in cases {
        let stage = Stage::of(World::generate(&config(13, 130)));
        let start = stage.simulator.now();
        stage.simulator.set_faults(FaultProfile::new(case.rules));
        let bad = stage.poll("us");
        let failure = &bad.json["failure"];
        assert_eq!(bad.code, 1, "{}: {bad:#?}", case.name);
        assert_eq!(failure["code"], case.reason, "{}: {bad:#?}", case.name);
        assert_eq!(failure["http_status"].as_u64(), case.status, "{}: {bad:#?}", case.name);
        assert!(text(&failure["remedy"]).contains(case.remedy), "{}: {failure:#}", case.name);
        if let Some(status) = case.status {
            assert!(bad.log.contains(&status.to_string()), "{}: the log names the status: {}", case.name, bad.log);
        }
        assert!(!bad.log.contains(&key("us")), "{}", case.name);
        // What was stored stays, nothing else is taken for collected.
        stage.simulator.set_faults(FaultProfile::default());
        stage.advance(minutes(15));
        stage.poll("us");
        stage.advance(minutes(15));
        let good = stage.poll("us");
        good.assert_ok();
        assert_eq!(missing_at(&stage, start), Vec::<String>::new(), "{}", case.name);
        let ids: Vec<String> = stage.delivered("us").iter().map(|one| text(&one["id"])).collect();
        let unique: std::collections::BTreeSet<&String> = ids.iter().collect();
        assert_eq!(unique.len(), ids.len(), "{}: nothing is delivered twice", case.name);
    }
}

/// The one test that has to wait in real time: the patience that runs out is
/// that of the host's transport, which knows no other clock.
#[test]
fn a_vendor_that_does_not_answer_is_a_timeout_and_the_next_good_poll_collects_everything() {
    let stage = Stage::of(World::generate(&config(19, 20)));
    let start = stage.simulator.now();
    let stall = Fault::Stall { seconds: 60.0, after_head: false };
    stage.simulator.set_faults(FaultProfile::new([Rule::new("/idr/v2/investigations", stall)]));
    let bad = stage.poll("us");
    assert_eq!((bad.code, &bad.json["failure"]["code"]), (1, &Value::from("timeout")), "{bad:#?}");
    assert!(text(&bad.json["failure"]["remedy"]).contains("reachable on port 443"), "{bad:#?}");
    stage.simulator.set_faults(FaultProfile::default());
    stage.poll("us").assert_ok();
    assert_eq!(stage.missing("us", start), Vec::<String>::new());
}

/// What was there at the beginning and has not been delivered.
fn missing_at(stage: &Stage, start: time::OffsetDateTime) -> Vec<String> {
    let now = stage.simulator.now();
    stage.simulator.set_now(start);
    let missing = stage.missing("us", start);
    stage.simulator.set_now(now);
    missing
}

#[test]
fn a_wrong_region_and_a_key_without_access_are_told_by_the_check_and_the_poll() {
    let organizations = vec![OrganizationConfig::new("us", "A"), OrganizationConfig::new("eu", "B")];
    let stage = Stage::of(World::generate(&WorldConfig { organizations, ..config(14, 5) }));
    // The key of the European tenant in the American region.
    let connector = crate::common::host::connector();
    let route = format!("us.api.insight.rapid7.com={}", stage.url());
    let check = |secret: &str| {
        let arguments = ["check", "--connector", connector.to_str().unwrap(), "--set", "region=us", "--secret", secret];
        let output = stage.command(&arguments).args(["--route", &route, "--json"]).output().unwrap();
        (output.status.code().unwrap(), serde_json::from_slice::<Value>(&output.stdout).unwrap_or_default())
    };
    let (code, report) = check("api_key=env:KEY_EU");
    assert_eq!((code, &report["failure"]["code"]), (1, &Value::from("not-found")), "{report:#}");
    assert!(text(&report["failure"]["remedy"]).contains("Region"), "{report:#}");
    let (code, report) = check("api_key=env:KEY_US");
    assert_eq!(code, 0, "{report:#}");
    let mut no_access = insightidr_simulator::ApiKey::new("us", key("us"));
    no_access.role = Role::NoInsightIdr;
    let keys = vec![no_access];
    let stage = Stage::with(World::generate(&config(14, 5)), SimulatorConfig { keys, ..SimulatorConfig::default() });
    let report = stage.poll("us");
    assert_eq!((report.code, &report.json["failure"]["code"]), (1, &Value::from("forbidden")), "{report:#?}");
}

#[test]
fn a_tenant_without_the_triage_api_is_collected_and_told_so() {
    let stage = Stage::of(World::generate(&WorldConfig { triage: false, ..config(15, 40) }));
    let start = stage.simulator.now();
    let report = stage.poll("us");
    assert_eq!(report.code, 0, "{report:#?}");
    assert_eq!(report.json["streams"][2]["state"], "unavailable", "{report:#?}");
    assert!(report.log.contains("[WARN] rapid7-insightidr: evidence"), "{}", report.log);
    assert_eq!(stage.missing("us", start), Vec::<String>::new());
    let triage =
        |stage: &Stage| stage.simulator.requests().iter().filter(|one| one.path.starts_with("/idr/at")).count();
    assert_eq!(triage(&stage), 2, "one probe, and once more because it was refused");
    // Each process has a clock of its own, which begins at the simulator's time.
    stage.advance(Duration::from_secs(60));
    stage.poll("us");
    assert_eq!(triage(&stage), 2, "and none again within the hour");
}

#[test]
fn a_rate_limit_is_waited_for_within_the_poll() {
    let rate_limit = Some(RateLimit { requests: 40, window: Duration::from_secs(1) });
    let config_ = SimulatorConfig { rate_limit, ..SimulatorConfig::default() };
    let world = World::generate(&WorldConfig { triage: false, ..config(16, 90) });
    let stage = Stage::with(world, config_);
    let start = stage.simulator.now();
    // The simulator's clock stands still unless it is moved: here it must run.
    let mover = stage.simulator.clone();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = stop.clone();
    let moving = std::thread::spawn(move || {
        while !stopped.load(std::sync::atomic::Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20));
            mover.advance(time::Duration::milliseconds(20));
        }
    });
    let report = stage.poll("us");
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    moving.join().unwrap();
    report.assert_ok();
    assert_eq!(missing_at(&stage, start), Vec::<String>::new());
    assert!(report.json["steps"].as_u64().unwrap() > 1, "{report:#?}");
}

#[test]
fn files_that_may_not_grow_any_further_are_a_failure_and_not_the_end_of_the_process() {
    let stage = Stage::of(World::generate(&config(18, 200)));
    let arguments = stage.command(&[]);
    let clock = stage.simulator.now().format(&time::format_description::well_known::Rfc3339).unwrap();
    let route = format!("us.api.insight.rapid7.com={}", stage.url());
    let connector = crate::common::host::connector();
    let mut shell = std::process::Command::new("sh");
    // Of 512 bytes: less than the store needs.
    shell.args(["-c", "ulimit -f 300; exec \"$0\" \"$@\""]).arg(arguments.get_program());
    shell.current_dir(stage.dir.path()).env("KEY_US", key("us"));
    shell.args(["poll", "--connector", connector.to_str().unwrap(), "--instance", "us", "--state", "state"]);
    shell.args(["--cache", crate::common::host::CACHE, "--set", "region=us", "--secret", "api_key=env:KEY_US"]);
    shell.args(["--route", &route, "--clock", &clock]);
    let output = shell.output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains("error: the database state/state.sqlite failed"), "{told}");
    // With room again nothing is missing.
    let start = stage.simulator.now();
    stage.poll("us").assert_ok();
    assert_eq!(stage.missing("us", start), Vec::<String>::new());
}

#[test]
fn standard_output_that_is_closed_or_leads_nowhere_takes_nothing_as_delivered() {
    let stage = Stage::of(World::generate(&config(19, 20)));
    let clock = stage.simulator.now().format(&time::format_description::well_known::Rfc3339).unwrap();
    let route = format!("us.api.insight.rapid7.com={}", stage.url());
    let connector = crate::common::host::connector();
    for redirected in [">&-", ">/dev/null"] {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &format!("exec \"$0\" \"$@\" {redirected}")]).arg(stage.command(&[]).get_program());
        shell.current_dir(stage.dir.path()).env("KEY_US", key("us"));
        shell.args(["poll", "--connector", connector.to_str().unwrap(), "--instance", "us", "--state", "state"]);
        shell.args(["--cache", crate::common::host::CACHE, "--set", "region=us", "--secret", "api_key=env:KEY_US"]);
        shell.args(["--route", &route, "--clock", &clock, "--out", "-"]);
        let output = shell.output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{redirected}: {told}");
        let why = "cannot open standard output for the artifacts: it is closed, or leads to /dev/null";
        assert!(told.contains(why), "{redirected}: {told}");
    }
}

#[test]
fn one_that_has_brought_a_days_worth_asks_for_nothing_until_the_next() {
    let stage = Stage::of(World::generate(&config(18, 230)));
    let start = stage.simulator.now();
    let little = ["--most-megabytes-per-day", "1", "--budget-requests", "60"];
    let first = stage.poll_with("us", &little);
    assert_eq!((first.code, &first.json["failure"]["code"]), (1, &"daily-limit".into()), "{first:#?}");
    assert!(first.new_artifacts() > 100 && !stage.missing("us", start).is_empty());
    let asked = stage.simulator.request_count();
    let second = stage.poll_with("us", &little);
    assert!(second.code == 1 && second.log.contains("--most-megabytes-per-day"), "{second:#?}");
    assert_eq!(stage.simulator.request_count(), asked);
    // The next day it goes on, and with more nothing is missing.
    stage.advance(minutes(24 * 60));
    assert!(stage.poll_with("us", &little).new_artifacts() > 100);
    stage.poll("us");
    assert_eq!(stage.missing("us", start), Vec::<String>::new());
}

#[test]
fn what_a_poll_stored_and_could_not_deliver_comes_out_of_the_next_one() {
    let stage = Stage::of(World::generate(&config(17, 20)));
    let unwritable = stage.poll_with("us", &["--max-steps", "1"]);
    unwritable.assert_ok();
    // A poll without an output stores and leaves it for later.
    let connector = crate::common::host::connector();
    let clock = stage.simulator.now().format(&time::format_description::well_known::Rfc3339).unwrap();
    let route = format!("eu.api.insight.rapid7.com={}", stage.url());
    let arguments = ["poll", "--connector", connector.to_str().unwrap(), "--instance", "us", "--state", "state2"];
    let us = format!("us.api.insight.rapid7.com={}", stage.url());
    let more = ["--set", "region=us", "--secret", "api_key=env:KEY_US", "--route", &us, "--clock", &clock, "--json"];
    let output = stage.command(&arguments).args(more).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let stored = report["artifacts"]["new"].as_u64().unwrap();
    assert!(stored > 20 && report["artifacts"]["delivered"] == 0, "{report:#} {route}");
    let output = stage.command(&arguments).args(more).args(["--out", "late.jsonl"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["artifacts"]["new"], &report["artifacts"]["delivered"]),
        (&Value::from(0), &Value::from(stored))
    );
    let late = std::fs::read_to_string(stage.dir.path().join("late.jsonl")).unwrap();
    assert_eq!(late.lines().count() as u64, stored);
}

#[test]
fn a_search_finds_what_was_collected() {
    let stage = Stage::of(World::generate(&config(18, 30)));
    stage.poll("us").assert_ok();
    let search = |query: &str| {
        let output =
            stage.command(&["search", "--state", "state", "--json", "--limit", "1000", query]).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().count()
    };
    let rrn = stage.simulator.truth().investigations[0].rrn.clone();
    let short = rrn.rsplit(':').next().unwrap().to_owned();
    assert!(search(&short) >= 1);
    assert!(search("stream:rapid7_insightidr") >= 30);
    assert_eq!(search("no-such-word-anywhere"), 0);
}

#[test]
fn a_second_signal_ends_a_poll_whose_output_takes_no_data_and_nothing_is_lost() {
    use std::io::Read as _;
    use std::process::Command;

    let stage = Stage::of(World::generate(&config(20, 120)));
    let start = stage.simulator.now();
    let pipe = stage.dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let connector = crate::common::host::connector();
    let route = format!("us.api.insight.rapid7.com={}", stage.url());
    let clock = start.format(&time::format_description::well_known::Rfc3339).unwrap();
    let mut arguments =
        vec!["poll", "--connector", connector.to_str().unwrap(), "--instance", "us", "--state", "state"];
    arguments.extend(["--set", "region=us", "--secret", "api_key=env:KEY_US", "--route", &route, "--clock", &clock]);
    let mut poll = stage.command(&arguments).args(["--out", "pipe"]).spawn().unwrap();
    // One byte, and the poll is in the middle of writing more than a pipe holds.
    let mut reader = std::fs::File::open(&pipe).unwrap();
    reader.read_exact(&mut [0]).unwrap();
    for signal in ["INT", "TERM"] {
        assert!(Command::new("kill").args(["-s", signal, &poll.id().to_string()]).status().unwrap().success());
    }
    let code = poll.wait().unwrap().code();
    assert!(matches!(code, Some(130 | 143)), "{code:?}");
    drop(reader);
    stage.poll("us").assert_ok();
    assert_eq!(stage.missing("us", start), Vec::<String>::new());
}
