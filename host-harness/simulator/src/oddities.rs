//! What worlds can have beside ordinary records, and a default world has not: what comes in pieces, late, again and again, or
//! not at all.
//!
//! Each is drawn from seeds of its own, so that a world with one of them differs from the world without it in nothing else.

use serde_json::{Map, Value};

use crate::moment::{DAY, HOUR, MINUTE, Micros, SECOND};
use crate::rng::{Dice, mix};
use crate::world::Investigation;

/// How much of each oddity a generated world has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Oddities {
    /// Of a hundred alerts so many get their evidence and their actors piece by piece, in the ten minutes after the first.
    /// Until the last is there, totals of these lists are at times one more or one less than what is listed (facts 4), and
    /// the versions of the alert and of its evidence grow (facts 6.3, 6.4).
    pub piecemeal_percent: u8,
    /// Of a hundred members that can be missing so many are, as null or not at all (facts 3, 6.1 to 6.4). What one read has as
    /// null another leaves out.
    pub sparse_percent: u8,
    /// Of a hundred investigations so many get comments and product alerts at any time until the world stands still, however
    /// old and whatever their state; most of them in its last two days.
    pub late_extras_percent: u8,
    /// Investigations, beside all others, that gain alerts from their creation, within the 20 days before the start, until the
    /// world stands still.
    pub growing_investigations: usize,
    /// Alerts that each of them has in the end.
    pub growing_alerts: usize,
    /// Of a hundred alerts outside investigations so many show up late: an hour to four days after their creation (facts 6.5
    /// has four days between the times of one alert).
    pub late_alerts_percent: u8,
}

impl Oddities {
    /// Whether one of so many percent, by its seed and the oddity's number.
    fn is_one(percent: u8, seed: u64, oddity: u64) -> bool {
        percent > 0 && mix(seed, oddity) % 100 < u64::from(percent)
    }

    /// How long the evidence of a generated alert takes from its first piece to its last.
    pub(crate) fn spread(&self, seed: u64) -> Micros {
        if !Self::is_one(self.piecemeal_percent, seed, 0x9_1ECE) {
            return 0;
        }
        Dice::new(mix(seed, 0x9_1ECF)).between(10 * SECOND, 10 * MINUTE)
    }

    /// How much later than others an alert outside investigations shows up.
    pub(crate) fn lateness(&self, seed: u64) -> Micros {
        if !Self::is_one(self.late_alerts_percent, seed, 0x1A7E_A1E7) {
            return 0;
        }
        Dice::new(mix(seed, 0x1A7E_A1E8)).between(HOUR, 4 * DAY)
    }

    /// Whether comments and product alerts come to an investigation at any time.
    pub(crate) fn has_late_extras(&self, seed: u64) -> bool {
        Self::is_one(self.late_extras_percent, seed, 0x1A7E)
    }

    /// Takes members away from a generated record, which names it by a number of its own: what is null here is left out where
    /// `reader` is another.
    pub(crate) fn thin_out(&self, record: &mut Map<String, Value>, seed: u64, reader: u64, members: &[&str]) {
        if self.sparse_percent == 0 {
            return;
        }
        for (number, member) in (0_u64..).zip(members) {
            let draw = mix(seed, 0x5BA_25E + number);
            let is_null = record.get(*member).is_none_or(Value::is_null);
            if !is_null && draw % 100 >= u64::from(self.sparse_percent) {
                continue;
            }
            if (draw >> 32).wrapping_add(reader).is_multiple_of(2) {
                record.insert((*member).to_owned(), Value::Null);
            } else {
                record.remove(*member);
            }
        }
    }
}

/// When something comes to an investigation that gets it late: mostly in the last two days before `end`.
pub(crate) fn late(one: &Investigation, end: Micros, dice: &mut Dice) -> Micros {
    let all = end.saturating_sub(one.visible).max(0);
    let within = if dice.chance(80) { all.min(2 * crate::moment::DAY) } else { all };
    end - dice.between(0, within)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn thinned(seed: u64, reader: u64, record: &Value) -> Map<String, Value> {
        let mut record = record.as_object().unwrap().clone();
        Oddities { sparse_percent: 50, ..Oddities::default() }.thin_out(&mut record, seed, reader, &["a", "b"]);
        record
    }

    #[test]
    fn what_is_missing_is_null_or_absent_and_for_another_reader_the_other() {
        let record = json!({"a": 1, "b": null, "c": 2});
        let mut forms = std::collections::BTreeSet::new();
        for seed in 0..64 {
            let (one, other) = (thinned(seed, 0, &record), thinned(seed, 1, &record));
            let form = |record: &Map<String, Value>, member: &str| record.get(member).cloned();
            assert_eq!(form(&one, "c"), Some(json!(2)), "only those that are named");
            assert_ne!(form(&one, "b"), form(&other, "b"));
            let (a, b) = (form(&one, "a"), form(&other, "a"));
            assert!(a == Some(json!(1)) && b == a || a != b);
            assert_eq!(one, thinned(seed, 0, &record));
            forms.insert(format!("{a:?}"));
        }
        assert_eq!(forms.len(), 3, "{forms:?}");
        let kept = record.as_object().unwrap();
        let mut plain = kept.clone();
        Oddities::default().thin_out(&mut plain, 1, 0, &["a", "b"]);
        assert_eq!(&plain, kept);
    }
}
