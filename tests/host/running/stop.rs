//! SIGTERM and SIGINT while steps are in flight: the vendor holds its answers back until the test says so.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use host_harness::store::{Counts, Reader};
use insightidr_simulator::{Fault, FaultProfile, Rule, SimulatorConfig};

use crate::common::host::key;
use crate::common::process::{Host, PATIENCE};
use crate::running::site::{Site, alone, collected, insightidr};
use crate::running::upkeep::{TENANTS, Upkeep};

/// A host with two tenants who have collected something and whose next step is in flight.
fn in_the_middle() -> Upkeep {
    let mut upkeep = Upkeep::start();
    upkeep.install("v1");
    upkeep.until_served_by("1.0.0");
    upkeep.gate.close(TENANTS.len());
    // What was stored before is out, so that nothing but the steps is in flight.
    upkeep.host.until("everything is delivered", |host| {
        host.get("/metrics").1.lines().any(|line| line == "signal_client_outbox_depth 0").then_some(())
    });
    upkeep
}

/// What is in the store.
fn counts(site: &Site) -> Counts {
    Reader::open(&site.path("state")).unwrap().counts().unwrap()
}

#[test]
fn a_signal_in_the_middle_of_a_step_waits_for_it_stores_it_and_begins_no_other() {
    for signal in ["TERM", "INT"] {
        let Upkeep { site, vendor, mut host, gate } = in_the_middle();
        let before = (counts(&site).artifacts, vendor.requests().len());
        host.signal(signal);
        host.until("it says that it stops", |host| (host.get("/healthz").0 == 503).then_some(()));
        let status = host.status();
        assert_eq!(
            (&status["host"]["stopping"], &status["host"]["polls_running"]),
            (&true.into(), &TENANTS.len().into()),
            "the steps are waited for: {status:#}"
        );
        assert!(host.child.try_wait().unwrap().is_none());
        gate.open();
        let ended = host.end();
        assert_eq!(ended.code, 0, "{}", ended.log);
        assert!(ended.log.contains("stopping: polls at hand finish their step"), "{}", ended.log);
        assert!(ended.log.trim_end().ends_with("[INFO] host-harness: stopped"), "{}", ended.log);
        let after = (counts(&site).artifacts, vendor.requests().len());
        assert_eq!(
            after,
            (before.0 + TENANTS.len() as u64, before.1),
            "the steps at hand are stored, no other is begun"
        );
        assert_eq!(counts(&site).undelivered, 0);
        Upkeep::assert_each_once(&site, &["1.0.0"]);

        let host = site.start(&[]);
        goes_on(Upkeep { site, vendor, host, gate });
    }
}

/// A host that was started again polls both tenants and loses nothing.
fn goes_on(mut again: Upkeep) {
    again.until_served_by("1.0.0");
    again.until_both_go_on("1.0.0");
    again.end(&["1.0.0"]);
}

#[test]
fn a_reader_of_the_log_who_stands_still_keeps_the_host_neither_from_working_nor_from_ending() {
    let site = Site::new();
    site.configure("");
    let mut command = site.stage.command(&["run", "--config", "conductor.toml", "--log-to", "stdout"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut log = BufReader::new(child.stdout.take().unwrap());
    let address = loop {
        let mut line = String::new();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "it serves before it ends");
        if let Some((_, address)) = line.split_once("status, metrics and search at ") {
            break address.trim().to_owned();
        }
    };
    // More than a pipe holds and waits for a reader, in one edit. Nobody reads it.
    let text = std::fs::read_to_string(site.path("conductor.toml")).unwrap();
    let wrong: String = (0..12_000).map(|number| format!("[unknown_table_{number}]\n")).collect();
    std::fs::write(site.path("conductor.toml"), text + &wrong).unwrap();
    let ask = |target: &str| {
        let url = format!("{address}{target}");
        let curl = Command::new("curl").args(["-s", "--max-time", "20", &url]).output().unwrap();
        String::from_utf8_lossy(&curl.stdout).into_owned()
    };
    let began = Instant::now();
    let dropped = |metrics: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix("signal_client_log_lines_dropped_total "));
        line.is_some_and(|count| count != "0")
    };
    loop {
        let metrics = ask("/metrics");
        if metrics.contains("signal_client_config_problems 12000") && dropped(&metrics) {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "the edit is judged, lines are dropped, and the host answers: {metrics}");
        std::thread::sleep(Duration::from_millis(50));
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().unwrap().success());
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn pipes_in_the_place_of_files_are_refused_and_hold_nothing_up() {
    let mut site = Site::new();
    site.install_insightidr();
    site.set("extra_ca_files = [\"ca.pem\"]");
    site.configure(&insightidr("us"));
    let make_pipe = |name: &str| {
        let _ = std::fs::remove_file(site.path(name));
        assert!(Command::new("mkfifo").arg(site.path(name)).status().unwrap().success());
    };
    make_pipe("us.key");
    make_pipe("ca.pem");
    make_pipe("connectors/pipe.wasm");
    let refused_for = |host: &mut Host, file: &str| {
        host.until(&format!("{file} is refused"), |host| {
            let failed = host.instance("us")?["failure"]["message"].as_str()?.to_owned();
            (failed.contains(file) && failed.contains("it is a pipe and no file")).then_some(())
        });
    };
    let mut host = site.start(&[]);
    refused_for(&mut host, "us.key");
    site.secret("us.key", &key("us"));
    refused_for(&mut host, "ca.pem");
    let told = site.command(&["run", "--config", "conductor.toml", "--check"]);
    let refused = |file: &str| told.stderr.lines().any(|line| line.contains(file) && line.contains("it is a pipe"));
    assert!(told.code == 2 && refused("ca.pem") && refused("pipe.wasm"), "{told:?}");
    let text = std::fs::read_to_string(site.path("conductor.toml")).unwrap();
    std::fs::write(site.path("conductor.toml"), text.replace("extra_ca_files", "# extra_ca_files")).unwrap();
    host.until_state("us", "ok");
    make_pipe("conductor.toml");
    host.until("the configuration is refused", |host| {
        let status = host.status();
        (status["host"]["config"]["problems"][0]["code"] == "config-unreadable").then_some(())
    });
    assert_eq!(host.get("/healthz").0, 200);
    assert_eq!(host.stop("TERM").code, 0);
}

