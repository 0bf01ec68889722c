//! Status, metrics and search over HTTP.
//!
//! What: `/healthz`, `/status`, `/metrics` and `/artifacts`, for reading only, and a page for browsers over them;
//! docs/operating.md describes them.
//! Why so strict for so little: what is shown tells much about a company. Requests must be small and quick, name a host
//! that is really this one (a page in somebody's browser cannot make its name mean this machine), and carry the token
//! where one is set.
//! Not guaranteed: secrecy on the way; whoever opens this to a network puts TLS in front.

mod access;
mod browser;
mod metrics;
mod pages;
mod server;

pub use access::{Access, Refusal};
pub use metrics::Snapshot;
pub use pages::Site;
pub use server::serve;
