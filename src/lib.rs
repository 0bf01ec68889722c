//! The Rapid7 InsightIDR connector of WitFoo Conductor's Signal Client.
//!
//! It reads investigations, their alerts and the evidence behind them from the
//! InsightIDR REST API and turns each into an artifact. Built for
//! `wasm32-wasip2` the crate is a component of the world
//! `witfoo:signal-connector/signal-connector`; built natively it is the same
//! collection code as a library, generic over its transport and clock, for
//! tests, fuzzing and benchmarks.
//!
//! How it is cut:
//!
//! - [`descriptor`] and [`settings`]: what the connector is and how it is set;
//! - [`api`]: the vendor's API: requests, paging, rate headers, records, errors;
//! - [`collect`]: what is asked for when, and what is remembered between steps;
//! - [`artifact`]: how a record becomes an artifact;
//! - `component`: the exports, on `wasm32` only.
//!
//! Not guaranteed: the Rust items are no stable API. The contract is `wit/`.

pub mod api;
pub mod artifact;
pub mod collect;
#[cfg(target_arch = "wasm32")]
mod component;
pub mod contract;
pub mod descriptor;
#[cfg(not(target_arch = "wasm32"))]
pub mod fuzz;
pub mod region;
pub mod settings;
pub mod text;
pub mod times;
#[cfg(target_arch = "wasm32")]
mod wasi_http;
