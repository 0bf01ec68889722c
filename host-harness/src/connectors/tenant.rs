//! A tenant: one configured instance of a connector, with its secrets, its way out and its clock.
//!
//! What: `check` and `poll`, each one step in a fresh instance, each returning what was used along with the result.
//! Why secrets end here: they become headers of the gate and needles of the redactor; the guest is given settings
//! without them.
//! Not guaranteed: steps of one tenant may overlap when a caller lets them; keeping them apart is the scheduler's task.

use super::answers::Cleaner;
use super::batch::{check_artifacts, check_frame, check_reports, streams};
use super::connector::Connector;
use super::error::TenantError;
use super::registry::NotGranted;
use super::routed;
use crate::contract::types::{self, SettingKind};
use crate::egress::{Gate, GateOptions, Lookup, NetworkError, NetworkOptions, Policy, Redactor, Routes, Secrets};
use crate::sandbox::{Clock, StepError, StepOptions, Usage, run};
use crate::store::is_instance_name;
use http::{HeaderName, HeaderValue};
use secrecy::ExposeSecret;
use std::sync::Arc;
use std::time::Duration;

/// What a tenant is made of.
#[derive(Debug)]
pub struct TenantOptions {
    /// Name of the instance, for people: see [`is_instance_name`].
    pub name: String,
    /// Its settings, without secrets.
    pub settings: Vec<types::Setting>,
    /// Its secrets, by the keys of the settings they belong to.
    pub secrets: Secrets,
    /// Where planned hosts are sent instead.
    pub routes: Routes,
    /// The time that it sees.
    pub clock: Clock,
    /// How the network is reached.
    pub network: NetworkOptions,
}

/// A tenant. Clones are the same tenant and share its connections.
#[derive(Clone)]
pub struct Tenant {
    inner: Arc<Inner>,
}

/// What clones share.
struct Inner {
    connector: Connector,
    name: String,
    settings: Arc<[types::Setting]>,
    plan: types::Plan,
    redactor: Redactor,
    gate: Arc<Gate>,
    clock: Clock,
    /// The route that its requests take, if there is one.
    route: Option<String>,
}

impl Tenant {
    /// See [`Connector::tenant`].
    pub(super) async fn new(connector: Connector, options: TenantOptions, lookup: Lookup) -> Result<Self, TenantError> {
        let TenantOptions { name, settings, secrets, routes, clock, network } = options;
        if !is_instance_name(&name) {
            return Err(TenantError::Name);
        }
        let descriptor = connector.descriptor();
        let settings = connector.own(&settings);
        check_secrets(descriptor, &settings, &secrets)?;
        let redactor = Redactor::new(&secrets);
        let plan = connector.configure_without(&settings, &redactor).await?;
        let host = &plan.origin.host;
        if plan.origin.scheme == types::Scheme::Http && routes.target(host).is_none() {
            return Err(TenantError::PlainHttp { host: host.clone() });
        }
        connector.admit_new(&plan, &settings, &redactor).await?;
        routed::tell(connector.slug(), &name, host, routes.target(host));
        let network = network.read().await?;
        let options = GateOptions {
            connector: connector.slug(),
            instance: &name,
            policy: Policy::from_plan(&plan),
            credentials: credentials(descriptor, &secrets)?,
            redactor: redactor.clone(),
            routes: &routes,
            network: &network,
            limits: connector.engine().limits(),
        };
        let gate = Gate::new(options, lookup)?;
        let (settings, gate, route) = (settings.into(), Arc::new(gate), routes.of(&plan.origin.host));
        let inner = Inner { name, settings, plan, redactor, gate, clock, connector, route };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What the instance may reach.
    #[must_use]
    pub fn plan(&self) -> &types::Plan {
        &self.inner.plan
    }

    /// The route that sends its requests elsewhere, if there is one, `HOST=URL`.
    #[must_use]
    pub fn route(&self) -> Option<&str> {
        self.inner.route.as_deref()
    }

    /// Whether the operator still grants what it may reach.
    ///
    /// # Errors
    /// When that has been taken away, or its connector asks for more than is granted.
    pub fn admit(&self) -> Result<(), NotGranted> {
        self.inner.connector.admit(&self.inner.plan)
    }

    /// Name of the instance.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Its connector.
    #[must_use]
    pub fn connector(&self) -> &Connector {
        &self.inner.connector
    }

    /// What keeps the tenant's secrets out of texts that come from elsewhere.
    #[must_use]
    pub fn redactor(&self) -> &Redactor {
        &self.inner.redactor
    }

    /// Tries key, region and access with a few light requests.
    pub async fn check(&self) -> (Result<types::CheckReport, StepError>, Usage) {
        let limits = self.inner.connector.engine().limits();
        let settings = Arc::clone(&self.inner.settings);
        let wall = limits.wall_per_check.saturating_add(limits.wall_grace);
        let options = self.step(limits.requests_per_check, wall);
        let (result, usage) =
            run(self.inner.connector.engine(), self.inner.connector.pre(), options, move |instance, store| {
                Box::pin(async move { instance.witfoo_signal_connector_connector().call_check(store, &settings).await })
            })
            .await;
        let cleaner = self.cleaner();
        let report = result.and_then(|answer| match answer {
            Ok(report) => {
                let streams = streams(self.inner.connector.descriptor());
                check_reports(&report.reports, &streams, cleaner).map_err(|why| StepError::BadReport { why })?;
                Ok(cleaner.check_report(report))
            }
            Err(failure) => Err(StepError::Failure(cleaner.failure(failure))),
        });
        (report, usage)
    }

    /// Does one bounded step of collecting. `checkpoint` is what the last committed step gave. The batch was checked
    /// against the contract; artifacts and checkpoint are to be committed together.
    pub async fn poll(
        &self,
        checkpoint: Option<Vec<u8>>,
        budget: types::Budget,
    ) -> (Result<types::Batch, StepError>, Usage) {
        let (result, usage) = self.poll_unchecked(checkpoint, budget).await;
        (result.and_then(Unchecked::check), usage)
    }

    /// The same, and leaves the check of the artifacts to the caller, who may do it beside the next step.
    pub async fn poll_unchecked(
        &self,
        checkpoint: Option<Vec<u8>>,
        budget: types::Budget,
    ) -> (Result<Unchecked, StepError>, Usage) {
        let connector = &self.inner.connector;
        let limits = connector.engine().limits();
        let settings = Arc::clone(&self.inner.settings);
        let requests = budget.requests.min(limits.requests_per_step);
        let wall = Duration::from_millis(budget.wall_time_milliseconds).saturating_add(limits.wall_grace);
        let options = self.step(requests, wall.min(limits.wall_per_step));
        let (result, usage) = run(connector.engine(), connector.pre(), options, move |instance, store| {
            Box::pin(async move {
                let connector = instance.witfoo_signal_connector_connector();
                connector.call_poll(store, &settings, checkpoint.as_deref(), budget).await
            })
        })
        .await;
        let batch = result.and_then(|answer| match answer {
            Ok(batch) => check_frame(batch, connector.descriptor(), limits, self.cleaner())
                .map(|batch| Unchecked { batch, tenant: self.clone() })
                .map_err(|why| StepError::BadBatch { why }),
            Err(failure) => Err(StepError::Failure(self.cleaner().failure(failure))),
        });
        (batch, usage)
    }

    /// How a step of this tenant runs.
    fn step(&self, requests: u32, wall: Duration) -> StepOptions<'_> {
        StepOptions {
            connector: self.inner.connector.slug(),
            instance: &self.inner.name,
            redactor: &self.inner.redactor,
            clock: &self.inner.clock,
            gate: Some(Arc::clone(&self.inner.gate)),
            requests,
            cpu: self.inner.connector.engine().limits().cpu_per_step,
            wall,
        }
    }

