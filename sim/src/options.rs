//! What stands on the command line.

use std::path::PathBuf;

use stanchion_sim::scenario::STEPS;
use stanchion_sim::{Fault, Scenario};

/// How to use it.
pub(crate) const HELP: &str = "\
usage: stanchion-sim run [--seed N] [--steps M] [OPTIONS]     one seed; ends with `trace <hash>`
       stanchion-sim run --replay FILE                        a run that was kept in a file
       stanchion-sim soak [--minutes N | --seeds K] [OPTIONS] fresh seeds (or from --seed on)
       stanchion-sim mutants [--seeds K] [--only NAME] [--all] [--write FILE]
                                                              deliberate mistakes (feature `mutants`)

options of run and soak:
  --steps M          steps of the scheduler until faults stop (12000)
  --members N        founding members, 1 to 7 (drawn)
  --clients N        clients (drawn)
  --watchers N       watching clients (drawn)
  --electors N       clients that stand for election (drawn)
  --observers N      clients that observe the election (drawn)
  --without A,B      kinds of faults to leave out
  --with A,B         these kinds of faults and no others (`none` for a calm run)
  --skip 3,7         interventions to leave out, by number
  --think-us N       mean pause between a client's operations
  --shrink           make failures smaller
  --threads N        seeds at once (1; soak only)
  --save DIR         keep failures as replay files (made smaller with --shrink)
  --timeline FILE    write a picture of the run (run only)

options of mutants:
  --seeds K          seeds to try after the known one (300), from --seed on (1)
  --only NAME        only mistakes with this in their name
  --all              those that are not in sim/MUTANTS.md, too
  --write FILE       write that list";

/// Threads of a soak.
const THREADS_MAX: usize = 256;

/// The options, whether they have a value, and the commands that know them.
const KNOWN: [(&str, bool, &[Command]); 22] = {
    use Command::{Mutants, Run, Soak};
    const RUNS: &[Command] = &[Run, Soak];
    [
        ("--seed", true, &[Run, Soak, Mutants]),
        ("--seeds", true, &[Soak, Mutants]),
        ("--minutes", true, &[Soak]),
        ("--threads", true, &[Soak]),
        ("--steps", true, RUNS),
        ("--members", true, RUNS),
        ("--clients", true, RUNS),
        ("--watchers", true, RUNS),
        ("--electors", true, RUNS),
        ("--observers", true, RUNS),
        ("--think-us", true, RUNS),
        ("--without", true, RUNS),
        ("--with", true, RUNS),
        ("--skip", true, RUNS),
        ("--shrink", false, RUNS),
        ("--save", true, RUNS),
        ("--timeline", true, &[Run]),
        ("--replay", true, &[Run]),
        ("--only", true, &[Mutants]),
        ("--all", false, &[Mutants]),
        ("--write", true, &[Mutants]),
        ("--help", false, &[Run, Soak, Mutants]),
    ]
};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Help,
    Run,
    Soak,
    Mutants,
}

/// The command and its options.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) command: Command,
    pub(crate) seed: Option<u64>,
    pub(crate) seeds: Option<u64>,
    pub(crate) minutes: Option<f64>,
    pub(crate) threads: usize,
    pub(crate) shrink: bool,
    pub(crate) save: Option<PathBuf>,
    pub(crate) timeline: Option<PathBuf>,
    pub(crate) replay: Option<PathBuf>,
    pub(crate) only: Option<String>,
    pub(crate) all: bool,
    pub(crate) write: Option<PathBuf>,
    steps: u64,
    members: Option<usize>,
    clients: Option<usize>,
    watchers: Option<usize>,
    electors: Option<usize>,
    observers: Option<usize>,
    think_us: Option<u64>,
    without: Vec<Fault>,
    with: Option<Vec<Fault>>,
    skip: Vec<u64>,
}

impl Options {
    /// Reads the command line.
    pub(crate) fn parse(arguments: &[String]) -> Result<Options, String> {
        let mut rest = arguments.iter();
        let command = match rest.next().map(String::as_str) {
            Some("run") => Command::Run,
            Some("soak") => Command::Soak,
            Some("mutants") => Command::Mutants,
            None | Some("help" | "--help" | "-h") => Command::Help,
            Some(other) => return Err(format!("unknown command {other:?}")),
        };
        let mut options = Options {
            command,
            seed: None,
            seeds: None,
            minutes: None,
            threads: 1,
            shrink: false,
            save: None,
            timeline: None,
            replay: None,
            only: None,
            all: false,
            write: None,
            steps: STEPS,
            members: None,
            clients: None,
            watchers: None,
            electors: None,
            observers: None,
            think_us: None,
            without: Vec::new(),
            with: None,
            skip: Vec::new(),
        };
        while let Some(name) = rest.next() {
            let known = KNOWN.iter().find(|(known, ..)| known == name);
            let Some((_, has_value, commands)) = known else {
                return Err(format!("unknown option {name:?}"));
            };
            if !commands.contains(&command) {
                let word = arguments[0].as_str();
                return Err(format!("{name} is no option of {word}"));
            }
            if *has_value {
                let value = rest.next().ok_or_else(|| format!("{name} needs a value"))?;
                options.set(name, value)?;
            } else {
                options.switch(name);
            }
        }
        options.check()?;
        Ok(options)
    }

