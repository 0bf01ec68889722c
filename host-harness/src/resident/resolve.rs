//! An instance of the configuration against the connector that serves it.
//!
//! What: interval, settings, secrets' names and the planned origin, judged without sending anything. Secrets are read only
//! to leave them out of what is said.
//! Why here and not where the file is parsed: only the connector knows its form, and it may come or change later than
//! the file.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use super::tenant::ANSWERS_WITHIN;
use crate::config::{Config, InstanceConfig, Problem, suggestion};
use crate::connectors::registry::is_among;
use crate::connectors::{ConfigureError, Connector, Destinations, Plan};
use crate::contract::types::Descriptor;
use crate::egress::Redactor;
use crate::instances::secrets::{self, SourceError, Whose};

/// Fields of one instance that are told to be wrong. Who has many mistakes corrects some and asks again; a connector may
/// find hundreds with whatever text it likes, for each of its instances.
const MOST_FIELDS: usize = 8;

/// Problems of one configuration that are told.
const MOST_PROBLEMS: usize = 100;

/// Minutes between polls while the connector is not known.
const DEFAULT_MINUTES: u32 = 5;

/// The time between polls: as configured, else as the connector says; never less than it bears.
#[must_use]
pub fn interval(config: &InstanceConfig, descriptor: Option<&Descriptor>) -> Duration {
    let default = descriptor.map_or(DEFAULT_MINUTES, |descriptor| descriptor.default_poll_minutes);
    let least = descriptor.map_or(1, |descriptor| descriptor.minimum_poll_minutes);
    Duration::from_mins(config.poll_interval_minutes.unwrap_or(default).max(least).into())
}

/// Everything that is wrong with instances of this configuration whose connector is known, unless `known` says that
/// they were there before as they are. An instance whose connector is not known is not judged.
pub async fn check(
    config: &Config,
    known: impl Fn(&InstanceConfig) -> bool + Send,
    current: impl Fn(&str) -> Option<Connector> + Send,
) -> Vec<Problem> {
    let mut problems = Vec::new();
    // Connectors that fail by themselves: each is told once, and holds up an edit by one call and not by one for each of
    // its instances.
    let mut broken = BTreeSet::new();
    for instance in config.instances.iter().filter(|instance| !known(instance)) {
        if broken.contains(&instance.integration_type) {
            continue;
        }
        let Some(connector) = current(&instance.integration_type) else { continue };
        let instance = &*own(instance, &connector);
        problems.extend(check_form(&config.file, instance, connector.descriptor()));
        let siblings = config.instances.iter().filter(|other| other.integration_type == instance.integration_type);
        if !connector.descriptor().multi_instance && siblings.count() > 1 {
            problems.push(problem(
                &config.file,
                instance.place.line,
                "one-instance-only",
                format!("{} allows a single instance", instance.integration_type),
                "keep one".to_owned(),
            ));
        }
        match connector.configure_without(&instance.settings, &redactor(instance).await).await {
            Ok(plan) => problems.extend(check_grant(&config.file, instance, &plan, config)),
            Err(error) => {
                if matches!(error, ConfigureError::Step(_)) {
                    broken.insert(instance.integration_type.clone());
                }
                problems.extend(refused(&config.file, instance, connector.descriptor(), &error));
            }
        }
    }
    if problems.len() > MOST_PROBLEMS {
        let more = problems.len() - MOST_PROBLEMS;
        problems.truncate(MOST_PROBLEMS);
        let reason = format!("{more} more mistakes are not told");
        problems.push(problem(&config.file, 1, "config-more", reason, "correct those that are told first".to_owned()));
    }
    problems
}

