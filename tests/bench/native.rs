//! The component against the same code compiled natively, over the same transport: the host's own gate, with its policy,
//! its HTTP client and its search for secrets. What is left between the two is WebAssembly and the boundary around it.
//!
//! Time on the CPU is that of the collecting future while it is polled, on both sides by the same clock: the connector, and
//! what of the transport runs in its calls. The connector alone, natively and with answers from memory, stands beside
//! it.
//! Not guaranteed: that nothing else used the CPU meanwhile.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use host_harness::connectors::Tenant;
use host_harness::contract::types;
use host_harness::egress::{Gate, GateOptions, Hooks, NetworkOptions, Policy, Redactor, Routes, Secrets, StepMeter};
use host_harness::sandbox::Limits;
use http_body_util::{BodyExt, Empty, Full};
use insightidr_simulator::{Outcome, Request as SimulatorRequest, Simulator};
use rapid7_insightidr::api::transport::{
    Clock, Method, Request, Response, Transport, TransportError, TransportErrorKind,
};
use rapid7_insightidr::collect;
use rapid7_insightidr::contract::{Batch, Budget, Setting as NativeSetting, SettingValue};
use rapid7_insightidr::settings::Settings;
use rapid7_insightidr::times::Utc;
use wasmtime_wasi_http::{WasiBody, WasiHttpHooks};

use crate::cycle::LATENCY;
use crate::report::Report;
use crate::setting::{KEY, Setting, Vendor, settings, simulator};

/// Investigations.
const INVESTIGATIONS: usize = 400;
/// Alerts of each.
const ALERTS: usize = 5;
/// Pairs of collections.
const RUNS: usize = 9;
/// Investigations, with one alert each, where the vendor takes its time.
const FEW: usize = 100;

/// Measures and reports. Gives the batches, as the host has them, for others to use.
pub(crate) fn measure(setting: &Setting, report: &mut Report) -> anyhow::Result<Vec<types::Batch>> {
    let connector = setting.load(true)?;
    let vendor = Vendor::of(simulator(INVESTIGATIONS, ALERTS, Duration::ZERO))?;
    let (mut alone, mut natives, mut components, mut ratios) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut batches = Vec::new();
    for _ in 0..RUNS {
        alone.push(from_memory(&vendor.simulator)?);
        let tenant = setting.tenant(&connector, &vendor)?;
        let link = Through::of(&tenant, &vendor)?;
        let native = setting.runtime.block_on(native(&link))?.of_each(INVESTIGATIONS * (1 + ALERTS))?;
        let (spent, collected) = setting.runtime.block_on(component(&tenant))?;
        let component = spent.of_each(INVESTIGATIONS * (1 + ALERTS))?;
        natives.push(native);
        components.push(component);
        ratios.push(component / native);
        batches = collected;
    }
    report.add("the connector alone, natively, for one artifact", "us", None, alone);
    report.add("collecting natively over the host's transport, for one artifact", "us", None, natives);
    report.add("collecting in the component, for one artifact", "us", None, components);
    report.add("collecting, component : native, on the CPU", "ratio", Some("<= 1.15"), ratios);

    let vendor = Vendor::of(simulator(FEW, 1, LATENCY))?;
    let (mut natives, mut ratios) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let tenant = setting.tenant(&connector, &vendor)?;
        let link = Through::of(&tenant, &vendor)?;
        let native = setting.runtime.block_on(native(&link))?;
        // Connections of its own, as the native one had.
        let tenant = setting.tenant(&connector, &vendor)?;
        let (component, _) = setting.runtime.block_on(component(&tenant))?;
        natives.push(native.wall.as_secs_f64() * 1e3);
        ratios.push(component.wall.as_secs_f64() / native.wall.as_secs_f64());
    }
    report.add("100 alert calls at 50 ms, 8 at a time, natively", "ms", None, natives);
    report.add("the same, component : native, in time", "ratio", Some("<= 1.03"), ratios);
    Ok(batches)
}

/// What a collection took.
#[derive(Default)]
struct Spent {
    cpu: Duration,
    wall: Duration,
    artifacts: usize,
}

impl Spent {
    /// Microseconds on the CPU for one artifact, of those that are expected.
    fn of_each(&self, expected: usize) -> anyhow::Result<f64> {
        anyhow::ensure!(self.artifacts == expected, "{} artifacts were collected and not {expected}", self.artifacts);
        Ok(self.cpu.as_secs_f64() * 1e6 / f64::from(u32::try_from(expected)?))
    }
}

