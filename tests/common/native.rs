//! The connector run natively against the simulator in process, in virtual
//! time: no Wasm, no sockets, no waiting.

use std::cell::Cell;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use insightidr_simulator::{
    AlertSpec, ApiKey, ClockMode, Fault, InvestigationSpec, Outcome, Request as SimRequest, Simulator, SimulatorConfig,
    World, WorldConfig,
};
use pollster::block_on;
use rapid7_insightidr::api::transport::{
    Clock, Method, Request, Response, Transport, TransportError, TransportErrorKind as Kind,
};
use rapid7_insightidr::collect::{self, forgetting::Bounds};
use rapid7_insightidr::contract::{Artifact, Batch, Budget, Failure, RetryAdvice, Setting, SettingValue, StreamState};
use rapid7_insightidr::settings::Settings;
use rapid7_insightidr::times::Utc;
use time::OffsetDateTime;

/// The key that the simulator knows.
pub const KEY: &str = "test-key-0123456789";

/// A budget that lets most cycles end in a few steps.
pub const BUDGET: Budget =
    Budget { requests: 2_000, artifacts: 5_000, artifact_bytes: 64 << 20, wall_time_milliseconds: 600_000 };

/// When the worlds of tests begin.
pub fn start() -> OffsetDateTime {
    WorldConfig::default().start
}

/// A world without anything in it, in the American region.
pub fn empty() -> World {
    let mut world = World::empty_in("us");
    world.set_start(start());
    world
}

/// An answer with this status and nothing else.
pub fn status(status: u16) -> Fault {
    Fault::Status { status, body: None, headers: Default::default(), retry_after: None }
}

/// The simulator as a transport and a clock.
pub struct InProcess {
    pub simulator: Simulator,
    elapsed: Cell<Duration>,
    /// Answers of more than this are a time-out.
    patience: Duration,
    /// Requests after which nothing goes on any more, as if the machine had
    /// been switched off.
    pub dies_after: Cell<Option<u64>>,
    /// What happens at the vendor's before a request, which is told its target.
    pub meanwhile: Meanwhile,
    /// What becomes of an answer on its way.
    pub spoils: Spoils,
    /// What a request takes of a step's time.
    pub takes: Duration,
    /// How long the answer to some requests takes besides.
    pub slow: Slow,
    /// How far the vendor's clock, and with it its world, goes on with each request. Then answers come in any order, too.
    pub pace: Duration,
    /// Draws that order.
    order: Cell<u64>,
    /// It has died, see `dies_after`.
    dead: Cell<bool>,
    /// Seconds by which the host's clock is ahead of the vendor's.
    pub skew: Cell<i64>,
    /// Whether answers say when they were made.
    pub dated: bool,
}

/// See [`InProcess::slow`].
pub type Slow = Option<Box<dyn Fn(&Request) -> Duration>>;

/// See [`InProcess::meanwhile`].
pub type Meanwhile = Option<Box<dyn Fn(&Simulator, &str)>>;

/// See [`InProcess::spoils`].
pub type Spoils = Option<Box<dyn Fn(&Request, &mut Response)>>;

