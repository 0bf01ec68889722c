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
    /// The field, for example `rules[1].path-prefix`.
    pub field: String,
    /// What is wrong with it and what is allowed.
    pub why: &'static str,
}

/// Most rules.
const RULES: usize = 32;

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
    if plan.rules.is_empty() || plan.rules.len() > RULES {
        return wrong("rules", "must be 1 to 32");
    }
    for (at, types::RequestRule { method, path_prefix }) in plan.rules.iter().enumerate() {
        let sound = !method.is_empty() && method.len() <= 16 && method.bytes().all(|byte| byte.is_ascii_uppercase());
        if !sound || matches!(method.as_str(), "CONNECT" | "TRACE") {
            let field = format!("rules[{at}].method");
            return wrong(&field, "must be a method in upper case, and neither CONNECT nor TRACE");
        }
        let field = format!("rules[{at}].path-prefix");
        if path_prefix.len() > PREFIX_BYTES {
            return wrong(&field, "must be at most 1024 bytes");
        }
        if path_prefix.contains(['?', '#', '%', ';']) {
            return wrong(&field, "must be a plain path, without query, fragment, parameters or percent signs");
        }
        if let Some(why) = ambiguity(path_prefix) {
            return wrong(&field, why);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(method: &str, prefix: &str) -> types::RequestRule {
        types::RequestRule { method: method.into(), path_prefix: prefix.into() }
    }

    fn plan() -> types::Plan {
        types::Plan {
            origin: types::Origin { scheme: types::Scheme::Https, host: "us.api.example.com".into(), port: 443 },
            rules: ["/", "/idr/v2/", "/validate"].map(|prefix| rule("GET", prefix)).to_vec(),
        }
    }

    #[test]
    fn a_sound_plan_passes() {
        assert_eq!(check(&plan()), Ok(()));
    }

    #[test]
    fn every_field_that_breaks_the_contract_is_named() {
        type Change = fn(&mut types::Plan);
        let table: [(&str, Change); 15] = [
            ("origin.host", |p| p.origin.host = "10.0.0.1".into()),
            ("origin.host", |p| p.origin.host = "[::1]".into()),
            ("origin.host", |p| p.origin.host = "US.api.example.com".into()),
            ("origin.host", |p| p.origin.host = "localhost".into()),
            ("origin.host", |p| p.origin.host = "a.example.com/path".into()),
            ("origin.port", |p| p.origin.port = 0),
            ("rules", |p| p.rules.clear()),
            ("rules", |p| p.rules = vec![rule("GET", "/a"); 33]),
            ("rules[3].method", |p| p.rules.push(rule("get", "/"))),
            ("rules[3].method", |p| p.rules.push(rule("CONNECT", "/"))),
            ("rules[3].method", |p| p.rules.push(rule("", "/"))),
            ("rules[3].path-prefix", |p| p.rules.push(rule("GET", "idr/"))),
            ("rules[3].path-prefix", |p| p.rules.push(rule("GET", "/idr/../x"))),
            ("rules[3].path-prefix", |p| p.rules.push(rule("GET", "/idr?x"))),
            ("rules[3].path-prefix", |p| p.rules.push(rule("GET", &format!("/{}", "a".repeat(1024))))),
        ];
        for (field, change) in table {
            let mut plan = plan();
            change(&mut plan);
            assert_eq!(check(&plan).unwrap_err().field, field);
        }
    }
}
