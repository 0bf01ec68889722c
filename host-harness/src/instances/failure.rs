//! A failure as reports and log lines show it, whoever had it: the vendor,
//! the sandbox, the store or the output.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::contract::types::{Failure, RetryAdvice};
use crate::sandbox::{StepError, reason_code};
use crate::sinks::{DrainError, SinkError};
use crate::store::StoreError;

/// When trying again makes sense, as whoever failed says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retry {
    /// With the usual back-off.
    #[default]
    BackOff,
    /// Not before somebody changes something.
    AfterChange,
    /// Not before this long has passed.
    After(Duration),
}

/// What went wrong and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureReport {
    /// Stable name of the reason, for programs.
    pub code: String,
    /// Status of the vendor's response, if there was one.
    pub http_status: Option<u16>,
    /// The vendor's identifier of the request, for its support.
    pub correlation_id: Option<String>,
    /// What happened, one sentence.
    pub message: String,
    /// What the operator can do; may be empty.
    pub remedy: String,
    /// When to try again; of this, reports have for how long the vendor asks not to be called.
    #[serde(
        rename = "retry_after_seconds",
        serialize_with = "as_seconds",
        skip_serializing_if = "Retry::has_no_time",
        skip_deserializing
    )]
    pub retry: Retry,
}

impl Retry {
    fn has_no_time(&self) -> bool {
        !matches!(self, Self::After(_))
    }
}

/// How long it is, in seconds.
fn as_seconds<S: serde::Serializer>(retry: &Retry, serializer: S) -> Result<S::Ok, S::Error> {
    match retry {
        Retry::After(time) => serializer.serialize_u64(time.as_secs()),
        Retry::BackOff | Retry::AfterChange => serializer.serialize_none(),
    }
}

impl FailureReport {
    /// A failure that has nothing to do with a response.
    #[must_use]
    pub fn new(code: &str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            code: code.to_owned(),
            http_status: None,
            correlation_id: None,
            message: message.into(),
            remedy: remedy.into(),
            retry: Retry::BackOff,
        }
    }

    /// Whether the connector itself has failed, whatever its vendor does: where it fails once it fails again.
    #[must_use]
    pub fn is_of_connector(&self) -> bool {
        matches!(
            self.code.as_str(),
            "connector-trap"
                | "memory-limit"
                | "cpu-limit"
                | "bad-batch"
                | "checkpoint-unreadable"
                | "internal"
                | "no-progress"
                | "budget-exhausted"
        )
    }

    /// `<message> (HTTP 401, unauthorized). <remedy>`: the form of log lines,
    /// in which operators are told to look for the number.
    #[must_use]
    pub fn sentence(&self) -> String {
        let message = self.message.trim_end().trim_end_matches('.');
        let status = self.http_status.map(|status| format!("HTTP {status}, ")).unwrap_or_default();
        let mut text = format!("{message} ({status}{}).", self.code);
        if !self.remedy.is_empty() {
            text.push(' ');
            text.push_str(&self.remedy);
        }
        text
    }
}

impl FailureReport {
    /// The same, and how long the vendor asks not to be called: for who asks once, and is not polled again by itself.
    #[must_use]
    pub fn sentence_with_wait(&self) -> String {
        match self.retry {
            Retry::After(time) => format!("{} Try again in {} s.", self.sentence(), time.as_secs()),
            Retry::BackOff | Retry::AfterChange => self.sentence(),
        }
    }
}

impl From<&Failure> for FailureReport {
    fn from(failure: &Failure) -> Self {
        Self {
            code: reason_code(failure.reason).to_owned(),
            http_status: failure.http_status,
            correlation_id: failure.correlation_id.clone(),
            message: failure.message.clone(),
            remedy: failure.remedy.clone(),
            retry: match failure.retry {
                RetryAdvice::BackOff => Retry::BackOff,
                RetryAdvice::AfterChange => Retry::AfterChange,
                RetryAdvice::AfterSeconds(seconds) => Retry::After(Duration::from_secs(seconds)),
            },
        }
    }
}

impl From<&StepError> for FailureReport {
    fn from(error: &StepError) -> Self {
        match error {
            StepError::Failure(failure) => failure.into(),
            other => Self::new(other.code(), other.to_string(), other.remedy()),
        }
    }
}

impl From<&StoreError> for FailureReport {
    fn from(error: &StoreError) -> Self {
        Self::new(error.code(), error.to_string(), as_sentence(error.help()))
    }
}

impl From<&SinkError> for FailureReport {
    fn from(error: &SinkError) -> Self {
        Self::new(error.code(), error.to_string(), as_sentence(error.help()))
    }
}

impl From<&DrainError> for FailureReport {
    fn from(error: &DrainError) -> Self {
        match error {
            DrainError::Sink(error) => error.into(),
            DrainError::Store(error) => error.into(),
        }
    }
}

/// A help text as a sentence: capital letter and full stop.
pub(crate) fn as_sentence(help: &str) -> String {
    let mut chars = help.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).chain(['.']).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_with_its_number_and_its_remedy() {
        let mut failure = FailureReport::new("unauthorized", "The key is not known.", "Check the key.");
        failure.http_status = Some(401);
        insta::assert_snapshot!(failure.sentence(), @"The key is not known (HTTP 401, unauthorized). Check the key.");
    }

    #[test]
    fn without_a_response_and_a_remedy_there_is_only_the_reason() {
        let failure = FailureReport::new("trap", "The connector crashed", "");
        insta::assert_snapshot!(failure.sentence(), @"The connector crashed (trap).");
    }

    #[test]
    fn help_of_the_host_becomes_a_sentence() {
        assert_eq!(as_sentence("free some room"), "Free some room.");
        assert_eq!(as_sentence(""), "");
    }
}
