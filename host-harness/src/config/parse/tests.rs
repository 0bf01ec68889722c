//! Configurations that are sound, and what is said about those that are not.

use tracing_subscriber::filter::LevelFilter;

use std::collections::BTreeSet;

use super::*;
use crate::config::{LeftOut, SinkConfig};
use crate::contract::types::SettingValue;

fn good(text: &str) -> Config {
    parse(Path::new("/etc/hh/conductor.toml"), text).unwrap_or_else(|error| panic!("{error}"))
}

/// All that is said about a file, a problem a line.
fn bad(text: &str) -> String {
    parse(Path::new("conductor.toml"), text).expect_err("must fail").to_string()
}

const HOST: &str = "[host]\nstate = \"state\"\nconnectors = \"/opt/connectors\"\n";

#[test]
fn what_is_left_out_has_a_default_and_paths_begin_beside_the_file() {
    let config = good(HOST);
    assert_eq!(config.host.state, Path::new("/etc/hh/state"));
    assert_eq!(config.host.connectors, Path::new("/opt/connectors"));
    assert_eq!(config.host.cache, Path::new("/etc/hh/state/cache"));
    assert_eq!(config.host.listen, Some(SocketAddr::from(([127, 0, 0, 1], 9630))));
    assert_eq!((config.host.most_instances_per_type, config.host.sink), (5, SinkConfig::None));
    assert!(config.host.parallel_polls >= 16);
    assert!(config.instances.is_empty() && config.grants.is_empty());
    assert_eq!(config.host.approved_components, None);
    // That is not the same as none.
    assert_eq!(good(&format!("{HOST}approved_components = []\n")).host.approved_components, Some(BTreeSet::new()));
}

#[test]
fn what_is_no_digest_approves_nothing() {
    for (written, what) in
        [("[\"rapid7_insightidr.wasm\"]", "no SHA-256"), ("[\"sha256:12ab\"]", "no SHA-256"), ("true", "")]
    {
        let said = bad(&format!("{HOST}approved_components = {written}\n"));
        assert!(said.contains("approved_components in [host]") && said.contains(what), "{said}");
    }
}

#[test]
fn two_that_collect_for_one_tenant_are_doubted() {
    let one = |name: &str, key: &str, more: &str| {
        format!(
            "[[instance]]\nname = {name:?}\nintegration_type = \"acme-siem\"\n{more}\n[instance.settings]\n\
             [instance.secrets]\napi_key = {key:?}\n"
        )
    };
    let doubts = |instances: &[String]| good(&format!("{HOST}{}", instances.concat())).doubts();
    let (a, b) = (one("a", "file:one.key", ""), one("b", "file:two.key", ""));
    assert_eq!(doubts(&[a.clone(), b.clone()]), Vec::<String>::new());
    assert_eq!(doubts(&[a.clone(), one("c", "file:one.key", "enabled = false")]), Vec::<String>::new());
    // A key of one region is none in another.
    let elsewhere = one("d", "file:one.key", "").replace("settings]\n", "settings]\nregion = \"eu\"\n");
    assert_eq!(doubts(&[a.clone(), elsewhere]), Vec::<String>::new());
    let doubts = doubts(&[a, b, one("c", "file:one.key", "")]);
    assert_eq!(doubts.len(), 1);
    assert!(
        doubts[0].starts_with("/etc/hh/conductor.toml:18: the instances \"a\" and \"c\" have the same secrets"),
        "{doubts:?}"
    );
}

#[test]
fn an_output_that_goes_with_the_state_is_doubted() {
    let doubts = |sink: &str| good(&format!("{HOST}sink = \"file:{sink}\"\n")).doubts();
    let state = good(HOST).host.state;
    assert_eq!(doubts("/var/log/artifacts.jsonl"), Vec::<String>::new());
    let doubts = doubts(&state.join("artifacts.jsonl").display().to_string());
    assert!(doubts.len() == 1 && doubts[0].contains("lies in the state directory"), "{doubts:?}");
}

