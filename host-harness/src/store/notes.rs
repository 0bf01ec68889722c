//! What to tell somebody who has found nothing.
//!
//! Why: a word before a colon that is no field is looked for as text, as a part of an address or of an id is. Whoever
//! takes it for a field, because artifacts have a key of that name, sees an empty page and believes it. So does whoever
//! joins words with `or`, which is a word like any other, or looks for `severity:*`, which holds none.
//! Not guaranteed: that a field, or an operator, was meant.

use super::query::{self, Query};
use super::typed::{FIELDS, Term, Token, tokens};

/// Keys of artifacts that people take for fields, and the field that has their values.
const KEYS: [(&str, &str); 12] = [
    ("clientIP", "src_ip"),
    ("serverIP", "dst_ip"),
    ("clientHostname", "hostname"),
    ("serverHostname", "hostname"),
    ("senderHost", "hostname"),
    ("fqdn", "hostname"),
    ("userName", "user"),
    ("emailFrom", "user"),
    ("emailTo", "user"),
    ("severityLabel", "severity"),
    ("severityCode", "severity"),
    ("streamName", "stream"),
];

/// Longest name that may have been meant for a field.
const LONGEST_NAME: usize = 64;

/// Most names that are told of.
const MOST: usize = 8;

/// Operators, as they are written.
const OPERATORS: [&str; 3] = ["AND", "OR", "NOT"];

/// All that is to be told: that there is no word in it, operators that are none, and a sentence for each name that was used
/// like a field and is none.
pub(super) fn unknown_fields(query: &str) -> Vec<String> {
    let mut notes: Vec<String> = without_words(query).into_iter().collect();
    let tokens = tokens(query);
    notes.extend(small_operators(&tokens));
    notes.extend(fields(&tokens));
    notes
}

/// That nothing can be found by a query.
fn without_words(query: &str) -> Option<String> {
    matches!(query::parse(query), Ok(Query::Nothing)).then(|| {
        "the query holds no word that can be looked for: a word has a letter or a digit, and a * stands for the end of one"
            .to_owned()
    })
}

/// That words between others are no operators, though they would be in capitals.
fn small_operators(all: &[Token]) -> Option<String> {
    let mut written: Vec<&str> = Vec::new();
    for window in all.windows(3) {
        let [before, Token::Term(term), after] = window else { continue };
        let is_between = matches!(before, Token::Term(_) | Token::Close)
            && matches!(after, Token::Term(_) | Token::Open(_) | Token::Not);
        let is_operator = OPERATORS.iter().any(|operator| operator.eq_ignore_ascii_case(&term.words));
        let is_plain = term.field.is_none() && !term.quoted;
        if is_between && is_operator && is_plain && !written.contains(&term.words.as_str()) {
            written.push(&term.words);
        }
    }
    let capitals: Vec<String> = written.iter().map(|word| word.to_ascii_uppercase()).collect();
    let are = if written.len() == 1 { "is looked for as a word" } else { "are looked for as words" };
    (!written.is_empty())
        .then(|| format!("{} {are}; operators are written in capitals: {}", written.join(", "), capitals.join(", ")))
}

/// A sentence for each name that was used like a field and is none.
fn fields(tokens: &[Token]) -> Vec<String> {
    let mut names: Vec<&str> = Vec::new();
    for token in tokens {
        let (Token::Term(term) | Token::Open(term)) = token else { continue };
        let Some(name) = meant_as_field(term) else { continue };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let fields = FIELDS.map(|field| format!("{field}:")).join(" ");
    let note = |name: &&str| {
        let meant = meant(name).map(|field| format!("; use {field}:")).unwrap_or_default();
        format!("{name}: is no field of the search and is looked for as text{meant} (the fields are {fields})")
    };
    names.iter().take(MOST).map(note).collect()
}

/// The field that has the values of a key, if it is known.
fn meant(name: &str) -> Option<&'static str> {
    KEYS.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, field)| *field)
}

