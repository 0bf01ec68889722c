//! The settings of an instance: the form and its validation.
//!
//! Why in one table: the form that the operator sees, the defaults and the
//! checks come from the same entries, so they cannot disagree. The API key is
//! in the form but never among the settings: the host keeps it and adds it to
//! requests itself.

use crate::api::calls::{COMMENTS, INVESTIGATIONS, RESTRICTED, TRIAGE, TRIAGE_RRNS, TRIAGE_SEARCH, VALIDATE};
use crate::contract::{
    Choice, FieldError, IntegerRange, Origin, Plan, RequestRule, Scheme, Setting, SettingField, SettingKind,
    SettingValue,
};
use crate::region::{self, REGIONS, Region};

/// The header that carries the API key.
pub const KEY_HEADER: &str = "x-api-key";
/// The setting that holds the API key.
pub const KEY_SETTING: &str = "api_key";

/// The setting that holds the region.
const REGION_SETTING: &str = "region";

/// A boolean or integer field: its texts, range and default.
struct Number {
    key: &'static str,
    label: &'static str,
    help: &'static str,
    minimum: i64,
    maximum: i64,
    default: i64,
}

/// A switch: its texts; every switch has a default.
struct Switch {
    key: &'static str,
    label: &'static str,
    help: &'static str,
    default: bool,
}

const LOOKBACK: Number = Number {
    key: "initial_lookback_days",
    label: "Initial look-back (days)",
    help: "How far back the first collection starts. InsightIDR keeps investigations for 13 months.",
    minimum: 1,
    maximum: 390,
    default: 28,
};
const OVERLAP: Number = Number {
    key: "overlap_minutes",
    label: "Overlap (minutes)",
    help: "How long after its creation an investigation may first become visible and still be found. \
           Every poll reads again what was created this long before the last one. Alerts without evidence, and alerts \
           outside investigations, come this much later.",
    minimum: 1,
    maximum: 1440,
    default: 20,
};
const CONCURRENCY: Number = Number {
    key: "max_concurrent_requests",
    label: "Concurrent requests",
    help: "How many requests to InsightIDR may be under way at once.",
    minimum: 1,
    maximum: 32,
    default: 8,
};
const ALERTS: Switch = Switch {
    key: "collect_alerts",
    label: "Collect alerts",
    help: "Collect the alerts of every investigation.",
    default: true,
};
const EVIDENCE: Switch = Switch {
    key: "collect_evidence",
    label: "Collect evidence",
    help: "Add evidence and actors to alerts, where the tenant has the Alert Triage API. Without it alerts of \
           investigations also lack MITRE techniques, their own priority and tags, and the time they happened. Needs \
           Collect alerts.",
    default: true,
};
const UNINVESTIGATED: Switch = Switch {
    key: "collect_uninvestigated_alerts",
    label: "Collect alerts outside investigations",
    help: "Collect the alerts that belong to no investigation, where the tenant has the Alert Triage API. Needs Collect \
           alerts.",
    default: true,
};
const PRODUCT_ALERTS: Switch = Switch {
    key: "collect_product_alerts",
    label: "Collect alerts of other Rapid7 products",
    help: "Collect what Threat Command and the Insight Agent have alerted on in every investigation. Needs one more \
           request for each investigation that is new or changed.",
    default: true,
};
const COLLECT_COMMENTS: Switch = Switch {
    key: "collect_comments",
    label: "Collect comments",
    help: "Collect what people write about investigations. Comments can hold personal data and secrets.",
    default: false,
};
const COLLECT_RESTRICTED: Switch = Switch {
    key: "collect_restricted_evidence",
    label: "Collect restricted evidence",
    help: "Collect evidence from the endpoint that Rapid7's support enables for an organization.",
    default: false,
};
/// The switches, in the order of the form.
const SWITCHES: [&Switch; 6] =
    [&ALERTS, &EVIDENCE, &UNINVESTIGATED, &PRODUCT_ALERTS, &COLLECT_COMMENTS, &COLLECT_RESTRICTED];

