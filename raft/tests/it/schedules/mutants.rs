//! Deliberate mistakes of `raft/src/mutant.rs` that the schedules must find.
//!
//!     cargo test -p stanchion-raft --features mutants --test it mutants -- --nocapture

use std::panic::{AssertUnwindSafe, catch_unwind};

use stanchion_raft::mutant::{self, Mutant};

use super::oracle::Check;
use super::plots::PLOTS;
use super::world::Troubles;
use super::{STEPS, run};

/// Seeds tried for each mistake.
const SEEDS: u64 = 300;

/// The first schedule that notices the mistake, written or drawn, and what it sees.
fn caught(mutant: Mutant) -> Option<(String, String)> {
    mutant::set(Some(mutant));
    let written = PLOTS.iter().find_map(|(name, plot)| Some(((*name).to_owned(), noticed(plot)?)));
    let found = written.or_else(|| {
        (0..SEEDS)
            .find_map(|seed| Some((format!("seed {seed}"), noticed(|| run(seed, STEPS, Troubles::ALL))?)))
    });
    mutant::set(None);
    found
}

/// What a schedule sees. A broken node may also trip over its own assertions: that is noticing, too.
fn noticed(schedule: impl FnOnce() -> Check) -> Option<String> {
    match catch_unwind(AssertUnwindSafe(schedule)) {
        Ok(Ok(())) => None,
        Ok(Err(what)) => Some(what),
        Err(_) => Some("a panic".to_owned()),
    }
}

#[test]
fn mutants_are_caught() {
    let (even, odd): (Vec<_>, Vec<_>) = Mutant::ALL.iter().enumerate().partition(|(i, _)| i % 2 == 0);
    let results: Vec<bool> = std::thread::scope(|scope| {
        let workers = [even, odd].map(|half| {
            scope.spawn(move || {
                let report = |(_, m): (usize, &Mutant)| {
                    let found = caught(*m);
                    match &found {
                        Some((schedule, what)) => {
                            println!("{m:?}: {schedule}: {}", &what[..what.len().min(150)])
                        }
                        None => println!("{m:?}: NOT caught"),
                    }
                    found.is_some()
                };
                half.into_iter().map(report).collect::<Vec<bool>>()
            })
        });
        workers.into_iter().flat_map(|w| w.join().unwrap_or_else(|e| std::panic::resume_unwind(e))).collect()
    });
    let caught = results.iter().filter(|found| **found).count();
    println!("mutants: {caught} of {} caught", results.len());
    assert_eq!(caught, results.len());
}
