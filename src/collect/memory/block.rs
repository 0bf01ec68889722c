//! Entries of what is remembered, in blocks: how they are written and read.
//!
//! RRNs of a tenant begin alike for sixty bytes, so an entry has the number of
//! bytes that it shares with the one before it in its block, and the rest.

use std::cmp::Ordering;

use serde::{Serialize, Serializer};

use super::super::checkpoint::{Known, Owed};
use super::{ANY, OPEN, OWED};

/// Entries of a block.
const BLOCK: usize = 64;

/// An entry as it is packed, as postcard would read it. By hand, because a step
/// goes past hundreds of thousands of them: without looking whether each RRN is
/// UTF-8, which only matters where it is made whole.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    /// Bytes of the RRN that are shared with the entry before it.
    pub(super) shared: usize,
    /// The rest of the RRN.
    pub(super) own: &'a [u8],
    /// Its marks.
    pub(super) marks: u8,
    /// What is remembered, in postcard.
    pub(super) known: &'a [u8],
}

impl<'a> Entry<'a> {
    /// The entry at the beginning of these bytes, and what is behind it. `None`
    /// at the end, or where there is no entry.
    #[inline(always)]
    pub(super) fn read(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (shared, rest) = number(bytes)?;
        let (length, rest) = number(rest)?;
        let (own, rest) = rest.split_at_checked(length)?;
        let (marks, rest) = rest.split_first()?;
        let (length, rest) = number(rest)?;
        let (known, rest) = rest.split_at_checked(length)?;
        Some((Self { shared, own, marks: *marks, known }, rest))
    }
}

/// A number as postcard writes it: seven bits a byte, the lowest first. Nearly
/// all are one byte.
#[inline(always)]
fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    match bytes.split_first()? {
        (first, rest) if first & 0x80 == 0 => Some((usize::from(*first), rest)),
        _ => long_number(bytes),
    }
}

/// The same for one of several bytes. No length needs a fifth: a checkpoint has
/// not that many bytes.
fn long_number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut number = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        number |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((number, bytes.get(at + 1..)?));
        }
    }
    None
}

/// How many bytes two texts share at their beginnings, eight at a time.
pub(super) fn common(one: &[u8], other: &[u8]) -> usize {
    let (mut one, mut other) = (one, other);
    let mut common = 0;
    while let (Some((a, rest)), Some((b, other_rest))) = (one.split_first_chunk::<8>(), other.split_first_chunk::<8>())
    {
        let different = u64::from_le_bytes(*a) ^ u64::from_le_bytes(*b);
        if different != 0 {
            return common + different.trailing_zeros() as usize / 8;
        }
        (one, other, common) = (rest, other_rest, common + 8);
    }
    common + one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

/// The order of two texts by their bytes, eight at a time: comparing memory is
/// a loop over single bytes in WebAssembly, and this was the half of a listing.
pub(super) fn order(one: &[u8], other: &[u8]) -> Ordering {
    let (mut one, mut other) = (one, other);
    while let (Some((a, rest)), Some((b, other_rest))) = (one.split_first_chunk::<8>(), other.split_first_chunk::<8>())
    {
        if a != b {
            return u64::from_be_bytes(*a).cmp(&u64::from_be_bytes(*b));
        }
        (one, other) = (rest, other_rest);
    }
    one.cmp(other)
}

/// How many bytes all texts of a sorted list share with each other and with one more.
pub(super) fn shared_by(first: &[u8], last: &[u8], other: &[u8]) -> usize {
    common(first, last).min(common(first, other))
}

/// The order of two texts that are known to share so many bytes at their beginnings.
pub(super) fn order_behind(shared: usize, one: &[u8], other: &[u8]) -> Ordering {
    order(one.get(shared..).unwrap_or_default(), other.get(shared..).unwrap_or_default())
}

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
        self.next_whole().map(|(entry, _)| (entry.marks, entry.known))
    }

    /// The next entry, and all its bytes.
    pub(super) fn next_whole(&mut self) -> Option<(Entry<'a>, &'a [u8])> {
        let (entry, rest) = Entry::read(self.rest)?;
        let own = std::str::from_utf8(entry.own).ok().filter(|_| self.rrn.is_char_boundary(entry.shared));
        let Some(own) = own else {
            self.rest = &[];
            return None;
        };
        self.rrn.truncate(entry.shared);
        self.rrn.push_str(own);
        let whole = self.rest.get(..self.rest.len().saturating_sub(rest.len())).unwrap_or_default();
        self.rest = rest;
        Some((entry, whole))
    }
}

/// RRN of the first entry of a block, which shares nothing with any before it.
pub(super) fn first(bytes: &[u8]) -> Option<&[u8]> {
    Entry::read(bytes).map(|(entry, _)| entry.own)
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
        let mut shared = common(rrn.as_bytes(), self.before.as_bytes());
        while !rrn.is_char_boundary(shared) {
            shared -= 1;
        }
        let entry = (shared, rrn.get(shared..).unwrap_or_default(), marks, Raw(bytes));
        let written = postcard::to_extend(&entry, std::mem::take(&mut self.block.bytes));
        // Writing to memory cannot fail.
        self.block.bytes = written.unwrap_or_default();
        self.wrote(rrn, marks);
    }

    /// Adds an entry that stood behind the same one before, all its bytes as
    /// they are.
    pub(super) fn copy(&mut self, rrn: &str, entry: Entry<'_>, whole: &[u8]) {
        if self.block.count >= self.most || self.block.count == 0 {
            self.push(rrn, entry.marks, entry.known);
            return;
        }
        self.block.bytes.extend_from_slice(whole);
        self.wrote(rrn, entry.marks);
    }

    fn wrote(&mut self, rrn: &str, marks: u8) {
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
