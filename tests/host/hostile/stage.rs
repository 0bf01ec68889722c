//! The stage: one engine, a hostile tenant, a neighbour on the same engine, and what is looked at afterwards.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use host_harness::connectors::{Connector, LoadError, Tenant, TenantOptions};
use host_harness::contract::types::{Batch, Budget, Setting, SettingValue};
use host_harness::egress::{NetworkOptions, Routes, Secrets};
use host_harness::instances::courier::Courier;
use host_harness::instances::cycle::{CycleOptions, Run, Surroundings};
use host_harness::instances::report::Cycle;
use host_harness::sandbox::{Clock, Engine, EngineOptions, Limits};
use host_harness::sinks::LinesSink;
use host_harness::store::Store;
use serde_json::Value;
use time::OffsetDateTime;
use tokio::sync::{Mutex, MutexGuard};

use crate::common::audit::{AuditService, collect};
use crate::common::host::guest;
use crate::common::vendor::Vendor;
use crate::hostile::component;
use crate::hostile::evil::{self, Canary};
use crate::hostile::logs;
use crate::hostile::secrets::{SECRET, assert_none};

/// Limits that are met soon. The neighbour does not come near any of them.
pub(crate) fn limits() -> Limits {
    Limits {
        memory_bytes: 32 << 20,
        cpu_per_step: Duration::from_millis(1_000),
        pure_call: Duration::from_millis(1_000),
        wall_per_step: Duration::from_secs(5),
        wall_per_check: Duration::from_secs(3),
        wall_grace: Duration::from_secs(1),
        response_body_bytes: 2 << 20,
        first_byte_timeout: Duration::from_secs(1),
        between_bytes_timeout: Duration::from_secs(1),
        connect_timeout: Duration::from_secs(1),
        dns_timeout: Duration::from_secs(1),
        requests_in_flight: 8,
        batch_bytes: 6 << 20,
        artifacts: 20_000,
        hostcall_bytes: 12 << 20,
        ..Limits::default()
    }
}

/// What one step of a hostile tenant may do.
pub(crate) const BUDGET: Budget =
    Budget { requests: 50, artifacts: 1000, artifact_bytes: 1 << 20, wall_time_milliseconds: 3_000 };

pub(crate) struct Stage {
    pub(crate) engine: Engine,
    pub(crate) vendor: Vendor,
    pub(crate) canary: Canary,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: Store,
    neighbour: Tenant,
    /// What the neighbour collects when it is alone.
    alone: Vec<Batch>,
    _service: AuditService,
    _alone: MutexGuard<'static, ()>,
}

/// Tests that measure what a machine may be kept busy with do not keep each other busy.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// What a hostile poll left behind.
pub(crate) struct Aftermath {
    /// The cycle's report.
    pub(crate) cycle: Cycle,
    /// What was delivered for the instance.
    pub(crate) artifacts: Vec<Value>,
    /// What the host remembers for it.
    pub(crate) checkpoint: Option<Vec<u8>>,
    /// What was logged for it.
    pub(crate) log: Vec<Value>,
}

impl Aftermath {
    /// Code of the failure that ended the cycle; `ok` when none did.
    pub(crate) fn code(&self) -> &str {
        self.cycle.failure.as_ref().map_or("ok", |failure| &failure.code)
    }

    /// The words on what came of each attempt.
    pub(crate) fn outcomes(&self) -> Vec<String> {
        assert_eq!(self.artifacts.len(), 1, "{:?}", self.cycle);
        let words = self.artifacts[0]["message"].as_array().expect("a list of outcomes");
        words.iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    }
}

impl Stage {
    /// A stage with the limits of [`limits`].
    pub(crate) async fn new() -> Self {
        Self::with(limits()).await
    }

