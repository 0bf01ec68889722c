//! What all measurements share: the connector, tenants, and a simulated vendor on loopback.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use host_harness::connectors::{Connector, Tenant, TenantOptions};
use host_harness::contract::types;
use host_harness::egress::{NetworkOptions, Routes, Secrets};
use host_harness::sandbox::{Clock, Engine, EngineOptions};
use insightidr_simulator::{ApiKey, ClockMode, Server, Simulator, SimulatorConfig, World, WorldConfig};
use tokio::runtime::{Builder, Runtime};

/// The key that the simulator knows.
pub(crate) const KEY: &str = "bench-key-0123456789";

/// The connector, and where to run the host.
pub(crate) struct Setting {
    /// The component's file.
    pub(crate) connector: PathBuf,
    /// Runs the host.
    pub(crate) runtime: Runtime,
    /// For caches; gone at the end.
    pub(crate) folder: tempfile::TempDir,
}

impl Setting {
    /// A runtime with two threads, as many as the smallest host has.
    pub(crate) fn new(connector: &Path) -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        Ok(Self { connector: connector.to_owned(), runtime, folder: tempfile::tempdir()? })
    }

    /// The connector on an engine of its own, compiled before or now.
    pub(crate) fn load(&self, pooling: bool) -> anyhow::Result<Connector> {
        let engine = Engine::new(EngineOptions { pooling, ..EngineOptions::default() })?;
        anyhow::ensure!(engine.is_pooling() == pooling, "this machine has no room for a pool of instances");
        Ok(self.runtime.block_on(Connector::load(&engine, &self.connector, Some(self.folder.path())))?)
    }

    /// A tenant of the vendor.
    pub(crate) fn tenant(&self, connector: &Connector, vendor: &Vendor) -> anyhow::Result<Tenant> {
        let mut secrets = Secrets::new();
        secrets.insert("api_key", KEY.into())?;
        let options = TenantOptions {
            name: "bench".to_owned(),
            settings: settings(),
            secrets,
            routes: Routes::parse([format!("us.api.insight.rapid7.com={}", vendor.url())])?,
            clock: Clock::starting_at(vendor.simulator.now()),
            network: NetworkOptions::default(),
        };
        Ok(self.runtime.block_on(connector.tenant(options))?)
    }
}

/// Investigations and their alerts, eight requests at a time.
pub(crate) fn settings() -> Vec<types::Setting> {
    let setting = |key: &str, value| types::Setting { key: key.to_owned(), value };
    vec![
        setting("region", types::SettingValue::Text("us".to_owned())),
        setting("max_concurrent_requests", types::SettingValue::Integer(8)),
        setting("collect_evidence", types::SettingValue::Boolean(false)),
        setting("collect_product_alerts", types::SettingValue::Boolean(false)),
        setting("collect_uninvestigated_alerts", types::SettingValue::Boolean(false)),
    ]
}

/// A world that stands still: so many investigations with so many alerts each, all old enough that nothing more is
/// expected of them.
pub(crate) fn simulator(investigations: usize, alerts: usize, latency: Duration) -> Simulator {
    let config = WorldConfig {
        investigations,
        old_investigations: 0,
        alerts_per_investigation: alerts,
        exact_alerts: true,
        evidence_per_alert: 0,
        growth_per_day: 0,
        standalone_alerts: 0,
        longest_delay: Duration::ZERO,
        triage: false,
        changes: false,
        ..WorldConfig::default()
    };
    let start = config.start + Duration::from_hours(6);
    let keys = vec![ApiKey::new("us", KEY)];
    let config_of_server =
        SimulatorConfig { keys, latency, clock: ClockMode::Frozen, start: Some(start), ..SimulatorConfig::default() };
    Simulator::new(World::generate(&config), config_of_server)
}

/// A simulator on loopback, with threads of its own.
pub(crate) struct Vendor {
    /// The simulator.
    pub(crate) simulator: Simulator,
    server: Server,
    _runtime: Runtime,
}

impl Vendor {
    /// Serves it.
    pub(crate) fn of(simulator: Simulator) -> anyhow::Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let server = runtime.block_on(Server::start(simulator.clone()))?;
        Ok(Self { simulator, server, _runtime: runtime })
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        self.server.url()
    }
}

/// The host's program: beside this one's directory, where cargo puts it.
pub(crate) fn program() -> anyhow::Result<PathBuf> {
    let given = std::env::var_os("HOST_HARNESS").map(PathBuf::from);
    let beside = || Some(std::env::current_exe().ok()?.ancestors().nth(2)?.join("host-harness"));
    let program = given.or_else(beside).context("where is the host?")?;
    anyhow::ensure!(program.exists(), "{} is not there: run the benchmark by its make target", program.display());
    Ok(program)
}
