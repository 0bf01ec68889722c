//! Making a guest's text safe to show.
//!
//! What: secrets are replaced, what would break a line or play tricks on a terminal is escaped, and the rest is cut.
//! Why in this order: cutting first could leave half a secret that is no longer recognised.
//! Not guaranteed: that the text is true or polite.

use crate::egress::Redactor;
use crate::log::is_tricky;
use std::borrow::Cow;

/// Longer texts are cut to this before anything else, which bounds the work. Longer than any text is shown and than
/// any form of a secret, so that a secret which this cut divides is never in the part that is shown.
const WORK: usize = 128 * 1024;

/// The text without secrets and control characters, at most `most` bytes and a mark that something was cut.
pub(crate) fn clean(redactor: &Redactor, text: &str, most: usize) -> String {
    let most = most.min(WORK / 2);
    let worked = cut(text, WORK);
    let redacted: Cow<'_, str> = redactor.redact(worked);
    let mut shown = String::with_capacity(redacted.len().min(most));
    for character in redacted.chars() {
        let before = shown.len();
        if is_tricky(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
        if shown.len() > most {
            shown.truncate(before);
            shown.push('…');
            return shown;
        }
    }
    if worked.len() < text.len() {
        shown.push('…');
    }
    shown
}

/// The beginning of a text, at most `most` bytes, ending at a character.
fn cut(text: &str, most: usize) -> &str {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::Secrets;

    fn redactor() -> Redactor {
        let mut secrets = Secrets::new();
        secrets.insert("k", "hunter2hunter2".into()).unwrap();
        Redactor::new(&secrets)
    }

    #[test]
    fn line_ends_and_terminal_tricks_are_escaped() {
        assert_eq!(clean(&redactor(), "a\nb\r\t\u{1b}[31m\u{61c}\0ü", 100), "a\\nb\\r\\t\\u{1b}[31m\\u{61c}\\u{0}ü");
    }

    #[test]
    fn secrets_are_replaced_before_anything_is_cut() {
        assert_eq!(clean(&redactor(), "key hunter2hunter2", 100), "key [redacted]");
        assert_eq!(clean(&redactor(), "key hunter2hunter2", 8), "key [red…");
        let long = format!("{}hunter2hunter2", "x".repeat(WORK - 7));
        assert!(!clean(&redactor(), &long, usize::MAX).contains("hunter2"));
    }

    #[test]
    fn long_texts_are_cut_at_a_character_and_marked() {
        assert_eq!(clean(&redactor(), "aüüü", 4), "aü…");
        assert_eq!(clean(&redactor(), "aü", 3), "aü");
        assert_eq!(clean(&redactor(), &"ü".repeat(WORK), 10), "üüüüü…");
    }
}
