//! What an operator does about tenants: checks them as they are configured, lets one begin again, removes one that left.

use std::os::unix::fs::PermissionsExt;

use host_harness::store::Store;
use serde_json::Value;

use crate::common::process::Host;
use crate::running::site::{Site, Told, insightidr};

/// Instances as `instances list` shows them to programs.
fn listed(site: &Site) -> Vec<Value> {
    let told = site.command(&["instances", "list", "--config", "conductor.toml", "--json"]);
    assert_eq!(told.code, 0, "{told:?}");
    serde_json::from_str::<Value>(&told.stdout).unwrap()["instances"].as_array().unwrap().clone()
}

/// Polls until both have what there is, and stops the host.
fn poll(site: &Site, names: &[&str]) {
    let mut host = site.start(&[]);
    host.until("all are collected and delivered", |_| {
        let all = site.command(&["instances", "list", "--state", "state", "--json"]);
        let all: Value = serde_json::from_str(&all.stdout).unwrap_or_default();
        let all = all["instances"].as_array().cloned().unwrap_or_default();
        let is_done = |name: &str| {
            all.iter().any(|one| one["name"] == name && one["steps"].as_u64() > Some(0) && one["undelivered"] == 0)
        };
        names.iter().all(|name| is_done(name)).then_some(())
    });
    host.stop("TERM");
}

#[test]
fn instances_are_checked_as_they_are_configured_and_nothing_is_stored() {
    let site = Site::new();
    site.install_insightidr();
    site.secret("bad.key", "not-the-key-0123456789");
    let broken = insightidr("broken").replace("us.key", "bad.key");
    let refused = insightidr("refused").replace("region = \"us\"", "region = \"mars\"");
    let off = insightidr("off").replace("[instance.settings]", "enabled = false\n[instance.settings]");
    site.configure(&[insightidr("good"), off].concat());
    let check = |more: &[&str]| site.command(&[&["check", "--config", "conductor.toml"], more].concat());

    let told = check(&[]);
    assert_eq!(told.code, 0, "{told:?}");
    assert!(told.stdout.starts_with("good (rapid7_insightidr)\n  The key works in region us"), "{told:?}");
    assert!(!told.stdout.contains("off ("), "who is switched off is not asked about: {told:?}");
    assert!(check(&["--instance", "off-id"]).stdout.starts_with("off (rapid7_insightidr)\n  The key works"));

    site.configure(&[insightidr("good"), broken, refused].concat());
    let told = check(&[]);
    assert_eq!(told.code, 1, "{told:?}");
    assert!(
        told.stdout.contains("\nbroken (rapid7_insightidr)\n  failed: ") && told.stdout.contains("401"),
        "{told:?}"
    );
    assert!(
        told.stdout.contains("\nrefused (rapid7_insightidr)\n  failed: ") && told.stdout.contains("conductor.toml:")
    );
    assert!(!format!("{told:?}").contains("not-the-key"), "{told:?}");
    let told = check(&["--json"]);
    let value: Value = serde_json::from_str(&told.stdout).unwrap();
    let ok: Vec<&Value> = value["instances"].as_array().unwrap().iter().map(|one| &one["ok"]).collect();
    assert_eq!((told.code, &value["ok"], ok), (1, &false.into(), vec![&true.into(), &false.into(), &false.into()]));
    assert_eq!(value["instances"][1]["failure"]["code"], "unauthorized");

    let told = check(&["--instance", "godo"]);
    assert_eq!(told.code, 2, "{told:?}");
    assert!(told.stderr.contains("has no instance \"godo\"") && told.stderr.contains("\"good\""), "{told:?}");
    assert_eq!(check(&["--set", "region=eu"]).code, 2, "a configuration has its own settings");
    assert!(!site.path("state").exists());
}

