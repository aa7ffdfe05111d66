//! Figures of a run: as a value that can be read back from JSON, and as a table for people.

use std::collections::BTreeMap;
use std::fmt;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::engine::Outcome;
use crate::proc::Process;

/// Latencies of one kind of operation, in microseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KindReport {
    /// What was done.
    pub name: String,
    /// How often within the window.
    pub count: u64,
    /// Operations a second.
    pub rate: f64,
    /// Arithmetic mean.
    pub mean_us: f64,
    /// Least.
    pub min_us: f64,
    /// Median.
    pub p50_us: f64,
    /// 90th percentile.
    pub p90_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// 99.9th percentile.
    pub p999_us: f64,
    /// Most.
    pub max_us: f64,
}

/// What one server process used within the window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServerReport {
    /// The process.
    pub pid: u32,
    /// CPU seconds.
    pub cpu_seconds: f64,
    /// CPU seconds for 100,000 operations.
    pub cpu_per_100k: f64,
    /// Anonymous memory before connections and watchers were made.
    pub anonymous_bytes_before: u64,
    /// Anonymous memory when they were there, before the first operation.
    pub anonymous_bytes_idle: u64,
    /// Anonymous memory at the start of the window.
    pub anonymous_bytes_first: u64,
    /// Anonymous memory at its end.
    pub anonymous_bytes: u64,
    /// Resident pages of mapped files at the end.
    pub file_bytes: u64,
    /// Bytes written to storage.
    pub written_bytes: u64,
}

/// What a bare gRPC echo reaches with the same client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ceiling {
    /// Calls a second.
    pub rate: f64,
    /// Median in microseconds.
    pub p50_us: f64,
    /// 99th percentile in microseconds.
    pub p99_us: f64,
    /// CPU seconds of the echo server for 100,000 calls.
    pub server_cpu_per_100k: f64,
    /// CPU seconds of the client for 100,000 calls.
    pub client_cpu_per_100k: f64,
}

/// Figures of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The command line.
    pub command: String,
    /// Why the run ended early; the figures are those of the part that was run.
    pub partial: Option<String>,
    /// Length of the measured window.
    pub seconds: f64,
    /// Operations within the window, all kinds together.
    pub operations: u64,
    /// Operations a second.
    pub rate: f64,
    /// Operations that were due and were not answered before patience ended.
    pub unanswered: u64,
    /// Refused requests within the window, by message.
    pub errors: BTreeMap<String, u64>,
    /// Latencies by kind.
    pub kinds: Vec<KindReport>,
    /// Figures that only this workload has.
    pub figures: BTreeMap<String, f64>,
    /// CPU seconds of this client for 100,000 operations.
    pub client_cpu_per_100k: f64,
    /// The servers whose process ids were given.
    pub servers: Vec<ServerReport>,
    /// Syncs of log and database that the servers counted.
    pub syncs: Option<u64>,
    /// Cores that neither this client nor those servers used.
    pub other_cores: f64,
    /// The bare echo, unless it was switched off.
    pub ceiling: Option<Ceiling>,
}

