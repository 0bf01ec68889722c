//! From what a user types to what FTS5 understands.
//!
//! Why: FTS5 has a query language of its own in which much of what people
//! paste is a syntax error. So the user's text is taken apart here and every
//! term is handed on as a quoted string, which FTS5 takes as plain words.

use super::logic::Set;
use super::typed::{Term, Token, tokens};
use super::{StoreError, words};

/// Fields that hold one value, which a term is matched with from its start.
const ANCHORED: [&str; 2] = ["src_ip", "dst_ip"];

/// Terms that one query may have. FTS5 allows some 200 before its parser
/// gives up.
const MOST_TERMS: usize = 64;

/// Terms with a star that one query may have. FTS5 takes together all that such a one finds before it looks at the others: in
/// a million artifacts, some 7 MB of memory for each.
const MOST_BEGINNINGS: usize = 8;

/// What they are called where there are too many.
pub(super) const WITH_A_STAR: &str = "terms with a *";

/// What is to be looked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Query {
    /// Nothing was typed.
    Everything,
    /// What was typed holds no letter and no digit.
    Nothing,
    /// What an FTS5 expression finds.
    Match(String),
    /// All but what an FTS5 expression finds.
    Except(String),
}

/// Takes the user's text apart. The only failure is too many terms.
pub(super) fn parse(text: &str) -> Result<Query, StoreError> {
    if text.trim().is_empty() {
        return Ok(Query::Everything);
    }
    let mut parser = Parser { tokens: tokens(text).into_iter(), terms: 0, beginnings: 0 };
    let set = parser.any(None);
    if parser.terms > MOST_TERMS {
        return Err(StoreError::Query { terms: parser.terms, kind: "terms", most: MOST_TERMS });
    }
    if parser.beginnings > MOST_BEGINNINGS {
        return Err(StoreError::Query { terms: parser.beginnings, kind: WITH_A_STAR, most: MOST_BEGINNINGS });
    }
    Ok(match set {
        None => Query::Nothing,
        Some(set) if set.is_rest => Query::Except(set.expression),
        Some(set) => Query::Match(set.expression),
    })
}

/// What whoever typed this should know of how it is taken.
pub(super) fn remark(text: &str) -> Option<String> {
    let hyphen = |token: &Token| match token {
        Token::Term(term) if term.field.is_none() && !term.quoted => {
            let word = term.words.strip_prefix('-').filter(|word| word.starts_with(char::is_alphanumeric))?;
            Some(format!("-{word} is looked for as text; to leave out what has the word, write NOT {word}"))
        }
        _ => None,
    };
    tokens(text).iter().find_map(hyphen)
}

/// Reads tokens: NOT counts for what follows it, AND binds closer than OR.
struct Parser {
    tokens: std::vec::IntoIter<Token>,
    terms: usize,
    /// Those with a star.
    beginnings: usize,
}

impl Parser {
    /// Alternatives up to the end of the bracket, in this field unless they say another.
    fn any(&mut self, field: Option<&'static str>) -> Option<Set> {
        let mut alternatives = Vec::new();
        let mut all = Vec::new();
        let mut not = false;
        while let Some(token) = self.tokens.next() {
            let set = match token {
                Token::Close => break,
                Token::And => continue,
                Token::Not => {
                    not = !not;
                    continue;
                }
                Token::Or => {
                    alternatives.extend(Set::all(std::mem::take(&mut all)));
                    None
                }
                Token::Open(before) => self.any(before.field.or(field)).map(|set| set.not(before.negated)),
                Token::Term(term) => {
                    let set = term.expression(field).map(Set::of);
                    self.terms += usize::from(set.is_some());
                    self.beginnings += usize::from(set.is_some() && term.is_beginning());
                    set.map(|set| set.not(term.negated))
                }
            };
            all.extend(set.map(|set| set.not(std::mem::take(&mut not))));
            not = false;
        }
        alternatives.extend(Set::all(all));
        Set::any(alternatives)
    }
}

impl Term {
    /// Whether a star ends it.
    fn has_star(&self) -> bool {
        !self.quoted && self.words.ends_with('*')
    }

    /// Whether it stands for all words that begin with it: behind a separator a star stands for none.
    fn is_beginning(&self) -> bool {
        self.has_star() && self.words.trim_end_matches('*').ends_with(char::is_alphanumeric)
    }

