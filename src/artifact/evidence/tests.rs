//! Whatever is in evidence, each field is of what happened, and nothing does harm.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use serde_json::value::RawValue;

use super::*;

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).unwrap()
}

/// The entities of evidence with this `data`.
fn of(data: &str) -> Vec<(&'static str, String)> {
    let record = raw(&format!(r#"{{"rrn":"e","data":{}}}"#, serde_json::to_string(data).unwrap()));
    entities(&record).iter().map(|(name, value)| (name, value.to_owned())).collect()
}

fn pairs<const N: usize>(expected: [(&'static str, &str); N]) -> Vec<(&'static str, String)> {
    expected.map(|(name, value)| (name, value.to_owned())).to_vec()
}

#[test]
fn what_describes_something_else_names_nobody() {
    let inner =
        r#"{"address":"1.2.3.4","source_ip":"1.2.3.4","hostname":"pc-1","username":"jane","exe_path":"/bin/a"}"#;
    let found = |name: &str| entities(&raw(&format!(r#"{{"data":{{"{name}":{inner}}}}}"#))).iter().count();
    for name in [
        "parent_process",
        "geoip",
        "geoipSource",
        "grandparentProcess",
        "eventSource",
        "hash_reputation",
        "custom_data",
    ] {
        assert_eq!(found(name), 0, "{name}");
    }
    assert!(found("process") >= 3);
}

#[test]
fn a_process_is_read_with_its_file_and_without_its_parent() {
    let hash = "ab".repeat(32);
    let process = format!(
        r#"{{"hostname":"pc-7","parent_process":{{"name":"explorer.exe","exe_path":"C:\\Windows\\explorer.exe"}},
            "process":{{"name":"evil.exe","exe_path":"C:\\evil.exe","username":"CORP\\jdoe",
            "hashes":{{"md5":"{}","sha256":"{hash}"}}}}}}"#,
        "cd".repeat(16)
    );
    let expected = pairs([
        ("clientHostname", "pc-7"),
        ("userName", "CORP\\jdoe"),
        ("filePath", "C:\\evil.exe"),
        ("fileHash", &hash),
        ("program", "evil.exe"),
    ]);
    assert_eq!(of(&process), expected);
    // The same within a string within a string.
    let inner = serde_json::to_string(&process).unwrap();
    assert_eq!(of(&format!(r#"{{"content":{inner}}}"#)), expected);
}

#[test]
fn a_connection_is_read_with_its_ends() {
    assert_eq!(
        of(
            r#"{"source_address":"10.0.0.1","source_port":"51034","destination_address":"192.0.2.7","destination_port":443,
            "transport_protocol":"TCP","source_ip":"not an address","url":"https://evil.example/a","user":"Jane Doe","account":"jdoe"}"#
        ),
        pairs([
            ("clientIP", "10.0.0.1"),
            ("clientPort", "51034"),
            ("serverIP", "192.0.2.7"),
            ("serverPort", "443"),
            ("protocol", "tcp"),
            ("userName", "jdoe"),
            ("uri", "https://evil.example/a"),
        ])
    );
}

#[test]
fn an_authentication_on_an_asset_is_read_with_the_account_and_the_address_there() {
    let log = |address: &str, more: &str| {
        format!(
            r#"{{"destination_asset":"iagent-win7","destination_asset_address":"{address}","source_asset_address":"10.0.0.1",
            "destination_local_account":"user"{more}}}"#
        )
    };
    let expected = pairs([("clientIP", "10.0.0.1"), ("serverHostname", "iagent-win7"), ("userName", "user")]);
    assert_eq!(of(&log("example-host", "")), expected, "what is no address stands in no address field");
    let expected = pairs([
        ("clientIP", "10.0.0.1"),
        ("serverIP", "192.0.2.7"),
        ("serverHostname", "iagent-win7"),
        ("userName", "jdoe"),
    ]);
    assert_eq!(of(&log("192.0.2.7", r#","destination_account":"jdoe","destination_user":"Jane Doe""#)), expected);
}

#[test]
fn the_log_line_as_it_was_written_fills_only_what_the_vendor_leaves_open() {
    let logon = |more: &str| {
        format!(
            r#"{{"destination_asset":"iagent-win7","destination_asset_address":"example-host"{more},
            "source_json":{{"computerName":"example-host","sourceIPAddress":"198.51.100.9","processName":"lsass.exe"}}}}"#
        )
    };
    assert_eq!(
        of(&logon(r#","source_asset_address":"192.168.100.50""#)),
        pairs([("clientIP", "192.168.100.50"), ("serverHostname", "iagent-win7"), ("program", "lsass.exe")]),
        "the machine that wrote the log is not the one at that address"
    );
    assert_eq!(
        of(&logon("")),
        pairs([
            ("clientIP", "198.51.100.9"),
            ("clientHostname", "example-host"),
            ("serverHostname", "iagent-win7"),
            ("program", "lsass.exe"),
        ])
    );
    let text =
        r#"{"source_data":"{\"source_ip\":\"198.51.100.9\",\"account\":\"x\"}","address":"10.0.0.1","user":"jdoe"}"#;
    assert_eq!(of(text), pairs([("clientIP", "10.0.0.1"), ("userName", "jdoe")]), "whatever its words are");
    assert_eq!(of(r#"{"custom_data":{"source_ip":"10.0.0.1","account":"RecordType"}}"#), []);
}

#[test]
fn a_file_that_is_touched_and_the_file_of_the_process_are_not_mixed() {
    let (hash, other) = ("ab".repeat(32), "cd".repeat(32));
    let process = format!(
        r#""process":{{"name":"winword","pid":"4242","exe_path":"/office/winword",
        "exe_file":{{"path":"/office/winword","hashes":{{"sha256":"{hash}"}}}}}}"#
    );
    let touched = |file: &str| of(&format!("{{{process},{file}}}"));
    let program = [("program", "winword"), ("pid", "4242")];
    let with_program = |file: &[(&'static str, &str)]| -> Vec<(&'static str, String)> {
        file.iter().chain(&program).map(|(name, value)| (*name, (*value).to_owned())).collect()
    };
    let evil = [("fileName", "evil"), ("filePath", "/tmp/evil")];
    let found = touched(r#""target_file":{"name":"evil","path":"/tmp/evil"}"#);
    assert_eq!(found, with_program(&evil), "its hash is not known");
    let found = touched(&format!(r#""file_name":"evil","file_path":"/tmp/evil","file_hash":{{"sha256":"{other}"}}"#));
    assert_eq!(found, with_program(&[evil[0], evil[1], ("fileHash", &other)]));
    let found = touched(r#""target_file":null"#);
    assert_eq!(found, with_program(&[("filePath", "/office/winword"), ("fileHash", &hash)]));
    let flat = format!(r#"{{"exe_path":"/bin/a","sha256":"{hash}"}}"#);
    assert_eq!(of(&flat), pairs([("filePath", "/bin/a"), ("fileHash", &hash)]), "a hash by itself is its");
}

#[test]
fn those_who_change_accounts_are_named_and_names_come_before_numbers() {
    let change =
        r#"{"action":"ACCOUNT_CREATED","target_account":"new-1","source_account":"admin-1","target_user":"New One"}"#;
    assert_eq!(of(change), pairs([("userName", "admin-1")]));
    assert_eq!(of(r#"{"target_user":"New One"}"#), pairs([("userName", "New One")]));
    assert_eq!(of(r#"{"rule":{"target_user":"New One","source_account":"x"}}"#), [], "of something else");
    assert_eq!(of(r#"{"user_id":"1001","user":"jdoe"}"#), pairs([("userName", "jdoe")]));
    assert_eq!(of(r#"{"app_name":"sshd","user_id":"1001"}"#), pairs([("userName", "1001"), ("program", "sshd")]));
    let domain =
        r#"{"account":{"name":"jdoe","domain":"corp.example.com"},"source_user":{"domain":"corp.example.com"}}"#;
    assert_eq!(of(domain), pairs([("userName", "jdoe")]), "the domain of an account was not asked for");
    assert_eq!(of(r#"{"domain":"evil.example"}"#), pairs([("fqdn", "evil.example")]));
}

#[test]
fn keys_of_interest_are_paths_and_any_of_their_values_may_fit() {
    let hash = "ab".repeat(16);
    let keys = format!(
        r#"[{{"key":"process.exe_path","values":["/bin/a"]}},{{"key":"process.name","values":["a.exe"]}},
        {{"key":"process.exe_file.hashes.md5","values":["","{hash}"]}},{{"key":"process.pid","values":["7","8"]}},
        {{"key":"parent_process.exe_file.hashes.sha256","values":["{}"]}},{{"key":"parent_process.username","values":["x"]}},
        {{"key":"custom_data.account","values":["x"]}},{{"key":"source_json.computerName","values":["log-1"]}},
        {{"key":"source_ip","values":["unknown","10.0.0.1"]}},{{"key":"target_account","values":["jdoe"]}},{{"key":"."}}]"#,
        "cd".repeat(32)
    );
    let keys = raw(&keys);
    let keys = Json::from(&*keys).elements().unwrap();
    let found: Vec<(&str, String)> = of_keys(&keys).iter().map(|(name, value)| (name, value.to_owned())).collect();
    assert_eq!(
        found,
        pairs([
            ("clientIP", "10.0.0.1"),
            ("userName", "jdoe"),
            ("filePath", "/bin/a"),
            ("fileHash", &hash),
            ("program", "a.exe"),
            ("pid", "7"),
        ])
    );
}

#[test]
fn what_is_no_json_says_nothing_and_does_no_harm() {
    for data in ["", "User jdoe was seen", r#"{"user":"jdoe""#, "7", "null", "\u{0}\u{202e}"] {
        assert_eq!(of(data), []);
    }
    let deep = format!(r#"{}{{"user":"jdoe"}}{}"#, r#"{"a":["#.repeat(3_000), "]}".repeat(3_000));
    assert_eq!(of(&deep), [], "below the depth that is walked");
    let mut nested = r#"{"user":"jdoe"}"#.to_owned();
    for _ in 0..12 {
        nested = format!(r#"{{"content":{}}}"#, serde_json::to_string(&nested).unwrap());
    }
    assert_eq!(of(&nested), [], "strings in strings count as depth");
    let wide = format!("[{}]", vec![r#"{"user":""}"#; 100_000].join(","));
    assert_eq!(of(&wide), []);
    for record in ["7", "null", "[]", r#"{"data":7}"#, r#"{"data":null}"#] {
        assert_eq!(entities(&raw(record)), Entities::default());
    }
}

#[test]
fn every_name_of_the_table_is_written_as_names_are_compared() {
    for (within, name, _) in TABLE {
        assert!(within == TOP || within == plain(within), "{within}");
        assert_eq!(name, plain(name));
        assert!(may_be_row(name), "{name}");
    }
}

#[test]
fn the_acting_process_of_third_party_alerts_and_the_host_of_a_web_request_are_found() {
    let cortex = r#"{"actor_process_image_name":"powershell.exe","causality_actor_process_image_name":"winword.exe",
        "causality_actor_process_image_path":"C:\\Office\\winword.exe"}"#;
    assert_eq!(of(cortex), pairs([("program", "powershell.exe")]));
    let proxy = r#"{"url_host":"files.example","url":"https://files.example/a?b","top_private_domain":"example"}"#;
    assert_eq!(of(proxy), pairs([("fqdn", "files.example"), ("uri", "https://files.example/a?b")]));
}
