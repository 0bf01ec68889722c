//! Keeping secrets out of text: logs, errors, status, artifacts.
//!
//! What: replaces every occurrence of a secret, as it is or in the encodings it commonly turns up in: percent-encoded
//! (either case of hex, a space perhaps as `+`), escaped for JSON in the ways of common encoders, with HTML's character
//! references as common libraries write them, hexadecimal (either case), base64 (both alphabets, at each of the three
//! alignments it can have inside a longer text).
//! Why exact values and not patterns: a pattern misses what it does not know and eats what merely looks alike.
//! A token behind the name of its scheme is a secret by itself, see [`super::scheme`].
//! Not guaranteed: hashes, ciphertexts, compressed or reversed forms, or other parts of a secret are not recognised.
//! Cost: one pass of a vectorised substring search per form. A secret of letters, digits and `-._~` has seven at most, as
//! forms that are alike count once; one of many marks has some dozens.

use super::Secrets;
use super::scheme::secret_parts;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use memchr::memmem;
use secrecy::ExposeSecret;
use std::borrow::Cow;
use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;

/// What stands in a text where a secret stood.
pub const REDACTED: &str = "[redacted]";

/// Shortest base64 fragment that is searched for. A shorter one carries too few bits not to be met by chance.
const SHORTEST_FRAGMENT: usize = 8;

/// Finds and replaces the secrets of one tenant. Cheap to clone.
#[derive(Clone, Default)]
pub struct Redactor {
    /// Longest first, so that a form which contains another is replaced as a whole.
    needles: Arc<[memmem::Finder<'static>]>,
}

impl Redactor {
    /// A redactor for these secrets.
    #[must_use]
    pub fn new(secrets: &Secrets) -> Self {
        let mut forms: Vec<Vec<u8>> = Vec::new();
        for secret in secrets.values() {
            for part in secret_parts(secret.expose_secret()) {
                forms.extend(forms_of(&part));
            }
        }
        forms.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        forms.dedup();
        Self { needles: forms.into_iter().map(|form| memmem::Finder::new(&form).into_owned()).collect() }
    }

    /// The text with each occurrence of a secret replaced by [`REDACTED`]; borrowed when there was none.
    #[must_use]
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut result = Cow::Borrowed(text);
        for needle in self.needles.iter() {
            if let Some(replaced) = replace(&result, needle) {
                result = Cow::Owned(replaced);
            }
        }
        result
    }

    /// Whether a secret occurs in these bytes.
    #[must_use]
    pub fn finds_in(&self, bytes: &[u8]) -> bool {
        self.needles.iter().any(|needle| needle.find(bytes).is_some())
    }

    /// What is searched for, longest first.
    pub(super) fn needles(&self) -> &[memmem::Finder<'static>] {
        &self.needles
    }
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor").field("forms", &self.needles.len()).finish()
    }
}

/// The text with the needle replaced, or nothing when it is not there.
fn replace(text: &str, needle: &memmem::Finder<'_>) -> Option<String> {
    let length = needle.needle().len();
    let mut result = String::new();
    let mut from = 0;
    for at in needle.find_iter(text.as_bytes()) {
        // Needles are ASCII, so a match begins and ends at character borders and `get` always gives something.
        result.push_str(text.get(from..at)?);
        result.push_str(REDACTED);
        from = at + length;
    }
    if from == 0 {
        return None;
    }
    result.push_str(text.get(from..)?);
    Some(result)
}

/// Every form a secret is searched in. Secrets are ASCII ([`Secrets::insert`] sees to it), and so are these.
fn forms_of(secret: &str) -> Vec<Vec<u8>> {
    let mut forms = vec![secret.as_bytes().to_vec()];
    for upper in [true, false] {
        for kept in KEPT {
            let encoded = percent_encode(secret, kept, upper);
            forms.push(encoded.replace("%20", "+").into_bytes());
            forms.push(encoded.into_bytes());
        }
    }
    for references in HTML {
        forms.push(substitute(secret, references).into_bytes());
    }
    if let Ok(quoted) = serde_json::to_string(secret) {
        let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(&quoted);
        forms.push(inner.as_bytes().to_vec());
        // Some encoders escape the slash too, which JSON allows.
        forms.push(inner.replace('/', "\\/").into_bytes());
        for upper in [true, false] {
            for marks in ESCAPED {
                let escaped = json_escape(secret, marks, upper);
                forms.push(escaped.replace('/', "\\/").into_bytes());
                forms.push(escaped.into_bytes());
            }
        }
    }
    forms.push(crate::connectors::hex(secret.as_bytes()).into_bytes());
    forms.push(crate::connectors::hex(secret.as_bytes()).to_uppercase().into_bytes());
    for skipped in 0..3 {
        let mut padded = vec![0; skipped];
        padded.extend_from_slice(secret.as_bytes());
        // Only the characters that hold no bit of what stands before or after the secret.
        let first = (skipped * 8).div_ceil(6);
        let last = padded.len() * 8 / 6;
        for engine in [STANDARD_NO_PAD, URL_SAFE_NO_PAD] {
            let encoded = engine.encode(&padded);
            if let Some(fragment) = encoded.get(first..last)
                && fragment.len() >= SHORTEST_FRAGMENT
            {
                forms.push(fragment.as_bytes().to_vec());
            }
        }
    }
    forms
}

