//! Scenarios: a world, settings, polls and what goes wrong with them; drawn at random, run in virtual time.

use std::time::Duration;

use insightidr_simulator::{Fault, FaultProfile, Rule};
use proptest::prelude::*;
use rapid7_insightidr::collect::checkpoint::Checkpoint;
use rapid7_insightidr::contract::{Setting, SettingValue};
use time::OffsetDateTime;

use crate::common::faults::{faults, is_absence, oddities};
use crate::common::native::{BUDGET, Cycle, Tenant};
use crate::completeness::place::{Place, place};

/// What happens around one poll.
#[derive(Debug, Clone)]
pub struct Poll {
    /// Minutes since the one before.
    pub gap: u64,
    /// Minutes by which the host's clock is ahead of the vendor's.
    pub ahead: i64,
    /// What goes wrong.
    pub trouble: Vec<Trouble>,
}

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum Trouble {
    /// Fault number `kind` at requests to `place`, after some of them have passed, so many times.
    Fault { kind: usize, place: usize, after: u64, times: u64 },
    /// The host dies in this step at this request, or before its commit, and does the step again.
    Crash { step: usize, at: u64 },
    /// The host dies after the commit of this step, and is not there again before the next poll.
    Leave { after: usize },
}

/// Requests that faults are for.
pub const PLACES: [&str; 9] = [
    "*",
    "/idr/v2/investigations",
    "/idr/v2/investigations/*/alerts",
    "/idr/v2/investigations/*/rapid7-product-alerts",
    "/idr/v2/investigations/*",
    "/idr/v1/*",
    "/idr/at/*",
    "/idr/at/alerts/ops/*",
    "/idr/at/alerts/*/evidences",
];

/// How it is collected.
#[derive(Debug, Clone)]
pub struct Ways {
    pub alerts: bool,
    pub evidence: bool,
    pub uninvestigated: bool,
    pub product_alerts: bool,
    pub comments: bool,
    pub restricted: bool,
    pub lookback_days: i64,
    pub overlap_minutes: i64,
    pub concurrency: i64,
    /// Requests and artifacts of a step.
    pub budget: (u32, u32),
    /// Most investigations remembered, if that is less than usual.
    pub remembered: Option<usize>,
}

/// Everything that decides a run.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub place: Place,
    pub ways: Ways,
    pub polls: Vec<Poll>,
}

/// The kinds of fault, which scenarios name by their number.
pub fn kinds() -> Vec<Fault> {
    let mut kinds = faults();
    kinds.extend(oddities());
    kinds
}

fn trouble() -> impl Strategy<Value = Trouble> {
    let early_or_late = prop_oneof![3 => 0_u64..40, 1 => 40_u64..400];
    // A moment as a rule, and as long as the poll lasts now and then.
    let times = prop_oneof![5 => 1_u64..6, 2 => 6_u64..60, 1 => Just(u64::MAX)];
    prop_oneof![
        6 => (0..kinds().len(), 0..PLACES.len(), early_or_late, times)
            .prop_map(|(kind, place, after, times)| Trouble::Fault { kind, place, after, times }),
        3 => (0_usize..5, 0_u64..150).prop_map(|(step, at)| Trouble::Crash { step, at }),
        1 => (1_usize..5).prop_map(|after| Trouble::Leave { after }),
    ]
}

fn poll() -> impl Strategy<Value = Poll> {
    let gap = prop_oneof![6 => 1_u64..30, 3 => 30_u64..360, 1 => 360_u64..4_000];
    // As a rule it is right.
    let ahead = prop_oneof![9 => Just(0_i64), 1 => 3_i64..3_000];
    (gap, ahead, prop::collection::vec(trouble(), 0..3)).prop_map(|(gap, ahead, trouble)| Poll { gap, ahead, trouble })
}

