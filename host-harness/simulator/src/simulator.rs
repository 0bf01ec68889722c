//! The simulator: a world, a clock, settings and counters behind one function.
//!
//! [`Simulator::handle`] takes a request and says what the client sees; it never waits. Clones share everything. Requests
//! may come from many threads: each is handled at one instant of the clock. What is promised is that the same
//! world, clock and sequence of requests give the same answers; with parallel requests the order in which they are counted, and
//! so which of them a fault strikes, is theirs.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::StatusCode;
use percent_encoding::percent_decode_str;
use time::{Duration, OffsetDateTime};

use crate::api::{self, Call, Endpoint};
use crate::clock::Clock;
use crate::config::{ApiKey, ClockMode, Role, SimulatorConfig};
use crate::fault::{self, Fault, FaultProfile, Injector, Seen};
use crate::gate::{Access, Allowances, judge};
use crate::gzip;
use crate::listing::Snapshot;
use crate::message::{Outcome, Reply, Request, RequestRecord};
use crate::moment::micros;
use crate::query::Query;
use crate::refusals::{refused, too_many};
use crate::rng::{mix, uuid_of};
use crate::truth::{Truth, tell};
use crate::world::World;
use crate::world::timeline::Timeline;

/// The path under which the control endpoints are.
pub(crate) const CONTROL: &str = "/_simulator/";

/// A stand-in for the InsightIDR API. Cheap to clone; clones are the same simulator.
#[derive(Clone)]
pub struct Simulator(Arc<Shared>);

struct Shared {
    config: SimulatorConfig,
    served: Mutex<Served>,
    live: Mutex<Live>,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
}

/// What is served.
struct Served {
    timeline: Arc<Timeline>,
    snapshot: Option<Arc<Snapshot>>,
}

/// What moves.
struct Live {
    clock: Clock,
    injector: Injector,
    allowances: Allowances,
    records: VecDeque<RequestRecord>,
    requests: u64,
    sequence: u64,
    silent_regions: u16,
}

impl Live {
    /// Whether a region is silent in the minute of `now`.
    fn is_partial(&self, seed: u64, now: OffsetDateTime) -> bool {
        let minute = now.unix_timestamp().div_euclid(60).unsigned_abs();
        self.silent_regions > 0 && mix(seed ^ 0x51_1e_47, minute) % 1_000 < u64::from(self.silent_regions)
    }
}

impl Simulator {
    /// Serves a world. Its clock starts now.
    pub fn new(world: World, config: SimulatorConfig) -> Self {
        let running = config.clock == ClockMode::Running;
        let clock = Clock::new(config.start.unwrap_or(world.start), running);
        let live = Live {
            clock,
            injector: Injector::new(config.faults.clone(), world.seed),
            allowances: Allowances::default(),
            records: VecDeque::new(),
            requests: 0,
            sequence: 0,
            silent_regions: config.silent_regions,
        };
        let served = Served { timeline: Arc::new(Timeline::new(world)), snapshot: None };
        Self(Arc::new(Shared {
            config,
            served: Mutex::new(served),
            live: Mutex::new(live),
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
        }))
    }

    /// The settings it was made with. Faults may have been replaced since.
    pub fn config(&self) -> &SimulatorConfig {
        &self.0.config
    }

    /// What the clock shows.
    pub fn now(&self) -> OffsetDateTime {
        self.live().clock.now()
    }

    /// Sets the clock, forwards or back; a running clock goes on from there.
    pub fn set_now(&self, now: OffsetDateTime) {
        self.live().clock.set(now);
    }

    /// Moves the clock; a negative duration moves it back.
    pub fn advance(&self, by: Duration) {
        let mut live = self.live();
        let now = live.clock.now();
        live.clock.set(now.checked_add(by).unwrap_or(now));
    }

    /// See [`SimulatorConfig::silent_regions`].
    pub fn set_silent_regions(&self, of_a_thousand_minutes: u16) {
        self.live().silent_regions = of_a_thousand_minutes;
    }

    /// Replaces the faults; their counters begin again.
    pub fn set_faults(&self, faults: FaultProfile) {
        let seed = self.timeline().world.seed;
        self.live().injector = Injector::new(faults, seed);
    }

