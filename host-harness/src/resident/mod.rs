//! The resident host: many instances polled for as long as it runs.
//!
//! What: the supervisor holds the schedule and starts polls; the poller does one; the watcher notices edits, rotated
//! secrets and new connectors; the delivery empties the outbox; everybody writes on the board, which others read.
//! Why cut so: each can be slow, down or wrong without stopping another, and each is proved without the others.

pub mod board;
pub mod clerk;
pub mod days;
pub mod delivery;
mod earlier;
mod fixed;
pub(crate) mod guard;
pub mod poller;
pub mod resolve;
pub mod retention;
#[cfg(test)]
mod shelf;
pub mod status;
pub mod supervisor;
pub mod tally;
pub(crate) mod tenant;
pub mod watcher;

pub use fixed::FixedConnectors;
