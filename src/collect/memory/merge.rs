//! The entries of a block with what has changed in its range, in one order.

use std::cmp::Ordering;

use super::super::checkpoint::Known;
use super::Loose;
use super::block::{Entries, Entry, Packer, bytes_of, marks_of, order};

/// An entry, changed or not.
pub(super) enum Merged<'a> {
    Loose(&'a Known),
    Packed(&'a [u8]),
}

/// The entries of a block with what has changed in its range.
pub(super) fn merge<'a>(block: &'a [u8], loose: &'a [Loose]) -> Vec<(String, Merged<'a>)> {
    let mut merged = Vec::new();
    walk(block, loose, |rrn, part| {
        let part = match part {
            Part::Loose(known) => Merged::Loose(known),
            Part::Packed(entry, _) => Merged::Packed(entry.known),
        };
        merged.push((rrn.to_owned(), part));
    });
    merged
}

/// Packs the entries of a block with what has changed in its range. What stands
/// behind the same entry as before is copied as it is.
pub(super) fn repack(block: &[u8], loose: &[Loose], packer: &mut Packer) {
    let mut follows = true;
    walk(block, loose, |rrn, part| match part {
        Part::Loose(known) => {
            packer.push(rrn, marks_of(known), &bytes_of(known));
            follows = false;
        }
        Part::Packed(entry, whole) if follows => packer.copy(rrn, entry, whole),
        Part::Packed(entry, _) => {
            packer.push(rrn, entry.marks, entry.known);
            follows = true;
        }
    });
}

/// A part of a block with what has changed.
enum Part<'a> {
    Loose(&'a Known),
    /// With all its bytes.
    Packed(Entry<'a>, &'a [u8]),
}

/// Goes through the entries of a block with what has changed, in order.
fn walk<'a>(block: &'a [u8], loose: &'a [Loose], mut take: impl FnMut(&str, Part<'a>)) {
    let mut loose = loose.iter().peekable();
    let mut entries = Entries::of(block);
    while let Some((entry, whole)) = entries.next_whole() {
        let mut is_replaced = false;
        while !is_replaced && let Some(next) = loose.peek() {
            match order(next.rrn.as_bytes(), entries.rrn.as_bytes()) {
                Ordering::Greater => break,
                Ordering::Equal => is_replaced = true,
                Ordering::Less => {}
            }
            take(&next.rrn, Part::Loose(&next.known));
            loose.next();
        }
        if !is_replaced {
            take(&entries.rrn, Part::Packed(entry, whole));
        }
    }
    loose.for_each(|loose| take(&loose.rrn, Part::Loose(&loose.known)));
}
