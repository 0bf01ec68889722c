//! A host that runs: instances polled on schedule, configuration and
//! connectors watched, status served.
//!
//! - [`schedule`]: when an instance is polled next;
//! - [`board`]: what is known of every instance, for status and metrics;
//! - [`poller`]: one poll, from configuration to outcome;
//! - [`supervisor`]: which polls run when;
//! - [`watch`]: the configuration file, looked at again and again;
//! - [`http`] and [`metrics`]: what others may ask.
//!
//! Why apart from `instances`: a cycle is the same whether a person or a clock
//! asks for it; what is here is about time and many tenants.
//!
//! Not guaranteed: one process runs one state directory; the store's lock sees
//! to it.

pub mod board;
pub mod http;
pub mod metrics;
pub mod poller;
pub mod schedule;
pub mod supervisor;
pub mod watch;
