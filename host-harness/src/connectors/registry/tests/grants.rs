//! What the operator grants is the ceiling.

use super::*;
use crate::connectors::Destinations;
use crate::connectors::registry::Operator;
use crate::connectors::serving::Lent;
use crate::connectors::{TenantError, fixtures};
use std::sync::atomic::{AtomicUsize, Ordering};

/// A component that plans for another host.
fn planning(version: &str, host: &str) -> Fixture {
    let mut fixture = Fixture::version(version);
    fixture.plan.origin.host = host.into();
    fixture
}

fn granting(origin: &str) -> Allowed {
    let destinations = Destinations { origins: BTreeSet::from([origin.to_owned()]), sign_in: BTreeSet::new() };
    Allowed { destinations: BTreeMap::from([(TYPE.to_owned(), destinations)]), components: None }
}

#[tokio::test]
async fn an_update_that_asks_for_more_is_held_until_confirmed() {
    type More = fn(&mut Fixture);
    let table: [(&str, More); 4] = [
        ("https://evil.example.com", |f| f.plan.origin.host = "evil.example.com".into()),
        ("GET /v2/", |f| f.plan.rules.push(types::RequestRule { method: "GET".into(), path_prefix: "/v2/".into() })),
        ("POST /v1/", |f| f.plan.rules[0].method = "POST".into()),
        ("a secret in authorization", |f| f.descriptor.credentials[0].header = "Authorization".into()),
    ];
    for (what, more) in table {
        let world = World::new();
        world.live.add(1, "acme", None);
        world.version(FILE, "1.0.0");
        world.scan().await;
        let mut asking = Fixture::version("2.0.0");
        more(&mut asking);
        world.fixture(FILE, &asking);
        world.scan().await;
        assert_eq!(world.serving(), "1.0.0");
        assert_eq!(world.fate(FILE), (ConnectorState::Held, "not-granted".into()));
        world.assert_reason(FILE, &[what, "connectors confirm --config FILE "]);
        world.scan().await;
        assert_eq!(world.fate(FILE).0, ConnectorState::Held);

        let operator = Operator::at(&world.state()).unwrap();
        let confirmed = operator.confirm("fixture", world.clock.now()).unwrap();
        assert_eq!((confirmed.version.as_str(), confirmed.granted), ("2.0.0", vec![what.to_owned()]));
        world.scan().await;
        assert_eq!(world.serving(), "2.0.0", "{what}");
        // What was granted stays granted.
        asking.descriptor.version = "2.0.1".into();
        world.fixture(FILE, &asking);
        world.scan().await;
        assert_eq!(world.serving(), "2.0.1");
    }
}

#[tokio::test]
async fn an_update_that_asks_for_the_same_or_less_follows() {
    let world = World::new();
    world.live.add(1, "acme", None);
    world.version(FILE, "1.0.0");
    world.scan().await;
    let mut less = Fixture::version("2.0.0");
    less.plan.rules[0].path_prefix = "/v1/records".into();
    world.fixture(FILE, &less);
    world.scan().await;
    assert_eq!(world.serving(), "2.0.0");
    // What was pinned stays.
    world.version(FILE, "2.0.1");
    world.scan().await;
    assert_eq!(world.serving(), "2.0.1");
}

#[tokio::test]
async fn a_tenant_outside_of_what_is_granted_is_not_made_until_confirmed() {
    let world = World::new();
    world.version(FILE, "1.0.0");
    world.scan().await;
    // The first version is trusted with what its first instance needs, and that is pinned.
    world.current().tenant(options("one")).await.unwrap();
    // No instance is live, so nothing shows at load that the next one wants to go elsewhere.
    world.fixture(FILE, &planning("2.0.0", "evil.example.com"));
    world.scan().await;
    assert_eq!(world.serving(), "2.0.0");
    let error = world.current().tenant(options("one")).await.unwrap_err();
    assert!(matches!(error, TenantError::NotGranted(_)));
    assert_eq!(error.code(), "not-granted");
    assert!(error.to_string().contains("https://evil.example.com"), "{error}");
    let operator = Operator::at(&world.state()).unwrap();
    let listing = operator.list().unwrap();
    let [granted] = listing.granted.as_slice() else { panic!("{listing:?}") };
    assert_eq!((granted.integration_type.as_str(), granted.version.as_str()), (TYPE, "1.0.0"));
    assert!(granted.rights.contains(&"https://api.example.com".to_owned()), "{granted:?}");
    assert!(!granted.rights.iter().any(|right| right.contains("evil")), "what is held is not granted: {granted:?}");
    let held = listing.connectors.iter().find(|row| row.state == ConnectorState::Held).unwrap();
    assert!(held.reason.as_ref().unwrap().contains("https://evil.example.com"));
    world.scan().await;
    let mut changes = world.registry.changes();
    changes.mark_unchanged();
    operator.confirm(&world.current().digest()[..12], world.clock.now()).unwrap();
    world.scan().await;
    assert!(changes.has_changed().unwrap(), "instances that wait for it are told");
    world.current().tenant(options("one")).await.unwrap();
}

