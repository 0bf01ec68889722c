//! `host-harness poll`: one cycle of one instance.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use clap::Args;

use super::error::{CliError, EXIT_FAILED};
use super::options::{self, InstanceOptions};
use super::poll_report::{self, Polled};
use super::signals::Signals;
use super::{Context, output};
use crate::config::DEFAULT_MEGABYTES;
use crate::contract::types::Budget;
use crate::files;
use crate::instances::courier::Courier;
use crate::instances::cycle::{CycleOptions, Run, Surroundings};
use crate::instances::report::{End, Status, counted};
use crate::sinks::LinesSink;
use crate::store::Store;

/// Collect once: everything that is new since the last time
///
/// Artifacts and progress are stored in the state directory. With --out the new
/// artifacts are appended to a file, one JSON object a line; what an earlier
/// poll has stored but not delivered comes first. Without --out they wait for a
/// poll that has it.
///
/// Where the vendor asks for a pause of at most 60 seconds (300 in all) it is
/// waited for; else the poll ends with 1, what was collected is stored, and the
/// next one goes on.
///
/// Exit code 0: every stream was collected or is knowingly not offered; 1:
/// something failed, and what was stored before stays; 2: wrong usage, settings
/// or files; 130 or 143: ended by SIGINT or SIGTERM.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  host-harness poll --connector connector.wasm --instance acme --set region=us \\
      --secret api_key=file:/etc/acme.key --state /var/lib/host-harness --out artifacts.jsonl
  host-harness poll --connector connector.wasm --instance demo --set region=us \\
      --secret api_key=env:API_KEY --route api.example.com=http://127.0.0.1:8811 \\
      --clock 2026-01-15T12:00:00Z --state ./state --json")]
pub(super) struct Poll {
    /// The connector, a WebAssembly component
    #[arg(long, value_name = "FILE")]
    connector: PathBuf,
    #[command(flatten)]
    options: InstanceOptions,
    /// Name of the instance; its progress is kept under this name
    #[arg(long, value_name = "NAME")]
    instance: String,
    /// Directory for progress and artifacts; made when it is not there
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// Append new artifacts to this file; - is standard output
    #[arg(long, value_name = "FILE|-")]
    out: Option<PathBuf>,
    /// Print a report as one JSON object at the end
    #[arg(long)]
    json: bool,
    /// End after this many steps, 1 or more, even if there is more; the next
    /// poll goes on
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    max_steps: u32,
    /// Requests that one step may make, 10 to 10,000
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(10..=10_000))]
    budget_requests: u32,
    /// Megabytes of artifacts that the instance may bring in a day (UTC), 1 to
    /// 1,000,000; it goes on the next day
    #[arg(long, value_name = "MB", default_value_t = DEFAULT_MEGABYTES, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    most_megabytes_per_day: u32,
    /// Directory in which the compiled connector is kept [default: cache in
    /// the state directory]
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
}

/// Longest single wait within a cycle; a vendor that wants more is asked again
/// by the next poll.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// All waits of a cycle together: as long as a usual polling interval.
const MOST_WAITING: Duration = Duration::from_secs(300);
/// Artifacts of one step: some 15 MB, one transaction of a second or less.
const STEP_ARTIFACTS: u32 = 5_000;
/// Bytes of the artifacts of one step, half of what the sandbox lets through.
const STEP_BYTES: u64 = 16 << 20;
/// Time of one step: what an interruption can cost at most.
const STEP_MILLISECONDS: u64 = 60_000;

