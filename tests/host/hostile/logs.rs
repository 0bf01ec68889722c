//! Everything that the process logs, for all tests of this binary.

use std::io;
use std::sync::{Mutex, OnceLock, PoisonError};

use host_harness::log::{Format, Lines};
use serde_json::Value;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;

/// The lines, as JSON.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Writes to [`LOG`].
struct Writer;

impl io::Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Starts to keep what is logged: all of the host's own, and what libraries warn of, as in the product.
pub(crate) fn keep() {
    static STARTED: OnceLock<()> = OnceLock::new();
    STARTED.get_or_init(|| {
        let lines = Lines { format: Format::Json, ..Lines::default() };
        let layer = tracing_subscriber::fmt::layer().event_format(lines).with_writer(|| Writer);
        let targets = Targets::new().with_default(LevelFilter::WARN).with_target("host_harness", LevelFilter::TRACE);
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer).with(targets)).unwrap();
    });
}

/// All bytes so far.
pub(crate) fn bytes() -> Vec<u8> {
    LOG.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The lines that were written for an instance. Fails when any line is not one JSON object.
pub(crate) fn lines_of(instance: &str) -> Vec<Value> {
    let all = bytes();
    let text = String::from_utf8(all).expect("the log is UTF-8");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    lines.into_iter().filter(|line| line["instance"] == instance).collect()
}
