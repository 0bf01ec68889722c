//! The promises of the store, each broken on purpose.

mod opening;
mod periods;
mod searching;
mod trouble;

use std::fs;

use rusqlite::Connection;
use time::OffsetDateTime;

use super::*;
use crate::contract::types::{Artifact, Batch};

pub(super) const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

pub(super) fn artifact(number: u32, fields: &str) -> Artifact {
    let id = Uuid::from_u128(u128::from(number)).to_string();
    let json = format!(r#"{{"id":"{id}","streamName":"acme_siem"{fields}}}"#);
    Artifact { id, stream: "alerts".into(), json }
}

pub(super) fn batch(artifacts: Vec<Artifact>, checkpoint: &[u8]) -> Batch {
    Batch {
        artifacts,
        checkpoint: checkpoint.to_vec(),
        more: false,
        reports: Vec::new(),
        retry_after_seconds: None,
        hint: None,
    }
}

/// New artifacts, and repeated ones.
pub(super) fn counted(committed: Committed) -> (u64, u64) {
    (committed.new, committed.repeated)
}

pub(super) fn store() -> (tempfile::TempDir, Store, Instance) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = Store::open(dir.path()).expect("store");
    let instance = store.instance("acme", "acme-siem", NOW).expect("instance");
    (dir, store, instance)
}

pub(super) fn found(store: &Store, query: &str) -> Vec<u128> {
    let hits = store.search(query, None, 100).unwrap_or_else(|error| panic!("{query:?}: {error}"));
    hits.iter().map(|hit| hit.id.as_u128()).collect()
}

#[test]
fn a_step_is_there_after_the_store_is_opened_again() {
    let (dir, store, instance) = store();
    let committed = store.commit_step(&instance, &batch(vec![artifact(1, ""), artifact(2, "")], b"one"), NOW);
    assert_eq!(committed.map(counted).expect("commit"), (2, 0));
    drop(store);

    let store = Store::open(dir.path()).expect("again");
    let again = store.instance("acme", "acme-siem", NOW).expect("instance");
    assert_eq!(again.id, instance.id);
    assert_eq!(store.checkpoint(&again).expect("checkpoint").as_deref(), Some(&b"one"[..]));
    assert_eq!(store.steps(&again).expect("steps"), 1);
    assert_eq!(store.counts().expect("counts"), Counts { instances: 1, artifacts: 2, undelivered: 2 });
}

#[test]
fn before_the_first_step_there_is_no_checkpoint() {
    let (_dir, store, instance) = store();
    assert_eq!(store.checkpoint(&instance).expect("checkpoint"), None);
}

