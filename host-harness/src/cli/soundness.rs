//! `host-harness run --check`: whether a configuration is right, by trying all that can be tried without a vendor.
//!
//! Why everything at once: whoever is about to start a host wants to hear of all slips, each with its line.
//! Not guaranteed: that the host starts. Its address may be taken, and its state in use, by one that runs.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::Path;

use rustix::fs::{Access as Right, access};

use super::error::CliError;
use super::output;
use super::run::allowed;
use crate::config::{Config, ConfigError, Problem, SinkConfig};
use crate::connectors::registry::{Operator, OperatorError};
use crate::connectors::serving::Serving as _;
use crate::contract::types::{Origin, Plan, Scheme};
use crate::egress::{Gate, GateOptions, NetworkError, NetworkOptions, Policy, Redactor, Routes, system_lookup};
use crate::http::Access;
use crate::instances::report::counted;
use crate::instances::secrets::{self, Whose};
use crate::log::escape;
use crate::resident::{FixedConnectors, resolve};
use crate::sandbox::{Clock, Engine, Limits};
use crate::sinks::{BusSink, SinkError};
use crate::store::Store;

/// Says what is wrong, or that nothing is.
pub(super) async fn check(config: &Config, engine: &Engine, clock: &Clock) -> Result<u8, CliError> {
    // A check makes no directories.
    let cache = Some(config.host.cache.as_path()).filter(|cache| cache.is_dir());
    let serving = connectors(config, engine, cache, clock).await?;
    let mut problems = host(config, engine.limits()).await;
    problems.extend(resolve::check(config, |_| false, |kind| serving.current(kind)).await);
    problems.extend(unserved(config, &serving)?);
    problems.extend(not_granted(config, &serving).await?);
    for instance in &config.instances {
        if serving.current(&instance.integration_type).is_none() {
            let directory = config.host.connectors.display();
            let reason = format!("no connector in {directory} serves {}", instance.integration_type);
            let help = serving.without(&instance.integration_type);
            problems.push(resolve::problem(&config.file, instance.place.line, "connector-missing", reason, help));
        }
        let connector = instance.integration_type.replace('_', "-");
        let whose = Whose::Instance { connector: &connector, name: &instance.name };
        for secret in &instance.secrets {
            if let Err(error) = secrets::take(std::slice::from_ref(secret), whose) {
                let line = instance.line_of(&secret.0);
                problems.push(resolve::problem(&config.file, line, error.code(), error.to_string(), error.help()));
            }
        }
    }
    if !problems.is_empty() {
        problems.sort_by_key(|problem| problem.line);
        return Err(ConfigError { problems }.into());
    }
    let enabled = config.instances.iter().filter(|instance| instance.enabled).count();
    for doubt in config.doubts() {
        tracing::warn!("{doubt}");
    }
    output::print(&format!(
        "{}: sound; {}, {enabled} of them enabled\n",
        escape(&config.file.display().to_string()),
        counted(config.instances.len() as u64, "instance")
    ))?;
    Ok(0)
}

/// What a host that ran before does not let serve, for each type at its first instance.
fn unserved(config: &Config, serving: &FixedConnectors) -> Result<Vec<Problem>, CliError> {
    let Some(operator) = operator(&config.host.state)? else { return Ok(Vec::new()) };
    let mut seen = BTreeSet::new();
    let mut problems = Vec::new();
    for instance in config.instances.iter().filter(|instance| seen.insert(&instance.integration_type)) {
        let Some(connector) = serving.current(&instance.integration_type) else { continue };
        if let Err(failure) = operator.would_take(&connector) {
            // The host goes on with what it has kept of the type.
            if operator.serves(&instance.integration_type) {
                tracing::warn!("{}: {}; the host goes on with that", instance.integration_type, failure.message);
                continue;
            }
            let help = "see `host-harness connectors list`".to_owned();
            let line = instance.place.line;
            problems.push(resolve::problem(&config.file, line, "connector-missing", failure.message, help));
        }
    }
    Ok(problems)
}

/// The enabled instances that want to go where a host that ran before has not granted it: it would not poll them.
async fn not_granted(config: &Config, serving: &FixedConnectors) -> Result<Vec<Problem>, CliError> {
    let Some(operator) = operator(&config.host.state)? else { return Ok(Vec::new()) };
    let mut problems = Vec::new();
    for instance in config.instances.iter().filter(|instance| instance.enabled) {
        let Some(connector) = serving.current(&instance.integration_type) else { continue };
        // What is wrong with its settings, and where the configuration itself grants it nothing, is told already.
        let Ok(plan) = resolve::plan(instance, &connector).await else { continue };
        if resolve::check_grant(&config.file, instance, &plan, config).is_some() {
            continue;
        }
        if let Err(error) = operator.would_admit(&connector, &plan, allowed(config)) {
            let line = instance.place.line;
            problems.push(resolve::problem(&config.file, line, error.code(), error.to_string(), error.remedy()));
        }
    }
    Ok(problems)
}

