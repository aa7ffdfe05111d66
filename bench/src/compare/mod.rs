//! The command line of `compare`: which servers, which scenarios, in which order; and the files that are written.

mod criterion;
mod limits;
mod plot;
mod scenario;
mod servers;
mod table;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use serde::Serialize;

use self::limits::Limits;
use self::scenario::{Figure, SCENARIOS, Scenario};
use self::servers::{Cluster, Kind};
use self::table::{Group, Run, markdown, short};
use crate::error::Failure;
use crate::report::Report;

/// Cores that other processes may use during a run before it is repeated.
const OTHER_CORES_MAX: f64 = 0.2;

/// How many times as long it is measured while a member is replaced: the new one must come within that time.
const REPLACEMENT_FACTOR: f64 = 3.0;

/// Starts servers one after the other (A B A B …), puts the same loads on each, and writes tables and plots of them.
///
/// The first server is compared with the last one. Everything stays on loopback.
#[derive(Parser, Clone, Debug)]
#[command(name = "compare", version, subcommand_negates_reqs = true, args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    other: Option<Other>,
    /// A server as NAME=BINARY; give it several times
    #[arg(long = "server", required = true, value_parser = kind)]
    servers: Vec<Kind>,
    /// Names of scenarios; all without
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<String>,
    /// Numbers of members
    #[arg(long, value_delimiter = ',', default_value = "1", value_parser = members)]
    members: Vec<usize>,
    /// Where data lies, as NAME=DIRECTORY; give it several times, for a disk and a tmpfs
    #[arg(long = "place", value_parser = place)]
    places: Vec<(String, PathBuf)>,
    /// How often each server takes its turn
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds that are measured in each run
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Seconds of warm-up in each run
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Seconds of the bare echo in front of the first server's turn, in scenarios that it bounds
    #[arg(long, default_value_t = 1.0)]
    ceiling: f64,
    /// How often a run is repeated that other processes disturbed
    #[arg(long, default_value_t = 2)]
    repeats: u32,
    /// Where tables, plots and JSON are written
    #[arg(long, default_value = "target/compare")]
    out: PathBuf,
}

#[derive(Subcommand, Clone, Debug)]
enum Other {
    /// Names and titles of all scenarios
    List,
    /// A table of what Criterion has measured
    Criterion {
        /// Directories that Criterion wrote, such as target/criterion
        #[arg(default_value = "target/criterion")]
        directories: Vec<PathBuf>,
    },
}

/// Everything that was measured, for machines.
#[derive(Serialize)]
struct Record<'a> {
    limits: &'a [(String, Limits)],
    runs: &'a [Run],
}

/// Runs `compare` with the process's arguments.
pub fn main(
    args: impl IntoIterator<Item = OsString>,
    out: &mut impl Write,
    log: &mut impl Write,
) -> ExitCode {
    let args = Args::try_parse_from(args).unwrap_or_else(|error| error.exit());
    let done = match &args.other {
        Some(Other::List) => {
            let list = SCENARIOS
                .iter()
                .try_for_each(|scenario| writeln!(out, "{:<18}{}", scenario.name, scenario.title));
            list.map_err(|error| Failure::local("writing", &error))
        }
        Some(Other::Criterion { directories }) => criterion::table(directories, out),
        None => compare(&args, out, log),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // Nothing is left to be done if nobody reads what is written.
            let _ = writeln!(log, "compare: {failure}");
            ExitCode::from(if matches!(failure, Failure::Settings(_)) { 2 } else { 1 })
        }
    }
}

fn compare(args: &Args, out: &mut impl Write, log: &mut impl Write) -> Result<(), Failure> {
    let scenarios = chosen(&args.scenarios)?;
    let load = load_binary()?;
    let places = match &args.places[..] {
        [] => vec![("disk".to_owned(), std::env::temp_dir())],
        places => places.to_vec(),
    };
    let interrupted = interruption()?;
    let mut limits = Vec::new();
    for (name, directory) in &places {
        limits.push((name.clone(), Limits::measure(directory)?));
    }
    let mut runs = Vec::new();
    for (place, directory) in &places {
        for &members in &args.members {
            let turn = Turn { args, load: &load, members, place, interrupted: &interrupted };
            // Ends with its files when this place and number of members are done.
            let work = tempfile::tempdir_in(directory)
                .map_err(|error| Failure::local(directory.display().to_string(), &error))?;
            for scenario in scenarios.iter().filter(|scenario| members > 2 || !scenario.replaces) {
                turn.rounds(scenario, work.path(), &mut runs, log)?;
                // Written after each scenario: a comparison that is cut short leaves what it had.
                write_files(args, &scenarios, &limits, &runs)?;
            }
        }
    }
    let text = write_files(args, &scenarios, &limits, &runs)?;
    write!(out, "{text}").map_err(|error| Failure::local("writing", &error))
}

