//! Where a host keeps its state, as commands are told.

use std::path::{Path, PathBuf};

use clap::Args;

use super::error::CliError;
use crate::config;

/// The state directory, or the configuration that names it.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct State {
    /// The state directory of a host, or of `poll`
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// The host's configuration, which names it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl State {
    /// The configuration, if that is what was named.
    pub(super) fn config(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// The directory.
    pub(super) fn directory(&self) -> Result<PathBuf, CliError> {
        match (&self.state, &self.config) {
            (Some(state), _) => Ok(state.clone()),
            (None, Some(config)) => Ok(config::load_host(config)?.state),
            // The group of the two is required.
            (None, None) => Err(CliError::usage("give --state or --config")),
        }
    }
}
