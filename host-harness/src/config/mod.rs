//! The configuration of a running host: one TOML file.
//!
//! Why every problem at once, with its line: an operator mends a file in one
//! go, and a running host that refuses an edit must say why in its status.
//! Secrets are named by their source, `file:` or `env:`; one that stands in the
//! file itself is refused and not shown.
//!
//! Not guaranteed: that settings fit their connector; only the connector knows,
//! and says so when the instance is polled.

mod error;
mod read;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use uuid::Uuid;

pub use error::{ConfigError, Problem};
pub use read::parse;

use crate::egress::{NetworkOptions, Routes};
use crate::instances::secrets::Source;

/// Where status is served unless the file says otherwise.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:9464";
/// Instances of one type unless the file says otherwise.
pub const DEFAULT_INSTANCES_PER_TYPE: usize = 5;
/// Polls under way at once unless the file says otherwise.
pub const DEFAULT_PARALLEL_POLLS: usize = 16;

/// A configuration that was understood.
#[derive(Clone, Debug)]
pub struct Config {
    /// The host.
    pub host: HostConfig,
    /// Origins that a type may reach, as `https://host:port`, by integration
    /// type. A type that is not here is granted what it asks for when it is
    /// first loaded.
    pub grants: BTreeMap<String, Vec<String>>,
    /// The instances, in the order of the file; names are unique.
    pub instances: Vec<InstanceConfig>,
}

/// The host's own settings.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Directory for progress and artifacts.
    pub state: PathBuf,
    /// Directory in which connectors are looked for: every `.wasm` file.
    pub connectors: PathBuf,
    /// Where status, metrics and artifacts are served; `None` for nowhere.
    pub listen: Option<SocketAddr>,
    /// What callers have to bring; required unless `listen` is a loopback
    /// address.
    pub token: Option<Source>,
    /// File to which artifacts are appended, one JSON object a line.
    pub output: Option<PathBuf>,
    /// Most instances of one type.
    pub instances_per_type: usize,
    /// Most polls under way at once.
    pub parallel_polls: usize,
    /// Seconds within which every instance is polled first, at most its
    /// interval.
    pub first_poll_within_seconds: Option<u64>,
    /// Planned hosts that are really elsewhere, such as a simulator.
    pub routes: Routes,
    /// How the network is reached.
    pub network: NetworkOptions,
}

/// One instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceConfig {
    /// What its state is kept under; without it, the name.
    pub id: Option<Uuid>,
    /// Integration type, written with `_`.
    pub integration_type: String,
    /// Unique name.
    pub name: String,
    /// Whether it is polled.
    pub enabled: bool,
    /// Minutes between two polls; without it, the connector's default.
    pub poll_interval_minutes: Option<u32>,
    /// Settings as texts; the connector's form gives them their types.
    pub settings: Vec<(String, String)>,
    /// Where its secrets are.
    pub secrets: Vec<(String, Source)>,
}

#[cfg(test)]
mod tests;
