//! Artifacts of some time, with and without words, of one instance or all.

use proptest::prelude::*;
use time::format_description::well_known::Rfc3339;

use super::*;
use crate::store::period::{self, Period};

/// So many minutes after the beginning.
fn minute(minute: i64) -> OffsetDateTime {
    NOW + time::Duration::minutes(minute)
}

fn text(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).expect("a time")
}

fn ids(found: &[Hit]) -> Vec<u128> {
    found.iter().map(|hit| hit.id.as_u128()).collect()
}

#[test]
fn the_time_that_counts_is_the_artifacts_own_and_else_when_it_was_stored() {
    let (dir, store, instance) = store();
    let of = |number, at| artifact(number, &format!(r#","startTimeUTC":"{}""#, text(minute(at))));
    let untimed = artifact(3, r#","startTimeUTC":"some day""#);
    store
        .commit_step(&instance, &batch(vec![of(1, 10), of(2, 20), untimed, artifact(4, "")], b""), minute(90))
        .expect("commit");
    let reader = Reader::open(dir.path()).expect("reader");
    let search = |since: Option<i64>, until: Option<i64>| {
        let period = Period { since: since.map(minute), until: until.map(minute) };
        ids(&reader.search_at_most("", None, Most { period, ..Most::hits(9) }).expect("found").hits)
    };
    assert_eq!(search(Some(10), Some(20)), [1], "the first moment belongs to it, the last does not");
    assert_eq!(search(Some(11), Some(21)), [2]);
    assert_eq!(search(Some(11), None), [4, 3, 2]);
    assert_eq!(search(Some(90), Some(91)), [4, 3]);
    assert_eq!(search(None, Some(20)), [1]);
    assert_eq!(search(None, None), [4, 3, 2, 1]);
}

#[test]
fn what_a_host_before_has_stored_counts_by_when_that_was_also_before_its_store_is_brought_up_to_date() {
    let (dir, store, instance) = store();
    let early = |number| artifact(number, &format!(r#","program":"x","startTimeUTC":"{}""#, text(minute(-90))));
    store.commit_step(&instance, &batch(vec![early(1)], b""), minute(5)).expect("commit");
    let as_before = "DROP INDEX artifact_happened; ALTER TABLE artifact DROP COLUMN happened; PRAGMA user_version = 7";
    store.database.with(|connection| connection.execute_batch(as_before)).expect("as it was");
    drop(store);
    let search = |query: &str| {
        let reader = Reader::open(dir.path()).expect("reader");
        let period = Period { since: Some(minute(0)), until: None };
        ids(&reader.search_at_most(query, None, Most { period, ..Most::hits(9) }).expect("found").hits)
    };
    for query in ["", "x", "NOT nothing"] {
        assert_eq!(search(query), [1], "{query:?} of the older version");
    }
    let store = Store::open(dir.path()).expect("brought up to date");
    store.commit_step(&instance, &batch(vec![early(2)], b""), minute(5)).expect("commit");
    for query in ["", "x", "NOT nothing"] {
        assert_eq!(search(query), [1], "{query:?} of this one");
    }
}

#[test]
fn a_few_hours_are_found_without_reading_years() {
    let (_dir, store, _) = store();
    let time = store.database.with(|connection| period::column(connection, "b")).expect("column");
    for statement in [search::newest_of(&time, ""), search::newest_of(&time, search::OTHER)] {
        let explained = format!("EXPLAIN QUERY PLAN {statement}");
        let plan: Vec<String> = store
            .database
            .with(|connection| {
                let mut plan = connection.prepare(&explained)?;
                let mut rows = plan.raw_query();
                let mut lines = Vec::new();
                while let Some(row) = rows.next()? {
                    lines.push(row.get(3)?);
                }
                Ok(lines)
            })
            .expect("plan");
        assert!(plan.iter().any(|line| line.starts_with("SEARCH b USING COVERING INDEX artifact_happened (<expr>>? AND <expr><?)")), "{plan:#?}");
        assert!(!plan.iter().any(|line| line == "SCAN a" || line == "SCAN b"), "{plan:#?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_asked_for_of_some_time_is_what_is_found_without_it_and_is_of_that_time(
        times in prop::collection::vec(prop::option::weighted(0.8, 0_i64..60), 1..40),
        since in prop::option::of(0_i64..60),
        until in prop::option::of(0_i64..60),
        query in prop::sample::select(vec!["", "odd", "NOT odd", "odd OR other", "nothing"]),
        of in prop::sample::select(vec![None, Some("acme"), Some("other")]),
        limit in 1_u32..7,
    ) {
        let (dir, store, instance) = store();
        let other = store.instance("other", "acme-siem", NOW).expect("instance");
        for (number, at) in (0_u32..).zip(&times) {
            let start = at.map(|at| format!(r#","startTimeUTC":"{}""#, text(minute(at)))).unwrap_or_default();
            let word = if number % 2 == 1 { "odd" } else { "even" };
            let one = artifact(number, &format!(r#"{start},"program":"{word}""#));
            let whose = if number % 3 == 0 { &other } else { &instance };
            store.commit_step(whose, &batch(vec![one], b""), minute(30)).expect("commit");
        }
        let reader = Reader::open(dir.path()).expect("reader");
        let period = Period { since: since.map(minute), until: until.map(minute) };
        let time_of = |id: &u128| times[usize::try_from(*id).expect("small")].unwrap_or(30);
        let is_of_it = |id: &u128| {
            since.is_none_or(|since| since <= time_of(id)) && until.is_none_or(|until| time_of(id) < until)
        };
        let all = ids(&reader.search_at_most(query, of, Most::hits(100)).expect("found").hits);
        let wanted: Vec<u128> = all.into_iter().filter(is_of_it).collect();
        let (mut paged, mut before) = (Vec::new(), None);
        loop {
            let page = reader.search_at_most(query, of, Most { before, period, ..Most::hits(limit) }).expect("found");
            paged.extend(ids(&page.hits));
            before = page.last;
            if page.hits.is_empty() {
                break;
            }
        }
        prop_assert_eq!(paged, wanted);
    }
}
