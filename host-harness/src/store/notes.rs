//! What to tell somebody who has found nothing.
//!
//! Why: a word before a colon that is no field is looked for as text, as a part of an address or of an id is. Whoever
//! takes it for a field, because artifacts have a key of that name, sees an empty page and believes it.
//! Not guaranteed: that a field was meant.

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

/// A sentence for each name that was used like a field and is none.
pub(super) fn unknown_fields(query: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for token in tokens(query) {
        let (Token::Term(term) | Token::Open(term)) = token else { continue };
        let Some(name) = meant_as_field(&term) else { continue };
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    let fields = FIELDS.map(|field| format!("{field}:")).join(" ");
    let note = |name: &String| {
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
