//! How long a `host-harness poll` takes, as a process, from its start to its first request: what whoever runs it from a
//! timer pays each time.

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::ensure;

use crate::report::Report;
use crate::setting::{KEY, Setting, program};

/// Starts.
const RUNS: usize = 25;
/// Longest wait for a request.
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures and reports.
pub(crate) fn measure(setting: &Setting, report: &mut Report) -> anyhow::Result<()> {
    let program = program()?;
    let folder = tempfile::tempdir()?;
    // Somebody who listens and never answers: the first connection is all that is waited for.
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let route = format!("us.api.insight.rapid7.com=http://{}", listener.local_addr()?);
    let mut times = Vec::new();
    for run in 0..=RUNS {
        let started = Instant::now();
        let mut host = Command::new(&program)
            .current_dir(folder.path())
            .env("BENCH_KEY", KEY)
            .args(["poll", "--instance", "bench", "--set", "region=us", "--secret", "api_key=env:BENCH_KEY"])
            .args(["--state", "state", "--cache", "cache", "--route", &route, "--connector"])
            .arg(&setting.connector)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let asked = loop {
            match listener.accept() {
                Ok(_) => break started.elapsed(),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
            ensure!(started.elapsed() < PATIENCE && host.try_wait()?.is_none(), "the host asked for nothing");
            std::thread::sleep(Duration::from_micros(100));
        };
        host.kill()?;
        host.wait()?;
        // What it may have asked besides.
        while listener.accept().is_ok() {}
        // The first one compiles the component and keeps it.
        if run > 0 {
            times.push(asked.as_secs_f64() * 1e3);
        }
    }
    report.add("host-harness poll, from start to first request", "ms", Some("<= 30"), times);
    Ok(())
}
