//! Who and what was involved: actors and evidence as fields.
//!
//! Actors come first, since the vendor has named them; evidence fills what they
//! leave open. Address fields hold addresses only, because the search index
//! refuses anything else there and would lose the artifact.
//!
//! Fields that describe one thing (a file's name, path and hash; an address and
//! its port) are taken from one record together, never from two. A host at both
//! ends is written as the one it went to.
//!
//! Not guaranteed: of several actors of one type, and of several records of
//! evidence, the first is taken; all of them stand in the message.

use std::net::{IpAddr, SocketAddr};

use super::field;
use crate::api::records::Members;
use crate::times::Utc;

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
    /// Its number.
    Pid,
    /// URL that was fetched.
    Uri,
}

/// Number of fields.
const COUNT: usize = 15;

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
    "pid",
    "uri",
];

/// For each field the thing that it describes: fields of one thing are only
/// taken together.
const THINGS: [u8; COUNT] = [0, 0, 1, 2, 2, 2, 3, 4, 5, 6, 6, 6, 7, 7, 8];

/// Longest value, in bytes.
const LONGEST: usize = 1_024;

/// The entities of an artifact.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Entities {
    /// For each field its value and the rank of the key it came from: within
    /// one record a lower rank wins.
    slots: [Option<(usize, String)>; COUNT],
    /// When the log lines were written that say so: the first and the last.
    pub seen: Option<(Utc, Utc)>,
}

impl Entities {
    /// Takes an actor of an alert in: an asset, an account or an address.
    pub fn add_actor(&mut self, actor: &Members<'_>) {
        let Some(name) = actor.text("display_name") else { return };
        let is_address = ip(name.trim()).is_some();
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
        // So the vendor writes what it does not know.
        let is_unknown = value == "-" || value.eq_ignore_ascii_case("unknown");
        if taken || is_unknown || value.is_empty() || value.len() > LONGEST {
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
            Field::Pid => {
                if let Ok(number) = value.parse::<u32>() {
                    self.put(of, rank, number.to_string());
                }
            }
            Field::ClientPort | Field::ServerPort => {
                if let Ok(port @ 1..) = value.parse::<u16>() {
                    self.put(of, rank, port.to_string());
                }
            }
            Field::ClientHostname | Field::ServerHostname => {
                if is_name(value, true) {
                    self.put(of, rank, value.to_owned());
                }
            }
            Field::Fqdn => {
                let name = value.trim_end_matches('.');
                if is_name(name, false) && name.contains('.') {
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
        other.seen.into_iter().for_each(|(first, last)| self.see(first, last));
    }

    /// Takes in when it was seen.
    pub fn see(&mut self, first: Utc, last: Utc) {
        let (earliest, latest) = self.seen.unwrap_or((first, last));
        self.seen = Some((earliest.min(first), latest.max(last)));
    }

    /// Forgets a field, and gives what stood there.
    pub fn take(&mut self, of: Field) -> Option<(usize, String)> {
        self.slots.get_mut(of as usize)?.take()
    }

    /// Names and values of the fields that are known. A host at both ends is
    /// only the one it went to: an asset that the vendor names as an actor is
    /// often the one that was logged on to, and the address beside it another's.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let ends = (self.get(Field::ClientHostname), self.get(Field::ServerHostname));
        let is_at_both_ends = matches!(ends, (Some(one), Some(other)) if is_same_host(one, other));
        let fields = NAMES.into_iter().zip(&self.slots);
        fields
            .filter(move |(name, _)| !(is_at_both_ends && *name == "clientHostname"))
            .filter_map(|(name, slot)| Some((name, slot.as_ref()?.1.as_str())))
    }

    /// The value of a field.
    #[must_use]
    pub fn get(&self, of: Field) -> Option<&str> {
        self.slots.get(of as usize)?.as_ref().map(|(_, value)| value.as_str())
    }
}

/// An address, alone or with a port.
fn address(text: &str) -> Option<(IpAddr, Option<u16>)> {
    if let Some(address) = ip(text) {
        return Some((address, None));
    }
    let socket = text.parse::<SocketAddr>().ok()?;
    Some((socket.ip().to_canonical(), Some(socket.port())))
}

/// An address as others write it: an IPv4 address within an IPv6 one is that
/// IPv4 address, and the zone of a link belongs to one machine alone.
fn ip(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.split_once('%').map_or(text, |(address, _)| address).parse().ok()?;
    Some(address.to_canonical())
}

/// Longest name of a host with spaces in it, in bytes: a longer text is a
/// sentence.
const SPACED: usize = 63;

/// Whether a text can be the name of a host: no address, no sentence, no path.
/// People give their own machines names `with_spaces` and apostrophes.
fn is_name(text: &str, with_spaces: bool) -> bool {
    let is_plain = |character: char| character.is_alphanumeric() || matches!(character, '-' | '_' | '.' | '$');
    let is_spaced = |character: char| matches!(character, ' ' | '\'' | '\u{2019}');
    text.len() <= 255
        && ip(text).is_none()
        && text.chars().all(|character| is_plain(character) || (with_spaces && is_spaced(character)))
        && (text.len() <= SPACED || !text.contains(is_spaced))
}

/// Whether two names are of one host: the same in any case, or one of them
/// without its domain.
fn is_same_host(one: &str, other: &str) -> bool {
    let (short, long) = if one.len() < other.len() { (one, other) } else { (other, one) };
    let (head, rest) = long.as_bytes().split_at(short.len().min(long.len()));
    head.eq_ignore_ascii_case(short.as_bytes()) && matches!(rest.first(), None | Some(b'.'))
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
            (Field::ClientIp, "::ffff:10.0.0.1", Some("10.0.0.1")),
            (Field::ServerIp, "[::ffff:10.0.0.1]:443", Some("10.0.0.1")),
            (Field::ClientIp, "fe80::1%eth0", Some("fe80::1")),
            (Field::ClientHostname, "fe80::1%eth0", None),
            (Field::ClientHostname, "Johns MacBook Pro", Some("Johns MacBook Pro")),
            (Field::ClientHostname, "John\u{2019}s MacBook", Some("John\u{2019}s MacBook")),
            (Field::ClientHostname, "somebody has written this whole sentence into the name of a host", None),
            (Field::ClientHostname, "C:\\PC 7", None),
            (Field::Fqdn, "evil example.com", None),
            (Field::Pid, "4242", Some("4242")),
            (Field::Pid, "0x4", None),
            (Field::ClientHostname, "unknown", None),
            (Field::UserName, " Unknown ", None),
            (Field::UserName, "-", None),
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
    fn a_host_at_both_ends_is_the_one_it_went_to() {
        for (actor, destination, client) in [
            ("PC-7", "pc-7", None),
            ("pc-7.corp.example.com", "PC-7", None),
            ("pc-7", "pc-7.corp.example.com", None),
            ("pc-7", "pc-77", Some("pc-7")),
            ("pc-8", "pc-7", Some("pc-8")),
        ] {
            let mut entities = Entities::default();
            entities.add_actor(&Members::parse(&format!(r#"{{"type":"ASSET","display_name":"{actor}"}}"#)).unwrap());
            let mut found = Entities::default();
            found.offer(Field::ServerHostname, 0, destination);
            found.offer(Field::ClientIp, 0, "203.0.113.9");
            entities.fill_from(found);
            let fields: Vec<_> = entities.iter().collect();
            assert!(fields.contains(&("serverHostname", destination)), "{fields:?}");
            let found = fields.iter().find(|(name, _)| *name == "clientHostname").map(|(_, value)| *value);
            assert_eq!(found, client, "{actor} {destination}");
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
