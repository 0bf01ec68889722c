//! Connectors that try everything they must not do, each beside a tenant that only wants to collect.
//!
//! For every attempt: it is contained, it ends in the right failure, the neighbour's batches are those of a run without
//! it, no secret is in any byte that leaves the host, and nobody who was not planned was called.

mod answers;
mod compiling;
pub(crate) mod component;
mod computing;
pub(crate) mod evil;
mod lies;
mod logs;
mod network;
mod reach;
mod requests;
pub(crate) mod secrets;
mod stage;
mod versions;
