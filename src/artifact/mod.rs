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
mod cve;
pub mod entities;
pub mod evidence;
pub mod extra;
pub mod identity;
pub mod investigation;
pub mod message;
pub mod message_type;
pub mod mitre;
pub mod severity;
pub mod triage_alert;

use std::borrow::Cow;

use crate::contract;
use crate::text::JsonWriter;
use crate::times::Utc;

/// Name of the stream in the Conductor's search.
pub const STREAM_NAME: &str = "rapid7_insightidr";
/// Name of the product.
pub const APPLICATION: &str = "InsightIDR";

/// An artifact. Fields in the order they are written.
#[derive(Debug, Default)]
pub struct Artifact<'a> {
    /// Time-based UUID, see [`identity`].
    pub id: String,
    /// Event class, see [`message_type`].
    pub message_type: &'static str,
    /// What happened or which state it is in, lower case.
    pub action: Option<String>,
    /// Labels: the vendor's tags, and ours where a record could not be mapped.
    pub tags: Vec<Cow<'a, str>>,
    /// RFC 5424 severity and its label, see [`severity`].
    pub severity: (&'static str, &'static str),
    /// Title of the investigation, or name of the rule that made the alert.
    pub rule_name: Option<Cow<'a, str>>,
    /// Source of the investigation, or type of the alert.
    pub rule_category: Option<Cow<'a, str>>,
    /// The vulnerability that the rule or the title names, see [`cve`].
    pub cve: Option<String>,
    /// MITRE ATT&CK techniques, for example `T1110.003`.
    pub attack_technique_ids: Vec<String>,
    /// API host, record and version: see [`identity::Version::sender_host`].
    pub sender_host: String,
    /// The vendor's identifier of the record.
    pub source_info: Option<Cow<'a, str>>,
    /// The vendor's identifier of the detection rule.
    pub vendor_code: Option<Cow<'a, str>>,
    /// When it happened.
    pub start: Option<Utc>,
    /// When it last happened.
    pub end: Option<Utc>,
    /// Who and what was involved.
    pub entities: entities::Entities,
    /// The vendor's record, one line of JSON: see [`message`].
    pub message: String,
}

impl Artifact<'_> {
    /// The artifact as it crosses the boundary.
    #[must_use]
    pub fn into_contract(self, stream: &str) -> contract::Artifact {
        contract::Artifact { json: self.json(), id: self.id, stream: stream.to_owned() }
    }

    /// The artifact as JSON. Written by hand: a derived serializer for a dozen
    /// texts that may be absent is a twentieth of the component.
    fn json(&self) -> String {
        // Quotes within the message are escaped, which is a fifth more.
        let mut json = Object::new(self.message.len() / 5 * 6 + 1_024);
        json.text("id", &self.id);
        json.text("streamName", STREAM_NAME);
        json.text("messageType", self.message_type);
        json.optional("action", self.action.as_deref());
        json.list("tags", self.tags.iter().map(AsRef::as_ref));
        json.text("severityCode", self.severity.0);
        json.text("severityLabel", self.severity.1);
        json.optional("ruleName", self.rule_name.as_deref());
        json.optional("ruleCategory", self.rule_category.as_deref());
        json.optional("cve", self.cve.as_deref());
        json.list("attackTechniqueIds", self.attack_technique_ids.iter().map(String::as_str));
        json.text("senderHost", &self.sender_host);
        json.optional("sourceInfo", self.source_info.as_deref());
        json.text("application", APPLICATION);
        json.optional("vendorCode", self.vendor_code.as_deref());
        json.optional("startTimeUTC", self.start.map(Utc::rfc3339).as_deref());
        json.optional("endTimeUTC", self.end.map(Utc::rfc3339).as_deref());
        for (name, value) in self.entities.iter() {
            json.text(name, value);
        }
        json.text("message", &self.message);
        json.end()
    }
}

/// A JSON object under construction.
struct Object {
    json: JsonWriter,
    /// What comes before the next member.
    separator: &'static str,
}

impl Object {
    /// An empty one, with room for so many bytes.
    fn new(bytes: usize) -> Self {
        Self { json: JsonWriter::with_capacity(bytes), separator: "{\"" }
    }

    /// Begins a member. Names need no escapes.
    fn name(&mut self, name: &str) {
        self.json.raw(self.separator);
        self.json.raw(name);
        self.json.raw("\":");
        self.separator = ",\"";
    }

    fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        self.json.text(text);
    }

    /// A text, left out when it is empty or absent.
    fn optional(&mut self, name: &str, text: Option<&str>) {
        if let Some(text) = text.filter(|text| !text.is_empty()) {
            self.text(name, text);
        }
    }

    /// A list of texts, left out when it is empty.
    fn list<'t>(&mut self, name: &str, texts: impl Iterator<Item = &'t str>) {
        let mut separator = "[";
        for text in texts {
            if separator == "[" {
                self.name(name);
            }
            self.json.raw(separator);
            self.json.text(text);
            separator = ",";
        }
        if separator == "," {
            self.json.raw("]");
        }
    }

    fn end(mut self) -> String {
        // There is always an id before.
        self.json.raw("}");
        self.json.finish()
    }
}

/// What was found of a record, as a tag: `disposition:benign`. None as long as
/// nobody has decided.
fn disposition_tag<'t>(disposition: &str) -> Option<Cow<'t, str>> {
    let is_said = !matches!(disposition, "" | "UNDECIDED" | "UNSPECIFIED");
    let found = crate::text::cut(disposition, 64);
    is_said.then(|| field(Cow::Owned(format!("disposition:{}", found.to_ascii_lowercase()))))
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
