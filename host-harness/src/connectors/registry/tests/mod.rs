//! Connectors through their whole lives, with components made in memory and a clock that only tests move.

mod approval;
mod canary;
mod contents;
mod directory;
mod grants;
mod life;
mod probation;
mod restarts;

use super::super::fixtures::Fixture;
use super::super::serving::{
    Asked, ConnectorReport, ConnectorState, LiveInstance, LiveInstances, NotReady, PollOutcome, Serving as _,
};
use super::super::{Connector, TenantOptions};
use super::{Allowed, COMPILE_TIME, Registry, RegistryOptions};
use crate::contract::types;
use crate::egress::{NetworkOptions, Routes, Secrets};
use crate::instances::failure::FailureReport;
use crate::sandbox::{Clock, Engine, EngineOptions, Limits};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::future::Future;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;
use uuid::Uuid;

/// The type of all fixtures.
const TYPE: &str = "fixture";

/// A file in most tests.
const FILE: &str = "fixture.wasm";

/// A `poll` that fails with the reason of this number, in the order of the contract.
macro_rules! failing {
    ($reason:literal) => {
        concat!("(i32.store8 (i32.const {failure-reason}) (i32.const ", $reason, ")) (return (i32.const {failure}))")
    };
}
use failing;

/// The configured instances.
#[derive(Default)]
struct Instances(Mutex<Vec<Instance>>);

/// Id, name and checkpoint.
type Instance = (Uuid, String, Option<Vec<u8>>);

impl Instances {
    fn add(&self, number: u128, name: &str, checkpoint: Option<&[u8]>) -> Uuid {
        let id = Uuid::from_u128(number);
        self.0.lock().unwrap().push((id, name.to_owned(), checkpoint.map(<[u8]>::to_vec)));
        id
    }
}

impl LiveInstances for Instances {
    fn ids(&self, integration_type: &str) -> Vec<Uuid> {
        let instances = self.0.lock().unwrap();
        instances.iter().filter(|_| integration_type == TYPE).map(|(id, ..)| *id).collect()
    }

    fn ready<'a>(&'a self, id: Uuid, connector: &'a Connector) -> Asked<'a, Option<Result<LiveInstance, NotReady>>> {
        let one = self.0.lock().unwrap().iter().find(|one| one.0 == id).cloned();
        let ready = one.map(|(id, name, checkpoint)| {
            let has_checkpoint = checkpoint.is_some();
            // As a host types the settings by the connector's form: this one knows no other setting.
            if connector.descriptor().settings.iter().any(|field| field.key == "new" && field.required) {
                let failure = FailureReport::new("setting-missing", "the setting new is missing", "");
                return Err(NotReady { id, name, has_checkpoint, failure: failure.into() });
            }
            Ok(LiveInstance { id, options: options(&name), has_checkpoint })
        });
        Box::pin(std::future::ready(ready))
    }

    fn checkpoint(&self, id: Uuid) -> Asked<'_, Result<Option<Vec<u8>>, Box<FailureReport>>> {
        let instances = self.0.lock().unwrap();
        let checkpoint = instances.iter().find(|one| one.0 == id).and_then(|one| one.2.clone());
        Box::pin(std::future::ready(Ok(checkpoint)))
    }
}

/// What an instance of a fixture is made of.
fn options(name: &str) -> TenantOptions {
    let mut secrets = Secrets::new();
    // Of one named so it is what fixtures can log.
    let secret = if name == "xs" { "xxxxxxxxxxxxxxxx" } else { "hunter2-hunter2" };
    secrets.insert("api_key", secret.into()).unwrap();
    let region = types::Setting { key: "region".into(), value: types::SettingValue::Text("us".into()) };
    TenantOptions {
        name: name.into(),
        settings: vec![region],
        secrets,
        routes: Routes::new(),
        clock: Clock::system(),
        network: NetworkOptions::default(),
    }
}

/// A host's registry and its surroundings.
struct World {
    folder: tempfile::TempDir,
    engine: Engine,
    clock: Clock,
    live: Instances,
    registry: Registry,
}

