//! The log of a guest.
//!
//! What: what a connector logs becomes events with the fields `connector` and `instance`, cleaned and cut; beyond
//! the caps of a step everything is dropped, and that is said once.
//! Why: diagnostics are worth having, and no worth filling a disk or forging a line.
//! Not guaranteed: that anything is kept.

use super::limits::Limits;
use super::text::clean;
use crate::contract::log;
use crate::egress::Redactor;
use wasmtime::component::HasData;

/// The log of one step.
pub(crate) struct GuestLog {
    connector: String,
    instance: String,
    redactor: Redactor,
    /// Lines that may still be written in this step.
    lines_left: u32,
    /// Bytes that may still be written in this step.
    bytes_left: usize,
    /// Most bytes of one line.
    line_bytes: usize,
    /// Whether it was said that something was dropped.
    dropped: bool,
}

impl GuestLog {
    /// A log for one step of an instance.
    pub(super) fn new(connector: &str, instance: &str, redactor: Redactor, limits: &Limits) -> Self {
        Self {
            connector: connector.to_owned(),
            instance: instance.to_owned(),
            redactor,
            lines_left: limits.log_lines,
            bytes_left: limits.log_bytes,
            line_bytes: limits.log_line_bytes,
            dropped: false,
        }
    }

    /// What is shown of a message, or nothing when the caps are reached.
    fn admit(&mut self, message: &str) -> Option<String> {
        if self.lines_left == 0 || self.bytes_left == 0 {
            return None;
        }
        let text = clean(&self.redactor, message, self.line_bytes.min(self.bytes_left));
        self.lines_left -= 1;
        self.bytes_left = self.bytes_left.saturating_sub(text.len());
        Some(text)
    }
}

impl log::Host for GuestLog {
    async fn write(&mut self, level: log::Level, message: String) {
        let Some(text) = self.admit(&message) else {
            if !std::mem::replace(&mut self.dropped, true) {
                tracing::warn!(
                    connector = self.connector,
                    instance = self.instance,
                    "dropped what the connector logged beyond the limit of a step"
                );
            }
            return;
        };
        let (connector, instance) = (self.connector.as_str(), self.instance.as_str());
        match level {
            log::Level::Error => tracing::error!(connector, instance, "{text}"),
            log::Level::Warn => tracing::warn!(connector, instance, "{text}"),
            log::Level::Info => tracing::info!(connector, instance, "{text}"),
            log::Level::Debug => tracing::debug!(connector, instance, "{text}"),
        }
    }
}

/// Leads from a store to its log.
pub(super) struct HasLog;

impl HasData for HasLog {
    type Data<'a> = &'a mut GuestLog;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_bytes_of_a_step_are_capped() {
        let limits = Limits { log_lines: 3, log_bytes: 100, log_line_bytes: 10, ..Limits::default() };
        let mut log = GuestLog::new("c", "i", Redactor::default(), &limits);
        assert_eq!(log.admit("one\ntwo").unwrap(), "one\\ntwo");
        assert_eq!(log.admit(&"x".repeat(20)).unwrap(), format!("{}…", "x".repeat(10)));
        log.admit("three").unwrap();
        assert_eq!(log.admit("four"), None);

        let limits = Limits { log_lines: 1000, log_bytes: 8, log_line_bytes: 100, ..Limits::default() };
        let mut log = GuestLog::new("c", "i", Redactor::default(), &limits);
        log.admit("12345678").unwrap();
        assert_eq!(log.admit("9"), None);
    }
}
