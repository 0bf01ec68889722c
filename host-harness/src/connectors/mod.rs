//! Connectors: from a file to a validated answer.
//!
//! What: a component is audited before it is compiled, compiled once and kept on disk, asked to describe itself under
//! deny-all, and then run for tenants, one fresh instance a step. Everything it says (descriptor, plan, batch, texts)
//! is checked here before anyone else sees it.
//! Why here: the rest of the host may then take these values for what the contract says they are.
//! Not guaranteed: that what a connector collects is true or complete.

mod answers;
pub mod apart;
mod audit;
mod batch;
mod cache;
mod choices;
mod connector;
mod demands;
mod descriptor;
mod effort;
mod error;
mod faults;
mod file;
mod plan;
mod pure;
pub mod registry;
mod routed;
mod sealed;
pub mod serving;
mod signed;
mod signing;
mod tenant;

#[cfg(test)]
pub(crate) mod fixtures;
#[cfg(test)]
mod limit_tests;
#[cfg(test)]
mod load_tests;
#[cfg(test)]
mod step_tests;

pub use connector::Connector;
pub(crate) use descriptor::NAME_PREFIX;
pub use error::ConfigureError;
pub use error::LoadError;
pub use error::TenantError;
pub use faults::Fault;
pub use faults::Faults;
pub(crate) use file::digest as digest_of;
pub use plan::Destinations;
pub use plan::Plan;
pub use tenant::Tenant;
pub use tenant::TenantOptions;
pub use tenant::Unchecked;

/// Bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
