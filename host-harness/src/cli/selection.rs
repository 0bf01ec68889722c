//! Which instances of a status are shown.
//!
//! Why: a host has thousands of them, and who looks for one, or for what is wrong, should not have to search a page.

use clap::Args;
use serde_json::Value;

use super::error::CliError;
use super::status_page::needs_somebody;
use crate::config::nearest;

/// Options that choose instances.
#[derive(Debug, Default, Args)]
pub(super) struct Selection {
    /// Only this instance, by name or id; may be given more than once
    #[arg(long = "instance", value_name = "NAME")]
    names: Vec<String>,
    /// Only instances that are degraded or failed, or that nothing serves
    #[arg(long)]
    failed: bool,
}

impl Selection {
    /// Leaves the chosen instances in a status. Who watches (`again`) may see one go and come back.
    ///
    /// # Errors
    /// A name that no instance has.
    pub(super) fn apply(&self, status: &mut Value, again: bool) -> Result<(), CliError> {
        let Some(instances) = status.get_mut("instances").and_then(Value::as_array_mut) else { return Ok(()) };
        let names_of = |one: &Value| -> Vec<String> {
            let keys = ["name", "handle", "id"].into_iter();
            keys.filter_map(|key| one.get(key).and_then(Value::as_str)).map(str::to_owned).collect()
        };
        let known: Vec<String> = instances.iter().flat_map(names_of).collect();
        if let Some(missing) = self.names.iter().find(|name| !again && !known.contains(*name)) {
            let error = CliError::usage(format!("the host has no instance {missing:?}"));
            return Err(match nearest(missing, known.iter().map(String::as_str)) {
                Some(name) => error.help(format!("did you mean {name:?}?")),
                None => error.help(
                    "`host-harness status` without --instance lists all, and what is wrong with the configuration of one that is left out",
                ),
            });
        }
        instances.retain(|one| {
            let is_chosen = self.names.is_empty() || names_of(one).iter().any(|name| self.names.contains(name));
            is_chosen && (!self.failed || needs_somebody(one))
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(names: &[&str], failed: bool) -> Result<Vec<String>, CliError> {
        let mut status = json!({ "instances": [
            { "name": "acme", "handle": "a", "id": "4be49362", "state": "ok" }, { "name": "beta", "state": "failed" }, { "name": "corp", "state": "degraded" },
            { "name": "orphan", "state": "ok", "unserved": true },
        ] });
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Selection { names, failed }.apply(&mut status, false)?;
        Ok(status["instances"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect())
    }

    #[test]
    fn instances_are_chosen_by_name_and_by_trouble() {
        assert_eq!(shown(&[], false).unwrap(), ["acme", "beta", "corp", "orphan"]);
        assert_eq!(shown(&[], true).unwrap(), ["beta", "corp", "orphan"]);
        assert_eq!(shown(&["acme", "beta"], false).unwrap(), ["acme", "beta"]);
        assert_eq!(shown(&["acme", "beta"], true).unwrap(), ["beta"]);
        assert_eq!(shown(&["a", "beta"], false).unwrap(), ["acme", "beta"]);
        assert_eq!(shown(&["4be49362"], false).unwrap(), ["acme"]);
        let error = shown(&["acmee"], false).unwrap_err().to_string();
        assert!(error.contains("no instance \"acmee\""), "{error}");
    }
}
