//! From what a user types to what FTS5 understands.
//!
//! Why: FTS5 has a query language of its own in which much of what people
//! paste is a syntax error. So the user's text is taken apart here and every
//! term is handed on as a quoted string, which FTS5 takes as plain words.

use std::borrow::Cow;

use super::{StoreError, words};

/// Fields of the search page; they are also the columns of the index.
const FIELDS: [&str; 6] = ["src_ip", "dst_ip", "hostname", "user", "severity", "stream"];

/// Fields that hold one value, which a term is matched with from its start.
const ANCHORED: [&str; 2] = ["src_ip", "dst_ip"];

/// Terms that one query may have. FTS5 allows some 200 before its parser
/// gives up.
const MOST_TERMS: usize = 64;

/// What is to be looked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Query {
    /// Nothing was typed.
    Everything,
    /// What was typed holds no letter and no digit.
    Nothing,
    /// An FTS5 expression.
    Match(String),
}

/// Takes the user's text apart. The only failure is too many terms.
pub(super) fn parse(text: &str) -> Result<Query, StoreError> {
    if text.trim().is_empty() {
        return Ok(Query::Everything);
    }
    let terms: Vec<String> = split(text).iter().filter_map(Term::expression).collect();
    if terms.is_empty() {
        return Ok(Query::Nothing);
    }
    if terms.len() > MOST_TERMS {
        return Err(StoreError::Query { terms: terms.len(), most: MOST_TERMS });
    }
    Ok(Query::Match(terms.join(" AND ")))
}

/// One thing that must match.
#[derive(Debug, Default)]
struct Term {
    field: Option<&'static str>,
    words: String,
    /// Whether any part was quoted: then it is taken as it is.
    quoted: bool,
}

impl Term {
    /// The term as FTS5 is to read it; none when there is no word in it.
    fn expression(&self) -> Option<String> {
        if !self.quoted && self.field.is_none() && self.words == "AND" {
            return None;
        }
        if !self.words.chars().any(char::is_alphanumeric) {
            return None;
        }
        let plain: String = self.words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let stem = plain.trim_end_matches('*');
        let has_star = !self.quoted && stem.len() < plain.len();
        // Behind a separator it stands for words that follow, and whatever follows matches anyway: that of `10.0.1.*` must
        // not make `10.0.12.7` of the 1.
        let prefix = has_star && stem.ends_with(char::is_alphanumeric);
        let begun = if has_star { words::beginning(stem) } else { None };
        let is_begun = begun.is_some();
        let word = begun.map_or_else(|| words::indexed(&plain), Cow::Owned);
        let word_prefix = prefix || is_begun || words::ends_with_time(&word);
        let (written, indexed) = (phrase(&plain, prefix), phrase(&word, word_prefix));
        Some(match self.field {
            Some(field) if ANCHORED.contains(&field) => format!("{field} : ^ {written}"),
            field => {
                // Stores of older versions have words as they are written, too.
                let either = if word == plain { written } else { format!("({indexed} OR {written})") };
                field.map_or_else(|| either.clone(), |field| format!("{field} : {either}"))
            }
        })
    }
}

/// A phrase of FTS5, with a star for what only begins with it.
fn phrase(words: &str, prefix: bool) -> String {
    format!("\"{}\"{}", words.replace('"', "\"\""), if prefix { " *" } else { "" })
}

