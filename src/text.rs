//! Texts from outside: shown safely, cut at character borders, made one line.
//!
//! Why: titles, log lines and error texts are written by attackers and
//! vendors. What goes into a message of ours must neither forge a line nor
//! grow without bound.

use std::borrow::Cow;

/// `text` for a message: control characters escaped, at most `most` characters
/// with an ellipsis when it was longer.
#[must_use]
pub fn shown(text: &str, most: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(most.saturating_mul(2)));
    for (position, character) in text.chars().enumerate() {
        if position == most {
            shown.push('…');
            break;
        }
        if is_control(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Whether there is nothing in `text` that would have to be escaped.
#[must_use]
pub fn is_plain(text: &str) -> bool {
    !text.chars().any(is_control)
}

/// Control characters, and the characters that end a line or turn the
/// direction of text in terminals and browsers.
fn is_control(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The longest start of `text` of at most `most` bytes that ends between two
/// characters.
#[must_use]
pub fn cut(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    text.get(..end).unwrap_or_default()
}

/// Valid JSON without the white space between its tokens, so on one line.
/// Everything else, numbers and unknown members too, stays to the byte. JSON
/// that is compact already, as most is, is not copied.
#[must_use]
pub fn compact_json(json: &str) -> Cow<'_, str> {
    let bytes = json.as_bytes();
    let mut compact = String::new();
    // What is not copied yet begins here. Whole runs are copied.
    let mut run = 0;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = end_of_string(bytes, at),
            b' ' | b'\n' | b'\r' | b'\t' => {
                compact.push_str(json.get(run..at).unwrap_or_default());
                at += 1;
                run = at;
            }
            _ => at += 1,
        }
    }
    if run == 0 {
        return Cow::Borrowed(json);
    }
    compact.push_str(json.get(run..).unwrap_or_default());
    Cow::Owned(compact)
}

/// Behind the string that begins at a quotation mark.
fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    loop {
        match bytes.get(at) {
            Some(b'"') => return at + 1,
            Some(b'\\') => at += 2,
            Some(_) => at += 1,
            // Of what is no JSON, no more is there than there is.
            None => return bytes.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_cannot_forge_a_line() {
        assert_eq!(shown("a\n[INFO] b\u{1b}[31m\u{202e}x", 64), "a\\n[INFO] b\\u{1b}[31m\\u{202e}x");
        assert_eq!(shown("äöü", 2), "äö…");
        assert_eq!(shown("äö", 2), "äö");
    }

    #[test]
    fn a_cut_never_splits_a_character() {
        assert_eq!(cut("aä", 2), "a");
        assert_eq!(cut("aä", 3), "aä");
        assert_eq!(cut("aä", 99), "aä");
    }

    #[test]
    fn compact_json_keeps_strings_and_numbers_to_the_byte() {
        let json = " { \"a b\" : [ 1.0 , 12345678901234567890 ,\n\t\"x \\\" \\\\\" ] , \"ü\":null } ";
        assert_eq!(compact_json(json), r#"{"a b":[1.0,12345678901234567890,"x \" \\"],"ü":null}"#);
    }
}
