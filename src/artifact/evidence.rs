//! Evidence as entities.
//!
//! Evidence is whatever the log line was: JSON, JSON in a string in JSON, plain
//! text, broken JSON. What can be read as JSON is walked through, and members
//! whose names are in [`TABLE`] fill the fields of [`Entities`]; everything
//! else stays in the message only.
//!
//! The walk is bounded in depth, members and bytes: attackers write some of
//! this.

use super::entities::{Entities, Field};
use crate::api::json::{Json, Part, Parts};
use crate::api::records::{Members, same};

/// Deepest nesting that is walked into, strings that hold JSON included.
const DEPTH: u8 = 8;
/// Most members that are looked at in one record.
const MEMBERS: usize = 2_000;
/// Largest JSON text that is walked, in bytes.
const BYTES: usize = 256 * 1024;

/// Names of members, lower case without separators, and the field they fill. A
/// name with another before it counts only within a member of that name. Of two
/// that fill the same field the upper one wins.
const TABLE: [(&str, &str, Field); 64] = [
    ("", "sourceip", Field::ClientIp),
    ("", "sourceaddress", Field::ClientIp),
    ("", "sourceipaddress", Field::ClientIp),
    ("", "sourceassetaddress", Field::ClientIp),
    ("", "srcip", Field::ClientIp),
    ("", "clientip", Field::ClientIp),
    ("", "clientaddress", Field::ClientIp),
    ("", "callerip", Field::ClientIp),
    ("", "ipaddress", Field::ClientIp),
    ("", "address", Field::ClientIp),
    ("", "sourceport", Field::ClientPort),
    ("", "srcport", Field::ClientPort),
    ("", "hostname", Field::ClientHostname),
    ("", "sourceasset", Field::ClientHostname),
    ("", "asset", Field::ClientHostname),
    ("", "sourcehost", Field::ClientHostname),
    ("", "computername", Field::ClientHostname),
    ("asset", "name", Field::ClientHostname),
    ("", "destinationip", Field::ServerIp),
    ("", "destinationaddress", Field::ServerIp),
    ("", "destinationassetaddress", Field::ServerIp),
    ("", "destip", Field::ServerIp),
    ("", "dstip", Field::ServerIp),
    ("", "serverip", Field::ServerIp),
    ("", "destinationport", Field::ServerPort),
    ("", "destport", Field::ServerPort),
    ("", "dstport", Field::ServerPort),
    ("", "transportprotocol", Field::Protocol),
    ("", "protocol", Field::Protocol),
    ("", "destinationasset", Field::ServerHostname),
    ("", "destinationhost", Field::ServerHostname),
    ("", "desthost", Field::ServerHostname),
    ("", "query", Field::Fqdn),
    ("", "fqdn", Field::Fqdn),
    ("", "domain", Field::Fqdn),
    ("", "topprivatedomain", Field::Fqdn),
    // The account is what was used; the user is often the person's full name.
    ("", "account", Field::UserName),
    ("", "username", Field::UserName),
    ("account", "name", Field::UserName),
    ("", "sourceuser", Field::UserName),
    ("", "destinationaccount", Field::UserName),
    ("", "destinationlocalaccount", Field::UserName),
    ("", "destinationuser", Field::UserName),
    ("", "userid", Field::UserName),
    ("", "user", Field::UserName),
    ("user", "name", Field::UserName),
    ("", "filename", Field::FileName),
    ("file", "name", Field::FileName),
    ("targetfile", "name", Field::FileName),
    ("", "filepath", Field::FilePath),
    ("", "exepath", Field::FilePath),
    ("file", "path", Field::FilePath),
    ("targetfile", "path", Field::FilePath),
    ("exefile", "path", Field::FilePath),
    ("", "imagepath", Field::FilePath),
    ("", "sha256", Field::FileHash),
    ("", "filehash", Field::FileHash),
    ("", "sha1", Field::FileHash),
    ("", "md5", Field::FileHash),
    ("process", "name", Field::Program),
    ("", "processname", Field::Program),
    ("", "url", Field::Uri),
    ("", "uri", Field::Uri),
    ("", "requesturl", Field::Uri),
];

/// Members that describe something else than what happened: the parent of the
/// process, where an address lies, what an indicator is.
const ELSEWHERE: [&str; 5] = ["parent", "geoip", "grandparent", "eventsource", "hashreputation"];

/// The entities of one record: of a record of evidence, its `data`; of a
/// record of another kind, all of it.
#[must_use]
pub fn entities<'r>(raw: impl Into<Json<'r>>) -> Entities {
    let raw = raw.into();
    let mut walk = Walk { found: Entities::default(), left: MEMBERS };
    // That the record is an object is one level.
    let (value, depth) =
        Members::within(raw).unwrap_or_default().raw("data").map_or((raw, DEPTH), |data| (data, DEPTH));
    walk.json(value, "", "", depth);
    walk.found
}

