//! The command line of the simulator: one seed, many seeds, or the proof that the checkers bite.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

mod options;

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use stanchion_sim::run::{Run, run};
use stanchion_sim::{Outcome, Scenario, replay, report, shrink, timeline};

use options::{Command, Options};

fn main() -> ExitCode {
    // Panics of members are results here; their text is in the report.
    std::panic::set_hook(Box::new(|_| {}));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = Options::parse(&arguments).and_then(|options| match options.command {
        Command::Help => {
            println!("{}", options::HELP);
            Ok(true)
        }
        Command::Run => run_one(&options),
        Command::Soak => soak(&options),
        Command::Mutants => mutants(&options),
    });
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(wrong) => {
            eprintln!("error: {wrong}\n\n{}", options::HELP);
            ExitCode::from(2)
        }
    }
}

/// One seed; ends with the line `trace <hash>`.
fn run_one(options: &Options) -> Result<bool, String> {
    let scenario = match &options.replay {
        Some(path) => replay::read(path).map_err(|wrong| wrong.to_string())?,
        None => options.scenario(options.seed.unwrap_or(1))?,
    };
    let began = Instant::now();
    let run = run(&scenario, options.timeline.is_some());
    let took = began.elapsed();
    if let Some(path) = &options.timeline {
        let page = timeline::page(&format!("seed {}", scenario.seed), &run);
        std::fs::write(path, page).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    }
    let simulated = Duration::from_micros(run.figures.simulated_us);
    println!("{scenario:?}");
    println!("{} after {simulated:?} simulated in {took:?}: {:?}", ended(&run), run.figures);
    let passed = passed(&run);
    if !passed {
        tell(&scenario, &run, options)?;
    }
    println!("trace {:016x}", run.hash);
    Ok(passed)
}

/// The story of a failure; the failure made smaller and kept in a file, if that is asked for.
fn tell(scenario: &Scenario, run: &Run, options: &Options) -> Result<(), String> {
    print!("{}", run.story);
    let mut kept = scenario.clone();
    if options.shrink {
        kept = shrink::shrink(scenario);
        println!("shrunk: cargo run --release -p stanchion-sim -- {}", report::replay_arguments(&kept));
    }
    if let Some(dir) = &options.save {
        let path = dir.join(format!("seed-{}.json", scenario.seed));
        replay::write(&path, &kept).map_err(|wrong| wrong.to_string())?;
        println!("kept: cargo run --release -p stanchion-sim -- run --replay {}", path.display());
    }
    Ok(())
}

fn ended(run: &Run) -> &'static str {
    match run.outcome {
        Outcome::Passed => "passed",
        Outcome::NoQuorum => "passed without a quorum in the end",
        Outcome::Failed(_) => "FAILED",
    }
}

fn passed(run: &Run) -> bool {
    !matches!(run.outcome, Outcome::Failed(_))
}

/// Many seeds, some at once; ends with `seeds: N run, F failed`.
fn soak(options: &Options) -> Result<bool, String> {
    let until = options.minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0));
    // Fresh seeds unless told where to begin.
    let first = options.seed.unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64 * 1_000_000
    });
    let soak = Soak {
        options,
        began: Instant::now(),
        until,
        first,
        most: options.seeds.unwrap_or(if until.is_some() { u64::MAX } else { 100 }),
        taken: AtomicU64::new(0),
        tally: Mutex::new(Tally::default()),
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..options.threads).map(|_| scope.spawn(|| soak.work())).collect();
        // A panic of the simulator itself is a fault of this program.
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| "the simulator panicked".to_owned())?)
    })?;
    let took = soak.began.elapsed().as_secs_f64();
    let Tally { ran, failed, simulated } = soak.tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!(
        "{:.0} simulated seconds in {took:.1} s, {:.0} per second, from seed {first} on",
        simulated.as_secs_f64(),
        simulated.as_secs_f64() / took
    );
    println!("seeds: {ran} run, {failed} failed");
    Ok(failed == 0)
}

/// What the threads of a soak share.
struct Soak<'a> {
    options: &'a Options,
    began: Instant,
    until: Option<Duration>,
    first: u64,
    /// Seeds to run at most.
    most: u64,
    /// Seeds that a thread has taken up.
    taken: AtomicU64,
    tally: Mutex<Tally>,
}

#[derive(Default)]
struct Tally {
    ran: u64,
    failed: u64,
    simulated: Duration,
}

impl Soak<'_> {
    /// Takes up one seed after the other.
    fn work(&self) -> Result<(), String> {
        while self.until.is_none_or(|until| self.began.elapsed() < until) {
            let taken = self.taken.fetch_add(1, Ordering::Relaxed);
            if taken >= self.most {
                break;
            }
            let scenario = self.options.scenario(self.first.wrapping_add(taken))?;
            let run = run(&scenario, false);
            // Held while a failure is told, so that two stories do not mix.
            let mut tally = self.tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.ran += 1;
            tally.simulated += Duration::from_micros(run.figures.simulated_us);
            if !passed(&run) {
                tally.failed += 1;
                tell(&scenario, &run, self.options)?;
            }
        }
        Ok(())
    }
}

/// Deliberate mistakes: those of the list by their seeds, or all of them by search; ends with `mutants: K of K caught`.
#[cfg(feature = "mutants")]
fn mutants(options: &Options) -> Result<bool, String> {
    use stanchion_sim::mutants::{self, Caught};
    let known = mutants::known();
    let seed_of = |name: &str| known.iter().find(|known| known.name == name).map(|known| known.seed);
    let (mut caught, mut missed) = (Vec::new(), Vec::new());
    for mistake in mutants::all() {
        let (name, first) = (mistake.name.clone(), seed_of(&mistake.name));
        let wanted = match &options.only {
            Some(only) => name.contains(only.as_str()),
            None => options.all || first.is_some(),
        };
        if !wanted {
            continue;
        }
        let began = Instant::now();
        let last = options.seeds.unwrap_or(300);
        let from = options.seed.unwrap_or(1);
        let seeds = first.into_iter().chain(from..from + last);
        let found = seeds.map(|seed| (seed, mistake.found_by(&mutants::scenario(seed))));
        let found = found.filter_map(|(seed, what)| Some((seed, what?))).next();
        let took = began.elapsed();
        match found {
            Some((seed, what)) => {
                let what = mutants::one_line(&what);
                println!("{name}: seed {seed}, {:.1} s: {what}", took.as_secs_f64());
                caught.push(Caught { name, seed, tenths: took.as_millis() as u64 / 100, what });
            }
            None => {
                println!("{name}: NOT caught by {last} seeds, {:.1} s", took.as_secs_f64());
                missed.push((name, last));
            }
        }
    }
    if let Some(path) = &options.write {
        std::fs::write(path, mutants::page(&caught, &missed))
            .map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    }
    if caught.is_empty() && missed.is_empty() {
        return Err("no mistake was tried: see `--only` and sim/MUTANTS.md".to_owned());
    }
    println!("mutants: {} of {} caught", caught.len(), caught.len() + missed.len());
    Ok(missed.is_empty())
}

#[cfg(not(feature = "mutants"))]
fn mutants(options: &Options) -> Result<bool, String> {
    let _ = options;
    Err("the deliberate mistakes are not compiled in: build with --features mutants".to_owned())
}
