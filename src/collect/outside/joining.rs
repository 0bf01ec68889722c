//! Alerts that say that they belong to an investigation: whether they come with that.
//!
//! Their own API may tell so before their investigation lists them, and after it is gone.

use super::super::Step;
use super::super::alerts::failures;
use super::super::checkpoint::{Known, MAX_ALERTS, MISSING, Owed};
use crate::api::transport::{Clock, Transport};
use crate::artifact::identity::hash64;
use crate::artifact::triage_alert::TriageAlert;

/// What an investigation knows an alert by.
fn key_of(alert: &TriageAlert<'_>) -> u64 {
    hash64([alert.rrn.as_bytes()])
}

/// Whether an alert of an investigation was collected with that, as far as so many can be remembered.
fn has_it(known: &Known, alert: &TriageAlert<'_>) -> bool {
    known.alerts.len() >= MAX_ALERTS || known.alerts.binary_search(&key_of(alert)).is_ok()
}

impl<T: Transport, C: Clock> Step<'_, T, C> {
    /// Whether everything that was new has been listed in this cycle: what is not remembered has then had to make room.
    fn has_listed_new(&self) -> bool {
        self.state.watermark.is_some() && self.state.window.is_none()
    }

    /// Whether it belongs to an investigation, with which it is or will be collected. Of one that had to make room, or that
    /// nothing of was ever collected, no row may ever tell that it has gained an alert: then the alert is collected for itself,
    /// under the same id. So it is when it will not be listed here again and its investigation, if that is still there, does
    /// not list it. What there was before the first cycle ended was there when its investigation was listed.
    pub(super) fn comes_with_its_investigation(&self, alert: &TriageAlert<'_>) -> bool {
        let Some(rrn) = alert.investigation() else { return false };
        if !self.settings.collect_alerts {
            return true;
        }
        match self.state.known.get(&rrn) {
            Some(known) if known.silent => false,
            Some(known) => {
                let owes = matches!(known.owed, Owed::Page(_)) || failures(known.owed) > 0;
                let is_first = self.state.relisted.is_none();
                has_it(&known, alert) || owes || is_first || self.is_listed_again(alert)
            }
            None => {
                let is_told = self.state.relisted.is_some() || self.state.forgotten.is_none();
                // That list may fail for longer than the alert is listed. Should its investigation be new and come then, the
                // alert has the same id with that. Before it was ever listed to its end all investigations are still to come.
                let is_over = self.state.watermark.is_some() && !self.is_listed_again(alert);
                // Where the search goes by another time than that of creation, it shows alerts whose investigation is still
                // to be listed. If it is not, the alert is found in looking back.
                let has_made_room = self.has_listed_new() && !self.is_within_overlap(alert);
                !(is_told && (has_made_room || is_over))
            }
        }
    }

    /// Whether an alert was collected with its investigation, or is not wanted with it.
    pub(super) fn has_come(&self, alert: &TriageAlert<'_>) -> bool {
        let known = alert.investigation().and_then(|rrn| self.state.known.get(&rrn));
        !self.settings.collect_alerts || known.is_some_and(|known| has_it(&known, alert))
    }

    /// Whether an alert is so young that its investigation may not show yet.
    fn is_within_overlap(&self, alert: &TriageAlert<'_>) -> bool {
        let from = self.cycle_began().plus_seconds(self.settings.overlap_minutes.saturating_mul(-60));
        alert.created().is_some_and(|created| created >= from)
    }

    /// Whether the next cycle lists an alert again.
    fn is_listed_again(&self, alert: &TriageAlert<'_>) -> bool {
        let from = self.cycle_began().plus_seconds(self.settings.overlap_minutes.saturating_mul(-120));
        alert.created().is_some_and(|created| created >= from)
    }

    /// An alert of an investigation is collected with that: it is looked at again where the alert did not show yet.
    pub(super) fn owe(&mut self, alert: &TriageAlert<'_>) {
        let Some(investigation) = alert.investigation() else { return };
        if let Some(known) = self.state.known.get(&investigation)
            && known.listed != MISSING
            && known.owed == Owed::Nothing
        {
            let owed = Owed::Until(self.cycle_began());
            self.state.known.put(investigation.into_owned(), Known { owed, ..known }, false);
        }
    }

    /// Notes that an alert has come, should its investigation list it later.
    pub(super) fn note_in_its_investigation(&mut self, alert: &TriageAlert<'_>) {
        let Some(investigation) = alert.investigation() else { return };
        if let Some(mut known) = self.state.known.get(&investigation).filter(|known| !known.silent) {
            known.remember(key_of(alert), &[]);
            self.state.known.put(investigation.into_owned(), known, false);
        }
    }
}
