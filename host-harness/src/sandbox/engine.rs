//! The engine: one for all connectors and tenants.
//!
//! What: the only constructor of wasmtime's configuration, the linker, the thread that ticks epochs, and the places
//! for instances that run at once.
//! Why the pooling allocator: an instance is then a few page-table changes and not an allocation; with copy-on-write
//! images a fresh one takes tens of microseconds. Where the address space for the pool cannot be reserved (a tight
//! `ulimit -v`, some containers), memory is allocated on demand, slower, and a warning says so.
//! Not guaranteed: that more than `max_instances` steps run at once; more wait for their place.

use super::error::SandboxError;
use super::guest::Guest;
use super::limits::Limits;
use super::linker::linker;
use sha2::{Digest, Sha256};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use wasmtime::component::Linker;
use wasmtime::{Config, Enabled, OptLevel, PoolingAllocationConfig};

/// How often epochs tick, and so how exactly CPU time is limited and how long a guest can keep a thread from other
/// work. Ten milliseconds: short against any timeout, and a hundred wake-ups a second cost nothing.
pub const TICK: Duration = Duration::from_millis(10);

/// Bytes beyond a guest's stack for the host's calls, which run on the same one.
const HOST_STACK: usize = 1536 * 1024;

/// How an engine is set up.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    /// Limits on every connector.
    pub limits: Limits,
    /// Whether instances come from a pool. Default true.
    pub pooling: bool,
    /// Most steps that run at once, over all tenants, besides `describe` and `configure`. Default 64; each reserves address space, not memory, in the
    /// pool: 4 GiB for each of the linear memories that a component may have.
    pub max_instances: u32,
    /// Whether the instructions of guests are counted ([`super::Usage::instructions`]). Default false: it costs a tenth
    /// of a guest's speed, and is for comparing versions of a connector, which times on a busy machine do not allow.
    pub count_instructions: bool,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self { limits: Limits::default(), pooling: true, max_instances: 64, count_instructions: false }
    }
}

/// An engine. Clones are the same engine.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

/// What clones share.
struct Inner {
    engine: wasmtime::Engine,
    linker: Linker<Guest>,
    limits: Limits,
    places: Semaphore,
    pure_places: Semaphore,
    pooling: bool,
    count_instructions: bool,
    compatibility: String,
    #[cfg(test)]
    ticker: std::sync::Mutex<Option<std::thread::JoinHandle<()>>>,
}

