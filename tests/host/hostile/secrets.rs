//! The hostile tenant's secret, and finding it.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

/// A secret that cannot come about by chance.
pub(crate) const SECRET: &str = "zq7x9k2w4m8p/h3j+6t5v1n0r=yd";

/// Every form in which the redactor promises to find it, and the longest words of it that an index would keep.
pub(crate) fn forms() -> Vec<String> {
    let mut forms = vec![SECRET.to_owned(), "zq7x9k2w4m8p".to_owned(), "6t5v1n0r".to_owned()];
    forms.extend([percent(), hex(), SECRET.replace('/', "\\/")]);
    for before in ["", "x", "xy"] {
        let text = format!("{before}{SECRET}");
        for encoded in [STANDARD.encode(&text), URL_SAFE.encode(&text)] {
            // Without the characters that depend on what stands around it.
            forms.push(encoded[4..encoded.len() - 4].to_owned());
        }
    }
    forms
}

/// Percent-encoded.
pub(crate) fn percent() -> String {
    let encode = |byte: u8| {
        if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }
    };
    SECRET.bytes().map(encode).collect()
}

/// In hexadecimal, lower case.
pub(crate) fn hex() -> String {
    SECRET.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// In base64.
pub(crate) fn base64() -> String {
    STANDARD.encode(SECRET)
}

/// Fails when any form of the secret is in the bytes, in any case.
pub(crate) fn assert_none(what: &str, bytes: &[u8]) {
    let bytes = bytes.to_ascii_lowercase();
    for form in forms().into_iter().map(|form| form.to_ascii_lowercase()) {
        if let Some(at) = bytes.windows(form.len()).position(|window| window == form.as_bytes()) {
            let around = &bytes[at.saturating_sub(80)..(at + 80).min(bytes.len())];
            panic!("{form} stands in {what}: …{}…", String::from_utf8_lossy(around));
        }
    }
}
