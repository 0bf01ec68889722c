//! `host-harness run`: the resident host.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use time::OffsetDateTime;
use tokio::net::TcpListener;

use super::error::{CliError, EXIT_FAILED};
use super::open_files;
use super::options::parse_time;
use super::signals::{Hangup, Signals};
use super::soundness;
use crate::config::watch::FileWatch;
use crate::config::{self, Config, ConfigError, LogConfig, Problem, SinkConfig};
use crate::connectors::apart::Apart;
use crate::connectors::registry::{Allowed, COMPILE_TIME, Registry, RegistryOptions};
use crate::connectors::serving::Serving;
use crate::egress::renew_tokens;
use crate::http::{Access, Site, serve};
use crate::log;
use crate::orders::Orders;
use crate::resident::board::Board;
use crate::resident::clerk::Clerk;
use crate::resident::delivery::{Delivery, Output};
use crate::resident::guard::{beyond_repair, guarded};
use crate::resident::poller::{ConnectorPoller, Phase};
use crate::resident::resolve;
use crate::resident::retention::Retention;
use crate::resident::supervisor::Supervisor;
use crate::resident::watcher::{Watcher, loaded};
use crate::sandbox::{Clock, Engine, EngineOptions};
use crate::store::{Reader, Store};

/// Poll all instances of a configuration until told to stop
///
/// Connectors come from a directory, instances from the configuration, which is
/// watched: an edit takes effect within ten seconds, a broken one is reported
/// and the one before keeps running. Status, metrics and search are served over
/// HTTP on this machine; see `host-harness status`.
///
/// SIGTERM and SIGINT end it in good order: polls at hand finish their step. A
/// second signal ends it at once; nothing that was stored is lost either way.
/// Exit code 0: it was told to stop; 1: a part of it has panicked, and it is to be
/// started again; 2: it could not start; 130 or 143: a second signal. SIGHUP polls instances that are failed or degraded.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  host-harness run --config /etc/host-harness/conductor.toml --check
  host-harness run --config /etc/host-harness/conductor.toml --log-format json")]
pub(super) struct Run {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    pub(super) config: PathBuf,
    /// Only say whether the configuration is right: everything in it, the
    /// settings by the connectors, and whether secrets, the token and
    /// certificates can be read and the output and the state directory be used;
    /// nothing is made, and nothing asked of any vendor
    #[arg(long)]
    check: bool,
    /// Set the clock of host and connectors, for example 2026-01-15T12:00:00Z;
    /// it runs on from there
    #[arg(long, value_name = "RFC3339", value_parser = parse_time)]
    clock: Option<OffsetDateTime>,
    /// Where log lines go [default: stdout, where `docker logs … | grep` finds
    /// them; stderr when artifacts or the result of --check go to standard
    /// output]
    #[arg(long, value_name = "STREAM", help_heading = super::LOGGING)]
    log_to: Option<LogTo>,
}

/// The streams that log lines may go to.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogTo {
    /// Standard output
    Stdout,
    /// Standard error
    Stderr,
}

/// How to log as far as it depends on the configuration.
#[derive(Debug, Default)]
pub(super) struct Logging {
    /// What the configuration says.
    pub(super) config: LogConfig,
    /// Where lines go.
    pub(super) to: log::To,
}

/// Takes the configuration of a start. An instance that the store does not give for what is wrong with it alone is left out
/// and told, so that it does not keep the others from being polled.
async fn take(
    supervisor: &Supervisor,
    mut config: Arc<Config>,
    slips: &mut Vec<Problem>,
) -> Result<Arc<Config>, ConfigError> {
    loop {
        let Err(error) = supervisor.apply(Arc::clone(&config)).await else { return Ok(config) };
        // What is wrong with the store as a whole is at no line.
        let line = error.problems.iter().find_map(|problem| problem.line);
        let Some(less) = line.and_then(|line| config.without(line)) else {
            return Err(error);
        };
        config = Arc::new(less);
        slips.extend(error.problems);
    }
}

/// How long the output is given at the end.
const DELIVER_WITHIN: Duration = Duration::from_secs(10);

