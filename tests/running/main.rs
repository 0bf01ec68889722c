//! The resident host as a process of its own, where it is hardest on it: hostile tenants beside ordinary ones, connectors
//! that are replaced while they poll, signals in the middle of a step, and the commands that ask it and tell it things.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod commands;
#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code, reason = "the tests of hostile connectors use more of it")]
#[path = "../hostile/component.rs"]
mod component;
#[path = "../hostile/evil.rs"]
mod evil;
mod hot_loading;
mod probation;
mod retention;
mod secrecy;
#[path = "../hostile/secrets.rs"]
mod secrets;
mod site;
mod stop;
mod upkeep;
