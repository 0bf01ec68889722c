//! The vendor's rate headers, read leniently.
//!
//! Seen in the wild: `RateLimit-Limit`, `-Remaining`, `-Reset` (seconds), the
//! same with `X-`, values with parameters (`160, 160;w=1`), empty values, and
//! perhaps `Retry-After` as seconds or as an HTTP date. Whatever cannot be read
//! is taken as absent: a header must never stop a collection. So is `Date`, which
//! tells what the time is at the vendor's.

use std::time::SystemTime;

use super::transport::Response;
use crate::times::Utc;

/// Longest wait that is believed, in seconds: a day.
const LONGEST: u64 = 86_400;

/// Seconds by which clocks may differ before that means anything.
pub const LEEWAY: i64 = 120;
/// Seconds by which a clock can be wrong.
const MOST_WRONG: i64 = 390 * 86_400;

/// What the headers of one response say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rate {
    /// Requests that may still be sent in the present window.
    pub remaining: Option<u64>,
    /// Seconds after which trying again makes sense.
    pub wait: Option<u64>,
}

/// Reads the headers. `now` is for dates.
#[must_use]
pub fn read(response: &Response, now: Utc) -> Rate {
    let number = |names: [&str; 2]| names.iter().find_map(|name| leading_number(response.header(name)?));
    let reset = number(["ratelimit-reset", "x-ratelimit-reset"]).and_then(|reset| after_reset(reset, now));
    let wait = response.header("retry-after").and_then(|value| retry_after(value, now)).or(reset);
    Rate {
        remaining: number(["ratelimit-remaining", "x-ratelimit-remaining"]),
        wait: wait.map(|wait| wait.min(LONGEST)),
    }
}

/// The number a value starts with; fractions are cut.
fn leading_number(value: &str) -> Option<u64> {
    let value = value.trim();
    let end = value.find(|character: char| !character.is_ascii_digit()).unwrap_or(value.len());
    value.get(..end)?.parse().ok()
}

/// `RateLimit-Reset` is seconds from now; some APIs give the instant instead, in seconds or in milliseconds. More than a
/// day is none of these.
fn after_reset(reset: u64, now: Utc) -> Option<u64> {
    let now = u64::try_from(now.0 / 1_000_000).unwrap_or(0);
    let wait = match reset {
        1_000_000_000_000.. => (reset / 1_000).saturating_sub(now),
        1_000_000_000.. => reset.saturating_sub(now),
        _ => reset,
    };
    (wait <= LONGEST).then_some(wait)
}

/// `Retry-After`: seconds or an HTTP date, rounded up.
fn retry_after(value: &str, now: Utc) -> Option<u64> {
    if let Some(seconds) = leading_number(value) {
        return Some(seconds);
    }
    u64::try_from(instant(value)?.0.saturating_sub(now.0).max(0)).ok().map(|wait| wait.div_ceil(1_000_000))
}

/// An HTTP date.
fn instant(value: &str) -> Option<Utc> {
    let date = httpdate::parse_http_date(value.trim()).ok()?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    Some(Utc::from_unix(date.as_secs(), 0))
}

/// Seconds by which the host's clock, which shows `now`, is ahead of the vendor's, if the response says when it was made;
/// less than none where it is behind. A little is delay, and more than the vendor keeps anything is a date that makes no sense: both are nothing.
#[must_use]
pub fn ahead(response: &Response, now: Utc) -> Option<i64> {
    let ahead = now.seconds_since(instant(response.header("date")?)?);
    Some(if (LEEWAY..=MOST_WRONG).contains(&ahead.abs()) { ahead } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(headers: &[(&str, &str)]) -> Rate {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let now = Utc::parse("2026-11-01T10:00:00.5Z").unwrap();
        read(&Response { status: 429, headers, body: Vec::new() }, now)
    }

    #[test]
    fn retry_after_comes_before_the_reset_headers() {
        assert_eq!(rate(&[("ratelimit-reset", "19"), ("retry-after", "7")]).wait, Some(7));
        assert_eq!(rate(&[("ratelimit-reset", "19"), ("x-ratelimit-reset", "20")]).wait, Some(19));
        assert_eq!(rate(&[("x-ratelimit-reset", "20")]).wait, Some(20));
        assert_eq!(rate(&[]), Rate::default());
    }

    #[test]
    fn dates_are_rounded_up_and_past_ones_are_now() {
        assert_eq!(rate(&[("retry-after", "Sun, 01 Nov 2026 10:00:30 GMT")]).wait, Some(30));
        assert_eq!(rate(&[("retry-after", "Sun, 01 Nov 2026 09:00:30 GMT")]).wait, Some(0));
        assert_eq!(rate(&[("ratelimit-reset", "1793527230")]).wait, Some(30));
        assert_eq!(rate(&[("x-ratelimit-reset", "1793527230000")]).wait, Some(30));
        assert_eq!(rate(&[("x-ratelimit-reset", "864000000")]).wait, None, "no instant and no wait");
    }

    #[test]
    fn a_clock_that_is_ahead_of_the_vendors_or_behind_shows() {
        let now = Utc::parse("2026-11-01T10:00:00.5Z").unwrap();
        let said = |date: &str| {
            let headers = vec![("date".to_owned(), date.to_owned())];
            ahead(&Response { headers, ..Response::default() }, now)
        };
        assert_eq!(said("Sun, 01 Nov 2026 09:00:00 GMT"), Some(3_600));
        assert_eq!(said("Sun, 01 Nov 2026 11:00:00 GMT"), Some(-3_599));
        for date in ["Sun, 01 Nov 2026 09:59:00 GMT", "Sun, 01 Nov 2026 10:01:00 GMT", "Thu, 01 Jan 1970 00:00:00 GMT"]
        {
            assert_eq!(said(date), Some(0), "{date}");
        }
        assert_eq!((said("soon"), ahead(&Response::default(), now)), (None, None));
    }

    #[test]
    fn junk_is_survived() {
        for junk in ["", " ", "-1", "soon", "NaN", "99999999999999999999999", "Sun, 99 Foo 2026", "🦀"] {
            assert_eq!(rate(&[("retry-after", junk), ("ratelimit-remaining", junk)]), Rate::default(), "{junk}");
        }
        assert_eq!(rate(&[("ratelimit-remaining", "160, 160;w=1;name=x")]).remaining, Some(160));
        assert_eq!(rate(&[("retry-after", "1.9")]).wait, Some(1));
        assert_eq!(rate(&[("retry-after", "9999999999")]).wait, Some(LONGEST));
    }
}
