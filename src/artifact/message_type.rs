//! The `messageType` of an artifact: its event class among the Conductor's.
//!
//! Lead rules key on this value alone, so it is only chosen where the vendor
//! says it plainly: a MITRE ATT&CK technique first, which says more than the
//! tactic that the vendor puts beside it, then a tactic, else the words of the
//! alert's type or the rule's name; whatever is left is a `siem_event`. One
//! table, read from the top; the first row that matches wins.

use std::sync::LazyLock;

use super::mitre::Mitre;

/// What nothing else fits.
pub const SIEM_EVENT: &str = "siem_event";

/// Words in lower case, the class, and why.
const TABLE: [(&[&str], &str); 21] = [
    // What was done to the victim says more than how it was reached.
    (&["t1486"], "ransomware_encryption"),
    (&["impact", "ta0040", "t1485", "t1490", "data destruction", "shadow copies"], "data_destruction"),
    (&["exfiltration", "ta0010", "t1041", "t1048", "t1567"], "data_exfiltration"),
    (&["collection", "ta0009", "t1074", "data staged"], "data_staging"),
    // The mail that was clicked, then the mail that only came.
    (&["phishing link", "clicked", "t1204.001"], "phishing_click"),
    (&["phishing", "t1566", "spoofed domain", "suspicious email"], "phishing_email"),
    // Tactics with a class of their own.
    (
        &[
            "command and control",
            "command-and-control",
            "ta0011",
            "t1071",
            "t1095",
            "t1571",
            "t1572",
            "beacon",
            "botnet",
        ],
        "botnet_connection",
    ),
    (&["privilege escalation", "ta0004", "t1068", "t1548", "account privilege escalated"], "privilege_escalation"),
    (
        &["defense evasion", "defense-evasion", "ta0005", "t1070", "t1562", "log deletion", "antivirus disabled"],
        "defense_evasion",
    ),
    // Guessing keys shows as failures; stolen ones as access.
    (&["brute force", "t1110", "password spray", "password guessing", "failed authentication"], "auth_failure"),
    (
        &[
            "credential access",
            "credential-access",
            "ta0006",
            "t1003",
            "t1555",
            "t1558",
            "harvested credential",
            "leaked credential",
            "account leak",
            "honey credential",
            "kerberoast",
            "mimikatz",
        ],
        "credential_access",
    ),
    (
        &["discovery", "ta0007", "ta0043", "t1046", "t1018", "reconnaissance", "network scan", "port scan", "honeypot"],
        "service_discovery",
    ),
    (
        &["exploit", "initial access", "ta0001", "lateral movement", "ta0008", "t1190", "t1203", "t1210"],
        "exploit_attempt",
    ),
    // Software that should not run.
    // The word ransomware says which kind was found, not that files were encrypted: that is T1486.
    (
        &["malware", "ransomware", "virus", "trojan", "malicious hash", "malicious file", "t1496", "cryptomin"],
        "malicious_software",
    ),
    (
        &[
            "suspicious process",
            "attacker tool",
            "execution",
            "ta0002",
            "t1059",
            "persistence",
            "ta0003",
            "attacker technique",
        ],
        "malicious_behavior",
    ),
    (
        &["threat command", "threat_command", "threat intel", "ioc", "community threat", "indicator of compromise"],
        "ioc_match",
    ),
    (&["network traffic", "ids alert", "intrusion detection", "suspicious network"], "ids_event"),
    // Doings of people that break a habit or a rule.
    (&["policy violation", "restricted", "unapproved", "account shared", "watched"], "policy_violation"),
    (
        &[
            "account enabled",
            "account created",
            "account unlocked",
            "group member",
            "password reset",
            "configuration change",
        ],
        "config_change",
    ),
    (
        // Valid accounts and remote services: used, and not as they usually are.
        &["multiple country", "first ingress", "ingress from", "new local user", "anomal", "unusual", "t1078", "t1133"],
        "anomalous_behavior",
    ),
    (&["denial of service", "t1498", "t1499"], "service_disruption"),
];

/// Names of tactics that are words of everyday language. They count where they
/// are all of a text, as in a list of codes, or name its kind before a dash at
/// its beginning, as in the names of rules (`Impact - Shadow Copies Deleted`);
/// not in what people write (`Low impact - printer offline`).
const EVERYDAY: [&str; 5] = ["impact", "collection", "discovery", "execution", "persistence"];

