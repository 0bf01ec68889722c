//! What is remembered of investigations, by RRN, packed.
//!
//! A tenant has tens of thousands of them, a step looks at some hundreds. So
//! they stay in the bytes they are stored in: in blocks of about
//! [`BLOCK`] in the order of RRNs, each RRN written as the number of bytes it
//! shares with the one before it, and the rest. What a step changes lies beside
//! them and is packed whenever it is [`LOOSE`] large. A step costs what it
//! touches, in memory and in time, and not what there is.
//!
//! Not guaranteed: a block that cannot be read counts as empty, so what was in
//! it would be collected again. The checkpoint's checksum stands before that.

use std::cmp::Ordering;
use std::fmt;

use serde::de::Error as _;
use serde::ser::SerializeSeq as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::checkpoint::{Known, Owed};

/// Entries of a block.
const BLOCK: usize = 64;
/// Most changed entries that lie beside the blocks.
const LOOSE: usize = 512;
/// Every entry.
pub const ANY: u8 = 0x80;
/// An entry that is owed something.
pub const OWED: u8 = 1;
/// An entry that was not closed when it was last seen.
pub const OPEN: u8 = 2;

/// Investigations by RRN.
#[derive(Clone, Default)]
pub struct Memory {
    blocks: Vec<Block>,
    /// What has changed since it was packed, in order; overrules what is in the
    /// blocks.
    loose: Vec<(String, Known)>,
    /// How many there are.
    len: usize,
}

/// Entries in the order of their RRNs.
#[derive(Clone, Default)]
struct Block {
    /// Marks of all its entries together.
    marks: u8,
    count: usize,
    bytes: Vec<u8>,
}

/// An entry as it is packed: bytes of the RRN that are shared with the entry
/// before it, the rest of the RRN, marks, and the entry in postcard.
type Entry<'a> = (usize, &'a str, u8, &'a [u8]);

