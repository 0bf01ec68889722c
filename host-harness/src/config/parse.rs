//! From the text of `conductor.toml` to a [`Config`].
//!
//! Why by hand and not derived: every problem is found in one pass, and no message shows what may be a secret.
//! Relative paths are taken from the directory of the file.

mod allowed;
mod instances;
mod sink;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeTable;
use url::Url;

use instances::Entry;
use sink::lines;

use super::problem::{ConfigError, Problem};
use super::reader::{At, Report, Section};
use super::{Config, HostConfig, HostPlace, LogConfig};
use crate::egress::{NetworkOptions, Routes};
use crate::instances::secrets::Source;
use crate::log::parse_level;

/// Port on loopback where status and metrics are served when nothing is said.
pub const DEFAULT_PORT: u16 = 9630;

/// Most instances of a type when nothing is said, as the Conductor has it.
const DEFAULT_INSTANCES: i64 = 5;

/// Megabytes of artifacts that an instance may bring in a day when nothing is said: more than a vendor's largest tenant has for
/// a first collection, and few enough for somebody to notice before a disk is full.
pub const DEFAULT_MEGABYTES: u32 = 10_000;

/// Parses a configuration. `file` is its name for messages, and relative paths begin in its directory.
///
/// # Errors
/// All that is wrong with it.
pub fn parse(file: &Path, text: &str) -> Result<Config, ConfigError> {
    let (config, problems) = parse_sound(file, text)?;
    if problems.is_empty() { Ok(config) } else { Err(ConfigError { problems }) }
}

/// The same without the instances that something is wrong with, and what that is.
///
/// # Errors
/// All that is wrong, if anything is wrong with more than single instances.
pub(super) fn parse_sound(file: &Path, text: &str) -> Result<(Config, Vec<Problem>), ConfigError> {
    let name = file.display().to_string();
    let report = Report::new(&name, text);
    let Some(document) = table_of(&report, text) else { return Err(ConfigError { problems: report.finish() }) };
    let parser = Parser { report: &report, base: file.parent().unwrap_or(Path::new("")), is_to_run: true };
    let root = Section::new(&report, document.get_ref(), "the file", 0);
    let host = root.required("host", root.table("host"), "[host]");
    let host = host.and_then(|host| parser.host(&host));
    let grants = root.table("grants").map(|grants| parser.grants(grants.value)).unwrap_or_default();
    let tables = root.tables("instance");
    root.finish();
    let is_sound = report.count() == 0;
    let mut entries: Vec<Entry> = tables.iter().map(|table| parser.instance(table)).collect();
    if let Some(host) = &host {
        parser.counts(&mut entries, host.most_instances_per_type);
    }
    let problems = report.finish();
    match host {
        Some(host) if is_sound => {
            let (mut instances, mut left_out) = (Vec::with_capacity(entries.len()), Vec::new());
            for entry in entries {
                match entry.instance {
                    Some(instance) if entry.is_sound => instances.push(Arc::new(instance)),
                    _ => left_out.push(entry.who),
                }
            }
            Ok((Config { file: file.to_owned(), host, grants, instances, left_out }, problems))
        }
        _ => Err(ConfigError { problems }),
    }
}

/// `[host]` of a configuration, whatever else is in it.
///
/// # Errors
/// All that is wrong with that table, or with the syntax of the file.
pub(super) fn parse_host(file: &Path, text: &str) -> Result<HostConfig, ConfigError> {
    let name = file.display().to_string();
    let report = Report::new(&name, text);
    let Some(document) = table_of(&report, text) else { return Err(ConfigError { problems: report.finish() }) };
    let parser = Parser { report: &report, base: file.parent().unwrap_or(Path::new("")), is_to_run: false };
    let root = Section::new(&report, document.get_ref(), "the file", 0);
    let host = root.required("host", root.table("host"), "[host]").and_then(|host| parser.host(&host));
    let problems = report.finish();
    match host {
        Some(host) if problems.is_empty() => Ok(host),
        _ => Err(ConfigError { problems }),
    }
}

