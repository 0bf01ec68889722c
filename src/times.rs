//! Times as the vendor writes them.
//!
//! The vendor sends UTC in ISO 8601 with zero to six fraction digits whose
//! trailing zeros are cut, so texts do not sort as instants do: everything is
//! parsed before it is compared. Requests carry milliseconds and `Z`; a `+`
//! would need percent-encoding and local offsets have misled other clients.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// An instant, in microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Utc(pub i64);

/// Microseconds in a millisecond.
const MILLI: i64 = 1_000;
/// Microseconds in a second.
const SECOND: i64 = 1_000_000;

impl Utc {
    /// Parses a time of the vendor's. A time without an offset is UTC. `None`
    /// for anything that is not a time of the years 1970 to 9999.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (local, offset) = split_offset(text.trim());
        let instant = humantime::parse_rfc3339_weak(local).ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(Self::from_unix(instant.as_secs(), instant.subsec_nanos()).plus_seconds(-offset))
    }

    /// From seconds and nanoseconds since 1970, as the wall clock gives them.
    #[must_use]
    pub fn from_unix(seconds: u64, nanoseconds: u32) -> Self {
        let whole = i64::try_from(seconds).unwrap_or(i64::MAX / SECOND).saturating_mul(SECOND);
        Self(whole.saturating_add(i64::from(nanoseconds / 1_000)))
    }

    /// This instant moved by whole seconds, either way.
    #[must_use]
    pub fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds.saturating_mul(SECOND)))
    }

    /// The millisecond this instant lies in.
    #[must_use]
    pub fn floor_millisecond(self) -> Self {
        Self(self.0.div_euclid(MILLI) * MILLI)
    }

    /// The millisecond before the one this instant lies in: an exclusive lower
    /// bound that leaves out nothing of this instant's own millisecond.
    #[must_use]
    pub fn just_before(self) -> Self {
        Self(self.floor_millisecond().0.saturating_sub(MILLI))
    }

    /// Seconds from `earlier` to this instant; negative when it is later.
    #[must_use]
    pub fn seconds_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0) / SECOND
    }

    /// As a query parameter: milliseconds and `Z`.
    #[must_use]
    pub fn query(self) -> String {
        humantime::format_rfc3339_millis(self.system_time()).to_string()
    }

    /// As an artifact's time: RFC 3339 in UTC with the digits it needs.
    #[must_use]
    pub fn rfc3339(self) -> String {
        let mut text = humantime::format_rfc3339_micros(self.system_time()).to_string();
        let digits = text.trim_end_matches('Z').trim_end_matches('0').trim_end_matches('.').len();
        text.truncate(digits);
        text.push('Z');
        text
    }

    /// As the standard library has it; within the years 1970 to 9999.
    fn system_time(self) -> SystemTime {
        /// 9999-12-31T23:59:59Z, in seconds.
        const LAST: u64 = 253_402_300_799;
        let micros = u64::try_from(self.0).unwrap_or(0).min(LAST * 1_000_000);
        UNIX_EPOCH + Duration::from_micros(micros)
    }
}

/// A time's text without its offset, and the offset in seconds east of UTC.
fn split_offset(text: &str) -> (&str, i64) {
    let at = text.len().saturating_sub("+00:00".len());
    let (Some(local), Some(offset)) = (text.get(..at), text.get(at..)) else { return (text, 0) };
    let sign = match offset.as_bytes().first() {
        Some(b'+') => 1,
        Some(b'-') => -1,
        _ => return (text, 0),
    };
    // A date's own dashes are no offset: hours and minutes are parted by a colon.
    let parts = offset.get(1..).and_then(|offset| offset.split_once(':'));
    match parts.map(|(hours, minutes)| (hours.parse::<i64>(), minutes.parse::<i64>())) {
        Some((Ok(hours @ 0..=23), Ok(minutes @ 0..=59))) => (local, sign * (hours * 3_600 + minutes * 60)),
        _ => (text, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_of_any_length_are_read_as_instants() {
        let base = Utc::parse("2026-11-01T10:00:00Z").unwrap();
        for (text, micros) in [
            ("2026-11-01T10:00:00.82Z", 820_000),
            ("2026-11-01T10:00:00.0419Z", 41_900),
            ("2026-11-01T10:00:00.932Z", 932_000),
            ("2026-11-01T10:00:00.29059Z", 290_590),
            ("2026-11-01T10:00:00.757109Z", 757_109),
            ("2026-11-01T10:00:00.757109999Z", 757_109),
            ("2026-11-01T12:00:00+02:00", 0),
            ("2026-11-01T10:00:00", 0),
            ("2026-11-01T04:30:00.5-05:30", 500_000),
            (" 2026-11-01T10:00:00Z ", 0),
        ] {
            assert_eq!(Utc::parse(text), Some(Utc(base.0 + micros)), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "01-01-2020T00:00:00",
            "yesterday",
            "2026-13-01T00:00:00Z",
            "12",
            "2026-11-01",
            "2026-11-01T10:00:00+99:00",
            "+00:00",
        ] {
            assert_eq!(Utc::parse(text), None, "{text}");
        }
    }

    #[test]
    fn written_times_are_read_back() {
        let instant = Utc::parse("2026-11-01T10:00:00.757109Z").unwrap();
        assert_eq!(instant.query(), "2026-11-01T10:00:00.757Z");
        assert_eq!(instant.rfc3339(), "2026-11-01T10:00:00.757109Z");
        assert_eq!(Utc::parse(&instant.rfc3339()), Some(instant));
        assert_eq!(instant.just_before().query(), "2026-11-01T10:00:00.756Z");
    }
}
