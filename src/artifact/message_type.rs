//! The `messageType` of an artifact: its event class among the Conductor's.
//!
//! Lead rules key on this value alone, so it is only chosen where the vendor
//! says it plainly: a MITRE ATT&CK tactic first, else the words of the alert's
//! type or the rule's name; whatever is left is a `siem_event`. One table, read
//! from the top; the first row that matches wins.

/// What nothing else fits.
pub const SIEM_EVENT: &str = "siem_event";

/// Words in lower case, the class, and why.
const TABLE: [(&[&str], &str); 21] = [
    // What was done to the victim says more than how it was reached.
    (&["ransomware"], "ransomware_encryption"),
    (&["impact", "data destruction", "shadow copies"], "data_destruction"),
    (&["exfiltration"], "data_exfiltration"),
    (&["collection", "data staged"], "data_staging"),
    // The mail that was clicked, then the mail that only came.
    (&["phishing link", "clicked"], "phishing_click"),
    (&["phishing", "spoofed domain", "suspicious email"], "phishing_email"),
    // Tactics with a class of their own.
    (&["command and control", "command-and-control", "beacon", "botnet"], "botnet_connection"),
    (&["privilege escalation", "account privilege escalated"], "privilege_escalation"),
    (&["defense evasion", "defense-evasion", "log deletion", "antivirus disabled"], "defense_evasion"),
    // Guessing keys shows as failures; stolen ones as access.
    (&["brute force", "password spray", "password guessing", "failed authentication"], "auth_failure"),
    (
        &[
            "credential access",
            "credential-access",
            "harvested credential",
            "leaked credential",
            "honey credential",
            "kerberoast",
            "mimikatz",
        ],
        "credential_access",
    ),
    (&["discovery", "reconnaissance", "network scan", "port scan", "honeypot"], "service_discovery"),
    (&["exploit", "initial access", "lateral movement"], "exploit_attempt"),
    // Software that should not run.
    (&["malware", "virus", "trojan", "malicious hash", "malicious file"], "malicious_software"),
    (&["suspicious process", "attacker tool", "execution", "persistence", "attacker technique"], "malicious_behavior"),
    (&["threat command", "threat intel", "ioc", "community threat", "indicator of compromise"], "ioc_match"),
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
        &["multiple country", "first ingress", "ingress from", "new local user", "anomal", "unusual"],
        "anomalous_behavior",
    ),
    (&["denial of service"], "service_disruption"),
];

/// The class for an alert, from its MITRE tactics first, then from `words`
/// (type, rule name, title), each tried in order.
#[must_use]
pub fn classify<'a>(
    tactics: impl IntoIterator<Item = &'a str>,
    words: impl IntoIterator<Item = &'a str>,
) -> &'static str {
    tactics
        .into_iter()
        .chain(words)
        .find_map(|text| {
            // Long titles are written by attackers: the start is enough.
            let text = crate::text::cut(text, 256).to_ascii_lowercase();
            TABLE
                .iter()
                .find(|(needles, _)| needles.iter().any(|needle| contains_word(&text, needle)))
                .map(|(_, class)| *class)
        })
        .unwrap_or(SIEM_EVENT)
}

/// Whether `needle` starts at the start of a word of `text`.
fn contains_word(text: &str, needle: &str) -> bool {
    text.match_indices(needle).any(|(at, _)| {
        text.get(..at).is_some_and(|before| !before.ends_with(|character: char| character.is_alphanumeric()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tactics_come_before_words_and_unknown_things_are_siem_events() {
        assert_eq!(classify(["Credential Access"], ["Malware found"]), "credential_access");
        assert_eq!(classify([], ["Account Privilege Escalated"]), "privilege_escalation");
        assert_eq!(classify([], ["Brute Force - Local Account"]), "auth_failure");
        assert_eq!(classify([], ["Multiple country authentications"]), "anomalous_behavior");
        assert_eq!(classify(["T1110"], ["", "Something else"]), SIEM_EVENT);
        assert_eq!(classify([], ["biochemistry viola"]), SIEM_EVENT, "a needle inside a word is no match");
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