/// An instance without the secrets that are another version's of its connector. Of settings the connector itself is not
/// told, see [`Connector::is_of_another_version`].
#[must_use]
pub(super) fn own<'a>(instance: &'a InstanceConfig, connector: &Connector) -> Cow<'a, InstanceConfig> {
    if !instance.secrets.iter().any(|(key, _)| connector.is_of_another_version(key)) {
        return Cow::Borrowed(instance);
    }
    let mut own = instance.clone();
    let lines = std::mem::take(&mut own.place.secrets);
    let all = std::mem::take(&mut own.secrets).into_iter().zip(lines);
    (own.secrets, own.place.secrets) = all.filter(|((key, _), _)| !connector.is_of_another_version(key)).unzip();
    Cow::Owned(own)
}

/// What instances are configured with that is for another version than the one that serves, each with its line.
pub fn for_another_version(config: &Config, current: impl Fn(&str) -> Option<Connector>) -> Vec<String> {
    let mut told = Vec::new();
    for instance in &config.instances {
        let Some(connector) = current(&instance.integration_type) else { continue };
        let settings = instance.settings.iter().map(|setting| setting.key.as_str());
        let keys = settings.chain(instance.secrets.iter().map(|(key, _)| key.as_str()));
        for key in keys.filter(|key| connector.is_of_another_version(key)) {
            told.push(format!(
                "{}:{}: {key:?} is not known to version {} of {}, which serves, but to another version; it is left out",
                config.file.display(),
                instance.line_of(key),
                connector.descriptor().version,
                instance.integration_type
            ));
        }
    }
    told
}

/// What an instance may reach with its settings, as the connector plans it.
///
/// # Errors
/// When the connector refuses the settings, or fails.
pub async fn plan(instance: &InstanceConfig, connector: &Connector) -> Result<Plan, ConfigureError> {
    let instance = &*own(instance, connector);
    connector.configure_without(&instance.settings, &redactor(instance).await).await
}

/// Recognises the secrets of an instance, as far as they can be read: somebody may have pasted one into an ordinary
/// setting, which a connector then repeats.
async fn redactor(instance: &InstanceConfig) -> Redactor {
    let sources = instance.secrets.clone();
    let read = move || {
        let mut readable = sources;
        readable.retain(|source| secrets::take(std::slice::from_ref(source), Whose::Looking).is_ok());
        secrets::take(&readable, Whose::Looking).map(|secrets| Redactor::new(&secrets)).unwrap_or_default()
    };
    // As far as they can be read: a file system that does not answer must not hold up an edit.
    let read = tokio::time::timeout(ANSWERS_WITHIN, tokio::task::spawn_blocking(read));
    read.await.ok().and_then(Result::ok).unwrap_or_default()
}

/// What is wrong with interval, settings' and secrets' names.
#[must_use]
pub fn check_form(file: &Path, instance: &InstanceConfig, descriptor: &Descriptor) -> Vec<Problem> {
    let mut problems = Vec::new();
    let place = &instance.place;
    if let Some(minutes) = instance.poll_interval_minutes
        && minutes < descriptor.minimum_poll_minutes
    {
        problems.push(problem(
            file,
            place.interval.unwrap_or(place.line),
            "interval-too-short",
            format!(
                "{} must not be polled more often than every {} minutes",
                instance.integration_type, descriptor.minimum_poll_minutes
            ),
            format!("write poll_interval_minutes = {} or more", descriptor.minimum_poll_minutes),
        ));
    }
    for setting in &instance.settings {
        if descriptor.credentials.iter().any(|credential| credential.setting == setting.key) {
            problems.push(problem(
                file,
                instance.line_of(&setting.key),
                "secret-inline",
                format!("{:?} is a secret and stands among the settings", setting.key),
                format!(
                    "move it to [instance.secrets] as {} = \"file:PATH\" or \"env:NAME\"; if it was real, change it",
                    setting.key
                ),
            ));
        }
    }
    // A secret that stands among the settings was told above; that it is missing goes without saying.
    let told = |key: &String| instance.settings.iter().any(|setting| setting.key == *key);
    if let Err(error) = secrets::check(descriptor, &instance.secrets)
        && !matches!(&error, SourceError::Missing { key, .. } if told(key))
    {
        let (key, help) = match &error {
            SourceError::Unknown { key, known } => (key, suggestion(key, known.iter().map(String::as_str))),
            SourceError::NotSecret { key } => (key, "move it to [instance.settings]".to_owned()),
            SourceError::Missing { key, .. } => (key, format!("add to [instance.secrets]: {key} = \"file:PATH\"")),
            _ => (&instance.name, String::new()),
        };
        let line = instance.line_of(key);
        problems.push(problem(file, line, error.code(), error.to_string(), help));
    }
    problems
}

