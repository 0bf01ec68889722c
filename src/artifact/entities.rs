//! Who and what was involved: actors and evidence as fields.
//!
//! Actors come first, since the vendor has named them; evidence fills what they
//! leave open. Address fields hold addresses only, because the search index
//! refuses anything else there and would lose the artifact.
//!
//! Fields that describe one thing (a file's name, path and hash; an address and
//! its port) are taken from one record together, never from two.
//!
//! Not guaranteed: of several actors of one type, and of several records of
//! evidence, the first is taken; all of them stand in the message.

use std::net::{IpAddr, SocketAddr};

use super::field;
use crate::api::records::Members;

/// The fields that entities fill, in the order they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// Address the activity came from.
    ClientIp,
    /// Port there.
    ClientPort,
    /// Host the activity came from, or on which it was seen.
    ClientHostname,
    /// Address it went to.
    ServerIp,
    /// Port there.
    ServerPort,
    /// Transport protocol.
    Protocol,
    /// Host it went to.
    ServerHostname,
    /// Domain that was asked for.
    Fqdn,
    /// Account that was used.
    UserName,
    /// File that was involved.
    FileName,
    /// Its path.
    FilePath,
    /// Its hash, the longest there is.
    FileHash,
    /// Process that was run.
    Program,
    /// URL that was fetched.
    Uri,
}

/// Number of fields.
const COUNT: usize = 14;

/// Names of the fields in the artifact, in the order of [`Field`].
const NAMES: [&str; COUNT] = [
    "clientIP",
    "clientPort",
    "clientHostname",
    "serverIP",
    "serverPort",
    "protocol",
    "serverHostname",
    "fqdn",
    "userName",
    "fileName",
    "filePath",
    "fileHash",
    "program",
    "uri",
];

/// For each field the thing that it describes: fields of one thing are only
/// taken together.
const THINGS: [u8; COUNT] = [0, 0, 1, 2, 2, 2, 3, 4, 5, 6, 6, 6, 6, 7];

/// Longest value, in bytes.
const LONGEST: usize = 1_024;

/// The entities of an artifact.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entities {
    /// For each field its value and the rank of the key it came from: within
    /// one record a lower rank wins.
    slots: [Option<(usize, String)>; COUNT],
}

impl Entities {
    /// Takes an actor of an alert in: an asset, an account or an address.
    pub fn add_actor(&mut self, actor: &Members<'_>) {
        let Some(name) = actor.text("display_name") else { return };
        let is_address = name.parse::<IpAddr>().is_ok();
        let kind = actor.text("type");
        match kind.as_deref() {
            Some("ASSET") if !is_address => self.offer(Field::ClientHostname, 0, &name),
            Some("ACCOUNT") => self.offer(Field::UserName, 0, &name),
            Some("ASSET" | "IP_ADDRESS") if is_address => self.offer(Field::ClientIp, 0, &name),
            _ => {}
        }
    }

    /// Offers a value for a field: it is taken if it can stand there and none
    /// of the same or a lower rank does.
    pub fn offer(&mut self, of: Field, rank: usize, value: &str) {
        let value = value.trim();
        let taken = self.slots.get(of as usize).and_then(Option::as_ref).is_some_and(|(held, _)| *held <= rank);
        if taken || value.is_empty() || value.len() > LONGEST {
            return;
        }
        match of {
            Field::ClientIp | Field::ServerIp => {
                let Some((address, port)) = address(value) else { return };
                self.put(of, rank, address.to_string());
                if let Some(port) = port {
                    let of_port = if of == Field::ClientIp { Field::ClientPort } else { Field::ServerPort };
                    self.offer(of_port, rank, &port.to_string());
                }
            }
            Field::ClientPort | Field::ServerPort => {
                if let Ok(port @ 1..) = value.parse::<u16>() {
                    self.put(of, rank, port.to_string());
                }
            }
            Field::ClientHostname | Field::ServerHostname => {
                if is_name(value) {
                    self.put(of, rank, value.to_owned());
                }
            }
            Field::Fqdn => {
                let name = value.trim_end_matches('.');
                if is_name(name) && name.contains('.') {
                    self.put(of, rank, name.to_owned());
                }
            }
            Field::FileHash => {
                let is_hash = matches!(value.len(), 32 | 40 | 64 | 128) && value.bytes().all(|b| b.is_ascii_hexdigit());
                if is_hash {
                    self.put(of, rank, value.to_ascii_lowercase());
                }
            }
            Field::Protocol => {
                if value.len() <= 16 && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
                    self.put(of, rank, value.to_ascii_lowercase());
                }
            }
            Field::UserName | Field::FileName | Field::FilePath | Field::Program | Field::Uri => {
                self.put(of, rank, field(value.into()).into_owned());
            }
        }
    }

    fn put(&mut self, of: Field, rank: usize, value: String) {
        if let Some(slot) = self.slots.get_mut(of as usize) {
            *slot = Some((rank, value));
        }
    }

    /// Takes over from `other` the things of which nothing is known here.
    pub fn fill_from(&mut self, other: Self) {
        let mut known = [false; COUNT];
        for (slot, thing) in self.slots.iter().zip(THINGS) {
            if let (Some(_), Some(known)) = (slot, known.get_mut(usize::from(thing))) {
                *known = true;
            }
        }
        for ((slot, found), thing) in self.slots.iter_mut().zip(other.slots).zip(THINGS) {
            if !known.get(usize::from(thing)).copied().unwrap_or(true) {
                *slot = found;
            }
        }
    }

    /// Names and values of the fields that are known.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        NAMES.into_iter().zip(&self.slots).filter_map(|(name, slot)| Some((name, slot.as_ref()?.1.as_str())))
    }

    /// The value of a field.
    #[must_use]
    pub fn get(&self, of: Field) -> Option<&str> {
        self.slots.get(of as usize)?.as_ref().map(|(_, value)| value.as_str())
    }
}

