//! Which of two versions of a type serves.
//!
//! What: the higher one by semantic versioning. A rebuild under the same version is accepted in the same file only.
//! Why never the lower: checkpoints that a newer version wrote may be unreadable for an older one. To go back on
//! purpose, remove the file, wait until nothing serves, and put the older one there.
//! Not guaranteed: that versions are honest.

use semver::Version;
use std::cmp::Ordering;

/// A version and where it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// Semantic version.
    pub(super) version: &'a str,
    /// Name of the file.
    pub(super) file: &'a str,
}

/// What is to be done with a version that comes to one that serves.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// It may follow.
    Newer,
    /// It may follow, and the operator is told: another component under the same version.
    Rebuild,
    /// It is refused: why, with a stable code.
    Refused(&'static str, String),
}

/// Which of two versions is the higher one; build metadata has no order. The descriptor's check lets nothing through that
/// is no semantic version.
#[must_use]
pub fn precedence(one: &str, other: &str) -> Ordering {
    match (Version::parse(one), Version::parse(other)) {
        (Ok(one), Ok(other)) => one.cmp_precedence(&other),
        _ => Ordering::Equal,
    }
}

/// Compares a new version with the one that serves. `old_is_there`: whether the file of the latter still is.
pub(super) fn compare(new: Place<'_>, old: Place<'_>, old_is_there: bool) -> Order {
    let Place { version, file } = old;
    let (Ok(ours), Ok(theirs)) = (Version::parse(new.version), Version::parse(version)) else {
        // The descriptor's check lets no other through.
        return Order::Refused("older-version", format!("{:?} or {version:?} is no semantic version", new.version));
    };
    let elsewhere = old_is_there && new.file != file;
    match ours.cmp_precedence(&theirs) {
        Ordering::Greater => Order::Newer,
        Ordering::Equal if elsewhere => Order::Refused(
            "same-version",
            format!("{file} serves another component under the same version {version}; give this one a higher version"),
        ),
        Ordering::Equal => Order::Rebuild,
        Ordering::Less if elsewhere => {
            Order::Refused("older-version", format!("{file} serves the newer version {version}"))
        }
        Ordering::Less => Order::Refused(
            "older-version",
            format!(
                "version {} is older than {version}, which goes on serving; to go back on purpose, remove the file, wait until nothing serves, and put it there again",
                new.version
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(new: &str, old: &str, same_file: bool, old_is_there: bool) -> &'static str {
        let file = if same_file { "old.wasm" } else { "new.wasm" };
        let order = compare(Place { version: new, file }, Place { version: old, file: "old.wasm" }, old_is_there);
        match order {
            Order::Newer => "newer",
            Order::Rebuild => "rebuild",
            Order::Refused(code, _) => code,
        }
    }

    #[test]
    fn the_higher_version_follows_and_the_lower_is_refused() {
        assert_eq!(order("1.10.0", "1.9.0", true, true), "newer");
        assert_eq!(order("1.0.0", "1.0.0-rc.1", false, true), "newer");
        assert_eq!(order("1.0.0-rc.1", "1.0.0", true, true), "older-version");
        assert_eq!(order("1.9.0", "1.10.0", false, true), "older-version");
        assert_eq!(order("1.9.0", "1.10.0", false, false), "older-version");
    }

    #[test]
    fn the_same_version_is_a_rebuild_in_its_file_and_refused_in_another() {
        assert_eq!(order("1.0.0", "1.0.0", true, true), "rebuild");
        assert_eq!(order("1.0.0+b", "1.0.0+a", true, true), "rebuild", "build metadata has no order");
        assert_eq!(order("1.0.0", "1.0.0", false, false), "rebuild", "the file was renamed");
        assert_eq!(order("1.0.0", "1.0.0", false, true), "same-version");
    }
}
