//! Records as artifacts: what the Conductor's search, rules and graph read.
//!
//! The keys and types are those of the Conductor's artifact (ports, bytes and
//! codes are texts; address fields hold addresses only; empty values are left
//! out). Keys that the Conductor itself fills (`hash`, `org_id`,
//! `appliance_id`, the matches and enrichment ids) are never written.
//!
//! A record that cannot be mapped is never dropped: it becomes an artifact
//! with its raw message and a tag that says why.

pub mod alert;
pub mod entities;
pub mod identity;
pub mod investigation;
pub mod message;
pub mod message_type;
pub mod severity;

use std::borrow::Cow;

use serde::Serialize;

use crate::contract;

/// Name of the stream in the Conductor's search.
pub const STREAM_NAME: &str = "rapid7_insightidr";
/// Name of the product.
pub const APPLICATION: &str = "InsightIDR";

/// An artifact. Fields in the order they are written; all of them texts.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Artifact<'a> {
    /// Time-based UUID, see [`identity`].
    pub id: String,
    /// Always [`STREAM_NAME`].
    pub stream_name: &'static str,
    /// Event class, see [`message_type`].
    pub message_type: &'static str,
    /// What happened or which state it is in, lower case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// Labels: the vendor's tags, and ours where a record could not be mapped.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Cow<'a, str>>,
    /// RFC 5424 severity, `2` to `6`.
    pub severity_code: &'static str,
    /// Label of the severity.
    pub severity_label: &'static str,
    /// Title of the investigation, or name of the rule that made the alert.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule_name: Option<Cow<'a, str>>,
    /// Source of the investigation, or type of the alert.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule_category: Option<Cow<'a, str>>,
    /// MITRE ATT&CK techniques, for example `T1110.003`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attack_technique_ids: Vec<String>,
    /// API host, record and version: see [`identity::Version::sender_host`].
    pub sender_host: String,
    /// The vendor's identifier of the record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_info: Option<Cow<'a, str>>,
    /// Always [`APPLICATION`].
    pub application: &'static str,
    /// The vendor's identifier of the detection rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vendor_code: Option<Cow<'a, str>>,
    /// When it happened, RFC 3339.
    #[serde(rename = "startTimeUTC", skip_serializing_if = "Option::is_none")]
    pub start_time_utc: Option<String>,
    /// When it last happened, RFC 3339.
    #[serde(rename = "endTimeUTC", skip_serializing_if = "Option::is_none")]
    pub end_time_utc: Option<String>,
    /// Who and what was involved.
    #[serde(flatten)]
    pub entities: entities::Entities,
    /// The vendor's record, one line of JSON: see [`message`].
    pub message: String,
}

impl Artifact<'_> {
    /// The artifact as it crosses the boundary.
    #[must_use]
    pub fn into_contract(self, stream: &str) -> contract::Artifact {
        // Serializing texts and lists of texts cannot fail.
        let json = serde_json::to_string(&self).unwrap_or_default();
        contract::Artifact { id: self.id, stream: stream.to_owned(), json }
    }
}

/// A text of the vendor's for a field: on one line, control characters
/// escaped (titles are written by attackers), and cut to a length that search
/// and rules bear. The whole of it stands in the message as it was.
#[must_use]
pub fn field(text: Cow<'_, str>) -> Cow<'_, str> {
    /// Longest field, in characters.
    const LONGEST: usize = 1024;
    if text.len() <= LONGEST && crate::text::is_plain(&text) {
        text
    } else {
        Cow::Owned(crate::text::shown(&text, LONGEST))
    }
}