#[tokio::test]
async fn a_new_instance_elsewhere_is_confirmed_once_even_for_the_version_installed_first() {
    let world = World::new();
    world.version(FILE, "1.0.0");
    world.scan().await;
    let connector = world.current();
    connector.tenant(options("one")).await.unwrap();
    // Another plan of the same component, as another region would make.
    let mut plan = connector.configure(&[]).await.unwrap();
    plan.egress.origin.host = "eu.example.com".into();
    let error = connector.admit(&plan).unwrap_err();
    assert!(error.to_string().contains("https://eu.example.com"), "{error}");
    let remedy = format!("host-harness connectors confirm --config FILE {}", &connector.digest()[..12]);
    assert!(error.remedy().contains(&remedy), "{}", error.remedy());
    world.scan().await;
    let operator = Operator::at(&world.state()).unwrap();
    operator.confirm("fixture", world.clock.now()).unwrap();
    connector.admit(&plan).unwrap();
    connector.tenant(options("one")).await.unwrap();
    // It may use other paths and methods where it may go.
    plan.egress.rules.push(types::RequestRule { method: "POST".into(), path_prefix: "/v2/".into() });
    connector.admit(&plan).unwrap();
    // A version that follows may have both now, and no third.
    for (version, host, serving) in [
        ("1.0.1", "eu.example.com", "1.0.1"),
        ("1.0.2", "api.example.com", "1.0.2"),
        ("1.0.3", "third.example.com", "1.0.2"),
    ] {
        world.live.0.lock().unwrap().clear();
        world.live.add(1, "one", None);
        world.fixture(FILE, &planning(version, host));
        world.scan().await;
        assert_eq!(world.serving(), serving);
    }
}

#[tokio::test]
async fn origins_in_the_configuration_are_the_only_ones() {
    let world = World::new();
    world.live.add(1, "acme", None);
    world.registry.grant(granting("https://other.example.com"));
    world.version(FILE, "1.0.0");
    world.scan().await;
    assert_eq!(world.fate(FILE), (ConnectorState::Held, "not-granted".into()));
    world.assert_reason(FILE, &["https://api.example.com", "[grants.fixture]"]);
    let operator = Operator::at(&world.state()).unwrap();
    assert_eq!(operator.confirm("fixture", world.clock.now()).unwrap_err().code(), "connector-unknown");
    world.registry.grant(granting("https://api.example.com"));
    world.scan().await;
    assert_eq!(world.serving(), "1.0.0");
    // Taken away again, it holds for the next tenant.
    world.registry.grant(granting("https://other.example.com"));
    assert_eq!(world.current().tenant(options("one")).await.unwrap_err().code(), "not-granted");
}

#[tokio::test]
async fn one_instance_outside_of_the_grant_keeps_a_first_version_from_no_other() {
    let world = World::new();
    world.live.add(1, "acme", None);
    world.version(FILE, "1.0.0");
    world.registry.grant(granting("https://api.example.com"));
    world.scan().await;
    let connector = world.current();
    let mut plan = connector.configure(&[]).await.unwrap();
    plan.egress.origin.host = "eu.example.com".into();
    assert_eq!(connector.admit(&plan).unwrap_err().code(), "not-granted");
    connector.tenant(options("acme")).await.unwrap();
}

#[tokio::test]
async fn pins_survive_restarts_and_a_damaged_one_grants_nothing() {
    let mut world = World::new();
    world.live.add(1, "acme", None);
    world.version(FILE, "1.0.0");
    world.scan().await;
    world.restart();
    world.fixture(FILE, &planning("2.0.0", "evil.example.com"));
    world.scan().await;
    assert_eq!((world.serving(), world.fate(FILE).0), ("1.0.0".into(), ConnectorState::Held));
    // Half a record, as a failing disk may leave it.
    let pin = world.state().join("connectors/pins/fixture.json");
    let whole = fs::read(&pin).unwrap();
    fs::write(&pin, &whole[..whole.len() / 2]).unwrap();
    world.version(FILE, "2.0.0");
    world.scan().await;
    assert_eq!(world.current().tenant(options("acme")).await.unwrap_err().code(), "not-granted");
    assert_eq!(world.serving(), "2.0.0", "neither version is granted anything, so the old one is no better");
}