/// What the turns of one place and number of members have in common.
struct Turn<'a> {
    args: &'a Args,
    load: &'a Path,
    members: usize,
    place: &'a str,
    interrupted: &'a AtomicBool,
}

impl Turn<'_> {
    /// All rounds of a scenario, the servers in turn.
    fn rounds(
        &self,
        scenario: &Scenario,
        work: &Path,
        runs: &mut Vec<Run>,
        log: &mut impl Write,
    ) -> Result<(), Failure> {
        for round in 1..=self.args.rounds as usize {
            for (at, kind) in self.args.servers.iter().enumerate() {
                let mut tries = 0;
                let run = loop {
                    let begun = Instant::now();
                    let run = self.one(scenario, kind, work, round, at == 0)?;
                    if self.interrupted.load(Ordering::Relaxed) {
                        return Err(Failure::Interrupted);
                    }
                    progress(log, &run, begun);
                    tries += 1;
                    if run.marked.is_none() || tries > self.args.repeats {
                        break run;
                    }
                };
                runs.push(run);
            }
        }
        Ok(())
    }

    /// One server, started, loaded and stopped.
    fn one(
        &self,
        scenario: &Scenario,
        kind: &Kind,
        work: &Path,
        round: usize,
        first: bool,
    ) -> Result<Run, Failure> {
        let directory = work.join(format!("{}-{}", scenario.data.unwrap_or("fresh"), kind.name));
        let mut cluster = Cluster::start(kind, self.members, &directory)?;
        let echo = if scenario.echo && first { self.args.ceiling } else { 0.0 };
        let report = if scenario.replaces {
            self.replacement(scenario, &mut cluster)
        } else {
            let members = self.members;
            let loaded = self.load(scenario, &cluster, Load { members, echo, seconds: self.args.seconds });
            loaded.and_then(|load| report(scenario, load)).map(|report| (report, None))
        };
        let start_seconds = cluster.start.as_secs_f64();
        cluster.stop();
        if scenario.data.is_none() {
            fs::remove_dir_all(&directory)
                .map_err(|error| Failure::local(directory.display().to_string(), &error))?;
        }
        let (report, join) = report?;
        let late = join.is_some_and(|join: Duration| join.as_secs_f64() > report.seconds);
        let marked = marks(&report)
            .or_else(|| late.then(|| "the new member was not there when the time was over".to_owned()));
        Ok(Run {
            scenario: scenario.name.to_owned(),
            server: kind.name.clone(),
            members: self.members,
            place: self.place.to_owned(),
            round,
            marked,
            start_seconds,
            join_seconds: join.map(|join| join.as_secs_f64()),
            report,
        })
    }

    /// A load on all members but the last, which is replaced meanwhile, and how long that took.
    fn replacement(
        &self,
        scenario: &Scenario,
        cluster: &mut Cluster,
    ) -> Result<(Report, Option<Duration>), Failure> {
        let members = self.members - 1;
        // Once for nothing but its keys: the data must be there before the member that is to take it over.
        let fill = self.load(scenario, cluster, Load { members, echo: 0.0, seconds: 0.1 })?;
        report(scenario, fill)?;
        let seconds = REPLACEMENT_FACTOR * self.args.seconds;
        let load = self.load(scenario, cluster, Load { members, echo: 0.0, seconds })?;
        let join = cluster.replace_last();
        // Its end is waited for even if there is no new member.
        let report = report(scenario, load);
        Ok((report?, Some(join?)))
    }

    /// Starts a load on the first members.
    fn load(&self, scenario: &Scenario, cluster: &Cluster, load: Load) -> Result<Child, Failure> {
        let pids: Vec<String> = cluster.pids()[..load.members].iter().map(u32::to_string).collect();
        Command::new(self.load)
            .arg("--json")
            .arg(format!("--endpoints={}", cluster.endpoints[..load.members].join(",")))
            .arg(format!("--pids={}", pids.join(",")))
            .arg(format!("--duration={}", load.seconds))
            .arg(format!("--warm-up={}", self.args.warm_up))
            .arg(format!("--ceiling={}", load.echo))
            .args(scenario.load.split(' '))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Failure::local(self.load.display().to_string(), &error))
    }
}

/// What a load is started with beside its scenario.
struct Load {
    /// How many members it asks.
    members: usize,
    /// Seconds of the bare echo.
    echo: f64,
    seconds: f64,
}

/// Waits for a load; what it measured, or its words.
fn report(scenario: &Scenario, load: Child) -> Result<Report, Failure> {
    let what = format!("load, {}", scenario.name);
    let output = load.wait_with_output().map_err(|error| Failure::local(&what, &error))?;
    serde_json::from_slice(&output.stdout).map_err(|_| Failure::Local {
        what,
        reason: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

/// Becomes true when the process is asked to end: what it has started is then ended first.
fn interruption() -> Result<Arc<AtomicBool>, Failure> {
    let asked = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&asked))
            .map_err(|error| Failure::local("a handler for signals", &error))?;
    }
    Ok(asked)
}

