//! Faults: what goes wrong, when, and how it looks to a client.
//!
//! A [`FaultProfile`] is a list of rules, written by hand or read from JSON:
//!
//! ```json
//! {"rules": [
//!   {"path": "/idr/v2/investigations", "query": "*index=3*", "count": 1, "fault": {"kind": "truncate", "bytes": 700}},
//!   {"path": "/idr/at/*", "fault": {"kind": "status", "status": 403}},
//!   {"path": "/idr/*", "chance": 0.05, "fault": {"kind": "reset_before_head"}}
//! ]}
//! ```
//!
//! Every rule counts the requests that meet its conditions, whether or not another rule acts on them. The first rule in
//! the list whose turn it is acts; one request suffers one fault. See [`Rule`] for the conditions and [`Fault`] for
//! the kinds.

mod apply;
mod glob;
mod kind;

use serde::{Deserialize, Serialize};

pub(crate) use self::apply::{apply, before};
pub(crate) use self::glob::matches;
pub use self::kind::Fault;
use crate::rng::mix;

/// Rules, in the order in which they are asked.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultProfile {
    /// The rules; none by default.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// When a fault strikes. Conditions that are left out are always met.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The path without query, percent-decoded; `*` stands for any run of characters, slashes included.
    pub path: String,
    /// The raw query string, empty when there is none; `*` as in `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// The method, in capitals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// The region code of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Matching requests to let pass before the fault strikes first; 0 by default.
    #[serde(default)]
    pub first: u64,
    /// How many times it strikes; for ever when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// It strikes every n-th of the remaining matching requests, beginning with the first; 1 by default, 0 is 1.
    #[serde(default = "one")]
    pub every: u64,
    /// The share of its turns, 0 to 1, in which it really strikes, drawn from the world's seed; always by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chance: Option<f64>,
    /// What goes wrong.
    pub fault: Fault,
}

fn one() -> u64 {
    1
}

impl Rule {
    /// A rule that strikes every request to this path.
    pub fn new(path: impl Into<String>, fault: Fault) -> Self {
        Self {
            path: path.into(),
            query: None,
            method: None,
            region: None,
            first: 0,
            count: None,
            every: 1,
            chance: None,
            fault,
        }
    }

    /// Lets this many matching requests pass first.
    #[must_use]
    pub fn after(mut self, requests: u64) -> Self {
        self.first = requests;
        self
    }

    /// Strikes at most this many times.
    #[must_use]
    pub fn times(mut self, count: u64) -> Self {
        self.count = Some(count);
        self
    }
}

/// A fault profile that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// Not JSON of the documented form.
    #[error("the fault profile is not usable at line {line}, column {column}: {reason}")]
    Json {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong there.
        reason: String,
    },
    /// A value out of its range.
    #[error("rule {rule} of the fault profile: {member} is {value}; {allowed}")]
    Value {
        /// The number of the rule, from 1.
        rule: usize,
        /// The member.
        member: &'static str,
        /// What it is.
        value: String,
        /// What it may be.
        allowed: &'static str,
    },
}

impl ProfileError {
    /// A stable name of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Json { .. } => "profile-json",
            Self::Value { .. } => "profile-value",
        }
    }
}

impl FaultProfile {
    /// A profile of these rules.
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Self {
        Self { rules: rules.into_iter().collect() }
    }

    /// Reads a profile and checks its values.
    pub fn from_json(text: &str) -> Result<Self, ProfileError> {
        let profile: Self = serde_json::from_str(text).map_err(|error| ProfileError::Json {
            line: error.line(),
            column: error.column(),
            reason: plain(&error),
        })?;
        for (number, rule) in profile.rules.iter().enumerate() {
            rule.check(number + 1)?;
        }
        Ok(profile)
    }
}

/// The message without the position that serde_json appends.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(reason, _)| reason.to_owned())
}

impl Rule {
    fn check(&self, rule: usize) -> Result<(), ProfileError> {
        let wrong = |member, value: String, allowed| Err(ProfileError::Value { rule, member, value, allowed });
        if let Some(chance) = self.chance
            && !(0.0..=1.0).contains(&chance)
        {
            return wrong("chance", chance.to_string(), "it is a share from 0 to 1");
        }
        if let Some(method) = &self.method
            && (method.is_empty() || method.bytes().any(|b| !b.is_ascii_uppercase()))
        {
            return wrong("method", format!("{method:?}"), "it is a method in capitals, such as GET");
        }
        if let Some((member, value, allowed)) = self.fault.out_of_range() {
            return wrong(member, value, allowed);
        }
        Ok(())
    }
}

/// What a rule looks at.
pub(crate) struct Seen<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) region: &'a str,
}

/// A profile with its counters.
#[derive(Debug, Default)]
pub(crate) struct Injector {
    profile: FaultProfile,
    seed: u64,
    /// For each rule: requests matched, times struck.
    counters: Vec<(u64, u64)>,
}

