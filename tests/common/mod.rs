//! What the integration tests share.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "every test binary uses its own part, and tests may fail loudly"
)]

pub mod audit;
pub mod desk;
pub mod faults;
pub mod host;
pub mod native;
pub mod process;
pub mod vendor;
pub mod versions;
