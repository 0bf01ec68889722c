//! A connector that was loaded: audited, compiled, linked, and asked what it is.
//!
//! Why load does all of it: whoever holds a [`Connector`] has something that runs on this host and says sound things
//! about itself; every reason not to run is found before the first poll.
//! Not guaranteed: that it will still do so at the next call.

use super::answers::Cleaner;
use super::audit::{self, Audit, audit};
use super::cache::{Cache, Checked};
use super::demands;
use super::descriptor::{self, NAME_PREFIX};
use super::effort;
use super::error::{ConfigureError, LoadError, TenantError};
use super::file;
use super::hex;
use super::plan;
use super::registry::{Ceiling, NotGranted};
use super::tenant::{Tenant, TenantOptions};
use crate::contract::{SignalConnectorPre, types};
use crate::egress::{Lookup, Redactor, system_lookup};
use crate::sandbox::{Clock, Engine, Guest, StepOptions, run};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use wasmtime::component::Component;

/// A connector. Clones are the same connector.
#[derive(Clone)]
pub struct Connector {
    inner: Arc<Inner>,
    /// What the operator grants, where somebody keeps that.
    ceiling: Option<Arc<Ceiling>>,
    /// Keys of settings that its other versions know. An instance may have them, and this version is not told of them.
    others: Arc<BTreeSet<String>>,
}

/// What clones share.
struct Inner {
    engine: Engine,
    pre: SignalConnectorPre<Guest>,
    descriptor: types::Descriptor,
    digest: String,
    size: u64,
    audit: Audit,
    load_time: Duration,
    from_cache: bool,
}

impl Connector {
    /// Loads a connector from a file. Compiled code is kept in and taken from `cache`, a directory of this user
    /// alone; where that cannot be used, the component is compiled each time and a warning says why.
    ///
    /// # Errors
    /// When the file cannot be read, or is not a connector that this host can run.
    pub async fn load(engine: &Engine, path: &Path, cache: Option<&Path>) -> Result<Self, LoadError> {
        let limit = engine.limits().component_bytes;
        let path = path.to_owned();
        let bytes = tokio::task::spawn_blocking(move || file::read(&path, limit));
        let bytes = bytes.await.map_err(|error| LoadError::Host { why: error.to_string() })??;
        Self::from_bytes(engine, bytes, cache).await
    }

    /// Loads a connector from the bytes of a component; otherwise like [`Connector::load`].
    ///
    /// # Errors
    /// When it is not a connector that this host can run.
    pub async fn from_bytes(engine: &Engine, bytes: Vec<u8>, cache: Option<&Path>) -> Result<Self, LoadError> {
        let started = Instant::now();
        let limit = engine.limits().component_bytes;
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if size > limit {
            return Err(LoadError::TooBig { size, limit });
        }
        let compiler = engine.clone();
        let cache = cache.map(Path::to_owned);
        // Compiling takes all of a CPU for up to seconds; polls in flight go on meanwhile.
        let compiled = tokio::task::spawn_blocking(move || compile(&compiler, &bytes, cache));
        let Compiled { audit, digest, pre, from_cache } =
            compiled.await.map_err(|error| LoadError::Host { why: error.to_string() })??;
        let descriptor = describe(engine, &pre, &digest).await?;
        descriptor::check(&descriptor).map_err(LoadError::Descriptor)?;
        let inner = Inner {
            engine: engine.clone(),
            pre,
            descriptor,
            digest,
            size,
            audit,
            load_time: started.elapsed(),
            from_cache,
        };
        let connector = Self { inner: Arc::new(inner), ceiling: None, others: Arc::default() };
        tracing::debug!(
            connector = connector.slug(),
            version = connector.descriptor().version,
            digest = connector.digest(),
            from_cache,
            "loaded in {:?}",
            connector.load_time()
        );
        Ok(connector)
    }

    /// What the connector says of itself. It was checked against the contract.
    #[must_use]
    pub fn descriptor(&self) -> &types::Descriptor {
        &self.inner.descriptor
    }

    /// Its name without `signal-client.`: what log lines begin with.
    #[must_use]
    pub fn slug(&self) -> &str {
        let name = &self.inner.descriptor.name;
        name.strip_prefix(NAME_PREFIX).unwrap_or(name)
    }

