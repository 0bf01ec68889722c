//! The real host with the real component against the simulator over HTTP.
//!
//! `make test` builds what is needed and says where it is; without it the
//! places where it leaves things are looked at.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use insightidr_simulator::{ApiKey, ClockMode, Server, Simulator, SimulatorConfig, World};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The key of the tenant in a region, as a host's secret.
pub fn key(region: &str) -> String {
    format!("secret-key-of-{region}-0123456789")
}

/// A file that has to be built first.
fn built(variable: &str, otherwise: PathBuf) -> PathBuf {
    let path = std::env::var_os(variable).map_or(otherwise, PathBuf::from);
    assert!(path.exists(), "{} is not there: run the tests with `make test`", path.display());
    path
}

/// The connector.
pub fn connector() -> PathBuf {
    built("CONNECTOR", Path::new(env!("CARGO_MANIFEST_DIR")).join("dist/rapid7_insightidr.wasm"))
}

/// A component that only tests use.
pub fn guest(name: &str) -> PathBuf {
    let target = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().join("wasm32-wasip2/component");
    built("GUESTS", target).join(format!("{name}.wasm"))
}

/// The host.
pub fn host_harness() -> PathBuf {
    built("HOST_HARNESS", std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("host-harness"))
}

/// A simulator that serves on loopback, and a directory for a host's state.
pub struct Stage {
    pub simulator: Simulator,
    pub dir: tempfile::TempDir,
    server: Server,
    _runtime: tokio::runtime::Runtime,
}

/// Where the compiled connector is kept, by all tests.
pub const CACHE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/connector-cache");

impl Stage {
    /// Serves a world that stands still until it is told to move.
    pub fn of(world: World) -> Self {
        Self::with(world, SimulatorConfig::default())
    }

    /// Serves a world in a way of its own.
    pub fn with(world: World, config: SimulatorConfig) -> Self {
        let keys = ["us", "eu"].map(|region| ApiKey::new(region, key(region))).to_vec();
        let keys = if config.keys.is_empty() { keys } else { config.keys };
        let config = SimulatorConfig { keys, clock: ClockMode::Frozen, versions_needed: true, ..config };
        let simulator = Simulator::new(world, config);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let server = runtime.block_on(Server::start(simulator.clone())).unwrap();
        Self { simulator, dir: tempfile::tempdir().unwrap(), server, _runtime: runtime }
    }

    /// Where the simulator is.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Moves the clock.
    pub fn advance(&self, by: Duration) {
        self.simulator.advance(by.try_into().unwrap());
    }

    /// A command of the host with its key in the environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(host_harness());
        command.current_dir(self.dir.path()).env("NO_COLOR", "1").env_remove("HOST_HARNESS_LOG").args(arguments);
        for region in ["us", "eu"] {
            command.env(format!("KEY_{}", region.to_uppercase()), key(region));
        }
        command
    }

    /// A poll of the tenant in a region, at the simulator's time.
    pub fn poll(&self, region: &str) -> Report {
        self.poll_with(region, &[])
    }

    /// A poll with more arguments.
    pub fn poll_with(&self, region: &str, more: &[&str]) -> Report {
        let out = self.dir.path().join(format!("{region}.jsonl"));
        let before = lines(&out).len();
        let connector = connector();
        let route = format!("{region}.api.insight.rapid7.com={}", self.url());
        let secret = format!("api_key=env:KEY_{}", region.to_uppercase());
        let setting = format!("region={region}");
        let clock = self.simulator.now().format(&Rfc3339).unwrap();
        let mut arguments = vec!["poll", "--connector", connector.to_str().unwrap(), "--instance", region];
        arguments.extend(["--set", &setting, "--secret", &secret, "--route", &route, "--clock", &clock]);
        arguments.extend(["--state", "state", "--out", out.to_str().unwrap(), "--json"]);
        if !more.contains(&"--cache") {
            // Compiled code is shared by all tests.
            arguments.extend(["--cache", CACHE]);
        }
        arguments.extend(more);
        let output = self.command(&arguments).output().unwrap();
        Report::of(&output, lines(&out).split_off(before))
    }

    /// Everything delivered for a tenant so far.
    pub fn delivered(&self, region: &str) -> Vec<Value> {
        lines(&self.dir.path().join(format!("{region}.jsonl")))
    }

    /// The vendor's identifiers that were delivered for a tenant.
    pub fn collected(&self, region: &str) -> Vec<String> {
        self.delivered(region).iter().map(|artifact| text(&artifact["sourceInfo"])).collect()
    }

    /// What the truth says can be seen now and was not delivered: the
    /// investigations of the look-back and their alerts.
    pub fn missing(&self, region: &str, start: OffsetDateTime) -> Vec<String> {
        let truth = self.simulator.truth();
        let organization = &truth.organizations.iter().find(|organization| organization.region == region).unwrap().id;
        let collected = self.collected(region);
        let now = self.simulator.now();
        let investigations: Vec<&String> = truth
            .investigations
            .iter()
            .filter(|one| &one.organization == organization && one.created > start - time::Duration::days(28))
            .filter(|one| one.visible_at <= now)
            .map(|one| &one.rrn)
            .collect();
        let alerts = truth.alerts.iter().filter(|alert| {
            alert.visible_at <= now && alert.investigation.as_ref().is_some_and(|rrn| investigations.contains(&rrn))
        });
        let ids = alerts.map(|alert| &alert.id);
        investigations.iter().copied().chain(ids).filter(|id| !collected.contains(id)).cloned().collect()
    }
}

/// A file of JSON lines; none when it is not there.
fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A JSON text as text.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// What a poll came to.
#[derive(Debug)]
pub struct Report {
    /// Exit code.
    pub code: i32,
    /// The report of `--json`; null when there is none.
    pub json: Value,
    /// Standard error.
    pub log: String,
    /// What this poll delivered.
    pub artifacts: Vec<Value>,
}

impl Report {
    fn of(output: &Output, artifacts: Vec<Value>) -> Self {
        Self {
            code: output.status.code().unwrap(),
            json: serde_json::from_slice(&output.stdout).unwrap_or(Value::Null),
            log: String::from_utf8_lossy(&output.stderr).into_owned(),
            artifacts,
        }
    }

    /// New artifacts, as the report says.
    pub fn new_artifacts(&self) -> u64 {
        self.json["artifacts"]["new"].as_u64().unwrap_or_else(|| panic!("no report: {self:#?}"))
    }

    /// Fails unless the poll was good.
    pub fn assert_ok(&self) -> &Self {
        assert_eq!((self.code, self.json["status"].as_str()), (0, Some("ok")), "{self:#?}");
        self
    }
}
