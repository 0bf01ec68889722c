//! Contents that are in several files, move between files, or leave without a trace.

use super::*;
use crate::connectors::registry::{Operator, lock};
use PollOutcome::{ConnectorFailed, Worked};
use std::sync::Arc;

const OTHER: &str = "other.wasm";

fn rename(world: &World, from: &str, to: &str) {
    fs::rename(world.directory().join(from), world.directory().join(to)).unwrap();
}

/// Names of kept components.
fn components(world: &World) -> Vec<String> {
    let entries = fs::read_dir(world.state().join("connectors/kept")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter_map(|name| name.strip_suffix(".wasm").map(str::to_owned)).collect();
    names.sort();
    names
}

fn listed(world: &World) -> Vec<(String, ConnectorState)> {
    let listing = Operator::at(&world.state()).unwrap().list().unwrap();
    listing.connectors.into_iter().map(|row| (row.version, row.state)).collect()
}

#[tokio::test]
async fn two_files_with_the_same_new_component_serve_as_one_and_the_other_is_told() {
    let world = World::new();
    world.version(FILE, "1.0.0");
    #[cfg(unix)]
    std::os::unix::fs::symlink(FILE, world.directory().join(OTHER)).unwrap();
    #[cfg(not(unix))]
    world.version(OTHER, "1.0.0");
    // Which of the two is judged first is not said.
    let beside = |world: &World| {
        let serves = |row: &ConnectorReport| row.file == OTHER && row.state == ConnectorState::Serving;
        world.fate(if world.registry.report().iter().any(serves) { FILE } else { OTHER })
    };
    for _ in 0..2 {
        world.scan().await;
        assert_eq!((world.serving(), beside(&world)), ("1.0.0".into(), (ConnectorState::Refused, "duplicate".into())));
    }
    // The same for an update.
    world.version(FILE, "1.1.0");
    #[cfg(not(unix))]
    world.version(OTHER, "1.1.0");
    world.scan().await;
    assert_eq!((world.serving(), beside(&world)), ("1.1.0".into(), (ConnectorState::Refused, "duplicate".into())));
}

#[tokio::test]
async fn a_file_that_is_touched_or_renamed_while_it_is_compiled_serves() {
    for renamed in [false, true] {
        let world = World::new();
        world.version(FILE, "1.0.0");
        let mut scan = Box::pin(world.scan());
        while lock(&world.registry.inner.loader.under_way).is_empty() {
            assert!(futures::poll!(&mut scan).is_pending());
            tokio::task::yield_now().await;
        }
        if renamed {
            rename(&world, FILE, OTHER)
        } else {
            world.version(FILE, "1.0.0")
        }
        futures::join!(scan, world.scan());
        for _ in 0..2 {
            world.scan().await;
            assert_eq!(world.serving(), "1.0.0", "{:#?}", world.registry.report());
        }
        assert_eq!(world.registry.report().len(), 1, "{:#?}", world.registry.report());
    }
}

#[tokio::test]
async fn what_waits_to_be_compiled_is_not_in_memory() {
    let world = World::new();
    let taken = Arc::clone(&world.registry.inner.loader.places).acquire_many_owned(2).await.unwrap();
    let put = |major: u32| (0..6).for_each(|n| world.version(&format!("{n}.wasm"), &format!("{major}.{n}.0")));
    put(1);
    let mut scan = Box::pin(world.scan());
    let digests = || {
        let rows = world.registry.report().into_iter();
        rows.map(|row| row.digest).filter(|digest| !digest.is_empty()).collect::<Vec<_>>()
    };
    while digests().len() < 6 {
        assert!(futures::poll!(&mut scan).is_pending());
        tokio::task::yield_now().await;
    }
    let first = digests();
    // What is compiled now can only be what was in memory.
    put(2);
    drop(taken);
    scan.await;
    let compiled = fs::read_dir(world.state().join("connectors/compiled")).unwrap();
    let names = compiled.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let old = names.filter(|name| first.iter().any(|digest| name.starts_with(digest))).count();
    assert!(old <= 2, "{old} of those that waited were in memory");
    world.scan().await;
    world.scan().await;
    assert_eq!(world.serving(), "2.5.0");
}

#[tokio::test]
async fn what_was_renamed_is_what_a_restart_goes_on_with() {
    let mut world = World::new();
    world.version(FILE, "1.0.0");
    world.scan().await;
    rename(&world, FILE, OTHER);
    for _ in 0..3 {
        world.scan().await;
    }
    world.put(OTHER, b"hello");
    world.scan().await;
    assert_eq!((world.serving(), world.fate(OTHER).0), ("1.0.0".into(), ConnectorState::Refused));
    world.restart();
    world.scan().await;
    assert_eq!((world.serving(), world.fate(OTHER).0), ("1.0.0".into(), ConnectorState::Refused));
}

/// Version 2 in another file serves in place of version 1, which has worked.
async fn on_probation_elsewhere() -> (World, Uuid) {
    let world = World::new();
    let one = world.live.add(1, "one", Some(b"state"));
    world.version(FILE, "1.0.0");
    world.scan().await;
    world.polled(&world.current(), one, &[Worked]);
    world.version(OTHER, "2.0.0");
    world.scan().await;
    assert_eq!(world.serving(), "2.0.0");
    (world, one)
}

#[tokio::test]
async fn what_is_renamed_on_probation_leaves_what_is_proven_to_a_restart() {
    let (mut world, _) = on_probation_elsewhere().await;
    // Version 1 is overwritten, and version 2 moves.
    rename(&world, OTHER, FILE);
    for _ in 0..3 {
        world.scan().await;
    }
    rename(&world, FILE, OTHER);
    for _ in 0..3 {
        world.scan().await;
    }
    assert_eq!(world.serving(), "2.0.0");
    world.put(OTHER, b"hello");
    world.restart();
    world.scan().await;
    assert_eq!(world.serving(), "1.0.0");
}

#[tokio::test]
async fn what_is_put_back_after_its_file_was_removed_stops_with_the_file_that_is_there() {
    let (mut world, one) = on_probation_elsewhere().await;
    world.remove(FILE);
    world.scan().await;
    world.scan().await;
    world.polled(&world.current(), one, &[ConnectorFailed; 3]);
    assert_eq!(world.serving(), "1.0.0");
    world.restart();
    world.scan().await;
    assert_eq!(world.serving(), "1.0.0", "also after a restart");
    world.remove(OTHER);
    world.scan().await;
    world.scan().await;
    assert_eq!(world.serving(), "-");
}

#[tokio::test]
async fn only_what_serves_or_may_be_put_back_is_kept() {
    let (world, one) = on_probation_elsewhere().await;
    let mut expected = Vec::new();
    let check = |world: &World, digests: &[String], what: &str| {
        let mut digests = digests.to_vec();
        digests.sort();
        assert_eq!(components(world), digests, "{what}");
    };
    let inner = &world.registry.inner;
    let previous = lock(&inner.state).serving[TYPE].probation.as_ref().unwrap().previous.connector.digest().to_owned();
    expected.extend([previous.clone(), world.current().digest().to_owned()]);
    check(&world, &expected, "on probation");
    // Superseded on probation.
    world.version(OTHER, "3.0.0");
    world.scan().await;
    expected[1] = world.current().digest().to_owned();
    check(&world, &expected, "superseded");
    // Taken back.
    world.polled(&world.current(), one, &[ConnectorFailed; 3]);
    world.scan().await;
    check(&world, &expected[..1], "taken back");
    // Withdrawn by the operator.
    world.version(OTHER, "4.0.0");
    world.scan().await;
    Operator::at(&world.state()).unwrap().quarantine(world.current().digest(), "no", world.clock.now()).unwrap();
    world.scan().await;
    check(&world, &expected[..1], "withdrawn");
    // Gone on probation.
    world.version(OTHER, "5.0.0");
    world.scan().await;
    world.remove(OTHER);
    world.remove(FILE);
    world.scan().await;
    world.scan().await;
    check(&world, &[], "gone");
}

/// A component that plans for another host.
fn planning(version: &str, host: &str) -> Fixture {
    let mut fixture = Fixture::version(version);
    fixture.plan.origin.host = host.into();
    fixture
}

#[tokio::test]
async fn what_was_overwritten_cannot_be_confirmed() {
    let world = World::new();
    world.live.add(1, "acme", None);
    world.version(FILE, "1.0.0");
    world.scan().await;
    let operator = Operator::at(&world.state()).unwrap();
    world.fixture(FILE, &planning("2.0.0", "evil.example.com"));
    world.scan().await;
    assert_eq!(world.fate(FILE).0, ConnectorState::Held);
    // Held as well: there is one that asks, and not two.
    world.fixture(FILE, &planning("2.0.1", "eu.example.com"));
    world.scan().await;
    assert_eq!(listed(&world), [("1.0.0".into(), ConnectorState::Serving), ("2.0.1".into(), ConnectorState::Held)]);
    // One that serves.
    world.version(FILE, "2.0.2");
    world.scan().await;
    assert_eq!(listed(&world), [("2.0.2".into(), ConnectorState::Serving)]);
    assert_eq!(operator.confirm("fixture", world.clock.now()).unwrap_err().code(), "connector-unknown");
    // In another file, and refused as older in the end.
    world.fixture(OTHER, &planning("2.1.0", "evil.example.com"));
    world.scan().await;
    assert_eq!(world.fate(OTHER).0, ConnectorState::Held);
    world.version(FILE, "3.0.0");
    world.scan().await;
    world.scan().await;
    assert_eq!(world.fate(OTHER), (ConnectorState::Refused, "older-version".into()));
    assert_eq!(operator.confirm("fixture", world.clock.now()).unwrap_err().code(), "connector-unknown");
}

#[tokio::test]
async fn what_was_removed_while_the_host_was_down_cannot_be_confirmed_and_what_stayed_can() {
    let mut world = World::new();
    world.live.add(1, "acme", None);
    world.version(FILE, "1.0.0");
    world.scan().await;
    world.fixture(OTHER, &planning("2.0.0", "evil.example.com"));
    world.scan().await;
    world.fixture("third.wasm", &planning("3.0.0", "eu.example.com"));
    world.scan().await;
    world.remove(OTHER);
    // What stays was copied a moment ago, so it takes two looks.
    let file = File::options().write(true).open(world.directory().join("third.wasm")).unwrap();
    file.set_modified(SystemTime::now() + Duration::from_hours(1)).unwrap();
    world.restart();
    let since = |world: &World| {
        let listing = Operator::at(&world.state()).unwrap().list().unwrap();
        listing.connectors.into_iter().find(|row| row.version == "3.0.0").map(|row| row.state)
    };
    world.scan().await;
    assert_eq!(since(&world), Some(ConnectorState::Held), "nobody knows yet what the file holds");
    world.scan().await;
    let confirmed = Operator::at(&world.state()).unwrap().confirm("fixture", world.clock.now()).unwrap();
    assert_eq!((confirmed.version.as_str(), confirmed.granted), ("3.0.0", vec!["https://eu.example.com".to_owned()]));
}

#[tokio::test]
async fn a_held_version_that_is_judged_again_asks_for_what_it_asks_for_now() {
    let world = World::new();
    world.live.add(1, "acme", None);
    world.version(FILE, "1.0.0");
    world.scan().await;
    // Plans for `api.example.co` the first time, and for a yet shorter name whenever it has settings.
    let short = "(i32.store offset=12 (i32.const {plan}) (i32.const 11))";
    world.fixture(FILE, &Fixture { configure: short, ..Fixture::version("2.0.0") });
    world.scan().await;
    let record = format!("connectors/held/{}.json", world.row(FILE).digest);
    let held = || fs::read_to_string(world.state().join(&record)).unwrap();
    assert!(held().contains("https://api.example.c") || held().contains("https://api.exampl"), "{}", held());
    let stale = held().replace("https://api.exampl", "https://stale.exampl");
    fs::write(world.state().join(&record), stale).unwrap();
    // Touched, and so judged again.
    let bytes = fs::read(world.directory().join(FILE)).unwrap();
    world.put(FILE, &bytes);
    world.scan().await;
    assert!(!held().contains("stale"), "{}", held());
}

#[tokio::test]
async fn failures_of_what_is_long_gone_are_forgotten_and_what_an_operator_has_said_is_not() {
    let mut world = World::new();
    world.fixture(FILE, &Fixture { describe: "unreachable", ..Fixture::version("1.0.0") });
    world.fixture(OTHER, &Fixture { describe: "unreachable", ..Fixture::version("2.0.0") });
    world.scan().await;
    assert_eq!(listed(&world).len(), 2);
    let bad = world.row(OTHER).digest;
    Operator::at(&world.state()).unwrap().quarantine(&bad, "no", world.clock.now()).unwrap();
    world.remove(FILE);
    world.remove(OTHER);
    world.scan().await;
    world.scan().await;
    world.advance(3600);
    world.restart();
    world.scan().await;
    assert_eq!(listed(&world).len(), 2, "a copy may bring it back");
    world.advance(24 * 3600);
    world.scan().await;
    let listing = Operator::at(&world.state()).unwrap().list().unwrap();
    assert_eq!(listing.connectors.iter().map(|row| row.digest.as_str()).collect::<Vec<_>>(), [bad]);
}

#[tokio::test]
async fn a_report_that_cannot_be_written_is_written_when_it_can_be() {
    let world = World::new();
    let report = world.state().join("connectors/report.json");
    // A directory in its place.
    fs::create_dir(&report).unwrap();
    world.version(FILE, "1.0.0");
    world.scan().await;
    fs::remove_dir(&report).unwrap();
    world.scan().await;
    assert_eq!(listed(&world), [("1.0.0".into(), ConnectorState::Serving)]);
}

#[tokio::test]
async fn of_two_instances_that_are_polled_first_at_once_one_decides_what_is_granted() {
    for _ in 0..20 {
        let world = World::new();
        world.version(FILE, "1.0.0");
        world.scan().await;
        let connector = world.current();
        let mut plans = Vec::new();
        for host in ["us.example.com", "eu.example.com"] {
            let mut plan = connector.configure(&[]).await.unwrap();
            plan.egress.origin.host = host.into();
            plans.push(plan);
        }
        let barrier = std::sync::Barrier::new(2);
        let admitted: usize = std::thread::scope(|scope| {
            let ask = |plan| {
                let (connector, barrier) = (&connector, &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    usize::from(connector.admit(plan).is_ok())
                })
            };
            plans.iter().map(ask).collect::<Vec<_>>().into_iter().map(|asked| asked.join().unwrap()).sum()
        });
        assert_eq!(admitted, 1);
    }
}

