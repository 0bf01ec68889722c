//! What belongs to an investigation besides its alerts: alerts of Rapid7's
//! other products, comments, and evidence of the restricted endpoint. Each is
//! an artifact of its own.
//!
//! Their identity: comments have an RRN; the alert of a product has its own id
//! within its type, and where one element has the details of several alerts,
//! within the product whose details they are; what one element has behind the 256th comes together, known
//! by their ids, and again if one of them is added; an occurrence of restricted evidence has none, and is known
//! by its content. The order of its pieces is the vendor's affair: with them in another order it is the same occurrence,
//! as long as it is remembered.

use std::borrow::Cow;

use super::evidence;
use super::identity::{Version, hash64};
use super::investigation::Investigation;
use super::message::{self, Nested};
use super::mitre::Mitre;
use super::{Artifact, entities, field, message_type, severity};
use crate::api::json::Json;
use crate::api::records::Members;
use crate::times::Utc;

/// The kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An alert of another product, from `rapid7-product-alerts`.
    ProductAlert,
    /// A comment.
    Comment,
    /// An occurrence of restricted evidence.
    Restricted,
}

/// One such record.
#[derive(Debug, Clone)]
pub struct Extra<'a> {
    /// What it is.
    pub kind: Kind,
    raw: Json<'a>,
    members: Members<'a>,
    /// Its details, if it is the alert of a product.
    detail: Option<Detail<'a>>,
    /// What stands for it instead of all of its element, if that has many alerts.
    part: Option<String>,
    /// The product whose alert it is.
    product: Option<String>,
    /// Its name among all records of the tenant.
    pub id: String,
    /// Hash of its content in any order of its pieces, if it has several.
    in_any_order: Option<u64>,
}

/// The details of one alert of another product.
#[derive(Debug, Clone)]
struct Detail<'a> {
    /// The member that it stands in: `threat_command_details`.
    name: String,
    /// The product that the member is named after: `THREAT_COMMAND`.
    product: String,
    raw: Json<'a>,
    members: Members<'a>,
    /// Whether others stand in the same element.
    has_others: bool,
}

impl Detail<'_> {
    /// The id that the product gave it.
    fn own_id(&self) -> Option<String> {
        self.members.text("alert_id").map(Cow::into_owned)
    }

    /// The same, or else a hash of its content.
    fn id(&self) -> String {
        let content = || format!("{:016x}", hash64([crate::text::compact_json(self.raw.get()).as_bytes()]));
        self.own_id().filter(|id| id.len() <= MOST_OF_ID).unwrap_or_else(content)
    }
}

/// Most bytes of an id; what is longer is none.
const MOST_OF_ID: usize = 512;

/// Alerts of one element of which each has all of the element in its message. Of those behind them each has only its own
/// details: else the bytes of an element would count as often as it has alerts.
pub const WITH_ALL: usize = 32;
/// Alerts of one element that become artifacts of their own. Those behind them come together, so that what is remembered of
/// an investigation, and what a step makes of one element, have an end.
const MOST_DETAILS: usize = 256;
/// Bytes of details that come together: what a message holds of a record.
const TOGETHER: usize = 96 * 1024;

