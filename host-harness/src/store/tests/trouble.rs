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
fn what_could_not_be_stored_shows_before_a_vendor_is_asked_again_and_leaves_nothing() {
    let (dir, store, instance) = store();
    store.commit_step(&instance, &batch(vec![artifact(1, "")], b"one"), NOW).expect("committed");
    store.try_write().expect("all is well");
    assert_eq!((found(&store, "tried"), found(&store, "")), (vec![], vec![1]));
    // The full text cannot be written any more.
    let path = dir.path().join("state.sqlite");
    let damaged = Connection::open(&path).expect("open");
    let structure: Vec<u8> = damaged
        .query_row("SELECT block FROM artifact_text_data WHERE id = 10", [], |row| row.get(0))
        .expect("the index has one");
    damaged.execute("UPDATE artifact_text_data SET block = x'010203' WHERE id = 10", []).expect("damaged");
    drop(damaged);
    let stored = store.commit_step(&instance, &batch(vec![artifact(2, "")], b"two"), NOW).expect_err("damaged");
    let tried = store.try_write().expect_err("damaged");
    assert_eq!(tried.code(), stored.code());
    let mended = Connection::open(&path).expect("open");
    mended.execute("UPDATE artifact_text_data SET block = ?1 WHERE id = 10", [structure]).expect("mended");
    drop(mended);
    store.try_write().expect("all is well again");
}

#[test]
fn a_disk_on_which_nothing_can_be_committed_shows_before_a_vendor_is_asked_again() {
    let (_dir, store, instance) = store();
    let commit = |state: &[u8]| store.commit_step(&instance, &batch(vec![artifact(1, "")], state), NOW);
    // As on one that was mounted anew to be read only: what is written in memory can be, what is to reach the disk cannot.
    let fail = |fails: bool| {
        let mut connection = store.database.lock();
        connection.commit_hook(fails.then_some(|| true)).expect("hook");
    };
    fail(true);
    let stored = commit(b"one").expect_err("it cannot be committed");
    let tried = store.try_write().expect_err("nor can anything else");
    assert_eq!(tried.code(), stored.code());
    fail(false);
    store.try_write().expect("all is well again");
    commit(b"one").expect("committed");
}

#[test]
fn a_lock_that_somebody_removed_lets_no_second_writer_in() {
    let (dir, store, _) = store();
    fs::remove_file(dir.path().join("lock")).expect("removed");
    assert_eq!(Store::open(dir.path()).expect_err("it is in use").code(), "state-locked");
    drop(store);
    Store::open(dir.path()).expect("it is free");
}

#[test]
fn a_new_store_where_there_was_one_is_told() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let open = || crate::log::captured(|| drop(Store::open(dir.path()).expect("opened")));
    assert_eq!(open(), "", "the first one is nothing to tell");
    fs::create_dir(dir.path().join("connectors")).expect("made by somebody");
    fs::write(dir.path().join("connectors/report.json"), "{}").expect("made by a host");
    assert_eq!(open(), "");
    for name in ["state.sqlite", "state.sqlite-wal", "state.sqlite-shm"] {
        let _ = fs::remove_file(dir.path().join(name));
    }
    assert!(open().contains("was empty or missing, and a host has run here before"));
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
