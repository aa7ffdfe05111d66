//! Whole runs: the same twice, a fixed set of seeds, and the seeds of mistakes that were found.

use std::process::Command;

use stanchion_sim::run::run;
use stanchion_sim::{Fault, Outcome, Scenario, replay};

/// Seeds of mistakes that the simulator has found in the crates below, each with what it was. What a seed draws has grown
/// since the first of them, so they are starting points as good as others; the mistakes have tests beside the code.
const REGRESSIONS: [(u64, &str); 11] = [
    (63, "a mark was made whose entry no hard state in the log called committed, so it did not count"),
    (
        79,
        "a log was called damaged for entries that were overwritten from below the snapshot it was opened at",
    ),
    (673, "the first entry that a release kept could not be overwritten, although it was not committed"),
    (355, "a snapshot was acknowledged before the hard state that makes its mark count was durable"),
    (167, "a release was refused as old, and the member stopped, when another one had come as far before it"),
    (
        1_795_290_834_332_001_085,
        "several databases waited to be installed, and a release removed one of them by count",
    ),
    (
        1_795_290_575_175_036_675,
        "a release wrote its mark behind that of a leader's snapshot which had overtaken it, and the log ended there",
    ),
    (
        1_795_290_575_175_025_544,
        "a bit turned over in the log's last record, which then passed for a torn end",
    ),
    (
        1_795_290_834_332_008_243,
        "etcd's trap, no bug: who was promoted, has the longest log and does not know it bars the others",
    ),
    (1_795_290_575_175_039_697, "the same without pre-vote"),
    (
        1_795_329_888_216_008_266,
        "a mark whose snapshot was never taken up counted once the entries themselves had been committed",
    ),
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
    let faults = vec![Fault::Kill, Fault::Pause];
    let scenario = Scenario { faults, intervention_us: 300_000, ..Scenario::of_seed(6, 3000) };
    let without = Scenario { skipped: vec![1, 2], ..scenario.clone() };
    assert_ne!(passes(&scenario), passes(&without));
}

/// Runs the program; its exit code, output and errors.
fn program(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_stanchion-sim")).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_program_runs_seeds_replay_files_and_pictures_and_says_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (file, picture) = (path("seed.json"), path("run.html"));
    let (code, out, _) = program(&["run", "--seed", "7", "--steps", "500"]);
    let trace = out.lines().last().unwrap().to_owned();
    assert!(code == Some(0) && trace.starts_with("trace ") && trace.len() == "trace ".len() + 16, "{out}");
    replay::write(file.as_ref(), &Scenario::of_seed(7, 500)).unwrap();
    let (code, out, _) = program(&["run", "--replay", &file, "--timeline", &picture]);
    assert_eq!((code, out.lines().last()), (Some(0), Some(trace.as_str())));
    assert!(std::fs::read_to_string(picture).unwrap().contains("<svg"));
    let (code, out, _) = program(&["soak", "--seed", "7", "--seeds", "2", "--steps", "500"]);
    assert_eq!((code, out.lines().last()), (Some(0), Some("seeds: 2 run, 0 failed")));
    std::fs::write(&file, "{").unwrap();
    for (arguments, reason) in [
        (&["run", "--replay", file.as_str()][..], "line 1"),
        (&["run", "--replay", "/nonexistent"], "No such file"),
        (&["run", "--colour"], "unknown option"),
        (&["run", "--members", "9"], "1 to 7 founding members, not 9"),
        (&["dance"], "unknown command"),
    ] {
        let (code, _, errors) = program(arguments);
        assert!(code == Some(2) && errors.contains(reason), "{arguments:?}: {code:?} {errors}");
    }
}
