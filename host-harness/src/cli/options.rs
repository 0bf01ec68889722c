//! Options that `check` and `poll` share, and what they lead to: a connector
//! that is loaded and an instance that is configured.

use std::path::{Path, PathBuf};

use clap::Args;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use url::Url;

use super::error::CliError;
use crate::connectors::{ConfigureError, Connector, LoadError, Tenant, TenantError, TenantOptions};
use crate::egress::{NetworkOptions, Routes};
use crate::instances::secrets::{self, Whose};
use crate::instances::settings::{self, SettingsError};
use crate::log::escape;
use crate::sandbox::{Clock, Engine, EngineOptions};

/// For whom, and how to reach the vendor.
#[derive(Debug, Args)]
pub(super) struct InstanceOptions {
    /// A setting of the connector (see `inspect`); may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", num_args = 1..)]
    settings: Vec<String>,
    /// Where a secret is kept, env:NAME or file:PATH; may be repeated.
    /// Secrets themselves are never taken from the command line
    #[arg(long = "secret", value_name = "KEY=SOURCE", num_args = 1..)]
    secrets: Vec<String>,
    /// Send what is planned for HOST to URL instead, for example to a
    /// simulator; the only way to reach this machine; may be repeated
    #[arg(long = "route", value_name = "HOST=URL", num_args = 1..)]
    routes: Vec<String>,
    /// Trust the certification authorities in this PEM file, too; may be
    /// repeated
    #[arg(long = "ca-file", value_name = "FILE")]
    ca_files: Vec<PathBuf>,
    /// Forward proxy, or env:NAME to take it from the environment (a password
    /// in it is only taken from there)
    #[arg(long, value_name = "URL")]
    proxy: Option<String>,
    /// Set the clock of host and connector, for example
    /// 2026-01-15T12:00:00Z; it runs on from there
    #[arg(long, value_name = "RFC3339", value_parser = parse_time)]
    clock: Option<OffsetDateTime>,
}

/// The options, understood; nothing is loaded or read yet.
pub(super) struct Understood {
    settings: Vec<(String, String)>,
    secrets: Vec<(String, secrets::Source)>,
    /// Where planned hosts really are.
    pub(super) routes: Routes,
    network: NetworkOptions,
    /// The clock of host and guest.
    pub(super) clock: Clock,
}

impl InstanceOptions {
    /// Takes the options apart, which touches nothing outside.
    pub(super) fn understand(&self) -> Result<Understood, CliError> {
        Ok(Understood {
            settings: settings::parse(&self.settings)?,
            secrets: secrets::parse(&self.secrets)?,
            routes: Routes::parse(&self.routes)?,
            network: NetworkOptions {
                extra_ca_files: self.ca_files.clone(),
                proxy: self.proxy.as_deref().map(proxy).transpose()?,
            },
            clock: self.clock.map_or_else(Clock::system, Clock::starting_at),
        })
    }
}

impl Understood {
    /// Configures an instance: settings and secrets by the connector's form.
    pub(super) async fn tenant(&self, connector: &Connector, name: &str) -> Result<Tenant, CliError> {
        let whose = Whose::Instance { connector: connector.slug(), name };
        let options = TenantOptions {
            name: name.to_owned(),
            settings: settings::coerce(connector.descriptor(), &self.settings)?,
            secrets: secrets::read(connector.descriptor(), &self.secrets, whose)?,
            routes: self.routes.clone(),
            clock: self.clock.clone(),
            network: self.network.clone(),
        };
        let tenant = connector.tenant(options).await?;
        // A route that is never taken is a slip of the pen, and the secret would go to the real vendor.
        let planned = tenant.plan().hosts();
        match self.routes.iter().find(|(host, _)| !planned.contains(host)) {
            None => Ok(tenant),
            Some((host, _)) => {
                let planned = planned.into_iter().collect::<Vec<_>>().join(" and ");
                Err(CliError::usage(format!(
                    "--route is for {host}, but with these settings the connector only reaches {planned}"
                ))
                .help(format!("route {planned}, or correct the settings")))
            }
        }
    }
}

/// Loads a connector under the default limits.
pub(super) async fn load(path: &Path, cache: Option<&Path>) -> Result<Connector, CliError> {
    let engine = Engine::new(EngineOptions::default())?;
    Connector::load(&engine, path, cache).await.map_err(|error| load_error(path, &error))
}

