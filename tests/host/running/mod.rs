//! The resident host as a process of its own, where it is hardest on it: hostile tenants beside ordinary ones, connectors
//! that are replaced while they poll, signals in the middle of a step, and the commands that ask it and tell it things.

mod commands;
mod hot_loading;
mod probation;
mod retention;
mod secrecy;
pub(crate) mod site;
mod stop;
mod tenants;
pub(crate) mod upkeep;
