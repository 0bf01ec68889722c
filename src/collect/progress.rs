//! How far the first collection has come, for people: it may take hours, and weeks of a large tenant within a small
//! allowance.
//!
//! Not guaranteed: that days take equally long.

use super::Step;
use super::checkpoint::{Phase, Window};
use super::listing::DAY;
use crate::api::transport::{Clock, Transport};
use crate::times::Utc;

impl<T: Transport, C: Clock> Step<'_, T, C> {
    /// Whether nothing has ever been collected to its end.
    pub(super) fn is_first_collection(&self) -> bool {
        self.state.relisted.is_none()
    }

    /// What there is to say at the end of a step. `more`: another follows.
    pub(super) fn first_collection(&self, more: bool) -> Option<String> {
        if !more {
            return (self.goes_on_first && !self.is_first_collection())
                .then(|| "The first collection is complete.".to_owned());
        }
        let floor = self.state.floor.filter(|_| self.is_first_collection())?;
        let (of, reached, done) = match &self.state.cycle.as_ref()?.phase {
            Phase::New => ("investigations", self.state.window?.after, "collected"),
            Phase::Outside(Some(reached)) => ("alerts outside investigations", *reached, "collected"),
            Phase::Known(Window { after, .. }, _) => ("older investigations", *after, "noted, so that changes show,"),
            _ => return None,
        };
        let days = |from: Utc, to: Utc| (to.seconds_since(from).max(0) + DAY / 2) / DAY;
        let day = reached.rfc3339();
        let day = day.get(..10).unwrap_or(&day);
        Some(format!(
            "First collection, of {} days: {of} are {done} up to those of {day}.",
            days(floor, self.cycle_began())
        ))
    }
}
