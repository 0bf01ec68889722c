//! The first polls of a new version.

use super::*;
use PollOutcome::{ConnectorFailed, Inconclusive, Worked};

/// Version 2 serves in place of version 1, which has worked for both instances.
async fn on_probation() -> (World, Uuid, Uuid) {
    let world = World::new();
    let (one, two) = (world.live.add(1, "one", None), world.live.add(2, "two", None));
    world.version(FILE, "1.0.0");
    world.scan().await;
    let old = world.current();
    world.polled(&old, one, &[Worked]);
    world.polled(&old, two, &[Worked]);
    world.version(FILE, "2.0.0");
    world.scan().await;
    assert_eq!(world.serving(), "2.0.0");
    assert!(world.registry.report()[0].reason.as_ref().unwrap().contains("1.0.0"));
    (world, one, two)
}

#[tokio::test]
async fn three_failures_of_one_instance_bring_the_old_version_back() {
    let (world, one, two) = on_probation().await;
    let new = world.current();
    world.polled(&new, one, &[ConnectorFailed, Inconclusive, ConnectorFailed, Inconclusive]);
    world.polled(&new, two, &[ConnectorFailed, ConnectorFailed]);
    assert_eq!(world.serving(), "2.0.0");
    world.polled(&new, one, &[ConnectorFailed]);
    assert_eq!(world.serving(), "1.0.0");
    assert_eq!(world.fate(FILE), (ConnectorState::Quarantined, "probation-failed".into()));
    // It is not tried before its time, and with growing waits.
    for wait in [60, 120, 240] {
        world.scan().await;
        assert_eq!(world.serving(), "1.0.0");
        assert_eq!(world.row(FILE).retry_at.unwrap() - world.clock.now(), time::Duration::seconds(wait));
        world.advance(wait.unsigned_abs());
        world.scan().await;
        assert_eq!(world.serving(), "2.0.0");
        world.polled(&world.current(), two, &[ConnectorFailed; 3]);
        assert_eq!(world.serving(), "1.0.0");
    }
}

#[tokio::test]
async fn nobody_waits_for_an_instance_that_is_gone_to_show_anything() {
    let (world, one, two) = on_probation().await;
    world.polled(&world.current(), one, &[Worked]);
    world.scan().await;
    assert!(world.registry.report()[0].reason.is_some(), "the other one has still to work");
    world.live.0.lock().unwrap().retain(|instance| instance.0 != two);
    world.scan().await;
    assert_eq!((world.serving(), world.registry.report()[0].reason.clone()), ("2.0.0".into(), None));
}

#[tokio::test]
async fn a_version_that_has_worked_for_all_stays_whatever_happens_later() {
    let (world, one, two) = on_probation().await;
    let new = world.current();
    world.polled(&new, one, &[ConnectorFailed, ConnectorFailed, Worked, ConnectorFailed, ConnectorFailed]);
    world.polled(&new, two, &[ConnectorFailed, ConnectorFailed, Worked]);
    world.polled(&new, one, &[ConnectorFailed; 5]);
    assert_eq!(world.serving(), "2.0.0");
    assert_eq!(world.registry.report()[0].reason, None);
}

#[tokio::test]
async fn an_instance_that_failed_before_says_nothing_against_the_new_version() {
    let world = World::new();
    let (one, two) = (world.live.add(1, "one", None), world.live.add(2, "two", Some(b"state")));
    world.version(FILE, "1.0.0");
    world.scan().await;
    world.polled(&world.current(), one, &[Worked]);
    world.polled(&world.current(), two, &[ConnectorFailed]);
    world.version(FILE, "2.0.0");
    world.scan().await;
    world.polled(&world.current(), two, &[ConnectorFailed; 5]);
    assert_eq!(world.serving(), "2.0.0");
    world.polled(&world.current(), one, &[ConnectorFailed; 3]);
    assert_eq!(world.serving(), "1.0.0");
}

#[tokio::test]
async fn polls_that_the_old_version_finishes_say_nothing_about_the_new_one() {
    let world = World::new();
    let one = world.live.add(1, "one", None);
    world.version(FILE, "1.0.0");
    world.scan().await;
    let old = world.current();
    world.polled(&old, one, &[Worked]);
    world.version(FILE, "2.0.0");
    world.scan().await;
    world.polled(&old, one, &[ConnectorFailed; 3]);
    assert_eq!(world.serving(), "2.0.0");
    world.polled(&old, one, &[Worked]);
    world.polled(&world.current(), one, &[ConnectorFailed; 3]);
    assert_eq!(world.serving(), "1.0.0");
}

#[tokio::test]
async fn what_never_proved_itself_is_nothing_to_go_back_to() {
    let (world, one, _) = on_probation().await;
    world.version(FILE, "3.0.0");
    world.scan().await;
    assert_eq!(world.serving(), "3.0.0");
    world.polled(&world.current(), one, &[ConnectorFailed; 3]);
    assert_eq!(world.serving(), "1.0.0");
}

#[tokio::test]
async fn the_old_version_is_let_go_after_a_day() {
    let (world, one, _) = on_probation().await;
    world.advance(24 * 3600);
    world.scan().await;
    world.polled(&world.current(), one, &[ConnectorFailed; 5]);
    assert_eq!(world.serving(), "2.0.0");
}

