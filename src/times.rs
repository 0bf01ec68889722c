//! Times as the vendor writes them.
//!
//! The vendor sends UTC in ISO 8601 with zero to six fraction digits whose
//! trailing zeros are cut, so texts do not sort as instants do: everything is
//! parsed before it is compared. Requests carry milliseconds and `Z`; a `+`
//! would need percent-encoding and local offsets have misled other clients.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// An instant, in microseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Utc(pub i64);

/// Microseconds in a millisecond.
const MILLI: i64 = 1_000;
/// Microseconds in a second.
const SECOND: i64 = 1_000_000;

impl Utc {
    /// Parses a time of the vendor's. A time without an offset is UTC. `None`
    /// for anything that is not a time of the years 1 to 9999.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let instant = OffsetDateTime::parse(text, &Rfc3339)
            .or_else(|_| OffsetDateTime::parse(&format!("{text}Z"), &Rfc3339))
            .ok()?;
        i64::try_from(instant.unix_timestamp_nanos() / 1_000).ok().map(Self)
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
        let fraction = self.0.rem_euclid(SECOND) / MILLI;
        format!("{}.{fraction:03}Z", self.seconds())
    }

    /// As an artifact's time: RFC 3339 in UTC with the digits it needs.
    #[must_use]
    pub fn rfc3339(self) -> String {
        let fraction = format!("{:06}", self.0.rem_euclid(SECOND));
        match fraction.trim_end_matches('0') {
            "" => format!("{}Z", self.seconds()),
            digits => format!("{}.{digits}Z", self.seconds()),
        }
    }

    /// Date and time to the second. Beyond the year 9999 it is the epoch, which
    /// no time that was parsed can be.
    fn seconds(self) -> String {
        let instant =
            OffsetDateTime::from_unix_timestamp(self.0.div_euclid(SECOND)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let (year, month, day) = instant.to_calendar_date();
        let (hour, minute, second) = instant.to_hms();
        format!("{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}", u8::from(month))
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
        ] {
            assert_eq!(Utc::parse(text), Some(Utc(base.0 + micros)), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in ["", "01-01-2020T00:00:00", "yesterday", "2026-13-01T00:00:00Z", "12"] {
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
