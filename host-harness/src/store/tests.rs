//! The promises of the store, each broken on purpose.

mod trouble;

use std::fs;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

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
    let (_dir, store, _) = store();
    let error = store.instance("acme", "other-connector", NOW).expect_err("must fail");
    insta::assert_snapshot!(error, @r#"the instance "acme" belongs to the connector acme-siem, not to other-connector"#);
    for name in ["", " acme", "a\nb", &"x".repeat(65)] {
        assert_eq!(store.instance(name, "acme-siem", NOW).expect_err(name).code(), "instance-name");
    }
}

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
fn a_reader_sees_what_a_writer_commits_while_it_holds_the_lock() {
    let (dir, store, instance) = store();
    let reader = Reader::open(dir.path()).expect("reader");
    store.commit_step(&instance, &batch(vec![artifact(1, "")], b""), NOW).expect("commit");
    assert_eq!(reader.search("", None, 10).expect("hits").len(), 1);
    assert_eq!(reader.counts().expect("counts").artifacts, 1);
}

#[test]
fn a_search_ends_when_its_time_is_up_and_the_next_one_has_its_own() {
    let (dir, store, instance) = store();
    store.commit_step(&instance, &batch((0..2_000).map(|n| artifact(n, "")).collect(), b""), NOW).expect("commit");
    let reader = Reader::open(dir.path()).expect("reader");
    let within = |time| Most { within: Some(time), ..Most::hits(10_000) };
    let error = reader.search_at_most("acme*", None, within(Duration::ZERO)).expect_err("must fail");
    insta::assert_snapshot!(error, @"the search took longer than 0 s and was ended");
    assert_eq!(error.code(), "search-too-long");
    let minute = Duration::from_secs(60);
    assert_eq!(reader.search_at_most("acme*", None, within(minute)).expect("hits").hits.len(), 2_000);
    assert_eq!(reader.search("acme*", None, 10_000).expect("hits").len(), 2_000);
}

