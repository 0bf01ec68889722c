//! How fast the store takes artifacts as it grows.
//!
//! `STORE_ARTIFACTS` says how far: a million by default; each takes about 2 KB of the temporary directory.

use std::time::{Duration, Instant};

use host_harness::contract::types::{Artifact, Batch, Budget};
use host_harness::store::Store;
use time::OffsetDateTime;

use crate::curves::Chart;
use crate::report::Report;
use crate::setting::{Setting, Vendor, simulator};

/// Artifacts of a step.
const STEP: usize = 1_000;
/// Points of the curve.
const POINTS: usize = 20;

/// Measures and reports.
pub(crate) fn measure(setting: &Setting, report: &mut Report) -> anyhow::Result<()> {
    let most: usize = match std::env::var("STORE_ARTIFACTS") {
        Ok(text) => text.parse()?,
        Err(_) => 1_000_000,
    };
    let like = collected(setting)?;
    anyhow::ensure!(!like.artifacts.is_empty(), "there is nothing to store");
    let folder = tempfile::tempdir()?;
    let store = Store::open(folder.path())?;
    let instance = store.instance("bench", "bench", OffsetDateTime::UNIX_EPOCH)?;
    let (mut curve, mut rates) = (Vec::new(), Vec::new());
    let mut stored = 0;
    for point in 1..=POINTS {
        let (mut time, before) = (Duration::ZERO, stored);
        while stored < most * point / POINTS {
            let batch = another(&like, stored);
            let started = Instant::now();
            let committed = store.commit_step(&instance, &batch, OffsetDateTime::UNIX_EPOCH)?;
            time += started.elapsed();
            anyhow::ensure!(committed.repeated == 0, "all of them are new");
            stored += batch.artifacts.len();
        }
        let rate = (stored - before) as f64 / time.as_secs_f64();
        eprintln!("  {stored} stored: {rate:.0} per second");
        curve.push((stored as f64, rate));
        rates.push(rate);
    }
    report.add("store, new artifacts committed as it grows", "per second", Some(">= 50,000"), rates);
    let chart = Chart {
        file: "store",
        title: "The store: artifacts committed in a second",
        x: "artifacts stored before",
        y: "per second, with full text",
        curves: vec![(String::new(), curve)],
    };
    chart.draw()
}

/// A batch of a real collection.
fn collected(setting: &Setting) -> anyhow::Result<Batch> {
    let vendor = Vendor::of(simulator(200, 5, Duration::ZERO))?;
    let connector = setting.load(true)?;
    let tenant = setting.tenant(&connector, &vendor)?;
    let budget = Budget { requests: 5_000, artifacts: 5_000, artifact_bytes: 16 << 20, wall_time_milliseconds: 60_000 };
    let (result, _) = setting.runtime.block_on(tenant.poll(None, budget));
    Ok(result?)
}

/// A batch of the same kind with ids, and words that are searched for, of its own.
fn another(like: &Batch, first: usize) -> Batch {
    let artifacts = like.artifacts.iter().cycle().take(STEP).enumerate().map(|(place, artifact)| {
        let number = (first + place) as u64;
        // Of a time of its own, as those of a connector are; five events a second.
        let hash = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
        let [a, b, node @ ..] = hash;
        let ticks = 0x01f0_0000_0000_0000 + number * 2_000_000;
        let id =
            uuid::Builder::from_gregorian_timestamp(ticks, u16::from_be_bytes([a, b]), &node).into_uuid().to_string();
        let json = artifact.json.replace(&artifact.id, &id);
        // What the vendor's own identifiers end with.
        let json = match json.find("\"sourceInfo\":\"").and_then(|at| json.get(at + 14..)) {
            Some(rest) => {
                let source = rest.split('"').next().unwrap_or_default();
                let own = source.rsplit(':').next().unwrap_or_default().to_owned();
                let new: String = id.chars().filter(|character| *character != '-').take(own.len()).collect();
                if own.is_empty() { json } else { json.replace(&own, &new) }
            }
            None => json,
        };
        Artifact { id, json, stream: artifact.stream.clone() }
    });
    Batch { artifacts: artifacts.collect(), ..like.clone() }
}
