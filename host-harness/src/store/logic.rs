//! What is found, as an expression of FTS5.
//!
//! Why not handed on as it was typed: the index can leave something out only of what something else finds. So a set is what
//! an expression finds or all but that, and whatever is made of sets is one of the two again.

/// A set of artifacts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Set {
    /// What FTS5 is asked for.
    pub(super) expression: String,
    /// Whether all others are meant.
    pub(super) is_rest: bool,
    /// Whether it holds together as it stands.
    is_whole: bool,
}

impl Set {
    /// What one term finds.
    pub(super) fn of(term: String) -> Self {
        Self { expression: term, is_rest: false, is_whole: true }
    }

    /// All others, if so.
    pub(super) fn not(self, not: bool) -> Self {
        Self { is_rest: self.is_rest != not, ..self }
    }

    /// What is in all of them; none when there are none.
    pub(super) fn all(sets: Vec<Self>) -> Option<Self> {
        let (without, with) = parted(sets);
        match (join(with, " AND "), join(without, " OR ")) {
            (Some(with), Some(without)) => Some(with.but(&without)),
            (with, without) => with.or(without.map(|without| without.not(true))),
        }
    }

    /// What is in any of them; none when there are none.
    pub(super) fn any(sets: Vec<Self>) -> Option<Self> {
        let (without, with) = parted(sets);
        match (join(with, " OR "), join(without, " AND ")) {
            // What only the rest of them lacks.
            (Some(with), Some(without)) => Some(without.but(&with).not(true)),
            (with, without) => with.or(without.map(|without| without.not(true))),
        }
    }

    /// What is in this one and not in the other, taken as expressions.
    fn but(&self, other: &Self) -> Self {
        let expression = format!("{} NOT {}", self.whole(), other.whole());
        Self { expression, is_rest: false, is_whole: false }
    }

    /// The expression in such a form that it can be a part of another one.
    fn whole(&self) -> String {
        if self.is_whole { self.expression.clone() } else { format!("({})", self.expression) }
    }
}

/// Those that are the rest of something, and those that are not.
fn parted(sets: Vec<Set>) -> (Vec<Set>, Vec<Set>) {
    sets.into_iter().partition(|set| set.is_rest)
}

/// The expressions as one: flat, because neither FTS5's parser nor its trees may be deep.
fn join(sets: Vec<Set>, operator: &str) -> Option<Set> {
    if sets.len() < 2 {
        return sets.into_iter().next().map(|set| Set { is_rest: false, ..set });
    }
    let expression = sets.iter().map(Set::whole).collect::<Vec<_>>().join(operator);
    Some(Set { expression, is_rest: false, is_whole: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(term: &str) -> Set {
        Set::of(term.to_owned())
    }

    #[test]
    fn whatever_is_made_of_sets_is_what_an_expression_finds_or_all_but_that() {
        let [a, b, c] = ["a", "b", "c"].map(set);
        let not = |set: &Set| set.clone().not(true);
        let told = |set: Option<Set>| {
            let set = set.expect("a set");
            format!("{}{}", if set.is_rest { "all but " } else { "" }, set.expression)
        };
        for (made, expected) in [
            (Set::all(vec![a.clone()]), "a"),
            (Set::all(vec![not(&a)]), "all but a"),
            (Set::all(vec![not(&not(&a))]), "a"),
            (Set::all(vec![a.clone(), not(&b), c.clone()]), "(a AND c) NOT b"),
            (Set::all(vec![not(&a), not(&b)]), "all but a OR b"),
            (Set::all(vec![a.clone(), not(&b), not(&c)]), "a NOT (b OR c)"),
            (Set::any(vec![a.clone(), b.clone()]), "a OR b"),
            (Set::any(vec![a.clone(), not(&b)]), "all but b NOT a"),
            (Set::any(vec![not(&a), not(&b)]), "all but a AND b"),
            (Set::all(vec![c.clone(), Set::any(vec![a.clone(), b.clone()]).expect("set")]), "c AND (a OR b)"),
            (Set::all(vec![c, Set::any(vec![a, not(&b)]).expect("set")]), "c NOT (b NOT a)"),
        ] {
            assert_eq!(told(made), expected);
        }
        assert_eq!((Set::all(Vec::new()), Set::any(Vec::new())), (None, None));
    }
}
