//! `host-harness connectors`: which connectors serve, and what is done about
//! those that do not.

use std::collections::BTreeMap;

use clap::{ArgGroup, Args, Subcommand};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::error::CliError;
use super::output;
use super::state::State;
use crate::config;
use crate::connectors::Destinations;
use crate::connectors::registry::{Granted, Operator, OperatorError};
use crate::connectors::serving::ConnectorReport;
use crate::log::escape;

/// Show, quarantine, release and confirm connectors
///
/// Works on the state directory of a host, whether it runs or not. A running
/// host obeys within seconds.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  host-harness connectors list --state ./state
  host-harness connectors quarantine --state ./state acme_siem --reason 'loses records'
  host-harness connectors release --state ./state 3f9a0c
  host-harness connectors confirm --config conductor.toml acme_siem")]
pub(super) struct Connectors {
    #[command(subcommand)]
    action: Action,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Action {
    /// Show every connector: what serves, what does not, and why
    List {
        #[command(flatten)]
        state: State,
        /// Show as well what each type is granted: origins, also for tokens, requests, headers for secrets
        #[arg(long)]
        grants: bool,
        /// Print JSON, grants included
        #[arg(long)]
        json: bool,
    },
    /// Take a version out of service until it is released
    ///
    /// If it has not proved itself yet, the version before serves again; else
    /// nothing does, until another version comes.
    Quarantine {
        #[command(flatten)]
        state: State,
        /// Integration type, file, or at least six characters of the digest
        #[arg(value_name = "WHICH")]
        which: String,
        /// Why, shown in `list`
        #[arg(long, value_name = "TEXT", default_value = "the operator said so")]
        reason: String,
    },
    /// Try a version in quarantine again now
    // Where neither is given, clap names both.
    #[command(group = ArgGroup::new("what").required(true).args(["which", "all"]))]
    Release {
        #[command(flatten)]
        state: State,
        /// Integration type, file, or at least six characters of the digest
        #[arg(value_name = "WHICH")]
        which: Option<String>,
        /// All that are in quarantine
        #[arg(long)]
        all: bool,
    },
    /// Grant what a version asks for that is held
    ///
    /// Look at `list` first: it names the origins, requests and headers.
    Confirm {
        #[command(flatten)]
        state: State,
        /// Integration type, or at least six characters of the digest
        #[arg(value_name = "WHICH")]
        which: String,
    },
}

/// What an operator does about the connectors of a host.
fn operator(state: State) -> Result<Operator, CliError> {
    Ok(Operator::at(&state.directory()?)?)
}

impl Connectors {
    pub(super) fn run(self) -> Result<u8, CliError> {
        match self.action {
            Action::List { state, grants, json } => {
                // What is wrong elsewhere in the file must not hide the connectors.
                let config = state.config().and_then(|file| config::load_sound(file).ok());
                let configured = config.map(|(config, _)| config.grants).unwrap_or_default();
                list(&operator(state)?, &configured, grants, json)?;
            }
            Action::Quarantine { state, which, reason } => {
                let digest = operator(state)?.quarantine(&which, &reason, OffsetDateTime::now_utc())?;
                output::print(&format!("{digest} is in quarantine\n"))?;
            }
            Action::Release { state, which, all: _ } => {
                let released = operator(state)?.release(which.as_deref())?;
                if released.is_empty() {
                    tracing::info!("nothing is in quarantine");
                }
                let lines: String = released.iter().map(|digest| format!("{digest} is released\n")).collect();
                output::print(&lines)?;
            }
            Action::Confirm { state, which } => {
                let confirmed = operator(state)?.confirm(&which, OffsetDateTime::now_utc())?;
                let mut text =
                    format!("{} {} is granted:\n", escape(&confirmed.integration_type), escape(&confirmed.version));
                for right in confirmed.granted {
                    text.push_str(&format!("  {}\n", escape(&right)));
                }
                output::print(&text)?;
            }
        }
        Ok(0)
    }
}

/// Shows what is known.
fn list(operator: &Operator, configured: &Configured, grants: bool, json: bool) -> Result<(), CliError> {
    let listing = operator.list()?;
    for text in &listing.unreadable {
        tracing::warn!("{text}");
    }
    if json {
        let written = listing.written.and_then(|time| time.format(&Rfc3339).ok());
        let configured: Vec<_> = configured
            .iter()
            .map(|(kind, places)| json!({ "integration_type": kind, "origins": places.origins, "sign_in": places.sign_in }))
            .collect();
        let value = json!({
            "written": written, "connectors": listing.connectors, "granted": listing.granted, "configured": configured,
        });
        return output::print_json(&value, true).map(drop);
    }
    match listing.written {
        Some(time) => tracing::info!("as a host reported at {}", output::to_the_second(time)),
        None => tracing::info!("no host has reported yet"),
    }
    let mut shown = text(&listing.connectors);
    if grants {
        shown.push_str(&rights(&listing.granted));
        shown.push_str(&by_configuration(configured));
    }
    output::print(&shown).map(drop)
}

/// What every type is granted, a line for each right.
fn rights(granted: &[Granted]) -> String {
    let mut text = String::new();
    for one in granted {
        let (kind, version) = (escape(&one.integration_type), escape(&one.version));
        text.push_str(&format!(
            "{kind} is granted since {}, for version {version}:\n",
            output::to_the_second(one.since)
        ));
        for right in &one.rights {
            text.push_str(&format!("  {}\n", escape(right)));
        }
    }
    text
}

/// Where the configuration lets connectors go, by type.
type Configured = BTreeMap<String, Destinations>;

/// What the configuration grants every type, in place of all origins that were granted otherwise.
fn by_configuration(configured: &Configured) -> String {
    let mut text = String::new();
    for (kind, places) in configured {
        text.push_str(&format!(
            "[grants.{}] of the configuration grants these origins, and no others:\n",
            escape(kind)
        ));
        let sign_in = places.sign_in.iter().map(|origin| format!("signing in at {origin}"));
        for place in places.origins.iter().cloned().chain(sign_in) {
            text.push_str(&format!("  {}\n", escape(&place)));
        }
    }
    text
}

/// The rows, each with its reason below.
fn text(connectors: &[ConnectorReport]) -> String {
    let rows: Vec<Vec<String>> = connectors.iter().map(row).collect();
    let mut text = String::new();
    for (line, connector) in output::table("", &rows).lines().zip(connectors) {
        text.push_str(line);
        text.push('\n');
        if let Some(reason) = &connector.reason {
            let code = connector.code.as_ref().map(|code| format!(" ({})", escape(code))).unwrap_or_default();
            let retry = connector
                .retry_at
                .map(|at| format!("; tried again at {}", output::to_the_second(at)))
                .unwrap_or_default();
            text.push_str(&format!("  {}{code}{retry}\n", escape(reason)));
        }
    }
    text
}

/// Type, version, state, since, digest, file.
fn row(connector: &ConnectorReport) -> Vec<String> {
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { escape(text) };
    vec![
        or_dash(&connector.integration_type),
        or_dash(&connector.version),
        connector.state.name().to_owned(),
        output::to_the_second(connector.since),
        or_dash(connector.digest.get(..12).unwrap_or(&connector.digest)),
        or_dash(&connector.file),
    ]
}

impl From<OperatorError> for CliError {
    fn from(error: OperatorError) -> Self {
        Self::usage(&error).help(error.help())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::serving::ConnectorState;

    #[test]
    fn each_connector_is_a_line_with_its_reason_below() {
        let mut connector = ConnectorReport {
            integration_type: "acme_siem".into(),
            version: "1.2.0".into(),
            digest: "0123456789abcdef".repeat(4),
            file: "acme.wasm".into(),
            state: ConnectorState::Serving,
            reason: None,
            code: None,
            retry_at: None,
            since: OffsetDateTime::UNIX_EPOCH,
        };
        let serving = connector.clone();
        connector.state = ConnectorState::Quarantined;
        connector.version = String::new();
        connector.reason = Some("it crashed\n[INFO] forged".into());
        connector.code = Some("connector-trap".into());
        connector.retry_at = Some(OffsetDateTime::UNIX_EPOCH + time::Duration::MINUTE);
        insta::assert_snapshot!(text(&[serving, connector]), @r"
        acme_siem  1.2.0  serving      1970-01-01T00:00:00Z  0123456789ab  acme.wasm
        acme_siem  -      quarantined  1970-01-01T00:00:00Z  0123456789ab  acme.wasm
          it crashed\n[INFO] forged (connector-trap); tried again at 1970-01-01T00:01:00Z
        ");
    }
}
