//! What an instance does in a day: what an operator compares with a vendor's allowance, and with yesterday.
//!
//! Why only two days: they stay in memory for every instance, of which there may be thousands; who wants curves has the
//! metrics.
//! Days are those of UTC, by the clock of the host. One that was ahead takes the days with it that had not come yet.
//! Not guaranteed: that what a poll does after midnight counts for the new day; it counts for the one that it began in.

use serde::{Deserialize, Serialize};
use time::Date;

use super::status::Work;

time::serde::format_description!(iso_date, Date, "[year]-[month]-[day]");

/// Most days that are kept: today and the one before in which something was done.
const KEPT: usize = 2;

/// The days in which something was done last, the latest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Days(Vec<Day>);

/// One day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Day {
    /// Which, in UTC.
    #[serde(with = "iso_date")]
    pub day: Date,
    /// Polls that began in it, those that could not begin included.
    pub polls: u64,
    /// Requests that left.
    pub requests: u64,
    /// Bytes of response bodies.
    pub bytes_received: u64,
    /// Artifacts stored.
    pub artifacts_new: u64,
    /// Their bytes, as `most_megabytes_per_day` counts them.
    pub artifact_bytes: u64,
}

impl Days {
    /// Counts a poll that began on a day.
    pub fn add(&mut self, day: Date, work: &Work) {
        self.0.retain(|known| known.day <= day);
        if self.0.first().is_none_or(|latest| latest.day < day) {
            self.0.reserve_exact(KEPT.saturating_sub(self.0.len()));
            self.0.truncate(KEPT - 1);
            let new = Day { day, polls: 0, requests: 0, bytes_received: 0, artifacts_new: 0, artifact_bytes: 0 };
            self.0.insert(0, new);
        }
        let Some(today) = self.0.first_mut() else { return };
        today.polls += 1;
        today.requests += work.requests;
        today.bytes_received = today.bytes_received.saturating_add(work.bytes_received);
        today.artifacts_new += work.artifacts_new;
        today.artifact_bytes = today.artifact_bytes.saturating_add(work.artifact_bytes);
    }

    /// The days, the latest first.
    pub fn iter(&self) -> impl Iterator<Item = &Day> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;

    fn days(of: &[(Date, u64)]) -> Vec<(Date, u64, u64)> {
        let mut days = Days::default();
        for (day, requests) in of {
            days.add(*day, &Work { requests: *requests, ..Work::default() });
        }
        days.iter().map(|one| (one.day, one.polls, one.requests)).collect()
    }

    #[test]
    fn polls_of_a_day_add_up_and_two_days_are_kept() {
        let (one, two, four) = (date!(2026 - 01 - 31), date!(2026 - 02 - 01), date!(2026 - 02 - 03));
        assert_eq!(days(&[(one, 3), (one, 4)]), [(one, 2, 7)]);
        assert_eq!(days(&[(one, 3), (two, 4), (two, 0)]), [(two, 2, 4), (one, 1, 3)]);
        assert_eq!(days(&[(one, 3), (two, 4), (four, 5)]), [(four, 1, 5), (two, 1, 4)]);
    }

    #[test]
    fn days_that_a_clock_showed_too_early_are_forgotten() {
        let (one, two, four) = (date!(2026 - 01 - 31), date!(2026 - 02 - 01), date!(2026 - 02 - 03));
        assert_eq!(days(&[(one, 3), (four, 9), (one, 4)]), [(one, 2, 7)]);
        assert_eq!(days(&[(one, 3), (four, 9), (two, 4)]), [(two, 1, 4), (one, 1, 3)]);
    }

    #[test]
    fn they_are_written_as_people_write_them_and_read_again() {
        let mut days = Days::default();
        days.add(date!(2026 - 02 - 01), &Work { artifacts_new: 2, artifact_bytes: 900, ..Work::default() });
        let text = serde_json::to_string(&days).expect("JSON");
        assert_eq!(
            text,
            r#"[{"day":"2026-02-01","polls":1,"requests":0,"bytes_received":0,"artifacts_new":2,"artifact_bytes":900}]"#
        );
        assert_eq!(serde_json::from_str::<Days>(&text).expect("read"), days);
    }
}