prop_compose! {
    fn ways()(
        alerts in prop::bool::weighted(0.9),
        [evidence, uninvestigated, product_alerts, comments, restricted] in prop::array::uniform5(prop::bool::weighted(0.7)),
        lookback_days in prop_oneof![3 => Just(28_i64), 1 => 1_i64..60],
        overlap_minutes in prop_oneof![3 => Just(20_i64), 1 => 5_i64..90],
        concurrency in 1_i64..32,
        budget in prop_oneof![
            3 => Just((BUDGET.requests, BUDGET.artifacts)),
            1 => (40_u32..400, 10_u32..200),
        ],
        remembered in prop::option::weighted(0.5, 40_usize..100),
    ) -> Ways {
        Ways {
            alerts, evidence, uninvestigated, product_alerts, comments, restricted, lookback_days, overlap_minutes,
            concurrency, budget, remembered,
        }
    }
}

/// Any scenario.
pub fn scenario() -> impl Strategy<Value = Scenario> {
    let calm = prop::bool::weighted(0.3);
    // Hours and days as a rule, and weeks now and then.
    let pace = prop_oneof![4 => Just(1_u64), 1 => 2_u64..8];
    let all = (place(), ways(), prop::collection::vec(poll(), 1..25), calm, pace);
    all.prop_map(|(place, ways, mut polls, calm, pace)| {
        // A world of weeks that goes on with every request of a cycle is never done with.
        let pace = if place.pace > 0 { 1 } else { pace };
        polls.iter_mut().for_each(|poll| poll.gap *= pace);
        if calm {
            // Without faults there is no excuse for anything.
            for poll in &mut polls {
                poll.trouble.retain(|trouble| !matches!(trouble, Trouble::Fault { .. }));
            }
        }
        let place = Place { silent_regions: if calm { 0 } else { place.silent_regions }, ..place };
        // With faults, or where each alert is waited for, much is owed, and what is owed has to be remembered.
        let is_little_owed = calm && !place.long_evidence_totals;
        // A page of what somebody has looked at has to fit.
        let room = if ways.comments { 110 } else { 0 };
        let remembered = ways.remembered.filter(|_| is_little_owed).map(|remembered| remembered + room);
        let ways = Ways { remembered, ..ways };
        Scenario { place, ways, polls }
    })
}

/// Rounds without anything new after which nothing more is to come, where what fails is waited for four times.
const QUIET: u32 = 8;

/// When a poll was, and whether it had no trouble.
pub struct Polled {
    /// When it began.
    pub before: OffsetDateTime,
    /// When it ended: later when the world went on meanwhile.
    pub after: OffsetDateTime,
    /// It went through, all streams of it, from its own beginning.
    pub sound: bool,
}

/// What a run came to.
pub struct Run {
    /// The tenant with its store.
    pub tenant: Tenant,
    /// The polls.
    pub polls: Vec<Polled>,
    /// The poll that first stored something, from which the look-back counts.
    pub first: OffsetDateTime,
}

impl Scenario {
    fn tenant(&self) -> Tenant {
        let (place, ways) = (&self.place, &self.ways);
        let minutes: u64 = self.polls.iter().map(|poll| poll.gap).sum();
        let mut tenant = Tenant::with(place.world(u32::try_from(minutes / 1_440 + 1).unwrap()), place.simulator());
        for (key, value) in [
            ("collect_alerts", SettingValue::Boolean(ways.alerts)),
            ("collect_evidence", SettingValue::Boolean(ways.evidence)),
            ("collect_uninvestigated_alerts", SettingValue::Boolean(ways.uninvestigated)),
            ("collect_product_alerts", SettingValue::Boolean(ways.product_alerts)),
            ("collect_comments", SettingValue::Boolean(ways.comments)),
            ("collect_restricted_evidence", SettingValue::Boolean(ways.restricted)),
            ("initial_lookback_days", SettingValue::Integer(ways.lookback_days)),
            ("overlap_minutes", SettingValue::Integer(ways.overlap_minutes)),
            ("max_concurrent_requests", SettingValue::Integer(ways.concurrency)),
        ] {
            tenant.settings.push(Setting { key: key.to_owned(), value });
        }
        tenant.link.pace = Duration::from_millis(place.pace);
        (tenant.budget.requests, tenant.budget.artifacts) = ways.budget;
        tenant.bounds.known = ways.remembered.unwrap_or(tenant.bounds.known);
        tenant
    }

    /// The overlap.
    pub fn overlap(&self) -> time::Duration {
        time::Duration::minutes(self.ways.overlap_minutes)
    }

