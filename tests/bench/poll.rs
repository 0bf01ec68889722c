//! `make bench`: what a step and a poll cost.
//!
//! What: the real component in the real host, and the same collection natively, measured in alternation in one run, so
//! that both sides of a ratio see the same machine. A table goes to standard output, the same with every sample to
//! `bench.json` in the target directory.
//! Why ratios and medians: absolute times say more about the machine and its other work than about this program.
//! Not guaranteed: figures from a machine that does other things at the same time; the load is told with them.

mod cold;
mod cycle;
mod native;
mod quiet;
mod report;
mod sandbox;
mod setting;
mod store;

use std::path::Path;

use anyhow::Context;
use report::Report;
use setting::Setting;

fn main() -> anyhow::Result<()> {
    let connector =
        std::env::var_os("CONNECTOR").context("CONNECTOR is not set; run the benchmark with `make bench`")?;
    let setting = Setting::new(Path::new(&connector))?;
    let mut report = Report::new();
    // Parts by name, to look at one of them with a profiler; all without any.
    let only: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |part: &str| only.is_empty() || only.iter().any(|name| name == part);
    if wanted("sandbox") {
        eprintln!("loading and fresh instances …");
        sandbox::measure(&setting, &mut report)?;
    }
    if wanted("cold") {
        eprintln!("processes that poll once …");
        cold::measure(&setting, &mut report)?;
    }
    if wanted("cycle") {
        eprintln!("a poll of 100 investigations and 100 alert calls at {:?} …", cycle::LATENCY);
        cycle::measure(&setting, &mut report)?;
    }
    if wanted("quiet") {
        eprintln!("polls without anything new …");
        quiet::measure(&setting, &mut report)?;
    }
    if wanted("native") || wanted("store") {
        eprintln!("the component against native Rust …");
        let batches = native::measure(&setting, &mut report)?;
        eprintln!("the store …");
        store::measure(&batches, &mut report)?;
    }
    report.finish("bench.json")
}