#[test]
fn a_reader_counts_what_waits_while_a_search_of_it_runs() {
    let (dir, store, instance) = store();
    store.commit_step(&instance, &batch(vec![artifact(1, "")], b""), NOW).expect("commit");
    let reader = Reader::open(dir.path()).expect("reader");
    let searching = reader.database.lock();
    assert_eq!(reader.outbox_depth().expect("depth"), 1);
    drop(searching);
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
fn what_another_program_holds_is_told_from_what_is_broken() {
    let path = std::path::Path::new("state.sqlite");
    let failure = |code| rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None);
    let busy = schema::classify(path, failure(rusqlite::ffi::SQLITE_BUSY));
    insta::assert_snapshot!(busy, @"the database state.sqlite is held by another program");
    assert_eq!(busy.code(), "state-busy");
    assert!(!busy.help().contains("restore"), "{}", busy.help());
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
    assert!(error.to_string().ends_with("has schema version 99; this program knows versions up to 7"), "{error}");
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

#[test]
fn every_field_of_the_search_page_finds_what_it_names_and_nothing_else() {
    let (_dir, store, instance) = store();
    let artifacts = vec![
        artifact(
            1,
            r#","clientIP":"10.0.0.1","serverIP":"10.0.0.2","userName":"jane.doe","severityLabel":"high","severityCode":"3""#,
        ),
        artifact(
            2,
            r#","clientIP":"10.0.0.2","serverIP":"10.0.0.1","clientHostname":"jane.example.com","severityLabel":"low""#,
        ),
        artifact(
            3,
            r#","message":"{\"title\":\"Jane logged in from 10.0.0.1\",\"path\":\"C:\\\\Temp\\\\evil.exe\"}","severityLabel":"low""#,
        ),
    ];
    store.commit_step(&instance, &batch(artifacts, b""), NOW).expect("commit");
    assert_eq!(found(&store, "src_ip:10.0.0.1"), [1]);
    assert_eq!(found(&store, "dst_ip:10.0.0.1"), [2]);
    assert_eq!(found(&store, "src_ip:10.0.0"), [2, 1], "the start of an address is a network");
    assert_eq!(found(&store, "src_ip:0.0.1"), [0u128; 0], "the end of one is not");
    assert_eq!(found(&store, "10.0.0.1"), [3, 2, 1]);
    assert_eq!(found(&store, "user:jane"), [1]);
    assert_eq!(found(&store, "hostname:jane"), [2]);
    assert_eq!(found(&store, "JANE"), [3, 2, 1]);
    assert_eq!(found(&store, "severity:high"), [1]);
    assert_eq!(found(&store, "severity:3"), [1]);
    assert_eq!(found(&store, "severity:low evil.exe"), [3]);
    assert_eq!(found(&store, "stream:acme_siem"), [3, 2, 1]);
    assert_eq!(found(&store, "stream:alerts"), [3, 2, 1]);
    assert_eq!(found(&store, r#""logged in""#), [3]);
    assert_eq!(found(&store, r#""in logged""#), [0u128; 0]);
    assert_eq!(found(&store, "logg*"), [3]);
    assert_eq!(found(&store, "title"), [0u128; 0], "names of fields are not searched");
    for (query, expected) in [
        ("severity:high OR evil.exe", vec![3, 1]),
        ("10.0.0.1 NOT severity:high", vec![3, 2]),
        ("10.0.0.1 -severity:high", vec![3, 2]),
        ("NOT severity:low", vec![1]),
        ("NOT severity:low OR evil.exe", vec![3, 1]),
        ("severity:(high OR low) user:jane", vec![1]),
        ("(evil.exe OR user:jane) severity: low", vec![3]),
        ("NOT 10.0.0.1", vec![]),
        ("NOT nobody", vec![3, 2, 1]),
    ] {
        assert_eq!(found(&store, query), expected, "{query}");
    }
    assert_eq!(found(&store, &Uuid::from_u128(2).to_string()), [2]);
}

#[test]
fn uuids_and_times_are_found_by_what_they_begin_with_also_in_a_store_of_an_older_version() {
    let (_dir, store, instance) = store();
    let uuid = "4be49362-6b0f-4a5b-9bd9-5ae4aef0ea9e";
    let message = serde_json::json!({ "rrn": format!("rrn:x:{uuid}:y"), "time": "2026-01-15T11:59:57.5Z" }).to_string();
    let fields = format!(r#","userName":"{uuid}","message":{}"#, serde_json::json!(message));
    let other = r#","day":"2026-01-16","time":"2026-01-15T10:59:57.5Z""#;
    let all = vec![artifact(1, &fields), artifact(2, other), artifact(3, "")];
    store.commit_step(&instance, &batch(all, b""), NOW).expect("commit");
    // As the words of version 4 of the store are.
    let old = "DELETE FROM artifact_text WHERE rowid = 3;
               INSERT INTO artifact_text (rowid, user, text) VALUES (3, '4be49362-6b0f-4a5b-9bd9-5ae4aef0ea9e', '2026-01-16T11:59:57.5Z')";
    store.database.with(|connection| connection.execute_batch(old)).expect("old words");
    for (query, expected) in [
        (uuid.to_uppercase(), vec![3, 1]),
        (format!("user:{uuid}"), vec![3, 1]),
        (format!(r#""rrn:x:{uuid}""#), vec![1]),
        (format!("rrn:x:{uuid}:y"), vec![1]),
        ("4be49362-6b0f-4a5b*".to_owned(), vec![3, 1]),
        ("4be49362*".to_owned(), vec![3, 1]),
        ("4be49362-6b0e*".to_owned(), vec![]),
        ("2026-01-15".to_owned(), vec![2, 1]),
        ("2026-01-16".to_owned(), vec![2]),
        ("2026-01-15T11".to_owned(), vec![1]),
        ("2026-01-15T11:59".to_owned(), vec![1]),
        ("2026-01-15T11:59:57.5Z".to_owned(), vec![1]),
        (r#""2026-01-15 11:59:57""#.to_owned(), vec![1]),
        ("2026-01-15 11:59:57".to_owned(), vec![1]),
        ("2026-01-15 11:5*".to_owned(), vec![1]),
        ("rrn:x:4be49362-6b*".to_owned(), vec![1]),
        ("rrn:x:4be49362-6c*".to_owned(), vec![]),
        ("2026-01-15T11:58".to_owned(), vec![]),
        ("2026-01-16T11:59:57.5Z".to_owned(), vec![3]),
        ("2026-01*".to_owned(), vec![3, 2, 1]),
        ("2026-01-*".to_owned(), vec![3, 2, 1]),
        ("2026-02*".to_owned(), vec![]),
        ("2026-01-15T1*".to_owned(), vec![2, 1]),
        ("2026-01-15T11:5*".to_owned(), vec![1]),
    ] {
        assert_eq!(found(&store, &query), expected, "{query}");
    }
}

#[test]
fn a_network_with_a_star_is_that_network_and_no_other() {
    let (_dir, store, instance) = store();
    let all = ["10.0.1.7", "10.0.12.7", "104.16.0.1"];
    let of = |(number, ip): (u32, &str)| artifact(number, &format!(r#","clientIP":"{ip}""#));
    let all = (1..).zip(all).map(of).collect();
    store.commit_step(&instance, &batch(all, b""), NOW).expect("commit");
    assert_eq!(found(&store, "src_ip:10.*"), [2, 1]);
    assert_eq!(found(&store, "10.0.1.*"), [1]);
    assert_eq!(found(&store, "src_ip:10.0.1*"), [2, 1], "behind a digit it stands for more digits");
}

#[test]
fn the_full_text_of_a_step_is_written_in_one_piece() {
    let (_dir, store, instance) = store();
    store.commit_step(&instance, &batch((0..100).map(|n| artifact(n, "")).collect(), b""), NOW).expect("commit");
    // With a piece for each artifact, storing takes twice the time: see `insert`.
    let pieces = |connection: &mut Connection| {
        connection.query_row("SELECT count(DISTINCT segid) FROM artifact_text_idx", [], |row| row.get::<_, u32>(0))
    };
    assert_eq!(store.database.with(pieces).expect("pieces"), 1);
}

#[test]
fn a_search_gives_the_newest_first_within_its_limit_and_its_instance() {
    let (_dir, store, first) = store();
    let second = store.instance("other", "acme-siem", NOW).expect("instance");
    store.commit_step(&first, &batch((1..=3).map(|n| artifact(n, "")).collect(), b""), NOW).expect("commit");
    store.commit_step(&second, &batch(vec![artifact(9, "")], b""), NOW).expect("commit");
    assert_eq!(found(&store, ""), [9, 3, 2, 1]);
    let ids = |query: &str| {
        let hits = store.search(query, Some("acme"), 2).expect("hits");
        hits.iter().map(|hit| hit.id.as_u128()).collect::<Vec<_>>()
    };
    assert_eq!(ids(""), [3, 2]);
    assert_eq!(ids("acme_siem"), [3, 2]);
    let error = store.search("", Some("nobody"), 1).expect_err("must fail");
    insta::assert_snapshot!(error, @r#"no instance "nobody" in this state directory; there is "acme", "other""#);
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
