//! Connectors that come and go when a test says so.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use uuid::Uuid;

use crate::connectors::Connector;
use crate::connectors::fixtures::Fixture;
use crate::connectors::serving::{ConnectorReport, PollOutcome, Serving, integration_type};
use crate::locks::lock;
use crate::sandbox::{Engine, EngineOptions};

/// See the module.
pub(super) struct Shelf {
    engine: Engine,
    serving: Mutex<BTreeMap<String, Connector>>,
    changes: watch::Sender<u64>,
    /// What it was told of polls.
    pub(super) told: Mutex<Vec<PollOutcome>>,
}

impl Shelf {
    pub(super) fn new() -> Arc<Self> {
        let engine = Engine::new(EngineOptions { pooling: false, max_instances: 4, ..EngineOptions::default() });
        let engine = engine.expect("engine");
        Arc::new(Self { engine, serving: Mutex::default(), changes: watch::Sender::new(0), told: Mutex::default() })
    }

    /// Puts a connector there.
    pub(super) async fn put(&self, fixture: &Fixture) {
        let connector = Connector::from_bytes(&self.engine, fixture.build(), None::<&Path>).await;
        let connector = connector.unwrap_or_else(|error| panic!("{error}"));
        lock(&self.serving).insert(integration_type(connector.slug()), connector);
        self.changes.send_modify(|changes| *changes += 1);
    }
}

impl Serving for Shelf {
    fn current(&self, integration_type: &str) -> Option<Connector> {
        lock(&self.serving).get(integration_type).cloned()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn polled(&self, _: &Connector, _: Uuid, outcome: PollOutcome) {
        lock(&self.told).push(outcome);
    }

    fn report(&self) -> Vec<ConnectorReport> {
        Vec::new()
    }
}
