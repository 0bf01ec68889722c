//! The resident host, the real one: its binary with the real connector against the simulator, edited, rotated, stopped and
//! started while it runs.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use crate::common::host::{Stage, connector, key};
use crate::common::process::Host;
use crate::running::upkeep::digest;
use insightidr_simulator::{OrganizationConfig, World, WorldConfig};
use serde_json::Value;

/// A host's surroundings: a simulator with tenants in two regions, a directory with connectors, keys and configuration.
struct Site {
    stage: Stage,
}

impl Site {
    fn new() -> Self {
        let organizations = ["us", "eu"].map(|region| OrganizationConfig::new(region, region)).to_vec();
        let config = WorldConfig { seed: 21, investigations: 30, organizations, ..WorldConfig::default() };
        let site = Self { stage: Stage::of(World::generate(&config)) };
        fs::create_dir(site.path("connectors")).unwrap();
        std::os::unix::fs::symlink(connector(), site.path("connectors/rapid7.wasm")).unwrap();
        site.secret("us.key", &key("us"));
        site.secret("eu.key", &key("eu"));
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.stage.dir.path().join(name)
    }

    fn secret(&self, name: &str, value: &str) {
        fs::write(self.path(name), value).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Writes the configuration with these `[[instance]]` tables.
    fn configure(&self, instances: &str) {
        let url = self.stage.url();
        let cache = concat!(env!("CARGO_TARGET_TMPDIR"), "/connector-cache");
        let text = format!(
            r#"[host]
state = "state"
connectors = "connectors"
cache = "{cache}"
listen = "127.0.0.1:0"
sink = "file:artifacts.jsonl"
first_poll_within_seconds = 1
routes = ["us.api.insight.rapid7.com={url}", "eu.api.insight.rapid7.com={url}"]

{instances}"#
        );
        fs::write(self.path("conductor.toml.new"), text).unwrap();
        fs::rename(self.path("conductor.toml.new"), self.path("conductor.toml")).unwrap();
    }

    fn start(&self) -> Host {
        let mut command = self.stage.command(&["run", "--config", "conductor.toml", "--clock", "2026-01-15T12:00:00Z"]);
        Host::start(&mut command)
    }

    /// Everything delivered so far: the ids.
    fn delivered(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path("artifacts.jsonl")).unwrap_or_default();
        let id = |line: &str| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned();
        text.lines().map(id).collect()
    }
}

/// An `[[instance]]` table.
fn instance(name: &str, region: &str, key: &str) -> String {
    format!(
        "[[instance]]\nid = \"{name}-id\"\nname = \"{name}\"\nintegration_type = \"rapid7-insightidr\"\n\
         [instance.settings]\nregion = \"{region}\"\n[instance.secrets]\napi_key = \"file:{key}\"\n"
    )
}

