//! `make bench-scale`: how cost grows with tenants, investigations, alerts, what is remembered and what is stored.
//!
//! What: curves, drawn to `docs/curves`, and the figures behind them as a table and as `bench-scale.json` in the target
//! directory. The host is the real one wherever time passes; ten thousand tenants are scheduled in virtual time.
//! Why apart from `make bench`: it takes half an hour, because intervals are minutes.
//! Not guaranteed: figures from a machine that does other things at the same time; the load is told with them.

mod curves;
mod growth;
mod host;
mod idle;
mod schedule;
mod store;

#[path = "../report.rs"]
mod report;
#[path = "../setting.rs"]
mod setting;

use std::path::Path;

use anyhow::Context;
use report::Report;
use setting::Setting;

fn main() -> anyhow::Result<()> {
    let connector =
        std::env::var_os("CONNECTOR").context("CONNECTOR is not set; run the benchmark with `make bench-scale`")?;
    let setting = Setting::new(Path::new(&connector))?;
    let mut report = Report::new();
    // Parts by name, to repeat one of them; all without any.
    let only: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wanted = |part: &str| only.is_empty() || only.iter().any(|name| name == part);
    if wanted("schedule") {
        eprintln!("ten thousand tenants in virtual time …");
        schedule::measure(&mut report)?;
    }
    if wanted("idle") {
        eprintln!("idle tenants …");
        idle::measure(&mut report)?;
    }
    if wanted("growth") {
        eprintln!("from a hundred investigations to a hundred thousand …");
        growth::measure(&setting, &mut report)?;
    }
    if wanted("store") {
        eprintln!("a store that grows …");
        store::measure(&setting, &mut report)?;
    }
    if wanted("host") {
        eprintln!("a host with a thousand tenants …");
        host::measure(&setting, &mut report)?;
    }
    report.finish("bench-scale.json")
}