impl<'a> Extra<'a> {
    /// Reads a record of an investigation. One element may have the details of
    /// several alerts of products; anything else is one.
    #[must_use]
    pub fn all_of(kind: Kind, raw: impl Into<Json<'a>>, investigation: &Investigation<'_>) -> Vec<Self> {
        let raw = raw.into();
        let members = Members::within(raw).unwrap_or_default();
        let mut details = if kind == Kind::ProductAlert { details(&members) } else { Vec::new() };
        if details.is_empty() {
            return vec![Self::of(kind, raw, members, None, investigation)];
        }
        let rest = details.split_off(details.len().min(MOST_DETAILS));
        let mut all: Vec<Self> = Vec::with_capacity(details.len());
        for (at, detail) in details.into_iter().enumerate() {
            let part = (at >= WITH_ALL).then(|| part_of(&members, std::slice::from_ref(&detail)));
            let extra = Self::of(kind, raw, members.clone(), Some(detail), investigation);
            all.push(Self { part, ..extra });
        }
        let mut rest = rest.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0_usize;
            let fits = rest.iter().take_while(|detail| {
                bytes = bytes.saturating_add(detail.raw.get().len());
                bytes <= TOGETHER
            });
            let (together, behind) = rest.split_at(fits.count().max(1).min(rest.len()));
            all.push(Self::together(raw, &members, together, investigation));
            rest = behind;
        }
        all
    }

    /// Alerts of products that come together: known by their ids.
    fn together(
        raw: Json<'a>,
        members: &Members<'a>,
        details: &[Detail<'a>],
        investigation: &Investigation<'_>,
    ) -> Self {
        let ids: Vec<String> = details.iter().map(|detail| format!("{}.{}", detail.product, detail.id())).collect();
        let hash = hash64(ids.iter().map(String::as_bytes));
        Self {
            kind: Kind::ProductAlert,
            raw,
            members: members.clone(),
            detail: None,
            part: Some(part_of(members, details)),
            product: details.first().map(|detail| detail.product.clone()),
            id: format!("{}:product-alerts.together-{hash:016x}", investigation.rrn),
            in_any_order: None,
        }
    }

    /// One of them.
    fn of(
        kind: Kind,
        raw: Json<'a>,
        members: Members<'a>,
        detail: Option<Detail<'a>>,
        investigation: &Investigation<'_>,
    ) -> Self {
        let several = detail.as_ref().filter(|detail| detail.has_others);
        // After its member, because the type is that of the element: of its first alert, and in one spelling or another.
        let product = match &detail {
            Some(detail) => Some(detail.product.clone()),
            None => members.text("type").map(Cow::into_owned),
        };
        let own = match kind {
            Kind::ProductAlert => detail.as_ref().and_then(Detail::own_id),
            Kind::Comment => members.text("rrn").map(Cow::into_owned),
            Kind::Restricted => None,
        };
        let own = own.filter(|id| id.len() <= MOST_OF_ID);
        let id = match (kind, own) {
            (Kind::Comment, Some(rrn)) => rrn,
            (_, own) => {
                let own = own.unwrap_or_else(|| {
                    // All of an element that is one: two may differ in nothing but what stands beside the details.
                    let content = several.map_or(raw, |detail| detail.raw);
                    format!("{:016x}", hash64([crate::text::compact_json(content.get()).as_bytes()]))
                });
                let of = match kind {
                    Kind::ProductAlert => product.as_deref().unwrap_or("product-alert"),
                    Kind::Comment => "comment",
                    Kind::Restricted => "evidence",
                };
                format!("{}:{of}.{own}", investigation.rrn)
            }
        };
        let in_any_order = if kind == Kind::Restricted { in_any_order(&members) } else { None };
        Self { kind, raw, members, detail, part: None, product, id, in_any_order }
    }

    /// Key among what is known of its investigation.
    #[must_use]
    pub fn key(&self) -> u64 {
        self.in_any_order.unwrap_or_else(|| hash64([self.id.as_bytes()]))
    }

    /// Whether it is among what is known of its investigation, in order: by its key, or by its name, as versions of the
    /// connector noted it that did not look past the order of pieces.
    #[must_use]
    pub fn is_in(&self, known: &[u64]) -> bool {
        [self.key(), hash64([self.id.as_bytes()])].iter().any(|key| known.binary_search(key).is_ok())
    }

    /// The artifact. `now` stands in where neither it nor its investigation
    /// has a readable time.
    #[must_use]
    pub fn artifact(&self, of: &Investigation<'_>, api_host: &str, now: Utc) -> Artifact<'a> {
        let organization = of.organization();
        let version = Version { organization: &organization, record: &self.id, ordinal: 0, fingerprint: 0 };
        let own_time = match self.kind {
            Kind::ProductAlert => None,
            Kind::Comment => self.members.time("created_time"),
            Kind::Restricted => self.members.time("start_time"),
        };
        let event = own_time.or(of.created).unwrap_or(now);
        let priority = of.members.text("priority");
        let title = of.members.text("title");
        let mut tags = Vec::new();
        if self.members.is_empty() {
            tags.push(Cow::Borrowed("unmapped:not-an-object"));
        } else if own_time.is_none() {
            // Told apart from a time of its own.
            tags.push(Cow::Borrowed("time-of-investigation"));
        }
        if self.detail.is_none() && self.part.is_some() {
            tags.push(Cow::Borrowed("several-alerts"));
        }
        // What was put together of JSON is JSON.
        let record = self.part.as_deref().and_then(Json::parse).unwrap_or(self.raw);
        let mut artifact = Artifact {
            id: version.id(event),
            message_type: message_type::SIEM_EVENT,
            tags,
            severity: severity::of_priority(priority.as_deref()),
            sender_host: version.sender_host(api_host),
            source_info: Some(field(Cow::Owned(self.id.clone()))),
            start: Some(event),
            message: message::message(
                record,
                &[Nested { name: "investigation", records: vec![of.as_parent().to_owned()], single: true }],
            ),
            ..Artifact::default()
        };
        match self.kind {
            Kind::ProductAlert => {
                let product = self.product.clone().map(Cow::Owned);
                let name = self.detail.as_ref().and_then(|detail| detail.members.text("alert_type"));
                artifact.action = Some("product_alert".to_owned());
                if !self.members.is_empty() {
                    artifact.message_type =
                        message_type::classify(&Mitre::default(), &[name.as_deref(), product.as_deref()]);
                }
                artifact.rule_name = name.or_else(|| title.map(|title| Cow::Owned(title.into_owned()))).map(field);
                artifact.rule_category = product.map(field);
                // What belongs to another alert of the element names nobody here.
                let several = self.detail.as_ref().filter(|detail| detail.has_others);
                artifact.entities = evidence::entities(several.map_or(record, |detail| detail.raw));
            }
            Kind::Comment => {
                artifact.action = Some("comment".to_owned());
                // What people say of it is no alarm.
                artifact.severity = severity::of_priority(None);
                artifact.rule_name = title.map(|title| field(Cow::Owned(title.into_owned())));
                artifact.rule_category = self.members.text("visibility").map(field);
                // Keys and the system write comments too, and are no users.
                let creator = self.members.object("creator");
                let person = creator.filter(|creator| creator.text("type").is_none_or(|kind| kind == "USER"));
                if let Some(name) = person.and_then(|creator| creator.text("name")) {
                    artifact.entities.offer(entities::Field::UserName, 0, &name);
                }
            }
            Kind::Restricted => {
                let headline = self.members.text("headline");
                artifact.action = Some("evidence".to_owned());
                artifact.message_type =
                    message_type::classify(&Mitre::default(), &[headline.as_deref(), title.as_deref()]);
                artifact.rule_name = headline.map(field);
                artifact.rule_category = Some(Cow::Borrowed("restricted evidence"));
                for piece in self.members.list("evidence") {
                    if let Some(details) = Members::within(piece).unwrap_or_default().raw("details") {
                        artifact.entities.fill_from(evidence::entities(details));
                    }
                }
            }
        }
        artifact
    }
}

/// An element as if it had only these details.
fn part_of(members: &Members<'_>, details: &[Detail<'_>]) -> String {
    let mut part = String::from("{");
    if let Some(kind) = members.raw("type") {
        part.push_str(&format!(r#""type":{},"#, kind.get()));
    }
    let same_member = |one: &Detail<'_>, other: &Detail<'_>| one.name == other.name;
    let lists = details.chunk_by(same_member).map(|details| {
        let name = details.first().map_or("", |detail| detail.name.as_str());
        let raw: Vec<&str> = details.iter().map(|detail| detail.raw.get()).collect();
        format!("{}:[{}]", crate::text::quoted(name), raw.join(","))
    });
    part.push_str(&lists.collect::<Vec<_>>().join(","));
    part.push('}');
    part
}

/// Hash of an occurrence of restricted evidence whatever the order of its pieces. `None` where there are not several.
fn in_any_order(members: &Members<'_>) -> Option<u64> {
    let compact = |raw: Json<'_>| crate::text::compact_json(raw.get()).into_owned();
    let mut pieces: Vec<String> = members.list("evidence").into_iter().map(compact).collect();
    if pieces.len() < 2 {
        return None;
    }
    pieces.sort_unstable();
    let others = members.iter().filter(|(name, _)| *name != "evidence");
    let others: Vec<String> = others.flat_map(|(name, raw)| [name.to_owned(), compact(raw)]).collect();
    Some(hash64(others.iter().chain(&pieces).map(String::as_bytes)))
}

/// The details that an element has: each member for them is an object, or a
/// list of such. Empty ones say nothing.
fn details<'a>(members: &Members<'a>) -> Vec<Detail<'a>> {
    let mut details = Vec::new();
    for (name, value) in members.iter() {
        let Some(product) = name.strip_suffix("_details") else { continue };
        for raw in value.elements().unwrap_or_else(|| vec![value]) {
            let members = Members::within(raw).unwrap_or_default();
            if !members.is_empty() {
                let (name, product) = (name.to_owned(), product.to_ascii_uppercase());
                details.push(Detail { name, product, raw, members, has_others: false });
            }
        }
    }
    let has_others = details.len() > 1;
    details.iter_mut().for_each(|detail| detail.has_others = has_others);
    details
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    /// The only one that a record is.
    fn only<'a>(kind: Kind, raw: &'a RawValue, of: &Investigation<'_>) -> Extra<'a> {
        let mut all = Extra::all_of(kind, raw, of);
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    const INVESTIGATION: &str = r#"{"rrn":"rrn:investigation:us:o:investigation:A","organization_id":"o","title":"T","priority":"HIGH","created_time":"2026-01-01T00:00:00Z"}"#;

    #[test]
    fn an_alert_of_another_product_is_known_by_its_type_and_id_in_both_shapes() {
        let of = raw(INVESTIGATION);
        let of = Investigation::of(&of);
        for (json, id, name) in [
            (
                r#"{"type":"THREAT_COMMAND","threat_command_details":{"alert_id":"7","alert_type":"Phishing","applicable_close_reasons":[]}}"#,
                "rrn:investigation:us:o:investigation:A:THREAT_COMMAND.7",
                Some("Phishing"),
            ),
            (
                r#"{"type":"INSIGHT AGENT","insight_agent_details":[{"alert_id":"8","alert_type":"Malware","hostname":"pc-9"}]}"#,
                "rrn:investigation:us:o:investigation:A:INSIGHT_AGENT.8",
                Some("Malware"),
            ),
        ] {
            let raw = raw(json);
            let extra = only(Kind::ProductAlert, &raw, &of);
            assert_eq!(extra.id, id);
            let artifact = extra.artifact(&of, "us.example", Utc(0));
            assert_eq!(artifact.rule_name.as_deref(), name);
            assert_eq!(artifact.severity.1, "high");
            assert_eq!(artifact.tags, ["time-of-investigation"]);
            let host = artifact.entities.get(entities::Field::ClientHostname);
            assert_eq!(host, (name == Some("Malware")).then_some("pc-9"));
        }
        // Whether it stands alone or beside others.
        let own = r#""threat_command_details":{"alert_id":"7"}"#;
        let alone = raw(&format!(r#"{{"type":"THREAT COMMAND",{own}}}"#));
        let beside = raw(&format!(r#"{{"type":"INSIGHT AGENT",{own},"insight_agent_details":[{{"alert_id":"8"}}]}}"#));
        let alone = only(Kind::ProductAlert, &alone, &of);
        assert!(Extra::all_of(Kind::ProductAlert, &beside, &of).iter().any(|extra| extra.key() == alone.key()));
        assert_eq!(alone.artifact(&of, "us.example", Utc(0)).rule_category.as_deref(), Some("THREAT_COMMAND"));
        let (one, other) = (raw(r#"{"type":"X"}"#), raw(r#"{"type":"X","a":1}"#));
        assert_ne!(
            only(Kind::ProductAlert, &one, &of).key(),
            only(Kind::ProductAlert, &other, &of).key(),
            "without an id the content tells them apart"
        );
    }

    #[test]
    fn every_alert_of_an_element_with_the_details_of_several_is_one_whatever_their_order() {
        let of = raw(INVESTIGATION);
        let of = Investigation::of(&of);
        let threat = r#""threat_command_details":{"alert_id":"7","alert_type":"Phishing"}"#;
        let agents = r#""insight_agent_details":[{"alert_id":"8","alert_type":"Malware","hostname":"pc-9"},{},{"alert_id":"9"}]"#;
        for json in [
            format!(r#"{{"type":"THREAT_COMMAND",{threat},{agents}}}"#),
            format!(r#"{{{agents},{threat},"type":"X"}}"#),
        ] {
            let raw = raw(&json);
            let mut all = Extra::all_of(Kind::ProductAlert, &raw, &of);
            all.sort_by(|one, other| one.id.cmp(&other.id));
            let ids: Vec<&str> = all.iter().map(|extra| extra.id.rsplit(':').next().unwrap()).collect();
            assert_eq!(ids, ["INSIGHT_AGENT.8", "INSIGHT_AGENT.9", "THREAT_COMMAND.7"]);
            let artifacts: Vec<Artifact<'_>> =
                all.iter().map(|extra| extra.artifact(&of, "us.example", Utc(0))).collect();
            assert_eq!(artifacts[0].rule_name.as_deref(), Some("Malware"));
            assert_eq!(artifacts[0].rule_category.as_deref(), Some("INSIGHT_AGENT"));
            assert_eq!(artifacts[0].entities.get(entities::Field::ClientHostname), Some("pc-9"));
            assert_eq!(artifacts[2].rule_name.as_deref(), Some("Phishing"));
            assert_eq!(artifacts[2].rule_category.as_deref(), Some("THREAT_COMMAND"));
            assert_eq!(artifacts[2].entities.get(entities::Field::ClientHostname), None, "that is another alert's");
            assert!(artifacts.iter().all(|artifact| artifact.message.contains("Phishing")));
        }
    }

    #[test]
    fn an_element_of_any_number_of_details_is_a_bounded_number_of_artifacts() {
        let of = raw(INVESTIGATION);
        let of = Investigation::of(&of);
        let many = vec![r#"{"a":1}"#; 5_000].join(",");
        let raw = raw(&format!(r#"{{"type":"X","insight_agent_details":[{many}]}}"#));
        let all = Extra::all_of(Kind::ProductAlert, &raw, &of);
        assert_eq!(all.len(), MOST_DETAILS + 1);
        let bytes: usize = all.iter().map(|extra| extra.artifact(&of, "us.example", Utc(0)).message.len()).sum();
        assert!(bytes < 3 * WITH_ALL * raw.get().len(), "{bytes} bytes");
    }

    #[test]
    fn only_people_who_comment_are_users() {
        let of = raw(INVESTIGATION);
        let of = Investigation::of(&of);
        for (kind, is_user) in [
            (r#""type":"USER","#, true),
            ("", true),
            (r#""type":"ORG_API_KEY","#, false),
            (r#""type":"SYSTEM","#, false),
        ] {
            let raw = raw(&format!(r#"{{"rrn":"rrn:collaboration:us:o:comment:C","creator":{{{kind}"name":"N"}}}}"#));
            let artifact = only(Kind::Comment, &raw, &of).artifact(&of, "us.example", Utc(0));
            let user = artifact.entities.get(entities::Field::UserName);
            assert_eq!(user, is_user.then_some("N"), "{kind}");
        }
    }

    #[test]
    fn a_comment_is_informational_and_named_by_who_wrote_it() {
        let of = raw(INVESTIGATION);
        let of = Investigation::of(&of);
        let raw = raw(
            r#"{"rrn":"rrn:collaboration:us:o:comment:C","creator":{"type":"USER","name":"Jane"},"body":null,"visibility":"PUBLIC","created_time":"2026-01-02T00:00:00Z"}"#,
        );
        let extra = only(Kind::Comment, &raw, &of);
        let artifact = extra.artifact(&of, "us.example", Utc(0));
        assert_eq!(artifact.sender_host, "us.example/C.0");
        assert_eq!(artifact.severity.1, "informational");
        assert_eq!(artifact.entities.get(entities::Field::UserName), Some("Jane"));
        assert_eq!(artifact.start, Utc::parse("2026-01-02T00:00:00Z"));
    }

    #[test]
    fn restricted_evidence_is_read_within_its_strings() {
        let of = raw(INVESTIGATION);
        let of = Investigation::of(&of);
        let raw = raw(
            r#"{"headline":"H","start_time":"2026-01-02T00:00:00Z","evidence":[{"type":"OdinMatchEvidence","details":{"matchId":"m"}},
                {"type":"OdinMatchContentEvidence","details":{"content":"{\"hostname\":\"pc-7\",\"process\":{\"name\":\"a.exe\"}}","eventSource":{"name":"x"}}},
                {"type":"HoneypotConnectionEvidence","details":{"account":{"name":"jdoe"},"logline":"{\"source_ip\":\"10.0.0.1\"}"}}]}"#,
        );
        let artifact = only(Kind::Restricted, &raw, &of).artifact(&of, "us.example", Utc(0));
        assert_eq!(artifact.start, Utc::parse("2026-01-02T00:00:00Z"));
        assert_eq!(
            artifact.entities.iter().collect::<Vec<_>>(),
            [("clientIP", "10.0.0.1"), ("clientHostname", "pc-7"), ("userName", "jdoe"), ("program", "a.exe")]
        );
    }
}
