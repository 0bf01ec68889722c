//! A host for signal connectors: it does what WitFoo Conductor's Signal Client
//! does with them.
//!
//! A connector is a WebAssembly component of the world in `wit/`. The host
//! knows nothing of any vendor: all it knows of a connector comes from the
//! component's own `describe`. The way of a record:
//!
//! - [`connectors`]: a component is audited, compiled, described;
//! - [`sandbox`]: every step runs in a fresh instance within limits;
//! - [`egress`]: every request passes a policy, gets the secret, and goes out;
//! - [`instances`]: a tenant's settings, secrets and polling cycle;
//! - [`store`]: artifacts and checkpoint, in one transaction for a step;
//! - [`sinks`]: artifacts on their way out, at least once;
//! - [`cli`] and [`log`]: what the operator types and sees.
//!
//! Not guaranteed: the Rust items are no stable API; the command line is.

pub mod cli;
pub mod config;
pub mod connectors;
pub mod contract;
pub mod egress;
mod exit;
mod files;
pub mod http;
pub mod instances;
mod locks;
pub mod log;
mod orders;
mod private;
pub mod resident;
pub mod sandbox;
pub mod schedule;
pub mod sinks;
pub mod store;
