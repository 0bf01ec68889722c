//! host-harness.
pub mod contract;