    /// What cannot go together.
    fn check(&self) -> Result<(), String> {
        if self.replay.is_some() && (self.seed.is_some() || self.scenario_is_chosen()) {
            return Err("--replay brings its own seed and scenario: no other option chooses them".to_owned());
        }
        if self.minutes.is_some() && self.seeds.is_some() {
            return Err("--minutes and --seeds both say when to end: give one of them".to_owned());
        }
        if self.seeds == Some(0) {
            return Err("--seeds: at least one seed must be run".to_owned());
        }
        if !(1..=THREADS_MAX).contains(&self.threads) {
            return Err(format!("--threads: 1 to {THREADS_MAX}, not {}", self.threads));
        }
        if let Some(dir) = self.save.as_ref().filter(|dir| !dir.is_dir()) {
            return Err(format!("--save: {} is no directory", dir.display()));
        }
        Ok(())
    }

    fn scenario_is_chosen(&self) -> bool {
        let counts = [self.members, self.clients, self.watchers, self.electors, self.observers];
        let numbers = counts.iter().any(Option::is_some);
        let faults = self.with.is_some() || !self.without.is_empty() || !self.skip.is_empty();
        numbers || faults || self.think_us.is_some() || self.steps != STEPS
    }

    fn switch(&mut self, name: &str) {
        match name {
            "--shrink" => self.shrink = true,
            "--all" => self.all = true,
            _ => self.command = Command::Help,
        }
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "--seed" => self.seed = Some(number(name, value)?),
            "--seeds" => self.seeds = Some(number(name, value)?),
            "--minutes" => {
                let minutes = value.parse().ok().filter(|minutes: &f64| *minutes > 0.0);
                self.minutes = Some(minutes.ok_or_else(|| format!("{name}: {value:?} is no time"))?);
            }
            "--threads" => self.threads = number(name, value)?,
            "--steps" => self.steps = number(name, value)?,
            "--members" => self.members = Some(number(name, value)?),
            "--clients" => self.clients = Some(number(name, value)?),
            "--watchers" => self.watchers = Some(number(name, value)?),
            "--electors" => self.electors = Some(number(name, value)?),
            "--observers" => self.observers = Some(number(name, value)?),
            "--think-us" => self.think_us = Some(number(name, value)?),
            "--without" => self.without = faults(name, value)?,
            "--with" if value == "none" => self.with = Some(Vec::new()),
            "--with" => self.with = Some(faults(name, value)?),
            "--skip" => self.skip = value.split(',').map(|n| number(name, n)).collect::<Result<_, _>>()?,
            "--save" => self.save = Some(PathBuf::from(value)),
            "--timeline" => self.timeline = Some(PathBuf::from(value)),
            "--replay" => self.replay = Some(PathBuf::from(value)),
            "--write" => self.write = Some(PathBuf::from(value)),
            _ => self.only = Some(value.to_owned()),
        }
        Ok(())
    }

    /// The scenario of a seed, with what is asked for otherwise.
    pub(crate) fn scenario(&self, seed: u64) -> Result<Scenario, String> {
        let mut scenario = Scenario::of_seed(seed, self.steps);
        scenario.members = self.members.unwrap_or(scenario.members);
        scenario.clients = self.clients.unwrap_or(scenario.clients);
        scenario.watchers = self.watchers.unwrap_or(scenario.watchers);
        scenario.electors = self.electors.unwrap_or(scenario.electors);
        scenario.observers = self.observers.unwrap_or(scenario.observers);
        scenario.think_us = self.think_us.unwrap_or(scenario.think_us);
        if let Some(with) = &self.with {
            scenario.faults.clone_from(with);
        }
        scenario.faults.retain(|fault| !self.without.contains(fault));
        scenario.skipped.clone_from(&self.skip);
        scenario.check().map_err(|wrong| wrong.to_string())?;
        Ok(scenario)
    }
}

fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name}: {value:?} is no number that fits"))
}

fn faults(name: &str, value: &str) -> Result<Vec<Fault>, String> {
    let one = |word: &str| {
        let known = Fault::ALL.into_iter().find(|fault| fault.name() == word);
        known.ok_or_else(|| {
            let all: Vec<&str> = Fault::ALL.iter().map(|fault| fault.name()).collect();
            format!("{name}: no fault is called {word:?}; there are {}", all.join(", "))
        })
    };
    value.split(',').map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_reason() {
        for (line, reason) in [
            ("fly", "unknown command"),
            ("run --sed 1", "unknown option"),
            ("run --seed", "needs a value"),
            ("run --seed x", "no number"),
            ("run --without rain", "no fault is called"),
            ("soak --minutes -1", "no time"),
            ("soak --minutes 1 --seeds 2", "give one of them"),
            ("soak --seeds 0", "at least one seed"),
            ("soak --threads 0", "1 to 256, not 0"),
            ("run --threads 2", "no option of run"),
            ("soak --timeline x.html", "no option of soak"),
            ("run --minutes 1", "no option of run"),
            ("run --seed 99999999999999999999", "no number that fits"),
            ("run --skip 1,,2", "no number that fits"),
            ("run --save /nonexistent/dir", "no directory"),
            ("run --replay x.json --seed 3", "its own seed"),
            ("run --replay x.json --with none", "its own seed"),
            ("mutants --members 3", "no option of mutants"),
        ] {
            let wrong = parse(line).expect_err(line);
            assert!(wrong.contains(reason), "{line}: {wrong}");
        }
        let impossible = [
            "run --members 8",
            "run --members 0",
            "run --clients 0",
            "run --clients 2000",
            "run --watchers 2000",
            "run --electors 2000",
            "run --observers 2000",
            "run --steps 0",
            "run --think-us 0",
        ];
        for line in impossible {
            assert!(parse(line).unwrap().scenario(1).is_err(), "{line}");
        }
        assert_eq!(parse("run --help").unwrap().command, Command::Help);
        let scenario = parse("run --with kill,loss --without loss").unwrap().scenario(1).unwrap();
        assert_eq!(scenario.faults, [Fault::Kill]);
    }
}