/// Why a connector cannot be loaded, with its file and what to do.
fn load_error(path: &Path, error: &LoadError) -> CliError {
    let message = match error {
        LoadError::Unreadable { .. } => error.to_string(),
        _ => format!("{}: {error}", path.display()),
    };
    // On one line: a component may give its parts any name, and where the log goes a line of its own would look like one.
    let message = escape(&message);
    let help = match error {
        LoadError::Unreadable { .. } => "name the .wasm file of a connector that this user can read",
        LoadError::NotWasm | LoadError::NotAConnector { .. } | LoadError::CoreModule => {
            "name the .wasm file of a signal connector"
        }
        LoadError::Corrupt { .. } => "copy or build the connector again, whole",
        LoadError::ContractVersion { .. } | LoadError::ContractInterface { .. } | LoadError::ImportVersion { .. } => {
            "use a version of the connector that was built for this host, or a host of its time"
        }
        LoadError::Host { .. } => {
            return CliError::failed(message)
                .help("try again; if it stays, check the memory of this machine and the cache directory");
        }
        _ => "do not use this connector; report it to whoever maintains it",
    };
    CliError::usage(message).help(help)
}

/// A time in RFC 3339, for clap.
pub(super) fn parse_time(text: &str) -> Result<OffsetDateTime, String> {
    OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|error| format!("{error}; write it as in RFC 3339, for example 2026-01-15T12:00:00Z"))
}

/// The forward proxy: an address, or the environment variable that holds it.
/// Nothing of an address with a password is shown.
fn proxy(text: &str) -> Result<Url, CliError> {
    let from_environment = text.strip_prefix("env:");
    let address = match from_environment {
        Some(name) => std::env::var(name)
            .map_err(|_| CliError::usage(format!("the environment variable {name} for the proxy is not set")))?,
        None => text.to_owned(),
    };
    let url = Url::parse(&address)
        .map_err(|error| CliError::usage(format!("the address of the proxy cannot be read: {error}")))
        .map_err(|error| error.help("write for example --proxy http://proxy.example.com:3128"))?;
    if from_environment.is_none() && url.password().is_some() {
        return Err(CliError::usage(
            "the address of the proxy holds a password, and secrets are not taken from the command line",
        )
        .help("put the address into an environment variable and give --proxy env:NAME"));
    }
    Ok(url)
}

impl From<TenantError> for CliError {
    fn from(error: TenantError) -> Self {
        match error {
            TenantError::Configure(error) => error.into(),
            other => Self::usage(&other),
        }
    }
}

impl From<ConfigureError> for CliError {
    fn from(error: ConfigureError) -> Self {
        match error {
            ConfigureError::Fields(errors) => SettingsError::Refused { errors }.into(),
            ConfigureError::Plan(_) => Self::failed(&error).help("report this to whoever maintains the connector"),
            ConfigureError::Step(error) => {
                Self::failed(format!("the settings could not be checked: {error}")).help(error.remedy())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_the_proxys_address_is_refused_and_not_shown() {
        let error = proxy("http://me:hunter2@proxy:3128").expect_err("must fail").to_string();
        assert!(!error.contains("hunter2"), "{error}");
        assert!(error.contains("--proxy env:NAME"), "{error}");
        assert!(proxy("http://proxy:3128").is_ok());
        let error = proxy("proxy").expect_err("must fail").to_string();
        insta::assert_snapshot!(error, @r"
        error: the address of the proxy cannot be read: relative URL without a base
        help: write for example --proxy http://proxy.example.com:3128
        ");
    }

    #[test]
    fn a_component_cannot_forge_lines_by_the_names_of_its_parts() {
        let import = "url=<x\n[INFO] acme: fetched 0 records>".to_owned();
        let error = load_error(Path::new("a\nb.wasm"), &LoadError::ForbiddenImport { import }).to_string();
        assert!(error.starts_with("error: a\\nb.wasm: the component imports url=<x\\n[INFO] acme"), "{error}");
        assert_eq!(error.lines().count(), 2, "{error}");
    }

    #[test]
    fn a_clock_that_cannot_be_read_says_how_to_write_it() {
        assert!(parse_time("2026-01-15T12:00:00Z").is_ok());
        assert!(parse_time("2026-01-15T12:00:00+02:00").is_ok());
        assert!(parse_time("yesterday").expect_err("must fail").contains("2026-01-15T12:00:00Z"));
    }
}