impl Run {
    /// How to log. The configuration is read for it before there is a log; it is read again, and judged, when there is.
    ///
    /// # Errors
    /// Also for a pipe, which could be read only once.
    pub(super) fn logging(&self) -> Result<Logging, CliError> {
        if fs::metadata(&self.config).is_ok_and(|file| file.file_type().is_fifo()) {
            return Err(CliError::usage(format!("{} is a pipe", self.config.display()))
                .help("name a file: it is looked at for edits as long as the host runs"));
        }
        let config = config::load_host(&self.config).ok();
        let has_artifacts = config.as_ref().is_some_and(|config| config.sink == SinkConfig::Stdout);
        let to = match self.log_to {
            Some(LogTo::Stdout) if has_artifacts && !self.check => {
                return Err(CliError::usage("--log-to stdout would write log lines between the artifacts")
                    .help("log to stderr, or set another sink in [host]"));
            }
            Some(LogTo::Stdout) => log::To::Stdout,
            Some(LogTo::Stderr) => log::To::Stderr,
            None if has_artifacts || self.check => log::To::Stderr,
            None => log::To::Stdout,
        };
        Ok(Logging { config: config.map(|config| config.log).unwrap_or_default(), to })
    }

    pub(super) async fn run(self) -> Result<u8, CliError> {
        // First of all: until then that signal ends the process.
        let hangup = Hangup::listen()?;
        // Before it is read: what is edited from here on is news, however long the start takes.
        let file = FileWatch::new(self.config.clone());
        let (config, mut slips) =
            if self.check { (config::load(&self.config)?, Vec::new()) } else { config::load_sound(&self.config)? };
        let config = Arc::new(config);
        let clock = self.clock.map_or_else(Clock::system, Clock::starting_at);
        let engine = Engine::new(EngineOptions::default())?;
        if self.check {
            return soundness::check(&config, &engine, &clock).await;
        }
        let began = tokio::time::Instant::now();
        open_files::raise();
        let host = &config.host;
        let store = Store::open(&host.state)?;
        store.limit_daily(u64::from(host.most_megabytes_per_day) * 1_000_000);
        let reader = Reader::open(&host.state)?;
        let access = Access::new(host.allowed_hosts.clone(), host.bearer_token.clone())?;
        let mut signals = Signals::listen()?;
        let listener = match host.listen {
            Some(address) => Some(TcpListener::bind(address).await.map_err(|error| {
                CliError::usage(format!("cannot listen on {address}: {error}"))
                    .help("set another address as listen in [host], or \"off\"")
            })?),
            None => None,
        };
        let registry = registry(&config, engine, &clock)?;
        let serving: Arc<dyn Serving> = Arc::new(registry.clone());

        let now = clock.clone();
        let board = Arc::new(Board::new(Arc::new(move || now.now()), host.parallel_polls));
        let output = Output { sink: host.sink.clone(), form: host.sink_lines, network: host.network.clone() };
        let delivery = Delivery::start(store.clone(), output, Arc::clone(&board))
            .map_err(|error| CliError::failed(format!("cannot start the delivery: {error}")))?;
        let bell = delivery.bell();
        if let Some(days) = host.keep_artifacts_days {
            let undelivered = host.sink == SinkConfig::None;
            tokio::spawn(Retention { store: store.clone(), board: Arc::clone(&board), days, undelivered }.run());
        }
        let now_for_live = clock.clone();
        let poller =
            ConnectorPoller::new(Arc::clone(&serving), store.clone(), Arc::clone(&board), clock, move || bell.ring());
        let (of_clerk, orders) = (store.clone(), Orders::of(&host.state));
        let supervisor = Arc::new(Supervisor::start(store, Arc::clone(&board), Arc::new(poller), host.parallel_polls));
        let config = take(&supervisor, config, &mut slips).await?;
        let watcher =
            Watcher::new(file, Arc::clone(&config), Arc::clone(&supervisor), Arc::clone(&serving), Arc::clone(&board));
        loaded(&board, &config, Vec::new());
        for problem in &slips {
            tracing::error!("an instance is left out until this is corrected: {problem}");
        }
        board.change_host(|host| host.config.problems = slips);
        let site = Arc::new(Site::new(Arc::clone(&board), Arc::clone(&serving), reader, access));
        let server = listener.map(|listener| {
            if let Ok(address) = listener.local_addr() {
                tracing::info!("status, metrics and search at http://{address}");
            }
            let board = Arc::clone(&board);
            let serving = async {
                if let Err(error) = serve(site, listener).await {
                    tracing::error!("the HTTP server has ended: {error}");
                }
            };
            tokio::spawn(async move { guarded(&board, "the HTTP server", serving).await })
        });
        let of_hangup = Arc::clone(&supervisor);
        hangup.heed(move || {
            // Rights stand in many tokens.
            renew_tokens();
            of_hangup.wake(of_hangup.records().iter().map(|record| record.instance.id).collect());
        });
        let clerk = Clerk { orders, store: of_clerk, supervisor: Arc::clone(&supervisor), bell: delivery.bell() };
        let clerk = tokio::spawn(clerk.run(Arc::clone(&board)));
        let live = supervisor.live(now_for_live);
        let (phase, stop) = tokio::sync::watch::channel(Phase::Running);
        let polled = Arc::clone(&supervisor);
        // From the beginning: an edit does not wait for a compilation.
        let granting = registry.clone();
        tokio::spawn(watcher.run(stop, move |config| granting.grant(allowed(config))));
        // Aside, since compiling takes its time: status is shown and a stop is obeyed meanwhile.
        let connectors = async move {
            // Instances first, connectors then: a version proves itself on them. One that takes long to do so holds up
            // nothing but what nothing serves.
            let watching = registry.watch(&*live, std::future::pending());
            let told = async {
                registry.looked().await;
                polled.looked();
                // At a start, one tenant's slip must not keep the others from being polled.
                for problem in resolve::check(&config, |_| false, |kind| serving.current(kind)).await {
                    tracing::error!("{problem}");
                }
                for told in resolve::for_another_version(&config, |kind| serving.current(kind)) {
                    tracing::warn!("{told}");
                }
            };
            tokio::join!(watching, told);
        };
        let of_connectors = Arc::clone(&board);
        tokio::spawn(async move { guarded(&of_connectors, "the watcher of connectors", connectors).await });

        let code = tokio::select! {
            _ = signals.next() => {
                tracing::info!("stopping: polls at hand finish their step");
                0
            }
            () = beyond_repair(&board, began) => {
                tracing::error!("stopping, since the host is broken: polls at hand finish their step");
                EXIT_FAILED
            }
        };
        // On a thread of the runtime, so that it works even while something blocks.
        tokio::spawn(async move {
            let code = signals.next().await;
            tracing::warn!("stopped at once");
            log::finish();
            std::process::exit(i32::from(code));
        });
        // Health says so from now on; everything else is served until the end.
        board.change_host(|host| host.stopping = true);
        let _ = phase.send(Phase::Finishing);
        supervisor.stop().await;
        clerk.abort();
        delivery.stop(DELIVER_WITHIN).await;
        if let Some(server) = server {
            server.abort();
        }
        tracing::info!("stopped");
        Ok(code)
    }
}

/// The connectors of the host, which come and go.
fn registry(config: &Config, engine: Engine, clock: &Clock) -> Result<Registry, CliError> {
    let host = &config.host;
    std::fs::create_dir_all(&host.connectors).map_err(|error| {
        CliError::usage(format!("cannot make the directory of connectors {}: {error}", host.connectors.display()))
            .help("set connectors in [host] to a directory that this user can write to, or make it")
    })?;
    let options = RegistryOptions {
        directory: host.connectors.clone(),
        state: host.state.clone(),
        cache: Some(host.cache.clone()),
        allowed: allowed(config),
        clock: clock.clone(),
        compile_time: COMPILE_TIME,
        apart: Apart::of_this_program(),
    };
    Registry::open(engine, options)
        .map_err(|error| CliError::usage(error).help("give a state directory that this user owns alone"))
}

/// What the configuration allows connectors, as the registry has it.
pub(super) fn allowed(config: &Config) -> Allowed {
    Allowed { destinations: config.grants.clone(), components: config.host.approved_components.clone() }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        let many = error.problems.len();
        Self::usage(&error).help(if many > 1 { format!("correct these {many} and try again") } else { String::new() })
    }
}
