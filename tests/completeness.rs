//! The promise: nothing is lost, nothing comes twice, nothing is invented.
//!
//! Random worlds over days and weeks of virtual time, polled at random
//! intervals, with random faults at random requests, crashes between any two
//! operations and rate limits. When the trouble is over and everything has been
//! listed once more, the store is compared with the simulator's truth, record by
//! record. A failure shrinks to the smallest scenario that shows it, printed with
//! everything needed to run it again.
//!
//! `SOAK_CASES` sets the number of scenarios; `make soak` runs many.
//!
//! A version that comes and goes between two polls cannot be seen by polling, so
//! versions count that showed at a poll that had no trouble.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use common::faults::{faults, is_absence};
use common::native::{Cycle, Tenant};
use common::versions::{collected, is_closed, shown, version};
use insightidr_simulator::{FaultProfile, RateLimit, Rule, SimulatorConfig, Truth, TruthAlert, World, WorldConfig};
use proptest::prelude::*;
use rapid7_insightidr::collect::checkpoint::Checkpoint;
use rapid7_insightidr::contract::{Setting, SettingValue};
use serde_json::Value;
use time::OffsetDateTime;

/// What happens around one poll.
#[derive(Debug, Clone)]
struct Poll {
    /// Minutes since the one before.
    gap: u64,
    trouble: Vec<Trouble>,
}

/// What goes wrong.
#[derive(Debug, Clone)]
enum Trouble {
    /// Fault number `kind` at requests to `place`, after some of them have
    /// passed, so many times.
    Fault { kind: usize, place: usize, after: u64, times: u64 },
    /// The step dies at this request, or before its commit.
    Crash { at: u64 },
}

/// Requests that faults are for.
const PLACES: [&str; 6] = [
    "*",
    "/idr/v2/investigations",
    "/idr/v2/investigations/*/alerts",
    "/idr/v2/investigations/*",
    "/idr/at/*",
    "/idr/at/alerts/ops/*",
];

/// Everything that decides a run.
#[derive(Debug, Clone)]
struct Scenario {
    seed: u64,
    investigations: usize,
    old_investigations: usize,
    growth_per_day: usize,
    standalone_alerts: usize,
    triage: bool,
    uninvestigated: bool,
    product_alerts: bool,
    comments: bool,
    restricted: bool,
    /// Requests a minute.
    rate_limit: Option<u64>,
    polls: Vec<Poll>,
}

fn trouble() -> impl Strategy<Value = Trouble> {
    prop_oneof![
        3 => (0..faults().len(), 0..PLACES.len(), 0_u64..60, 1_u64..6)
            .prop_map(|(kind, place, after, times)| Trouble::Fault { kind, place, after, times }),
        2 => (0_u64..150).prop_map(|at| Trouble::Crash { at }),
    ]
}

fn poll() -> impl Strategy<Value = Poll> {
    let gap = prop_oneof![6 => 1_u64..30, 3 => 30_u64..360, 1 => 360_u64..4_000];
    (gap, prop::collection::vec(trouble(), 0..3)).prop_map(|(gap, trouble)| Poll { gap, trouble })
}

fn scenario() -> impl Strategy<Value = Scenario> {
    let world = (any::<u64>(), 0_usize..40, 0_usize..10, 0_usize..60, 0_usize..20);
    let flags = prop::array::uniform5(prop::bool::weighted(0.7));
    let rate = prop::option::weighted(0.3, 40_u64..300);
    (world, flags, rate, prop::collection::vec(poll(), 1..25)).prop_map(
        |((seed, investigations, old_investigations, growth_per_day, standalone_alerts), flags, rate_limit, polls)| {
            let [triage, uninvestigated, product_alerts, comments, restricted] = flags;
            Scenario {
                seed,
                investigations,
                old_investigations,
                growth_per_day,
                standalone_alerts,
                triage,
                uninvestigated,
                product_alerts,
                comments,
                restricted,
                rate_limit,
                polls,
            }
        },
    )
}

impl Scenario {
    fn tenant(&self) -> Tenant {
        let minutes: u64 = self.polls.iter().map(|poll| poll.gap).sum();
        let world = World::generate(&WorldConfig {
            seed: self.seed,
            investigations: self.investigations,
            old_investigations: self.old_investigations,
            growth_per_day: self.growth_per_day,
            standalone_alerts: self.standalone_alerts,
            triage: self.triage,
            restricted_evidence: self.restricted,
            horizon_days: u32::try_from(minutes / 1_440 + 1).unwrap(),
            ..WorldConfig::default()
        });
        let rate_limit = self
            .rate_limit
            .map(|requests| RateLimit { requests: u32::try_from(requests).unwrap(), window: Duration::from_secs(60) });
        let mut tenant = Tenant::with(world, SimulatorConfig { rate_limit, ..SimulatorConfig::default() });
        for (key, on) in [
            ("collect_uninvestigated_alerts", self.uninvestigated),
            ("collect_product_alerts", self.product_alerts),
            ("collect_comments", self.comments),
            ("collect_restricted_evidence", self.restricted),
        ] {
            tenant.settings.push(Setting { key: key.to_owned(), value: SettingValue::Boolean(on) });
        }
        tenant
    }

