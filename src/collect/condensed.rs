//! What was known and had to make room: a few bytes each.
//!
//! The checkpoint is bounded, tenants are not. Of an investigation that is
//! forgotten a hash of its RRN and its last version is kept, so that listing it
//! again unchanged costs nothing, and a change of it is seen. They are kept by
//! the time of creation, so that what is too old to be listed goes by itself;
//! in order, each as the distance from the one before: about three bytes.
//!
//! Not guaranteed: of what is kept, one change in 100,000 looks like something
//! that is known, and is not seen. Nor is one of an investigation older than
//! what is kept, when there are more than [`MOST`].

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::gained::KEPT_DAYS;
use super::listing::DAY;
use crate::artifact::identity::hash64;

/// Most that are kept.
pub const MOST: usize = 40_000;
/// Microseconds of creation that are kept together.
const PERIOD: i64 = 30 * DAY * 1_000_000;
/// Most periods: what is older than the vendor keeps is never listed.
const PERIODS: usize = (KEPT_DAYS / 30 + 2) as usize;

/// Hashes of versions by the time at which the investigation was created.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condensed {
    /// In order.
    periods: Vec<Period>,
    /// Of periods before this one nothing is kept.
    from: Option<i64>,
}

/// What was created in one period.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Period {
    number: i64,
    count: usize,
    /// Distances, as numbers of seven bits a byte.
    #[serde(serialize_with = "as_bytes", deserialize_with = "from_bytes")]
    bytes: Vec<u8>,
}

/// What is kept of a version.
#[derive(Clone, Copy, Debug)]
pub struct Trace {
    period: i64,
    hash: u32,
}

impl Trace {
    /// Of a version of an investigation that was created so many microseconds
    /// after 1970.
    #[must_use]
    pub fn of(rrn: &str, created: i64, fingerprint: u64) -> Self {
        let [a, b, c, d, ..] = hash64([rrn.as_bytes(), &fingerprint.to_le_bytes()]).to_le_bytes();
        Self { period: created.div_euclid(PERIOD), hash: u32::from_le_bytes([a, b, c, d]) }
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
            if self.from.is_none_or(|from| trace.period >= from)
                && let Err(at) = self.periods.binary_search_by_key(&trace.period, |period| period.number)
            {
                self.periods.insert(at, Period { number: trace.period, ..Period::default() });
            }
        }
        for period in &mut self.periods {
            let hashes = in_order(traces.iter().filter(|trace| trace.period == period.number));
            if !hashes.is_empty() {
                period.insert(&hashes);
            }
        }
        while self.periods.len() > PERIODS || self.periods.iter().map(|period| period.count).sum::<usize>() > MOST {
            self.from = Some(self.periods.remove(0).number.saturating_add(1));
        }
    }

    /// Whether these are kept.
    #[must_use]
    pub fn look_up(&self, traces: &[Trace]) -> Vec<Kept> {
        let mut found = vec![Kept::No; traces.len()];
        for period in &self.periods {
            let mut asked = in_order(traces.iter().filter(|trace| trace.period == period.number));
            if asked.is_empty() {
                continue;
            }
            period.mark(&mut asked);
            for (found, trace) in found.iter_mut().zip(traces).filter(|(_, trace)| trace.period == period.number) {
                if asked.get(&u64::from(trace.hash)).is_some_and(|kept| *kept != 0) {
                    *found = Kept::Yes;
                }
            }
        }
        for (found, trace) in found.iter_mut().zip(traces) {
            if self.from.is_some_and(|from| trace.period < from) {
                *found = Kept::TooOld;
            }
        }
        found
    }
}

impl Period {
    /// Keeps these.
    fn insert(&mut self, hashes: &BTreeMap<u64, i64>) {
        // Not by doubling: this is at the end of a step, when most is in memory.
        let bytes = Vec::with_capacity(self.bytes.len().saturating_add(5 * hashes.len()));
        let mut merged = Distances { bytes, ..Distances::default() };
        let mut new = hashes.keys().copied().peekable();
        for old in self.iter() {
            while let Some(hash) = new.next_if(|hash| *hash <= old) {
                if hash < old {
                    merged.push(hash);
                }
            }
            merged.push(old);
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
            let (distance, behind) = postcard::take_from_bytes::<u32>(rest).ok()?;
            rest = behind;
            before = before.checked_add(distance.into())?;
            Some(before)
        })
    }
}

/// Hashes in order, each once. A map of a kind that is there already: sorting
/// costs more of the component than all of this.
fn in_order<'t>(traces: impl Iterator<Item = &'t Trace>) -> BTreeMap<u64, i64> {
    traces.map(|trace| (u64::from(trace.hash), 0)).collect()
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
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn traces() -> impl Strategy<Value = Vec<(i64, u32)>> {
        prop::collection::vec((-2_i64..4, 0_u32..300), 0..80)
    }

    fn of(pairs: &[(i64, u32)]) -> Vec<Trace> {
        pairs.iter().map(|(period, hash)| Trace { period: *period, hash: *hash }).collect()
    }

    proptest! {
        #[test]
        fn it_is_a_set(rounds in prop::collection::vec(traces(), 1..6), asked in traces()) {
            let (mut set, mut condensed) = (BTreeSet::new(), Condensed::default());
            for round in rounds {
                condensed.insert(&of(&round));
                set.extend(round);
                prop_assert_eq!(condensed.periods.iter().map(|period| period.count).sum::<usize>(), set.len());
                let expected: Vec<Kept> =
                    asked.iter().map(|pair| if set.contains(pair) { Kept::Yes } else { Kept::No }).collect();
                prop_assert_eq!(condensed.look_up(&of(&asked)), expected);
                let bytes = postcard::to_allocvec(&condensed).unwrap();
                prop_assert_eq!(&postcard::from_bytes::<Condensed>(&bytes).unwrap(), &condensed);
            }
        }
    }

    #[test]
    fn it_is_bounded_and_lets_go_of_the_oldest() {
        let many = |period: i64, count: u32| -> Vec<Trace> {
            (0..count).map(|number| Trace { period, hash: number.wrapping_mul(0x9e37_79b9) }).collect()
        };
        let mut condensed = Condensed::default();
        let mut older = Condensed::default();
        for period in 0..4 {
            condensed.insert(&many(period, 10_000));
            older.insert(&many(period, 10_000));
        }
        assert!(condensed.look_up(&many(0, 10_000)).into_iter().all(|kept| kept == Kept::Yes));
        assert!(condensed.bytes() < MOST * 3 + 2_000, "{}", condensed.bytes());
        // One too many.
        condensed.insert(&many(9, 1));
        assert!(condensed.look_up(&many(0, 10)).into_iter().all(|kept| kept == Kept::TooOld));
        assert!(condensed.look_up(&many(1, 10_000)).into_iter().all(|kept| kept == Kept::Yes));
        assert!(condensed.look_up(&many(5, 1)).into_iter().all(|kept| kept == Kept::No));
        // What is older than what is kept does not come back.
        condensed.insert(&many(0, 10));
        assert!(condensed.look_up(&many(0, 10)).into_iter().all(|kept| kept == Kept::TooOld));
        // A little in each of many periods.
        for period in 0..40 {
            older.insert(&many(period, 3));
        }
        assert!(
            older.periods.len() == PERIODS && older.look_up(&many(39, 3)).into_iter().all(|kept| kept == Kept::Yes)
        );
    }
}
