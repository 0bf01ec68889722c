//! Loading, and a fresh instance for every call.
//!
//! The call is `configure`: a store, its limits, an instance, and little work in the guest. It is what every step pays
//! before it collects anything.

use std::time::Instant;

use host_harness::connectors::Connector;
use host_harness::egress::Redactor;

use crate::report::{Report, median};
use crate::setting::{Setting, settings};

/// Pairs of batches, one with the pool and one without.
const BATCHES: usize = 15;
/// Calls in a batch.
const CALLS: usize = 200;
/// Loads from the cache.
const LOADS: usize = 15;

/// Measures and reports.
pub(crate) fn measure(setting: &Setting, report: &mut Report) -> anyhow::Result<()> {
    let size = std::fs::metadata(&setting.connector)?.len();
    #[expect(clippy::cast_precision_loss, reason = "a size for people")]
    report.add("component", "KB", Some("<= 320"), vec![size as f64 / 1024.0]);

    let compiled = setting.load(true)?;
    report.add("load, compiling", "ms", None, vec![milliseconds(&compiled)]);
    let mut loads = Vec::new();
    for _ in 0..LOADS {
        let connector = setting.load(true)?;
        anyhow::ensure!(connector.from_cache(), "a kept component was compiled again");
        loads.push(milliseconds(&connector));
    }
    report.add("load, compiled before", "ms", Some("<= 1.5"), loads);

    let on_demand = setting.load(false)?;
    let (mut with, mut without, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for batch in 0..BATCHES {
        // In turns, so that neither is always the one that runs first.
        let mut pair = [0.0; 2];
        let order = if batch % 2 == 0 { [0, 1] } else { [1, 0] };
        for which in order {
            let connector = if which == 0 { &compiled } else { &on_demand };
            if let Some(place) = pair.get_mut(which) {
                *place = calls(setting, connector)?;
            }
        }
        let [pooled, not_pooled] = pair;
        with.push(pooled);
        without.push(not_pooled);
        ratios.push(not_pooled / pooled);
    }
    report.add("fresh instance and one call, pooled", "us", Some("<= 30"), with);
    report.add("fresh instance and one call, on demand", "us", None, without);
    report.add("fresh instance and one call, on demand : pooled", "ratio", Some("> 1"), ratios);
    Ok(())
}

/// How long the connector took to load.
fn milliseconds(connector: &Connector) -> f64 {
    connector.load_time().as_secs_f64() * 1e3
}

/// The median call of a batch, in microseconds.
fn calls(setting: &Setting, connector: &Connector) -> anyhow::Result<f64> {
    let (settings, nothing) = (settings(), Redactor::default());
    setting.runtime.block_on(async {
        let mut times = Vec::with_capacity(CALLS);
        for _ in 0..CALLS {
            let started = Instant::now();
            connector.configure_without(&settings, &nothing).await?;
            times.push(started.elapsed().as_secs_f64() * 1e6);
        }
        Ok(median(&times))
    })
}
