//! One whole poll over HTTP to a vendor that takes its time, against the ideal.
//!
//! A poll is what the command does: a new tenant without connections, steps to the end, everything committed to disk
//! and delivered to a file. The ideal is that of a client for which only the vendor's latency costs time: the rounds of
//! the lists, one after the other, and the alert calls, as many at a time as the settings allow. The lists are four: new
//! investigations, the page behind a full one (the vendor's totals move), what gained alerts, and what is known.

use std::time::{Duration, Instant};

use host_harness::connectors::Connector;
use host_harness::contract::types::Budget;
use host_harness::instances::courier::Courier;
use host_harness::instances::cycle::{CycleOptions, Run, Surroundings};
use host_harness::instances::report::{Cycle, Status};
use host_harness::sinks::LinesSink;
use host_harness::store::Store;

use crate::report::Report;
use crate::setting::{Setting, Vendor, simulator};

/// The vendor's time for an answer.
pub(crate) const LATENCY: Duration = Duration::from_millis(50);
/// Investigations, with one alert each.
const INVESTIGATIONS: usize = 100;
/// Requests of the lists, one after the other.
const LISTS: usize = 4;
/// Requests at a time; see `settings`.
const CONCURRENCY: usize = 8;
/// Polls.
const RUNS: usize = 9;

/// Measures and reports.
pub(crate) fn measure(setting: &Setting, report: &mut Report) -> anyhow::Result<()> {
    let vendor = Vendor::of(simulator(INVESTIGATIONS, 1, LATENCY))?;
    let connector = setting.load(true)?;
    let rounds = u32::try_from(LISTS + INVESTIGATIONS.div_ceil(CONCURRENCY))?;
    let ideal = LATENCY.saturating_mul(rounds).as_secs_f64();
    let (mut walls, mut ratios) = (Vec::new(), Vec::new());
    let (mut cpu, mut peaks) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let cycle = poll(setting, &connector, &vendor)?;
        let (requests, artifacts) = (
            usize::try_from(cycle.usage.requests)?,
            usize::try_from(cycle.delivered.as_ref().map_or(0, |delivered| delivered.count))?,
        );
        anyhow::ensure!(
            cycle.status() == Status::Ok && (requests, artifacts) == (LISTS + INVESTIGATIONS, 2 * INVESTIGATIONS),
            "the poll is not the one to measure: {cycle:#?}"
        );
        walls.push(cycle.elapsed.as_secs_f64() * 1e3);
        ratios.push(cycle.elapsed.as_secs_f64() / ideal);
        cpu.push(cycle.usage.guest_cpu.unwrap_or_default().as_secs_f64() * 1e3);
        #[expect(clippy::cast_precision_loss, reason = "a size for people")]
        peaks.push(cycle.usage.guest_peak_bytes as f64 / f64::from(1 << 20));
    }
    report.add("poll, 100 alert calls at 50 ms, 8 at a time", "ms", None, walls);
    report.add("poll : ideal of 17 rounds", "ratio", Some("<= 1.1"), ratios);
    report.add("poll, time in the guest", "ms", None, cpu);
    report.add("poll, memory of the guest at its peak", "MiB", None, peaks);
    Ok(())
}

/// One poll, from nothing.
fn poll(setting: &Setting, connector: &Connector, vendor: &Vendor) -> anyhow::Result<Cycle> {
    let folder = tempfile::tempdir()?;
    let store = Store::open(folder.path())?;
    let tenant = setting.tenant(connector, vendor)?;
    let now = vendor.simulator.now();
    let instance = store.instance("bench", connector.slug(), now)?;
    let sink = LinesSink::open(&folder.path().join("artifacts.jsonl"))?;
    let options = CycleOptions {
        budget: Budget { requests: 500, artifacts: 5_000, artifact_bytes: 16 << 20, wall_time_milliseconds: 60_000 },
        most_steps: 10,
        longest_turn: Duration::MAX,
        longest_wait: Duration::ZERO,
        most_waiting: Duration::ZERO,
        defer_waits: false,
    };
    let _entered = setting.runtime.enter();
    let begun = Instant::now();
    let courier = Courier::start(store.clone(), instance.clone(), sink);
    let run = Run {
        collector: &tenant,
        store: &store,
        instance: &instance,
        streams: &connector.descriptor().streams,
        options: &options,
        surroundings: Surroundings {
            now: &move || now,
            sleep: &|wait| Box::pin(tokio::time::sleep(wait)),
            progress: &|_| courier.ring(),
            stopping: &|| false,
        },
    };
    let mut cycle = setting.runtime.block_on(run.cycle(std::future::pending()));
    cycle.delivered = Some(setting.runtime.block_on(courier.finish(std::future::pending())));
    cycle.elapsed = begun.elapsed();
    Ok(cycle)
}
