//! A host's surroundings: a directory with connectors, keys and a configuration, and a simulator of InsightIDR.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use insightidr_simulator::{OrganizationConfig, SimulatorConfig, World, WorldConfig};
use serde_json::Value;

use crate::common::host::{Stage, connector, key};
use crate::common::process::Host;

/// The time at which hosts start.
const CLOCK: &str = "2026-01-15T12:00:00Z";

pub(crate) struct Site {
    pub(crate) stage: Stage,
    /// Routes beside those to the simulator.
    routes: Vec<String>,
    /// More lines of `[host]`.
    host: String,
}

impl Site {
    /// A site with one ordinary tenant's data, without any connector.
    pub(crate) fn new() -> Self {
        Self::with(30, SimulatorConfig::default())
    }

    /// A site with so many investigations, served in a way of its own.
    pub(crate) fn with(investigations: usize, config: SimulatorConfig) -> Self {
        let organizations = vec![OrganizationConfig::new("us", "us")];
        let world = WorldConfig { seed: 21, investigations, organizations, ..WorldConfig::default() };
        let stage = Stage::with(World::generate(&world), config);
        let site = Self { stage, routes: Vec::new(), host: String::new() };
        fs::create_dir(site.path("connectors")).unwrap();
        site.secret("us.key", &key("us"));
        site
    }

    /// Routes a planned host elsewhere, in every configuration from now on.
    pub(crate) fn route(&mut self, route: String) {
        self.routes.push(route);
    }

    /// Adds a line to `[host]`, in every configuration from now on.
    pub(crate) fn set(&mut self, line: &str) {
        self.host.push_str(line);
        self.host.push('\n');
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.stage.dir.path().join(name)
    }

    /// Writes a secret's file.
    pub(crate) fn secret(&self, name: &str, value: &str) {
        let new = self.path(&format!("{name}.new"));
        fs::write(&new, value).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(new, self.path(name)).unwrap();
    }

    /// Puts the connector for InsightIDR into its directory.
    pub(crate) fn install_insightidr(&self) {
        std::os::unix::fs::symlink(connector(), self.path("connectors/rapid7.wasm")).unwrap();
    }

    /// Puts a component into the directory of connectors, whole at once.
    pub(crate) fn install(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path("aside"), bytes).unwrap();
        fs::rename(self.path("aside"), self.path("connectors").join(name)).unwrap();
    }

    /// Writes the configuration with these `[[instance]]` tables.
    pub(crate) fn configure(&self, instances: &str) {
        let url = self.stage.url();
        let mut routes = vec![format!("us.api.insight.rapid7.com={url}")];
        routes.extend(self.routes.iter().cloned());
        let more = &self.host;
        let cache = if more.contains("cache =") {
            String::new()
        } else {
            format!("cache = {:?}", concat!(env!("CARGO_TARGET_TMPDIR"), "/connector-cache"))
        };
        let sink = if more.contains("sink =") { "" } else { "sink = \"file:artifacts.jsonl\"" };
        let listen = if more.contains("listen =") { "" } else { "listen = \"127.0.0.1:0\"" };
        let text = format!(
            r#"[host]
state = "state"
connectors = "connectors"
{cache}
{listen}
{sink}
first_poll_within_seconds = 1
routes = {routes:?}
{more}
{instances}"#
        );
        fs::write(self.path("conductor.toml.new"), text).unwrap();
        fs::rename(self.path("conductor.toml.new"), self.path("conductor.toml")).unwrap();
    }

    /// Starts the host with these further arguments.
    pub(crate) fn start(&self, more: &[&str]) -> Host {
        self.start_at(CLOCK, more)
    }

    /// Starts it at a time.
    pub(crate) fn start_at(&self, clock: &str, more: &[&str]) -> Host {
        let arguments = [&["run", "--config", "conductor.toml", "--clock", clock], more].concat();
        Host::start(&mut self.stage.command(&arguments))
    }

    /// Runs a command to its end.
    pub(crate) fn command(&self, arguments: &[&str]) -> Told {
        Told::of(self.stage.command(arguments).output().unwrap())
    }

    /// Everything delivered so far for connectors of this stream name, line by line.
    pub(crate) fn delivered(&self, stream: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path("artifacts.jsonl")).unwrap_or_default();
        // The last line may be half written while a host runs.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let all = whole.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        all.filter(|artifact| artifact["streamName"] == stream).collect()
    }
}

/// What a command said.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Told {
    fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// An `[[instance]]` of InsightIDR in the region `us`.
pub(crate) fn insightidr(name: &str) -> String {
    format!(
        "[[instance]]\nid = \"{name}-id\"\nname = \"{name}\"\nintegration_type = \"rapid7-insightidr\"\n\
         [instance.settings]\nregion = \"us\"\n[instance.secrets]\napi_key = \"file:us.key\"\n"
    )
}

/// An `[[instance]]` of the hostile connector, with its secret in the file `hostile.key`.
pub(crate) fn hostile(name: &str, behaviour: &str, argument: &str) -> String {
    format!(
        "[[instance]]\nid = \"{name}-id\"\nname = \"{name}\"\nintegration_type = \"hostile\"\npoll_interval_minutes = 1\n\
         [instance.settings]\nbehaviour = {behaviour:?}\nargument = {argument:?}\n\
         [instance.secrets]\ntoken = \"file:hostile.key\"\n"
    )
}

/// Every file under a directory.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// What an ordinary tenant collects, by id, as it was delivered.
pub(crate) fn collected(site: &Site) -> BTreeMap<String, String> {
    let all = site.delivered("rapid7_insightidr");
    let count = all.len();
    let by_id: BTreeMap<String, String> =
        all.into_iter().map(|artifact| (artifact["id"].as_str().unwrap().to_owned(), artifact.to_string())).collect();
    assert_eq!(by_id.len(), count, "nothing is delivered twice");
    by_id
}

/// What the ordinary tenant collects when nobody else is there.
pub(crate) fn alone() -> BTreeMap<String, String> {
    after_a_poll().1
}

/// A host that has been stopped after the first poll of the ordinary tenant, and what that collected.
pub(crate) fn after_a_poll() -> (Site, BTreeMap<String, String>) {
    let site = Site::new();
    site.install_insightidr();
    site.configure(&insightidr("us"));
    let mut host = site.start(&[]);
    host.until_state("us", "ok");
    assert_eq!(host.stop("TERM").code, 0);
    let collected = collected(&site);
    assert!(collected.len() > 100, "{}", collected.len());
    (site, collected)
}
