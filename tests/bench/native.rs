//! The component against the same code compiled natively, without latency: time of the connector for one artifact.
//!
//! Natively the vendor is asked in process and the time it takes is left out. Of the component, the time in the guest
//! counts: WebAssembly, and the host's work in calls that the guest makes (headers, bodies, policy).
//! Not guaranteed: that nothing else used the CPU meanwhile; both are wall-clock times of code that does not wait.

use std::cell::Cell;
use std::time::{Duration, Instant};

use host_harness::connectors::Tenant;
use host_harness::contract::types;
use insightidr_simulator::{Outcome, Request as SimulatorRequest, Simulator};
use rapid7_insightidr::api::transport::{Clock, Request, Response, Transport, TransportError, TransportErrorKind};
use rapid7_insightidr::collect;
use rapid7_insightidr::contract::{Batch, Budget, Setting as NativeSetting, SettingValue};
use rapid7_insightidr::settings::Settings;
use rapid7_insightidr::times::Utc;

use crate::report::Report;
use crate::setting::{KEY, Setting, Vendor, settings, simulator};

/// Investigations.
const INVESTIGATIONS: usize = 400;
/// Alerts of each.
const ALERTS: usize = 5;
/// Pairs of collections.
const RUNS: usize = 7;

/// The simulator as a transport that measures itself.
struct InProcess<'a> {
    simulator: &'a Simulator,
    /// Time spent in the simulator.
    outside: Cell<Duration>,
}

impl Transport for InProcess<'_> {
    async fn send(&self, request: &Request) -> Result<Response, TransportError> {
        let started = Instant::now();
        let mut asked = SimulatorRequest::get("us", KEY, request.target.clone());
        if let Some(version) = request.accept_version {
            asked.headers.insert("accept-version", http::HeaderValue::from_static(version));
        }
        let outcome = self.simulator.handle(asked);
        self.outside.set(self.outside.get() + started.elapsed());
        let Outcome::Reply(reply) = outcome else {
            let message = "the simulator broke off".to_owned();
            return Err(TransportError { kind: TransportErrorKind::Connection, message, sent: true });
        };
        let text = |value: &http::HeaderValue| value.to_str().ok().map(str::to_owned);
        let headers = reply.headers.iter().filter_map(|(name, value)| Some((name.as_str().to_owned(), text(value)?)));
        Ok(Response { status: reply.status.as_u16(), headers: headers.collect(), body: reply.body.to_vec() })
    }
}

impl Clock for InProcess<'_> {
    fn now(&self) -> Utc {
        Utc(i64::try_from(self.simulator.now().unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX))
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }

    async fn sleep(&self, _duration: Duration) {}
}

/// Measures and reports. Gives the batches, as the host has them, for others to use.
pub(crate) fn measure(setting: &Setting, report: &mut Report) -> anyhow::Result<Vec<types::Batch>> {
    let vendor = Vendor::of(simulator(INVESTIGATIONS, ALERTS, Duration::ZERO))?;
    let connector = setting.load(true)?;
    let (mut natives, mut components, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let mut batches = Vec::new();
    for _ in 0..RUNS {
        let native = native(&vendor.simulator)?;
        let tenant = setting.tenant(&connector, &vendor)?;
        let (component, collected) = setting.runtime.block_on(component(&tenant))?;
        natives.push(native);
        components.push(component);
        ratios.push(component / native);
        batches = collected;
    }
    report.add("collecting natively, for one artifact", "us", None, natives);
    report.add("collecting in the component, for one artifact", "us", None, components);
    report.add("collecting, component : native", "ratio", Some("<= 1.15"), ratios);
    Ok(batches)
}

/// Microseconds for one artifact, collected natively.
fn native(simulator: &Simulator) -> anyhow::Result<f64> {
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
    let settings = Settings::parse(&given).map_err(|errors| anyhow::anyhow!("settings: {errors:?}"))?;
    let types::Budget { requests, artifacts, artifact_bytes, wall_time_milliseconds } = BUDGET;
    let budget = Budget { requests, artifacts, artifact_bytes, wall_time_milliseconds };
    let link = InProcess { simulator, outside: Cell::new(Duration::ZERO) };
    let (mut inside, mut count, mut checkpoint) = (Duration::ZERO, 0, None::<Vec<u8>>);
    loop {
        link.outside.set(Duration::ZERO);
        let started = Instant::now();
        let step = collect::step(&link, &link, &settings, checkpoint.clone(), budget);
        let result = pollster::block_on(step);
        inside += started.elapsed().saturating_sub(link.outside.get());
        let batch: Batch = result.map_err(|failure| anyhow::anyhow!("native step: {failure:?}"))?;
        count += batch.artifacts.len();
        checkpoint = Some(batch.checkpoint);
        if !batch.more {
            return for_one(inside, count);
        }
    }
}

/// Microseconds in the guest for one artifact, and the batches.
async fn component(tenant: &Tenant) -> anyhow::Result<(f64, Vec<types::Batch>)> {
    let (mut inside, mut count, mut checkpoint, mut batches) = (Duration::ZERO, 0, None, Vec::new());
    loop {
        let (result, usage) = tenant.poll(checkpoint, BUDGET).await;
        let batch = result?;
        inside += usage.guest_cpu.unwrap_or_default();
        count += batch.artifacts.len();
        checkpoint = Some(batch.checkpoint.clone());
        let more = batch.more;
        batches.push(batch);
        if !more {
            return Ok((for_one(inside, count)?, batches));
        }
    }
}

/// The budget of a step on both sides.
const BUDGET: types::Budget =
    types::Budget { requests: 500, artifacts: 5_000, artifact_bytes: 16 << 20, wall_time_milliseconds: 60_000 };

/// Microseconds for one artifact, of those that are expected.
fn for_one(time: Duration, count: usize) -> anyhow::Result<f64> {
    let expected = INVESTIGATIONS * (1 + ALERTS);
    anyhow::ensure!(count == expected, "{count} artifacts were collected and not {expected}");
    Ok(time.as_secs_f64() * 1e6 / f64::from(u32::try_from(count)?))
}
