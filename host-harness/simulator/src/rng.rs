//! Seeded chance.
//!
//! Everything that looks random in the simulator comes from here: [`Dice`] for sequences, [`mix`] for one value that
//! depends on a few numbers and on nothing else. ChaCha8 gives the same sequence on every platform and in every release
//! of its crate; the ranges are drawn here and not by a distribution crate, whose sampling may change. Not for secrets.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A seeded sequence of draws.
pub(crate) struct Dice(ChaCha8Rng);

impl Dice {
    /// The sequence of this seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Any 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// A number in `0..n`; 0 when `n` is 0.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        // Multiply and shift: the bias is below 2^-32 for every range used here.
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }

    /// A number in `low..=high`; `low` when the range is empty.
    pub(crate) fn between(&mut self, low: i64, high: i64) -> i64 {
        let width = high.saturating_sub(low).max(0) as u64;
        low.saturating_add(self.below(width.saturating_add(1)) as i64)
    }

    /// True in `percent` of a hundred draws.
    pub(crate) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// One of the items; the default value when there is none.
    pub(crate) fn pick<T: Copy + Default>(&mut self, items: &[T]) -> T {
        items.get(self.below(items.len() as u64) as usize).copied().unwrap_or_default()
    }
}

/// One number from two, well spread (the finaliser of SplitMix64).
pub(crate) fn mix(a: u64, b: u64) -> u64 {
    let mut z = a.wrapping_add(b.wrapping_mul(0x9E37_79B9_7F4A_7C15)).wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// A number from a text (FNV-1a, then spread).
pub(crate) fn hash_text(text: &str) -> u64 {
    let folded = text
        .bytes()
        .fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3));
    mix(folded, text.len() as u64)
}

/// A well-formed version 4 UUID out of a seed.
pub(crate) fn uuid_of(seed: u64) -> String {
    let bits = (u128::from(mix(seed, 0xA11CE)) << 64) | u128::from(mix(seed, 0xB0B));
    uuid::Builder::from_random_bytes(bits.to_be_bytes()).into_uuid().to_string()
}

/// 32 hexadecimal digits out of a seed.
pub(crate) fn hex32(seed: u64) -> String {
    format!("{:016x}{:016x}", mix(seed, 0x1234), mix(seed, 0x5678))
}

/// `length` upper-case letters and digits out of a seed, the form of the vendor's short ids.
pub(crate) fn short_id(seed: u64, length: usize) -> String {
    let mut dice = Dice::new(seed);
    (0..length).map(|_| char::from(dice.pick(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_of_a_seed_is_pinned() {
        let mut dice = Dice::new(7);
        assert_eq!([dice.bits(), dice.bits()], [2_910_824_217_569_608_635, 3_098_856_782_162_503_994]);
        assert_eq!(mix(7, 8), 2_476_628_477_891_077_985);
        assert_eq!(hash_text("rrn"), 15_754_131_092_223_473_910);
    }

    #[test]
    fn draws_stay_in_their_range() {
        let mut dice = Dice::new(1);
        for _ in 0..1_000 {
            assert!(dice.below(7) < 7);
            assert!((-3..=3).contains(&dice.between(-3, 3)));
        }
        assert_eq!(dice.below(0), 0);
        assert_eq!(dice.pick::<u8>(&[]), 0);
    }

    #[test]
    fn short_ids_have_the_vendors_alphabet() {
        let id = short_id(3, 12);
        assert_eq!(id.len(), 12);
        assert!(id.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()));
    }
}
