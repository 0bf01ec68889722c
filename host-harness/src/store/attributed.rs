//! An artifact with whose it is: the one form in which searches, the page of artifacts and the output tell it.
//!
//! Why: an artifact is the connector's, and does not say which instance collected it.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;
use time::format_description::well_known::Rfc3339;

use super::{Hit, Undelivered};

/// An artifact as a member, untouched, beside what the store knows of it.
#[derive(Debug, Serialize)]
pub struct Attributed<'a> {
    instance: &'a str,
    id: String,
    stream: &'a str,
    /// When it was stored, RFC 3339.
    stored: String,
    artifact: Cow<'a, RawValue>,
}

impl<'a> From<&'a Hit> for Attributed<'a> {
    fn from(hit: &'a Hit) -> Self {
        Self {
            instance: &hit.instance,
            id: hit.id.to_string(),
            stream: &hit.stream,
            stored: hit.stored.format(&Rfc3339).unwrap_or_default(),
            artifact: artifact(&hit.json),
        }
    }
}

impl<'a> From<&'a Undelivered> for Attributed<'a> {
    fn from(one: &'a Undelivered) -> Self {
        Self {
            instance: &one.instance,
            id: one.id.to_string(),
            stream: &one.stream,
            stored: one.stored.format(&Rfc3339).unwrap_or_default(),
            artifact: artifact(&one.json),
        }
    }
}

/// What is stored is JSON; what is not by an accident is told as a text.
fn artifact(json: &str) -> Cow<'_, RawValue> {
    match serde_json::from_str(json) {
        Ok(artifact) => Cow::Borrowed(artifact),
        Err(_) => serde_json::value::to_raw_value(json).map_or(Cow::Borrowed(RawValue::NULL), Cow::Owned),
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;
    use uuid::Uuid;

    use super::*;

    fn shown(json: &str) -> String {
        let hit = Hit {
            instance: "acme".to_owned(),
            id: Uuid::from_u128(1),
            stream: "alerts".to_owned(),
            stored: OffsetDateTime::UNIX_EPOCH,
            json: json.to_owned(),
        };
        serde_json::to_string(&Attributed::from(&hit)).expect("JSON")
    }

    #[test]
    fn the_artifact_is_not_touched() {
        insta::assert_snapshot!(shown("{\"b\":1.0,\"a\": 2}"), @r#"{"instance":"acme","id":"00000000-0000-0000-0000-000000000001","stream":"alerts","stored":"1970-01-01T00:00:00Z","artifact":{"b":1.0,"a": 2}}"#);
    }

    #[test]
    fn what_is_no_json_is_told_all_the_same() {
        assert!(shown("{cut of").ends_with(r#""artifact":"{cut of"}"#), "{}", shown("{cut of"));
    }
}
