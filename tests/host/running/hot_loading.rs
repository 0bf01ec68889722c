//! The life of a connector's file in a running host: it comes, is replaced by better, worse and broken ones, asks for more,
//! goes and comes back.

use crate::hostile::component;
use crate::running::site::hostile;
use crate::running::upkeep::{FILE, TENANTS, Upkeep, digest, serving};

#[test]
fn connectors_come_and_are_replaced_while_tenants_are_polled_and_nothing_is_lost_or_comes_twice() {
    let mut upkeep = Upkeep::start();
    for name in TENANTS {
        let one = upkeep.host.until_state(name, "failed");
        assert_eq!(one["failure"]["code"], "connector-missing", "{one:#}");
    }

    // A file comes: both tenants are polled, without a restart and without waiting for the end of their back-off.
    upkeep.install("v1");
    upkeep.until_served_by("1.0.0");

    // Another version takes over.
    upkeep.install("v2");
    upkeep.until_served_by("2.0.0");
    let row = serving(&upkeep.host).unwrap();
    assert_eq!((&row["integration_type"], &row["file"]), (&"hostile".into(), &FILE.into()), "{row:#}");
    let listed = upkeep.connectors(&["list"]);
    assert!(listed.code == 0 && listed.stdout.contains("hostile  2.0.0  serving"), "{listed:?}");
    assert!(upkeep.host.log().contains("2.0.0"), "{}", upkeep.host.log());

    // Whatever the file holds then, what serves goes on.
    let whole = component::describing("v3");
    let large = component::padded(17 << 20);
    let broken: [(&str, &[u8], &str); 4] = [
        ("garbage", b"this is no connector", "component-not-wasm"),
        ("a truncated component", &whole[..whole.len() / 2], "component-corrupt"),
        ("an empty file", b"", "component-not-wasm"),
        ("a file beyond all measure", &large, "component-too-big"),
    ];
    for (what, bytes, code) in broken {
        upkeep.site.install(FILE, bytes);
        // What is too large to be read has no digest.
        let digest = if code == "component-too-big" { String::new() } else { digest(bytes) };
        let row = upkeep.until_connector(&digest, "refused", "", Some(code));
        assert!(!row["reason"].as_str().unwrap().is_empty(), "{what}: {row:#}");
        // What the command shows is written a moment after the status.
        let told = format!("({code})");
        let mut listed = upkeep.connectors(&["list"]);
        for _ in 0..200 {
            if listed.stdout.contains(&told) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
            listed = upkeep.connectors(&["list"]);
        }
        assert!(listed.stdout.contains(&told), "{what}: {listed:?}");
        upkeep.until_both_go_on("2.0.0");
    }
    let hostile = [
        // In describe.
        ("v3,trap", "quarantined", "", "component-describe"),
        ("v3,spin", "quarantined", "", "component-describe"),
        ("v3,header-host", "refused", "", "component-descriptor"),
        // In the step that it is tried with.
        ("v4,crashing", "quarantined", "4.0.0", "connector-trap"),
        ("v5,turned", "quarantined", "5.0.0", "bad-batch"),
    ];
    for (acts, state, version, code) in hostile {
        let digest = upkeep.install(acts);
        upkeep.until_connector(&digest, state, version, Some(code));
        assert_eq!(serving(&upkeep.host).unwrap()["version"], "2.0.0", "{acts}");
        upkeep.until_both_go_on("2.0.0");
    }

    // An older version is refused.
    let digest = upkeep.install("v1");
    let row = upkeep.until_connector(&digest, "refused", "1.0.0", Some("older-version"));
    assert!(row["reason"].as_str().unwrap().contains("2.0.0"), "{row:#}");
    upkeep.until_both_go_on("2.0.0");

    // One that wants to go elsewhere waits until somebody says yes; until then not even its trial leaves.
    let digest = upkeep.install("v6,moved");
    let row = upkeep.until_connector(&digest, "held", "6.0.0", Some("not-granted"));
    assert!(row["reason"].as_str().unwrap().contains("moved.api.hostile.example"), "{row:#}");
    upkeep.until_both_go_on("2.0.0");
    let moved = |upkeep: &Upkeep| {
        upkeep.vendor.requests().iter().any(|request| request.headers("host") == ["moved.api.hostile.example"])
    };
    assert!(!moved(&upkeep), "somebody was asked who is not granted");
    // A check is made with what serves, not with what is held.
    let checked = upkeep.site.command(&["check", "--config", "conductor.toml"]);
    let with = "hostile is checked with version 2.0.0, with which the host polls: version 6.0.0 in the directory of connectors is held";
    assert!(checked.code == 0 && checked.stderr.contains(with), "{checked:?}");
    assert!(!moved(&upkeep), "somebody was asked who is not granted");
    let confirmed = upkeep.connectors(&["confirm", "hostile"]);
    assert_eq!(confirmed.code, 0, "{confirmed:?}");
    assert!(
        confirmed.stdout.contains("hostile 6.0.0 is granted:") && confirmed.stdout.contains("moved."),
        "{confirmed:?}"
    );
    upkeep.until_served_by("6.0.0");
    assert!(moved(&upkeep));

    // Removed: it is over, and said so; progress stays.
    std::fs::remove_file(upkeep.site.path("connectors").join(FILE)).unwrap();
    for name in TENANTS {
        let one = upkeep.host.until_state(name, "failed");
        assert_eq!(one["failure"]["code"], "connector-missing", "{one:#}");
    }
    assert!(serving(&upkeep.host).is_none());

    // Back, it goes on where it was.
    upkeep.install("v6,moved");
    upkeep.until_served_by("6.0.0");
    upkeep.until_both_go_on("6.0.0");
    upkeep.end(&["1.0.0", "2.0.0", "6.0.0"]);
}

#[test]
fn an_edit_takes_effect_while_a_connector_is_tried() {
    let mut upkeep = Upkeep::start();
    upkeep.gate.close(0);
    upkeep.install("v1");
    // Its canary step waits for the vendor.
    upkeep.gate.close(1);
    let more = [TENANTS[0], TENANTS[1], "late"].map(|name| hostile(name, "poll:paced", "")).concat();
    upkeep.site.configure(&more);
    upkeep.host.until("the new instance is there", |host| host.instance("late"));
    let rows = upkeep.host.status()["connectors"].clone();
    assert_eq!((rows.as_array().unwrap().len(), &rows[0]["state"]), (1, &"loading".into()), "{rows:#}");
    upkeep.gate.open();
    upkeep.until_served_by("1.0.0");
    assert_eq!(upkeep.host.until_state("late", "ok")["connector"]["version"], "1.0.0");
}
