//! host-harness.
pub mod connectors;
pub mod contract;
pub mod egress;
pub mod sandbox;
