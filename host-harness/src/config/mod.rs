//! The configuration of a resident host: `conductor.toml`.
//!
//! What: a text becomes a [`Config`] or a list of all that is wrong with it, each with file, line, reason and what to
//! do; `watch` notices when one of the files has changed.
//! Why nothing of a connector is known here: what an integration's settings mean is judged by its connector, later,
//! with the same kind of [`Problem`].
//! Not guaranteed: that paths exist or secrets can be read; both may come later.

mod parse;
mod problem;
mod reader;
pub mod watch;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tracing_subscriber::filter::LevelFilter;

use crate::connectors::Destinations;
use crate::contract::types::{Setting, SettingValue};
use crate::egress::{NetworkOptions, Routes};
use crate::instances::secrets::Source;
use crate::sinks::{BusConfig, LineForm};

pub use parse::{DEFAULT_MEGABYTES, DEFAULT_PORT, parse};
use parse::{parse_host, parse_sound};
pub(crate) use problem::suggestion;
pub use problem::{ConfigError, Problem, nearest};

/// Most bytes of a configuration file: room for tens of thousands of instances.
pub const MOST_BYTES: u64 = 16 << 20;

/// A configuration that is sound in itself.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it came from.
    pub file: PathBuf,
    /// `[host]`.
    pub host: HostConfig,
    /// `[grants.<type>]`: where connectors of a type may go, and their secrets for tokens, such as
    /// `https://us.api.example.com`. A type that is not here has no ceiling from the configuration.
    pub grants: BTreeMap<String, Destinations>,
    /// `[[instance]]`, in the order of the file. Each is shared with what polls it.
    pub instances: Vec<Arc<InstanceConfig>>,
    /// Those of the file that are not among them, because something is wrong with each: see [`load_sound`].
    pub left_out: Vec<LeftOut>,
}

/// An instance of the file that is not polled until it is corrected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its line.
    pub line: usize,
    /// Its id: what is kept under that is nobody else's meanwhile.
    pub handle: Option<String>,
    /// Its name, as far as it has one.
    pub name: Option<String>,
}

impl fmt::Display for LeftOut {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => formatter.write_str(name),
            None => write!(formatter, "line {}", self.line),
        }
    }
}

impl Config {
    /// The same without the instance of a line; nothing when there is none.
    #[must_use]
    pub fn without(&self, line: usize) -> Option<Self> {
        let at = self.instances.iter().position(|one| one.place.line == line)?;
        let mut less = self.clone();
        let one = less.instances.remove(at);
        less.left_out.push(LeftOut { line, handle: one.handle.clone(), name: Some(one.name.clone()) });
        Some(less)
    }

    /// What is sound and yet hardly meant, a sentence for each: an output within the state directory, which goes with it when
    /// that is restored; enabled instances of one type that take their secrets from the same places, and so collect the
    /// records of one tenant twice, under two names (each that comes second).
    #[must_use]
    pub fn doubts(&self) -> Vec<String> {
        let mut first: BTreeMap<String, &str> = BTreeMap::new();
        let mut doubts = Vec::new();
        if let SinkConfig::File(path) = &self.host.sink
            && path.starts_with(&self.host.state)
        {
            doubts.push(format!(
                "{}:{}: the output {} lies in the state directory: whoever restores that must not lose it, since what was delivered is \
                 not delivered again; put it elsewhere",
                self.file.display(),
                self.host.place.sink,
                path.display()
            ));
        }
        for kind in self.grants.keys() {
            let types = || self.instances.iter().map(|one| one.integration_type.as_str());
            if !types().any(|one| one == kind) {
                let meant =
                    nearest(kind, types()).map_or_else(String::new, |word| format!("; did you mean [grants.{word}]?"));
                doubts.push(format!(
                    "{}: [grants.{kind}] restricts nothing: no instance is of that type{meant}",
                    self.file.display()
                ));
            }
        }
        for one in self.instances.iter().filter(|one| one.enabled && !one.secrets.is_empty()) {
            let mut secrets: Vec<_> = one.secrets.iter().collect();
            secrets.sort_unstable_by_key(|(key, _)| key);
            // A key of one region, or of one customer, is none in another.
            let texts = one.settings.iter().filter(|setting| matches!(setting.value, SettingValue::Text(_)));
            let mut chosen: Vec<String> = texts.map(|setting| format!("{setting:?}")).collect();
            chosen.sort_unstable();
            match first.entry(format!("{} {chosen:?} {secrets:?}", one.integration_type)) {
                Entry::Vacant(free) => {
                    free.insert(&one.name);
                }
                Entry::Occupied(other) => doubts.push(format!(
                    "{}:{}: the instances {:?} and {:?} have the same secrets: what one tenant has is collected twice, under both \
                     names; give each its own, or remove one",
                    self.file.display(),
                    one.place.line,
                    other.get(),
                    one.name
                )),
            }
        }
        doubts
    }
}