#[test]
fn a_tenant_that_left_is_removed_and_one_that_begins_again_stores_nothing_twice() {
    let site = Site::new();
    site.install_insightidr();
    let both = [insightidr("stays"), insightidr("leaves")].concat();
    site.configure(&both);
    assert_eq!(site.command(&["instances", "list", "--state", "state"]).code, 2, "nothing is made");
    assert!(!site.path("state").exists());
    poll(&site, &["stays", "leaves"]);
    let before = listed(&site);
    let count = |all: &[Value], name: &str| {
        all.iter().find(|one| one["name"] == name).map(|one| one["artifacts"].as_u64().unwrap())
    };
    assert!(count(&before, "stays") > Some(30) && count(&before, "leaves") > Some(30), "{before:?}");
    let delivered = site.delivered("rapid7_insightidr").len();

    // What the host does not let serve, or go to another origin, is not let out by a check either.
    let check = || site.command(&["check", "--config", "conductor.toml", "--instance", "stays"]);
    assert_eq!(check().code, 0);
    let asked = site.stage.simulator.request_count();
    site.configure(&both.replace("region = \"us\"", "region = \"eu\""));
    let told = check();
    assert!(told.code == 1 && told.stdout.contains("https://eu.api.insight.rapid7.com"), "{told:?}");
    site.configure(&both);
    let operator = |action: &str| {
        let told = site.command(&["connectors", action, "--state", "state", "rapid7_insightidr"]);
        assert_eq!(told.code, 0, "{told:?}");
    };
    operator("quarantine");
    let told = check();
    assert!(told.code == 1 && told.stdout.contains("is quarantined by the host"), "{told:?}");
    operator("release");
    assert_eq!(site.stage.simulator.request_count(), asked, "nothing was asked");

    // Not without a yes, and not by a name that nobody has.
    let remove = |more: &[&str]| -> Told {
        site.command(&[&["instances", "remove", "--config", "conductor.toml"], more].concat())
    };
    let told = remove(&["leaves-id"]);
    assert!(told.code == 2 && told.stdout.contains("would be removed for good; add --yes"), "{told:?}");
    let told = remove(&["laeves", "--yes"]);
    assert!(told.code == 2 && told.stderr.contains("leaves"), "{told:?}");
    assert_eq!(listed(&site), before);
    let told = remove(&["leaves-id", "--yes"]);
    assert_eq!((told.code, told.stdout.starts_with("leaves with ")), (0, true), "{told:?}");
    let size = || site.path("state/state.sqlite").metadata().unwrap().len();
    let whole = size();
    assert_eq!(site.command(&["instances", "scrub", "--state", "state"]).code, 0);
    assert!(size() < whole);
    let after = listed(&site);
    assert_eq!((count(&after, "stays"), count(&after, "leaves")), (count(&before, "stays"), None));
    assert_eq!(site.command(&["search", "--state", "state", "--instance", "leaves"]).code, 2);

    // What begins again asks for everything, and stores and delivers nothing twice.
    site.configure(&insightidr("stays"));
    let asked = site.stage.simulator.request_count();
    let told = site.command(&["instances", "reset", "--state", "state", "stays"]);
    assert_eq!(told.code, 0, "{told:?}");
    poll(&site, &["stays"]);
    assert!(site.stage.simulator.request_count() > asked + 60, "the look-back is read again");
    assert_eq!(count(&listed(&site), "stays"), count(&before, "stays"));
    assert_eq!(site.delivered("rapid7_insightidr").len(), delivered);
}

