//! What the connector costs, against the figures that are kept in `budgets.toml`.
//!
//! Instructions and bytes, not times: they are the same on every machine, so a change that costs shows at once and one
//! that does not never does.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::common::host::{connector, key};
use host_harness::connectors::{Connector, Tenant, TenantOptions};
use host_harness::contract::types::{Batch, Budget, Setting, SettingValue};
use host_harness::egress::{NetworkOptions, Routes, Secrets};
use host_harness::sandbox::{Clock, Engine, EngineOptions, Usage};
use insightidr_simulator::{
    AlertSpec, ApiKey, ClockMode, InvestigationSpec, Server, Simulator, SimulatorConfig, World, WorldConfig,
};
use rapid7_insightidr::collect::checkpoint::{Checkpoint, Known, MAX_KNOWN};
use rapid7_insightidr::times::Utc;
use time::OffsetDateTime;

/// How far a figure may be off its budget.
const TOLERANCE: f64 = 0.05;

const BUDGET: Budget =
    Budget { requests: 500, artifacts: 5_000, artifact_bytes: 16 << 20, wall_time_milliseconds: 60_000 };

/// The vendor, and a tenant whose instructions are counted.
struct Stage {
    simulator: Simulator,
    clock: Clock,
    tenant: Tenant,
    _server: Server,
}

fn settings() -> Vec<Setting> {
    vec![
        Setting { key: "region".to_owned(), value: SettingValue::Text("us".to_owned()) },
        // One after the other, so that every run takes the same way.
        Setting { key: "max_concurrent_requests".to_owned(), value: SettingValue::Integer(1) },
    ]
}

impl Stage {
    /// Investigations with 3 alerts each, all of them there.
    async fn of(connector: &Connector, investigations: usize) -> Self {
        let config = WorldConfig {
            investigations,
            old_investigations: 0,
            alerts_per_investigation: 3,
            exact_alerts: true,
            growth_per_day: 0,
            standalone_alerts: 0,
            changes: false,
            longest_delay: Duration::ZERO,
            ..WorldConfig::default()
        };
        let start = config.start + Duration::from_hours(6);
        Self::with(connector, World::generate(&config), start, settings()).await
    }

    async fn with(connector: &Connector, world: World, start: OffsetDateTime, settings: Vec<Setting>) -> Self {
        let keys = vec![ApiKey::new("us", key("us"))];
        let served =
            SimulatorConfig { keys, clock: ClockMode::Frozen, start: Some(start), ..SimulatorConfig::default() };
        let simulator = Simulator::new(world, served);
        let server = Server::start(simulator.clone()).await.unwrap();
        let clock = Clock::virtual_at(simulator.now());
        let mut secrets = Secrets::new();
        secrets.insert("api_key", key("us").into()).unwrap();
        let options = TenantOptions {
            name: "budget".to_owned(),
            settings,
            secrets,
            routes: Routes::parse([format!("us.api.insight.rapid7.com={}", server.url())]).unwrap(),
            clock: clock.clone(),
            network: NetworkOptions::default(),
        };
        let tenant = connector.tenant(options).await.unwrap();
        Self { simulator, clock, tenant, _server: server }
    }

    fn advance(&self, by: Duration) {
        self.simulator.advance(by.try_into().unwrap());
        self.clock.advance(by);
    }

    /// A whole cycle: the checkpoint after it, the artifacts, and what was used.
    async fn cycle(&self, mut checkpoint: Option<Vec<u8>>) -> (Vec<u8>, usize, Usage) {
        let (mut artifacts, mut instructions, mut peak) = (0, 0, 0);
        loop {
            let (batch, usage) = self.step(checkpoint).await;
            artifacts += batch.artifacts.len();
            instructions += usage.instructions.unwrap();
            peak = usage.guest_peak_bytes.max(peak);
            if !batch.more {
                let usage = Usage { instructions: Some(instructions), guest_peak_bytes: peak, ..usage };
                return (batch.checkpoint, artifacts, usage);
            }
            checkpoint = Some(batch.checkpoint);
        }
    }

    /// One step.
    async fn step(&self, checkpoint: Option<Vec<u8>>) -> (Batch, Usage) {
        let (result, usage) = self.tenant.poll(checkpoint, BUDGET).await;
        (result.unwrap(), usage)
    }
}

/// A checkpoint with as much remembered as it can: closed investigations with an alert each.
fn large(checkpoint: &[u8]) -> Vec<u8> {
    let mut checkpoint = Checkpoint::decode(checkpoint.to_vec()).unwrap();
    let now = checkpoint.watermark.unwrap().0;
    for number in 0..u64::try_from(MAX_KNOWN - checkpoint.known.len()).unwrap() {
        // Spread as hashes and short ids are.
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let known = Known {
            // Older than all that is there, so that the bound costs none of those.
            created: now - i64::try_from(30 * 86_400 + number).unwrap() * 1_000_000,
            fingerprint: mixed.rotate_left(17),
            alerts: vec![mixed],
            listed: checkpoint.number,
            ..Known::default()
        };
        let organization = "4be49362-6b0f-4a5b-9bd9-5ae4aef0ea9e";
        checkpoint
            .known
            .insert(format!("rrn:investigation:us:{organization}:investigation:{:012X}", mixed >> 16), known);
    }
    checkpoint.relisted = Some(Utc(now));
    checkpoint.encode().unwrap()
}