#[test]
fn everything_that_can_be_said_is_understood() {
    let config = good(
        r#"
[host]
state = "/var/lib/hh"
connectors = "/opt/connectors"
cache = "/var/cache/hh"
listen = "0.0.0.0:9700"
bearer_token = "file:token"
allowed_hosts = ["Conductor.example.com"]
most_instances_per_type = 7
parallel_polls = 3
log_format = "json"
log_level = "debug"
log_timestamps = true
proxy = "http://proxy.example.com:3128"
extra_ca_files = ["ca.pem"]
routes = ["api.example.com=http://127.0.0.1:8811"]
sink = "file:/var/log/artifacts.jsonl"
first_poll_within_seconds = 30
keep_artifacts_days = 90
most_megabytes_per_day = 250
approved_components = ["sha256:0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef"]

[grants.acme-siem]
origins = ["https://US.api.example.com", "http://x.example.com:8080"]
sign_in = ["https://*.example.org"]

[[instance]]
id = "a-1"
integration_type = "signal-client.acme-siem"
name = "Acme US"
enabled = false
poll_interval_minutes = 15
[instance.settings]
region = "us"
days = 0x1c
alerts = true
[instance.secrets]
api_key = "file:keys/us"
other = "env:OTHER"
"#,
    );
    assert_eq!(config.host.bearer_token, Some(Source::File("/etc/hh/token".into())));
    assert_eq!(config.host.allowed_hosts, ["conductor.example.com"]);
    assert_eq!((config.host.most_instances_per_type, config.host.parallel_polls), (7, 3));
    assert_eq!(config.host.log, LogConfig { json: true, level: Some(LevelFilter::DEBUG), timestamps: true });
    assert_eq!(config.host.network.extra_ca_files, [Path::new("/etc/hh/ca.pem")]);
    assert_eq!(config.host.sink, SinkConfig::File("/var/log/artifacts.jsonl".into()));
    assert_eq!(config.host.first_poll_within, Some(Duration::from_secs(30)));
    assert_eq!((config.host.keep_artifacts_days, config.host.most_megabytes_per_day), (Some(90), 250));
    let approved = BTreeSet::from(["0123456789abcdef".repeat(4)]);
    assert_eq!(config.host.approved_components, Some(approved));
    let granted = &config.grants["acme_siem"];
    assert_eq!(granted.origins.iter().collect::<Vec<_>>(), ["http://x.example.com:8080", "https://us.api.example.com"]);
    assert_eq!(granted.sign_in.iter().collect::<Vec<_>>(), ["https://*.example.org"]);
    let one = &config.instances[0];
    assert_eq!((one.integration_type.as_str(), one.name.as_str(), one.enabled), ("acme_siem", "Acme US", false));
    assert_eq!((one.handle.as_deref(), one.poll_interval_minutes), (Some("a-1"), Some(15)));
    let settings: Vec<_> = one.settings.iter().map(|setting| (setting.key.as_str(), setting.value.clone())).collect();
    assert_eq!(
        settings,
        [
            ("alerts", SettingValue::Boolean(true)),
            ("days", SettingValue::Integer(28)),
            ("region", SettingValue::Text("us".into()))
        ]
    );
    assert_eq!(
        one.secrets,
        [
            ("api_key".into(), Source::File("/etc/hh/keys/us".into())),
            ("other".into(), Source::Environment("OTHER".into()))
        ]
    );
    assert_eq!((one.place.line, one.place.interval, one.line_of("days")), (27, Some(32), 35));
}

#[test]
fn every_slip_is_told_at_once_with_line_and_column() {
    let text = r#"
[host]
state = 7
conectors = "/opt/connectors"
listen = "localhost"
most_instances_per_type = 0
log_format = "xml"
log_level = "loud"
sink = "kafka"
routes = ["nowhere"]
proxy = "http://me:hunter2@proxy:3128"

[hosts]

[grants.acme]
origin = ["https://api.example.com/path"]

[[instance]]
name = " acme "
integration_type = "Acme SIEM"
enabeld = true
poll_interval_minutes = 0
[instance.settings]
days = 1.5
[instance.secrets]
api_key = "hunter2-hunter2"
"#;
    insta::assert_snapshot!(bad(text));
}

