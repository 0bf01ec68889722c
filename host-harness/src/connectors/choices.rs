//! Where the choices of a connector's form lead.
//!
//! What: the origins that an instance would be planned for if another option of one of its choices were taken, such as
//! another region.
//! Why: who installs a connector trusts its form. Without them, an operator who corrects a wrong region, or adds a tenant
//! in another one, would have to confirm what the form offers.
//! Not guaranteed: origins that only a combination of choices leads to, or a text that somebody writes, are not found, nor
//! those of a connector that takes long to say them; they are confirmed as they come up.

use super::{ConfigureError, Connector, Destinations};
use crate::contract::types::{Setting, SettingKind, SettingValue};
use crate::egress::Redactor;
use std::time::Duration;

use tokio::time::Instant;

/// Most options that are tried, of all choices together.
const OPTIONS: usize = 64;

/// No option is tried after this long: whoever admits a connector waits, and all it takes to say where it goes is
/// milliseconds.
const MOST: Duration = Duration::from_secs(2);

impl Connector {
    /// Where the options of its choices lead to, one choice changed at a time in these settings. What it does
    /// not take is left out; nothing is tried behind one that it fails on.
    pub(super) async fn choices(&self, settings: &[Setting], redactor: &Redactor) -> Destinations {
        let options: Vec<(&str, &str)> = self
            .descriptor()
            .settings
            .iter()
            .filter_map(|field| match &field.kind {
                SettingKind::Choice(choices) => {
                    Some(choices.iter().map(|choice| (field.key.as_str(), choice.value.as_str())))
                }
                _ => None,
            })
            .flatten()
            .take(OPTIONS)
            .collect();
        let mut destinations = Destinations::default();
        let begun = Instant::now();
        for (key, value) in options {
            if begun.elapsed() >= MOST {
                break;
            }
            let mut changed: Vec<Setting> = settings.iter().filter(|setting| setting.key != key).cloned().collect();
            changed.push(Setting { key: key.to_owned(), value: SettingValue::Text(value.to_owned()) });
            match self.configure_without(&changed, redactor).await {
                Ok(plan) => destinations.add(&plan.destinations()),
                Err(ConfigureError::Step(_)) => break,
                Err(ConfigureError::Fields(_) | ConfigureError::Plan(_)) => {}
            }
        }
        destinations
    }
}
