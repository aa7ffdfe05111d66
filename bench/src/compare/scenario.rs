//! What is compared: each scenario is a command line of `load`, and what is demanded of ours beside the reference.

/// A figure of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    /// Operations a second.
    Rate,
    /// Median latency of the first kind, milliseconds.
    P50,
    /// 99th percentile of the first kind, milliseconds.
    P99,
    /// Longest latency of a read in the foreground, milliseconds.
    ReadMax,
    /// Server CPU seconds for 100,000 operations.
    Cpu,
    /// Server CPU seconds for 100,000 events.
    EventCpu,
    /// Anonymous memory of all members, MiB.
    Memory,
    /// Anonymous memory that came with each watcher, KiB.
    WatcherMemory,
    /// Anonymous memory that came with each lease, KiB.
    LeaseMemory,
    /// Bytes written for each operation as the kernel counts them, KiB.
    Written,
    /// Syncs of log and database for 100 operations.
    Syncs,
    /// From the start of the process to the first linearizable read, seconds.
    Start,
    /// From the start of an empty member that replaces another to its first linearizable read, seconds.
    Join,
}

impl Figure {
    pub(crate) const ALL: [Figure; 13] = [
        Figure::Rate,
        Figure::P50,
        Figure::P99,
        Figure::ReadMax,
        Figure::Cpu,
        Figure::EventCpu,
        Figure::Memory,
        Figure::WatcherMemory,
        Figure::LeaseMemory,
        Figure::Written,
        Figure::Syncs,
        Figure::Start,
        Figure::Join,
    ];

    /// With its unit.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Figure::Rate => "operations/s",
            Figure::P50 => "p50, ms",
            Figure::P99 => "p99, ms",
            Figure::ReadMax => "longest read, ms",
            Figure::Cpu => "server CPU, s per 100,000",
            Figure::EventCpu => "server CPU, s per 100,000 events",
            Figure::Memory => "anonymous memory, MiB",
            Figure::WatcherMemory => "memory per watcher, KiB",
            Figure::LeaseMemory => "memory per lease, KiB",
            Figure::Written => "written, KiB per operation",
            Figure::Syncs => "syncs per 100 operations",
            Figure::Start => "start to first read, s",
            Figure::Join => "new member's start to first read, s",
        }
    }
}

/// What is demanded of the first server.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// At most this many times the reference's figure.
    AtMost(Figure, f64),
    /// At least this many times the reference's figure.
    AtLeast(Figure, f64),
    /// At most this, whatever the reference does.
    Absolute(Figure, f64),
    /// At most this many times the bare echo's CPU per operation.
    EchoCpu(f64),
}

/// One comparison.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// Flags and workload of `load`.
    pub(crate) load: &'static str,
    /// Is a bare echo with the same clients its ceiling?
    pub(crate) echo: bool,
    /// Scenarios of one name share a data directory for each server, which is filled once.
    pub(crate) data: Option<&'static str>,
    /// Is the last of several members replaced by an empty one meanwhile? Clients ask the others only.
    pub(crate) replaces: bool,
    pub(crate) targets: &'static [Target],
}

use Figure::{Cpu, EventCpu, LeaseMemory, Memory, P50, P99, Rate, ReadMax, Start, WatcherMemory};
use Target::{Absolute, AtLeast, AtMost, EchoCpu};

macro_rules! scenario {
    ($name:literal, $title:literal, $load:literal, echo: $echo:literal, data: $data:expr, $(replaces: $replaces:literal,)? [$($target:expr),*]) => {
        Scenario {
            name: $name,
            title: $title,
            load: $load,
            echo: $echo,
            data: $data,
            replaces: false $(|| $replaces)?,
            targets: &[$($target),*],
        }
    };
}

