//! Places: a tenant's world and how the vendor serves it, drawn at random.

use std::time::Duration;

use insightidr_simulator::{NullTimes, Oddities, RateLimit, SimulatorConfig, World, WorldConfig};
use proptest::prelude::*;

/// What there is.
#[derive(Debug, Clone)]
pub struct Place {
    pub seed: u64,
    pub investigations: usize,
    pub old_investigations: usize,
    pub growth_per_day: usize,
    pub standalone_alerts: usize,
    /// Of an investigation, about.
    pub alerts: usize,
    /// Pieces of evidence of an alert, at most.
    pub evidence: usize,
    pub triage: bool,
    pub restricted: bool,
    /// Lists of alerts by RRN lack what single reads have.
    pub thin_hydration: bool,
    /// Searches for RRNs alone have totals that move and pages that repeat a row.
    pub loose_rrns: bool,
    /// What is missing is 404 and not 403.
    pub missing_is_404: bool,
    pub nulls_last: bool,
    /// Of a hundred rows so many never show when their alerts were.
    pub untimed: u8,
    /// Seconds to a multiple of which windows are cut at their beginning.
    pub start_cut: u64,
    /// Lists have no totals.
    pub no_totals: bool,
    /// In so many of a thousand minutes the triage API answers with a part of its data.
    pub silent_regions: u16,
    /// What does not answer then has nothing.
    pub silent_regions_are_empty: bool,
    /// A page behind the last one of a list is 404.
    pub refuses_page_behind: bool,
    /// Requests in each window of so many minutes.
    pub rate_limit: Option<u32>,
    /// Those minutes.
    pub rate_window: u32,
    /// The same for the triage API, where it counts for itself.
    pub triage_rate_limit: Option<u32>,
    /// The same for version 1.
    pub v1_rate_limit: Option<u32>,
    /// It says what is left of them, and when there are more.
    pub rate_headers: bool,
    /// Lists of evidence count one more than there is.
    pub long_evidence_totals: bool,
    /// Lists can be asked for by all statuses that the connector asks for.
    pub knows_waiting: bool,
    /// What comes in pieces, late, again and again, or not at all.
    pub odd: Oddities,
    /// Searches for alerts go by when these were raised.
    pub by_alerted: bool,
    /// Milliseconds for which the world goes on with each request: during polls, too.
    pub pace: u64,
}

prop_compose! {
    /// None of each as a rule. An investigation of many alerts takes long: there is one now and then.
    fn oddities()(
        piecemeal_percent in prop_oneof![2 => Just(0_u8), 1 => 1_u8..=100],
        sparse_percent in prop_oneof![2 => Just(0_u8), 1 => 1_u8..50],
        late_extras_percent in prop_oneof![2 => Just(0_u8), 1 => 1_u8..=100],
        late_alerts_percent in prop_oneof![2 => Just(0_u8), 1 => 1_u8..=100],
        (growing_investigations, growing_alerts) in prop_oneof![
            40 => Just((0_usize, 0_usize)),
            1 => (Just(1), 200_usize..1_200),
        ],
    ) -> Oddities {
        Oddities {
            piecemeal_percent,
            sparse_percent,
            late_extras_percent,
            growing_investigations,
            growing_alerts,
            late_alerts_percent,
        }
    }
}

