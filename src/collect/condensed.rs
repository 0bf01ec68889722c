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
//! that is known, and is not seen. Nor is one of an investigation older than
//! what is kept, when there are more than [`MOST`].

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::gained::KEPT_DAYS;
use super::listing::DAY;
use crate::artifact::identity::hash64;
use crate::times::Utc;

/// Most that are kept.
pub const MOST: usize = 26_000;
/// Most periods: what is older than the vendor keeps is never listed.
const PERIODS: usize = (KEPT_DAYS + 2) as usize;
/// Bits of a hash that are the version's; those above are the RRN's.
const VERSION_BITS: u32 = 20;
/// Bits of a hash.
const BITS: u32 = 48;

/// Hashes of versions by the time at which the investigation was created.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condensed {
    /// In order.
    periods: Vec<Period>,
    /// Of days before this one nothing is kept.
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
        let rrn = hash64([rrn.as_bytes()]) << VERSION_BITS & ((1 << BITS) - 1);
        let version = hash64([&fingerprint.to_le_bytes()[..]]) >> (u64::BITS - VERSION_BITS);
        Self { day: created.div_euclid(DAY * 1_000_000), hash: rrn | version }
    }
}

impl Trace {
    /// Of a version that was collected, of an investigation with work left to
    /// do: another one than that of a version with which all is done.
    #[must_use]
    pub fn owed(rrn: &str, created: i64, fingerprint: u64) -> Self {
        Self::of(rrn, created, !fingerprint)
    }
}

/// What is known of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It is kept.
    Yes,
    /// It is not.
    No,
    /// It would not be kept if it had been known.
    TooOld,
}

impl Condensed {
    /// Bytes that it takes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.periods.iter().map(|period| period.bytes.len().saturating_add(16)).sum()
    }

    /// Keeps these, and lets go of the oldest when there are too many.
    pub fn insert(&mut self, traces: &[Trace]) {
        for trace in traces {
            if self.from.is_none_or(|from| trace.day >= from)
                && let Err(at) = self.periods.binary_search_by_key(&trace.day, |period| period.day)
            {
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
            self.from = Some(self.periods.remove(0).day.saturating_add(1));
        }
    }

    /// Whether these are kept.
    #[must_use]
    pub fn look_up(&self, traces: &[Trace]) -> Vec<Kept> {
        let mut found = vec![Kept::No; traces.len()];
        for period in &self.periods {
            let mut asked = in_order(traces.iter().filter(|trace| trace.day == period.day));
            if asked.is_empty() {
                continue;
            }
            period.mark(&mut asked);
            for (found, trace) in found.iter_mut().zip(traces).filter(|(_, trace)| trace.day == period.day) {
                if asked.get(&trace.hash).is_some_and(|kept| *kept != 0) {
                    *found = Kept::Yes;
                }
            }
        }
        for (found, trace) in found.iter_mut().zip(traces) {
            if self.from.is_some_and(|from| trace.day < from) {
                *found = Kept::TooOld;
            }
        }
        found
    }
}

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
    /// What it says now: that what was created up to an instant is too old to
    /// be told.
    pub(super) fn condensed(self, forgotten: Option<Utc>) -> Condensed {
        let day = |forgotten: Utc| forgotten.0.div_euclid(DAY * 1_000_000).saturating_add(1);
        Condensed { periods: Vec::new(), from: forgotten.filter(|_| !self.periods.is_empty()).map(day) }
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
            while let Some((hash, mark)) = asked.next_if(|(hash, _)| **hash <= kept) {
                *mark = i64::from(*hash == kept);
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

    /// Days, RRNs and versions, each RRN once.
    fn traces() -> impl Strategy<Value = BTreeMap<(i64, u64), u64>> {
        prop::collection::btree_map((-2_i64..4, 0_u64..60), 0_u64..3, 0..80)
    }

    fn of(versions: &BTreeMap<(i64, u64), u64>) -> Vec<Trace> {
        let trace =
            |((day, rrn), version): (&(i64, u64), &u64)| Trace { day: *day, hash: rrn << VERSION_BITS | version };
        versions.iter().map(trace).collect()
    }

    proptest! {
        #[test]
        fn it_is_a_map(rounds in prop::collection::vec(traces(), 1..6), asked in traces()) {
            let (mut map, mut condensed) = (BTreeMap::new(), Condensed::default());
            for round in rounds {
                condensed.insert(&of(&round));
                map.extend(round);
                prop_assert_eq!(condensed.periods.iter().map(|period| period.count).sum::<usize>(), map.len());
                let kept = |(name, version)| if map.get(name) == Some(version) { Kept::Yes } else { Kept::No };
                let expected: Vec<Kept> = asked.iter().map(kept).collect();
                prop_assert_eq!(condensed.look_up(&of(&asked)), expected);
                let bytes = postcard::to_allocvec(&condensed).unwrap();
                prop_assert_eq!(&postcard::from_bytes::<Condensed>(&bytes).unwrap(), &condensed);
            }
        }
    }

    #[test]
    fn it_is_bounded_and_lets_go_of_the_oldest() {
        let many = |day: i64, count: u32| -> Vec<Trace> {
            let hash = |number: u32| u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - BITS);
            (0..count).map(|number| Trace { day, hash: hash(number) }).collect()
        };
        let mut condensed = Condensed::default();
        let mut older = Condensed::default();
        for period in 0..4 {
            condensed.insert(&many(period, 6_500));
            older.insert(&many(period, 6_500));
        }
        assert!(condensed.look_up(&many(0, 6_500)).into_iter().all(|kept| kept == Kept::Yes));
        assert!(condensed.bytes() < MOST * 6 + 2_000, "{}", condensed.bytes());
        // One too many.
        condensed.insert(&many(9, 1));
        assert!(condensed.look_up(&many(0, 10)).into_iter().all(|kept| kept == Kept::TooOld));
        assert!(condensed.look_up(&many(1, 6_500)).into_iter().all(|kept| kept == Kept::Yes));
        assert!(condensed.look_up(&many(5, 1)).into_iter().all(|kept| kept == Kept::No));
        // What is older than what is kept does not come back.
        condensed.insert(&many(0, 10));
        assert!(condensed.look_up(&many(0, 10)).into_iter().all(|kept| kept == Kept::TooOld));
        // A little on each of many days.
        for day in 0..500 {
            older.insert(&many(day, 3));
        }
        assert!(
            older.periods.len() == PERIODS && older.look_up(&many(499, 3)).into_iter().all(|kept| kept == Kept::Yes)
        );
    }

    #[test]
    fn what_was_kept_by_the_month_is_too_old_to_be_told() {
        let former = |periods| Former { periods, _from: None };
        let some = || vec![FormerPeriod { _number: 2, _count: 1, _bytes: vec![5] }];
        let forgotten = Some(Utc(90 * DAY * 1_000_000));
        let condensed = former(some()).condensed(forgotten);
        let kept = |day| condensed.look_up(&[Trace { day, hash: 5 }])[0];
        assert_eq!((kept(90), kept(91)), (Kept::TooOld, Kept::No));
        assert_eq!(former(Vec::new()).condensed(forgotten), Condensed::default());
    }
}
