//! Files come, change and go.

use super::*;
use crate::connectors::registry::Operator;
use crate::connectors::registry::home::Kind;
use crate::connectors::registry::quarantine::{By, Quarantined};
use std::sync::Arc;

#[tokio::test]
async fn a_new_file_serves_and_a_newer_version_takes_its_place() {
    let world = World::new();
    let mut changes = world.registry.changes();
    world.scan().await;
    assert!(world.registry.report().is_empty());
    world.version(FILE, "1.0.0");
    world.scan().await;
    assert_eq!(world.serving(), "1.0.0");
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    world.scan().await;
    assert!(!changes.has_changed().unwrap(), "nothing has happened");
    world.version(FILE, "1.0.1");
    world.scan().await;
    assert_eq!(world.serving(), "1.0.1");
    let rows = world.registry.report();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].integration_type.as_str(), rows[0].file.as_str()), (TYPE, FILE));
    assert_eq!((rows[0].state, rows[0].digest.as_str()), (ConnectorState::Serving, world.current().digest()));
}

#[tokio::test]
async fn a_poll_in_flight_finishes_on_the_version_it_began_with_which_is_dropped_then() {
    let world = World::new();
    // Waits a little in the middle of its poll.
    let poll = "(call $block (call $subscribe (i64.const 1000000))) (return (i32.const {batch}))";
    world.fixture(FILE, &polling("1.0.0", poll));
    world.scan().await;
    let old = world.current();
    let is_alive = old.is_alive();
    let tenant = old.tenant(options("one")).await.unwrap();
    drop(old);
    let mut in_flight = Box::pin(async move { tenant.poll(None, budget()).await.0 });
    assert!(futures::poll!(&mut in_flight).is_pending());

    world.version(FILE, "2.0.0");
    world.scan().await;
    assert_eq!(world.serving(), "2.0.0");
    assert!(is_alive());
    assert_eq!(in_flight.await.unwrap().checkpoint, b"state");
    assert!(!is_alive(), "nobody polls with it any more");
}

#[tokio::test]
async fn tenants_are_polled_while_a_new_version_is_compiled() {
    let world = World::new();
    world.version(FILE, "1.0.0");
    world.scan().await;
    let tenant = world.current().tenant(options("one")).await.unwrap();
    // As long as all places are taken, compiling does not end.
    let places = Arc::clone(&world.registry.inner.loader.places);
    let taken = places.acquire_many_owned(2).await.unwrap();
    world.version(FILE, "2.0.0");
    let mut scan = Box::pin(world.scan());
    // The look at the directory has a thread of its own and comes when it comes.
    let mut polls_meanwhile = 0;
    while polls_meanwhile < 20 {
        tokio::select! {
            biased;
            () = &mut scan => panic!("it cannot have been compiled"),
            (batch, _) = tenant.poll(None, budget()) => assert_eq!(batch.unwrap().artifacts.len(), 1),
        }
        polls_meanwhile += usize::from(world.registry.report().iter().any(|row| row.state == ConnectorState::Loading));
    }
    assert_eq!(world.serving(), "1.0.0");
    assert_eq!(world.fate(FILE), (ConnectorState::Loading, String::new()));
    drop(taken);
    scan.await;
    assert_eq!(world.serving(), "2.0.0");
}

#[tokio::test]
async fn what_takes_too_long_to_compile_is_abandoned() {
    let mut world = World::new();
    world.registry = open(&world.folder, &world.engine, &world.clock, Allowed::default(), Duration::ZERO);
    world.version(FILE, "1.0.0");
    world.scan().await;
    assert_eq!(world.serving(), "-");
    assert_eq!(world.fate(FILE), (ConnectorState::Quarantined, "compile-timeout".into()));
}

#[tokio::test]
async fn a_file_that_is_gone_stops_its_type_and_one_that_comes_back_goes_on() {
    let world = World::new();
    world.live.add(1, "one", Some(b"state"));
    world.version(FILE, "1.0.0");
    world.scan().await;
    world.remove(FILE);
    world.scan().await;
    assert_eq!(world.serving(), "1.0.0", "it may be being replaced");
    world.scan().await;
    assert_eq!(world.serving(), "-");
    assert!(world.registry.report().is_empty());
    world.version(FILE, "1.0.0");
    world.scan().await;
    assert_eq!(world.serving(), "1.0.0");
}

#[tokio::test]
async fn a_directory_that_cannot_be_read_stops_nothing() {
    let world = World::new();
    world.version(FILE, "1.0.0");
    world.scan().await;
    fs::rename(world.directory(), world.folder.path().join("aside")).unwrap();
    for _ in 0..3 {
        world.scan().await;
    }
    assert_eq!(world.serving(), "1.0.0");
}

