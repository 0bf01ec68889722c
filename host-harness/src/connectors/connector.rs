//! A connector that was loaded: audited, compiled, linked, and asked what it is.
//!
//! Why load does all of it: whoever holds a [`Connector`] has something that runs on this host and says sound things
//! about itself; every reason not to run is found before the first poll.
//! Not guaranteed: that it will still do so at the next call.

use super::audit::{self, Audit, audit};
use super::cache::{Cache, Checked};
use super::demands;
use super::descriptor::{self, NAME_PREFIX};
use super::effort;
use super::error::{LoadError, TenantError};
use super::file;
use super::hex;
use super::plan::{Destinations, Plan};
use super::pure::describe;
use super::registry::{Ceiling, NotGranted};
use super::tenant::{Tenant, TenantOptions};
use crate::contract::{SignalConnectorPre, SigningPre, types};
use crate::egress::{Lookup, Redactor, system_lookup};
use crate::sandbox::{Engine, Guest};
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
    /// There when the component says how its secrets sign requests in.
    signing: Option<SigningPre<Guest>>,
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
        let Compiled { audit, digest, pre, signing, from_cache } =
            compiled.await.map_err(|error| LoadError::Host { why: error.to_string() })??;
        let descriptor = describe(engine, &pre, &digest).await?;
        descriptor::check(&descriptor).map_err(LoadError::Descriptor)?;
        let inner = Inner {
            engine: engine.clone(),
            pre,
            signing,
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
        plan: &Plan,
        settings: &[types::Setting],
        redactor: &Redactor,
    ) -> Result<(), NotGranted> {
        let Some(ceiling) = &self.ceiling else { return Ok(()) };
        let choices =
            if ceiling.is_first(self) { self.choices(settings, redactor).await } else { Destinations::default() };
        ceiling.admit(self, plan, &choices)
    }

    /// Decides whether the tenant with this plan may still be.
    ///
    /// # Errors
    /// When the operator has not granted it.
    pub(super) fn admit(&self, plan: &Plan) -> Result<(), NotGranted> {
        self.ceiling.as_ref().map_or(Ok(()), |ceiling| ceiling.admit(self, plan, &Destinations::default()))
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

    /// The same for the interface `sign-in`, where it has that.
    pub(super) fn signing(&self) -> Option<&SigningPre<Guest>> {
        self.inner.signing.as_ref()
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

/// What comes of compiling.
pub(super) struct Compiled {
    audit: Audit,
    digest: String,
    pre: SignalConnectorPre<Guest>,
    signing: Option<SigningPre<Guest>>,
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
    let signing = audit.signs_in.then(|| SigningPre::new(pre.clone())).transpose().map_err(mismatch)?;
    let pre = SignalConnectorPre::new(pre).map_err(mismatch)?;
    Ok(Compiled { audit, digest, pre, signing, from_cache })
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
