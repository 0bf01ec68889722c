//! The command line.
//!
//! Promises: results on standard output, logs and progress on standard
//! error (`run`, which has no results to show, logs to standard output: see
//! its `--log-to`); exit code 0 when all went well, 1 when something failed while
//! running, 2 when what was given is wrong and nothing was asked of the
//! vendor, 130 or 143 after SIGINT or SIGTERM (`run`, which ends by them in the
//! ordinary way, gives 0). Options stay as they are.

mod check;
mod check_config;
mod compile_component;
mod connectors;
mod error;
mod inspect;
mod instances;
mod open_files;
mod options;
mod output;
mod planned;
mod poll;
mod poll_report;
mod run;
mod search;
mod search_words;
mod selection;
mod signals;
mod simulate;
mod soundness;
mod spread;
mod state;
mod status;
mod status_page;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use indicatif::{MultiProgress, ProgressBar};
use tokio::runtime::Runtime;
use tracing::level_filters::LevelFilter;

use crate::log;
use error::CliError;

/// Runs vendors' signal connectors in a sandbox, as WitFoo Conductor's Signal
/// Client does.
#[derive(Debug, Parser)]
#[command(name = "host-harness", version, subcommand_required = true, arg_required_else_help = true)]
#[command(after_help = "\
Examples:
  host-harness inspect connector.wasm
  host-harness poll --connector connector.wasm --instance acme --set region=us \\
      --secret api_key=env:API_KEY --state ./state --out artifacts.jsonl
  host-harness search --state ./state severity:high
  host-harness run --config conductor.toml
  host-harness status

Exit codes: 0 all went well, 1 something failed while running, 2 wrong usage, settings or files.")]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Over the options for the log.
const LOGGING: &str = "Logging (to standard error, but for `run`)";

/// Options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = LOGGING)]
struct Global {
    /// Least severe level shown: error, warn, info, debug, trace or off
    /// [default: what HOST_HARNESS_LOG says, or the configuration of `run`, or info]
    #[arg(long, global = true, value_name = "LEVEL", value_parser = log::parse_level)]
    log_level: Option<LevelFilter>,
    /// How log lines look [default: text, or what the configuration of `run` says]
    #[arg(long, global = true, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
    /// Begin log lines with the time (UTC)
    #[arg(long, global = true)]
    log_timestamps: bool,
}

/// The looks of log lines.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    /// `[INFO] connector: message`
    Text,
    /// One JSON object a line
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
enum Command {
    Inspect(inspect::Inspect),
    Check(check::Check),
    Poll(Box<poll::Poll>),
    Run(run::Run),
    Status(status::Status),
    Connectors(connectors::Connectors),
    Instances(instances::Instances),
    Search(search::Search),
    Simulate(simulate::Simulate),
    CompileComponent(compile_component::CompileComponent),
}

/// How long threads are waited for at the end.
const LINGER: Duration = Duration::from_secs(2);

/// What every command gets.
struct Context {
    /// Progress bars go here.
    progress: MultiProgress,
}

impl Context {
    /// A spinner on standard error, shown on a terminal only and gone when it
    /// is dropped.
    fn spinner(&self, message: &'static str) -> ProgressBar {
        let spinner = self.progress.add(ProgressBar::new_spinner()).with_message(message);
        spinner.enable_steady_tick(Duration::from_millis(100));
        spinner
    }
}

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    let result = search_words::set_apart(std::env::args_os().collect()).and_then(|arguments| {
        let result = run(Cli::parse_from(arguments));
        log::finish();
        result
    });
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // `eprintln!` would panic when nobody reads standard error any more.
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::from(error.exit)
        }
    }
}

