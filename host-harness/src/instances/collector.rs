//! What the cycle needs of a connector instance.
//!
//! Why a trait: the cycle's rules (commit, go on, wait, stop) are proved
//! with a collector that does exactly what a test wants, without WebAssembly.

use std::future::Future;

use super::failure::FailureReport;
use crate::connectors::{Tenant, Unchecked};
use crate::contract::types::{Batch, Budget};
use crate::sandbox::Usage;

/// Does bounded steps of collecting.
pub trait Collector: Sync {
    /// What a step comes to.
    type Yield: Yield;

    /// One step from this checkpoint. It may be dropped at any point; then it
    /// has not happened.
    fn poll(
        &self,
        checkpoint: Option<Vec<u8>>,
        budget: Budget,
    ) -> impl Future<Output = (Result<Self::Yield, FailureReport>, Usage)> + Send;
}

/// What a step has come to: a batch, of which the artifacts may still have to
/// be checked. That takes long enough to be done beside the next step.
pub trait Yield: Send + 'static {
    /// The batch. Its artifacts are to be counted, not to be used.
    fn batch(&self) -> &Batch;

    /// The batch to be stored. It may block.
    ///
    /// # Errors
    /// When an artifact is against the contract: nothing of the step counts.
    fn checked(self) -> Result<Batch, FailureReport>;
}

impl Collector for Tenant {
    type Yield = Unchecked;

    async fn poll(&self, checkpoint: Option<Vec<u8>>, budget: Budget) -> (Result<Unchecked, FailureReport>, Usage) {
        let (result, usage) = self.poll_unchecked(checkpoint, budget).await;
        (result.map_err(|error| FailureReport::from(&error)), usage)
    }
}

impl Yield for Unchecked {
    fn batch(&self) -> &Batch {
        Self::batch(self)
    }

    fn checked(self) -> Result<Batch, FailureReport> {
        self.check().map_err(|error| FailureReport::from(&error))
    }
}
