//! The check of a descriptor.
//!
//! What: every promise that the contract makes about lengths, characters, counts, uniqueness and how settings and
//! credentials refer to each other.
//! Why: log lines, forms, metrics and headers are built from it without a second look.
//! Not guaranteed: that what it says is true.

use super::faults::Faults;
use crate::contract::types::{Credential, DataStream, Descriptor, SettingField, SettingKind, SettingValue};
use crate::egress::may_carry_credential;
use crate::log::escape;
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
/// The fields that break the contract, by their paths.
pub(super) fn check(descriptor: &Descriptor) -> Result<(), Faults> {
    let mut faults = Faults::default();
    let slug = descriptor.name.strip_prefix(NAME_PREFIX).unwrap_or_default();
    if descriptor.name.len() > SHORT || !is_slug(slug) {
        faults.add("name", "must be signal-client. and a slug of a-z, 0-9 and -, at most 64 bytes");
    }
    text(&mut faults, "display-name", &descriptor.display_name, 1, SHORT);
    text(&mut faults, "category", &descriptor.category, 1, SHORT);
    text(&mut faults, "auth-method", &descriptor.auth_method, 1, SHORT);
    if descriptor.version.len() > SHORT || !is_version(&descriptor.version) {
        faults.add("version", "must be a semantic version such as 1.2.3, at most 64 bytes");
    }
    if text(&mut faults, "vendor-docs", &descriptor.vendor_docs, 1, LONG)
        && !Url::parse(&descriptor.vendor_docs).is_ok_and(|url| url.scheme() == "https" && url.has_host())
    {
        faults.add("vendor-docs", "must be an https address");
    }
    if !(1..=1440).contains(&descriptor.default_poll_minutes) {
        faults.add("default-poll-minutes", "must be 1 to 1440");
    } else if !(1..=descriptor.default_poll_minutes).contains(&descriptor.minimum_poll_minutes) {
        faults.add("minimum-poll-minutes", "must be 1 to default-poll-minutes");
    }
    check_streams(&mut faults, &descriptor.streams);
    check_settings(&mut faults, &descriptor.settings);
    check_credentials(&mut faults, &descriptor.credentials, &descriptor.settings);
    faults.or_none()
}

/// Checks the data streams.
fn check_streams(faults: &mut Faults, streams: &[DataStream]) {
    if streams.is_empty() || streams.len() > 32 {
        return faults.add("streams", "must be 1 to 32");
    }
    let mut names = BTreeSet::new();
    for (at, stream) in streams.iter().enumerate() {
        let field = |name: &str| format!("streams[{at}].{name}");
        if stream.name.len() > SHORT || !is_slug(&stream.name) {
            faults.add(field("name"), "must be of a-z, 0-9 and -, at most 64 bytes");
        } else if !names.insert(&stream.name) {
            faults.add(field("name"), "must be unique");
        }
        text(faults, &field("noun"), &stream.noun, 1, SHORT);
        text(faults, &field("description"), &stream.description, 0, LONG);
    }
}

/// Checks the settings form.
fn check_settings(faults: &mut Faults, settings: &[SettingField]) {
    if settings.len() > 64 {
        return faults.add("settings", "must be at most 64");
    }
    let mut keys = BTreeSet::new();
    for (at, setting) in settings.iter().enumerate() {
        let field = |name: &str| format!("settings[{at}].{name}");
        let key_is_sound = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        if setting.key.is_empty() || setting.key.len() > SHORT || !setting.key.bytes().all(key_is_sound) {
            faults.add(field("key"), "must be of a-z, 0-9 and _, 1 to 64 bytes");
        } else if !keys.insert(&setting.key) {
            faults.add(field("key"), "must be unique");
        }
        text(faults, &field("label"), &setting.label, 1, LABEL);
        text(faults, &field("help"), &setting.help, 0, LONG);
        // What a field takes that is wrong itself says nothing of its default.
        if check_kind(faults, &field("kind"), &setting.kind)
            && let Some(value) = &setting.default
        {
            check_default(faults, &field("default"), &setting.kind, value);
        }
    }
}

