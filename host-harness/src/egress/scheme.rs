//! What of a secret is one by itself.
//!
//! Why: a secret is the whole value of a header, so it may begin with the name of a scheme, `Bearer abc`. A vendor that
//! repeats what it was given repeats the token, without that name.
//! Guaranteed: the token behind a scheme, the value of a single `name=value` there, and user and password of `Basic`.
//! Not guaranteed: any other part of a secret, or one of fewer than [`SHORTEST`] bytes, which ordinary text would hold by
//! chance.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Fewest bytes of a part.
const SHORTEST: usize = 8;

/// The secret, and its parts that are secrets by themselves.
pub(super) fn secret_parts(secret: &str) -> Vec<String> {
    let mut parts = vec![secret.to_owned()];
    let Some((scheme, token)) = secret.split_once(' ') else { return parts };
    let token = token.trim_ascii();
    parts.push(token.to_owned());
    if let Some((_, value)) = token.split_once('=').filter(|(name, _)| !name.is_empty()) {
        parts.push(value.trim_matches('"').to_owned());
    }
    if scheme.eq_ignore_ascii_case("basic")
        && let Some(pair) = STANDARD.decode(token).ok().and_then(|pair| String::from_utf8(pair).ok())
    {
        parts.extend(pair.split_once(':').map(|(_, password)| password.to_owned()));
        parts.push(pair);
    }
    // Of the parts, not of the secret: that one is looked for however short it is. What is no ASCII could not be replaced
    // by as many bytes of it.
    let is_looked_for = |(at, part): &(usize, String)| *at == 0 || part.len() >= SHORTEST && part.is_ascii();
    parts.into_iter().enumerate().filter(is_looked_for).map(|(_, part)| part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_told_from_its_scheme() {
        for (secret, parts) in [
            ("0d9e7a7a-53b6", vec![]),
            ("Bearer abcdefgh", vec!["abcdefgh"]),
            ("Bearer  abcdefgh", vec!["abcdefgh"]),
            ("Bearer abc", vec![]),
            ("SSWS 00abc-def_123", vec!["00abc-def_123"]),
            ("Token token=abcdefghij", vec!["token=abcdefghij", "abcdefghij"]),
            ("Token token=\"abcdefghij\"", vec!["token=\"abcdefghij\"", "abcdefghij"]),
            ("Bearer YWJjZGVmZ2g=", vec!["YWJjZGVmZ2g="]),
            (
                "Basic dXNlcjpodW50ZXIyaHVudGVyMg==",
                vec!["dXNlcjpodW50ZXIyaHVudGVyMg==", "hunter2hunter2", "user:hunter2hunter2"],
            ),
            ("basic !!!!!!!!!!!!", vec!["!!!!!!!!!!!!"]),
        ] {
            let found = secret_parts(secret);
            assert_eq!(found.first().map(String::as_str), Some(secret));
            assert_eq!(found.get(1..).unwrap(), parts, "{secret}");
        }
    }
}
