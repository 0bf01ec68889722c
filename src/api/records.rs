//! The members of a record, read one by one.
//!
//! Why not structs: records come in more shapes than any description of them.
//! A member of an unexpected type must not cost the record, unknown members
//! must survive to the byte, and JSON of any depth must not reach a recursive
//! parser. So a record is split into its members, each kept raw, and each is
//! looked at when it is needed.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::times::Utc;

/// Members that there is room for at once: many records have as many, and few have far less.
const USUAL: usize = 16;

/// A record's members, raw, in the vendor's order. A record that is not an
/// object has none. Records have a few dozen members: looking one up by going
/// through them is faster than a map would be, and smaller.
#[derive(Debug, Clone, Default)]
pub struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::with_capacity(USUAL);
                while let Some((name, value)) = map.next_entry::<&'de RawValue, &'de RawValue>()? {
                    members.push((text_of(name.get()), value));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Object)
    }
}

impl<'a> Members<'a> {
    /// Splits a record.
    #[must_use]
    pub fn of(raw: &'a RawValue) -> Self {
        Self::parse(raw.get()).unwrap_or_default()
    }

    /// Splits a text. `None` when it is not a JSON object.
    #[must_use]
    pub fn parse(json: &'a str) -> Option<Self> {
        serde_json::from_str(json).ok()
    }

    /// Adds one.
    pub(super) fn push(&mut self, name: Cow<'a, str>, value: &'a RawValue) {
        self.0.push((name, value));
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the record has this member, null or not.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.find(key).is_some()
    }

    /// All members.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.0.iter().map(|(key, value)| (key.as_ref(), *value))
    }

    /// A member by name; of several with one name the last, as JSON parsers
    /// commonly have it.
    fn find(&self, key: &str) -> Option<&'a RawValue> {
        self.0.iter().rev().find(|(name, _)| name == key).map(|(_, value)| *value)
    }

    /// A member, raw. Null counts as absent.
    #[must_use]
    pub fn raw(&self, key: &str) -> Option<&'a RawValue> {
        self.find(key).filter(|value| value.get() != "null")
    }

    /// A member that is an object, split.
    #[must_use]
    pub fn object(&self, key: &str) -> Option<Members<'a>> {
        self.raw(key).and_then(|value| Self::parse(value.get()))
    }

    /// The elements of a member that is an array, raw; none for anything else.
    #[must_use]
    pub fn list(&self, key: &str) -> Vec<&'a RawValue> {
        self.raw(key).and_then(|value| serde_json::from_str(value.get()).ok()).unwrap_or_default()
    }

    /// A member that is a text or a number, as text. Empty texts count as
    /// absent.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<Cow<'a, str>> {
        self.raw(key).and_then(scalar).filter(|text| !text.is_empty())
    }

    /// The texts of a member that is an array, empty ones left out.
    #[must_use]
    pub fn texts(&self, key: &str) -> Vec<Cow<'a, str>> {
        self.list(key).into_iter().filter_map(scalar).filter(|text| !text.is_empty()).collect()
    }

    /// A member that is a time.
    #[must_use]
    pub fn time(&self, key: &str) -> Option<Utc> {
        self.text(key).and_then(|text| Utc::parse(&text))
    }
}

/// A text, number or boolean as text. `None` for anything else. A text with
/// broken escapes (half a surrogate pair) is taken as it stands.
#[must_use]
pub fn scalar(value: &RawValue) -> Option<Cow<'_, str>> {
    let json = value.get();
    match json.as_bytes().first()? {
        b'"' => Some(text_of(json)),
        b'{' | b'[' | b'n' => None,
        _ => Some(Cow::Borrowed(json)),
    }
}

/// The text of a JSON string.
pub(super) fn text_of(json: &str) -> Cow<'_, str> {
    let inner = json.strip_prefix('"').and_then(|json| json.strip_suffix('"')).unwrap_or(json);
    if inner.contains('\\') {
        Cow::Owned(serde_json::from_str(json).unwrap_or_else(|_| inner.to_owned()))
    } else {
        Cow::Borrowed(inner)
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