#[test]
fn tenants_are_polled_edited_rotated_and_found_again_after_a_restart() {
    let site = Site::new();
    let two = format!("{}{}", instance("us", "us", "us.key"), instance("eu", "eu", "eu.key"));
    site.configure(&two);
    let mut host = site.start();

    // Both become green, and what they collected can be seen everywhere.
    let us = host.until_state("us", "ok");
    host.until_state("eu", "ok");
    let investigations = us["streams"][0]["total"].as_u64().unwrap();
    assert!(investigations > 0, "{us:#}");
    let line = format!("[INFO] rapid7-insightidr: fetched {investigations} investigations");
    assert!(host.log().lines().any(|logged| logged == line), "{line}\n{}", host.log());
    assert_eq!(host.get("/healthz").0, 200);
    let (_, metrics) = host.get("/metrics");
    for line in [
        "signal_client_instance_state{instance=\"us\",integration_type=\"rapid7_insightidr\",state=\"ok\"} 1",
        "signal_client_polls_total{instance=\"eu\",integration_type=\"rapid7_insightidr\",outcome=\"ok\"} 1",
        &format!(
            "signal_client_records_total{{instance=\"us\",integration_type=\"rapid7_insightidr\",stream=\"investigations\"}} {investigations}"
        ),
    ] {
        assert!(metrics.lines().any(|given| given == line), "{line} is not in {metrics}");
    }
    let (_, found) = host.get("/artifacts?query=&instance=us&limit=5");
    let found: Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found["artifacts"].as_array().unwrap().len(), 5);
    assert_eq!(found["artifacts"][0]["artifact"]["streamName"], "rapid7_insightidr");
    let url = host.url();
    let told = site.stage.command(&["status", "--url", &url]).output().unwrap();
    let table = String::from_utf8(told.stdout).unwrap();
    assert!(told.status.success() && table.contains("rapid7_insightidr  ok"), "{table}");
    assert!(table.contains(&format!("routed: us.api.insight.rapid7.com={}", site.stage.url())), "{table}");

    // A broken edit is told with its line, and everything goes on as before.
    site.configure(&format!("{two}[[instance]]\nname = \"x\"\nintegration_typ = \"rapid7_insightidr\"\n"));
    host.until("the broken edit is told", |host| (host.problems().len() == 2).then_some(()));
    assert_eq!(host.status()["instances"].as_array().unwrap().len(), 2);
    assert!(
        host.log().contains("the configuration is not taken, the one before keeps running: conductor.toml:"),
        "{}",
        host.log()
    );
    let told = site.stage.command(&["status", "--url", &url]).output().unwrap();
    assert_eq!(told.status.code(), Some(1));

    // So is one that only the connector finds wrong.
    site.configure(&format!("{two}{}", instance("third", "mars", "third.key")));
    host.until("the connector's word is told", |host| {
        host.problems().iter().any(|(_, code)| code == "invalid-settings").then_some(())
    });

    // Mended: a third instance comes, with a key that the vendor does not know.
    site.secret("third.key", "this-key-is-unknown-0123456789");
    site.configure(&format!("{two}{}", instance("third", "us", "third.key")));
    let third = host.until_state("third", "failed");
    assert_eq!((&third["failure"]["code"], &third["failure"]["http_status"]), (&"unauthorized".into(), &401.into()));
    assert!(third["failure"]["remedy"].as_str().unwrap().contains("Verify that the API Key is correct"), "{third:#}");
    assert!(third["back_off"]["seconds"].as_u64().unwrap() >= 800, "{third:#}");
    assert_eq!(host.problems(), []);

    // The key is rotated: no restart, no waiting for the end of the back-off.
    site.secret("third.key", &key("us"));
    host.until_state("third", "ok");

    // Disabled, and renamed with its id.
    let edited =
        two.replace("name = \"eu\"", "name = \"Europe\"").replace("name = \"us\"", "name = \"us\"\nenabled = false");
    site.configure(&edited);
    host.until_state("us", "disabled");
    let europe = host.until("eu has its new name", |host| host.instance("Europe"));
    assert_eq!((&europe["state"], &europe["polls"]["ok"]), (&"ok".into(), &1.into()), "{europe:#}");
    assert!(host.instance("third").is_none());

    let log = host.log();
    for region in ["us", "eu"] {
        assert!(!log.contains(&key(region)) && !host.get("/status").1.contains(&key(region)), "a secret is shown");
    }
    let ended = host.stop("TERM");
    let log = ended.log;
    assert_eq!((ended.code, ended.output.as_str()), (0, ""), "{log}");
    assert!(log.trim_end().ends_with("[INFO] host-harness: stopped"), "{log}");

    // After a restart everything is remembered, and nothing is delivered twice.
    let before = site.delivered();
    site.configure(&two);
    let mut host = site.start();
    let us = host.until_state("us", "ok");
    assert!(
        us["polls"]["ok"].as_u64().unwrap() >= 2 && us["streams"][0]["total"].as_u64() >= Some(investigations),
        "{us:#}"
    );
    host.until_state("eu", "ok");
    assert_eq!(host.stop("INT").code, 0);
    let after = site.delivered();
    assert_eq!(after, before, "the world stands still, and nothing is delivered twice");
}

