//! One poll of one instance: configured, collected, stored.
//!
//! Everything that can be wrong with an instance (its secrets, its settings,
//! its connector) becomes the failure of a cycle here, so that status, log and
//! back-off treat it like any other.
//!
//! A tenant is kept between polls, with its connections, as long as its
//! configuration, its secrets and its connector are the same.

use std::future::Future;
use std::sync::Arc;

use secrecy::ExposeSecret;
use sha2::{Digest, Sha256};

use crate::config::InstanceConfig;
use crate::connectors::registry::origin;
use crate::connectors::{ConfigureError, Connector, Tenant, TenantError, TenantOptions};
use crate::contract::types::Budget;
use crate::egress::{NetworkOptions, Routes, Secrets};
use crate::instances::cycle::{CycleOptions, Run, Surroundings};
use crate::instances::failure::FailureReport;
use crate::instances::report::{Cycle, End};
use crate::instances::{secrets, settings};
use crate::sandbox::Clock;
use crate::sinks::LinesSink;
use crate::store::{Instance, Store};

/// What polls share.
#[derive(Clone, Debug)]
pub struct Surrounding {
    /// Where everything is kept.
    pub store: Store,
    /// The time of day.
    pub clock: Clock,
    /// Planned hosts that are really elsewhere.
    pub routes: Routes,
    /// How the network is reached.
    pub network: NetworkOptions,
    /// Limits of a cycle.
    pub cycle: CycleOptions,
}

/// A tenant as it was made, and what it was made of.
#[derive(Clone, Debug)]
pub struct Kept {
    tenant: Tenant,
    digest: String,
    /// Hash of settings and secrets.
    made_of: [u8; 32],
}

/// How an instance is set up under a connector.
///
/// # Errors
///
/// What is wrong with its settings or secrets.
pub fn tenant_options(
    config: &InstanceConfig,
    connector: &Connector,
    around: &Surrounding,
) -> Result<TenantOptions, FailureReport> {
    let descriptor = connector.descriptor();
    let settings = settings::coerce(descriptor, &config.settings)
        .map_err(|error| FailureReport::new(error.code(), error.to_string(), sentence(&error.help())))?;
    let secrets = secrets::read(descriptor, &config.secrets)
        .map_err(|error| FailureReport::new(error.code(), error.to_string(), sentence(&error.help())))?;
    Ok(TenantOptions {
        name: config.name.clone(),
        settings,
        secrets,
        routes: around.routes.clone(),
        clock: around.clock.clone(),
        network: around.network.clone(),
    })
}

/// Polls once, until `stop`. Gives the tenant for the next time. `granted` is
/// what the type may reach, if the configuration says so.
pub async fn poll(
    config: &InstanceConfig,
    instance: &Instance,
    connector: &Connector,
    kept: Option<Kept>,
    granted: Option<&[String]>,
    around: &Surrounding,
    stop: impl Future<Output = ()> + Send,
) -> (Cycle, Option<Kept>) {
    let kept = match tenant(config, connector, kept, around).await {
        Ok(kept) => kept,
        Err(failure) => return (failed(failure), None),
    };
    let wanted = origin(kept.tenant.plan());
    if granted.is_some_and(|granted| !granted.contains(&wanted)) {
        let failure = FailureReport::new(
            "not-granted",
            format!("with these settings the connector reaches {wanted}, which the configuration does not grant"),
            format!("Add it to the origins in [grants.{}], or correct the settings.", config.integration_type),
        );
        return (failed(failure), None);
    }
    let cycle = Run {
        collector: &kept.tenant,
        store: &around.store,
        instance,
        sink: None::<&mut LinesSink>,
        streams: &connector.descriptor().streams,
        options: &around.cycle,
        surroundings: Surroundings {
            now: &|| around.clock.now(),
            sleep: &|wait| Box::pin(tokio::time::sleep(wait)),
            progress: &|_| {},
        },
    }
    .cycle(stop)
    .await;
    (cycle, Some(kept))
}

/// The tenant of the last poll if nothing has changed, else a new one.
async fn tenant(
    config: &InstanceConfig,
    connector: &Connector,
    kept: Option<Kept>,
    around: &Surrounding,
) -> Result<Kept, FailureReport> {
    let options = tenant_options(config, connector, around)?;
    let made_of = hash(config, &options.secrets);
    if let Some(kept) = kept
        && kept.made_of == made_of
        && kept.digest == connector.digest()
    {
        return Ok(kept);
    }
    let tenant = connector.tenant(options).await.map_err(|error| of_tenant(&error))?;
    Ok(Kept { tenant, digest: connector.digest().to_owned(), made_of })
}

/// A failure to set a tenant up, as a report.
pub fn of_tenant(error: &TenantError) -> FailureReport {
    match error {
        TenantError::Configure(ConfigureError::Step(step)) => FailureReport::from(step),
        TenantError::Configure(ConfigureError::Plan(_)) => {
            FailureReport::new("plan", error.to_string(), "Report this to whoever maintains the connector.")
        }
        TenantError::Configure(ConfigureError::Fields(_)) => {
            FailureReport::new("invalid-settings", error.to_string(), "Correct the settings of the instance.")
        }
        other => {
            FailureReport::new("invalid-settings", other.to_string(), "Correct the configuration of the instance.")
        }
    }
}

/// A cycle in which nothing could be begun.
#[must_use]
pub fn failed(failure: FailureReport) -> Cycle {
    Cycle { failure: Some(failure), end: End::Failed, ..Cycle::new() }
}

/// Hash of what makes a tenant. Secrets do not stay in memory twice for it.
fn hash(config: &InstanceConfig, secrets: &Secrets) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut add = |part: &[u8]| {
        hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hash.update(part);
    };
    add(config.name.as_bytes());
    for (key, value) in &config.settings {
        add(key.as_bytes());
        add(value.as_bytes());
    }
    for key in secrets.keys() {
        add(key.as_bytes());
        add(secrets.get(key).map(|secret| secret.expose_secret().as_bytes()).unwrap_or_default());
    }
    hash.finalize().into()
}

/// The limits of a cycle of a running host.
#[must_use]
pub fn cycle_options() -> CycleOptions {
    CycleOptions {
        budget: Budget { requests: 500, artifacts: 5_000, artifact_bytes: 16 << 20, wall_time_milliseconds: 60_000 },
        // Other tenants wait for the places in which polls run.
        most_steps: 20,
        longest_wait: std::time::Duration::from_secs(10),
        most_waiting: std::time::Duration::from_secs(30),
    }
}

/// A help text as a sentence.
fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    match characters.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), characters.as_str().trim_end_matches('.')),
        None => String::new(),
    }
}

/// Shared by the tasks of a host.
pub type SharedSurrounding = Arc<Surrounding>;
