//! Compiling in a process of its own.
//!
//! Why: the compiler has the rights of its process, takes what memory it wants, and cannot be stopped once it has begun; what
//! a component makes it do can only be estimated before. A process of its own has limits and can be ended, and so can the
//! audit and the validation before it.
//! What: the same program, told to compile one component. Its bytes come by standard input, the code goes into the cache, from
//! where it is loaded as ever, and what is wrong with it comes back as a text. It has no environment, and ends with its
//! parent.
//! Not guaranteed: protection from a component that takes the compiler over by a defect of it. That would be this user still,
//! though not in the memory where the secrets are.

use std::io::{self, Read as _, Write as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};

use super::connector::{compile, is_kept};
use super::error::LoadError;
use crate::exit;
use crate::sandbox::{Engine, EngineOptions, SandboxError};

/// Name of the command that compiles.
pub const COMMAND: &str = "compile-component";

/// Exit code: compiled, and in the cache.
const KEPT: u8 = 0;
/// Exit code: what is wrong with it is on standard output.
const REFUSED: u8 = 3;
/// Exit code: compiled, but it could not be kept.
const NOT_KEPT: u8 = 5;

/// Signals by which a process is told to end: HUP, INT, TERM.
const INTERRUPTIONS: [i32; 3] = [1, 2, 15];

/// Most bytes of what is wrong, as it is written, and of the text in it.
const REASON_BYTES: u64 = 64 << 10;
const REASON_TEXT: usize = 8 << 10;

/// How often it is looked whether it has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Megabytes (of 2^20 bytes) of memory that a compiler may have: several times as many as the largest component takes that
/// is not refused before.
pub const MEMORY_MEGABYTES: u64 = 2_048;

/// How components are compiled apart.
#[derive(Clone, Debug)]
pub struct Apart {
    /// The program of a host.
    pub program: PathBuf,
    /// Megabytes of memory that it may have.
    pub memory_megabytes: u64,
}

/// What became of a component that was compiled apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compiled {
    /// Its code is in the cache.
    Kept,
    /// It can be compiled, but its code could not be kept.
    NotKept,
}

/// Why there is no code.
#[derive(Debug, thiserror::Error)]
pub enum ApartError {
    /// Something is wrong with it.
    #[error("{reason}")]
    Refused {
        /// A stable name of what that is, of [`LoadError::code`].
        code: &'static str,
        /// In one line.
        reason: String,
    },
    /// It took too long.
    #[error("it was not compiled within {} s", within.as_secs_f32())]
    TimeUp {
        /// The time that it had.
        within: Duration,
    },
    /// The compiler ended before its time: as a rule because it needed more memory than it may have.
    #[error("the compiler ended before it had compiled it ({how}); it may have {memory_megabytes} MB of memory")]
    Ended {
        /// How.
        how: String,
        /// What memory it may have.
        memory_megabytes: u64,
    },
    /// Somebody has ended it, as a stop of the host does with all of its processes.
    #[error("the compiler was told to end ({how})")]
    Interrupted {
        /// How.
        how: String,
    },
    /// No process could be started, or spoken to.
    #[error("no compiler could be started: {0}")]
    Host(#[from] io::Error),
}

/// What is wrong, as it is written.
#[derive(Serialize, Deserialize)]
struct Wrong {
    code: String,
    reason: String,
}

impl Apart {
    /// This program, also when its file has been replaced since it was started: that would make other code.
    #[must_use]
    pub fn of_this_program() -> Option<Self> {
        let running = PathBuf::from("/proc/self/exe");
        let program = if running.exists() { Some(running) } else { std::env::current_exe().ok() };
        if program.is_none() {
            tracing::warn!("this program does not find itself: components are compiled within the host");
        }
        program.map(|program| Self { program, memory_megabytes: MEMORY_MEGABYTES })
    }