/// Marks that clients leave as they are when they percent-encode: none; those of RFC 3986; the same and `/` (Python);
/// those of forms (Java, browsers); those of JavaScript's `encodeURIComponent` and `encodeURI`.
const KEPT: [&str; 7] = ["", "-._~", "-._~/", "-._*", "-._", "-_.!~*'()", "-_.!~*'();,/?:@&=+$#"];

/// Marks that encoders of JSON write by their number so that it may stand in HTML: Gson; Ruby on Rails and Go; PHP; .NET.
const ESCAPED: [&str; 4] = ["=&'<>", "&<>", "&'<>\"", "+&'<>`\""];

/// How libraries write marks in HTML, where they do not leave them as they are.
const HTML: [&[(char, &str)]; 8] = [
    // Java, and PHP without quotes.
    &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;")],
    // Spring, .NET, lodash.
    &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;"), ('\'', "&#39;")],
    // PHP.
    &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;"), ('\'', "&#039;")],
    // Python.
    &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;"), ('\'', "&#x27;")],
    // XML.
    &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;"), ('\'', "&apos;")],
    // Go, whose templates write `+` like that too.
    &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&#34;"), ('\'', "&#39;"), ('+', "&#43;")],
    // Handlebars; with the slash, mustache and OWASP.
    &[
        ('&', "&amp;"),
        ('<', "&lt;"),
        ('>', "&gt;"),
        ('"', "&quot;"),
        ('\'', "&#x27;"),
        ('`', "&#x60;"),
        ('=', "&#x3D;"),
    ],
    &[
        ('&', "&amp;"),
        ('<', "&lt;"),
        ('>', "&gt;"),
        ('"', "&quot;"),
        ('\'', "&#39;"),
        ('/', "&#x2F;"),
        ('`', "&#x60;"),
        ('=', "&#x3D;"),
    ],
];

/// Writes references in place of marks.
fn substitute(text: &str, references: &[(char, &str)]) -> String {
    let mut substituted = String::with_capacity(text.len());
    for character in text.chars() {
        match references.iter().find(|(mark, _)| *mark == character) {
            Some((_, reference)) => substituted.push_str(reference),
            None => substituted.push(character),
        }
    }
    substituted
}

/// Escapes for JSON, writing `marks` by their number.
fn json_escape(text: &str, marks: &str, upper: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if marks.contains(character) {
            let code = u32::from(character);
            // Writing to a String cannot fail.
            let _ = if upper { write!(escaped, "\\u{code:04X}") } else { write!(escaped, "\\u{code:04x}") };
        } else {
            if matches!(character, '"' | '\\') {
                escaped.push('\\');
            }
            escaped.push(character);
        }
    }
    escaped
}