/// What a host with this state has judged and granted; nothing where none has run yet.
pub(super) fn operator(state: &Path) -> Result<Option<Operator>, CliError> {
    match Operator::at(state) {
        Ok(operator) => Ok(Some(operator)),
        Err(OperatorError::NoHost { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The connectors of the configured directory.
pub(super) async fn connectors(
    config: &Config,
    engine: &Engine,
    cache: Option<&Path>,
    clock: &Clock,
) -> Result<FixedConnectors, CliError> {
    let directory = &config.host.connectors;
    FixedConnectors::load(engine, directory, cache, &allowed(config), clock.now()).await.map_err(|error| {
        CliError::usage(format!("cannot read the connectors in {}: {error}", directory.display()))
            .help("set connectors in [host] to a directory that this user can read")
    })
}

/// What is wrong with that of `[host]` which has to be there when the host starts, or soon after.
async fn host(config: &Config, limits: &Limits) -> Vec<Problem> {
    let (host, place) = (&config.host, &config.host.place);
    let mut problems = Vec::new();
    let mut wrong = |line: usize, code: &'static str, reason: String, help: String| {
        problems.push(resolve::problem(&config.file, line, code, reason, help));
    };
    if let Err(error) = Store::check(&host.state) {
        wrong(place.state, error.code(), error.to_string(), error.help().to_owned());
    }
    if let Err(error) = Access::new(Vec::new(), host.bearer_token.clone()) {
        wrong(place.bearer_token, error.code(), error.to_string(), error.help());
    }
    let proxy = NetworkOptions { extra_ca_files: Vec::new(), proxy: host.network.proxy.clone() };
    let files = host.network.extra_ca_files.iter().zip(&place.extra_ca_files);
    let files = files.map(|(file, line)| (*line, NetworkOptions { extra_ca_files: vec![file.clone()], proxy: None }));
    for (line, options) in files.chain([(place.proxy, proxy)]) {
        if let Err(error) = network(&options, limits).await {
            // What is to be done is in it.
            wrong(line, error.code(), error.to_string(), String::new());
        }
    }
    if let SinkConfig::File(path) = &host.sink
        && let Err(source) = writable(path, &host.state)
    {
        let error = SinkError::Open { output: path.display().to_string(), source };
        let help = "name a file in a directory that exists and that this user can write to".to_owned();
        wrong(place.sink, error.code(), error.to_string(), help);
    }
    if let SinkConfig::Bus(bus) = &host.sink {
        let mut sink = BusSink::new(bus.clone(), host.network.clone(), host.sink_lines);
        if let Err(error) = sink.connect().await {
            wrong(place.sink, error.code(), error.to_string(), error.help().to_owned());
        }
    }
    problems
}

/// Whether the network can be reached in this way, as far as that is known without trying: by the way out of a tenant,
/// which fails for no other reason.
async fn network(options: &NetworkOptions, limits: &Limits) -> Result<(), NetworkError> {
    let network = options.read().await?;
    let origin = Origin { scheme: Scheme::Https, host: "host.invalid".to_owned(), port: 443 };
    let options = GateOptions {
        connector: "",
        instance: "",
        policy: Policy::from_plan(&Plan { origin, rules: Vec::new() }),
        credentials: Vec::new(),
        redactor: Redactor::default(),
        routes: &Routes::new(),
        network: &network,
        limits,
    };
    Gate::new(options, system_lookup()).map(drop)
}

/// Whether a file can be written to, or made, also in a state directory that comes with the first start. Nothing is opened,
/// which a pipe would wait for.
fn writable(path: &Path, state: &Path) -> io::Result<()> {
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => Err(ErrorKind::IsADirectory.into()),
        Ok(_) => Ok(access(path, Right::WRITE_OK)?),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            if parent == state && !state.exists() {
                return Ok(());
            }
            if !parent.metadata()?.is_dir() {
                return Err(ErrorKind::NotADirectory.into());
            }
            Ok(access(parent, Right::WRITE_OK | Right::EXEC_OK)?)
        }
        Err(error) => Err(error),
    }
}
