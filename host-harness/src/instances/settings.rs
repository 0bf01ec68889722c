//! Settings from `KEY=VALUE`.
//!
//! Why so little is decided here: the connector validates its own settings
//! and explains what is wrong. The host only has to give a text the type that
//! the form names; a text that does not fit stays a text, and the connector
//! says what is allowed.

use crate::contract::types::{Descriptor, FieldError, Setting, SettingKind, SettingValue};

/// Why settings cannot be taken.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// Not `KEY=VALUE`.
    #[error("a --set is not of the form KEY=VALUE (what was given is not shown: it may be a secret)")]
    Form,
    /// Given twice.
    #[error("the setting {key:?} is given twice")]
    Twice {
        /// The setting.
        key: String,
    },
    /// A secret must not stand on the command line.
    #[error("{key:?} is a secret, and secrets are not taken from the command line")]
    Secret {
        /// The setting.
        key: String,
    },
    /// The connector does not take these settings.
    #[error("the connector does not take these settings:{}", list(errors))]
    Refused {
        /// What is wrong, field by field.
        errors: Vec<FieldError>,
    },
}

impl SettingsError {
    /// Stable name of the kind of failure, for programs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Form => "setting-form",
            Self::Twice { .. } => "setting-twice",
            Self::Secret { .. } => "setting-secret",
            Self::Refused { .. } => "invalid-settings",
        }
    }

    /// What the operator can do.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::Form => "write for example --set region=us".to_owned(),
            Self::Twice { .. } => "keep one".to_owned(),
            Self::Secret { key } => {
                format!(
                    "put it into an environment variable or a file and give --secret {key}=env:NAME or --secret {key}=file:PATH; change the secret if it was real"
                )
            }
            Self::Refused { .. } => "see the settings with `host-harness inspect`".to_owned(),
        }
    }
}

/// Takes `KEY=VALUE` apart; the value may hold further `=`.
pub fn parse(given: &[String]) -> Result<Vec<(String, String)>, SettingsError> {
    let mut settings: Vec<(String, String)> = Vec::new();
    for text in given {
        let (key, value) = text.split_once('=').filter(|(key, _)| !key.is_empty()).ok_or(SettingsError::Form)?;
        if settings.iter().any(|(other, _)| other == key) {
            return Err(SettingsError::Twice { key: key.to_owned() });
        }
        settings.push((key.to_owned(), value.to_owned()));
    }
    Ok(settings)
}

/// Gives each value the type of its field. Keys that the form does not have
/// are passed on, for the connector to refuse.
pub fn coerce(descriptor: &Descriptor, given: &[(String, String)]) -> Result<Vec<Setting>, SettingsError> {
    given
        .iter()
        .map(|(key, value)| {
            let field = descriptor.settings.iter().find(|field| field.key == *key);
            let typed = match field.map(|field| &field.kind) {
                Some(SettingKind::Secret) => return Err(SettingsError::Secret { key: key.clone() }),
                Some(SettingKind::Integer(_)) => value.trim().parse().ok().map(SettingValue::Integer),
                Some(SettingKind::Boolean) => boolean(value).map(SettingValue::Boolean),
                Some(SettingKind::Text(_) | SettingKind::Choice(_)) | None => None,
            };
            Ok(Setting { key: key.clone(), value: typed.unwrap_or_else(|| SettingValue::Text(value.clone())) })
        })
        .collect()
}

/// The words for on and off, in any case.
fn boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Some(true),
        "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// One line for each field.
fn list(errors: &[FieldError]) -> String {
    errors
        .iter()
        .map(|error| format!("\n  {}: {}", crate::log::escape(&error.key), crate::log::escape(&error.message)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::descriptor;
    use super::*;

    fn settings(texts: &[&str]) -> Result<Vec<(String, SettingValue)>, SettingsError> {
        let given = parse(&texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>())?;
        Ok(coerce(&descriptor(), &given)?.into_iter().map(|setting| (setting.key, setting.value)).collect())
    }

    fn one(text: &str) -> SettingValue {
        settings(&[text]).expect(text).remove(0).1
    }

    #[test]
    fn a_value_gets_the_type_of_its_field() {
        assert_eq!(one("region=us"), SettingValue::Text("us".into()));
        assert_eq!(one("days=28"), SettingValue::Integer(28));
        assert_eq!(one("days= -3 "), SettingValue::Integer(-3));
        assert_eq!(one("alerts=false"), SettingValue::Boolean(false));
        assert_eq!(one("alerts=On"), SettingValue::Boolean(true));
        assert_eq!(one("note=a=b"), SettingValue::Text("a=b".into()));
        assert_eq!(one("note="), SettingValue::Text(String::new()));
    }

    #[test]
    fn what_does_not_fit_stays_a_text_for_the_connector_to_refuse() {
        assert_eq!(one("days=many"), SettingValue::Text("many".into()));
        assert_eq!(one("days=99999999999999999999"), SettingValue::Text("99999999999999999999".into()));
        assert_eq!(one("alerts=1"), SettingValue::Text("1".into()));
        assert_eq!(one("unknown=x"), SettingValue::Text("x".into()));
    }

    #[test]
    fn a_secret_among_the_settings_is_refused_without_being_shown() {
        let error = settings(&["api_key=hunter2"]).expect_err("must fail");
        insta::assert_snapshot!(error, @r#""api_key" is a secret, and secrets are not taken from the command line"#);
        assert!(!error.help().contains("hunter2"));
        assert!(error.help().contains("--secret api_key=env:NAME"));
    }

    #[test]
    fn what_is_no_assignment_or_given_twice_is_refused() {
        insta::assert_snapshot!(settings(&["region"]).expect_err("must fail"), @"a --set is not of the form KEY=VALUE (what was given is not shown: it may be a secret)");
        insta::assert_snapshot!(settings(&["=us"]).expect_err("must fail"), @"a --set is not of the form KEY=VALUE (what was given is not shown: it may be a secret)");
        insta::assert_snapshot!(settings(&["region=us", "region=eu"]).expect_err("must fail"), @r#"the setting "region" is given twice"#);
    }

    #[test]
    fn what_the_connector_refuses_is_listed_field_by_field() {
        let errors = vec![
            FieldError { key: "days".into(), message: "must be 1 to 390".into() },
            FieldError { key: "x\n".into(), message: "unknown".into() },
        ];
        insta::assert_snapshot!(SettingsError::Refused { errors }, @r"
        the connector does not take these settings:
          days: must be 1 to 390
          x\n: unknown
        ");
    }
}
