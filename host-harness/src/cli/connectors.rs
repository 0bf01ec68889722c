//! `host-harness connectors`: what a host remembers of connectors, and the
//! operator's word on it.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::error::CliError;
use super::output;
use crate::connectors::registry::{Quarantine, Records};
use crate::log::escape;

/// List connectors, put them into quarantine, release them
///
/// Works on the state directory; a running host sees it within seconds. What
/// serves at the moment is shown by `host-harness status`.
///
/// Exit code 0: done; 2: wrong usage or files.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  host-harness connectors list --state ./state
  host-harness connectors quarantine 5f2a9c01d3e4 --state ./state --reason 'not reviewed'
  host-harness connectors release 5f2a9c01d3e4 --state ./state")]
pub(super) struct Connectors {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show what was granted to each type, and which versions are in quarantine
    List {
        #[command(flatten)]
        state: State,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// Never run a version again, until it is released
    Quarantine {
        /// Digest of the version, or its beginning
        digest: String,
        #[command(flatten)]
        state: State,
        /// Why, for whoever reads the status
        #[arg(long, default_value = "put into quarantine by the operator")]
        reason: String,
    },
    /// Let a version run that is in quarantine, or that is held because it asks
    /// for more than was granted
    Release {
        /// Digest of the version, or its beginning
        digest: String,
        #[command(flatten)]
        state: State,
    },
}

/// Where the host keeps its state.
#[derive(Debug, Args)]
struct State {
    /// State directory of the host
    #[arg(long = "state", value_name = "DIR")]
    directory: PathBuf,
}

impl State {
    fn read(&self) -> Result<Records, CliError> {
        if !self.directory.is_dir() {
            return Err(CliError::usage(format!("{} is no directory", self.directory.display()))
                .help("give the state directory of the host"));
        }
        Records::read(&self.directory).map_err(CliError::usage)
    }

    fn write(&self, records: &Records) -> Result<(), CliError> {
        records.write(&self.directory).map_err(CliError::failed)
    }
}

impl Connectors {
    pub(super) fn run(self) -> Result<u8, CliError> {
        match self.action {
            Action::List { state, json } => {
                let records = state.read()?;
                if json {
                    let records = serde_json::to_value(&records).map_err(CliError::failed)?;
                    output::print_json(&records, true)?;
                } else {
                    output::print(&page(&records))?;
                }
            }
            Action::Quarantine { digest, state, reason } => {
                let mut records = state.read()?;
                let digest = complete(&records, &digest)?;
                let quarantine = Quarantine {
                    code: "operator".to_owned(),
                    reason,
                    times: 1,
                    host: String::new(),
                    since: OffsetDateTime::now_utc(),
                    retry_at: None,
                };
                records.released.remove(&digest);
                records.quarantine.insert(digest.clone(), quarantine);
                state.write(&records)?;
                output::print(&format!("{digest} is in quarantine until it is released\n"))?;
            }
            Action::Release { digest, state } => {
                let mut records = state.read()?;
                let digest = complete(&records, &digest)?;
                records.quarantine.remove(&digest);
                records.released.insert(digest.clone());
                state.write(&records)?;
                output::print(&format!("{digest} is released\n"))?;
            }
        }
        Ok(0)
    }
}

/// The whole digest of one that is known by its beginning. A whole one need not
/// be known.
fn complete(records: &Records, digest: &str) -> Result<String, CliError> {
    let digest = digest.to_ascii_lowercase();
    let is_hex = digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    if digest.len() == 64 && is_hex {
        return Ok(digest);
    }
    let known = records.quarantine.keys().chain(&records.released).chain(records.pins.values().map(|pin| &pin.digest));
    let mut found: Vec<&String> =
        known.filter(|known| is_hex && !digest.is_empty() && known.starts_with(&digest)).collect();
    found.sort();
    found.dedup();
    match found.as_slice() {
        [one] => Ok((*one).clone()),
        [] => Err(CliError::usage(format!("no version with the digest {} is known here", escape(&digest)))
            .help("give all 64 digits, as `host-harness inspect` and `status --json` show them")),
        _ => Err(CliError::usage(format!("{} versions begin with {}", found.len(), escape(&digest)))
            .help("give more digits")),
    }
}

/// The records as a person reads them.
fn page(records: &Records) -> String {
    let mut lines = Vec::new();
    for (kind, pin) in &records.pins {
        lines.push(format!("{kind}: version {} was granted", pin.digest.get(..12).unwrap_or_default()));
        for what in pin.origins.iter().chain(&pin.rules).chain(&pin.credentials) {
            lines.push(format!("  {}", escape(what)));
        }
    }
    for (digest, known) in &records.quarantine {
        let until =
            known.retry_at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_else(|| "it is released".to_owned());
        lines.push(format!(
            "{}: in quarantine until {until}: {} ({})",
            digest.get(..12).unwrap_or(digest),
            escape(&known.reason),
            escape(&known.code)
        ));
    }
    for digest in &records.released {
        lines.push(format!("{}: released by the operator", digest.get(..12).unwrap_or(digest)));
    }
    if lines.is_empty() {
        lines.push("nothing is known of any connector here".to_owned());
    }
    lines.join("\n") + "\n"
}