impl Memory {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of what is packed, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.blocks.iter().map(|block| block.bytes.len().saturating_add(8)).sum()
    }

    /// What is remembered of one.
    #[must_use]
    pub fn get(&self, rrn: &str) -> Option<Known> {
        match self.place(rrn) {
            Ok(at) => self.loose.get(at).map(|(_, known)| known.clone()),
            Err(_) => postcard::from_bytes(self.packed(rrn)?).ok(),
        }
    }

    /// Where an RRN is, or would be, among what has changed.
    fn place(&self, rrn: &str) -> Result<usize, usize> {
        self.loose.binary_search_by(|(other, _)| order(other, rrn))
    }

    /// The bytes of an entry of a block. RRNs of a tenant begin alike for sixty
    /// bytes, so they are not compared as they are: an entry that shares more
    /// with the one before it than that shares with what is looked for is on
    /// the same side of it, and one that shares less is behind it.
    fn packed(&self, rrn: &str) -> Option<&[u8]> {
        let mut rest = self.blocks.get(self.block_of(rrn)?)?.bytes.as_slice();
        let mut common = 0;
        while let Ok(((shared, own, _, bytes), behind)) = postcard::take_from_bytes::<Entry<'_>>(rest) {
            rest = behind;
            match shared.cmp(&common) {
                Ordering::Greater => {}
                Ordering::Less => return None,
                Ordering::Equal => {
                    let wanted = rrn.as_bytes().get(shared..)?;
                    let same = own.bytes().zip(wanted).take_while(|(a, b)| a == *b).count();
                    match (own.as_bytes().get(same), wanted.get(same)) {
                        (None, None) => return Some(bytes),
                        (Some(a), Some(b)) if a > b => return None,
                        (Some(_), None) => return None,
                        // Entries share whole characters only.
                        _ => {
                            common = shared.saturating_add(same);
                            while !rrn.is_char_boundary(common) {
                                common -= 1;
                            }
                        }
                    }
                }
            }
        }
        None
    }

    /// Remembers one, instead of what was remembered of it.
    pub fn insert(&mut self, rrn: String, known: Known) {
        match self.place(&rrn) {
            Ok(at) => {
                if let Some((_, changed)) = self.loose.get_mut(at) {
                    *changed = known;
                }
            }
            Err(at) => {
                self.len = self.len.saturating_add(usize::from(self.packed(&rrn).is_none()));
                self.loose.insert(at, (rrn, known));
            }
        }
        if self.loose.len() >= LOOSE {
            self.pack();
        }
    }

    /// Those behind `after`, or all, that lie in blocks with any of these marks,
    /// in the order of RRNs. Others may be among them.
    pub fn scan(&self, after: Option<&str>, marks: u8) -> impl Iterator<Item = (String, Known)> + '_ {
        let first = after.and_then(|rrn| self.block_of(rrn)).unwrap_or_default();
        let after = after.map(str::to_owned);
        // Without any block, all that is loose is in the range of the first.
        (first..self.blocks.len().max(1))
            .filter(move |at| {
                let marked = self.blocks.get(*at).is_some_and(|block| block.marks & marks != 0);
                marked || !self.loose_of(*at).is_empty()
            })
            .flat_map(|at| self.merged(at))
            .filter_map(|(rrn, packed)| {
                let known = match packed {
                    Packed::Loose(known) => known.clone(),
                    Packed::Bytes(_, bytes) => postcard::from_bytes(bytes).ok()?,
                };
                Some((rrn, known))
            })
            .skip_while(move |(rrn, _)| after.as_ref().is_some_and(|after| order(rrn, after).is_le()))
    }

    /// All, in the order of RRNs.
    pub fn iter(&self) -> impl Iterator<Item = (String, Known)> + '_ {
        self.scan(None, ANY)
    }

    /// Keeps those for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &Known) -> bool) {
        self.pack();
        let mut packer = Packer::default();
        for block in &mut self.blocks {
            // Let go as soon as it is gone through: there are never two of everything.
            let block = std::mem::take(block);
            let mut entries = Entries { rest: &block.bytes, rrn: String::new() };
            while let Some((marks, bytes)) = entries.next() {
                if postcard::from_bytes(bytes).is_ok_and(|known| keep(&entries.rrn, &known)) {
                    packer.push(&entries.rrn, marks, bytes);
                }
            }
        }
        (self.blocks, self.len) = packer.finish();
    }

    /// Packs what has changed.
    pub fn pack(&mut self) {
        if self.loose.is_empty() {
            return;
        }
        let mut blocks = Vec::with_capacity(self.blocks.len().saturating_add(1));
        let mut len = 0_usize;
        for at in 0..self.blocks.len().max(1) {
            let packed = if self.loose_of(at).is_empty() {
                self.blocks.get_mut(at).map(std::mem::take).into_iter().collect()
            } else {
                let merged = self.merged(at);
                // In even parts: a full block that leaves only what is new behind it would do so again with the next
                // one, and each block costs a whole RRN.
                let parts = merged.len().div_ceil(BLOCK).max(1);
                let mut packer = Packer { most: merged.len().div_ceil(parts), ..Packer::default() };
                for (rrn, packed) in merged {
                    match packed {
                        Packed::Loose(known) => packer.push(&rrn, marks_of(known), &bytes_of(known)),
                        Packed::Bytes(marks, bytes) => packer.push(&rrn, marks, bytes),
                    }
                }
                let packed = packer.finish().0;
                // Nothing behind it looks at it again.
                self.blocks.get_mut(at).map(std::mem::take);
                packed
            };
            for block in packed {
                len = len.saturating_add(block.count);
                blocks.push(block);
            }
        }
        (self.blocks, self.len) = (blocks, len);
        self.loose.clear();
    }

    /// The block in whose range an RRN lies.
    fn block_of(&self, rrn: &str) -> Option<usize> {
        let behind = self.blocks.partition_point(|block| block.first().is_none_or(|first| order(first, rrn).is_le()));
        if self.blocks.is_empty() { None } else { Some(behind.saturating_sub(1)) }
    }

    fn entries(&self, at: usize) -> Entries<'_> {
        Entries { rest: self.blocks.get(at).map_or(&[], |block| block.bytes.as_slice()), rrn: String::new() }
    }

    /// What has changed in the range of a block.
    fn loose_of(&self, at: usize) -> &[(String, Known)] {
        let place = |first: &str| self.place(first).unwrap_or_else(|at| at);
        let from = match self.blocks.get(at).and_then(Block::first) {
            Some(first) if at > 0 => place(first),
            _ => 0,
        };
        let to = self.blocks.get(at.saturating_add(1)).and_then(Block::first).map_or(self.loose.len(), place);
        self.loose.get(from..to).unwrap_or_default()
    }

    /// The entries of a block with what has changed.
    fn merged(&self, at: usize) -> Vec<(String, Packed<'_>)> {
        let mut merged = Vec::with_capacity(BLOCK);
        let mut loose = self.loose_of(at).iter().peekable();
        let mut entries = self.entries(at);
        while let Some((marks, bytes)) = entries.next() {
            while let Some((rrn, known)) = loose.next_if(|(rrn, _)| order(rrn, &entries.rrn).is_lt()) {
                merged.push((rrn.clone(), Packed::Loose(known)));
            }
            match loose.next_if(|(rrn, _)| order(rrn, &entries.rrn).is_eq()) {
                Some((rrn, known)) => merged.push((rrn.clone(), Packed::Loose(known))),
                None => merged.push((entries.rrn.clone(), Packed::Bytes(marks, bytes))),
            }
        }
        merged.extend(loose.map(|(rrn, known)| (rrn.clone(), Packed::Loose(known))));
        merged
    }
}