impl Transport for InProcess {
    async fn send(&self, request: &Request, patience: Duration) -> Result<Response, TransportError> {
        match self.dies_after.get() {
            Some(0) => {
                self.dead.set(true);
                return std::future::pending().await;
            }
            left => self.dies_after.set(left.map(|left| left - 1)),
        }
        let begun = self.elapsed.get() + self.takes;
        if self.pace > Duration::ZERO {
            self.simulator.advance(self.pace.try_into().unwrap());
            self.let_others_go_first().await;
        }
        self.elapsed.set(self.elapsed.get() + self.takes);
        if let Some(meanwhile) = &self.meanwhile {
            meanwhile(&self.simulator, &request.target);
        }
        let mut simulated = SimRequest::get("us", KEY, request.target.clone());
        simulated.method = request.method.name().to_owned();
        if request.method == Method::Post {
            simulated.headers.insert("content-type", http::HeaderValue::from_static("application/json"));
            simulated.body = request.body.clone().unwrap_or_default().into();
        }
        if let Some(version) = request.accept_version {
            simulated.headers.insert("accept-version", http::HeaderValue::from_static(version));
        }
        let broken = |kind, message: &str| TransportError { kind, message: message.to_owned(), sent: true };
        match self.simulator.handle(simulated) {
            Outcome::Reply(reply) => {
                let patience = patience.min(self.patience);
                let delay = reply.delay + self.slow.as_ref().map_or(Duration::ZERO, |slow| slow(request));
                if delay > patience || reply.pace.is_some() {
                    // Others may have begun with it.
                    self.elapsed.set(self.elapsed.get().max(begun + patience));
                    return Err(broken(Kind::Timeout, "no answer in time"));
                }
                self.elapsed.set(self.elapsed.get() + delay);
                if reply.headers.contains_key("content-encoding") {
                    return Err(broken(Kind::Protocol, "the response is not encoded as it says"));
                }
                let mut headers: Vec<(String, String)> = reply
                    .headers
                    .iter()
                    .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())))
                    .collect();
                if self.dated {
                    headers.push(("date".to_owned(), httpdate::fmt_http_date(self.simulator.now().into())));
                }
                let mut response = Response { status: reply.status.as_u16(), headers, body: reply.body.to_vec() };
                if let Some(spoils) = &self.spoils {
                    spoils(request, &mut response);
                }
                Ok(response)
            }
            Outcome::ResetBeforeHead { .. } => Err(broken(Kind::Connection, "the connection was reset")),
            Outcome::CutShort { .. } => Err(broken(Kind::Protocol, "the response broke off")),
        }
    }
}

impl InProcess {
    /// Comes back after up to three turns of all others that are under way.
    async fn let_others_go_first(&self) {
        // A linear congruential generator, of which the upper bits are random enough.
        let drawn = self.order.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.order.set(drawn);
        let mut turns = drawn >> 62;
        std::future::poll_fn(|context| {
            if turns == 0 {
                return std::task::Poll::Ready(());
            }
            turns -= 1;
            context.waker().wake_by_ref();
            std::task::Poll::Pending
        })
        .await;
    }
}

impl Clock for InProcess {
    fn now(&self) -> Utc {
        let vendors = Utc(i64::try_from(self.simulator.now().unix_timestamp_nanos() / 1_000).unwrap());
        vendors.plus_seconds(self.skew.get())
    }

    fn elapsed(&self) -> Duration {
        self.elapsed.get()
    }

    async fn sleep(&self, duration: Duration) {
        self.elapsed.set(self.elapsed.get() + duration);
    }
}

/// A tenant: the simulator, the settings, and a host's store in memory.
pub struct Tenant {
    pub link: InProcess,
    pub settings: Vec<Setting>,
    pub budget: Budget,
    /// Of the checkpoint.
    pub bounds: Bounds,
    pub checkpoint: Option<Vec<u8>>,
    /// Artifacts by id, as JSON.
    pub store: BTreeMap<String, serde_json::Value>,
    /// Artifacts that came again.
    pub repeated: usize,
    /// The vendor's names of those.
    pub again: BTreeSet<String>,
    /// Deaths in the next cycle: before which step, and at which of its requests.
    pub deaths: Vec<(usize, u64)>,
    /// Steps after which the next cycle is left as it is.
    pub leaves_after: Option<usize>,
}

/// What a cycle came to.
#[derive(Debug, Default)]
pub struct Cycle {
    /// New artifacts.
    pub new: usize,
    /// Steps.
    pub steps: usize,
    /// Records fetched by stream.
    pub fetched: BTreeMap<String, u64>,
    /// Failures by stream, in the last report.
    pub degraded: BTreeMap<String, Failure>,
    /// Streams reported unavailable.
    pub unavailable: Vec<String>,
    /// The failure that ended it.
    pub failure: Option<Failure>,
    /// It was left before its end.
    pub left: bool,
}

