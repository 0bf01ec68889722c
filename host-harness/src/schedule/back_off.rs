//! How long to wait after a poll, by how it went.
//!
//! | how it went | when it is polled again |
//! |---|---|
//! | good, or only some stream failed | at the next tick of the interval, not before what the vendor asked for |
//! | the same, the vendor asked for a pause in between | when that is over |
//! | the same, and there is more after as many steps as a turn has | after all others that are due; after sixty turns with nothing new, pauses of less than 30 s among them, at the next tick |
//! | unavailable, timeout, malformed response, store or host in trouble | 30 s (or the interval, if shorter), doubled each time, at most 15 min |
//! | rate-limited, or the connector itself failed | the interval, doubled each time, at most 15 min or four intervals (but not over an hour), never less than the interval |
//! | somebody has to change something: key, right, region, setting, secret, connector | 15 min (or the interval, if longer), or as soon as it was changed |
//!
//! All with jitter, and never before the vendor's Retry-After, of which at most a day is believed. Nothing is ever
//! polled again at once, so nothing can run hot.

use std::time::Duration;

use crate::instances::failure::{FailureReport, Retry};
use crate::instances::report::{Cycle, End, Status};

/// The longest back-off, unless the interval is longer.
pub const LONGEST_BACK_OFF: Duration = Duration::from_mins(15);

/// The longest back-off of what is polled less often so that it does not fail, unless the interval is longer: with an
/// interval of 15 minutes too, a limit that is reached again and again has to slow the polling down.
const LONGEST_PACE: Duration = Duration::from_hours(1);

/// The longest pause that a vendor is granted.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(24);

/// First wait after an outage.
const FIRST: Duration = Duration::from_secs(30);

/// Wait between the turns of a long cycle.
const BETWEEN_TURNS: Duration = Duration::from_secs(1);

/// Turns without anything new, of ten steps or a minute each: a long list of what has not changed is gone through in them,
/// and a connector that only says that there is more does not keep its vendor busy for ever.
const MOST_IDLE_TURNS: u32 = 60;

/// A pause that is shorter than the windows of vendors' allowances: turns with one count like those without.
const SHORT_PAUSE: Duration = Duration::from_secs(30);

/// How a poll went, as far as the wait depends on it.
#[derive(Clone, Debug)]
pub struct Outcome<'a> {
    /// The status it leaves.
    pub status: Status,
    /// How it ended.
    pub end: End,
    /// Whether it stored anything new.
    pub progress: bool,
    /// The failure that it depends on.
    pub failure: Option<&'a FailureReport>,
    /// How long the vendor asked for peace.
    pub retry_after: Option<Duration>,
}

impl<'a> Outcome<'a> {
    /// Of a cycle.
    #[must_use]
    pub fn of(cycle: &'a Cycle) -> Self {
        // Of several streams each may have its own: what slows the polling down counts, and the longest pause, wherever it
        // stands.
        let failure = cycle.failures().find(|failure| kind(failure) == Kind::Pace).or(cycle.first_failure());
        let asked = cycle.failures().filter_map(|failure| match failure.retry {
            Retry::After(wait) => Some(wait),
            Retry::BackOff | Retry::AfterChange => None,
        });
        Self {
            status: cycle.status(),
            end: cycle.end,
            progress: cycle.new > 0,
            failure,
            retry_after: cycle.retry_after.max(asked.max()),
        }
    }

    /// Of a poll that could not even begin.
    #[must_use]
    pub fn not_begun(failure: &'a FailureReport) -> Self {
        Self { status: Status::Failed, end: End::Failed, progress: false, failure: Some(failure), retry_after: None }
    }
}

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The next tick of the interval, and at least this long.
    Tick(Duration),
    /// This long: the cycle goes on.
    Turn(Duration),
    /// This long, because something is wrong.
    BackOff(Duration),
}