/// The order of two texts by their bytes, eight at a time: comparing memory is
/// a loop over single bytes in WebAssembly, and this was the half of a listing.
fn order(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one.as_bytes(), other.as_bytes());
    while let (Some((a, rest)), Some((b, other_rest))) = (one.split_first_chunk::<8>(), other.split_first_chunk::<8>())
    {
        if a != b {
            return u64::from_be_bytes(*a).cmp(&u64::from_be_bytes(*b));
        }
        (one, other) = (rest, other_rest);
    }
    one.cmp(other)
}

/// An entry, changed or not.
enum Packed<'a> {
    Loose(&'a Known),
    Bytes(u8, &'a [u8]),
}

impl Block {
    /// RRN of the first entry, which shares nothing with any before it.
    fn first(&self) -> Option<&str> {
        postcard::take_from_bytes::<Entry<'_>>(&self.bytes).ok().map(|((_, rrn, _, _), _)| rrn)
    }
}

/// The entries of a block, one after the other.
struct Entries<'a> {
    rest: &'a [u8],
    /// RRN of the entry that was last given.
    rrn: String,
}

impl<'a> Entries<'a> {
    /// Marks and bytes of the next entry.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let ((shared, own, marks, bytes), rest) = postcard::take_from_bytes::<Entry<'a>>(self.rest).ok()?;
        if shared > self.rrn.len() || !self.rrn.is_char_boundary(shared) {
            self.rest = &[];
            return None;
        }
        self.rrn.truncate(shared);
        self.rrn.push_str(own);
        self.rest = rest;
        Some((marks, bytes))
    }
}

/// Writes entries, given in order, into blocks.
struct Packer {
    blocks: Vec<Block>,
    block: Block,
    before: String,
    /// Most entries of a block.
    most: usize,
}

impl Default for Packer {
    fn default() -> Self {
        Self { blocks: Vec::new(), block: Block::default(), before: String::new(), most: BLOCK }
    }
}

impl Packer {
    fn push(&mut self, rrn: &str, marks: u8, bytes: &[u8]) {
        if self.block.count >= self.most {
            self.blocks.push(std::mem::take(&mut self.block));
            self.before.clear();
        }
        let mut shared = rrn.bytes().zip(self.before.bytes()).take_while(|(a, b)| a == b).count();
        while !rrn.is_char_boundary(shared) {
            shared -= 1;
        }
        let entry: Entry<'_> = (shared, rrn.get(shared..).unwrap_or_default(), marks, bytes);
        let written = postcard::to_extend(&Bytes(entry), std::mem::take(&mut self.block.bytes));
        // Writing to memory cannot fail.
        self.block.bytes = written.unwrap_or_default();
        self.block.count += 1;
        self.block.marks |= marks;
        self.before.clear();
        self.before.push_str(rrn);
    }

    /// The blocks, and how many entries they have together.
    fn finish(mut self) -> (Vec<Block>, usize) {
        if self.block.count > 0 {
            self.blocks.push(self.block);
        }
        let len = self.blocks.iter().map(|block| block.count).sum();
        (self.blocks, len)
    }
}

/// Writes the bytes of an entry at once and not as a sequence of numbers.
struct Bytes<'a>(Entry<'a>);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (shared, rest, marks, bytes) = &self.0;
        (shared, rest, marks, Raw(bytes)).serialize(serializer)
    }
}

/// Bytes, written at once.
struct Raw<'a>(&'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

fn marks_of(known: &Known) -> u8 {
    let owed = if known.owed == Owed::Nothing { 0 } else { OWED };
    ANY | owed | if known.open { OPEN } else { 0 }
}

fn bytes_of(known: &Known) -> Vec<u8> {
    // Writing to memory cannot fail.
    postcard::to_allocvec(known).unwrap_or_default()
}

/// Packed by [`super::checkpoint::Checkpoint::encode`] before.
impl Serialize for Memory {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        debug_assert!(self.loose.is_empty(), "packed before it is written");
        let mut blocks = serializer.serialize_seq(Some(self.blocks.len()))?;
        for block in &self.blocks {
            blocks.serialize_element(&(block.marks, block.count, Raw(&block.bytes)))?;
        }
        blocks.end()
    }
}

impl<'de> Deserialize<'de> for Memory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored: Vec<(u8, usize, &'de [u8])> = Vec::deserialize(deserializer)?;
        if stored.iter().any(|(_, count, bytes)| *count > bytes.len()) {
            return Err(D::Error::custom("a block is said to hold more than it can"));
        }
        let blocks: Vec<Block> =
            stored.into_iter().map(|(marks, count, bytes)| Block { marks, count, bytes: bytes.to_vec() }).collect();
        let len = blocks.iter().fold(0_usize, |len, block| len.saturating_add(block.count));
        Ok(Self { blocks, loose: Vec::new(), len })
    }
}

