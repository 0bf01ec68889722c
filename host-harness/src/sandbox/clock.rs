//! The clock that host and guest share.
//!
//! What: the system's time, a time that runs on from a given instant, or one that only moves when it is told to.
//! Why injected: days of polling can then be tested in seconds, and a simulator can be asked about any date.
//! Why guests get whole milliseconds only: a connector measures vendors, not CPUs, and a fine clock is what attacks on
//! caches and neighbours measure with.
//! Not guaranteed: a guest that sleeps waits in real time under every clock; only what it reads is virtual.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use time::OffsetDateTime;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock};

/// The steps in which guests see time pass, in nanoseconds.
const GRAIN: u32 = 1_000_000;

/// A clock. Clones show the same time.
#[derive(Clone)]
pub struct Clock {
    /// Where monotonic time begins.
    origin: Instant,
    kind: Kind,
}

/// Where wall-clock time comes from.
#[derive(Clone)]
enum Kind {
    /// The operating system, with all its corrections.
    System,
    /// This time at `origin`, running on with the monotonic clock.
    Running(OffsetDateTime),
    /// Stands still unless moved.
    Virtual(Arc<Mutex<Hands>>),
}

/// What a virtual clock shows.
struct Hands {
    now: OffsetDateTime,
    /// How far it was moved since it was made.
    moved: Duration,
}

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self { origin: Instant::now(), kind: Kind::System }
    }

    /// A clock that shows `start` now and runs on from there.
    #[must_use]
    pub fn starting_at(start: OffsetDateTime) -> Self {
        Self { origin: Instant::now(), kind: Kind::Running(start) }
    }

    /// A clock that shows `now` until it is moved by [`Clock::advance`].
    #[must_use]
    pub fn virtual_at(now: OffsetDateTime) -> Self {
        let hands = Hands { now, moved: Duration::ZERO };
        Self { origin: Instant::now(), kind: Kind::Virtual(Arc::new(Mutex::new(hands))) }
    }

    /// Moves a virtual clock, and all its clones, forward. Any other clock stays as it is and `false` is returned;
    /// so it is when the calendar ends.
    pub fn advance(&self, by: Duration) -> bool {
        let Kind::Virtual(hands) = &self.kind else {
            return false;
        };
        let mut hands = lock(hands);
        let Some(now) = time::Duration::try_from(by).ok().and_then(|by| hands.now.checked_add(by)) else {
            return false;
        };
        hands.now = now;
        hands.moved = hands.moved.saturating_add(by);
        true
    }

    /// What the clock shows, in UTC.
    #[must_use]
    pub fn now(&self) -> OffsetDateTime {
        match &self.kind {
            Kind::System => OffsetDateTime::now_utc(),
            Kind::Running(start) => {
                let elapsed = time::Duration::try_from(self.origin.elapsed()).unwrap_or(time::Duration::MAX);
                start.checked_add(elapsed).unwrap_or(*start)
            }
            Kind::Virtual(hands) => lock(hands).now,
        }
    }

    /// Time since the clock was made; never runs backwards.
    #[must_use]
    pub fn monotonic(&self) -> Duration {
        match &self.kind {
            Kind::System | Kind::Running(_) => self.origin.elapsed(),
            Kind::Virtual(hands) => lock(hands).moved,
        }
    }
}

/// Nothing panics while the lock is held, so a poisoned one is as good as any.
fn lock(hands: &Mutex<Hands>) -> MutexGuard<'_, Hands> {
    hands.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            Kind::System => "system",
            Kind::Running(_) => "running",
            Kind::Virtual(_) => "virtual",
        };
        write!(f, "Clock({kind}, {})", self.now())
    }
}

impl HostWallClock for Clock {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(u64::from(GRAIN))
    }

    /// Since 1970; times before it are shown as its beginning, because WASI has no others.
    fn now(&self) -> Duration {
        let now = Duration::try_from(Clock::now(self) - OffsetDateTime::UNIX_EPOCH).unwrap_or_default();
        Duration::new(now.as_secs(), now.subsec_nanos() / GRAIN * GRAIN)
    }
}

impl HostMonotonicClock for Clock {
    fn resolution(&self) -> u64 {
        u64::from(GRAIN)
    }

    fn now(&self) -> u64 {
        let grain = u64::from(GRAIN);
        u64::try_from(self.monotonic().as_nanos()).unwrap_or(u64::MAX) / grain * grain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noon() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
    }

    #[test]
    fn a_virtual_clock_moves_only_when_told_and_all_clones_move_with_it() {
        let clock = Clock::virtual_at(noon());
        let clone = clock.clone();
        assert_eq!(clone.now(), noon());
        assert!(clock.advance(Duration::from_secs(90)));
        assert_eq!(clone.now(), noon() + Duration::from_secs(90));
        assert_eq!(HostWallClock::now(&clone), Duration::from_secs(1_800_000_090));
        assert_eq!(HostMonotonicClock::now(&clone), 90_000_000_000);
        assert!(!clock.advance(Duration::MAX), "the calendar ends");
        assert_eq!(clone.now(), noon() + Duration::from_secs(90));
    }

    #[test]
    fn a_running_clock_starts_where_it_is_told_and_cannot_be_moved() {
        let clock = Clock::starting_at(noon());
        assert!(clock.now() >= noon());
        assert!(clock.now() < noon() + Duration::from_secs(3600));
        assert!(!clock.advance(Duration::from_secs(1)));
    }

    #[test]
    fn guests_see_whole_milliseconds_only() {
        let clock = Clock::virtual_at(noon());
        assert!(clock.advance(Duration::from_nanos(7_999_999)));
        assert_eq!(HostWallClock::now(&clock), Duration::from_millis(1_800_000_000_007));
        assert_eq!(HostMonotonicClock::now(&clock), 7_000_000);
        assert_eq!(
            (HostWallClock::resolution(&clock), HostMonotonicClock::resolution(&clock)),
            (Duration::from_millis(1), 1_000_000)
        );
        assert_eq!(clock.monotonic(), Duration::from_nanos(7_999_999), "the host's own view is exact");
    }

    #[test]
    fn times_before_1970_are_shown_to_guests_as_its_beginning() {
        let clock = Clock::virtual_at(OffsetDateTime::UNIX_EPOCH - Duration::from_secs(5));
        assert_eq!(HostWallClock::now(&clock), Duration::ZERO);
    }
}