    /// Whether something pretended not to be there, which is believed.
    fn has_absence(&self) -> bool {
        self.polls
            .iter()
            .flat_map(|poll| &poll.trouble)
            .any(|trouble| matches!(trouble, Trouble::Fault { kind, .. } if is_absence(&faults()[*kind])))
    }

    /// Runs everything and gives the tenant with the polls and the instant of
    /// the first that stored something, from which the look-back counts.
    fn run(&self, with_crashes: bool) -> (Tenant, Vec<Polled>, OffsetDateTime) {
        let mut tenant = self.tenant();
        let mut polls = Vec::new();
        let mut first = None;
        for poll in &self.polls {
            tenant.advance(Duration::from_secs(60 * poll.gap));
            let rules = poll.trouble.iter().filter_map(|trouble| match trouble {
                Trouble::Fault { kind, place, after, times } => {
                    Some(Rule::new(PLACES[*place], faults()[*kind].clone()).after(*after).times(*times))
                }
                Trouble::Crash { .. } => None,
            });
            tenant.link.simulator.set_faults(FaultProfile::new(rules));
            for trouble in &poll.trouble {
                if let Trouble::Crash { at } = trouble
                    && with_crashes
                {
                    tenant.die(*at);
                }
            }
            let before = tenant.link.simulator.now();
            // A cycle that is taken up again looks at what there was when it began.
            let resumed =
                tenant.checkpoint.as_deref().is_some_and(|bytes| Checkpoint::decode(bytes).unwrap().cycle.is_some());
            let cycle = tenant.cycle();
            if tenant.checkpoint.is_some() {
                first = first.or(Some(before));
            }
            let after = tenant.link.simulator.now();
            polls.push(Polled { before, after, sound: is_sound(&cycle) && !resumed && after == before });
        }
        tenant.link.simulator.set_faults(FaultProfile::default());
        for _ in 0..5 {
            tenant.advance(Duration::from_secs(6 * 3_600));
            first = first.or(Some(tenant.link.simulator.now()));
            tenant.cycle();
        }
        let last = tenant.cycle();
        assert!(is_sound(&last), "when the trouble is over all is well: {last:#?}");
        (tenant, polls, first.unwrap())
    }
}

/// When a poll was, and whether it had no trouble.
struct Polled {
    before: OffsetDateTime,
    after: OffsetDateTime,
    sound: bool,
}

fn is_sound(cycle: &Cycle) -> bool {
    cycle.failure.is_none() && cycle.degraded.is_empty()
}

/// The overlap, and the seconds that times are cut by.
const OVERLAP: time::Duration = time::Duration::minutes(20);

/// Whether a collector that reads again as far back as the overlap can have
/// seen the alert.
fn is_in_time(alert: &TruthAlert) -> bool {
    alert.visible_at - alert.created <= OVERLAP && alert.on_row_at - alert.created <= OVERLAP
}

