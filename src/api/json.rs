//! Values of JSON, and splitting them without reading them again.
//!
//! Why not serde_json alone: it says what is JSON, once for each response or text. What it has accepted is then taken apart
//! at every level that is looked at, and for that it need not be checked again: finding the ends of strings and the
//! matching brackets is enough. [`Parts`] passes each byte once, whatever the depth.
//! Guaranteed: JSON of any depth is split without recursion. Not guaranteed: anything about text that is no JSON, of which
//! no [`Json`] is ever made.

use std::borrow::Cow;

use serde_json::value::RawValue;

/// The text of one value of valid JSON, without white space around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Json<'a>(&'a str);

impl<'a> From<&'a RawValue> for Json<'a> {
    fn from(raw: &'a RawValue) -> Self {
        Self(raw.get())
    }
}

impl<'a> From<&&'a RawValue> for Json<'a> {
    fn from(raw: &&'a RawValue) -> Self {
        Self(raw.get())
    }
}

impl<'a> From<&'a Box<RawValue>> for Json<'a> {
    fn from(raw: &'a Box<RawValue>) -> Self {
        Self(raw.get())
    }
}

impl<'a> Json<'a> {
    /// The value that a text is. `None` when it is not JSON.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        serde_json::from_str::<&RawValue>(text).ok().map(Self::from)
    }

    /// Its text.
    #[must_use]
    pub const fn get(self) -> &'a str {
        self.0
    }

    /// A text, number or boolean as text. `None` for anything else. A text with
    /// broken escapes (half a surrogate pair) is taken as it stands.
    #[must_use]
    pub fn scalar(self) -> Option<Cow<'a, str>> {
        match self.0.as_bytes().first()? {
            b'"' => Some(text_of(self.0)),
            b'{' | b'[' | b'n' => None,
            _ => Some(Cow::Borrowed(self.0)),
        }
    }

    /// The elements of an array; `None` for anything else.
    #[must_use]
    pub fn elements(self) -> Option<Vec<Self>> {
        let mut split = Split::of(self.0, b'[')?;
        let mut elements = Vec::new();
        while let Some(element) = split.value() {
            elements.push(element);
        }
        Some(elements)
    }
}

/// The text of a JSON string.
pub(super) fn text_of(json: &str) -> Cow<'_, str> {
    let inner = json.strip_prefix('"').and_then(|json| json.strip_suffix('"')).unwrap_or(json);
    if has_escape(inner.as_bytes()) {
        Cow::Owned(serde_json::from_str(json).unwrap_or_else(|_| inner.to_owned()))
    } else {
        Cow::Borrowed(inner)
    }
}

/// Whether there is a backslash.
fn has_escape(bytes: &[u8]) -> bool {
    let (eights, rest) = bytes.as_chunks::<8>();
    eights.iter().any(|eight| among(*eight, b'\\') != 0) || rest.contains(&b'\\')
}

/// A part of JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// A text, number, truth value or null; the name of a member too.
    Scalar(Json<'a>),
    /// An object begins.
    Object,
    /// An array begins.
    Array,
    /// The object or array ends.
    End,
}

/// JSON part by part: each byte is passed once, however deep it is nested.
pub struct Parts<'a>(Split<'a>);

impl<'a> Parts<'a> {
    /// The parts of a value, from its beginning.
    #[must_use]
    pub fn of(json: Json<'a>) -> Self {
        Self(Split { json: json.get(), at: 0, is_spaced: false })
    }

    /// Passes the rest of the object or array that has begun last.
    pub fn pass(&mut self) {
        let mut depth = 1_usize;
        while depth > 0 {
            match self.next() {
                Some(Part::Object | Part::Array) => depth += 1,
                Some(Part::End) => depth -= 1,
                Some(Part::Scalar(_)) => {}
                None => return,
            }
        }
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        let start = self.0.next()?;
        let part = match self.0.json.as_bytes().get(start)? {
            b'{' => Part::Object,
            b'[' => Part::Array,
            b'}' | b']' => Part::End,
            _ => {
                self.0.pass_scalar(start);
                return self.0.json.get(start..self.0.at).map(|scalar| Part::Scalar(Json(scalar)));
            }
        };
        self.0.at = start + 1;
        Some(part)
    }
}