#[test]
fn a_running_host_lets_one_begin_again_and_removes_one_that_has_left_while_others_are_polled() {
    let site = Site::new();
    site.install_insightidr();
    site.configure(&[insightidr("stays"), insightidr("leaves")].concat());
    let mut host = site.start(&[]);
    for name in ["stays", "leaves"] {
        host.until_state(name, "ok");
    }
    let (before, delivered) = (listed(&site), site.delivered("rapid7_insightidr").len());
    let command = |more: &[&str]| site.command(&[&["instances"], more, &["--config", "conductor.toml"]].concat());

    // Begun again: everything is asked for, and nothing stored twice.
    let asked = site.stage.simulator.request_count();
    let polls = |host: &Host| host.instance("stays").unwrap()["polls"]["ok"].as_u64().unwrap();
    let polled = polls(&host);
    let told = command(&["reset", "stays-id"]);
    assert_eq!(told.code, 0, "{told:?}");
    assert!(told.stdout.starts_with("stays: its next poll collects the whole look-back again"), "{told:?}");
    host.until("it is polled anew", |host| (polls(host) > polled).then_some(()));
    assert!(site.stage.simulator.request_count() > asked + 60, "the look-back is read again");
    let told = command(&["reset", "nobody"]);
    assert_eq!((told.code, told.stderr.contains("no instance \"nobody\"")), (2, true), "{told:?}");

    // Polled now, and delivered once more.
    let polled = polls(&host);
    let told = command(&["poll", "stays-id"]);
    assert_eq!((told.code, told.stdout.as_str()), (0, "stays is polled now; see `status`\n"), "{told:?}");
    host.until("it is polled", |host| (polls(host) > polled).then_some(()));
    let told = command(&["redeliver", "leaves", "--since", "2020-01"]);
    let count = before.iter().find(|one| one["name"] == "leaves").unwrap()["artifacts"].as_u64().unwrap();
    let wanted = format!("{count} artifacts of leaves will be delivered once more\n");
    assert_eq!((told.code, told.stdout.as_str()), (0, wanted.as_str()), "{told:?}");
    let again = delivered + usize::try_from(count).unwrap();
    host.until("it is delivered", |_| (site.delivered("rapid7_insightidr").len() == again).then_some(()));
    let delivered = again;

    // Removed: not while it is configured.
    let told = command(&["remove", "leaves", "--yes"]);
    assert_eq!(told.code, 2, "{told:?}");
    assert!(told.stderr.contains("\"leaves\" is in the configuration\nhelp: take it out first"), "{told:?}");
    site.configure(&insightidr("stays"));
    host.until("the configuration is taken", |host| host.instance("leaves").is_none().then_some(()));
    let told = command(&["remove", "leaves", "--yes"]);
    assert_eq!((told.code, told.stdout.starts_with("leaves with ")), (0, true), "{told:?}");
    let after = listed(&site);
    assert_eq!(after.len(), 1, "{after:?}");
    let stays = before.iter().find(|one| one["name"] == "stays").unwrap();
    assert_eq!((&after[0]["name"], &after[0]["artifacts"]), (&stays["name"], &stays["artifacts"]));
    assert_eq!(site.delivered("rapid7_insightidr").len(), delivered);

    // Come back, it is a new one, and has everything.
    site.configure(&[insightidr("stays"), insightidr("leaves")].concat());
    host.until("it is polled", |host| (host.instance("leaves")?["state"] == "ok").then_some(()));
    let all = listed(&site);
    assert_eq!(all[0]["artifacts"], all[1]["artifacts"], "they see the same organization: {all:?}");
    let log = host.log();
    assert!(log.contains("\"stays\" begins again, as ordered") && log.contains("\"leaves\" is removed with "), "{log}");
    assert_eq!(host.stop("TERM").code, 0);
    assert_eq!(std::fs::read_dir(site.path("state/orders")).unwrap().count(), 0, "nothing is left lying about");

    // Without a host nothing can be polled; what is delivered once more waits for one.
    let told = command(&["poll", "stays"]);
    assert!(told.code == 2 && told.stderr.contains("no host runs with this state directory"), "{told:?}");
    let told = command(&["redeliver", "stays", "--since", "2030-01-01"]);
    assert_eq!(
        (told.code, told.stdout.as_str()),
        (0, "0 artifacts of stays will be delivered once more\n"),
        "{told:?}"
    );

    // What holds the directory and takes no orders is named as before.
    let held = Store::open(&site.path("state")).unwrap();
    assert!(command(&["reset", "stays"]).stderr.contains("is in use by process"));
    drop(held);
}

#[test]
fn a_region_that_was_wrong_is_corrected_and_others_are_added_without_a_confirmation() {
    let mut site = Site::new();
    let url = site.stage.url();
    for region in ["eu", "ca"] {
        site.route(format!("{region}.api.insight.rapid7.com={url}"));
    }
    site.install_insightidr();
    let within = |region: &str| insightidr(region).replace("region = \"us\"", &format!("region = {region:?}"));
    site.configure(&within("eu"));
    let mut host = site.start(&[]);
    let wrong = host.until_state("eu", "failed");
    assert_ne!(wrong["failure"]["code"], "not-granted", "{wrong:#}");
    assert!(wrong["failure"]["remedy"].as_str().unwrap().contains("Region"), "{wrong:#}");
    // As it is told, and a tenant in a third region beside it.
    site.configure(&[within("eu").replace("region = \"eu\"", "region = \"us\""), within("ca")].concat());
    host.until_state("eu", "ok");
    let other = host.until_state("ca", "failed");
    assert_ne!(other["failure"]["code"], "not-granted", "{other:#}");
    assert!(host.log().contains("https://ap.api.insight.rapid7.com"), "what is granted is told");
    assert_eq!(host.stop("TERM").code, 0);
}