fn compare(scenario: &Scenario, tenant: &Tenant, polls: &[Polled], first_poll: OffsetDateTime) {
    let truth = tenant.link.simulator.truth();
    let floor = first_poll - time::Duration::days(28);
    let versions = collected(tenant);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for artifact in tenant.store.values() {
        *counts.entry(artifact["sourceInfo"].as_str().unwrap()).or_default() += 1;
    }
    let mut collected_investigations = BTreeSet::new();
    for one in &truth.investigations {
        let found = versions.get(&one.rrn);
        if found.is_some() {
            collected_investigations.insert(one.rrn.as_str());
        }
        if one.created > floor && one.visible_at <= truth.now && one.gone_at.is_none_or(|gone| gone > truth.now) {
            assert!(found.is_some(), "{} is missing", one.rrn);
        }
        let Some(found) = found else { continue };
        assert!(found.windows(2).all(|pair| pair[0] != pair[1]), "{} has a version twice: {found:#?}", one.rrn);
        let real: BTreeSet<String> = one.versions.iter().map(|state| version(&state.value())).collect();
        assert!(found.iter().all(|version| real.contains(version)), "{} has an invented version: {found:#?}", one.rrn);
        // What is closed is only listed again from time to time: what counts is
        // what showed at a sound poll, unless the poll before may have seen it
        // closed.
        let mut was_open = one.created > floor && !scenario.has_absence();
        for poll in polls {
            let Some(version) = shown(one, poll.before) else { continue };
            if poll.sound && was_open {
                let at = poll.before;
                assert!(found.contains(&version), "{} lacks what showed at {at}: {version} {found:#?}", one.rrn);
            }
            let later = shown(one, poll.after);
            was_open = one.created > floor
                && !scenario.has_absence()
                && !is_closed(&version)
                && later.is_some_and(|later| !is_closed(&later));
        }
        if let Some(last) = shown(one, truth.now) {
            assert_eq!(found.last(), Some(&last), "{} lacks its last state", one.rrn);
        }
    }
    compare_alerts(scenario, tenant, &truth, floor, &collected_investigations, &counts);
    for one in &truth.investigations {
        if !scenario.product_alerts || scenario.has_absence() || !collected_investigations.contains(one.rrn.as_str()) {
            continue;
        }
        let prefix = format!("{}:", one.rrn);
        let found = tenant
            .store
            .values()
            .filter(|artifact| artifact["action"] == "product_alert")
            .filter(|artifact| artifact["sourceInfo"].as_str().unwrap().starts_with(&prefix))
            .count();
        assert!(found <= one.product_alerts.len(), "alerts of other products in {}", one.rrn);
    }
}

fn compare_alerts(
    scenario: &Scenario,
    tenant: &Tenant,
    truth: &Truth,
    floor: OffsetDateTime,
    investigations: &BTreeSet<&str>,
    counts: &BTreeMap<&str, usize>,
) {
    let real: BTreeSet<&str> = truth.alerts.iter().map(|alert| alert.id.as_str()).collect();
    for artifact in tenant.store.values().filter(|artifact| artifact["action"] == "alert") {
        let id = artifact["sourceInfo"].as_str().unwrap();
        assert!(real.contains(id), "{id} is invented");
    }
    let by_id: BTreeMap<&str, &Value> =
        tenant.store.values().map(|artifact| (artifact["sourceInfo"].as_str().unwrap(), artifact)).collect();
    for alert in &truth.alerts {
        let count = counts.get(alert.id.as_str()).copied().unwrap_or(0);
        assert!(count <= 1, "{} came {count} times", alert.id);
        let wanted = match &alert.investigation {
            Some(rrn) => investigations.contains(rrn.as_str()),
            None => {
                scenario.triage
                    && scenario.uninvestigated
                    && !scenario.has_absence()
                    && alert.triage
                    && alert.created > floor
            }
        };
        if wanted && is_in_time(alert) && alert.visible_at + OVERLAP < truth.now {
            assert_eq!(count, 1, "{} of {:?} is missing", alert.id, alert.investigation);
        }
        let is_early = alert.evidence_visible_at - alert.created <= OVERLAP;
        if let Some(artifact) = by_id.get(alert.id.as_str())
            && scenario.triage
            && alert.triage
            && is_early
            && !scenario.has_absence()
        {
            let message: Value = serde_json::from_str(artifact["message"].as_str().unwrap()).unwrap();
            let tagged = artifact["tags"].as_array().is_some_and(|tags| tags.contains(&"evidence-unavailable".into()));
            let found: Vec<&str> = message["evidence"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|piece| piece["rrn"].as_str())
                .collect();
            let has_trouble = scenario.polls.iter().any(|poll| !poll.trouble.is_empty());
            if message.get("witfoo_cut").is_none() && !(tagged && has_trouble) {
                assert_eq!(found, alert.evidence, "the evidence of {}", alert.id);
            }
        }
    }
}

fn config() -> ProptestConfig {
    let cases = std::env::var("SOAK_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(48);
    let shrinks = std::env::var("SOAK_SHRINKS").ok().and_then(|most| most.parse().ok()).unwrap_or(200);
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: shrinks, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn whatever_happens_nothing_is_lost_nothing_comes_twice_and_nothing_is_invented(scenario in scenario()) {
        let (tenant, polls, first) = scenario.run(true);
        compare(&scenario, &tenant, &polls, first);
    }

    #[test]
    fn a_crash_anywhere_changes_neither_ids_nor_artifacts_nor_the_checkpoint(scenario in scenario()) {
        let mut scenario = scenario;
        scenario.rate_limit = None;
        for poll in &mut scenario.polls {
            poll.trouble.retain(|trouble| matches!(trouble, Trouble::Crash { .. }));
        }
        let (crashed, ..) = scenario.run(true);
        let (smooth, ..) = scenario.run(false);
        prop_assert_eq!(&crashed.store, &smooth.store);
        prop_assert_eq!(&crashed.checkpoint, &smooth.checkpoint);
    }
}