    /// SHA-256 of the component in lower-case hexadecimal.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.inner.digest
    }

    /// Size of the component in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.inner.size
    }

    /// The interfaces it imports, with versions, in order.
    #[must_use]
    pub fn imports(&self) -> &[String] {
        &self.inner.audit.imports
    }

    /// The interfaces it exports, with versions, in order.
    #[must_use]
    pub fn exports(&self) -> &[String] {
        &self.inner.audit.exports
    }

    /// The version of `witfoo:signal-connector` it was built against.
    #[must_use]
    pub fn contract_version(&self) -> &str {
        &self.inner.audit.contract
    }

    /// How long it took to load: from the bytes to a checked description.
    #[must_use]
    pub fn load_time(&self) -> Duration {
        self.inner.load_time
    }

    /// Whether it was taken from the cache and not compiled.
    #[must_use]
    pub fn from_cache(&self) -> bool {
        self.inner.from_cache
    }

    /// The same without a tenant, in tests.
    #[cfg(test)]
    pub(crate) async fn configure(&self, settings: &[types::Setting]) -> Result<types::Plan, ConfigureError> {
        self.configure_without(settings, &Redactor::default()).await
    }

    /// Validates settings (without secrets) and says what an instance with them may reach. Runs under deny-all. The
    /// plan was checked against the contract. What the connector says and logs is cleared of the tenant's secrets, because
    /// somebody may have pasted one into an ordinary setting.
    ///
    /// # Errors
    /// The fields that are wrong, or that the connector failed, or that its plan breaks the contract.
    pub async fn configure_without(
        &self,
        settings: &[types::Setting],
        redactor: &Redactor,
    ) -> Result<types::Plan, ConfigureError> {
        let settings = self.own(settings);
        let (result, _usage) =
            run(self.engine(), self.pre(), self.pure(self.slug(), redactor), move |instance, store| {
                Box::pin(
                    async move { instance.witfoo_signal_connector_connector().call_configure(store, &settings).await },
                )
            })
            .await;
        let cleaner = Cleaner { redactor, most: self.engine().limits().text_bytes };
        match result.map_err(ConfigureError::Step)? {
            Ok(plan) => {
                plan::check(&plan, redactor).map_err(ConfigureError::Plan)?;
                Ok(plan)
            }
            Err(errors) => Err(ConfigureError::Fields(cleaner.field_errors(errors))),
        }
    }

    /// Sets up a tenant: configures, checks its secrets and makes its way out.
    ///
    /// # Errors
    /// When settings, secrets, routes or network do not fit.
    pub async fn tenant(&self, options: TenantOptions) -> Result<Tenant, TenantError> {
        self.tenant_resolving(options, system_lookup()).await
    }

    /// The same with a resolver other than the operating system's. The addresses that it gives are checked like any.
    ///
    /// # Errors
    /// When settings, secrets, routes or network do not fit.
    pub async fn tenant_resolving(&self, options: TenantOptions, lookup: Lookup) -> Result<Tenant, TenantError> {
        Tenant::new(self.clone(), options, lookup).await
    }

    /// The same connector, of which tenants are only made within what the operator grants.
    pub(super) fn under(mut self, ceiling: Arc<Ceiling>) -> Self {
        self.ceiling = Some(ceiling);
        self
    }

    /// The same connector beside other versions of it, whose forms have these keys.
    pub(super) fn beside(mut self, keys: BTreeSet<String>) -> Self {
        self.others = Arc::new(keys);
        self
    }

    /// Whether a key of an instance's settings or secrets is none of this version's but one of another version's: between
    /// the edit that an update needs and that update, or between the update and the next edit, an instance has such keys.
    #[must_use]
    pub fn is_of_another_version(&self, key: &str) -> bool {
        self.others.contains(key) && !self.descriptor().settings.iter().any(|field| field.key == key)
    }

    /// The settings without those that are another version's.
    pub(super) fn own(&self, settings: &[types::Setting]) -> Vec<types::Setting> {
        settings.iter().filter(|setting| !self.is_of_another_version(&setting.key)).cloned().collect()
    }

    /// Decides whether a tenant with this plan, made of these settings, may be made.
    ///
    /// # Errors
    /// When the operator has not granted it.
    pub(super) async fn admit_new(
        &self,
        plan: &types::Plan,
        settings: &[types::Setting],
        redactor: &Redactor,
    ) -> Result<(), NotGranted> {
        let Some(ceiling) = &self.ceiling else { return Ok(()) };
        let choices =
            if ceiling.is_first(self) { self.origins_of_choices(settings, redactor).await } else { BTreeSet::new() };
        ceiling.admit(self, plan, &choices)
    }

    /// Decides whether the tenant with this plan may still be.
    ///
    /// # Errors
    /// When the operator has not granted it.
    pub(super) fn admit(&self, plan: &types::Plan) -> Result<(), NotGranted> {
        self.ceiling.as_ref().map_or(Ok(()), |ceiling| ceiling.admit(self, plan, &BTreeSet::new()))
    }

    /// Tells, once every clone and tenant is gone, that its code is too.
    #[cfg(test)]
    pub(super) fn is_alive(&self) -> impl Fn() -> bool + use<> {
        let inner = Arc::downgrade(&self.inner);
        move || inner.strong_count() > 0
    }

    /// The engine it runs on.
    pub(super) fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    /// What instances are made from.
    pub(super) fn pre(&self) -> &SignalConnectorPre<Guest> {
        &self.inner.pre
    }

    /// How a function runs that only computes.
    fn pure<'a>(&'a self, name: &'a str, redactor: &'a Redactor) -> StepOptions<'a> {
        pure(self.engine(), name, redactor, &EPOCH)
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector")
            .field("name", &self.inner.descriptor.name)
            .field("digest", &self.inner.digest)
            .finish()
    }
}

