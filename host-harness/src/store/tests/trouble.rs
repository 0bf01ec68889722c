//! A store that others use, a disk that was full, a database that is not where it was.

use super::*;

#[test]
fn whoever_queued_behind_one_who_found_the_store_in_use_fails_with_him() {
    let (_dir, store, instance) = store();
    let commit = |state: &[u8]| store.commit_step(&instance, &batch(Vec::new(), state), NOW);
    // Found out while this one waits for the connection.
    *crate::locks::lock(&store.database.busy) = Some(Instant::now() + Duration::from_hours(1));
    assert_eq!(commit(b"one").expect_err("in use").code(), "state-busy");
    assert_eq!(store.checkpoint(&instance).expect("who reads is not in the way of anybody"), None);
    // Long ago.
    *crate::locks::lock(&store.database.busy) = Some(Instant::now());
    commit(b"two").expect("committed");
}

#[test]
fn trying_whether_there_is_room_leaves_nothing_behind() {
    let (dir, store, _) = store();
    store.try_room().expect("there is");
    assert!(!dir.path().join("room").exists());
}

#[test]
fn nothing_is_stored_into_a_database_that_was_taken_away_or_replaced() {
    let (dir, store, instance) = store();
    let commit = |state: &[u8]| store.commit_step(&instance, &batch(vec![artifact(0, "")], state), NOW);
    let (here, away) = (dir.path().join("state.sqlite"), dir.path().join("away"));
    fs::rename(&here, &away).expect("taken away");
    assert_eq!(commit(b"one").expect_err("gone").code(), "state-gone");
    fs::copy(&away, &here).expect("replaced");
    let error = commit(b"one").expect_err("another file");
    assert_eq!(error.code(), "state-gone");
    assert!(error.to_string().ends_with("was removed or replaced while this host used it"), "{error}");
    assert_eq!(store.instance("other", "acme-siem", NOW).expect_err("gone").code(), "state-gone");
    fs::rename(&away, &here).expect("put back");
    commit(b"one").expect("it is there again");
}
