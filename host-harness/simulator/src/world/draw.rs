//! Single values of generated records: times, people, tags, and how an investigation looks when it is created.

use std::borrow::Cow;

use super::vocabulary::{ANALYSTS, TAGS, title};
use super::{Fields, Person};
use crate::moment::{Micros, SECOND};
use crate::rng::Dice;

/// The instant with 0 to 6 fraction digits.
pub(super) fn cut(instant: Micros, dice: &mut Dice) -> Micros {
    let step = dice.pick(&[1_i64, 1, 10, 100, 1_000, 1_000, 10_000, 100_000, SECOND]).max(1);
    instant - instant.rem_euclid(step)
}

/// One of the values.
pub(super) fn pick(dice: &mut Dice, values: &[&'static str]) -> Cow<'static, str> {
    Cow::Borrowed(dice.pick(values))
}

/// An assignee, or nobody.
pub(super) fn person(dice: &mut Dice) -> Option<Person> {
    let (name, email) = dice.pick(&ANALYSTS);
    dice.chance(70).then(|| Person { name: name.to_owned(), email: email.to_owned() })
}

/// Tags in all their forms: null or absent, none, some.
pub(super) fn tags(dice: &mut Dice) -> Option<Vec<Cow<'static, str>>> {
    match dice.below(4) {
        0 | 1 => None,
        2 => Some(Vec::new()),
        _ => Some((0..=dice.below(3)).map(|_| pick(dice, &TAGS)).collect()),
    }
}

/// How it looks when it is created: mostly documented values, sometimes ones that no document knows.
pub(super) fn fields(dice: &mut Dice, manual: bool) -> Fields {
    let rare = |dice: &mut Dice, usual: Cow<'static, str>, unknown: &'static str| {
        if dice.chance(2) { Cow::Borrowed(unknown) } else { usual }
    };
    let status = pick(dice, &["OPEN", "OPEN", "OPEN", "INVESTIGATING", "WAITING", "CLOSED"]);
    let priority = pick(dice, &["CRITICAL", "HIGH", "MEDIUM", "MEDIUM", "LOW", "LOW", "UNSPECIFIED", "UNMAPPED"]);
    let disposition = pick(dice, &["UNDECIDED", "UNDECIDED", "UNDECIDED", "BENIGN", "MALICIOUS", "UNKNOWN"]);
    let source =
        if manual { pick(dice, &["USER", "USER", "MANUAL"]) } else { pick(dice, &["ALERT", "ALERT", "ALERT", "HUNT"]) };
    Fields {
        title: title(dice),
        source: rare(dice, source, "AUTOMATION"),
        status: rare(dice, status, "ESCALATED"),
        priority: rare(dice, priority, "P0_URGENT"),
        disposition: rare(dice, disposition, "INCONCLUSIVE"),
        assignee: if dice.chance(40) { person(dice) } else { None },
        responsibility: if dice.chance(30) { Some(pick(dice, &["CUSTOMER", "MDR"])) } else { None },
        tags: tags(dice),
        raw: None,
    }
}
