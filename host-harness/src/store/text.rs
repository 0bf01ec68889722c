//! What of an artifact can be searched for.
//!
//! Why: the search page finds an artifact by any value in it, also by values
//! inside the vendor's record, which the artifact carries as JSON in a text
//! (and which may itself carry JSON in texts). Here the values are taken out,
//! in one pass without building a tree. Names of fields are not indexed: they
//! are the same in every record.
//! Not guaranteed: of one artifact at most [`MOST_TEXT`] bytes are indexed.

use std::fmt::{self, Write};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Bytes of values of one artifact that are indexed; what is beyond is stored
/// but not found. Ordinary artifacts have a hundredth of it.
const MOST_TEXT: usize = 256 * 1024;

/// How deep JSON inside texts inside JSON is looked into.
const MOST_NESTED: u8 = 3;

/// The values of an artifact, by the column they are searched in. Values of
/// one column stand one a line. An unqualified search looks in all columns, so
/// no value needs to be in two.
#[derive(Debug, Default)]
pub(super) struct Searchable {
    pub(super) src_ip: String,
    pub(super) dst_ip: String,
    pub(super) hostname: String,
    pub(super) user: String,
    pub(super) severity: String,
    pub(super) stream: String,
    pub(super) text: String,
}

impl Searchable {
    /// Replaces what is here by the values of this artifact. What is not JSON
    /// is taken as plain text.
    pub(super) fn read(&mut self, stream: &str, json: &str) {
        for column in [
            &mut self.src_ip,
            &mut self.dst_ip,
            &mut self.hostname,
            &mut self.user,
            &mut self.severity,
            &mut self.stream,
            &mut self.text,
        ] {
            column.clear();
        }
        push(&mut self.stream, stream);
        if serde_json::Deserializer::from_str(json).deserialize_map(Top(self)).is_err() {
            self.text.clear();
            push(&mut self.text, json);
        }
    }

    /// The column for a key of the artifact.
    fn column(&mut self, key: &str) -> &mut String {
        match key {
            "clientIP" => &mut self.src_ip,
            "serverIP" => &mut self.dst_ip,
            "clientHostname" | "serverHostname" | "senderHost" | "fqdn" => &mut self.hostname,
            "userName" | "emailFrom" | "emailTo" => &mut self.user,
            "severityLabel" | "severityCode" => &mut self.severity,
            "streamName" => &mut self.stream,
            _ => &mut self.text,
        }
    }
}

/// Reads the artifact's own keys.
struct Top<'a>(&'a mut Searchable);

impl<'de> Visitor<'de> for Top<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an artifact")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            map.next_value_seed(Values { out: self.0.column(&key), nested: 0 })?;
        }
        Ok(())
    }
}

/// Reads every value below, whatever its shape.
struct Values<'a> {
    out: &'a mut String,
    /// How many texts deep this is.
    nested: u8,
}

impl Values<'_> {
    /// A text: JSON inside it is read as such when it is whole.
    fn text(&mut self, text: &str) {
        if self.nested < MOST_NESTED && text.starts_with(['{', '[']) {
            let before = self.out.len();
            let mut inner = serde_json::Deserializer::from_str(text);
            let values = Values { out: self.out, nested: self.nested + 1 };
            if values.deserialize(&mut inner).and_then(|()| inner.end()).is_ok() {
                return;
            }
            self.out.truncate(before);
        }
        push(self.out, text);
    }

    fn number(&mut self, number: impl fmt::Display) {
        if self.out.len() < MOST_TEXT {
            // Writing to a String cannot fail.
            let _ = writeln!(self.out, "{number}");
        }
    }
}

impl<'de> DeserializeSeed<'de> for Values<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Values<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(mut self, number: i64) -> Result<(), E> {
        self.number(number);
        Ok(())
    }

    fn visit_u64<E: Error>(mut self, number: u64) -> Result<(), E> {
        self.number(number);
        Ok(())
    }

    fn visit_f64<E: Error>(mut self, number: f64) -> Result<(), E> {
        self.number(number);
        Ok(())
    }

    fn visit_str<E: Error>(mut self, text: &str) -> Result<(), E> {
        self.text(text);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Values { out: self.out, nested: self.nested })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_key::<IgnoredAny>()?.is_some() {
            map.next_value_seed(Values { out: self.out, nested: self.nested })?;
        }
        Ok(())
    }
}

/// Adds one value on a line of its own, as far as there is room.
fn push(out: &mut String, text: &str) {
    let room = MOST_TEXT.saturating_sub(out.len());
    if room == 0 || text.is_empty() {
        return;
    }
    out.push_str(text.get(..text.floor_char_boundary(room)).unwrap_or_default());
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Searchable {
        let mut searchable = Searchable::default();
        searchable.read("alerts", json);
        searchable
    }

    #[test]
    fn values_go_to_the_column_they_are_searched_in() {
        let found = read(
            r#"{"clientIP":"10.0.0.1","serverIP":"10.0.0.2","userName":"jane","severityCode":"3",
                "severityLabel":"high","streamName":"acme","clientHostname":"pc1","program":"cmd.exe"}"#,
        );
        assert_eq!(found.src_ip, "10.0.0.1\n");
        assert_eq!(found.dst_ip, "10.0.0.2\n");
        assert_eq!(found.user, "jane\n");
        assert_eq!(found.severity, "3\nhigh\n");
        assert_eq!(found.stream, "alerts\nacme\n");
        assert_eq!(found.hostname, "pc1\n");
        assert_eq!(found.text, "cmd.exe\n");
    }

    #[test]
    fn json_inside_texts_is_read_for_its_values_only() {
        let message = r#"{"title":"odd login","alerts":[{"n":7,"data":"{\"path\":\"/tmp/x\"}"}],"none":null}"#;
        let json = serde_json::json!({ "message": message }).to_string();
        assert_eq!(read(&json).text, "odd login\n7\n/tmp/x\n");
    }

    #[test]
    fn broken_json_inside_a_text_is_plain_text() {
        let json = serde_json::json!({ "message": r#"{"title":"cut of"# }).to_string();
        assert_eq!(read(&json).text, "{\"title\":\"cut of\n");
    }

    #[test]
    fn what_is_no_json_at_all_is_plain_text() {
        assert_eq!(read("[1,2").text, "[1,2\n");
    }

    #[test]
    fn very_deep_json_is_plain_text() {
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        let json = serde_json::json!({ "message": deep }).to_string();
        assert_eq!(read(&json).text.trim_end(), deep);
    }

    #[test]
    fn the_index_of_one_artifact_is_bounded() {
        let json = serde_json::json!({ "message": "ü".repeat(MOST_TEXT) }).to_string();
        assert!(read(&json).text.len() <= MOST_TEXT + 1);
    }

    #[test]
    fn nothing_stays_from_the_artifact_before() {
        let mut searchable = read(r#"{"userName":"jane"}"#);
        searchable.read("alerts", r#"{"program":"x"}"#);
        assert_eq!(searchable.user, "");
    }
}
