//! Instances that come, go and come back: by an edit, over a restart, and with their connectors.

use std::sync::atomic::Ordering;

use super::stage::{Stage, failed, good, minutes};
use super::*;

#[tokio::test(start_paused = true)]
async fn a_disabled_instance_is_not_polled_and_goes_on_when_it_is_enabled_again() {
    let stage = Stage::new(4, |_, _| (30, good()));
    stage.apply(&[("a", ""), ("b", "enabled = false")]).await;
    assert_eq!((stage.status("b").state, stage.status("b").next_poll), (State::Disabled, None));
    while stage.polls("a").is_empty() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    stage.apply(&[("a", "enabled = false"), ("b", "")]).await;
    assert!(stage.status("a").polling, "the poll at hand is finished");
    minutes(30).await;
    let status = stage.status("a");
    assert_eq!((status.state, status.polling, stage.polls("a").len()), (State::Disabled, false, 1));
    assert_eq!(status.past.polls["ok"], 1, "and counted");
    assert!(stage.polls("b").len() >= 5);
    stage.apply(&[("a", ""), ("b", "")]).await;
    minutes(6).await;
    assert!(stage.polls("a").len() >= 2);
    assert_eq!(stage.status("a").state, State::Ok);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_removed_during_a_poll_and_comes_back_keeps_what_it_came_to() {
    let stage = Stage::new(4, |_, _| (100, good()));
    stage.apply(&[("a", "")]).await;
    while stage.polls("a").is_empty() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    stage.apply(&[]).await;
    assert!(stage.board.instances().is_empty());
    stage.apply(&[("a", "")]).await;
    assert!(stage.status("a").polling);
    minutes(3).await;
    assert_eq!((stage.polls("a").len(), stage.status("a").past.polls["ok"]), (1, 1));
    stage.apply(&[]).await;
    minutes(1).await;
    stage.apply(&[("a", "")]).await;
    assert_eq!(stage.status("a").past.polls["ok"], 1, "it was kept in the store");
}

#[tokio::test(start_paused = true)]
async fn an_instance_with_an_id_keeps_its_past_when_it_is_renamed_and_is_not_polled_sooner_for_it() {
    let stage = Stage::new(4, |_, _| (0, good()));
    stage.apply(&[("a", "id = \"x\"")]).await;
    // Just after a poll: the next one is minutes away, whatever place its random id gives it.
    while stage.polls("a").len() < 3 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (id, polls) = (stage.id("a"), stage.polls("a").len());
    stage.apply(&[("b", "id = \"x\"")]).await;
    assert_eq!((stage.id("b"), stage.status("b").past.polls["ok"]), (id, polls as u64));
    assert_eq!(stage.status("b").state, State::Ok);
    assert_eq!(stage.board.instances().len(), 1);
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(stage.polls("b").len(), 0);
    minutes(6).await;
    assert!(!stage.polls("b").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_shorter_interval_counts_at_once() {
    let stage = Stage::new(4, |_, _| (0, good()));
    stage.apply(&[("a", "poll_interval_minutes = 600")]).await;
    minutes(1).await;
    stage.apply(&[("a", "poll_interval_minutes = 1")]).await;
    let before = stage.polls("a").len();
    minutes(10).await;
    assert!(stage.polls("a").len() - before >= 9);
}

#[tokio::test(start_paused = true)]
async fn the_interval_goes_on_after_a_restart_and_the_past_is_there() {
    let began = Instant::now();
    let stage = Stage::new(4, |_, _| (0, good()));
    stage.apply(&[("a", "")]).await;
    minutes(11).await;
    let last = *stage.polls("a").last().expect("polled");
    let count = stage.polls("a").len() as u64;
    let dir = stage.end().await;
    let stage = Stage::at(dir, began, 4, |_, _| (0, good()));
    stage.apply(&[("a", "")]).await;
    let status = stage.status("a");
    assert_eq!((status.state, status.past.polls["ok"]), (State::Starting, count));
    assert!(status.past.last_success.is_some());
    minutes(6).await;
    let next = stage.polls("a")[0];
    assert!((last + 299..=last + 307).contains(&next), "{last} {next}");
}

#[tokio::test(start_paused = true)]
async fn who_has_no_connector_at_the_start_waits_until_all_were_looked_at_and_not_a_moment_longer() {
    let stage = Stage::new(4, |_, _| (0, good()));
    stage.script.served.store(false, Ordering::Relaxed);
    stage.apply(&[("a", ""), ("b", "")]).await;
    minutes(7).await;
    assert_eq!((stage.polls("a"), stage.polls("b")), (vec![], vec![]), "the connector is still compiling");
    // One of them is renamed while it waits, which is no reason to be polled twice.
    stage.apply(&[("a", "enabled = false"), ("b", "")]).await;
    stage.apply(&[("a", ""), ("b", "")]).await;
    stage.script.served.store(true, Ordering::Relaxed);
    stage.supervisor.looked();
    minutes(1).await;
    assert_eq!(stage.polls("b").first(), Some(&420), "at once, because it is due");
    minutes(5).await;
    assert!(!stage.polls("a").is_empty() && stage.gaps("a").iter().all(|gap| *gap >= 290), "{:?}", stage.polls("a"));
    // Later nobody waits: that there is no connector is to be told.
    stage.script.served.store(false, Ordering::Relaxed);
    minutes(10).await;
    assert!(stage.polls("a").len() >= 3 && stage.polls("b").len() >= 3);
}

#[tokio::test(start_paused = true)]
async fn an_instance_without_an_interval_has_that_of_its_connector_as_soon_as_that_is_known() {
    for minutes_of_connector in [1, 60] {
        let stage = Stage::new(4, |_, _| (1, good()));
        stage.script.served.store(false, Ordering::Relaxed);
        stage.script.default_minutes.store(minutes_of_connector, Ordering::Relaxed);
        stage.apply(&[("a", ""), ("b", "poll_interval_minutes = 7")]).await;
        assert_eq!((stage.status("a").interval_minutes, stage.status("b").interval_minutes), (5, 7));
        stage.script.served.store(true, Ordering::Relaxed);
        stage.supervisor.looked();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(u64::from(stage.status("a").interval_minutes), minutes_of_connector);
        minutes(60 * minutes_of_connector.max(5)).await;
        let (gaps, wanted) = (stage.gaps("a"), 60 * minutes_of_connector);
        assert!(gaps.len() >= 58 && stage.polls("a")[0] <= wanted + 1, "{gaps:?}");
        assert!(gaps.iter().all(|gap| gap.abs_diff(wanted) <= wanted / 30 + 2), "{gaps:?}");
        assert!(stage.gaps("b").iter().all(|gap| gap.abs_diff(420) <= 15), "{:?}", stage.gaps("b"));
        // Another version wants something else.
        stage.script.default_minutes.store(10, Ordering::Relaxed);
        minutes(2 * minutes_of_connector + 60).await;
        assert_eq!(stage.status("a").interval_minutes, 10);
        assert!(stage.gaps("a").last().unwrap().abs_diff(600) <= 20, "{:?}", stage.gaps("a"));
    }
}

/// A poll that the vendor has answered with an hour of peace.
fn limited() -> Polled {
    let Polled::Cycle(mut cycle, version) = failed("rate-limited") else { unreachable!() };
    if let Some(failure) = &mut cycle.failure {
        failure.retry = Retry::After(Duration::from_mins(60));
    }
    Polled::Cycle(cycle, version)
}

/// Waits until an instance is being polled.
async fn until_polled(stage: &Stage, name: &str) {
    let before = stage.polls(name).len();
    while stage.polls(name).len() == before {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_pause_a_vendor_asks_for_is_kept_although_its_instance_was_taken_out_in_the_middle_of_the_poll() {
    for gone in [&[("a", "enabled = false")][..], &[]] {
        let stage = Stage::new(4, |_, count| (30, if count == 0 { limited() } else { good() }));
        stage.apply(&[("a", "")]).await;
        until_polled(&stage, "a").await;
        stage.apply(gone).await;
        minutes(2).await;
        stage.apply(&[("a", "")]).await;
        let live = stage.supervisor.live(Clock::system());
        assert!(live.lend(stage.id("a")).is_none(), "nor is it lent");
        minutes(90).await;
        assert!((3_600..=4_000).contains(&stage.gaps("a")[0]), "{gone:?}: {:?}", stage.gaps("a"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_was_given_another_key_in_the_middle_of_a_poll_that_failed_is_polled_soon() {
    for between in [&[("a", "enabled = false")][..], &[]] {
        let stage = Stage::new(4, |_, count| (30, if count == 0 { failed("unauthorized") } else { good() }));
        stage.apply(&[("a", "")]).await;
        until_polled(&stage, "a").await;
        stage.apply(between).await;
        stage.apply(&[("a", "[instance.settings]\nregion = \"eu\"")]).await;
        minutes(1).await;
        assert_eq!(stage.polls("a").len(), 2, "with what it has now");
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_connector_at_the_start_waits_for_no_other() {
    let stage = Stage::new(4, |_, _| (0, good()));
    stage.script.served.store(false, Ordering::Relaxed);
    stage.apply(&[("a", "")]).await;
    minutes(7).await;
    stage.supervisor.wake(vec![stage.id("a")]);
    minutes(1).await;
    assert_eq!(stage.polls("a"), [] as [u64; 0], "another connector has come");
    // Its own has come; others are still being compiled.
    stage.script.served.store(true, Ordering::Relaxed);
    stage.supervisor.wake(vec![stage.id("a")]);
    minutes(1).await;
    // Its interval may have come round since.
    let polls = stage.polls("a");
    assert_eq!(polls.first(), Some(&480));
    stage.supervisor.looked();
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(stage.polls("a"), polls, "it waits for nothing any more");
}

#[tokio::test(start_paused = true)]
async fn an_interval_of_the_connector_goes_on_after_a_restart() {
    let began = Instant::now();
    let stage = Stage::new(4, |_, _| (0, good()));
    stage.script.default_minutes.store(60, Ordering::Relaxed);
    stage.supervisor.looked();
    stage.apply(&[("a", "")]).await;
    minutes(130).await;
    let last = *stage.polls("a").last().expect("polled");
    let dir = stage.end().await;
    let stage = Stage::at(dir, began, 4, |_, _| (0, good()));
    stage.script.served.store(false, Ordering::Relaxed);
    stage.script.default_minutes.store(60, Ordering::Relaxed);
    stage.apply(&[("a", "")]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    stage.script.served.store(true, Ordering::Relaxed);
    stage.supervisor.looked();
    minutes(120).await;
    let next = stage.polls("a")[0];
    assert!((last + 3_590..=last + 3_700).contains(&next), "{last} {next}");
}

#[tokio::test(start_paused = true)]
async fn how_instances_stand_is_kept_later_when_it_cannot_be_kept_now() {
    let began = Instant::now();
    let stage = Stage::new(4, |_, _| (0, good()));
    stage.apply(&[("a", "id = \"a\""), ("b", "id = \"b\"")]).await;
    let table = |from: &str, to: &str| {
        let file = rusqlite::Connection::open(stage.dir.path().join("state/state.sqlite")).expect("store");
        file.execute_batch(&format!("ALTER TABLE {from} RENAME TO {to}")).expect("renamed");
    };
    table("standing", "aside");
    minutes(6).await;
    let count = stage.status("a").past.polls["ok"];
    assert!(count > 0 && stage.status("b").past.polls["ok"] > 0);
    stage.apply(&[("a", "id = \"a\"")]).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    table("aside", "standing");
    tokio::time::sleep(Duration::from_secs(20)).await;
    // Killed.
    let (dir, script) = (stage.dir, stage.script);
    drop((stage.supervisor, stage.board, stage.store, script));
    tokio::time::sleep(Duration::from_secs(20)).await;
    let stage = Stage::at(dir, began, 4, |_, _| (0, good()));
    stage.apply(&[("a", "id = \"a\""), ("b", "id = \"b\"")]).await;
    assert!(stage.status("a").past.polls["ok"] >= count);
    assert!(stage.status("b").past.polls["ok"] > 0, "though it was removed meanwhile");
}

#[tokio::test(start_paused = true)]
async fn what_is_being_kept_when_its_instance_is_taken_out_is_kept_later_when_that_fails() {
    let stage = Stage::new(4, |_, _| (1, good()));
    stage.apply(&[("a", "id = \"a\"")]).await;
    while stage.polls("a").is_empty() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // Another program has the database to itself; what is to be kept waits for it, and then finds no table.
    let mut other = rusqlite::Connection::open(stage.dir.path().join("state/state.sqlite")).expect("store");
    let held = other.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).expect("held");
    held.execute_batch("ALTER TABLE standing RENAME TO aside").expect("renamed");
    let instance = stage.store.known("a").expect("known");
    // The poll ends, and keeping begins. Time stands still from then on, as long as it waits.
    for _ in 0..6 {
        tokio::time::advance(Duration::from_secs(1)).await;
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(stage.status("a").past.polls["ok"], 1);
    tokio::join!(stage.apply(&[]), async {
        tokio::task::yield_now().await;
        held.commit().expect("it goes on");
    });
    assert!(stage.board.instances().is_empty());
    other.execute_batch("ALTER TABLE aside RENAME TO standing").expect("renamed");
    tokio::time::sleep(Duration::from_secs(20)).await;
    let kept = stage.store.standing(&instance).expect("read").expect("it is kept");
    assert!(kept.contains("\"polls\":{\"ok\":1}"), "{kept}");
}

#[tokio::test(start_paused = true)]
async fn whoever_looks_during_an_edit_sees_every_instance() {
    let stage = Stage::new(4, |_, _| (0, good()));
    stage.apply(&[("a", ""), ("b", "")]).await;
    let (board, done) = (Arc::clone(&stage.board), Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let looker = std::thread::spawn({
        let done = Arc::clone(&done);
        move || {
            let mut fewest = usize::MAX;
            while !done.load(Ordering::Relaxed) {
                fewest = fewest.min(board.instances().len());
            }
            fewest
        }
    });
    for number in 0..200 {
        stage.apply(&[("a", &format!("[instance.settings]\nx = \"{number}\"")), ("b", "")]).await;
    }
    done.store(true, Ordering::Relaxed);
    assert_eq!(looker.join().expect("looked"), 2);
}
