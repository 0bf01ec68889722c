//! The members of a record, read one by one.
//!
//! Why not structs: records come in more shapes than any description of them.
//! A member of an unexpected type must not cost the record, unknown members
//! must survive to the byte, and JSON of any depth must not reach a recursive
//! parser. So a record is split into its members, each kept raw, and each is
//! looked at when it is needed.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::json::{Json, Split, text_of};
use crate::times::Utc;

/// Members that there is room for at once: many records have as many, and few have far less.
const USUAL: usize = 24;

/// A record's members, raw, in the vendor's order. A record that is not an
/// object has none. Records have a few dozen members: looking one up by going
/// through them is faster than a map would be, and smaller.
#[derive(Debug, Clone, Default)]
pub struct Members<'a> {
    members: Vec<(Cow<'a, str>, Json<'a>)>,
    /// Whether there may be white space between the record's tokens.
    is_spaced: bool,
}

impl<'a> Members<'a> {
    /// Splits a record.
    #[must_use]
    pub fn of(raw: &'a RawValue) -> Self {
        Self::within(raw.into()).unwrap_or_default()
    }

    /// Splits a value. `None` when it is not an object.
    #[must_use]
    pub fn within(json: Json<'a>) -> Option<Self> {
        let mut split = Split::of(json.get(), b'{')?;
        let mut members = Vec::with_capacity(USUAL);
        while let Some((name, value)) = split.member() {
            members.push((text_of(name), value));
        }
        Some(Self { members, is_spaced: split.is_spaced })
    }

    /// Splits a text. `None` when it is not a JSON object.
    #[must_use]
    pub fn parse(json: &'a str) -> Option<Self> {
        Self::within(Json::parse(json)?)
    }

    /// Adds one.
    pub(super) fn push(&mut self, name: Cow<'a, str>, value: Json<'a>) {
        self.members.push((name, value));
        self.is_spaced = true;
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether there may be white space between the record's tokens: then it is longer than it has to be.
    #[must_use]
    pub fn is_spaced(&self) -> bool {
        self.is_spaced
    }

    /// Whether the record has this member, null or not.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// All members.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Json<'a>)> {
        self.members.iter().map(|(key, value)| (key.as_ref(), *value))
    }

    /// A member by name; of several with one name the last, as JSON parsers
    /// commonly have it.
    fn find(&self, key: &str) -> Option<Json<'a>> {
        self.members.iter().rev().find(|(name, _)| same(name, key)).map(|(_, value)| *value)
    }

    /// A member, raw. Null counts as absent.
    #[must_use]
    pub fn raw(&self, key: &str) -> Option<Json<'a>> {
        self.find(key).filter(|value| value.get() != "null")
    }

    /// A member that is an object, split.
    #[must_use]
    pub fn object(&self, key: &str) -> Option<Members<'a>> {
        self.raw(key).and_then(Self::within)
    }

    /// The elements of a member that is an array, raw; none for anything else.
    #[must_use]
    pub fn list(&self, key: &str) -> Vec<Json<'a>> {
        self.raw(key).and_then(Json::elements).unwrap_or_default()
    }

    /// A member that is a text or a number, as text. Empty texts count as
    /// absent.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<Cow<'a, str>> {
        self.raw(key).and_then(Json::scalar).filter(|text| !text.is_empty())
    }

    /// The texts of a member that is an array, empty ones left out.
    #[must_use]
    pub fn texts(&self, key: &str) -> Vec<Cow<'a, str>> {
        self.list(key).into_iter().filter_map(Json::scalar).filter(|text| !text.is_empty()).collect()
    }

    /// A member that is a time.
    #[must_use]
    pub fn time(&self, key: &str) -> Option<Utc> {
        self.text(key).and_then(|text| Utc::parse(&text))
    }
}

/// Whether two names are the same. Most differ in length, and comparing memory is a loop over single bytes in WebAssembly.
#[inline(always)]
pub(crate) fn same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    one.len() == other.len() && one.first() == other.first() && {
        let ((ones, one), (others, other)) = (one.as_chunks::<8>(), other.as_chunks::<8>());
        ones.iter().zip(others).all(|(a, b)| u64::from_le_bytes(*a) == u64::from_le_bytes(*b))
            && one.iter().zip(other).all(|(a, b)| a == b)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_any_type_are_looked_at_one_by_one() {
        let json = r#"{"a":"x","b":12345678901234567890,"c":null,"d":["y","",1,null,{}],"e":{"f":"z"},"g":"","h":"\ud800","t":"2026-11-01T10:00:00.5Z"}"#;
        let members = Members::parse(json).unwrap();
        assert_eq!(members.text("a").as_deref(), Some("x"));
        assert_eq!(members.text("b").as_deref(), Some("12345678901234567890"));
        assert_eq!(members.text("c"), None);
        assert!(members.has("c") && !members.has("z"));
        assert_eq!(members.texts("d"), ["y", "1"]);
        assert_eq!(members.object("e").unwrap().text("f").as_deref(), Some("z"));
        assert_eq!(members.text("g"), None);
        assert_eq!(members.text("h").as_deref(), Some("\\ud800"));
        assert_eq!(members.time("t"), Utc::parse("2026-11-01T10:00:00.500Z"));
        assert_eq!(members.time("a"), None);
    }

    #[test]
    fn what_is_no_object_has_no_members() {
        for json in ["null", "1", "\"x\"", "[1]"] {
            let raw: &RawValue = serde_json::from_str(json).unwrap();
            assert!(Members::of(raw).is_empty());
        }
    }
}
