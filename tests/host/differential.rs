//! The connector run natively and as a component: the same artifacts and the
//! same checkpoints, byte for byte.

use std::time::Duration;

use crate::common::host::{connector, key};
use crate::common::native;
use host_harness::connectors::{Connector, TenantOptions};
use host_harness::contract::types::{Budget, Setting, SettingValue};
use host_harness::egress::{NetworkOptions, Routes, Secrets};
use host_harness::sandbox::{Clock, Engine, EngineOptions, StepError};
use insightidr_simulator::{
    ApiKey, ClockMode, Fault, FaultProfile, Rule, Server, Simulator, SimulatorConfig, World, WorldConfig,
};

/// Requests at once, and of a step: one at a time through many steps, and many
/// at a time through few. (Which of many requests a budget cuts off is a matter of
/// which answer comes first.)
const WAYS: [Way; 5] = [
    Way { at_once: 1, requests: 90, all_streams: false, faults: false },
    Way { at_once: 8, requests: 2_000, all_streams: false, faults: false },
    Way { at_once: 1, requests: 120, all_streams: true, faults: false },
    Way { at_once: 8, requests: 2_000, all_streams: true, faults: false },
    // One at a time, so that both meet the same fault at the same request.
    Way { at_once: 1, requests: 200, all_streams: true, faults: true },
];

/// How a tenant is collected.
struct Way {
    at_once: i64,
    requests: u32,
    all_streams: bool,
    faults: bool,
}

/// What goes wrong, now and then, and passes. Not what a transport sees: both have their own.
fn faults() -> FaultProfile {
    let status = |status, retry_after: Option<&str>| Fault::Status {
        status,
        body: None,
        headers: Default::default(),
        retry_after: retry_after.map(str::to_owned),
    };
    FaultProfile::new([
        Rule::new("/idr/v2/investigations/*/alerts", Fault::EmptyObject {}).after(5).times(1),
        Rule::new("/idr/v2/investigations/*/alerts", status(500, None)).after(20).times(4),
        Rule::new("/idr/at/alerts/*/evidences", Fault::Html {}).after(3).times(2),
        Rule::new("/idr/at/alerts/*/actors", Fault::InvalidUtf8 {}).after(8).times(1),
        Rule::new("/idr/at/alerts/ops/rrns", Fault::MissingRows { rows: 2 }).after(1).times(2),
        Rule::new("/idr/v1/*", status(429, Some("5"))).after(30).times(1),
        Rule::new("/idr/v2/investigations/*", status(404, None)).after(2).times(1),
    ])
}

/// Settings that switch on every stream.
const STREAMS: [&str; 3] = ["collect_comments", "collect_restricted_evidence", "collect_product_alerts"];

#[tokio::test(flavor = "multi_thread")]
async fn natively_and_as_a_component_artifacts_and_checkpoints_are_the_same_to_the_byte() {
    let engine = Engine::new(EngineOptions::default()).unwrap();
    let connector = Connector::load(&engine, &connector(), None).await.unwrap();
    for (Way { at_once, requests, all_streams, faults: with_faults }, seed) in WAYS.into_iter().zip(91..) {
        let world = || {
            World::generate(&WorldConfig {
                seed,
                investigations: 60,
                standalone_alerts: 12,
                growth_per_day: 200,
                restricted_evidence: all_streams,
                ..WorldConfig::default()
            })
        };
        let faults = if with_faults { faults() } else { FaultProfile::default() };
        let keys = vec![ApiKey::new("us", key("us"))];
        let served =
            SimulatorConfig { keys, clock: ClockMode::Frozen, faults: faults.clone(), ..SimulatorConfig::default() };
        let simulator = Simulator::new(world(), served);
        let server = Server::start(simulator.clone()).await.unwrap();
        let clock = Clock::virtual_at(simulator.now());
        let mut settings = vec![
            Setting { key: "region".to_owned(), value: SettingValue::Text("us".to_owned()) },
            Setting { key: "max_concurrent_requests".to_owned(), value: SettingValue::Integer(at_once) },
        ];
        let streams = STREAMS.iter().filter(|_| all_streams);
        settings
            .extend(streams.clone().map(|key| Setting { key: (*key).to_owned(), value: SettingValue::Boolean(true) }));
        let mut secrets = Secrets::new();
        secrets.insert("api_key", key("us").into()).unwrap();
        let sandboxed = connector
            .tenant(TenantOptions {
                name: "us".to_owned(),
                settings: settings.clone(),
                secrets,
                routes: Routes::parse([format!("us.api.insight.rapid7.com={}", server.url())]).unwrap(),
                clock: clock.clone(),
                network: NetworkOptions::default(),
            })
            .await
            .unwrap();
        let mut native = native::Tenant::with(world(), SimulatorConfig { faults, ..SimulatorConfig::default() });
        native.settings.extend(streams.map(|key| rapid7_insightidr::contract::Setting {
            key: (*key).to_owned(),
            value: rapid7_insightidr::contract::SettingValue::Boolean(true),
        }));
        native.settings.push(rapid7_insightidr::contract::Setting {
            key: "max_concurrent_requests".to_owned(),
            value: rapid7_insightidr::contract::SettingValue::Integer(at_once),
        });
        native.budget.requests = requests;
        let budget = Budget {
            requests,
            artifacts: native.budget.artifacts,
            artifact_bytes: native.budget.artifact_bytes,
            wall_time_milliseconds: native.budget.wall_time_milliseconds,
        };
        let mut checkpoint = None;
        for round in 0..3 {
            for step in 0..100 {
                let what = format!("seed {seed}, round {round}, step {step}");
                let natively = native.step();
                let by_component = sandboxed.poll(checkpoint.clone(), budget).await.0;
                let (natively, batch) = match (natively, by_component) {
                    (Ok(natively), Ok(batch)) => (natively, batch),
                    (Err(natively), Err(failure)) => {
                        assert!(with_faults, "{what}: {natively:?}");
                        let StepError::Failure(failure) = failure else { panic!("{what}: {failure:?}") };
                        assert_eq!(failure.message, natively.message, "{what}");
                        break;
                    }
                    (natively, by_component) => {
                        panic!("{what}: natively {natively:?}, as a component {by_component:?}")
                    }
                };
                let pairs = batch.artifacts.iter().zip(&natively.artifacts);
                for (by_component, by_native) in pairs {
                    assert_eq!(by_component.json, by_native.json, "{what}");
                    assert_eq!((&by_component.id, &by_component.stream), (&by_native.id, &by_native.stream), "{what}");
                }
                assert_eq!(batch.artifacts.len(), natively.artifacts.len(), "{what}");
                assert!(batch.checkpoint == natively.checkpoint, "{what}: the checkpoints differ");
                assert_eq!(batch.more, natively.more, "{what}");
                assert_eq!(batch.retry_after_seconds, natively.retry_after_seconds, "{what}");
                checkpoint = Some(batch.checkpoint);
                if !batch.more {
                    break;
                }
                // Both wait as they are told.
                let wait = Duration::from_secs(batch.retry_after_seconds.unwrap_or_default());
                simulator.advance(wait.try_into().unwrap());
                clock.advance(wait);
                native.advance(wait);
                assert!(step < 99, "{what}: a cycle ends");
            }
            let pause = Duration::from_secs(15 * 60);
            simulator.advance(pause.try_into().unwrap());
            clock.advance(pause);
            native.advance(pause);
        }
        assert!(native.store.len() > 100, "the world has something to compare");
    }
}