impl FromIterator<(String, Known)> for Memory {
    fn from_iter<I: IntoIterator<Item = (String, Known)>>(entries: I) -> Self {
        let mut memory = Self::default();
        for (rrn, known) in entries {
            memory.insert(rrn, known);
        }
        memory.pack();
        memory
    }
}

/// The same entries, however they are packed.
impl PartialEq for Memory {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Memory {}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use std::collections::BTreeMap;

    use super::*;

    fn known() -> impl Strategy<Value = Known> {
        (any::<i64>(), any::<u64>(), prop::collection::vec(any::<u64>(), 0..4), any::<bool>(), any::<bool>()).prop_map(
            |(created, fingerprint, alerts, owed, open)| Known {
                created,
                fingerprint,
                alerts,
                owed: if owed { Owed::Page(3) } else { Owed::Nothing },
                open,
                ..Known::default()
            },
        )
    }

    /// RRNs of one tenant: much in common, some the beginning of others, some not ASCII.
    fn rrn() -> impl Strategy<Value = String> {
        "(rrn:investigation:us:[ab]{1,2}:)?[a-cäö]{0,4}"
    }

    #[test]
    fn blocks_stay_well_filled_however_entries_come() {
        let mut memory = Memory::default();
        for number in 0..10_000_u64 {
            // In the order of nothing, a few at a time.
            let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            memory.insert(format!("rrn:investigation:us:4be49362-6b0f-4a5b:{mixed:016x}"), Known::default());
            if number % 100 == 0 {
                memory.pack();
            }
        }
        memory.pack();
        let grown = memory.bytes();
        memory.retain(|_, _| true);
        assert_eq!(memory.len(), 10_000);
        assert!(grown * 10 <= memory.bytes() * 11, "{grown} bytes, {} packed anew", memory.bytes());
    }

    proptest! {
        #[test]
        fn texts_are_in_the_order_of_their_bytes(one in "[ab]{0,20}[äa]?", other in "[ab]{0,20}[äb]?") {
            prop_assert_eq!(order(&one, &other), one.cmp(&other));
        }

        #[test]
        fn it_is_a_map(
            rounds in prop::collection::vec(prop::collection::vec((rrn(), known()), 0..200), 1..6),
            after in prop::option::of(rrn()),
            missing in rrn(),
        ) {
            let mut map = BTreeMap::new();
            let mut memory = Memory::default();
            for round in rounds {
                for (rrn, known) in round {
                    map.insert(rrn.clone(), known.clone());
                    memory.insert(rrn, known);
                }
                prop_assert_eq!(memory.len(), map.len());
                prop_assert!(memory.iter().eq(map.clone()));
                for (rrn, known) in &map {
                    prop_assert_eq!(memory.get(rrn), Some(known.clone()));
                }
                prop_assert_eq!(memory.get(&missing), map.get(&missing).cloned());
                for marks in [OWED, OPEN, OWED | OPEN] {
                    let wanted = |rrn: &String, known: &Known| {
                        marks_of(known) & marks != 0 && after.as_ref().is_none_or(|after| rrn > after)
                    };
                    let expected = map.clone().into_iter().filter(|(rrn, known)| wanted(rrn, known));
                    let found = memory.scan(after.as_deref(), marks);
                    prop_assert!(found.filter(|(rrn, known)| wanted(rrn, known)).eq(expected));
                    prop_assert!(memory.scan(after.as_deref(), marks).all(|(rrn, _)| after.as_ref().is_none_or(|after| rrn > *after)));
                }
                memory.pack();
                let bytes = postcard::to_allocvec(&memory).unwrap();
                let read: Memory = postcard::from_bytes(&bytes).unwrap();
                prop_assert!(read.iter().eq(map.clone()));
                memory = read;
            }
            memory.retain(|_, known| known.open);
            map.retain(|_, known| known.open);
            prop_assert_eq!(memory.len(), map.len());
            prop_assert!(memory.iter().eq(map));
        }

        #[test]
        fn no_bytes_bring_it_down(bytes in prop::collection::vec(any::<u8>(), 0..300), rrn in rrn()) {
            let block = Block { marks: ANY, count: 7, bytes };
            let mut memory = Memory { blocks: vec![block.clone(), block], loose: Vec::new(), len: 14 };
            let _ = memory.get(&rrn);
            prop_assert!(memory.iter().count() <= 600);
            memory.insert(rrn.clone(), Known::default());
            memory.pack();
            prop_assert!(memory.iter().any(|(found, _)| found == rrn));
        }
    }
}
