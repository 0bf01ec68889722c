//! Instants as whole microseconds, and how the vendor writes them.
//!
//! The vendor's times are UTC with 0 to 6 fraction digits, trailing zeros cut (facts 6.5). Inside the simulator an
//! instant is an `i64` of microseconds since 1970, so that bounds compare exactly and rows stay small. Instants outside
//! the years 0 to 9999 saturate; they do not occur in worlds.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Microseconds since 1970-01-01T00:00:00Z.
pub(crate) type Micros = i64;

/// One second.
pub(crate) const SECOND: Micros = 1_000_000;
/// One minute.
pub(crate) const MINUTE: Micros = 60 * SECOND;
/// One hour.
pub(crate) const HOUR: Micros = 60 * MINUTE;
/// One day.
pub(crate) const DAY: Micros = 24 * HOUR;

/// The instant, cut to whole microseconds.
pub(crate) fn micros(instant: OffsetDateTime) -> Micros {
    i64::try_from(instant.unix_timestamp_nanos().div_euclid(1_000)).unwrap_or(i64::MAX)
}

/// The instant as a date and time in UTC.
pub(crate) fn date(instant: Micros) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(instant) * 1_000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// The instant as the vendor writes it: `2023-12-05T11:51:39.29059Z`, `2023-12-05T11:51:39Z`.
pub(crate) fn vendor(instant: Micros) -> String {
    let t = date(instant);
    let mut text = format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        t.year(),
        u8::from(t.month()),
        t.day(),
        t.hour(),
        t.minute(),
        t.second()
    );
    let fraction = format!("{:06}", t.microsecond());
    let kept = fraction.trim_end_matches('0');
    if !kept.is_empty() {
        text.push('.');
        text.push_str(kept);
    }
    text.push('Z');
    text
}

/// An instant from ISO 8601 with a date, a time and an offset or `Z`; nothing else is accepted, as the vendor's own
/// parser refuses dates alone and times without an offset. Kept to the nanosecond so that bounds stay exact.
pub(crate) fn parse(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_lose_their_trailing_zeros() {
        for text in [
            "2023-12-05T11:51:39Z",
            "2023-12-05T11:51:39.82Z",
            "2023-12-05T11:51:39.0419Z",
            "2023-12-05T11:51:39.29059Z",
            "2023-12-05T11:51:39.757109Z",
        ] {
            assert_eq!(parse(text).map(micros).map(vendor).as_deref(), Some(text));
        }
    }

    #[test]
    fn times_without_an_offset_are_refused() {
        assert!(parse("2023-12-05T11:51:39").is_none());
        assert!(parse("2023-12-05").is_none());
        assert!(parse("2023-12-05T11:51:39 00:00").is_none());
    }
}