/// The entities of keys with values, as an alert lists what its rule is
/// interested in.
#[must_use]
pub fn of_keys(keys: &[Json<'_>]) -> Entities {
    let mut walk = Walk { found: Entities::default(), left: MEMBERS };
    for key in keys.iter().take(MEMBERS) {
        let key = Members::within(*key).unwrap_or_default();
        if let (Some(name), Some(value)) = (key.text("key"), key.texts("values").first()) {
            walk.text(Plain::default().of(&name), "", value);
        }
    }
    walk.found
}

struct Walk {
    found: Entities,
    /// Members that may still be looked at.
    left: usize,
}

impl Walk {
    /// A value under a name, if it is not too large.
    fn json(&mut self, json: Json<'_>, name: &str, parent: &str, depth: u8) {
        // A text is judged by what is in it.
        if json.get().len() > BYTES && !json.get().starts_with('"') {
            return;
        }
        let mut parts = Parts::of(json);
        if let Some(part) = parts.next() {
            self.value(&mut parts, part, name, parent, depth);
        }
    }

    /// The value that begins with a part, under a name.
    fn value(&mut self, parts: &mut Parts<'_>, part: Part<'_>, name: &str, parent: &str, depth: u8) {
        let left = self.left.checked_sub(1);
        self.left = left.unwrap_or(0);
        match part {
            Part::Scalar(json) if left.is_some() => self.scalar(json, name, parent, depth),
            Part::Object | Part::Array => match depth.checked_sub(1).filter(|_| left.is_some()) {
                Some(deeper) if part == Part::Object => self.members(parts, name, deeper),
                Some(deeper) => self.elements(parts, name, deeper),
                None => parts.pass(),
            },
            Part::Scalar(_) | Part::End => {}
        }
    }

    /// The members of an object under a name.
    fn members(&mut self, parts: &mut Parts<'_>, parent: &str, depth: u8) {
        let mut plain = Plain::default();
        while let Some(Part::Scalar(name)) = parts.next() {
            let Some(part) = parts.next() else { return };
            let name = plain.of(&name.scalar().unwrap_or_default());
            if ELSEWHERE.iter().any(|prefix| name.starts_with(prefix)) {
                if matches!(part, Part::Object | Part::Array) {
                    parts.pass();
                }
            } else {
                self.value(parts, part, name, parent, depth);
            }
        }
    }

    /// The elements of an array under a name.
    fn elements(&mut self, parts: &mut Parts<'_>, parent: &str, depth: u8) {
        while let Some(part) = parts.next().filter(|part| *part != Part::End) {
            self.value(parts, part, "", parent, depth);
        }
    }

    /// A text, a number or the like under a name.
    fn scalar(&mut self, json: Json<'_>, name: &str, parent: &str, depth: u8) {
        let Some(text) = json.scalar() else { return };
        if !text.starts_with(['{', '[']) {
            self.text(name, parent, &text);
        } else if text.len() <= BYTES
            && depth > 0
            && let Some(json) = Json::parse(&text)
        {
            // JSON within a text, and whole. It is no member more.
            self.left = self.left.saturating_add(1);
            self.json(json, name, parent, depth);
        }
    }

    /// A text under a name.
    fn text(&mut self, name: &str, parent: &str, text: &str) {
        let is_row = |within: &str, key: &str| same(key, name) && (within.is_empty() || within == parent);
        let row = TABLE.iter().enumerate().find(|(_, (within, key, _))| is_row(within, key));
        if let Some((rank, (_, _, field))) = row {
            self.found.offer(*field, rank, text);
        }
    }
}

/// Longest name that is looked at, in bytes.
const NAME: usize = 64;

/// A name in lower case without separators: `sourceAddress`, `source_address`
/// and `Source Address` are the same.
#[derive(Default)]
struct Plain {
    name: String,
}

impl Plain {
    /// That of a name, in the place of the one before.
    fn of(&mut self, name: &str) -> &str {
        self.name.clear();
        let letters = crate::text::cut(name, NAME).bytes().filter(u8::is_ascii_alphanumeric);
        self.name.extend(letters.map(|letter| char::from(letter.to_ascii_lowercase())));
        &self.name
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    /// The entities of evidence with this `data`.
    fn of(data: &str) -> Vec<(&'static str, String)> {
        let record = raw(&format!(r#"{{"rrn":"e","data":{}}}"#, serde_json::to_string(data).unwrap()));
        entities(&record).iter().map(|(name, value)| (name, value.to_owned())).collect()
    }

    fn pairs<const N: usize>(expected: [(&'static str, &str); N]) -> Vec<(&'static str, String)> {
        expected.map(|(name, value)| (name, value.to_owned())).to_vec()
    }

    #[test]
    fn what_describes_something_else_names_nobody() {
        let inner =
            r#"{"address":"1.2.3.4","source_ip":"1.2.3.4","hostname":"pc-1","username":"jane","exe_path":"/bin/a"}"#;
        let found = |name: &str| entities(&raw(&format!(r#"{{"data":{{"{name}":{inner}}}}}"#))).iter().count();
        for name in ["parent_process", "geoip", "geoipSource", "grandparentProcess", "eventSource", "hash_reputation"] {
            assert_eq!(found(name), 0, "{name}");
        }
        assert!(found("process") >= 3);
    }

    #[test]
    fn a_process_is_read_with_its_file_and_without_its_parent() {
        let hash = "ab".repeat(32);
        let process = format!(
            r#"{{"hostname":"pc-7","parent_process":{{"name":"explorer.exe","exe_path":"C:\\Windows\\explorer.exe"}},
                "process":{{"name":"evil.exe","exe_path":"C:\\evil.exe","username":"CORP\\jdoe",
                "hashes":{{"md5":"{}","sha256":"{hash}"}}}}}}"#,
            "cd".repeat(16)
        );
        let expected = pairs([
            ("clientHostname", "pc-7"),
            ("userName", "CORP\\jdoe"),
            ("filePath", "C:\\evil.exe"),
            ("fileHash", &hash),
            ("program", "evil.exe"),
        ]);
        assert_eq!(of(&process), expected);
        // The same within a string within a string.
        let inner = serde_json::to_string(&process).unwrap();
        assert_eq!(of(&format!(r#"{{"content":{inner}}}"#)), expected);
    }

    #[test]
    fn a_connection_is_read_with_its_ends() {
        assert_eq!(
            of(
                r#"{"source_address":"10.0.0.1","source_port":"51034","destination_address":"192.0.2.7","destination_port":443,
                "transport_protocol":"TCP","source_ip":"not an address","url":"https://evil.example/a","user":"Jane Doe","account":"jdoe"}"#
            ),
            pairs([
                ("clientIP", "10.0.0.1"),
                ("clientPort", "51034"),
                ("serverIP", "192.0.2.7"),
                ("serverPort", "443"),
                ("protocol", "tcp"),
                ("userName", "jdoe"),
                ("uri", "https://evil.example/a"),
            ])
        );
    }

    #[test]
    fn an_authentication_on_an_asset_is_read_with_the_account_and_the_address_there() {
        let log = |address: &str, more: &str| {
            format!(
                r#"{{"destination_asset":"iagent-win7","destination_asset_address":"{address}","source_asset_address":"10.0.0.1",
                "destination_local_account":"user"{more}}}"#
            )
        };
        let expected = pairs([("clientIP", "10.0.0.1"), ("serverHostname", "iagent-win7"), ("userName", "user")]);
        assert_eq!(of(&log("example-host", "")), expected, "what is no address stands in no address field");
        let expected = pairs([
            ("clientIP", "10.0.0.1"),
            ("serverIP", "192.0.2.7"),
            ("serverHostname", "iagent-win7"),
            ("userName", "jdoe"),
        ]);
        assert_eq!(of(&log("192.0.2.7", r#","destination_account":"jdoe","destination_user":"Jane Doe""#)), expected);
    }

    #[test]
    fn what_is_no_json_says_nothing_and_does_no_harm() {
        for data in ["", "User jdoe was seen", r#"{"user":"jdoe""#, "7", "null", "\u{0}\u{202e}"] {
            assert_eq!(of(data), []);
        }
        let deep = format!(r#"{}{{"user":"jdoe"}}{}"#, r#"{"a":["#.repeat(3_000), "]}".repeat(3_000));
        assert_eq!(of(&deep), [], "below the depth that is walked");
        let mut nested = r#"{"user":"jdoe"}"#.to_owned();
        for _ in 0..12 {
            nested = format!(r#"{{"content":{}}}"#, serde_json::to_string(&nested).unwrap());
        }
        assert_eq!(of(&nested), [], "strings in strings count as depth");
        let wide = format!("[{}]", vec![r#"{"user":""}"#; 100_000].join(","));
        assert_eq!(of(&wide), []);
        for record in ["7", "null", "[]", r#"{"data":7}"#, r#"{"data":null}"#] {
            assert_eq!(entities(&raw(record)), Entities::default());
        }
    }

    #[test]
    fn every_name_of_the_table_is_written_as_names_are_compared() {
        for (within, name, _) in TABLE {
            assert!(within == Plain::default().of(within) && name == Plain::default().of(name), "{within} {name}");
        }
    }
}
