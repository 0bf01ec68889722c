//! The report: every connector known, for status, metrics and the command line.
//!
//! What: one row for each version that serves and one for each file that holds anything else.
//! Why on disk as well: the command line shows it whether the host runs or not.
//! Not guaranteed: that a report on disk is still true; it says when it was written.

use super::super::serving::{ConnectorReport, ConnectorState};
use super::state::State;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// The report as it lies on disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Written {
    /// When a host wrote it.
    #[serde(with = "time::serde::rfc3339")]
    pub(super) written: OffsetDateTime,
    /// The rows.
    pub(super) connectors: Vec<ConnectorReport>,
}

/// The rows, by type, what serves first, then by file.
pub(super) fn rows(state: &State) -> Vec<ConnectorReport> {
    let serving = state.serving.iter().map(|(integration_type, served)| ConnectorReport {
        integration_type: integration_type.clone(),
        version: served.connector.descriptor().version.clone(),
        digest: served.connector.digest().to_owned(),
        file: served.file.clone(),
        state: ConnectorState::Serving,
        reason: served.probation.as_ref().map(|probation| {
            let before = &probation.previous.connector.descriptor().version;
            format!("on probation: version {before} is put back if its first polls fail")
        }),
        code: None,
        retry_at: None,
        since: served.since,
    });
    let others = state.files.iter().filter(|(_, entry)| entry.state != ConnectorState::Serving).map(|(file, entry)| {
        let (integration_type, version) = entry.version.clone().unwrap_or_else(|| (file.clone(), String::new()));
        ConnectorReport {
            integration_type,
            version,
            digest: entry.digest.clone(),
            file: file.clone(),
            state: entry.state,
            reason: entry.reason.as_ref().map(|reason| reason.text.clone()),
            code: entry.reason.as_ref().map(|reason| reason.code.clone()),
            retry_at: entry.retry_at,
            since: entry.since,
        }
    });
    let mut rows: Vec<_> = serving.chain(others).collect();
    rows.sort_by(|a, b| {
        let key = |row: &ConnectorReport| {
            (row.integration_type.clone(), row.state != ConnectorState::Serving, row.file.clone())
        };
        key(a).cmp(&key(b))
    });
    rows
}