#[tokio::test]
async fn what_is_gone_cannot_be_confirmed() {
    let world = World::new();
    world.live.add(1, "acme", None);
    world.version("a.wasm", "1.0.0");
    world.scan().await;
    world.fixture("b.wasm", &planning("2.0.0", "evil.example.com"));
    world.scan().await;
    assert_eq!(world.fate("b.wasm").0, ConnectorState::Held);
    world.remove("b.wasm");
    world.scan().await;
    world.scan().await;
    let operator = Operator::at(&world.state()).unwrap();
    assert_eq!(operator.confirm("fixture", world.clock.now()).unwrap_err().code(), "connector-unknown");
}

#[tokio::test]
async fn what_an_instance_asked_for_that_is_gone_is_not_granted_with_what_others_ask_for() {
    let world = World::new();
    world.version(FILE, "1.0.0");
    world.scan().await;
    world.current().tenant(options("one")).await.unwrap();
    world.version(FILE, "1.0.1");
    world.scan().await;
    let connector = world.current();
    let ask = async |host: &str| {
        let mut plan = connector.configure(&[]).await.unwrap();
        plan.egress.origin.host = host.into();
        connector.admit(&plan).unwrap_err();
    };
    ask("typo.example.com").await;
    let operator = Operator::at(&world.state()).unwrap();
    let is_held = || operator.list().unwrap().connectors.iter().any(|row| row.state == ConnectorState::Held);
    assert!(is_held());
    // The operator corrects the settings; nothing about grants is in the configuration.
    let mut changes = world.registry.changes();
    changes.mark_unchanged();
    world.registry.grant(Allowed::default());
    assert!(!is_held() && changes.has_changed().unwrap(), "whoever still asks is to ask again");
    changes.mark_unchanged();
    world.registry.grant(Allowed::default());
    assert!(!changes.has_changed().unwrap());
    ask("eu.example.com").await;
    let confirmed = operator.confirm("fixture", world.clock.now()).unwrap();
    assert_eq!(confirmed.granted, ["https://eu.example.com"]);
}

/// Instances of which some have settings with which [`abroad`] plans for another host; tells who is lent.
struct Travellers {
    inner: Instances,
    /// Whether an instance is abroad at the nth time that one is asked for.
    is_abroad: fn(usize, Uuid) -> bool,
    asked: AtomicUsize,
    lent: Mutex<Vec<Uuid>>,
}

impl Travellers {
    fn new(is_abroad: fn(usize, Uuid) -> bool) -> Self {
        Self { inner: Instances::default(), is_abroad, asked: AtomicUsize::new(0), lent: Mutex::default() }
    }
}

impl LiveInstances for Travellers {
    fn ids(&self, integration_type: &str) -> Vec<Uuid> {
        self.inner.ids(integration_type)
    }

    fn ready<'a>(&'a self, id: Uuid, connector: &'a Connector) -> Asked<'a, Option<Result<LiveInstance, NotReady>>> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let mut ready = self.inner.ready(id, connector).await;
            if let Some(Ok(instance)) = &mut ready
                && (self.is_abroad)(asked, id)
            {
                instance.options.settings.clear();
            }
            ready
        })
    }

    fn checkpoint(&self, id: Uuid) -> Asked<'_, Result<Option<Vec<u8>>, Box<FailureReport>>> {
        self.inner.checkpoint(id)
    }

    fn lend(&self, id: Uuid) -> Option<Lent> {
        self.lent.lock().unwrap().push(id);
        Some(Lent::until(|| {}))
    }
}

/// A component that plans for `api.example.co` where there are no settings.
fn abroad(version: &str, poll: &'static str) -> Fixture {
    let configure = "(if (i32.eqz (local.get 1)) (then (i32.store offset=12 (i32.const {plan}) (i32.const 14))))";
    Fixture { configure, ..polling(version, poll) }
}

