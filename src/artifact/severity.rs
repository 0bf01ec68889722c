//! Severity from the vendor's priority.
//!
//! Codes lie within RFC 5424's 0 to 7, where the Conductor's rules take
//! anything below 5 for alertable; labels are those of the search page.

/// Code and label for a priority. Priorities that say nothing (UNSPECIFIED,
/// UNMAPPED, UNKNOWN, INFO), new ones and none are informational.
#[must_use]
pub fn of_priority(priority: Option<&str>) -> (&'static str, &'static str) {
    match priority {
        Some("CRITICAL") => ("2", "critical"),
        Some("HIGH") => ("3", "high"),
        Some("MEDIUM") => ("4", "medium"),
        Some("LOW") => ("5", "low"),
        _ => ("6", "informational"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_priority_lies_within_syslogs_range_and_medium_and_above_are_alertable() {
        for (priority, alertable) in [
            (Some("CRITICAL"), true),
            (Some("HIGH"), true),
            (Some("MEDIUM"), true),
            (Some("LOW"), false),
            (Some("UNSPECIFIED"), false),
            (Some("BRAND_NEW"), false),
            (None, false),
        ] {
            let code: u8 = of_priority(priority).0.parse().unwrap();
            assert!(code <= 7);
            assert_eq!(code < 5, alertable, "{priority:?}");
        }
    }
}