    /// Changes the world while it is served. Handles returned by the world stay good.
    pub fn change_world<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let mut served = self.served();
        let mut world = served.timeline.world.clone();
        let result = change(&mut world);
        *served = Served { timeline: Arc::new(Timeline::new(world)), snapshot: None };
        result
    }

    /// Everything that exists, and when it could be seen.
    pub fn truth(&self) -> Truth {
        tell(&self.timeline(), self.now())
    }

    /// The requests to the API so far, oldest first, as many as are kept; control requests are not among them.
    pub fn requests(&self) -> Vec<RequestRecord> {
        self.live().records.iter().cloned().collect()
    }

    /// How many requests to the API there were since the start or the last reset.
    pub fn request_count(&self) -> u64 {
        self.live().requests
    }

    /// The most requests that a server had in hand at one time since the start or the last reset.
    pub fn most_in_flight(&self) -> usize {
        self.0.most_in_flight.load(Ordering::Relaxed)
    }

    /// Forgets requests, counts and used allowances, and lets the faults begin again. World and clock stay.
    pub fn reset_counters(&self) {
        self.0.most_in_flight.store(self.0.in_flight.load(Ordering::Relaxed), Ordering::Relaxed);
        let mut live = self.live();
        live.records.clear();
        live.requests = 0;
        live.allowances = Allowances::default();
        live.injector.restart();
    }

    /// Answers a request.
    pub fn handle(&self, request: Request) -> Outcome {
        let (raw_path, query) = request.path_and_query.split_once('?').unwrap_or((&request.path_and_query, ""));
        let path = percent_decode_str(raw_path).decode_utf8_lossy().into_owned();
        if path.starts_with(CONTROL) {
            return Outcome::Reply(crate::control::answer(self, &request.method, &path, &request.body));
        }
        let config = &self.0.config;
        let (region, access) = judge(config, &request.headers);
        let seen = Seen { method: &request.method, path: &path, query, region: &region };
        let under_idr = path.starts_with("/idr/");
        let seed = path.starts_with("/idr/at/alerts/ops/").then(|| self.timeline().world.seed);
        let (now, sequence, allowance, struck) = {
            let mut live = self.live();
            let now = live.clock.now();
            live.sequence += 1;
            let apart = [("/idr/at/", config.triage_rate_limit), ("/idr/v1/", config.v1_rate_limit)];
            let apart =
                apart.into_iter().find_map(|(api, limit)| Some((api, limit.filter(|_| path.starts_with(api))?)));
            let allowance = match (access, apart.map(|(_, limit)| limit).or(config.rate_limit)) {
                (Access::Granted(key), Some(limit)) if under_idr => {
                    let whose = apart.map_or_else(|| key.key.clone(), |(api, _)| key.key.clone() + api);
                    Some(live.allowances.take(&whose, limit, micros(now)))
                }
                _ => None,
            };
            let struck = live.injector.strike(&seen);
            let silent =
                if config.silent_regions_are_empty { Fault::EmptyRegionFailures {} } else { Fault::RegionFailures {} };
            let partial = seed.is_some_and(|seed| live.is_partial(seed, now)).then_some(silent);
            (now, live.sequence, allowance, struck.or(partial))
        };
        let sent = request.headers.get("r7-correlation-id").and_then(|id| id.to_str().ok()).filter(|id| !id.is_empty());
        let correlation = sent.map_or_else(|| uuid_of(sequence), str::to_owned);

        let mut asked = Query::new(query);
        let index = asked.get("index").and_then(|index| index.parse().ok()).unwrap_or(0);
        if let Some(fault) = &struck {
            let read = fault::before(fault, index);
            if read != index {
                asked.replace("index", read.to_string());
            }
        }
        let mut reply = match (access, allowance) {
            (_, Some(spent)) if spent.exceeded => too_many(config.retry_after, spent, now, sequence, &correlation),
            (Access::Granted(key), _) => self.granted(key, &request, raw_path, asked, now, sequence, &correlation),
            _ => refused(config, access, &request.method, &path, &correlation),
        };
        reply.delay += config.latency;
        reply.set("r7-correlation-id", &correlation);
        if let Some(allowance) = allowance.filter(|_| config.rate_headers) {
            for (name, value) in [
                ("limit", u64::from(allowance.limit)),
                ("remaining", u64::from(allowance.remaining)),
                ("reset", allowance.reset),
            ] {
                reply.set(&format!("ratelimit-{name}"), &value.to_string());
                reply.set(&format!("x-ratelimit-{name}"), &value.to_string());
            }
        }
        let mut outcome = match &struck {
            Some(fault) => fault::apply(fault, reply, index, &correlation),
            None => Outcome::Reply(reply),
        };
        if config.gzip
            && let Outcome::Reply(reply) = &mut outcome
        {
            gzip::compress_reply(reply, &request);
        }
        self.record(RequestRecord {
            at: now,
            region,
            accept_version: api::accept_version(&request.headers).map(str::to_owned),
            status: outcome.status().map(|status| status.as_u16()),
            fault: struck.map(|fault| fault.name().to_owned()),
            authorized: matches!(access, Access::Granted(_)),
            query: query.to_owned(),
            method: request.method,
            path,
        });
        outcome
    }

    /// What a good key at the right host gets.
    #[allow(clippy::too_many_arguments, reason = "the parts of one request, taken apart once")]
    fn granted(
        &self,
        key: &ApiKey,
        request: &Request,
        raw_path: &str,
        query: Query,
        now: OffsetDateTime,
        sequence: u64,
        correlation: &str,
    ) -> Reply {
        let not_found = || Reply::error(StatusCode::NOT_FOUND, "Entity Not Found", Some(correlation));
        let decoded: Vec<_> =
            raw_path.split('/').skip(1).map(|part| percent_decode_str(part).decode_utf8_lossy()).collect();
        let segments: Vec<&str> = decoded.iter().map(AsRef::as_ref).collect();
        if key.role == Role::NoInsightIdr && segments.first() == Some(&"idr") {
            return Reply::error(StatusCode::FORBIDDEN, "Insufficient Permissions", Some(correlation));
        }
        let Some((endpoint, method)) = Endpoint::at(&segments) else {
            return not_found();
        };
        if request.method != method {
            let status = StatusCode::METHOD_NOT_ALLOWED;
            return Reply::error(status, "Method Not Allowed", Some(correlation));
        }
        let (timeline, snapshot) = self.snapshot(now);
        let world = &timeline.world;
        let numbered = || (0_u32..).zip(&world.organizations);
        let mut own = numbered().filter(|(_, o)| o.region == key.region);
        let home = match &key.organization {
            Some(name) => own.find(|(_, o)| o.id == *name || o.name == *name),
            None => own.next(),
        };
        let call = Call {
            timeline: &timeline,
            snapshot,
            config: &self.0.config,
            now,
            home: home.map(|(number, _)| number),
            region: numbered().filter(|(_, o)| o.region == key.region).map(|(number, _)| number).collect(),
            triage: key.role == Role::Full && home.is_some_and(|(_, o)| o.triage),
            query,
            headers: &request.headers,
            body: &request.body,
            sequence,
        };
        api::answer(&call, endpoint)
            .unwrap_or_else(|refusal| Reply::error(refusal.status, &refusal.message, Some(correlation)))
    }

    /// Counts a request that a server has in hand, until the guard is dropped.
    pub(crate) fn in_hand(&self) -> InHand {
        let now = self.0.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.0.most_in_flight.fetch_max(now, Ordering::Relaxed);
        InHand(Arc::clone(&self.0))
    }

    fn record(&self, record: RequestRecord) {
        let mut live = self.live();
        live.requests += 1;
        if live.records.len() >= self.0.config.recorded_requests {
            live.records.pop_front();
        }
        if self.0.config.recorded_requests > 0 {
            live.records.push_back(record);
        }
    }

    /// The world and its rows at an instant.
    fn snapshot(&self, now: OffsetDateTime) -> (Arc<Timeline>, Arc<Snapshot>) {
        let mut served = self.served();
        let now = micros(now);
        let revision = served.timeline.revision(now);
        let kept = served.snapshot.as_ref().filter(|snapshot| snapshot.revision() == revision).cloned();
        let snapshot = kept.unwrap_or_else(|| Arc::new(Snapshot::new(&served.timeline, now)));
        served.snapshot = Some(Arc::clone(&snapshot));
        (Arc::clone(&served.timeline), snapshot)
    }

    fn timeline(&self) -> Arc<Timeline> {
        Arc::clone(&self.served().timeline)
    }

    fn served(&self) -> MutexGuard<'_, Served> {
        self.0.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that a server has in hand.
pub(crate) struct InHand(Arc<Shared>);

impl Drop for InHand {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_clock_moves_only_when_told() {
        let config = SimulatorConfig { clock: ClockMode::Frozen, ..SimulatorConfig::default() };
        let simulator = Simulator::new(World::empty(), config);
        let start = simulator.now();
        assert_eq!(simulator.now(), start);
        simulator.advance(Duration::hours(1));
        assert_eq!(simulator.now(), start + Duration::hours(1));
        simulator.set_now(start);
        assert_eq!(simulator.now(), start);
    }

    #[test]
    fn the_most_requests_in_hand_are_remembered_until_a_reset() {
        let simulator = Simulator::new(World::empty(), SimulatorConfig::default());
        let first = simulator.in_hand();
        drop(simulator.in_hand());
        assert_eq!(simulator.most_in_flight(), 2);
        simulator.reset_counters();
        assert_eq!(simulator.most_in_flight(), 1, "one is still in hand");
        drop(first);
        drop(simulator.in_hand());
        assert_eq!(simulator.most_in_flight(), 1);
    }
}