impl Report {
    pub(crate) fn new(
        command: String,
        kinds: &[&'static str],
        pids: &[u32],
        outcome: &Outcome,
        ceiling: Option<Ceiling>,
    ) -> Report {
        let seconds = outcome.seconds;
        let histogram = |at| outcome.recorder.histogram(at);
        let kinds: Vec<KindReport> =
            kinds.iter().enumerate().map(|(at, name)| kind(name, histogram(at), seconds)).collect();
        // Further kinds are parts of the first ones or go on beside them; each workload says which are its operations.
        let operations = kinds.iter().filter(|kind| !kind.name.starts_with('+')).map(|kind| kind.count).sum();
        let per_100k = |cpu: f64| if operations == 0 { 0.0 } else { cpu * 1e5 / operations as f64 };
        let (before, idle, first, last) = (&outcome.before, &outcome.idle, &outcome.first, &outcome.last);
        let server = |(at, pid): (usize, &u32)| {
            let (before, first, last): (&Process, &Process, &Process) =
                (&before.servers[at], &first.servers[at], &last.servers[at]);
            let cpu_seconds = last.cpu_seconds - first.cpu_seconds;
            ServerReport {
                pid: *pid,
                cpu_seconds,
                cpu_per_100k: per_100k(cpu_seconds),
                anonymous_bytes_before: before.anonymous_bytes,
                anonymous_bytes_idle: idle.servers[at].anonymous_bytes,
                anonymous_bytes_first: first.anonymous_bytes,
                anonymous_bytes: last.anonymous_bytes,
                file_bytes: last.file_bytes,
                written_bytes: last.written_bytes.saturating_sub(first.written_bytes),
            }
        };
        let mut figures: BTreeMap<String, f64> = outcome.figures.iter().cloned().collect();
        figures.extend(outcome.recorder.sums.iter().map(|(name, sum)| ((*name).to_owned(), *sum as f64)));
        Report {
            command,
            partial: outcome.cut_short.as_ref().map(ToString::to_string),
            seconds,
            operations,
            rate: rate(operations, seconds),
            unanswered: outcome.unanswered,
            errors: outcome.recorder.errors.clone(),
            kinds,
            figures,
            client_cpu_per_100k: per_100k(last.own.cpu_seconds - first.own.cpu_seconds),
            servers: pids.iter().enumerate().map(server).collect(),
            syncs: last.syncs.zip(first.syncs).map(|(last, first)| last.saturating_sub(first)),
            other_cores: last.other_cores(first),
            ceiling,
        }
    }

    /// CPU seconds of all servers for 100,000 operations; nothing if no process ids were given.
    pub fn server_cpu_per_100k(&self) -> Option<f64> {
        (!self.servers.is_empty()).then(|| self.servers.iter().map(|server| server.cpu_per_100k).sum())
    }

    /// Latencies of the kind with this name.
    pub fn kind(&self, name: &str) -> Option<&KindReport> {
        self.kinds.iter().find(|kind| kind.name == name)
    }
}

fn rate(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { count as f64 / seconds } else { 0.0 }
}

fn kind(name: &str, histogram: &Histogram<u64>, seconds: f64) -> KindReport {
    let us = |nanoseconds: u64| nanoseconds as f64 / 1e3;
    let at = |quantile| us(histogram.value_at_quantile(quantile));
    KindReport {
        name: name.to_owned(),
        count: histogram.len(),
        rate: rate(histogram.len(), seconds),
        mean_us: histogram.mean() / 1e3,
        min_us: us(if histogram.is_empty() { 0 } else { histogram.min() }),
        p50_us: at(0.5),
        p90_us: at(0.9),
        p99_us: at(0.99),
        p999_us: at(0.999),
        max_us: us(histogram.max()),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(reason) = &self.partial {
            writeln!(f, "PARTIAL, the run ended early: {reason}")?;
        }
        let Report { operations, seconds, rate, .. } = self;
        writeln!(f, "{operations} operations in {seconds:.2} s: {rate:.0} a second")?;
        let head = ["milliseconds", "count", "per s", "min", "p50", "p90", "p99", "p99.9", "max"];
        let [name, numbers @ ..] = head;
        write!(f, "{name:<18}")?;
        numbers.iter().try_for_each(|number| write!(f, "{number:>10}"))?;
        writeln!(f)?;
        for kind in &self.kinds {
            write!(f, "{:<18}{:>10}{:>10.0}", kind.name, kind.count, kind.rate)?;
            for us in [kind.min_us, kind.p50_us, kind.p90_us, kind.p99_us, kind.p999_us, kind.max_us] {
                write!(f, "{:>10.3}", us / 1e3)?;
            }
            writeln!(f)?;
        }
        for (name, figure) in &self.figures {
            writeln!(f, "{name}: {figure:.1}")?;
        }
        if self.unanswered > 0 {
            writeln!(f, "{} operations were due and not answered in time", self.unanswered)?;
        }
        for (message, count) in &self.errors {
            writeln!(f, "{count} refused: {message}")?;
        }
        writeln!(f, "CPU seconds for 100,000: client {:.2}", self.client_cpu_per_100k)?;
        for server in &self.servers {
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            writeln!(
                f,
                "  server {}: {:.2}; memory {:.1} MiB anonymous, {:.1} MiB of files; {:.1} MiB written",
                server.pid,
                server.cpu_per_100k,
                mib(server.anonymous_bytes),
                mib(server.file_bytes),
                mib(server.written_bytes)
            )?;
        }
        if let Some(syncs) = self.syncs {
            writeln!(f, "{syncs} syncs")?;
        }
        if !self.servers.is_empty() {
            writeln!(f, "other processes used {:.2} cores", self.other_cores)?;
        }
        if let Some(ceiling) = &self.ceiling {
            writeln!(
                f,
                "ceiling, a bare gRPC echo with the same clients: {:.0} a second, p50 {:.3} ms, p99 {:.3} ms, CPU \
                 seconds for 100,000: server {:.2}, client {:.2}",
                ceiling.rate,
                ceiling.p50_us / 1e3,
                ceiling.p99_us / 1e3,
                ceiling.server_cpu_per_100k,
                ceiling.client_cpu_per_100k
            )?;
            writeln!(f, "share of the ceiling's rate: {:.0} %", 100.0 * self.rate / ceiling.rate.max(1e-9))?;
        }
        Ok(())
    }
}
