//! The usual poll: nothing is new. In a host that runs, with its connections open.
//!
//! The time on the CPU is that of the step: the guest, and the host's work in the calls it makes. What the transport does
//! on its own threads is not in it.

use std::time::Duration;

use host_harness::contract::types::Budget;

use crate::report::Report;
use crate::setting::{Setting, Vendor, simulator};

/// Investigations that are known, a few of them not closed.
const INVESTIGATIONS: usize = 20;
/// Polls.
const RUNS: usize = 200;

/// Measures and reports.
pub(crate) fn measure(setting: &Setting, report: &mut Report) -> anyhow::Result<()> {
    let budget = Budget { requests: 500, artifacts: 5_000, artifact_bytes: 16 << 20, wall_time_milliseconds: 60_000 };
    let vendor = Vendor::of(simulator(INVESTIGATIONS, 1, Duration::ZERO))?;
    let connector = setting.load(true)?;
    let tenant = setting.tenant(&connector, &vendor)?;
    let (mut walls, mut cpus) = (Vec::new(), Vec::new());
    setting.runtime.block_on(async {
        let mut checkpoint = None;
        for run in 0..RUNS + 3 {
            let (result, usage) = tenant.poll(checkpoint, budget).await;
            let batch = result?;
            anyhow::ensure!(!batch.more, "a small world needs one step");
            if run >= 3 {
                anyhow::ensure!(batch.artifacts.is_empty(), "the world stands still");
                walls.push(usage.wall.as_secs_f64() * 1e6);
                cpus.push(usage.guest_cpu.unwrap_or_default().as_secs_f64() * 1e6);
            }
            checkpoint = Some(batch.checkpoint);
        }
        Ok(())
    })?;
    report.add("a poll without anything new, 4 requests on loopback", "us", None, walls);
    report.add("a poll without anything new, on the CPU", "us", Some("<= 200"), cpus);
    Ok(())
}
