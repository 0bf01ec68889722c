//! `host-harness check`: proves key, region and access before an instance is
//! polled.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use serde_json::json;

use super::error::{CliError, EXIT_FAILED};
use super::options::{self, InstanceOptions};
use super::{Context, check_config, output};
use crate::contract::types::{CheckReport, StreamState};
use crate::instances::failure::FailureReport;
use crate::log::escape;

/// Try settings and secrets with a few light requests
///
/// Nothing is collected or stored. With --config it is done for the instances
/// of a configuration, also while a host runs with it. Exit code 0: everything
/// can be collected or is knowingly not offered; 1: something cannot be; 2:
/// wrong usage, settings or files.
#[derive(Debug, Args)]
// Where neither is given, clap names both.
#[command(group = ArgGroup::new("what").required(true).args(["connector", "config"]))]
#[command(after_help = "\
Examples:
  host-harness check --connector connector.wasm --set region=us --secret api_key=env:API_KEY
  host-harness check --connector connector.wasm --set region=us --secret api_key=file:/etc/acme.key
  host-harness check --config /etc/host-harness/conductor.toml --instance acme-us")]
pub(super) struct Check {
    /// The connector, a WebAssembly component
    #[arg(long, value_name = "FILE")]
    connector: Option<PathBuf>,
    /// A configuration of `run`: check its instances, those that are disabled
    /// only by name
    #[arg(long, value_name = "FILE", conflicts_with_all = ["settings", "secrets", "routes", "ca_files", "proxy"])]
    config: Option<PathBuf>,
    /// Only this instance of the configuration, by its name or id
    #[arg(long, value_name = "NAME", requires = "config")]
    instance: Option<String>,
    #[command(flatten)]
    options: InstanceOptions,
    /// Directory in which the compiled connector is kept
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    cache: Option<PathBuf>,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
}

/// Name of the instance in log lines: it has none yet.
const NAME: &str = "check";

impl Check {
    pub(super) async fn run(self, context: &Context) -> Result<u8, CliError> {
        let understood = self.options.understand()?;
        let Some(connector) = &self.connector else {
            let config = self.config.as_deref().unwrap_or(Path::new(""));
            return check_config::run(context, config, self.instance.as_deref(), &understood.clock, self.json).await;
        };
        let spinner = context.spinner("loading the connector");
        let connector = options::load(connector, self.cache.as_deref()).await?;
        let tenant = understood.tenant(&connector, NAME).await?;
        spinner.set_message("asking the vendor");
        let (result, usage) = tenant.check().await;
        spinner.finish_and_clear();
        let result = result.map_err(|error| FailureReport::from(&error));
        let good = result.as_ref().is_ok_and(is_good);
        if self.json {
            output::print_json(&as_json(connector.slug(), &result, usage.requests), false)?;
        }
        match result {
            Ok(report) => {
                if !self.json {
                    output::print(&page(&report))?;
                }
                Ok(if good { 0 } else { EXIT_FAILED })
            }
            Err(failure) => {
                tracing::error!(
                    connector = connector.slug(),
                    instance = NAME,
                    "check failed: {}",
                    failure.sentence_with_wait()
                );
                Ok(EXIT_FAILED)
            }
        }
    }
}

/// Whether everything can be collected or is knowingly not offered.
pub(super) fn is_good(report: &CheckReport) -> bool {
    !report.reports.iter().any(|report| matches!(report.state, StreamState::Degraded(_)))
}

/// For people.
pub(super) fn page(report: &CheckReport) -> String {
    let rows: Vec<Vec<String>> = report
        .reports
        .iter()
        .map(|report| {
            let state = match &report.state {
                StreamState::Ok => "ok".to_owned(),
                StreamState::Degraded(failure) => {
                    format!("failed: {}", FailureReport::from(failure).sentence_with_wait())
                }
                StreamState::Unavailable(failure) => {
                    format!("unavailable: {}", FailureReport::from(failure).sentence())
                }
            };
            vec![escape(&report.stream), escape(&state)]
        })
        .collect();
    format!("{}\n{}", escape(&report.summary), output::table("  ", &rows))
}

/// For programs.
pub(super) fn as_json(
    connector: &str,
    result: &Result<CheckReport, FailureReport>,
    requests: u32,
) -> serde_json::Value {
    let streams: Vec<_> =
        result.iter().flat_map(|report| &report.reports).map(super::poll_report::stream_of_check).collect();
    json!({
        "connector": connector,
        "ok": result.as_ref().is_ok_and(is_good),
        "summary": result.as_ref().ok().map(|report| &report.summary),
        "streams": streams,
        "failure": result.as_ref().err(),
        "requests": requests,
    })
}
