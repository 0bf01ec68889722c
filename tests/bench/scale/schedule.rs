//! Ten thousand tenants in virtual time: how late polls begin, with and without tenants that misbehave.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant as WallInstant};

use anyhow::Context;
use futures::future::BoxFuture;
use host_harness::config::{InstanceConfig, parse};
use host_harness::instances::failure::FailureReport;
use host_harness::instances::report::{Cycle, End};
use host_harness::resident::board::Board;
use host_harness::resident::poller::{Phase, Polled, Poller, Record};
use host_harness::resident::status::Version;
use host_harness::resident::supervisor::Supervisor;
use host_harness::store::Store;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use crate::curves::{Chart, Curve};
use crate::report::Report;

/// Tenants.
const TENANTS: [usize; 4] = [100, 1_000, 3_000, 10_000];
/// Polls at once: what a host with 16 CPUs has.
const PLACES: usize = 64;
/// How long a poll takes, in seconds.
const GOOD: u64 = 1;
/// How long one takes that hangs until its time is up, in seconds.
const BAD: u64 = 70;
/// Virtual minutes.
const MINUTES: u64 = 60;

/// A poller that notes how late it is called.
struct Late {
    board: OnceLock<Arc<Board>>,
    misbehaving: HashSet<String>,
    /// Seconds, of those that behave.
    late: Mutex<Vec<f64>>,
}

impl Poller for Late {
    fn interval(&self, _: &InstanceConfig) -> Duration {
        Duration::from_mins(5)
    }

    fn is_served(&self, _: &InstanceConfig) -> bool {
        true
    }

    fn poll(&self, record: Arc<Record>, _: watch::Receiver<Phase>) -> BoxFuture<'static, Polled> {
        let bad = self.misbehaving.contains(&record.config.name);
        if let Some(board) = self.board.get()
            && let Some(planned) = board.instance(record.instance.id).and_then(|status| status.next_poll)
            && !bad
        {
            let late = (board.now() - planned).as_seconds_f64();
            self.late.lock().unwrap_or_else(PoisonError::into_inner).push(late);
        }
        Box::pin(async move {
            tokio::time::sleep(Duration::from_secs(if bad { BAD } else { GOOD })).await;
            let mut cycle = Cycle::new();
            if bad {
                cycle.end = End::Failed;
                cycle.failure = Some(FailureReport::new("wall-clock-limit", "the step took too long", ""));
            } else {
                (cycle.end, cycle.steps) = (End::Complete, 1);
            }
            Polled::Cycle(Box::new(cycle), Version { version: "1.0.0".to_owned(), digest: "d".to_owned() })
        })
    }

    fn forget(&self, _: Uuid) {}
}

/// Lateness in seconds, in order, and the CPU of the schedule for a poll in microseconds.
struct Observed {
    late: Vec<f64>,
    cost: f64,
}

impl Observed {
    fn at(&self, share: f64) -> f64 {
        let place = ((self.late.len().saturating_sub(1)) as f64 * share).round() as usize;
        self.late.get(place).copied().unwrap_or_default()
    }
}

/// Measures and reports.
pub(crate) fn measure(report: &mut Report) -> anyhow::Result<()> {
    let mut curves: Vec<Curve> = Vec::new();
    for (misbehave, name) in [(false, "all behave"), (true, "1 % hang until their time is up")] {
        let (mut p50, mut p99) = (Vec::new(), Vec::new());
        let mut costs = Vec::new();
        for tenants in TENANTS {
            let observed = observe(tenants, if misbehave { tenants / 100 } else { 0 })?;
            eprintln!(
                "  {tenants} tenants, {name}: late p50 {:.2} s, p99 {:.2} s, most {:.2} s; {:.0} us a poll",
                observed.at(0.5),
                observed.at(0.99),
                observed.at(1.0),
                observed.cost
            );
            p50.push((tenants as f64, observed.at(0.5)));
            p99.push((tenants as f64, observed.at(0.99)));
            costs.push(observed.cost);
        }
        let samples = |points: &[(f64, f64)]| points.iter().map(|(_, late)| *late).collect();
        if !misbehave {
            report.add("100 to 10,000 tenants, polls begin late, p50", "s", None, samples(&p50));
            report.add("100 to 10,000 tenants, polls begin late, p99", "s", None, samples(&p99));
            report.add("100 to 10,000 tenants, cost of scheduling a poll", "us", None, costs);
        } else {
            report.add("the same with 1 % misbehaving, p50", "s", None, samples(&p50));
            report.add("the same with 1 % misbehaving, p99", "s", None, samples(&p99));
        }
        curves.push((format!("p99, {name}"), p99));
        curves.push((format!("p50, {name}"), p50));
    }
    let chart = Chart {
        file: "lateness",
        title: "How late polls begin: every 5 minutes, 1 s each, 64 places",
        x: "tenants",
        y: "seconds",
        curves,
    };
    chart.draw()
}

/// An hour of so many tenants.
fn observe(tenants: usize, misbehaving: usize) -> anyhow::Result<Observed> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
    let folder = tempfile::tempdir()?;
    let store = Store::open(folder.path())?;
    let mut text = format!(
        "[host]\nstate = \"s\"\nconnectors = \"c\"\nparallel_polls = {PLACES}\nmost_instances_per_type = 100000\n"
    );
    for tenant in 0..tenants {
        text.push_str(&format!("[[instance]]\nname = \"t{tenant}\"\nintegration_type = \"acme\"\n"));
    }
    let config = parse(Path::new("conductor.toml"), &text).context("the configuration")?;
    let poller = Arc::new(Late {
        board: OnceLock::new(),
        misbehaving: (0..misbehaving).map(|tenant| format!("t{tenant}")).collect(),
        late: Mutex::default(),
    });
    let started = WallInstant::now();
    runtime.block_on(async {
        let began = Instant::now();
        let board = Arc::new(Board::new(Arc::new(move || OffsetDateTime::UNIX_EPOCH + began.elapsed()), PLACES));
        let _ = poller.board.set(Arc::clone(&board));
        let as_poller: Arc<dyn Poller> = poller.clone();
        let supervisor = Supervisor::start(store, board, as_poller, PLACES);
        supervisor.looked();
        supervisor.apply(Arc::new(config)).await.context("the configuration")?;
        tokio::time::sleep(Duration::from_mins(MINUTES)).await;
        anyhow::Ok(())
    })?;
    let spent = started.elapsed();
    let mut late = std::mem::take(&mut *poller.late.lock().unwrap_or_else(PoisonError::into_inner));
    anyhow::ensure!(late.len() >= tenants * 9, "each is polled every five minutes: {} polls", late.len());
    late.sort_by(f64::total_cmp);
    let cost = spent.as_secs_f64() * 1e6 / late.len() as f64;
    Ok(Observed { late, cost })
}