/// A future and the time for which it has been polled.
struct Timed<F> {
    future: Pin<Box<F>>,
    spent: Duration,
}

impl<F: Future> Future for Timed<F> {
    type Output = (F::Output, Duration);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let started = Instant::now();
        let result = self.future.as_mut().poll(context);
        self.spent += started.elapsed();
        let spent = self.spent;
        result.map(|value| (value, spent))
    }
}

/// The host's transport for native code: a gate like the tenant's.
struct Through {
    gate: Arc<Gate>,
    simulator: Simulator,
    began: Instant,
}

impl Through {
    fn of(tenant: &Tenant, vendor: &Vendor) -> anyhow::Result<Self> {
        let mut secrets = Secrets::new();
        secrets.insert("api_key", KEY.into())?;
        let options = GateOptions {
            connector: "native",
            instance: "bench",
            policy: Policy::from_plan(&tenant.plan().egress),
            credentials: vec![(http::HeaderName::from_static("x-api-key"), http::HeaderValue::from_static(KEY))],
            redactor: Redactor::new(&secrets),
            routes: &Routes::parse([format!("us.api.insight.rapid7.com={}", vendor.url())])?,
            // Without files nothing is waited for.
            network: &pollster::block_on(NetworkOptions::default().read())?,
            limits: &Limits::default(),
        };
        // The route leads to an address, so no name is ever looked up.
        let lookup = Arc::new(|_| -> futures::future::BoxFuture<'static, _> { Box::pin(async { Ok(Vec::new()) }) });
        let gate = Arc::new(Gate::new(options, lookup)?);
        Ok(Self { gate, simulator: vendor.simulator.clone(), began: Instant::now() })
    }
}

/// A failure that the benchmark does not expect.
fn broken(why: impl std::fmt::Display) -> TransportError {
    TransportError { kind: TransportErrorKind::Connection, message: why.to_string(), sent: true }
}

impl Transport for Through {
    async fn send(&self, request: &Request, _patience: Duration) -> Result<Response, TransportError> {
        let mut outgoing = http::Request::builder()
            .method(request.method.name())
            .uri(format!("https://us.api.insight.rapid7.com{}", request.target))
            .header("accept", "application/json");
        if let Some(version) = request.accept_version {
            outgoing = outgoing.header("accept-version", version);
        }
        if request.method == Method::Post {
            outgoing = outgoing.header("content-type", "application/json");
        }
        let body: WasiBody = match &request.body {
            Some(body) => Full::new(body.clone().into()).map_err(|never| match never {}).boxed_unsync(),
            None => Empty::new().map_err(|never| match never {}).boxed_unsync(),
        };
        let outgoing = outgoing.body(body).map_err(broken)?;
        let mut hooks = Hooks::through(Arc::clone(&self.gate), Arc::new(StepMeter::new(1)));
        let sent = Box::into_pin(hooks.send_request(outgoing, None, Box::new(async { Ok(()) })));
        let (response, _) = sent.await.map_err(|error| broken(format!("{error:?}")))?;
        let (parts, body) = response.into_parts();
        let text = |value: &http::HeaderValue| value.to_str().ok().map(str::to_owned);
        let headers = parts.headers.iter().filter_map(|(name, value)| Some((name.as_str().to_owned(), text(value)?)));
        let body = body.collect().await.map_err(|error| broken(format!("{error:?}")))?.to_bytes();
        Ok(Response { status: parts.status.as_u16(), headers: headers.collect(), body: body.into() })
    }
}

impl Clock for Through {
    fn now(&self) -> Utc {
        now(&self.simulator)
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// The simulator's time.
fn now(simulator: &Simulator) -> Utc {
    Utc(i64::try_from(simulator.now().unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX))
}

/// The settings for the connector compiled natively.
fn native_settings() -> anyhow::Result<Settings> {
    let given: Vec<NativeSetting> = settings()
        .into_iter()
        .map(|setting| NativeSetting {
            key: setting.key,
            value: match setting.value {
                types::SettingValue::Text(text) => SettingValue::Text(text),
                types::SettingValue::Integer(number) => SettingValue::Integer(number),
                types::SettingValue::Boolean(choice) => SettingValue::Boolean(choice),
            },
        })
        .collect();
    Settings::parse(&given).map_err(|errors| anyhow::anyhow!("settings: {errors:?}"))
}

/// A collection natively.
async fn native(link: &Through) -> anyhow::Result<Spent> {
    let settings = native_settings()?;
    let (mut spent, mut checkpoint) = (Spent::default(), None);
    let began = Instant::now();
    loop {
        let step = Box::pin(collect::step(link, link, &settings, checkpoint.take(), native_budget()));
        let (result, cpu) = Timed { future: step, spent: Duration::ZERO }.await;
        let batch: Batch = result.map_err(|failure| anyhow::anyhow!("native step: {failure:?}"))?;
        spent.cpu += cpu;
        spent.artifacts += batch.artifacts.len();
        checkpoint = Some(batch.checkpoint);
        if !batch.more {
            spent.wall = began.elapsed();
            return Ok(spent);
        }
    }
}

/// A collection in the component, and the batches.
async fn component(tenant: &Tenant) -> anyhow::Result<(Spent, Vec<types::Batch>)> {
    let (mut spent, mut checkpoint, mut batches) = (Spent::default(), None, Vec::new());
    let began = Instant::now();
    loop {
        let (result, usage) = tenant.poll(checkpoint, BUDGET).await;
        let batch = result?;
        spent.cpu += usage.guest_cpu.unwrap_or_default();
        spent.artifacts += batch.artifacts.len();
        checkpoint = Some(batch.checkpoint.clone());
        let more = batch.more;
        batches.push(batch);
        if !more {
            spent.wall = began.elapsed();
            return Ok((spent, batches));
        }
    }
}

/// The simulator as a transport that measures itself.
struct InProcess<'a> {
    simulator: &'a Simulator,
    /// Time spent in the simulator.
    outside: Cell<Duration>,
}

impl Transport for InProcess<'_> {
    async fn send(&self, request: &Request, _patience: Duration) -> Result<Response, TransportError> {
        let started = Instant::now();
        let mut asked = SimulatorRequest::get("us", KEY, request.target.clone());
        if let Some(version) = request.accept_version {
            asked.headers.insert("accept-version", http::HeaderValue::from_static(version));
        }
        let outcome = self.simulator.handle(asked);
        self.outside.set(self.outside.get() + started.elapsed());
        let Outcome::Reply(reply) = outcome else { return Err(broken("the simulator broke off")) };
        let text = |value: &http::HeaderValue| value.to_str().ok().map(str::to_owned);
        let headers = reply.headers.iter().filter_map(|(name, value)| Some((name.as_str().to_owned(), text(value)?)));
        Ok(Response { status: reply.status.as_u16(), headers: headers.collect(), body: reply.body.to_vec() })
    }
}

impl Clock for InProcess<'_> {
    fn now(&self) -> Utc {
        now(self.simulator)
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }

