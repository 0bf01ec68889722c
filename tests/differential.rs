//! The connector run natively and as a component: the same artifacts and the
//! same checkpoints, byte for byte.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::time::Duration;

use common::host::{connector, key};
use common::native;
use host_harness::connectors::{Connector, TenantOptions};
use host_harness::contract::types::{Budget, Setting, SettingValue};
use host_harness::egress::{NetworkOptions, Routes, Secrets};
use host_harness::sandbox::{Clock, Engine, EngineOptions};
use insightidr_simulator::{ApiKey, ClockMode, Server, Simulator, SimulatorConfig, World, WorldConfig};

/// Requests at once, and of a step: one at a time through many steps, and many
/// at a time through few. (Which of many requests a budget cuts off is a matter of
/// which answer comes first.)
const WAYS: [(i64, u32); 2] = [(1, 90), (8, 2_000)];

#[tokio::test(flavor = "multi_thread")]
async fn natively_and_as_a_component_artifacts_and_checkpoints_are_the_same_to_the_byte() {
    let engine = Engine::new(EngineOptions::default()).unwrap();
    let connector = Connector::load(&engine, &connector(), None).await.unwrap();
    for ((at_once, requests), seed) in WAYS.into_iter().zip([91, 92]) {
        let world = || {
            World::generate(&WorldConfig {
                seed,
                investigations: 60,
                standalone_alerts: 12,
                growth_per_day: 200,
                ..WorldConfig::default()
            })
        };
        let keys = vec![ApiKey::new("us", key("us"))];
        let simulator =
            Simulator::new(world(), SimulatorConfig { keys, clock: ClockMode::Frozen, ..SimulatorConfig::default() });
        let server = Server::start(simulator.clone()).await.unwrap();
        let clock = Clock::virtual_at(simulator.now());
        let settings = vec![
            Setting { key: "region".to_owned(), value: SettingValue::Text("us".to_owned()) },
            Setting { key: "max_concurrent_requests".to_owned(), value: SettingValue::Integer(at_once) },
        ];
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
        let mut native = native::Tenant::of(world());
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
                let natively = native.step().unwrap();
                let batch = sandboxed.poll(checkpoint.clone(), budget).await.0.unwrap();
                let pairs = batch.artifacts.iter().zip(&natively.artifacts);
                for (by_component, by_native) in pairs {
                    assert_eq!(by_component.json, by_native.json, "{what}");
                    assert_eq!((&by_component.id, &by_component.stream), (&by_native.id, &by_native.stream), "{what}");
                }
                assert_eq!(batch.artifacts.len(), natively.artifacts.len(), "{what}");
                assert!(batch.checkpoint == natively.checkpoint, "{what}: the checkpoints differ");
                assert_eq!(batch.more, natively.more, "{what}");
                checkpoint = Some(batch.checkpoint);
                if !batch.more {
                    break;
                }
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
