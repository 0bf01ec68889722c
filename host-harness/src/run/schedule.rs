//! When an instance is polled next.
//!
//! Why pure functions: back-off and spread are promises to vendors and
//! tenants, and are proved without waiting.
//!
//! Times are spread by a hash of the instance's id and never by chance, so that
//! a restart does not make all tenants ask at once.

use std::time::Duration;

use uuid::Uuid;

use crate::instances::failure::FailureReport;

/// Longest wait after failures that pass by themselves.
pub const LONGEST_BACK_OFF: Duration = Duration::from_secs(15 * 60);
/// First wait after such a failure; doubled with each one that follows.
pub const FIRST_BACK_OFF: Duration = Duration::from_secs(30);
/// Wait after failures that somebody has to mend.
pub const SLOW_RETRY: Duration = Duration::from_secs(15 * 60);
/// Shortest wait between two polls of one instance.
pub const SHORTEST: Duration = Duration::from_secs(1);
/// Part of an interval by which a poll may be late, so that tenants with one
/// interval drift apart: a sixteenth.
const JITTER_DIVISOR: u32 = 16;

/// How a poll ended, as far as the next one depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As it should, or with streams that are not there.
    Well,
    /// There is more to collect at once.
    Unfinished,
    /// With something that passes by itself: a rate limit, an outage.
    Troubled {
        /// Seconds after which the vendor wants to be asked again.
        retry_after: Option<u64>,
    },
    /// With something that somebody has to mend: a key, a right, a setting.
    Broken,
}

impl Ended {
    /// What a failure means for the next poll.
    #[must_use]
    pub fn of(failure: &FailureReport) -> Self {
        match failure.code.as_str() {
            "unauthorized"
            | "forbidden"
            | "not-found"
            | "invalid-settings"
            | "checkpoint-unreadable"
            | "no-connector"
            | "not-granted" => Self::Broken,
            code if code.starts_with("secret-") || code.starts_with("setting-") => Self::Broken,
            _ => Self::Troubled { retry_after: failure.retry_after_seconds },
        }
    }
}

/// The part of `whole` at which an instance's turn comes, the same at every
/// start.
#[must_use]
pub fn first_poll(instance: Uuid, whole: Duration) -> Duration {
    fraction(instance, 0, whole)
}

/// The time from the beginning of one poll to the next.
///
/// `failures` counts the polls in a row, this one included, that have ended in
/// trouble; `polls` all polls, for the jitter.
#[must_use]
pub fn until_next(instance: Uuid, interval: Duration, ended: Ended, failures: u32, polls: u64) -> Duration {
    let jitter = |wait: Duration| fraction(instance, polls.wrapping_add(1), wait / JITTER_DIVISOR);
    let wait = match ended {
        Ended::Well => return interval.max(SHORTEST),
        Ended::Unfinished => return SHORTEST,
        Ended::Broken => SLOW_RETRY.max(interval),
        Ended::Troubled { retry_after } => {
            let doubled = FIRST_BACK_OFF.saturating_mul(1 << failures.saturating_sub(1).min(10));
            let backed_off = doubled.min(LONGEST_BACK_OFF).max(interval.min(LONGEST_BACK_OFF));
            // A vendor's word counts, even beyond the longest back-off, but not for ever.
            let asked = Duration::from_secs(retry_after.unwrap_or(0).min(86_400));
            backed_off.max(asked)
        }
    };
    wait.saturating_add(jitter(wait)).max(SHORTEST)
}

/// A part of `whole` that looks random and follows from the instance and a
/// number.
fn fraction(instance: Uuid, number: u64, whole: Duration) -> Duration {
    let (high, low) = instance.as_u64_pair();
    // SplitMix64's last step, which spreads every bit over all others.
    let mut mixed = high ^ low.rotate_left(31) ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let part = u32::try_from((mixed ^ (mixed >> 31)) >> 40).unwrap_or(0);
    whole.saturating_mul(part) / (1 << 24)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn id(number: u64) -> Uuid {
        Uuid::from_u64_pair(number.wrapping_mul(0x1234_5678_9ABC_DEF1), number)
    }

    #[test]
    fn first_polls_are_spread_over_the_interval_and_are_the_same_after_a_restart() {
        let whole = 5 * MINUTE;
        let mut buckets = [0_u32; 10];
        for number in 0..1_000 {
            let at = first_poll(id(number), whole);
            assert!(at < whole);
            assert_eq!(at, first_poll(id(number), whole));
            buckets[usize::try_from(at.as_millis() * 10 / whole.as_millis()).unwrap()] += 1;
        }
        assert!(buckets.iter().all(|count| (50..150).contains(count)), "{buckets:?}");
    }

    #[test]
    fn trouble_is_answered_with_longer_and_longer_waits_up_to_a_quarter_of_an_hour() {
        let wait = |failures, interval| {
            until_next(id(1), interval, Ended::Troubled { retry_after: None }, failures, 0).as_secs()
        };
        let waits: Vec<u64> = (1..10).map(|failures| wait(failures, MINUTE)).collect();
        assert!(waits.windows(2).all(|pair| pair[0] <= pair[1]), "{waits:?}");
        assert!((60..=64).contains(&waits[0]), "never sooner than the interval: {waits:?}");
        assert!((900..=957).contains(waits.last().unwrap()), "{waits:?}");
        assert!(wait(1, 60 * MINUTE) <= 957, "an hourly instance does not wait an hour to try again");
        assert!(wait(u32::MAX, MINUTE) <= 957);
    }

    #[test]
    fn what_the_vendor_asks_for_is_obeyed() {
        let wait = |seconds| until_next(id(1), MINUTE, Ended::Troubled { retry_after: Some(seconds) }, 1, 7).as_secs();
        assert!((60..=64).contains(&wait(7)));
        assert!((3_600..=3_825).contains(&wait(3_600)));
        assert!(wait(u64::MAX) <= 92_000, "but not for ever");
    }

    #[test]
    fn what_somebody_has_to_mend_is_tried_again_slowly() {
        for code in ["unauthorized", "forbidden", "not-found", "invalid-settings", "secret-unset"] {
            let ended = Ended::of(&FailureReport::new(code, "", ""));
            assert_eq!(ended, Ended::Broken, "{code}");
            assert!(until_next(id(1), MINUTE, ended, 1, 0) >= SLOW_RETRY);
        }
        for code in ["rate-limited", "unavailable", "timeout", "malformed-response", "guest-trap"] {
            assert!(matches!(Ended::of(&FailureReport::new(code, "", "")), Ended::Troubled { .. }), "{code}");
        }
    }

    #[test]
    fn polls_of_one_interval_drift_apart_only_after_trouble() {
        assert_eq!(until_next(id(1), 5 * MINUTE, Ended::Well, 0, 3), 5 * MINUTE);
        assert_eq!(until_next(id(1), 5 * MINUTE, Ended::Unfinished, 0, 3), SHORTEST);
        assert_eq!(until_next(id(1), Duration::ZERO, Ended::Well, 0, 3), SHORTEST, "never a hot loop");
    }
}
