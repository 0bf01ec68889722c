//! What was known and had to make room: a few bytes each.
//!
//! The checkpoint is bounded, tenants are not. Of an investigation that is
//! forgotten a hash of its RRN and its last version is kept, so that listing it
//! again unchanged costs nothing, and a change of it is seen. They are kept by
//! the day of creation, so that what is too old goes first and a day at a time;
//! in order, each as the distance from the one before: three or four bytes.
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
/// Most periods: what is older than the vendor keeps is never listed.
const PERIODS: usize = (KEPT_DAYS + 2) as usize;
/// Days of a period as checkpoints of format 4 have them.
const FORMER_DAYS: i64 = 30;

/// Hashes of versions by the time at which the investigation was created.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condensed {
    /// In order; none overlaps another.
    periods: Vec<Period>,
    /// Of days before this one nothing is kept.
    from: Option<i64>,
}

/// What was created in one period.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Period {
    /// Its first day, in days since 1970.
    day: i64,
    /// How many days it has: one, or those of a former checkpoint.
    days: i64,
    count: usize,
    /// Distances, as numbers of seven bits a byte.
    #[serde(serialize_with = "as_bytes", deserialize_with = "from_bytes")]
    bytes: Vec<u8>,
}

/// What is kept of a version.
#[derive(Clone, Copy, Debug)]
pub struct Trace {
    day: i64,
    hash: u32,
}

impl Trace {
    /// Of a version of an investigation that was created so many microseconds
    /// after 1970.
    #[must_use]
    pub fn of(rrn: &str, created: i64, fingerprint: u64) -> Self {
        let [a, b, c, d, ..] = hash64([rrn.as_bytes(), &fingerprint.to_le_bytes()]).to_le_bytes();
        Self { day: created.div_euclid(DAY * 1_000_000), hash: u32::from_le_bytes([a, b, c, d]) }
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
            let at = self.periods.partition_point(|period| period.end() <= trace.day);
            if self.from.is_none_or(|from| trace.day >= from)
                && !self.periods.get(at).is_some_and(|period| period.has(trace))
            {
                self.periods.insert(at, Period { day: trace.day, days: 1, ..Period::default() });
            }
        }
        for period in &mut self.periods {
            let hashes = in_order(traces.iter().filter(|trace| period.has(trace)));
            if !hashes.is_empty() {
                period.insert(&hashes);
            }
        }
        while self.periods.len() > PERIODS || self.periods.iter().map(|period| period.count).sum::<usize>() > MOST {
            self.from = Some(self.periods.remove(0).end());
        }
    }

    /// Whether these are kept.
    #[must_use]
    pub fn look_up(&self, traces: &[Trace]) -> Vec<Kept> {
        let mut found = vec![Kept::No; traces.len()];
        for period in &self.periods {
            let mut asked = in_order(traces.iter().filter(|trace| period.has(trace)));
            if asked.is_empty() {
                continue;
            }
            period.mark(&mut asked);
            for (found, trace) in found.iter_mut().zip(traces).filter(|(_, trace)| period.has(trace)) {
                if asked.get(&u64::from(trace.hash)).is_some_and(|kept| *kept != 0) {
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

/// What is kept as format 4 has it: by the month.
#[derive(Deserialize)]
pub(super) struct Former {
    periods: Vec<FormerPeriod>,
    from: Option<i64>,
}

/// A period of it.
#[derive(Deserialize)]
struct FormerPeriod {
    number: i64,
    count: usize,
    #[serde(deserialize_with = "from_bytes")]
    bytes: Vec<u8>,
}

impl From<Former> for Condensed {
    fn from(former: Former) -> Self {
        let day = |number: i64| number.saturating_mul(FORMER_DAYS);
        let period =
            |FormerPeriod { number, count, bytes }| Period { day: day(number), days: FORMER_DAYS, count, bytes };
        Self { periods: former.periods.into_iter().map(period).collect(), from: former.from.map(day) }
    }
}

impl Period {
    /// The day behind it.
    fn end(&self) -> i64 {
        self.day.saturating_add(self.days)
    }

    /// Whether the investigation was created in it.
    fn has(&self, trace: &Trace) -> bool {
        (self.day..self.end()).contains(&trace.day)
    }

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
        pairs.iter().map(|(day, hash)| Trace { day: *day, hash: *hash }).collect()
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
        let many = |day: i64, count: u32| -> Vec<Trace> {
            (0..count).map(|number| Trace { day, hash: number.wrapping_mul(0x9e37_79b9) }).collect()
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
        // A little on each of many days.
        for day in 0..500 {
            older.insert(&many(day, 3));
        }
        assert!(
            older.periods.len() == PERIODS && older.look_up(&many(499, 3)).into_iter().all(|kept| kept == Kept::Yes)
        );
    }

    #[test]
    fn what_was_kept_by_the_month_is_kept_on() {
        let bytes = |hashes: &[u64]| {
            let mut distances = Distances::default();
            hashes.iter().for_each(|hash| distances.push(*hash));
            distances.bytes
        };
        let period = |number, hashes: &[u64]| FormerPeriod { number, count: hashes.len(), bytes: bytes(hashes) };
        let former = Former { periods: vec![period(2, &[5, 9]), period(4, &[7])], from: Some(2) };
        let mut condensed = Condensed::from(former);
        let kept = |condensed: &Condensed, day, hash| condensed.look_up(&[Trace { day, hash }])[0];
        for day in [60, 75, 89] {
            assert_eq!((kept(&condensed, day, 5), kept(&condensed, day, 7)), (Kept::Yes, Kept::No), "{day}");
        }
        assert_eq!((kept(&condensed, 59, 5), kept(&condensed, 90, 5)), (Kept::TooOld, Kept::No));
        // What is new goes to the month that is there, and to a day of its own where none is.
        condensed.insert(&of(&[(70, 6), (95, 6), (120, 6), (150, 6)]));
        let days: Vec<(i64, i64)> = condensed.periods.iter().map(|period| (period.day, period.days)).collect();
        assert_eq!(days, [(60, 30), (95, 1), (120, 30), (150, 1)]);
        for (day, hash) in [(70, 6), (60, 9), (95, 6), (120, 6), (149, 7), (150, 6)] {
            assert_eq!(kept(&condensed, day, hash), Kept::Yes, "{day}");
        }
    }
}
