//! Components are compiled in a process of their own, which has limits.

use std::time::Duration;

use host_harness::connectors::Connector;
use host_harness::connectors::apart::{Apart, ApartError, Compiled, MEMORY_MEGABYTES};
use host_harness::sandbox::{Engine, EngineOptions};

use crate::common::host::host_harness;
use crate::hostile::component;
use crate::running::site::{Site, insightidr};

/// Long enough for a machine that is busy with other things.
const LONG: Duration = Duration::from_secs(300);

fn apart() -> Apart {
    Apart { program: host_harness(), memory_megabytes: MEMORY_MEGABYTES }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compiler_has_a_process_of_its_own_which_ends_when_its_time_or_its_memory_is_used_up() {
    let engine = Engine::new(EngineOptions::default()).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let compile = |apart: Apart, bytes: Vec<u8>, within| {
        let (engine, cache) = (engine.clone(), cache.path().to_owned());
        tokio::task::spawn_blocking(move || apart.compile(&engine, bytes, &cache, within))
    };
    let entries = || std::fs::read_dir(cache.path()).unwrap().count();

    // Its time is up long before it has read anything.
    let late = compile(apart(), component::honest(), Duration::from_millis(1)).await.unwrap();
    assert!(matches!(late, Err(ApartError::TimeUp { .. })), "{late:?}");
    // As little memory as does for no compiler.
    let small = Apart { memory_megabytes: 16, ..apart() };
    let ended = compile(small, component::honest(), LONG).await.unwrap();
    assert!(matches!(&ended, Err(ApartError::Ended { .. })), "{ended:?}");
    // What is wrong with a component comes back as if it had been found here.
    for bytes in [b"no component".to_vec(), component::padded(20 << 20), b"\0asm\x01\0\0\0".to_vec()] {
        let here = Connector::from_bytes(&engine, bytes.clone(), None).await.err().unwrap();
        let refused = compile(apart(), bytes, LONG).await.unwrap();
        let Err(ApartError::Refused { code, reason }) = refused else { panic!("{refused:?}") };
        assert_eq!(code, here.code());
        assert!(code == "component-too-big" || reason == here.to_string(), "{reason}");
    }
    assert_eq!(entries(), 0);
    let nobody = Apart { program: "/no/such/program".into(), ..apart() };
    let nothing = compile(nobody, component::honest(), LONG).await.unwrap();
    assert!(matches!(nothing, Err(ApartError::Host(_))), "{nothing:?}");

    let compiled = compile(apart(), component::honest(), LONG).await.unwrap();
    assert_eq!(compiled.unwrap(), Compiled::Kept);
    let connector = Connector::from_bytes(&engine, component::honest(), Some(cache.path())).await.unwrap();
    assert!(connector.from_cache(), "this process has compiled nothing");
}

#[test]
fn a_running_host_compiles_nothing_itself() {
    let mut site = Site::new();
    site.set("cache = \"compiled\"");
    site.install_insightidr();
    site.install("other.wasm", &component::honest());
    site.configure(&insightidr("us"));
    let mut host = site.start(&["--log-level", "debug"]);
    host.until_state("us", "ok");
    host.until("the other one is loaded, too", |host| (host.log().matches("loaded in ").count() >= 2).then_some(()));
    let log = host.log();
    let loaded: Vec<&str> = log.lines().filter(|line| line.contains("loaded in ")).collect();
    assert!(loaded.iter().all(|line| line.contains("from_cache=true")), "{loaded:#?}");
    assert_eq!(host.stop("TERM").code, 0);
}
