//! Telling an operator what was refused.
//!
//! What: one line for each refused request of a step, up to a cap; beyond it one line that says so, and only the count
//! goes on.
//! Why a cap: a refused request costs a guest nothing, so a line for each would let it fill a disk.
//! Not guaranteed: which of several simultaneous requests are among those told.

use super::meter::StepMeter;
use super::redact::Redactor;
use std::fmt::Display;

/// Most characters of a reason; paths may be long.
const REASON: usize = 1024;

/// Who asked.
#[derive(Clone, Copy)]
pub(super) struct Asker<'a> {
    /// Slug of the connector.
    pub(super) connector: &'a str,
    /// Name of the instance; empty when there is none.
    pub(super) instance: &'a str,
    /// What must not be shown.
    pub(super) redactor: &'a Redactor,
    /// Most lines of a step.
    pub(super) most: u32,
}

impl Asker<'_> {
    /// Counts a refused request and tells why, unless enough was told.
    pub(super) fn refused(self, meter: &StepMeter, code: &'static str, why: &dyn Display) {
        let Self { connector, instance, redactor, most } = self;
        let before = meter.add_denied();
        if before < most {
            let text = why.to_string();
            let text: String = redactor.redact(&text).chars().take(REASON).collect();
            tracing::warn!(connector, instance, code, "refused a request: {text}");
        } else if before == most {
            tracing::warn!(connector, instance, code, "refused a request; further ones of this step are not told");
        }
    }
}
