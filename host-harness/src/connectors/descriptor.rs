//! The check of a descriptor.
//!
//! What: every promise that the contract makes about lengths, characters, counts, uniqueness and how settings and
//! credentials refer to each other.
//! Why: log lines, forms, metrics and headers are built from it without a second look.
//! Not guaranteed: that what it says is true.

use super::error::LoadError;
use crate::contract::types::{Credential, DataStream, Descriptor, SettingField, SettingKind, SettingValue};
use crate::egress::may_carry_credential;
use crate::sandbox::is_tricky;
use http::HeaderName;
use std::collections::BTreeSet;
use url::Url;

/// What every connector's name begins with.
pub(crate) const NAME_PREFIX: &str = "signal-client.";

/// Most bytes of names and short texts.
const SHORT: usize = 64;

/// Most bytes of labels and values of choices.
const LABEL: usize = 128;

/// Most bytes of sentences: help, descriptions, addresses.
const LONG: usize = 1024;

/// Most bytes a text setting may be given.
const TEXT_SETTING: u32 = 64 * 1024;

/// Most values of a choice.
const CHOICES: usize = 256;

/// Checks a descriptor.
///
/// # Errors
/// The first field that breaks the contract, by its path.
pub(super) fn check(descriptor: &Descriptor) -> Result<(), LoadError> {
    let slug = descriptor.name.strip_prefix(NAME_PREFIX).unwrap_or_default();
    if descriptor.name.len() > SHORT || !is_slug(slug) {
        return wrong("name", "must be signal-client. and a slug of a-z, 0-9 and -, at most 64 bytes");
    }
    text("display-name", &descriptor.display_name, 1, SHORT)?;
    text("category", &descriptor.category, 1, SHORT)?;
    text("auth-method", &descriptor.auth_method, 1, SHORT)?;
    if descriptor.version.len() > SHORT || !is_version(&descriptor.version) {
        return wrong("version", "must be a semantic version such as 1.2.3, at most 64 bytes");
    }
    text("vendor-docs", &descriptor.vendor_docs, 1, LONG)?;
    if !Url::parse(&descriptor.vendor_docs).is_ok_and(|url| url.scheme() == "https" && url.has_host()) {
        return wrong("vendor-docs", "must be an https address");
    }
    if !(1..=1440).contains(&descriptor.default_poll_minutes) {
        return wrong("default-poll-minutes", "must be 1 to 1440");
    }
    if !(1..=descriptor.default_poll_minutes).contains(&descriptor.minimum_poll_minutes) {
        return wrong("minimum-poll-minutes", "must be 1 to default-poll-minutes");
    }
    check_streams(&descriptor.streams)?;
    check_settings(&descriptor.settings)?;
    check_credentials(&descriptor.credentials, &descriptor.settings)
}

/// Checks the data streams.
fn check_streams(streams: &[DataStream]) -> Result<(), LoadError> {
    if streams.is_empty() || streams.len() > 32 {
        return wrong("streams", "must be 1 to 32");
    }
    let mut names = BTreeSet::new();
    for (at, stream) in streams.iter().enumerate() {
        let field = |name: &str| format!("streams[{at}].{name}");
        if stream.name.len() > SHORT || !is_slug(&stream.name) {
            return wrong(field("name"), "must be of a-z, 0-9 and -, at most 64 bytes");
        }
        if !names.insert(&stream.name) {
            return wrong(field("name"), "must be unique");
        }
        text(&field("noun"), &stream.noun, 1, SHORT)?;
        text(&field("description"), &stream.description, 0, LONG)?;
    }
    Ok(())
}

/// Checks the settings form.
fn check_settings(settings: &[SettingField]) -> Result<(), LoadError> {
    if settings.len() > 64 {
        return wrong("settings", "must be at most 64");
    }
    let mut keys = BTreeSet::new();
    for (at, setting) in settings.iter().enumerate() {
        let field = |name: &str| format!("settings[{at}].{name}");
        let key_is_sound = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if setting.key.is_empty() || setting.key.len() > SHORT || !setting.key.bytes().all(key_is_sound) {
            return wrong(field("key"), "must be of a-z, 0-9 and _, 1 to 64 bytes");
        }
        if !keys.insert(&setting.key) {
            return wrong(field("key"), "must be unique");
        }
        text(&field("label"), &setting.label, 1, LABEL)?;
        text(&field("help"), &setting.help, 0, LONG)?;
        check_kind(&field("kind"), &setting.kind)?;
        if let Some(value) = &setting.default {
            check_default(&field("default"), &setting.kind, value)?;
        }
    }
    Ok(())
}

