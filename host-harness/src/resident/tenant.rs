//! A tenant out of the configuration: settings and secrets taken to the connector that serves it.
//!
//! Why here: whoever polls, tries a new version or checks before polling makes it in the same way, and tells what is in its
//! way in the same words, with the line of the configuration.
//! Not guaranteed: that the vendor takes the secret; nothing is asked of it.

use super::resolve;
use crate::config::{Config, InstanceConfig, Problem};
use crate::connectors::registry::outcome;
use crate::connectors::serving::PollOutcome;
use crate::connectors::{ConfigureError, Connector, Tenant, TenantError, TenantOptions};
use crate::instances::failure::{FailureReport, Retry, as_sentence};
use crate::instances::secrets::{self, SourceError, Whose};
use crate::sandbox::{Clock, Usage};
use std::time::Duration;

/// Makes a tenant for an instance; or why not, and what that says about the connector.
pub(crate) async fn make(
    config: &InstanceConfig,
    whole: &Config,
    connector: &Connector,
    clock: Clock,
) -> Result<Tenant, (FailureReport, PollOutcome)> {
    let config = &*resolve::own(config, connector);
    if let Some(failure) = misfit(config, whole, connector) {
        return Err((failure, PollOutcome::Inconclusive));
    }
    let options = options(config, whole, clock).await.map_err(|failure| (failure, PollOutcome::Inconclusive))?;
    connector.tenant(options).await.map_err(|error| {
        let outcome = match &error {
            TenantError::Configure(ConfigureError::Step(error)) => outcome(error, &Usage::default()),
            TenantError::Configure(ConfigureError::Plan(_)) => PollOutcome::ConnectorFailed,
            _ => PollOutcome::Inconclusive,
        };
        (from_tenant(&error, config, whole, connector), outcome)
    })
}

/// The first thing in an instance's configuration that does not fit the connector's form.
pub(super) fn misfit(config: &InstanceConfig, whole: &Config, connector: &Connector) -> Option<FailureReport> {
    let problems = resolve::check_form(&whole.file, config, connector.descriptor());
    problems.first().map(from_problem)
}

/// What a tenant is made of, secrets read.
pub(super) async fn options(
    config: &InstanceConfig,
    whole: &Config,
    clock: Clock,
) -> Result<TenantOptions, FailureReport> {
    let (sources, name) = (config.secrets.clone(), config.name.clone());
    let slug = config.integration_type.replace('_', "-");
    let take = move || secrets::take(&sources, Whose::Instance { connector: &slug, name: &name });
    let line = |key: &str| format!("{}:{}", whole.file.display(), config.line_of(key));
    let secrets = on_a_thread("reading its secrets", take).await?.map_err(|error| {
        let (key, help) = match &error {
            SourceError::Unset { key, name } => (
                Some(key.clone()),
                format!("Set {name} in the environment of the host and start it again, or keep the secret in a file."),
            ),
            SourceError::Unreadable { key, .. } => (Some(key.clone()), as_sentence(&error.help())),
            other => (None, as_sentence(&other.help())),
        };
        let place = key.map(|key| format!("{}: ", line(&key))).unwrap_or_default();
        changed_by_somebody(error.code(), format!("{place}{error}"), help)
    })?;
    Ok(TenantOptions {
        name: config.name.clone(),
        settings: config.settings.clone(),
        secrets,
        routes: whole.host.routes.clone(),
        clock,
        network: whole.host.network.clone(),
    })
}

/// Why a tenant cannot be made, at the line of the configuration that is to blame.
pub(super) fn from_tenant(
    error: &TenantError,
    config: &InstanceConfig,
    whole: &Config,
    connector: &Connector,
) -> FailureReport {
    if let TenantError::Configure(error @ ConfigureError::Fields(_)) = error
        && let [first, ..] = resolve::refused(&whole.file, config, connector.descriptor(), error).as_slice()
    {
        return from_problem(first);
    }
    if let TenantError::NotGranted(error) = error {
        return changed_by_somebody(error.code(), error.to_string(), error.remedy());
    }
    let place = format!("{}:{}: ", whole.file.display(), config.place.line);
    changed_by_somebody(error.code(), format!("{place}{error}"), "Correct the configuration.".to_owned())
}

/// A problem of the configuration as the failure of a poll.
pub(crate) fn from_problem(problem: &Problem) -> FailureReport {
    let place = problem.line.map(|line| format!(":{line}")).unwrap_or_default();
    let message = format!("{}{place}: {}", problem.file, problem.reason);
    changed_by_somebody(problem.code, message, as_sentence(problem.help.trim_end_matches('?')))
}

/// A failure that stays until somebody changes something.
pub(crate) fn changed_by_somebody(code: &str, message: String, help: String) -> FailureReport {
    FailureReport { retry: Retry::AfterChange, ..FailureReport::new(code, message, help) }
}

/// How long the disk, or a file system on the network, may take for what a poll begins with.
pub(super) const ANSWERS_WITHIN: Duration = Duration::from_secs(20);

/// Runs something that may block. It is waited for no longer than [`ANSWERS_WITHIN`], so that nobody keeps the place of
/// others for it.
pub(super) async fn on_a_thread<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, FailureReport> {
    match tokio::time::timeout(ANSWERS_WITHIN, tokio::task::spawn_blocking(work)).await {
        Ok(done) => done
            .map_err(|error| FailureReport::new("host-error", format!("the host broke off: {error}"), "Report this.")),
        Err(_) => Err(stalled(what)),
    }
}

/// What is told of something that does not come to its end.
pub(super) fn stalled(what: &str) -> FailureReport {
    FailureReport::new(
        "host-error",
        format!("{what} takes longer than {} s", ANSWERS_WITHIN.as_secs()),
        "Look whether the disk, or the file system on the network, on which they lie answers.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_system_that_does_not_answer_keeps_no_place() {
        let (answer, never) = std::sync::mpsc::channel::<()>();
        let asked = tokio::spawn(on_a_thread("reading its secrets", move || never.recv()));
        // Time goes on by itself only while no thread is busy.
        tokio::time::advance(ANSWERS_WITHIN / 2).await;
        tokio::task::yield_now().await;
        assert!(!asked.is_finished());
        tokio::time::advance(ANSWERS_WITHIN).await;
        let failure = asked.await.expect("no panic").expect_err("it takes too long");
        assert_eq!(failure.code, "host-error");
        assert!(failure.message.starts_with("reading its secrets takes longer than 20 s"), "{failure:?}");
        drop(answer);
    }
}
