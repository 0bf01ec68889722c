//! What the cycle needs of a connector instance.
//!
//! Why a trait: the cycle's rules (commit, go on, wait, stop) are proved
//! with a collector that does exactly what a test wants, without WebAssembly.

use std::future::Future;

use super::failure::FailureReport;
use crate::connectors::Tenant;
use crate::contract::types::{Batch, Budget};
use crate::sandbox::Usage;

/// Does bounded steps of collecting.
pub trait Collector: Sync {
    /// One step from this checkpoint. It may be dropped at any point; then it
    /// has not happened.
    fn poll(
        &self,
        checkpoint: Option<Vec<u8>>,
        budget: Budget,
    ) -> impl Future<Output = (Result<Batch, FailureReport>, Usage)> + Send;
}

impl Collector for Tenant {
    async fn poll(&self, checkpoint: Option<Vec<u8>>, budget: Budget) -> (Result<Batch, FailureReport>, Usage) {
        let (result, usage) = Tenant::poll(self, checkpoint, budget).await;
        (result.map_err(|error| FailureReport::from(&error)), usage)
    }
}