impl World {
    fn new() -> Self {
        let limits = Limits { pure_call: Duration::from_secs(60), ..Limits::default() };
        let engine =
            Engine::new(EngineOptions { limits, pooling: false, max_instances: 4, ..EngineOptions::default() })
                .unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("connectors")).unwrap();
        let clock = Clock::virtual_at(OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap());
        let registry = open(&folder, &engine, &clock, Allowed::default(), COMPILE_TIME);
        Self { folder, engine, clock, live: Instances::default(), registry }
    }

    /// The same state directory in another process.
    fn restart(&mut self) {
        self.registry = open(&self.folder, &self.engine, &self.clock, Allowed::default(), COMPILE_TIME);
    }

    fn directory(&self) -> PathBuf {
        self.folder.path().join("connectors")
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Puts a file there that nobody has written for long.
    fn put(&self, name: &str, bytes: &[u8]) {
        put(&self.directory(), name, bytes);
    }

    fn fixture(&self, name: &str, fixture: &Fixture) {
        self.put(name, &fixture.build());
    }

    /// A sound component of a version.
    fn version(&self, name: &str, version: &str) {
        self.fixture(name, &Fixture::version(version));
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.directory().join(name)).unwrap();
    }

    async fn scan(&self) {
        self.registry.scan(&self.live).await;
    }

    /// The version that serves; `-` when none does.
    fn serving(&self) -> String {
        self.registry.current(TYPE).map_or("-".into(), |connector| connector.descriptor().version.clone())
    }

    fn current(&self) -> Connector {
        self.registry.current(TYPE).unwrap()
    }

    /// The row of a file that does not serve, or no longer what it holds.
    fn row(&self, file: &str) -> ConnectorReport {
        let rows = self.registry.report();
        let row = rows.iter().find(|row| row.file == file && row.state != ConnectorState::Serving);
        row.unwrap_or_else(|| panic!("{file} is not in {rows:#?}")).clone()
    }

    /// State and code of a file that does not serve.
    fn fate(&self, file: &str) -> (ConnectorState, String) {
        let row = self.row(file);
        (row.state, row.code.unwrap_or_default())
    }

    /// What the reason of a file must say.
    fn assert_reason(&self, file: &str, parts: &[&str]) {
        let reason = self.row(file).reason.unwrap();
        for part in parts {
            assert!(reason.contains(part), "{part:?} is missing in {reason:?}");
        }
    }

    fn polled(&self, connector: &Connector, instance: Uuid, outcomes: &[PollOutcome]) {
        for outcome in outcomes {
            self.registry.polled(connector, instance, *outcome);
        }
    }

    fn advance(&self, seconds: u64) {
        assert!(self.clock.advance(Duration::from_secs(seconds)));
    }
}

fn open(
    folder: &tempfile::TempDir,
    engine: &Engine,
    clock: &Clock,
    allowed: Allowed,
    compile_time: Duration,
) -> Registry {
    let options = RegistryOptions {
        directory: folder.path().join("connectors"),
        state: folder.path().join("state"),
        cache: None,
        allowed,
        clock: clock.clone(),
        compile_time,
        apart: None,
    };
    Registry::open(engine.clone(), options).unwrap()
}

fn put(directory: &std::path::Path, name: &str, bytes: &[u8]) {
    let aside = directory.join("aside");
    fs::write(&aside, bytes).unwrap();
    let hour_ago = SystemTime::now() - Duration::from_hours(1);
    File::options().write(true).open(&aside).unwrap().set_modified(hour_ago).unwrap();
    fs::rename(aside, directory.join(name)).unwrap();
}

/// A fixture whose `poll` does something else than return a batch.
fn polling(version: &str, poll: &'static str) -> Fixture {
    Fixture { poll, ..Fixture::version(version) }
}

fn budget() -> types::Budget {
    types::Budget { requests: 10, artifacts: 10, artifact_bytes: 1 << 20, wall_time_milliseconds: 60_000 }
}
