//! The sandbox: where a connector's code runs.
//!
//! What: one engine for all connectors, every limit in one place, a fresh instance for every step, and clocks that
//! the host sets.
//! Why a fresh instance: nothing survives a step but what the connector returned, so a step is a pure transaction and
//! a trap harms nothing but itself.
//! Not guaranteed: protection from the CPU's side channels, and fairness below the granularity of an epoch tick.

mod clock;
mod cpu;
mod engine;
mod error;
mod guest;
mod guest_log;
mod limits;
mod linker;
mod memory;
mod recursion;
mod request_words;
mod stderr;
mod step;
mod text;

pub use clock::Clock;
pub use engine::Engine;
pub use engine::EngineOptions;
pub use engine::TICK;
pub use error::SandboxError;
pub use error::StepError;
pub use error::Usage;
pub use error::reason_code;
pub use limits::Limits;
pub use linker::ALLOWED_IMPORTS;

pub(crate) use guest::Guest;
pub(crate) use step::{StepOptions, run};
pub(crate) use text::clean;

pub(crate) use crate::log::is_tricky;