/// The class for a record, from what its rule says of MITRE ATT&CK first
/// (techniques, then tactics; the vendor lists either in no order, so that the
/// upper row of the table wins), then from `words` (type, rule name, title),
/// each tried in order.
#[must_use]
pub fn classify(mitre: &Mitre, words: &[Option<&str>]) -> &'static str {
    let row_among = |codes: &[String]| codes.iter().filter_map(|code| row_in(code)).min();
    row_among(&mitre.techniques)
        .or_else(|| row_among(&mitre.tactics))
        .or_else(|| words.iter().copied().flatten().find_map(row_in))
        .and_then(|row| TABLE.get(row))
        .map_or(SIEM_EVENT, |(_, class)| *class)
}

/// The first row of the table that a text matches.
fn row_in(text: &str) -> Option<usize> {
    // Long titles are written by attackers: the start is enough.
    let text = crate::text::cut(text, 256).to_ascii_lowercase();
    words_of(&text).filter_map(|rest| row_of(rest, &text)).min()
}

/// The first row of the table with a phrase that the rest of a text begins with.
fn row_of(rest: &str, text: &str) -> Option<usize> {
    let phrases = BY_INITIAL.get(initial(rest))?;
    let matches = |phrase: &str| {
        rest.strip_prefix(phrase).is_some_and(|behind| {
            !EVERYDAY.contains(&phrase)
                || (rest.len() == text.len() && (behind.is_empty() || behind.starts_with(" - ")))
        })
    };
    phrases.iter().find(|(phrase, _)| matches(phrase)).map(|(_, row)| *row)
}

/// Phrases of the table by their initials, each with its row, in order: most
/// words begin with none of them.
static BY_INITIAL: LazyLock<[Vec<(&str, usize)>; 32]> = LazyLock::new(|| {
    let mut phrases: [Vec<(&str, usize)>; 32] = Default::default();
    for (row, (needles, _)) in TABLE.iter().enumerate() {
        for needle in *needles {
            if let Some(alike) = phrases.get_mut(initial(needle)) {
                alike.push((needle, row));
            }
        }
    }
    phrases
});

/// A number for the first byte of a text. Two letters never share one.
fn initial(text: &str) -> usize {
    text.as_bytes().first().map_or(0, |first| usize::from(first & 31))
}

