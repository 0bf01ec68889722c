//! Of which time artifacts are searched for.
//!
//! Why: what happened last night, or since a host was compromised, is the first thing that somebody who searches wants to
//! know, and words find single days and hours only.
//! The time of an artifact is the one that a list of them shows: its `startTimeUTC`, or when it was stored where it has none
//! that can be read. It is kept in a column with an index, so that a few hours are found among years.
//! Not guaranteed: what a host before schema version 8 has stored counts by when that was.

use std::borrow::Cow;
use std::fmt;

use rusqlite::Connection;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::to_millis;

/// From when to when; without bounds all times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Period {
    /// The first moment of it.
    pub since: Option<OffsetDateTime>,
    /// The first moment behind it.
    pub until: Option<OffsetDateTime>,
}

/// Bounds that are none.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PeriodError {
    /// A text is no time.
    #[error(
        "{name}: {text:?} is no time: give how long ago (15m, 24h, 7d) or a moment, in UTC unless it says otherwise \
         (2026-01-15, 2026-01-15T11:30, 2026-01-15T11:30:00Z)"
    )]
    NoTime {
        /// Which of the bounds.
        name: &'static str,
        /// The text.
        text: String,
    },
    /// It ends before it begins.
    #[error("until ({until}) is not after since ({since}): nothing can be of that time")]
    Backwards {
        /// Its beginning.
        since: String,
        /// Its end.
        until: String,
    },
}

/// What a moment is filled up with that leaves out its end.
const FIRST: &str = "0000-01-01T00:00:00";

impl Period {
    /// The period between two moments as [people write them](moment), as far as they are given.
    ///
    /// # Errors
    /// When one is no time, or nothing is between them.
    pub fn between(since: Option<&str>, until: Option<&str>, now: OffsetDateTime) -> Result<Self, PeriodError> {
        let bound = |name, text: Option<&str>| {
            let no_time = |text: &str| PeriodError::NoTime { name, text: text.to_owned() };
            text.map(|text| moment(text, now).ok_or_else(|| no_time(text))).transpose()
        };
        let period = Self { since: bound("since", since)?, until: bound("until", until)? };
        match period {
            Self { since: Some(since), until: Some(until) } if since >= until => {
                let text = |time: OffsetDateTime| time.format(&Rfc3339).unwrap_or_default();
                Err(PeriodError::Backwards { since: text(since), until: text(until) })
            }
            _ => Ok(period),
        }
    }

    /// Whether it is all times.
    #[must_use]
    pub fn is_ever(&self) -> bool {
        *self == Self::default()
    }

    /// The bounds as the database compares them.
    pub(super) fn millis(&self) -> (i64, i64) {
        (self.since.map_or(i64::MIN, to_millis), self.until.map_or(i64::MAX, to_millis))
    }
}

/// A moment as people write it: how long before `now` (`15m`, `24h`, `7d`), or a month, a day, an hour, a minute or a second,
/// of which the beginning is meant, in UTC where there is no offset behind it.
fn moment(text: &str, now: OffsetDateTime) -> Option<OffsetDateTime> {
    let text = text.trim();
    if let Ok(ago) = humantime::parse_duration(text) {
        return now.checked_sub(time::Duration::try_from(ago).ok()?);
    }
    let whole = text.replacen(' ', "T", 1).to_ascii_uppercase();
    let begun = whole.strip_suffix('Z').unwrap_or(&whole);
    // As far as a month at least: a year could be any number.
    let rest = (begun.len() >= "0000-00".len()).then(|| FIRST.get(begun.len()..)).flatten();
    let whole = rest.map_or_else(|| Cow::Borrowed(whole.as_str()), |rest| Cow::Owned(format!("{begun}{rest}Z")));
    OffsetDateTime::parse(&whole, &Rfc3339).ok()
}

/// What an artifact says of when it was, in milliseconds since 1970.
pub(super) fn happened(json: &str) -> Option<i64> {
    let mut start = None;
    // It ends where the time has been found.
    let _ = Start(&mut start).deserialize(&mut serde_json::Deserializer::from_str(json));
    start
}

/// Takes out the time of an artifact, and ends there: most of an artifact comes behind it. Nothing is copied, since every
/// artifact goes through here.
struct Start<'s>(&'s mut Option<i64>);

