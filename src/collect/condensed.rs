//! What was known and had to make room: a few bytes each.
//!
//! The checkpoint is bounded, tenants are not. Of an investigation that is
//! forgotten a hash of its RRN and its last version is kept, so that listing it
//! again unchanged costs nothing, and a change of it is seen. In order, each as
//! the distance from the one before: about three bytes.
//!
//! Not guaranteed: of 40,000 kept, one change in 100,000 looks like something
//! that is known, and is not seen. Nor is one in a tenant that has more than
//! [`MOST`] of them: then those that are not kept are left alone.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::artifact::identity::hash64;

/// Most that are kept.
pub const MOST: usize = 40_000;

/// A set of hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condensed {
    /// Distances, as numbers of seven bits a byte.
    #[serde(serialize_with = "as_bytes", deserialize_with = "from_bytes")]
    bytes: Vec<u8>,
    count: usize,
    /// Whether some are not kept.
    full: bool,
}

/// What is kept of a version.
#[must_use]
pub fn key(rrn: &str, fingerprint: u64) -> u32 {
    let [a, b, c, d, ..] = hash64([rrn.as_bytes(), &fingerprint.to_le_bytes()]).to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

impl Condensed {
    /// Whether there were more than can be kept.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Bytes that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Keeps these.
    pub fn insert(&mut self, keys: &[u32]) {
        let mut room = MOST.saturating_sub(self.count);
        let mut full = self.full;
        // Not by doubling: this is at the end of a step, when most is in memory.
        let bytes = Vec::with_capacity(self.bytes.len().saturating_add(5 * keys.len()));
        let mut merged = Distances { bytes, ..Distances::default() };
        let mut add = |merged: &mut Distances, key| match room.checked_sub(1) {
            Some(left) => {
                room = left;
                merged.push(key);
            }
            None => full = true,
        };
        let mut new = in_order(keys).into_keys().filter_map(|key| u32::try_from(key).ok()).peekable();
        for old in self.iter() {
            while let Some(key) = new.next_if(|key| *key <= old) {
                if key < old {
                    add(&mut merged, key);
                }
            }
            merged.push(old);
        }
        for key in new {
            add(&mut merged, key);
        }
        *self = Self { bytes: merged.bytes, count: merged.count, full };
    }

    /// Which of these are kept, in their order.
    #[must_use]
    pub fn contains(&self, keys: &[u32]) -> Vec<bool> {
        let mut wanted = in_order(keys);
        let mut asked = wanted.iter_mut().peekable();
        for kept in self.iter().map(u64::from) {
            if asked.peek().is_none() {
                break;
            }
            while let Some((key, found)) = asked.next_if(|(key, _)| **key <= kept) {
                *found = i64::from(*key == kept);
            }
        }
        keys.iter().map(|key| wanted.get(&u64::from(*key)).is_some_and(|found| *found != 0)).collect()
    }

    /// All, in order. Bytes that make no sense end it.
    fn iter(&self) -> impl Iterator<Item = u32> {
        let mut rest = self.bytes.as_slice();
        let mut before = 0_u32;
        std::iter::from_fn(move || {
            let (distance, behind) = postcard::take_from_bytes::<u32>(rest).ok()?;
            rest = behind;
            before = before.checked_add(distance)?;
            Some(before)
        })
    }
}

/// Hashes in order, each once. A map of a kind that is there already: sorting
/// costs more of the component than all of this.
fn in_order(keys: &[u32]) -> BTreeMap<u64, i64> {
    keys.iter().map(|key| (u64::from(*key), 0)).collect()
}

/// Hashes being written, in order.
#[derive(Default)]
struct Distances {
    bytes: Vec<u8>,
    count: usize,
    last: u32,
}

impl Distances {
    fn push(&mut self, key: u32) {
        let bytes = std::mem::take(&mut self.bytes);
        // Writing to memory cannot fail.
        self.bytes = postcard::to_extend(&key.wrapping_sub(self.last), bytes).unwrap_or_default();
        (self.last, self.count) = (key, self.count + 1);
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

    proptest! {
        #[test]
        fn it_is_a_set(rounds in prop::collection::vec(prop::collection::vec(0_u32..500, 0..60), 1..6), asked in prop::collection::vec(0_u32..600, 0..80)) {
            let (mut set, mut condensed) = (BTreeSet::new(), Condensed::default());
            for round in rounds {
                set.extend(round.iter().copied());
                condensed.insert(&round);
                prop_assert!(condensed.iter().eq(set.iter().copied()));
                prop_assert_eq!(condensed.count, set.len());
                let expected: Vec<bool> = asked.iter().map(|key| set.contains(key)).collect();
                prop_assert_eq!(condensed.contains(&asked), expected);
                let bytes = postcard::to_allocvec(&condensed).unwrap();
                prop_assert_eq!(&postcard::from_bytes::<Condensed>(&bytes).unwrap(), &condensed);
            }
            prop_assert!(!condensed.is_full());
        }
    }

    #[test]
    fn it_is_bounded_and_says_so() {
        let mut condensed = Condensed::default();
        let spread = |number: u32| number.wrapping_mul(0x9e37_79b9);
        condensed.insert(&(0..30_000).map(spread).collect::<Vec<_>>());
        assert!(!condensed.is_full());
        condensed.insert(&(0..50_000).map(spread).collect::<Vec<_>>());
        assert!(condensed.is_full() && condensed.count == MOST);
        assert!(condensed.bytes.len() < MOST * 3 + 1_000, "{}", condensed.bytes.len());
        assert!(condensed.contains(&(0..30_000).map(spread).collect::<Vec<_>>()).into_iter().all(|kept| kept));
    }
}