    /// Compiles a component into the cache. Waits for it, so call it where blocking is fine.
    ///
    /// # Errors
    /// Why there is no code.
    pub fn compile(
        &self,
        engine: &Engine,
        bytes: Vec<u8>,
        cache: &Path,
        within: Duration,
    ) -> Result<Compiled, ApartError> {
        let seconds = within.as_secs().max(1).to_string();
        let mut command = Command::new(&self.program);
        command.arg(COMMAND).arg("--cache").arg(std::path::absolute(cache)?);
        command.args(["--memory-megabytes", &self.memory_megabytes.to_string(), "--seconds", &seconds]);
        if !engine.is_pooling() {
            command.arg("--no-pooling");
        }
        // What a terminal sends to whoever is in front of it is not for this one.
        command.env_clear().current_dir("/").process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = Running(command.spawn()?);
        let (stdin, stdout) = (child.0.stdin.take(), child.0.stdout.take());
        // Whoever has ended reads no more, which is told by how it has ended.
        let giving = std::thread::spawn(move || drop(stdin.map(|mut stdin| stdin.write_all(&bytes))));
        let hearing = std::thread::spawn(move || {
            let mut told = Vec::new();
            let heard = stdout.map(|stdout| stdout.take(REASON_BYTES).read_to_end(&mut told));
            heard.transpose().map(|_| told).unwrap_or_default()
        });
        let status = child.wait(within)?;
        drop(child);
        // Both ends are closed now.
        let _ = giving.join();
        let told = hearing.join().unwrap_or_default();
        match status.map(|status| (status, status.code().and_then(|code| u8::try_from(code).ok()))) {
            None => Err(ApartError::TimeUp { within }),
            Some((_, Some(KEPT))) => Ok(Compiled::Kept),
            Some((_, Some(NOT_KEPT))) => Ok(Compiled::NotKept),
            Some((status, _)) if status.signal().is_some_and(|signal| INTERRUPTIONS.contains(&signal)) => {
                Err(ApartError::Interrupted { how: status.to_string() })
            }
            // It could not begin: the machine, and not the component, is to blame.
            Some((status, Some(exit::FAILED | exit::USAGE))) => {
                Err(io::Error::other(format!("it says nothing ({status})")).into())
            }
            Some((status, code)) => match serde_json::from_slice::<Wrong>(&told) {
                Ok(wrong) if code == Some(REFUSED) => {
                    Err(ApartError::Refused { code: LoadError::known_code(&wrong.code), reason: wrong.reason })
                }
                _ => {
                    let memory_megabytes = self.memory_megabytes;
                    Err(ApartError::Ended { how: status.to_string(), memory_megabytes })
                }
            },
        }
    }
}

/// A process that is ended with whoever waits for it.
struct Running(Child);

impl Running {
    /// How it has ended; nothing when it did not in time. Then it has now.
    fn wait(&mut self, within: Duration) -> io::Result<Option<ExitStatus>> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(Some(status));
            }
            if began.elapsed() >= within {
                return Ok(None);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended cannot be ended again.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a compiler is told.
#[derive(Clone, Debug)]
pub struct Order {
    /// Where the code goes.
    pub cache: PathBuf,
    /// Megabytes of memory that it may have.
    pub memory_megabytes: u64,
    /// Seconds that it may take; it is ended from outside then, and by itself if nobody does.
    pub seconds: u64,
    /// Whether the code is for an engine with a pool.
    pub pooling: bool,
}

/// Compiles the component that comes by standard input, within limits, and gives the exit code.
///
/// # Errors
/// When this process cannot be limited, or the machine has no engine.
pub fn obey(order: &Order) -> Result<u8, SandboxError> {
    confine(order).map_err(|error| SandboxError::Engine { why: format!("the compiler cannot be limited: {error}") })?;
    let options = EngineOptions { pooling: order.pooling, ..EngineOptions::default() };
    let engine = Engine::new(options)?;
    let mut bytes = Vec::new();
    let most = engine.limits().component_bytes.saturating_add(1);
    let compiled = match io::stdin().lock().take(most).read_to_end(&mut bytes) {
        Ok(size) if u64::try_from(size).unwrap_or(u64::MAX) >= most => {
            Err(LoadError::TooBig { size: most, limit: most.saturating_sub(1) })
        }
        Ok(_) => compile(&engine, &bytes, Some(order.cache.clone())),
        Err(error) => Err(LoadError::Host { why: error.to_string() }),
    };
    match compiled {
        Ok(_) if is_kept(&engine, &bytes, &order.cache) => Ok(KEPT),
        Ok(_) => Ok(NOT_KEPT),
        Err(error) => {
            let mut reason = error.to_string();
            reason.truncate(reason.floor_char_boundary(REASON_TEXT));
            let wrong = Wrong { code: error.code().to_owned(), reason };
            // Nobody may be there any more to hear it.
            let _ = serde_json::to_writer(io::stdout(), &wrong);
            Ok(REFUSED)
        }
    }
}

/// Limits this process, for good.
fn confine(order: &Order) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let set = |resource, most: u64| {
        // Somebody may have set a narrower one for the host.
        let most = getrlimit(resource).maximum.map_or(most, |maximum| maximum.min(most));
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })
    };
    // What is written to, and not what is reserved: the pool reserves hundreds of gigabytes.
    set(Resource::Data, order.memory_megabytes.saturating_mul(1 << 20))?;
    set(Resource::Core, 0)?;
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    set(Resource::Cpu, order.seconds.saturating_mul(u64::try_from(cpus).unwrap_or(u64::MAX)).saturating_add(5))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_begin_says_nothing_of_the_component() {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::new(EngineOptions::default()).unwrap();
        // They make nothing of what a compiler is told: the first two end as a program of ours does that could not begin, with
        // 1 and with 2, the last one with 127.
        for (program, is_of_host) in [("/bin/false", true), ("/bin/ls", true), ("/usr/bin/env", false)] {
            let apart = Apart { program: program.into(), memory_megabytes: MEMORY_MEGABYTES };
            let error = apart.compile(&engine, Vec::new(), folder.path(), Duration::from_secs(60)).unwrap_err();
            assert_eq!(matches!(error, ApartError::Host(_)), is_of_host, "{program}: {error}");
        }
    }
}