/// An object or an array under examination: what is behind its opening bracket is taken one by one.
pub(super) struct Split<'a> {
    json: &'a str,
    at: usize,
    /// Whether white space was passed, in what has been taken or between it.
    pub(super) is_spaced: bool,
}

impl<'a> Split<'a> {
    /// What begins with this bracket. `None` for anything else.
    pub(super) fn of(json: &'a str, bracket: u8) -> Option<Self> {
        (json.as_bytes().first() == Some(&bracket)).then_some(Self { json, at: 1, is_spaced: false })
    }

    /// The next member of an object: its name in quotation marks, and its value.
    pub(super) fn member(&mut self) -> Option<(&'a str, Json<'a>)> {
        let Json(name) = self.value()?;
        Some((name, self.value()?))
    }

    /// The next value; `None` behind the last.
    pub(super) fn value(&mut self) -> Option<Json<'a>> {
        let start = self.next()?;
        match self.json.as_bytes().get(start)? {
            b']' | b'}' => return None,
            b'{' | b'[' => self.at = self.end_of_nested(start),
            _ => self.pass_scalar(start),
        }
        self.json.get(start..self.at).map(Json)
    }

    /// Where the next value, or the closing bracket, begins.
    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        let bytes = self.json.as_bytes();
        // In valid JSON nothing else is between two values.
        while let Some(between @ (b',' | b':' | b' ' | b'\n' | b'\r' | b'\t')) = bytes.get(self.at) {
            self.is_spaced |= *between <= b' ';
            self.at += 1;
        }
        (self.at < bytes.len()).then_some(self.at)
    }

    /// Goes behind a value without brackets.
    #[inline(always)]
    fn pass_scalar(&mut self, start: usize) {
        let bytes = self.json.as_bytes();
        if bytes.get(start) == Some(&b'"') {
            self.at = end_of_string(bytes, start);
            return;
        }
        while bytes.get(self.at).is_some_and(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte)) {
            self.at += 1;
        }
        // Of what is no JSON too, every step takes something.
        self.at = self.at.max(start + 1);
    }

    /// Behind the object or array that begins at a bracket.
    fn end_of_nested(&mut self, start: usize) -> usize {
        let bytes = self.json.as_bytes();
        let (mut at, mut depth) = (start, 0_usize);
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'"' => {
                    at = end_of_string(bytes, at);
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => {
                    depth -= 1;
                    if depth == 0 {
                        return at + 1;
                    }
                }
                byte => self.is_spaced |= *byte <= b' ',
            }
            at += 1;
        }
        at
    }
}

/// Behind the string that begins at a quotation mark.
pub(crate) fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    loop {
        while let Some(eight) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
            match (among(*eight, b'"') | among(*eight, b'\\')).trailing_zeros() {
                64 => at += 8,
                found => {
                    at += found as usize / 8;
                    break;
                }
            }
        }
        match bytes.get(at) {
            Some(b'"') => return at + 1,
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
            // Of what is no JSON, no more is there than there is.
            None => return bytes.len(),
        }
    }
}

/// The lowest bit of every byte.
pub(crate) const ONES: u64 = 0x0101_0101_0101_0101;
/// The highest bit of every byte.
pub(crate) const HIGHS: u64 = ONES << 7;

