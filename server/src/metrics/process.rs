//! The process as the kernel sees it, read from `/proc` at each scrape.

use std::fs;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, Result};

/// `process_*` and `os_fd_*`. What cannot be read keeps its last value, which is 0 at first.
pub(super) struct Process {
    cpu_seconds: Counter,
    start_time: Gauge,
    resident: Gauge,
    virtual_size: Gauge,
    virtual_max: Gauge,
    open_fds: Gauge,
    max_fds: Gauge,
    fd_used: Gauge,
    fd_limit: Gauge,
    network_received: Counter,
    network_sent: Counter,
}

impl Process {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            cpu_seconds: Counter::new(
                "process_cpu_seconds_total",
                "User and system CPU time spent, in seconds.",
            )?,
            start_time: Gauge::new(
                "process_start_time_seconds",
                "Start of the process, in seconds since 1970.",
            )?,
            resident: Gauge::new("process_resident_memory_bytes", "Resident memory, in bytes.")?,
            virtual_size: Gauge::new("process_virtual_memory_bytes", "Virtual memory, in bytes.")?,
            virtual_max: Gauge::new(
                "process_virtual_memory_max_bytes",
                "Limit of virtual memory, in bytes, -1 without one.",
            )?,
            open_fds: Gauge::new("process_open_fds", "Open file descriptors.")?,
            max_fds: Gauge::new("process_max_fds", "Limit of open file descriptors.")?,
            fd_used: Gauge::new("os_fd_used", "The number of used file descriptors.")?,
            fd_limit: Gauge::new("os_fd_limit", "The file descriptor limit.")?,
            network_received: Counter::new(
                "process_network_receive_bytes_total",
                "Bytes received over the network by the process's network namespace.",
            )?,
            network_sent: Counter::new(
                "process_network_transmit_bytes_total",
                "Bytes sent over the network by the process's network namespace.",
            )?,
        })
    }

    fn families(&self) -> [&dyn Collector; 11] {
        [
            &self.cpu_seconds,
            &self.start_time,
            &self.resident,
            &self.virtual_size,
            &self.virtual_max,
            &self.open_fds,
            &self.max_fds,
            &self.fd_used,
            &self.fd_limit,
            &self.network_received,
            &self.network_sent,
        ]
    }

    fn refresh(&self) {
        if let Some(stat) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(Stat::parse) {
            let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
            raise(&self.cpu_seconds, stat.cpu_ticks as f64 / ticks_per_second);
            self.virtual_size.set(stat.virtual_bytes as f64);
            self.resident.set((stat.resident_pages * rustix::param::page_size() as u64) as f64);
            if let Some(boot) = fs::read_to_string("/proc/stat").ok().as_deref().and_then(boot_time) {
                self.start_time.set(boot as f64 + stat.start_ticks as f64 / ticks_per_second);
            }
        }
        if let Ok(limits) = fs::read_to_string("/proc/self/limits") {
            let max_fds = limit(&limits, "Max open files").unwrap_or(-1.0);
            self.max_fds.set(max_fds);
            self.fd_limit.set(max_fds);
            self.virtual_max.set(limit(&limits, "Max address space").unwrap_or(-1.0));
        }
        if let Ok(fds) = fs::read_dir("/proc/self/fd") {
            // One of them is the directory that is being read.
            let open = fds.count().saturating_sub(1) as f64;
            self.open_fds.set(open);
            self.fd_used.set(open);
        }
        if let Ok(devices) = fs::read_to_string("/proc/self/net/dev") {
            let (received, sent) = network_bytes(&devices);
            raise(&self.network_received, received as f64);
            raise(&self.network_sent, sent as f64);
        }
    }
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.families().into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.refresh();
        self.families().into_iter().flat_map(Collector::collect).collect()
    }
}

/// Sets a counter that somebody else keeps.
fn raise(counter: &Counter, to: f64) {
    let more = to - counter.get();
    if more > 0.0 {
        counter.inc_by(more);
    }
}

/// What is used of `/proc/self/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name in parentheses, which may hold blanks and parentheses itself.
        let (_, rest) = text.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        // `fields[0]` is the third field of proc(5).
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: number(14)? + number(15)?,
            start_ticks: number(22)?,
            virtual_bytes: number(23)?,
            resident_pages: number(24)?,
        })
    }
}

fn boot_time(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// The soft limit of this name; `None` if it is unlimited.
fn limit(limits: &str, name: &str) -> Option<f64> {
    limits.lines().find_map(|line| line.strip_prefix(name))?.split_ascii_whitespace().next()?.parse().ok()
}

/// Bytes received and sent by all devices, the loopback one included.
fn network_bytes(devices: &str) -> (u64, u64) {
    let counts = devices.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_once(':')?.1.split_ascii_whitespace().collect();
        Some((fields.first()?.parse::<u64>().ok()?, fields.get(8)?.parse::<u64>().ok()?))
    });
    counts.fold((0, 0), |(received, sent), (r, s)| (received + r, sent + s))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_fields() {
        let text = "42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 100 50 13 14 15 16 17 18 777 4096 12 19 20";
        assert_eq!(
            Stat::parse(text),
            Some(Stat { cpu_ticks: 150, start_ticks: 777, virtual_bytes: 4096, resident_pages: 12 })
        );
        assert_eq!(Stat::parse("42 (short) S 1"), None);
    }

    #[test]
    fn limits_and_devices() {
        let limits = "Limit  Soft  Hard  Units\nMax open files            1024   4096   files\nMax address space  unlimited unlimited bytes\n";
        assert_eq!(limit(limits, "Max open files"), Some(1024.0));
        assert_eq!(limit(limits, "Max address space"), None);
        let devices = "Inter-|   Receive | Transmit\n face |bytes |bytes\n  lo: 10 1 0 0 0 0 0 0 20 1 0 0 0 0 0 0\n eth0: 5 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n";
        assert_eq!(network_bytes(devices), (15, 27));
    }

    #[test]
    fn this_process_has_memory_and_files() {
        let process = Process::new().unwrap();
        assert_eq!(process.collect().len(), process.families().len());
        assert!(process.resident.get() > 100_000.0);
        assert!(process.open_fds.get() >= 3.0);
        assert!(process.start_time.get() > 1.6e9);
    }
}
