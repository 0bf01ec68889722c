//! `host-harness compile-component`: what a running host has compile a connector, in a process of its own.

use std::path::PathBuf;

use clap::Args;

use super::error::CliError;
use crate::connectors::apart::{MEMORY_MEGABYTES, Order, obey};

/// Compile the component on standard input into a cache
///
/// A running host calls it; there is nothing to be called by hand.
#[derive(Debug, Args)]
#[command(
    hide = true,
    after_help = "\
Example:
  host-harness compile-component --cache state/cache --seconds 30 < connector.wasm"
)]
pub(super) struct CompileComponent {
    /// Directory in which the compiled code is kept
    #[arg(long, value_name = "DIR")]
    cache: PathBuf,
    /// Megabytes of memory that it may take
    #[arg(long, value_name = "MB", default_value_t = MEMORY_MEGABYTES)]
    memory_megabytes: u64,
    /// Seconds that it may take
    #[arg(long, value_name = "N", default_value_t = 30)]
    seconds: u64,
    /// The code is for an engine without a pool of instances
    #[arg(long)]
    no_pooling: bool,
}

impl CompileComponent {
    pub(super) fn run(self) -> Result<u8, CliError> {
        let Self { cache, memory_megabytes, seconds, no_pooling } = self;
        Ok(obey(&Order { cache, memory_megabytes, seconds, pooling: !no_pooling })?)
    }
}
