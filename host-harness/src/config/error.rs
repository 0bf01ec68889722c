//! What is wrong with a configuration file.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Line of the file, from 1; 0 when it concerns the file as a whole.
    pub line: usize,
    /// What is wrong and what to do.
    pub message: String,
}

/// Why a configuration is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// Everything that is wrong with it, in the order of the file.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    /// Stable name of the failure, for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        "invalid-configuration"
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problem) in self.problems.iter().enumerate() {
            if position > 0 {
                formatter.write_str("\n")?;
            }
            let path = self.path.display().to_string();
            formatter.write_str(&crate::log::escape(&path))?;
            if problem.line > 0 {
                write!(formatter, ":{}", problem.line)?;
            }
            write!(formatter, ": {}", crate::log::escape(&problem.message))?;
        }
        Ok(())
    }
}
