//! Alerts that cannot be read: each by itself, since one of them may be why others cannot, and how often each has failed.

use serde_json::value::RawValue;

use super::super::Step;
use super::super::evidence::HELD;
use super::super::triage::read_alert;
use super::GONE;
use crate::api::client::{Stop, is_local};
use crate::api::errors;
use crate::api::transport::{Clock, Transport};
use crate::artifact::identity::hash64;
use crate::contract::FailureReason;
use crate::descriptor::UNINVESTIGATED;
use crate::times::Utc;

/// Cycles in which an alert fails, and no other can be read, after which it is passed over.
const HELD_ALONE: u32 = 12;

/// How often an alert that is still to be read has failed.
#[derive(Clone, Copy, Default)]
pub(super) struct Failures {
    /// While others could be read.
    pub(super) own: u32,
    /// While no other could: that says little about it.
    pub(super) alone: u32,
}

impl Failures {
    /// From what stands for the creation of an alert.
    pub(super) fn of(created: i64) -> Option<Self> {
        let number = u32::try_from(created.checked_sub(GONE)?).ok().filter(|number| *number > 0)?;
        let (own, alone) = (number % (HELD + 1), number / (HELD + 1));
        (alone <= HELD_ALONE).then_some(Self { own, alone })
    }

    /// What stands for the creation of an alert.
    pub(super) fn created(self) -> i64 {
        GONE + i64::from(self.own.min(HELD) + self.alone.min(HELD_ALONE) * (HELD + 1))
    }
}

impl<T: Transport, C: Clock> Step<'_, T, C> {
    /// Reads alerts one by one, because one of them may be why they cannot be
    /// read together. One that has failed in so many cycles is passed over: later
    /// where no other can be read.
    pub(super) async fn read_singly<'r>(
        &mut self,
        rrns: &[&'r str],
        records: &mut Vec<Box<RawValue>>,
        gone: &mut Vec<&'r str>,
        until: Utc,
    ) -> Result<(), Stop> {
        let mut failed = None;
        let mut unread = Vec::new();
        for rrn in rrns {
            match read_alert(&self.client, rrn).await {
                Ok(record) => records.push(record),
                Err(Stop::Failed(failure)) if failure.reason == FailureReason::NotFound => gone.push(*rrn),
                Err(Stop::Failed(failure)) if is_local(&failure) => {
                    failed = Some(failure);
                    if self.client.ends_reads_of_alerts() {
                        break;
                    }
                    unread.push(*rrn);
                }
                Err(stop) => return Err(stop),
            }
        }
        let Some(failure) = failed else { return Ok(()) };
        if self.client.ends_reads_of_alerts() {
            return Err(Stop::Failed(failure));
        }
        let alone = records.is_empty();
        let mut waits = false;
        for rrn in unread {
            if self.has_failed_for_good(rrn, alone) {
                self.done_with(rrn, until.0);
            } else {
                waits = true;
            }
        }
        if waits {
            return Err(Stop::Failed(failure));
        }
        self.output.degrade(UNINVESTIGATED, errors::passed_over(*failure));
        Ok(())
    }

    /// How often an alert has failed.
    pub(super) fn failures_of(&self, rrn: &str) -> Failures {
        let known = self.state.beyond.outside.get(&hash64([rrn.as_bytes()]));
        known.and_then(|created| Failures::of(*created)).unwrap_or_default()
    }

    /// Counts a failure of an alert, while others could be read or not, and tells whether it is one too many.
    pub(super) fn has_failed_for_good(&mut self, rrn: &str, alone: bool) -> bool {
        let Failures { mut own, alone: mut others } = self.failures_of(rrn);
        *if alone { &mut others } else { &mut own } += 1;
        self.state.beyond.outside.insert(hash64([rrn.as_bytes()]), Failures { own, alone: others }.created());
        self.output.progress = true;
        own >= HELD || others >= HELD_ALONE
    }
}
