//! What a change does for instances that wait: an edit, another key, SIGHUP.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_pause_of_a_day_ends_when_somebody_changes_something() {
    // Every poll is followed by such a pause: an ordinary one could fall due within the minute.
    let resting = |_: &str, _: usize| {
        let mut rests = stage::cycle(End::Complete);
        rests.retry_after = Some(Duration::from_hours(24));
        (0, stage::of(rests))
    };
    let stage = Stage::new(4, resting);
    stage.apply(&[("a", "")]).await;
    minutes(120).await;
    assert_eq!(stage.polls("a").len(), 1);
    stage.supervisor.wake(vec![stage.id("a")]);
    minutes(1).await;
    assert_eq!(stage.polls("a").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn whoever_corrects_something_waits_for_the_vendor_and_not_for_the_back_off_besides() {
    let stage = Stage::new(4, |_, count| {
        let Polled::Cycle(mut cycle, version) = failed("unauthorized") else { unreachable!() };
        if let Some(failure) = cycle.failure.as_mut().filter(|_| count == 0) {
            failure.retry = Retry::After(Duration::from_secs(90));
        }
        (0, Polled::Cycle(cycle, version))
    });
    stage.apply(&[("a", "")]).await;
    while stage.polls("a").is_empty() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    stage.supervisor.wake(vec![stage.id("a")]);
    minutes(3).await;
    let gaps = stage.gaps("a");
    assert!((88..=100).contains(&gaps[0]), "the vendor's 90 s, not the 15 min of a key that is refused: {gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_refused_is_tried_slowly_shown_at_once_and_tried_soon_when_it_was_changed() {
    let stage = Stage::new(4, |_, count| (0, if count < 4 { failed("unauthorized") } else { good() }));
    stage.apply(&[("a", "poll_interval_minutes = 1")]).await;
    minutes(1).await;
    assert_eq!(stage.status("a").state, State::Failed, "at the first poll");
    minutes(35).await;
    assert!(stage.gaps("a").iter().all(|gap| (900..=990).contains(gap)), "{:?}", stage.gaps("a"));
    let before = stage.polls("a").len();
    assert_eq!(before, 3);
    stage.supervisor.wake(vec![stage.id("a")]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(stage.polls("a").len(), before + 1);
    stage.supervisor.wake(vec![stage.id("a")]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(stage.status("a").state, State::Ok);
    // Just after the next poll, so that none is due by itself.
    while stage.polls("a").len() < before + 3 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    stage.supervisor.wake(vec![stage.id("a")]);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(stage.polls("a").len(), before + 3, "one that is well is not disturbed");
}

#[tokio::test(start_paused = true)]
async fn one_of_which_a_part_fails_is_polled_soon_when_something_was_changed() {
    let stage = Stage::new(4, |_, count| (0, if count == 2 { good() } else { partial(None) }));
    stage.apply(&[("a", "poll_interval_minutes = 1440")]).await;
    while stage.status("a").state == State::Starting {
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    assert_eq!((stage.polls("a").len(), stage.status("a").state), (1, State::Degraded));
    let soon = async || {
        stage.supervisor.wake(vec![stage.id("a")]);
        tokio::time::sleep(Duration::from_secs(4)).await;
        stage.polls("a").len()
    };
    assert_eq!(soon().await, 2);
    assert_eq!((soon().await, stage.status("a").state), (3, State::Ok));
    assert_eq!(soon().await, 3, "one that is well is not disturbed");
}

#[tokio::test(start_paused = true)]
async fn one_of_which_a_part_fails_waits_as_long_as_its_vendor_asks() {
    let stage = Stage::new(4, |_, count| (0, partial((count == 0).then_some(Duration::from_mins(30)))));
    stage.apply(&[("a", "poll_interval_minutes = 1440")]).await;
    while stage.polls("a").is_empty() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    stage.supervisor.wake(vec![stage.id("a")]);
    minutes(29).await;
    assert_eq!(stage.polls("a").len(), 1);
    minutes(2).await;
    assert_eq!(stage.polls("a").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_change_during_a_poll_of_which_a_part_fails_is_not_missed() {
    let stage = Stage::new(4, |_, count| (60, if count == 0 { partial(None) } else { good() }));
    stage.apply(&[("a", "poll_interval_minutes = 1440")]).await;
    while stage.polls("a").is_empty() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    stage.supervisor.wake(vec![stage.id("a")]);
    minutes(2).await;
    assert_eq!(stage.polls("a").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_change_during_a_failing_poll_is_not_missed() {
    let stage = Stage::new(4, |_, count| (60, if count == 0 { failed("unauthorized") } else { good() }));
    stage.apply(&[("a", "")]).await;
    while stage.polls("a").is_empty() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    stage.supervisor.wake(vec![stage.id("a")]);
    minutes(2).await;
    assert_eq!(stage.polls("a").len(), 2);
}

#[tokio::test(start_paused = true)]
async fn after_an_edit_a_back_off_is_shown_until_the_next_poll() {
    let stage = Stage::new(4, |_, _| (0, failed("unauthorized")));
    stage.apply(&[("a", "poll_interval_minutes = 1")]).await;
    minutes(3).await;
    stage.apply(&[("a", "poll_interval_minutes = 1\n[instance.settings]\nx = \"y\"")]).await;
    let status = stage.status("a");
    assert_eq!(status.back_off.map(|back_off| back_off.until), status.next_poll);
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_is_woken_is_shown_so() {
    let stage = Stage::new(4, |_, _| (0, failed("unauthorized")));
    stage.apply(&[("a", "poll_interval_minutes = 1")]).await;
    minutes(3).await;
    stage.supervisor.wake(vec![stage.id("a")]);
    tokio::task::yield_now().await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    let status = stage.status("a");
    let next = status.next_poll.expect("a time");
    let polled = stage.polls("a").len() > 1;
    assert!(polled || next - stage.board.now() < time::Duration::seconds(4), "{next}");
    assert!(polled || status.back_off.expect("it backs off").until == next);
}

#[tokio::test(start_paused = true)]
async fn whoever_fails_is_polled_soon_when_a_route_or_a_grant_is_corrected() {
    let stage = Stage::new(4, |_, _| (0, failed("unauthorized")));
    stage.apply(&[("a", "poll_interval_minutes = 1")]).await;
    minutes(3).await;
    assert_eq!(stage.polls("a").len(), 1, "it waits for a quarter of an hour");
    for (number, host) in [
        (2, "routes = [\"api.example.com=http://127.0.0.1:1\"]"),
        (3, "proxy = \"http://127.0.0.1:2\""),
        (4, "[grants.acme]\norigins = [\"https://api.example.com\"]"),
    ] {
        stage.apply_on(host, &[("a", "poll_interval_minutes = 1")]).await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(stage.polls("a").len(), number, "{host}");
    }
}
