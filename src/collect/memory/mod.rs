//! What is remembered of investigations, by RRN, packed.
//!
//! A tenant has tens of thousands of them, a step looks at some hundreds. So
//! they stay in the bytes that they were stored in, which are the checkpoint's
//! own: blocks of entries in the order of RRNs. What a step changes lies beside
//! them and is packed whenever it is [`LOOSE`] large, in the same buffer. A step
//! costs what it touches, in memory and in time, and not what there is.
//!
//! Not guaranteed: a block that cannot be read counts as empty, so what was in
//! it would be collected again. The checkpoint's checksum stands before that.

mod block;
mod merge;
mod rewrite;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::fmt;

use super::checkpoint::Known;
use block::{Entries, Entry, Head, Packer, common, first, order, order_behind, shared_by};
use merge::{Merged, merge, repack};
use rewrite::{Block, Rewrite};

/// Most changed entries that lie beside the blocks.
const LOOSE: usize = 512;
/// Every entry.
pub const ANY: u8 = 0x80;
/// An entry that is owed something.
pub const OWED: u8 = 1;
/// An entry that was not closed when it was last seen.
pub const OPEN: u8 = 2;

/// First bytes of the buffer, which are the checkpoint's: its header.
pub const RESERVED: usize = 18;

/// An entry that has changed.
#[derive(Clone)]
struct Loose {
    rrn: String,
    known: Known,
    /// Whether there is none of it in the blocks.
    is_new: bool,
}

/// Investigations by RRN.
#[derive(Clone, Default)]
pub struct Memory {
    /// [`RESERVED`] bytes, and the blocks.
    buffer: Vec<u8>,
    blocks: Vec<Block>,
    /// What has changed since it was packed, in order; overrules what is in the
    /// blocks.
    loose: Vec<Loose>,
    /// By how many bytes it will grow when that is packed, about.
    growth: usize,
    /// How many there are.
    len: usize,
    /// How many bytes all of `loose` begin with alike.
    alike: usize,
    /// How often the blocks were written.
    written: usize,
    /// How often anything was changed.
    changed: usize,
}

/// What was remembered of an investigation when it was looked up.
#[derive(Clone, Default)]
pub struct Found {
    known: Option<Known>,
    written: usize,
    changed: usize,
}

impl Memory {
    /// What is in a buffer up to `end`, behind its first [`RESERVED`] bytes;
    /// nothing when these are no blocks.
    #[must_use]
    pub fn stored(mut buffer: Vec<u8>, end: usize) -> Option<Self> {
        let mut rest = buffer.get(RESERVED..end)?;
        let mut blocks = Vec::new();
        let mut len = 0_usize;
        while !rest.is_empty() {
            let ((marks, count, length), behind): (Head, _) = postcard::take_from_bytes(rest).ok()?;
            rest = behind.get(length..)?;
            // An entry has a byte at least.
            if count > length {
                return None;
            }
            let end = end.checked_sub(rest.len())?;
            blocks.push(Block { marks, count, start: end.checked_sub(length)?, end });
            len = len.checked_add(count)?;
        }
        buffer.truncate(end);
        Some(Self { buffer, blocks, len, ..Self::default() })
    }

    /// The buffer, its first [`RESERVED`] bytes to be filled, and the blocks
    /// behind them.
    #[must_use]
    pub fn into_buffer(mut self) -> Vec<u8> {
        self.pack();
        self.buffer.resize(self.buffer.len().max(RESERVED), 0);
        self.buffer
    }

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