impl Engine {
    /// Sets up an engine and starts its ticker, a thread that ends by itself soon after the last clone, and the last
    /// connector loaded with it, are dropped.
    ///
    /// # Errors
    /// When this machine cannot run the configuration.
    pub fn new(options: EngineOptions) -> Result<Self, SandboxError> {
        let EngineOptions { limits, pooling, max_instances, count_instructions } = options;
        let max_instances = max_instances.max(1);
        let in_pool = max_instances.saturating_add(PURE_PLACES);
        let failed = |error: wasmtime::Error| SandboxError::Engine { why: format!("{error:#}") };
        let pooled = if pooling {
            wasmtime::Engine::new(config(&limits, Some(in_pool)).consume_fuel(count_instructions))
                .inspect_err(|error| {
                    tracing::warn!("no pool for instances, they will start more slowly: {error:#}");
                })
                .ok()
        } else {
            None
        };
        let pooling = pooled.is_some();
        let engine = match pooled {
            Some(engine) => engine,
            None => wasmtime::Engine::new(config(&limits, None).consume_fuel(count_instructions)).map_err(failed)?,
        };
        let linker = linker(&engine).map_err(|error| SandboxError::Linker { why: format!("{error:#}") })?;
        let ticker = start_ticker(&engine)?;
        let compatibility = compatibility(&engine);
        // The handle is kept by tests only; the thread ends by itself.
        #[cfg(not(test))]
        drop(ticker);
        let inner = Inner {
            linker,
            limits,
            places: semaphore(max_instances),
            pure_places: semaphore(PURE_PLACES),
            pooling,
            count_instructions,
            compatibility,
            engine,
            #[cfg(test)]
            ticker: std::sync::Mutex::new(Some(ticker)),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The limits on every connector.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// Whether instances come from a pool.
    #[must_use]
    pub fn is_pooling(&self) -> bool {
        self.inner.pooling
    }

    /// Whether the instructions of guests are counted.
    pub(super) fn counts_instructions(&self) -> bool {
        self.inner.count_instructions
    }

    /// wasmtime's engine.
    pub(crate) fn wasmtime(&self) -> &wasmtime::Engine {
        &self.inner.engine
    }

    /// The interfaces for guests.
    pub(crate) fn linker(&self) -> &Linker<Guest> {
        &self.inner.linker
    }

    /// Places for steps that run at once: for those that reach the network, or for those that only compute.
    pub(super) fn places(&self, is_pure: bool) -> &Semaphore {
        if is_pure { &self.inner.pure_places } else { &self.inner.places }
    }

    /// A digest, in hexadecimal, of everything that compiled code depends on: wasmtime's version, the configuration
    /// and the features of this CPU.
    pub(crate) fn compatibility(&self) -> &str {
        &self.inner.compatibility
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").field("pooling", &self.inner.pooling).finish_non_exhaustive()
    }
}

/// Places for `describe` and `configure` besides those for steps: polls that hang at a vendor must hold up neither an
/// edit nor a new connector.
const PURE_PLACES: u32 = 4;

/// So many places.
fn semaphore(places: u32) -> Semaphore {
    Semaphore::new(usize::try_from(places).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS))
}

/// The only place where wasmtime is configured.
fn config(limits: &Limits, pool: Option<u32>) -> Config {
    let mut config = Config::new();
    // CPU time: a check at loop heads and function entries, cheaper than counting fuel.
    config.epoch_interruption(true);
    config.max_wasm_stack(limits.stack_bytes);
    config.async_stack_size(limits.stack_bytes.saturating_add(HOST_STACK));
    // Guests are stripped, so frames would have no names; collecting them costs time at each trap.
    config.wasm_backtrace_max_frames(None);
    config.generate_address_map(false);
    config.cranelift_opt_level(OptLevel::Speed);
    config.memory_init_cow(true);
    // The contract's functions are synchronous for the guest, so the machinery for concurrent calls stays out.
    config.concurrency_support(false);
    // What no toolchain for connectors needs.
    config.wasm_memory64(false);
    config.wasm_multi_memory(true);
    if let Some(instances) = pool {
        let per_component = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let mut pooling = PoolingAllocationConfig::new();
        pooling
            .total_component_instances(instances)
            .total_stacks(instances)
            // The product, so that a step that has its place never finds the pool used up by others.
            .total_core_instances(instances.saturating_mul(per_component(limits.core_instances)))
            .total_memories(instances.saturating_mul(per_component(limits.memories)))
            .total_tables(instances.saturating_mul(per_component(limits.tables)))
            .max_core_instances_per_component(per_component(limits.core_instances))
            .max_memories_per_component(per_component(limits.memories))
            .max_memories_per_module(per_component(limits.memories))
            .max_tables_per_component(per_component(limits.tables))
            .max_tables_per_module(per_component(limits.tables))
            .table_elements(limits.table_elements)
            .max_memory_size(limits.memory_bytes)
            // Pages that stay mapped between instances save faults for small guests; more than this was measured to
            // cost more in clearing than it saves.
            .pagemap_scan(Enabled::Auto)
            .linear_memory_keep_resident(512 * 1024)
            .table_keep_resident(16 * 1024)
            .max_unused_warm_slots(instances);
        config.allocation_strategy(pooling);
    }
    config
}

/// Starts the thread that ticks epochs for as long as the engine lives.
fn start_ticker(engine: &wasmtime::Engine) -> Result<std::thread::JoinHandle<()>, SandboxError> {
    // A strong reference would keep the engine, and with it this thread, alive for ever.
    let weak = engine.weak();
    std::thread::Builder::new()
        .name("epoch-ticker".to_owned())
        .spawn(move || {
            while let Some(engine) = weak.upgrade() {
                engine.increment_epoch();
                drop(engine);
                std::thread::sleep(TICK);
            }
        })
        .map_err(|error| SandboxError::Ticker { why: error.to_string() })
}

/// Feeds what wasmtime hashes into SHA-256, whose result does not change with the standard library's version.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Not used: the digest is taken from the inner state.
    fn finish(&self) -> u64 {
        0
    }
}

/// See [`Engine::compatibility`].
fn compatibility(engine: &wasmtime::Engine) -> String {
    let mut hasher = Sha256Hasher(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    crate::connectors::hex(&hasher.0.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(pooling: bool) -> Engine {
        Engine::new(EngineOptions { pooling, max_instances: 2, ..EngineOptions::default() }).unwrap()
    }

    #[test]
    fn the_ticker_ends_with_the_engine() {
        let engine = engine(true);
        let ticker = engine.inner.ticker.lock().unwrap().take().unwrap();
        let clone = engine.clone();
        drop(engine);
        assert!(!ticker.is_finished(), "a clone keeps it running");
        drop(clone);
        ticker.join().unwrap();
    }

    #[test]
    fn engines_of_one_configuration_are_compatible_and_others_are_not() {
        assert_eq!(engine(true).compatibility(), engine(true).compatibility());
        let mut other = config(&Limits::default(), None);
        other.cranelift_opt_level(OptLevel::None);
        let other = wasmtime::Engine::new(&other).unwrap();
        assert_ne!(compatibility(&other), engine(false).compatibility());
    }
}