#[test]
fn a_hangup_polls_what_waits_because_something_went_wrong() {
    let site = Site::new();
    site.install_insightidr();
    site.configure(&insightidr("us"));
    let refused = Fault::Status { status: 401, body: None, headers: Default::default(), retry_after: None };
    site.stage.simulator.set_faults(FaultProfile::new([Rule::new("*", refused)]));
    let mut host = site.start(&[]);
    let failed = host.until_state("us", "failed");
    assert!(failed["back_off"]["seconds"].as_u64().unwrap() > 600, "{failed:#}");
    // At the vendor, where the host does not notice it.
    site.stage.simulator.set_faults(FaultProfile::default());
    host.signal("HUP");
    host.until_state("us", "ok");
    assert!(host.log().contains("SIGHUP: instances that are failed or degraded"), "{}", host.log());
    assert_eq!(host.stop("TERM").code, 0);
}

#[test]
fn a_second_signal_ends_it_at_once_with_nothing_of_the_step_and_the_next_start_goes_on() {
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let Upkeep { site, vendor, mut host, gate } = in_the_middle();
        let before = counts(&site).artifacts;
        host.signal(signal);
        host.until("it says that it stops", |host| (host.get("/healthz").0 == 503).then_some(()));
        host.signal(signal);
        let ended = host.end();
        assert_eq!(ended.code, code, "{}", ended.log);
        assert!(ended.log.contains("stopped at once"), "{}", ended.log);
        assert_eq!(counts(&site).artifacts, before, "the vendor has not answered yet");
        Upkeep::assert_each_once(&site, &["1.0.0"]);

        gate.open();
        let host = site.start(&[]);
        goes_on(Upkeep { site, vendor, host, gate });
    }
}

#[test]
fn a_collection_from_insightidr_that_is_stopped_in_a_step_is_complete_after_the_next_start() {
    let alone = alone();
    for (signals, code) in [(1, 0), (2, 143)] {
        let slow = SimulatorConfig { latency: Duration::from_millis(150), ..SimulatorConfig::default() };
        let site = Site::with(30, slow);
        site.install_insightidr();
        site.configure(&insightidr("us"));
        let mut host = site.start(&[]);
        // Beyond what the trial of the connector asks.
        host.until("a step of the poll is under way", |host| {
            let polls = host.instance("us").unwrap()["polling"] == true;
            (polls && site.stage.simulator.request_count() > 25).then_some(())
        });
        host.signal("TERM");
        host.until("it says that it stops", |host| (host.get("/healthz").0 == 503).then_some(()));
        for _ in 1..signals {
            host.signal("TERM");
        }
        let ended = host.end();
        assert_eq!(ended.code, code, "{}", ended.log);
        let first = collected(&site);
        if code == 0 {
            assert_eq!(counts(&site).artifacts, first.len() as u64, "what the step returned is stored and delivered");
        } else {
            assert_eq!(first, BTreeMap::new(), "nothing of a step that was not waited for");
        }

        let mut host = site.start(&[]);
        host.until_state("us", "ok");
        assert_eq!(host.stop("TERM").code, 0);
        assert_eq!(collected(&site).keys().collect::<Vec<_>>(), alone.keys().collect::<Vec<_>>());
        assert_eq!(counts(&site).artifacts, alone.len() as u64);
    }
}