#[test]
fn a_file_without_anything_says_what_it_needs() {
    insta::assert_snapshot!(bad(""), @"conductor.toml:1:1: host is missing in the file; add for example [host]");
    insta::assert_snapshot!(bad("[host]\n[[instance]]\n"), @r#"
    conductor.toml:1:1: state is missing in [host]; add for example state = "/var/lib/host-harness"
    conductor.toml:1:1: connectors is missing in [host]; add for example connectors = "/usr/lib/host-harness/connectors"
    conductor.toml:2:1: integration_type is missing in [[instance]]; add for example integration_type = "acme_siem"
    conductor.toml:2:1: name is missing in [[instance]]; add for example name = "acme-us"
    "#);
}

#[test]
fn a_file_that_is_no_toml_says_where_and_shows_nothing_of_it() {
    let said = bad("[host]\nstate = \"x\"\napi_key = hunter2hunter2\n[[instance]\n");
    assert!(!said.contains("hunter2"), "{said}");
    insta::assert_snapshot!(said);
}

#[test]
fn a_secret_in_its_own_person_is_refused_and_never_shown() {
    for value in ["\"hunter2\"", "\"hunter2:x\"", "\"env:\"", "['hunter2']", "{ x = 'hunter2' }", "22222"] {
        let said = bad(&format!(
            "{HOST}[[instance]]\nname = \"a\"\nintegration_type = \"acme\"\n[instance.secrets]\napi_key = {value}\n"
        ));
        assert!(!said.contains("hunter2") && !said.contains("22222"), "{said}");
        assert!(said.starts_with("conductor.toml:8:"), "{said}");
        assert!(said.contains("file:/path/to/it"), "{said}");
    }
    let said = bad(&format!("{HOST}bearer_token = \"hunter2\"\n"));
    assert!(!said.contains("hunter2") && said.contains("conductor.toml:4:16"), "{said}");
}

#[test]
fn what_instances_must_not_share_is_told_with_both_lines() {
    let instance = "[[instance]]\nname = \"a\"\nid = \"x\"\nintegration_type = \"acme\"\n";
    insta::assert_snapshot!(bad(&format!("{HOST}{instance}{instance}")), @r#"
    conductor.toml:8:1: the name "a" is that of the instance in line 4, too; give every instance its own name
    conductor.toml:8:1: the id "x" is that of the instance in line 4, too; give every instance its own id
    "#);
}

#[test]
fn more_instances_of_a_type_than_allowed_are_refused_and_other_types_do_not_count() {
    let mut text = format!("{HOST}most_instances_per_type = 2\n");
    for (name, kind) in [("a", "acme"), ("b", "other"), ("c", "acme")] {
        text.push_str(&format!("[[instance]]\nname = \"{name}\"\nintegration_type = \"{kind}\"\n"));
    }
    assert_eq!(good(&text).instances.len(), 3);
    text.push_str("[[instance]]\nname = \"d\"\nintegration_type = \"acme\"\n");
    insta::assert_snapshot!(bad(&text), @"conductor.toml:14:1: this is instance 3 of acme; at most 2 are allowed; remove some, or raise most_instances_per_type in [host]");
    for name in 0..40 {
        text.push_str(&format!("[[instance]]\nname = \"more{name}\"\nintegration_type = \"acme\"\n"));
    }
    insta::assert_snapshot!(bad(&text), @"conductor.toml:14:1: here begin the instances 3 to 43 of acme; at most 2 are allowed; remove some, or raise most_instances_per_type in [host]");
}

#[test]
fn a_path_that_is_empty_is_not_taken_for_the_directory_of_the_file() {
    insta::assert_snapshot!(bad("[host]\nstate = \"\"\nconnectors = \"\"\ncache = \"\"\n"), @r"
    conductor.toml:2:9: state in [host] must be a path; correct the value
    conductor.toml:3:14: connectors in [host] must be a path; correct the value
    conductor.toml:4:9: cache in [host] must be a path; correct the value
    ");
}

#[test]
fn the_bus_is_a_server_a_subject_and_perhaps_credentials_and_no_message_shows_these() {
    let sink = |lines: &str| good(&format!("{HOST}{lines}\n")).host.sink;
    let with = sink(
        "sink = \"tls://broker.example.com:4223\"\nsink_subject = \"acme.data.raw\"\nsink_credentials = \"file:nats\"",
    );
    let SinkConfig::Bus(bus) = with else { panic!("{with:?}") };
    assert_eq!(bus.to_string(), "tls://broker.example.com:4223, subject acme.data.raw");
    assert_eq!(bus.credentials, Some(Source::File("/etc/hh/nats".into())));
    let SinkConfig::Bus(bus) = sink("sink = \"nats://broker\"\nsink_subject = \"raw\"") else { panic!() };
    assert_eq!((bus.to_string().as_str(), bus.credentials), ("nats://broker, subject raw", None));

    let told: Vec<String> = [
        "sink = \"nats://broker\"",
        "sink = \"nats://\"\nsink_subject = \"a..b\"\nsink_credentials = \"hunter2:hunter2\"",
        "sink = \"nats://acme:hunter2@broker\"\nsink_subject = \"raw\"",
        "sink = \"nats://broker/hunter2\"\nsink_subject = \"raw\"",
        "sink = \"stdout\"\nsink_subject = \"raw\"\nsink_credentials = \"file:nats\"",
        "sink_subject = \"raw\"",
    ]
    .map(|lines| bad(&format!("{HOST}{lines}\n")))
    .to_vec();
    let told = told.join("\n");
    assert!(!told.contains("hunter2"), "{told}");
    insta::assert_snapshot!(told);
}

#[test]
fn the_name_of_a_connector_may_be_written_as_it_names_itself_everywhere() {
    let config = good(&format!(
        "{HOST}[grants.\"signal-client.acme-siem\"]\norigins = [\"https://a.example.com\"]\n\
         [[instance]]\nname = \"a\"\nintegration_type = \"signal-client.acme-siem\"\n"
    ));
    assert_eq!(config.instances[0].integration_type, "acme_siem");
    assert_eq!(config.grants.keys().collect::<Vec<_>>(), ["acme_siem"], "the ceiling is that of the instance");
    insta::assert_snapshot!(bad(&format!("{HOST}[grants.\"acme.siem\"]\norigins = []\n")), @"conductor.toml:4:9: [grants.acme.siem] is for no connector; write the connector's name, such as [grants.acme_siem]");
}

#[test]
fn two_ceilings_of_one_connector_are_refused() {
    let text = format!(
        "{HOST}[grants.acme_siem]\norigins = [\"https://a.example.com\"]\n\
         [grants.\"signal-client.acme-siem\"]\norigins = [\"https://b.example.com\"]\n"
    );
    insta::assert_snapshot!(bad(&text), @"conductor.toml:6:9: [grants.signal-client.acme-siem] is for the same connector as another table of [grants]; write all origins of a connector into one table");
}

#[test]
fn an_instance_that_cannot_be_read_keeps_its_id_and_its_name() {
    let good = "[[instance]]\nid = \"a\"\nname = \"alpha\"\nintegration_type = \"acme\"\n";
    let nameless = good.replace("name =", "nmae =");
    let sound = |text: String| parse_sound(Path::new("conductor.toml"), &format!("{HOST}{text}")).unwrap().0;
    // Which of the two has the state of the id is not known.
    let config = sound(format!("{nameless}{}", good.replace("alpha", "copy")));
    assert!(config.instances.is_empty(), "{:?}", config.instances);
    let config = sound(format!("{nameless}{}", good.replace("\"a\"", "\"b\"")));
    assert_eq!(config.instances.len(), 1);
    assert_eq!(config.left_out, [LeftOut { line: 4, handle: Some("a".to_owned()), name: None }]);
}

#[test]
fn the_host_is_found_whatever_is_wrong_with_its_instances() {
    let text = format!("{HOST}listen = \"127.0.0.1:9700\"\n[grants.acme]\n[[instance]]\npoll_interval_minutes = 0\n");
    let host = parse_host(Path::new("conductor.toml"), &text).unwrap();
    assert_eq!(host.listen, Some("127.0.0.1:9700".parse().unwrap()));
    let wrong =
        parse_host(Path::new("conductor.toml"), &format!("{HOST}listen = \"here\"\n[[instance]]\n")).unwrap_err();
    assert_eq!(wrong.problems.len(), 1, "{wrong}");
    assert!(parse_host(Path::new("conductor.toml"), "[host").is_err());
    // That is in the environment of the host.
    let proxy = format!("{HOST}proxy = \"env:NO_SUCH_VARIABLE_HERE\"\n");
    assert!(parse_host(Path::new("conductor.toml"), &proxy).is_ok());
    assert!(bad(&proxy).contains("the environment variable for proxy is not set"));
}

#[test]
fn an_address_that_others_can_reach_needs_a_token() {
    insta::assert_snapshot!(bad(&format!("{HOST}listen = \"0.0.0.0:9630\"\n")), @r#"conductor.toml:4:10: 0.0.0.0:9630 can be reached from other machines, and no bearer_token is set in [host]; set bearer_token = "file:/path/to/token", or listen on 127.0.0.1"#);
    assert!(good(&format!("{HOST}listen = \"0.0.0.0:9630\"\nbearer_token = \"env:T\"\n")).host.listen.is_some());
    assert!(good(&format!("{HOST}listen = \"off\"\n")).host.listen.is_none());
}

#[test]
fn the_example_is_sound_and_shows_every_key() {
    let text = include_str!("../../../conductor.example.toml");
    let config = good(text);
    assert!(!config.instances.is_empty());
    // What is commented out as `#key = …` must be sound, too, and every key of `[host]` must be there.
    let all: String = text
        .lines()
        .map(|line| {
            line.strip_prefix('#')
                .filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '['))
                .unwrap_or(line)
        })
        .map(|line| format!("{line}\n"))
        .collect();
    good(&all);
    for key in [
        "state",
        "connectors",
        "cache",
        "listen",
        "bearer_token",
        "allowed_hosts",
        "most_instances_per_type",
        "parallel_polls",
        "log_format",
        "log_level",
        "log_timestamps",
        "proxy",
        "extra_ca_files",
        "routes",
        "sink",
        "first_poll_within_seconds",
        "keep_artifacts_days",
        "most_megabytes_per_day",
        "origins",
        "id",
        "integration_type",
        "name",
        "enabled",
        "poll_interval_minutes",
    ] {
        assert!(all.lines().any(|line| line.starts_with(&format!("{key} = "))), "{key} is not in the example");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[\\[\\]a-z=\"\\n .0-9{}#'hostinc]{0,200}") {
        let _ = parse(Path::new("c"), &text);
    }
}
