//! `host-harness check --config`: the same check for instances of a
//! configuration, with their connectors, secrets, routes and proxy.
//!
//! Why one after the other: a check is a few light requests, and several
//! instances may share a key and its allowance.
//! Why not always with what is in the directory of connectors: an update that is held, or a file that was damaged, is not
//! what the host polls with.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::error::{CliError, EXIT_FAILED};
use super::run::allowed;
use super::soundness::{connectors, operator};
use super::{Context, check, output};
use crate::config::{self, Config, ConfigError, InstanceConfig, LeftOut, Problem};
use crate::connectors::Connector;
use crate::connectors::registry::Operator;
use crate::connectors::serving::Serving as _;
use crate::contract::types::CheckReport;
use crate::instances::failure::FailureReport;
use crate::log::escape;
use crate::resident::tenant::{changed_by_somebody, from_problem, make};
use crate::resident::{FixedConnectors, resolve};
use crate::sandbox::{Clock, Engine, EngineOptions};

/// What came of the check of one instance.
struct Checked {
    result: Result<CheckReport, FailureReport>,
    requests: u32,
}

/// Checks one instance of a configuration, or all that are enabled.
pub(super) async fn run(
    context: &Context,
    file: &Path,
    only: Option<&str>,
    clock: &Clock,
    json: bool,
) -> Result<u8, CliError> {
    let (config, slips) = config::load_sound(file)?;
    let chosen = choose(&config, only, slips)?;
    let spinner = context.spinner("loading the connectors");
    let engine = Engine::new(EngineOptions::default())?;
    let cache = Some(config.host.cache.as_path()).filter(|cache| cache.is_dir());
    let serving = connectors(&config, &engine, cache, clock).await?;
    let operator = operator(&config.host.state)?;
    let mut connectors = Connectors { config: &config, serving, operator: operator.as_ref(), chosen: BTreeMap::new() };
    let mut all_good = true;
    let mut values = Vec::new();
    for instance in chosen {
        spinner.set_message(format!("asking the vendor for {}", escape(&instance.name)));
        let Checked { result, requests } = connectors.check(&engine, cache, instance, clock).await;
        all_good &= result.as_ref().is_ok_and(check::is_good);
        if json {
            values.push(as_json(instance, &result, requests));
            continue;
        }
        let text = match &result {
            Ok(report) => check::page(report),
            Err(failure) => format!("failed: {}\n", escape(&failure.sentence_with_wait())),
        };
        let title = format!("{} ({})", escape(&instance.name), escape(&instance.integration_type));
        spinner.suspend(|| output::print(&format!("{title}\n{}", indented(&text))))?;
    }
    spinner.finish_and_clear();
    if json {
        output::print_json(&json!({ "ok": all_good, "instances": values }), false)?;
    }
    Ok(if all_good { 0 } else { EXIT_FAILED })
}

/// The instances to check. What is wrong with others than a chosen one is a warning.
fn choose<'c>(
    config: &'c Config,
    only: Option<&str>,
    slips: Vec<Problem>,
) -> Result<Vec<&'c InstanceConfig>, CliError> {
    let of_chosen = |one: &LeftOut| only.is_none_or(|only| [&one.name, &one.handle].contains(&&Some(only.to_owned())));
    if config.left_out.iter().any(of_chosen) {
        return Err(ConfigError { problems: slips }.into());
    }
    for problem in &slips {
        tracing::warn!("{problem}");
    }
    let mut all = config.instances.iter().map(AsRef::as_ref);
    let Some(name) = only else {
        let enabled: Vec<_> = all.filter(|instance: &&InstanceConfig| instance.enabled).collect();
        return if enabled.is_empty() {
            Err(CliError::usage(format!("{} has no enabled instance", config.file.display()))
                .help("name one with --instance, or enable one"))
        } else {
            Ok(enabled)
        };
    };
    let is_it = |instance: &&InstanceConfig| instance.name == name || instance.handle.as_deref() == Some(name);
    all.find(is_it).map(|found| vec![found]).ok_or_else(|| {
        let known = config.instances.iter().map(|instance| instance.name.as_str());
        CliError::usage(format!("{} has no instance {name:?}", config.file.display()))
            .help(config::suggestion(name, known))
    })
}

