//! Attempts to keep the CPU, the memory, the thread or the log.

use host_harness::connectors::{LoadError, TenantError};
use host_harness::sandbox::Limits;

use crate::hostile::component::{describing, padded, with_module};
use crate::hostile::stage::{Stage, hostile, limits};

/// What is tried in every export, and the failure it ends in.
const ACTS: [(&str, &str); 12] = [
    ("spin", "cpu-limit"),
    ("sleep", "wall-clock-limit"),
    ("sleep-in-pieces", "wall-clock-limit"),
    ("trap", "connector-trap"),
    ("panic", "connector-trap"),
    ("exit", "connector-trap"),
    ("recurse", "connector-trap"),
    ("recurse-wide", "connector-trap"),
    ("grow", "memory-limit"),
    ("handles", "connector-trap"),
    ("fields", "connector-trap"),
    ("grow-and-go-on", "ok"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_connector_does_in_describe_ends_in_a_refusal_to_load_it() {
    let stage = Stage::new().await;
    for (act, expected) in ACTS {
        let code = match stage.load(describing(act)).await {
            Ok(_) => "ok",
            Err(LoadError::Describe(error)) => error.code(),
            Err(other) => panic!("{act}: {other}"),
        };
        assert!(is_met(act, code, expected), "{act}: {code}");
    }
    stage.assert_clean();
}

/// Whether an act ended as it must. Each piece of a sleep is some work of the host, and time for which the machine has given
/// the CPU to somebody else counts as well: on a busy one that is the limit which is met first.
fn is_met(act: &str, code: &str, expected: &str) -> bool {
    code == expected || (act == "sleep-in-pieces" && code == "cpu-limit")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_connector_does_in_configure_ends_in_a_tenant_that_is_not_made() {
    let stage = Stage::new().await;
    let connector = hostile(&stage).await;
    for (act, expected) in ACTS {
        let options = stage.options(act, &format!("configure:{act}"), "");
        let made = stage.beside_the_neighbour(connector.tenant(options)).await;
        let code = match &made {
            Ok(_) => "ok",
            Err(TenantError::Configure(error)) => error.code(),
            Err(other) => panic!("{act}: {other}"),
        };
        assert!(is_met(act, code, expected), "{act}: {code}");
    }
    stage.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_connector_does_in_check_ends_in_a_failed_check() {
    let stage = Stage::new().await;
    let connector = hostile(&stage).await;
    for (act, expected) in ACTS {
        let options = stage.options(&format!("check-{act}"), &format!("check:{act}"), "");
        let tenant = connector.tenant(options).await.unwrap();
        let (result, usage) = stage.beside_the_neighbour(tenant.check()).await;
        let code = result.as_ref().map_or_else(|error| error.code(), |_| "ok");
        assert!(is_met(act, code, expected), "{act}: {code}");
        assert!(usage.guest_peak_bytes <= 32 << 20, "{act}: {usage:?}");
    }
    stage.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_connector_does_in_poll_ends_in_a_failed_poll_and_the_next_poll_works() {
    let stage = Stage::new().await;
    let connector = hostile(&stage).await;
    for (act, expected) in ACTS {
        let aftermath = stage.poll(&connector, act, "").await;
        assert!(is_met(act, aftermath.code(), expected), "{act}: {:?}", aftermath.cycle);
        if expected != "ok" {
            assert_eq!((aftermath.cycle.status().as_str(), aftermath.checkpoint), ("failed", None), "{act}");
            let failure = aftermath.cycle.failure.as_ref().unwrap();
            assert!(!failure.remedy.is_empty() && !failure.message.contains('\n'), "{failure:?}");
            let is_recursion = failure.message.contains("recursion that is too deep");
            assert_eq!(is_recursion, act == "recurse-wide", "{failure:?}");
            assert_eq!(failure.message.contains("call stack exhausted"), act == "recurse", "{failure:?}");
        }
        assert_eq!(stage.poll(&connector, "honest", act).await.code(), "ok");
    }
    stage.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn describe_and_configure_reach_nobody() {
    let stage = Stage::new().await;
    for act in ["fetch", "fetch-for-ever"] {
        stage.load(describing(act)).await.unwrap();
        let connector = hostile(&stage).await;
        let options = stage.options(act, &format!("configure:{act}"), "");
        stage.beside_the_neighbour(connector.tenant(options)).await.unwrap();
    }
    assert_eq!(stage.vendor.requests().len(), 0);
    stage.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_takes_no_more_of_the_engine_than_one_may() {
    let stage = Stage::new().await;
    let memories = "(module (memory 1) (memory 1) (memory 1) (memory 1))";
    let large = "(module (memory 1024))";
    let larger_than_address_space = "(module (memory 65536))";
    let tables = format!("(module {})", "(table 1 funcref)".repeat(20));
    let elements = "(module (table 1000000 funcref))";
    let spinning = "(module (func $f (loop (br 0))) (start $f))";
    let trapping = "(module (func $f unreachable) (start $f))";
    let growing = "(module (memory 1) (func $f (loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable) (start $f))";
    for (module, expected) in [
        (memories, "component-too-demanding"),
        (large, "component-too-demanding"),
        (larger_than_address_space, "component-too-demanding"),
        (&tables, "component-too-demanding"),
        (elements, "component-too-demanding"),
        (spinning, "cpu-limit"),
        (trapping, "connector-trap"),
        (growing, "memory-limit"),
    ] {
        let error = stage.load(with_module(module)).await.unwrap_err();
        let code = match &error {
            LoadError::Describe(error) => error.code(),
            other => other.code(),
        };
        assert_eq!(code, expected, "{module}: {error}");
    }
    assert_eq!(stage.load(padded(17 << 20)).await.unwrap_err().code(), "component-too-big");
    // The module as such is no reason for a refusal.
    stage.load(with_module("(module (memory 1))")).await.unwrap();
    stage.assert_clean();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_neither_flooded_nor_forged() {
    let stage = Stage::with(Limits { log_lines: 100, log_bytes: 15_000, log_line_bytes: 1000, ..limits() }).await;
    let connector = hostile(&stage).await;
    for (act, guest_lines) in [("log-flood", 15_000 / 200), ("log-huge", 1), ("standard-output", 0)] {
        let aftermath = stage.poll(&connector, act, "").await;
        assert_eq!(aftermath.code(), "ok", "{act}: {:?}", aftermath.cycle);
        // Besides the guest's own: what the host says about the poll.
        assert!(aftermath.log.len() <= guest_lines + 5, "{act}: {} lines", aftermath.log.len());
        let bytes: usize = aftermath.log.iter().map(|line| line["message"].as_str().unwrap().len()).sum();
        assert!(bytes <= 15_000 + 5 * 200, "{act}: {bytes} bytes");
    }
    let aftermath = stage.poll(&connector, "log-forge", "").await;
    assert_eq!(aftermath.code(), "ok");
    let messages: Vec<&str> = aftermath.log.iter().map(|line| line["message"].as_str().unwrap()).collect();
    assert!(messages.iter().any(|message| message.starts_with("harmless\\n[INFO] other-connector")), "{messages:#?}");
    for message in messages {
        let tricky = |c: char| {
            c.is_control()
                || matches!(c, '\u{2028}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
        };
        assert!(!message.contains(tricky), "{message:?}");
    }
    // No line of the whole run pretends to be somebody else's.
    let log = String::from_utf8(crate::hostile::logs::bytes()).unwrap();
    assert!(!log.contains("\"source\":\"other-connector\""));
    stage.assert_clean();
}