/// What follows wherever a word may begin: behind anything that is no letter or
/// digit. Looked for once for each text: a search for each of the hundred
/// phrases was half of what an alert cost.
fn words_of(text: &str) -> impl Iterator<Item = &str> {
    let mut in_word = false;
    text.char_indices().filter_map(move |(at, character)| {
        let begins = !in_word;
        in_word = character.is_alphanumeric();
        if begins { text.get(at..) } else { None }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(codes: &str, words: &[&str]) -> &'static str {
        let json = format!(r#"{{"mitre_tcodes":{codes}}}"#);
        let mitre = Mitre::of_rule(&crate::api::records::Members::parse(&json).unwrap());
        classify(&mitre, &words.iter().copied().map(Some).collect::<Vec<_>>())
    }

    #[test]
    fn techniques_come_before_tactics_before_words_and_unknown_things_are_siem_events() {
        assert_eq!(of(r#"["Credential Access","T1110"]"#, &["Malware found"]), "auth_failure");
        assert_eq!(of(r#"["Credential Access"]"#, &["Malware found"]), "credential_access");
        assert_eq!(of(r#"["T1110.003"]"#, &["Malware found"]), "auth_failure");
        assert_eq!(of(r#"["TA0006","T9999"]"#, &[]), "credential_access");
        assert_eq!(of(r#"["T9999"]"#, &["Malware found"]), "malicious_software");
        assert_eq!(of("[]", &["Account Privilege Escalated"]), "privilege_escalation");
        assert_eq!(of("[]", &["Brute Force - Local Account"]), "auth_failure");
        assert_eq!(of("[]", &["Multiple country authentications"]), "anomalous_behavior");
        assert_eq!(of("[]", &["Account Leak"]), "credential_access");
        assert_eq!(of("[]", &["Ransomware - WannaCry Dropped"]), "malicious_software", "nothing says it has encrypted");
        assert_eq!(of("[]", &["", "Something else"]), SIEM_EVENT);
        assert_eq!(of("[]", &["biochemistry viola"]), SIEM_EVENT, "a needle inside a word is no match");
    }

    #[test]
    fn the_technique_says_more_than_the_tactic_beside_it() {
        for (codes, class) in [
            (r#"["Impact","T1486"]"#, "ransomware_encryption"),
            (r#"["Impact","T1490"]"#, "data_destruction"),
            (r#"["Impact","T1496"]"#, "malicious_software"),
            (r#"["Impact","T1498"]"#, "service_disruption"),
            (r#"["T1499.002","Impact"]"#, "service_disruption"),
            (r#"["Initial Access","T1566.002"]"#, "phishing_email"),
            (r#"["Initial Access","T1078.004"]"#, "anomalous_behavior"),
            (r#"["Initial Access","T1133"]"#, "anomalous_behavior"),
            (r#"["T1078","T1110"]"#, "auth_failure"),
            (r#"["Execution","T1204.001"]"#, "phishing_click"),
            (r#"["Execution","T1204.002"]"#, "malicious_behavior"),
            (r#"["Initial Access","T1566.002","T1204.001"]"#, "phishing_click"),
            (r#"["T1204.001","T1566.002"]"#, "phishing_click"),
            (r#"["T1059","T1486"]"#, "ransomware_encryption"),
        ] {
            assert_eq!(of(codes, &[]), class, "{codes}");
        }
    }

    #[test]
    fn everyday_words_name_a_tactic_only_where_codes_and_names_of_rules_do() {
        for (codes, class) in [
            (r#"["Impact"]"#, "data_destruction"),
            (r#"["Collection"]"#, "data_staging"),
            (r#"["Discovery"]"#, "service_discovery"),
            (r#"["Execution"]"#, "malicious_behavior"),
            (r#"["Persistence"]"#, "malicious_behavior"),
        ] {
            assert_eq!(of(codes, &[]), class, "{codes}");
        }
        for title in [
            "Low impact - printer offline",
            "Impacted users: finance",
            "Data collection for legal hold",
            "Collection of evidence",
            "E-discovery request",
            "Discovery: new vendor",
            "Execution of the migration plan",
            "Persistence pays off",
        ] {
            assert_eq!(of("[]", &[title]), SIEM_EVENT, "{title}");
        }
        assert_eq!(of("[]", &["Impact - Files Wiped"]), "data_destruction");
        assert_eq!(of("[]", &["Persistence - Run Key Added By Script"]), "malicious_behavior");
    }

    proptest! {
        #[test]
        fn it_is_the_first_row_with_a_phrase_that_begins_a_word(
            parts in prop::collection::vec(prop_oneof![
                (0..TABLE.len(), 0_usize..16).prop_map(|(row, at)| TABLE[row].0[at % TABLE[row].0.len()].to_owned()),
                "[ a-zA-Z0-9é,-]{0,4}",
            ], 0..6),
        ) {
            let title = parts.concat();
            let lower = title.to_ascii_lowercase();
            let begins_word = |at: usize| !lower[..at].chars().next_back().is_some_and(char::is_alphanumeric);
            let is_named = |needle: &str, at: usize| {
                let behind = &lower[at + needle.len()..];
                !EVERYDAY.contains(&needle) || (at == 0 && (behind.is_empty() || behind.starts_with(" - ")))
            };
            let begins = |needle: &&str| lower.char_indices().any(|(at, _)| {
                begins_word(at) && lower[at..].starts_with(needle) && is_named(needle, at)
            });
            let row = TABLE.iter().find(|(needles, _)| needles.iter().any(begins));
            prop_assert_eq!(classify(&Mitre::default(), &[Some(&title)]), row.map_or(SIEM_EVENT, |(_, class)| *class));
        }
    }

    #[test]
    fn every_class_is_one_of_the_conductors() {
        let known = "auth_failure blocked botnet_connection credential_access data_destruction data_exfiltration data_staging \
            defense_evasion exploit_attempt malicious_behavior malicious_session phishing_click phishing_email policy_violation \
            privilege_escalation service_discovery service_disruption anomalous_behavior degraded_hardware degraded_service \
            financial_anomaly ids_event ids_action content_filter ioc_match iom_match blacklisted_process threat_event \
            endpoint_protection infrastructure_exploit malicious_software ransomware_download ransomware_encryption \
            config_change siem_event network_scan asset_inventory";
        for (_, class) in TABLE {
            assert!(known.split_whitespace().any(|name| name == class), "{class}");
        }
    }
}
