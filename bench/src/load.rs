//! The command line of `load`, and its way from flags to figures.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::arrival::Spread;
use crate::cluster::Cluster;
use crate::echo::{self, EchoProcess};
use crate::engine::{self, Plan, Workload};
use crate::error::Failure;
use crate::proc::Watched;
use crate::report::{Ceiling, Report};
use crate::workloads::put::Put;
use crate::workloads::{Common, churn, kube, lease, list, maintenance, mixed, put, range, txn, watch};

/// The exit status of a run whose figures are partial; 1 is a run without figures, 2 wrong flags.
pub const EXIT_PARTIAL: u8 = 3;

/// Warm-up of the echo, in front of `--ceiling`.
const CEILING_WARM_UP: Duration = Duration::from_millis(300);

/// Puts a load on any etcd v3 endpoint and measures what its clients see.
///
/// Without --rate it is a closed loop: each client asks again when it has its answer. With --rate it is an open loop:
/// operations are due at that rate whether or not the server keeps up, and latencies count from when they were due.
/// Exit status: 0 done, 1 no figures, 2 wrong flags, 3 partial figures.
#[derive(Parser, Clone, Debug)]
#[command(name = "load", version, args_override_self = true)]
struct Args {
    /// Client URLs of the cluster's members; connections are spread over them
    #[arg(long, global = true, default_value = "http://127.0.0.1:2379", value_delimiter = ',')]
    endpoints: Vec<String>,
    /// NAME:PASSWORD, for a cluster with authentication
    #[arg(long, global = true)]
    user: Option<String>,
    /// HTTP/2 connections, all threads together
    #[arg(long, global = true, default_value_t = 1, value_parser = positive)]
    connections: usize,
    /// Clients, each with one operation under way at a time
    #[arg(long, global = true, default_value_t = 1, value_parser = positive)]
    clients: usize,
    /// Threads of this program
    #[arg(long, global = true, default_value_t = 1, value_parser = positive)]
    threads: usize,
    /// Operations a second in an open loop
    #[arg(long, global = true, value_parser = rate)]
    rate: Option<f64>,
    /// How arrivals of an open loop are spread
    #[arg(long, global = true, value_enum, default_value_t = Spread::Constant)]
    arrivals: Spread,
    /// Seconds before the measured window
    #[arg(long, global = true, default_value = "2", value_parser = seconds)]
    warm_up: Duration,
    /// Seconds of the measured window
    #[arg(long, global = true, default_value = "10", value_parser = seconds)]
    duration: Duration,
    /// End after this many operations, those of the warm-up included
    #[arg(long, global = true)]
    operations: Option<u64>,
    /// Longest wait in seconds for answers after the window
    #[arg(long, global = true, default_value = "10", value_parser = seconds)]
    drain: Duration,
    /// Every key that is written begins with this
    #[arg(long, global = true, default_value = "load/", value_parser = prefix)]
    prefix: String,
    /// Write although the cluster holds keys outside the prefix
    #[arg(long, global = true)]
    beside_foreign_keys: bool,
    /// Seed of everything that is drawn
    #[arg(long, global = true, default_value_t = 1)]
    seed: u64,
    /// Seconds of a bare gRPC echo with the same clients, the ceiling of this machine; 0 leaves it out
    #[arg(long, global = true, default_value = "2", value_parser = seconds)]
    ceiling: Duration,
    /// Process ids of the servers on this machine, in the order of the endpoints: their CPU, memory and syncs are reported
    #[arg(long, global = true, value_delimiter = ',')]
    pids: Vec<u32>,
    /// Print the report as JSON
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    work: Work,
}

#[derive(Subcommand, Clone, Debug)]
enum Work {
    /// Single puts
    Put(put::PutArgs),
    /// Reads: points, spans, pages, counts
    Range(range::RangeArgs),
    /// Puts and reads at any ratio
    Mixed(mixed::MixedArgs),
    /// Transactions: one put, compare-and-swap, many operations
    Txn(txn::TxnArgs),
    /// Leases: grant, keep alive, expire
    Lease(lease::LeaseArgs),
    /// Watch fan-out: from a put to the event at every watcher
    Watch(watch::WatchArgs),
    /// The request mix of kube-apiserver
    Kube(kube::KubeArgs),
    /// Compaction, defragmentation or snapshots beside puts and reads
    Maintenance(maintenance::MaintenanceArgs),
    /// All keys, by pages or in one answer
    List(list::ListArgs),
    /// A new connection for each read
    Churn(churn::ChurnArgs),
    /// The bare echo alone
    Echo,
    /// Serves the echo; started by this program itself
    #[command(name = echo::SUBCOMMAND, hide = true)]
    EchoServer {
        #[arg(long, default_value_t = 256)]
        value_size: usize,
    },
}

/// Are these flags and this workload such as `load` takes?
#[cfg(test)]
pub(crate) fn check<'a>(args: impl IntoIterator<Item = &'a str>) -> Result<(), clap::Error> {
    Args::try_parse_from(std::iter::once("load").chain(args)).map(|_| ())
}

/// Runs `load` with the process's arguments.
pub fn main(
    args: impl IntoIterator<Item = OsString>,
    out: &mut impl Write,
    log: &mut impl Write,
) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let command = args.iter().skip(1).map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let parsed = Args::try_parse_from(&args).unwrap_or_else(|error| error.exit());
    // Nothing is left to be done if nobody reads what is written.
    match run(&parsed, command, out) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(report)) => {
            let _ = if parsed.json {
                serde_json::to_string(&report).map_err(Into::into).and_then(|json| writeln!(out, "{json}"))
            } else {
                write!(out, "{report}")
            };
            if report.partial.is_some() { ExitCode::from(EXIT_PARTIAL) } else { ExitCode::SUCCESS }
        }
        Err(failure) => {
            let _ = writeln!(log, "load: {failure}");
            ExitCode::from(if matches!(failure, Failure::Settings(_)) { 2 } else { 1 })
        }
    }
}

