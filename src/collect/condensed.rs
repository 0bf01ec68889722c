//! What was known and had to make room: a few bytes each.
//!
//! The checkpoint is bounded, tenants are not. Of an investigation that is
//! forgotten a hash of its RRN and one of its last version are kept, so that
//! listing it again unchanged costs nothing, and a change of it is seen, one
//! back to a former version too. They are kept by the day of creation, so that
//! what is too old goes first and a day at a time; in order, each as the
//! distance from the one before: six bytes.
//!
//! Not guaranteed: of what is kept, one change in 500,000 looks like something
//! that is known, and is not seen. Of what was never known, on a day of which
//! 1,000 are kept, one in 250,000 looks like something that has changed. What is
//! older than what is kept, when there are more than [`MOST`], cannot be told.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use xxhash_rust::xxh64::xxh64;

use super::gained::KEPT_DAYS;
use super::listing::DAY;
use crate::times::Utc;

/// Most that are kept.
pub const MOST: usize = 26_000;
/// Most periods: what is older than the vendor keeps is never listed.
const PERIODS: usize = (KEPT_DAYS + 2) as usize;
/// Bits of a hash that are the version's; those above are the RRN's.
const VERSION_BITS: u32 = 20;
/// The lowest of them: whether work is left to do.
const OWED: u64 = 1;
/// Bits of a hash.
const BITS: u32 = 48;

/// Hashes of versions by the time at which the investigation was created.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condensed {
    /// In order.
    periods: Vec<Period>,
    /// Of days before this one not all is kept.
    from: Option<i64>,
}

/// What was created on one day.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Period {
    /// In days since 1970.
    day: i64,
    count: usize,
    /// Distances, as numbers of seven bits a byte.
    #[serde(serialize_with = "as_bytes", deserialize_with = "from_bytes")]
    bytes: Vec<u8>,
}

/// What is kept of a version.
#[derive(Clone, Copy, Debug)]
pub struct Trace {
    day: i64,
    hash: u64,
}

impl Trace {
    /// Of a version of an investigation that was created so many microseconds
    /// after 1970.
    #[must_use]
    pub fn of(rrn: &str, created: i64, fingerprint: u64) -> Self {
        let rrn = xxh64(rrn.as_bytes(), 0) << VERSION_BITS & ((1 << BITS) - 1);
        // Of a hash any bits will do.
        let version = fingerprint >> (u64::BITS - VERSION_BITS) & !OWED;
        Self { day: created.div_euclid(DAY * 1_000_000), hash: rrn | version }
    }

    /// The same, with work left to do on the investigation.
    #[must_use]
    pub fn owed(self) -> Self {
        Self { hash: self.hash | OWED, ..self }
    }
}

/// What is known of an investigation that was forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is as it was.
    Same,
    /// It is as it was, with work left to do.
    Owed,
    /// It has another version than it had.
    Changed,
    /// It was never known.
    Unknown,
    /// It is so old that it cannot be told.
    TooOld,
}

impl Condensed {
    /// How many are kept.
    #[must_use]
    pub fn count(&self) -> usize {
        self.periods.iter().fold(0, |count, period| count.saturating_add(period.count))
    }

    /// Bytes that it takes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.periods.iter().map(|period| period.bytes.len().saturating_add(16)).sum()
    }

    /// Keeps these, and lets go of the oldest when there are too many.
    pub fn insert(&mut self, traces: &[Trace]) {
        for trace in traces {
            if let Err(at) = self.periods.binary_search_by_key(&trace.day, |period| period.day) {
                self.periods.insert(at, Period { day: trace.day, ..Period::default() });
            }
        }
        for period in &mut self.periods {
            let hashes = in_order(traces.iter().filter(|trace| trace.day == period.day));
            if !hashes.is_empty() {
                period.insert(&hashes);
            }
        }
        while self.periods.len() > PERIODS || self.periods.iter().map(|period| period.count).sum::<usize>() > MOST {
            self.from = self.from.max(Some(self.periods.remove(0).day.saturating_add(1)));
        }
    }

    /// What is known of these, which are made as those without work left.
    #[must_use]
    pub fn look_up(&self, traces: &[Trace]) -> Vec<Kept> {
        let unknown = |trace: &Trace| match self.from {
            Some(from) if trace.day < from => Kept::TooOld,
            _ => Kept::Unknown,
        };
        let mut found: Vec<Kept> = traces.iter().map(unknown).collect();
        for period in &self.periods {
            let mut asked = in_order(traces.iter().filter(|trace| trace.day == period.day));
            if asked.is_empty() {
                continue;
            }
            period.mark(&mut asked);
            for (found, trace) in found.iter_mut().zip(traces).filter(|(_, trace)| trace.day == period.day) {
                match asked.get(&trace.hash) {
                    Some(&SAME) => *found = Kept::Same,
                    Some(&LEFT) => *found = Kept::Owed,
                    // Of a day of which not all is kept it may be another one of which the hash is the same.
                    Some(&CHANGED) if *found == Kept::Unknown => *found = Kept::Changed,
                    _ => {}
                }
            }
        }
        found
    }
}

