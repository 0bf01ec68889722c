//! The secrets of one tenant, by the key of the setting they belong to.
//!
//! Why: one type that validates once and never prints. Where a secret is read from (a file, the environment) is the
//! business of whoever fills this map.
//! Not guaranteed: copies made on the way here, and the header values made from it, are not wiped; what is kept in
//! this map is wiped when it is dropped.

use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;
use std::fmt;

/// Fewest bytes of a secret. Shorter ones are found by chance in ordinary text, and redaction would eat that text.
pub(super) const SHORTEST_SECRET: usize = 4;

/// Most bytes of a secret: what common servers take in one header.
pub(super) const LONGEST_SECRET: usize = 8 * 1024;

/// Secrets by setting key. Its `Debug` shows keys only.
#[derive(Clone, Default)]
pub struct Secrets {
    values: BTreeMap<String, SecretString>,
}

/// Why a secret was not taken. No message holds any part of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// Nothing was left after white space was cut off.
    #[error("the secret {key} is empty; give its value")]
    Empty {
        /// Key of the setting.
        key: String,
    },
    /// Fewer than [`SHORTEST_SECRET`] bytes.
    #[error("the secret {key} has {length} bytes; at least {SHORTEST_SECRET} are needed to keep it out of logs safely")]
    TooShort {
        /// Key of the setting.
        key: String,
        /// Its length in bytes.
        length: usize,
    },
    /// More than [`LONGEST_SECRET`] bytes.
    #[error("the secret {key} has {length} bytes; at most {LONGEST_SECRET} are allowed (was a wrong file given?)")]
    TooLong {
        /// Key of the setting.
        key: String,
        /// Its length in bytes.
        length: usize,
    },
    /// Something that cannot stand in a header.
    #[error(
        "the secret {key} holds a character that cannot stand in an HTTP header, at byte {position}; \
         only printable ASCII is allowed (was more copied than the secret?)"
    )]
    NotHeaderSafe {
        /// Key of the setting.
        key: String,
        /// Where, counted from 0.
        position: usize,
    },
}

impl SecretError {
    /// A stable name of the error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty { .. } => "secret-empty",
            Self::TooShort { .. } => "secret-too-short",
            Self::TooLong { .. } => "secret-too-long",
            Self::NotHeaderSafe { .. } => "secret-not-header-safe",
        }
    }
}

impl Secrets {
    /// No secrets.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a secret for a setting, in place of one it may have had.
    ///
    /// White space around it (of ASCII) is cut off: files end with a line end, and what is pasted brings some along. No
    /// header could hold it.
    ///
    /// # Errors
    /// When the value is empty, shorter than [`SHORTEST_SECRET`], longer than [`LONGEST_SECRET`] or could not stand
    /// in an HTTP header as it is.
    pub fn insert(&mut self, key: impl Into<String>, value: SecretString) -> Result<(), SecretError> {
        let key = key.into();
        let text = value.expose_secret();
        let before = text.len() - text.trim_ascii_start().len();
        let text = text.trim_ascii();
        let length = text.len();
        if length == 0 {
            return Err(SecretError::Empty { key });
        }
        if length > LONGEST_SECRET {
            return Err(SecretError::TooLong { key, length });
        }
        if let Some(position) = text.bytes().position(|byte| !(byte.is_ascii_graphic() || byte == b' ')) {
            return Err(SecretError::NotHeaderSafe { key, position: position + before });
        }
        if length < SHORTEST_SECRET {
            return Err(SecretError::TooShort { key, length });
        }
        let value = SecretString::from(text);
        self.values.insert(key, value);
        Ok(())
    }

    /// The secret of a setting.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&SecretString> {
        self.values.get(key)
    }

    /// Keys, in order.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// Values, in the order of their keys.
    pub(super) fn values(&self) -> impl Iterator<Item = &SecretString> {
        self.values.values()
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn insert(value: &str) -> Result<Secrets, SecretError> {
        let mut secrets = Secrets::new();
        secrets.insert("api_key", SecretString::from(value)).map(|()| secrets)
    }

    #[test]
    fn white_space_around_it_is_cut_off() {
        for text in ["abcdef", "abcdef\n", "abcdef\r\n", "abcdef\n\n", " \tabcdef "] {
            let secrets = insert(text).unwrap();
            assert_eq!(secrets.get("api_key").unwrap().expose_secret(), "abcdef");
        }
    }

    #[test]
    fn what_cannot_stand_in_a_header_is_refused_and_never_shown() {
        for (text, code) in [
            ("", "secret-empty"),
            ("\n", "secret-empty"),
            ("abc", "secret-too-short"),
            ("abc\ndef", "secret-not-header-safe"),
            ("abc\0def", "secret-not-header-safe"),
            ("schlüssel", "secret-not-header-safe"),
            ("abc\u{a0}def", "secret-not-header-safe"),
            ("\u{feff}abcdef", "secret-not-header-safe"),
        ] {
            let error = insert(text).unwrap_err();
            assert_eq!(error.code(), code, "{text:?}");
            assert!(!error.to_string().contains("def"));
        }
        assert_eq!(insert(&"a".repeat(LONGEST_SECRET + 1)).unwrap_err().code(), "secret-too-long");
        insert("Bearer abcdef").unwrap();
    }

    #[test]
    fn debug_shows_keys_only() {
        let secrets = insert("hunter2-hunter2").unwrap();
        let shown = format!("{secrets:?}");
        assert!(shown.contains("api_key") && !shown.contains("hunter2"), "{shown}");
    }
}