#[test]
fn a_repeated_artifact_is_counted_and_neither_stored_nor_delivered_again() {
    let (_dir, store, instance) = store();
    store.commit_step(&instance, &batch(vec![artifact(1, "")], b"a"), NOW).expect("first");
    let waiting = store.undelivered(&instance, 10).expect("waiting");
    store.mark_delivered(&instance, &waiting).expect("delivered");

    let second = batch(vec![artifact(1, r#","program":"other""#), artifact(2, "")], b"b");
    let committed = store.commit_step(&instance, &second, NOW).expect("second");
    assert_eq!(counted(committed), (1, 1));
    let waiting = store.undelivered(&instance, 10).expect("waiting");
    assert_eq!(waiting.iter().map(|a| a.id.as_u128()).collect::<Vec<_>>(), [2]);
    assert_eq!(found(&store, "other"), [0u128; 0], "the artifact stays as it was first stored");
}

#[test]
fn the_same_id_at_two_instances_is_two_artifacts() {
    let (_dir, store, first) = store();
    let second = store.instance("other", "acme-siem", NOW).expect("instance");
    for instance in [&first, &second] {
        let committed = store.commit_step(instance, &batch(vec![artifact(1, "")], b""), NOW).expect("commit");
        assert_eq!(committed.new, 1);
    }
    assert_eq!(store.undelivered(&second, 10).expect("waiting").len(), 1);
}

#[test]
fn a_step_that_fails_halfway_leaves_nothing() {
    let (_dir, store, instance) = store();
    store.commit_step(&instance, &batch(vec![artifact(1, "")], b"good"), NOW).expect("first");
    // The table that is written last is made to fail.
    store
        .database
        .with(|connection| {
            connection.execute_batch(
                "CREATE TEMP TRIGGER broken BEFORE UPDATE ON checkpoint BEGIN SELECT raise(ABORT, 'broken'); END",
            )
        })
        .expect("trigger");
    let error = store.commit_step(&instance, &batch(vec![artifact(2, r#","program":"late""#)], b"bad"), NOW);
    assert_eq!(error.expect_err("must fail").code(), "state-failed");
    assert_eq!(store.checkpoint(&instance).expect("checkpoint").as_deref(), Some(&b"good"[..]));
    assert_eq!(store.counts().expect("counts"), Counts { instances: 1, artifacts: 1, undelivered: 1 });
    assert_eq!(found(&store, "late"), [0u128; 0]);
}

#[test]
fn an_id_that_is_no_uuid_fails_the_step_and_stores_nothing() {
    let (_dir, store, instance) = store();
    let bad = Artifact { id: "7".into(), stream: "alerts".into(), json: "{}".into() };
    let error = store.commit_step(&instance, &batch(vec![artifact(1, ""), bad], b"x"), NOW).expect_err("must fail");
    assert_eq!(error.code(), "artifact-id");
    assert_eq!(store.counts().expect("counts").artifacts, 0);
    assert_eq!(store.checkpoint(&instance).expect("checkpoint"), None);
}

#[test]
fn what_waits_for_delivery_comes_in_the_order_of_arrival_and_in_portions() {
    let (_dir, store, instance) = store();
    store.commit_step(&instance, &batch((1..=5).map(|n| artifact(n, "")).collect(), b""), NOW).expect("commit");
    let first = store.undelivered(&instance, 3).expect("waiting");
    assert_eq!(first.iter().map(|a| a.id.as_u128()).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(store.undelivered(&instance, 3).expect("waiting"), first, "unmarked artifacts come again");
    store.mark_delivered(&instance, &first).expect("marked");
    store.mark_delivered(&instance, &first).expect("marking again is fine");
    let rest = store.undelivered(&instance, 3).expect("waiting");
    assert_eq!(rest.iter().map(|a| a.id.as_u128()).collect::<Vec<_>>(), [4, 5]);
}

#[test]
fn what_was_delivered_while_that_could_not_be_recorded_is_recorded_first_and_not_given_again() {
    let (_dir, store, instance) = store();
    store.commit_step(&instance, &batch((1..=5).map(|n| artifact(n, "")).collect(), b""), NOW).expect("commit");
    let first = store.undelivered(&instance, 3).expect("waiting");
    let broken = "CREATE TEMP TRIGGER broken BEFORE DELETE ON outbox BEGIN SELECT raise(ABORT, 'broken'); END";
    store.database.with(|connection| connection.execute_batch(broken)).expect("trigger");
    assert!(store.mark_delivered(&instance, &first).is_err());
    assert!(store.clone().undelivered(&instance, 3).is_err(), "nothing is given out meanwhile");
    store.database.with(|connection| connection.execute_batch("DROP TRIGGER broken")).expect("no trigger");
    let rest = store.undelivered(&instance, 3).expect("waiting");
    assert_eq!(rest.iter().map(|a| a.id.as_u128()).collect::<Vec<_>>(), [4, 5]);
    assert_eq!(store.counts().expect("counts").undelivered, 2);
}

#[test]
fn a_copy_that_vacuum_makes_beside_the_writer_goes_on_where_it_was_made() {
    let (dir, store, instance) = store();
    store.commit_step(&instance, &batch(vec![artifact(1, ""), artifact(2, "")], b"one"), NOW).expect("commit");
    let backup = dir.path().join("backup");
    fs::create_dir(&backup).expect("directory");
    let other = Connection::open(dir.path().join("state.sqlite")).expect("beside the writer");
    let into = backup.join("state.sqlite");
    other.execute("VACUUM INTO ?1", [into.to_str()]).expect("copied");
    other.execute("VACUUM INTO ?1", [into.to_str()]).expect_err("what is there is not overwritten");
    store.commit_step(&instance, &batch(vec![artifact(3, "")], b"two"), NOW).expect("commit");

    let restored = Store::open(&backup).expect("restored");
    let again = restored.instance("acme", "acme-siem", NOW).expect("instance");
    assert_eq!(restored.checkpoint(&again).expect("checkpoint").as_deref(), Some(&b"one"[..]));
    let committed = restored.commit_step(&again, &batch((1..=3).map(|n| artifact(n, "")).collect(), b"two"), NOW);
    assert_eq!(committed.map(counted).expect("goes on"), (1, 2));
    assert_eq!(found(&restored, "acme_siem"), [3, 2, 1]);
    assert_eq!(restored.undelivered(&again, 10).expect("waiting").len(), 3);
}

#[test]
fn an_instance_belongs_to_one_connector_and_has_a_proper_name() {
    let (_dir, store, instance) = store();
    store.commit_step(&instance, &batch(Vec::new(), b"progress"), NOW).expect("commit");
    let error = store.instance("acme", "other-connector", NOW).expect_err("must fail");
    insta::assert_snapshot!(error, @r#"the instance "acme" belongs to the connector acme-siem, not to other-connector"#);
    for name in ["", " acme", "a\nb", &"x".repeat(65)] {
        assert_eq!(store.instance(name, "acme-siem", NOW).expect_err(name).code(), "instance-name");
    }
}

#[test]
fn an_instance_of_which_nothing_was_ever_stored_goes_over_to_another_connector() {
    let (_dir, store, instance) = store();
    let slip = store.identified(Some("id"), "slip", "acme-seim", NOW).expect("instance");
    let corrected = store.identified(Some("id"), "slip", "acme-siem", NOW).expect("corrected");
    assert_eq!((corrected.id, corrected.connector.as_str()), (slip.id, "acme-siem"));
    store.commit_step(&instance, &batch(vec![artifact(1, "")], b"progress"), NOW).expect("commit");
    store.begin_again(&instance).expect("without progress");
    assert_eq!(
        store.instance("acme", "other", NOW).expect_err("it has an artifact").code(),
        "instance-of-other-connector"
    );
}

#[test]
fn what_is_delivered_once_more_is_all_that_is_stored_of_an_instance_from_a_time_on() {
    let (_dir, store, instance) = store();
    let other = store.instance("other", "acme-siem", NOW).expect("instance");
    let at = |minutes| NOW + time::Duration::minutes(minutes);
    for number in 0..6 {
        let of = if number % 2 == 0 { &instance } else { &other };
        store.commit_step(of, &batch(vec![artifact(number, "")], b""), at(number.into())).expect("commit");
    }
    let ids = |of: &Instance| {
        let waiting = store.undelivered(of, 10).expect("waiting");
        waiting.iter().map(|one| one.id.as_u128()).collect::<Vec<_>>()
    };
    let deliver = |of: &Instance| {
        let waiting = store.undelivered(of, 10).expect("waiting");
        store.mark_delivered(of, &waiting).expect("delivered");
    };
    deliver(&instance);
    deliver(&other);
    assert_eq!(store.deliver_again(&instance, Some(at(2))).expect("again"), 2);
    assert_eq!((ids(&instance), ids(&other)), (vec![2, 4], vec![]));
    assert_eq!(store.deliver_again(&instance, None).expect("again"), 1, "two of them wait already");
    assert_eq!(ids(&instance), [0, 2, 4]);
    deliver(&instance);
    assert_eq!(ids(&instance), [0u128; 0]);
}

#[test]
fn a_reader_sees_what_a_writer_commits_while_it_holds_the_lock() {
    let (dir, store, instance) = store();
    let reader = Reader::open(dir.path()).expect("reader");
    store.commit_step(&instance, &batch(vec![artifact(1, "")], b""), NOW).expect("commit");
    assert_eq!(reader.search("", None, 10).expect("hits").len(), 1);
    assert_eq!(reader.counts().expect("counts").artifacts, 1);
}

#[test]
fn what_another_program_holds_is_told_from_what_is_broken() {
    let path = std::path::Path::new("state.sqlite");
    let failure = |code| rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
    let busy = schema::classify(path, failure(rusqlite::ffi::SQLITE_BUSY));
    insta::assert_snapshot!(busy, @"the database state.sqlite is held by another program");
    assert_eq!(busy.code(), "state-busy");
    assert!(!busy.help().contains("restore"), "{}", busy.help());
}

#[test]
fn a_backlog_of_large_artifacts_is_given_in_portions_and_whole() {
    let (_dir, store, instance) = store();
    let large = format!(r#","message":"{}""#, "x".repeat(6 << 20));
    for number in 0..6 {
        store.commit_step(&instance, &batch(vec![artifact(number, &large)], b"one"), NOW).expect("commit");
    }
    let mut portions = Vec::new();
    loop {
        let portion = store.undelivered(&instance, 1_000).expect("waiting");
        if portion.is_empty() {
            break;
        }
        store.mark_delivered(&instance, &portion).expect("marked");
        portions.push(portion.len());
    }
    assert_eq!(portions, [3, 3]);
}
