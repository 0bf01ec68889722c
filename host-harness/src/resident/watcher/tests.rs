//! What an operator changes, in virtual time: the schedule follows a script, the files are real.

mod updates;

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::SystemTime;

use time::OffsetDateTime;
use tokio::task::JoinHandle;

use super::*;
use crate::config::Problem;
use crate::connectors::TenantOptions;
use crate::connectors::fixtures::Fixture;
use crate::connectors::registry::{Allowed, COMPILE_TIME, Operator, Registry, RegistryOptions};
use crate::egress::{NetworkOptions, Routes, Secrets};
use crate::instances::failure::{FailureReport, Retry};
use crate::locks::lock;
use crate::resident::poller::Polled;
use crate::resident::shelf::Shelf;
use crate::resident::supervisor::tests::stage::{Stage, failed};
use crate::sandbox::{Clock, Engine, EngineOptions};

/// The longest time from an edit to its effect that is promised.
const PROMISED: Duration = Duration::from_secs(10);

/// An instance of the fixture's type, with a secret of its own.
fn instance(name: &str, more: &str) -> String {
    format!(
        "[[instance]]\nname = \"{name}\"\nintegration_type = \"fixture\"\npoll_interval_minutes = 60\n{more}\n\
         [instance.secrets]\napi_key = \"file:{name}.key\"\n"
    )
}

/// A host at which every poll fails as if the key were wrong, and its operator.
struct Desk {
    stage: Stage,
    shelf: Arc<Shelf>,
    granted: Arc<Mutex<Vec<usize>>>,
    stop: watch::Sender<Phase>,
    watching: JoinHandle<()>,
}

impl Desk {
    async fn new(instances: &[&str]) -> Self {
        let shelf = Shelf::new();
        Self::serving(instances, shelf.clone(), shelf, "unauthorized", |_| {}).await
    }

