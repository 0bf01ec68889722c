//! A host that keeps artifacts for a day only, and is started again three days later.

use host_harness::store::Reader;

use crate::running::site::{Site, after_a_poll, collected, insightidr};

#[test]
fn what_is_older_than_it_is_kept_is_not_found_any_more_and_does_not_come_again() {
    let (mut site, first) = after_a_poll();
    let found = |site: &Site| {
        let hits = Reader::open(&site.path("state")).unwrap().search("", Some("us"), 100_000).unwrap();
        hits.into_iter().map(|hit| hit.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(found(&site).len(), first.len(), "all is delivered, and still there");

    site.set("keep_artifacts_days = 1");
    site.configure(&insightidr("us"));
    site.stage.simulator.advance(time::Duration::days(3));
    let mut host = site.start_at("2026-01-18T12:00:00Z", &[]);
    host.until("what is old goes", |host| host.log().contains("let go of").then_some(()));
    assert!(
        host.log().contains(&format!("let go of {} artifacts that were kept for 1 day", first.len())),
        "{}",
        host.log()
    );
    host.until("it has polled again", |host| {
        (host.instance("us")?["last_poll"].as_str()? > "2026-01-18").then_some(())
    });
    host.until_state("us", "ok");
    assert_eq!(host.stop("TERM").code, 0);
    let all = collected(&site);
    assert!(all.len() > first.len(), "three days have brought something");
    let found = found(&site);
    assert_eq!(found.len(), all.len() - first.len());
    assert!(!found.iter().any(|id| first.contains_key(id)));
}

/// A host whose sink takes nothing, or that has none, started again three days later and with a day to keep artifacts for:
/// what is undelivered before and after.
fn undelivered(sink: &str) -> (u64, u64) {
    let mut site = Site::new();
    site.install_insightidr();
    // A sink that cannot be opened.
    std::fs::create_dir(site.path("artifacts.jsonl")).unwrap();
    let configure = |site: &Site| {
        site.configure(&insightidr("us"));
        let file = site.path("conductor.toml");
        let text = std::fs::read_to_string(&file).unwrap().replace("sink = \"file:artifacts.jsonl\"", sink);
        std::fs::write(&file, text).unwrap();
    };
    let counts = |site: &Site| Reader::open(&site.path("state")).unwrap().counts().unwrap();
    configure(&site);
    let mut host = site.start(&[]);
    host.until_state("us", "ok");
    host.stop("TERM");
    let before = counts(&site);
    assert!(before.undelivered > 100 && before.undelivered == before.artifacts, "{before:?}");
    site.set("keep_artifacts_days = 1");
    configure(&site);
    site.stage.simulator.advance(time::Duration::days(3));
    let mut host = site.start_at("2026-01-18T12:00:00Z", &[]);
    host.until("it has polled again", |host| {
        (host.instance("us")?["last_poll"].as_str()? > "2026-01-18").then_some(())
    });
    host.until_state("us", "ok");
    host.stop("TERM");
    let hits = Reader::open(&site.path("state")).unwrap().search("", Some("us"), 100_000).unwrap();
    let old = hits.iter().filter(|hit| hit.stored < time::macros::datetime!(2026-01-17 0:00 UTC)).count() as u64;
    (before.undelivered, old)
}

#[test]
fn what_a_sink_has_not_taken_stays_however_old_it_is() {
    let (before, after) = undelivered("sink = \"file:artifacts.jsonl\"");
    assert_eq!(after, before);
}

#[test]
fn without_a_sink_what_is_old_goes() {
    let (before, after) = undelivered("sink = \"none\"");
    assert!(before > 0 && after == 0, "{before} {after}");
}