/// The highest bit of the first of eight bytes that is this one, if any is; those of later ones may be set wrongly.
#[inline(always)]
pub(crate) fn among(eight: [u8; 8], byte: u8) -> u64 {
    let different = u64::from_le_bytes(eight) ^ (ONES * u64::from(byte));
    different.wrapping_sub(ONES) & !different & HIGHS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// JSON of any shape, with and without white space.
    fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            any::<bool>().prop_map(|value| value.to_string()),
            any::<f64>().prop_map(|number| serde_json::to_string(&number).unwrap()),
            any::<i64>().prop_map(|number| number.to_string()),
            "[\\PC\\\\\"\\[\\]{},: \n]{0,24}".prop_map(|text| serde_json::to_string(&text).unwrap()),
            Just(r#""\ud800 \u00e9 \\""#.to_owned()),
        ];
        let value = leaf.prop_recursive(4, 64, 6, |inner| {
            let space = "[ \n\r\t]{0,2}";
            let list = prop::collection::vec((space, inner.clone(), space), 0..6).prop_map(|parts| {
                let parts: Vec<String> = parts.into_iter().map(|(a, value, b)| format!("{a}{value}{b}")).collect();
                format!("[{}]", parts.join(","))
            });
            let object = prop::collection::vec(("[a-c\\\\\"]{0,3}", space, inner, space), 0..6).prop_map(|parts| {
                let member = |(name, a, value, b): (String, String, String, String)| {
                    format!("{a}{}{b}:{a}{value}{b}", serde_json::to_string(&name).unwrap())
                };
                format!("{{{}}}", parts.into_iter().map(member).collect::<Vec<_>>().join(","))
            });
            prop_oneof![list, object]
        });
        ("[ \n]{0,2}", value).prop_map(|(space, value)| format!("{space}{value}"))
    }

    proptest! {
        #[test]
        fn what_is_split_is_what_serde_json_reads(text in json()) {
            let value = Json::parse(&text).unwrap();
            let elements = serde_json::from_str::<Vec<&RawValue>>(&text).ok();
            let expected = elements.map(|elements| elements.into_iter().map(RawValue::get).collect::<Vec<_>>());
            prop_assert_eq!(value.elements().map(|all| all.into_iter().map(Json::get).collect::<Vec<_>>()), expected);
            let members = crate::api::records::Members::parse(&text);
            let expected: Option<serde_json::Map<String, Value>> = serde_json::from_str(&text).ok();
            prop_assert_eq!(members.is_some(), text.trim_start().starts_with('{'));
            for (name, expected) in expected.into_iter().flatten() {
                let found = members.as_ref().unwrap().iter().filter(|(known, _)| *known == name).last().unwrap().1;
                prop_assert_eq!(serde_json::from_str::<Value>(found.get()).ok(), Some(expected));
            }
        }

        #[test]
        fn its_parts_are_those_of_the_value(text in json()) {
            fn written(value: &mut Parts<'_>, part: Part<'_>) -> Value {
                match part {
                    Part::Scalar(json) => serde_json::from_str(json.get()).unwrap_or(Value::String(json.get().to_owned())),
                    Part::Array => {
                        let mut list = Vec::new();
                        loop {
                            match value.next().unwrap() {
                                Part::End => return Value::Array(list),
                                part => list.push(written(value, part)),
                            }
                        }
                    }
                    Part::Object => {
                        let mut object = serde_json::Map::new();
                        loop {
                            match value.next().unwrap() {
                                Part::Scalar(name) => {
                                    let part = value.next().unwrap();
                                    object.insert(text_of(name.get()).into_owned(), written(value, part));
                                }
                                part => {
                                    assert_eq!(part, Part::End);
                                    return Value::Object(object);
                                }
                            }
                        }
                    }
                    Part::End => unreachable!("an end without a beginning"),
                }
            }
            let mut parts = Parts::of(Json::parse(&text).unwrap());
            let first = parts.next().unwrap();
            let read = written(&mut parts, first);
            prop_assert_eq!(parts.next(), None);
            if let Ok(expected) = serde_json::from_str::<Value>(&text) {
                prop_assert_eq!(read, expected);
            }
            // And passed as a whole.
            let mut parts = Parts::of(Json::parse(&text).unwrap());
            if matches!(parts.next(), Some(Part::Object | Part::Array)) {
                parts.pass();
            }
            prop_assert_eq!(parts.next(), None);
        }

        #[test]
        fn no_text_brings_it_down(text in "[\\PC\\\\\"\\[\\]{},: \n]{0,40}", bracket in prop_oneof![Just(b'['), Just(b'{')]) {
            if let Some(mut split) = Split::of(&text, bracket) {
                let values = std::iter::from_fn(|| split.value()).count();
                prop_assert!(values <= text.len());
            }
        }
    }

    #[test]
    fn white_space_is_noticed_wherever_it_is_and_not_in_texts() {
        for (json, is_spaced) in [
            (r#"{"a b":" c ","d":[1,{"e":"f g"}]}"#, false),
            (r#"{"a": 1}"#, true),
            (r#"{"a":1 ,"b":2}"#, true),
            (r#"{"a":[1, 2]}"#, true),
            (r#"{"a":1 }"#, true),
            ("{ }", true),
        ] {
            let mut split = Split::of(json, b'{').unwrap();
            while split.member().is_some() {}
            assert_eq!(split.is_spaced, is_spaced, "{json}");
        }
    }
}
