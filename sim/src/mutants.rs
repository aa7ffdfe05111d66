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

/// From this seed on, [`scenario`] draws storms: see there.
pub const STORMS: u64 = 1_000_000;

const JOINT: &str = "needs a joint configuration, which members of this cluster never propose";
const WHOLE_REST: &str =
    "an append carries all that the leader has behind the place named in it, unless that is more than 1 MiB";

/// Mistakes that no run can meet, and why. Tests beside the code find them: for raft, its own random schedules.
const OUT_OF_REACH: [(&str, &str); 8] = [
    ("raft::CommitIgnoresOutgoing", JOINT),
    ("raft::VoteIgnoresOutgoing", JOINT),
    ("raft::SnapshotForgetsOutgoing", JOINT),
    ("raft::AutoLeaveNever", JOINT),
    ("raft::AckWholeLog", WHOLE_REST),
    ("raft::CommitBeyondMatch", WHOLE_REST),
    ("raft::OldSnapshotInstalled", "a database comes once, as by a POST, and late ones are of older terms"),
    (
        "replica::AppliedAgain",
        "what is in a database was durable in the log before, so raft goes on behind it",
    ),
];

/// All mistakes that a run can meet.
#[must_use]
pub fn all() -> Vec<Mistake> {
    let mut all = declared();
    all.retain(|mistake| !OUT_OF_REACH.iter().any(|(name, _)| *name == mistake.name));
    all
}

fn declared() -> Vec<Mistake> {
    [
        of("sim", mutant::Mutant::ALL, mutant::set),
        of("raft", stanchion_raft::mutant::Mutant::ALL, stanchion_raft::mutant::set),
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
///
/// Seeds from [`STORMS`] on have hardly anything but changes of leader, under many operations, with late messages and
/// slow disks: mistakes in elections need several rare things at once. Twice as far up, membership changes all the time.
#[must_use]
pub fn scenario(seed: u64) -> Scenario {
    let mut scenario = Scenario::of_seed(seed, STEPS);
    scenario.faults.retain(|fault| !matches!(fault, Fault::BitFlip));
    if seed >= STORMS {
        use Fault::{Clock, Delay, Kill, Loss, Partition, Pause, SlowDisk, Transfer};
        for fault in [Clock, Delay, Kill, Loss, Partition, Pause, SlowDisk, Transfer] {
            // Three in four, and what the seed draws by itself.
            if seed >> (fault as u64 % 8) & 3 != 0 && !scenario.has(fault) {
                scenario.faults.push(fault);
            }
        }
        scenario.members = scenario.members.clamp(3, 5);
        (scenario.election_ticks, scenario.clients) = (3, 6);
        scenario.intervention_us = scenario.intervention_us.min(300_000);
        scenario.think_us = scenario.think_us.min(20_000);
        (scenario.late, scenario.delay_us) = (scenario.late.max(0.1), scenario.delay_us.max(200_000));
    }
    if seed >= 2 * STORMS {
        for fault in [Fault::Membership, Fault::PowerCut] {
            if !scenario.has(fault) {
                scenario.faults.push(fault);
            }
        }
        // Restarts from far behind, in clusters that were small.
        (scenario.members, scenario.commit_us) = (1 + (seed % 3) as usize, 2_000_000);
        scenario.intervention_us = 100_000;
    }
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
         that found it, on one core of a busy machine. Seeds from 1,000,000 on were tried from there: they draw\nmore changes \
         of leader, those from 2,000,000 on changes of membership, too (`mutants::scenario`).\n\n\
         | mistake | seed | seconds | what the checker said |\n|---|---|---|---|\n",
    );
    for Caught { name, seed, tenths, what } in caught {
        let _ = writeln!(page, "| `{name}` | {seed} | {}.{} | {what} |", tenths / 10, tenths % 10);
    }
    if !missed.is_empty() {
        page.push_str("\nNot found here; the random schedules of `raft` find them:\n\n");
        for (name, seeds) in missed {
            let _ = writeln!(page, "- `{name}` in {seeds} seeds");
        }
    }
    page.push_str("\nOut of reach, and found by tests beside the code:\n\n");
    for (name, why) in OUT_OF_REACH {
        let _ = writeln!(page, "- `{name}`: {why}");
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
        let names: Vec<String> = declared().into_iter().map(|mistake| mistake.name).collect();
        for (name, _) in OUT_OF_REACH {
            assert!(names.iter().any(|declared| declared == name), "{name} is no mistake of any crate");
        }
        let known = known();
        assert!(known.len() >= 40, "{} mistakes are known to be found", known.len());
        for caught in known {
            assert!(names.contains(&caught.name), "{} is no mistake of any crate", caught.name);
        }
    }
}