fn run(args: &Args, command: String, out: &mut impl Write) -> Result<Option<Report>, Failure> {
    let common = Common { prefix: args.prefix.clone(), seed: args.seed };
    let report = match &args.work {
        Work::Put(work) => measure(args, command, work.workload(&common)),
        Work::Range(work) => measure(args, command, work.workload(&common)?),
        Work::Mixed(work) => measure(args, command, work.workload(&common)?),
        Work::Txn(work) => measure(args, command, work.workload(&common)),
        Work::Lease(work) => measure(args, command, work.workload(&common)),
        Work::Watch(work) => measure(args, command, work.workload(&common)?),
        Work::Kube(work) => measure(args, command, work.workload(&common)),
        Work::Maintenance(work) => measure(args, command, work.workload(&common)?),
        Work::List(work) => measure(args, command, work.workload(&common)),
        Work::Churn(work) => measure(args, command, work.workload(&common)),
        Work::Echo => echo_alone(args, command),
        Work::EchoServer { value_size } => return echo::serve(*value_size, out).map(|()| None),
    };
    report.map(Some)
}

fn plan(args: &Args, cluster: &Cluster) -> Result<Plan, Failure> {
    if args.threads > args.clients {
        return Err(Failure::Settings(format!("{} threads for {} clients", args.threads, args.clients)));
    }
    if args.connections > args.clients {
        let Args { connections, clients, .. } = args;
        return Err(Failure::Settings(format!(
            "{connections} connections for {clients} clients: some would idle"
        )));
    }
    let servers = args.pids.iter().enumerate().map(|(at, &pid)| {
        let endpoint = cluster.endpoints().get(at).cloned();
        Watched { pid, endpoint }
    });
    Ok(Plan {
        threads: args.threads,
        connections: args.connections,
        clients: args.clients,
        rate: args.rate.map(|rate| (rate, args.arrivals)),
        warm_up: args.warm_up,
        duration: args.duration,
        operations: args.operations,
        drain: args.drain,
        seed: args.seed,
        servers: servers.collect(),
    })
}

fn measure<W: Workload>(args: &Args, command: String, workload: W) -> Result<Report, Failure> {
    let workload = Arc::new(workload);
    let kinds = workload.kinds();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::local("a runtime", &error))?;
    let (cluster, plan) = runtime.block_on(async {
        let cluster = Cluster::reach(&args.endpoints, args.user.as_deref()).await?;
        let plan = plan(args, &cluster)?;
        if !args.beside_foreign_keys {
            cluster.refuse_foreign_keys(&args.prefix).await?;
        }
        workload.prepare(&cluster).await?;
        Ok::<_, Failure>((cluster, plan))
    })?;
    // The connections that prepared are closed with it.
    drop(runtime);
    let ceiling = if args.ceiling.is_zero() { None } else { Some(echo_ceiling(args)?) };
    let outcome = engine::run(&cluster, &plan, workload)?;
    Ok(Report::new(command, &kinds, &args.pids, &outcome, ceiling))
}

/// Bytes of the echo's values: those of a typical put.
const ECHO_VALUE_SIZE: usize = 256;

/// Puts on an echo server, with the settings of the run but no rate: what it reaches, not what it is asked for.
fn echo_outcome(
    args: &Args,
    warm_up: Duration,
    duration: Duration,
) -> Result<(u32, engine::Outcome), Failure> {
    let echo = EchoProcess::start(ECHO_VALUE_SIZE)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::local("a runtime", &error))?;
    let cluster = runtime.block_on(Cluster::reach(std::slice::from_ref(&echo.endpoint), None))?;
    let mut plan = plan(args, &cluster)?;
    plan.servers = vec![Watched { pid: echo.pid(), endpoint: None }];
    (plan.rate, plan.operations, plan.warm_up, plan.duration) = (None, None, warm_up, duration);
    let common = Common { prefix: args.prefix.clone(), seed: args.seed };
    let outcome = engine::run(&cluster, &plan, Arc::new(Put::of_size(&common, ECHO_VALUE_SIZE)))?;
    match outcome.cut_short {
        Some(failure) => Err(failure),
        None => Ok((echo.pid(), outcome)),
    }
}

fn echo_ceiling(args: &Args) -> Result<Ceiling, Failure> {
    let (pid, outcome) = echo_outcome(args, CEILING_WARM_UP, args.ceiling)?;
    let report = Report::new(String::new(), &["put"], &[pid], &outcome, None);
    Ok(Ceiling {
        rate: report.rate,
        p50_us: report.kinds[0].p50_us,
        p99_us: report.kinds[0].p99_us,
        server_cpu_per_100k: report.servers[0].cpu_per_100k,
        client_cpu_per_100k: report.client_cpu_per_100k,
    })
}

fn echo_alone(args: &Args, command: String) -> Result<Report, Failure> {
    let (pid, outcome) = echo_outcome(args, args.warm_up, args.duration)?;
    Ok(Report::new(command, &["put"], &[pid], &outcome, None))
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("it must be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(format!("{error}")),
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 1e7 => Ok(rate),
        Ok(rate) => Err(format!("{rate} operations a second: it wants more than 0, at most 10 million")),
        Err(error) => Err(format!("{error}")),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=1e6).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        Ok(seconds) => Err(format!("{seconds} seconds: it wants 0 to a million")),
        Err(error) => Err(format!("{error}")),
    }
}

fn prefix(text: &str) -> Result<String, String> {
    match text {
        "" => Err("an empty prefix would take every key for its own".to_owned()),
        _ => Ok(text.to_owned()),
    }
}
