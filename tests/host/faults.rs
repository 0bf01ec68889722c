//! What goes wrong, what the operator sees of it, and what becomes of the data.
//!
//! Each row of the table is a fault of the vendor's (or of something that answers in its place), met by the real component
//! in the real host: the status of the instance with its log lines, what happened to the checkpoint, and what the next
//! cycle does when the fault has passed. The table is a snapshot that people read; what must hold for every row (nothing
//! lost, nothing twice, status ok again) is asserted besides. Waits that the vendor asks for pass in virtual time.

use futures::stream::{self, StreamExt};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::host::{connector, key};
use host_harness::connectors::{Connector, Tenant, TenantOptions};
use host_harness::contract::types::{Budget, Setting, SettingValue};
use host_harness::egress::{NetworkOptions, Routes, Secrets};
use host_harness::instances::cycle::{CycleOptions, Run, Surroundings};
use host_harness::instances::report::Cycle;
use host_harness::log::{Format, Lines};
use host_harness::sandbox::{Clock, Engine, EngineOptions, Limits};
use host_harness::store::{Instance, Store};
use insightidr_simulator::{
    AlertSpec, ApiKey, ClockMode, Fault, FaultProfile, InvestigationSpec, Rule, Server, Simulator, SimulatorConfig,
    World, WorldConfig,
};
use rapid7_insightidr::collect::access::Access;
use rapid7_insightidr::collect::checkpoint::{Checkpoint, Owed};
use time::OffsetDateTime;

