//! The check of a plan.
//!
//! Why: the plan is what the egress policy enforces, so a plan that is ambiguous would make the policy so.
//! Not guaranteed: that the origin is the vendor's. Who installs a connector trusts it with that.

use super::faults::Faults;
use crate::contract::types;
use crate::egress::{Redactor, ambiguity, is_host_name};

/// Most rules.
const RULES: usize = 32;

/// Most bytes of a path prefix.
const PREFIX_BYTES: usize = 1024;

/// Checks a plan. Whether plain HTTP is allowed depends on the routes and is checked elsewhere.
///
/// # Errors
/// The fields that break the contract, with what they hold; secrets of the tenant are replaced in it.
pub(super) fn check(plan: &types::Plan, redactor: &Redactor) -> Result<(), Faults> {
    let mut faults = Faults::default();
    let mut wrong = |field: &str, value: &str, why| faults.add_value(field, value, redactor, why);
    if !is_host_name(&plan.origin.host) {
        wrong("origin.host", &plan.origin.host, "must be a DNS name in lower case, with a dot, never an address");
    }
    if plan.origin.port == 0 {
        wrong("origin.port", "0", "must be 1 to 65535");
    }
    if plan.rules.is_empty() || plan.rules.len() > RULES {
        faults.add("rules", format!("must be 1 to 32, and there are {}", plan.rules.len()));
        return faults.or_none();
    }
    for (at, types::RequestRule { method, path_prefix }) in plan.rules.iter().enumerate() {
        let sound = !method.is_empty() && method.len() <= 16 && method.bytes().all(|byte| byte.is_ascii_uppercase());
        if !sound || matches!(method.as_str(), "CONNECT" | "TRACE") {
            let why = "must be a method in upper case, and neither CONNECT nor TRACE";
            wrong(&format!("rules[{at}].method"), method, why);
        }
        let why = if path_prefix.len() > PREFIX_BYTES {
            "must be at most 1024 bytes"
        } else if path_prefix.contains(['?', '#', '%', ';']) {
            "must be a plain path, without query, fragment, parameters or percent signs"
        } else if let Some(why) = ambiguity(path_prefix) {
            // It is told of a request as well, as a sentence of its own.
            why.strip_prefix("it ").unwrap_or(why)
        } else {
            continue;
        };
        wrong(&format!("rules[{at}].path-prefix"), path_prefix, why);
    }
    faults.or_none()
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
        assert_eq!(check(&plan(), &Redactor::default()), Ok(()));
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
            let faults = check(&plan, &Redactor::default()).unwrap_err();
            assert_eq!(faults.all().iter().map(|fault| fault.field.as_str()).collect::<Vec<_>>(), [field]);
        }
    }

    #[test]
    fn all_that_is_wrong_is_told_with_what_it_is() {
        let mut plan = plan();
        plan.origin = types::Origin { host: "LOCALHOST\n".into(), port: 0, ..plan.origin };
        plan.rules = vec![rule("get", "/a//b"), rule("GET", "idr/"), rule("GET", "/x?y")];
        let faults = check(&plan, &Redactor::default()).unwrap_err().to_string().replace("; ", "\n");
        insta::assert_snapshot!(faults, @r#"
        origin.host "LOCALHOST\n" must be a DNS name in lower case, with a dot, never an address
        origin.port "0" must be 1 to 65535
        rules[0].method "get" must be a method in upper case, and neither CONNECT nor TRACE
        rules[0].path-prefix "/a//b" holds an empty segment (two slashes)
        rules[1].path-prefix "idr/" does not begin with a slash
        rules[2].path-prefix "/x?y" must be a plain path, without query, fragment, parameters or percent signs
        "#);
    }
}