/// Runs one command and gives the exit code.
fn run(cli: Cli) -> Result<u8, CliError> {
    let configured = match &cli.command {
        Command::Run(command) => command.logging()?,
        _ => run::Logging::default(),
    };
    let progress = log::init(&log::Options {
        level: level(cli.global.log_level, configured.config.level)?,
        format: match cli.global.log_format {
            Some(LogFormat::Json) => log::Format::Json,
            None if configured.config.json => log::Format::Json,
            None | Some(LogFormat::Text) => log::Format::Text,
        },
        timestamps: cli.global.log_timestamps || configured.config.timestamps,
        to: configured.to,
        aside: matches!(cli.command, Command::Run(_)),
    });
    let context = Context { progress };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::failed(format!("cannot start: {error}")))?;
    drive(runtime, async {
        signals::survive_size_limits();
        match cli.command {
            Command::Inspect(command) => command.run(&context).await,
            Command::Check(command) => command.run(&context).await,
            Command::Poll(command) => command.run(&context).await,
            Command::Run(command) => command.run().await,
            Command::Status(command) => command.run().await,
            Command::Connectors(command) => command.run(),
            Command::Instances(command) => command.run(&context),
            Command::Search(command) => command.run(),
            Command::Simulate(command) => command.run().await,
            Command::CompileComponent(command) => command.run(),
        }
    })
}

/// Runs something to its end on a runtime, and ends that. Threads that still do something which nobody waits for any more
/// (a name that is looked up, a file on a disk that does not answer) are waited for a moment and then left to themselves:
/// the process ends all the same.
fn drive<T>(runtime: Runtime, work: impl Future<Output = T>) -> T {
    let result = runtime.block_on(work);
    runtime.shutdown_timeout(LINGER);
    result
}

/// The level asked for: by option, else by environment, else by the configuration, else `info`.
fn level(option: Option<LevelFilter>, configured: Option<LevelFilter>) -> Result<LevelFilter, CliError> {
    if let Some(level) = option {
        return Ok(level);
    }
    match std::env::var(log::LEVEL_VARIABLE) {
        Ok(text) if !text.is_empty() => log::parse_level(&text)
            .map_err(|error| CliError::usage(format!("the environment variable {}: {error}", log::LEVEL_VARIABLE))),
        _ => Ok(configured.unwrap_or(LevelFilter::INFO)),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_option_for_the_level_comes_before_the_configuration() {
        assert_eq!(level(Some(LevelFilter::ERROR), Some(LevelFilter::DEBUG)).unwrap(), LevelFilter::ERROR);
        if std::env::var_os(log::LEVEL_VARIABLE).is_none() {
            assert_eq!(level(None, Some(LevelFilter::DEBUG)).unwrap(), LevelFilter::DEBUG);
            assert_eq!(level(None, None).unwrap(), LevelFilter::INFO);
        }
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_thread_that_never_ends_does_not_keep_a_command_from_ending() {
        let runtime = Runtime::new().expect("runtime");
        let began = std::time::Instant::now();
        let code = drive(runtime, async {
            tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_secs(30)));
            // So that the thread has begun.
            tokio::time::sleep(Duration::from_millis(100)).await;
            7
        });
        assert_eq!(code, 7);
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    }

    #[test]
    fn every_command_shows_examples() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("host-harness"), "{} has none", command.get_name());
        }
    }

    #[test]
    fn the_help_of_an_option_that_is_a_number_says_what_it_may_be() {
        let search = ["host-harness", "search", "--state", "s"];
        let poll = ["host-harness", "poll", "--state", "s", "--instance", "i", "--connector", "c"];
        for (arguments, option, range, least, most) in [
            (&search[..], "--limit", "1 to 100,000", 1, Some(100_000)),
            (&poll, "--max-steps", "1 or more", 1, None),
            (&poll, "--budget-requests", "10 to 10,000", 10, Some(10_000)),
            (&poll, "--most-megabytes-per-day", "1 to 1,000,000", 1, Some(1_000_000)),
        ] {
            let help = Cli::try_parse_from(arguments[..2].iter().copied().chain(["-h"])).unwrap_err().to_string();
            let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
            let told = help.split(&format!("{option} <")).nth(1).and_then(|rest| rest.split(" --").next());
            assert!(told.is_some_and(|told| told.contains(range)), "{option}: {told:?}");
            let is_taken = |number: u64| {
                let number = number.to_string();
                Cli::try_parse_from(arguments.iter().copied().chain([option, &number])).is_ok()
            };
            assert!(is_taken(least) && !is_taken(least - 1), "{option}");
            assert!(most.is_none_or(|most| is_taken(most) && !is_taken(most + 1)), "{option}");
        }
    }
}