impl Poll {
    pub(super) async fn run(self: Box<Self>, context: &Context) -> Result<u8, CliError> {
        let to_stdout = self.out.as_deref() == Some(Path::new("-"));
        if to_stdout && self.json {
            return Err(CliError::usage("--json and --out - would both write to standard output")
                .help("write the artifacts to a file, or leave --json out"));
        }
        let understood = self.options.understand()?;
        let spinner = context.spinner("loading the connector");
        if files::open(&self.connector).is_err() {
            // Says why; a state directory is not made for nothing.
            options::load(&self.connector, None).await?;
        }
        let store = Store::open(&self.state)?;
        store.limit_daily(u64::from(self.most_megabytes_per_day) * 1_000_000);
        let cache = self.cache.clone().unwrap_or_else(|| self.state.join("cache"));
        let connector = options::load(&self.connector, Some(&cache)).await?;
        let tenant = understood.tenant(&connector, &self.instance).await?;
        let instance = store.instance(&self.instance, connector.slug(), understood.clock.now())?;
        // What cannot be stored is not asked for.
        store.try_volume(&instance, understood.clock.now())?;
        let sink = self.out.as_deref().map(LinesSink::open).transpose()?;

        let mut signals = Signals::listen()?;
        let signalled = Arc::new(AtomicU8::new(0));
        let seen = signalled.clone();
        let (stopped, mut stop) = tokio::sync::watch::channel(false);
        // On a thread of the runtime, so that a second signal ends the process even while an output takes no data.
        tokio::spawn(async move {
            seen.store(signals.next().await, Ordering::Relaxed);
            stopped.send_replace(true);
            std::process::exit(i32::from(signals.next().await));
        });
        spinner.set_message("polling");
        let begun = Instant::now();
        let courier = sink.map(|sink| Courier::start(store.clone(), instance.clone(), sink));
        let mut cycle = Run {
            collector: &tenant,
            store: &store,
            instance: &instance,
            streams: &connector.descriptor().streams,
            options: &self.cycle_options(),
            surroundings: Surroundings {
                now: &|| understood.clock.now(),
                sleep: &|wait| {
                    spinner.set_message(format!("the vendor asks to wait for {} s", wait.as_secs()));
                    Box::pin(tokio::time::sleep(wait))
                },
                progress: &|cycle| {
                    if let Some(courier) = &courier {
                        courier.ring();
                    }
                    let steps = counted(u64::from(cycle.steps), "step");
                    let requests = counted(u64::from(cycle.usage.requests), "request");
                    let hint = cycle.hint.as_ref().map(|hint| format!(". {hint}")).unwrap_or_default();
                    spinner.set_message(format!("polling: {steps}, {requests}, {} new artifacts{hint}", cycle.new));
                },
                stopping: &|| false,
            },
        }
        .cycle(async { _ = stop.wait_for(|stop| *stop).await })
        .await;
        if let Some(courier) = courier {
            cycle.delivered = Some(courier.finish(async { _ = stop.wait_for(|stop| *stop).await }).await);
        }
        if *stop.borrow() {
            cycle.end = End::Interrupted;
        }
        cycle.elapsed = begun.elapsed();
        spinner.finish_and_clear();

        cycle.log(connector.slug(), &instance.name, |_| false);
        let output_name = self.out.as_ref().map(|path| path.display().to_string());
        let polled = Polled {
            instance: &instance.name,
            connector: &connector,
            routes: &understood.routes,
            output: output_name.as_deref(),
        };
        if self.json {
            output::print_json(&poll_report::as_json(&polled, &cycle), false)?;
        } else if !to_stdout {
            output::print(&poll_report::page(&polled, &cycle))?;
        }
        Ok(match (cycle.end, cycle.status()) {
            (End::Interrupted, _) => signalled.load(Ordering::Relaxed),
            (_, Status::Ok) => 0,
            (_, Status::Degraded | Status::Failed) => EXIT_FAILED,
        })
    }

    fn cycle_options(&self) -> CycleOptions {
        CycleOptions {
            budget: Budget {
                requests: self.budget_requests,
                artifacts: STEP_ARTIFACTS,
                artifact_bytes: STEP_BYTES,
                wall_time_milliseconds: STEP_MILLISECONDS,
            },
            most_steps: self.max_steps,
            longest_turn: Duration::MAX,
            longest_wait: LONGEST_WAIT,
            most_waiting: MOST_WAITING,
            defer_waits: false,
        }
    }
}