prop_compose! {
    /// Any place.
    pub fn place()(
        seed in any::<u64>(),
        counts in (0_usize..40, 0_usize..10, 0_usize..60, 0_usize..20),
        triage in prop::bool::weighted(0.8),
        restricted in prop::bool::weighted(0.7),
        [thin_hydration, missing_is_404, nulls_last, rate_headers] in prop::array::uniform4(any::<bool>()),
        loose_rrns in prop::bool::weighted(0.3),
        [rate_limit, triage_rate_limit, v1_rate_limit] in prop::array::uniform3(prop::option::weighted(0.3, 40_u32..300)),
        rate_window in prop_oneof![3 => Just(1_u32), 1 => Just(15_u32)],
        (silent_regions, silent_regions_are_empty) in prop_oneof![
            8 => Just((0_u16, false)),
            2 => (20_u16..400, any::<bool>()),
            1 => Just((1_000, true)),
        ],
        refuses_page_behind in prop::bool::weighted(0.3),
        pace in prop_oneof![3 => Just(0_u64), 1 => 1_u64..3_000],
        untimed in prop_oneof![2 => Just(0_u8), 1 => 1_u8..=100],
        start_cut in prop_oneof![4 => Just(0_u64), 1 => Just(1_u64), 1 => Just(60_u64)],
        no_totals in prop::bool::weighted(0.1),
        [long_evidence_totals, refuses_waiting] in prop::array::uniform2(prop::bool::weighted(0.1)),
        by_alerted in prop::bool::weighted(0.2),
        odd in oddities(),
        // Now and then several pages of alerts, or of evidence, and then of little.
        (alerts, evidence) in prop_oneof![16 => Just((2, 3)), 2 => (60_usize..130, Just(1)), 2 => (Just(1), 80_usize..250)],
    ) -> Place {
        let (investigations, old_investigations, growth_per_day, standalone_alerts) = counts;
        let few = if (alerts, evidence) == (2, 3) && odd.growing_investigations == 0 { 1 } else { 8 };
        let in_a_window = |requests: Option<u32>| requests.map(|requests| requests * rate_window);
        Place {
            seed, alerts, evidence, triage, restricted, thin_hydration, missing_is_404, nulls_last, rate_window,
            rate_limit: in_a_window(rate_limit),
            triage_rate_limit: in_a_window(triage_rate_limit),
            v1_rate_limit: in_a_window(v1_rate_limit),
            rate_headers, silent_regions, loose_rrns, pace, odd, long_evidence_totals, by_alerted,
            untimed, start_cut, no_totals, silent_regions_are_empty,
            knows_waiting: !refuses_waiting,
            // Without totals nothing tells which page is behind the last.
            refuses_page_behind: refuses_page_behind && !no_totals,
            investigations: investigations / few,
            old_investigations: old_investigations / few,
            growth_per_day: growth_per_day / few,
            standalone_alerts: standalone_alerts / few,
        }
    }
}

impl Place {
    /// The world, in which things happen for so many days.
    pub fn world(&self, horizon_days: u32) -> World {
        World::generate(&WorldConfig {
            seed: self.seed,
            investigations: self.investigations,
            old_investigations: self.old_investigations,
            growth_per_day: self.growth_per_day,
            standalone_alerts: self.standalone_alerts,
            alerts_per_investigation: self.alerts,
            evidence_per_alert: self.evidence,
            triage: self.triage,
            restricted_evidence: self.restricted,
            untimed_percent: self.untimed,
            odd: self.odd,
            horizon_days,
            ..WorldConfig::default()
        })
    }

    /// How it is served.
    pub fn simulator(&self) -> SimulatorConfig {
        let missing = if self.missing_is_404 { 404 } else { 403 };
        let window = Duration::from_secs(60 * u64::from(self.rate_window));
        let limit = |requests: Option<u32>| requests.map(|requests| RateLimit { requests, window });
        SimulatorConfig {
            rate_limit: limit(self.rate_limit),
            triage_rate_limit: limit(self.triage_rate_limit),
            v1_rate_limit: limit(self.v1_rate_limit),
            rate_headers: self.rate_headers,
            thin_hydration: self.thin_hydration,
            loose_rrns: self.loose_rrns,
            silent_regions: self.silent_regions,
            silent_regions_are_empty: self.silent_regions_are_empty,
            page_behind: if self.refuses_page_behind { 404 } else { 200 },
            long_evidence_totals: self.long_evidence_totals,
            knows_waiting: self.knows_waiting,
            no_triage_status: missing,
            no_restricted_status: missing,
            start_cut: Duration::from_secs(self.start_cut),
            searches_by_alerted: self.by_alerted,
            no_totals: self.no_totals,
            null_times: if self.nulls_last { NullTimes::Last } else { NullTimes::First },
            ..SimulatorConfig::default()
        }
    }
}