    async fn sleep(&self, _duration: Duration) {}
}

/// Microseconds for one artifact, collected natively with answers from memory.
fn from_memory(simulator: &Simulator) -> anyhow::Result<f64> {
    let settings = native_settings()?;
    let link = InProcess { simulator, outside: Cell::new(Duration::ZERO) };
    let (mut spent, mut checkpoint) = (Spent::default(), None);
    loop {
        link.outside.set(Duration::ZERO);
        let started = Instant::now();
        let result = pollster::block_on(collect::step(&link, &link, &settings, checkpoint.take(), native_budget()));
        spent.cpu += started.elapsed().saturating_sub(link.outside.get());
        let batch: Batch = result.map_err(|failure| anyhow::anyhow!("native step: {failure:?}"))?;
        spent.artifacts += batch.artifacts.len();
        checkpoint = Some(batch.checkpoint);
        if !batch.more {
            return spent.of_each(INVESTIGATIONS * (1 + ALERTS));
        }
    }
}

/// The budget of a step on both sides.
const BUDGET: types::Budget =
    types::Budget { requests: 500, artifacts: 5_000, artifact_bytes: 16 << 20, wall_time_milliseconds: 60_000 };

/// The same in the connector's own types.
const fn native_budget() -> Budget {
    let types::Budget { requests, artifacts, artifact_bytes, wall_time_milliseconds } = BUDGET;
    Budget { requests, artifacts, artifact_bytes, wall_time_milliseconds }
}
