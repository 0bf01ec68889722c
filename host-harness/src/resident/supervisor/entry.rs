//! When one instance is due: its interval, its back-off and what the vendor asks for.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use crate::instances::report::{End, Status};
use crate::resident::poller::{Polled, Record};
use crate::schedule::{BackOff, LONGEST_RETRY_AFTER, Outcome, Wait, fraction, next_tick, spread};

/// A pause that has more than this to go is ended by whoever changes something: it may be the mistake of a connector that
/// took a time for a duration.
pub(super) const BINDING: Duration = Duration::from_hours(2);

/// How soon an instance is polled when what it failed of was changed.
const SOON: Duration = Duration::from_secs(3);

/// An enabled instance in the schedule.
pub(super) struct Entry {
    pub(super) record: Arc<Record>,
    pub(super) interval: Duration,
    /// The tick of the interval that it is at.
    pub(super) tick: Instant,
    /// Polls so far, for the jitter.
    pub(super) polls: u64,
    pub(super) back_off: BackOff,
    /// The vendor wants peace until then.
    pub(super) not_before: Option<Instant>,
    /// Something was changed while it was polled.
    pub(super) changed: bool,
    /// Its last poll since the start did not collect everything. What was wrong before does not count: at a start every
    /// connector is new, and a host that is started again and again would ask as often.
    pub(super) went_wrong: bool,
}

impl Entry {
    /// One that has not been polled.
    pub(super) fn new(record: Arc<Record>, interval: Duration, not_before: Option<Instant>, now: Instant) -> Self {
        Self {
            record,
            interval,
            tick: now,
            polls: 0,
            back_off: BackOff::default(),
            not_before,
            changed: false,
            went_wrong: false,
        }
    }

    /// The first poll, at the instance's own place within this time.
    pub(super) fn first(&mut self, id: Uuid, within: Duration, now: Instant) -> Instant {
        self.tick = now + spread(id, within);
        self.tick.max(self.not_before.unwrap_or(self.tick))
    }

    /// The next tick of an interval in which it was polled so long ago; `None` when that is over.
    pub(super) fn go_on(&mut self, since: Duration, now: Instant) -> Option<Instant> {
        self.tick = now + self.interval.checked_sub(since)?;
        Some(self.tick.max(self.not_before.unwrap_or(self.tick)))
    }

    /// A poll within seconds, unless the vendor wants peace for a while.
    pub(super) fn soon(&self, id: Uuid, now: Instant) -> Instant {
        let due = now + spread(id, SOON);
        if self.is_at_rest(now) { due } else { due.max(self.not_before.unwrap_or(due)) }
    }

    /// Whether it was told to wait for longer than is bound to be right.
    pub(super) fn is_at_rest(&self, now: Instant) -> bool {
        self.not_before.is_some_and(|until| until.saturating_duration_since(now) > BINDING)
    }

    /// Whether it waits for what somebody may have put right: also one that collects a part, and so is polled at its usual
    /// time.
    pub(super) fn waits_for_somebody(&self, now: Instant) -> bool {
        self.went_wrong || self.back_off.failures > 0 || self.is_at_rest(now)
    }

    /// When it is due after a poll, and the number of failures in a row if that is a back-off.
    pub(super) fn after(&mut self, polled: &Polled) -> (Instant, Option<u32>) {
        let now = Instant::now();
        let id = self.record.instance.id;
        self.polls += 1;
        let random = fraction(id, self.polls);
        let outcome = match polled {
            Polled::Cycle(cycle, _) => Outcome::of(cycle),
            Polled::NotBegun(failure) => Outcome::not_begun(failure),
        };
        // What was interrupted says nothing.
        if outcome.end != End::Interrupted {
            self.went_wrong = outcome.status != Status::Ok;
        }
        // Not until the poll that is due after it: whoever corrects something is polled as soon as the vendor allows it.
        self.not_before = outcome.retry_after.map(|asked| now + asked.min(LONGEST_RETRY_AFTER));
        let wait = self.back_off.after(&outcome, self.interval, random);
        let due = match wait {
            Wait::Tick(least) => {
                let (tick, begin) = next_tick(id, self.polls, self.tick, now, self.interval);
                self.tick = tick;
                begin.max(now + least)
            }
            Wait::Turn(wait) | Wait::BackOff(wait) => now + wait,
        };
        if self.changed && self.back_off.failures > 0 {
            return (self.soon(id, now), Some(self.back_off.failures));
        }
        let due = if self.changed && self.went_wrong { due.min(self.soon(id, now)) } else { due };
        (due, matches!(wait, Wait::BackOff(_)).then_some(self.back_off.failures))
    }
}