/// Why figures should not be trusted.
fn marks(report: &Report) -> Option<String> {
    if let Some(reason) = &report.partial {
        return Some(format!("partial: {reason}"));
    }
    if report.other_cores > OTHER_CORES_MAX {
        return Some(format!("other processes used {:.2} cores", report.other_cores));
    }
    let refused: u64 = report.errors.values().sum();
    if refused > 0 {
        let message = report.errors.keys().next().cloned().unwrap_or_default();
        return Some(format!("{refused} requests refused, such as {message}"));
    }
    (report.unanswered > 0).then(|| format!("{} operations were not answered in time", report.unanswered))
}

fn progress(log: &mut impl Write, run: &Run, begun: Instant) {
    let figure = |figure| run.figure(figure).map_or_else(|| "-".to_owned(), short);
    // A closed terminal is no reason to stop.
    let _ = writeln!(
        log,
        "{} x{} {} round {} {}: {}/s, p50 {} ms, p99 {} ms, CPU {} s/100k ({:.0} s){}",
        run.scenario,
        run.members,
        run.place,
        run.round,
        run.server,
        figure(Figure::Rate),
        figure(Figure::P50),
        figure(Figure::P99),
        figure(Figure::Cpu),
        begun.elapsed().as_secs_f64(),
        run.marked.as_ref().map(|mark| format!(" MARKED: {mark}")).unwrap_or_default()
    );
}

/// Writes tables, plots and JSON; the tables are given back.
fn write_files(
    args: &Args,
    scenarios: &[&Scenario],
    limits: &[(String, Limits)],
    runs: &[Run],
) -> Result<String, Failure> {
    let servers: Vec<String> = args.servers.iter().map(|kind| kind.name.clone()).collect();
    let mut groups: BTreeMap<(usize, usize, &str), Vec<&Run>> = BTreeMap::new();
    for run in runs {
        let at = scenarios.iter().position(|scenario| scenario.name == run.scenario);
        groups.entry((at.unwrap_or_default(), run.members, &run.place)).or_default().push(run);
    }
    let groups: Vec<Group<'_>> = groups
        .into_iter()
        .map(|((at, members, place), runs)| Group {
            scenario: scenarios[at],
            members,
            place,
            servers: &servers,
            runs,
        })
        .collect();
    let text = markdown(&groups, limits);
    let failed = |error: std::io::Error| Failure::local(args.out.display().to_string(), &error);
    fs::create_dir_all(&args.out).map_err(failed)?;
    fs::write(args.out.join("compare.md"), &text).map_err(failed)?;
    let json = serde_json::to_vec_pretty(&Record { limits, runs });
    fs::write(args.out.join("compare.json"), json.expect("figures have a JSON form")).map_err(failed)?;
    let plots = [
        (Figure::Rate, "rate.svg"),
        (Figure::P50, "p50.svg"),
        (Figure::P99, "p99.svg"),
        (Figure::Cpu, "cpu.svg"),
        (Figure::Memory, "memory.svg"),
    ];
    for (figure, name) in plots {
        if let Some(svg) = plot::svg(&groups, figure) {
            fs::write(args.out.join(name), svg).map_err(failed)?;
        }
    }
    Ok(text)
}

fn chosen(names: &[String]) -> Result<Vec<&'static Scenario>, Failure> {
    if names.is_empty() {
        return Ok(SCENARIOS.iter().collect());
    }
    let find = |name: &String| {
        let found = SCENARIOS.iter().find(|scenario| scenario.name == name);
        found.ok_or_else(|| Failure::Settings(format!("no scenario {name:?}; `compare list` names them")))
    };
    names.iter().map(find).collect()
}

/// The load generator that was built with this.
fn load_binary() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().map_err(|error| Failure::local("the own binary", &error))?;
    let load = own.with_file_name("load");
    match load.exists() {
        true => Ok(load),
        false => Err(Failure::Settings(format!("{} is not built: build the whole package", load.display()))),
    }
}

fn kind(text: &str) -> Result<Kind, String> {
    let (name, binary) = text.split_once('=').ok_or("it wants NAME=BINARY")?;
    let binary = fs::canonicalize(binary).map_err(|error| format!("{binary}: {error}"))?;
    Ok(Kind { name: name.to_owned(), binary })
}

fn members(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(members @ 1..=9) => Ok(members),
        _ => Err("it wants 1 to 9".to_owned()),
    }
}

fn place(text: &str) -> Result<(String, PathBuf), String> {
    let (name, directory) = text.split_once('=').ok_or("it wants NAME=DIRECTORY")?;
    let directory = PathBuf::from(directory);
    if !directory.is_dir() {
        return Err(format!("{} is not a directory", directory.display()));
    }
    Ok((name.to_owned(), directory))
}
