//! Finding artifacts.
//!
//! Why: the last step of an integration's set-up is to look whether its
//! artifacts can be found. Hits come in the order of arrival, newest first,
//! which the index gives without sorting.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, ToSql};
use time::OffsetDateTime;
use uuid::Uuid;

use super::key::Key;
use super::period::{self, Period};
use super::query::{self, Query};
use super::{Database, StoreError, from_millis};

/// An artifact that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Name of the instance that collected it.
    pub instance: String,
    /// Its id.
    pub id: Uuid,
    /// Its data stream.
    pub stream: String,
    /// When it was stored.
    pub stored: OffsetDateTime,
    /// The artifact, one line.
    pub json: String,
}

/// What a search found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The artifacts, those stored last first.
    pub hits: Vec<Hit>,
    /// Whether these are all that were asked for: more would have been larger than was allowed.
    pub complete: bool,
    /// The number of the last of them, in the order of arrival: [`Most::before`] of a search for more.
    pub last: Option<i64>,
}

/// How much a search may give and take.
#[derive(Clone, Copy, Debug)]
pub struct Most {
    /// Artifacts.
    pub hits: u32,
    /// Bytes of artifacts. What goes beyond is not even read into memory; the first one is always given.
    pub bytes: usize,
    /// Time.
    pub within: Option<Duration>,
    /// Only those that came before the artifact of this number ([`Found::last`]).
    pub before: Option<i64>,
    /// Only those of this time.
    pub period: Period,
}

impl Most {
    /// So many artifacts, however large they are and however long it takes.
    #[must_use]
    pub fn hits(hits: u32) -> Self {
        Self { hits, bytes: usize::MAX, within: None, before: None, period: Period::default() }
    }
}

/// Runs a query; see [`super::Reader::search`] for what it may say.
pub(super) fn run(database: &Database, text: &str, instance: Option<&str>, most: Most) -> Result<Found, StoreError> {
    let Most { hits: limit, bytes, within, before, period } = most;
    let before = before.unwrap_or(i64::MAX);
    let query = query::parse(text)?;
    let key = match instance {
        Some(name) => Some(instance_key(database, name)?),
        None => None,
    };
    let found = database.with_within(within, |connection| match &query {
        Query::Nothing => Ok(Found { complete: true, ..Found::default() }),
        _ if !period.is_ever() => of_period(connection, &query, (key, period), (limit, before), bytes),
        Query::Everything => newest(connection, key, (limit, before), bytes),
        Query::Match(expression) => {
            let values: [(&str, &dyn ToSql); 4] =
                [(":instance", &key), (":limit", &limit), (":before", &before), (":expression", expression)];
            rows(connection, MATCHING, &values, bytes)
        }
        Query::Except(expression) => match key {
            None => {
                let values: [(&str, &dyn ToSql); 3] =
                    [(":limit", &limit), (":before", &before), (":expression", expression)];
                rows(connection, OTHERS, &values, bytes)
            }
            Some(key) => {
                let values: [(&str, &dyn ToSql); 4] =
                    [(":instance", &key), (":limit", &limit), (":before", &before), (":expression", expression)];
                rows(connection, OTHERS_OF, &values, bytes)
            }
        },
    });
    match found {
        Err(StoreError::TooLong { within, .. }) => {
            Err(StoreError::TooLong { within, newest: query == Query::Everything })
        }
        found => found,
    }
}

/// What every search gives of an artifact. In this order, whatever SQLite thinks: the artifact first.
macro_rules! hits {
    ($rest:literal) => {
        concat!(
            "SELECT i.name, a.id, a.stream, a.stored, a.json, a.seq
             FROM artifact a CROSS JOIN instance i ON i.key = a.instance ",
            $rest
        )
    };
}

/// The same without any condition.
const HITS: &str = hits!("");

/// A condition: all but what an expression finds.
pub(super) const OTHER: &str =
    "AND b.seq NOT IN (SELECT rowid FROM artifact_text WHERE artifact_text MATCH :expression)";

/// The newest of all.
const NEWEST: &str = hits!("WHERE a.seq < :before ORDER BY a.seq DESC LIMIT :limit");

/// The newest of an instance among the newest of all.
const NEAR: &str = hits!(
    "WHERE a.seq > (SELECT max(seq) FROM artifact) - 10000 AND a.seq < :before AND +a.instance = :instance
     ORDER BY a.seq DESC LIMIT :limit"
);

/// The newest of an instance, out of the index of its ids: without reading what other instances have.
const NEWEST_OF: &str = hits!(
    "WHERE a.seq IN (SELECT seq FROM artifact WHERE instance = :instance AND seq < :before ORDER BY seq DESC LIMIT :limit)
     ORDER BY a.seq DESC"
);