#[tokio::test]
async fn a_renamed_file_goes_on_serving() {
    let world = World::new();
    world.version(FILE, "1.0.0");
    world.scan().await;
    fs::rename(world.directory().join(FILE), world.directory().join("other.wasm")).unwrap();
    for _ in 0..4 {
        world.scan().await;
        assert_eq!(world.serving(), "1.0.0");
    }
    assert_eq!(world.registry.report().len(), 1);
    assert_eq!(world.registry.report()[0].file, "other.wasm");
}

#[tokio::test]
async fn a_downgrade_is_refused_and_the_old_version_serves_on() {
    let world = World::new();
    world.version(FILE, "1.1.0");
    world.scan().await;
    world.version(FILE, "1.0.9");
    world.scan().await;
    assert_eq!(world.serving(), "1.1.0");
    assert_eq!(world.fate(FILE), (ConnectorState::Refused, "older-version".into()));
    world.assert_reason(FILE, &["1.0.9", "1.1.0", "remove the file"]);
    // On purpose.
    world.remove(FILE);
    world.scan().await;
    world.scan().await;
    world.version(FILE, "1.0.9");
    world.scan().await;
    assert_eq!(world.serving(), "1.0.9");
}

#[tokio::test]
async fn another_build_of_the_same_version_follows() {
    let world = World::new();
    world.version(FILE, "1.0.0");
    world.scan().await;
    let before = world.current().digest().to_owned();
    let mut rebuilt = Fixture::version("1.0.0");
    rebuilt.descriptor.display_name = "Rebuilt".into();
    world.fixture(FILE, &rebuilt);
    world.scan().await;
    assert_ne!(world.current().digest(), before);
    assert_eq!(world.current().descriptor().display_name, "Rebuilt");
}

#[tokio::test]
async fn of_two_files_the_higher_version_serves_and_the_other_steps_in_when_it_goes() {
    let world = World::new();
    world.version("a.wasm", "1.0.0");
    world.scan().await;
    world.version("b.wasm", "2.0.0");
    world.scan().await;
    assert_eq!(world.serving(), "2.0.0");
    assert_eq!(world.fate("a.wasm"), (ConnectorState::Refused, "older-version".into()));
    world.assert_reason("a.wasm", &["b.wasm", "2.0.0"]);
    world.version("c.wasm", "2.0.0");
    world.scan().await;
    assert_eq!(world.fate("c.wasm"), (ConnectorState::Refused, "duplicate".into()));
    world.remove("c.wasm");
    let mut other = Fixture::version("2.0.0");
    other.descriptor.display_name = "Other".into();
    world.fixture("c.wasm", &other);
    world.scan().await;
    assert_eq!(world.fate("c.wasm"), (ConnectorState::Refused, "same-version".into()));
    world.remove("c.wasm");
    world.remove("b.wasm");
    for _ in 0..3 {
        world.scan().await;
    }
    assert_eq!(world.serving(), "1.0.0");
    assert_eq!(world.registry.report().len(), 1);
}

#[tokio::test]
async fn two_new_files_at_once_end_with_the_higher_version() {
    let world = World::new();
    world.version("a.wasm", "2.0.0");
    world.version("b.wasm", "1.0.0");
    world.scan().await;
    world.scan().await;
    assert_eq!(world.serving(), "2.0.0");
    assert_eq!(world.fate("b.wasm"), (ConnectorState::Refused, "older-version".into()));
}

