//! What the integration tests share.
#![allow(dead_code, reason = "every test binary uses its own part")]

pub mod host;
pub mod native;
