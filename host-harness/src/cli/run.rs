//! `host-harness run`: instances on schedule, until told to stop.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use secrecy::ExposeSecret;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::error::CliError;
use super::output;
use super::signals::Signals;
use crate::config::{ConfigError, HostConfig};
use crate::connectors::registry::{Registry, RegistryOptions};
use crate::connectors::serving::Serving;
use crate::instances::secrets::Source;
use crate::run::board::Board;
use crate::run::http::{self, Answers};
use crate::run::metrics::Metrics;
use crate::run::poller::{self, Surrounding};
use crate::run::supervisor::{Live, Supervisor};
use crate::run::watch as watching;
use crate::sandbox::{Clock, Engine, EngineOptions};
use crate::store::Store;

/// Poll instances on schedule until told to stop
///
/// Reads a configuration file and keeps to it: an edit, a new or replaced
/// connector and a new secret take effect without a restart. Status, metrics
/// and artifacts are served on loopback. SIGTERM or SIGINT ends it in good
/// order: polls under way end their step.
///
/// Exit code 0: stopped as asked; 1: something failed while running; 2: wrong
/// usage, configuration or files.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  host-harness run --config conductor.toml
  host-harness run --config conductor.toml --check
  host-harness --log-format json run --config conductor.toml")]
pub(super) struct Run {
    /// The configuration, a TOML file; see conductor.example.toml
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Only check the configuration
    #[arg(long)]
    check: bool,
}

impl Run {
    pub(super) async fn run(self: Box<Self>) -> Result<u8, CliError> {
        let (text, config) = watching::read(&self.config)?;
        if self.check {
            let enabled = config.instances.iter().filter(|instance| instance.enabled).count();
            output::print(&format!(
                "{}: ok, {} instances, {enabled} enabled\n",
                self.config.display(),
                config.instances.len()
            ))?;
            return Ok(0);
        }
        let mut signals = Signals::listen()?;
        let clock = Clock::system();
        let host = config.host.clone();
        let store = Store::open(&host.state)?;
        let engine = Engine::new(EngineOptions::default())?;
        std::fs::create_dir_all(&host.connectors).map_err(|error| {
            CliError::usage(format!("cannot make the directory of connectors {}: {error}", host.connectors.display()))
        })?;
        let registry = Arc::new(Registry::new(
            engine,
            RegistryOptions {
                directory: host.connectors.clone(),
                cache: host.state.join("cache"),
                state: host.state.clone(),
                clock: clock.clone(),
            },
        ));
        let board = Board::default();
        board.host(|shown| {
            shown.version = env!("CARGO_PKG_VERSION");
            shown.started = Some(clock.now());
            shown.configured = Some(clock.now());
            shown.configuration = self.config.display().to_string();
        });
        let metrics = Metrics::new();
        let around = Arc::new(Surrounding {
            store: store.clone(),
            clock: clock.clone(),
            routes: host.routes.clone(),
            network: host.network.clone(),
            cycle: poller::cycle_options(),
        });
        let live = Live::new(around.clone());
        let serving: Arc<dyn Serving> = registry.clone();
        if let Some(listener) = listener(&host).await? {
            let token = host.token.as_ref().map(token).transpose()?;
            let answers =
                Answers { board: board.clone(), metrics: metrics.clone(), serving: serving.clone(), store, token };
            tokio::spawn(http::serve(listener, answers));
        }
        let (sender, receiver) = watch::channel(Arc::new(config));
        tokio::spawn(watching::watch(self.config.clone(), text, sender, board.clone(), clock));
        let supervisor = Supervisor::new(receiver, serving, live.clone(), around, board, metrics);
        // Twice, since a file is judged at the second look.
        registry.look(&*live).await;
        registry.look(&*live).await;
        tokio::spawn(async move { registry.watch(&*live).await });
        tracing::info!("host started with {}", self.config.display());
        supervisor
            .run(async {
                let code = signals.next().await;
                let signal = if code == 130 { "SIGINT" } else { "SIGTERM" };
                tracing::info!(
                    "host stopping by {signal}: polls under way end their step; a second signal ends at once"
                );
                tokio::spawn(async move { std::process::exit(i32::from(signals.next().await)) });
            })
            .await;
        tracing::info!("host stopped");
        Ok(0)
    }
}

/// Where status is served.
async fn listener(host: &HostConfig) -> Result<Option<TcpListener>, CliError> {
    let Some(address) = host.listen else { return Ok(None) };
    let listener = TcpListener::bind(address).await.map_err(|error| {
        CliError::usage(format!("cannot listen on {address}: {error}"))
            .help("set listen in [host] to a free address, or to \"off\"")
    })?;
    let address = listener.local_addr().unwrap_or(address);
    tracing::info!("status on http://{address}/status");
    Ok(Some(listener))
}

/// The token that callers have to bring.
fn token(source: &Source) -> Result<Arc<str>, CliError> {
    let secret = crate::instances::secrets::read_one("token", source)?;
    Ok(Arc::from(secret.expose_secret()))
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        Self::usage(&error).help("correct the file; conductor.example.toml shows everything that it may say")
    }
}