/// A row: its name and the rules of its faults.
type Row = (&'static str, Vec<Rule>);

/// The list of investigations.
const LIST: &str = "/idr/v2/investigations";
/// The alerts of an investigation.
const ALERTS: &str = "/idr/v2/investigations/*/alerts";

fn status(status: u16) -> Fault {
    Fault::Status { status, body: None, headers: BTreeMap::new(), retry_after: None }
}

/// A refusal that says when to come back.
fn later(status: u16, after: &str) -> Fault {
    Fault::Status { status, body: None, headers: BTreeMap::new(), retry_after: Some(after.into()) }
}

fn on(path: &str, fault: Fault) -> Vec<Rule> {
    vec![Rule::new(path, fault)]
}

/// Faults of answers.
fn rows() -> Vec<Row> {
    vec![
        ("200 with a page of HTML instead of the list", on(LIST, Fault::Html {})),
        ("200 with {} instead of the list", on(LIST, Fault::EmptyObject {})),
        ("200 with JSON that stops in the middle", on(LIST, Fault::TruncateJson { bytes: None })),
        ("200 with fewer bytes than announced", on(LIST, Fault::Truncate { bytes: 200 })),
        (
            "200 with {} instead of the alerts of three investigations",
            vec![Rule::new(ALERTS, Fault::EmptyObject {}).times(3)],
        ),
        ("200 with region_failures from the Alert Triage API", on("/idr/at/*", Fault::RegionFailures {})),
        ("rows that the totals promise are missing", on(LIST, Fault::MissingRows { rows: 3 })),
        ("pages without end", on(LIST, Fault::EndlessPages {})),
        ("text that is not UTF-8", on(LIST, Fault::InvalidUtf8 {})),
        ("JSON 10,000 levels deep in a row", vec![Rule::new(LIST, Fault::DeepJson { depth: 10_000 }).times(1)]),
        ("401 from the beginning", on("*", status(401))),
        ("401 halfway through a sweep", vec![Rule::new("*", status(401)).after(6)]),
        ("403 for everything", on("/idr/*", status(403))),
        ("403 for the Alert Triage API alone", on("/idr/at/*", status(403))),
        ("403 for the alerts of investigations alone", on(ALERTS, status(403))),
        ("404 everywhere", on("*", status(404))),
        ("404 for product alerts alone", on("/idr/v2/investigations/*/rapid7-product-alerts", status(404))),
        ("429 again and again, to come back in 7 seconds", on("*", later(429, "7"))),
        ("429 again and again, without a word on when to come back", on("*", status(429))),
        (
            "429 three times in the middle, to come back in 7 seconds",
            vec![Rule::new("*", later(429, "7")).after(6).times(3)],
        ),
        ("429 that asks for a pause of two hours", on("*", later(429, "7200"))),
        ("500 for everything", on("*", status(500))),
        ("503 for the alerts of four investigations", vec![Rule::new(ALERTS, status(503)).times(4)]),
        ("a reset before every answer", on("*", Fault::ResetBeforeHead {})),
        ("a reset in the middle of every answer", on(LIST, Fault::ResetAfterHead {})),
        ("content that is not encoded as it says", on(LIST, Fault::WrongEncoding {})),
        ("a gzip bomb of 512 MB", on(LIST, Fault::GzipBomb { megabytes: 512 })),
        ("a body of 40 MB", on(LIST, Fault::BigBody { megabytes: 40 })),
        (
            "a redirect to elsewhere",
            on(LIST, Fault::Redirect { location: "https://elsewhere.example/".into(), status: 302 }),
        ),
    ]
}

/// Faults that the host's patience ends.
fn slow_rows() -> Vec<Row> {
    let stall = |after_head| vec![Rule::new(LIST, Fault::Stall { seconds: 3_600.0, after_head })];
    vec![("an answer that never begins", stall(false)), ("an answer that stops halfway and stays open", stall(true))]
}

// ---- the stage -----------------------------------------------------------------------------

/// What there is at first, and eight investigations that come in the hour after that.
fn world() -> World {
    let mut world = World::generate(&WorldConfig {
        seed: 3,
        investigations: 8,
        old_investigations: 1,
        growth_per_day: 0,
        standalone_alerts: 3,
        horizon_days: 1,
        ..WorldConfig::default()
    });
    for number in 1..=8 {
        let created = WorldConfig::default().start + time::Duration::minutes(5 * number);
        let mut spec = InvestigationSpec::new(created, created);
        spec.rrn = Some(format!("rrn:investigation:us:example:investigation:{number:012}"));
        let investigation = world.add_investigation(spec).unwrap();
        world.add_alert(Some(investigation), AlertSpec::new(created, created)).unwrap();
    }
    world
}

/// A host with one instance, and the vendor.
struct Stage {
    simulator: Simulator,
    server: Server,
    clock: Clock,
    tenant: Tenant,
    connector: Connector,
    store: Store,
    instance: Instance,
    /// Milliseconds of a step.
    wall_time: u64,
    _dir: tempfile::TempDir,
}

impl Stage {
    async fn of(connector: &Connector) -> Self {
        Self::with(connector, Clock::virtual_at, 60_000).await
    }

    async fn with(connector: &Connector, clock: fn(OffsetDateTime) -> Clock, wall_time: u64) -> Self {
        let keys = vec![ApiKey::new("us", key("us"))];
        let simulator =
            Simulator::new(world(), SimulatorConfig { keys, clock: ClockMode::Frozen, ..SimulatorConfig::default() });
        let server = Server::start(simulator.clone()).await.unwrap();
        let clock = clock(simulator.now());
        let mut secrets = Secrets::new();
        secrets.insert("api_key", key("us").into()).unwrap();
        let tenant = connector
            .tenant(TenantOptions {
                name: "acme".to_owned(),
                settings: vec![
                    Setting { key: "region".to_owned(), value: SettingValue::Text("us".to_owned()) },
                    // One after the other, so that each run meets a fault at the same request.
                    Setting { key: "max_concurrent_requests".to_owned(), value: SettingValue::Integer(1) },
                ],
                secrets,
                routes: Routes::parse([format!("us.api.insight.rapid7.com={}", server.url())]).unwrap(),
                clock: clock.clone(),
                network: NetworkOptions::default(),
            })
            .await
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let instance = store.instance("acme", &connector.descriptor().name, simulator.now()).unwrap();
        Self { simulator, server, clock, tenant, connector: connector.clone(), store, instance, wall_time, _dir: dir }
    }

    fn advance(&self, by: Duration) {
        self.simulator.advance(by.try_into().unwrap());
        self.clock.advance(by);
    }

    async fn cycle(&self) -> Cycle {
        let options = CycleOptions {
            budget: Budget {
                requests: 500,
                artifacts: 5_000,
                artifact_bytes: 16 << 20,
                wall_time_milliseconds: self.wall_time,
            },
            most_steps: 200,
            longest_turn: Duration::MAX,
            longest_wait: Duration::from_secs(60),
            most_waiting: Duration::from_secs(300),
            defer_waits: false,
        };
        let (simulator, clock) = (self.simulator.clone(), self.clock.clone());
        Run {
            collector: &self.tenant,
            store: &self.store,
            instance: &self.instance,
            streams: &self.connector.descriptor().streams,
            options: &options,
            surroundings: Surroundings {
                now: &|| self.simulator.now(),
                sleep: &move |wait| {
                    simulator.advance(wait.try_into().unwrap());
                    clock.advance(wait);
                    Box::pin(std::future::ready(()))
                },
                progress: &|_| {},
                stopping: &|| false,
            },
        }
        .cycle(std::future::pending())
        .await
    }

    fn checkpoint(&self) -> Checkpoint {
        Checkpoint::decode(self.store.checkpoint(&self.instance).unwrap().unwrap()).unwrap()
    }

    /// Alerts and investigations that could be seen at an instant and are not in the store.
    fn missing(&self, at: OffsetDateTime) -> Vec<String> {
        let truth = self.simulator.truth();
        let start = WorldConfig::default().start;
        let is_wanted = |one: &&insightidr_simulator::TruthInvestigation| {
            one.visible_at <= at && one.created > start - time::Duration::days(28)
        };
        let investigations: Vec<&str> =
            truth.investigations.iter().filter(is_wanted).map(|one| one.rrn.as_str()).collect();
        let alerts = truth.alerts.iter().filter(|alert| alert.visible_at <= at);
        let alerts =
            alerts.filter(|alert| alert.investigation.as_deref().is_some_and(|rrn| investigations.contains(&rrn)));
        let names = investigations.iter().copied().chain(alerts.map(|alert| alert.id.as_str()));
        let stored: Vec<String> = self
            .store
            .undelivered(&self.instance, 100_000)
            .unwrap()
            .into_iter()
            .map(|one| {
                serde_json::from_str::<serde_json::Value>(&one.json).unwrap()["sourceInfo"].as_str().unwrap().to_owned()
            })
            .collect();
        names.filter(|name| !stored.iter().any(|stored| stored == name)).map(str::to_owned).collect()
    }
}

// ---- what is told of a row -----------------------------------------------------------------

/// Where log lines go.
#[derive(Clone, Default)]
struct Paper(Arc<Mutex<Vec<u8>>>);

impl io::Write for Paper {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The log lines of a cycle, without the last one, which has times.
fn log(cycle: &Cycle) -> String {
    let paper = Paper::default();
    let writer = paper.clone();
    let subscriber = tracing_subscriber::fmt()
        .event_format(Lines { format: Format::Text, timestamps: false, colour: false })
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, || cycle.log("rapid7-insightidr", "acme", |_| false));
    let text = String::from_utf8(paper.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let summary = lines.last().unwrap();
    assert!(summary.starts_with("[INFO] rapid7-insightidr: instance \"acme\""), "{summary}");
    lines[..lines.len() - 1].iter().map(|line| format!("  {line}\n")).collect()
}

/// What changed in the checkpoint, in words.
fn change(before: &Checkpoint, after: &Checkpoint) -> String {
    if before == after {
        return "as it was".to_owned();
    }
    let moved = |is: bool| if is { "moved on" } else { "stayed" };
    let owed = after.known.iter().filter(|(_, known)| matches!(known.owed, Owed::Failed(..) | Owed::Page(_))).count();
    let triage = match after.triage {
        Access::Unknown | Access::Doubtful(_) => "to be asked for",
        Access::Available => "there",
        Access::Unavailable(..) => "not there",
    };
    let mut text = format!(
        "the watermark {}, {} more investigations known",
        moved(after.watermark > before.watermark),
        after.known.len() - before.known.len()
    );
    if owed > 0 {
        write!(text, ", {owed} to be gone back to").unwrap();
    }
    if after.triage != Access::Available {
        write!(text, ", the Alert Triage API is {triage}").unwrap();
    }
    text
}

/// One row, from a sound cycle through the fault to the cycles after it.
async fn told(connector: &Connector, (name, rules): Row) -> String {
    let stage = Stage::of(connector).await;
    let first = stage.cycle().await;
    assert_eq!(first.status().as_str(), "ok", "{name}: {first:#?}");
    let before = stage.checkpoint();
    stage.advance(Duration::from_secs(3_600));
    stage.simulator.set_faults(FaultProfile::new(rules));
    let during = stage.simulator.now();
    let cycle = stage.cycle().await;
    let met = stage.simulator.requests().iter().filter(|request| request.fault.is_some()).count();
    assert!(met > 0, "{name}: the fault was never met");
    let after = stage.checkpoint();
    let mut text = format!("## {name}\n");
    writeln!(text, "status: {}", cycle.status().as_str()).unwrap();
    if let Some(failure) = cycle.first_failure() {
        let http = failure.http_status.map(|status| format!(", HTTP {status}")).unwrap_or_default();
        writeln!(text, "code: {}{http}", failure.code).unwrap();
    }
    write!(text, "log:\n{}", log(&cycle)).unwrap();
    writeln!(text, "checkpoint: {}", change(&before, &after)).unwrap();

    stage.simulator.set_faults(FaultProfile::default());
    stage.advance(Duration::from_secs(30 * 60));
    let next = stage.cycle().await;
    writeln!(text, "next cycle: {}, {}", next.status().as_str(), lost(&stage.missing(during))).unwrap();
    // What was put off is done within hours; what was believed to be missing is asked for again after a day.
    for hours in [1, 7, 25] {
        stage.advance(Duration::from_secs(hours * 3_600));
        stage.cycle().await;
    }
    let last = stage.cycle().await;
    assert_eq!(last.status().as_str(), "ok", "{name}: {last:#?}");
    assert_eq!((last.new, last.repeated), (0, 0), "{name}: {last:#?}");
    assert!(
        last.streams.iter().all(|stream| matches!(stream.state, host_harness::instances::report::State::Ok)),
        "{name}: {last:#?}"
    );
    assert_eq!(stage.missing(stage.simulator.now()), Vec::<String>::new(), "{name}");
    let address = stage.server.url();
    text.replace(address.trim_start_matches("http://"), "SIMULATOR")
}

fn lost(missing: &[String]) -> String {
    match missing.len() {
        0 => "everything is there".to_owned(),
        count => format!("{count} records are still to come"),
    }
}

/// All rows, some at a time.
async fn table(engine: EngineOptions, rows: Vec<Row>) -> String {
    let engine = Engine::new(engine).unwrap();
    let connector = Connector::load(&engine, &connector(), None).await.unwrap();
    let told = rows.into_iter().map(|row| told(&connector, row));
    let told: Vec<String> = stream::iter(told).buffered(4).collect().await;
    told.join("\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_is_told_to_the_operator_and_loses_nothing() {
    insta::assert_snapshot!(table(EngineOptions::default(), rows()).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vendor_that_does_not_answer_is_not_waited_for_for_ever() {
    let patience = Duration::from_secs(2);
    let limits = Limits { first_byte_timeout: patience, between_bytes_timeout: patience, ..Limits::default() };
    insta::assert_snapshot!(table(EngineOptions { limits, ..EngineOptions::default() }, slow_rows()).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_drips_is_given_up_before_the_host_ends_the_step() {
    let engine = Engine::new(EngineOptions::default()).unwrap();
    let connector = Connector::load(&engine, &connector(), None).await.unwrap();
    // Real time: what a guest sees of a virtual clock stands still while it waits.
    let stage = Stage::with(&connector, Clock::starting_at, 3_000).await;
    let drip = Rule::new(LIST, Fault::Drip { bytes: 16, ms: 400 });
    stage.simulator.set_faults(FaultProfile::new([drip]));
    let cycle = stage.cycle().await;
    let failure = cycle.failure.expect("nothing could be collected");
    assert_eq!(failure.code, "timeout", "{failure:?}");
}
