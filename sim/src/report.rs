//! How a failure is told: what does not hold, the last events of each member in one table, and how to see it again.

use std::fmt::Write as _;

use crate::scenario::Scenario;
use crate::trace::{Record, Seconds};
use crate::world::{Figures, World};

/// Rows of the table.
const ROWS: usize = 120;

/// The arguments that repeat a scenario of a seed.
#[must_use]
pub fn replay_arguments(scenario: &Scenario) -> String {
    let mut arguments = format!("run --seed {} --steps {}", scenario.seed, scenario.steps);
    let drawn = Scenario::of_seed(scenario.seed, scenario.steps);
    let without: Vec<&str> =
        drawn.faults.iter().filter(|fault| !scenario.has(**fault)).map(|fault| fault.name()).collect();
    if !without.is_empty() {
        let _ = write!(arguments, " --without {}", without.join(","));
    }
    if scenario.clients != drawn.clients {
        let _ = write!(arguments, " --clients {}", scenario.clients);
    }
    if scenario.watchers != drawn.watchers {
        let _ = write!(arguments, " --watchers {}", scenario.watchers);
    }
    if !scenario.skipped.is_empty() {
        let skipped: Vec<String> = scenario.skipped.iter().map(u64::to_string).collect();
        let _ = write!(arguments, " --skip {}", skipped.join(","));
    }
    arguments
}

/// A failure, for a person.
#[must_use]
pub fn failure(scenario: &Scenario, what: &str, figures: Figures, ids: &[u64], last: &[Record]) -> String {
    let mut text = String::new();
    let _ = writeln!(
        text,
        "seed {} FAILED at step {}, {} s: {what}",
        scenario.seed,
        figures.steps,
        Seconds(figures.simulated_us)
    );
    let faults: Vec<&str> = scenario.faults.iter().map(|fault| fault.name()).collect();
    let _ = writeln!(text, "{} members, faults: {}", scenario.members, faults.join(" "));
    let _ = writeln!(text, "last events:");
    for record in &last[last.len().saturating_sub(ROWS)..] {
        let whose =
            record.slot.and_then(|slot| ids.get(slot)).map_or(String::new(), |id| format!("{id:016x}"));
        let _ = writeln!(text, "  {:>14}  {whose:16}  {}", Seconds(record.at).to_string(), record.what);
    }
    let _ = writeln!(text, "replay: cargo run --release -p stanchion-sim -- {}", replay_arguments(scenario));
    text
}

/// A failure of a world that has just run.
#[must_use]
pub fn failure_of(scenario: &Scenario, world: &World, what: &str) -> String {
    failure(scenario, what, world.figures(), &world.member_ids(), &world.trace.last())
}
