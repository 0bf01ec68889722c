//! What is wrong with a configuration: where, why, and what to do.
//!
//! Why a list: whoever edits a file wants to hear of all slips at once, each with its line.
//! Promise: no problem ever holds the value of a secret, nor of anything that may be one given by mistake.

use std::fmt;

use serde::Serialize;

use crate::log::escape;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// Line in it, from 1; none when it concerns the file as a whole.
    pub line: Option<usize>,
    /// Column in characters, from 1.
    pub column: Option<usize>,
    /// Stable name of the kind of problem, for programs.
    pub code: &'static str,
    /// What is wrong.
    pub reason: String,
    /// What to do about it.
    pub help: String,
}

impl fmt::Display for Problem {
    /// `conductor.toml:12:1: <reason>; <help>`, on one line.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&escape(&self.file))?;
        if let Some(line) = self.line {
            write!(formatter, ":{line}")?;
            if let Some(column) = self.column {
                write!(formatter, ":{column}")?;
            }
        }
        write!(formatter, ": {}", escape(&self.reason))?;
        if self.help.is_empty() { Ok(()) } else { write!(formatter, "; {}", escape(&self.help)) }
    }
}

/// Everything that is wrong with a configuration, in the order of its lines. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{}", lines(.problems))]
pub struct ConfigError {
    /// The problems.
    pub problems: Vec<Problem>,
}

impl ConfigError {
    /// Stable name of the kind of failure, for programs: that of the first problem.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.problems.first().map_or("config", |problem| problem.code)
    }
}

/// One line each.
fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The known word that is nearest to what was written, when it is near enough to be a slip of the pen.
#[must_use]
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = (written.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(written, word), word))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// `did you mean "x"?`, or what there is.
pub(crate) fn suggestion<'a>(written: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match nearest(written, known.clone()) {
        Some(word) => format!("did you mean {word:?}?"),
        None => {
            let words: Vec<&str> = known.into_iter().collect();
            if words.is_empty() { "there are none here".to_owned() } else { format!("there is {}", words.join(", ")) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_suggested_only_when_it_is_near() {
        let known = ["poll_interval_minutes", "enabled", "name"];
        assert_eq!(nearest("enabeld", known), Some("enabled"));
        assert_eq!(nearest("poll_interval_minute", known), Some("poll_interval_minutes"));
        assert_eq!(nearest("nmae", known), Some("name"));
        assert_eq!(nearest("region", known), None);
        assert_eq!(suggestion("x", known), "there is poll_interval_minutes, enabled, name");
    }

    #[test]
    fn a_problem_cannot_forge_lines() {
        let problem = Problem {
            file: "a\nb".into(),
            line: Some(3),
            column: None,
            code: "x",
            reason: "no\r\n[INFO] forged".into(),
            help: String::new(),
        };
        assert_eq!(problem.to_string(), "a\\nb:3: no\\r\\n[INFO] forged");
    }
}
