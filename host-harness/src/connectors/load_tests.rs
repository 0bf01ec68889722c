//! What is loaded, from a file or from what was kept, and what is refused.

use super::cache::Cache;
use super::fixtures::{self, GOOD, component, component_with};
use super::step_tests::{budget, engine, engine_with, options};
use super::{Connector, LoadError, hex};
use crate::sandbox::{Engine, EngineOptions, Limits};
use sha2::{Digest as _, Sha256};
use std::time::Duration;

#[tokio::test]
async fn a_connector_that_spins_or_traps_in_describe_is_refused() {
    let limits = Limits { pure_call: Duration::from_millis(50), ..Limits::default() };
    let engine = engine_with(limits);
    for (code, expected) in [("(loop (br 0))", "cpu-limit"), ("unreachable", "connector-trap")] {
        let component = component_with(&fixtures::descriptor(), GOOD, code);
        match Connector::from_bytes(&engine, component, None).await {
            Err(LoadError::Describe(error)) => assert_eq!(error.code(), expected),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_lying_descriptor_is_refused_by_field() {
    let mut descriptor = fixtures::descriptor();
    descriptor.credentials[0].header = "Host".into();
    let error = Connector::from_bytes(&engine(), component_with(&descriptor, GOOD, ""), None).await.unwrap_err();
    assert_eq!(error.code(), "component-descriptor");
    assert!(error.to_string().contains("credentials[0].header"), "{error}");
}

#[tokio::test]
async fn files_that_are_no_connectors_are_told_apart() {
    let engine = engine_with(Limits { component_bytes: 100_000, ..Limits::default() });
    let folder = tempfile::tempdir().unwrap();
    let load = async |name: &str, bytes: Option<&[u8]>| {
        let path = folder.path().join(name);
        if let Some(bytes) = bytes {
            std::fs::write(&path, bytes).unwrap();
        }
        Connector::load(&engine, &path, None).await.unwrap_err().code()
    };
    assert_eq!(load("missing", None).await, "component-unreadable");
    assert_eq!(load("text", Some(b"hello")).await, "component-not-wasm");
    assert_eq!(load("big", Some(&vec![0; 100_001])).await, "component-too-big");
    assert_eq!(load("module", Some(&wat::parse_str("(module)").unwrap())).await, "component-core-module");
    assert_eq!(Connector::load(&engine, folder.path(), None).await.unwrap_err().code(), "component-unreadable");
    // Its size is said to be nothing, and it has no end.
    assert_eq!(
        Connector::load(&engine, std::path::Path::new("/dev/zero"), None).await.unwrap_err().code(),
        "component-too-big"
    );
    assert!(std::process::Command::new("mkfifo").arg(folder.path().join("pipe")).status().unwrap().success());
    assert_eq!(load("pipe", None).await, "component-unreadable");
    let whole = component();
    assert_eq!(load("cut", Some(&whole[..whole.len() / 2])).await, "component-corrupt");
}

#[tokio::test]
async fn a_component_whose_functions_do_not_fit_is_a_mismatch() {
    let text = r#"(component
        (core module $m (func (export "f") (result i32) i32.const 0))
        (core instance $i (instantiate $m))
        (func $f (result u32) (canon lift (core func $i "f")))
        (instance $c (export "describe" (func $f)))
        (export "witfoo:signal-connector/connector@0.1.0" (instance $c)))"#;
    let error = Connector::from_bytes(&engine(), wat::parse_str(text).unwrap(), None).await.unwrap_err();
    assert_eq!(error.code(), "component-mismatch", "{error}");
}

#[tokio::test]
async fn compiled_code_is_kept_and_only_sound_entries_are_used() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("aot");
    let engine = engine();
    let load = async || Connector::from_bytes(&engine, component(), Some(&cache)).await.unwrap();
    assert!(!load().await.from_cache());
    let kept = load().await;
    assert!(kept.from_cache());
    kept.tenant(options()).await.unwrap().poll(None, budget()).await.0.unwrap();

    let entry = std::fs::read_dir(&cache).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&entry).unwrap();
    for damaged in
        [whole[..whole.len() - 1].to_vec(), vec![], [&whole[..whole.len() - 1], &[whole[whole.len() - 1] ^ 1]].concat()]
    {
        std::fs::write(&entry, &damaged).unwrap();
        assert!(!load().await.from_cache());
        assert!(load().await.from_cache(), "it was made anew");
    }
    // Made by an engine of another configuration: found under another name, so never even read.
    let other = Engine::new(EngineOptions { pooling: false, ..EngineOptions::default() }).unwrap();
    let elsewhere = Connector::from_bytes(&other, component(), Some(&cache)).await.unwrap();
    assert_eq!(elsewhere.from_cache(), other.compatibility() == engine.compatibility());
}

#[tokio::test]
async fn what_was_loaded_runs_on_when_its_entry_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("aot");
    let engine = engine();
    let load = async || Connector::from_bytes(&engine, component(), Some(&cache)).await.unwrap();
    load().await;
    let kept = load().await;
    assert!(kept.from_cache());
    std::fs::remove_dir_all(&cache).unwrap();
    kept.tenant(options()).await.unwrap().poll(None, budget()).await.0.unwrap();
    assert!(!load().await.from_cache(), "and it is compiled again when it is needed");
}

#[tokio::test]
async fn what_was_kept_of_a_component_is_judged_by_the_host_that_loads_it() {
    let folder = tempfile::tempdir().unwrap();
    let engine = engine();
    Connector::from_bytes(&engine, component(), Some(folder.path())).await.unwrap();
    // As a host would have kept it that allowed more.
    let cache = Cache::open(folder.path()).unwrap();
    let digest = hex(&Sha256::digest(component()));
    let names = serde_json::json!({
        "imports": ["wasi:sockets/tcp@0.2.0"], "exports": ["witfoo:signal-connector/connector@0.1.0"]
    });
    let names = serde_json::from_value(names).unwrap();
    let code = engine.wasmtime().precompile_component(&component()).unwrap();
    cache.put(&digest, engine.compatibility(), &names, &code).unwrap();
    let error = Connector::from_bytes(&engine, component(), Some(folder.path())).await.unwrap_err();
    assert_eq!(error.code(), "component-forbidden-import");
}

#[cfg(unix)]
#[tokio::test]
async fn a_cache_that_others_can_write_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("aot");
    let engine = engine();
    Connector::from_bytes(&engine, component(), Some(&cache)).await.unwrap();
    std::fs::set_permissions(&cache, std::fs::Permissions::from_mode(0o777)).unwrap();
    assert!(!Connector::from_bytes(&engine, component(), Some(&cache)).await.unwrap().from_cache());
}
