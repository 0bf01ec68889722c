//! The connectors of a directory, loaded once.
//!
//! Why: whoever checks a configuration, or tests, needs connectors that stay as they are.
//! Not guaranteed: files that come, change or go after the start are not seen; a file that is no connector is reported
//! and passed over; of two for one type the higher version serves, as in the registry, and of equal ones the first by
//! name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;
use tokio::sync::watch;
use uuid::Uuid;

use crate::connectors::registry::{Allowed, NotApproved, is_connector, precedence};
use crate::connectors::serving::{ConnectorReport, ConnectorState, PollOutcome, Serving, integration_type};
use crate::connectors::{Connector, digest_of};
use crate::sandbox::Engine;

/// See the module.
#[derive(Debug)]
pub struct FixedConnectors {
    serving: BTreeMap<String, Connector>,
    report: Vec<ConnectorReport>,
    changes: watch::Sender<u64>,
}

impl FixedConnectors {
    /// Loads all connectors of a directory that are approved, in the order of their names.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub async fn load(
        engine: &Engine,
        directory: &Path,
        cache: Option<&Path>,
        allowed: &Allowed,
        now: OffsetDateTime,
    ) -> std::io::Result<Self> {
        let mut files: Vec<PathBuf> = std::fs::read_dir(directory)?
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().to_str().is_some_and(is_connector))
            .map(|entry| entry.path())
            .collect();
        files.sort();
        let mut loaded = Self { serving: BTreeMap::new(), report: Vec::new(), changes: watch::Sender::new(0) };
        for file in files {
            match load(engine, &file, cache, allowed).await {
                Ok(connector) => loaded.add(connector, &file, now),
                Err((code, reason)) => loaded.refuse(&file, code, reason, now),
            }
        }
        Ok(loaded)
    }

    /// What to do where none of them has a type: what may have been meant, and which files are not used, and why.
    #[must_use]
    pub fn without(&self, integration_type: &str) -> String {
        let refused = self.report.iter().filter(|one| one.version.is_empty());
        let refused: Vec<String> = refused
            .map(|one| format!("{} is not used: {}", one.integration_type, one.reason.as_deref().unwrap_or_default()))
            .collect();
        let known = self.serving.keys().map(String::as_str);
        match crate::config::nearest(integration_type, known.clone()) {
            None if !refused.is_empty() => refused.join("; "),
            _ => crate::config::suggestion(integration_type, known),
        }
    }

    fn add(&mut self, connector: Connector, file: &Path, now: OffsetDateTime) {
        let kind = integration_type(connector.slug());
        let version = &connector.descriptor().version;
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
        let is_as_high =
            |serving: &Connector| precedence(&serving.descriptor().version, version) != std::cmp::Ordering::Less;
        if self.serving.get(&kind).is_some_and(is_as_high) {
            refuse(&mut report);
        } else {
            let same_type = |other: &&mut ConnectorReport| other.integration_type == kind;
            self.report.iter_mut().filter(same_type).for_each(refuse);
            self.serving.insert(kind.clone(), connector);
        }
        self.report.push(report);
    }

    fn refuse(&mut self, file: &Path, code: &'static str, reason: String, now: OffsetDateTime) {
        tracing::error!("{} is not used: {reason}", file.display());
        self.report.push(ConnectorReport {
            integration_type: file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            version: String::new(),
            digest: String::new(),
            file: file.display().to_string(),
            state: ConnectorState::Refused,
            reason: Some(reason),
            code: Some(code.to_owned()),
            retry_at: None,
            since: now,
        });
    }
}

/// Loads one that is approved; else gives a code and a reason.
async fn load(
    engine: &Engine,
    file: &Path,
    cache: Option<&Path>,
    allowed: &Allowed,
) -> Result<Connector, (&'static str, String)> {
    let not_approved = |error: NotApproved| (error.code(), error.to_string());
    if allowed.components.is_some() {
        let (path, limit) = (file.to_owned(), engine.limits().component_bytes);
        let digest = tokio::task::spawn_blocking(move || digest_of(&path, limit)).await;
        let digest = digest.map_err(|error| ("host-error", error.to_string()))?;
        allowed.approve(&digest.map_err(|error| (error.code(), error.to_string()))?).map_err(not_approved)?;
    }
    let connector = Connector::load(engine, file, cache).await.map_err(|error| (error.code(), error.to_string()))?;
    // The file may have changed meanwhile.
    allowed.approve(connector.digest()).map_err(not_approved)?;
    Ok(connector)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::fixtures::Fixture;
    use crate::sandbox::EngineOptions;

    #[tokio::test]
    async fn hidden_files_are_left_out_and_what_is_released_is_higher_than_what_led_to_it() {
        let engine = Engine::new(EngineOptions { pooling: false, max_instances: 4, ..EngineOptions::default() });
        let folder = tempfile::tempdir().expect("temporary directory");
        for (name, version) in [("a.wasm", "2.0.0-rc.1"), ("b.wasm", "2.0.0"), (".hidden.wasm", "3.0.0")] {
            std::fs::write(folder.path().join(name), Fixture::version(version).build()).expect("component");
        }
        let engine = engine.expect("engine");
        let load = async |allowed| {
            let fixed = FixedConnectors::load(&engine, folder.path(), None, &allowed, OffsetDateTime::UNIX_EPOCH).await;
            fixed.expect("loaded")
        };
        let fixed = load(Allowed::default()).await;
        assert_eq!(fixed.current("fixture").expect("it serves").descriptor().version, "2.0.0");
        assert_eq!(fixed.report().len(), 2);
        let older = fixed.report().into_iter().find(|one| one.version == "2.0.0-rc.1").expect("seen");
        let fixed = load(Allowed { components: Some([older.digest].into()), ..Allowed::default() }).await;
        assert_eq!(fixed.current("fixture").expect("it serves").descriptor().version, "2.0.0-rc.1");
        let codes: Vec<_> = fixed.report().into_iter().map(|one| one.code.unwrap_or_default()).collect();
        assert_eq!(codes, ["", "not-approved"]);
    }
}
