//! The store: artifacts that a second of committing takes, search text, outbox and the wait for the disk included.

use std::time::{Duration, Instant};

use host_harness::contract::types::Batch;
use host_harness::store::Store;
use time::OffsetDateTime;

use crate::report::Report;

/// New stores.
const RUNS: usize = 7;

/// Measures and reports, with the batches of a real collection.
pub(crate) fn measure(batches: &[Batch], report: &mut Report) -> anyhow::Result<()> {
    let (mut first, mut again) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let folder = tempfile::tempdir()?;
        let store = Store::open(folder.path())?;
        let instance = store.instance("bench", "bench", OffsetDateTime::UNIX_EPOCH)?;
        for rates in [&mut first, &mut again] {
            let (mut count, mut time) = (0, Duration::ZERO);
            for batch in batches {
                let started = Instant::now();
                let committed = store.commit_step(&instance, batch, OffsetDateTime::UNIX_EPOCH)?;
                time += started.elapsed();
                count += committed.new + committed.repeated;
            }
            rates.push(f64::from(u32::try_from(count)?) / time.as_secs_f64());
        }
    }
    report.add("store, new artifacts committed", "per second", Some(">= 50,000"), first);
    report.add("store, repeated artifacts recognised", "per second", None, again);
    Ok(())
}