/// The tables of a text; nothing, and what is wrong with its syntax reported, when it is no TOML.
fn table_of<'t>(report: &Report<'_>, text: &'t str) -> Option<Spanned<DeTable<'t>>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let at = error.span().map_or(0, |span| span.start);
        // Its `Display` would show the line, in which a secret may stand.
        report.problem(at, "config-syntax", error.message(), "see https://toml.io for how values are written");
    }
    errors.is_empty().then_some(document)
}

/// What `[host]` says of the log.
fn log_of(section: &Section<'_, '_>) -> LogConfig {
    let json = section.text("log_format").is_some_and(|format| match format.value.as_str() {
        "json" => true,
        "text" => false,
        _ => {
            section.wrong(format.at, "log_format", "\"text\" or \"json\"");
            false
        }
    });
    let level = section.text("log_level").and_then(|level| {
        let known = parse_level(&level.value).ok();
        if known.is_none() {
            section.wrong(level.at, "log_level", "\"error\", \"warn\", \"info\", \"debug\", \"trace\" or \"off\"");
        }
        known
    });
    LogConfig { json, level, timestamps: section.boolean("log_timestamps").unwrap_or_default() }
}

/// What parsing needs everywhere.
struct Parser<'a> {
    report: &'a Report<'a>,
    base: &'a Path,
    /// Whether a host is to run with it, and not only to be found.
    is_to_run: bool,
}