/// Validated settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where the tenant lives.
    pub region: Region,
    /// First collection starts this many days ago, 1 to 390.
    pub lookback_days: i64,
    /// Minutes read again before the last watermark, 1 to 1440.
    pub overlap_minutes: i64,
    /// Whether alerts are collected.
    pub collect_alerts: bool,
    /// Whether evidence and actors are collected; only with alerts.
    pub collect_evidence: bool,
    /// Whether alerts outside investigations are collected; only with alerts.
    pub collect_uninvestigated: bool,
    /// Whether alerts of other Rapid7 products are collected.
    pub collect_product_alerts: bool,
    /// Whether comments are collected.
    pub collect_comments: bool,
    /// Whether restricted evidence is collected.
    pub collect_restricted: bool,
    /// Requests under way at once, 1 to 32.
    pub concurrency: usize,
}

impl Settings {
    /// Validates settings as configured.
    ///
    /// # Errors
    ///
    /// One entry for each unknown or repeated key, wrong type, value out of
    /// range and missing required value.
    pub fn parse(given: &[Setting]) -> Result<Self, Vec<FieldError>> {
        let mut errors = Vec::new();
        for (position, setting) in given.iter().enumerate() {
            if !keys().any(|key| key == setting.key) {
                let known: Vec<&str> = keys().filter(|key| *key != KEY_SETTING).collect();
                errors.push(error(
                    &setting.key,
                    format!("there is no such setting; the settings are {}", known.join(", ")),
                ));
            } else if setting.key == KEY_SETTING {
                errors
                    .push(error(KEY_SETTING, "is a secret and must be configured as one, not as a setting".to_owned()));
            } else if given.iter().take(position).any(|earlier| earlier.key == setting.key) {
                errors.push(error(&setting.key, "is set more than once".to_owned()));
            }
        }
        let region = choose_region(given, &mut errors);
        let lookback_days = number(given, &LOOKBACK, &mut errors);
        let overlap_minutes = number(given, &OVERLAP, &mut errors);
        let concurrency = number(given, &CONCURRENCY, &mut errors);
        let [collect_alerts, evidence, uninvestigated, product_alerts, comments, restricted] =
            SWITCHES.map(|field| switch(given, field, &mut errors));
        match region {
            Some(region) if errors.is_empty() => Ok(Self {
                region,
                lookback_days,
                overlap_minutes,
                collect_alerts,
                collect_evidence: collect_alerts && evidence,
                collect_uninvestigated: collect_alerts && uninvestigated,
                collect_product_alerts: product_alerts,
                collect_comments: comments,
                collect_restricted: restricted,
                concurrency: usize::try_from(concurrency).unwrap_or(1),
            }),
            _ => Err(errors),
        }
    }
}

/// What an instance with these settings may reach: one host, and of it only
/// what is read here.
#[must_use]
pub fn plan(settings: &Settings) -> Plan {
    let mut rules = vec![("GET", VALIDATE), ("GET", INVESTIGATIONS)];
    if settings.collect_evidence || settings.collect_uninvestigated {
        // Both only read; other calls beside them do not.
        rules.extend([("GET", TRIAGE), ("POST", TRIAGE_SEARCH), ("POST", TRIAGE_RRNS)]);
    }
    if settings.collect_comments {
        rules.push(("GET", COMMENTS));
    }
    if settings.collect_restricted {
        rules.push(("GET", RESTRICTED));
    }
    Plan {
        origin: Origin { scheme: Scheme::Https, host: settings.region.host.to_owned(), port: 443 },
        rules: rules
            .into_iter()
            .map(|(method, prefix)| RequestRule { method: method.to_owned(), path_prefix: prefix.to_owned() })
            .collect(),
    }
}

/// The keys of the form, in its order. Not taken from the form itself: making its texts for every setting of every
/// step was half of what a fresh instance cost.
fn keys() -> impl Iterator<Item = &'static str> {
    let switches = SWITCHES.iter().map(|switch| switch.key);
    [REGION_SETTING, KEY_SETTING, LOOKBACK.key, OVERLAP.key].into_iter().chain(switches).chain([CONCURRENCY.key])
}

