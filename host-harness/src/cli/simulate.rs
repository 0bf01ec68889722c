//! `host-harness simulate`: the front of the InsightIDR simulator, which is
//! apart from the host: nothing else here knows of it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use insightidr_simulator::{
    ApiKey, FaultProfile, OrganizationConfig, REGIONS, RateLimit, Simulator, SimulatorConfig, World, WorldConfig,
};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::net::TcpListener;

use super::error::CliError;
use super::options::parse_time;
use super::output;
use super::signals::Signals;

/// Stand in for Rapid7 InsightIDR on this machine
///
/// Serves a made-up world of investigations and alerts that goes on with the
/// clock, as strict and as treacherous as the vendor. Runs until it is
/// interrupted. Under /_simulator/ it tells the truth (GET truth, GET requests)
/// and takes orders (PUT clock, PUT faults, POST reset).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  host-harness simulate
  host-harness simulate --listen 127.0.0.1:0 --seed 7 --investigations 1000 --latency 50ms
  host-harness simulate --api-key us=first-made-up-key --api-key eu=second-made-up-key \\
      --rate-limit 250/60s --clock 2026-01-15T12:00:00Z")]
pub(super) struct Simulate {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8811")]
    listen: SocketAddr,
    /// Seed of the world: the same seed makes the same world
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Investigations that are there at the start, in each region
    #[arg(long, value_name = "N", default_value_t = 100)]
    investigations: usize,
    /// Alerts of an investigation, about
    #[arg(long, value_name = "N", default_value_t = 2)]
    alerts_per_investigation: usize,
    /// Investigations that are added each day after the start
    #[arg(long, value_name = "N", default_value_t = 24)]
    growth_per_day: usize,
    /// A made-up key that is known, in region us unless another is named; may
    /// be repeated [default: a key for us]
    #[arg(long = "api-key", value_name = "[REGION=]KEY")]
    api_keys: Vec<String>,
    /// Time that every answer takes, for example 50ms
    #[arg(long, value_name = "DURATION", default_value = "0ms", value_parser = humantime::parse_duration)]
    latency: Duration,
    /// Requests that a key has in a time, for example 250/60s
    #[arg(long, value_name = "N/DURATION")]
    rate_limit: Option<RateLimit>,
    /// Faults to inject, as JSON (--help says how they are written)
    #[arg(long, value_name = "FILE", long_help = FAULTS)]
    faults: Option<PathBuf>,
    /// What the clock shows at the start [default: the present]
    #[arg(long, value_name = "RFC3339", value_parser = parse_time)]
    clock: Option<OffsetDateTime>,
    /// The tenants lack the Alert Triage API
    #[arg(long)]
    no_triage: bool,
    /// The tenants have the restricted evidence endpoint
    #[arg(long)]
    restricted_evidence: bool,
}

/// How faults are written.
const FAULTS: &str = r#"Faults to inject, as JSON; PUT /_simulator/faults takes the same in their place:

{"rules": [
  {"path": "/idr/v2/investigations", "query": "*index=1*", "count": 1,
   "fault": {"kind": "truncate", "bytes": 700}},
  {"path": "/idr/*", "chance": 0.05, "fault": {"kind": "status", "status": 503}}
]}

A rule has a path, in which * is any run of characters, and a fault. It may have
query (as it is sent, with * as in path), method, region, first (so many such
requests pass before), every (n: only each n-th of them), count (at most so often)
and chance (0 to 1). Of the rules that are about a request, the first whose turn
it is acts.

Kinds of fault, with what they take, in brackets what they may take:
  status status [body headers retry_after], headers headers,
  redirect location [status], reset_before_head, reset_after_head,
  truncate bytes, truncate_json [bytes], stall seconds [after_head],
  drip bytes ms, delay ms, html, empty_object, empty_body, null_body, no_data,
  null_data, wrong_type, no_metadata, bad_row row, missing_rows rows,
  short_total less, long_total more, duplicate_page, endless_pages,
  region_failures, empty_region_failures, deep_json depth, invalid_utf8,
  wrong_encoding, gzip_bomb megabytes, big_body megabytes"#;

/// The key that is known when none is given.
const DEFAULT_KEY: &str = "us=made-up-key-for-us-0001";

impl Simulate {
    pub(super) async fn run(self) -> Result<u8, CliError> {
        let keys = self.keys()?;
        let faults = self.faults.as_deref().map(faults).transpose()?.unwrap_or_default();
        let now = OffsetDateTime::now_utc();
        let start = self.clock.unwrap_or_else(|| now.replace_nanosecond(0).unwrap_or(now));
        let mut signals = Signals::listen()?;
        let listener = TcpListener::bind(self.listen)
            .await
            .map_err(|error| CliError::usage(format!("cannot listen on {}: {error}", self.listen)))
            .map_err(|error| error.help("choose another address; port 0 takes a free one"))?;
        let address = listener.local_addr().unwrap_or(self.listen);
        if !address.ip().is_loopback() {
            tracing::warn!("the simulator can be reached from other machines at {address}");
        }
        let page = self.page(address, start, &keys);
        let simulator = Simulator::new(
            World::generate(&self.world(start, &keys)),
            SimulatorConfig {
                keys,
                latency: self.latency,
                rate_limit: self.rate_limit,
                faults,
                start: Some(start),
                ..SimulatorConfig::default()
            },
        );
        output::print(&page)?;
        tokio::select! {
            result = insightidr_simulator::serve(simulator, listener) => {
                result.map_err(|error| CliError::failed(format!("the simulator stopped: {error}")))?;
            }
            _ = signals.next() => tracing::info!("the simulator ends"),
        }
        Ok(0)
    }