#[test]
fn only_components_that_the_configuration_approves_are_run() {
    let site = Site::new();
    let approve = |digests: &str| {
        site.configure(&format!("approved_components = [{digests}]\n{}", instance("us", "us", "us.key")));
    };
    approve("");
    for command in [&["run", "--config", "conductor.toml", "--check"][..], &["check", "--config", "conductor.toml"]] {
        let told = site.stage.command(command).output().unwrap();
        let text = [told.stdout, told.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        assert!(!told.status.success() && text.contains("approved_components in [host] does not name it"), "{text}");
    }
    let mut host = site.start();
    let us = host.until_state("us", "failed");
    assert_eq!(us["failure"]["code"], "connector-missing", "{us:#}");
    assert_eq!(site.stage.simulator.request_count(), 0);
    // An edit that names it is enough, and so is one that does not.
    approve(&format!("\"sha256:{}\"", digest(&fs::read(connector()).unwrap())));
    host.until_state("us", "ok");
    approve("");
    host.until("it stops", |host| {
        let row = &host.status()["connectors"][0];
        (row["state"] == "refused" && row["code"] == "not-approved").then_some(())
    });
    assert_eq!(host.stop("TERM").code, 0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_host_may_open_as_many_files_as_the_system_lets_it() {
    let site = Site::new();
    site.configure(&instance("us", "us", "us.key"));
    let program = site.stage.command(&[]).get_program().to_owned();
    let mut command = Command::new("sh");
    command.current_dir(site.stage.dir.path()).args(["-c", r#"ulimit -Sn 256; exec "$0" "$@""#]).arg(program);
    let host = Host::start(command.args(["run", "--config", "conductor.toml", "--clock", "2026-01-15T12:00:00Z"]));
    let limits = fs::read_to_string(format!("/proc/{}/limits", host.child.id())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let mut numbers = line.split_whitespace();
    let (soft, hard) = (numbers.next().unwrap(), numbers.next().unwrap());
    assert_eq!(soft, hard, "{line}");
    assert_ne!(soft, "256");
}

#[test]
fn a_check_tells_everything_at_once_and_asks_nobody() {
    let site = Site::new();
    let check = |instances: &str| {
        site.configure(instances);
        let output = site.stage.command(&["run", "--config", "conductor.toml", "--check"]).output().unwrap();
        assert_eq!(site.stage.simulator.request_count(), 0);
        assert!(!site.path("state").exists(), "nothing is made");
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        (output.status.code().unwrap(), text)
    };
    let (code, text) = check(&instance("us", "us", "us.key"));
    assert_eq!((code, text.as_str()), (0, "conductor.toml: sound; 1 instance, 1 of them enabled\n"));
    let elsewhere = "[grants.rapid7_insightidr]\norigins = [\"https://eu.api.insight.rapid7.com\"]\n";
    let (code, text) = check(&format!("{elsewhere}{}", instance("us", "us", "us.key")));
    assert!(code == 2 && text.contains("us.api.insight.rapid7.com"), "what is not granted is not sound: {code} {text}");
    let wrong = [
        instance("a", "mars", "us.key"),
        instance("b", "us", "none.key"),
        instance("c", "us", "us.key").replace("rapid7-insightidr", "rapid7_insightird"),
        instance("d", "us", "us.key").replace("api_key", "api_kee"),
        instance("e", "us", "us.key")
            .replace("region = \"us\"", "region = \"us\"\nregionn = \"us\"\napi_key = \"hunter2\""),
    ];
    let (code, text) = check(&wrong.concat());
    assert_eq!(code, 2);
    assert!(!text.contains("hunter2"), "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn a_check_tries_what_the_host_itself_needs() {
    let site = Site::new();
    site.configure(&instance("us", "us", "us.key"));
    let text = fs::read_to_string(site.path("conductor.toml")).unwrap();
    let check = |text: &str| {
        fs::write(site.path("conductor.toml"), text).unwrap();
        let output = site.stage.command(&["run", "--config", "conductor.toml", "--check"]).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    assert_eq!(check(&text).0, 0);
    let beside = text.replace("sink = \"file:artifacts.jsonl\"", "sink = \"file:state/artifacts.jsonl\"");
    assert_eq!(check(&beside).0, 0, "the state directory comes with the first start");
    fs::write(site.path("empty.pem"), "").unwrap();
    fs::create_dir(site.path("open")).unwrap();
    fs::set_permissions(site.path("open"), fs::Permissions::from_mode(0o777)).unwrap();
    let wrong = text
        .replace("state = \"state\"", "state = \"open\"")
        .replace("sink = \"file:artifacts.jsonl\"", "sink = \"file:none/artifacts.jsonl\"")
        .replace(
            "first_poll",
            "bearer_token = \"file:none.token\"\nextra_ca_files = [\n  \"none.pem\",\n  \"empty.pem\",\n]\nfirst_poll",
        );
    let (code, text) = check(&wrong);
    assert_eq!(code, 2, "{text}");
    insta::assert_snapshot!(text, @r#"
    error: conductor.toml:2: the state directory open is not this user's alone: other users can write to it; make it this user's alone (chown, chmod go-w), or name a directory below it, which is made for this user alone
    conductor.toml:6: cannot open none/artifacts.jsonl for the artifacts: No such file or directory (os error 2); name a file in a directory that exists and that this user can write to
    conductor.toml:7: cannot read none.token for the secret "bearer_token": No such file or directory (os error 2); name a file that this user can read
    conductor.toml:9: cannot use the certificates in none.pem: No such file or directory (os error 2); give a readable PEM file
    conductor.toml:10: cannot use the certificates in empty.pem: it holds no certificate; give a readable PEM file
    help: correct these 5 and try again
    "#);
    assert_eq!(fs::read_dir(site.path("open")).unwrap().count(), 0, "nothing is made");
}

#[test]
fn a_host_that_cannot_start_says_why() {
    let site = Site::new();
    let refused = |arguments: &[&str]| {
        let output = site.stage.command(arguments).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text) = refused(&["run", "--config", "none.toml"]);
    assert_eq!(code, 2);
    insta::assert_snapshot!(text, @"error: none.toml: the configuration cannot be read: No such file or directory (os error 2); name a file that this user can read");
    let (code, text) = refused(&["status", "--url", "http://127.0.0.1:9"]);
    assert_eq!(code, 1);
    assert!(text.contains("no host answers at 127.0.0.1:9") && text.contains("help: start it with"), "{text}");

    // One state directory, one host.
    site.configure(&instance("us", "us", "us.key"));
    let mut first = site.start();
    let (code, text) = refused(&["run", "--config", "conductor.toml"]);
    assert!(code == 2 && text.contains("the state directory") && text.contains("is in use by process"), "{text}");
    first.until_state("us", "ok");
    assert_eq!(first.stop("TERM").code, 0);

    // An address that is taken.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let text = fs::read_to_string(site.path("conductor.toml")).unwrap();
    let text = text.replace("127.0.0.1:0\"", &format!("{}\"", taken.local_addr().unwrap()));
    fs::write(site.path("conductor.toml"), text).unwrap();
    let (code, text) = refused(&["run", "--config", "conductor.toml"]);
    assert!(code == 2 && text.contains("cannot listen on 127.0.0.1:") && text.contains("help: set another"), "{text}");
}

#[test]
fn one_tenant_that_cannot_be_polled_keeps_no_other_from_it() {
    let site = Site::new();
    site.configure(
        &[
            instance("bad", "mars", "us.key"),
            instance("keyless", "us", "none.key"),
            instance("orphan", "us", "us.key").replace("rapid7-insightidr", "acme"),
            instance("us", "us", "us.key"),
        ]
        .concat(),
    );
    fs::write(site.path("connectors/broken.wasm"), "this is no connector").unwrap();
    fs::rename(site.path("connectors/rapid7.wasm"), site.path("rapid7.wasm")).unwrap();
    let mut host = site.start();

    // A connector that comes late is as good as one that was there: nobody waits for the end of a back-off.
    let us = host.until_state("us", "failed");
    assert_eq!(us["failure"]["code"], "connector-missing", "{us:#}");
    fs::rename(site.path("rapid7.wasm"), site.path("connectors/rapid7.wasm")).unwrap();
    host.until_state("us", "ok");
    for (name, code) in [("bad", "invalid-settings"), ("keyless", "secret-unreadable"), ("orphan", "connector-missing")]
    {
        // Before the connector came, that was what was missing.
        let one = host.until(&format!("{name} fails of {code}"), |host| {
            host.instance(name).filter(|one| one["failure"]["code"] == code)
        });
        assert_eq!(one["state"], "failed", "{one:#}");
        assert!(!one["failure"]["remedy"].as_str().unwrap().is_empty(), "{one:#}");
    }
    let status = host.status();
    let states: BTreeSet<&str> =
        status["connectors"].as_array().unwrap().iter().map(|one| one["state"].as_str().unwrap()).collect();
    assert_eq!(states, BTreeSet::from(["serving", "refused"]));

    // The key that was missing comes.
    site.secret("none.key", &key("us"));
    host.until_state("keyless", "ok");
    assert_eq!(host.stop("TERM").code, 0);
}
