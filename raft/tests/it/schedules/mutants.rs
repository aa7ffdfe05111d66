//! Deliberate mistakes of `raft/src/mutant.rs` that random schedules must find.
//!
//!     cargo test -p stanchion-raft --features mutants --test it mutants -- --nocapture

use std::panic::{AssertUnwindSafe, catch_unwind};

use stanchion_raft::mutant::{self, Mutant};

use super::world::Troubles;
use super::{STEPS, run};

/// Mistakes that no schedule has provoked so far: they need rarer timing (a deposed leader that still answers reads,
/// two changes of a joint configuration under way, a write overtaken twice). They are printed, not counted.
const UNPROVOKED: &[Mutant] = &[
    Mutant::VoteIgnoresOutgoing,
    Mutant::StaleStorageAck,
    Mutant::CommitOldTerm,
    Mutant::AckWholeLog,
    Mutant::CommitBeyondMatch,
    Mutant::CampaignWithPendingConf,
    Mutant::TwoPendingConfChanges,
    Mutant::OldSnapshotInstalled,
    Mutant::ReadAckOfAnyRound,
    Mutant::ReadsAnsweredOnStepDown,
];

/// Seeds tried for each mistake.
const SEEDS: u64 = 3_000;

/// The first schedule that notices the mistake, and what it sees.
fn caught(mutant: Mutant) -> Option<(u64, String)> {
    mutant::set(Some(mutant));
    let found = (0..SEEDS).find_map(|seed| {
        // A broken node may also trip over its own assertions: that is noticing, too.
        let outcome = catch_unwind(AssertUnwindSafe(|| run(seed, STEPS, Troubles::ALL)));
        match outcome {
            Ok(Ok(())) => None,
            Ok(Err(what)) => Some((seed, what)),
            Err(_) => Some((seed, "a panic".to_owned())),
        }
    });
    mutant::set(None);
    found
}

#[test]
fn mutants_are_caught() {
    let results: Vec<(Mutant, Option<(u64, String)>)> = std::thread::scope(|scope| {
        let provoked: Vec<Mutant> = Mutant::ALL.iter().copied().filter(|m| !UNPROVOKED.contains(m)).collect();
        let (even, odd): (Vec<_>, Vec<_>) = provoked.into_iter().enumerate().partition(|(i, _)| i % 2 == 0);
        let workers = [even, odd].map(|half| {
            scope.spawn(move || half.into_iter().map(|(_, m)| (m, caught(m))).collect::<Vec<_>>())
        });
        workers.into_iter().flat_map(|w| w.join().unwrap_or_else(|e| std::panic::resume_unwind(e))).collect()
    });
    for (mutant, found) in &results {
        match found {
            Some((seed, what)) => println!("{mutant:?}: seed {seed}: {}", &what[..what.len().min(150)]),
            None => println!("{mutant:?}: NOT caught"),
        }
    }
    println!("not provoked by any schedule: {UNPROVOKED:?}");
    let caught = results.iter().filter(|(_, found)| found.is_some()).count();
    println!("mutants: {caught} of {} caught", results.len());
    assert_eq!(caught, results.len());
}