impl Condensed {
    /// What the hashes of format 5 say now. They do not tell what has work left
    /// to do.
    pub(super) fn of_format_5(self, forgotten: Option<Utc>) -> Self {
        Self::too_old(forgotten.filter(|_| !self.periods.is_empty()))
    }

    /// That what was created up to an instant is too old to be told, until it
    /// is forgotten anew.
    fn too_old(forgotten: Option<Utc>) -> Self {
        let day = |forgotten: Utc| forgotten.0.div_euclid(DAY * 1_000_000).saturating_add(1);
        Self { periods: Vec::new(), from: forgotten.map(day) }
    }
}

/// Mark of what is kept.
const SAME: i64 = 1;
/// Mark of what is kept with work left to do.
const LEFT: i64 = 2;
/// Mark of what is kept in another version.
const CHANGED: i64 = 3;

/// What is kept as format 4 has it, by the month and without a hash of the RRN
/// by itself.
#[derive(Deserialize)]
pub(super) struct Former {
    periods: Vec<FormerPeriod>,
    _from: Option<i64>,
}

/// A period of it.
#[derive(Deserialize)]
struct FormerPeriod {
    _number: i64,
    _count: usize,
    #[serde(deserialize_with = "from_bytes")]
    _bytes: Vec<u8>,
}

impl Former {
    /// What it says now.
    pub(super) fn condensed(self, forgotten: Option<Utc>) -> Condensed {
        Condensed::too_old(forgotten.filter(|_| !self.periods.is_empty()))
    }
}

impl Period {
    /// Keeps these, each instead of what was kept of the same RRN.
    fn insert(&mut self, hashes: &BTreeMap<u64, i64>) {
        // Not by doubling: this is at the end of a step, when most is in memory.
        let bytes = Vec::with_capacity(self.bytes.len().saturating_add(7 * hashes.len()));
        let mut merged = Distances { bytes, ..Distances::default() };
        let mut new = hashes.keys().copied().peekable();
        for old in self.iter() {
            let rrn = old >> VERSION_BITS;
            let mut is_replaced = false;
            while let Some(hash) = new.next_if(|hash| hash >> VERSION_BITS <= rrn) {
                is_replaced |= hash >> VERSION_BITS == rrn;
                merged.push(hash);
            }
            // The one before it may be of the same RRN.
            if !is_replaced && (merged.count == 0 || merged.last >> VERSION_BITS != rrn) {
                merged.push(old);
            }
        }
        new.for_each(|hash| merged.push(hash));
        (self.bytes, self.count) = (merged.bytes, merged.count);
    }

    /// Marks those that are kept.
    fn mark(&self, asked: &mut BTreeMap<u64, i64>) {
        let mut asked = asked.iter_mut().peekable();
        for kept in self.iter() {
            let rrn = kept >> VERSION_BITS;
            while let Some((hash, place)) = asked.next_if(|(hash, _)| **hash >> VERSION_BITS <= rrn) {
                *place = match hash ^ kept {
                    0 => SAME,
                    OWED => LEFT,
                    _ if *hash >> VERSION_BITS == rrn => CHANGED,
                    _ => 0,
                };
            }
            if asked.peek().is_none() {
                return;
            }
        }
    }

    /// All, in order. Bytes that make no sense end it.
    fn iter(&self) -> impl Iterator<Item = u64> {
        let mut rest = self.bytes.as_slice();
        let mut before = 0_u64;
        std::iter::from_fn(move || {
            let (distance, behind) = postcard::take_from_bytes::<u64>(rest).ok()?;
            rest = behind;
            before = before.checked_add(distance)?;
            Some(before)
        })
    }
}

/// Hashes in order, each once. A map of a kind that is there already: sorting
/// costs more of the component than all of this.
fn in_order<'t>(traces: impl Iterator<Item = &'t Trace>) -> BTreeMap<u64, i64> {
    traces.map(|trace| (trace.hash, 0)).collect()
}

/// Hashes being written, in order.
#[derive(Default)]
struct Distances {
    bytes: Vec<u8>,
    count: usize,
    last: u64,
}

impl Distances {
    fn push(&mut self, hash: u64) {
        let bytes = std::mem::take(&mut self.bytes);
        // Writing to memory cannot fail.
        self.bytes = postcard::to_extend(&hash.wrapping_sub(self.last), bytes).unwrap_or_default();
        (self.last, self.count) = (hash, self.count + 1);
    }
}

fn as_bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(bytes)
}

