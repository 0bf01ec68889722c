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

/// Code and label for the first of several priorities that says something; what
/// says nothing, or is not known, leaves it to the next.
#[must_use]
pub fn of_first(priorities: &[Option<&str>]) -> (&'static str, &'static str) {
    let says = |priority: &&str| matches!(*priority, "CRITICAL" | "HIGH" | "MEDIUM" | "LOW" | "INFO");
    of_priority(priorities.iter().copied().flatten().find(says))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_priority_that_says_nothing_leaves_it_to_the_next() {
        for (priorities, label) in [
            ([Some("CRITICAL"), Some("UNSPECIFIED")], "critical"),
            ([Some("LOW"), Some("HIGH")], "low"),
            ([Some("INFO"), Some("HIGH")], "informational"),
            ([Some("UNMAPPED"), Some("HIGH")], "high"),
            ([Some("BRAND_NEW"), Some("MEDIUM")], "medium"),
            ([None, Some("HIGH")], "high"),
            ([Some("UNMAPPED"), Some("UNMAPPED")], "informational"),
            ([None, None], "informational"),
        ] {
            assert_eq!(of_first(&priorities).1, label, "{priorities:?}");
        }
    }

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
