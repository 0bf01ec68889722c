//! Texts from outside: shown safely, cut at character borders, made one line.
//!
//! Why: titles, log lines and error texts are written by attackers and
//! vendors. What goes into a message of ours must neither forge a line nor
//! grow without bound.

use std::borrow::Cow;

use crate::api::json::{HIGHS, ONES, among, end_of_string};

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
    // Most texts are of letters that every terminal has shown for sixty years.
    text.bytes().all(|byte| matches!(byte, b' '..=b'~')) || !text.chars().any(is_control)
}

/// Control characters, and the characters that end a line or turn the
/// direction of text in terminals and browsers. Those that are merely not seen
/// belong to names and titles (Persian, emoji); hosts escape them where they
/// show a text.
fn is_control(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
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

/// Bytes that are written together.
const ROOM: usize = 512;

/// JSON under construction. Eight bytes at a time, and through a buffer of fixed size: every extension of a vector is a
/// call and a copy of unknown length, and a record within a record is full of quotation marks.
pub struct JsonWriter {
    json: Vec<u8>,
    bytes: [u8; ROOM],
    used: usize,
}

impl JsonWriter {
    /// An empty one, with room for so many bytes.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self { json: Vec::with_capacity(bytes), bytes: [0; ROOM], used: 0 }
    }

    /// Writes what is JSON already.
    pub fn raw(&mut self, json: &str) {
        let (eights, rest) = json.as_bytes().as_chunks::<8>();
        for eight in eights {
            self.push(*eight, 8);
        }
        let mut eight = [0; 8];
        for (place, byte) in eight.iter_mut().zip(rest) {
            *place = *byte;
        }
        self.push(eight, rest.len());
    }

    /// Writes a text, to the byte as serde_json does.
    pub fn text(&mut self, text: &str) {
        self.push([b'"', 0, 0, 0, 0, 0, 0, 0], 1);
        let mut rest = text.as_bytes();
        while let Some(eight) = rest.first_chunk::<8>() {
            let special = below_space(*eight) | among(*eight, b'"') | among(*eight, b'\\');
            let before = special.trailing_zeros() as usize / 8;
            self.push(*eight, before);
            if let Some(byte) = eight.get(before) {
                self.escape(*byte);
            }
            rest = rest.get((before + 1).min(8)..).unwrap_or_default();
        }
        for byte in rest {
            self.escape(*byte);
        }
        self.push([b'"', 0, 0, 0, 0, 0, 0, 0], 1);
    }

    /// What was written.
    #[must_use]
    pub fn finish(mut self) -> String {
        self.flush();
        // Hundreds of them are in memory at the end of a step.
        self.json.shrink_to_fit();
        // Only whole texts were written.
        String::from_utf8(self.json).unwrap_or_default()
    }

    /// Adds the first `count` of eight bytes.
    #[inline(always)]
    fn push(&mut self, eight: [u8; 8], count: usize) {
        if self.used > ROOM - 8 {
            self.flush();
        }
        if let Some(place) = self.bytes.get_mut(self.used..).and_then(<[u8]>::first_chunk_mut) {
            *place = eight;
            self.used += count;
        }
    }

    /// Adds a byte of a text in JSON.
    #[inline]
    fn escape(&mut self, byte: u8) {
        const HEX: [u8; 16] = *b"0123456789abcdef";
        let letter = match byte {
            b'"' | b'\\' => byte,
            8 => b'b',
            b'\t' => b't',
            b'\n' => b'n',
            12 => b'f',
            b'\r' => b'r',
            0..0x20 => {
                let digit = |half: u8| HEX.get(usize::from(half)).copied().unwrap_or_default();
                return self.push([b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15), 0, 0], 6);
            }
            _ => return self.push([byte, 0, 0, 0, 0, 0, 0, 0], 1),
        };
        self.push([b'\\', letter, 0, 0, 0, 0, 0, 0], 2);
    }

    /// Extends the vector by what there is.
    #[inline(never)]
    fn flush(&mut self) {
        self.json.extend_from_slice(self.bytes.get(..self.used).unwrap_or_default());
        self.used = 0;
    }
}

/// A text as JSON.
#[must_use]
pub fn quoted(text: &str) -> String {
    // Quotation marks within a record are a fifth more.
    let mut json = JsonWriter::with_capacity(text.len() / 5 * 6 + 8);
    json.text(text);
    json.finish()
}

/// The highest bit of the first of eight bytes that is a control character, if any is; those of later ones may be set
/// wrongly.
fn below_space(eight: [u8; 8]) -> u64 {
    let eight = u64::from_le_bytes(eight);
    eight.wrapping_sub(ONES * 0x20) & !eight & HIGHS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn texts_are_written_as_serde_json_writes_them(text in prop_oneof!["\\PC{0,40}", "[\\x00-\\x22\\\\aé]{0,400}", any::<String>(), "[a\\PC]{500,600}"]) {
            let mut json = JsonWriter::with_capacity(0);
            json.raw(&text);
            json.text(&text);
            json.raw("after");
            prop_assert_eq!(json.finish(), format!("{text}{}after", serde_json::to_string(&text).unwrap()));
        }

        #[test]
        fn json_is_compact_as_serde_json_makes_it(texts in prop::collection::vec("[\\x00-\\x22\\\\aé \\PC]{0,20}", 0..6)) {
            let pretty = serde_json::to_string_pretty(&texts).unwrap();
            prop_assert_eq!(compact_json(&pretty), serde_json::to_string(&texts).unwrap());
        }
    }

    #[test]
    fn control_characters_cannot_forge_a_line() {
        assert_eq!(shown("a\n[INFO] b\u{1b}[31m\u{202e}x", 64), "a\\n[INFO] b\\u{1b}[31m\\u{202e}x");
        assert_eq!(shown("\u{200f}\u{61c}", 64), "\\u{200f}\\u{61c}");
        let seen = "می\u{200c}خواهم 👩\u{200d}💻";
        assert_eq!(shown(seen, 64), seen, "what joins letters is part of a text");
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
