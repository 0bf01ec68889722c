//! The promises of the schedule, played through in virtual time with a poller that does what the test says.

mod changes;
mod comings;
mod orders;
pub(in crate::resident) mod stage;

use std::path::Path;
use std::sync::atomic::Ordering;

use super::*;
use crate::config::parse;
use crate::connectors::fixtures::Fixture;
use crate::connectors::serving::Serving as _;
use crate::instances::failure::Retry;
use crate::instances::report::End;
use crate::locks::lock;
use crate::resident::shelf::Shelf;
use crate::sandbox::Clock;
use stage::{Stage, cycle, failed, good, minutes, of, partial};

#[tokio::test(start_paused = true)]
async fn first_polls_are_spread_over_the_interval_and_each_instance_keeps_its_place() {
    // As many as it takes for chance (ids are random) to have no say in what is asserted below.
    let names: Vec<String> = (0..200).map(|number| format!("t{number}")).collect();
    let stage = Stage::new(100, |_, _| (3, good()));
    stage.apply(&names.iter().map(|name| (name.as_str(), "")).collect::<Vec<_>>()).await;
    assert!(stage.board.instances().iter().all(|one| one.state == State::Starting && one.next_poll.is_some()));
    minutes(31).await;
    let mut firsts = Vec::new();
    for name in &names {
        let polls = stage.polls(name);
        assert!((6..=7).contains(&polls.len()), "{polls:?}");
        assert!(stage.gaps(name).iter().all(|gap| (293..=307).contains(gap)), "{polls:?}");
        firsts.push(polls[0]);
        assert_eq!(stage.status(name).state, State::Ok);
    }
    assert!(firsts.iter().all(|first| *first <= 300));
    firsts.sort_unstable();
    let widest = firsts.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert!(widest < Some(60), "they are spread: {firsts:?}");
    // Two at a time on average.
    assert!(stage.script.most_at_once.load(Ordering::Relaxed) <= 16, "and so is the load");
}

