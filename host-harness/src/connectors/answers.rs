//! Cleaning what a connector says to people.
//!
//! Why: failures, hints and summaries end up in logs, status pages and terminals. Secrets are replaced, control
//! characters escaped, long texts cut; numbers that make no sense are left out.
//! Not guaranteed: that the texts are helpful.

use crate::contract::types::{CheckReport, Failure, FieldError, RetryAdvice, StreamReport, StreamState};
use crate::egress::Redactor;
use crate::sandbox::clean;

/// What a failure says of which the connector says nothing.
const NO_MESSAGE: &str = "the connector gave no message";

/// Longest pause that a connector is believed to have been asked for, in seconds: a day.
const LONGEST_PAUSE: u64 = 86_400;

/// What is believed of a pause.
pub(super) fn believed(seconds: u64) -> u64 {
    seconds.min(LONGEST_PAUSE)
}

/// How texts of one tenant are cleaned.
#[derive(Clone, Copy)]
pub(super) struct Cleaner<'a> {
    /// What is replaced.
    pub(super) redactor: &'a Redactor,
    /// Most bytes of a text.
    pub(super) most: usize,
}

impl Cleaner<'_> {
    /// Cleans a text.
    pub(super) fn text(&self, text: &str) -> String {
        clean(self.redactor, text, self.most)
    }

    /// Cleans a failure.
    pub(super) fn failure(&self, failure: Failure) -> Failure {
        let message = self.text(&failure.message);
        Failure {
            message: if message.trim().is_empty() { NO_MESSAGE.to_owned() } else { message },
            remedy: self.text(&failure.remedy),
            http_status: failure.http_status.filter(|status| (100..=999).contains(status)),
            correlation_id: failure.correlation_id.map(|id| clean(self.redactor, &id, 128)),
            retry: match failure.retry {
                RetryAdvice::AfterSeconds(seconds) => RetryAdvice::AfterSeconds(believed(seconds)),
                RetryAdvice::BackOff | RetryAdvice::AfterChange => failure.retry,
            },
            ..failure
        }
    }

    /// Cleans the reports of streams.
    pub(super) fn reports(&self, reports: Vec<StreamReport>) -> Vec<StreamReport> {
        let state = |state| match state {
            StreamState::Ok => StreamState::Ok,
            StreamState::Degraded(failure) => StreamState::Degraded(self.failure(failure)),
            StreamState::Unavailable(failure) => StreamState::Unavailable(self.failure(failure)),
        };
        reports.into_iter().map(|report| StreamReport { state: state(report.state), ..report }).collect()
    }

    /// Cleans the report of a check.
    pub(super) fn check_report(&self, report: CheckReport) -> CheckReport {
        CheckReport { summary: self.text(&report.summary), reports: self.reports(report.reports) }
    }

    /// Cleans the errors of fields.
    pub(super) fn field_errors(&self, errors: Vec<FieldError>) -> Vec<FieldError> {
        let clean_one = |error: FieldError| FieldError {
            key: clean(self.redactor, &error.key, 128),
            message: match part_of_sentence(&self.text(&error.message)) {
                "" => "is refused, and the connector does not say why".to_owned(),
                message => message.to_owned(),
            },
        };
        errors.into_iter().take(256).map(clean_one).collect()
    }
}

/// A message without the full stop at its end: it is told in the midst of a sentence.
fn part_of_sentence(message: &str) -> &str {
    let message = message.trim();
    message.strip_suffix('.').filter(|rest| !rest.ends_with('.')).unwrap_or(message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::types::{FailureReason, RetryAdvice};

    /// Runs with a cleaner that knows no secrets.
    fn cleaned<T>(clean: impl FnOnce(Cleaner<'_>) -> T) -> T {
        clean(Cleaner { redactor: &Redactor::default(), most: 100 })
    }

    #[test]
    fn a_failure_without_a_message_says_so() {
        let said = |message: &str| {
            let failure = Failure {
                reason: FailureReason::Unavailable,
                message: message.into(),
                remedy: String::new(),
                http_status: None,
                correlation_id: None,
                request_sent: true,
                retry: RetryAdvice::BackOff,
            };
            cleaned(|cleaner| cleaner.failure(failure)).message
        };
        assert_eq!((said(""), said(" ")), (NO_MESSAGE.into(), NO_MESSAGE.into()));
        assert_eq!(said("It is down."), "It is down.");
    }

    #[test]
    fn what_is_said_of_a_field_has_no_full_stop_and_is_never_empty() {
        let said = |message: &str| {
            let error = FieldError { key: "size".into(), message: message.into() };
            cleaned(|cleaner| cleaner.field_errors(vec![error])).remove(0).message
        };
        assert_eq!(said("This has the wrong type."), "This has the wrong type");
        assert_eq!(said("Too long. Use 1 to 9."), "Too long. Use 1 to 9");
        assert_eq!(said("one of a, b, ..."), "one of a, b, ...");
        assert_eq!(said("."), "is refused, and the connector does not say why");
    }
}
