//! What one more idle tenant takes of a host's heap, once it was polled.
//!
//! Counted by an allocator that adds up what is asked for: resident memory also has what busier times have left behind.
//! All that a host keeps of a tenant between polls is there: its configuration, its status, its place in the queue. What a
//! host keeps ready for the tenants that were polled last is bounded and not counted.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::future::BoxFuture;
use host_harness::config::{InstanceConfig, parse};
use host_harness::instances::report::{Cycle, End, State, StreamOutcome};
use host_harness::resident::board::Board;
use host_harness::resident::poller::{Phase, Polled, Poller, Record};
use host_harness::resident::status::Version;
use host_harness::resident::supervisor::Supervisor;
use host_harness::store::Store;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use crate::report::Report;

#[global_allocator]
static HEAP: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

/// Numbers of tenants that are compared.
const TENANTS: [usize; 3] = [500, 1_500, 3_500];
/// Streams of each.
const STREAMS: [&str; 2] = ["investigations", "alerts"];

/// A poller that finds nothing new.
struct Quiet;

impl Poller for Quiet {
    fn interval(&self, _: &InstanceConfig) -> Duration {
        Duration::from_mins(5)
    }

    fn is_served(&self, _: &InstanceConfig) -> bool {
        true
    }

    fn poll(&self, _: Arc<Record>, _: watch::Receiver<Phase>) -> BoxFuture<'static, Polled> {
        Box::pin(async {
            let mut cycle = Cycle::new();
            (cycle.end, cycle.steps) = (End::Complete, 1);
            let stream = |name: &&str| StreamOutcome {
                name: (*name).to_owned(),
                noun: (*name).to_owned(),
                announced: true,
                fetched: 0,
                state: State::Ok,
            };
            cycle.streams = STREAMS.iter().map(stream).collect();
            Polled::Cycle(Box::new(cycle), Version { version: "1.0.0".to_owned(), digest: "d".repeat(64) })
        })
    }

    fn forget(&self, _: Uuid) {}
}

/// Measures and reports.
pub(crate) fn measure(report: &mut Report) -> anyhow::Result<()> {
    let held = TENANTS.map(held).into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    let more = |pair: &[(usize, f64)]| match pair {
        [(few, less), (many, more)] => (more - less) / (many - few) as f64 / 1024.0,
        _ => f64::NAN,
    };
    let points: Vec<(usize, f64)> = TENANTS.into_iter().zip(held).collect();
    report.add("heap of one more idle tenant", "KiB", Some("<= 4"), points.windows(2).map(more).collect());
    Ok(())
}

/// Bytes of heap that a host holds with so many tenants, each polled a few times.
fn held(tenants: usize) -> anyhow::Result<f64> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
    let folder = tempfile::tempdir()?;
    let store = Store::open(folder.path())?;
    let before = balance();
    let mut text = "[host]\nstate = \"s\"\nconnectors = \"c\"\nmost_instances_per_type = 100000\n".to_owned();
    for tenant in 0..tenants {
        text.push_str(&format!(
            "[[instance]]\nid = \"tenant-{tenant:05}\"\nname = \"tenant-{tenant:05}\"\nintegration_type = \"rapid7-insightidr\"\n\
             [instance.settings]\nregion = \"us\"\ncollect_evidence = false\ncollect_product_alerts = false\n\
             collect_uninvestigated_alerts = false\n[instance.secrets]\napi_key = \"file:keys/{tenant:05}\"\n"
        ));
    }
    let config = parse(Path::new("conductor.toml"), &text).context("the configuration")?;
    drop(text);
    runtime.block_on(async {
        let began = Instant::now();
        let board = Arc::new(Board::new(Arc::new(move || OffsetDateTime::UNIX_EPOCH + began.elapsed()), 16));
        let supervisor = Supervisor::start(store, Arc::clone(&board), Arc::new(Quiet), 16);
        supervisor.looked();
        supervisor.apply(Arc::new(config)).await.context("the configuration")?;
        tokio::time::sleep(Duration::from_mins(17)).await;
        let polled = board.instances().iter().filter(|one| one.past.last_poll.is_some() && !one.polling).count();
        anyhow::ensure!(polled == tenants, "{polled} of {tenants} were polled and are idle");
        Ok(balance() - before)
    })
}

/// Bytes that are allocated.
fn balance() -> f64 {
    let stats = HEAP.stats();
    stats.bytes_allocated as f64 - stats.bytes_deallocated as f64
}