/// The figures of today, by table and name.
async fn measured() -> BTreeMap<(&'static str, &'static str), u64> {
    let engine = engine();
    let connector_file = connector();
    let connector = Connector::load(&engine, &connector_file, None).await.unwrap();
    let mut figures = BTreeMap::new();
    figures.insert(("component", "bytes"), std::fs::metadata(&connector_file).unwrap().len());

    let stage = Stage::of(&connector, 100).await;
    let (checkpoint, artifacts, usage) = stage.cycle(None).await;
    assert!(artifacts >= 400, "{artifacts}");
    figures.insert(("instructions", "first_cycle"), usage.instructions.unwrap());
    figures.insert(("memory", "first_cycle"), usage.guest_peak_bytes);

    // Old enough that nothing more is expected of anything.
    stage.advance(Duration::from_hours(2));
    let (checkpoint, _, _) = stage.cycle(Some(checkpoint)).await;
    stage.advance(Duration::from_mins(5));
    let (checkpoint, artifacts, usage) = stage.cycle(Some(checkpoint)).await;
    assert_eq!(artifacts, 0);
    figures.insert(("instructions", "quiet_cycle"), usage.instructions.unwrap());

    stage.advance(Duration::from_mins(5));
    let (_, artifacts, usage) = stage.cycle(Some(large(&checkpoint))).await;
    assert_eq!(artifacts, 0);
    figures.insert(("instructions", "quiet_cycle_large"), usage.instructions.unwrap());
    figures.insert(("memory", "quiet_cycle_large"), usage.guest_peak_bytes);
    figures
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_budget_is_passed() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/budgets.toml");
    let budgets: toml::Table = std::fs::read_to_string(file).unwrap().parse().unwrap();
    let mut said = String::new();
    let figures = measured().await;
    for ((table, name), figure) in &figures {
        let budget = budgets.get(*table).and_then(|table| table.get(*name)).and_then(toml::Value::as_integer);
        let budget = budget.unwrap_or_else(|| panic!("budgets.toml has no {table}.{name}; it is {figure} today"));
        #[expect(clippy::cast_precision_loss, reason = "a ratio")]
        let ratio = *figure as f64 / budget as f64;
        println!("{table}.{name}: {figure}, {ratio:.3} of its budget");
        let fell = ratio < 1.0 - TOLERANCE && *table != "memory";
        if fell || ratio > 1.0 + TOLERANCE {
            let why = if fell { "less than 95 % of its budget: lower that" } else { "more than it may be" };
            writeln!(said, "{table}.{name} is {figure}, its budget {budget}: {why}").unwrap();
        }
    }
    let known: usize = budgets.values().filter_map(toml::Value::as_table).map(toml::Table::len).sum();
    assert_eq!(known, figures.len(), "budgets.toml has figures that nobody measures");
    assert!(
        said.is_empty(),
        "\n{said}To look where it goes, or to change a budget on purpose, see docs/performance.md.\n"
    );
}

fn engine() -> Engine {
    Engine::new(EngineOptions { count_instructions: true, pooling: false, ..EngineOptions::default() }).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_of_a_step_does_not_grow_with_the_backlog() {
    let engine = engine();
    let connector = Connector::load(&engine, &connector(), None).await.unwrap();
    let stage = Stage::of(&connector, 7_500).await;
    // What the steps with little to remember take, and those with as much as can be remembered. Steps differ by what they
    // happen to find, so many are compared and not the one that found most.
    let (mut small, mut large) = (Vec::new(), Vec::new());
    let mut checkpoint: Option<Vec<u8>> = None;
    loop {
        let size = checkpoint.as_ref().map_or(0, Vec::len);
        let (batch, usage) = stage.step(checkpoint).await;
        match size {
            // The last step is as small as it happens to be.
            _ if !batch.more => break,
            0..60_000 => small.push(usage.guest_peak_bytes),
            400_000.. => large.push(usage.guest_peak_bytes),
            _ => {}
        }
        checkpoint = Some(batch.checkpoint);
    }
    let median = |peaks: &mut Vec<u64>| {
        assert!(peaks.len() >= 5, "{peaks:?}");
        peaks.sort_unstable();
        peaks[peaks.len() / 2]
    };
    let (small, large) = (median(&mut small), median(&mut large));
    assert!(large * 5 <= small * 6, "{small} bytes at the beginning, {large} with all that can be remembered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn evidence_of_any_size_fits_into_the_memory_of_a_step() {
    let engine = engine();
    let connector = Connector::load(&engine, &connector(), None).await.unwrap();
    let mut world = World::empty();
    let start = time::macros::datetime!(2026-11-01 00:00 UTC);
    world.set_start(start);
    let created = start - time::Duration::days(1);
    let investigation = world.add_investigation(InvestigationSpec::new(created, created)).unwrap();
    let pieces = |count: usize, bytes: usize| {
        let piece = serde_json::json!({ "rrn": "rrn:alerts:us1:o:evidence:1:0", "data": "\"\\".repeat(bytes / 4) });
        vec![piece.to_string(); count]
    };
    // A hundred alerts with 300 KB each, and among them forty with a page of 5 MB.
    for number in 0..100 {
        let at = created + time::Duration::seconds(number);
        let evidence = if number % 5 < 2 { pieces(50, 100_000) } else { pieces(3, 100_000) };
        world.add_alert(Some(investigation), AlertSpec { evidence: Some(evidence), ..AlertSpec::new(at, at) }).unwrap();
    }
    let mut settings = settings();
    settings[1].value = SettingValue::Integer(32);
    let stage = Stage::with(&connector, world, start, settings).await;
    let (_, artifacts, usage) = stage.cycle(None).await;
    assert_eq!(artifacts, 101);
    assert!(usage.guest_peak_bytes < 56 << 20, "{} of 64 MiB", usage.guest_peak_bytes);
}
