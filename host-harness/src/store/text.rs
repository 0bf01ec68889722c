//! What of an artifact can be searched for.
//!
//! Why: the search page finds an artifact by any value in it, also by values
//! inside the vendor's record, which the artifact carries as JSON in a text
//! (and which may itself carry JSON in texts). Here the values are taken out,
//! in one pass without building a tree. Names of fields are not indexed: they
//! are the same in every record. Nor is a value twice in a column: most of what
//! a connector takes out of a record stands in the record as well, and a third of
//! all words would be repetitions. UUIDs and times are made words of, see
//! [`super::words`].
//! Not guaranteed: of one artifact at most [`MOST_TEXT`] bytes are indexed.

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::words::write_indexed;

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
    seen: Seen,
}

/// The values that are in a column already, by hashes that nobody outside can foresee.
#[derive(Debug, Default)]
struct Seen {
    hashes: HashSet<u64, BuildHasherDefault<Hashed>>,
    /// The same in the order in which they came.
    order: Vec<u64>,
    state: RandomState,
}

impl Seen {
    /// Notes a value; tells whether it is new.
    fn note(&mut self, column: u8, value: &str) -> bool {
        let hash = self.state.hash_one((column, value));
        let is_new = self.hashes.insert(hash);
        if is_new {
            self.order.push(hash);
        }
        is_new
    }

    /// Forgets all but the first so many. What it takes is what it took to note them: a table that grew is not gone through
    /// for every text that only seemed to be JSON.
    fn keep(&mut self, count: usize) {
        for hash in self.order.drain(count.min(self.order.len())..) {
            self.hashes.remove(&hash);
        }
    }
}

/// Takes a hash for what it is.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    /// Of anything but a hash it makes a poor one.
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }
}

/// A column that is being filled.
struct Column<'a> {
    out: &'a mut String,
    seen: &'a mut Seen,
    /// Tells it from the others.
    number: u8,
}

impl Column<'_> {
    /// The same for somebody else.
    fn lend(&mut self) -> Column<'_> {
        Column { out: self.out, seen: self.seen, number: self.number }
    }

    /// Adds one value on a line of its own, as far as there is room, unless it is there.
    fn push(&mut self, text: &str) {
        let before = self.out.len();
        let room = MOST_TEXT.saturating_sub(before);
        if room == 0 || text.is_empty() {
            return;
        }
        write_indexed(text, self.out);
        let words = self.out.get(before..).unwrap_or_default();
        let end = words.floor_char_boundary(room);
        if self.seen.note(self.number, words) {
            self.out.truncate(before + end);
            self.out.push('\n');
        } else {
            self.out.truncate(before);
        }
    }
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
        self.seen.keep(0);
        self.column("streamName").push(stream);
        if serde_json::Deserializer::from_str(json).deserialize_map(Top(self)).is_err() {
            self.text.clear();
            self.seen.keep(0);
            self.column("").push(json);
        }
    }

    /// The column for a key of the artifact.
    fn column(&mut self, key: &str) -> Column<'_> {
        let (number, out) = match key {
            "clientIP" => (0, &mut self.src_ip),
            "serverIP" => (1, &mut self.dst_ip),
            "clientHostname" | "serverHostname" | "senderHost" | "fqdn" => (2, &mut self.hostname),
            "userName" | "emailFrom" | "emailTo" => (3, &mut self.user),
            "severityLabel" | "severityCode" => (4, &mut self.severity),
            "streamName" => (5, &mut self.stream),
            _ => (6, &mut self.text),
        };
        Column { out, seen: &mut self.seen, number }
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
            map.next_value_seed(Values { column: self.0.column(&key), nested: 0 })?;
        }
        Ok(())
    }
}

/// Reads every value below, whatever its shape.
struct Values<'a> {
    column: Column<'a>,
    /// How many texts deep this is.
    nested: u8,
}

impl Values<'_> {
    /// A text: JSON inside it is read as such when it is whole.
    fn text(&mut self, text: &str) {
        if self.nested < MOST_NESTED && text.starts_with(['{', '[']) {
            let (before, seen) = (self.column.out.len(), self.column.seen.order.len());
            let mut inner = serde_json::Deserializer::from_str(text);
            let values = Values { column: self.column.lend(), nested: self.nested + 1 };
            if values.deserialize(&mut inner).and_then(|()| inner.end()).is_ok() {
                return;
            }
            self.column.out.truncate(before);
            // What was seen in it is not there any more.
            self.column.seen.keep(seen);
        }
        self.column.push(text);
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
        self.column.push(&number.to_string());
        Ok(())
    }

    fn visit_u64<E: Error>(mut self, number: u64) -> Result<(), E> {
        self.column.push(&number.to_string());
        Ok(())
    }

    fn visit_f64<E: Error>(mut self, number: f64) -> Result<(), E> {
        self.column.push(&number.to_string());
        Ok(())
    }

    fn visit_str<E: Error>(mut self, text: &str) -> Result<(), E> {
        self.text(text);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Values { column: self.column.lend(), nested: self.nested })?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while map.next_key::<IgnoredAny>()?.is_some() {
            map.next_value_seed(Values { column: self.column.lend(), nested: self.nested })?;
        }
        Ok(())
    }
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
    fn a_value_is_once_in_a_column_however_often_it_stands_in_the_artifact() {
        let message = r#"{"user":"jane","n":7,"m":7,"list":["odd","odd login"],"again":"odd"}"#;
        let found = read(&serde_json::json!({ "message": message, "title": "odd", "userName": "jane" }).to_string());
        assert_eq!((found.text.as_str(), found.user.as_str()), ("jane\n7\nodd\nodd login\n", "jane\n"));
        // What only seemed to be JSON is there as a whole.
        let message = r#"{"a":"caf\u00e9","b":"even","#;
        let found = read(&serde_json::json!({ "message": message, "title": "café" }).to_string());
        assert_eq!(found.text, format!("{message}\ncafé\n"));
    }

    #[test]
    fn what_was_seen_before_a_text_that_only_seems_to_be_json_is_still_known() {
        let artifact = serde_json::json!({ "a": "odd", "b": "[\"even\",\"odd\",", "c": "odd", "d": "even" });
        assert_eq!(read(&artifact.to_string()).text, "odd\n[\"even\",\"odd\",\neven\n");
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