/// The form.
#[must_use]
pub fn fields() -> Vec<SettingField> {
    let mut fields = vec![
        SettingField {
            key: REGION_SETTING.to_owned(),
            label: "Region".to_owned(),
            help: "The region of your Insight Platform account. It stands in the address of the browser when you are \
                   logged into Rapid7."
                .to_owned(),
            kind: SettingKind::Choice(
                REGIONS
                    .iter()
                    .map(|region| Choice {
                        value: region.code.to_owned(),
                        label: format!("{} ({})", region.label, region.host),
                    })
                    .collect(),
            ),
            required: true,
            default: None,
        },
        SettingField {
            key: KEY_SETTING.to_owned(),
            label: "API Key".to_owned(),
            help: "A User Key (or an Organization Key) from Platform Settings, API Keys.".to_owned(),
            kind: SettingKind::Secret,
            required: true,
            default: None,
        },
        number_field(&LOOKBACK),
        number_field(&OVERLAP),
    ];
    fields.extend(SWITCHES.map(switch_field));
    fields.push(number_field(&CONCURRENCY));
    fields
}

fn number_field(number: &Number) -> SettingField {
    SettingField {
        key: number.key.to_owned(),
        label: number.label.to_owned(),
        help: number.help.to_owned(),
        kind: SettingKind::Integer(IntegerRange { minimum: number.minimum, maximum: number.maximum }),
        required: false,
        default: Some(SettingValue::Integer(number.default)),
    }
}

fn switch_field(switch: &Switch) -> SettingField {
    SettingField {
        key: switch.key.to_owned(),
        label: switch.label.to_owned(),
        help: switch.help.to_owned(),
        kind: SettingKind::Boolean,
        required: false,
        default: Some(SettingValue::Boolean(switch.default)),
    }
}

fn value<'a>(given: &'a [Setting], key: &str) -> Option<&'a SettingValue> {
    given.iter().find(|setting| setting.key == key).map(|setting| &setting.value)
}

fn error(key: &str, message: String) -> FieldError {
    FieldError { key: key.to_owned(), message }
}

/// How a given value is shown in a message.
fn shown(value: &SettingValue) -> String {
    match value {
        SettingValue::Text(text) => format!("the text \"{}\"", crate::text::shown(text, 64)),
        SettingValue::Integer(number) => number.to_string(),
        SettingValue::Boolean(flag) => flag.to_string(),
    }
}

fn choose_region(given: &[Setting], errors: &mut Vec<FieldError>) -> Option<Region> {
    let allowed = || REGIONS.map(|region| format!("{} ({})", region.code, region.label)).join(", ");
    match value(given, REGION_SETTING) {
        None => errors.push(error(REGION_SETTING, format!("is required; it is one of {}", allowed()))),
        Some(SettingValue::Text(code)) => match region::by_code(code) {
            Some(region) => return Some(region),
            None => errors.push(error(
                REGION_SETTING,
                format!("is one of {}, not \"{}\"", allowed(), crate::text::shown(code, 64)),
            )),
        },
        Some(other) => errors.push(error(REGION_SETTING, format!("is one of {}, not {}", allowed(), shown(other)))),
    }
    None
}

fn number(given: &[Setting], field: &Number, errors: &mut Vec<FieldError>) -> i64 {
    match value(given, field.key) {
        None => field.default,
        Some(SettingValue::Integer(number)) if (field.minimum..=field.maximum).contains(number) => *number,
        Some(other) => {
            errors.push(error(
                field.key,
                format!("is a whole number from {} to {}, not {}", field.minimum, field.maximum, shown(other)),
            ));
            field.default
        }
    }
}