    /// The term as FTS5 is to read it; none when there is no word in it.
    fn expression(&self, outer: Option<&'static str>) -> Option<String> {
        if !self.words.chars().any(char::is_alphanumeric) {
            return None;
        }
        let plain: String = self.words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let stem = plain.trim_end_matches('*');
        let has_star = self.has_star();
        // Behind a separator it stands for words that follow, and whatever follows matches anyway: that of `10.0.1.*` must
        // not make `10.0.12.7` of the 1.
        let prefix = has_star && stem.ends_with(char::is_alphanumeric);
        let begun = if has_star { words::beginning(stem) } else { None };
        let is_begun = begun.is_some();
        let word = begun.unwrap_or_else(|| words::indexed(&plain));
        let word_prefix = prefix || is_begun || words::ends_with_time(&word);
        let (written, indexed) = (phrase(&plain, prefix), phrase(&word, word_prefix));
        Some(match self.field.or(outer) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn expression(text: &str) -> String {
        match parse(text) {
            Ok(Query::Match(expression)) => expression,
            Ok(Query::Except(expression)) => format!("all but {expression}"),
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
            expression("NEAR(a b) ^c -d {x}:y rowid:1 + foo(bar)"),
            r#""NEAR(a" AND "b)" AND "^c" AND "-d" AND "{x}:y" AND "rowid:1" AND "foo(bar)""#
        );
        assert_eq!(expression(r#""OR" "NOT" or not user:OR"#), r#""OR" AND "NOT" AND "or" AND "not" AND user : "OR""#);
        assert_eq!(expression("a\0b"), r#""a b""#);
    }

    #[test]
    fn or_and_not_are_understood_in_capitals_and_and_binds_closer() {
        for (text, expected) in [
            ("a OR b", r#""a" OR "b""#),
            ("a b OR c", r#"("a" AND "b") OR "c""#),
            ("a NOT b", r#""a" NOT "b""#),
            ("a AND NOT b c", r#"("a" AND "c") NOT "b""#),
            ("NOT a", r#"all but "a""#),
            ("NOT NOT a", r#""a""#),
            ("NOT a OR b", r#"all but "a" NOT "b""#),
            ("a -user:b", r#""a" NOT user : "b""#),
            ("a NOT -user:b", r#""a" AND user : "b""#),
            ("a OR", r#""a""#),
            ("OR a NOT", r#""a""#),
            ("a NOT OR b", r#""a" OR "b""#),
            ("a NOT -- b", r#""a" AND "b""#),
        ] {
            assert_eq!(expression(text), expected, "{text}");
        }
    }

    #[test]
    fn brackets_hold_together_also_behind_a_field() {
        for (text, expected) in [
            ("(a OR b) c", r#"("a" OR "b") AND "c""#),
            ("c NOT (a OR b)", r#""c" NOT ("a" OR "b")"#),
            ("severity:(high OR critical) x", r#"(severity : "high" OR severity : "critical") AND "x""#),
            ("severity: (high OR user:x)", r#"severity : "high" OR user : "x""#),
            ("-severity:(low OR info) x", r#""x" NOT (severity : "low" OR severity : "info")"#),
            ("(a OR (b c", r#""a" OR ("b" AND "c")"#),
            ("(a) b)", r#""a" AND "b)""#),
            ("(f(x) OR (b))", r#""f(x)" OR "b""#),
            ("() a ( )", r#""a""#),
        ] {
            assert_eq!(expression(text), expected, "{text}");
        }
    }

    #[test]
    fn what_a_field_is_followed_by_after_a_space_is_looked_for_in_it() {
        assert_eq!(expression("severity: high x"), r#"severity : "high" AND "x""#);
        assert_eq!(expression(r#"user: "Jane Doe""#), r#"user : "Jane Doe""#);
        assert_eq!(expression("user: severity: high"), r#"severity : "high""#);
        assert_eq!(expression("user: OR x"), r#""x""#);
        assert_eq!(expression(r#"user:"" x"#), r#""x""#);
    }

    #[test]
    fn a_day_and_the_time_behind_it_are_one_time() {
        let time = expression("2026-01-13T07:37:42");
        assert_eq!(expression("2026-01-13 07:37:42"), time);
        assert_eq!(expression("2026-01-13 07:37:42,"), time);
        assert_eq!(
            expression("x 2026-01-13 07:37 y"),
            r#""x" AND ("20260113 20260113t0737" * OR "2026-01-13T07:37") AND "y""#
        );
        assert_eq!(expression("2026-01-13 07:3*"), expression("2026-01-13T07:3*"));
        assert_eq!(expression("2026-01-13 07:37:42.123Z"), expression("2026-01-13T07:37:42.123Z"));
        for apart in
            ["2026-01-13 07", "2026-01-13 OR 07:37", "2026-01-13 07:37x", "2026-01 07:37", "2026-01-13 \"07:37\""]
        {
            assert!(!expression(apart).contains("20260113t"), "{apart}");
        }
    }

    #[test]
    fn the_beginning_of_a_uuid_or_a_time_is_known_behind_other_words() {
        assert_eq!(
            expression("rrn:alerts:us1:580d0399-c3*"),
            r#"("rrn:alerts:us1:580d0399c3" * OR "rrn:alerts:us1:580d0399-c3*" *)"#
        );
        assert_eq!(expression("at:2026-01-15T11:5*"), r#"("at:20260115t115" * OR "at:2026-01-15T11:5*" *)"#);
    }

    #[test]
    fn a_hyphen_before_a_word_is_text_and_that_is_said() {
        assert_eq!(expression("powershell -enc"), r#""powershell" AND "-enc""#);
        let said = remark("powershell -enc").expect("a remark");
        assert_eq!(said, "-enc is looked for as text; to leave out what has the word, write NOT enc");
        for other in ["", "a-b", "--", "- x", "\"-x\"", "-user:x", "NOT x"] {
            assert_eq!(remark(other), None, "{other}");
        }
    }

    #[test]
    fn nothing_to_look_for_is_told_from_everything() {
        assert_eq!(parse(" \t").ok(), Some(Query::Everything));
        assert_eq!(parse("-- \"\" user: * AND").ok(), Some(Query::Nothing));
    }

    #[test]
    fn only_so_many_terms_may_stand_for_all_that_begins_with_them() {
        let of = |count: usize| parse(&vec!["ab*"; count].join(" OR "));
        assert!(of(MOST_BEGINNINGS).is_ok());
        let error = of(MOST_BEGINNINGS + 1).expect_err("one more");
        insta::assert_snapshot!(error, @"the query has 9 terms with a *; at most 8 can be searched for at once");
        assert_eq!(error.help(), "search for fewer with a *, or ask more than once");
        assert!(parse(&vec!["\"ab*\""; 20].join(" ")).is_ok(), "in quotes it is a star");
        assert!(parse(&vec!["10.0.1.*"; 20].join(" OR ")).is_ok(), "behind a dot it begins no word");
    }

    #[test]
    fn too_many_terms_are_refused_with_their_number() {
        let error = parse(&"x ".repeat(65)).err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("the query has 65 terms; at most 64 can be searched for at once"));
    }
}
