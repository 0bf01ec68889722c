//! Where the configuration names the components that are approved.

use super::*;
use PollOutcome::Worked;
use sha2::{Digest as _, Sha256};

/// What the configuration says that approves these versions of the fixture.
fn approving(versions: &[&str]) -> Allowed {
    let digest = |version: &&str| crate::connectors::hex(&Sha256::digest(Fixture::version(version).build()));
    Allowed { components: Some(versions.iter().map(digest).collect()), ..Allowed::default() }
}

/// How many components were compiled, and kept so.
fn compiled(world: &World) -> usize {
    fs::read_dir(world.state().join("connectors/compiled")).map_or(0, |files| files.count())
}

/// A host that approves these, with one instance, looks at a version once.
async fn approved(versions: &[&str], version: &str) -> World {
    let world = World::new();
    world.live.add(1, "acme", None);
    world.registry.grant(approving(versions));
    world.version(FILE, version);
    world.scan().await;
    world
}

#[tokio::test]
async fn what_is_not_approved_is_not_even_compiled_whatever_it_says_of_itself() {
    let world = approved(&["1.0.0"], "1.0.0").await;
    assert_eq!(world.serving(), "1.0.0");
    // What no engine takes would be refused for that, were it looked at.
    for content in [Fixture::version("2.0.0").build(), b"no component".to_vec()] {
        world.put("other.wasm", &content);
        world.scan().await;
        assert_eq!(world.fate("other.wasm"), (ConnectorState::Refused, "not-approved".into()));
        let digest = crate::connectors::hex(&Sha256::digest(&content));
        world.assert_reason("other.wasm", &["approved_components in [host]", &digest]);
    }
    // Over the file of what serves, as well.
    world.version(FILE, "2.0.0");
    world.scan().await;
    assert_eq!((world.serving(), world.fate(FILE).1), ("1.0.0".into(), "not-approved".into()));
    assert_eq!(compiled(&world), 1);
    let nothing = approved(&[], "1.0.0").await;
    assert_eq!((nothing.serving(), nothing.fate(FILE).1), ("-".into(), "not-approved".into()));
}

#[tokio::test]
async fn an_update_serves_once_it_is_approved() {
    let world = approved(&["1.0.0"], "1.0.0").await;
    world.version("new.wasm", "2.0.0");
    world.scan().await;
    assert_eq!(world.serving(), "1.0.0");
    world.registry.grant(approving(&["1.0.0", "2.0.0"]));
    world.scan().await;
    assert_eq!(world.serving(), "2.0.0");
    // An edit that says nothing of components approves all.
    world.version("new.wasm", "3.0.0");
    world.scan().await;
    assert_eq!(world.serving(), "2.0.0");
    world.registry.grant(Allowed::default());
    world.scan().await;
    assert_eq!(world.serving(), "3.0.0");
}

#[tokio::test]
async fn what_is_approved_no_longer_stops_and_what_is_steps_in() {
    let world = approved(&["1.0.0", "2.0.0"], "2.0.0").await;
    world.version("old.wasm", "1.0.0");
    world.scan().await;
    assert_eq!((world.serving(), world.fate("old.wasm").1), ("2.0.0".into(), "older-version".into()));
    let mut changes = world.registry.changes();
    changes.mark_unchanged();
    world.registry.grant(approving(&["1.0.0"]));
    world.scan().await;
    assert_eq!((world.serving(), world.fate(FILE).1), ("1.0.0".into(), "not-approved".into()));
    assert!(changes.has_changed().unwrap(), "who is polled with it is told");
    world.registry.grant(approving(&[]));
    world.scan().await;
    assert_eq!(world.serving(), "-");
    world.registry.grant(approving(&["2.0.0"]));
    world.scan().await;
    assert_eq!(world.serving(), "2.0.0");
}

#[tokio::test]
async fn the_version_before_is_only_put_back_if_it_is_approved() {
    for (approved_still, serving) in [(&["1.0.0"][..], "1.0.0"), (&[], "-")] {
        let world = approved(&["1.0.0", "2.0.0"], "1.0.0").await;
        world.polled(&world.current(), Uuid::from_u128(1), &[Worked]);
        world.version(FILE, "2.0.0");
        world.scan().await;
        assert_eq!(world.serving(), "2.0.0");
        world.registry.grant(approving(approved_still));
        // A poll that fails meanwhile takes it back before the next look.
        world.polled(&world.current(), Uuid::from_u128(1), &[PollOutcome::ConnectorFailed; 3]);
        assert_eq!(world.serving(), serving);
        world.scan().await;
        assert_eq!(world.serving(), serving);
    }
}

#[tokio::test]
async fn what_proved_itself_before_a_restart_serves_after_it_only_if_it_is_approved() {
    let world = approved(&["1.0.0"], "1.0.0").await;
    for (versions, serving) in [(&["1.0.0"][..], "1.0.0"), (&["2.0.0"], "-")] {
        fs::remove_dir_all(world.state().join("connectors/compiled")).unwrap();
        let registry = open(&world.folder, &world.engine, &world.clock, approving(versions), COMPILE_TIME);
        registry.scan(&world.live).await;
        let current = registry.current(TYPE);
        assert_eq!(current.map_or("-".into(), |connector| connector.descriptor().version.clone()), serving);
        assert_eq!(compiled(&world), usize::from(serving != "-"));
    }
}