#[tokio::test(start_paused = true)]
async fn polls_of_one_instance_never_overlap_and_missed_ticks_are_not_made_up_for() {
    let stage = Stage::new(4, |_, count| (if count == 0 { 1_000 } else { 1 }, good()));
    stage.apply(&[("a", "")]).await;
    minutes(60).await;
    let gaps = stage.gaps("a");
    assert!((1_193..=1_207).contains(&gaps[0]), "the fourth tick after the long poll: {gaps:?}");
    assert!(gaps[1..].iter().all(|gap| (293..=307).contains(gap)), "{gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_always_has_more_does_not_keep_others_from_their_turn() {
    let stage = Stage::new(1, |name, _| {
        if name != "greedy" {
            return (1, good());
        }
        let mut more = cycle(End::StepLimit);
        more.new = 1;
        (20, of(more))
    });
    let names: Vec<String> = (0..5).map(|number| format!("t{number}")).collect();
    let all: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).chain([("greedy", "")]).collect();
    stage.apply(&all).await;
    minutes(65).await;
    assert!(stage.polls("greedy").len() > 100, "it goes on whenever nobody else is due");
    for name in &names {
        let polls = stage.polls(name);
        assert!(polls.len() >= 12, "{name}: {polls:?}");
        assert!(stage.gaps(name).iter().all(|gap| (270..=332).contains(gap)), "late by one turn at most: {polls:?}");
    }
    assert_eq!(stage.script.most_at_once.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn tenants_at_their_limits_slow_no_other() {
    let stage = Stage::new(8, |name, _| if name.starts_with("bad") { (75, failed("cpu-limit")) } else { (1, good()) });
    let all: Vec<String> = (0..5).map(|n| format!("bad{n}")).chain((0..20).map(|n| format!("t{n}"))).collect();
    stage.apply(&all.iter().map(|name| (name.as_str(), "poll_interval_minutes = 1")).collect::<Vec<_>>()).await;
    minutes(60).await;
    for name in all.iter().filter(|name| !name.starts_with("bad")) {
        assert!(stage.polls(name).len() >= 59, "{name}: {:?}", stage.polls(name));
        assert!(stage.gaps(name).iter().all(|gap| (58..=62).contains(gap)), "{name}: {:?}", stage.gaps(name));
    }
    let bad = stage.polls("bad0");
    assert!(bad.len() < 10, "it is polled ever more seldom: {bad:?}");
    assert_eq!(stage.status("bad0").state, State::Failed);
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_backed_off_from_and_the_first_success_ends_it() {
    let stage = Stage::new(4, |_, count| (0, if count < 7 { failed("unavailable") } else { good() }));
    stage.apply(&[("a", "")]).await;
    minutes(20).await;
    let status = stage.status("a");
    assert_eq!((status.state, status.back_off.map(|back_off| back_off.failures)), (State::Failed, Some(6)));
    assert_eq!(status.past.failure.map(|failure| failure.code).as_deref(), Some("unavailable"));
    minutes(100).await;
    let gaps = stage.gaps("a");
    for (gap, full) in gaps.iter().zip([30, 60, 120, 240, 480, 900, 900]) {
        assert!((full * 8 / 10..=full).contains(gap), "{gaps:?}");
    }
    assert!(gaps[8..].iter().all(|gap| (293..=307).contains(gap)), "{gaps:?}");
    let status = stage.status("a");
    assert_eq!((status.state, status.back_off, status.past.failure), (State::Ok, None, None));
    assert_eq!(status.past.failures["unavailable"], 7);
}

#[tokio::test(start_paused = true)]
async fn the_pause_a_vendor_asks_for_is_kept_even_over_a_restart() {
    fn limited() -> Polled {
        let Polled::Cycle(mut cycle, version) = failed("rate-limited") else { unreachable!() };
        if let Some(failure) = &mut cycle.failure {
            failure.retry = Retry::After(Duration::from_mins(60));
        }
        Polled::Cycle(cycle, version)
    }
    let began = Instant::now();
    let stage = Stage::new(4, |_, _| (0, limited()));
    stage.apply(&[("a", "")]).await;
    minutes(20).await;
    let first = stage.polls("a")[0];
    assert_eq!(stage.polls("a").len(), 1);
    stage.supervisor.wake(vec![stage.id("a")]);
    minutes(1).await;
    assert_eq!(stage.polls("a").len(), 1, "not even a change is a reason to ask before");
    let dir = stage.end().await;

    let stage = Stage::at(dir, began, 4, |_, _| (0, good()));
    stage.apply(&[("a", "")]).await;
    assert_eq!(stage.status("a").past.failure.map(|failure| failure.code).as_deref(), Some("rate-limited"));
    minutes(60).await;
    let again = stage.polls("a")[0];
    assert!((first + 3_600..=first + 3_700).contains(&again), "{first} {again}");
}

#[tokio::test(start_paused = true)]
async fn what_a_clock_that_was_ahead_has_written_holds_nobody_up() {
    let limited = |_: &str, _: usize| {
        let mut cycle = cycle(End::Deferred);
        cycle.retry_after = Some(Duration::from_mins(60));
        (0, of(cycle))
    };
    let dir = tempfile::tempdir().expect("temporary directory");
    let stage = Stage::at(dir, Instant::now() - Duration::from_hours(200 * 24), 4, limited);
    stage.apply(&[("a", "")]).await;
    minutes(6).await;
    assert_eq!(stage.polls("a").len(), 1);
    let dir = stage.end().await;

    let stage = Stage::at(dir, Instant::now(), 4, |_, _| (0, good()));
    stage.apply(&[("a", "")]).await;
    assert_eq!(stage.status("a").past.not_before, None);
    minutes(6).await;
    assert!(!stage.polls("a").is_empty(), "it is polled within its interval");
}

#[tokio::test(start_paused = true)]
async fn a_stop_finishes_what_was_begun_and_begins_nothing() {
    let began = Instant::now();
    let stage = Stage::new(4, |_, _| (40, good()));
    stage.apply(&[("a", ""), ("b", ""), ("c", "")]).await;
    while stage.polls("a").is_empty() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let count = lock(&stage.script.polls).len();
    let script = Arc::clone(&stage.script);
    let at = Instant::now();
    let dir = stage.end().await;
    assert!(at.elapsed() <= Duration::from_secs(41), "{:?}", at.elapsed());
    assert_eq!((lock(&script.polls).len(), lock(&script.running).len()), (count, 0));
    let stage = Stage::at(dir, began, 4, |_, _| (0, good()));
    stage.apply(&[("a", "")]).await;
    assert_eq!(stage.status("a").past.polls["ok"], 1, "what it came to was kept");
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_does_not_end_is_abandoned_when_its_time_is_over() {
    let stage = Stage::new(4, |_, _| (100_000, good()));
    stage.apply(&[("a", "")]).await;
    minutes(6).await;
    let at = Instant::now();
    let script = Arc::clone(&stage.script);
    stage.end().await;
    assert!((75..80).contains(&at.elapsed().as_secs()), "{:?}", at.elapsed());
    assert!(lock(&script.running).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_host_that_panics_during_a_poll_fails_that_poll_only() {
    let stage = Stage::new(4, |name, _| {
        let failure = FailureReport::new("panic", "", "");
        (0, if name == "a" { Polled::NotBegun(failure) } else { good() })
    });
    stage.apply(&[("a", ""), ("b", "")]).await;
    minutes(11).await;
    assert_eq!(stage.status("a").past.failure.map(|failure| failure.code).as_deref(), Some("internal"));
    assert_eq!(stage.status("b").state, State::Ok);
    assert!(stage.polls("b").len() >= 2);
}

#[tokio::test(start_paused = true)]
async fn a_schedule_that_panics_shows_in_the_health_of_the_host() {
    let stage = Stage::new(4, |_, _| panic!("as the test wants, before the poll has a task of its own"));
    stage.apply(&[("a", "")]).await;
    assert!(stage.board.host().broken.is_empty());
    minutes(6).await;
    assert_eq!(stage.board.host().broken, ["the schedule"]);
}

#[tokio::test(start_paused = true)]
async fn polls_at_hand_are_finished_also_where_the_schedule_has_panicked() {
    let stage = Stage::new(4, |name, _| match name {
        "bad" => panic!("as the test wants, before the poll has a task of its own"),
        _ => (70, good()),
    });
    stage.apply(&[("a", "")]).await;
    while stage.polls("a").is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let id = stage.id("a");
    stage.apply_on("first_poll_within_seconds = 1", &[("a", ""), ("bad", "")]).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(stage.board.host().broken, ["the schedule"]);
    assert!(lock(&stage.script.running).contains(&id));
    let script = Arc::clone(&stage.script);
    stage.end().await;
    assert!(!lock(&script.running).contains(&id), "it has ended");
}

#[tokio::test(start_paused = true)]
async fn an_instance_of_another_connector_is_refused_with_its_line_and_nothing_changes() {
    let stage = Stage::new(4, |_, _| (0, good()));
    stage.apply(&[("a", ""), ("b", "")]).await;
    orders::with_progress(&stage, "a");
    let text = "[host]\nstate = \"s\"\nconnectors = \"c\"\n[[instance]]\nname = \"c\"\nintegration_type = \"acme\"\n\
                [[instance]]\nname = \"a\"\nintegration_type = \"other\"\n";
    let config = parse(Path::new("c.toml"), text).expect("sound");
    let error = stage.supervisor.apply(Arc::new(config)).await.expect_err("must fail");
    insta::assert_snapshot!(error, @r#"c.toml:7: the instance "a" belongs to the connector acme, not to other; correct its integration_type, or give it another id, or another name where it has none; the one that is stored, with all of its artifacts, goes with `host-harness instances remove`"#);
    let names: Vec<String> = stage.board.instances().into_iter().map(|one| one.name).collect();
    assert_eq!(names, ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn those_that_hang_whenever_they_are_polled_leave_most_of_the_places_to_the_others() {
    // Twenty that hold a place for more than a minute each, and four places.
    let hangs = |name: &str| name.starts_with('h');
    let stage = Stage::new(4, move |name, _| if hangs(name) { (70, failed("wall-clock-limit")) } else { (1, good()) });
    let names: Vec<String> = (0..20).flat_map(|number| [format!("h{number}"), format!("g{number}")]).collect();
    stage.apply(&names.iter().map(|name| (name.as_str(), "")).collect::<Vec<_>>()).await;
    // Until each has failed once, nobody knows which they are.
    minutes(60).await;
    for name in names.iter().filter(|name| !hangs(name)) {
        let late = stage.polls(name).into_iter().filter(|at| *at > 20 * 60).collect::<Vec<_>>();
        let gaps: Vec<u64> = late.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.len() >= 6 && gaps.iter().all(|gap| (270..=330).contains(gap)), "{name}: {gaps:?}");
    }
    assert!(names.iter().filter(|name| hangs(name)).all(|name| stage.polls(name).len() >= 3), "they have their turns");
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_tenants_are_polled_in_time() {
    let names: Vec<String> = (0..10_000).map(|number| format!("t{number}")).collect();
    let stage = Stage::new(64, |_, _| (1, good()));
    stage.apply(&names.iter().map(|name| (name.as_str(), "")).collect::<Vec<_>>()).await;
    minutes(15).await;
    let polls = lock(&stage.script.polls);
    let mut counts: HashMap<&str, usize> = HashMap::new();
    for (name, _) in polls.iter() {
        *counts.entry(name).or_default() += 1;
    }
    assert!(names.iter().all(|name| (2..=4).contains(&counts[name.as_str()])), "{} polls", polls.len());
    assert!(stage.script.most_at_once.load(Ordering::Relaxed) <= 64);
}

#[tokio::test(start_paused = true)]
async fn an_instance_is_lent_to_a_canary_only_when_nobody_else_talks_to_its_vendor() {
    let act = |name: &str, count: usize| match name {
        "slow" => (200, good()),
        "failing" => {
            let Polled::Cycle(mut cycle, version) = failed("unavailable") else { unreachable!() };
            cycle.usage.requests = 1;
            (1, Polled::Cycle(cycle, version))
        }
        "unserved" => (1, failed("connector-missing")),
        _ => (1, if count == 2 { failed("rate-limited") } else { good() }),
    };
    let stage = Stage::new(8, act);
    stage.apply(&[("slow", ""), ("failing", ""), ("unserved", ""), ("well", "")]).await;
    let live = stage.supervisor.live(Clock::system());
    minutes(6).await;
    // Not in one of their own polls.
    while ["failing", "unserved"].iter().any(|name| stage.status(name).polling) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(live.lend(stage.id("failing")).is_none(), "it is backing off");
    assert!(live.lend(stage.id("unserved")).is_some(), "its vendor was never asked");
    let mut refused = 0;
    for _ in 0..300 {
        let polling = stage.status("slow").polling;
        // The guard is dropped at once.
        assert_eq!(live.lend(stage.id("slow")).is_none(), polling, "while it is polled");
        refused += u64::from(polling);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!((150..250).contains(&refused), "{refused}");
    // While it is lent it is not polled, and then it is.
    let well = stage.id("well");
    let lent = loop {
        match live.lend(well) {
            Some(lent) => break lent,
            None => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    };
    assert!(live.lend(well).is_none(), "to one at a time");
    let before = stage.polls("well").len();
    minutes(20).await;
    assert_eq!(stage.polls("well").len(), before);
    drop(lent);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(stage.polls("well").len(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn no_canary_asks_a_vendor_that_wants_to_be_left_alone() {
    let act = |_: &str, _: usize| {
        let mut cycle = cycle(End::Deferred);
        cycle.retry_after = Some(Duration::from_secs(3_600));
        cycle.usage.requests = 1;
        (0, of(cycle))
    };
    let stage = Stage::new(4, act);
    stage.apply(&[("a", "")]).await;
    let live = stage.supervisor.live(Clock::system());
    assert!(live.lend(stage.id("a")).is_some());
    minutes(6).await;
    assert!(live.lend(stage.id("a")).is_none(), "its vendor wants an hour of peace");
}

#[tokio::test(start_paused = true)]
async fn the_secrets_of_who_is_gone_or_disabled_are_forgotten() {
    let stage = Stage::new(4, |_, _| (0, good()));
    stage.apply(&[("a", ""), ("b", ""), ("c", "")]).await;
    let (a, b) = (stage.id("a"), stage.id("b"));
    stage.apply(&[("b", "enabled = false"), ("c", "")]).await;
    assert_eq!(*lock(&stage.script.forgotten), [a, b]);
}

#[tokio::test(start_paused = true)]
async fn an_instance_is_not_ready_for_a_version_whose_form_its_configuration_does_not_fit() {
    let stage = Stage::new(4, |_, _| (0, good()));
    let key = stage.dir.path().join("key");
    std::fs::write(&key, "0123456789").expect("secret");
    let more = format!("poll_interval_minutes = 5\n[instance.secrets]\napi_key = \"file:{}\"", key.display());
    stage.apply(&[("a", &more)]).await;
    let live = stage.supervisor.live(Clock::system());
    let renamed = || {
        let mut fixture = Fixture::version("2.0.0");
        fixture.descriptor.settings[0].key = "token".into();
        fixture.descriptor.credentials[0].setting = "token".into();
        fixture
    };
    let slower = || {
        let mut fixture = Fixture::version("2.0.1");
        (fixture.descriptor.minimum_poll_minutes, fixture.descriptor.default_poll_minutes) = (10, 10);
        fixture
    };
    let shelf = Shelf::new();
    for (fixture, code) in
        [(Fixture::version("1.0.0"), None), (renamed(), Some("secret-unknown")), (slower(), Some("interval-too-short"))]
    {
        shelf.put(&fixture).await;
        let connector = shelf.current("fixture").expect("it is there");
        let [id] = live.ids("acme")[..] else { panic!("one is there") };
        let found = live.ready(id, &connector).await.expect("it is enabled");
        let failure = found.as_ref().err().map(|not| (not.name.as_str(), not.failure.code.as_str()));
        assert_eq!(failure, code.map(|code| ("a", code)), "{found:?}");
    }
}
