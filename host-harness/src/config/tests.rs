//! Configurations that are taken, and the words for those that are not.

use std::path::Path;

use super::*;

fn told(text: &str) -> String {
    match parse(Path::new("conductor.toml"), text) {
        Ok(config) => format!("{config:#?}"),
        Err(error) => error.to_string(),
    }
}

const HOST: &str = "[host]\nstate = \"state\"\nconnectors = \"connectors\"\n";

fn with(more: &str) -> String {
    told(&format!("{HOST}{more}"))
}

#[test]
fn the_example_is_taken_and_says_what_the_defaults_are() {
    let text = include_str!("../../conductor.example.toml");
    let config = parse(Path::new("/etc/hh/conductor.toml"), text).unwrap();
    assert_eq!(config.host.state, Path::new("/etc/hh/state"));
    assert_eq!(config.host.listen, DEFAULT_LISTEN.parse().ok());
    assert_eq!(config.host.instances_per_type, DEFAULT_INSTANCES_PER_TYPE);
    assert_eq!(config.host.parallel_polls, DEFAULT_PARALLEL_POLLS);
    let granted = config.grants.get("rapid7_insightidr").unwrap();
    assert_eq!(granted.first().unwrap(), "https://us.api.insight.rapid7.com:443");
    let [instance] = config.instances.as_slice() else { panic!("one instance") };
    assert!(instance.enabled);
    assert_eq!(instance.settings.len(), 2);
    assert_eq!(instance.secrets, [("api_key".to_owned(), Source::File("/etc/hh/acme.key".into()))]);
    // Everything that is commented out can be taken in.
    let all: String = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest)
                if rest
                    .split_once(" = ")
                    .is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')) =>
            {
                rest
            }
            _ => line,
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let config = parse(Path::new("/etc/hh/conductor.toml"), &all).unwrap();
    assert!(config.host.token.is_some() && config.host.network.proxy.is_some() && !config.host.routes.is_empty());
    assert!(config.instances.first().unwrap().id.is_some());
}

#[test]
fn every_mistake_is_named_with_its_line() {
    insta::assert_snapshot!(with(
        "listen = \"0.0.0.0:80\"\nparallel_polls = 0\nroutes = [\"nonsense\"]\nproxy = \"http://me:hunter2@proxy\"\n\
         [grants.acme]\norigins = [\"https://a/b\"]\n\
         [[instance]]\nintegration_type = \"Acme\"\nname = \" a\"\npoll_interval_minutes = 0\n\
         [instance.settings]\nlist = []\n[instance.secrets]\nkey = \"s3cr3t\"\n\
         [[instance]]\nintegration_type = \"acme\"\nname = \"b\"\nid = \"7\"\n\
         [[instance]]\nintegration_type = \"acme\"\nname = \"b\"\n"
    ));
    assert!(!with("[[instance]]\nintegration_type=\"a\"\nname=\"b\"\nsecrets={key=\"s3cr3t\"}").contains("s3cr3t"));
}

#[test]
fn what_is_no_toml_or_has_an_unknown_key_is_named_with_its_line() {
    insta::assert_snapshot!([
        told("[host]\nstate = \"s\"\nconnectors = \"c\"\nlisten = \n"),
        with("colour = \"red\"\n"),
        with("[[instance]]\nname = \"a\"\n"),
        with("parallel_polls = \"many\"\n"),
        told(""),
        told("[host]\nstate = \"s\"\nconnectors = \"c\"\n[[instance]]\nintegration_type = \"a\"\nname = \"b\"\nsecrets = { key = s3cr3t }\n"),
    ]
    .join("\n"));
}

#[test]
fn a_sixth_instance_of_a_type_needs_a_word() {
    let six: String =
        (0..6).map(|n| format!("[[instance]]\nintegration_type = \"acme-siem\"\nname = \"n{n}\"\n")).collect();
    insta::assert_snapshot!(with(&six));
    assert!(parse(Path::new("c"), &format!("{HOST}instances_per_type = 6\n{six}")).is_ok());
}
