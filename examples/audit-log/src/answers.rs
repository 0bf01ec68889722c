//! What the service answers.

use crate::contract::Failure;
use crate::failures;
use serde::Deserialize;
use serde_json::{Map, Value};

/// What the service says of the token.
#[derive(Debug, Deserialize)]
pub struct WhoAmI {
    /// Whose it is.
    pub account: String,
}

/// A page of events.
#[derive(Debug, Deserialize)]
pub struct Page {
    /// As the service has them.
    pub events: Vec<Map<String, Value>>,
    /// The place after the last of them.
    pub next: Option<String>,
}

/// Reads an answer.
///
/// # Errors
/// When it is not what the service promises: that is never an empty page. What is wrong is told by its place, because
/// a message must hold no part of an answer.
pub fn parse<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        failures::malformed(&format!("it is not what was asked for, at line {line}, column {column}"))
    })
}

/// Whether a cursor can stand in a query as it is.
#[must_use]
pub fn is_cursor(text: &str) -> bool {
    (1..=256).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

/// Whether a time can.
#[must_use]
pub fn is_time(text: &str) -> bool {
    let sound = |byte: u8| byte.is_ascii_digit() || b"-:.TZ".contains(&byte);
    (20..=35).contains(&text.len()) && text.ends_with('Z') && text.bytes().all(sound)
}
