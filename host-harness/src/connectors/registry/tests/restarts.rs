//! What a restart goes on with, whatever was on disk.

use super::*;
use crate::connectors::hex;
use sha2::{Digest as _, Sha256};

#[tokio::test]
async fn what_served_goes_on_although_its_file_holds_something_else_now() {
    let mut world = World::new();
    world.version(FILE, "1.0.0");
    world.scan().await;
    for (bytes, state) in [
        (b"hello".to_vec(), ConnectorState::Refused),
        (Fixture { describe: "unreachable", ..Fixture::version("2.0.0") }.build(), ConnectorState::Quarantined),
        (Fixture::version("0.9.0").build(), ConnectorState::Refused),
    ] {
        world.put(FILE, &bytes);
        world.scan().await;
        assert_eq!((world.serving(), world.fate(FILE).0), ("1.0.0".into(), state));
        world.restart();
        world.scan().await;
        assert_eq!((world.serving(), world.fate(FILE).0), ("1.0.0".into(), state));
    }
    world.version(FILE, "1.0.1");
    world.restart();
    world.scan().await;
    assert_eq!(world.serving(), "1.0.1");
}

#[tokio::test]
async fn a_file_that_is_gone_is_not_served_from_what_was_kept() {
    let mut world = World::new();
    world.version(FILE, "1.0.0");
    world.scan().await;
    world.remove(FILE);
    world.restart();
    world.scan().await;
    assert_eq!(world.serving(), "-");
    // And one that was removed while the host ran may come back older.
    world.version(FILE, "1.0.0");
    world.scan().await;
    world.remove(FILE);
    world.scan().await;
    world.scan().await;
    world.version(FILE, "0.9.0");
    world.restart();
    world.scan().await;
    assert_eq!(world.serving(), "0.9.0");
}

#[tokio::test]
async fn damaged_records_and_components_are_left_out() {
    for damage in ["kept/fixture.json", "the component", "the component's bytes"] {
        let mut world = World::new();
        world.version(FILE, "1.0.0");
        world.scan().await;
        let kept = world.state().join("connectors/kept");
        let component = kept.join(format!("{}.wasm", world.current().digest()));
        match damage {
            "the component" => fs::remove_file(component).unwrap(),
            "the component's bytes" => fs::write(component, Fixture::version("6.6.6").build()).unwrap(),
            record => fs::write(world.state().join("connectors").join(record), b"{\"digest\":\"").unwrap(),
        }
        world.put(FILE, b"hello");
        world.restart();
        world.scan().await;
        assert_eq!((world.serving(), world.fate(FILE).0), ("-".into(), ConnectorState::Refused), "{damage}");
        world.version(FILE, "1.0.0");
        world.scan().await;
        assert_eq!(world.serving(), "1.0.0", "{damage}");
    }
}

#[tokio::test]
async fn a_crash_between_the_steps_of_a_swap_is_made_up_for() {
    let mut world = World::new();
    world.version(FILE, "1.0.0");
    world.scan().await;
    let connectors = world.state().join("connectors");
    let one = Fixture::version("1.0.0").build();
    // The component of a version that had not been made the kept one, and files aside of each kind of record.
    fs::write(connectors.join("kept").join(format!("{}.wasm", "0".repeat(64))), &one).unwrap();
    for kind in ["kept", "pins", "held", "quarantine"] {
        fs::write(connectors.join(kind).join(".1-1.tmp"), b"{").unwrap();
    }
    world.restart();
    world.version(FILE, "1.1.0");
    world.scan().await;
    assert_eq!(world.serving(), "1.1.0");
    let components = fs::read_dir(connectors.join("kept")).unwrap();
    let components = components.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|e| e == "wasm"));
    assert_eq!(components.count(), 1, "only the one that is kept");
}

#[tokio::test]
async fn a_tampered_cache_entry_is_compiled_again_and_not_run() {
    let mut world = World::new();
    world.version(FILE, "1.0.0");
    world.scan().await;
    let digest = world.current().digest().to_owned();
    let compiled = world.state().join("connectors/compiled");
    let entry = fs::read_dir(&compiled).unwrap().next().unwrap().unwrap().path();
    world.restart();
    world.scan().await;
    assert!(world.current().from_cache());
    let whole = fs::read(&entry).unwrap();
    // Another component's code under this one's name, as somebody with a shell may leave it.
    let other = {
        let elsewhere = World::new();
        elsewhere.version(FILE, "6.6.6");
        elsewhere.scan().await;
        let compiled = elsewhere.state().join("connectors/compiled");
        fs::read(fs::read_dir(compiled).unwrap().next().unwrap().unwrap().path()).unwrap()
    };
    let mut flipped = whole.clone();
    let last = flipped.len() - 1;
    flipped[last] ^= 1;
    for bytes in [other, flipped, whole[..whole.len() / 2].to_vec(), Vec::new()] {
        fs::write(&entry, &bytes).unwrap();
        world.restart();
        world.scan().await;
        assert_eq!((world.serving(), world.current().digest()), ("1.0.0".into(), digest.as_str()));
        assert!(!world.current().from_cache());
        world.restart();
        world.scan().await;
        assert!(world.current().from_cache(), "it was compiled again and kept");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(&entry, fs::Permissions::from_mode(0o666)).unwrap();
        world.restart();
        world.scan().await;
        assert!(!world.current().from_cache(), "others could have written it");
    }
}

#[tokio::test]
async fn what_a_host_ended_over_is_in_quarantine_when_it_starts_again() {
    let mut world = World::new();
    let bytes = Fixture::version("1.0.0").build();
    let digest = hex(&Sha256::digest(&bytes));
    let record = world.state().join(format!("connectors/trying/{digest}.json"));
    // As the host before this one left it, killed while it compiled.
    fs::write(&record, "null").unwrap();
    world.restart();
    world.put(FILE, &bytes);
    world.scan().await;
    assert_eq!(world.fate(FILE), (ConnectorState::Quarantined, "host-ended".into()));
    assert!(!record.exists());
    // It is tried again like anything that failed once, and what is loaded leaves no record.
    world.advance(61);
    world.scan().await;
    assert_eq!(world.serving(), "1.0.0");
    assert!(fs::read_dir(record.parent().unwrap()).unwrap().next().is_none());
}

#[tokio::test]
async fn what_a_host_ended_over_twice_is_not_tried_again_until_it_is_released() {
    let mut world = World::new();
    let bytes = Fixture::version("1.0.0").build();
    let digest = hex(&Sha256::digest(&bytes));
    let record = world.state().join(format!("connectors/trying/{digest}.json"));
    world.put(FILE, &bytes);
    for _ in 0..2 {
        fs::write(&record, "null").unwrap();
        world.restart();
        world.scan().await;
        assert_eq!(world.fate(FILE), (ConnectorState::Quarantined, "host-ended".into()));
        // Time for another try after the first end, when the host ends again.
        world.advance(61);
    }
    for days in [1, 30, 365] {
        world.advance(days * 24 * 3600);
        world.restart();
        world.scan().await;
        assert_eq!(world.fate(FILE), (ConnectorState::Quarantined, "host-ended".into()), "after {days} days");
    }
    let text = fs::read_to_string(world.state().join(format!("connectors/quarantine/{digest}.json"))).unwrap();
    let record: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&record["failures"], &record["retry_at"]), (&2.into(), &serde_json::Value::Null));
    fs::remove_file(world.state().join(format!("connectors/quarantine/{digest}.json"))).unwrap();
    world.scan().await;
    assert_eq!(world.serving(), "1.0.0");
}