impl<'de> DeserializeSeed<'de> for Start<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Start<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an artifact")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(is_it) = map.next_key_seed(Text(|name: &str| name == "startTimeUTC"))? {
            if is_it {
                *self.0 =
                    map.next_value_seed(Text(|time: &str| OffsetDateTime::parse(time, &Rfc3339).ok().map(to_millis)))?;
                return Err(A::Error::custom("that is enough"));
            }
            map.next_value::<IgnoredAny>()?;
        }
        Ok(())
    }
}

/// What is made of a text.
struct Text<F>(F);

impl<'de, T, F: FnOnce(&str) -> T> DeserializeSeed<'de> for Text<F> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<T, D::Error> {
        json.deserialize_str(self)
    }
}

impl<T, F: FnOnce(&str) -> T> Visitor<'_> for Text<F> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        Ok((self.0)(text))
    }
}

/// The time of the artifact of this alias, as the index has it; in a database of an older version when it was stored.
pub(super) fn column(connection: &Connection, alias: &str) -> rusqlite::Result<String> {
    let mut columns =
        connection.prepare_cached("SELECT 1 FROM pragma_table_info('artifact') WHERE name = 'happened'")?;
    Ok(if columns.exists([])? {
        format!("coalesce({alias}.happened, {alias}.stored)")
    } else {
        format!("{alias}.stored")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> OffsetDateTime {
        OffsetDateTime::parse(text, &Rfc3339).expect("a time")
    }

    #[test]
    fn a_moment_is_written_as_people_write_it() {
        let now = at("2026-01-15T12:00:00Z");
        for (text, wanted) in [
            ("15m", "2026-01-15T11:45:00Z"),
            ("24h", "2026-01-14T12:00:00Z"),
            ("1h 30m", "2026-01-15T10:30:00Z"),
            ("7d", "2026-01-08T12:00:00Z"),
            ("2026-01", "2026-01-01T00:00:00Z"),
            ("2026-01-14", "2026-01-14T00:00:00Z"),
            ("2026-01-14T11", "2026-01-14T11:00:00Z"),
            ("2026-01-14 11:30", "2026-01-14T11:30:00Z"),
            ("2026-01-14t11:30z", "2026-01-14T11:30:00Z"),
            (" 2026-01-14T11:30:59 ", "2026-01-14T11:30:59Z"),
            ("2026-01-14T11:30:59.5Z", "2026-01-14T11:30:59.5Z"),
            ("2026-01-14T11:30:00+02:00", "2026-01-14T09:30:00Z"),
        ] {
            assert_eq!(moment(text, now), Some(at(wanted)), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "2026",
            "2026-1",
            "2026-13",
            "2026-01-32",
            "2026-01-14T25",
            "11:30",
            "-1h",
            "9999999y",
            "é",
        ] {
            let refused = Period::between(None, Some(text), now).expect_err(text).to_string();
            assert!(
                refused.starts_with(&format!("until: {text:?} is no time: give how long ago (15m, 24h, 7d) or")),
                "{refused}"
            );
        }
        let refused = Period::between(Some("1h"), Some("2h"), now).expect_err("backwards").to_string();
        assert_eq!(
            refused,
            "until (2026-01-15T10:00:00Z) is not after since (2026-01-15T11:00:00Z): nothing can be of that time"
        );
        assert_eq!(Period::between(None, None, now), Ok(Period::default()));
    }

    #[test]
    fn the_time_of_an_artifact_is_the_one_at_its_top() {
        let time = Some(1_768_478_400_000);
        for (json, wanted) in [
            (r#"{"id":"x","startTimeUTC":"2026-01-15T12:00:00Z","message":"{}"}"#, time),
            (
                r#"{"message":"\"startTimeUTC\":\"2025","a":{"startTimeUTC":"2025-01-01T00:00:00Z"},"startTimeUTC":"2026-01-15T14:00:00+02:00"}"#,
                time,
            ),
            (r#"{"start\u0054imeUTC":"2026-01-15T12:00:00.0009\u005a"}"#, time),
            (r#"{"startTimeUTC":"soon"}"#, None),
            (r#"{"startTimeUTC":null}"#, None),
            (r#"{"startTimeUTC":17}"#, None),
            (r#"{"endTimeUTC":"2026-01-15T12:00:00Z"}"#, None),
            ("[]", None),
            ("", None),
        ] {
            assert_eq!(happened(json), wanted, "{json}");
        }
    }
}
