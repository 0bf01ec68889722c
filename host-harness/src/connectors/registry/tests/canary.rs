//! What a new version has to show on live instances. That nothing of it is kept is proved where there is a store:
//! `nothing_of_a_canary_step_is_kept` in tests/host/running/probation.rs.

use super::*;
use crate::connectors::step_tests::Log;
use futures::FutureExt as _;

/// What becomes of a version 2 whose `poll` does this, where version 1 has worked for an instance.
async fn fate(poll: &'static str) -> (String, String) {
    let world = World::new();
    world.version(FILE, "1.0.0");
    world.scan().await;
    world.live.add(1, "acme", Some(b"state"));
    world.fixture(FILE, &polling("2.0.0", poll));
    world.scan().await;
    let rows = world.registry.report();
    let code = rows.iter().find_map(|row| {
        assert!(row.state != ConnectorState::Quarantined || row.reason.as_ref().unwrap().contains("instance acme"));
        row.code.clone()
    });
    (world.serving(), code.unwrap_or_default())
}

#[tokio::test]
async fn what_a_version_logs_while_it_is_tried_is_cleared_of_the_secrets_of_its_instances() {
    let world = World::new();
    world.live.add(1, "xs", None);
    let configure = "(call $write (i32.const 2) (i32.const {text}) (i32.const 64))";
    let log = Log::default();
    let guard = log.begin();
    for version in ["1.0.0", "2.0.0"] {
        world.fixture(FILE, &Fixture { configure, ..Fixture::version(version) });
        world.scan().await;
        assert_eq!(world.serving(), version);
    }
    drop(guard);
    let text = log.text();
    assert!(text.contains("[redacted]") && !text.contains("xxxx"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_watches_says_when_all_that_was_there_has_been_judged() {
    let world = World::new();
    world.version(FILE, "1.0.0");
    assert!(world.registry.looked().now_or_never().is_none());
    tokio::select! {
        () = world.registry.watch(&world.live, std::future::pending()) => unreachable!("it watches for ever"),
        () = world.registry.looked() => {}
    }
    assert_eq!(world.serving(), "1.0.0");
}

#[tokio::test]
async fn a_version_that_fails_by_itself_is_put_into_quarantine() {
    for (poll, code) in [
        ("unreachable", "connector-trap"),
        ("(return (i32.const {bad}))", "bad-batch"),
        (failing!("8"), "checkpoint-unreadable"),
        (failing!("10"), "internal"),
        ("(drop (memory.grow (i32.const 60000))) unreachable", "memory-limit"),
    ] {
        assert_eq!(fate(poll).await, ("1.0.0".into(), code.into()), "{poll}");
    }
}

#[tokio::test]
async fn a_vendor_that_has_no_time_says_nothing_about_the_version() {
    // Rate limited, unavailable, timeout.
    for poll in [failing!("4"), failing!("5"), failing!("6")] {
        assert_eq!(fate(poll).await, ("2.0.0".into(), String::new()), "{poll}");
    }
}

#[tokio::test]
async fn a_version_that_blames_the_vendor_where_the_old_one_works_is_to_blame() {
    // Invalid settings, unauthorized, forbidden, not found, malformed response, budget exhausted.
    for (poll, code) in [
        (failing!("0"), "invalid-settings"),
        (failing!("1"), "unauthorized"),
        (failing!("2"), "forbidden"),
        (failing!("3"), "not-found"),
        (failing!("7"), "malformed-response"),
        (failing!("9"), "budget-exhausted"),
    ] {
        assert_eq!(fate(poll).await, ("1.0.0".into(), code.into()), "{poll}");
    }
}

#[tokio::test]
async fn an_instance_that_the_old_version_fails_on_as_well_keeps_no_update_away() {
    let world = World::new();
    world.fixture(FILE, &polling("1.0.0", "unreachable"));
    world.scan().await;
    assert_eq!(world.serving(), "1.0.0", "no instance speaks against it");
    world.live.add(1, "acme", Some(b"state"));
    world.fixture(FILE, &polling("2.0.0", failing!("10")));
    world.scan().await;
    assert_eq!(world.serving(), "2.0.0");
}

#[tokio::test]
async fn a_first_version_that_fails_for_every_instance_does_not_serve() {
    let world = World::new();
    world.live.add(1, "acme", None);
    world.fixture(FILE, &polling("1.0.0", "unreachable"));
    world.scan().await;
    assert_eq!(world.fate(FILE), (ConnectorState::Quarantined, "connector-trap".into()));
    assert_eq!(world.serving(), "-");
}

#[tokio::test]
async fn a_first_version_that_crashes_for_one_of_its_instances_serves_the_others() {
    let world = World::new();
    world.live.add(1, "crashing", Some(b"state"));
    world.live.add(2, "refused", None);
    // With a checkpoint it crashes; without one the vendor refuses the key.
    let poll = "(if (i32.eqz (local.get 2)) (then (return (i32.const {failure})))) unreachable";
    world.fixture(FILE, &polling("1.0.0", poll));
    world.scan().await;
    assert_eq!(world.serving(), "1.0.0");
}

/// Refuses every setting, or crashes over it.
fn refusing(version: &str, configure: &'static str) -> Fixture {
    Fixture { configure, ..Fixture::version(version) }
}

#[tokio::test]
async fn a_version_that_refuses_a_live_instances_settings_names_instance_and_field() {
    let world = World::new();
    world.live.add(1, "acme", None);
    world.version(FILE, "1.0.0");
    world.scan().await;
    world.fixture(FILE, &refusing("2.0.0", "(return (i32.const {refused}))"));
    world.scan().await;
    assert_eq!(world.serving(), "1.0.0");
    assert_eq!(world.fate(FILE), (ConnectorState::Quarantined, "invalid-settings".into()));
    world.assert_reason(FILE, &["instance acme", "region: no such region"]);
    world.fixture(FILE, &refusing("2.0.1", "unreachable"));
    world.scan().await;
    assert_eq!(world.serving(), "1.0.0");
    assert_eq!(world.fate(FILE), (ConnectorState::Quarantined, "connector-trap".into()));
}

#[tokio::test]
async fn settings_that_the_first_version_refuses_are_the_instances_trouble() {
    let world = World::new();
    world.live.add(1, "acme", None);
    world.fixture(FILE, &refusing("1.0.0", "(return (i32.const {refused}))"));
    world.scan().await;
    assert_eq!(world.serving(), "1.0.0");
    // Nor do they keep an update away.
    world.fixture(FILE, &refusing("1.0.1", "(return (i32.const {refused}))"));
    world.scan().await;
    assert_eq!(world.serving(), "1.0.1");
    // A crash over them is the connector's.
    let other = World::new();
    other.live.add(1, "acme", None);
    other.fixture(FILE, &refusing("1.0.0", "unreachable"));
    other.scan().await;
    assert_eq!(other.fate(FILE), (ConnectorState::Quarantined, "connector-trap".into()));
}

#[tokio::test]
async fn a_version_that_requires_a_setting_that_no_instance_has_does_not_serve() {
    let world = World::new();
    world.live.add(1, "acme", None);
    world.version(FILE, "1.0.0");
    world.scan().await;
    let mut demanding = Fixture::version("2.0.0");
    let mut field = demanding.descriptor.settings[1].clone();
    (field.key, field.required) = ("new".into(), true);
    demanding.descriptor.settings.push(field);
    world.fixture(FILE, &demanding);
    world.scan().await;
    assert_eq!(world.serving(), "1.0.0");
    assert_eq!(world.fate(FILE), (ConnectorState::Quarantined, "invalid-settings".into()));
    world.assert_reason(FILE, &["instance acme", "the setting new is missing"]);
}

/// Instances that tell who is lent.
#[derive(Default)]
struct Lending {
    inner: Instances,
    asked: std::sync::Arc<std::sync::Mutex<Vec<String>>>,
}

impl LiveInstances for Lending {
    fn ids(&self, integration_type: &str) -> Vec<Uuid> {
        self.inner.ids(integration_type)
    }

    fn ready<'a>(&'a self, id: Uuid, connector: &'a Connector) -> Asked<'a, Option<Result<LiveInstance, NotReady>>> {
        self.asked.lock().unwrap().push(format!("ready {} {}", id.as_u128(), connector.descriptor().version));
        self.inner.ready(id, connector)
    }

    fn checkpoint(&self, id: Uuid) -> Asked<'_, Result<Option<Vec<u8>>, Box<FailureReport>>> {
        self.asked.lock().unwrap().push(format!("checkpoint {}", id.as_u128()));
        self.inner.checkpoint(id)
    }

    fn lend(&self, id: Uuid) -> Option<crate::connectors::serving::Lent> {
        self.asked.lock().unwrap().push(format!("lend {}", id.as_u128()));
        let asked = self.asked.clone();
        Some(crate::connectors::serving::Lent::until(move || asked.lock().unwrap().push("back".into())))
    }
}

#[tokio::test]
async fn an_instance_is_lent_until_both_versions_have_polled_it_and_who_has_a_checkpoint_is_asked_first() {
    let world = World::new();
    world.version(FILE, "1.0.0");
    world.scan().await;
    let lending = Lending::default();
    lending.inner.add(1, "new", None);
    lending.inner.add(2, "old", Some(b"x"));
    world.fixture(FILE, &polling("2.0.0", "unreachable"));
    world.registry.scan(&lending).await;
    let asked = lending.asked.lock().unwrap().clone();
    // Each is looked at once; the checkpoint of the one that is lent is read and no other.
    let expected = [
        "ready 1 2.0.0",
        "ready 2 2.0.0",
        "lend 2",
        "ready 2 2.0.0",
        "checkpoint 2",
        "ready 2 1.0.0",
        "checkpoint 2",
        "back",
    ];
    assert_eq!(asked, expected);
}

#[tokio::test]
async fn an_instance_that_a_version_cannot_be_set_up_for_is_looked_at_once_more_and_no_other_with_it() {
    let world = World::new();
    let lending = Lending::default();
    for number in 1..=20 {
        lending.inner.add(number, "acme", Some(b"x"));
    }
    let demanding = |version: &str| {
        let mut demanding = Fixture::version(version);
        let mut field = demanding.descriptor.settings[1].clone();
        (field.key, field.required) = ("new".into(), true);
        demanding.descriptor.settings.push(field);
        demanding
    };
    // Neither version is ready for any of them.
    for version in ["1.0.0", "2.0.0"] {
        lending.asked.lock().unwrap().clear();
        world.fixture(FILE, &demanding(version));
        world.registry.scan(&lending).await;
        assert_eq!(world.serving(), version);
    }
    assert_eq!(lending.asked.lock().unwrap().len(), 40, "both versions, once each");
}

/// Instances over which the host panics, once.
#[derive(Default)]
struct Panicking {
    inner: Instances,
    done: std::sync::atomic::AtomicBool,
}

impl LiveInstances for Panicking {
    fn ids(&self, integration_type: &str) -> Vec<Uuid> {
        assert!(self.done.swap(true, std::sync::atomic::Ordering::Relaxed), "as the test wants");
        self.inner.ids(integration_type)
    }

    fn ready<'a>(&'a self, id: Uuid, connector: &'a Connector) -> Asked<'a, Option<Result<LiveInstance, NotReady>>> {
        self.inner.ready(id, connector)
    }

    fn checkpoint(&self, id: Uuid) -> Asked<'_, Result<Option<Vec<u8>>, Box<FailureReport>>> {
        self.inner.checkpoint(id)
    }
}

#[tokio::test]
async fn a_host_that_panics_over_a_version_looks_at_others_and_tries_it_again() {
    let world = World::new();
    let live = Panicking::default();
    world.version(FILE, "1.0.0");
    world.registry.scan(&live).await;
    assert_eq!(world.fate(FILE), (ConnectorState::Refused, "host-error".into()));
    world.advance(61);
    world.registry.scan(&live).await;
    assert_eq!(world.serving(), "1.0.0");
}

#[tokio::test]
async fn a_version_whose_quarantine_cannot_be_written_is_tried_again_when_its_time_has_come_and_not_at_every_look() {
    let world = World::new();
    let lending = Lending::default();
    lending.inner.add(1, "acme", None);
    let tries = || lending.asked.lock().unwrap().iter().filter(|one| one.starts_with("lend")).count();
    // A file in place of the directory.
    let records = world.state().join("connectors/quarantine");
    fs::remove_dir_all(&records).unwrap();
    fs::write(&records, "").unwrap();
    world.fixture(FILE, &polling("1.0.0", "unreachable"));
    for _ in 0..4 {
        world.registry.scan(&lending).await;
        world.advance(2);
    }
    assert_eq!((world.fate(FILE).0, tries()), (ConnectorState::Quarantined, 1));
    world.advance(60);
    world.registry.scan(&lending).await;
    assert_eq!(tries(), 2);
}
