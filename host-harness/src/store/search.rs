//! Finding artifacts.
//!
//! Why: the last step of an integration's set-up is to look whether its
//! artifacts can be found. Hits come in the order of arrival, newest first,
//! which the index gives without sorting.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};
use time::OffsetDateTime;
use uuid::Uuid;

use super::key::Key;
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

/// Runs a query; see [`super::Reader::search`] for what it may say.
pub(super) fn run(
    database: &Database,
    text: &str,
    instance: Option<&str>,
    limit: u32,
    within: Option<Duration>,
) -> Result<Vec<Hit>, StoreError> {
    let query = query::parse(text)?;
    let key = match instance {
        Some(name) => Some(instance_key(database, name)?),
        None => None,
    };
    database.with_within(within, |connection| match &query {
        Query::Nothing => Ok(Vec::new()),
        Query::Everything => connection
            .prepare_cached(
                "SELECT i.name, a.id, a.stream, a.stored, a.json
                 FROM artifact a JOIN instance i ON i.key = a.instance
                 WHERE (?1 IS NULL OR a.instance = ?1) ORDER BY a.seq DESC LIMIT ?2",
            )?
            .query_map(params![key, limit], hit)?
            .collect(),
        Query::Match(expression) => connection
            .prepare_cached(
                "SELECT i.name, a.id, a.stream, a.stored, a.json
                 FROM artifact_text t JOIN artifact a ON a.seq = t.rowid JOIN instance i ON i.key = a.instance
                 WHERE t.artifact_text MATCH ?3 AND (?1 IS NULL OR a.instance = ?1)
                 ORDER BY t.rowid DESC LIMIT ?2",
            )?
            .query_map(params![key, limit, expression], hit)?
            .collect(),
    })
}

/// The row of an instance by its name.
fn instance_key(database: &Database, name: &str) -> Result<i64, StoreError> {
    let find = |connection: &mut Connection| {
        connection.query_row("SELECT key FROM instance WHERE name = ?1", [name], |row| row.get(0)).optional()
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