/// Checks the kind of one setting.
fn check_kind(field: &str, kind: &SettingKind) -> Result<(), LoadError> {
    match kind {
        SettingKind::Text(most) if !(1..=TEXT_SETTING).contains(most) => {
            wrong(field, "must allow 1 to 65536 bytes of text")
        }
        SettingKind::Integer(range) if range.minimum > range.maximum => {
            wrong(field, "must have a range that is not empty")
        }
        SettingKind::Choice(choices) => {
            if choices.is_empty() || choices.len() > CHOICES {
                return wrong(field, "must offer 1 to 256 choices");
            }
            let mut values = BTreeSet::new();
            for (at, choice) in choices.iter().enumerate() {
                text(&format!("{field}.choice[{at}].value"), &choice.value, 1, LABEL)?;
                text(&format!("{field}.choice[{at}].label"), &choice.label, 1, LABEL)?;
                if !values.insert(&choice.value) {
                    return wrong(format!("{field}.choice[{at}].value"), "must be unique");
                }
            }
            Ok(())
        }
        SettingKind::Text(_) | SettingKind::Integer(_) | SettingKind::Boolean | SettingKind::Secret => Ok(()),
    }
}

/// Checks that a default is a value that the field would take.
fn check_default(field: &str, kind: &SettingKind, value: &SettingValue) -> Result<(), LoadError> {
    let fits = match (kind, value) {
        (SettingKind::Text(most), SettingValue::Text(value)) => {
            text(field, value, 0, usize::try_from(*most).unwrap_or(usize::MAX))?;
            true
        }
        (SettingKind::Integer(range), SettingValue::Integer(value)) => (range.minimum..=range.maximum).contains(value),
        (SettingKind::Boolean, SettingValue::Boolean(_)) => true,
        (SettingKind::Choice(choices), SettingValue::Text(value)) => {
            choices.iter().any(|choice| choice.value == *value)
        }
        _ => false,
    };
    if fits { Ok(()) } else { wrong(field, "must be a value that the field takes, and is never given for a secret") }
}

/// Checks that secrets and credentials belong to each other one to one.
fn check_credentials(credentials: &[Credential], settings: &[SettingField]) -> Result<(), LoadError> {
    let secrets: BTreeSet<&str> = settings
        .iter()
        .filter(|field| matches!(field.kind, SettingKind::Secret))
        .map(|field| field.key.as_str())
        .collect();
    let mut used = BTreeSet::new();
    let mut headers = BTreeSet::new();
    for (at, credential) in credentials.iter().enumerate() {
        let field = |name: &str| format!("credentials[{at}].{name}");
        if !secrets.contains(credential.setting.as_str()) {
            return wrong(field("setting"), "must be the key of a secret setting");
        }
        if !used.insert(credential.setting.as_str()) {
            return wrong(field("setting"), "must be unique: a secret goes into one header");
        }
        let Ok(name) = HeaderName::from_bytes(credential.header.as_bytes()) else {
            return wrong(field("header"), "must be the name of an HTTP header");
        };
        if credential.header.len() > SHORT || !may_carry_credential(&name) {
            return wrong(
                field("header"),
                "must not be a header that frames or routes a message or says what it holds",
            );
        }
        if !headers.insert(name.as_str().to_owned()) {
            return wrong(field("header"), "must be unique");
        }
    }
    match secrets.iter().find(|key| !used.contains(*key)) {
        Some(key) => wrong("credentials", &format!("must say where the secret {key} goes")),
        None => Ok(()),
    }
}

/// Checks length and characters of a text.
fn text(field: &str, text: &str, least: usize, most: usize) -> Result<(), LoadError> {
    if text.len() < least || text.len() > most {
        return wrong(field, &format!("must be {least} to {most} bytes"));
    }
    if text.chars().any(is_tricky) {
        return wrong(field, "must not hold control characters, nor such that change the direction of text");
    }
    Ok(())
}

/// The error for a field.
fn wrong(field: impl Into<String>, why: &str) -> Result<(), LoadError> {
    Err(LoadError::Descriptor { field: field.into(), why: why.to_owned() })
}

