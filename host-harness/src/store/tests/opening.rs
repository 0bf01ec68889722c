//! Directories and databases that can be opened, and those that are refused and left as they are.

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

use super::*;

#[test]
fn a_second_writer_is_refused_with_the_first_ones_process_id_and_may_come_later() {
    let (dir, store, _) = store();
    let error = Store::open(dir.path()).expect_err("must be locked");
    assert_eq!(error.code(), "state-locked");
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    drop(store);
    Store::open(dir.path()).expect("free again");
}

#[test]
fn a_store_that_cannot_be_looked_at_is_not_taken_for_one_that_is_not_there() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("file");
    fs::write(&file, "").expect("file");
    let error = Reader::open(&file).expect_err("must fail");
    assert_eq!(error.code(), "state-unreadable");
    assert!(error.to_string().starts_with("cannot read the database "), "{error}");
}

#[test]
fn reading_a_directory_without_state_says_so_and_creates_nothing() {
    let dir = tempfile::tempdir().expect("temporary directory");
    assert_eq!(Reader::open(dir.path()).expect_err("must fail").code(), "state-missing");
    assert_eq!(fs::read_dir(dir.path()).expect("list").count(), 0);
}

#[test]
fn a_new_directory_and_database_are_for_the_owner_only() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let inner = dir.path().join("deep/state");
    let _store = Store::open(&inner).expect("store");
    let mode = |path: &Path| fs::metadata(path).expect("metadata").permissions().mode() & 0o777;
    assert_eq!(mode(&inner), 0o700);
    for entry in fs::read_dir(&inner).expect("list") {
        let path = entry.expect("entry").path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let file = dir.path().join("file");
    fs::write(&file, "").expect("file");
    let error = Store::open(&file.join("state")).expect_err("must fail");
    assert_eq!(error.code(), "state-directory");
    assert!(error.to_string().starts_with("cannot create the state directory "), "{error}");
    assert!(error.to_string().contains("file/state"), "{error}");
}

#[test]
fn a_damaged_database_is_named_and_left_as_it_is() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("state.sqlite");
    fs::write(&path, "this is no database, and long enough to be taken for one".repeat(100)).expect("file");
    let before = fs::read(&path).expect("before");
    let error = Store::open(dir.path()).expect_err("must fail");
    assert_eq!(error.code(), "state-corrupt");
    assert!(error.to_string().contains("state.sqlite"), "{error}");
    assert!(error.help().contains("backup"));
    assert_eq!(fs::read(&path).expect("after"), before);
    assert_eq!(Reader::open(dir.path()).expect_err("must fail").code(), "state-corrupt");
}

#[test]
fn a_database_with_damaged_pages_is_reported_as_such_when_they_are_met() {
    let (dir, store, instance) = store();
    store.commit_step(&instance, &batch((0..500).map(|n| artifact(n, "")).collect(), b"x"), NOW).expect("commit");
    drop(store);
    let path = dir.path().join("state.sqlite");
    let mut bytes = fs::read(&path).expect("read");
    bytes.iter_mut().skip(4096).for_each(|byte| *byte = 0xEE);
    fs::write(&path, bytes).expect("write");
    let error = Store::open(dir.path()).and_then(|store| store.instance("acme", "acme-siem", NOW));
    assert_eq!(error.expect_err("must fail").code(), "state-corrupt");
}

#[test]
fn a_newer_schema_is_refused_and_left_as_it_is() {
    let (dir, store, _) = store();
    drop(store);
    let path = dir.path().join("state.sqlite");
    Connection::open(&path).expect("open").pragma_update(None, "user_version", 99).expect("version");
    let error = Store::open(dir.path()).expect_err("must fail");
    assert_eq!(error.code(), "state-newer");
    assert!(error.to_string().ends_with("has schema version 99; this program knows versions up to 8"), "{error}");
    assert_eq!(Reader::open(dir.path()).expect_err("must fail").code(), "state-newer");
}

#[test]
fn a_database_of_another_program_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let path = dir.path().join("state.sqlite");
    Connection::open(&path).expect("open").execute_batch("CREATE TABLE theirs (a)").expect("table");
    assert_eq!(Store::open(dir.path()).expect_err("must fail").code(), "state-foreign");
    let files: Vec<_> =
        fs::read_dir(dir.path()).expect("list").map(|entry| entry.expect("entry").file_name()).collect();
    assert_eq!(files, ["state.sqlite"], "and no lock");
    let tables: i64 = Connection::open(&path)
        .expect("open")
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .expect("count");
    assert_eq!(tables, 1);
}

#[test]
fn a_lock_file_with_anything_in_it_is_no_obstacle() {
    let dir = tempfile::tempdir().expect("temporary directory");
    fs::OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(dir.path().join("lock"))
        .expect("lock");
    fs::write(dir.path().join("lock"), [0xff; 100]).expect("write");
    Store::open(dir.path()).expect("opens");
}
