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
use super::plan::Plan;
use super::registry::NotGranted;
use super::routed;
use super::signed::{Signed, Signer};
use super::signing::Signing;
use crate::contract::types::{self, SettingKind};
use crate::egress::{Gate, GateOptions, Lookup, NetworkOptions, Policy, Redactor, Routes, Secrets};
use crate::sandbox::{Clock, StepError, StepOptions, Usage, run};
use crate::store::is_instance_name;
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
    plan: Plan,
    redactor: Redactor,
    signer: Signer,
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
        for origin in [Some(&plan.egress.origin), plan.token_origin()].into_iter().flatten() {
            if origin.scheme == types::Scheme::Http && routes.target(&origin.host).is_none() {
                return Err(TenantError::PlainHttp { host: origin.host.clone() });
            }
        }
        connector.admit_new(&plan, &settings, &redactor).await?;
        for host in plan.hosts() {
            routed::tell(connector.slug(), &name, host, routes.target(host));
        }
        let network = network.read().await?;
        let signing = Signing {
            connector: connector.slug(),
            instance: &name,
            descriptor,
            plan: &plan,
            secrets: &secrets,
            routes: &routes,
            network: &network,
            limits: connector.engine().limits(),
            lookup: &lookup,
        };
        let signatures = signing.signatures()?;
        // Where secrets are sent as they are, it knows all there is.
        let redactor = if plan.sign_in.is_empty() { redactor } else { Redactor::new(&signatures.secrets) };
        let options = GateOptions {
            connector: connector.slug(),
            instance: &name,
            policy: Policy::from_plan(&plan.egress),
            credentials: signatures.fixed.clone(),
            redactor: redactor.clone(),
            routes: &routes,
            network: &network,
            limits: connector.engine().limits(),
        };
        let signer = Signer::new(Gate::new(options, lookup)?, redactor.clone(), signatures);
        let (settings, route) =
            (settings.into(), plan.hosts().into_iter().filter_map(|host| routes.of(host)).collect::<Vec<_>>());
        let route = (!route.is_empty()).then(|| route.join(", "));
        let inner = Inner { name, settings, plan, redactor, signer, clock, connector, route };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What the instance may reach.
    #[must_use]
    pub fn plan(&self) -> &Plan {
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
        let wall = limits.wall_per_check.saturating_add(limits.wall_grace);
        let connector = &self.inner.connector;
        let mut signature = match self.inner.signer.sign().await {
            Ok(signature) => signature,
            Err(error) => return (Err(error), Usage::default()),
        };
        let mut usage = Usage::default();
        let result = loop {
            let settings = Arc::clone(&self.inner.settings);
            // What a step that is thrown away has used is used.
            let requests = limits.requests_per_check.saturating_sub(usage.requests);
            let options = self.step(&signature.signed, requests, wall.saturating_sub(usage.wall));
            let (result, used) = run(connector.engine(), connector.pre(), options, move |instance, store| {
                Box::pin(async move { instance.witfoo_signal_connector_connector().call_check(store, &settings).await })
            })
            .await;
            let failure = result.as_ref().ok().and_then(|answer| answer.as_ref().err());
            let other = self.inner.signer.again(&signature, &used, failure).await;
            usage = used.after(&usage);
            match other {
                Err(error) => return (Err(error), usage),
                Ok(Some(other)) if usage.requests < limits.requests_per_check && usage.wall + LEAST_TIME < wall => {
                    signature = other;
                }
                _ => break result,
            }
        };
        let cleaner = self.cleaner(&signature.signed.redactor);
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
        let checkpoint = checkpoint.map(Arc::new);
        let mut signature = match self.inner.signer.sign().await {
            Ok(signature) => signature,
            Err(error) => return (Err(error), Usage::default()),
        };
        let (mut usage, mut left) = (Usage::default(), budget);
        let result = loop {
            let (settings, checkpoint) = (Arc::clone(&self.inner.settings), checkpoint.clone());
            let requests = left.requests.min(limits.requests_per_step);
            let wall = Duration::from_millis(left.wall_time_milliseconds).saturating_add(limits.wall_grace);
            let options = self.step(&signature.signed, requests, wall.min(limits.wall_per_step));
            let (result, used) = run(connector.engine(), connector.pre(), options, move |instance, store| {
                Box::pin(async move {
                    let checkpoint = checkpoint.as_ref().map(|bytes| bytes.as_slice());
                    let connector = instance.witfoo_signal_connector_connector();
                    connector.call_poll(store, &settings, checkpoint, left).await
                })
            })
            .await;
            let failure = result.as_ref().ok().and_then(|answer| answer.as_ref().err());
            let other = self.inner.signer.again(&signature, &used, failure).await;
            usage = used.after(&usage);
            match other {
                Err(error) => return (Err(error), usage),
                Ok(Some(other)) => match less(budget, &usage) {
                    Some(rest) => (signature, left) = (other, rest),
                    None => break result,
                },
                Ok(None) => break result,
            }
        };
        let cleaner = self.cleaner(&signature.signed.redactor);
        let batch = result.and_then(|answer| match answer {
            Ok(batch) => check_frame(batch, connector.descriptor(), limits, cleaner)
                .map(|batch| Unchecked { batch, tenant: self.clone(), redactor: signature.signed.redactor.clone() })
                .map_err(|why| StepError::BadBatch { why }),
            Err(failure) => Err(StepError::Failure(cleaner.failure(failure))),
        });
        (batch, usage)
    }

    /// How a step of this tenant runs.
    fn step<'a>(&'a self, signed: &'a Signed, requests: u32, wall: Duration) -> StepOptions<'a> {
        StepOptions {
            connector: self.inner.connector.slug(),
            instance: &self.inner.name,
            redactor: &signed.redactor,
            clock: &self.inner.clock,
            gate: Some(Arc::clone(&signed.gate)),
            requests,
            cpu: self.inner.connector.engine().limits().cpu_per_step,
            wall,
        }
    }

    /// How its texts are cleaned.
    fn cleaner<'a>(&self, redactor: &'a Redactor) -> Cleaner<'a> {
        Cleaner { redactor, most: self.inner.connector.engine().limits().text_bytes }
    }
}

/// Fewest requests that a step may be given (see `budget` of the contract).
const FEWEST_REQUESTS: u32 = 10;

/// Least time that a step is worth to be done once more in.
const LEAST_TIME: Duration = Duration::from_secs(5);

/// What of a budget is left for a step that is done once more; nothing when that is too little to begin with.
fn less(budget: types::Budget, used: &Usage) -> Option<types::Budget> {
    let requests = budget.requests.checked_sub(used.requests).filter(|left| *left >= FEWEST_REQUESTS)?;
    let left = Duration::from_millis(budget.wall_time_milliseconds).checked_sub(used.wall)?;
    let left = Some(left).filter(|left| *left >= LEAST_TIME)?;
    let wall_time_milliseconds = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
    Some(types::Budget { requests, wall_time_milliseconds, ..budget })
}

/// A batch whose artifacts are still to be checked; everything else of it has been.
#[derive(Debug)]
pub struct Unchecked {
    batch: types::Batch,
    tenant: Tenant,
    /// What knows the token that the step had.
    redactor: Redactor,
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
        let Self { batch, tenant, redactor } = self;
        let connector = &tenant.inner.connector;
        let cleaner = tenant.cleaner(&redactor);
        let checked = check_artifacts(batch.artifacts, connector.descriptor(), connector.engine().limits(), cleaner);
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