#[tokio::test]
async fn a_copy_of_what_serves_takes_the_place_of_a_file_that_was_overwritten() {
    // The copy is made after the file was overwritten, or before, where it is one too many at first.
    for before in [false, true] {
        let mut world = World::new();
        world.version(FILE, "1.0.0");
        world.scan().await;
        if before {
            world.version(OTHER, "1.0.0");
            world.scan().await;
            assert_eq!(world.fate(OTHER), (ConnectorState::Refused, "duplicate".into()));
        }
        world.fixture(FILE, &Fixture { describe: "unreachable", ..Fixture::version("2.0.0") });
        world.scan().await;
        world.version(OTHER, "1.0.0");
        world.scan().await;
        world.scan().await;
        let files = |world: &World| {
            let rows = world.registry.report().into_iter();
            rows.map(|row| (row.file, row.version, row.state.name())).collect::<Vec<_>>()
        };
        let expected = [(OTHER.into(), "1.0.0".into(), "serving"), (FILE.into(), String::new(), "quarantined")];
        assert_eq!(files(&world), expected, "{before}");
        // So the file that was overwritten can go, also over a restart.
        world.remove(FILE);
        world.restart();
        for _ in 0..3 {
            world.scan().await;
        }
        assert_eq!(files(&world), expected[..1], "{before}");
    }
}