    /// The keys with their regions.
    fn keys(&self) -> Result<Vec<ApiKey>, CliError> {
        let default = [DEFAULT_KEY.to_owned()];
        let given: &[String] = if self.api_keys.is_empty() { &default } else { &self.api_keys };
        given
            .iter()
            .map(|text| {
                let (region, key) = text.split_once('=').unwrap_or(("us", text));
                if !REGIONS.contains(&region) {
                    return Err(CliError::usage(format!("{region:?} is no region; there are {}", REGIONS.join(", ")))
                        .help("write for example --api-key eu=made-up-key"));
                }
                if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
                    return Err(CliError::usage("a key must consist of printable ASCII characters without spaces"));
                }
                Ok(ApiKey::new(region, key))
            })
            .collect()
    }

    /// One organization for each region that has a key.
    fn world(&self, start: OffsetDateTime, keys: &[ApiKey]) -> WorldConfig {
        let regions: BTreeSet<&str> = keys.iter().map(|key| key.region.as_str()).collect();
        WorldConfig {
            seed: self.seed,
            organizations: regions
                .into_iter()
                .map(|region| OrganizationConfig::new(region, format!("Example Corp {}", region.to_uppercase())))
                .collect(),
            start,
            investigations: self.investigations,
            alerts_per_investigation: self.alerts_per_investigation,
            growth_per_day: self.growth_per_day,
            triage: !self.no_triage,
            restricted_evidence: self.restricted_evidence,
            ..WorldConfig::default()
        }
    }

    /// What to know and what to try. The first line ends with the address.
    fn page(&self, address: SocketAddr, start: OffsetDateTime, keys: &[ApiKey]) -> String {
        let url = format!("http://{address}");
        let start = start.format(&Rfc3339).unwrap_or_default();
        let mut text = format!("InsightIDR simulator at {url}\n");
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  clock {start}, seed {}, {} investigations a region", self.seed, self.investigations);
        for key in keys {
            let _ = writeln!(text, "  region {}: key {}", key.region, key.key);
        }
        if let Some(key) = keys.first() {
            let host = format!("{}.api.insight.rapid7.com", key.region);
            let _ = writeln!(text, "\nTry");
            let _ = writeln!(text, "  curl -H 'Host: {host}' -H 'X-Api-Key: {}' {url}/idr/v2/investigations", key.key);
            let _ = writeln!(text, "  export API_KEY='{}'", key.key);
            let _ = writeln!(
                text,
                "  host-harness poll --connector rapid7_insightidr.wasm --instance demo --set region={} \\\n      \
                 --secret api_key=env:API_KEY --route {host}={url} --clock {start} --state ./state --out -",
                key.region
            );
            let _ = writeln!(text, "  curl -X PUT -d +1h {url}/_simulator/clock");
        }
        text
    }
}

/// Reads a profile of faults.
fn faults(path: &Path) -> Result<FaultProfile, CliError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| CliError::usage(format!("cannot read the faults in {}: {error}", path.display())))?;
    FaultProfile::from_json(&text)
        .map_err(|error| CliError::usage(format!("the faults in {} are not valid: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_example_of_faults_in_the_help_is_one() {
        let (_, example) = FAULTS.split_once("\n\n").expect("a paragraph before it");
        let (example, _) = example.split_once("\n\n").expect("a paragraph behind it");
        assert_eq!(FaultProfile::from_json(example).expect("a profile").rules.len(), 2);
    }

    /// The names between backticks that serde says it expects.
    fn expected(fault: &Value) -> Option<Vec<String>> {
        let error = FaultProfile::from_json(&json!({"rules": [{"path": "*", "fault": fault}]}).to_string()).err()?;
        let error = error.to_string();
        Some(error.split('`').skip(1).step_by(2).skip(1).map(str::to_owned).collect())
    }

    #[test]
    fn the_help_names_every_kind_of_fault_with_what_it_takes() {
        let (_, kinds) = FAULTS.split_once("may take:").expect("the kinds");
        let mut told = BTreeMap::new();
        for kind in kinds.split(',') {
            let mut words = kind.split_whitespace().map(|word| word.trim_matches(['[', ']']).to_owned());
            told.insert(words.next().expect("a name"), words.collect::<Vec<_>>());
        }
        let mut names = expected(&json!({"kind": "frogs"})).expect("refused");
        names.sort();
        assert_eq!(told.keys().cloned().collect::<Vec<_>>(), names);
        for (name, members) in told {
            // One that takes none says so without naming any.
            let taken = expected(&json!({"kind": name, "frogs": 1})).expect("refused");
            assert_eq!(members, taken, "{name}");
        }
    }
}