/// What the configuration says of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogConfig {
    /// Whether a line is a JSON object.
    pub json: bool,
    /// The least severe level that is shown.
    pub level: Option<LevelFilter>,
    /// Whether lines begin with the time.
    pub timestamps: bool,
}

/// What concerns the host as a whole.
#[derive(Clone, Debug)]
pub struct HostConfig {
    /// Directory for progress and artifacts.
    pub state: PathBuf,
    /// Directory with the connectors, `*.wasm`.
    pub connectors: PathBuf,
    /// Directory for compiled connectors.
    pub cache: PathBuf,
    /// Where status and metrics are served; none when they are not.
    pub listen: Option<SocketAddr>,
    /// Where the token is kept that requests must carry.
    pub bearer_token: Option<Source>,
    /// Names in the `Host` header that are taken besides those of loopback, in lower case, without port.
    pub allowed_hosts: Vec<String>,
    /// Most instances of one integration type.
    pub most_instances_per_type: usize,
    /// Most polls at once.
    pub parallel_polls: usize,
    /// What log lines are, when the command line does not say.
    pub log: LogConfig,
    /// Proxy and certification authorities.
    pub network: NetworkOptions,
    /// Where planned hosts are sent instead.
    pub routes: Routes,
    /// Where artifacts go.
    pub sink: SinkConfig,
    /// What its lines are.
    pub sink_lines: LineForm,
    /// Within what time of its start an instance is first polled; its interval when nothing is said.
    pub first_poll_within: Option<Duration>,
    /// Megabytes (of a million bytes) of artifacts that an instance may bring in a day.
    pub most_megabytes_per_day: u32,
    /// Days for which artifacts are kept, 1 to 3650; for ever when nothing is said.
    pub keep_artifacts_days: Option<u16>,
    /// SHA-256 of the components that may be compiled and run, in lower-case hexadecimal; any when nothing is said.
    pub approved_components: Option<BTreeSet<String>>,
    /// Where some of this stands in the file.
    pub place: HostPlace,
}

/// Lines of what is found wrong only when it is tried, from 1.
#[derive(Clone, Debug, Default)]
pub struct HostPlace {
    /// Where the state directory stands.
    pub state: usize,
    /// Where the place of the token stands.
    pub bearer_token: usize,
    /// Where each file of certification authorities stands, in their order.
    pub extra_ca_files: Vec<usize>,
    /// Where the proxy stands.
    pub proxy: usize,
    /// Where the sink stands.
    pub sink: usize,
}

/// Where artifacts go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkConfig {
    /// Nowhere: they wait in the store.
    None,
    /// To standard output, one JSON object a line.
    Stdout,
    /// To the end of a file, one JSON object a line.
    File(PathBuf),
    /// Into a stream of NATS, one message for each.
    Bus(BusConfig),
}

/// One instance.
#[derive(Clone, Debug)]
pub struct InstanceConfig {
    /// The id the operator gave it, under which it may be renamed.
    pub handle: Option<String>,
    /// Integration type in the form of [`crate::connectors::serving::integration_type`].
    pub integration_type: String,
    /// Unique name.
    pub name: String,
    /// Whether it is polled.
    pub enabled: bool,
    /// Minutes between polls, 1 to 1440; the connector's default when nothing is said.
    pub poll_interval_minutes: Option<u32>,
    /// Settings of the connector, without secrets.
    pub settings: Vec<Setting>,
    /// Where its secrets are kept.
    pub secrets: Vec<(String, Source)>,
    /// Where all this stands in the file.
    pub place: Place,
}

