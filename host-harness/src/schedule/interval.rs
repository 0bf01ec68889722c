//! The arithmetic of polling intervals.
//!
//! Why a spread by id: after a start or an edit, instances must not all ask at once, and each keeps its place in the
//! interval from start to start, so a vendor sees an even load. Chance would do that only on average.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

/// How much later than its tick a poll may begin, as a part of the interval: enough that hosts that were started together
/// drift apart, too little to be seen.
const JITTER: f64 = 0.02;

/// Least part of an interval between the end of a poll and the next tick; a tick that is nearer is left out.
const LEAST_PAUSE: u32 = 10;

/// A number in 0.0 to 1.0 (not reached) that looks random and is the same for the same id and number.
#[must_use]
pub fn fraction(id: Uuid, number: u64) -> f64 {
    let (high, low) = id.as_u64_pair();
    // SplitMix64.
    let mut mixed = (high ^ low.rotate_left(32)).wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    // 53 bits fit into a float exactly.
    #[allow(clippy::cast_precision_loss, reason = "see above")]
    let part = (mixed >> 11) as f64 / (1_u64 << 53) as f64;
    part
}

/// Where in a span of time an instance has its place.
#[must_use]
pub fn spread(id: Uuid, within: Duration) -> Duration {
    within.mul_f64(fraction(id, 0))
}

/// The next tick after a poll that was due at `tick` and ended at `now`: a whole number of intervals later and not at
/// once, however many were missed. The second value is when the poll begins: a little later.
#[must_use]
pub fn next_tick(id: Uuid, number: u64, tick: Instant, now: Instant, interval: Duration) -> (Instant, Instant) {
    let interval = interval.max(Duration::from_secs(1));
    let gone = now.saturating_duration_since(tick) + interval / LEAST_PAUSE;
    let ticks = gone.as_nanos() / interval.as_nanos() + 1;
    let next = tick + interval.saturating_mul(u32::try_from(ticks).unwrap_or(u32::MAX));
    (next, next + interval.mul_f64(JITTER * fraction(id, number)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_mins(5);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn ten_thousand_instances_are_spread_evenly_and_always_in_the_same_way() {
        let mut minutes = [0; 5];
        for number in 0..10_000_u128 {
            let id = Uuid::from_u128(number << 64 | 0x8000_0000_0000_0000 | (number * 7));
            let place = spread(id, INTERVAL);
            assert_eq!(place, spread(id, INTERVAL));
            assert!(place < INTERVAL);
            minutes[usize::try_from(place.as_secs() / 60).expect("small")] += 1;
        }
        assert!(minutes.iter().all(|count| (1_850..2_150).contains(count)), "{minutes:?}");
    }

    #[test]
    fn ticks_keep_their_distance_and_missed_ones_are_left_out() {
        let id = Uuid::from_u128(1);
        let tick = Instant::now();
        let next = |after: u64| next_tick(id, 1, tick, tick + seconds(after), INTERVAL).0 - tick;
        assert_eq!(next(0), seconds(300));
        assert_eq!(next(200), seconds(300));
        assert_eq!(next(299), seconds(600), "not at once");
        assert_eq!(next(301), seconds(600));
        assert_eq!(next(86_400), seconds(86_700), "one, not 288");
    }

    #[test]
    fn a_poll_begins_a_little_after_its_tick_and_the_tick_does_not_drift() {
        let id = Uuid::from_u128(2);
        let mut tick = Instant::now();
        let first = tick;
        for number in 0..100 {
            let (next, begin) = next_tick(id, number, tick, tick + seconds(3), INTERVAL);
            assert!(begin >= next && begin - next < seconds(6), "{:?}", begin - next);
            tick = next;
        }
        assert_eq!(tick - first, INTERVAL * 100);
    }
}
