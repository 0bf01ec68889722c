//! A small connector, as an example: it reads the audit log of a made-up service.
//!
//! The service keeps events in the order in which they happened and gives them page by page:
//! `GET /v1/events?after=CURSOR&limit=N` answers `{"events": [{"id": "UUID", …}], "next": "CURSOR"}`, where `next` is the
//! place after the last event of the page. A cursor that it no longer knows is answered with 410; then
//! `GET /v1/events?since=TIME&limit=N` begins at a time.
//!
//! How it is cut:
//!
//! - [`settings`]: what the connector is, its form, and what an instance may reach;
//! - [`collect`]: what is asked for in a step, and what a failure in the middle of it becomes;
//! - [`checkpoint`]: what a step leaves to the next, in every form that was ever written;
//! - [`answers`] and [`artifact`]: what the service says, and what becomes of an event;
//! - [`failures`]: what a failed request means for an operator;
//! - `component` and `http`: the exports and a request, on `wasm32` only. All else is tested by plain `cargo test`.
//!
//! docs/writing-a-connector.md goes through it.
//! Not guaranteed: an event that the service puts before the cursor later is never seen.

pub mod answers;
pub mod artifact;
pub mod checkpoint;
pub mod collect;
#[cfg(target_arch = "wasm32")]
mod component;
pub mod contract;
pub mod failures;
#[cfg(target_arch = "wasm32")]
mod http;
pub mod settings;
