//! Errors as the command line shows them: what is wrong, and what to do.

use std::fmt;

use crate::egress::RouteError;
use crate::instances::secrets::SourceError;
use crate::instances::settings::SettingsError;
use crate::log::escape;
use crate::sandbox::SandboxError;
use crate::sinks::SinkError;
use crate::store::StoreError;

pub(super) use crate::exit::{FAILED as EXIT_FAILED, USAGE as EXIT_USAGE};

/// Ends the program with a message.
#[derive(Debug)]
pub(super) struct CliError {
    /// What is wrong; may have several lines.
    message: String,
    /// What to do about it.
    help: Option<String>,
    /// Exit code.
    pub(super) exit: u8,
}

impl CliError {
    /// Wrong usage, settings or files.
    pub(super) fn usage(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), help: None, exit: EXIT_USAGE }
    }

    /// A failure while running.
    pub(super) fn failed(message: impl fmt::Display) -> Self {
        Self { message: message.to_string(), help: None, exit: EXIT_FAILED }
    }

    /// Adds what to do.
    pub(super) fn help(mut self, help: impl fmt::Display) -> Self {
        let help = help.to_string();
        self.help = (!help.is_empty()).then_some(help);
        self
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.message.split('\n').map(escape).collect::<Vec<_>>();
        write!(formatter, "error: {}", lines.join("\n"))?;
        if let Some(help) = &self.help {
            write!(formatter, "\nhelp: {}", escape(help))?;
        }
        Ok(())
    }
}

impl From<StoreError> for CliError {
    fn from(error: StoreError) -> Self {
        let exit = match error {
            StoreError::Full { .. }
            | StoreError::Busy { .. }
            | StoreError::Daily { .. }
            | StoreError::Sql { .. }
            | StoreError::ArtifactId { .. } => EXIT_FAILED,
            _ => EXIT_USAGE,
        };
        Self { exit, ..Self::usage(&error).help(error.help()) }
    }
}

impl From<SinkError> for CliError {
    fn from(error: SinkError) -> Self {
        Self::usage(&error).help(error.help())
    }
}

impl From<SourceError> for CliError {
    fn from(error: SourceError) -> Self {
        Self::usage(&error).help(error.help())
    }
}

impl From<SettingsError> for CliError {
    fn from(error: SettingsError) -> Self {
        Self::usage(&error).help(error.help())
    }
}

impl From<RouteError> for CliError {
    fn from(error: RouteError) -> Self {
        Self::usage(&error)
    }
}

impl From<SandboxError> for CliError {
    fn from(error: SandboxError) -> Self {
        Self::failed(&error).help("check the memory and the limits (ulimit) of this machine")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_shown_with_its_help_and_cannot_forge_lines() {
        let error = CliError::usage("the file a\u{1b}[2J\rb is bad:\n  x: y").help("do\nthis");
        assert_eq!(error.to_string(), "error: the file a\\u{1b}[2J\\rb is bad:\n  x: y\nhelp: do\\nthis");
        assert_eq!(CliError::failed("x").to_string(), "error: x");
    }
}
