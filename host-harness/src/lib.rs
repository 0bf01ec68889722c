//! host-harness.
pub mod cli;
pub mod connectors;
pub mod contract;
pub mod egress;
pub mod instances;
pub mod log;
pub mod sandbox;
pub mod sinks;
pub mod store;