/// Splits at spaces outside quotes. A quote that is never closed reaches to
/// the end.
fn split(text: &str) -> Vec<Term> {
    let mut terms = Vec::new();
    let mut term = Term::default();
    let mut in_quotes = false;
    for c in text.chars() {
        match c {
            '"' => {
                in_quotes = !in_quotes;
                term.quoted = true;
            }
            c if c.is_whitespace() && !in_quotes => terms.push(std::mem::take(&mut term)),
            ':' if !in_quotes && !term.quoted && term.field.is_none() => {
                let field = FIELDS.into_iter().find(|field| field.eq_ignore_ascii_case(&term.words));
                match field {
                    Some(field) => term = Term { field: Some(field), ..Term::default() },
                    None => term.words.push(c),
                }
            }
            c => term.words.push(c),
        }
    }
    terms.push(term);
    terms
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expression(text: &str) -> String {
        match parse(text) {
            Ok(Query::Match(expression)) => expression,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn words_must_all_match() {
        assert_eq!(expression("odd  login"), r#""odd" AND "login""#);
        assert_eq!(expression("odd AND login"), r#""odd" AND "login""#);
    }

    #[test]
    fn fields_of_the_search_page_are_known_in_any_case() {
        assert_eq!(expression("User:jane severity:high"), r#"user : "jane" AND severity : "high""#);
        assert_eq!(expression("src_ip:10.0.0.1"), r#"src_ip : ^ "10.0.0.1""#);
    }

    #[test]
    fn quotes_keep_a_phrase_together_also_behind_a_field() {
        assert_eq!(expression(r#"user:"Jane Doe" "odd login""#), r#"user : "Jane Doe" AND "odd login""#);
        assert_eq!(expression(r#""never closed"#), r#""never closed""#);
    }

    #[test]
    fn a_star_at_the_end_stands_for_any_ending_unless_quoted() {
        assert_eq!(expression("adm*"), r#""adm*" *"#);
        assert_eq!(expression(r#""adm*""#), r#""adm*""#);
    }

    #[test]
    fn uuids_and_times_are_searched_for_as_they_are_indexed() {
        assert_eq!(expression("2026-01-15"), r#"("20260115" OR "2026-01-15")"#);
        assert_eq!(expression("2026-01-15T11:59"), r#"("20260115 20260115t1159" * OR "2026-01-15T11:59")"#);
        let uuid = "4be49362-6b0f-4a5b-9bd9-5ae4aef0ea9e";
        assert_eq!(expression(uuid), format!(r#"("4be493626b0f4a5b9bd95ae4aef0ea9e" OR "{uuid}")"#));
        assert_eq!(expression("user:4be49362-6b*"), r#"user : ("4be493626b" * OR "4be49362-6b*" *)"#);
        assert_eq!(expression("4be49362-*"), r#"("4be49362" * OR "4be49362-*")"#);
        assert_eq!(expression("2026-01*"), r#"("202601" * OR "2026-01*" *)"#);
        assert_eq!(expression("2026-*"), r#"("2026" * OR "2026-*")"#);
    }

    #[test]
    fn a_star_behind_a_separator_begins_no_word() {
        assert_eq!(expression("src_ip:10.*"), r#"src_ip : ^ "10.*""#);
        assert_eq!(expression("10.0.1*"), r#""10.0.1*" *"#);
        assert_eq!(expression("10.0.1.**"), r#""10.0.1.**""#);
    }

    #[test]
    fn what_is_no_field_is_text() {
        assert_eq!(expression("https://x.example/a?b=c"), r#""https://x.example/a?b=c""#);
        assert_eq!(expression("fe80::1"), r#""fe80::1""#);
        assert_eq!(expression("rrn:alert:us:1"), r#""rrn:alert:us:1""#);
    }

    #[test]
    fn operators_of_the_index_are_text() {
        assert_eq!(
            expression("NEAR(a b) OR NOT ^c -d {x}:y"),
            r#""NEAR(a" AND "b)" AND "OR" AND "NOT" AND "^c" AND "-d" AND "{x}:y""#
        );
        assert_eq!(expression("a\0b"), r#""a b""#);
    }

    #[test]
    fn nothing_to_look_for_is_told_from_everything() {
        assert_eq!(parse(" \t").ok(), Some(Query::Everything));
        assert_eq!(parse("-- \"\" user: * AND").ok(), Some(Query::Nothing));
    }

    #[test]
    fn too_many_terms_are_refused_with_their_number() {
        let error = parse(&"x ".repeat(65)).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("the query has 65 terms; at most 64 can be searched for at once"));
    }
}
