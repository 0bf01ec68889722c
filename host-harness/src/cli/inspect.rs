//! `host-harness inspect`: what a connector says of itself and what it needs, and what it plans with given settings,
//! without running anything but that.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::error::CliError;
use super::{Context, options, output, planned};
use crate::connectors::{Connector, TenantError};
use crate::contract::types::{SettingField, SettingKind, SettingValue};
use crate::egress::Redactor;
use crate::instances::settings;
use crate::log::escape;

/// Show what a connector is, collects, needs and may do
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  host-harness inspect connector.wasm
  host-harness inspect connector.wasm --set region=us     where an instance with these settings goes
  host-harness inspect connector.wasm --json")]
pub(super) struct Inspect {
    /// The connector, a WebAssembly component
    #[arg(value_name = "CONNECTOR.wasm")]
    connector: PathBuf,
    /// Directory in which the compiled connector is kept
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// A setting, to see what an instance with it may reach and where its secrets go; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

impl Inspect {
    pub(super) async fn run(self, context: &Context) -> Result<u8, CliError> {
        let given = settings::parse(&self.settings)?;
        let spinner = context.spinner("loading the connector");
        let connector = options::load(&self.connector, self.cache.as_deref()).await?;
        spinner.finish_and_clear();
        let plan = if given.is_empty() {
            None
        } else {
            let given = settings::coerce(connector.descriptor(), &given)?;
            let plan = connector.configure_without(&given, &Redactor::default()).await;
            Some(plan.map_err(TenantError::from)?)
        };
        if self.json {
            let mut page = as_json(&connector);
            if let (Some(plan), Value::Object(page)) = (&plan, &mut page) {
                page.insert("plan".into(), planned::as_json(&connector, plan));
            }
            output::print_json(&page, false)?;
        } else {
            let planned = plan.map_or_else(String::new, |plan| planned::page(&connector, &plan));
            output::print(&format!("{}{planned}", page(&connector)))?;
        }
        Ok(0)
    }
}

/// For people.
fn page(connector: &Connector) -> String {
    let descriptor = connector.descriptor();
    let row = |name: &str, value: &str| vec![name.to_owned(), escape(value)];
    let rows = [
        row("name", &descriptor.name),
        row("version", &descriptor.version),
        row("category", &descriptor.category),
        row("vendor's documentation", &descriptor.vendor_docs),
        row("signs in with", &descriptor.auth_method),
        row(
            "polling interval",
            &format!("{} min, at least {} min", descriptor.default_poll_minutes, descriptor.minimum_poll_minutes),
        ),
        row("several instances", if descriptor.multi_instance { "yes" } else { "no" }),
        row("contract", connector.contract_version()),
        row("size", &format!("{} bytes", connector.size())),
        row("SHA-256", connector.digest()),
    ];
    let mut text = format!("{}\n{}", escape(&descriptor.display_name), output::table("  ", &rows));
    text.push_str("\nStreams\n");
    let streams = descriptor.streams.iter().map(|stream| row(&stream.name, &stream.description)).collect::<Vec<_>>();
    text.push_str(&output::table("  ", &streams));
    text.push_str("\nSettings\n");
    for field in &descriptor.settings {
        text.push_str(&setting(field));
    }
    text.push_str("\nSecrets are added by the host, the connector never sees them\n");
    let credentials = descriptor
        .credentials
        .iter()
        .map(|credential| row(&credential.setting, &format!("in the header {}", credential.header)))
        .collect::<Vec<_>>();
    text.push_str(&output::table("  ", &credentials));
    for (title, names) in [("Imports", connector.imports()), ("Exports", connector.exports())] {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "\n{title}");
        for name in names {
            let _ = writeln!(text, "  {}", escape(name));
        }
    }
    text
}