/// A function that only computes has no business with the time; giving all calls the same makes their answers the same.
static EPOCH: std::sync::LazyLock<Clock> =
    std::sync::LazyLock::new(|| Clock::virtual_at(time::OffsetDateTime::UNIX_EPOCH));

/// How a function runs that only computes: every request refused, short deadlines.
fn pure<'a>(engine: &Engine, connector: &'a str, redactor: &'a Redactor, clock: &'a Clock) -> StepOptions<'a> {
    let cpu = engine.limits().pure_call;
    // Somewhat longer, so that a call which computes meets the limit for that, whatever else this machine does.
    let wall = cpu.saturating_add(engine.limits().wall_grace);
    StepOptions { connector, instance: "", redactor, clock, gate: None, requests: 0, cpu, wall }
}

/// What comes of compiling.
pub(super) struct Compiled {
    audit: Audit,
    digest: String,
    pre: SignalConnectorPre<Guest>,
    from_cache: bool,
}

/// Audits, takes from the cache or compiles, and links.
pub(super) fn compile(engine: &Engine, bytes: &[u8], cache: Option<PathBuf>) -> Result<Compiled, LoadError> {
    let digest = hex(&Sha256::digest(bytes));
    let cache = cache.and_then(|directory| {
        Cache::open(&directory)
            .inspect_err(|error| {
                tracing::warn!("compiled components are not kept: {} cannot be used: {error}", directory.display());
            })
            .ok()
    });
    let kept = cache.as_ref().and_then(|cache| from_cache(engine, cache, &digest));
    audit::recognise(bytes)?;
    // Before they are validated, which takes long where there is very much to compare.
    demands::check(bytes, engine.limits())?;
    // Kept names are those of the same bytes; what they are judged by is always this host's.
    let names = kept.as_ref().map_or_else(|| audit::read(bytes), |kept| Ok(kept.names.clone()))?;
    let audit = audit(names.clone())?;
    let kept = kept.and_then(|kept| load(engine, &kept, &digest));
    let from_cache = kept.is_some();
    let component = match kept {
        Some(component) => component,
        None => {
            // What was compiled once was found to be bearable.
            effort::check(bytes)?;
            let corrupt = |error: wasmtime::Error| LoadError::Corrupt { why: format!("{error:#}") };
            let component =
                own_threads()?.install(|| Component::from_binary(engine.wasmtime(), bytes)).map_err(corrupt)?;
            if let Some(cache) = &cache {
                let kept = component.serialize().map_err(std::io::Error::other);
                if let Err(error) = kept.and_then(|code| cache.put(&digest, engine.compatibility(), &names, &code)) {
                    tracing::warn!(digest, "a compiled component could not be kept: {error}");
                }
            }
            component
        }
    };
    let mismatch = |error: wasmtime::Error| LoadError::Mismatch { why: format!("{error:#}") };
    let pre = engine.linker().instantiate_pre(&component).map_err(mismatch)?;
    let pre = SignalConnectorPre::new(pre).map_err(mismatch)?;
    Ok(Compiled { audit, digest, pre, from_cache })
}

/// Threads to compile one component. The engine would use those of the whole process, where one that takes very long would
/// keep all others from being compiled.
fn own_threads() -> Result<rayon::ThreadPool, LoadError> {
    rayon::ThreadPoolBuilder::new()
        .thread_name(|at| format!("compile-{at}"))
        .build()
        .map_err(|error| LoadError::Host { why: error.to_string() })
}

/// Whether the code of a component is in the cache.
pub(super) fn is_kept(engine: &Engine, bytes: &[u8], cache: &Path) -> bool {
    let digest = hex(&Sha256::digest(bytes));
    let entry = Cache::open(cache).and_then(|cache| cache.get(&digest, engine.compatibility()));
    entry.is_ok_and(|entry| entry.is_some())
}

/// What is in the cache, if a sound entry is there.
fn from_cache(engine: &Engine, cache: &Cache, digest: &str) -> Option<Checked> {
    cache
        .get(digest, engine.compatibility())
        .inspect_err(|error| tracing::warn!(digest, "a kept component is not used, it is compiled again: {error}"))
        .ok()?
}

/// The component of an entry, if this engine takes it.
fn load(engine: &Engine, kept: &Checked, digest: &str) -> Option<Component> {
    kept.load(engine.wasmtime())
        .inspect_err(|error| tracing::warn!(digest, "a kept component is not used, it is compiled again: {error:#}"))
        .ok()
}

/// Asks a component what it is.
async fn describe(
    engine: &Engine,
    pre: &SignalConnectorPre<Guest>,
    digest: &str,
) -> Result<types::Descriptor, LoadError> {
    let redactor = Redactor::default();
    // It has no name yet.
    let name = digest.get(..12).unwrap_or(digest);
    let (result, _usage) = run(engine, pre, pure(engine, name, &redactor, &EPOCH), |instance, store| {
        Box::pin(async move { instance.witfoo_signal_connector_connector().call_describe(store).await })
    })
    .await;
    result.map_err(LoadError::Describe)
}
