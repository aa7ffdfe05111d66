//! Whole runs: the same twice, a fixed set of seeds, and the seeds of mistakes that were found.

use stanchion_sim::run::run;
use stanchion_sim::{Fault, Outcome, Scenario};

/// Seeds of mistakes that the simulator has found in the crates below, each with what it was.
const REGRESSIONS: [(u64, &str); 5] = [
    (63, "a mark was made whose entry no hard state in the log called committed, so it did not count"),
    (
        79,
        "a log was called damaged for entries that were overwritten from below the snapshot it was opened at",
    ),
    (673, "the first entry that a release kept could not be overwritten, although it was not committed"),
    (355, "a snapshot was acknowledged before the hard state that makes its mark count was durable"),
    (167, "a release was refused as old, and the member stopped, when another one had come as far before it"),
];

fn passes(scenario: &Scenario) -> u64 {
    let run = run(scenario, false);
    assert!(!matches!(run.outcome, Outcome::Failed(_)), "{}", run.story);
    run.hash
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [1, 2, 3, 14, 23] {
        let scenario = Scenario::of_seed(seed, 3000);
        assert_eq!(passes(&scenario), passes(&scenario), "seed {seed}");
    }
    assert_ne!(passes(&Scenario::of_seed(1, 1000)), passes(&Scenario::of_seed(2, 1000)));
}

#[test]
fn a_fixed_set_of_seeds_passes() {
    for seed in 1000..1060 {
        passes(&Scenario::of_seed(seed, 4000));
    }
}

#[test]
fn what_was_found_once_stays_away() {
    for (seed, what) in REGRESSIONS {
        let run = run(&Scenario::of_seed(seed, 12_000), false);
        assert!(!matches!(run.outcome, Outcome::Failed(_)), "once found as: {what}; now: {}", run.story);
    }
}

#[test]
fn leaving_out_an_intervention_leaves_the_others_as_they_were() {
    let scenario = Scenario { faults: vec![Fault::Kill, Fault::Pause], ..Scenario::of_seed(6, 3000) };
    let without = Scenario { skipped: vec![1, 2], ..scenario.clone() };
    assert_ne!(passes(&scenario), passes(&without));
}
