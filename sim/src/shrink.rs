//! A failure made smaller: steps, kinds of faults, clients and single interventions are dropped while it still fails in
//! the same way.

use crate::run::run;
use crate::scenario::Scenario;
use crate::world::{Figures, Outcome};

/// Runs that the shrinker may make.
const RUNS_MAX: usize = 300;

/// What a run of a scenario said, and its figures; `None` if nothing failed.
type Failing<'a> = dyn Fn(&Scenario) -> Option<(String, Figures)> + 'a;

/// A smaller scenario that fails in the same way; the same one if none was found.
#[must_use]
pub fn shrink(scenario: &Scenario) -> Scenario {
    shrink_by(scenario, &|smaller| {
        let run = run(smaller, false);
        match run.outcome {
            Outcome::Failed(what) => Some((what, run.figures)),
            _ => None,
        }
    })
}

fn shrink_by(scenario: &Scenario, failing: &Failing<'_>) -> Scenario {
    let Some((what, figures)) = failing(scenario) else { return scenario.clone() };
    let mut shrinker = Shrinker { best: scenario.clone(), figures, kind: kind(&what), failing, runs: 0 };
    shrinker.fewer_steps();
    for fault in scenario.faults.clone() {
        shrinker.attempt(|smaller| smaller.faults.retain(|kept| *kept != fault));
    }
    shrinker.attempt(|smaller| (smaller.electors, smaller.observers) = (0, 0));
    shrinker.attempt(|smaller| smaller.observers = 0);
    shrinker.attempt(|smaller| smaller.watchers = 0);
    shrinker.attempt(|smaller| smaller.clients = 1);
    shrinker.fewer_interventions();
    shrinker.fewer_steps();
    shrinker.best
}

/// What kind of failure it is: its words, without numbers, names and values.
fn kind(what: &str) -> String {
    let word = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase());
    let words = what.split_whitespace().map(|word| word.trim_matches([',', ':', '.']));
    words.filter(word).take(12).collect::<Vec<_>>().join(" ")
}

struct Shrinker<'a> {
    best: Scenario,
    /// Of the run of `best`.
    figures: Figures,
    kind: String,
    failing: &'a Failing<'a>,
    runs: usize,
}

impl Shrinker<'_> {
    /// Takes over a change if it still fails; returns whether it does.
    fn attempt(&mut self, change: impl FnOnce(&mut Scenario)) -> bool {
        let mut smaller = self.best.clone();
        change(&mut smaller);
        if smaller == self.best || self.runs >= RUNS_MAX || smaller.check().is_err() {
            return false;
        }
        self.runs += 1;
        match (self.failing)(&smaller) {
            Some((what, figures)) if kind(&what) == self.kind => {
                (self.best, self.figures) = (smaller, figures);
                true
            }
            _ => false,
        }
    }

    fn fewer_steps(&mut self) {
        let needed = self.figures.steps;
        self.attempt(|smaller| smaller.steps = smaller.steps.min(needed));
        for part in [2, 4, 8] {
            while self.attempt(|smaller| smaller.steps -= smaller.steps / part) {}
        }
    }

    /// Leaves out interventions, half of them at a time, then fewer.
    fn fewer_interventions(&mut self) {
        let made = self.figures.interventions;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Fault;

    #[test]
    fn what_a_failure_does_not_need_goes_and_another_failure_does_not_count() {
        let scenario = Scenario {
            faults: vec![Fault::Loss, Fault::Kill, Fault::Pause],
            clients: 5,
            watchers: 3,
            ..Scenario::of_seed(1, 12_000)
        };
        // Needs kills, the 5th intervention and 700 steps; one of fewer than 600 steps fails for another reason.
        let failing = |smaller: &Scenario| {
            let figures = Figures { steps: smaller.steps, interventions: 20, ..Figures::default() };
            match smaller {
                Scenario { steps: ..600, .. } => Some(("too short".to_owned(), figures)),
                smaller if !smaller.has(Fault::Kill) || smaller.skipped.contains(&5) => None,
                Scenario { steps: ..700, .. } => None,
                _ => Some((format!("broken at {}", smaller.steps), figures)),
            }
        };
        let smaller = shrink_by(&scenario, &failing);
        assert_eq!(smaller.faults, [Fault::Kill]);
        assert_eq!((smaller.clients, smaller.watchers), (1, 0));
        assert!((700..1000).contains(&smaller.steps), "{}", smaller.steps);
        assert_eq!(smaller.skipped, (0..20).filter(|n| *n != 5).collect::<Vec<_>>());
        assert_eq!(shrink_by(&scenario, &|_| None), scenario);
    }

    #[test]
    fn a_kind_of_failure_has_no_numbers_and_values() {
        assert_eq!(kind("member 5b03 applies 261 right after 258"), "member applies right after");
        assert_eq!(kind("member ab1 applies 7 right after 5"), kind("member 99 applies 1 right after 0"));
    }
}
