//! The connector, compiled natively, against the simulator in process and in virtual time.
//!
//! All in one program: each that had one of its own would compile the whole collection anew.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may fail loudly, and nothing outside uses them"
)]

#[path = "../common/mod.rs"]
mod common;

mod apart;
mod beside_the_list;
mod changes;
mod clocks;
mod collection;
mod completeness;
mod dedup;
mod evidence_obstacles;
mod forgotten;
mod fuzz;
mod golden;
mod in_pieces;
mod large_tenant;
mod late_alerts;
mod many_alerts;
mod obstacles;
mod odd_pages;
mod organization;
mod outages;
mod outside;
mod outside_backlog;
mod outside_obstacles;
mod partial;
mod product_alerts;
mod refusals;
mod requests;
mod unanswered;
mod untold;
mod unusual;
mod volume;