/// What the connector says about the settings, at the lines of the settings.
#[must_use]
pub fn refused(
    file: &Path,
    instance: &InstanceConfig,
    descriptor: &Descriptor,
    error: &ConfigureError,
) -> Vec<Problem> {
    let line = |key: &str| instance.line_of(key);
    match error {
        ConfigureError::Fields(errors) => errors
            .iter()
            .take(MOST_FIELDS)
            .map(|error| {
                let known = descriptor.settings.iter().map(|field| field.key.as_str());
                let help = if known.clone().any(|key| key == error.key) {
                    "see the settings with `host-harness inspect`".to_owned()
                } else {
                    suggestion(&error.key, known)
                };
                let reason = format!("{}: {}", error.key, error.message);
                problem(file, line(&error.key), "invalid-settings", reason, help)
            })
            .collect(),
        other => vec![problem(
            file,
            instance.place.line,
            other.code(),
            other.to_string(),
            "report this to whoever maintains the connector".to_owned(),
        )],
    }
}

/// Whether the plan stays within what the configuration grants to the type.
#[must_use]
pub fn check_grant(file: &Path, instance: &InstanceConfig, plan: &Plan, config: &Config) -> Option<Problem> {
    let granted = config.grants.get(&instance.integration_type)?;
    let Destinations { origins, sign_in } = plan.destinations();
    let outside = |planned: BTreeSet<String>, granted: &BTreeSet<String>| {
        planned.into_iter().find(|origin| !is_among(origin, granted))
    };
    let reached = outside(origins, &granted.origins).map(|origin| ("the connector reaches", "origins", origin));
    let sent =
        || outside(sign_in, &granted.sign_in).map(|origin| ("its secret is sent for a token to", "sign_in", origin));
    let (what, list, planned) = reached.or_else(sent)?;
    Some(problem(
        file,
        instance.place.line,
        "origin-not-granted",
        format!("with these settings {what} {planned}, which [grants.{}] does not allow", instance.integration_type),
        format!("correct the settings, or add {planned:?} to {list} if that is the vendor"),
    ))
}

