//! Running one call of a connector in a fresh instance.
//!
//! What: waits for a place, makes a store with its limits, instantiates, calls, and says what was used; on any way
//! out, good or bad, the instance is gone.
//! Why three clocks: epochs stop a guest that computes, the wall clock stops one that waits, and both are needed,
//! because epochs do not interrupt a host call. Waiting for a place counts for neither.
//! Not guaranteed: a request that was on its way when a step was stopped may have reached the vendor.

use super::clock::Clock;
use super::cpu::{CpuMeter, Metered};
use super::engine::Engine;
use super::error::{StepError, Usage};
use super::guest::Guest;
use super::recursion;
use super::text::clean;
use crate::contract::optional::Signing;
use crate::contract::{SignalConnector, SignalConnectorPre, SigningPre};
use crate::egress::{Gate, Hooks, Redactor, StepMeter};
use futures::future::BoxFuture;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi::I32Exit;

/// How a call is run.
pub(crate) struct StepOptions<'a> {
    /// Slug of the connector and name of the instance, for log lines.
    pub(crate) connector: &'a str,
    /// See `connector`.
    pub(crate) instance: &'a str,
    /// What must not be shown.
    pub(crate) redactor: &'a Redactor,
    /// The time the guest sees.
    pub(crate) clock: &'a Clock,
    /// The way out; without one, every request is refused.
    pub(crate) gate: Option<Arc<Gate>>,
    /// Requests it may make.
    pub(crate) requests: u32,
    /// Time on the CPU it may take.
    pub(crate) cpu: Duration,
    /// Wall-clock time it may take.
    pub(crate) wall: Duration,
}

/// What fresh instances are made from: the interfaces of a connector that are called on them.
pub(crate) trait Prepared: Sync {
    /// An instance, by these interfaces.
    type Instance: Send + Sync;

    /// Makes one.
    fn instantiate(&self, store: &mut Store<Guest>) -> impl Future<Output = wasmtime::Result<Self::Instance>> + Send;
}

impl Prepared for SignalConnectorPre<Guest> {
    type Instance = SignalConnector;

    async fn instantiate(&self, store: &mut Store<Guest>) -> wasmtime::Result<SignalConnector> {
        self.instantiate_async(store).await
    }
}

impl Prepared for SigningPre<Guest> {
    type Instance = Signing;

    async fn instantiate(&self, store: &mut Store<Guest>) -> wasmtime::Result<Signing> {
        self.instantiate_async(store).await
    }
}

/// The guest's CPU time is used up. Raised as a trap.
#[derive(Debug, thiserror::Error)]
#[error("CPU time is used up")]
struct CpuUsedUp;

/// Runs one call. The closure makes the call on the instance it is given.
pub(crate) async fn run<P, R, C>(
    engine: &Engine,
    pre: &P,
    options: StepOptions<'_>,
    call: C,
) -> (Result<R, StepError>, Usage)
where
    P: Prepared,
    R: Send,
    C: for<'s> FnOnce(&'s P::Instance, &'s mut Store<Guest>) -> BoxFuture<'s, wasmtime::Result<R>> + Send,
{
    let Ok(_place) = engine.places(options.gate.is_none()).acquire().await else {
        return (Err(StepError::Host { why: "the engine is shutting down".to_owned() }), Usage::default());
    };
    let limits = engine.limits();
    let started = Instant::now();
    let meter = Arc::new(StepMeter::new(options.requests));
    let hooks = match &options.gate {
        Some(gate) => Hooks::through(Arc::clone(gate), Arc::clone(&meter)),
        None => Hooks::deny_all(options.connector, Arc::clone(&meter), limits.refusals_logged),
    };
    let guest = Guest::new(options.connector, options.instance, options.redactor.clone(), options.clock, hooks, limits);
    let stderr = guest.stderr.clone();
    let mut store = Store::new(engine.wasmtime(), guest);
    store.limiter(|guest| &mut guest.memory);
    store.set_hostcall_fuel(limits.hostcall_bytes);
    store.set_max_component_handles(limits.handles);

    if engine.counts_instructions()
        && let Err(error) = store.set_fuel(u64::MAX)
    {
        return (Err(StepError::Host { why: error.to_string() }), Usage::default());
    }

    let cpu = CpuMeter::new();
    let most = options.cpu;
    let used = Arc::clone(&cpu);
    store.epoch_deadline_callback(move |_| {
        if used.spent() >= most {
            return Err(CpuUsedUp.into());
        }
        // A guest that computes lets others on this thread, timers among them, have their turn at every tick.
        Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
    });
    store.set_epoch_deadline(1);

    let work = async {
        let instance = pre.instantiate(&mut store).await.map_err(Raised::Starting)?;
        call(&instance, &mut store).await.map_err(Raised::Running)
    };
    let outcome = tokio::time::timeout(options.wall, Metered::new(work, Arc::clone(&cpu))).await;

    let memory = &store.data().memory;
    let result = match outcome {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(_)) if memory.refused() => Err(StepError::MemoryLimit { limit: limits.memory_bytes }),
        Ok(Err(raised)) => Err(raised.into_error(&options, &stderr.text(), limits.text_bytes)),
        Err(_) => Err(StepError::WallClock { limit: options.wall }),
    };
    let instructions = store.get_fuel().ok().map(|left| u64::MAX - left);
    let usage = Usage {
        requests: meter.requests(),
        request_times: meter.take_times(),
        bytes_received: meter.received(),
        wall: started.elapsed(),
        guest_cpu: Some(cpu.spent()),
        instructions,
        guest_peak_bytes: u64::try_from(memory.peak()).unwrap_or(u64::MAX),
        egress_denied: meter.denied(),
        reception: meter.reception(),
    };
    (result, usage)
}

/// Where an error came from.
enum Raised {
    /// Making the instance.
    Starting(wasmtime::Error),
    /// The call.
    Running(wasmtime::Error),
}

impl Raised {
    /// What is told about it.
    fn into_error(self, options: &StepOptions<'_>, stderr: &str, most: usize) -> StepError {
        let (error, starting) = match self {
            Self::Starting(error) => (error, true),
            Self::Running(error) => (error, false),
        };
        if error.is::<CpuUsedUp>() {
            return StepError::CpuLimit { limit: options.cpu };
        }
        let trap = error.downcast_ref::<wasmtime::Trap>();
        let mut what = match (trap, error.downcast_ref::<I32Exit>()) {
            (Some(trap), _) if recursion::is_too_deep(*trap, &error) => {
                format!("{trap}, below the beginning of memory, where recursion that is too deep ends")
            }
            (Some(trap), _) => trap.to_string(),
            (None, Some(I32Exit(status))) => format!("it ended itself with status {status}"),
            (None, None) => format!("{error:#}"),
        };
        if !stderr.is_empty() {
            what.push_str("; it wrote: ");
            what.push_str(stderr);
        }
        let what = clean(options.redactor, &what, most);
        if starting && trap.is_none() { StepError::Host { why: what } } else { StepError::Trap { what } }
    }
}
