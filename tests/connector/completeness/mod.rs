//! The promise: nothing is lost, nothing comes twice, nothing is invented.
//!
//! Random worlds over days and weeks of virtual time, polled at random intervals, with random settings, faults at random
//! requests, crashes between any two operations and rate limits. When the trouble is over and everything has been listed
//! once more, the store is compared with the simulator's truth, record by record. A failure shrinks to the smallest
//! scenario that shows it, printed with everything needed to run it again.
//!
//! `SOAK_CASES` sets the number of scenarios; `make soak` runs many, others each time, and prints the seed of each run.
//! `SOAK_SEED` draws those of an earlier run again. Without either the scenarios are always the same, so that a test that
//! fails says something of the change before it.
//!
//! A version that comes and goes between two polls cannot be seen by polling, so versions count that showed at a poll that
//! had no trouble.

mod compare;
mod place;
mod scenario;

use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use scenario::{Trouble, scenario};

/// Another one for each run of many scenarios.
fn seed(is_soak: bool) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    if is_soak { std::hash::RandomState::new().build_hasher().finish() } else { 20_261_128 }
}

fn config() -> ProptestConfig {
    let many = std::env::var("SOAK_CASES").ok().and_then(|cases| cases.parse().ok());
    let cases = many.unwrap_or(48);
    let shrinks = std::env::var("SOAK_SHRINKS").ok().and_then(|most| most.parse().ok()).unwrap_or(200);
    let seed =
        std::env::var("SOAK_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| seed(many.is_some()));
    // Shown with a failure, and in a soak.
    println!("SOAK_SEED={seed}");
    let rng_seed = RngSeed::Fixed(seed);
    ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_iters: shrinks,
        rng_seed,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn whatever_happens_nothing_is_lost_nothing_comes_twice_and_nothing_is_invented(scenario in scenario()) {
        compare::with_the_truth(&scenario, &scenario.run(true));
    }

    #[test]
    fn a_crash_anywhere_changes_neither_ids_nor_artifacts_nor_the_checkpoint(scenario in scenario()) {
        let mut scenario = scenario;
        // What counts requests counts those of a step that is done again: the allowance of the vendor, totals that move
        // with every search, a world that goes on with every request, and faults that strike some requests only.
        (scenario.place.loose_rrns, scenario.place.pace) = (false, 0);
        let place = &mut scenario.place;
        (place.rate_limit, place.triage_rate_limit, place.v1_rate_limit) = (None, None, None);
        for trouble in scenario.polls.iter_mut().flat_map(|poll| &mut poll.trouble) {
            if let Trouble::Fault { after, times, .. } = trouble {
                (*after, *times) = (0, u64::MAX);
            }
        }
        let (crashed, smooth) = (scenario.run(true), scenario.run(false));
        prop_assert_eq!(&crashed.tenant.store, &smooth.tenant.store);
        prop_assert_eq!(&crashed.tenant.checkpoint, &smooth.tenant.checkpoint);
    }
}