    /// Bytes of what is packed.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.buffer.len()
    }

    /// What is remembered of one.
    #[must_use]
    pub fn get(&self, rrn: &str) -> Option<Known> {
        match self.place(rrn) {
            Ok(at) => self.loose.get(at).map(|loose| loose.known.clone()),
            Err(_) => postcard::from_bytes(self.packed(rrn)?).ok(),
        }
    }

    /// What is remembered of one, for later: [`Memory::again`] costs less than looking it up twice.
    #[must_use]
    pub fn find(&self, rrn: &str) -> Found {
        Found { known: self.get(rrn), written: self.written, changed: self.changed }
    }

    /// What is remembered of one now, of which this was found before. While the
    /// blocks are the same, only what lies beside them can say otherwise.
    #[must_use]
    pub fn again(&self, rrn: &str, found: Found) -> Found {
        if found.changed == self.changed {
            return found;
        }
        let known = match self.place(rrn) {
            Ok(at) => self.loose.get(at).map(|loose| loose.known.clone()),
            Err(_) if found.written == self.written => found.known,
            Err(_) => self.get(rrn),
        };
        Found { known, written: self.written, changed: self.changed }
    }

    /// Where an RRN is, or would be, among what has changed.
    fn place(&self, rrn: &str) -> Result<usize, usize> {
        self.place_of(rrn.as_bytes())
    }

    /// The same for an RRN in bytes.
    fn place_of(&self, rrn: &[u8]) -> Result<usize, usize> {
        let first = self.loose.first().map_or(0, |first| common(first.rrn.as_bytes(), rrn));
        let shared = self.alike.min(first);
        self.loose.binary_search_by(|other| order_behind(shared, other.rrn.as_bytes(), rrn))
    }

    /// The bytes of an entry of a block. RRNs of a tenant begin alike for sixty
    /// bytes, so they are not compared as they are: an entry that shares more
    /// with the one before it than that shares with what is looked for is on
    /// the same side of it, and one that shares less is behind it.
    fn packed(&self, rrn: &str) -> Option<&[u8]> {
        let mut rest = self.block(self.block_of(rrn)?);
        let mut shared = 0;
        while let Some((entry, behind)) = Entry::read(rest) {
            rest = behind;
            match entry.shared.cmp(&shared) {
                Ordering::Greater => {}
                Ordering::Less => return None,
                Ordering::Equal => {
                    let wanted = rrn.as_bytes().get(shared..)?;
                    let same = common(entry.own, wanted);
                    match (entry.own.get(same), wanted.get(same)) {
                        (None, None) => return Some(entry.known),
                        (Some(a), Some(b)) if a > b => return None,
                        (Some(_), None) => return None,
                        // Entries share whole characters only.
                        _ => {
                            shared = shared.saturating_add(same);
                            while !rrn.is_char_boundary(shared) {
                                shared -= 1;
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
        let is_new = self.place(&rrn).is_err() && self.packed(&rrn).is_none();
        self.put(rrn, known, is_new);
    }

    /// The same for one of which is known whether anything was remembered of it: then nobody has to go through a block for it.
    pub fn put(&mut self, rrn: String, known: Known, is_new: bool) {
        self.changed = self.changed.wrapping_add(1);
        match self.place(&rrn) {
            Ok(at) => {
                if let Some(changed) = self.loose.get_mut(at) {
                    changed.known = known;
                }
            }
            Err(at) => {
                if is_new {
                    self.len = self.len.saturating_add(1);
                    self.growth += 48 + 10 * known.alerts.len();
                }
                let is_end = at == 0 || at == self.loose.len();
                self.loose.insert(at, Loose { rrn, known, is_new });
                if is_end && let (Some(first), Some(last)) = (self.loose.first(), self.loose.last()) {
                    self.alike = common(first.rrn.as_bytes(), last.rrn.as_bytes());
                }
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
            .filter_map(|(rrn, merged)| {
                let known = match merged {
                    Merged::Loose(known) => known.clone(),
                    Merged::Packed(bytes) => postcard::from_bytes(bytes).ok()?,
                };
                Some((rrn, known))
            })
            .skip_while(move |(rrn, _)| {
                after.as_ref().is_some_and(|after| order(rrn.as_bytes(), after.as_bytes()).is_le())
            })
    }

    /// All, in the order of RRNs.
    pub fn iter(&self) -> impl Iterator<Item = (String, Known)> + '_ {
        self.scan(None, ANY)
    }

    /// What is remembered of all, in the order of [`Memory::retain`].
    pub fn packed_values(&mut self) -> impl Iterator<Item = Known> + '_ {
        self.pack();
        (0..self.blocks.len()).flat_map(|at| {
            let mut entries = Entries::of(self.block(at));
            std::iter::from_fn(move || entries.next()).filter_map(|(_, bytes)| postcard::from_bytes(bytes).ok())
        })
    }

    /// Keeps those for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &Known) -> bool) {
        self.pack();
        let mut packer = Packer::new();
        let mut rewrite = Rewrite::begin(std::mem::take(&mut self.buffer), RESERVED, 0);
        for block in std::mem::take(&mut self.blocks) {
            let mut entries = Entries::of(rewrite.old(&block));
            // Whether the one before it is the one it stood behind.
            let mut follows = false;
            while let Some((entry, whole)) = entries.next_whole() {
                let is_kept = postcard::from_bytes(entry.known).is_ok_and(|known| keep(&entries.rrn, &known));
                match (is_kept, follows) {
                    (true, true) => packer.copy(&entries.rrn, entry, whole),
                    (true, false) => packer.push(&entries.rrn, entry.marks, entry.known),
                    (false, _) => {}
                }
                follows = is_kept;
            }
            rewrite.read(&block);
            for full in packer.take_full() {
                rewrite.write(&full);
            }
        }
        for full in packer.finish() {
            rewrite.write(&full);
        }
        self.rewritten(rewrite);
    }

    /// Packs what has changed.
    pub fn pack(&mut self) {
        if self.loose.is_empty() {
            return;
        }
        let places: Vec<(usize, usize)> = (0..self.blocks.len().max(1)).map(|at| self.loose_at(at)).collect();
        let blocks = std::mem::take(&mut self.blocks);
        let mut rewrite = Rewrite::begin(std::mem::take(&mut self.buffer), RESERVED, std::mem::take(&mut self.growth));
        for (at, (from, to)) in places.into_iter().enumerate() {
            let block = blocks.get(at).copied().unwrap_or(Block { start: RESERVED, end: RESERVED, ..Block::default() });
            let loose = self.loose.get(from..to).unwrap_or_default();
            if loose.is_empty() {
                rewrite.keep(&block);
                continue;
            }
            let new = loose.iter().filter(|loose| loose.is_new).count();
            let mut packer = Packer::evenly(block.count.saturating_add(new));
            repack(rewrite.old(&block), loose, &mut packer);
            rewrite.read(&block);
            for packed in packer.finish() {
                rewrite.write(&packed);
            }
        }
        self.loose.clear();
        self.rewritten(rewrite);
    }

    /// Takes over what was rewritten.
    fn rewritten(&mut self, rewrite: Rewrite) {
        self.written = self.written.wrapping_add(1);
        self.changed = self.changed.wrapping_add(1);
        (self.buffer, self.blocks) = rewrite.finish();
        self.len = self.blocks.iter().fold(0, |len, block| len.saturating_add(block.count));
    }

    /// The bytes of a block.
    fn block(&self, at: usize) -> &[u8] {
        self.blocks.get(at).and_then(|block| self.buffer.get(block.start..block.end)).unwrap_or_default()
    }

    /// The block in whose range an RRN lies.
    fn block_of(&self, rrn: &str) -> Option<usize> {
        let begins = |block: &Block| first(self.buffer.get(block.start..block.end).unwrap_or_default());
        let shared = match (begins(self.blocks.first()?), begins(self.blocks.last()?)) {
            (Some(first), Some(last)) => shared_by(first, last, rrn.as_bytes()),
            _ => 0,
        };
        let is_before = |first| order_behind(shared, first, rrn.as_bytes()).is_le();
        let behind = self.blocks.partition_point(|block| begins(block).is_none_or(is_before));
        Some(behind.saturating_sub(1))
    }

    /// Where among what has changed the range of a block is.
    fn loose_at(&self, at: usize) -> (usize, usize) {
        let place = |first: &[u8]| self.place_of(first).unwrap_or_else(|at| at);
        let from = match first(self.block(at)) {
            Some(first) if at > 0 => place(first),
            _ => 0,
        };
        let next = at.saturating_add(1);
        let to = if next < self.blocks.len() { first(self.block(next)).map(place) } else { None };
        (from, to.unwrap_or(self.loose.len()))
    }

    /// What has changed in the range of a block.
    fn loose_of(&self, at: usize) -> &[Loose] {
        let (from, to) = self.loose_at(at);
        self.loose.get(from..to).unwrap_or_default()
    }

    /// The entries of a block with what has changed.
    fn merged(&self, at: usize) -> Vec<(String, Merged<'_>)> {
        merge(self.block(at), self.loose_of(at))
    }
}

impl Found {
    /// It.
    #[must_use]
    pub fn known(&self) -> Option<&Known> {
        self.known.as_ref()
    }

    /// It, taken out.
    #[must_use]
    pub fn into_known(self) -> Option<Known> {
        self.known
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

/// What formats of the checkpoint before 4 have of blocks: marks, number of
/// entries and the entries.
pub type Former<'a> = Vec<(u8, usize, &'a [u8])>;

/// The entries of such blocks.
pub fn former(blocks: Former<'_>) -> Memory {
    let mut memory = Memory::default();
    for (_, _, bytes) in blocks {
        let mut entries = Entries::of(bytes);
        while let Some((_, bytes)) = entries.next() {
            if let Ok(known) = postcard::from_bytes(bytes) {
                memory.insert(entries.rrn.clone(), known);
            }
        }
    }
    memory.pack();
    memory
}
