//! Evidence as entities.
//!
//! Evidence is whatever the log line was: JSON, JSON in a string in JSON, plain
//! text, broken JSON. What can be read as JSON is walked through, and members
//! whose names are in [`TABLE`] fill the fields of [`Entities`]; everything
//! else stays in the message only. The log line as its source wrote it (see
//! [`RAW`]) stands beside what the vendor made of it, in words of the source's
//! own: it only fills what is left open. A file that was touched and the file
//! of the process that touched it are two: name, path and hash are of the first
//! alone where there is one.
//!
//! The walk is bounded in depth, members and bytes: attackers write some of
//! this.

mod techniques;

use std::sync::LazyLock;

use super::entities::{Entities, Field};
use crate::api::json::{Json, Part, Parts};
use crate::api::records::{Members, same};
use crate::times::Utc;

pub use techniques::techniques;

/// Deepest nesting that is walked into, strings that hold JSON included.
const DEPTH: u8 = 8;
/// Most members that are looked at in one record.
const MEMBERS: usize = 2_000;
/// Largest JSON text that is walked, in bytes.
const BYTES: usize = 256 * 1024;

/// Names of members, lower case without separators, and the field they fill. A
/// name with another before it counts only within a member of that name, or
/// with [`TOP`] only in the record itself. Of two that fill the same field the
/// upper one wins.
const TABLE: [(&str, &str, Field); 71] = [
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
    ("", "urlhost", Field::Fqdn),
    ("", "topprivatedomain", Field::Fqdn),
    // The account is what was used; the user is often the person's full name.
    ("", "account", Field::UserName),
    ("", "username", Field::UserName),
    ("account", "name", Field::UserName),
    // Who changed an account, before whose it was.
    (TOP, "sourceaccount", Field::UserName),
    ("", "sourceuser", Field::UserName),
    ("", "destinationaccount", Field::UserName),
    ("", "destinationlocalaccount", Field::UserName),
    ("", "destinationuser", Field::UserName),
    (TOP, "targetaccount", Field::UserName),
    (TOP, "targetuser", Field::UserName),
    ("", "user", Field::UserName),
    ("user", "name", Field::UserName),
    // Often a number.
    ("", "userid", Field::UserName),
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
    ("", "actorprocessimagename", Field::Program),
    ("", "appname", Field::Program),
    ("process", "pid", Field::Pid),
    ("", "url", Field::Uri),
    ("", "uri", Field::Uri),
    ("", "requesturl", Field::Uri),
];

/// Members that describe something else than what happened: the parent of the
/// process, where an address lies, what an indicator is, what a tenant has added
/// under names of its own.
const ELSEWHERE: [&str; 7] =
    ["parent", "geoip", "grandparent", "causality", "eventsource", "hashreputation", "customdata"];

/// Within these stands the log line as its source wrote it.
const RAW: [&str; 2] = ["sourcejson", "sourcedata"];

/// In [`TABLE`]: only in the record itself.
const TOP: &str = "^";

/// The entities of one record: of a record of evidence, its `data`; of a
/// record of another kind, all of it.
#[must_use]
pub fn entities<'r>(raw: impl Into<Json<'r>>) -> Entities {
    let raw = raw.into();
    let mut walk = Walk::new();
    // That the record is an object is one level.
    let (value, depth) =
        Members::within(raw).unwrap_or_default().raw("data").map_or((raw, DEPTH), |data| (data, DEPTH));
    walk.json(value, "", "", depth);
    walk.entities()
}

/// Most values of one key that are looked at.
const VALUES: usize = 16;

/// The entities of keys with values, as an alert lists what its rule is
/// interested in. Keys are names, or paths to them: `process.exe_path`.
#[must_use]
pub fn of_keys(keys: &[Json<'_>]) -> Entities {
    let mut walk = Walk::new();
    for key in keys.iter().take(MEMBERS) {
        let key = Members::within(*key).unwrap_or_default();
        let Some(path) = key.text("key") else { continue };
        let mut parts: Vec<String> = path.split('.').take(usize::from(DEPTH)).map(plain).collect();
        let Some(name) = parts.pop() else { continue };
        if parts.iter().chain([&name]).any(|part| is_elsewhere(part)) {
            continue;
        }
        let parent = parts.last().map_or("", String::as_str);
        let depth = if parts.is_empty() { DEPTH } else { 0 };
        let places = parts.iter().map(|part| walk.enter(part)).collect::<Vec<_>>();
        for value in key.texts("values").iter().take(VALUES) {
            walk.text(&name, parent, value, depth);
        }
        places.into_iter().rev().for_each(|place| walk.leave(place));
    }
    walk.entities()
}

/// What is found in one place.
#[derive(Default)]
struct Found {
    /// All but the next.
    entities: Entities,
    /// The file of the process, if there is one.
    process: Option<Box<Entities>>,
}

impl Found {
    /// All of it. A hash that stands by itself is one of the file that there
    /// is.
    fn entities(mut self) -> Entities {
        let Some(mut process) = self.process else { return self.entities };
        let is_file = |entities: &Entities| entities.get(Field::FileName).or(entities.get(Field::FilePath)).is_some();
        if !is_file(&self.entities)
            && is_file(&process)
            && let Some((rank, hash)) = self.entities.take(Field::FileHash)
        {
            process.offer(Field::FileHash, rank, &hash);
        }
        self.entities.fill_from(*process);
        self.entities
    }
}

/// Where a walk is.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    /// Within a process, and not a file that it touched.
    in_process: bool,
    /// Within the log line as its source wrote it.
    in_raw: bool,
}

