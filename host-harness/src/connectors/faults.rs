//! What is wrong with what a connector says of itself, all of it.
//!
//! Why all: who writes a connector builds it anew for every fault that is told alone.
//! Not guaranteed: faults beyond [`MOST`] are counted and not told.

use crate::egress::Redactor;
use crate::sandbox::clean;
use std::fmt;

/// Most faults that are told.
const MOST: usize = 8;

/// Most bytes of a value that are shown.
const MOST_SHOWN: usize = 64;

/// A field that breaks the contract.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Path of the field, for example `settings[2].key`.
    pub field: String,
    /// What it holds, cleaned and cut, where that is told.
    pub value: Option<String>,
    /// What is wrong with it and what is allowed.
    pub why: String,
}

/// Faults in the order in which they were found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Adds one.
    pub(super) fn add(&mut self, field: impl Into<String>, why: impl Into<String>) {
        self.0.push(Fault { field: field.into(), value: None, why: why.into() });
    }

    /// Adds one with the value that is wrong. Others chose it: secrets of the tenant are replaced in it.
    pub(super) fn add_value(&mut self, field: impl Into<String>, value: &str, redactor: &Redactor, why: &str) {
        let value = Some(clean(redactor, value, MOST_SHOWN));
        self.0.push(Fault { field: field.into(), value, why: why.to_owned() });
    }

    /// Nothing, if there are none.
    ///
    /// # Errors
    /// These, if there are any.
    pub(super) fn or_none(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> &[Fault] {
        &self.0
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, Fault { field, value, why }) in self.0.iter().take(MOST).enumerate() {
            let gap = if at == 0 { "" } else { "; " };
            match value {
                Some(value) => write!(f, "{gap}{field} \"{value}\" {why}")?,
                None => write!(f, "{gap}{field} {why}")?,
            }
        }
        match self.0.len().saturating_sub(MOST) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::Secrets;

    #[test]
    fn all_are_told_and_no_more_than_are_read() {
        let mut faults = Faults::default();
        assert_eq!(faults.clone().or_none(), Ok(()));
        faults.add("name", "must be short");
        faults.add("version", "must be one");
        assert_eq!(faults.to_string(), "name must be short; version must be one");
        for at in 0..10 {
            faults.add(format!("settings[{at}]"), "must not be");
        }
        assert!(faults.to_string().ends_with("settings[5] must not be; and 4 more"), "{faults}");
        assert_eq!(faults.all().len(), 12);
    }

    #[test]
    fn a_value_is_shown_safely() {
        let mut secrets = Secrets::new();
        secrets.insert("k", "hunter2-hunter2".into()).unwrap();
        let shown = |value: &str| {
            let mut faults = Faults::default();
            faults.add_value("origin.host", value, &Redactor::new(&secrets), "must be a name");
            faults.to_string()
        };
        assert_eq!(shown("a\n\u{202e}"), r#"origin.host "a\n\u{202e}" must be a name"#);
        assert_eq!(shown("hunter2-hunter2.com"), r#"origin.host "[redacted].com" must be a name"#);
        assert!(shown(&"x".repeat(1000)).len() < 120);
    }
}