/// An address, alone or with a port.
fn address(text: &str) -> Option<(IpAddr, Option<u16>)> {
    if let Ok(address) = text.parse() {
        return Some((address, None));
    }
    text.parse::<SocketAddr>().ok().map(|socket| (socket.ip(), Some(socket.port())))
}

/// Whether a text can be the name of a host: no address, no sentence, no path.
fn is_name(text: &str) -> bool {
    text.len() <= 255
        && text.parse::<IpAddr>().is_err()
        && text.chars().all(|character| character.is_alphanumeric() || matches!(character, '-' | '_' | '.' | '$'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actors_fill_the_field_of_their_type_and_addresses_only_address_fields() {
        let mut entities = Entities::default();
        for json in [
            r#"{"type":"ASSET","display_name":"pc-7"}"#,
            r#"{"type":"ASSET","display_name":"pc-8"}"#,
            r#"{"type":"ASSET","display_name":"10.1.2.3"}"#,
            r#"{"type":"IP_ADDRESS","display_name":"not an address"}"#,
            r#"{"type":"ACCOUNT","display_name":"j\ndoe"}"#,
            r#"{"type":"ROBOT","display_name":"r2"}"#,
            r#"{"type":"ACCOUNT"}"#,
        ] {
            entities.add_actor(&Members::parse(json).unwrap());
        }
        assert_eq!(entities.get(Field::ClientHostname), Some("pc-7"));
        assert_eq!(entities.get(Field::ClientIp), Some("10.1.2.3"));
        assert_eq!(entities.get(Field::UserName), Some("j\\ndoe"), "names are written by attackers too");
    }

    #[test]
    fn every_field_takes_only_what_can_stand_in_it() {
        for (of, given, taken) in [
            (Field::ClientIp, "10.0.0.1", Some("10.0.0.1")),
            (Field::ClientIp, " 10.0.0.1:50443 ", Some("10.0.0.1")),
            (Field::ClientIp, "[2001:db8::1]:443", Some("2001:db8::1")),
            (Field::ClientIp, "3232235777", None),
            (Field::ServerIp, "host-1", None),
            (Field::ClientPort, "0", None),
            (Field::ServerPort, "443", Some("443")),
            (Field::ServerPort, "70000", None),
            (Field::ClientHostname, "10.0.0.1", None),
            (Field::ClientHostname, "PC 7", None),
            (Field::ClientHostname, "PC-7$", Some("PC-7$")),
            (Field::Fqdn, "CORP", None),
            (Field::Fqdn, "evil.example.", Some("evil.example")),
            (Field::FileHash, "D41D8CD98F00B204E9800998ECF8427E", Some("d41d8cd98f00b204e9800998ecf8427e")),
            (Field::FileHash, "d41d8cd9", None),
            (Field::FilePath, "C:\\a\u{202e}b", Some("C:\\a\\u{202e}b")),
            (Field::Protocol, "TCP", Some("tcp")),
            (Field::Uri, "", None),
        ] {
            let mut entities = Entities::default();
            entities.offer(of, 0, given);
            assert_eq!(entities.get(of), taken, "{of:?} {given:?}");
        }
    }

    #[test]
    fn a_port_comes_with_its_address_and_a_hash_with_its_file_or_not_at_all() {
        let mut first = Entities::default();
        first.offer(Field::ClientIp, 0, "10.0.0.1");
        first.offer(Field::FileName, 0, "a.exe");
        let mut second = Entities::default();
        second.offer(Field::ClientIp, 0, "10.0.0.2:99");
        second.offer(Field::FileHash, 0, "d41d8cd98f00b204e9800998ecf8427e");
        second.offer(Field::UserName, 0, "jdoe");
        first.fill_from(second);
        assert_eq!(
            first.iter().collect::<Vec<_>>(),
            [("clientIP", "10.0.0.1"), ("userName", "jdoe"), ("fileName", "a.exe")]
        );
    }
}