/// A walk through a record.
struct Walk {
    /// What the vendor says.
    outer: Found,
    /// What the log line says, if there is one.
    raw: Option<Box<Found>>,
    place: Place,
    /// Members that may still be looked at.
    left: usize,
}

impl Walk {
    fn new() -> Self {
        let place = Place { in_process: false, in_raw: false };
        Self { outer: Found::default(), raw: None, place, left: MEMBERS }
    }

    /// What was found. A log line says on which machine it was written, and the
    /// vendor from where something came: both together would be of two.
    fn entities(self) -> Entities {
        let mut entities = self.outer.entities();
        let Some(raw) = self.raw else { return entities };
        let mut raw = raw.entities();
        if entities.get(Field::ClientIp).is_some() {
            raw.take(Field::ClientHostname);
        }
        entities.fill_from(raw);
        entities
    }

    /// Goes into a member; gives the place to come back to.
    fn enter(&mut self, name: &str) -> Place {
        let before = self.place;
        if same(name, "process") {
            self.place.in_process = true;
        } else if same(name, "file") || same(name, "targetfile") {
            self.place.in_process = false;
        } else if RAW.iter().any(|raw| same(name, raw)) {
            self.place.in_raw = true;
        }
        before
    }

    fn leave(&mut self, to: Place) {
        self.place = to;
    }

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
            if is_elsewhere(name) {
                if matches!(part, Part::Object | Part::Array) {
                    parts.pass();
                }
            } else {
                let before = self.enter(name);
                self.value(parts, part, name, parent, depth);
                self.leave(before);
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
            self.text(name, parent, &text, depth);
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
    fn text(&mut self, name: &str, parent: &str, text: &str, depth: u8) {
        // The record may be an array of records.
        let is_top = parent.is_empty() && depth + 2 >= DEPTH;
        if is_top && same(name, "timestamp") {
            let at = Utc::parse(text);
            return at.into_iter().for_each(|at| self.outer.entities.see(at, at));
        }
        // What an account or a user belongs to was not asked for.
        if same(name, "domain") && ["account", "user"].iter().any(|owner| parent.ends_with(owner)) {
            return;
        }
        if !may_be_row(name) {
            return;
        }
        let is_within = |within: &str| within.is_empty() || within == parent || (within == TOP && is_top);
        let row = TABLE.iter().enumerate().find(|(_, (within, key, _))| same(key, name) && is_within(within));
        let Some((rank, (_, key, field))) = row else { return };
        let found = if self.place.in_raw { self.raw.get_or_insert_default() } else { &mut self.outer };
        let is_image = self.place.in_process || matches!(*key, "exepath" | "imagepath");
        let is_of_file = matches!(field, Field::FileName | Field::FilePath | Field::FileHash);
        let entities = if is_image && is_of_file { found.process.get_or_insert_default() } else { &mut found.entities };
        entities.offer(*field, rank, text);
    }
}

/// For each initial the lengths of the names of [`TABLE`] that begin with it, as
/// bits: most members have none of them, and need not be looked for.
static LENGTHS: LazyLock<[u32; 32]> = LazyLock::new(|| {
    let mut lengths = [0; 32];
    for (_, name, _) in TABLE {
        if let Some(bits) = lengths.get_mut(initial(name)) {
            *bits |= 1_u32.checked_shl(u32::try_from(name.len()).unwrap_or(u32::MAX)).unwrap_or(0);
        }
    }
    lengths
});

/// A number for the first byte of a name. Two letters never share one.
fn initial(name: &str) -> usize {
    name.as_bytes().first().map_or(0, |first| usize::from(first & 31))
}

/// Whether a name can be one of [`TABLE`].
fn may_be_row(name: &str) -> bool {
    let length = u32::try_from(name.len()).unwrap_or(u32::MAX);
    LENGTHS.get(initial(name)).is_some_and(|bits| bits.checked_shr(length).unwrap_or(0) & 1 == 1)
}

/// Whether a member describes something else.
fn is_elsewhere(name: &str) -> bool {
    let first = name.as_bytes().first();
    ELSEWHERE.iter().any(|prefix| prefix.as_bytes().first() == first && name.starts_with(prefix))
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

/// A name by itself.
fn plain(name: &str) -> String {
    let mut plain = Plain::default();
    plain.of(name);
    plain.name
}

#[cfg(test)]
mod tests;
