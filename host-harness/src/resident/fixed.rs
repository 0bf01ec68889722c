//! The connectors of a directory, loaded once.
//!
//! Why: whoever checks a configuration, or tests, needs connectors that stay as they are.
//! Not guaranteed: files that come, change or go after the start are not seen; a file that is no connector is reported
//! and passed over; of two for one type the higher version serves, and of equal ones the first by name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;
use tokio::sync::watch;
use uuid::Uuid;

use crate::connectors::serving::{ConnectorReport, ConnectorState, PollOutcome, Serving, integration_type};
use crate::connectors::{Connector, LoadError};
use crate::sandbox::Engine;

/// See the module.
#[derive(Debug)]
pub struct FixedConnectors {
    serving: BTreeMap<String, Connector>,
    report: Vec<ConnectorReport>,
    changes: watch::Sender<u64>,
}

impl FixedConnectors {
    /// Loads all `*.wasm` of a directory, in the order of their names.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub async fn load(
        engine: &Engine,
        directory: &Path,
        cache: Option<&Path>,
        now: OffsetDateTime,
    ) -> std::io::Result<Self> {
        let mut files: Vec<PathBuf> = std::fs::read_dir(directory)?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "wasm"))
            .collect();
        files.sort();
        let mut loaded = Self { serving: BTreeMap::new(), report: Vec::new(), changes: watch::Sender::new(0) };
        for file in files {
            match Connector::load(engine, &file, cache).await {
                Ok(connector) => loaded.add(connector, &file, now),
                Err(error) => loaded.refuse(&file, &error, now),
            }
        }
        Ok(loaded)
    }

    fn add(&mut self, connector: Connector, file: &Path, now: OffsetDateTime) {
        let kind = integration_type(connector.slug());
        let version = |connector: &Connector| numbers(&connector.descriptor().version);
        let mut report = ConnectorReport {
            integration_type: kind.clone(),
            version: connector.descriptor().version.clone(),
            digest: connector.digest().to_owned(),
            file: file.display().to_string(),
            state: ConnectorState::Serving,
            reason: None,
            code: None,
            retry_at: None,
            since: now,
        };
        let refuse = |report: &mut ConnectorReport| {
            report.state = ConnectorState::Refused;
            report.reason = Some("another file serves the type with this or a higher version".to_owned());
            report.code = Some("connector-twice".to_owned());
        };
        if self.serving.get(&kind).is_some_and(|serving| version(serving) >= version(&connector)) {
            refuse(&mut report);
        } else {
            let same_type = |other: &&mut ConnectorReport| other.integration_type == kind;
            self.report.iter_mut().filter(same_type).for_each(refuse);
            self.serving.insert(kind.clone(), connector);
        }
        self.report.push(report);
    }

    fn refuse(&mut self, file: &Path, error: &LoadError, now: OffsetDateTime) {
        tracing::error!("{} is not used: {error}", file.display());
        self.report.push(ConnectorReport {
            integration_type: file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            version: String::new(),
            digest: String::new(),
            file: file.display().to_string(),
            state: ConnectorState::Refused,
            reason: Some(error.to_string()),
            code: Some(error.code().to_owned()),
            retry_at: None,
            since: now,
        });
    }
}

/// The three numbers of a semantic version; the descriptor was checked.
fn numbers(version: &str) -> Vec<u64> {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    core.split('.').filter_map(|number| number.parse().ok()).collect()
}

impl Serving for FixedConnectors {
    fn current(&self, integration_type: &str) -> Option<Connector> {
        self.serving.get(integration_type).cloned()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn polled(&self, _: &Connector, _: Uuid, _: PollOutcome) {}

    fn report(&self) -> Vec<ConnectorReport> {
        self.report.clone()
    }
}
