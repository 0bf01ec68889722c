//! Tenants that are kept from poll to poll.
//!
//! Why: making one takes a call of the connector, and a client of its own. One serves as long as its configuration, its
//! secrets and its connector stay the same.
//! Why only so many: thousands of idle tenants must not hold thousands of clients.
//! Not guaranteed: a secret in an environment variable is never new, because no process sees another's environment.

use std::path::Path;
use std::sync::Arc;

use time::OffsetDateTime;

use super::under_way::Looking;
use super::{Inner, Record};
use crate::config::watch::Look;
use crate::config::{Config, InstanceConfig};
use crate::connectors::serving::ConnectorReport;
use crate::connectors::{Connector, Tenant, TenantError};
use crate::instances::failure::FailureReport;
use crate::instances::secrets::Source;
use crate::locks::lock;
use crate::resident::tenant::{changed_by_somebody, from_tenant, make, on_a_thread, stalled};

/// Tenants that are kept between polls.
pub(super) const MOST_KEPT: usize = 256;

/// Files that are told of where nothing serves a type.
const MOST_TOLD: usize = 3;

/// What is looked at before a poll.
const FILES: &str = "looking at the files of its secrets and certificates";

/// A tenant and what it was made of.
pub(super) struct Kept {
    pub(super) tenant: Tenant,
    pub(super) record: Arc<Record>,
    looks: Vec<Look>,
    used: OffsetDateTime,
}

impl Inner {
    /// The kept tenant when it is still right, else a new one.
    pub(super) async fn tenant(&self, record: &Arc<Record>) -> Result<Tenant, FailureReport> {
        let config = &record.config;
        let connector = self.serving.current(&config.integration_type).ok_or_else(|| {
            let help = self.without_connector(record);
            changed_by_somebody("connector-missing", format!("no connector serves {}", config.integration_type), help)
        })?;
        let id = record.instance.id;
        let looks = self.look(record).await?;
        if let Some(tenant) = self.kept(record, &connector, &looks) {
            // What the operator grants may have changed since it was made. It is read from the disk: not under a lock.
            tenant
                .admit()
                .map_err(|error| from_tenant(&TenantError::NotGranted(error), config, &record.whole, &connector))?;
            return Ok(tenant);
        }
        let tenant = make(&record.config, &record.whole, &connector, self.clock.clone()).await.map_err(
            |(failure, outcome)| {
                self.serving.polled(&connector, id, outcome);
                failure
            },
        )?;
        let mut all = lock(&self.kept);
        all.remove(&id);
        if all.len() >= MOST_KEPT
            && let Some(oldest) = all.iter().min_by_key(|(_, kept)| kept.used).map(|(id, _)| *id)
        {
            all.remove(&oldest);
        }
        all.insert(id, Kept { tenant: tenant.clone(), record: Arc::clone(record), looks, used: self.clock.now() });
        Ok(tenant)
    }

    /// What the files of an instance look like now. A file system may not answer for hours: the thread that waits for it
    /// is left to itself, and until it is back no other looks at the same files.
    async fn look(&self, record: &Record) -> Result<Vec<Look>, FailureReport> {
        let id = record.instance.id;
        let before = lock(&self.kept).get(&id).map(|kept| kept.looks.clone()).unwrap_or_default();
        let files = files(&record.config, &record.whole);
        let Some(looking) = Looking::begin(&self.looking, id) else { return Err(stalled(FILES)) };
        on_a_thread(FILES, move || {
            let _looking = looking;
            look(&files, &before)
        })
        .await
    }

    /// The kept tenant, if it is still right.
    fn kept(&self, record: &Arc<Record>, connector: &Connector, looks: &[Look]) -> Option<Tenant> {
        let mut all = lock(&self.kept);
        let kept = all.get_mut(&record.instance.id).filter(|kept| {
            kept.tenant.connector().digest() == connector.digest()
                && same(&kept.record, record)
                && same_content(&kept.looks, looks)
        })?;
        kept.used = self.clock.now();
        kept.looks = looks.to_vec();
        Some(kept.tenant.clone())
    }

    /// What to do about an instance that nothing serves.
    fn without_connector(&self, record: &Record) -> String {
        let wanted = &record.config.integration_type;
        let known = self.serving.report();
        match known.iter().find(|one| one.integration_type == *wanted) {
            Some(there) => format!(
                "Version {} is {}{}. See `host-harness connectors list`.",
                there.version,
                there.state.name(),
                there.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}")),
            ),
            None => without_one(wanted, &record.whole.host.connectors, &known),
        }
    }
}

/// Whether a tenant made for one record serves the other.
pub(in crate::resident) fn same(one: &Arc<Record>, other: &Arc<Record>) -> bool {
    let network = |record: &Record| {
        let network = &record.whole.host.network;
        (network.proxy.clone(), network.extra_ca_files.clone())
    };
    Arc::ptr_eq(one, other)
        || (one.config.means_the_same(&other.config)
            && one.whole.host.routes == other.whole.host.routes
            && one.whole.grants.get(&one.config.integration_type)
                == other.whole.grants.get(&other.config.integration_type)
            && network(one) == network(other))
}

/// The files that an instance is polled with: its secrets, and the authorities that are trusted.
pub(in crate::resident) fn files(config: &InstanceConfig, whole: &Config) -> Vec<std::path::PathBuf> {
    let secrets = config.secrets.iter().filter_map(|(_, source)| match source {
        Source::File(path) => Some(path),
        Source::Environment(_) => None,
    });
    secrets.chain(&whole.host.network.extra_ca_files).cloned().collect()
}

/// Looks at files; `before` is what they looked like, in the same order.
fn look(files: &[impl AsRef<Path>], before: &[Look]) -> Vec<Look> {
    files.iter().enumerate().map(|(at, file)| Look::at(file.as_ref(), before.get(at))).collect()
}

/// Whether two series of looks saw the same contents.
fn same_content(one: &[Look], other: &[Look]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(a, b)| !a.differs(b))
}

/// What to do where none of the connectors that are there has this type.
fn without_one(wanted: &str, directory: &Path, there: &[ConnectorReport]) -> String {
    // A file whose type is not known is listed by its name, and may be the one.
    let (undescribed, known): (Vec<_>, Vec<_>) = there.iter().partition(|one| one.version.is_empty());
    let mut files = undescribed.iter().filter(|one| !one.file.is_empty()).map(|one| {
        let why = one.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        format!("{} there is {}{why}.", one.file, one.state.name())
    });
    let told: Vec<String> = files.by_ref().take(MOST_TOLD).collect();
    let known = known.iter().map(|one| one.integration_type.as_str());
    let put = format!("Put the connector into {}, or correct integration_type", directory.display());
    if told.is_empty() {
        return format!("{put}: {}.", crate::config::suggestion(wanted, known).trim_end_matches('?'));
    }
    let meant =
        crate::config::nearest(wanted, known).map_or_else(String::new, |word| format!(": did you mean {word:?}"));
    format!("{} See `host-harness connectors list`. Or: {put}{meant}.", told.join(" "))
}