/// All of them. Those with data come last and stay together: each server opens its million keys again for each.
pub(crate) const SCENARIOS: &[Scenario] = &[
    scenario!("put-1", "put, 1 client, 256 B", "put", echo: true, data: None, [AtMost(P50, 0.7)]),
    scenario!("put-1000", "put, 1,000 clients on 100 connections, 256 B",
        "--clients=1000 --connections=100 put", echo: true, data: None,
        [AtLeast(Rate, 1.8), AtMost(P99, 0.6), AtMost(Cpu, 0.4), EchoCpu(1.8)]),
    scenario!("get", "linearizable get, 1,000 clients on 100 connections",
        "--clients=1000 --connections=100 range", echo: true, data: None,
        [AtLeast(Rate, 1.5), AtMost(Cpu, 0.45), EchoCpu(1.3)]),
    scenario!("get-serializable", "serializable get, 1,000 clients on 100 connections",
        "--clients=1000 --connections=100 range --serializable", echo: true, data: None,
        [AtLeast(Rate, 1.5), AtMost(Cpu, 0.45), EchoCpu(1.3)]),
    scenario!("span", "range of exactly 1,000 keys, 1 client", "range --shape=span", echo: false, data: None,
        [AtMost(P50, 0.2), AtMost(Cpu, 0.2)]),
    scenario!("mixed", "90 % gets and 10 % puts, zipf, 1,000 clients on 100 connections",
        "--clients=1000 --connections=100 mixed --order=zipf", echo: true, data: None, []),
    scenario!("open-loop", "2,000 puts a second, open loop, Poisson arrivals",
        "--clients=1000 --connections=10 --rate=2000 --arrivals=poisson put", echo: false, data: None, []),
    scenario!("txn-put", "one-put txn, 1,000 clients on 100 connections",
        "--clients=1000 --connections=100 txn --shape=put", echo: true, data: None,
        [AtLeast(Rate, 1.8), AtMost(Cpu, 0.4)]),
    scenario!("txn-cas", "compare-and-swap, 1,000 clients on 100 connections",
        "--clients=1000 --connections=100 txn --shape=cas", echo: true, data: None,
        [AtLeast(Rate, 1.8), AtMost(Cpu, 0.4)]),
    scenario!("watch", "fan-out to 10,000 watchers of one key on 100 streams",
        "--connections=1 watch --watchers=10000 --streams=100", echo: false, data: None,
        [AtMost(EventCpu, 0.3), AtMost(P99, 0.3), AtMost(WatcherMemory, 0.3)]),
    scenario!("watchers-own", "2,000 watchers, each with a key and a stream of its own",
        "--clients=20 --connections=20 watch --watchers=2000 --streams=2000 --watched-keys=2000", echo: false,
        data: None, [AtMost(WatcherMemory, 0.3)]),
    scenario!("keep-alive", "lease keep-alive on 1,000 streams",
        "--clients=1000 --connections=100 lease --shape=keep-alive", echo: true, data: None, [AtMost(Cpu, 0.6)]),
    scenario!("grant", "lease grants, 1,000 clients on 100 connections",
        "--clients=1000 --connections=100 lease --shape=grant", echo: true, data: None,
        [AtLeast(Rate, 2.5), AtMost(LeaseMemory, 0.2)]),
    scenario!("replacement-few", "gets and puts, 1,000 a second, while an empty member takes over 1,000 keys",
        "--clients=50 --rate=1000 mixed --reads=0.5 --keys=1000", echo: false, data: None, replaces: true,
        [Absolute(ReadMax, 50.0)]),
    scenario!("kube", "the mix of kube-apiserver, 64 clients on 4 connections",
        "--clients=64 --connections=4 kube --keys=5000 --value-size=1024", echo: false, data: None, []),
    scenario!("churn", "a new connection for each get, 16 clients", "--clients=16 churn", echo: false, data: None, []),
    scenario!("page", "open-ended page of 1,000 of 1 million keys",
        "range --shape=page --keys=1000000 --value-size=256", echo: false, data: Some("million"),
        [AtMost(P50, 0.012), AtMost(Memory, 0.2), AtMost(Start, 0.15)]),
    scenario!("count", "count of 1 million keys", "range --shape=count --keys=1000000 --value-size=256", echo: false,
        data: Some("million"), [AtMost(P50, 0.002)]),
    scenario!("get-million", "linearizable get of 1 million keys, 1,000 clients on 100 connections",
        "--clients=1000 --connections=100 range --keys=1000000 --value-size=256", echo: true,
        data: Some("million"), [AtLeast(Rate, 1.5), AtMost(Cpu, 0.45)]),
    scenario!("list", "all of 1 million keys by pages of 500", "list --keys=1000000 --value-size=256", echo: false,
        data: Some("million"), []),
    scenario!("snapshot", "gets, 200 a second, during snapshots of 1 million keys",
        "--clients=50 --rate=200 maintenance --task=snapshot --every=0.2 --reads=1 --keys=1000000 --value-size=256",
        echo: false, data: Some("million"), [Absolute(ReadMax, 50.0)]),
    scenario!("compaction", "gets and puts, 200 a second, during compactions of 1 million keys",
        "--clients=50 --rate=200 maintenance --task=compaction --every=0.2 --reads=0.5 --keys=1000000 --value-size=256",
        echo: false, data: Some("million"), [Absolute(ReadMax, 50.0)]),
    scenario!("defragmentation", "gets, 200 a second, during defragmentations of 1 million keys",
        "--clients=50 --rate=200 maintenance --task=defragmentation --every=0.2 --reads=1 --keys=1000000 --value-size=256",
        echo: false, data: Some("million"), [Absolute(ReadMax, 50.0)]),
    scenario!("replacement", "gets and puts, 1,000 a second, while an empty member takes over 1 million keys",
        "--clients=50 --rate=1000 mixed --reads=0.5 --keys=1000000 --value-size=256", echo: false,
        data: Some("million"), replaces: true, [Absolute(ReadMax, 50.0)]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_different_and_flags_are_loads_own() {
        for (at, scenario) in SCENARIOS.iter().enumerate() {
            assert!(SCENARIOS[..at].iter().all(|earlier| earlier.name != scenario.name), "{}", scenario.name);
            crate::load::check(scenario.load.split(' '))
                .unwrap_or_else(|error| panic!("{}: {error}", scenario.name));
        }
    }
}