    /// Whether something pretended not to be there, which is believed.
    pub fn has_absence(&self) -> bool {
        self.polls
            .iter()
            .flat_map(|poll| &poll.trouble)
            .any(|trouble| matches!(trouble, Trouble::Fault { kind, .. } if is_absence(&kinds()[*kind])))
    }

    /// Whether any answer was wrong.
    pub fn has_faults(&self) -> bool {
        let is_fault = |trouble: &Trouble| matches!(trouble, Trouble::Fault { .. });
        self.place.silent_regions > 0 || self.polls.iter().flat_map(|poll| &poll.trouble).any(is_fault)
    }

    /// Runs everything, then lets a day pass without trouble.
    pub fn run(&self, with_crashes: bool) -> Run {
        let mut tenant = self.tenant();
        let mut polls = Vec::new();
        let mut first = None;
        for poll in &self.polls {
            tenant.advance(Duration::from_secs(60 * poll.gap));
            tenant.link.skew.set(60 * poll.ahead);
            tenant.link.simulator.set_faults(FaultProfile::new(poll.trouble.iter().filter_map(rule)));
            for trouble in &poll.trouble {
                match trouble {
                    Trouble::Crash { step, at } if with_crashes => tenant.deaths.push((*step, *at)),
                    Trouble::Leave { after } => tenant.leaves_after = Some(*after),
                    _ => {}
                }
            }
            let before = tenant.link.simulator.now();
            // A cycle that is taken up again looks at what there was when it began.
            let resumed =
                tenant.checkpoint.clone().is_some_and(|bytes| Checkpoint::decode(bytes).unwrap().cycle.is_some());
            let cycle = tenant.cycle();
            if tenant.checkpoint.is_some() {
                first = first.or(Some(before));
            }
            let after = tenant.link.simulator.now();
            polls.push(Polled { before, after, sound: is_sound(&cycle) && !resumed });
        }
        tenant.link.simulator.set_faults(FaultProfile::default());
        tenant.link.simulator.set_silent_regions(0);
        tenant.link.skew.set(0);
        // What counts what it never has is waited for four times, each time longer; and some of that shows up four days late.
        let late = if self.place.odd.late_alerts_percent > 0 { 4 * 4 } else { 0 };
        let least = if self.place.long_evidence_totals { 9 + late } else { 5 };
        let (mut rounds, mut quiet) = (0, 0);
        // Where the vendor's limit is small besides, that goes through what waits by a few at a time: until nothing has come
        // for longer than a failure is waited for.
        while rounds < least || (self.place.long_evidence_totals && quiet < QUIET) {
            assert!(rounds < 1_000, "it never ends");
            rounds += 1;
            tenant.advance(Duration::from_secs(6 * 3_600));
            first = first.or(Some(tenant.link.simulator.now()));
            let before = tenant.store.len();
            whole_cycle(&mut tenant);
            // What comes last in a cycle may have met the limit, and a poll follows within minutes.
            tenant.advance(Duration::from_secs(61));
            whole_cycle(&mut tenant);
            quiet = if tenant.store.len() > before { 0 } else { quiet + 1 };
        }
        let last = whole_cycle(&mut tenant);
        assert!(is_sound(&last), "when the trouble is over all is well: {last:#?}");
        Run { tenant, polls, first: first.unwrap() }
    }
}

/// A cycle to its end: a rate limit that does not say when to come back ends a poll before that.
fn whole_cycle(tenant: &mut Tenant) -> Cycle {
    for _ in 0..1_000 {
        let cycle = tenant.cycle();
        let is_limited =
            cycle.failure.iter().chain(cycle.degraded.values()).any(|failure| failure.http_status == Some(429));
        if !is_limited {
            return cycle;
        }
        tenant.advance(Duration::from_secs(61));
    }
    panic!("a cycle never ends");
}

/// The rule of a fault.
fn rule(trouble: &Trouble) -> Option<Rule> {
    match trouble {
        Trouble::Fault { kind, place, after, times } => {
            Some(Rule::new(PLACES[*place], kinds()[*kind].clone()).after(*after).times(*times))
        }
        Trouble::Crash { .. } | Trouble::Leave { .. } => None,
    }
}

fn is_sound(cycle: &Cycle) -> bool {
    cycle.failure.is_none() && cycle.degraded.is_empty() && !cycle.left
}
