//! How the connector's cost grows: with investigations, with the alerts of each, and with what is remembered.

use std::time::Duration;

use anyhow::Context;
use host_harness::contract::types::Budget;
use host_harness::sandbox::Usage;

use crate::curves::{Chart, Curve};
use crate::report::{Report, median};
use crate::setting::{Setting, Vendor, simulator};

/// What a step may do: what a host that runs gives.
const BUDGET: Budget =
    Budget { requests: 500, artifacts: 5_000, artifact_bytes: 16 << 20, wall_time_milliseconds: 60_000 };
/// Investigations of first cycles.
const BACKLOGS: [usize; 4] = [100, 1_000, 10_000, 100_000];
/// Alerts of each of a thousand.
const ALERTS: [usize; 4] = [1, 3, 10, 30];
/// Polls without anything new.
const QUIET: usize = 30;

/// A first cycle, and polls behind it in which nothing is new.
struct Collected {
    artifacts: u64,
    cpu: Duration,
    /// Most linear memory of each step.
    peaks: Vec<f64>,
    requests: u64,
    checkpoint: usize,
    /// CPU of quiet polls, in milliseconds.
    quiet: Vec<f64>,
    quiet_peak: u64,
}

/// Measures and reports.
pub(crate) fn measure(setting: &Setting, report: &mut Report) -> anyhow::Result<()> {
    let (mut per_artifact, mut steps_median, mut steps_most) = (Vec::new(), Vec::new(), Vec::new());
    let (mut quiet, mut quiet_memory, mut checkpoints) = (Vec::new(), Vec::new(), Vec::new());
    for investigations in BACKLOGS {
        let found = collect(setting, investigations, 1)?;
        let x = count(investigations);
        per_artifact.push((x, found.cpu.as_secs_f64() * 1e6 / found.artifacts as f64));
        steps_median.push((x, median(&found.peaks) / 1e6));
        steps_most.push((x, found.peaks.iter().copied().fold(0.0, f64::max) / 1e6));
        quiet.push((x, median(&found.quiet)));
        quiet_memory.push((x, found.quiet_peak as f64 / 1e6));
        checkpoints.push((x, found.checkpoint as f64 / 1e3));
    }
    tell(report, "first cycle, CPU of the guest for an artifact", "us", &per_artifact);
    tell(report, "first cycle, linear memory, median step", "MB", &steps_median);
    tell(report, "first cycle, linear memory, largest step", "MB", &steps_most);
    tell(report, "poll without anything new, CPU", "ms", &quiet);
    tell(report, "poll without anything new, linear memory", "MB", &quiet_memory);
    tell(report, "checkpoint", "kB", &checkpoints);
    let by_alerts = ALERTS
        .into_iter()
        .map(|alerts| {
            let found = collect(setting, 1_000, alerts)?;
            let of_one = found.cpu.as_secs_f64() * 1e6 / found.artifacts as f64;
            Ok((count(alerts), of_one, found.requests as f64 / found.artifacts as f64))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let cpu: Vec<(f64, f64)> = by_alerts.iter().map(|(x, cpu, _)| (*x, *cpu)).collect();
    let requests: Vec<(f64, f64)> = by_alerts.iter().map(|(x, _, requests)| (*x, *requests)).collect();
    tell(report, "1,000 investigations, CPU for an artifact", "us", &cpu);
    tell(report, "1,000 investigations, requests for an artifact", "", &requests);

    let named = |name: &str, points: &[(f64, f64)]| -> Curve { (name.to_owned(), points.to_vec()) };
    let chart = |file, title, x, y, curves| Chart { file, title, x, y, curves }.draw();
    chart(
        "backlog-cpu",
        "First cycle: CPU of the guest for an artifact",
        "investigations, one alert each",
        "µs",
        vec![named("", &per_artifact)],
    )?;
    chart(
        "backlog-memory",
        "First cycle: linear memory of a step",
        "investigations, one alert each",
        "MB",
        vec![named("largest step", &steps_most), named("median step", &steps_median)],
    )?;
    chart(
        "remembered",
        "A poll without anything new",
        "investigations collected before",
        "ms of CPU, MB of linear memory",
        vec![named("CPU (ms)", &quiet), named("memory (MB)", &quiet_memory)],
    )?;
    chart(
        "alerts-cpu",
        "1,000 investigations: CPU of the guest for an artifact",
        "alerts of each",
        "µs",
        vec![named("", &cpu)],
    )
}

/// One sample for each point, in their order.
fn tell(report: &mut Report, name: &'static str, unit: &'static str, points: &[(f64, f64)]) {
    for (x, y) in points {
        eprintln!("  {name}: {x} → {y:.2} {unit}");
    }
    report.add(name, unit, None, points.iter().map(|(_, y)| *y).collect());
}

fn count(number: usize) -> f64 {
    number as f64
}

/// A first cycle of a tenant with so much, and quiet polls.
fn collect(setting: &Setting, investigations: usize, alerts: usize) -> anyhow::Result<Collected> {
    let vendor = Vendor::of(simulator(investigations, alerts, Duration::ZERO))?;
    let connector = setting.load(true)?;
    let tenant = setting.tenant(&connector, &vendor)?;
    let cpu_of = |usage: &Usage| usage.guest_cpu.context("the step did not run");
    setting.runtime.block_on(async {
        let mut found = Collected {
            artifacts: 0,
            cpu: Duration::ZERO,
            peaks: Vec::new(),
            requests: 0,
            checkpoint: 0,
            quiet: Vec::new(),
            quiet_peak: 0,
        };
        let mut checkpoint = None;
        loop {
            let (result, usage) = tenant.poll(checkpoint, BUDGET).await;
            let batch = result?;
            found.artifacts += batch.artifacts.len() as u64;
            found.cpu += cpu_of(&usage)?;
            found.requests += u64::from(usage.requests);
            found.peaks.push(usage.guest_peak_bytes as f64);
            checkpoint = Some(batch.checkpoint);
            if !batch.more {
                break;
            }
        }
        for _ in 0..QUIET {
            let (mut cpu, mut more) = (Duration::ZERO, true);
            while more {
                let (result, usage) = tenant.poll(checkpoint, BUDGET).await;
                let batch = result?;
                anyhow::ensure!(batch.artifacts.is_empty(), "the world stands still");
                cpu += cpu_of(&usage)?;
                found.quiet_peak = found.quiet_peak.max(usage.guest_peak_bytes);
                found.checkpoint = batch.checkpoint.len();
                (checkpoint, more) = (Some(batch.checkpoint), batch.more);
            }
            found.quiet.push(cpu.as_secs_f64() * 1e3);
        }
        Ok(found)
    })
}
