//! Why what an operator wants cannot be done.

use super::super::home::RecordError;
use std::path::PathBuf;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// No host has used the directory.
    #[error("there are no connectors' records in {}", path.display())]
    NoHost {
        /// The state directory.
        path: PathBuf,
    },
    /// Nothing goes by this name.
    #[error("{}", unknown(which, *wanted, known))]
    Unknown {
        /// What was asked for.
        which: String,
        /// What it should have been.
        wanted: Wanted,
        /// What there is.
        known: Vec<String>,
    },
    /// Several things go by it.
    #[error("{which:?} may be any of {}", list(known))]
    Ambiguous {
        /// What was asked for.
        which: String,
        /// What it may be.
        known: Vec<String>,
    },
    /// A record cannot be used.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl OperatorError {
    /// A stable name of the error.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoHost { .. } => "connectors-no-host",
            Self::Unknown { .. } => "connector-unknown",
            Self::Ambiguous { .. } => "connector-ambiguous",
            Self::Record(error) => error.code(),
        }
    }

    /// What the operator can do, without a full stop at the end.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match self {
            Self::NoHost { .. } => "name the state directory of a host that has been started once",
            Self::Unknown { known, .. } if known.is_empty() => {
                "`connectors list` shows what serves, what does not, and why"
            }
            Self::Unknown { .. } | Self::Ambiguous { .. } => {
                "`connectors list` shows types, files and digests; give at least six characters of a digest"
            }
            Self::Record(_) => "check that this user owns the state directory; a damaged record may be deleted",
        }
    }
}

/// What an operator wants to do something about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Any connector.
    Connector,
    /// A version in quarantine.
    Quarantined,
    /// A version that asks for more than is granted.
    Held,
}

/// Why nothing goes by a name: there is no such thing at all, or only others.
fn unknown(which: &str, wanted: Wanted, known: &[String]) -> String {
    let (one, none) = match wanted {
        Wanted::Connector => ("a connector", "no connector is known here"),
        Wanted::Quarantined => ("a version in quarantine", "nothing is in quarantine, so nothing has to be released"),
        Wanted::Held => ("a version that asks for more", "nothing is held, so nothing has to be confirmed"),
    };
    if known.is_empty() {
        return none.to_owned();
    }
    let known = list(known);
    format!("{which:?} is neither the type nor the file nor the beginning of the digest of {one}; there is {known}")
}

/// Texts, or `nothing`.
pub(super) fn list(texts: &[String]) -> String {
    if texts.is_empty() { "nothing".to_owned() } else { texts.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_there_is_nothing_of_the_kind_is_told_instead_of_what_the_name_is_not() {
        let error = |wanted, known: &[&str]| {
            let known = known.iter().map(|&text| text.to_owned()).collect();
            OperatorError::Unknown { which: "acme".into(), wanted, known }
        };
        let held = error(Wanted::Held, &[]);
        insta::assert_snapshot!(held, @"nothing is held, so nothing has to be confirmed");
        assert_eq!(held.help(), "`connectors list` shows what serves, what does not, and why");
        insta::assert_snapshot!(
            error(Wanted::Quarantined, &[]),
            @"nothing is in quarantine, so nothing has to be released"
        );
        insta::assert_snapshot!(error(Wanted::Connector, &[]), @"no connector is known here");
        let other = error(Wanted::Held, &["other 0123456789ab"]);
        insta::assert_snapshot!(
            other,
            @r#""acme" is neither the type nor the file nor the beginning of the digest of a version that asks for more; there is other 0123456789ab"#
        );
        assert!(other.help().contains("six characters of a digest"), "{}", other.help());
    }
}
