//! The check of a plan.
//!
//! Why: the plan is what the egress policy enforces, so a plan that is ambiguous would make the policy so.
//! Not guaranteed: that the origin is the vendor's. Who installs a connector trusts it with that.

use crate::contract::types;
use crate::egress::{ambiguity, is_host_name};

/// What is wrong with a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {why}")]
pub struct PlanError {
    /// The field, for example `path-prefixes[1]`.
    pub field: String,
    /// What is wrong with it and what is allowed.
    pub why: &'static str,
}

/// Most methods.
const METHODS: usize = 8;

/// Most path prefixes.
const PREFIXES: usize = 16;

/// Most bytes of a path prefix.
const PREFIX_BYTES: usize = 1024;

/// Checks a plan. Whether plain HTTP is allowed depends on the routes and is checked elsewhere.
///
/// # Errors
/// The first field that breaks the contract.
pub(super) fn check(plan: &types::Plan) -> Result<(), PlanError> {
    let wrong = |field: &str, why| Err(PlanError { field: field.to_owned(), why });
    if !is_host_name(&plan.origin.host) {
        return wrong("origin.host", "must be a DNS name in lower case, with a dot, never an address");
    }
    if plan.origin.port == 0 {
        return wrong("origin.port", "must be 1 to 65535");
    }
    if plan.methods.is_empty() || plan.methods.len() > METHODS {
        return wrong("methods", "must be 1 to 8");
    }
    for (at, method) in plan.methods.iter().enumerate() {
        let sound = !method.is_empty() && method.len() <= 16 && method.bytes().all(|byte| byte.is_ascii_uppercase());
        if !sound || matches!(method.as_str(), "CONNECT" | "TRACE") {
            return wrong(&format!("methods[{at}]"), "must be a method in upper case, and neither CONNECT nor TRACE");
        }
    }
    if plan.path_prefixes.is_empty() || plan.path_prefixes.len() > PREFIXES {
        return wrong("path-prefixes", "must be 1 to 16");
    }
    for (at, prefix) in plan.path_prefixes.iter().enumerate() {
        let field = format!("path-prefixes[{at}]");
        if prefix.len() > PREFIX_BYTES {
            return wrong(&field, "must be at most 1024 bytes");
        }
        if prefix.contains(['?', '#', '%', ';']) {
            return wrong(&field, "must be a plain path, without query, fragment, parameters or percent signs");
        }
        if let Some(why) = ambiguity(prefix) {
            return wrong(&field, why);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> types::Plan {
        types::Plan {
            origin: types::Origin { scheme: types::Scheme::Https, host: "us.api.example.com".into(), port: 443 },
            methods: vec!["GET".into()],
            path_prefixes: vec!["/".into(), "/idr/v2/".into(), "/validate".into()],
        }
    }

    #[test]
    fn a_sound_plan_passes() {
        assert_eq!(check(&plan()), Ok(()));
    }

    #[test]
    fn every_field_that_breaks_the_contract_is_named() {
        type Change = fn(&mut types::Plan);
        let table: [(&str, Change); 17] = [
            ("origin.host", |p| p.origin.host = "10.0.0.1".into()),
            ("origin.host", |p| p.origin.host = "[::1]".into()),
            ("origin.host", |p| p.origin.host = "US.api.example.com".into()),
            ("origin.host", |p| p.origin.host = "localhost".into()),
            ("origin.host", |p| p.origin.host = "a.example.com/path".into()),
            ("origin.port", |p| p.origin.port = 0),
            ("methods", |p| p.methods.clear()),
            ("methods", |p| p.methods = vec!["GET".into(); 9]),
            ("methods[0]", |p| p.methods = vec!["get".into()]),
            ("methods[1]", |p| p.methods.push("CONNECT".into())),
            ("methods[0]", |p| p.methods = vec!["".into()]),
            ("path-prefixes", |p| p.path_prefixes.clear()),
            ("path-prefixes", |p| p.path_prefixes = vec!["/a".into(); 17]),
            ("path-prefixes[0]", |p| p.path_prefixes = vec!["idr/".into()]),
            ("path-prefixes[3]", |p| p.path_prefixes.push("/idr/../x".into())),
            ("path-prefixes[3]", |p| p.path_prefixes.push("/idr?x".into())),
            ("path-prefixes[3]", |p| p.path_prefixes.push(format!("/{}", "a".repeat(1024)))),
        ];
        for (field, change) in table {
            let mut plan = plan();
            change(&mut plan);
            assert_eq!(check(&plan).unwrap_err().field, field);
        }
    }
}