fn switch(given: &[Setting], field: &Switch, errors: &mut Vec<FieldError>) -> bool {
    match value(given, field.key) {
        None => field.default,
        Some(SettingValue::Boolean(flag)) => *flag,
        Some(other) => {
            errors.push(error(field.key, format!("is true or false, not {}", shown(other))));
            field.default
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_are_those_of_the_form() {
        assert!(keys().eq(fields().iter().map(|field| field.key.as_str())));
    }

    fn text(key: &str, value: &str) -> Setting {
        Setting { key: key.to_owned(), value: SettingValue::Text(value.to_owned()) }
    }

    fn integer(key: &str, value: i64) -> Setting {
        Setting { key: key.to_owned(), value: SettingValue::Integer(value) }
    }

    fn messages(given: &[Setting]) -> Vec<String> {
        Settings::parse(given)
            .unwrap_err()
            .into_iter()
            .map(|error| format!("{}: {}", error.key, error.message))
            .collect()
    }

    #[test]
    fn a_region_is_enough_and_the_rest_has_the_documented_defaults() {
        let settings = Settings::parse(&[text("region", "ap")]).unwrap();
        assert_eq!(settings.region.host, "ap.api.insight.rapid7.com");
        assert_eq!((settings.lookback_days, settings.overlap_minutes, settings.concurrency), (28, 20, 8));
        assert!(settings.collect_alerts && settings.collect_evidence);
        assert!(settings.collect_uninvestigated && settings.collect_product_alerts);
        assert!(!settings.collect_comments && !settings.collect_restricted);
    }

    #[test]
    fn the_form_says_what_else_a_setting_does() {
        let help = |key: &str| fields().into_iter().find(|field| field.key == key).unwrap().help;
        assert!(help("overlap_minutes").contains("alerts outside investigations, come this much later"));
        assert!(help("collect_evidence").contains("MITRE techniques, their own priority and tags"));
    }

    #[test]
    fn a_plan_grants_what_the_settings_need_and_nothing_else() {
        let switch = |key: &str, on| Setting { key: key.to_owned(), value: SettingValue::Boolean(on) };
        let granted = |given: &[Setting]| -> Vec<String> {
            let settings = Settings::parse(&[&[text("region", "us")], given].concat()).unwrap();
            plan(&settings).rules.into_iter().map(|rule| format!("{} {}", rule.method, rule.path_prefix)).collect()
        };
        let least = ["GET /validate", "GET /idr/v2/investigations"];
        let triage = ["GET /idr/at/alerts", "POST /idr/at/alerts/ops/search", "POST /idr/at/alerts/ops/rrns"];
        assert_eq!(granted(&[]), [least.as_slice(), &triage].concat());
        assert_eq!(granted(&[switch("collect_alerts", false)]), least);
        assert_eq!(
            granted(&[
                switch("collect_alerts", false),
                switch("collect_comments", true),
                switch("collect_restricted_evidence", true)
            ]),
            [least.as_slice(), &["GET /idr/v1/comments", "GET /idr/v1/restricted/investigations"]].concat()
        );
    }

    #[test]
    fn the_limits_of_every_range_are_taken_and_what_lies_beyond_is_named() {
        for (key, minimum, maximum) in
            [("initial_lookback_days", 1, 390), ("overlap_minutes", 1, 1440), ("max_concurrent_requests", 1, 32)]
        {
            for good in [minimum, maximum] {
                assert!(Settings::parse(&[text("region", "us"), integer(key, good)]).is_ok(), "{key} {good}");
            }
            for bad in [minimum - 1, maximum + 1, i64::MIN, i64::MAX] {
                assert_eq!(
                    messages(&[text("region", "us"), integer(key, bad)]),
                    [format!("{key}: is a whole number from {minimum} to {maximum}, not {bad}")]
                );
            }
        }
    }

    #[test]
    fn every_mistake_is_named_at_once() {
        let found = messages(&[
            text("region", "mars\n"),
            text("colour", "red"),
            text("collect_alerts", "yes"),
            integer("overlap_minutes", 5),
            integer("overlap_minutes", 6),
            text("api_key", "abc"),
        ]);
        assert_eq!(found.len(), 5, "{found:#?}");
        assert!(
            found[0].starts_with("colour: there is no such setting; the settings are region, initial_lookback_days")
        );
        assert_eq!(found[1], "overlap_minutes: is set more than once");
        assert_eq!(found[2], "api_key: is a secret and must be configured as one, not as a setting");
        assert!(
            found[3].starts_with("region: is one of us (US 1), us2 (US 2)") && found[3].ends_with("not \"mars\\n\"")
        );
        assert_eq!(found[4], "collect_alerts: is true or false, not the text \"yes\"");
    }

    #[test]
    fn a_missing_region_says_which_there_are() {
        let found = messages(&[]);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("region: is required; it is one of us (US 1)"), "{}", found[0]);
    }

    #[test]
    fn without_alerts_there_is_no_evidence() {
        let off = Setting { key: "collect_alerts".to_owned(), value: SettingValue::Boolean(false) };
        let settings = Settings::parse(&[text("region", "us"), off]).unwrap();
        assert!(!settings.collect_alerts && !settings.collect_evidence);
    }
}
