//! MITRE ATT&CK techniques that evidence names.
//!
//! An alert of another product has them in its record (`mitre_technique_id_and_name` and the like), where the vendor's rule
//! has none. Members whose names begin with `mitre` and say `technique` are looked at, whatever else is in their texts:
//! `T1059.001 - PowerShell`.

use super::{BYTES, DEPTH, MEMBERS, Plain};
use crate::api::json::{Json, Part, Parts};
use crate::artifact::mitre::{MOST, is_technique};

/// The techniques that records of evidence, one line of JSON each, name: each once, in their order.
#[must_use]
pub fn techniques(lines: &[String]) -> Vec<String> {
    let mut search = Search { found: Vec::new(), left: MEMBERS };
    let may_have = |line: &&String| line.len() <= BYTES && (line.contains("itre") || line.contains("ITRE"));
    for json in lines.iter().filter(may_have).filter_map(|line| Json::parse(line)) {
        search.json(json, false, DEPTH);
    }
    search.found
}

struct Search {
    found: Vec<String>,
    /// Values that may still be looked at.
    left: usize,
}

impl Search {
    /// A value; `named` tells whether it is of such a member.
    fn json(&mut self, json: Json<'_>, named: bool, depth: u8) {
        let mut parts = Parts::of(json);
        if let Some(part) = parts.next() {
            self.value(&mut parts, part, named, depth);
        }
    }

    fn value(&mut self, parts: &mut Parts<'_>, part: Part<'_>, named: bool, depth: u8) {
        let Some(left) = self.left.checked_sub(1) else {
            if matches!(part, Part::Object | Part::Array) {
                parts.pass();
            }
            return;
        };
        self.left = left;
        match (part, depth.checked_sub(1)) {
            (Part::Scalar(json), deeper) => self.scalar(json, named, deeper),
            (Part::Object | Part::Array, None) => parts.pass(),
            (Part::Object, Some(deeper)) => {
                let mut plain = Plain::default();
                while let Some(Part::Scalar(name)) = parts.next() {
                    let Some(part) = parts.next() else { return };
                    let name = plain.of(&name.scalar().unwrap_or_default());
                    let named = named || name.starts_with("mitre") && name.contains("technique");
                    self.value(parts, part, named, deeper);
                }
            }
            (Part::Array, Some(deeper)) => {
                while let Some(part) = parts.next().filter(|part| *part != Part::End) {
                    self.value(parts, part, named, deeper);
                }
            }
            (Part::End, _) => {}
        }
    }

    fn scalar(&mut self, json: Json<'_>, named: bool, deeper: Option<u8>) {
        let Some(text) = json.scalar() else { return };
        if let (true, Some(deeper)) = (text.starts_with(['{', '[']), deeper)
            && let Some(json) = Json::parse(&text)
        {
            return self.json(json, named, deeper);
        }
        if named {
            let words = text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '.'));
            for id in words.map(|word| word.trim_matches('.').to_ascii_uppercase()).filter(|word| is_technique(word)) {
                if self.found.len() < MOST && !self.found.contains(&id) {
                    self.found.push(id);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> Vec<String> {
        techniques(&lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn techniques_are_found_under_their_names_alone() {
        for (line, expected) in [
            (r#"{"mitre_technique_id_and_name":"T1059.001 - PowerShell"}"#, &["T1059.001"][..]),
            (r#"{"data":{"mitreTechniqueId":["T1110","t1078: Valid Accounts","T1110"]}}"#, &["T1110", "T1078"]),
            (r#"{"data":"{\"alert\":{\"MITRE Techniques\":[{\"id\":\"T1003\",\"name\":\"Dumping\"}]}}"}"#, &["T1003"]),
            (
                r#"{"mitre_tactic_id_and_name":"TA0002 - Execution","other":"T1059","message":"mitre technique T1059"}"#,
                &[],
            ),
            (r#"{"mitre_technique_id_and_name":"T10591, AT1059, T1059.1, XT1059"}"#, &[]),
            (r#"{"mitre_technique":{"mitre_technique":null}}"#, &[]),
            ("mitre technique: no JSON", &[]),
        ] {
            assert_eq!(of(&[line]), expected, "{line}");
        }
        assert_eq!(
            of(&[r#"{"mitre_technique":"T1003"}"#, r#"{"mitre_technique":"T1003 (T1004)"}"#]),
            ["T1003", "T1004"]
        );
    }

    #[test]
    fn no_record_brings_it_down() {
        let deep = format!(r#"{{"mitre_technique":{}1{}}}"#, "[".repeat(5_000), "]".repeat(5_000));
        assert_eq!(of(&[&deep]), Vec::<String>::new());
        let many: Vec<String> = (1_000..9_000).map(|number| format!("\"T{number}\"")).collect();
        assert_eq!(of(&[&format!(r#"{{"mitre_technique":[{}]}}"#, many.join(","))]).len(), MOST);
    }
}