/// Lines of an instance in the file, from 1.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Where it begins.
    pub line: usize,
    /// Where its interval stands.
    pub interval: Option<usize>,
    /// Where its settings stand, in their order.
    pub settings: Vec<usize>,
    /// Where its secrets stand, in their order.
    pub secrets: Vec<usize>,
}

impl InstanceConfig {
    /// The line of a setting or a secret, or that of the instance where it has no such key.
    #[must_use]
    pub fn line_of(&self, key: &str) -> usize {
        let settings = self.settings.iter().map(|setting| setting.key.as_str()).zip(&self.place.settings);
        let secrets = self.secrets.iter().map(|(key, _)| key.as_str()).zip(&self.place.secrets);
        settings.chain(secrets).rfind(|(known, _)| *known == key).map_or(self.place.line, |(_, line)| *line)
    }

    /// Whether the two mean the same, wherever they stand.
    #[must_use]
    pub fn means_the_same(&self, other: &Self) -> bool {
        self.handle == other.handle
            && self.integration_type == other.integration_type
            && self.name == other.name
            && self.enabled == other.enabled
            && self.poll_interval_minutes == other.poll_interval_minutes
            && self.settings == other.settings
            && self.secrets == other.secrets
    }
}

impl HostConfig {
    /// The keys of `[host]` that differ and only count at a start.
    #[must_use]
    pub fn needs_restart(&self, new: &Self) -> Vec<&'static str> {
        let mut keys = Vec::new();
        let mut compare = |key, same: bool| {
            if !same {
                keys.push(key);
            }
        };
        compare("state", self.state == new.state);
        compare("connectors", self.connectors == new.connectors);
        compare("cache", self.cache == new.cache);
        compare("listen", self.listen == new.listen);
        compare("bearer_token", self.bearer_token == new.bearer_token);
        compare("allowed_hosts", self.allowed_hosts == new.allowed_hosts);
        compare("parallel_polls", self.parallel_polls == new.parallel_polls);
        compare("log_format", self.log.json == new.log.json);
        compare("log_level", self.log.level == new.log.level);
        compare("log_timestamps", self.log.timestamps == new.log.timestamps);
        compare("sink", self.sink == new.sink);
        compare("sink_lines", self.sink_lines == new.sink_lines);
        compare("most_megabytes_per_day", self.most_megabytes_per_day == new.most_megabytes_per_day);
        compare("keep_artifacts_days", self.keep_artifacts_days == new.keep_artifacts_days);
        keys
    }
}

/// Reads and parses a configuration file.
///
/// # Errors
/// All that is wrong with it.
pub fn load(file: &Path) -> Result<Config, ConfigError> {
    parse(file, &text(file)?)
}

/// The same for a start: instances that something is wrong with are left out and told, so that one of them does not keep the
/// others from being polled. A host that runs takes a configuration as a whole or not at all; one that starts has none before.
///
/// # Errors
/// All that is wrong, if anything is wrong with more than single instances.
pub fn load_sound(file: &Path) -> Result<(Config, Vec<Problem>), ConfigError> {
    parse_sound(file, &text(file)?)
}

/// The same of `[host]` alone, for those who only have to find a host: a mistake elsewhere in the file, which a running
/// host reports itself, must not hide it. What is only in the environment of that host is left out.
///
/// # Errors
/// What of `[host]`, or of the file as a whole, is wrong.
pub fn load_host(file: &Path) -> Result<HostConfig, ConfigError> {
    parse_host(file, &text(file)?)
}

/// The text of a configuration file.
fn text(file: &Path) -> Result<String, ConfigError> {
    let whole = |code, reason: String, help: &str| ConfigError {
        problems: vec![Problem {
            file: file.display().to_string(),
            line: None,
            column: None,
            code,
            reason,
            help: help.to_owned(),
        }],
    };
    let bytes = read(file).map_err(|error| {
        whole(
            "config-unreadable",
            format!("the configuration cannot be read: {error}"),
            "name a file that this user can read",
        )
    })?;
    String::from_utf8(bytes)
        .map_err(|_| whole("config-not-text", "the configuration is not UTF-8 text".to_owned(), "save it as UTF-8"))
}

/// The bytes of a configuration file.
pub(crate) fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    crate::files::read(file, MOST_BYTES)
}