#[tokio::test]
async fn what_is_no_connector_is_refused_with_its_reason_and_harms_no_other() {
    let world = World::new();
    world.version(FILE, "1.0.0");
    world.put("text.wasm", b"hello");
    world.put("module.wasm", b"\0asm\x01\0\0\0");
    world
        .put("forbidden.wasm", &wat::parse_str(r#"(component (import "wasi:sockets/tcp@0.2.0" (instance)))"#).unwrap());
    world.put("cut.wasm", &Fixture::version("1.0.0").build()[..1000]);
    let size = usize::try_from(world.engine.limits().component_bytes).unwrap();
    world.put("big.wasm", &vec![0; size + 1]);
    world.scan().await;
    assert_eq!(world.serving(), "1.0.0");
    for (file, code) in [
        ("text.wasm", "component-not-wasm"),
        ("module.wasm", "component-core-module"),
        ("forbidden.wasm", "component-forbidden-import"),
        ("cut.wasm", "component-corrupt"),
        ("big.wasm", "component-too-big"),
    ] {
        assert_eq!(world.fate(file), (ConnectorState::Refused, code.into()), "{file}");
    }
    world.assert_reason("forbidden.wasm", &["wasi:sockets/tcp"]);
    // The rest arrives.
    world.version("cut.wasm", "1.0.1");
    world.scan().await;
    assert_eq!(world.serving(), "1.0.1");
}

#[tokio::test]
async fn a_file_that_is_being_written_is_not_judged() {
    let world = World::new();
    let whole = Fixture::version("1.0.0").build();
    let fresh = |bytes: &[u8]| {
        world.put(FILE, bytes);
        let in_an_hour = SystemTime::now() + Duration::from_hours(1);
        File::options().write(true).open(world.directory().join(FILE)).unwrap().set_modified(in_an_hour).unwrap();
    };
    fresh(&whole[..whole.len() / 2]);
    world.scan().await;
    fresh(&whole);
    world.scan().await;
    assert!(world.registry.report().is_empty());
    world.scan().await;
    assert_eq!(world.serving(), "1.0.0");
}

#[tokio::test]
async fn a_version_that_crashes_in_describe_is_tried_again_after_growing_waits_also_across_restarts() {
    let mut world = World::new();
    world.version(FILE, "1.0.0");
    world.scan().await;
    world.fixture(FILE, &Fixture { describe: "unreachable", ..Fixture::version("2.0.0") });
    let mut wait = 60;
    for round in 0..4 {
        world.scan().await;
        assert_eq!(world.serving(), "1.0.0");
        assert_eq!(world.fate(FILE), (ConnectorState::Quarantined, "component-describe".into()));
        let row = world.row(FILE);
        assert_eq!(row.retry_at.unwrap() - world.clock.now(), time::Duration::seconds(wait), "round {round}");
        world.advance(wait.unsigned_abs() - 1);
        world.restart();
        world.scan().await;
        assert_eq!(world.row(FILE).retry_at, row.retry_at, "it was not tried");
        world.advance(1);
        wait *= 2;
    }
    // Once it is mended, the next try finds it so.
    world.version(FILE, "2.0.1");
    world.scan().await;
    assert_eq!(world.serving(), "2.0.1");
}

#[tokio::test]
async fn an_operators_quarantine_takes_effect_at_the_next_look_and_release_ends_it() {
    let world = World::new();
    world.version(FILE, "1.0.0");
    world.scan().await;
    let operator = Operator::at(&world.state()).unwrap();
    let digest = operator.quarantine("fixture", "loses\nrecords", world.clock.now()).unwrap();
    assert_eq!(digest, world.current().digest());
    world.scan().await;
    assert_eq!(world.serving(), "-");
    assert_eq!(world.fate(FILE), (ConnectorState::Quarantined, "operator".into()));
    world.assert_reason(FILE, &["loses\\nrecords"]);
    world.advance(1_000_000);
    world.scan().await;
    assert_eq!(world.serving(), "-", "it stays until released");
    assert_eq!(operator.release(Some(&digest[..6])).unwrap(), [digest]);
    world.scan().await;
    assert_eq!(world.serving(), "1.0.0");
}

#[tokio::test]
async fn the_operator_sees_what_the_host_sees_and_is_told_of_wrong_names() {
    let world = World::new();
    assert_eq!(Operator::at(&world.directory()).unwrap_err().code(), "connectors-no-host");
    world.version(FILE, "1.0.0");
    world.put("text.wasm", b"hello");
    world.scan().await;
    let operator = Operator::at(&world.state()).unwrap();
    let listing = operator.list().unwrap();
    assert_eq!(listing.connectors, world.registry.report());
    assert_eq!(listing.written, Some(world.clock.now()));
    assert_eq!(operator.release(Some("fixture")).unwrap_err().code(), "connector-unknown");
    assert_eq!(operator.confirm("fixture", world.clock.now()).unwrap_err().code(), "connector-unknown");
    let error = operator.quarantine("nobody", "", world.clock.now()).unwrap_err();
    assert!(error.to_string().contains("fixture"), "{error}");
    operator.quarantine("text.wasm", "", world.clock.now()).unwrap();
    assert_eq!(operator.list().unwrap().connectors.len(), 3, "the record is shown before the host has looked");
    assert_eq!(operator.release(None).unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_slow_to_load_holds_up_no_other() {
    let world = World::new();
    world.version("a.wasm", "1.0.0");
    let test = async {
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(world.serving(), "1.0.0");
        // Compiling does not end from now on.
        let _taken = Arc::clone(&world.registry.inner.loader.places).acquire_many_owned(2).await.unwrap();
        world.version("b.wasm", "2.0.0");
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(world.row("b.wasm").state, ConnectorState::Loading);
        world.remove("a.wasm");
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(world.serving(), "-");
    };
    world.registry.watch(&world.live, test).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_a_replaced_and_a_removed_file_take_effect_within_ten_seconds() {
    let world = World::new();
    let ten_seconds = Duration::from_secs(10);
    let test = async {
        // Fresh files, as a copy leaves them.
        let fresh = |version: &str| {
            world.version(FILE, version);
            let in_an_hour = SystemTime::now() + Duration::from_hours(1);
            File::options().write(true).open(world.directory().join(FILE)).unwrap().set_modified(in_an_hour).unwrap();
        };
        tokio::time::sleep(Duration::from_secs(1)).await;
        fresh("1.0.0");
        tokio::time::sleep(ten_seconds).await;
        assert_eq!(world.serving(), "1.0.0");
        fresh("1.1.0");
        tokio::time::sleep(ten_seconds).await;
        assert_eq!(world.serving(), "1.1.0");
        world.remove(FILE);
        tokio::time::sleep(ten_seconds).await;
        assert_eq!(world.serving(), "-");
    };
    world.registry.watch(&world.live, test).await;
}

/// No instances; and the answer waits for a place at the gate.
struct Gated {
    gate: tokio::sync::Semaphore,
    asked: std::sync::atomic::AtomicUsize,
}

impl LiveInstances for Gated {
    fn ids(&self, _: &str) -> Vec<Uuid> {
        vec![Uuid::from_u128(1)]
    }

    fn ready<'a>(&'a self, _: Uuid, connector: &'a Connector) -> Asked<'a, Option<Result<LiveInstance, NotReady>>> {
        Box::pin(async move {
            if connector.descriptor().version == "1.0.0" {
                self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                self.gate.acquire().await.unwrap().forget();
            }
            None
        })
    }

    fn checkpoint(&self, _: Uuid) -> Asked<'_, Result<Option<Vec<u8>>, Box<FailureReport>>> {
        Box::pin(std::future::ready(Ok(None)))
    }
}

/// Scans, and does `meanwhile` while version 1.0.0 is being tried.
async fn scan_and_meanwhile(world: &World, meanwhile: impl Future<Output = ()>) {
    let gated = Gated { gate: tokio::sync::Semaphore::new(0), asked: 0.into() };
    let meanwhile = async {
        while gated.asked.load(std::sync::atomic::Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        meanwhile.await;
        gated.gate.add_permits(100);
    };
    futures::join!(world.registry.scan(&gated), meanwhile);
}

#[tokio::test]
async fn a_verdict_against_a_version_that_no_longer_serves_is_void() {
    let world = World::new();
    world.version("b.wasm", "1.0.0");
    scan_and_meanwhile(&world, async {
        world.version("a.wasm", "2.0.0");
        world.scan().await;
        assert_eq!(world.serving(), "2.0.0");
    })
    .await;
    assert_eq!(world.serving(), "2.0.0");
    assert_eq!(world.fate("b.wasm"), (ConnectorState::Refused, "older-version".into()));
}

#[tokio::test]
async fn a_verdict_about_what_a_file_no_longer_holds_is_void() {
    let world = World::new();
    world.version(FILE, "1.0.0");
    scan_and_meanwhile(&world, async {
        world.put(FILE, b"hello");
        world.scan().await;
    })
    .await;
    assert_eq!(world.serving(), "-");
    assert_eq!(world.fate(FILE), (ConnectorState::Refused, "component-not-wasm".into()));
}

#[tokio::test]
async fn a_file_that_goes_while_it_is_tried_does_not_serve() {
    let world = World::new();
    world.version(FILE, "1.0.0");
    scan_and_meanwhile(&world, async {
        world.remove(FILE);
        world.scan().await;
        world.scan().await;
    })
    .await;
    assert_eq!(world.serving(), "-");
    assert!(world.registry.report().is_empty());
}

#[tokio::test]
async fn what_the_operator_puts_into_quarantine_while_it_is_tried_does_not_serve() {
    let world = World::new();
    world.version(FILE, "1.0.0");
    scan_and_meanwhile(&world, async {
        let digest = world.registry.report()[0].digest.clone();
        let record = Quarantined {
            digest: digest.clone(),
            host_build: String::new(),
            integration_type: TYPE.into(),
            version: "1.0.0".into(),
            file: FILE.into(),
            by: By::Operator,
            code: "operator".into(),
            reason: "no".into(),
            failures: 0,
            has_ended_host: false,
            since: world.clock.now(),
            retry_at: None,
            form: BTreeSet::new(),
        };
        world.registry.inner.home.save(Kind::Quarantine, &digest, &record).unwrap();
    })
    .await;
    assert_eq!((world.serving(), world.fate(FILE)), ("-".into(), (ConnectorState::Quarantined, "operator".into())));
}
