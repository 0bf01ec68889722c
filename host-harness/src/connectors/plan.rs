//! What a connector plans, and its check.
//!
//! Why: the plan is what the egress policy enforces, so a plan that is ambiguous would make the policy so.
//! Not guaranteed: that the origin is the vendor's. Who installs a connector trusts it with that.

use super::faults::Faults;
use crate::contract::sign_in::{Form, Method};
use crate::contract::types;
use crate::egress::{Policy, Redactor, ambiguity, is_host_name};
use std::collections::BTreeSet;

/// What an instance may do with its settings. It was checked against the contract.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What it may reach.
    pub egress: types::Plan,
    /// What becomes of its secrets; nothing of those that are sent as they are.
    pub sign_in: Vec<Method>,
}

/// Where instances go: origins as [`Policy::origin`] writes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Destinations {
    /// What connectors reach.
    pub origins: BTreeSet<String>,
    /// Where the host gets tokens for them.
    pub sign_in: BTreeSet<String>,
}

impl Plan {
    /// The origin of its tokens, where it has such.
    #[must_use]
    pub fn token_origin(&self) -> Option<&types::Origin> {
        self.sign_in.iter().find_map(|method| match &method.form {
            Form::ClientCredentials(grant) => Some(&grant.token_origin),
            Form::Prefixed(_) | Form::BasicPassword(_) | Form::BasicUser(_) => None,
        })
    }

    /// The hosts of all of that, each once.
    #[must_use]
    pub fn hosts(&self) -> BTreeSet<&str> {
        let token = self.token_origin().map(|origin| origin.host.as_str());
        token.into_iter().chain([self.egress.origin.host.as_str()]).collect()
    }

    /// Where it goes.
    #[must_use]
    pub fn destinations(&self) -> Destinations {
        Destinations {
            origins: BTreeSet::from([Policy::origin_of(&self.egress.origin)]),
            sign_in: self.token_origin().map(Policy::origin_of).into_iter().collect(),
        }
    }
}

/// Most rules.
const RULES: usize = 32;

/// Most bytes of a path prefix.
const PREFIX_BYTES: usize = 1024;

impl Destinations {
    /// Takes others in.
    pub(super) fn add(&mut self, others: &Self) {
        self.origins.extend(others.origins.iter().cloned());
        self.sign_in.extend(others.sign_in.iter().cloned());
    }
}

/// Checks a plan. Whether plain HTTP is allowed depends on the routes and is checked elsewhere.
///
/// # Errors
/// The fields that break the contract, with what they hold; secrets of the tenant are replaced in it.
pub(super) fn check(plan: &types::Plan, redactor: &Redactor) -> Result<(), Faults> {
    let mut faults = Faults::default();
    let mut wrong = |field: &str, value: &str, why: &str| faults.add_value(field, value, redactor, why);
    check_origin(&plan.origin, "origin", &mut wrong);
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
        if let Some(why) = wrong_path(path_prefix) {
            wrong(&format!("rules[{at}].path-prefix"), path_prefix, why);
        }
    }
    faults.or_none()
}

/// Tells `wrong` what is wrong with an origin.
pub(super) fn check_origin(origin: &types::Origin, field: &str, wrong: &mut impl FnMut(&str, &str, &str)) {
    if !is_host_name(&origin.host) {
        let why = "must be a DNS name in lower case, with a dot, never an address";
        wrong(&format!("{field}.host"), &origin.host, why);
    }
    if origin.port == 0 {
        wrong(&format!("{field}.port"), "0", "must be 1 to 65535");
    }
}

/// What is wrong with a path, if anything is.
pub(super) fn wrong_path(path: &str) -> Option<&'static str> {
    if path.len() > PREFIX_BYTES {
        Some("must be at most 1024 bytes")
    } else if path.contains(['?', '#', '%', ';']) {
        Some("must be a plain path, without query, fragment, parameters or percent signs")
    } else {
        // It is told of a request as well, as a sentence of its own.
        ambiguity(path).map(|why| why.strip_prefix("it ").unwrap_or(why))
    }
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
