//! Entries of what is remembered, in blocks: how they are written and read.
//!
//! RRNs of a tenant begin alike for sixty bytes, so an entry has the number of
//! bytes that it shares with the one before it in its block, and the rest.

use serde::{Serialize, Serializer};

use super::super::checkpoint::{Known, Owed};
use super::{ANY, OPEN, OWED};

/// Entries of a block.
const BLOCK: usize = 64;

/// An entry as it is packed: bytes of the RRN that are shared with the entry
/// before it, the rest of the RRN, marks, and the entry in postcard.
pub(super) type Entry<'a> = (usize, &'a str, u8, &'a [u8]);

/// A block before its bytes: its marks, how many entries it has, and how many
/// bytes follow.
pub(super) type Head = (u8, usize, usize);

/// A block that was packed.
#[derive(Default)]
pub(super) struct Packed {
    /// Marks of all its entries together.
    pub(super) marks: u8,
    /// How many entries it has.
    pub(super) count: usize,
    /// The entries.
    pub(super) bytes: Vec<u8>,
}

impl Packed {
    /// What is written before its bytes.
    pub(super) fn head(&self) -> Vec<u8> {
        head(&(self.marks, self.count, self.bytes.len()))
    }
}

/// A head in bytes.
pub(super) fn head(head: &Head) -> Vec<u8> {
    // Writing to memory cannot fail.
    postcard::to_allocvec(head).unwrap_or_default()
}

/// The entries of a block, one after the other.
pub(super) struct Entries<'a> {
    rest: &'a [u8],
    /// RRN of the entry that was last given.
    pub(super) rrn: String,
}

impl<'a> Entries<'a> {
    /// The entries in these bytes.
    pub(super) fn of(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, rrn: String::new() }
    }

    /// Marks and bytes of the next entry.
    pub(super) fn next(&mut self) -> Option<(u8, &'a [u8])> {
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

/// RRN of the first entry of a block, which shares nothing with any before it.
pub(super) fn first(bytes: &[u8]) -> Option<&str> {
    postcard::take_from_bytes::<Entry<'_>>(bytes).ok().map(|((_, rrn, _, _), _)| rrn)
}

/// Writes entries, given in order, into blocks.
pub(super) struct Packer {
    /// Those that are full.
    full: Vec<Packed>,
    block: Packed,
    before: String,
    /// Most entries of a block.
    most: usize,
}

impl Packer {
    /// For blocks that are as full as they may be.
    pub(super) fn new() -> Self {
        Self { full: Vec::new(), block: Packed::default(), before: String::new(), most: BLOCK }
    }

    /// For so many entries, in even parts: a full block that leaves only what
    /// is new behind it would do so again with the next one, and each block
    /// costs a whole RRN.
    pub(super) fn evenly(entries: usize) -> Self {
        let parts = entries.div_ceil(BLOCK).max(1);
        Self { most: entries.div_ceil(parts).max(1), ..Self::new() }
    }

    /// Adds an entry.
    pub(super) fn push(&mut self, rrn: &str, marks: u8, bytes: &[u8]) {
        if self.block.count >= self.most {
            self.full.push(std::mem::take(&mut self.block));
            self.before.clear();
        }
        let mut shared = rrn.bytes().zip(self.before.bytes()).take_while(|(a, b)| a == b).count();
        while !rrn.is_char_boundary(shared) {
            shared -= 1;
        }
        let entry: Entry<'_> = (shared, rrn.get(shared..).unwrap_or_default(), marks, bytes);
        let written = postcard::to_extend(&AsBytes(entry), std::mem::take(&mut self.block.bytes));
        // Writing to memory cannot fail.
        self.block.bytes = written.unwrap_or_default();
        self.block.count += 1;
        self.block.marks |= marks;
        self.before.clear();
        self.before.push_str(rrn);
    }

    /// Takes the blocks that are full.
    pub(super) fn take_full(&mut self) -> Vec<Packed> {
        std::mem::take(&mut self.full)
    }

    /// The blocks that were not taken.
    pub(super) fn finish(mut self) -> Vec<Packed> {
        if self.block.count > 0 {
            self.full.push(self.block);
        }
        self.full
    }
}

/// Writes the bytes of an entry at once and not as a sequence of numbers.
struct AsBytes<'a>(Entry<'a>);

impl Serialize for AsBytes<'_> {
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

/// What is said of an entry without reading it.
pub(super) fn marks_of(known: &Known) -> u8 {
    let owed = if known.owed == Owed::Nothing { 0 } else { OWED };
    ANY | owed | if known.open { OPEN } else { 0 }
}

/// An entry in bytes.
pub(super) fn bytes_of(known: &Known) -> Vec<u8> {
    // Writing to memory cannot fail.
    postcard::to_allocvec(known).unwrap_or_default()
}