/// The name before the colon, unless it looks like a part of something else: an address, an id, a path.
fn meant_as_field(term: &Term) -> Option<&str> {
    let name = term.unknown.as_deref()?;
    let is_name = name.len() <= LONGEST_NAME
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let rest = term.words.split_once(':').map_or("", |(_, rest)| rest);
    let is_else = rest.starts_with(['/', '\\']) || rest.contains(':');
    (is_name && (meant(name).is_some() || !is_else)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::super::text::Searchable;
    use super::*;

    #[test]
    fn what_is_no_field_is_told_with_the_field_that_is_meant() {
        let fields = "(the fields are src_ip: dst_ip: hostname: user: severity: stream:)";
        assert_eq!(
            unknown_fields("userName:x foo:bar clientip:10.0.0.1 -fqdn:\"a b\" userName:y severity:high foo: (a)"),
            [
                format!("userName: is no field of the search and is looked for as text; use user: {fields}"),
                format!("foo: is no field of the search and is looked for as text {fields}"),
                format!("clientip: is no field of the search and is looked for as text; use src_ip: {fields}"),
                format!("fqdn: is no field of the search and is looked for as text; use hostname: {fields}"),
            ]
        );
    }

    #[test]
    fn that_there_is_no_word_in_a_query_is_told() {
        for query in ["severity:*", "user:*", "*", "\"", "OR", "NOT", "severity:", "-- *", "() AND"] {
            let notes = unknown_fields(query);
            assert!(
                notes.len() == 1 && notes[0].starts_with("the query holds no word that can be looked for: "),
                "{notes:?}"
            );
        }
        for query in ["", " ", "a", "severity:h*", "severity:* a", "NOT 1", "日本"] {
            assert_eq!(unknown_fields(query), [] as [&str; 0], "{query}");
        }
    }

    #[test]
    fn operators_in_small_letters_are_told_where_they_stand_between_words() {
        assert_eq!(
            unknown_fields("failed or denied"),
            ["or is looked for as a word; operators are written in capitals: OR"]
        );
        assert_eq!(
            unknown_fields("(a And b) not severity:(low or info) or c"),
            ["And, not, or are looked for as words; operators are written in capitals: AND, NOT, OR"]
        );
        for query in ["or", "or a", "a or", "\"a or b\"", "a \"or\" b", "a user:or b", "a OR b", "a order b"] {
            assert_eq!(unknown_fields(query), [] as [&str; 0], "{query}");
        }
    }

    #[test]
    fn what_was_not_meant_as_a_field_is_not_spoken_of() {
        for query in [
            "",
            "user:x src_ip:(10.0.0.1 OR 10.0.0.2)",
            "https://x.example/a",
            "fe80::1",
            "rrn:alert:us:1",
            "C:\\Windows",
            "api.example.com:443",
            "11:59",
            "\"foo:bar\"",
            "a\u{202e}b:c",
        ] {
            assert_eq!(unknown_fields(query), [] as [&str; 0], "{query}");
        }
        assert_eq!(unknown_fields(&"a0:1 b1:1 c2:1 d3:1 ".repeat(9)).len(), 4);
        assert_eq!(unknown_fields("a:1 b:1 c:1 d:1 e:1 f:1 g:1 h:1 i:1 j:1").len(), MOST);
    }

    #[test]
    fn every_key_is_searched_in_the_field_that_is_named_for_it() {
        for (key, field) in KEYS {
            let mut searchable = Searchable::default();
            searchable.read("", &format!(r#"{{"{key}":"needle"}}"#));
            let Searchable { src_ip, dst_ip, hostname, user, severity, stream, .. } = &searchable;
            let columns = [src_ip, dst_ip, hostname, user, severity, stream];
            let found = FIELDS.iter().zip(columns).find(|(_, column)| column.contains("needle"));
            assert_eq!(found.map(|(field, _)| *field), Some(field), "{key}");
        }
    }
}