/// Checks the kind of one setting; says whether it is sound.
fn check_kind(faults: &mut Faults, field: &str, kind: &SettingKind) -> bool {
    match kind {
        SettingKind::Text(most) if !(1..=TEXT_SETTING).contains(most) => {
            faults.add(field, "must allow 1 to 65536 bytes of text");
            false
        }
        SettingKind::Integer(range) if range.minimum > range.maximum => {
            faults.add(field, "must have a range that is not empty");
            false
        }
        SettingKind::Choice(choices) if choices.is_empty() || choices.len() > CHOICES => {
            faults.add(field, "must offer 1 to 256 choices");
            false
        }
        SettingKind::Choice(choices) => {
            let mut values = BTreeSet::new();
            for (at, choice) in choices.iter().enumerate() {
                text(faults, &format!("{field}.choice[{at}].value"), &choice.value, 1, LABEL);
                text(faults, &format!("{field}.choice[{at}].label"), &choice.label, 1, LABEL);
                if !values.insert(&choice.value) {
                    faults.add(format!("{field}.choice[{at}].value"), "must be unique");
                }
            }
            true
        }
        SettingKind::Text(_) | SettingKind::Integer(_) | SettingKind::Boolean | SettingKind::Secret => true,
    }
}

/// Checks that a default is a value that the field would take.
fn check_default(faults: &mut Faults, field: &str, kind: &SettingKind, value: &SettingValue) {
    let fits = match (kind, value) {
        (SettingKind::Text(most), SettingValue::Text(value)) => {
            text(faults, field, value, 0, usize::try_from(*most).unwrap_or(usize::MAX));
            true
        }
        (SettingKind::Integer(range), SettingValue::Integer(value)) => (range.minimum..=range.maximum).contains(value),
        (SettingKind::Boolean, SettingValue::Boolean(_)) => true,
        (SettingKind::Choice(choices), SettingValue::Text(value)) => {
            choices.iter().any(|choice| choice.value == *value)
        }
        _ => false,
    };
    if !fits {
        faults.add(field, "must be a value that the field takes, and is never given for a secret");
    }
}

/// Checks that secrets and credentials belong to each other one to one.
fn check_credentials(faults: &mut Faults, credentials: &[Credential], settings: &[SettingField]) {
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
            faults.add(field("setting"), "must be the key of a secret setting");
        } else if !used.insert(credential.setting.as_str()) {
            faults.add(field("setting"), "must be unique: a secret goes into one header");
        }
        let Ok(name) = HeaderName::from_bytes(credential.header.as_bytes()) else {
            faults.add(field("header"), "must be the name of an HTTP header");
            continue;
        };
        if credential.header.len() > SHORT || !may_carry_credential(&name) {
            faults.add(field("header"), "must not be a header that frames or routes a message or says what it holds");
        } else if !headers.insert(name.as_str().to_owned()) {
            faults.add(field("header"), "must be unique");
        }
    }
    for key in secrets.iter().filter(|key| !used.contains(*key)) {
        let key: String = key.chars().take(SHORT).collect();
        faults.add("credentials", format!("must say where the secret {} goes", escape(&key)));
    }
}

/// Checks length and characters of a text; says whether they are sound.
fn text(faults: &mut Faults, field: &str, text: &str, least: usize, most: usize) -> bool {
    if text.len() < least || text.len() > most {
        faults.add(field, format!("must be {least} to {most} bytes"));
        return false;
    }
    let is_sound = !text.chars().any(is_tricky);
    if !is_sound {
        faults.add(field, "must not hold control characters, nor such that change the direction of text");
    }
    is_sound
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
            let faults = check(&descriptor).expect_err(name);
            assert_eq!(faults.all()[0].field, name, "{faults}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let mut descriptor = descriptor();
        descriptor.version = "1".into();
        descriptor.streams[0].noun = String::new();
        descriptor.settings[0].key = "Region".into();
        descriptor.settings[1].label = "a\nb".into();
        descriptor.credentials.clear();
        insta::assert_snapshot!(check(&descriptor).unwrap_err().to_string().replace("; ", "\n"), @r"
        version must be a semantic version such as 1.2.3, at most 64 bytes
        streams[0].noun must be 1 to 64 bytes
        settings[0].key must be of a-z, 0-9 and _, 1 to 64 bytes
        settings[1].label must not hold control characters, nor such that change the direction of text
        credentials must say where the secret api_key goes
        ");
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
