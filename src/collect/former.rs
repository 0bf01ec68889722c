//! Checkpoints of formats 1 to 3, as former versions wrote them.

use serde::Deserialize;

use super::access::Access;
use super::checkpoint::{Beyond, Checkpoint, Cycle, Known, Since7, Since8, Window, unreadable, whole};
use super::condensed::Condensed;
use super::forgetting::Bounds;
use super::memory::{self, Memory};
use crate::contract::Failure;
use crate::times::Utc;

/// Reads the body of a format before 4.
pub(super) fn read(format: u8, body: &[u8]) -> Result<Checkpoint, Failure> {
    let wrong = |error| unreadable(&format!("its content is not that of format {format} ({error})"));
    let beyond = |rest| match format {
        1 => whole(Ok((Beyond::default(), rest)), format),
        _ => whole(postcard::take_from_bytes(rest), format),
    };
    let checkpoint = if format == 3 {
        let (former, rest) = postcard::take_from_bytes::<Former<memory::Former<'_>>>(body).map_err(wrong)?;
        former.with(beyond(rest)?, |blocks| Some(memory::former(blocks)))
    } else {
        let (former, rest) = postcard::take_from_bytes::<Former<Singly>>(body).map_err(wrong)?;
        former.with(beyond(rest)?, singly)
    };
    checkpoint.ok_or_else(|| unreadable("an entry shares more than there is"))
}

/// Formats 1 to 3, in which what is remembered (`K`) stands among the rest, and
/// [`Beyond`] follows it all from format 2 on.
#[derive(Deserialize)]
struct Former<K> {
    host: String,
    watermark: Option<Utc>,
    window: Option<Window>,
    floor: Option<Utc>,
    gained: Option<Utc>,
    relisted: Option<Utc>,
    number: u32,
    cycle: Option<Cycle>,
    known: K,
    triage: Access,
    rate_limited: u32,
}

/// Formats 1 and 2 have each investigation by itself: the number of bytes its
/// RRN shares with the one before, the rest, and what is remembered.
type Singly = Vec<(usize, String, Known)>;

/// The entries of formats 1 and 2; nothing when their RRNs make no sense.
fn singly(entries: Singly) -> Option<Memory> {
    let mut known = Vec::with_capacity(entries.len());
    let mut before = String::new();
    for (shared, rest, entry) in entries {
        before = before.get(..shared)?.to_owned() + &rest;
        known.push((before.clone(), entry));
    }
    Some(known.into_iter().collect())
}

impl<K> Former<K> {
    /// As it is today.
    fn with(self, beyond: Beyond, known: impl FnOnce(K) -> Option<Memory>) -> Option<Checkpoint> {
        Some(Checkpoint {
            host: self.host,
            watermark: self.watermark,
            window: self.window,
            floor: self.floor,
            gained: self.gained,
            relisted: self.relisted,
            number: self.number,
            cycle: self.cycle,
            known: known(self.known)?,
            triage: self.triage,
            rate_limited: self.rate_limited,
            beyond,
            forgotten: None,
            condensed: Condensed::default(),
            since_7: Since7::default(),
            since_8: Since8::default(),
            bounds: Bounds::default(),
        })
    }
}
