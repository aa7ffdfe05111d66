//! A failure made smaller: steps, kinds of faults, clients and single interventions are dropped while it still fails.

use crate::run::run;
use crate::scenario::Scenario;
use crate::world::Outcome;

/// Runs that the shrinker may make.
const RUNS_MAX: usize = 300;

/// A smaller scenario that fails, too; the same one if none was found.
#[must_use]
pub fn shrink(scenario: &Scenario) -> Scenario {
    let mut shrinker = Shrinker { best: scenario.clone(), runs: 0 };
    shrinker.fewer_steps();
    for fault in scenario.faults.clone() {
        shrinker.attempt(|smaller| smaller.faults.retain(|kept| *kept != fault));
    }
    shrinker.attempt(|smaller| smaller.watchers = 0);
    shrinker.attempt(|smaller| smaller.clients = 1);
    shrinker.fewer_interventions();
    shrinker.fewer_steps();
    shrinker.best
}

struct Shrinker {
    best: Scenario,
    runs: usize,
}

impl Shrinker {
    /// Takes over a change if it still fails; returns whether it does.
    fn attempt(&mut self, change: impl FnOnce(&mut Scenario)) -> bool {
        let mut smaller = self.best.clone();
        change(&mut smaller);
        if smaller == self.best || self.runs >= RUNS_MAX || smaller.check().is_err() {
            return false;
        }
        self.runs += 1;
        let fails = matches!(run(&smaller, false).outcome, Outcome::Failed(_));
        if fails {
            self.best = smaller;
        }
        fails
    }

    fn fewer_steps(&mut self) {
        let needed = run(&self.best, false).figures.steps;
        self.attempt(|smaller| smaller.steps = smaller.steps.min(needed));
        for part in [2, 4, 8] {
            while self.attempt(|smaller| smaller.steps -= smaller.steps / part) {}
        }
    }

    /// Leaves out interventions, half of them at a time, then fewer.
    fn fewer_interventions(&mut self) {
        let made = run(&self.best, false).figures.interventions;
        let mut width = made.div_ceil(2);
        while width > 0 {
            for first in (0..made).step_by(width as usize) {
                self.attempt(|smaller| {
                    let more = (first..made.min(first + width)).filter(|n| !smaller.skipped.contains(n));
                    let more: Vec<u64> = more.collect();
                    smaller.skipped.extend(more);
                    smaller.skipped.sort_unstable();
                });
            }
            width /= 2;
        }
    }
}
