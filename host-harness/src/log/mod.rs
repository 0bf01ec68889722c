//! Log lines as the Conductor's containers write them.
//!
//! Why an own format: operators are told to look for
//! `[INFO] <connector>: fetched <N> <noun>`, so a line is the level, the
//! connector (or `host-harness`) and the message, nothing before it; the
//! container runtime adds the time. Lines go to one of the standard streams
//! (see [`To`]) and are whole: control characters are escaped, so nothing that a vendor sends can forge a
//! line or drive a terminal.
//! Not guaranteed: what libraries log below warnings is not shown at any
//! level, because some of them log request headers; what the engine logs is not
//! shown at all, because a guest decides how often it does. What there is to
//! say of a guest, the host says itself, so many times.

#[cfg(test)]
mod capture;
mod format;

use std::io::{self, IsTerminal, Write};
use std::str::FromStr;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use indicatif::MultiProgress;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

#[cfg(test)]
pub(crate) use capture::captured;
pub use format::{Format, Lines, escape};
pub(crate) use format::{harmless, is_tricky};

use crate::locks::lock;

/// Environment variable with the level, used when none is given otherwise.
pub const LEVEL_VARIABLE: &str = "HOST_HARNESS_LOG";

/// Where lines go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum To {
    /// Standard output: of what a container writes there, `docker logs … | grep`
    /// finds the lines; what it writes to standard error passes the pipe by.
    Stdout,
    /// Standard error, where lines disturb no results.
    #[default]
    Stderr,
}

/// How to log.
#[derive(Clone, Debug)]
pub struct Options {
    /// The least severe level that is shown.
    pub level: LevelFilter,
    /// How lines look.
    pub format: Format,
    /// Whether lines begin with the time (UTC).
    pub timestamps: bool,
    /// Where lines go.
    pub to: To,
    /// Whether a thread writes them: then whoever reads them may stand still and nobody waits. What it does not take is
    /// dropped when [`MOST_WAITING`] lines wait, and counted; [`finish`] has to be called at the end.
    pub aside: bool,
}

/// Most lines that wait for whoever reads them.
pub const MOST_WAITING: usize = 10_000;

/// The thread that writes lines, until it is told to finish.
static WRITER: Mutex<Option<WorkerGuard>> = Mutex::new(None);

/// What it has dropped.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// Lines that nobody will see, because whoever reads them stood still.
#[must_use]
pub fn dropped() -> u64 {
    DROPPED.get().map_or(0, |dropped| u64::try_from(dropped.dropped_lines()).unwrap_or(u64::MAX))
}

/// How long the last lines are waited for: longer than the writer's own patience with its reader.
const FINISH_WITHIN: Duration = Duration::from_secs(2);

/// Waits until all lines are written, two seconds at most.
pub fn finish() {
    let Some(writer) = lock(&WRITER).take() else { return };
    let (done, ended) = std::sync::mpsc::channel();
    // Aside: where too many lines wait, the writer says so on standard output, which is what nobody may be reading.
    let waiting = std::thread::Builder::new().spawn(move || {
        drop(writer);
        let _ = done.send(());
    });
    if waiting.is_ok() {
        let _ = ended.recv_timeout(FINISH_WITHIN);
    }
}

/// The level out of a text such as `info`, in any case.
///
/// Fails with the allowed words.
pub fn parse_level(text: &str) -> Result<LevelFilter, String> {
    LevelFilter::from_str(text.trim())
        .ok()
        .filter(|_| !text.trim().is_empty() && text.trim().parse::<u8>().is_err())
        .ok_or_else(|| format!("{text:?} is no log level; use error, warn, info, debug, trace or off"))
}

/// Starts logging, for the whole process; a second call does nothing. Progress shown through the returned handle and log lines do
/// not disturb each other.
pub fn init(options: &Options) -> MultiProgress {
    let progress = MultiProgress::new();
    let lines = Lines { format: options.format, timestamps: options.timestamps, colour: colour_wanted(options.to) };
    let stream = Stream { to: options.to, progress: progress.clone() };
    let writer = if options.aside {
        let (writer, guard) = NonBlockingBuilder::default()
            .buffered_lines_limit(MOST_WAITING)
            .thread_name("log")
            .finish(Line { to: options.to, progress: progress.clone() });
        let _ = DROPPED.set(writer.error_counter());
        *lock(&WRITER) = Some(guard);
        BoxMakeWriter::new(writer)
    } else {
        BoxMakeWriter::new(stream)
    };
    let layer = tracing_subscriber::fmt::layer().event_format(lines).with_writer(writer);
    // An error here means that logging has been started already.
    let _ = tracing_subscriber::registry().with(layer).with(targets(options.level)).try_init();
    progress
}

/// This program's own events at `level`, those of libraries from warnings on.
fn targets(level: LevelFilter) -> Targets {
    Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        // A prefix: the engine's other libraries are meant as well.
        .with_target("wasmtime", LevelFilter::OFF)
        .with_target("host_harness", level)
        .with_target("insightidr_simulator", level)
}

/// Colour is for people at a terminal who have not declined it
/// (<https://no-color.org>).
fn colour_wanted(to: To) -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let is_terminal = match to {
        To::Stdout => io::stdout().is_terminal(),
        To::Stderr => io::stderr().is_terminal(),
    };
    is_terminal && !is_set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Where lines go, with progress bars lifted out of the way of every line.
struct Stream {
    to: To,
    progress: MultiProgress,
}

impl MakeWriter<'_> for Stream {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line { to: self.to, progress: self.progress.clone() }
    }
}

/// Writes one line. The subscriber hands over whole lines, so one call is one
/// line.
struct Line {
    to: To,
    progress: MultiProgress,
}

impl Write for Line {
    /// A reader that has gone away (`2>&1 | head`) is no reason to stop collecting: what cannot be written is dropped.
    /// An error here would make the subscriber complain on standard error as well, and panic.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let _ = self.progress.suspend(|| match self.to {
            // What is in the buffer of standard output when the process ends at once would be lost.
            To::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(line).and_then(|()| stdout.flush())
            }
            To::Stderr => io::stderr().lock().write_all(line),
        });
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_words_in_any_case() {
        assert_eq!(parse_level("info"), Ok(LevelFilter::INFO));
        assert_eq!(parse_level(" WARN "), Ok(LevelFilter::WARN));
        assert_eq!(parse_level("off"), Ok(LevelFilter::OFF));
        for bad in ["", "3", "loud"] {
            insta::allow_duplicates! {
                assert!(parse_level(bad).unwrap_err().ends_with("use error, warn, info, debug, trace or off"));
            }
        }
    }

    #[test]
    fn libraries_are_silent_below_warnings_at_every_level() {
        let targets = targets(LevelFilter::TRACE);
        assert!(targets.would_enable("host_harness::egress", &tracing::Level::TRACE));
        assert!(!targets.would_enable("hyper::proto", &tracing::Level::INFO));
        assert!(targets.would_enable("hyper::proto", &tracing::Level::WARN));
        assert!(!super::targets(LevelFilter::ERROR).would_enable("hyper::proto", &tracing::Level::WARN));
    }

    #[test]
    fn what_a_guest_can_make_the_engine_say_is_not_shown() {
        let targets = targets(LevelFilter::TRACE);
        for target in ["wasmtime", "wasmtime_wasi::p2", "wasmtime_wasi_http::p2::error"] {
            assert!(!targets.would_enable(target, &tracing::Level::ERROR), "{target}");
        }
    }
}
