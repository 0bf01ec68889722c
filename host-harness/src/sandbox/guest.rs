//! The data of one step's store: what the host knows while a guest runs.
//!
//! Why: everything a guest can touch through its imports is in here, made for one step and dropped with it.

use super::clock::Clock;
use super::guest_log::GuestLog;
use super::limits::Limits;
use super::memory::MemoryLimiter;
use super::stderr::Stderr;
use crate::contract::types;
use crate::egress::{Hooks, Redactor};
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

/// One step's state.
pub(crate) struct Guest {
    table: ResourceTable,
    wasi: WasiCtx,
    http: WasiHttpCtx,
    hooks: Hooks,
    log: GuestLog,
    pub(super) memory: MemoryLimiter,
    pub(super) stderr: Stderr,
    /// Most bytes of a path with query that a request of the guest may be given.
    pub(super) target_bytes: usize,
}

/// What `wasi:random/insecure-seed` gives where a guest only computes.
const FIXED_SEED: u128 = 0x7769_7466_6f6f_2063_6f6e_6475_6374_6f72;

impl Guest {
    /// The state of a new step.
    pub(super) fn new(
        connector: &str,
        instance: &str,
        redactor: Redactor,
        clock: &Clock,
        hooks: Hooks,
        limits: &Limits,
    ) -> Self {
        let stderr = Stderr::default();
        let mut wasi = WasiCtx::builder();
        if !hooks.lead_anywhere() {
            // A function that only computes gives the same answer each time. In a step the seed is random, so that nobody
            // who sends data to a connector can make its hash tables slow.
            wasi.insecure_random_seed(FIXED_SEED);
        }
        let wasi = wasi
            .wall_clock(clock.clone())
            .monotonic_clock(clock.clone())
            .stderr(stderr.clone())
            // Neither is linked; nor may they work should they ever be.
            .allow_tcp(false)
            .allow_udp(false)
            .build();
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.handles);
        let mut http = WasiHttpCtx::new();
        // For headers that the guest makes, which may be as many as it has handles. Longer than what may leave, so that a
        // guest is told so by the error for that.
        http.set_field_size_limit(limits.request_head_bytes.saturating_mul(2));
        let log = GuestLog::new(connector, instance, redactor, limits);
        // The same holds for paths.
        let target_bytes = limits.request_target_bytes.saturating_mul(4);
        Self { table, wasi, http, hooks, log, memory: MemoryLimiter::new(limits), stderr, target_bytes }
    }

    /// What its requests meet.
    pub(super) fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    /// The log.
    pub(super) fn log(&mut self) -> &mut GuestLog {
        &mut self.log
    }
}

impl WasiView for Guest {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for Guest {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.hooks, table: &mut self.table, ctx: &mut self.http }
    }
}

/// The interface holds types only.
impl types::Host for GuestLog {}