impl Tenant {
    /// A tenant of a world that stands still until it is told to move.
    pub fn of(world: World) -> Self {
        Self::with(world, SimulatorConfig::default())
    }

    /// A tenant with a simulator of its own making.
    pub fn with(world: World, config: SimulatorConfig) -> Self {
        let keys = if config.keys.is_empty() { vec![ApiKey::new("us", KEY)] } else { config.keys };
        let config = SimulatorConfig { keys, clock: ClockMode::Frozen, versions_needed: true, ..config };
        Self {
            link: InProcess {
                simulator: Simulator::new(world, config),
                elapsed: Cell::new(Duration::ZERO),
                patience: Duration::from_secs(30),
                dies_after: Cell::new(None),
                meanwhile: None,
                spoils: None,
                takes: Duration::ZERO,
                slow: None,
                pace: Duration::ZERO,
                order: Cell::new(1),
                dead: Cell::new(false),
                skew: Cell::new(0),
                dated: true,
            },
            settings: vec![Setting { key: "region".to_owned(), value: SettingValue::Text("us".to_owned()) }],
            budget: BUDGET,
            bounds: Bounds::default(),
            checkpoint: None,
            store: BTreeMap::new(),
            repeated: 0,
            again: BTreeSet::new(),
            deaths: Vec::new(),
            leaves_after: None,
        }
    }

    /// One step, committed if it gave a batch.
    pub fn step(&mut self) -> Result<Batch, Failure> {
        let settings = Settings::parse(&self.settings).unwrap();
        let (checkpoint, link) = (self.checkpoint.clone(), &self.link);
        let before = link.elapsed.get();
        let outcome = block_on(collect::step_within(link, link, &settings, checkpoint, self.budget, self.bounds));
        let took = link.elapsed.get() - before;
        // One that is under way may take what it takes here.
        let most = Duration::from_millis(self.budget.wall_time_milliseconds) + self.link.takes * 8;
        assert!(took <= most, "a host ends a step that goes on for longer: {took:?}");
        let batch = outcome?;
        self.commit(&batch);
        Ok(batch)
    }

    /// One step that dies at request `at`, or at its end if there are fewer:
    /// whatever it has learned is lost.
    pub fn die(&mut self, at: u64) {
        let settings = Settings::parse(&self.settings).unwrap();
        self.link.dies_after.set(Some(at));
        let (checkpoint, link) = (self.checkpoint.clone(), &self.link);
        link.dead.set(false);
        let mut step =
            std::pin::pin!(collect::step_within(link, link, &settings, checkpoint, self.budget, self.bounds));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        // Whatever else is pending has only let others go first.
        while !link.dead.get() && std::future::Future::poll(step.as_mut(), &mut context).is_pending() {}
        link.dies_after.set(None);
    }

    /// What a host does with a batch.
    pub fn commit(&mut self, batch: &Batch) {
        let ids: BTreeSet<&str> = batch.artifacts.iter().map(|artifact| artifact.id.as_str()).collect();
        assert_eq!(ids.len(), batch.artifacts.len(), "a host refuses a batch that holds an id twice");
        for Artifact { id, json, .. } in &batch.artifacts {
            assert!(!json.contains('\n'), "an artifact is one line");
            let value: serde_json::Value = serde_json::from_str(json).unwrap();
            assert_eq!(value["id"].as_str(), Some(id.as_str()));
            let name = value["sourceInfo"].as_str().unwrap_or_default().to_owned();
            // As a host does: the first one stays.
            if let Entry::Vacant(free) = self.store.entry(id.clone()) {
                free.insert(value);
            } else {
                self.repeated += 1;
                self.again.insert(name);
            }
        }
        self.checkpoint = Some(batch.checkpoint.clone());
    }

