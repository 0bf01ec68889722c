//! What an operator orders for an instance while others are polled.

use super::*;
use crate::contract::types::Batch;

/// The instance of a name, with some progress in the store.
pub(super) fn with_progress(stage: &Stage, name: &str) -> Instance {
    let instance = stage.store.known(name).expect("known");
    let batch = Batch {
        artifacts: Vec::new(),
        checkpoint: b"progress".to_vec(),
        more: false,
        reports: Vec::new(),
        retry_after_seconds: None,
        hint: None,
    };
    stage.store.commit_step(&instance, &batch, stage.board.now()).expect("committed");
    instance
}

#[tokio::test(start_paused = true)]
async fn one_that_begins_again_does_so_after_the_poll_at_hand_and_before_any_other() {
    // Always at it: the next poll begins when one ends.
    let stage = Stage::new(4, |_, _| {
        let mut more = cycle(End::StepLimit);
        more.new = 1;
        (40, of(more))
    });
    stage.apply(&[("a", "")]).await;
    while stage.polls("a").len() < 3 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let instance = with_progress(&stage, "a");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(stage.status("a").polling);
    let order = tokio::spawn({
        let (supervisor, instance) = (Arc::clone(&stage.supervisor), instance.clone());
        async move { supervisor.begin_again(instance).await }
    });
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(!order.is_finished(), "a poll that ends now would store its progress over it");
    assert_eq!(stage.store.checkpoint(&instance).expect("read").as_deref(), Some(b"progress".as_slice()));
    let polls = stage.polls("a").len();
    assert_eq!(order.await.expect("no panic").ok(), Some(true));
    assert_eq!(stage.polls("a").len(), polls, "no poll was begun before it");
    assert_eq!(stage.store.checkpoint(&instance).expect("read"), None);
    assert_eq!((stage.status("a").state, stage.status("a").past.behind_since), (State::Starting, None));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(stage.polls("a").len(), polls + 1, "and one soon after it");
    assert_eq!(stage.supervisor.begin_again(instance).await.ok(), Some(false), "there is no progress to forget now");
}

#[tokio::test(start_paused = true)]
async fn one_that_was_told_to_wait_for_hours_begins_again_at_once_also_while_it_is_switched_off() {
    let stage = Stage::new(4, |_, _| {
        let mut rests = cycle(End::Complete);
        rests.retry_after = Some(Duration::from_hours(1));
        (0, of(rests))
    });
    stage.apply(&[("a", "")]).await;
    minutes(10).await;
    assert_eq!(stage.polls("a").len(), 1);
    let instance = with_progress(&stage, "a");
    assert_eq!(stage.supervisor.begin_again(instance.clone()).await.ok(), Some(true));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(stage.polls("a").len(), 2, "somebody is at hand who wants it to be polled");
    with_progress(&stage, "a");
    stage.apply(&[("a", "enabled = false")]).await;
    assert_eq!(stage.supervisor.begin_again(instance).await.ok(), Some(true));
    let status = stage.status("a");
    assert_eq!((status.state, status.next_poll, status.past.not_before), (State::Disabled, None, None));
}

#[tokio::test(start_paused = true)]
async fn an_order_waits_for_a_version_that_tries_itself() {
    let stage = Stage::new(4, |_, _| (0, good()));
    stage.apply(&[("a", "")]).await;
    let instance = with_progress(&stage, "a");
    let lent = stage.supervisor.live(Clock::system()).lend(instance.id).expect("lent");
    let order = tokio::spawn({
        let (supervisor, instance) = (Arc::clone(&stage.supervisor), instance.clone());
        async move { supervisor.begin_again(instance).await }
    });
    minutes(1).await;
    assert!(!order.is_finished());
    drop(lent);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(order.await.expect("no panic").ok(), Some(true));
}

#[tokio::test(start_paused = true)]
async fn one_that_leaves_for_good_has_left_the_configuration_and_its_last_poll_and_does_not_come_back_meanwhile() {
    let stage = Stage::new(4, |_, _| (100, good()));
    stage.apply(&[("a", ""), ("b", "")]).await;
    let instance = with_progress(&stage, "a");
    let refused = stage.supervisor.let_go(instance.clone()).await.expect_err("it is configured");
    assert_eq!(refused.code(), "instance-configured");
    while !stage.status("a").polling {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    stage.apply(&[("b", "")]).await;
    let before = stage.board.now();
    stage.supervisor.let_go(instance.clone()).await.expect("let go");
    assert!(stage.board.now() - before > time::Duration::seconds(60), "after the poll at hand");

    let back = [("b", ""), ("a", "")];
    let refused = stage.try_apply_on("", &back).await.expect_err("it is being removed");
    assert_eq!(refused.problems[0].code, "instance-being-removed");
    assert_eq!(stage.store.remove(&instance, 10).expect("removed"), 0);
    minutes(1).await;
    assert!(stage.store.known("a").is_err(), "nothing of it is kept again");
    stage.supervisor.removed(instance.id);
    stage.apply(&back).await;
    assert_ne!(stage.id("a"), instance.id, "it is a new one");
    minutes(10).await;
    assert!(stage.polls("b").len() > 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_ordered_of_a_host_that_stops_is_refused() {
    let stage = Stage::new(4, |_, _| (0, good()));
    stage.apply(&[("a", "")]).await;
    let instance = with_progress(&stage, "a");
    stage.supervisor.stop().await;
    let refused = stage.supervisor.begin_again(instance).await.expect_err("it has stopped");
    assert_eq!(refused.code(), "host-stopping");
}

#[tokio::test(start_paused = true)]
async fn one_that_is_to_be_polled_now_is_whatever_it_waits_for() {
    let stage = Stage::new(4, |_, _| {
        let mut rests = cycle(End::Complete);
        rests.retry_after = Some(Duration::from_hours(2));
        (10, of(rests))
    });
    stage.apply(&[("a", "")]).await;
    minutes(10).await;
    let instance = stage.store.known("a").expect("known");
    assert_eq!(stage.polls("a").len(), 1, "its vendor asks for a pause");
    stage.supervisor.poll_now(instance.clone()).await.expect("ordered");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(stage.status("a").polling);
    stage.supervisor.poll_now(instance.clone()).await.expect("it is at hand");
    minutes(10).await;
    assert_eq!(stage.polls("a").len(), 2, "once");
    stage.apply(&[("a", "enabled = false")]).await;
    let refused = stage.supervisor.poll_now(instance).await.expect_err("it is switched off");
    assert_eq!(refused.code(), "instance-not-polled");
}
