//! What a search finds, in which order, and how long it may take.

use super::*;

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
