//! The component in the host, as a library and as a command: end to end, and against components that mean no good.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly, and nothing outside uses them"
)]

#[path = "../common/mod.rs"]
mod common;

mod broken_files;
mod budgets;
mod bus;
mod command_line;
mod contract;
mod crash;
mod differential;
mod docs;
mod end_to_end;
mod faults;
mod guide;
mod hostile;
mod isolation;
mod resident;
mod running;
mod second_connector;
mod signing_in;
