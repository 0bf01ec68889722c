//! Cleaning what a connector says to people.
//!
//! Why: failures, hints and summaries end up in logs, status pages and terminals. Secrets are replaced, control
//! characters escaped, long texts cut; numbers that make no sense are left out.
//! Not guaranteed: that the texts are helpful.

use crate::contract::types::{CheckReport, Failure, FieldError, StreamReport, StreamState};
use crate::egress::Redactor;
use crate::sandbox::clean;

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
        Failure {
            message: self.text(&failure.message),
            remedy: self.text(&failure.remedy),
            http_status: failure.http_status.filter(|status| (100..=999).contains(status)),
            correlation_id: failure.correlation_id.map(|id| clean(self.redactor, &id, 128)),
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
            message: self.text(&error.message),
        };
        errors.into_iter().take(256).map(clean_one).collect()
    }
}