    pub(crate) async fn with(limits: Limits) -> Self {
        let turn = ONE_AT_A_TIME.lock().await;
        logs::keep();
        let engine =
            Engine::new(EngineOptions { limits, pooling: true, max_instances: 4, ..EngineOptions::default() }).unwrap();
        let service = AuditService::with(730);
        let example = Connector::load(&engine, &guest("audit_log"), None).await.unwrap();
        let neighbour = service.tenant(&example, "neighbour").await;
        let alone = collect(&neighbour).await;
        assert!(alone.len() > 2 && alone.iter().map(|batch| batch.artifacts.len()).sum::<usize>() == 730);
        let canary = Canary::start();
        let vendor = evil::vendor(canary.address);
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("state")).unwrap();
        Self { engine, vendor, canary, dir, store, neighbour, alone, _service: service, _alone: turn }
    }

    /// Does something hostile while the neighbour collects, again and again, what it collects alone.
    pub(crate) async fn beside_the_neighbour<T>(&self, hostile: impl Future<Output = T>) -> T {
        let over = AtomicBool::new(false);
        let neighbour = async {
            loop {
                assert!(collect(&self.neighbour).await == self.alone, "the neighbour collects something else");
                if over.load(Ordering::Relaxed) {
                    break;
                }
            }
        };
        let hostile = async {
            let result = hostile.await;
            over.store(true, Ordering::Relaxed);
            result
        };
        tokio::join!(hostile, neighbour).0
    }

    /// Loads a component beside the neighbour.
    pub(crate) async fn load(&self, component: Vec<u8>) -> Result<Connector, LoadError> {
        self.beside_the_neighbour(Connector::from_bytes(&self.engine, component, None)).await
    }

    /// What a hostile tenant is made of.
    pub(crate) fn options(&self, name: &str, behaviour: &str, argument: &str) -> TenantOptions {
        let setting = |key: &str, value: &str| Setting { key: key.into(), value: SettingValue::Text(value.into()) };
        let mut secrets = Secrets::new();
        secrets.insert("token", SECRET.into()).unwrap();
        TenantOptions {
            name: name.to_owned(),
            settings: vec![setting("behaviour", behaviour), setting("argument", argument)],
            secrets,
            routes: Routes::parse([self.vendor.route("api.hostile.example")]).unwrap(),
            clock: Clock::system(),
            network: NetworkOptions::default(),
        }
    }

    /// Polls a hostile tenant that does `act` in `poll`.
    pub(crate) async fn poll(&self, connector: &Connector, act: &str, argument: &str) -> Aftermath {
        let name =
            format!("poll-{act}-{}", argument.chars().filter(char::is_ascii_alphanumeric).take(24).collect::<String>());
        let options = self.options(&name, &format!("poll:{act}"), argument);
        let tenant = connector.tenant(options).await.unwrap();
        self.poll_tenant(&tenant).await
    }

    /// Polls a tenant: a whole cycle with store and output.
    pub(crate) async fn poll_tenant(&self, tenant: &Tenant) -> Aftermath {
        let name = tenant.name();
        let slug = tenant.connector().slug();
        let now = || OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let instance = self.store.instance(name, slug, now()).unwrap();
        let out = self.dir.path().join(format!("{name}.jsonl"));
        let courier = Courier::start(self.store.clone(), instance.clone(), LinesSink::open(&out).unwrap());
        let options = CycleOptions {
            budget: BUDGET,
            most_steps: 20,
            longest_turn: Duration::MAX,
            longest_wait: Duration::from_secs(1),
            most_waiting: Duration::from_secs(1),
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
        let mut cycle = self.beside_the_neighbour(run.cycle(std::future::pending())).await;
        cycle.delivered = Some(courier.finish(std::future::pending()).await);
        cycle.log(slug, name, |_| false);
        let text = std::fs::read_to_string(&out).unwrap();
        let aftermath = Aftermath {
            artifacts: text.lines().map(|line| serde_json::from_str(line).unwrap_or(Value::Null)).collect(),
            checkpoint: self.store.checkpoint(&instance).unwrap(),
            log: logs::lines_of(name),
            cycle,
        };
        assert_none("the report", format!("{:?}", aftermath.cycle).as_bytes());
        assert_none("the checkpoint", aftermath.checkpoint.as_deref().unwrap_or_default());
        assert_none("the output", text.as_bytes());
        for line in &aftermath.log {
            assert_eq!(line["source"], slug, "{line}");
        }
        aftermath
    }

    /// Looks at everything that a whole run left behind: log, files, and who was called.
    pub(crate) fn assert_clean(&self) {
        assert_eq!(self.canary.calls(), 0, "somebody within the host's network was called");
        assert_none("the log", &logs::bytes());
        for file in files(self.dir.path()) {
            assert_none(&file.display().to_string(), &std::fs::read(&file).unwrap());
        }
        for request in self.vendor.requests() {
            let planned = match request.method.as_str() {
                "GET" => request.path().starts_with("/v1/"),
                "POST" => request.path() == "/v1/search",
                _ => false,
            };
            assert!(planned, "what is not planned has left: {}", request.head);
            assert_eq!(request.headers("x-hostile-token"), [SECRET], "{}", request.head);
            assert_eq!(request.headers("host"), ["api.hostile.example"], "{}", request.head);
        }
    }
}

/// Every file under a directory.
fn files(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// The hostile connector, honest in `describe`.
pub(crate) async fn hostile(stage: &Stage) -> Connector {
    stage.load(component::honest()).await.unwrap()
}
