//! Random schedules of whole clusters, checked after every step, and proof that the checks bite.
//!
//! `STANCHION_SCHEDULES` sets how many are run (2,000 steps each); `STANCHION_SEED` runs one. A failing schedule is
//! shrunk: fewer kinds of trouble, then fewer steps.
#![allow(unreachable_pub, reason = "parts of one test module")]
#![expect(clippy::print_stdout, reason = "a run says how many schedules it took")]

mod direct;
mod heal;
mod oracle;
mod plots;
mod world;

#[cfg(feature = "mutants")]
mod mutants;

use std::sync::atomic::{AtomicU64, Ordering};

use oracle::Check;
use world::{Troubles, World};

const STEPS: u32 = 2_000;

/// One schedule: troubles for some steps, then peace.
fn run(seed: u64, steps: u32, troubles: Troubles) -> Check {
    let mut world = World::new(seed, troubles);
    for step in 0..steps {
        world.step().map_err(|what| format!("step {step}: {what}"))?;
    }
    world.heal()
}

/// The smallest failure that is still one, in words.
fn shrink(seed: u64) -> String {
    let (mut steps, mut troubles) = (STEPS, Troubles::ALL);
    let Err(mut what) = run(seed, steps, troubles) else { return "it passes now".to_owned() };
    loop {
        let fewer = troubles.fewer().into_iter().find_map(|less| Some((less, run(seed, steps, less).err()?)));
        let Some((less, failure)) = fewer else { break };
        (troubles, what) = (less, failure);
    }
    while let Err(failure) = run(seed, steps / 2, troubles) {
        (steps, what) = (steps / 2, failure);
        if steps == 0 {
            break;
        }
    }
    format!("{what}\n  seed {seed}, {steps} steps, {troubles:?}; again: STANCHION_SEED={seed}")
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")))
}

#[test]
fn invariants_hold_in_random_schedules() {
    if let Some(seed) = number("STANCHION_SEED") {
        assert_eq!(run(seed, STEPS, Troubles::ALL), Ok(()), "{}", shrink(seed));
        return;
    }
    let count = number("STANCHION_SCHEDULES").unwrap_or(600);
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let failures: Vec<u64> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut failed = Vec::new();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= count || failed.len() > 3 {
                            return failed;
                        }
                        if run(seed, STEPS, Troubles::ALL).is_err() {
                            failed.push(seed);
                        }
                    }
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_else(|_| vec![u64::MAX])).collect()
    });
    println!("schedules: {count} of {STEPS} steps, {} failed", failures.len());
    assert!(failures.is_empty(), "seeds {failures:?}: {}", shrink(failures[0]));
}