impl<'a> Parser<'a> {
    fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.base.join(path)
    }

    /// `[host]`.
    fn host(&self, table: &At<&'a DeTable<'_>>) -> Option<HostConfig> {
        let section = Section::new(self.report, table.value, "[host]", table.at);
        let mut place = HostPlace::default();
        let line = |at| self.report.line(at);
        let directory = |key, example| {
            section.required(key, section.path(key), example).map(|path| (line(path.at), self.path(path.value)))
        };
        let state = directory("state", "state = \"/var/lib/host-harness\"");
        let connectors = directory("connectors", "connectors = \"/usr/lib/host-harness/connectors\"");
        let cache = section.path("cache").map(|path| self.path(path.value));
        let bearer_token = section.text("bearer_token").and_then(|text| {
            place.bearer_token = line(text.at);
            self.source("bearer_token", &text)
        });
        let listen = self.listen(&section, bearer_token.is_some() || table.value.contains_key("bearer_token"));
        let allowed_hosts =
            section.texts("allowed_hosts").into_iter().filter_map(|host| self.host_name(host)).collect();
        let most_instances = section.integer("most_instances_per_type", 1..100_001);
        let parallel = section.integer("parallel_polls", 1..65);
        let log = log_of(&section);
        let (proxy, files) = (section.text("proxy"), section.texts("extra_ca_files"));
        place.proxy = proxy.as_ref().map_or(0, |proxy| line(proxy.at));
        place.extra_ca_files = files.iter().map(|file| line(file.at)).collect();
        let network = NetworkOptions {
            proxy: proxy.and_then(|proxy| self.proxy(&proxy)),
            extra_ca_files: files.iter().map(|file| self.path(&file.value)).collect(),
        };
        let mut routes = Routes::new();
        for route in section.texts("routes") {
            if let Err(error) = routes.add(&route.value) {
                self.report.problem(route.at, error.code(), error.to_string(), "write HOST=URL");
            }
        }
        let sink = section.text("sink");
        place.sink = sink.as_ref().map_or(0, |sink| line(sink.at));
        let sink = self.sink(&section, sink);
        let sink_lines = lines(&section);
        let first = section.integer("first_poll_within_seconds", 0..86_401);
        let keep = section.integer("keep_artifacts_days", 1..3_651);
        let daily = section.integer("most_megabytes_per_day", 1..1_000_001);
        let approved_components = self.approved(&section, table.value);
        section.finish();
        let ((at, state), (_, connectors)) = (state?, connectors?);
        place.state = at;
        Some(HostConfig {
            cache: cache.unwrap_or_else(|| state.join("cache")),
            state,
            connectors,
            listen,
            bearer_token,
            allowed_hosts,
            most_instances_per_type: number(most_instances, DEFAULT_INSTANCES),
            parallel_polls: number(parallel, default_parallel_polls()),
            log,
            network,
            routes,
            sink,
            sink_lines,
            first_poll_within: first.map(|first| Duration::from_secs(first.value.unsigned_abs())),
            most_megabytes_per_day: daily
                .and_then(|megabytes| u32::try_from(megabytes.value).ok())
                .unwrap_or(DEFAULT_MEGABYTES),
            keep_artifacts_days: keep.and_then(|days| u16::try_from(days.value).ok()),
            approved_components,
            place,
        })
    }

    /// The address to serve at. One that others can reach needs a token.
    fn listen(&self, section: &Section<'a, '_>, has_token: bool) -> Option<SocketAddr> {
        let default = SocketAddr::from(([127, 0, 0, 1], DEFAULT_PORT));
        let Some(text) = section.text("listen") else { return Some(default) };
        if text.value == "off" {
            return None;
        }
        let Ok(address) = text.value.parse::<SocketAddr>() else {
            section.wrong(text.at, "listen", "an address and port such as \"127.0.0.1:9630\", or \"off\"");
            return None;
        };
        if !address.ip().is_loopback() && !has_token {
            self.report.problem(
                text.at,
                "config-open-address",
                format!("{address} can be reached from other machines, and no bearer_token is set in [host]"),
                "set bearer_token = \"file:/path/to/token\", or listen on 127.0.0.1",
            );
        }
        Some(address)
    }

    /// A name that may stand in the `Host` header.
    fn host_name(&self, name: At<String>) -> Option<String> {
        let sound = !name.value.is_empty()
            && name.value.len() <= 253
            && name.value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte));
        if !sound {
            self.report.problem(
                name.at,
                "config-value",
                "an entry of allowed_hosts in [host] is no host name",
                "write names without scheme and port, such as \"conductor.example.com\"",
            );
        }
        sound.then(|| name.value.to_ascii_lowercase())
    }

    /// Where a secret is kept. What was written is never shown.
    fn source(&self, key: &str, text: &At<String>) -> Option<Source> {
        let source = Source::parse(&text.value).map(|source| match source {
            Source::File(path) => Source::File(self.path(path)),
            other => other,
        });
        if source.is_none() {
            self.report.problem(
                text.at,
                "secret-inline",
                format!("{key:?} is not of the form file:PATH or env:NAME (what stands there is not shown: it may be the secret itself)"),
                "put the secret into a file that only this user can read and write \"file:/path/to/it\"; if it stood here, change it",
            );
        }
        source
    }

    /// The forward proxy: an address, or where it is kept in the environment.
    fn proxy(&self, text: &At<String>) -> Option<Url> {
        let problem = |reason: &str, help: &str| {
            self.report.problem(text.at, "config-value", reason, help);
            None
        };
        let from_environment = text.value.strip_prefix("env:");
        // Whoever only looks for a host that runs has another environment, and no use for it.
        if from_environment.is_some() && !self.is_to_run {
            return None;
        }
        let address = match from_environment.map(std::env::var) {
            Some(Ok(address)) => address,
            Some(Err(_)) => return problem("the environment variable for proxy is not set", "set it before the start"),
            None => text.value.clone(),
        };
        match Url::parse(&address) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
                if from_environment.is_none() && url.password().is_some() {
                    return problem(
                        "proxy in [host] holds a password",
                        "put the address into an environment variable and write \"env:NAME\"",
                    );
                }
                Some(url)
            }
            _ => problem("proxy in [host] is no address", "write for example \"http://proxy.example.com:3128\""),
        }
    }

    /// Byte offset of a line.
    fn offset(&self, line: usize) -> usize {
        self.report.offset(line)
    }
}

/// A number that was read within its range, or the default.
fn number(read: Option<At<i64>>, default: i64) -> usize {
    usize::try_from(read.map_or(default, |read| read.value)).unwrap_or(1)
}

/// Polls mostly wait for the network, so there may be several for each CPU; but a few that wait for long must not keep
/// the others from their turn, so there are never few.
fn default_parallel_polls() -> i64 {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    i64::try_from(cpus.saturating_mul(4)).unwrap_or(16).clamp(16, 64)
}

#[cfg(test)]
mod tests;
