//! What the kernel counts: CPU time, memory and written bytes of processes, and the machine's busy time.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::error::Failure;

/// Counters of one process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Process {
    /// User and system time of all its threads, also of those that have ended.
    pub(crate) cpu_seconds: f64,
    /// Resident memory that no file backs.
    pub(crate) anonymous_bytes: u64,
    /// Resident pages of mapped files.
    pub(crate) file_bytes: u64,
    /// Bytes that it caused to be written to storage.
    pub(crate) written_bytes: u64,
}

impl Process {
    pub(crate) fn sample(pid: u32) -> Result<Process, Failure> {
        let read = |name: &str| {
            let path = format!("/proc/{pid}/{name}");
            fs::read_to_string(&path).map_err(|error| Failure::local(path, &error))
        };
        let unreadable = |name: &str| Failure::Local {
            what: format!("/proc/{pid}/{name}"),
            reason: "not of the form that Linux writes".to_owned(),
        };
        let status = read("status")?;
        let kilobytes = |name| field(&status, name).map(|kilobytes| kilobytes * 1024);
        Ok(Process {
            cpu_seconds: cpu_seconds(&read("stat")?).ok_or_else(|| unreadable("stat"))?,
            anonymous_bytes: kilobytes("RssAnon:").ok_or_else(|| unreadable("status"))?,
            file_bytes: kilobytes("RssFile:").ok_or_else(|| unreadable("status"))?,
            written_bytes: field(&read("io")?, "write_bytes:").ok_or_else(|| unreadable("io"))?,
        })
    }
}

/// Seconds that all cores together have worked since the machine started, waiting for disks not counted.
pub(crate) fn machine_busy_seconds() -> Result<f64, Failure> {
    let stat = fs::read_to_string("/proc/stat").map_err(|error| Failure::local("/proc/stat", &error))?;
    busy_ticks(&stat).map(ticks_to_seconds).ok_or_else(|| Failure::Local {
        what: "/proc/stat".to_owned(),
        reason: "not of the form that Linux writes".to_owned(),
    })
}

fn ticks_to_seconds(ticks: u64) -> f64 {
    ticks as f64 / rustix::param::clock_ticks_per_second() as f64
}

/// Fields 14 and 15 of `stat`; the name in field 2 may hold spaces and parentheses.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    let mut fields = behind_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(ticks_to_seconds(user + system))
}

/// The number behind `name` at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// user, nice, system, irq, softirq and steal; idle and iowait are not work.
fn busy_ticks(stat: &str) -> Option<u64> {
    let numbers: Vec<u64> =
        stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace().map_while(|n| n.parse().ok()).collect();
    [0, 1, 2, 5, 6, 7].iter().map(|&at| numbers.get(at)).sum()
}

/// Syncs of log and database that the server at `endpoint` counts in its `/metrics`.
pub(crate) fn syncs(endpoint: &str) -> Result<u64, Failure> {
    let page =
        metrics(endpoint).map_err(|error| Failure::local(format!("http://{endpoint}/metrics"), &error))?;
    count_syncs(&page).ok_or_else(|| Failure::Foreign {
        endpoint: endpoint.to_owned(),
        what: "/metrics has no count of syncs".to_owned(),
    })
}

fn count_syncs(page: &str) -> Option<u64> {
    let names =
        ["etcd_disk_wal_fsync_duration_seconds_count ", "etcd_disk_backend_commit_duration_seconds_count "];
    names.iter().map(|name| field(page, name)).sum()
}

fn metrics(endpoint: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(endpoint)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: {endpoint}\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

/// A process of somebody else, and where its metrics are.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    pub(crate) pid: u32,
    pub(crate) endpoint: Option<String>,
}

/// Everything that is counted, at one edge of the measured window.
#[derive(Clone, Debug)]
pub(crate) struct Edge {
    pub(crate) at: Instant,
    pub(crate) own: Process,
    pub(crate) servers: Vec<Process>,
    pub(crate) syncs: Option<u64>,
    pub(crate) machine_busy_seconds: f64,
}

impl Edge {
    pub(crate) fn sample(servers: &[Watched]) -> Result<Edge, Failure> {
        let sync_counts: Vec<u64> = servers
            .iter()
            .filter_map(|server| server.endpoint.as_deref())
            .map(syncs)
            .collect::<Result<_, _>>()?;
        Ok(Edge {
            at: Instant::now(),
            own: Process::sample(std::process::id())?,
            servers: servers.iter().map(|server| Process::sample(server.pid)).collect::<Result<_, _>>()?,
            syncs: (!sync_counts.is_empty()).then(|| sync_counts.iter().sum()),
            machine_busy_seconds: machine_busy_seconds()?,
        })
    }

    /// Cores that neither this process nor the servers used between `earlier` and now.
    pub(crate) fn other_cores(&self, earlier: &Edge) -> f64 {
        let servers: f64 = self
            .servers
            .iter()
            .zip(&earlier.servers)
            .map(|(now, then)| now.cpu_seconds - then.cpu_seconds)
            .sum();
        let own = self.own.cpu_seconds - earlier.own.cpu_seconds;
        let all = self.machine_busy_seconds - earlier.machine_busy_seconds;
        ((all - own - servers) / (self.at - earlier.at).as_secs_f64().max(1e-3)).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_an_odd_name_is_read() {
        let stat = "42 (a) b (c) S 1 42 42 0 -1 4194304 100 0 0 0 250 150 0 0 20 0 3 0 1 2 3";
        assert_eq!(cpu_seconds(stat), Some(ticks_to_seconds(400)));
        assert_eq!(cpu_seconds("42 (a) S 1"), None);
    }

    #[test]
    fn the_machines_idle_time_is_not_work() {
        let stat = "cpu  100 1 20 5000 300 4 5 6 7 8\ncpu0 1 1 1 1\n";
        assert_eq!(busy_ticks(stat), Some(100 + 1 + 20 + 4 + 5 + 6));
        assert_eq!(busy_ticks("cpu 1 2"), None);
    }

    #[test]
    fn this_process_is_sampled() {
        let sample = Process::sample(std::process::id()).unwrap();
        assert!(sample.anonymous_bytes > 4096);
        assert!(matches!(Process::sample(u32::MAX), Err(Failure::Local { .. })));
    }

    #[test]
    fn syncs_are_those_of_log_and_database() {
        let page = "etcd_disk_wal_fsync_duration_seconds_count 12\netcd_disk_backend_commit_duration_seconds_count 3\n";
        assert_eq!(count_syncs(page), Some(15));
        assert_eq!(count_syncs("up 1\n"), None);
    }
}