#[tokio::test]
async fn no_version_is_tried_on_an_instance_that_it_plans_beyond_the_grant_for() {
    let world = World::new();
    world.registry.grant(granting("https://api.example.com"));
    let live = Travellers::new(|_, id| id.as_u128() == 1);
    live.inner.add(1, "beyond", Some(b"state"));
    let home = live.inner.add(2, "home", None);
    // The vendor refuses the key, so that others are tried as well, if there are any.
    for (version, lent) in [("1.0.0", 1), ("2.0.0", 2)] {
        world.fixture(FILE, &abroad(version, failing!("1")));
        world.registry.scan(&live).await;
        assert_eq!(world.serving(), version);
        assert_eq!(*live.lent.lock().unwrap(), vec![home; lent], "{version}");
    }
    let beyond = TenantOptions { settings: Vec::new(), ..options("beyond") };
    assert_eq!(world.current().tenant(beyond).await.unwrap_err().code(), "not-granted");
}

#[tokio::test]
async fn an_instance_that_leaves_the_grant_during_a_trial_is_not_polled_by_it() {
    let world = World::new();
    world.registry.grant(granting("https://api.example.com"));
    world.fixture(FILE, &abroad("1.0.0", fixtures::GOOD));
    world.scan().await;
    assert_eq!(world.serving(), "1.0.0");
    let live = Travellers::new(|asked, _| asked > 0);
    live.inner.add(1, "leaving", Some(b"state"));
    // It would crash in a poll.
    world.fixture(FILE, &abroad("2.0.0", "unreachable"));
    world.registry.scan(&live).await;
    assert_eq!((world.serving(), live.lent.lock().unwrap().len()), ("2.0.0".into(), 1));
}

#[tokio::test]
async fn what_is_held_because_of_settings_serves_when_they_are_corrected() {
    // At first install, with origins in the configuration; and as an update of one that is pinned.
    for (before, allowed) in [(None, granting("https://api.example.com")), (Some("1.0.0"), Allowed::default())] {
        let world = World::new();
        world.registry.grant(allowed.clone());
        let live = Travellers::new(|asked, _| asked == 0);
        live.inner.add(1, "acme", None);
        if let Some(version) = before {
            world.version(FILE, version);
            world.registry.scan(&live.inner).await;
        }
        world.fixture(FILE, &abroad("2.0.0", fixtures::GOOD));
        world.registry.scan(&live).await;
        assert_eq!((world.serving().as_str(), world.fate(FILE).0), (before.unwrap_or("-"), ConnectorState::Held));
        for _ in 0..3 {
            world.registry.scan(&live).await;
        }
        assert_eq!(world.fate(FILE).0, ConnectorState::Held, "nothing has changed");
        // The operator corrects the instance; what is granted stays as it is.
        world.registry.grant(allowed);
        let operator = Operator::at(&world.state()).unwrap();
        assert_eq!(operator.confirm("fixture", world.clock.now()).unwrap_err().code(), "connector-unknown");
        world.registry.scan(&live).await;
        assert_eq!(world.serving(), "2.0.0");
    }
}

/// Instances that are corrected while a version tries itself on them.
struct Corrected<'a>(&'a Registry, Travellers);

impl LiveInstances for Corrected<'_> {
    fn ids(&self, integration_type: &str) -> Vec<Uuid> {
        self.1.ids(integration_type)
    }

    fn ready<'a>(&'a self, id: Uuid, connector: &'a Connector) -> Asked<'a, Option<Result<LiveInstance, NotReady>>> {
        Box::pin(async move {
            let ready = self.1.ready(id, connector).await;
            if self.1.asked.load(Ordering::Relaxed) == 1 {
                self.0.grant(granting("https://api.example.com"));
            }
            ready
        })
    }

    fn checkpoint(&self, id: Uuid) -> Asked<'_, Result<Option<Vec<u8>>, Box<FailureReport>>> {
        self.1.checkpoint(id)
    }
}

#[tokio::test]
async fn a_correction_in_the_middle_of_a_trial_is_not_missed() {
    let world = World::new();
    world.registry.grant(granting("https://api.example.com"));
    let live = Corrected(&world.registry, Travellers::new(|asked, _| asked == 0));
    live.1.inner.add(1, "acme", None);
    world.fixture(FILE, &abroad("1.0.0", fixtures::GOOD));
    world.registry.scan(&live).await;
    assert_eq!(world.fate(FILE).0, ConnectorState::Held, "by what it was asked before");
    world.registry.scan(&live).await;
    assert_eq!(world.serving(), "1.0.0");
}
