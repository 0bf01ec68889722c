//! From the text of the file to a configuration.
//!
//! What the file may say is the shape of the `Raw…` types; what is sound is
//! checked afterwards, so that one report names all that is wrong. Relative
//! paths are taken from the directory of the file.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use url::Url;
use uuid::Uuid;

use super::{
    Config, ConfigError, DEFAULT_INSTANCES_PER_TYPE, DEFAULT_LISTEN, DEFAULT_PARALLEL_POLLS, HostConfig,
    InstanceConfig, Problem,
};
use crate::connectors::serving::integration_type;
use crate::egress::{NetworkOptions, Routes};
use crate::instances::secrets::Source;

/// Longest name of an instance, in characters, as the store has it.
const LONGEST_NAME: usize = 64;
/// Longest interval, in minutes: a week.
const LONGEST_INTERVAL: u32 = 10_080;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    host: RawHost,
    #[serde(default)]
    grants: BTreeMap<String, RawGrant>,
    #[serde(default, rename = "instance")]
    instances: Vec<Spanned<RawInstance>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHost {
    state: PathBuf,
    connectors: PathBuf,
    listen: Option<Spanned<String>>,
    token: Option<Spanned<String>>,
    output: Option<PathBuf>,
    instances_per_type: Option<usize>,
    parallel_polls: Option<Spanned<usize>>,
    first_poll_within_seconds: Option<u64>,
    #[serde(default)]
    routes: Vec<Spanned<String>>,
    #[serde(default)]
    ca_files: Vec<PathBuf>,
    proxy: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGrant {
    origins: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawInstance {
    id: Option<Spanned<String>>,
    integration_type: Spanned<String>,
    name: Spanned<String>,
    #[serde(default = "yes")]
    enabled: bool,
    poll_interval_minutes: Option<Spanned<u32>>,
    #[serde(default)]
    settings: BTreeMap<String, Spanned<toml::Value>>,
    #[serde(default)]
    secrets: BTreeMap<String, Spanned<String>>,
}

fn yes() -> bool {
    true
}

/// Reads the text of a configuration file.
///
/// # Errors
///
/// Everything that is wrong with it.
pub fn parse(path: &Path, text: &str) -> Result<Config, ConfigError> {
    let failed = |problems| ConfigError { path: path.to_owned(), problems };
    let raw: RawConfig = toml::from_str(text).map_err(|error| {
        let line = error.span().map_or(0, |span| line_of(text, span.start));
        // Only the reason: the error's own text shows the line, which may hold a secret.
        failed(vec![Problem { line, message: error.message().trim().replace('\n', "; ") }])
    })?;
    let mut reader = Reader { text, base: path.parent().unwrap_or(Path::new("")), problems: Vec::new() };
    let config = reader.config(raw);
    if reader.problems.is_empty() {
        Ok(config)
    } else {
        reader.problems.sort_by_key(|problem| problem.line);
        Err(failed(reader.problems))
    }
}

/// The line of a byte, from 1.
fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// Checks what was read and collects what is wrong.
struct Reader<'t> {
    text: &'t str,
    base: &'t Path,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    /// Notes a problem with a value.
    fn problem<T>(&mut self, at: &Spanned<T>, message: impl Into<String>) {
        self.problems.push(Problem { line: line_of(self.text, at.span().start), message: message.into() });
    }

    fn config(&mut self, raw: RawConfig) -> Config {
        let host = self.host(raw.host);
        let grants = raw
            .grants
            .into_iter()
            .map(|(kind, grant)| {
                let origins = grant.origins.iter().filter_map(|origin| self.origin(origin)).collect();
                (integration_type(&kind), origins)
            })
            .collect();
        let mut instances: Vec<InstanceConfig> = Vec::new();
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for raw in raw.instances {
            let instance = self.instance(raw.as_ref());
            let name = &raw.as_ref().name;
            if instances.iter().any(|other| other.name == instance.name) {
                self.problem(name, format!("there is another instance named {:?}; names are unique", instance.name));
            }
            if let (Some(id), Some(at)) = (instance.id, &raw.as_ref().id)
                && instances.iter().any(|other| other.id == Some(id))
            {
                self.problem(at, "another instance has this id; ids are unique");
            }
            let count = counts.entry(instance.integration_type.clone()).or_default();
            *count += 1;
            if *count == host.instances_per_type + 1 {
                self.problem(
                    name,
                    format!(
                        "this is instance number {count} of type {}; at most {} are allowed: raise instances_per_type in [host]",
                        instance.integration_type, host.instances_per_type
                    ),
                );
            }
            instances.push(instance);
        }
        Config { host, grants, instances }
    }

    fn host(&mut self, raw: RawHost) -> HostConfig {
        let listen = self.listen(raw.listen.as_ref());
        let token = raw.token.as_ref().and_then(|token| self.source("token", token));
        if let (Some(address), None, Some(at)) = (listen, &raw.token, &raw.listen)
            && !address.ip().is_loopback()
        {
            self.problem(
                at,
                "status, metrics and artifacts are only served beyond this machine with a token: set token = \"file:PATH\" or \"env:NAME\", or listen on 127.0.0.1",
            );
        }
        let mut routes = Routes::new();
        for route in &raw.routes {
            if let Err(error) = routes.add(route.as_ref()) {
                self.problem(route, error.to_string());
            }
        }
        let proxy = raw.proxy.as_ref().and_then(|proxy| self.proxy(proxy));
        let parallel_polls = raw.parallel_polls.as_ref().map_or(DEFAULT_PARALLEL_POLLS, |polls| *polls.as_ref());
        if let (0, Some(at)) = (parallel_polls, &raw.parallel_polls) {
            self.problem(at, "parallel_polls is at least 1");
        }
        HostConfig {
            state: self.base.join(raw.state),
            connectors: self.base.join(raw.connectors),
            listen,
            token,
            output: raw.output.map(|output| self.base.join(output)),
            instances_per_type: raw.instances_per_type.unwrap_or(DEFAULT_INSTANCES_PER_TYPE),
            parallel_polls,
            first_poll_within_seconds: raw.first_poll_within_seconds,
            routes,
            network: NetworkOptions {
                extra_ca_files: raw.ca_files.into_iter().map(|file| self.base.join(file)).collect(),
                proxy,
            },
        }
    }

    fn listen(&mut self, raw: Option<&Spanned<String>>) -> Option<SocketAddr> {
        let text = raw.map_or(DEFAULT_LISTEN, |listen| listen.as_ref().as_str());
        if text == "off" {
            return None;
        }
        let address = text.parse().ok();
        if let (None, Some(at)) = (address, raw) {
            self.problem(at, format!("{text:?} is no address; write for example {DEFAULT_LISTEN:?}, or \"off\""));
        }
        address
    }

    /// A proxy: its address, or the environment variable that holds it.
    fn proxy(&mut self, raw: &Spanned<String>) -> Option<Url> {
        let text = raw.as_ref();
        let from_environment = text.strip_prefix("env:");
        let address = match from_environment.map(|name| (name, std::env::var(name))) {
            Some((name, Err(_))) => {
                self.problem(raw, format!("the environment variable {name} for the proxy is not set"));
                return None;
            }
            Some((_, Ok(address))) => address,
            None => text.clone(),
        };
        match Url::parse(&address) {
            Err(error) => {
                self.problem(raw, format!("the address of the proxy cannot be read: {error}"));
                None
            }
            Ok(url) if from_environment.is_none() && url.password().is_some() => {
                self.problem(raw, "the address of the proxy holds a password: put it into an environment variable and write proxy = \"env:NAME\"");
                None
            }
            Ok(url) => Some(url),
        }
    }

    /// An origin in its one form.
    fn origin(&mut self, raw: &Spanned<String>) -> Option<String> {
        let origin = Url::parse(raw.as_ref()).ok().filter(|url| {
            matches!(url.scheme(), "https" | "http")
                && url.path() == "/"
                && url.query().is_none()
                && url.host().is_some()
        });
        match origin.as_ref().and_then(|url| Some((url.scheme(), url.host_str()?, url.port_or_known_default()?))) {
            Some((scheme, host, port)) => Some(format!("{scheme}://{host}:{port}")),
            None => {
                self.problem(
                    raw,
                    "an origin is a scheme, a host and perhaps a port, for example \"https://api.example.com\"",
                );
                None
            }
        }
    }

    fn instance(&mut self, raw: &RawInstance) -> InstanceConfig {
        let id = raw.id.as_ref().and_then(|id| {
            let parsed = Uuid::try_parse(id.as_ref()).ok();
            if parsed.is_none() {
                self.problem(
                    id,
                    "an id is a UUID; leave it out to have one made, and see it with `host-harness status`",
                );
            }
            parsed
        });
        let name = raw.name.as_ref();
        let length = name.chars().count();
        if length == 0 || length > LONGEST_NAME || name.trim() != name || name.chars().any(char::is_control) {
            self.problem(&raw.name, format!("a name has 1 to {LONGEST_NAME} characters, none of them a control character, and no blank at its ends"));
        }
        let kind = integration_type(raw.integration_type.as_ref());
        if kind.is_empty()
            || !kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        {
            self.problem(
                &raw.integration_type,
                "an integration type is made of a-z, 0-9 and _, for example \"acme_siem\"",
            );
        }
        let interval = raw.poll_interval_minutes.as_ref().map(|minutes| *minutes.as_ref());
        if let (Some(minutes), Some(at)) = (interval, &raw.poll_interval_minutes)
            && !(1..=LONGEST_INTERVAL).contains(&minutes)
        {
            self.problem(
                at,
                format!("poll_interval_minutes is a whole number from 1 to {LONGEST_INTERVAL}, not {minutes}"),
            );
        }
        let mut settings = Vec::new();
        for (key, value) in &raw.settings {
            match setting(value.as_ref()) {
                Some(text) => settings.push((key.clone(), text)),
                None => self.problem(value, format!("the setting {key} is a text, a whole number, true or false")),
            }
        }
        let secrets =
            raw.secrets.iter().filter_map(|(key, source)| Some((key.clone(), self.source(key, source)?))).collect();
        InstanceConfig {
            id,
            integration_type: kind,
            name: name.clone(),
            enabled: raw.enabled,
            poll_interval_minutes: interval,
            settings,
            secrets,
        }
    }

    /// Where a secret is. What was written is not shown: it may be the secret.
    fn source(&mut self, key: &str, raw: &Spanned<String>) -> Option<Source> {
        let text = raw.as_ref();
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Some(Source::Environment(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Some(Source::File(self.base.join(path))),
            _ => {
                self.problem(raw, format!("{key} says where the secret is, \"file:PATH\" or \"env:NAME\" (what was written is not shown: if it was the secret itself, change it at the vendor)"));
                None
            }
        }
    }
}

/// A setting as text.
fn setting(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    }
}
