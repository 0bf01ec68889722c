//! Writing what is remembered anew, in the buffer it is in.
//!
//! There is room for one such buffer and not for two: it is the largest thing
//! in the guest's memory. What is unread is moved to the end of it, and read
//! from there while it is written anew from the beginning. What is written
//! never passes what is unread: when it would, the unread part moves on.

use super::block::{Packed, head};

/// By how much what is unread is moved on at least, in bytes: moving it costs
/// the same for one.
const STRIDE: usize = 4 * 1024;

/// A block in the buffer.
#[derive(Clone, Copy, Default)]
pub(super) struct Block {
    /// Marks of all its entries together.
    pub(super) marks: u8,
    /// How many entries it has.
    pub(super) count: usize,
    /// Where its entries begin in the buffer.
    pub(super) start: usize,
    /// Where they end.
    pub(super) end: usize,
}

/// A buffer that is being written anew.
pub(super) struct Rewrite {
    buffer: Vec<u8>,
    /// Up to where it is written.
    written: usize,
    /// From where it is unread.
    unread: usize,
    /// By how much what is unread was moved.
    moved: usize,
    /// The blocks written.
    blocks: Vec<Block>,
}

impl Rewrite {
    /// Keeps the first `reserved` bytes of the buffer and begins behind them;
    /// `growth` is about how many bytes will be added.
    pub(super) fn begin(mut buffer: Vec<u8>, reserved: usize, growth: usize) -> Self {
        if buffer.len() < reserved {
            buffer.resize(reserved, 0);
        }
        let mut rewrite = Self { buffer, written: reserved, unread: reserved, moved: 0, blocks: Vec::new() };
        rewrite.move_on(growth);
        rewrite
    }

    /// The bytes of a block that was there before.
    pub(super) fn old(&self, block: &Block) -> &[u8] {
        let range = block.start.saturating_add(self.moved)..block.end.saturating_add(self.moved);
        self.buffer.get(range).unwrap_or_default()
    }

    /// Says that a block that was there before has been read.
    pub(super) fn read(&mut self, block: &Block) {
        self.unread = block.end.saturating_add(self.moved).max(self.unread);
    }

    /// Writes a block.
    pub(super) fn write(&mut self, block: &Packed) {
        let head = block.head();
        self.make_room(head.len().saturating_add(block.bytes.len()));
        self.put(&head);
        let start = self.written;
        self.put(&block.bytes);
        self.blocks.push(Block { marks: block.marks, count: block.count, start, end: self.written });
    }

    /// Writes a block that was there before as it is.
    pub(super) fn keep(&mut self, block: &Block) {
        let length = block.end.saturating_sub(block.start);
        let head = head(&(block.marks, block.count, length));
        // Its bytes go towards the beginning, or stay: it is unread until they are there.
        let from = block.start.saturating_add(self.moved);
        let missing = self.written.saturating_add(head.len()).saturating_sub(from);
        self.move_on(if missing == 0 { 0 } else { missing.max(STRIDE) });
        let (from, to) = (block.start.saturating_add(self.moved), block.end.saturating_add(self.moved));
        let start = self.written.saturating_add(head.len());
        if to <= self.buffer.len() {
            self.buffer.copy_within(from..to, start);
        }
        self.read(block);
        self.put(&head);
        self.written = start.saturating_add(length);
        self.blocks.push(Block { start, end: self.written, ..*block });
    }

    /// The buffer, ending behind the last block, and its blocks.
    pub(super) fn finish(mut self) -> (Vec<u8>, Vec<Block>) {
        self.buffer.truncate(self.written);
        (self.buffer, self.blocks)
    }

    fn put(&mut self, bytes: &[u8]) {
        let end = self.written.saturating_add(bytes.len());
        if let Some(place) = self.buffer.get_mut(self.written..end) {
            place.copy_from_slice(bytes);
        }
        self.written = end;
    }

    /// Sees to it that so many bytes can be written without touching what is
    /// unread.
    fn make_room(&mut self, bytes: usize) {
        let wanted = self.written.saturating_add(bytes);
        if wanted > self.unread {
            self.move_on(wanted.saturating_sub(self.unread).max(STRIDE));
        }
    }

    /// Moves what is unread on.
    fn move_on(&mut self, by: usize) {
        if by == 0 {
            return;
        }
        let end = self.buffer.len();
        // Not twice what is there, as a vector would by itself.
        self.buffer.reserve_exact(by);
        self.buffer.resize(end.saturating_add(by), 0);
        if self.unread < end {
            self.buffer.copy_within(self.unread..end, self.unread.saturating_add(by));
        }
        self.unread = self.unread.saturating_add(by);
        self.moved = self.moved.saturating_add(by);
    }
}
