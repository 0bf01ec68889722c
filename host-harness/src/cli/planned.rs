//! What an instance with given settings may reach, and where its secrets go, as `inspect --set` shows it.
//!
//! Why: who is asked to let a connector out wants to see where to before it runs.
//! Not guaranteed: that it asks for all of it.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::output;
use crate::connectors::{Connector, Plan};
use crate::contract::sign_in::{ClientAuthentication, ClientCredentials, Form};
use crate::log::escape;

/// For people.
pub(super) fn page(connector: &Connector, plan: &Plan) -> String {
    let row = |name: &str, value: &str| vec![escape(name), escape(value)];
    let mut text = "\nWith these settings\n".to_owned();
    let origins = plan.destinations().origins.into_iter().map(|origin| row("reaches", &origin));
    let rules = plan.egress.rules.iter().map(|rule| row("requests", &format!("{} {}", rule.method, rule.path_prefix)));
    let secrets = connector.descriptor().credentials.iter().map(|credential| {
        let method = plan.sign_in.iter().find(|method| method.setting == credential.setting);
        let what = method.map_or_else(|| "as it is".to_owned(), |method| form(plan, &method.form));
        row(&credential.setting, &format!("in {}: {what}", credential.header))
    });
    // Writing to a String cannot fail.
    let _ = write!(text, "{}", output::table("  ", &origins.chain(rules).chain(secrets).collect::<Vec<_>>()));
    text
}

/// What becomes of a secret.
fn form(plan: &Plan, form: &Form) -> String {
    match form {
        Form::Prefixed(prefix) => format!("behind {prefix:?}"),
        Form::BasicPassword(user) => format!("Basic, the password of the user {user:?}"),
        Form::BasicUser(_) => "Basic, the user".to_owned(),
        Form::ClientCredentials(grant) => {
            let address = token_address(plan, grant);
            let how = match grant.authentication {
                ClientAuthentication::Basic => "Basic",
                ClientAuthentication::Form => "a form",
            };
            let scope = grant.scope.as_ref().map_or_else(String::new, |scope| format!(", with the scope {scope:?}"));
            let client = &grant.client_id;
            let parameters: String =
                grant.parameters.iter().map(|one| format!(", {} {:?}", one.name, one.value)).collect();
            format!("a token that the host gets from {address} for the client {client:?} by {how}{scope}{parameters}")
        }
    }
}

/// For programs.
pub(super) fn as_json(connector: &Connector, plan: &Plan) -> Value {
    let rules = plan.egress.rules.iter().map(|rule| json!({ "method": rule.method, "path_prefix": rule.path_prefix }));
    let secrets = connector.descriptor().credentials.iter().map(|credential| {
        let method = plan.sign_in.iter().find(|method| method.setting == credential.setting);
        let mut form = form_json(plan, method.map(|method| &method.form));
        if let Value::Object(form) = &mut form {
            form.insert("setting".into(), credential.setting.as_str().into());
            form.insert("header".into(), credential.header.as_str().into());
        }
        form
    });
    let destinations = plan.destinations();
    json!({
        "origins": destinations.origins,
        "token_origins": destinations.sign_in,
        "rules": rules.collect::<Vec<_>>(),
        "secrets": secrets.collect::<Vec<_>>(),
    })
}

/// What becomes of a secret, in the names of the contract.
fn form_json(plan: &Plan, form: Option<&Form>) -> Value {
    match form {
        None => json!({ "form": "as-it-is" }),
        Some(Form::Prefixed(prefix)) => json!({ "form": "prefixed", "prefix": prefix }),
        Some(Form::BasicPassword(user)) => json!({ "form": "basic-password", "user": user }),
        Some(Form::BasicUser(_)) => json!({ "form": "basic-user" }),
        Some(Form::ClientCredentials(grant)) => json!({
            "form": "client-credentials",
            "token_address": token_address(plan, grant),
            "client_id": grant.client_id,
            "scope": grant.scope,
            "parameters": grant.parameters.iter().map(|one| (one.name.clone(), one.value.as_str().into())).collect::<serde_json::Map<_, Value>>(),
            "authentication": match grant.authentication {
                ClientAuthentication::Basic => "basic",
                ClientAuthentication::Form => "form",
            },
        }),
    }
}

/// Where a token comes from.
fn token_address(plan: &Plan, grant: &ClientCredentials) -> String {
    let origin = plan.destinations().sign_in.into_iter().collect::<String>();
    format!("{origin}{}", grant.token_path)
}
