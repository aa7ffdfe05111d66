//! The command line of the simulator: one seed, many seeds, or the proof that the checkers bite.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

mod options;

use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use stanchion_sim::run::{Run, run};
use stanchion_sim::{Outcome, Scenario, report, shrink, timeline};

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
    let scenario = options.scenario(options.seed.unwrap_or(1))?;
    let began = Instant::now();
    let run = run(&scenario, options.timeline.is_some());
    let took = began.elapsed();
    if let Some(path) = &options.timeline {
        let page = timeline::page(&format!("seed {}", scenario.seed), &run);
        std::fs::write(path, page).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    }
    let simulated = Duration::from_micros(run.figures.simulated_us);
    println!("{scenario:?}");
    println!("{:?} after {simulated:?} simulated in {took:?}: {:?}", ended(&run), run.figures);
    let passed = passed(&run);
    if !passed {
        print!("{}", run.story);
        if options.shrink {
            tell_smaller(&scenario);
        }
    }
    println!("trace {:016x}", run.hash);
    Ok(passed)
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

fn tell_smaller(scenario: &Scenario) {
    let smaller = shrink::shrink(scenario);
    println!("shrunk: cargo run --release -p stanchion-sim -- {}", report::replay_arguments(&smaller));
}

/// Many seeds; ends with `seeds: N run, F failed`.
fn soak(options: &Options) -> Result<bool, String> {
    let began = Instant::now();
    let until = options.minutes.map(|minutes| Duration::from_secs_f64(minutes * 60.0));
    let most = options.seeds.unwrap_or(if until.is_some() { u64::MAX } else { 100 });
    // Fresh seeds unless told where to begin.
    let first = options.seed.unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64 * 1_000_000
    });
    let (mut ran, mut failed, mut simulated) = (0, 0, Duration::ZERO);
    while ran < most && until.is_none_or(|until| began.elapsed() < until) {
        let scenario = options.scenario(first.wrapping_add(ran))?;
        let run = run(&scenario, false);
        ran += 1;
        simulated += Duration::from_micros(run.figures.simulated_us);
        if !passed(&run) {
            failed += 1;
            print!("{}", run.story);
            if options.shrink {
                tell_smaller(&scenario);
            }
        }
    }
    let took = began.elapsed().as_secs_f64();
    println!(
        "{:.0} simulated seconds in {took:.1} s, {:.0} per second, from seed {first} on",
        simulated.as_secs_f64(),
        simulated.as_secs_f64() / took
    );
    println!("seeds: {ran} run, {failed} failed");
    Ok(failed == 0)
}

/// Each deliberate mistake until a seed finds it; ends with `mutants: K of K caught`.
#[cfg(feature = "mutants")]
fn mutants(options: &Options) -> Result<bool, String> {
    use stanchion_raft::mutant as raft;
    use stanchion_sim::mutant;
    /// These need joint configurations, which members of this cluster never propose.
    const UNREACHABLE: [raft::Mutant; 4] = [
        raft::Mutant::CommitIgnoresOutgoing,
        raft::Mutant::VoteIgnoresOutgoing,
        raft::Mutant::SnapshotForgetsOutgoing,
        raft::Mutant::AutoLeaveNever,
    ];
    let (mut all, mut caught) = (0, 0);
    let mut look = |name: String| -> Result<(), String> {
        if options.only.as_ref().is_some_and(|only| *only != name) {
            return Ok(());
        }
        let began = Instant::now();
        all += 1;
        for seed in 1..=options.seeds.unwrap_or(300) {
            let scenario = options.scenario(seed)?;
            if let Outcome::Failed(what) = run(&scenario, false).outcome {
                caught += 1;
                let what: String = what.chars().take(110).collect();
                println!("{name}: seed {seed}, {:.1} s: {what}", began.elapsed().as_secs_f64());
                return Ok(());
            }
        }
        println!("{name}: NOT caught, {:.1} s", began.elapsed().as_secs_f64());
        Ok(())
    };
    for mistake in mutant::Mutant::ALL {
        mutant::set(Some(*mistake));
        look(format!("{mistake:?}"))?;
        mutant::set(None);
    }
    for mistake in raft::Mutant::ALL.iter().filter(|mistake| !UNREACHABLE.contains(mistake)) {
        raft::set(Some(*mistake));
        look(format!("raft::{mistake:?}"))?;
        raft::set(None);
    }
    println!("mutants: {caught} of {all} caught");
    Ok(caught == all)
}

#[cfg(not(feature = "mutants"))]
fn mutants(options: &Options) -> Result<bool, String> {
    let _ = options;
    Err("the deliberate mistakes are not compiled in: build with --features mutants".to_owned())
}
