//! JSON over several lines.
//!
//! Why by its characters and not from values: a parser that makes a tree refuses numbers that no machine has and depths
//! that no stack bears, which an artifact may have; and what was written as it was stays so.
//! Not guaranteed: anything about what is no JSON, but that all of it is shown.

use std::iter::Peekable;
use std::str::Chars;

use crate::log::harmless;

/// How deep lines are indented; deeper ones begin where these do, or a few kilobytes would become megabytes.
const MOST_INDENTED: usize = 32;

/// The JSON with a line for each member and element. What drives terminals is written as escapes.
pub(super) fn spread(json: &str) -> String {
    let mut out = String::with_capacity(json.len().saturating_mul(2));
    let mut depth = 0_usize;
    let mut all = json.chars().peekable();
    while let Some(c) = all.next() {
        match c {
            '"' => text(&mut all, &mut out),
            '{' | '[' => {
                out.push(c);
                while all.next_if(char::is_ascii_whitespace).is_some() {}
                match all.next_if(|next| matches!(next, '}' | ']')) {
                    Some(end) => out.push(end),
                    None => {
                        depth += 1;
                        new_line(&mut out, depth);
                    }
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                new_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    out.lines().map(harmless).collect::<Vec<_>>().join("\n")
}

/// The rest of a text, whose first quotation mark was read.
fn text(all: &mut Peekable<Chars<'_>>, out: &mut String) {
    out.push('"');
    while let Some(c) = all.next() {
        out.push(c);
        match c {
            '"' => return,
            '\\' => out.extend(all.next()),
            _ => {}
        }
    }
}

/// Begins a line.
fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    out.extend(std::iter::repeat_n("  ", depth.min(MOST_INDENTED)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::is_tricky;
    use serde_json::{Value, json};

    #[test]
    fn each_member_and_element_has_a_line_of_its_own() {
        let artifact = json!({ "a": { "b": [1, { "c": "x, {y}: \\\"[z]\\" }], "e": {}, "f": [] }, "g": null });
        assert_eq!(spread(&artifact.to_string()), format!("{artifact:#}"));
        assert_eq!(spread("{ \"a\" : [ ] , \"b\":[1 ,2]}"), "{\n  \"a\": [],\n  \"b\": [\n    1,\n    2\n  ]\n}");
    }

    #[test]
    fn a_spread_artifact_is_the_same_json_and_drives_no_terminal() {
        let artifact = json!({ "a": "\u{9b}31m \u{202e} \u{e0041}", "b": [1] });
        let shown = spread(&artifact.to_string());
        assert!(shown.lines().count() > 3 && !shown.chars().any(|c| c != '\n' && is_tricky(c)), "{shown}");
        assert_eq!(serde_json::from_str::<Value>(&shown).expect("JSON"), artifact);
    }

    #[test]
    fn what_no_parser_makes_a_tree_of_is_spread_as_well_and_not_blown_up() {
        assert_eq!(spread(r#"{"n":1e999,"m":1.0}"#), "{\n  \"n\": 1e999,\n  \"m\": 1.0\n}");
        let deep = format!("{}1{}", "[".repeat(3_000), "]".repeat(3_000));
        let shown = spread(&deep);
        assert_eq!(shown.lines().count(), 6_001);
        assert!(shown.len() < 6_001 * (2 * MOST_INDENTED + 3), "{}", shown.len());
        for broken in ["{", "}", "]]", "\"a", "\"\\", "{\"a\":", ""] {
            spread(broken);
        }
    }
}
