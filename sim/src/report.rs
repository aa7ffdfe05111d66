//! How a failure is told: what does not hold, the last events of each member as a table, and how to see it again.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::scenario::Scenario;
use crate::trace::{Record, Seconds};
use crate::world::{Figures, World};

/// The commit that this program was built from, as far as that was known.
pub const COMMIT: &str = env!("STANCHION_COMMIT");

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
    for (option, chosen, drawn) in [
        ("clients", scenario.clients, drawn.clients),
        ("watchers", scenario.watchers, drawn.watchers),
        ("electors", scenario.electors, drawn.electors),
        ("observers", scenario.observers, drawn.observers),
    ] {
        if chosen != drawn {
            let _ = write!(arguments, " --{option} {chosen}");
        }
    }
    if !scenario.skipped.is_empty() {
        let skipped: Vec<String> = scenario.skipped.iter().map(u64::to_string).collect();
        let _ = write!(arguments, " --skip {}", skipped.join(","));
    }
    arguments
}

/// A failure, for a person. `last` holds the last events of each member, in order of time.
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
    let _ = writeln!(text, "commit {COMMIT}");
    let faults: Vec<&str> = scenario.faults.iter().map(|fault| fault.name()).collect();
    let _ = writeln!(text, "{} members, faults: {}", scenario.members, faults.join(" "));
    let slots: BTreeSet<Option<usize>> = last.iter().map(|record| record.slot).collect();
    for slot in slots {
        let whose = slot.and_then(|slot| ids.get(slot));
        let title = whose.map_or("the cluster".to_owned(), |id| format!("member {id:x}"));
        let _ = writeln!(text, "\nlast events of {title}");
        let _ = writeln!(text, "  {:>14} | event", "seconds");
        let _ = writeln!(text, "  {:->14}-|-{:-<60}", "", "");
        for record in last.iter().filter(|record| record.slot == slot) {
            let _ = writeln!(text, "  {:>14} | {}", Seconds(record.at).to_string(), record.what);
        }
    }
    let _ =
        writeln!(text, "\nreplay: cargo run --release -p stanchion-sim -- {}", replay_arguments(scenario));
    text
}

/// A failure of a world that has just run.
#[must_use]
pub fn failure_of(scenario: &Scenario, world: &World, what: &str) -> String {
    failure(scenario, what, world.figures(), &world.member_ids(), &world.trace.last())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::What;

    #[test]
    fn a_failure_names_seed_commit_members_and_how_to_see_it_again() {
        let scenario = Scenario { clients: 900, skipped: vec![3, 7], ..Scenario::of_seed(5, 1000) };
        let record = |at, slot, what| Record { at, slot, what };
        let last = [
            record(1, Some(0), What::Synced),
            record(2, None, What::Healed),
            record(3, Some(0), What::Killed),
        ];
        let text = failure(&scenario, "it broke", Figures::default(), &[0xabc], &last);
        for part in [
            "seed 5 FAILED",
            "it broke",
            &format!("commit {COMMIT}"),
            "last events of member abc",
            "0.000003 | KILLED",
            "last events of the cluster",
            "run --seed 5 --steps 1000 --clients 900 --skip 3,7",
        ] {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
        let (first, second) = (text.find("log synced"), text.find("KILLED"));
        assert!(first < second, "a member's events stand together and in order");
    }
}
