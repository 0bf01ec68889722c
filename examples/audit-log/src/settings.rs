//! What the connector is, its settings form, and what an instance may reach.
//!
//! Why the check beside the form: the host checks no setting, so what the form promises has to be kept here.

use crate::contract::{
    Credential, DataStream, Descriptor, FieldError, Origin, Plan, RequestRule, Scheme, Setting, SettingField,
    SettingKind, SettingValue,
};

/// The one stream.
pub const EVENTS: &str = "events";

/// The one setting besides the secret.
const SITE: &str = "site";

/// Longest site, in bytes: a label of DNS.
const LONGEST_SITE: u32 = 63;

/// Pure: the same answer each time, no request, no clock.
#[must_use]
pub fn describe() -> Descriptor {
    let field = |key: &str, label: &str, help: &str, kind| SettingField {
        key: key.to_owned(),
        label: label.to_owned(),
        help: help.to_owned(),
        kind,
        required: true,
        default: None,
    };
    Descriptor {
        name: "signal-client.audit-log".to_owned(),
        display_name: "Audit Log".to_owned(),
        category: "Audit".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        vendor_docs: "https://docs.audit.example/api".to_owned(),
        auth_method: "Token".to_owned(),
        default_poll_minutes: 5,
        minimum_poll_minutes: 1,
        multi_instance: true,
        streams: vec![DataStream {
            name: EVENTS.to_owned(),
            noun: "audit events".to_owned(),
            description: "Everything that people and programs did in the account.".to_owned(),
            announced: true,
        }],
        settings: vec![
            field(SITE, "Site", "The first part of https://SITE.audit.example.", SettingKind::Text(LONGEST_SITE)),
            field("token", "Token", "A token with the right audit:read.", SettingKind::Secret),
        ],
        // The host adds it to every request. This connector never sees the token.
        credentials: vec![Credential { setting: "token".to_owned(), header: "x-audit-token".to_owned() }],
    }
}

/// The host of a site.
///
/// # Errors
/// One entry for each setting that is unknown, missing, given twice or not what the form says.
pub fn host(settings: &[Setting]) -> Result<String, Vec<FieldError>> {
    let error = |key: &str, message: &str| FieldError { key: key.to_owned(), message: message.to_owned() };
    let (sites, others): (Vec<_>, Vec<_>) = settings.iter().partition(|setting| setting.key == SITE);
    let mut errors: Vec<_> = others
        .into_iter()
        .map(|setting| error(&setting.key, "There is no such setting; there is site, and the secret token."))
        .collect();
    let site = match sites.as_slice() {
        [Setting { value: SettingValue::Text(site), .. }] if is_site(site) => Some(site),
        [] => {
            errors.push(error(SITE, "A site is needed, for example acme."));
            None
        }
        [_] => {
            errors.push(error(SITE, "A site is a text of 1 to 63 of a-z, 0-9 and -, for example acme."));
            None
        }
        [_, _, ..] => {
            errors.push(error(SITE, "A site is given once."));
            None
        }
    };
    site.filter(|_| errors.is_empty()).map(|site| format!("{site}.audit.example")).ok_or(errors)
}

/// What an instance needs to reach. All else the host refuses.
#[must_use]
pub fn plan(host: String) -> Plan {
    let rule = |path: &str| RequestRule { method: "GET".to_owned(), path_prefix: path.to_owned() };
    Plan {
        origin: Origin { scheme: Scheme::Https, host, port: 443 },
        rules: vec![rule("/v1/events"), rule("/v1/whoami")],
    }
}

/// Whether a text can be a site.
fn is_site(text: &str) -> bool {
    let sound = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let fits = u32::try_from(text.len()).is_ok_and(|bytes| (1..=LONGEST_SITE).contains(&bytes));
    fits && text.bytes().all(sound) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(key: &str, value: &str) -> Setting {
        Setting { key: key.to_owned(), value: SettingValue::Text(value.to_owned()) }
    }

    #[test]
    fn every_setting_that_is_wrong_is_named() {
        assert_eq!(host(&[text("site", "acme")]).unwrap(), "acme.audit.example");
        assert!(host(&[text("site", &"a".repeat(63))]).is_ok());
        let number = Setting { key: "site".to_owned(), value: SettingValue::Integer(7) };
        let long = text("site", &"a".repeat(64));
        for (given, keys) in [
            (vec![], vec!["site"]),
            (vec![text("bogus", "1"), text("site", "Acme"), text("Site", "acme")], vec!["bogus", "Site", "site"]),
            (vec![text("site", "acme"), text("bogus", "1")], vec!["bogus"]),
            (vec![text("site", "acme"), text("site", "acme")], vec!["site"]),
            (vec![text("site", "")], vec!["site"]),
            (vec![text("site", "-acme")], vec!["site"]),
            (vec![text("site", "acme.evil")], vec!["site"]),
            (vec![long], vec!["site"]),
            (vec![number], vec!["site"]),
        ] {
            let errors = host(&given).unwrap_err();
            assert_eq!(errors.iter().map(|error| error.key.as_str()).collect::<Vec<_>>(), keys, "{given:?}");
        }
    }
}