#[test]
fn a_slip_in_one_instance_keeps_no_other_from_being_polled_after_a_start() {
    let mut site = Site::new();
    site.set("most_instances_per_type = 4");
    site.install_insightidr();
    let slip = insightidr("slip").replace("[instance.settings]", "poll_interval_minutes = 0\n[instance.settings]");
    // Which of the two has the state of this id is not known.
    let twice = insightidr("copy").replace("copy-id", "one-id");
    site.configure(&[insightidr("good"), slip, insightidr("one"), twice, insightidr("fifth")].concat());
    assert_eq!(site.command(&["run", "--config", "conductor.toml", "--check"]).code, 2, "it is told before");
    let mut host = site.start(&[]);
    host.until_state("good", "ok");
    let names: Vec<String> =
        host.status()["instances"].as_array().unwrap().iter().map(|one| one["name"].to_string()).collect();
    assert_eq!(names, ["\"good\""], "not those of one id, and not one too many");
    let problems = host.problems();
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(host.log().contains("an instance is left out until this is corrected: "), "{}", host.log());
    assert_eq!(host.status()["host"]["config"]["left_out"].as_array().map(Vec::len), Some(4), "{}", host.status());
    let check = |name| site.command(&["check", "--config", "conductor.toml", "--instance", name]);
    assert_eq!((check("good").code, check("slip").code), (0, 2), "a slip of one is none of another");
    site.configure(&[insightidr("good"), insightidr("slip"), insightidr("one")].concat());
    host.until_state("slip", "ok");
    assert!(host.problems().is_empty());
    assert_eq!(host.status()["host"]["config"]["left_out"].as_array().map(Vec::len), Some(0));
    assert_eq!(host.stop("TERM").code, 0);

    // What only the store can tell: the state of this id is that of another connector.
    let typo = insightidr("slip").replace("rapid7-insightidr", "rapid7-insightdir");
    site.configure(&[typo, insightidr("good")].concat());
    let mut host = site.start(&[]);
    host.until_state("good", "ok");
    assert_eq!(host.status()["host"]["config"]["left_out"], serde_json::json!(["slip"]));
    let problems = host.problems();
    assert!(problems.len() == 1 && problems[0].1 == "instance-of-other-connector", "{problems:?}");
    site.configure(&[insightidr("slip"), insightidr("good")].concat());
    host.until_state("slip", "ok");
    assert_eq!(host.stop("TERM").code, 0);

    // Nor does anybody get the state of one that is left out, who has taken its name.
    let renamed = insightidr("good").replace("name = \"good\"", "name = \"renamed\"\npoll_interval_minutes = 0");
    site.configure(&[renamed, insightidr("good").replace("id = \"good-id\"\n", "")].concat());
    let mut host = site.start(&[]);
    host.until_state("good", "ok");
    let good = &host.status()["instances"][0];
    assert!(good["total"]["artifacts_new"].as_u64().unwrap() > 0, "it begins from its beginning: {good}");
    assert_eq!(good["total"]["artifacts_repeated"], 0, "{good}");
    assert_eq!(host.stop("TERM").code, 0);

    // What is wrong with more than an instance lets nothing begin.
    site.configure("[grants.rapid7_insightidr]\norigins = [\"us\"]\n");
    assert_eq!(site.command(&["run", "--config", "conductor.toml"]).code, 2);
}

#[test]
fn a_key_that_others_can_read_is_told_once_where_the_lines_of_its_connector_are_looked_for() {
    let site = Site::new();
    site.install_insightidr();
    std::fs::set_permissions(site.path("us.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    site.configure(&insightidr("us"));
    let mut host = site.start(&[]);
    host.until_state("us", "ok");
    let log = host.log();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("can be read by others")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].starts_with("[WARN] rapid7-insightidr: ") && told[0].ends_with(" instance=\"us\""), "{told:?}");
    assert_eq!(host.stop("TERM").code, 0);
}
