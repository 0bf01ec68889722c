//! Exit codes that mean the same whatever is run.
//!
//! Why one place: a host that has this program compile for it judges by them whether the machine, and not the component, is
//! to blame.

/// Something failed while running.
pub(crate) const FAILED: u8 = 1;
/// Wrong usage, settings or files: what was wanted was not begun. What reads the command line uses the same.
pub(crate) const USAGE: u8 = 2;