#[tokio::test]
async fn of_a_version_in_quarantine_whose_file_is_gone_neither_file_nor_time_is_told() {
    let world = World::new();
    world.version(FILE, "1.0.0");
    world.scan().await;
    world.fixture(FILE, &Fixture { describe: "unreachable", ..Fixture::version("2.0.0") });
    world.scan().await;
    let bad = world.row(FILE);
    let listed = || Operator::at(&world.state()).unwrap().list().unwrap().connectors;
    assert!(listed().contains(&bad) && bad.retry_at.is_some());
    world.version(FILE, "3.0.0");
    world.scan().await;
    let gone = listed().into_iter().find(|row| row.digest == bad.digest).unwrap();
    assert_eq!((gone.file.as_str(), gone.retry_at, gone.state), ("", None, ConnectorState::Quarantined));
    assert_eq!(gone.reason, bad.reason.map(|reason| format!("{reason}; its file is gone")));
    // What the operator has just put there is in its file until the host has looked.
    Operator::at(&world.state()).unwrap().quarantine(TYPE, "no", world.clock.now()).unwrap();
    let row = listed().into_iter().find(|row| row.code.as_deref() == Some("operator")).unwrap();
    assert_eq!((row.file.as_str(), row.reason.as_deref()), (FILE, Some("no")));
}

#[test]
fn nobody_is_told_that_nothing_serves_where_another_file_steps_in() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let log = |other: bool| {
        let world = World::new();
        runtime.block_on(async {
            if other {
                world.version(OTHER, "1.0.0");
            }
            world.version(FILE, "2.0.0");
            world.scan().await;
            world.scan().await;
            world.remove(FILE);
            world.scan().await;
        });
        crate::log::captured(|| runtime.block_on(world.scan()))
    };
    assert_eq!(log(false), "[WARN] fixture: fixture.wasm is gone, so nothing serves; checkpoints and artifacts stay\n");
    let log = log(true);
    assert!(log.starts_with("[INFO] fixture: fixture.wasm is gone; other.wasm is tried in its place\n"), "{log}");
    assert!(log.contains("version 1.0.0 from other.wasm serves") && !log.contains("nothing serves"), "{log}");
}