/// Whether a text is a slug: `a-z`, `0-9` and `-`, neither empty nor beginning or ending with `-`.
fn is_slug(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// Whether a text is a semantic version.
fn is_version(text: &str) -> bool {
    semver::Version::parse(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::types::{Choice, IntegerRange};

    fn field(key: &str, kind: SettingKind, default: Option<SettingValue>) -> SettingField {
        SettingField { key: key.into(), label: "L".into(), help: String::new(), kind, required: true, default }
    }

    fn descriptor() -> Descriptor {
        let choices = ["us", "eu"].map(|value| Choice { value: value.into(), label: value.into() }).to_vec();
        let range = IntegerRange { minimum: 1, maximum: 390 };
        Descriptor {
            name: "signal-client.acme-siem".into(),
            display_name: "Acme SIEM".into(),
            category: "SIEM".into(),
            version: "1.2.3-rc.1+build".into(),
            vendor_docs: "https://docs.example.com/".into(),
            auth_method: "API Key".into(),
            default_poll_minutes: 5,
            minimum_poll_minutes: 1,
            multi_instance: true,
            streams: vec![DataStream {
                name: "alerts".into(),
                noun: "alerts".into(),
                description: "Alerts.".into(),
                announced: true,
            }],
            settings: vec![
                field("region", SettingKind::Choice(choices), Some(SettingValue::Text("us".into()))),
                field("api_key", SettingKind::Secret, None),
                field("days", SettingKind::Integer(range), Some(SettingValue::Integer(28))),
                field("note", SettingKind::Text(10), Some(SettingValue::Text("x".into()))),
                field("on", SettingKind::Boolean, Some(SettingValue::Boolean(true))),
            ],
            credentials: vec![Credential { setting: "api_key".into(), header: "X-Api-Key".into() }],
        }
    }

    #[test]
    fn a_sound_descriptor_passes() {
        check(&descriptor()).unwrap();
    }

    #[test]
    fn every_field_that_breaks_the_contract_is_named() {
        type Change = fn(&mut Descriptor);
        let table: Vec<(&str, Change)> = vec![
            ("name", |d| d.name = "acme".into()),
            ("name", |d| d.name = "signal-client.".into()),
            ("name", |d| d.name = "signal-client.Acme".into()),
            ("name", |d| d.name = format!("signal-client.{}", "a".repeat(60))),
            ("display-name", |d| d.display_name = String::new()),
            ("display-name", |d| d.display_name = "a\nb".into()),
            ("category", |d| d.category = "x".repeat(65)),
            ("auth-method", |d| d.auth_method = "\u{1b}[31m".into()),
            ("version", |d| d.version = "1.2".into()),
            ("version", |d| d.version = "01.2.3".into()),
            ("version", |d| d.version = "1.2.3-".into()),
            ("version", |d| d.version = "1.2.99999999999999999999".into()),
            ("vendor-docs", |d| d.vendor_docs = "http://docs.example.com".into()),
            ("vendor-docs", |d| d.vendor_docs = "javascript:alert(1)".into()),
            ("default-poll-minutes", |d| d.default_poll_minutes = 0),
            ("default-poll-minutes", |d| d.default_poll_minutes = 1441),
            ("minimum-poll-minutes", |d| d.minimum_poll_minutes = 6),
            ("minimum-poll-minutes", |d| d.minimum_poll_minutes = 0),
            ("streams", |d| d.streams.clear()),
            ("streams", |d| d.streams = vec![d.streams[0].clone(); 33]),
            ("streams[1].name", |d| d.streams.push(d.streams[0].clone())),
            ("streams[0].name", |d| d.streams[0].name = "Alerts".into()),
            ("streams[0].noun", |d| d.streams[0].noun = String::new()),
            ("streams[0].description", |d| d.streams[0].description = "x\0".into()),
            ("settings", |d| d.settings = vec![d.settings[0].clone(); 65]),
            ("settings[5].key", |d| d.settings.push(d.settings[0].clone())),
            ("settings[0].key", |d| d.settings[0].key = "Region".into()),
            ("settings[0].label", |d| d.settings[0].label = String::new()),
            ("settings[0].help", |d| d.settings[0].help = "x".repeat(1025)),
            ("settings[0].kind", |d| d.settings[0].kind = SettingKind::Choice(vec![])),
            ("settings[0].default", |d| d.settings[0].default = Some(SettingValue::Text("mars".into()))),
            ("settings[0].default", |d| d.settings[0].default = Some(SettingValue::Integer(1))),
            ("settings[1].default", |d| d.settings[1].default = Some(SettingValue::Text("hunter2".into()))),
            ("settings[2].default", |d| d.settings[2].default = Some(SettingValue::Integer(391))),
            ("settings[2].kind", |d| {
                d.settings[2].kind = SettingKind::Integer(IntegerRange { minimum: 1, maximum: 0 })
            }),
            ("settings[3].kind", |d| d.settings[3].kind = SettingKind::Text(0)),
            ("settings[3].default", |d| d.settings[3].default = Some(SettingValue::Text("12345678901".into()))),
            ("credentials", |d| d.credentials.clear()),
            ("credentials[0].setting", |d| d.credentials[0].setting = "region".into()),
            ("credentials[0].setting", |d| d.credentials[0].setting = "nothing".into()),
            ("credentials[1].setting", |d| d.credentials.push(d.credentials[0].clone())),
            ("credentials[0].header", |d| d.credentials[0].header = "Host".into()),
            ("credentials[0].header", |d| d.credentials[0].header = "Connection".into()),
            ("credentials[0].header", |d| d.credentials[0].header = "Content-Length".into()),
            ("credentials[0].header", |d| d.credentials[0].header = "x y".into()),
            ("credentials[0].header", |d| d.credentials[0].header = String::new()),
            ("credentials[1].header", |d| {
                d.settings.push(field("other", SettingKind::Secret, None));
                d.credentials.push(Credential { setting: "other".into(), header: "x-api-key".into() });
            }),
        ];
        for (name, change) in table {
            let mut descriptor = descriptor();
            change(&mut descriptor);
            match check(&descriptor) {
                Err(LoadError::Descriptor { field, .. }) => assert_eq!(field, name),
                other => panic!("{name}: {other:?}"),
            }
        }
    }

    #[test]
    fn the_choices_of_a_setting_are_unique() {
        let mut descriptor = descriptor();
        let twice = Choice { value: "us".into(), label: "US".into() };
        descriptor.settings[0].kind = SettingKind::Choice(vec![twice.clone(), twice]);
        let text = check(&descriptor).unwrap_err().to_string();
        assert!(text.contains("choice[1].value"), "{text}");
    }
}