/// Percent-encodes all but letters, digits and `kept`.
fn percent_encode(text: &str, kept: &str, upper: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii_alphanumeric() || kept.contains(character) {
            encoded.push(character);
        } else {
            let code = u32::from(character);
            // Writing to a String cannot fail.
            let _ = if upper { write!(encoded, "%{code:02X}") } else { write!(encoded, "%{code:02x}") };
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};
    use secrecy::SecretString;

    fn redactor(values: &[&str]) -> Redactor {
        let mut secrets = Secrets::new();
        for (at, value) in values.iter().enumerate() {
            secrets.insert(format!("key{at}"), SecretString::from(*value)).unwrap();
        }
        Redactor::new(&secrets)
    }

    #[test]
    fn a_text_without_a_secret_is_borrowed() {
        let redactor = redactor(&["0d9e7a7a-53b6-4f0b-8a8e-1fb1b6b8ab1d"]);
        assert!(matches!(redactor.redact("nothing to see, grüß Gott"), Cow::Borrowed(_)));
        assert!(matches!(redactor.redact(""), Cow::Borrowed(_)));
    }

    #[test]
    fn every_form_of_a_secret_is_replaced_wherever_it_stands() {
        let secrets = [
            "0d9e7a7a-53b6-4f0b-8a8e-1fb1b6b8ab1d",
            "Bearer a/b+c=d\"e\\f",
            "abcd",
            "p@ss word:with?odd&chars",
            "~~~~....----____",
        ];
        for secret in secrets {
            let redactor = redactor(&[secret]);
            let json = serde_json::to_string(secret).unwrap();
            let mut forms = vec![
                secret.to_owned(),
                json.trim_matches('"').to_owned(),
                percent_encode(secret, "", true),
                percent_encode(secret, "-._~", true),
                percent_encode(secret, "-._~", false),
                crate::connectors::hex(secret.as_bytes()),
                crate::connectors::hex(secret.as_bytes()).to_uppercase(),
            ];
            // A four byte secret has no base64 fragment long enough to be told from chance.
            if secret.len() >= 10 {
                for before in ["", "u", "us", "user:"] {
                    for after in ["", "x", "xy"] {
                        forms.push(STANDARD.encode(format!("{before}{secret}{after}")));
                        forms.push(URL_SAFE.encode(format!("{before}{secret}{after}")));
                    }
                }
            }
            for form in forms {
                for (before, after) in [("", ""), ("ü", "ü"), ("key=", "&x=1"), ("\n", "\0")] {
                    let text = format!("{before}{form}{after}");
                    let clean = redactor.redact(&text);
                    assert!(clean.contains(REDACTED), "{text:?} stayed as it is");
                    assert!(!clean.contains(secret));
                    assert!(clean.starts_with(before) && clean.ends_with(after));
                    assert!(redactor.finds_in(text.as_bytes()));
                }
            }
        }
    }

    #[test]
    fn what_common_libraries_make_of_a_secret_is_replaced() {
        let redactor = redactor(&["ab/c+d=e&f'g h\"i<j"]);
        for echo in [
            // Gson, .NET, Ruby on Rails.
            r#"ab/c+d\u003de\u0026f\u0027g h\"i\u003cj"#,
            r#"ab/c\u002Bd=e\u0026f\u0027g h\u0022i\u003Cj"#,
            r#"ab/c+d=e\u0026f'g h\"i\u003cj"#,
            // Handlebars, mustache, Python, PHP, Go.
            "ab/c+d&#x3D;e&amp;f&#x27;g h&quot;i&lt;j",
            "ab&#x2F;c+d&#x3D;e&amp;f&#39;g h&quot;i&lt;j",
            "ab/c+d=e&amp;f&#x27;g h&quot;i&lt;j",
            "ab/c+d=e&amp;f&#039;g h&quot;i&lt;j",
            "ab/c&#43;d=e&amp;f&#39;g h&#34;i&lt;j",
            // encodeURI, encodeURIComponent, forms, Python's quote.
            "ab/c+d=e&f'g%20h%22i%3Cj",
            "ab%2Fc%2Bd%3De%26f'g%20h%22i%3Cj",
            "ab%2Fc%2Bd%3De%26f%27g+h%22i%3Cj",
            "ab/c%2Bd%3De%26f%27g%20h%22i%3Cj",
        ] {
            assert_eq!(redactor.redact(echo), REDACTED, "{echo}");
        }
    }

    #[test]
    fn a_token_is_replaced_without_the_name_of_its_scheme_too() {
        let redactor = redactor(&["SSWS acme-secret-1"]);
        assert_eq!(redactor.redact("full SSWS acme-secret-1 part acme-secret-1"), "full [redacted] part [redacted]");
        assert_eq!(redactor.redact("SSWS acme"), "SSWS acme");
    }

    #[test]
    fn a_secret_without_marks_has_few_forms() {
        assert!(redactor(&["0d9e7a7a53b64f0b8a8e1fb1b6b8ab1d"]).needles().len() <= 6);
        // All percent-encoded, in either case of hex, comes to the same where a digit is.
        assert!(redactor(&["0d9e7a7a-53b6-4f0b-8a8e-1fb1b6b8ab1d"]).needles().len() <= 8);
    }

    #[test]
    fn repeated_and_overlapping_secrets_are_all_replaced() {
        let redactor = redactor(&["abcdef", "abcdefghij", "fghi"]);
        assert_eq!(
            redactor.redact("abcdefghij abcdef fghi abcdefabcdef"),
            "[redacted] [redacted] [redacted] [redacted][redacted]"
        );
    }

    #[test]
    fn without_secrets_nothing_is_replaced() {
        let redactor = Redactor::default();
        assert_eq!(redactor.redact("abc"), "abc");
        assert!(!redactor.finds_in(b"abc"));
        assert_eq!(format!("{redactor:?}"), "Redactor { forms: 0 }");
    }

    #[test]
    fn debug_does_not_show_what_is_searched_for() {
        assert!(!format!("{:?}", redactor(&["hunter2hunter2"])).contains("hunter2"));
    }
}