    /// One with connectors from `serving`, where every poll fails of `code`; `meanwhile` happens after the configuration
    /// was read.
    async fn serving(
        instances: &[&str],
        serving: Arc<dyn Serving>,
        shelf: Arc<Shelf>,
        code: &'static str,
        meanwhile: impl FnOnce(&Path),
    ) -> Self {
        // Until somebody changes something.
        let failure = move || FailureReport { retry: Retry::AfterChange, ..FailureReport::new(code, "it failed", "") };
        let stage = Stage::new(8, move |_, _| (1, Polled::NotBegun(failure())));
        let file = stage.dir.path().join("conductor.toml");
        for name in instances {
            fs::write(stage.dir.path().join(format!("{name}.key")), "0123456789").expect("secret");
        }
        let all: String = instances.iter().map(|name| instance(name, "")).collect();
        fs::write(&file, text("", &all)).expect("configuration");
        let watched = FileWatch::new(file.clone());
        let config = Arc::new(config::load(&file).unwrap_or_else(|error| panic!("{error}")));
        meanwhile(&file);
        stage.supervisor.apply(Arc::clone(&config)).await.expect("applied");
        let granted = Arc::<Mutex<Vec<usize>>>::default();
        let told = Arc::clone(&granted);
        let watcher = Watcher::new(watched, config, Arc::clone(&stage.supervisor), serving, Arc::clone(&stage.board));
        let (stop, stopped) = watch::channel(Phase::Running);
        let granting = move |config: &Config| lock(&told).push(config.instances.len());
        let watching = tokio::spawn(watcher.run(stopped, granting));
        Self { stage, shelf, granted, stop, watching }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.stage.dir.path().join(name), text).expect("written");
    }

    /// Saves the configuration and waits as long as its effect may take.
    async fn edit(&self, host: &str, instances: &str) {
        self.write("conductor.toml", &text(host, instances));
        tokio::time::sleep(PROMISED).await;
    }

    fn names(&self) -> Vec<String> {
        self.stage.board.instances().into_iter().map(|one| one.name).collect()
    }

    fn problems(&self) -> Vec<Problem> {
        self.stage.board.host().config.problems
    }

    /// Waits until an instance has been polled once.
    async fn until_polled(&self, name: &str) {
        while self.stage.polls(name).is_empty() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        // So that the poll is over.
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

/// A configuration.
fn text(host: &str, instances: &str) -> String {
    format!("[host]\nstate = \"s\"\nconnectors = \"c\"\n{host}\n{instances}")
}

#[tokio::test(start_paused = true)]
async fn an_edit_is_taken_and_a_broken_one_is_told_while_the_one_before_keeps_running() {
    let desk = Desk::new(&["a"]).await;
    desk.write("b.key", "0123456789");
    desk.edit("", &(instance("a", "") + &instance("b", ""))).await;
    assert_eq!(desk.names(), ["a", "b"]);
    assert_eq!(*lock(&desk.granted), [2], "told once");

    desk.edit("", &(instance("a", "enabld = false") + &instance("c", ""))).await;
    let problems = desk.problems();
    assert_eq!((problems.len(), problems[0].line), (1, Some(9)), "{problems:?}");
    assert!(problems[0].to_string().contains("did you mean \"enabled\"?"), "{problems:?}");
    assert_eq!(desk.names(), ["a", "b"]);
    assert_eq!(*lock(&desk.granted), [2], "nothing is granted for the sake of a broken one");

    // As it was: nothing is wrong any more.
    desk.edit("", &(instance("a", "") + &instance("b", ""))).await;
    assert!(desk.problems().is_empty());

    // What only the connector knows.
    desk.shelf.put(&Fixture { configure: "(return (i32.const {refused}))", ..Fixture::version("1.0.0") }).await;
    desk.edit("", &(instance("a", "[instance.settings]\nregion = \"mars\"") + &instance("b", ""))).await;
    let problems = desk.problems();
    assert_eq!((problems.len(), problems[0].line), (1, Some(10)), "{problems:?}");
    assert!(problems[0].to_string().contains("region: no such region"), "{problems:?}");
    assert_eq!(desk.names(), ["a", "b"]);

    desk.edit("", &instance("b", "")).await;
    assert_eq!(desk.names(), ["b"]);
    desk.stop.send(Phase::Finishing).expect("it watches");
    desk.watching.await.expect("it ends with the host");
}

#[tokio::test(start_paused = true)]
async fn an_edit_of_grants_alone_that_shuts_an_instance_out_is_refused() {
    let desk = Desk::new(&["a"]).await;
    desk.shelf.put(&Fixture::version("1.0.0")).await;
    let grants = "[grants.fixture]\norigins = [\"https://elsewhere.example.com\"]\n";
    desk.edit("", &(grants.to_owned() + &instance("a", ""))).await;
    let problems = desk.problems();
    assert_eq!((problems.len(), problems[0].code), (1, "origin-not-granted"), "{problems:?}");
    assert!(lock(&desk.granted).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_connector_that_crashes_over_settings_is_told_once_for_all_its_instances() {
    let desk = Desk::new(&["a"]).await;
    desk.shelf.put(&Fixture { configure: "unreachable", ..Fixture::version("1.0.0") }).await;
    for name in ["b", "c"] {
        desk.write(&format!("{name}.key"), "0123456789");
    }
    desk.edit("", &["a", "b", "c"].map(|name| instance(name, "")).concat()).await;
    let problems = desk.problems();
    assert_eq!((problems.len(), problems[0].code), (1, "connector-trap"), "{problems:?}");
    assert_eq!(desk.names(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn whoever_has_a_rotated_secret_is_polled_again_and_nobody_else() {
    let desk = Desk::new(&["a", "b"]).await;
    desk.until_polled("a").await;
    desk.until_polled("b").await;
    let before = (desk.stage.polls("a").len(), desk.stage.polls("b").len());
    // Touched, but not changed.
    desk.write("a.key", "0123456789");
    tokio::time::sleep(PROMISED).await;
    assert_eq!((desk.stage.polls("a").len(), desk.stage.polls("b").len()), before);
    desk.write("a.key", "9876543210");
    tokio::time::sleep(PROMISED).await;
    assert_eq!((desk.stage.polls("a").len(), desk.stage.polls("b").len()), (before.0 + 1, before.1));
}

#[tokio::test(start_paused = true)]
async fn whoever_has_another_connector_is_polled_again_and_nobody_else() {
    let desk = Desk::new(&["a"]).await;
    let other = instance("b", "").replace("\"fixture\"", "\"other\"");
    desk.write("b.key", "0123456789");
    desk.edit("", &(instance("a", "") + &other)).await;
    desk.until_polled("a").await;
    desk.until_polled("b").await;
    let before = (desk.stage.polls("a").len(), desk.stage.polls("b").len());
    desk.shelf.put(&Fixture::version("1.0.0")).await;
    tokio::time::sleep(PROMISED).await;
    assert_eq!((desk.stage.polls("a").len(), desk.stage.polls("b").len()), (before.0 + 1, before.1));
    // The same once more is no news.
    desk.shelf.put(&Fixture::version("1.0.0")).await;
    tokio::time::sleep(PROMISED).await;
    assert_eq!(desk.stage.polls("a").len(), before.0 + 1);
}

#[tokio::test(start_paused = true)]
async fn what_counts_from_the_next_start_on_is_told_until_it_is_as_it_was() {
    let desk = Desk::new(&["a"]).await;
    let keys = || desk.stage.board.host().config.needs_restart;
    desk.edit("parallel_polls = 3", &instance("a", "")).await;
    assert_eq!(keys(), ["parallel_polls"]);
    // Compared with what runs, and not with the edit before.
    desk.edit("parallel_polls = 3\nlog_format = \"json\"", &instance("a", "")).await;
    assert_eq!(keys(), ["parallel_polls", "log_format"]);
    desk.edit("", &instance("a", "")).await;
    assert!(keys().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_edit_that_is_refused_grants_nothing() {
    let desk = Desk::new(&["a"]).await;
    let other = instance("a", "").replace("integration_type = \"", "integration_type = \"other_");
    assert_ne!(other, instance("a", ""));
    // What has no progress goes over to the other one.
    let a = desk.stage.store.known("a").expect("known");
    let batch = crate::contract::types::Batch {
        artifacts: Vec::new(),
        checkpoint: b"progress".to_vec(),
        more: false,
        reports: Vec::new(),
        retry_after_seconds: None,
        hint: None,
    };
    desk.stage.store.commit_step(&a, &batch, desk.stage.board.now()).expect("committed");
    desk.edit("", &other).await;
    assert_eq!((desk.problems().len(), lock(&desk.granted).len()), (1, 0), "{:?}", desk.problems());
}

#[tokio::test(start_paused = true)]
async fn an_edit_that_the_connector_refuses_is_taken_as_soon_as_another_one_takes_it() {
    let desk = Desk::new(&["a"]).await;
    desk.write("b.key", "0123456789");
    desk.shelf.put(&Fixture { configure: "(return (i32.const {refused}))", ..Fixture::version("1.0.0") }).await;
    desk.edit("", &(instance("a", "") + &instance("b", "[instance.settings]\nregion = \"mars\""))).await;
    assert_eq!((desk.problems().len(), desk.names().len()), (1, 1));
    desk.shelf.put(&Fixture::version("1.1.0")).await;
    tokio::time::sleep(PROMISED).await;
    assert_eq!(desk.names(), ["a", "b"]);
    assert!(desk.problems().is_empty(), "{:?}", desk.problems());
    assert_eq!(lock(&desk.granted).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_edit_that_the_store_could_not_take_is_taken_when_it_can() {
    let desk = Desk::new(&["a"]).await;
    desk.write("b.key", "0123456789");
    // As when its disk is full.
    let path = desk.stage.dir.path().join("state/state.sqlite");
    let database = rusqlite::Connection::open(path).expect("database");
    let full = "CREATE TRIGGER full BEFORE INSERT ON instance BEGIN SELECT RAISE(FAIL, 'no room'); END";
    database.execute_batch(full).expect("a trigger");
    desk.edit("", &(instance("a", "") + &instance("b", ""))).await;
    assert_eq!((desk.problems().len(), desk.names().len()), (1, 1), "{:?}", desk.problems());
    database.execute_batch("DROP TRIGGER full").expect("it is gone");
    tokio::time::sleep(JUDGE_AGAIN + PROMISED).await;
    assert_eq!(desk.names(), ["a", "b"]);
    assert!(desk.problems().is_empty(), "{:?}", desk.problems());
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_an_edit_is_told_once_however_often_it_is_judged() {
    let desk = Desk::new(&["a"]).await;
    desk.edit("", &instance("a", "enabld = false")).await;
    let first = desk.problems();
    assert_eq!(first.len(), 1);
    tokio::time::sleep(3 * JUDGE_AGAIN).await;
    assert_eq!(desk.problems(), first);
    // A file that is being written is not judged because it is time to judge again.
    for seconds in 0..60 {
        desk.write("conductor.toml", &format!("# {seconds}\n[host"));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(desk.problems(), first, "{seconds}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_edit_that_is_made_while_the_host_starts_is_taken() {
    let shelf = Shelf::new();
    let meanwhile =
        |file: &Path| fs::write(file, text("", &(instance("a", "") + &instance("b", "")))).expect("written");
    let serving: Arc<dyn Serving> = shelf.clone();
    let desk = Desk::serving(&["a"], serving, shelf, "unauthorized", meanwhile).await;
    assert_eq!(desk.names(), ["a"]);
    desk.write("b.key", "0123456789");
    tokio::time::sleep(PROMISED).await;
    assert_eq!(desk.names(), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_grant_is_polled_again_when_the_operator_confirms() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (connectors, state) = (dir.path().join("connectors"), dir.path().join("state"));
    fs::create_dir(&connectors).expect("directory");
    let engine = Engine::new(EngineOptions { pooling: false, max_instances: 4, ..EngineOptions::default() });
    let registry = Registry::open(
        engine.expect("engine"),
        RegistryOptions {
            directory: connectors.clone(),
            state: state.clone(),
            cache: None,
            allowed: Allowed::default(),
            clock: Clock::system(),
            compile_time: COMPILE_TIME,
            apart: None,
        },
    )
    .expect("registry");
    let serving: Arc<dyn Serving> = Arc::new(registry.clone());
    let desk = Desk::serving(&["a"], Arc::clone(&serving), Shelf::new(), "not-granted", |_| {}).await;
    // Nobody's instance is live, so a version that asks for more serves, and its first tenant is refused.
    let nobody = Stage::new(1, |_, _| (1, failed("unauthorized")));
    let live = nobody.supervisor.live(Clock::system());
    for (version, host, granted) in [("1.0.0", "api.example.com", true), ("2.0.0", "other.example.com", false)] {
        let mut fixture = Fixture::version(version);
        fixture.plan.origin.host = host.into();
        let file = connectors.join("fixture.wasm");
        fs::write(&file, fixture.build()).expect("component");
        let old = SystemTime::now() - Duration::from_hours(1);
        fs::File::options().write(true).open(&file).expect("file").set_modified(old).expect("time");
        registry.scan(&*live).await;
        let connector = registry.current("fixture").expect("it serves");
        assert_eq!(connector.descriptor().version, version);
        assert_eq!(connector.tenant(tenant()).await.is_ok(), granted);
    }
    desk.until_polled("a").await;
    registry.scan(&*live).await;
    // Whatever a change of connectors has woken.
    tokio::time::sleep(PROMISED).await;
    let before = desk.stage.polls("a").len();
    tokio::time::sleep(PROMISED).await;
    assert_eq!(desk.stage.polls("a").len(), before);
    Operator::at(&state).expect("records").confirm("fixture", OffsetDateTime::now_utc()).expect("confirmed");
    registry.scan(&*live).await;
    tokio::time::sleep(PROMISED).await;
    assert_eq!(desk.stage.polls("a").len(), before + 1);
}

/// What a tenant of the fixture is made of.
fn tenant() -> TenantOptions {
    let mut secrets = Secrets::new();
    secrets.insert("api_key", "0123456789".into()).expect("a secret");
    TenantOptions {
        name: "a".into(),
        settings: Vec::new(),
        secrets,
        routes: Routes::new(),
        clock: Clock::system(),
        network: NetworkOptions::default(),
    }
}