/// Counts failures in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackOff {
    /// Polls in a row that were followed by a back-off.
    pub failures: u32,
    /// Turns of a long cycle in a row that stored nothing new.
    pub idle_turns: u32,
}

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Passes by itself.
    Outage,
    /// Polling less often helps, or at least does no harm.
    Pace,
    /// Stays until somebody changes something.
    Change,
}

impl BackOff {
    /// What to wait for after this outcome. `random` is in 0.0 to 1.0.
    pub fn after(&mut self, outcome: &Outcome<'_>, interval: Duration, random: f64) -> Wait {
        let interval = interval.max(Duration::from_secs(1));
        let asked = outcome.retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER);
        // A little later than asked for, so that not everyone who was told the same comes at the same moment.
        let asked = asked + asked.mul_f64(0.1).min(Duration::from_mins(1)).mul_f64(random);
        let failure = match (outcome.end, outcome.failure.map(kind)) {
            // A stream that fails alone is tried again with the others, and keeps none of them waiting.
            (End::Complete | End::StepLimit | End::Deferred, Some(Kind::Outage | Kind::Change))
            | (End::Interrupted, _)
                if outcome.status != Status::Failed =>
            {
                None
            }
            (_, failure) => failure,
        };
        if let Some(kind) = failure {
            self.failures = self.failures.saturating_add(1);
            return Wait::BackOff(self.delay(kind, interval, random).max(asked));
        }
        self.failures = 0;
        let goes_on_soon = outcome.end == End::StepLimit || outcome.end == End::Deferred && asked < SHORT_PAUSE;
        let is_idle = goes_on_soon && !outcome.progress;
        self.idle_turns = if is_idle { self.idle_turns.saturating_add(1) } else { 0 };
        match outcome.end {
            End::Deferred | End::StepLimit if self.idle_turns <= MOST_IDLE_TURNS => {
                Wait::Turn(asked.max(BETWEEN_TURNS))
            }
            _ => Wait::Tick(asked),
        }
    }

    /// The wait for a kind of failure that is the n-th in a row.
    fn delay(self, kind: Kind, interval: Duration, random: f64) -> Duration {
        let first = match kind {
            Kind::Change => {
                let least = LONGEST_BACK_OFF.max(interval);
                return least + least.mul_f64(0.1 * random);
            }
            Kind::Outage => FIRST.min(interval),
            Kind::Pace => interval,
        };
        let doublings = self.failures.saturating_sub(1).min(16);
        let longest = match kind {
            Kind::Pace => LONGEST_BACK_OFF.max(interval.saturating_mul(4).min(LONGEST_PACE)),
            Kind::Outage | Kind::Change => LONGEST_BACK_OFF,
        };
        let full = first.saturating_mul(1 << doublings).min(longest.max(first));
        let delay = full.mul_f64(0.8 + 0.2 * random);
        // Never sooner than the interval, and not all at the same moment who were refused at the same moment.
        let least = interval.mul_f64(1.0 + 0.1 * random);
        if kind == Kind::Pace { delay.max(least) } else { delay.max(Duration::from_secs(1)) }
    }
}

