//! The deliberate mistakes of all crates by name, and the seeds that are known to find them.
//!
//! `sim/MUTANTS.md` is both the list for readers and the table that is read here; the command `mutants` writes it.

use std::fmt::{Debug, Write as _};

use crate::mutant;
use crate::run::run;
use crate::scenario::{Fault, STEPS, Scenario};
use crate::world::Outcome;

/// The list, as of this build.
const LIST: &str = include_str!("../MUTANTS.md");

/// A mistake that can be switched on for the current thread.
pub struct Mistake {
    /// The crate and the mistake, as in `raft::QuorumOffByOne`.
    pub name: String,
    switch: Box<dyn Fn(bool)>,
}

/// How a mistake was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caught {
    /// The mistake's name.
    pub name: String,
    /// The first seed that found it, among those that were tried.
    pub seed: u64,
    /// Tenths of a second that the search took.
    pub tenths: u64,
    /// What the checker said, on one line.
    pub what: String,
}

/// These need joint configurations, which members of this cluster never propose.
const UNREACHABLE: [stanchion_raft::mutant::Mutant; 4] = {
    use stanchion_raft::mutant::Mutant;
    [
        Mutant::CommitIgnoresOutgoing,
        Mutant::VoteIgnoresOutgoing,
        Mutant::SnapshotForgetsOutgoing,
        Mutant::AutoLeaveNever,
    ]
};

/// All mistakes that a run can meet.
#[must_use]
pub fn all() -> Vec<Mistake> {
    let raft: Vec<_> = stanchion_raft::mutant::Mutant::ALL
        .iter()
        .copied()
        .filter(|mistake| !UNREACHABLE.contains(mistake))
        .collect();
    [
        of("sim", mutant::Mutant::ALL, mutant::set),
        of("raft", &raft, stanchion_raft::mutant::set),
        of("wal", stanchion_wal::mutant::Mutant::ALL, stanchion_wal::mutant::set),
        of("bolt", stanchion_bolt::mutant::Mutant::ALL, stanchion_bolt::mutant::set),
        of("mvcc", stanchion_mvcc::mutant::Mutant::ALL, stanchion_mvcc::mutant::set),
        of("lease", stanchion_lease::mutant::Mutant::ALL, stanchion_lease::mutant::set),
        of("watch", stanchion_watch::mutant::Mutant::ALL, stanchion_watch::mutant::set),
        of("replica", stanchion_replica::mutant::Mutant::ALL, stanchion_replica::mutant::set),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn of<M: Debug + Copy + 'static>(of: &str, all: &[M], set: fn(Option<M>)) -> Vec<Mistake> {
    let one = |mistake: &M| {
        let mistake = *mistake;
        Mistake { name: format!("{of}::{mistake:?}"), switch: Box::new(move |on| set(on.then_some(mistake))) }
    };
    all.iter().map(one).collect()
}

impl Mistake {
    /// What the checkers say of a scenario with this mistake in the code; `None` if nothing, or if they say something
    /// without it, too.
    #[must_use]
    pub fn found_by(&self, scenario: &Scenario) -> Option<String> {
        (self.switch)(true);
        let outcome = run(scenario, false).outcome;
        (self.switch)(false);
        match outcome {
            Outcome::Failed(what) if !matches!(run(scenario, false).outcome, Outcome::Failed(_)) => {
                Some(what)
            }
            _ => None,
        }
    }
}

/// The scenario in which a seed looks for mistakes. Turned bits excuse members that do not start, so there are none.
#[must_use]
pub fn scenario(seed: u64) -> Scenario {
    let mut scenario = Scenario::of_seed(seed, STEPS);
    scenario.faults.retain(|fault| !matches!(fault, Fault::BitFlip));
    scenario
}

/// The mistakes that are known to be found, with their seeds.
#[must_use]
pub fn known() -> Vec<Caught> {
    LIST.lines().filter_map(read_row).collect()
}

fn read_row(line: &str) -> Option<Caught> {
    let cells: Vec<&str> = line.strip_prefix('|')?.strip_suffix('|')?.splitn(4, '|').map(str::trim).collect();
    let [name, seed, seconds, what] = cells[..] else { return None };
    let (whole, tenth) = seconds.split_once('.')?;
    Some(Caught {
        name: name.trim_matches('`').to_owned(),
        seed: seed.parse().ok()?,
        tenths: whole.parse::<u64>().ok()? * 10 + tenth.parse::<u64>().ok()?,
        what: what.to_owned(),
    })
}

/// The list as a page: what was found, and what was not in so many seeds.
#[must_use]
pub fn page(caught: &[Caught], missed: &[(String, u64)]) -> String {
    let mut page = String::from(
        "# Deliberate mistakes that the simulator finds\n\n\
         Written by `cargo run --release -p stanchion-sim --features mutants -- mutants --all --write sim/MUTANTS.md`; \
         `-- mutants` runs the\nseeds of this list again. Seconds are those from the first seed that was tried to the one \
         that found it, on one core.\n\n\
         | mistake | seed | seconds | what the checker said |\n|---|---|---|---|\n",
    );
    for Caught { name, seed, tenths, what } in caught {
        let _ = writeln!(page, "| `{name}` | {seed} | {}.{} | {what} |", tenths / 10, tenths % 10);
    }
    if !missed.is_empty() {
        page.push_str("\nNot found:\n\n");
        for (name, seeds) in missed {
            let _ = writeln!(page, "- `{name}` in {seeds} seeds");
        }
    }
    page
}

/// A checker's words on one line of a table.
#[must_use]
pub fn one_line(what: &str) -> String {
    what.chars().map(|c| if matches!(c, '|' | '\n') { '/' } else { c }).take(160).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read_as_it_was_written_and_names_mistakes_that_exist() {
        let one = Caught { name: "a::B".to_owned(), seed: 7, tenths: 123, what: "x is y".to_owned() };
        let page = page(std::slice::from_ref(&one), &[("a::C".to_owned(), 10)]);
        assert_eq!(page.lines().filter_map(read_row).collect::<Vec<_>>(), [one]);
        let names: Vec<String> = all().into_iter().map(|mistake| mistake.name).collect();
        let known = known();
        assert!(known.len() >= 40, "{} mistakes are known to be found", known.len());
        for caught in known {
            assert!(names.contains(&caught.name), "{} is no mistake of any crate", caught.name);
        }
    }
}