#[tokio::test]
async fn a_restart_in_the_middle_goes_on_with_what_is_proven_and_tries_again() {
    let (mut world, one, two) = on_probation().await;
    world.restart();
    for instance in &mut *world.live.0.lock().unwrap() {
        instance.2 = Some(b"state".to_vec());
    }
    world.scan().await;
    assert_eq!(world.serving(), "2.0.0", "it passes its trial once more");
    world.polled(&world.current(), one, &[ConnectorFailed; 3]);
    assert_eq!(world.serving(), "1.0.0");
    world.restart();
    world.scan().await;
    assert_eq!(world.serving(), "1.0.0", "the file holds a version in quarantine");
    world.advance(60);
    world.scan().await;
    world.polled(&world.current(), one, &[Worked]);
    world.polled(&world.current(), two, &[Worked]);
    world.restart();
    world.scan().await;
    assert_eq!(world.serving(), "2.0.0");
    assert_eq!(world.registry.report()[0].reason, None, "it has nothing left to show");
}

#[tokio::test]
async fn an_operators_quarantine_of_a_version_on_probation_brings_the_old_one_back() {
    let (mut world, ..) = on_probation().await;
    let operator = crate::connectors::registry::Operator::at(&world.state()).unwrap();
    operator.quarantine("fixture", "no", world.clock.now()).unwrap();
    world.scan().await;
    assert_eq!(world.serving(), "1.0.0");
    assert_eq!(world.fate(FILE), (ConnectorState::Quarantined, "operator".into()));
    world.restart();
    world.scan().await;
    assert_eq!(world.serving(), "1.0.0");
}

#[tokio::test]
async fn what_the_operator_puts_into_quarantine_stays_there_though_it_proves_itself() {
    let (world, one, two) = on_probation().await;
    let operator = crate::connectors::registry::Operator::at(&world.state()).unwrap();
    let new = world.current();
    operator.quarantine("fixture", "no", world.clock.now()).unwrap();
    world.polled(&new, one, &[Worked]);
    world.polled(&new, two, &[Worked]);
    world.scan().await;
    assert_eq!(world.fate(FILE), (ConnectorState::Quarantined, "operator".into()));
}

#[tokio::test]
async fn what_the_operator_puts_into_quarantine_is_not_tried_again_because_it_failed_as_well() {
    let (world, one, _) = on_probation().await;
    let operator = crate::connectors::registry::Operator::at(&world.state()).unwrap();
    let new = world.current();
    operator.quarantine("fixture", "no", world.clock.now()).unwrap();
    world.polled(&new, one, &[ConnectorFailed, ConnectorFailed, ConnectorFailed]);
    world.scan().await;
    assert_eq!(world.serving(), "1.0.0");
    world.advance(1_000);
    world.scan().await;
    assert_eq!((world.serving(), world.fate(FILE)), ("1.0.0".into(), (ConnectorState::Quarantined, "operator".into())));
}

#[tokio::test]
async fn what_has_proved_itself_leaves_no_quarantine_behind() {
    let (world, one, two) = on_probation().await;
    let new = world.current();
    world.polled(&new, one, &[ConnectorFailed, ConnectorFailed, ConnectorFailed]);
    assert_eq!(world.serving(), "1.0.0");
    world.advance(61);
    world.scan().await;
    assert_eq!(world.serving(), "2.0.0");
    let new = world.current();
    world.polled(&new, one, &[Worked]);
    world.polled(&new, two, &[Worked]);
    world.scan().await;
    let operator = crate::connectors::registry::Operator::at(&world.state()).unwrap();
    let rows = operator.list().unwrap().connectors;
    assert_eq!(rows.iter().map(|row| row.state).collect::<Vec<_>>(), [ConnectorState::Serving], "{rows:#?}");
}

/// The store is in use when it is asked for the first time.
struct InUse<'a> {
    live: &'a Instances,
    asked: std::sync::atomic::AtomicBool,
}

impl LiveInstances for InUse<'_> {
    fn ids(&self, integration_type: &str) -> Vec<Uuid> {
        self.live.ids(integration_type)
    }

    fn ready<'a>(&'a self, id: Uuid, connector: &'a Connector) -> Asked<'a, Option<Result<LiveInstance, NotReady>>> {
        if self.asked.swap(true, std::sync::atomic::Ordering::Relaxed) {
            return self.live.ready(id, connector);
        }
        let failure = FailureReport::new("state-busy", "the database is in use", "").into();
        Box::pin(std::future::ready(Some(Err(NotReady { id, name: "one".into(), has_checkpoint: true, failure }))))
    }

    fn checkpoint(&self, id: Uuid) -> Asked<'_, Result<Option<Vec<u8>>, Box<FailureReport>>> {
        self.live.checkpoint(id)
    }
}

#[tokio::test]
async fn a_store_that_is_in_use_for_a_moment_says_nothing_against_a_version() {
    let world = World::new();
    let one = world.live.add(1, "one", None);
    world.version(FILE, "1.0.0");
    world.scan().await;
    world.polled(&world.current(), one, &[Worked]);
    world.version(FILE, "2.0.0");
    let in_use = InUse { live: &world.live, asked: false.into() };
    world.registry.scan(&in_use).await;
    world.registry.scan(&in_use).await;
    assert!(in_use.asked.load(std::sync::atomic::Ordering::Relaxed));
    assert_eq!(world.serving(), "2.0.0");
}