/// One field of the form: key, kind, default, label and help.
fn setting(field: &SettingField) -> String {
    let kind = match &field.kind {
        SettingKind::Text(most) => format!("text of at most {most} bytes"),
        SettingKind::Integer(range) => format!("whole number, {} to {}", range.minimum, range.maximum),
        SettingKind::Boolean => "true or false".to_owned(),
        SettingKind::Choice(choices) => {
            let choices = choices.iter().map(|choice| format!("{} ({})", choice.value, choice.label));
            format!("one of {}", choices.collect::<Vec<_>>().join(", "))
        }
        SettingKind::Secret => "secret".to_owned(),
    };
    let given = match (&field.default, field.required) {
        (Some(default), _) => format!("default {}", value(default)),
        (None, true) => "required".to_owned(),
        (None, false) => "optional".to_owned(),
    };
    format!(
        "  {}: {}; {}\n      {}. {}\n",
        escape(&field.key),
        escape(&kind),
        escape(&given),
        escape(&field.label),
        escape(&field.help)
    )
}

/// A value as it is written after `--set KEY=`.
fn value(value: &SettingValue) -> String {
    match value {
        SettingValue::Text(text) => text.clone(),
        SettingValue::Integer(number) => number.to_string(),
        SettingValue::Boolean(on) => on.to_string(),
    }
}

/// For programs.
fn as_json(connector: &Connector) -> Value {
    let descriptor = connector.descriptor();
    let settings = descriptor.settings.iter().map(|field| {
        let mut json = json!({
            "key": field.key, "label": field.label, "help": field.help, "required": field.required,
            "default": field.default.as_ref().map(value_json),
        });
        let (kind, details) = match &field.kind {
            SettingKind::Text(most) => ("text", json!({ "most_bytes": most })),
            SettingKind::Integer(range) => ("integer", json!({ "minimum": range.minimum, "maximum": range.maximum })),
            SettingKind::Boolean => ("boolean", json!({})),
            SettingKind::Choice(choices) => {
                let choices = choices.iter().map(|choice| json!({ "value": choice.value, "label": choice.label }));
                ("choice", json!({ "choices": choices.collect::<Vec<_>>() }))
            }
            SettingKind::Secret => ("secret", json!({})),
        };
        if let (Value::Object(json), Value::Object(details)) = (&mut json, details) {
            json.insert("kind".into(), kind.into());
            json.extend(details);
        }
        json
    });
    let streams = descriptor.streams.iter().map(|stream| {
        json!({ "name": stream.name, "noun": stream.noun, "description": stream.description, "announced": stream.announced })
    });
    let credentials = descriptor
        .credentials
        .iter()
        .map(|credential| json!({ "setting": credential.setting, "header": credential.header }));
    json!({
        "name": descriptor.name,
        "slug": connector.slug(),
        "display_name": descriptor.display_name,
        "category": descriptor.category,
        "version": descriptor.version,
        "vendor_docs": descriptor.vendor_docs,
        "auth_method": descriptor.auth_method,
        "default_poll_minutes": descriptor.default_poll_minutes,
        "minimum_poll_minutes": descriptor.minimum_poll_minutes,
        "multi_instance": descriptor.multi_instance,
        "contract_version": connector.contract_version(),
        "digest": connector.digest(),
        "size": connector.size(),
        "imports": connector.imports(),
        "exports": connector.exports(),
        "streams": streams.collect::<Vec<_>>(),
        "settings": settings.collect::<Vec<_>>(),
        "credentials": credentials.collect::<Vec<_>>(),
    })
}

fn value_json(value: &SettingValue) -> Value {
    match value {
        SettingValue::Text(text) => text.as_str().into(),
        SettingValue::Integer(number) => (*number).into(),
        SettingValue::Boolean(on) => (*on).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_says_what_it_takes() {
        let fields = crate::instances::tests::descriptor().settings;
        let text: String = fields.iter().map(setting).collect();
        insta::assert_snapshot!(text, @r"
          region: one of us (US), eu (EU); required
              Region. 
          api_key: secret; required
              API Key. 
          days: whole number, 1 to 390; optional
              Days. 
          alerts: true or false; optional
              Alerts. 
          note: text of at most 100 bytes; optional
              Note. 
        ");
    }
}