/// A problem at a line.
pub(crate) fn problem(file: &Path, line: usize, code: &'static str, reason: String, help: String) -> Problem {
    Problem { file: file.display().to_string(), line: Some(line), column: None, code, reason, help }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use crate::contract::sign_in::{ClientAuthentication, ClientCredentials, Form, Method};
    use crate::contract::types::{self, FieldError, Origin, Scheme};
    use crate::instances::tests::descriptor;

    fn config(instance: &str) -> Config {
        let text = format!(
            "[host]\nstate = \"s\"\nconnectors = \"c\"\n[grants.acme_siem]\norigins = [\"https://us.example.com\"]\nsign_in = [\"https://login.example.com\"]\n[[instance]]\nname = \"a\"\nintegration_type = \"acme_siem\"\n{instance}"
        );
        parse(Path::new("c.toml"), &text).unwrap_or_else(|error| panic!("{error}"))
    }

    fn said(instance: &str) -> String {
        let config = config(instance);
        let problems = check_form(&config.file, &config.instances[0], &descriptor());
        problems.iter().map(|problem| format!("{problem}\n")).collect()
    }

    #[test]
    fn what_does_not_fit_the_connectors_form_is_told_with_its_line() {
        insta::assert_snapshot!(said("[instance.settings]\napi_key = \"hunter2\"\n"), @r#"c.toml:11: "api_key" is a secret and stands among the settings; move it to [instance.secrets] as api_key = "file:PATH" or "env:NAME"; if it was real, change it"#);
        insta::assert_snapshot!(said(""), @r#"c.toml:7: the secret "api_key" (API Key) is missing; add to [instance.secrets]: api_key = "file:PATH""#);
        insta::assert_snapshot!(said("[instance.secrets]\napi_kye = \"env:X\"\n"), @r#"c.toml:11: the connector has no secret "api_kye"; it has "api_key"; did you mean "api_key"?"#);
        insta::assert_snapshot!(said("[instance.secrets]\nregion = \"env:X\"\n"), @r#"c.toml:11: "region" is no secret but an ordinary setting; move it to [instance.settings]"#);
        assert_eq!(said("[instance.secrets]\napi_key = \"env:X\"\n"), "");
    }

    #[test]
    fn an_interval_that_is_too_short_is_told_and_never_used() {
        let config = config("poll_interval_minutes = 2\n[instance.secrets]\napi_key = \"env:X\"\n");
        let slow = Descriptor { minimum_poll_minutes: 4, ..descriptor() };
        let problems = check_form(&config.file, &config.instances[0], &slow);
        insta::assert_snapshot!(problems[0], @"c.toml:10: acme_siem must not be polled more often than every 4 minutes; write poll_interval_minutes = 4 or more");
        assert_eq!(interval(&config.instances[0], Some(&slow)), Duration::from_mins(4));
        assert_eq!(interval(&config.instances[0], Some(&descriptor())), Duration::from_mins(2));
        assert_eq!(interval(&config.instances[0], None), Duration::from_mins(2));
    }

    #[test]
    fn what_the_connector_refuses_is_told_at_the_line_of_the_setting() {
        let config = config("[instance.settings]\nregion = \"mars\"\ndyas = 3\n");
        let fields = ConfigureError::Fields(vec![
            FieldError { key: "region".into(), message: "must be us or eu".into() },
            FieldError { key: "dyas".into(), message: "is not known".into() },
        ]);
        let problems = refused(&config.file, &config.instances[0], &descriptor(), &fields);
        let text: String = problems.iter().map(|problem| format!("{problem}\n")).collect();
        insta::assert_snapshot!(text, @r#"
        c.toml:11: region: must be us or eu; see the settings with `host-harness inspect`
        c.toml:12: dyas: is not known; did you mean "days"?
        "#);
    }

    #[test]
    fn a_plan_outside_of_the_grant_is_refused() {
        let config = config("");
        let plan = |host: &str, port| {
            let origin = Origin { scheme: Scheme::Https, host: host.into(), port };
            Plan { egress: types::Plan { origin, rules: Vec::new() }, sign_in: Vec::new() }
        };
        let signing_in_at = |host: &str| {
            let token_origin = Origin { scheme: Scheme::Https, host: host.into(), port: 443 };
            let form = Form::ClientCredentials(ClientCredentials {
                token_origin,
                token_path: "/token".into(),
                client_id: "client".into(),
                scope: None,
                parameters: Vec::new(),
                authentication: ClientAuthentication::Basic,
            });
            Plan { sign_in: vec![Method { setting: "api_key".into(), form }], ..plan("us.example.com", 443) }
        };
        let check = |plan| check_grant(&config.file, &config.instances[0], &plan, &config);
        assert_eq!(check(plan("us.example.com", 443)), None);
        assert!(check(plan("us.example.com", 8443)).is_some());
        assert_eq!(check(signing_in_at("login.example.com")), None);
        insta::assert_snapshot!(check(signing_in_at("us.example.com")).expect("refused"), @r#"c.toml:7: with these settings its secret is sent for a token to https://us.example.com, which [grants.acme_siem] does not allow; correct the settings, or add "https://us.example.com" to sign_in if that is the vendor"#);
        insta::assert_snapshot!(check(plan("evil.example.com", 443)).expect("refused"), @r#"c.toml:7: with these settings the connector reaches https://evil.example.com, which [grants.acme_siem] does not allow; correct the settings, or add "https://evil.example.com" to origins if that is the vendor"#);
    }
}
