//! Hostile tenants in the resident host: not a byte that leaves the process holds their secret, and an ordinary tenant
//! beside them collects what it collects alone.

use std::collections::BTreeMap;

use host_harness::store::Store;
use time::OffsetDateTime;

use crate::common::host::key;
use crate::common::process::Host;
use crate::hostile::component;
use crate::hostile::evil::{self, Canary, WAYS};
use crate::hostile::secrets::{SECRET, assert_none};
use crate::running::site::{Site, alone, collected, files, hostile, insightidr};

/// Fails when an answer of the host holds the secret.
fn assert_silent(host: &Host, target: &str) -> String {
    let (status, head, body) = host.ask(target, "");
    assert_eq!(status, 200, "{target}: {body}");
    assert_none(target, head.as_bytes());
    assert_none(target, body.as_bytes());
    body
}

/// Hostile tenants that are given their secret back in all ways, and hand it out in all ways, beside an ordinary one.
fn beside_hostile_tenants(format: &str, alone: &BTreeMap<String, String>) {
    let mut site = Site::new();
    let canary = Canary::start();
    let vendor = evil::vendor(canary.address);
    site.route(vendor.route("api.hostile.example"));
    site.set("most_instances_per_type = 10");
    // Its own, so that what is found in it is this host's.
    site.set("cache = \"cache\"");
    site.install_insightidr();
    site.install("hostile.wasm", &component::honest());
    site.secret("hostile.key", SECRET);
    let paths = WAYS.map(|way| format!("/v1/echo/{way}")).join(" ");
    // The connector is loaded for these; whichever of the others it were tried on first might speak against it.
    let first = [
        // A careless operator has put the secret where everybody can read it, and the connector says it loudly.
        hostile("errors", "configure:errors", SECRET),
        hostile("log", "poll:log-forge", ""),
        insightidr("us"),
    ];
    let others = [
        hostile("echo", "poll:echo", &paths),
        hostile("echo-fail", "poll:echo-fail", &paths),
        hostile("echo-trap", "poll:echo-trap", &paths),
        hostile("no-http", "poll:echo", "/v1/echo/no-http"),
        hostile("stray", "poll:follow", "/v1/redirect"),
        hostile("memory", "poll:grow", ""),
    ];
    site.configure(&first.concat());
    let mut host = site.start(&["--log-format", format, "--log-level", "trace"]);
    host.until_state("log", "ok");
    site.configure(&(first.concat() + &others.concat()));
    host.until_state("us", "ok");
    // One that reads what a vendor sends back is degraded, because it says so of its stream.
    let states = [
        ("echo", "degraded", ""),
        ("echo-fail", "failed", "internal"),
        ("echo-trap", "failed", "connector-trap"),
        ("no-http", "degraded", ""),
        ("stray", "ok", ""),
        ("errors", "failed", "invalid-settings"),
        ("memory", "failed", "memory-limit"),
        ("log", "ok", ""),
    ];
    for (name, state, code) in states {
        let one = host.until_state(name, state);
        assert!(code.is_empty() || one["failure"]["code"] == code, "{one:#}");
    }
    let given = |way: &str| {
        let path = format!("/v1/echo/{way}");
        vendor
            .requests()
            .iter()
            .filter(|request| request.path() == path && request.headers("x-hostile-token") == [SECRET])
            .count()
    };
    for way in WAYS.into_iter().chain(["no-http"]) {
        assert!(given(way) > 0, "the vendor was not told the secret, or not asked for {way}");
    }

    // What is asked of it.
    assert_silent(&host, "/status");
    assert_silent(&host, "/metrics");
    assert_silent(&host, "/healthz");
    for query in ["", "&instance=echo", "&instance=no-http", "&instance=stray"] {
        assert_silent(&host, &format!("/artifacts?query={query}&limit=100"));
    }
    let page = assert_silent(&host, "/artifacts?query=&instance=echo");
    assert!(page.contains("you said"), "what the vendor said is there, without the secret: {page}");
    for word in ["zq7x9k2w4m8p", "6t5v1n0r"] {
        let (_, body) = host.get(&format!("/artifacts?query={word}"));
        assert_none("what is found by a part of the secret", body.replace(word, "").as_bytes());
        assert!(body.contains("\"artifacts\":[]"), "an index holds a part of the secret: {body}");
    }
    let url = host.url();
    let commands: [&[&str]; 5] = [
        &["status", "--url", &url],
        &["status", "--url", &url, "--json"],
        &["connectors", "list", "--state", "state"],
        &["connectors", "list", "--state", "state", "--json"],
        &["search", "--state", "state", "--json", "--limit", "1000"],
    ];
    for arguments in commands {
        let told = site.command(arguments);
        assert_none(&arguments.join(" "), told.stdout.as_bytes());
        assert_none(&arguments.join(" "), told.stderr.as_bytes());
        assert!(told.code < 2 && !told.stdout.is_empty(), "{arguments:?}: {told:?}");
    }
    // An edit that is wrong is told, and its settings are not repeated.
    site.configure(&(first.concat() + &others.concat() + &hostile("late", "configure:errors", SECRET)));
    host.until("the edit is told", |host| (!host.problems().is_empty()).then_some(()));
    assert_silent(&host, "/status");

    // What it leaves behind.
    let ended = host.stop("TERM");
    assert_eq!(ended.code, 0, "{}", ended.log);
    assert!(ended.log.contains("seen: "), "what the connector logs is in the log: {}", ended.log);
    assert_none("the log", ended.log.as_bytes());
    assert_none("standard output", ended.output.as_bytes());
    let left = [files(&site.path("state")), files(&site.path("cache")), vec![site.path("artifacts.jsonl")]].concat();
    assert!(left.iter().any(|file| file.ends_with("state.sqlite")) && left.len() > 4, "{left:?}");
    for file in left {
        assert_none(&file.display().to_string(), &std::fs::read(&file).unwrap());
    }
    let store = Store::open(&site.path("state")).unwrap();
    let mut checkpoints = 0;
    for (name, ..) in states {
        let instance = store.identified(Some(&format!("{name}-id")), name, "hostile", OffsetDateTime::now_utc());
        let Some(checkpoint) = store.checkpoint(&instance.unwrap()).unwrap() else { continue };
        assert_none("a checkpoint", &checkpoint);
        checkpoints += 1;
    }
    assert!(checkpoints >= 3, "{checkpoints}");

    assert_eq!(collected(&site), *alone, "the ordinary tenant collects what it collects alone");
    assert!(!ended.log.contains(&key("us")));
    assert_eq!(canary.calls(), 0, "somebody within the host's network was called");
}

#[test]
fn no_byte_that_leaves_a_host_with_hostile_tenants_holds_their_secret_and_the_others_collect_what_they_did() {
    let alone = alone();
    for format in ["text", "json"] {
        beside_hostile_tenants(format, &alone);
    }
}