/// What an expression finds.
const MATCHING: &str = "SELECT i.name, a.id, a.stream, a.stored, a.json, a.seq
     FROM artifact_text t JOIN artifact a ON a.seq = t.rowid JOIN instance i ON i.key = a.instance
     WHERE t.artifact_text MATCH :expression AND t.rowid < :before AND (:instance IS NULL OR a.instance = :instance)
     ORDER BY t.rowid DESC LIMIT :limit";

/// All but what an expression finds.
const OTHERS: &str = hits!(
    "WHERE a.seq < :before AND a.seq NOT IN (SELECT rowid FROM artifact_text WHERE artifact_text MATCH :expression)
     ORDER BY a.seq DESC LIMIT :limit"
);

/// The same of an instance.
const OTHERS_OF: &str = hits!(
    "WHERE a.seq IN (SELECT seq FROM artifact WHERE instance = :instance AND seq < :before
        AND seq NOT IN (SELECT rowid FROM artifact_text WHERE artifact_text MATCH :expression)
        ORDER BY seq DESC LIMIT :limit)
     ORDER BY a.seq DESC"
);

/// The newest artifacts, of an instance or of all.
fn newest(
    connection: &Connection,
    key: Option<i64>,
    (limit, before): (u32, i64),
    bytes: usize,
) -> rusqlite::Result<Found> {
    let Some(key) = key else {
        return rows(connection, NEWEST, &[(":limit", &limit), (":before", &before)], bytes);
    };
    let of_instance: [(&str, &dyn ToSql); 3] = [(":instance", &key), (":limit", &limit), (":before", &before)];
    // Where an instance is busy, they are at hand; its index would have to be gone through as a whole.
    let near = rows(connection, NEAR, &of_instance, bytes)?;
    if !near.complete || u64::try_from(near.hits.len()).unwrap_or(u64::MAX) >= limit.into() {
        return Ok(near);
    }
    rows(connection, NEWEST_OF, &of_instance, bytes)
}

/// Artifacts of some time.
fn of_period(
    connection: &Connection,
    query: &Query,
    (key, period): (Option<i64>, Period),
    (limit, before): (u32, i64),
    bytes: usize,
) -> rusqlite::Result<Found> {
    let (since, until) = period.millis();
    let mut values: Vec<(&str, &dyn ToSql)> =
        vec![(":instance", &key), (":limit", &limit), (":before", &before), (":since", &since), (":until", &until)];
    let statement = match query {
        Query::Match(expression) => {
            values.push((":expression", expression));
            matching_of(&period::column(connection, "a")?)
        }
        Query::Except(expression) => {
            values.push((":expression", expression));
            newest_of(&period::column(connection, "b")?, OTHER)
        }
        Query::Everything | Query::Nothing => newest_of(&period::column(connection, "b")?, ""),
    };
    rows(connection, &statement, &values, bytes)
}

/// What an expression finds of some time.
fn matching_of(time: &str) -> String {
    let of_time = format!("AND {time} >= :since AND {time} < :until ORDER BY t.rowid");
    MATCHING.replace("ORDER BY t.rowid", &of_time)
}

/// The newest of some time, out of the index of the times, that meet a further condition.
pub(super) fn newest_of(time: &str, condition: &str) -> String {
    format!(
        "{HITS} WHERE a.seq IN (SELECT b.seq FROM artifact b WHERE {time} >= :since AND {time} < :until
            AND +b.seq < :before AND (:instance IS NULL OR b.instance = :instance) {condition}
            ORDER BY b.seq DESC LIMIT :limit)
         ORDER BY a.seq DESC"
    )
}

/// Runs a statement, until what it gives is more than so many bytes.
fn rows(
    connection: &Connection,
    statement: &str,
    values: &[(&str, &dyn ToSql)],
    bytes: usize,
) -> rusqlite::Result<Found> {
    let mut statement = connection.prepare_cached(statement)?;
    let mut rows = statement.query(values)?;
    let mut found = Found { complete: true, ..Found::default() };
    let mut left = bytes;
    while let Some(row) = rows.next()? {
        match left.checked_sub(row.get_ref(4)?.as_bytes()?.len()) {
            Some(less) => left = less,
            None if found.hits.is_empty() => left = 0,
            None => {
                found.complete = false;
                break;
            }
        }
        found.hits.push(hit(row)?);
        found.last = Some(row.get(5)?);
    }
    Ok(found)
}