fn from_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    <&'de [u8]>::deserialize(deserializer).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Days and RRNs, with a version of each and whether work is left.
    fn traces() -> impl Strategy<Value = BTreeMap<(i64, u64), (u64, bool)>> {
        prop::collection::btree_map((-2_i64..4, 0_u64..60), (0_u64..3, any::<bool>()), 0..80)
    }

    fn trace((day, rrn): (i64, u64), version: u64) -> Trace {
        Trace { day, hash: rrn << VERSION_BITS | version << 1 }
    }

    proptest! {
        #[test]
        fn it_is_a_map(rounds in prop::collection::vec(traces(), 1..6), asked in traces()) {
            let (mut map, mut condensed) = (BTreeMap::new(), Condensed::default());
            let asked_for: Vec<Trace> = asked.iter().map(|(name, (version, _))| trace(*name, *version)).collect();
            for round in rounds {
                let one = |(name, (version, owed)): (&(i64, u64), &(u64, bool))| {
                    let trace = trace(*name, *version);
                    if *owed { trace.owed() } else { trace }
                };
                condensed.insert(&round.iter().map(one).collect::<Vec<_>>());
                map.extend(round);
                prop_assert_eq!(condensed.periods.iter().map(|period| period.count).sum::<usize>(), map.len());
                let kept = |(name, (version, _)): (&(i64, u64), &(u64, bool))| match map.get(name) {
                    Some((known, owed)) if known == version => if *owed { Kept::Owed } else { Kept::Same },
                    Some(_) => Kept::Changed,
                    None => Kept::Unknown,
                };
                let expected: Vec<Kept> = asked.iter().map(kept).collect();
                prop_assert_eq!(condensed.look_up(&asked_for), expected);
                let bytes = postcard::to_allocvec(&condensed).unwrap();
                prop_assert_eq!(&postcard::from_bytes::<Condensed>(&bytes).unwrap(), &condensed);
            }
        }
    }

    #[test]
    fn it_is_bounded_and_lets_go_of_the_oldest() {
        let many = |day: i64, count: u32| -> Vec<Trace> {
            let hash =
                |number: u32| u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - BITS) & !OWED;
            (0..count).map(|number| Trace { day, hash: hash(number) }).collect()
        };
        let mut condensed = Condensed::default();
        let mut older = Condensed::default();
        for period in 0..4 {
            condensed.insert(&many(period, 6_500));
            older.insert(&many(period, 6_500));
        }
        assert!(condensed.look_up(&many(0, 6_500)).into_iter().all(|kept| kept == Kept::Same));
        assert!(condensed.bytes() < MOST * 6 + 2_000, "{}", condensed.bytes());
        // One too many.
        condensed.insert(&many(9, 1));
        assert!(condensed.look_up(&many(0, 10)).into_iter().all(|kept| kept == Kept::TooOld));
        assert!(condensed.look_up(&many(1, 6_500)).into_iter().all(|kept| kept == Kept::Same));
        assert!(condensed.look_up(&many(5, 1)).into_iter().all(|kept| kept == Kept::Unknown));
        // What is older comes back while there is room for it, and says nothing of the rest of its day.
        condensed.insert(&many(0, 10));
        assert!(condensed.look_up(&many(0, 10)).into_iter().all(|kept| kept == Kept::Same));
        assert_eq!(condensed.look_up(&many(0, 11)).last(), Some(&Kept::TooOld));
        // When there is none, it goes first, and what is younger is not too old.
        condensed.insert(&many(8, 6_499));
        assert!(condensed.look_up(&many(0, 10)).into_iter().all(|kept| kept == Kept::TooOld));
        assert!(condensed.look_up(&many(1, 6_500)).into_iter().all(|kept| kept == Kept::Same));
        // A little on each of many days.
        for day in 0..500 {
            older.insert(&many(day, 3));
        }
        assert!(
            older.periods.len() == PERIODS && older.look_up(&many(499, 3)).into_iter().all(|kept| kept == Kept::Same)
        );
    }

    #[test]
    fn what_former_formats_kept_is_too_old_to_be_told() {
        let former = |periods| Former { periods, _from: None };
        let some = || vec![FormerPeriod { _number: 2, _count: 1, _bytes: vec![5] }];
        let forgotten = Some(Utc(90 * DAY * 1_000_000));
        let condensed = former(some()).condensed(forgotten);
        let kept = |day| condensed.look_up(&[Trace { day, hash: 5 }])[0];
        assert_eq!((kept(90), kept(91)), (Kept::TooOld, Kept::Unknown));
        assert_eq!(former(Vec::new()).condensed(forgotten), Condensed::default());
        // So it is for the hashes of format 5.
        let mut condensed = Condensed::default();
        condensed.insert(&[Trace { day: 2, hash: 5 }]);
        let condensed = condensed.of_format_5(forgotten);
        assert_eq!(condensed.look_up(&[Trace { day: 2, hash: 5 }])[0], Kept::TooOld);
        assert_eq!(condensed.look_up(&[Trace { day: 91, hash: 5 }])[0], Kept::Unknown);
    }
}
