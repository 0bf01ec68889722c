//! host-harness.
pub mod contract;
pub mod sinks;
pub mod store;