    /// How its texts are cleaned.
    fn cleaner(&self) -> Cleaner<'_> {
        Cleaner { redactor: &self.inner.redactor, most: self.inner.connector.engine().limits().text_bytes }
    }
}

/// A batch whose artifacts are still to be checked; everything else of it has been.
#[derive(Debug)]
pub struct Unchecked {
    batch: types::Batch,
    tenant: Tenant,
}

impl Unchecked {
    /// The batch. Its artifacts are as the guest gave them, and there are no more of them than are allowed.
    #[must_use]
    pub fn batch(&self) -> &types::Batch {
        &self.batch
    }

    /// Checks and cleans the artifacts. It takes milliseconds for a thousand of them, and waits for nothing.
    ///
    /// # Errors
    /// [`StepError::BadBatch`] when one of them is against the contract.
    pub fn check(self) -> Result<types::Batch, StepError> {
        let Self { batch, tenant } = self;
        let connector = &tenant.inner.connector;
        let checked =
            check_artifacts(batch.artifacts, connector.descriptor(), connector.engine().limits(), tenant.cleaner());
        let artifacts = checked.map_err(|why| StepError::BadBatch { why })?;
        Ok(types::Batch { artifacts, ..batch })
    }
}

impl std::fmt::Debug for Tenant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tenant")
            .field("name", &self.inner.name)
            .field("connector", &self.inner.connector)
            .finish_non_exhaustive()
    }
}

/// Checks that the secrets are those the connector needs, and are given as secrets.
fn check_secrets(
    descriptor: &types::Descriptor,
    settings: &[types::Setting],
    secrets: &Secrets,
) -> Result<(), TenantError> {
    let fields: Vec<&types::SettingField> =
        descriptor.settings.iter().filter(|field| matches!(field.kind, SettingKind::Secret)).collect();
    if let Some(setting) = settings.iter().find(|setting| fields.iter().any(|field| field.key == setting.key)) {
        return Err(TenantError::SecretAmongSettings { key: setting.key.clone() });
    }
    if let Some(key) = secrets.keys().find(|key| !fields.iter().any(|field| field.key == *key)) {
        let known: Vec<&str> = fields.iter().map(|field| field.key.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(TenantError::UnknownSecret { key: key.to_owned(), known });
    }
    match fields.iter().find(|field| field.required && secrets.get(&field.key).is_none()) {
        Some(field) => Err(TenantError::MissingSecret { key: field.key.clone(), label: field.label.clone() }),
        None => Ok(()),
    }
}

/// The headers that carry the secrets there are.
fn credentials(
    descriptor: &types::Descriptor,
    secrets: &Secrets,
) -> Result<Vec<(HeaderName, HeaderValue)>, NetworkError> {
    // The descriptor and the secrets were checked, so neither conversion fails; no message may hold the value.
    let unusable =
        |what: &str| NetworkError::Client { why: format!("a credential's {what} cannot stand in a request") };
    descriptor
        .credentials
        .iter()
        .filter_map(|credential| secrets.get(&credential.setting).map(|secret| (credential, secret)))
        .map(|(credential, secret)| {
            let name = HeaderName::from_bytes(credential.header.as_bytes()).map_err(|_| unusable("header"))?;
            let value = HeaderValue::from_str(secret.expose_secret()).map_err(|_| unusable("value"))?;
            Ok((name, value))
        })
        .collect()
}