/// What the instances of each type are checked with.
struct Connectors<'c> {
    config: &'c Config,
    /// What is in the directory.
    serving: FixedConnectors,
    /// What the host has judged, where one has run.
    operator: Option<&'c Operator>,
    /// By type.
    chosen: BTreeMap<String, Result<Connector, FailureReport>>,
}

impl Connectors<'_> {
    /// Checks an instance. Nothing is asked by what the host would not let ask, and nothing goes where it would not go.
    async fn check(
        &mut self,
        engine: &Engine,
        cache: Option<&Path>,
        instance: &InstanceConfig,
        clock: &Clock,
    ) -> Checked {
        let failed = |failure| Checked { result: Err(failure), requests: 0 };
        let kind = &instance.integration_type;
        if !self.chosen.contains_key(kind) {
            let chosen = self.choose(engine, cache, kind).await;
            self.chosen.insert(kind.clone(), chosen);
        }
        let connector = match self.chosen.get(kind) {
            Some(Ok(connector)) => connector,
            Some(Err(failure)) => return failed(failure.clone()),
            None => return failed(self.missing(kind)),
        };
        let config = self.config;
        let tenant = match make(instance, config, connector, clock.clone()).await {
            Ok(tenant) => tenant,
            Err((failure, _)) => return failed(failure),
        };
        if let Some(problem) = resolve::check_grant(&config.file, instance, tenant.plan(), config) {
            return failed(from_problem(&problem));
        }
        if let Some(operator) = self.operator
            && let Err(error) = operator.would_admit(connector, tenant.plan(), allowed(config))
        {
            return failed(changed_by_somebody(error.code(), error.to_string(), error.remedy()));
        }
        let (result, usage) = tenant.check().await;
        Checked { result: result.map_err(|error| FailureReport::from(&error)), requests: usage.requests }
    }

    /// What the host polls a type with: as a rule what is in the directory.
    async fn choose(&self, engine: &Engine, cache: Option<&Path>, kind: &str) -> Result<Connector, FailureReport> {
        let there = self.serving.current(kind);
        let why = match (&there, self.operator) {
            (Some(connector), None) => return Ok(connector.clone()),
            (Some(connector), Some(operator)) => match operator.would_serve(connector) {
                Ok(()) => return Ok(connector.clone()),
                Err(failure) => failure,
            },
            (None, _) => self.missing(kind),
        };
        let Some(connector) = self.kept(engine, cache, kind).await else { return Err(why) };
        tracing::warn!(
            "{kind} is checked with version {}, with which the host polls: {}",
            connector.descriptor().version,
            why.message
        );
        Ok(connector)
    }

    /// What serves a type although its file holds it no more.
    async fn kept(&self, engine: &Engine, cache: Option<&Path>, kind: &str) -> Option<Connector> {
        let bytes = self.operator?.serving(kind, engine.limits().component_bytes)?;
        let connector = Connector::from_bytes(engine, bytes, cache).await.ok()?;
        allowed(self.config).approve(connector.digest()).ok()?;
        Some(connector)
    }

    /// That nothing serves a type.
    fn missing(&self, kind: &str) -> FailureReport {
        changed_by_somebody(
            "connector-missing",
            format!("no connector in {} serves {kind}", self.config.host.connectors.display()),
            self.serving.without(kind),
        )
    }
}

/// For programs.
fn as_json(instance: &InstanceConfig, result: &Result<CheckReport, FailureReport>, requests: u32) -> Value {
    let slug = instance.integration_type.replace('_', "-");
    let mut value = check::as_json(&slug, result, requests);
    if let Some(members) = value.as_object_mut() {
        members.insert("instance".to_owned(), json!(instance.name));
        members.insert("id".to_owned(), json!(instance.handle));
    }
    value
}

/// Two spaces further in.
fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}
