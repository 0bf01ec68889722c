//! Passes through the alerts of investigations that have more of them than are remembered of one.
//!
//! Of such an investigation a key that is not remembered says nothing: it may have made room. What says more is a time. When
//! a list was gone through from its first page to its last, nothing is left of it that was created longer than the overlap
//! before that began. Until there is another version, what is older is let go unseen, so that looking at it again costs a
//! request for each hundred, and not all that is read of each alert that made room.
//!
//! Guaranteed: nothing is let go that was not gone through, however many steps and cycles a pass takes. What came to the front
//! of a list while a pass of several cycles went on is looked for when it is over.
//!
//! Not guaranteed: of more than [`MOST`] at a time the first to be noted is gone through once more.

use serde::{Deserialize, Serialize};

use super::Step;
use super::alerts::failures;
use super::checkpoint::{Known, MAX_ALERTS, Owed};
use crate::api::transport::{Clock, Transport};
use crate::artifact::identity::hash64;
use crate::times::Utc;

/// Most that are noted: of investigations with so many alerts a checkpoint holds fewer, and of others only those are that a
/// step has left in the middle.
const MOST: usize = 64;

/// How far an investigation was gone through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// Hash of its RRN.
    pub rrn: u64,
    /// The beginning of the cycle in which the pass began.
    pub began: Utc,
    /// What was created before this was gone through, since the last version.
    pub through: Option<Utc>,
}

impl<T: Transport, C: Clock> Step<'_, T, C> {
    /// What is noted of an investigation.
    fn pass_of(&self, rrn: &str) -> Option<Pass> {
        let hash = hash64([rrn.as_bytes()]);
        self.state.since_8.passes.iter().find(|pass| pass.rrn == hash).copied()
    }

    /// Up to which creation nothing is left of the alerts of a version, if that is known.
    pub(super) fn gone_through(&self, rrn: &str) -> Option<Utc> {
        // One that is still to come was noted by a clock that was ahead.
        self.pass_of(rrn)?.through.filter(|through| *through < self.cycle_began())
    }

    /// Whether what was listed from a later page on began in an earlier cycle than this, as far as is known.
    pub(super) fn began_earlier(&self, rrn: &str) -> bool {
        self.pass_of(rrn).is_none_or(|pass| pass.began < self.cycle_began())
    }

    /// Notes that an investigation was listed from a page on, and what came of it. `is_new` tells that this version of it was
    /// not seen before.
    pub(super) fn note_pass(&mut self, rrn: &str, from_page: u64, is_new: bool, known: &Known) {
        let is_unfinished = matches!(known.owed, Owed::Page(_));
        if !self.settings.collect_alerts {
            return;
        }
        let before = self.pass_of(rrn);
        if before.is_none() && !is_unfinished && known.alerts.len() < MAX_ALERTS {
            return;
        }
        let now = self.cycle_began();
        let hash = hash64([rrn.as_bytes()]);
        let passes = &mut self.state.since_8.passes;
        passes.retain(|pass| pass.rrn != hash);
        let mut pass = match before {
            Some(pass) if from_page > 0 => pass,
            Some(pass) => Pass { began: now, ..pass },
            None if from_page == 0 => Pass { rrn: hash, began: now, through: None },
            // Nobody knows when it began.
            None => return,
        };
        if is_new {
            // The pages before this one were gone through at another version.
            if from_page > 0 {
                return;
            }
            pass.through = None;
        }
        if !is_unfinished && failures(known.owed) == 0 {
            let began = self.client.by_both_clocks(pass.began);
            pass.through = Some(began.plus_seconds(self.settings.overlap_minutes.saturating_mul(-60)));
        }
        if is_unfinished || known.alerts.len() >= MAX_ALERTS {
            if passes.len() >= MOST {
                passes.remove(0);
            }
            passes.push(pass);
        }
    }
}
