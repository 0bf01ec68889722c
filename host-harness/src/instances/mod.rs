//! Instances: a connector with the settings and secrets of one tenant, and
//! the cycle that polls it.
//!
//! Why apart from the sandbox: what is decided here (which settings, which
//! secrets, when to go on, what to tell the operator) is the same for every
//! connector and needs no WebAssembly to be tested.

pub mod collector;
pub mod courier;
pub mod cycle;
pub mod failure;
pub mod report;
pub mod secrets;
pub mod settings;

#[cfg(test)]
pub(crate) mod tests {
    use crate::contract::types::*;

    /// The descriptor of a made-up connector, for the tests of this module.
    pub(crate) fn descriptor() -> Descriptor {
        let field = |key: &str, label: &str, kind, required| SettingField {
            key: key.into(),
            label: label.into(),
            help: String::new(),
            kind,
            required,
            default: None,
        };
        let choice = |value: &str| Choice { value: value.into(), label: value.to_uppercase() };
        Descriptor {
            name: "signal-client.acme-siem".into(),
            display_name: "Acme SIEM".into(),
            category: "SIEM".into(),
            version: "1.2.3".into(),
            vendor_docs: "https://docs.example.com/".into(),
            auth_method: "API Key".into(),
            default_poll_minutes: 5,
            minimum_poll_minutes: 1,
            multi_instance: true,
            streams: vec![
                DataStream {
                    name: "events".into(),
                    noun: "events".into(),
                    description: "Events".into(),
                    announced: true,
                },
                DataStream {
                    name: "alerts".into(),
                    noun: "alerts".into(),
                    description: "Alerts".into(),
                    announced: true,
                },
                DataStream {
                    name: "evidence".into(),
                    noun: "pieces".into(),
                    description: "Evidence".into(),
                    announced: false,
                },
            ],
            settings: vec![
                field("region", "Region", SettingKind::Choice(vec![choice("us"), choice("eu")]), true),
                field("api_key", "API Key", SettingKind::Secret, true),
                field("days", "Days", SettingKind::Integer(IntegerRange { minimum: 1, maximum: 390 }), false),
                field("alerts", "Alerts", SettingKind::Boolean, false),
                field("note", "Note", SettingKind::Text(100), false),
            ],
            credentials: vec![Credential { setting: "api_key".into(), header: "x-api-key".into() }],
        }
    }
}
