//! How often what occurred, by a word for it.
//!
//! Why no map: there are one or two words in one of these, a map keeps room for eleven, and a host may have thousands
//! of instances.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Index;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Counts by word, in the order of the words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally(Vec<(Cow<'static, str>, u64)>);

impl Tally {
    /// Counts one more.
    pub fn count(&mut self, word: impl Into<Cow<'static, str>>) {
        let word = word.into();
        match self.0.binary_search_by(|(known, _)| known.cmp(&word)) {
            Ok(at) => {
                if let Some((_, count)) = self.0.get_mut(at) {
                    *count = count.saturating_add(1);
                }
            }
            Err(at) => {
                self.0.reserve_exact(1);
                self.0.insert(at, (word, 1));
            }
        }
    }

    /// All words with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(word, count)| (word.as_ref(), *count))
    }

    /// How often everything occurred since it was counted so often. Words that are known stay, be it with nothing.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let since =
            |(word, count): &(Cow<'static, str>, u64)| (word.clone(), count.saturating_sub(before[word.as_ref()]));
        Self(self.0.iter().map(since).collect())
    }

    /// Whether nothing has been counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The count of a word; 0 when it never occurred.
impl Index<&str> for Tally {
    type Output = u64;

    fn index(&self, word: &str) -> &u64 {
        self.0.iter().find(|(known, _)| known == word).map_or(&0, |(_, count)| count)
    }
}

impl From<BTreeMap<String, u64>> for Tally {
    fn from(counts: BTreeMap<String, u64>) -> Self {
        Self(counts.into_iter().map(|(word, count)| (Cow::Owned(word), count)).collect())
    }
}

/// As a map.
impl Serialize for Tally {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Tally {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BTreeMap::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_is_told_from_what_was_counted_before() {
        let tally = |counts: &[(&str, u64)]| {
            Tally::from(counts.iter().map(|(word, count)| ((*word).to_owned(), *count)).collect::<BTreeMap<_, _>>())
        };
        let (now, before) = (tally(&[("a", 3), ("b", 2), ("c", 1)]), tally(&[("a", 1), ("b", 2)]));
        assert_eq!(now.since(&before), tally(&[("a", 2), ("b", 0), ("c", 1)]));
    }

    #[test]
    fn it_counts_by_word_and_is_written_and_read_as_a_map() {
        let mut tally = Tally::default();
        assert!(tally.is_empty());
        for word in ["ok", "failed", "ok", "zzz", "a"] {
            tally.count(word);
        }
        assert_eq!((tally["ok"], tally["failed"], tally["never"]), (2, 1, 0));
        let text = serde_json::to_string(&tally).expect("JSON");
        assert_eq!(text, r#"{"a":1,"failed":1,"ok":2,"zzz":1}"#);
        assert_eq!(serde_json::from_str::<Tally>(&text).expect("read"), tally);
    }
}
