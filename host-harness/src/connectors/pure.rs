//! The calls that only compute: what a connector is, and what it plans with given settings.
//!
//! Why apart: they run without a way out, within short deadlines and at a time that never changes, so the same settings
//! give the same answer. What they answer is checked before anybody sees it.
//! Not guaranteed: that a connector plans what it needs.

use super::answers::Cleaner;
use super::connector::Connector;
use super::error::{ConfigureError, LoadError};
use super::plan::{self, Plan};
use super::signing;
use crate::contract::sign_in::Method;
use crate::contract::{SignalConnectorPre, types};
use crate::egress::Redactor;
use crate::sandbox::{Clock, Engine, Guest, StepOptions, run};
use std::sync::LazyLock;

/// A function that only computes has no business with the time; giving all calls the same makes their answers the same.
static EPOCH: LazyLock<Clock> = LazyLock::new(|| Clock::virtual_at(time::OffsetDateTime::UNIX_EPOCH));

/// How a function runs that only computes: every request refused, short deadlines.
fn pure<'a>(engine: &Engine, connector: &'a str, redactor: &'a Redactor) -> StepOptions<'a> {
    let cpu = engine.limits().pure_call;
    // Somewhat longer, so that a call which computes meets the limit for that, whatever else this machine does.
    let wall = cpu.saturating_add(engine.limits().wall_grace);
    StepOptions { connector, instance: "", redactor, clock: &EPOCH, gate: None, requests: 0, cpu, wall }
}

/// Asks a component what it is.
pub(super) async fn describe(
    engine: &Engine,
    pre: &SignalConnectorPre<Guest>,
    digest: &str,
) -> Result<types::Descriptor, LoadError> {
    let redactor = Redactor::default();
    // It has no name yet.
    let name = digest.get(..12).unwrap_or(digest);
    let (result, _usage) = run(engine, pre, pure(engine, name, &redactor), |instance, store| {
        Box::pin(async move { instance.witfoo_signal_connector_connector().call_describe(store).await })
    })
    .await;
    result.map_err(LoadError::Describe)
}

impl Connector {
    /// The same without a tenant, in tests.
    #[cfg(test)]
    pub(crate) async fn configure(&self, settings: &[types::Setting]) -> Result<Plan, ConfigureError> {
        self.configure_without(settings, &Redactor::default()).await
    }

    /// Validates settings (without secrets) and says what an instance with them may reach, and what becomes of its secrets.
    /// Runs under deny-all. The plan was checked against the contract. What the connector says and logs is cleared of the
    /// tenant's secrets, because somebody may have pasted one into an ordinary setting.
    ///
    /// # Errors
    /// The fields that are wrong, or that the connector failed, or that its plan breaks the contract.
    pub async fn configure_without(
        &self,
        settings: &[types::Setting],
        redactor: &Redactor,
    ) -> Result<Plan, ConfigureError> {
        let settings = self.own(settings);
        let planned = settings.clone();
        let options = pure(self.engine(), self.slug(), redactor);
        let (result, _usage) = run(self.engine(), self.pre(), options, move |instance, store| {
            Box::pin(async move { instance.witfoo_signal_connector_connector().call_configure(store, &planned).await })
        })
        .await;
        let cleaner = Cleaner { redactor, most: self.engine().limits().text_bytes };
        let refused = |errors| ConfigureError::Fields(cleaner.field_errors(errors));
        let egress = result.map_err(ConfigureError::Step)?.map_err(refused)?;
        plan::check(&egress, redactor).map_err(ConfigureError::Plan)?;
        let sign_in = self.methods(settings, redactor).await?.map_err(refused)?;
        signing::check(&sign_in, self.descriptor(), redactor).map_err(ConfigureError::Plan)?;
        Ok(Plan { egress, sign_in })
    }

    /// What it says becomes of its secrets; nothing where it has no such interface.
    async fn methods(
        &self,
        settings: Vec<types::Setting>,
        redactor: &Redactor,
    ) -> Result<Result<Vec<Method>, Vec<types::FieldError>>, ConfigureError> {
        let Some(signing) = self.signing() else { return Ok(Ok(Vec::new())) };
        let options = pure(self.engine(), self.slug(), redactor);
        let (result, _usage) = run(self.engine(), signing, options, move |instance, store| {
            Box::pin(async move { instance.witfoo_signal_connector_sign_in().call_methods(store, &settings).await })
        })
        .await;
        result.map_err(ConfigureError::Step)
    }
}
