//! MITRE ATT&CK codes of a detection rule.
//!
//! The vendor mixes names of tactics and ids of techniques in one list
//! (`"Credential Access", "T1110"`). Ids go to `attackTechniqueIds`, the rest
//! helps to find the `messageType`.

use crate::api::records::Members;
use crate::text::cut;

/// Most codes of one rule.
pub(super) const MOST: usize = 32;

/// What a rule says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mitre {
    /// Ids of techniques, upper case: `T1110`, `T1110.003`. Each once.
    pub techniques: Vec<String>,
    /// Names or ids of tactics.
    pub tactics: Vec<String>,
}

impl Mitre {
    /// Reads the codes of a rule of the Alert Triage API.
    #[must_use]
    pub fn of_rule(rule: &Members<'_>) -> Self {
        let mut mitre = Self::default();
        for code in rule.texts("mitre_tcodes").iter().take(MOST) {
            let id = code.trim().to_ascii_uppercase();
            if is_technique(&id) {
                if !mitre.techniques.contains(&id) {
                    mitre.techniques.push(id);
                }
            } else {
                mitre.tactics.push(cut(code, 64).to_owned());
            }
        }
        mitre
    }

    /// Whether the rule says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.techniques.is_empty() && self.tactics.is_empty()
    }
}

/// `T` and four digits, and for a sub-technique a dot and three more.
pub(super) fn is_technique(id: &str) -> bool {
    let digits = |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    id.strip_prefix('T').is_some_and(|rest| match rest.split_once('.') {
        Some((technique, sub)) => digits(technique, 4) && digits(sub, 3),
        None => digits(rest, 4),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_techniques_are_told_from_tactics() {
        let json = r#"{"mitre_tcodes":["Credential Access","T1110","t1110.003"," T1110 ","TA0006","T11","T1110.3","",7,null]}"#;
        let mitre = Mitre::of_rule(&Members::parse(json).unwrap());
        assert_eq!(mitre.techniques, ["T1110", "T1110.003"]);
        assert_eq!(mitre.tactics, ["Credential Access", "TA0006", "T11", "T1110.3", "7"]);
        assert!(Mitre::of_rule(&Members::parse(r#"{"mitre_tcodes":null}"#).unwrap()).is_empty());
    }
}
