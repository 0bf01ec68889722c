//! Alerts that cannot be read: each by itself, since one of them may be why others cannot, and how often each has failed.
//!
//! That an API does not answer while no alert can be read says nothing about any of them. Whether it is so is asked with an
//! alert of the same window that was read before. Where there is none it is waited for, but not for ever: what lies behind
//! that window waits, too.

use serde_json::value::RawValue;

use super::super::Step;
use super::super::evidence::HELD;
use super::super::triage::read_alert;
use super::GONE;
use crate::api::client::{Stop, is_local};
use crate::api::errors::{self, is_outage};
use crate::api::transport::{Clock, Transport};
use crate::artifact::identity::hash64;
use crate::contract::FailureReason;
use crate::descriptor::UNINVESTIGATED;
use crate::times::Utc;

/// Cycles in which an alert fails, and no other can be read, after which it is passed over.
const HELD_ALONE: u32 = 12;
/// The same where their API does not answer: a day of polls every ten minutes.
const HELD_BY_OUTAGE: u32 = 144;

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
        (alone <= HELD_BY_OUTAGE).then_some(Self { own, alone })
    }

    /// What stands for the creation of an alert.
    pub(super) fn created(self) -> i64 {
        GONE + i64::from(self.own.min(HELD) + self.alone.min(HELD_BY_OUTAGE) * (HELD + 1))
    }
}

impl<T: Transport, C: Clock> Step<'_, T, C> {
    /// Reads alerts one by one, because one of them may be why they cannot be
    /// read together. One that has failed in so many cycles is passed over: later
    /// where no other can be read. `another` is one that was read earlier.
    pub(super) async fn read_singly<'r>(
        &mut self,
        rrns: &[&'r str],
        records: &mut Vec<Box<RawValue>>,
        gone: &mut Vec<&'r str>,
        (until, another): (Utc, Option<&str>),
    ) -> Result<(), Stop> {
        let mut failed = None;
        let mut unread = Vec::new();
        for rrn in rrns {
            match read_alert(&self.client, rrn).await {
                Ok(record) => records.push(record),
                Err(Stop::Failed(failure)) if failure.reason == FailureReason::NotFound => gone.push(*rrn),
                Err(Stop::Failed(failure)) if is_local(&failure) => {
                    unread.push((*rrn, is_outage(&failure)));
                    failed = Some(failure);
                    if self.client.ends_reads_of_alerts() {
                        break;
                    }
                }
                Err(stop) => return Err(stop),
            }
        }
        let Some(failure) = failed else { return Ok(()) };
        if self.client.ends_reads_of_alerts() {
            return Err(Stop::Failed(failure));
        }
        let mut alone = records.is_empty();
        if alone
            && unread.iter().any(|(_, is_outage)| *is_outage)
            && let Some(another) = another
        {
            alone = match read_alert(&self.client, another).await {
                Ok(_) => false,
                Err(Stop::Failed(failure)) => failure.reason != FailureReason::NotFound,
                Err(_) => true,
            };
        }
        let mut waits = false;
        for (rrn, is_outage) in unread {
            let most = if is_outage { HELD_BY_OUTAGE } else { HELD_ALONE };
            if self.has_failed_too_often(rrn, alone, most) {
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

    /// Whether an alert is passed over if it fails once more: what can be read of it is then used.
    pub(super) fn may_be_the_last_time(&self, rrn: &str) -> bool {
        let Failures { own, alone } = self.failures_of(rrn);
        own + 1 >= HELD || alone + 1 >= HELD_ALONE
    }

    /// How often an alert has failed.
    fn failures_of(&self, rrn: &str) -> Failures {
        let known = self.state.beyond.outside.get(&hash64([rrn.as_bytes()]));
        known.and_then(|created| Failures::of(*created)).unwrap_or_default()
    }

    /// Counts a failure of an alert, while others could be read or not, and tells whether it is one too many.
    pub(super) fn has_failed_for_good(&mut self, rrn: &str, alone: bool) -> bool {
        self.has_failed_too_often(rrn, alone, HELD_ALONE)
    }

    /// The same where so many failures are too many if no other could be read.
    fn has_failed_too_often(&mut self, rrn: &str, alone: bool, most: u32) -> bool {
        let Failures { mut own, alone: mut others } = self.failures_of(rrn);
        *if alone { &mut others } else { &mut own } += 1;
        self.state.beyond.outside.insert(hash64([rrn.as_bytes()]), Failures { own, alone: others }.created());
        self.output.progress = true;
        own >= HELD || others >= most
    }
}
