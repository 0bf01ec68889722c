//! The example connector through the host: the host knows nothing of any one vendor, and a component that was built long
//! ago still runs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::common::audit::{AuditService, SMALL_BUDGET, TOKEN, Trouble};
use crate::common::host::{guest, host_harness};
use host_harness::connectors::{Connector, Tenant};
use host_harness::contract::types::{RetryAdvice, Setting, SettingValue, StreamState};
use host_harness::instances::courier::Courier;
use host_harness::instances::cycle::{CycleOptions, Run, Surroundings};
use host_harness::instances::report::Cycle;
use host_harness::sandbox::{Engine, EngineOptions, StepError};
use host_harness::sinks::LinesSink;
use host_harness::store::Store;
use serde_json::Value;
use time::OffsetDateTime;

/// The component as it is built now, and as it was built for the first contract.
fn components() -> [PathBuf; 2] {
    [guest("audit_log"), Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/audit-log-0.1.0.wasm")]
}

async fn load(path: &Path) -> Connector {
    let engine = Engine::new(EngineOptions { max_instances: 4, ..EngineOptions::default() }).unwrap();
    Connector::load(&engine, path, None).await.unwrap()
}

/// A store and an output.
struct Place {
    dir: tempfile::TempDir,
    store: Store,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("state")).unwrap();
        Self { dir, store }
    }

    /// A cycle of small steps.
    async fn cycle(&self, tenant: &Tenant) -> Cycle {
        let now = || OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let instance = self.store.instance(tenant.name(), tenant.connector().slug(), now()).unwrap();
        let sink = LinesSink::open(&self.out()).unwrap();
        let courier = Courier::start(self.store.clone(), instance.clone(), sink);
        let options = CycleOptions {
            budget: SMALL_BUDGET,
            most_steps: 100,
            longest_turn: Duration::MAX,
            longest_wait: Duration::ZERO,
            most_waiting: Duration::ZERO,
            defer_waits: false,
        };
        let run = Run {
            collector: tenant,
            store: &self.store,
            instance: &instance,
            streams: &tenant.connector().descriptor().streams,
            options: &options,
            surroundings: Surroundings {
                now: &now,
                sleep: &|wait| Box::pin(tokio::time::sleep(wait)),
                progress: &|_| courier.ring(),
                stopping: &|| false,
            },
        };
        let mut cycle = run.cycle(std::future::pending()).await;
        cycle.delivered = Some(courier.finish(std::future::pending()).await);
        cycle
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out.jsonl")
    }

    /// The ids that were delivered, in order.
    fn delivered(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.out()).unwrap_or_default();
        let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
        text.lines().map(id).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connector_of_another_vendor_is_checked_and_polled_exactly_once_across_steps() {
    for (path, contract) in components().into_iter().zip(["0.1.1", "0.1.0"]) {
        let connector = load(&path).await;
        assert_eq!((connector.slug(), connector.contract_version()), ("audit-log", contract), "{}", path.display());
        let service = AuditService::with(930);
        let tenant = service.tenant(&connector, "acme").await;
        assert_eq!(tenant.plan().egress.origin.host, "acme.audit.example");
        let (report, usage) = tenant.check().await;
        assert_eq!(report.unwrap().summary, "The token belongs to the account acme.");
        assert_eq!(usage.requests, 1);

        let place = Place::new();
        let first = place.cycle(&tenant).await;
        assert!(first.failure.is_none() && first.steps >= 5, "{first:?}");
        assert_eq!((first.new, first.repeated), (930, 0));
        assert_eq!(place.delivered(), service.ids());
        let idle = place.cycle(&tenant).await;
        assert_eq!((idle.new, idle.repeated, idle.steps), (0, 0, 1));
        service.add(7);
        assert_eq!(place.cycle(&tenant).await.new, 7);
        assert_eq!(place.delivered(), service.ids());
        for request in service.vendor.requests() {
            assert_eq!(request.headers("x-audit-token"), [TOKEN]);
            assert_eq!(request.headers("host"), ["acme.audit.example"]);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_the_service_answers_at_any_request_nothing_is_lost_and_nothing_comes_twice() {
    let connector = load(&guest("audit_log")).await;
    let troubles = [
        (Trouble::Status(401), "unauthorized"),
        (Trouble::Status(403), "forbidden"),
        (Trouble::Status(404), "not-found"),
        (Trouble::Status(429), "rate-limited"),
        (Trouble::Status(503), "unavailable"),
        (Trouble::CutShort, "malformed-response"),
        (Trouble::Empty, "malformed-response"),
        (Trouble::Html, "malformed-response"),
        (Trouble::SameCursor, "malformed-response"),
    ];
    for (trouble, code) in troubles {
        // The pages of 350 events are asked for with 4 requests and one more that finds the end.
        for after in 0..4 {
            let service = AuditService::with(350);
            let tenant = service.tenant(&connector, "acme").await;
            let place = Place::new();
            service.plan(after, trouble);
            let broken = place.cycle(&tenant).await;
            let failure = broken.first_failure().unwrap_or_else(|| panic!("{trouble:?} at {after} was not seen"));
            assert_eq!(failure.code, code, "{trouble:?} at {after}: {failure:?}");
            assert!(!failure.remedy.is_empty());
            let mended = place.cycle(&tenant).await;
            assert!(mended.first_failure().is_none(), "{mended:?}");
            assert_eq!(mended.repeated + broken.repeated, 0, "{trouble:?} at {after}");
            assert_eq!(place.delivered(), service.ids(), "{trouble:?} at {after}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_and_checkpoints_that_make_no_sense_are_failures_that_say_so() {
    let connector = load(&guest("audit_log")).await;
    let service = AuditService::with(3);
    for site in ["", "Acme", "acme.evil", "-acme", "acme/x", "acme:1", &"a".repeat(64)] {
        let mut options = service.options("acme");
        options.settings[0].value = SettingValue::Text(site.to_owned());
        let error = connector.tenant(options).await.unwrap_err();
        assert_eq!(error.code(), "invalid-settings", "{site}: {error}");
    }
    let mut options = service.options("acme");
    options.settings.push(Setting { key: "bogus".to_owned(), value: SettingValue::Text("1".to_owned()) });
    let error = connector.tenant(options).await.unwrap_err();
    assert!(error.code() == "invalid-settings" && error.to_string().contains("bogus"), "{error}");
    let tenant = service.tenant(&connector, "acme").await;
    for bytes in ["", "{}", "garbage", "{\"version\":4,\"after\":null}"] {
        let (result, usage) = tenant.poll(Some(bytes.as_bytes().to_vec()), SMALL_BUDGET).await;
        assert_eq!(result.unwrap_err().code(), "checkpoint-unreadable", "{bytes}");
        assert_eq!(usage.requests, 0, "{bytes}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_of_the_version_before_is_gone_on_from_and_a_cursor_that_expired_repeats_nothing() {
    let [now, before] = components();
    let (now, before) = (load(&now).await, load(&before).await);
    let service = AuditService::with(350);
    let place = Place::new();
    assert_eq!(place.cycle(&service.tenant(&before, "acme").await).await.new, 350);
    let tenant = service.tenant(&now, "acme").await;
    service.add(10);
    let cycle = place.cycle(&tenant).await;
    assert_eq!((cycle.new, cycle.repeated), (10, 0), "{cycle:?}");
    service.add(10);
    service.plan(0, Trouble::Status(410));
    let cycle = place.cycle(&tenant).await;
    assert!(cycle.first_failure().is_none() && cycle.new == 10 && cycle.repeated == 360, "{cycle:?}");
    assert!(service.vendor.requests().iter().any(|request| request.parameter("since") == Some("2026-01-02T03:04:05Z")));
    assert_eq!(place.delivered(), service.ids());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_that_is_asked_for_after_some_progress_is_no_failure_of_the_stream() {
    let connector = load(&guest("audit_log")).await;
    let service = AuditService::with(350);
    let tenant = service.tenant(&connector, "acme").await;
    service.plan(1, Trouble::Status(429));
    let batch = tenant.poll(None, SMALL_BUDGET).await.0.unwrap();
    assert_eq!((batch.artifacts.len(), batch.more, batch.retry_after_seconds), (100, true, Some(7)));
    assert!(matches!(batch.reports[0].state, StreamState::Ok), "{:?}", batch.reports);
    service.plan(0, Trouble::Status(503));
    let StepError::Failure(failure) = tenant.poll(Some(batch.checkpoint), SMALL_BUDGET).await.0.unwrap_err() else {
        panic!("no failure of the connector's own")
    };
    assert_eq!((failure.retry, failure.correlation_id.as_deref()), (RetryAdvice::AfterSeconds(7), Some("r-1")));
}

#[test]
fn the_commands_work_with_a_connector_of_another_vendor() {
    let service = AuditService::with(12);
    let dir = tempfile::tempdir().unwrap();
    let component = guest("audit_log");
    let component = component.to_str().unwrap();
    let route = service.vendor.route("acme.audit.example");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(host_harness());
        let output = command.current_dir(dir.path()).env("AUDIT_TOKEN", TOKEN).args(arguments).output().unwrap();
        let (out, log) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {out}{log}");
        (out, log)
    };
    let (out, _) = run(&["inspect", component]);
    assert!(out.contains("Audit Log") && out.contains("x-audit-token"), "{out}");
    let tenant =
        ["--connector", component, "--set", "site=acme", "--secret", "token=env:AUDIT_TOKEN", "--route", &route];
    let (out, log) = run(&[&["check"], tenant.as_slice()].concat());
    assert!(format!("{out}{log}").contains("belongs to the account acme"), "{out}{log}");
    let poll = ["poll", "--instance", "acme", "--state", "state", "--out", "out.jsonl"];
    let (_, log) = run(&[poll.as_slice(), tenant.as_slice()].concat());
    assert!(log.lines().any(|line| line.starts_with("[INFO] audit-log: fetched 12 audit events")), "{log}");
    let (found, _) = run(&["search", "--state", "state", "--json", "stream:events user:user3"]);
    assert_eq!(found.lines().count(), 2, "{found}");
    let mut command = Command::new(host_harness());
    command.current_dir(dir.path()).env("AUDIT_TOKEN", TOKEN).arg("check").args(tenant).args(["--set", "bogus=1"]);
    let output = command.output().unwrap();
    let told = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.code() == Some(2) && told.contains("bogus"), "{:?}: {told}", output.status);
}

#[test]
fn a_host_that_knows_another_vendor_does_not_name_rapid7() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("host-harness/src");
    let mut unseen = vec![sources];
    let mut named = BTreeSet::new();
    while let Some(path) = unseen.pop() {
        if path.is_dir() {
            unseen.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            let text = std::fs::read_to_string(&path).unwrap();
            // Words in comments, examples of help texts and tests are no knowledge; code that decides by them would be.
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            let decides = |line: &&str| {
                let line = line.trim_start();
                !line.starts_with("//") && (line.contains("== \"rapid7") || line.contains("insight.rapid7.com\" =>"))
            };
            if code.lines().any(|line| decides(&line)) {
                named.insert(path);
            }
        }
    }
    assert_eq!(named, BTreeSet::new());
}