/// What kind a failure is.
fn kind(failure: &FailureReport) -> Kind {
    match failure.code.as_str() {
        "rate-limited" => Kind::Pace,
        "unauthorized" | "forbidden" | "not-found" | "invalid-settings" | "checkpoint-unreadable" => Kind::Change,
        _ if failure.is_of_connector() => Kind::Pace,
        _ if failure.retry == Retry::AfterChange => Kind::Change,
        _ => Kind::Outage,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_mins(5);

    fn failure(code: &str) -> FailureReport {
        FailureReport::new(code, "it failed", "")
    }

    fn failed(failure: &FailureReport, retry_after: Option<u64>) -> Outcome<'_> {
        Outcome { retry_after: retry_after.map(Duration::from_secs), ..Outcome::not_begun(failure) }
    }

    fn good(end: End, progress: bool, retry_after: Option<u64>) -> Outcome<'static> {
        let retry_after = retry_after.map(Duration::from_secs);
        Outcome { status: Status::Ok, end, progress, failure: None, retry_after }
    }

    /// Seconds waited after each of ten failures in a row, without jitter.
    fn series(code: &str, interval: Duration) -> Vec<u64> {
        let mut back_off = BackOff::default();
        let failure = failure(code);
        (0..8)
            .map(|_| match back_off.after(&failed(&failure, None), interval, 1.0) {
                Wait::BackOff(wait) => wait.as_secs(),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn an_outage_is_waited_out_ever_longer_up_to_fifteen_minutes() {
        for code in ["unavailable", "timeout", "malformed-response", "wall-clock-limit", "host-error", "state-full"] {
            assert_eq!(series(code, INTERVAL), [30, 60, 120, 240, 480, 900, 900, 900], "{code}");
        }
        assert_eq!(series("unavailable", Duration::from_secs(10)), [10, 20, 40, 80, 160, 320, 640, 900]);
    }

    #[test]
    fn rate_limits_and_connectors_that_fail_slow_the_polling_down() {
        for code in ["rate-limited", "connector-trap", "memory-limit", "cpu-limit", "bad-batch", "internal"] {
            assert_eq!(series(code, INTERVAL), [330, 600, 1200, 1200, 1200, 1200, 1200, 1200], "{code}");
        }
        assert_eq!(series("rate-limited", Duration::from_mins(1))[..6], [66, 120, 240, 480, 900, 900]);
        assert_eq!(series("rate-limited", Duration::from_mins(15))[..5], [990, 1800, 3600, 3600, 3600]);
        assert_eq!(
            series("rate-limited", Duration::from_hours(2))[..2],
            [7920, 7920],
            "never sooner than the interval"
        );
    }

    #[test]
    fn short_pauses_without_anything_new_come_to_an_end_and_long_ones_are_the_vendors() {
        for (pause, goes_on) in [(6, false), (60, true)] {
            let mut back_off = BackOff::default();
            let idle = good(End::Deferred, false, Some(pause));
            let waits: Vec<Wait> = (0..=MOST_IDLE_TURNS).map(|_| back_off.after(&idle, INTERVAL, 0.0)).collect();
            assert_eq!(waits.iter().all(|wait| matches!(wait, Wait::Turn(_))), goes_on, "{pause}");
            let new = good(End::Deferred, true, Some(pause));
            assert!(matches!(back_off.after(&new, INTERVAL, 0.0), Wait::Turn(_)), "something new begins anew");
        }
    }

    proptest::proptest! {
        /// Whatever failed, how often, and whatever was asked for: never before that, never much later than the longest
        /// back-off, and two who fail alike do not come back at the same moment.
        #[test]
        fn every_wait_has_jitter_and_none_comes_before_its_time(
            code in proptest::sample::select(vec!["rate-limited", "unavailable", "unauthorized", "connector-trap"]),
            failures in 0_u32..20,
            minutes in 1_u64..120,
            asked in proptest::option::of(0_u64..100_000),
            one in 0.0_f64..0.45,
            other in 0.55_f64..1.0,
        ) {
            let (failure, interval) = (failure(code), Duration::from_mins(minutes));
            let wait = |random| match (BackOff { failures, ..BackOff::default() }).after(&failed(&failure, asked), interval, random) {
                Wait::BackOff(wait) => wait,
                other => panic!("{other:?}"),
            };
            let (sooner, later) = (wait(one), wait(other));
            proptest::prop_assert!(sooner < later, "{sooner:?} {later:?}");
            let asked = Duration::from_secs(asked.unwrap_or_default()).min(LONGEST_RETRY_AFTER);
            let longest = if code == "unauthorized" || code == "unavailable" { LONGEST_BACK_OFF } else { LONGEST_PACE };
            let longest = longest.max(interval).mul_f64(1.1).max(asked + Duration::from_mins(1));
            proptest::prop_assert!(sooner >= asked && later <= longest, "{sooner:?} {later:?}");
            if code == "rate-limited" {
                proptest::prop_assert!(sooner >= interval);
            }
        }
    }

    #[test]
    fn what_somebody_has_to_change_is_tried_slowly() {
        for code in ["unauthorized", "forbidden", "not-found", "invalid-settings", "checkpoint-unreadable"] {
            assert_eq!(series(code, INTERVAL)[..3], [990, 990, 990], "{code}");
        }
        assert_eq!(series("unauthorized", Duration::from_mins(60))[0], 3960);
        let mut custom = failure("secret-unset");
        custom.retry = Retry::AfterChange;
        let wait = BackOff::default().after(&failed(&custom, None), INTERVAL, 0.0);
        assert_eq!(wait, Wait::BackOff(Duration::from_secs(900)));
    }

    #[test]
    fn no_wait_is_ever_nothing_whatever_chance_says() {
        for code in ["unavailable", "rate-limited", "unauthorized", "connector-trap", "never-heard-of"] {
            for random in [0.0, 0.5, 0.999] {
                for interval in [Duration::ZERO, Duration::from_secs(1), INTERVAL] {
                    let failure = failure(code);
                    let Wait::BackOff(wait) = BackOff::default().after(&failed(&failure, Some(0)), interval, random)
                    else {
                        panic!("{code}");
                    };
                    assert!(wait >= Duration::from_secs(1), "{code} {wait:?}");
                }
            }
        }
    }

    #[test]
    fn what_the_vendor_asks_for_is_waited_but_not_for_ever() {
        let limited = failure("rate-limited");
        let wait = |seconds| BackOff::default().after(&failed(&limited, Some(seconds)), INTERVAL, 0.0);
        assert_eq!(wait(3_600), Wait::BackOff(Duration::from_secs(3_600)));
        assert_eq!(wait(10), Wait::BackOff(INTERVAL));
        assert_eq!(wait(u64::MAX), Wait::BackOff(LONGEST_RETRY_AFTER));
        let down = failure("unavailable");
        let wait = BackOff::default().after(&failed(&down, Some(200)), INTERVAL, 1.0);
        assert_eq!(wait, Wait::BackOff(Duration::from_secs(220)), "with jitter on top, never less");
    }

    #[test]
    fn a_success_ends_the_back_off() {
        let mut back_off = BackOff { failures: 5, ..BackOff::default() };
        assert_eq!(back_off.after(&good(End::Complete, true, None), INTERVAL, 0.5), Wait::Tick(Duration::ZERO));
        assert_eq!(back_off.failures, 0);
        let wait = back_off.after(&good(End::Complete, false, Some(400)), INTERVAL, 0.0);
        assert_eq!(wait, Wait::Tick(Duration::from_secs(400)));
    }

    #[test]
    fn a_long_cycle_goes_on_after_the_others_and_one_that_finds_nothing_in_sixty_turns_waits_its_interval() {
        let mut back_off = BackOff::default();
        let mut turn = |progress| back_off.after(&good(End::StepLimit, progress, None), INTERVAL, 0.5);
        for _ in 0..2 {
            assert_eq!(turn(true), Wait::Turn(BETWEEN_TURNS));
            for _ in 0..MOST_IDLE_TURNS {
                assert_eq!(turn(false), Wait::Turn(BETWEEN_TURNS));
            }
            assert_eq!(turn(false), Wait::Tick(Duration::ZERO));
            assert_eq!(turn(false), Wait::Tick(Duration::ZERO), "until it finds something, or is done");
        }
        let wait = back_off.after(&good(End::Deferred, false, Some(90)), INTERVAL, 0.0);
        assert_eq!(wait, Wait::Turn(Duration::from_secs(90)));
    }

    #[test]
    fn one_stream_that_fails_does_not_slow_the_others_unless_the_vendor_is_called_too_often() {
        let with = |code, end| {
            let failure = failure(code);
            let outcome = Outcome { status: Status::Degraded, failure: Some(&failure), ..good(end, true, None) };
            BackOff::default().after(&outcome, INTERVAL, 1.0)
        };
        assert_eq!(with("forbidden", End::Complete), Wait::Tick(Duration::ZERO));
        assert_eq!(with("unavailable", End::Complete), Wait::Tick(Duration::ZERO));
        assert_eq!(with("rate-limited", End::Complete), Wait::BackOff(INTERVAL.mul_f64(1.1)));
        assert_eq!(with("unavailable", End::Failed), Wait::BackOff(FIRST));
        // There is more: the backlog of the others goes on.
        for code in ["unavailable", "forbidden"] {
            assert_eq!(with(code, End::StepLimit), Wait::Turn(BETWEEN_TURNS), "{code}");
            assert_eq!(with(code, End::Deferred), Wait::Turn(BETWEEN_TURNS), "{code}");
        }
        for end in [End::StepLimit, End::Deferred] {
            assert_eq!(with("rate-limited", end), Wait::BackOff(INTERVAL.mul_f64(1.1)));
        }
    }

    #[test]
    fn a_stream_that_fails_adds_nothing_to_a_pause_that_the_vendor_asks_for_and_the_backlog_goes_on() {
        let failure = failure("unavailable");
        let mut back_off = BackOff { failures: 3, ..BackOff::default() };
        let degraded = |end, progress, retry_after| Outcome {
            status: Status::Degraded,
            failure: Some(&failure),
            ..good(end, progress, retry_after)
        };
        let wait = back_off.after(&degraded(End::Deferred, false, Some(90)), INTERVAL, 0.0);
        assert_eq!((wait, back_off.failures), (Wait::Turn(Duration::from_secs(90)), 0));
        let wait = back_off.after(&degraded(End::StepLimit, false, None), INTERVAL, 0.0);
        assert_eq!(wait, Wait::Turn(BETWEEN_TURNS));
        // Where nothing at all was collected it is an outage.
        let nothing = Outcome { status: Status::Failed, ..degraded(End::Deferred, false, None) };
        assert_eq!(back_off.after(&nothing, INTERVAL, 1.0), Wait::BackOff(FIRST));
    }

    #[test]
    fn a_stream_of_a_cycle_that_is_limited_slows_it_down_wherever_it_stands() {
        use crate::contract::types::{Failure, FailureReason, RetryAdvice, StreamReport, StreamState};
        let degraded = |stream: &str, reason, retry| {
            let failure = Failure {
                reason,
                message: "no".into(),
                remedy: String::new(),
                http_status: None,
                correlation_id: None,
                request_sent: true,
                retry,
            };
            StreamReport { stream: stream.into(), fetched: 1, state: StreamState::Degraded(failure) }
        };
        let wait = |reports: &[StreamReport]| {
            let mut cycle = Cycle::new();
            (cycle.end, cycle.new, cycle.steps) = (End::Complete, 1, 1);
            cycle.add_reports(&crate::instances::tests::descriptor().streams, reports);
            BackOff::default().after(&Outcome::of(&cycle), INTERVAL, 1.0)
        };
        let outage = degraded("investigations", FailureReason::Timeout, RetryAdvice::BackOff);
        let limited = degraded("alerts", FailureReason::RateLimited, RetryAdvice::BackOff);
        assert_eq!(wait(std::slice::from_ref(&limited)), Wait::BackOff(INTERVAL.mul_f64(1.1)));
        assert_eq!(wait(&[outage.clone(), limited]), Wait::BackOff(INTERVAL.mul_f64(1.1)));
        // The longest pause that any of them asks for holds for all.
        let later = degraded("alerts", FailureReason::Timeout, RetryAdvice::AfterSeconds(3_600));
        let hour = Duration::from_secs(3_660);
        assert_eq!(wait(&[outage, later]), Wait::Tick(hour));
        let soon = degraded("investigations", FailureReason::RateLimited, RetryAdvice::AfterSeconds(60));
        let limited = degraded("alerts", FailureReason::RateLimited, RetryAdvice::AfterSeconds(3_600));
        assert_eq!(wait(&[soon, limited]), Wait::BackOff(hour));
    }
}
