//! The exports, over `wasi:http` and WASI's clock. Nothing is decided here.

use crate::answers::{self, WhoAmI};
use crate::collect::{self, Surroundings};
use crate::contract::exports::witfoo::signal_connector::connector::Guest;
use crate::contract::{
    Batch, Budget, CheckReport, Descriptor, Failure, FieldError, Plan, Setting, StreamReport, StreamState, log,
};
use crate::{failures, http, settings};
use std::time::Duration;
use wasi::clocks::monotonic_clock;

struct AuditLog;

#[allow(unsafe_code, unreachable_pub, reason = "generated code")]
mod glue {
    use super::AuditLog;

    crate::contract::export!(AuditLog with_types_in crate::contract);
}

impl Guest for AuditLog {
    fn describe() -> Descriptor {
        settings::describe()
    }

    fn configure(settings: Vec<Setting>) -> Result<Plan, Vec<FieldError>> {
        Ok(settings::plan(settings::host(&settings)?))
    }

    /// One light request.
    fn check(settings: Vec<Setting>) -> Result<CheckReport, Failure> {
        let host = settings::host(&settings).map_err(failures::invalid)?;
        let WhoAmI { account } = answers::parse(&http::get(&host, "/v1/whoami")?)?;
        let report = StreamReport { stream: settings::EVENTS.to_owned(), fetched: 0, state: StreamState::Ok };
        Ok(CheckReport { summary: format!("The token belongs to the account {account}."), reports: vec![report] })
    }

    fn poll(settings: Vec<Setting>, checkpoint: Option<Vec<u8>>, budget: Budget) -> Result<Batch, Failure> {
        let host = settings::host(&settings).map_err(failures::invalid)?;
        let mut site = Site { host: &host, started: monotonic_clock::now() };
        collect::step(&mut site, &host, checkpoint.as_deref(), budget)
    }
}

/// The service itself.
struct Site<'a> {
    host: &'a str,
    /// When the step began.
    started: u64,
}

impl Surroundings for Site<'_> {
    fn get(&mut self, path: &str) -> Result<Vec<u8>, Failure> {
        http::get(self.host, path)
    }

    fn elapsed(&self) -> Duration {
        Duration::from_nanos(monotonic_clock::now().saturating_sub(self.started))
    }

    fn warn(&self, message: &str) {
        log::write(log::Level::Warn, message);
    }
}
