//! Alerts that may get more evidence than they were collected with.
//!
//! A young one is marked with the number of pieces that it came with, evidence and actors. When it is young no longer it is
//! looked at once more, and with more pieces it is another version of itself. Then the mark is taken away, so that what is
//! remembered grows by as many alerts only as are young.
//!
//! An alert that went without any, because the Alert Triage API was there before and is gone, is marked with none. When that is
//! back, the next listing of everything has its investigation looked at again.
//!
//! A mark stands among the keys of what was collected, where it is to older versions of the connector one more of those: it is
//! the complement of the alert's key, with the number in its lowest bits.
//!
//! Not guaranteed: what comes to an alert of an investigation of so many that marks would make others forgotten, or that had
//! to make room meanwhile.

use super::Step;
use super::checkpoint::{Known, MAX_ALERTS};
use crate::api::transport::{Clock, Transport};
use crate::artifact::alert::Alert;
use crate::times::Utc;

/// The bits of a mark that count pieces, and the most that they count.
const PIECES: u64 = 0x3ff;

/// The mark of the alert with this key, without its number.
const fn mark_of(alert: u64) -> u64 {
    !alert & !PIECES
}

impl Known {
    /// How many pieces the alert with this key was collected with, if more may have come since.
    #[must_use]
    pub fn pieces(&self, alert: u64) -> Option<u32> {
        let mark = mark_of(alert);
        let at = self.alerts.partition_point(|key| *key < mark);
        let key = self.alerts.get(at).filter(|key| **key & !PIECES == mark)?;
        u32::try_from(key & PIECES).ok()
    }

    /// Whether one of its alerts was collected without evidence that may come yet. Of a thousand marks one looks like that
    /// although it counts some: its investigation is looked at once too often.
    #[must_use]
    pub fn lacks_evidence(&self) -> bool {
        self.alerts.iter().any(|alert| self.alerts.binary_search(&mark_of(*alert)).is_ok())
    }

    /// Notes that, or that no more come.
    pub fn note_pieces(&mut self, alert: u64, pieces: Option<u32>) {
        let mark = mark_of(alert);
        self.alerts.retain(|key| *key & !PIECES != mark);
        if let Some(pieces) = pieces {
            self.remember(mark | u64::from(pieces).min(PIECES), &[]);
        }
    }

    /// Whether these alerts can be marked without making others forgotten.
    pub(super) fn has_room_for_marks(&self, alerts: &[Alert<'_>]) -> bool {
        let new = alerts.iter().filter(|alert| self.alerts.binary_search(&alert.key()).is_err()).count();
        self.alerts.len().saturating_add(new.saturating_mul(2)) <= MAX_ALERTS
    }
}

impl<T: Transport, C: Clock> Step<'_, T, C> {
    /// Up to when alerts were created to which nothing more comes.
    pub(super) fn whole_up_to(&self) -> Utc {
        self.cycle_began().plus_seconds(self.settings.overlap_minutes.saturating_mul(-60))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_replaced_and_taken_away_among_keys_of_any_value() {
        let keys = [0, 1, PIECES, 1 << 40, u64::MAX - 5, u64::MAX];
        let mut known = Known::default();
        keys.iter().for_each(|key| known.remember(*key, &[]));
        for key in [1 << 50, u64::MAX / 2, 0x1234_5678_9ABC_DEF0] {
            assert_eq!(known.pieces(key), None);
            known.note_pieces(key, Some(3));
            known.note_pieces(key, Some(5_000));
            assert_eq!(known.pieces(key), Some(1_023), "as many as are counted");
            assert_eq!(known.alerts.len(), keys.len() + 1);
            assert!(known.alerts.is_sorted());
            known.note_pieces(key, None);
            assert_eq!((known.pieces(key), known.alerts.as_slice()), (None, &keys[..]));
        }
    }

    #[test]
    fn an_alert_without_evidence_is_found_by_its_mark_alone() {
        let (mut known, alert) = (Known::default(), (1 << 50) + 7);
        [alert, 0x1234_5678_9ABC_DEF0].iter().for_each(|key| known.remember(*key, &[]));
        assert!(!known.lacks_evidence());
        for (pieces, lacks) in [(Some(1), false), (Some(0), true), (None, false)] {
            known.note_pieces(alert, pieces);
            assert_eq!(known.lacks_evidence(), lacks, "{pieces:?}");
        }
    }
}