/// The row of an instance by its name.
fn instance_key(database: &Database, name: &str) -> Result<i64, StoreError> {
    let find = |connection: &mut Connection| {
        connection
            .query_row(
                "SELECT key FROM instance WHERE name = ?1 OR handle = ?1 ORDER BY name = ?1 DESC",
                [name],
                |row| row.get(0),
            )
            .optional()
    };
    if let Some(key) = database.with(find)? {
        return Ok(key);
    }
    let known = database.with(|connection| {
        connection.prepare("SELECT name FROM instance ORDER BY name")?.query_map([], |row| row.get(0))?.collect()
    })?;
    Err(StoreError::UnknownInstance { name: name.to_owned(), known })
}

fn hit(row: &Row<'_>) -> rusqlite::Result<Hit> {
    let Key(id) = row.get(1)?;
    Ok(Hit { instance: row.get(0)?, id, stream: row.get(2)?, stored: from_millis(row.get(3)?), json: row.get(4)? })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NOW, artifact, batch, found, store};
    use super::*;
    use crate::store::{Instance, Reader, Store};

    /// How SQLite would go about it.
    fn plan(connection: &Connection, statement: &str) -> rusqlite::Result<String> {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}"))?;
        let mut rows = statement.raw_query();
        let mut lines: Vec<String> = Vec::new();
        while let Some(row) = rows.next()? {
            lines.push(row.get(3)?);
        }
        Ok(lines.join("\n"))
    }

    #[test]
    fn the_newest_of_an_instance_are_found_without_reading_those_of_others() {
        let (_dir, store, _) = store();
        let plan = |statement| store.database.with(|connection| plan(connection, statement)).expect("plan");
        assert!(plan(NEWEST).starts_with("SEARCH a USING INTEGER PRIMARY KEY (rowid<?)"), "{}", plan(NEWEST));
        assert!(plan(NEAR).starts_with("SEARCH a USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"), "{}", plan(NEAR));
        for statement in [NEWEST_OF, OTHERS_OF] {
            let plan = plan(statement);
            assert!(plan.starts_with("SEARCH a USING INTEGER PRIMARY KEY (rowid=?)"), "{plan}");
            assert!(plan.contains("SEARCH artifact USING COVERING INDEX"), "{plan}");
            assert!(!plan.lines().any(|line| line == "SCAN a" || line == "SCAN artifact"), "{plan}");
        }
    }

    #[test]
    fn the_newest_of_an_instance_are_found_wherever_they_lie() {
        let (_dir, store, quiet) = store();
        let busy = store.instance("busy", "acme-siem", NOW).expect("instance");
        store.commit_step(&quiet, &batch((1..=3).map(|n| artifact(n, "")).collect(), b""), NOW).expect("commit");
        let many = (10..10_500).map(|n| artifact(n, "")).collect();
        store.commit_step(&busy, &batch(many, b""), NOW).expect("commit");
        let ids = |instance: &str, query: &str| {
            let hits = store.search(query, Some(instance), 2).expect("hits");
            hits.iter().map(|hit| hit.id.as_u128()).collect::<Vec<_>>()
        };
        assert_eq!((ids("acme", ""), ids("busy", "")), (vec![3, 2], vec![10_499, 10_498]));
        assert_eq!((ids("acme", "NOT nothing"), ids("acme", "NOT acme_siem")), (vec![3, 2], vec![]));
    }

    #[test]
    fn all_that_is_found_can_be_gone_through_page_by_page() {
        let (dir, store, instance) = store();
        let other = store.instance("other", "acme-siem", NOW).expect("instance");
        for n in 0..20 {
            let of = if n % 3 == 0 { &other } else { &instance };
            store.commit_step(of, &batch(vec![artifact(n, r#","program":"x""#)], b""), NOW).expect("commit");
        }
        let reader = Reader::open(dir.path()).expect("reader");
        for query in ["", "x", "NOT nothing"] {
            for of in [None, Some("acme"), Some("other")] {
                let ids = |found: &Found| found.hits.iter().map(|hit| hit.id.as_u128()).collect::<Vec<_>>();
                let all = ids(&reader.search_at_most(query, of, Most::hits(100)).expect("found"));
                let (mut paged, mut before) = (Vec::new(), None);
                loop {
                    let page = reader.search_at_most(query, of, Most { before, ..Most::hits(3) }).expect("found");
                    paged.extend(ids(&page));
                    before = page.last;
                    if page.hits.is_empty() {
                        break;
                    }
                }
                assert!(paged == all && all.len() > 5, "{query:?} {of:?}: {paged:?}");
            }
        }
    }

    #[test]
    fn a_search_without_words_that_took_too_long_is_not_told_to_use_longer_ones() {
        let (dir, store, instance) = store();
        store.commit_step(&instance, &batch((0..5_000).map(|n| artifact(n, "")).collect(), b""), NOW).expect("commit");
        let reader = Reader::open(dir.path()).expect("reader");
        let most = Most { within: Some(Duration::ZERO), ..Most::hits(10_000) };
        let help = |query| reader.search_at_most(query, None, most).expect_err("must fail").help();
        assert!(!help("").contains("words"), "{}", help(""));
        assert!(help("acme*").contains("longer words"));
    }

    #[test]
    fn no_more_bytes_are_read_than_were_asked_for_and_one_artifact_is_always_given() {
        let (dir, store, instance) = store();
        let long = |n| artifact(n, &format!(r#","program":"{}""#, "x".repeat(10_000)));
        store.commit_step(&instance, &batch((1..=9).map(long).collect(), b""), NOW).expect("commit");
        let reader = Reader::open(dir.path()).expect("reader");
        for query in ["", "acme_siem", "NOT nothing"] {
            for of in [None, Some("acme")] {
                let found = |hits, bytes| {
                    let most = Most { bytes, ..Most::hits(hits) };
                    let found = reader.search_at_most(query, of, most).expect("found");
                    (found.hits.iter().map(|hit| hit.id.as_u128()).collect::<Vec<_>>(), found.complete)
                };
                assert_eq!(found(5, 25_000), (vec![9, 8], false), "{query:?} {of:?}");
                assert_eq!(found(2, 25_000), (vec![9, 8], true), "{query:?} {of:?}");
                assert_eq!(found(5, 1), (vec![9], false), "{query:?} {of:?}");
                assert_eq!(found(1, 1), (vec![9], true), "{query:?} {of:?}");
            }
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]

        #[test]
        fn no_query_is_an_error(query in "[ \"'():*^+{}\\-\\\\a-zA-Z0-9_.\u{0}-\u{1f}\u{e9}\u{4e00}\u{301}]{0,60}") {
            thread_local! {
                static SHARED: (tempfile::TempDir, Store, Instance) = store();
            }
            // More of them are refused.
            proptest::prop_assume!(query.matches('*').count() <= 8);
            SHARED.with(|(_, store, _)| found(store, &query));
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]

        #[test]
        fn no_query_of_operators_and_brackets_is_an_error(
            words in proptest::collection::vec(
                proptest::sample::select(vec!["a", "b*", "OR", "NOT", "AND", "(", ")", "user:", "-user:", "user:(", "\"", "2026-01-15", "11:59"]),
                0..64,
            ),
            gap in "[ ]?",
        ) {
            thread_local! {
                static SHARED: (tempfile::TempDir, Store, Instance) = store();
            }
            proptest::prop_assume!(words.iter().filter(|word| word.contains('*')).count() <= 8);
            SHARED.with(|(_, store, _)| found(store, &words.join(&gap)));
        }
    }

    #[test]
    fn a_query_as_long_and_as_deep_as_may_be_is_understood() {
        let (_dir, store, instance) = store();
        store.commit_step(&instance, &batch(vec![artifact(1, r#","program":"x""#)], b""), NOW).expect("commit");
        for query in [
            "x ".repeat(64),
            format!("{}x", "y OR ".repeat(63)),
            format!("x {}", "NOT y ".repeat(63)),
            format!("{}x", "x (y OR NOT NOT ".repeat(31)),
            format!("{}x{}", "x NOT y (y OR NOT y OR ".repeat(12), ")".repeat(12)),
            format!("{}x", "(".repeat(1_000)),
        ] {
            assert_eq!(found(&store, &query), [1], "{query}");
        }
    }

    #[test]
    fn known_hostile_queries_are_harmless() {
        let (_dir, store, instance) = store();
        store.commit_step(&instance, &batch(vec![artifact(1, "")], b""), NOW).expect("commit");
        for query in [
            "\"",
            "\"\"",
            "*",
            "^",
            "a^",
            "AND",
            "AND AND",
            "NOT",
            "a NOT",
            "NEAR(",
            "NEAR(a, 5)",
            "{src_ip}:",
            "src_ip:",
            "src_ip:^*",
            "user:\"",
            "user:\"*",
            "-x",
            "a:b:c",
            "'; DROP TABLE artifact; --",
            "\0",
            "a\0\"b",
            "\u{301}",
            "🦀",
            "user:🦀 ²",
            "src_ip:\u{301}",
            "text:x",
            "rank:1",
            "artifact_text:x",
            "(((((((",
        ] {
            found(&store, query);
        }
        assert_eq!(found(&store, "acme_siem"), [1], "and nothing was changed");
    }
}
