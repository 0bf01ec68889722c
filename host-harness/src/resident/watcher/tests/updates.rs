//! Updates that need another configuration than the version before.

use super::*;
use crate::connectors::serving::ConnectorState;
use crate::contract::types;
use crate::resident::tenant::make;

/// Version 2, which has a further secret.
fn second() -> Fixture {
    let mut fixture = Fixture::version("2.0.0");
    let field = fixture.descriptor.settings.first().expect("the first secret").clone();
    fixture.descriptor.settings.push(types::SettingField { key: "second".into(), label: "Second".into(), ..field });
    fixture.descriptor.credentials.push(types::Credential { setting: "second".into(), header: "x-second".into() });
    fixture
}

/// Version 3, which has that one only.
fn third() -> Fixture {
    let mut fixture = second();
    fixture.descriptor.version = "3.0.0".into();
    fixture.descriptor.settings.retain(|field| field.key != "api_key");
    fixture.descriptor.credentials.retain(|credential| credential.setting != "api_key");
    fixture
}

/// A registry, its directory, and a desk whose instance `a` it serves.
struct Site {
    registry: Registry,
    connectors: tempfile::TempDir,
    desk: Desk,
}

impl Site {
    async fn new() -> Self {
        let connectors = tempfile::tempdir().expect("temporary directory");
        let registry = open(&connectors);
        let serving: Arc<dyn Serving> = Arc::new(registry.clone());
        let desk = Desk::serving(&["a"], serving, Shelf::new(), "unauthorized", |_| {}).await;
        desk.write("second.key", "9876543210");
        Self { registry, connectors, desk }
    }

    async fn put(&self, name: &str, fixture: &Fixture) {
        let file = self.connectors.path().join(name);
        fs::write(&file, fixture.build()).expect("component");
        let old = SystemTime::now() - Duration::from_hours(1);
        fs::File::options().write(true).open(&file).expect("file").set_modified(old).expect("time");
        self.scan().await;
    }

    async fn scan(&self) {
        self.registry.scan(&*self.desk.stage.supervisor.live(Clock::system())).await;
    }

    /// Has the registry learn of the configurations that were taken, as the host does.
    async fn tell(&self) {
        self.registry.grant(Allowed::default());
        self.scan().await;
    }

    /// Has the operator grant what is asked for.
    async fn confirm(&self) {
        let operator = Operator::at(&self.connectors.path().join("state")).expect("records");
        operator.confirm("fixture", OffsetDateTime::now_utc()).expect("confirmed");
        self.scan().await;
    }

    fn serving(&self) -> String {
        self.registry.current("fixture").map_or("-".into(), |connector| connector.descriptor().version.clone())
    }

    fn state_of(&self, file: &str) -> Option<ConnectorState> {
        self.registry.report().into_iter().find(|row| row.file == file).map(|row| row.state)
    }

    /// Whether the instance can be polled with what serves.
    async fn can_be_polled(&self) -> bool {
        let records = self.desk.stage.supervisor.records();
        let record = records.first().expect("the instance");
        let connector = self.registry.current("fixture").expect("it serves");
        make(&record.config, &record.whole, &connector, Clock::system()).await.is_ok()
    }
}

fn open(folder: &tempfile::TempDir) -> Registry {
    let engine = Engine::new(EngineOptions { pooling: false, max_instances: 4, ..EngineOptions::default() });
    let options = RegistryOptions {
        directory: folder.path().to_owned(),
        state: folder.path().join("state"),
        cache: None,
        allowed: Allowed::default(),
        clock: Clock::system(),
        compile_time: COMPILE_TIME,
        apart: None,
    };
    Registry::open(engine.expect("engine"), options).expect("registry")
}

/// The instance with both secrets.
fn with_second() -> String {
    instance("a", "") + "second = \"file:second.key\"\n"
}

#[tokio::test(start_paused = true)]
async fn an_update_that_needs_another_secret_waits_for_the_edit_and_the_edit_is_taken_before_it() {
    let site = Site::new().await;
    site.put("one.wasm", &Fixture::version("1.0.0")).await;
    // Nobody knows it yet.
    site.desk.edit("", &with_second()).await;
    assert_eq!(site.desk.problems().iter().map(|one| one.code).collect::<Vec<_>>(), ["secret-unknown"]);
    site.desk.edit("", &instance("a", "")).await;

    site.put("two.wasm", &second()).await;
    assert_eq!((site.serving().as_str(), site.state_of("two.wasm")), ("1.0.0", Some(ConnectorState::Quarantined)));
    site.desk.edit("", &with_second()).await;
    assert!(site.desk.problems().is_empty(), "{:?}", site.desk.problems());
    assert!(site.can_be_polled().await, "the version before goes on meanwhile");
    site.tell().await;
    // At once, however long it would have waited. What it may send to the vendor is for the operator to say.
    assert_eq!((site.serving().as_str(), site.state_of("two.wasm")), ("1.0.0", Some(ConnectorState::Held)));
    assert!(site.can_be_polled().await);
    site.confirm().await;
    assert_eq!(site.serving(), "2.0.0");
    assert!(site.can_be_polled().await);
}

#[tokio::test(start_paused = true)]
async fn what_only_the_version_before_knew_is_left_out_until_it_is_taken_out_of_the_configuration() {
    let site = Site::new().await;
    site.put("one.wasm", &second()).await;
    site.desk.edit("", &with_second()).await;
    assert_eq!(site.serving(), "2.0.0");
    site.put("three.wasm", &third()).await;
    assert_eq!(site.serving(), "3.0.0", "{:?}", site.registry.report());
    assert!(site.can_be_polled().await);
    fs::remove_file(site.connectors.path().join("one.wasm")).expect("removed");
    site.scan().await;
    assert!(site.can_be_polled().await);
    // Another edit, which does not touch it.
    site.desk.edit("", &with_second().replace("= 60", "= 30")).await;
    assert!(site.desk.problems().is_empty(), "{:?}", site.desk.problems());
    // And after a restart.
    let connectors = &site.connectors;
    let again = open(connectors);
    again.scan(&*site.desk.stage.supervisor.live(Clock::system())).await;
    let connector = again.current("fixture").expect("it serves");
    assert_eq!(connector.descriptor().version, "3.0.0");
    assert!(connector.is_of_another_version("api_key"));
    assert!(!connector.is_of_another_version("second") && !connector.is_of_another_version("other"));
}

#[tokio::test(start_paused = true)]
async fn what_waits_in_quarantine_is_known_by_its_settings_after_a_restart_too() {
    let site = Site::new().await;
    site.put("one.wasm", &Fixture::version("1.0.0")).await;
    site.put("two.wasm", &second()).await;
    let again = open(&site.connectors);
    again.scan(&*site.desk.stage.supervisor.live(Clock::system())).await;
    let connector = again.current("fixture").expect("it serves");
    assert_eq!(connector.descriptor().version, "1.0.0");
    assert!(connector.is_of_another_version("second"));
    // Without the file nobody waits for it.
    fs::remove_file(site.connectors.path().join("two.wasm")).expect("removed");
    for _ in 0..2 {
        again.scan(&*site.desk.stage.supervisor.live(Clock::system())).await;
    }
    assert!(!again.current("fixture").expect("it serves").is_of_another_version("second"));
}