    /// Steps until there is no more, waiting as told.
    pub fn cycle(&mut self) -> Cycle {
        let mut cycle = Cycle::default();
        let before = self.store.len();
        loop {
            cycle.steps += 1;
            let deaths = std::mem::take(&mut self.deaths);
            for (_, at) in deaths.iter().filter(|(step, _)| *step + 1 == cycle.steps) {
                self.die(*at);
            }
            self.deaths = deaths;
            if cycle.steps >= 2_000 {
                let requests = self.link.simulator.requests();
                let last = requests.iter().rev().take(40).rev();
                let last: Vec<String> = last.map(|one| format!("{:?} {}", one.status, one.path)).collect();
                panic!("a cycle ends; its last requests: {last:#?} {:?}", cycle.degraded);
            }
            match self.step() {
                Err(failure) => {
                    cycle.failure = Some(failure);
                    break;
                }
                Ok(batch) => {
                    cycle.degraded.clear();
                    cycle.unavailable.clear();
                    for report in &batch.reports {
                        *cycle.fetched.entry(report.stream.clone()).or_default() += report.fetched;
                        match &report.state {
                            StreamState::Ok => {}
                            StreamState::Degraded(failure) => {
                                let waits = matches!(failure.retry, RetryAdvice::AfterSeconds(_));
                                assert!(
                                    !waits || report.stream == "investigations",
                                    "the host would let the whole instance wait for {}",
                                    report.stream
                                );
                                cycle.degraded.insert(report.stream.clone(), failure.clone());
                            }
                            StreamState::Unavailable(_) => cycle.unavailable.push(report.stream.clone()),
                        }
                    }
                    cycle.left = batch.more && self.leaves_after.is_some_and(|most| cycle.steps >= most);
                    if !batch.more || cycle.left {
                        break;
                    }
                    if let Some(wait) = batch.retry_after_seconds {
                        self.advance(Duration::from_secs(wait));
                    }
                }
            }
        }
        self.deaths.clear();
        self.leaves_after = None;
        cycle.new = self.store.len() - before;
        cycle
    }

    /// Moves the clock.
    pub fn advance(&self, by: Duration) {
        self.link.simulator.advance(by.try_into().unwrap());
    }

    /// The vendor's identifiers that were collected, with how often.
    pub fn collected(&self) -> BTreeMap<String, usize> {
        let mut found = BTreeMap::new();
        for artifact in self.store.values() {
            *found.entry(artifact["sourceInfo"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
        found
    }
}

/// Polls so many times, every ten minutes: the last cycle.
pub fn polls(tenant: &mut Tenant, count: usize) -> Cycle {
    let mut last = Cycle::default();
    for _ in 0..count {
        tenant.advance(Duration::from_secs(600));
        last = tenant.cycle();
    }
    last
}

/// A cycle in which nothing may go wrong.
pub fn sound(tenant: &mut Tenant) -> Cycle {
    let cycle = tenant.cycle();
    assert!(cycle.failure.is_none() && cycle.degraded.is_empty(), "{cycle:#?}");
    cycle
}

/// Makes an investigation of now with one alert: its RRN.
pub fn new_one(tenant: &Tenant) -> String {
    let now = tenant.link.simulator.now();
    tenant.link.simulator.change_world(|world| {
        let id = world.add_investigation(InvestigationSpec::new(now, now)).unwrap();
        world.add_alert(Some(id), AlertSpec::new(now, now)).unwrap();
        world.investigation_rrn(id).unwrap().to_owned()
    })
}

/// How many artifacts with this action were collected.
pub fn actions(tenant: &Tenant, action: &str) -> usize {
    tenant.store.values().filter(|artifact| artifact["action"] == action).count()
}

/// Those of these records that were not collected.
pub fn missing<'r>(tenant: &Tenant, rrns: &'r [String]) -> Vec<&'r String> {
    let collected = tenant.collected();
    rrns.iter().filter(|rrn| !collected.contains_key(*rrn)).collect()
}
