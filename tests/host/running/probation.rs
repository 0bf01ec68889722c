//! A version that passes its trial and fails then, and what an operator does about versions.

use host_harness::store::{Reader, Store};
use time::OffsetDateTime;

use crate::hostile::secrets::SECRET;
use crate::running::upkeep::{TENANTS, Upkeep, serving};

#[test]
fn a_version_that_fails_once_it_serves_is_taken_back_and_an_operator_stops_and_releases_versions() {
    let mut upkeep = Upkeep::start();
    upkeep.install("v1");
    upkeep.until_served_by("1.0.0");

    // It knows when it is being tried, and crashes when it is not.
    let sly = upkeep.install("v2,sly");
    let row = upkeep.until_connector(&sly, "serving", "2.0.0", None);
    assert!(row["reason"].as_str().unwrap().contains("1.0.0"), "it says what would be put back: {row:#}");
    assert!(upkeep.connectors(&["list"]).stdout.contains("1.0.0"), "so does the list");
    // Three failures of one tenant speak against it. A new key makes those that are backing off try again within seconds;
    // else it would take minutes.
    for rotation in 1.. {
        let taken_back = upkeep.host.until("the next failures", |host| {
            let failures =
                |name: &&str| host.instance(name).unwrap()["failures"]["connector-trap"].as_u64().unwrap_or(0);
            let taken_back = serving(host).is_some_and(|row| row["version"] == "1.0.0");
            (taken_back || TENANTS.iter().all(|name| failures(name) >= rotation)).then_some(taken_back)
        });
        if taken_back {
            break;
        }
        assert!(rotation < 3, "{}", upkeep.host.log());
        upkeep.site.secret("hostile.key", &format!("{SECRET}{rotation}"));
    }
    upkeep.until_connector(&sly, "quarantined", "2.0.0", Some("probation-failed"));
    assert!(
        upkeep.host.log().contains("version 2.0.0 is taken back, version 1.0.0 serves again"),
        "{}",
        upkeep.host.log()
    );
    upkeep.until_served_by("1.0.0");
    upkeep.until_both_go_on("1.0.0");

    // An operator stops a version.
    upkeep.install("v1");
    let serves_from_file = |host: &crate::common::process::Host| {
        let rows = host.status()["connectors"].as_array().unwrap().clone();
        (rows.len() == 1 && rows[0]["state"] == "serving").then(|| rows[0]["digest"].as_str().unwrap().to_owned())
    };
    let digest = upkeep.host.until("only the first version is there", serves_from_file);
    let stopped = upkeep.connectors(&["quarantine", "hostile", "--reason", "it loses records"]);
    assert_eq!((stopped.code, stopped.stdout), (0, format!("{digest} is in quarantine\n")), "{}", stopped.stderr);
    for name in TENANTS {
        let one = upkeep.host.until_state(name, "failed");
        assert_eq!(one["failure"]["code"], "connector-missing", "{one:#}");
        assert!(one["failure"]["remedy"].as_str().unwrap().contains("it loses records"), "{one:#}");
    }
    upkeep.until_connector(&digest, "quarantined", "1.0.0", Some("operator"));
    let told = upkeep.site.command(&["run", "--config", "conductor.toml", "--check"]);
    let why = "version 1.0.0 in the directory of connectors is quarantined by the host: it loses records";
    assert_eq!((told.code, told.stderr.matches(why).count()), (2, 1), "once, at its first instance: {told:?}");
    let listed = upkeep.connectors(&["list"]);
    assert!(
        listed.stdout.contains("hostile  1.0.0  quarantined") && listed.stdout.contains("it loses records (operator)")
    );

    // And lets it go again, by the beginning of its digest.
    let released = upkeep.connectors(&["release", &digest[..12]]);
    assert_eq!((released.code, released.stdout), (0, format!("{digest} is released\n")), "{}", released.stderr);
    upkeep.until_served_by("1.0.0");
    upkeep.until_both_go_on("1.0.0");

    // What there is not is not obeyed.
    for action in ["quarantine", "release", "confirm"] {
        let told = upkeep.connectors(&[action, "unheard_of"]);
        assert!(
            told.code == 2
                && told.stdout.is_empty()
                && (told.stderr.contains("unheard_of") || told.stderr.contains("nothing is held")),
            "{action}: {told:?}"
        );
    }
    upkeep.end(&["1.0.0"]);
}

#[test]
fn nothing_of_a_canary_step_is_kept() {
    // Each poll is one step with one request, one artifact, and a checkpoint that is a byte longer; so is a canary step.
    let mut upkeep = Upkeep::behaving("poll:paced-once");
    upkeep.install("v1");
    upkeep.host.until("both are polled", |host| {
        TENANTS.iter().all(|name| host.instance(name).unwrap()["state"] == "ok").then_some(())
    });
    let second = upkeep.install("v2");
    upkeep.until_connector(&second, "serving", "2.0.0", None);
    let Upkeep { site, vendor, host, .. } = upkeep;
    let ended = host.stop("TERM");
    assert_eq!(ended.code, 0, "{}", ended.log);

    // Everything that is kept was polled for, and each poll is in the log.
    let store = Store::open(&site.path("state")).unwrap();
    let mut all = 0;
    for name in TENANTS {
        let line = format!("instance {name:?} ok: 1 new and 0 repeated artifacts");
        let polls = ended.log.lines().filter(|logged| logged.contains(&line)).count();
        assert!(polls > 0, "{}", ended.log);
        let instance =
            store.identified(Some(&format!("{name}-id")), name, "hostile", OffsetDateTime::now_utc()).unwrap();
        assert_eq!(store.steps(&instance).unwrap(), polls as u64, "{name}");
        assert_eq!(store.checkpoint(&instance).unwrap(), Some(vec![1; polls]), "{name}");
        all += polls;
    }
    let counts = Reader::open(&site.path("state")).unwrap().counts().unwrap();
    assert_eq!(counts.artifacts, all as u64);
    assert_eq!(site.delivered("hostile").len(), all);
    assert!(vendor.requests().len() >= all + 2, "two versions were tried with a step of their own");
}