impl Injector {
    /// Fresh counters.
    pub(crate) fn new(profile: FaultProfile, seed: u64) -> Self {
        let counters = vec![(0, 0); profile.rules.len()];
        Self { profile, seed, counters }
    }

    /// Begins all counts again.
    pub(crate) fn restart(&mut self) {
        self.counters.fill((0, 0));
    }

    /// Counts the request in every rule that matches and returns the fault that strikes it.
    pub(crate) fn strike(&mut self, seen: &Seen<'_>) -> Option<Fault> {
        let mut struck = None;
        let rules = self.profile.rules.iter().zip(self.counters.iter_mut()).enumerate();
        for (number, (rule, (matched, strikes))) in rules {
            if !rule.is_about(seen) {
                continue;
            }
            let turn = *matched;
            *matched += 1;
            if struck.is_some() || !rule.is_due(turn, *strikes, mix(self.seed, number as u64)) {
                continue;
            }
            *strikes += 1;
            struck = Some(rule.fault.clone());
        }
        struck
    }
}

impl Rule {
    fn is_about(&self, seen: &Seen<'_>) -> bool {
        matches(&self.path, seen.path)
            && self.query.as_ref().is_none_or(|query| matches(query, seen.query))
            && self.method.as_ref().is_none_or(|method| method == seen.method)
            && self.region.as_ref().is_none_or(|region| region == seen.region)
    }

    fn is_due(&self, turn: u64, strikes: u64, seed: u64) -> bool {
        let Some(after) = turn.checked_sub(self.first) else {
            return false;
        };
        // 53 bits make every share from 0 to 1 exact enough.
        let drawn = (mix(seed, turn) >> 11) as f64 / (1_u64 << 53) as f64;
        after.is_multiple_of(self.every.max(1))
            && self.count.is_none_or(|count| strikes < count)
            && self.chance.is_none_or(|chance| drawn < chance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: Seen<'static> =
        Seen { method: "GET", path: "/idr/v2/investigations", query: "index=3&size=100", region: "us" };

    #[test]
    fn rules_skip_count_and_repeat() {
        let text = r#"{"rules":[{"path":"/idr/v2/*","first":2,"count":2,"every":3,"fault":{"kind":"html"}}]}"#;
        let mut injector = Injector::new(FaultProfile::from_json(text).unwrap(), 0);
        let struck: Vec<bool> = (0..12).map(|_| injector.strike(&LIST).is_some()).collect();
        let at: Vec<usize> = struck.iter().enumerate().filter(|(_, hit)| **hit).map(|(i, _)| i).collect();
        assert_eq!(at, [2, 5]);
    }

    #[test]
    fn the_first_rule_whose_turn_it_is_acts() {
        let text = r#"{"rules":[
            {"path":"*","count":1,"fault":{"kind":"html"}},
            {"path":"*","method":"POST","fault":{"kind":"no_data"}},
            {"path":"*","query":"*index=3*","region":"us","fault":{"kind":"empty_object"}}]}"#;
        let mut injector = Injector::new(FaultProfile::from_json(text).unwrap(), 0);
        assert_eq!(injector.strike(&LIST), Some(Fault::Html {}));
        assert_eq!(injector.strike(&LIST), Some(Fault::EmptyObject {}));
        assert_eq!(injector.strike(&Seen { query: "", ..LIST }), None);
    }

    #[test]
    fn a_share_of_requests_is_struck_and_always_the_same_ones() {
        let text = r#"{"rules":[{"path":"*","chance":0.25,"fault":{"kind":"html"}}]}"#;
        let run = || {
            let mut injector = Injector::new(FaultProfile::from_json(text).unwrap(), 9);
            (0..2_000).map(|_| injector.strike(&LIST).is_some()).collect::<Vec<bool>>()
        };
        let hits = run().iter().filter(|hit| **hit).count();
        assert!((400..600).contains(&hits), "{hits}");
        assert_eq!(run(), run());
    }

    #[test]
    fn errors_say_where_and_what() {
        for (text, code, part) in [
            ("{", "profile-json", "EOF"),
            (r#"{"rulez":[]}"#, "profile-json", "unknown field `rulez`"),
            (r#"{"rules":[{"path":"*","fault":{"kind":"frogs"}}]}"#, "profile-json", "unknown variant `frogs`"),
            (r#"{"rules":[{"path":"*","fault":{"kind":"html","a":1}}]}"#, "profile-json", "unknown field `a`"),
            (r#"{"rules":[{"path":"*","chance":2,"fault":{"kind":"html"}}]}"#, "profile-value", "rule 1"),
            (r#"{"rules":[{"path":"*","method":"get","fault":{"kind":"html"}}]}"#, "profile-value", "GET"),
            (r#"{"rules":[{"path":"*","fault":{"kind":"status","status":99}}]}"#, "profile-value", "200 to 599"),
        ] {
            let error = FaultProfile::from_json(text).unwrap_err();
            assert_eq!(error.code(), code, "{text}");
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
