//! Medians, spreads, ratios and verdicts of many runs, as Markdown.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::limits::Limits;
use super::scenario::{Figure, Scenario, Target};
use crate::report::Report;

/// One run of one scenario on one server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) scenario: String,
    pub(crate) server: String,
    pub(crate) members: usize,
    /// Where the data lay, by the name of the place.
    pub(crate) place: String,
    pub(crate) round: usize,
    /// Why its figures should not be trusted.
    pub(crate) marked: Option<String>,
    pub(crate) start_seconds: f64,
    /// How long the member that replaced another took, if one did.
    pub(crate) join_seconds: Option<f64>,
    pub(crate) report: Report,
}

/// Median of figures, with the lowest and the highest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// Nothing of nothing.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let (low, high) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
        Some(Spread { median, low, high })
    }
}

impl Run {
    /// A figure of this run, if it has it.
    pub(crate) fn figure(&self, figure: Figure) -> Option<f64> {
        let report = &self.report;
        let first = report.kinds.first()?;
        let grown = |from: fn(&crate::report::ServerReport) -> u64,
                     to: fn(&crate::report::ServerReport) -> u64| {
            report.servers.iter().map(|server| to(server) as f64 - from(server) as f64).sum::<f64>() / 1024.0
        };
        match figure {
            Figure::Rate => Some(report.rate),
            Figure::P50 => Some(first.p50_us / 1e3),
            Figure::P99 => Some(first.p99_us / 1e3),
            Figure::ReadMax => report.kind("range").map(|kind| kind.max_us / 1e3),
            Figure::Cpu => report.server_cpu_per_100k(),
            Figure::EventCpu => {
                let events = report.kind("+ event")?.count as f64;
                let cpu: f64 = report.servers.iter().map(|server| server.cpu_seconds).sum();
                (events > 0.0).then(|| cpu * 1e5 / events)
            }
            Figure::Memory => Some(
                report.servers.iter().map(|server| server.anonymous_bytes as f64).sum::<f64>()
                    / f64::from(1 << 20),
            ),
            Figure::WatcherMemory => {
                let watchers = report.figures.get("watchers")?;
                Some(
                    grown(|server| server.anonymous_bytes_before, |server| server.anonymous_bytes_idle)
                        / watchers,
                )
            }
            Figure::LeaseMemory => {
                let granted = report.kind("grant")?.count as f64;
                let grown = grown(|server| server.anonymous_bytes_first, |server| server.anonymous_bytes);
                // An allocator that gave back more than the leases took says nothing about leases.
                (granted > 0.0 && grown > 0.0).then(|| grown / granted)
            }
            Figure::Written => {
                let written: u64 = report.servers.iter().map(|server| server.written_bytes).sum();
                (report.operations > 0).then(|| written as f64 / 1024.0 / report.operations as f64)
            }
            Figure::Syncs => {
                let syncs = report.syncs? as f64;
                (report.operations > 0).then(|| syncs * 100.0 / report.operations as f64)
            }
            Figure::Start => Some(self.start_seconds),
            Figure::Join => self.join_seconds,
        }
    }
}

/// All runs of one scenario in one place with one number of members.
pub(crate) struct Group<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) members: usize,
    pub(crate) place: &'a str,
    /// In the order in which the servers were named.
    pub(crate) servers: &'a [String],
    pub(crate) runs: Vec<&'a Run>,
}

impl Group<'_> {
    /// A figure of one server, over the runs that are not marked, or over all if all are.
    pub(crate) fn spread(&self, server: &str, figure: Figure) -> Option<Spread> {
        let of = |marked: bool| {
            let runs =
                self.runs.iter().filter(|run| run.server == server && (marked || run.marked.is_none()));
            Spread::of(runs.filter_map(|run| run.figure(figure)))
        };
        of(false).or_else(|| of(true))
    }

    /// Ours to the reference's.
    pub(crate) fn ratio(&self, figure: Figure) -> Option<f64> {
        let reference = self.spread(self.servers.last()?, figure)?.median;
        let ours = self.spread(self.servers.first()?, figure)?.median;
        (self.servers.len() > 1 && reference != 0.0).then(|| ours / reference)
    }

    fn ceiling(&self, what: fn(&crate::report::Ceiling) -> f64) -> Option<f64> {
        Spread::of(self.runs.iter().filter_map(|run| run.report.ceiling.as_ref()).map(what))
            .map(|spread| spread.median)
    }

    /// The first server's rate as a share of the bare echo's.
    fn share_of_echo(&self) -> Option<f64> {
        Some(
            self.spread(self.servers.first()?, Figure::Rate)?.median
                / self.ceiling(|ceiling| ceiling.rate)?,
        )
    }

    /// Has every server a run that nothing disturbed? Without, targets are neither met nor missed.
    fn undisturbed(&self) -> bool {
        let clean =
            |server: &String| self.runs.iter().any(|run| run.server == *server && run.marked.is_none());
        self.servers.iter().all(clean)
    }

    /// Each target in words, and whether it was met.
    pub(crate) fn verdicts(&self) -> Vec<(String, bool)> {
        self.scenario.targets.iter().filter_map(|target| self.verdict(*target)).collect()
    }

    fn verdict(&self, target: Target) -> Option<(String, bool)> {
        match target {
            Target::AtMost(figure, limit) => {
                let ratio = self.ratio(figure)?;
                Some((format!("{} {ratio:.3}× (≤ {limit})", figure.title()), ratio <= limit))
            }
            Target::AtLeast(figure, limit) => {
                let ratio = self.ratio(figure)?;
                Some((format!("{} {ratio:.2}× (≥ {limit})", figure.title()), ratio >= limit))
            }
            Target::Absolute(figure, limit) => {
                let ours = self.spread(self.servers.first()?, figure)?.median;
                Some((format!("{} {} (≤ {limit})", figure.title(), short(ours)), ours <= limit))
            }
            Target::EchoCpu(limit) => {
                let ours = self.spread(self.servers.first()?, Figure::Cpu)?.median;
                let ratio = ours / self.ceiling(|ceiling| ceiling.server_cpu_per_100k)?;
                Some((format!("CPU {ratio:.2}× the bare echo's (≤ {limit})"), ratio <= limit))
            }
        }
    }
}

/// The whole comparison for a section of `bench/RESULTS.md`.
pub(crate) fn markdown(groups: &[Group<'_>], limits: &[(String, Limits)]) -> String {
    let mut text = String::new();
    for (place, limits) in limits {
        let _ = writeln!(
            text,
            "Limits on {place}: a 4 KiB write with `fdatasync` {:.0} µs (p99 {:.0}), memory copied at {:.1} GB/s.",
            limits.sync_p50_us,
            limits.sync_p99_us,
            limits.copy_bytes_per_second / 1e9
        );
    }
    for group in groups {
        let members =
            if group.members == 1 { "1 member".to_owned() } else { format!("{} members", group.members) };
        let _ = writeln!(
            text,
            "\n**{}** (`{}`), {members}, {}\n",
            group.scenario.title, group.scenario.name, group.place
        );
        figures(&mut text, group);
        let _ = writeln!(text);
        shares(&mut text, group, limits);
        for (words, met) in group.verdicts() {
            let verdict = match (group.undisturbed(), met) {
                (false, _) => "no verdict, all runs of a server are marked",
                (true, true) => "met",
                (true, false) => "**not met**",
            };
            let _ = writeln!(text, "- {verdict}: {words}");
        }
        for run in group.runs.iter().filter(|run| run.marked.is_some()) {
            let reason = run.marked.as_deref().unwrap_or_default();
            let _ = writeln!(text, "- marked: {} in round {}: {reason}", run.server, run.round);
        }
    }
    text
}

fn figures(text: &mut String, group: &Group<'_>) {
    let names = group.servers.join(" | ");
    let _ = writeln!(text, "| | {names} | ratio |\n|---|---|{}", "---|".repeat(group.servers.len()));
    for figure in Figure::ALL {
        let spreads: Vec<_> = group.servers.iter().map(|server| group.spread(server, figure)).collect();
        if spreads.iter().all(Option::is_none) {
            continue;
        }
        let _ = write!(text, "| {} |", figure.title());
        for spread in spreads {
            let _ = match spread {
                Some(Spread { median, low, high }) => {
                    write!(text, " {} ({}–{}) |", short(median), short(low), short(high))
                }
                None => write!(text, " |"),
            };
        }
        let _ = match group.ratio(figure) {
            Some(ratio) => writeln!(text, " {} |", short(ratio)),
            None => writeln!(text, " |"),
        };
    }
}

fn shares(text: &mut String, group: &Group<'_>, limits: &[(String, Limits)]) {
    if let Some(share) = group.share_of_echo() {
        let rate = group.ceiling(|ceiling| ceiling.rate).unwrap_or_default();
        let cpu = group.ceiling(|ceiling| ceiling.server_cpu_per_100k).unwrap_or_default();
        let _ = writeln!(
            text,
            "- {:.0} % of the bare echo's rate ({} calls/s, server CPU {} s per 100,000)",
            100.0 * share,
            short(rate),
            short(cpu)
        );
    }
    let Some((_, limit)) = limits.iter().find(|(place, _)| place == group.place) else { return };
    let p50 = group.servers.first().and_then(|server| group.spread(server, Figure::P50));
    if let Some(p50) = p50.filter(|_| group.scenario.name == "put-1") {
        let _ = writeln!(
            text,
            "- a bare `fdatasync` is {:.0} % of its median",
            limit.sync_p50_us / p50.median / 10.0
        );
    }
    if let Some(rate) = bytes_per_second(group) {
        let share = 100.0 * rate / limit.copy_bytes_per_second;
        let _ = writeln!(
            text,
            "- {:.0} MB/s of values, {share:.1} % of what one thread copies in memory",
            rate / 1e6
        );
    }
}

/// Bytes of values that the first server's clients took in a second, if the workload counts them.
fn bytes_per_second(group: &Group<'_>) -> Option<f64> {
    let first = group.servers.first()?;
    let ours = group.runs.iter().filter(|run| run.server == *first);
    let rate = |run: &&Run| Some(run.report.figures.get("bytes of values")? / run.report.seconds);
    Spread::of(ours.filter_map(rate)).map(|spread| spread.median)
}

/// Three digits, more in front of the point if there are.
pub(crate) fn short(figure: f64) -> String {
    match figure.abs() {
        size if size >= 100.0 => format!("{figure:.0}"),
        size if size >= 10.0 => format!("{figure:.1}"),
        size if size >= 1.0 => format!("{figure:.2}"),
        size if size >= 0.01 || size == 0.0 => format!("{figure:.3}"),
        _ => format!("{figure:.5}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_between_the_lowest_and_the_highest() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, low: 1.0, high: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0]).map(|spread| spread.median), Some(2.5));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn figures_have_three_digits() {
        for (figure, text) in [
            (12345.6, "12346"),
            (12.34, "12.3"),
            (1.234, "1.23"),
            (0.1234, "0.123"),
            (0.00123, "0.00123"),
            (0.0, "0.000"),
        ] {
            assert_eq!(short(figure), text);
        }
    }

    #[test]
    fn verdicts_and_tables_follow_from_the_runs() {
        let scenario = scenario(&[
            Target::AtLeast(Figure::Rate, 1.8),
            Target::AtMost(Figure::P99, 0.6),
            Target::EchoCpu(1.8),
        ]);
        let servers = ["ours".to_owned(), "etcd".to_owned()];
        let runs: Vec<Run> = [("ours", 2000.0, None), ("etcd", 1000.0, None), ("ours", 9.0, Some("noise"))]
            .map(|(server, rate, marked)| run(server, rate, marked))
            .into();
        let group = group(&scenario, &servers, &runs);
        let met: Vec<bool> = group.verdicts().into_iter().map(|(_, met)| met).collect();
        assert_eq!(met, [true, false, true]);
        let limits = Limits { sync_p50_us: 80.0, sync_p99_us: 90.0, copy_bytes_per_second: 1e10 };
        let text = markdown(&[group], &[("disk".to_owned(), limits)]);
        assert!(text.contains("| operations/s | 2000 (2000–2000) | 1000 (1000–1000) | 2.00 |"), "{text}");
        assert!(text.contains("- **not met**: p99, ms 1.000× (≤ 0.6)"), "{text}");
        assert!(text.contains("- marked: ours in round 1: noise"), "{text}");
        assert!(text.contains("50 % of the bare echo's rate"), "{text}");
    }

    #[test]
    fn disturbed_runs_are_no_grounds_for_a_verdict() {
        let scenario = scenario(&[Target::AtLeast(Figure::Rate, 1.8)]);
        let servers = ["ours".to_owned(), "etcd".to_owned()];
        let runs = [run("ours", 2000.0, Some("noise")), run("etcd", 1000.0, None)];
        let group = group(&scenario, &servers, &runs);
        let text = markdown(&[group], &[]);
        assert!(text.contains("- no verdict, all runs of a server are marked: operations/s 2.00×"), "{text}");
        assert!(!text.contains("met:"), "{text}");
    }

    fn scenario(targets: &'static [Target]) -> Scenario {
        Scenario {
            name: "s",
            title: "a scenario",
            load: "put",
            echo: true,
            data: None,
            replaces: false,
            targets,
        }
    }

    fn group<'a>(scenario: &'a Scenario, servers: &'a [String], runs: &'a [Run]) -> Group<'a> {
        Group { scenario, members: 1, place: "disk", servers, runs: runs.iter().collect() }
    }

    fn run(server: &str, rate: f64, marked: Option<&str>) -> Run {
        let kind = crate::report::KindReport {
            name: "put".to_owned(),
            count: 10,
            rate,
            mean_us: 1.0,
            min_us: 1.0,
            p50_us: 1.0,
            p90_us: 1.0,
            p99_us: 1.0,
            p999_us: 1.0,
            max_us: 1.0,
        };
        let server_report = crate::report::ServerReport {
            pid: 1,
            cpu_seconds: 1.0,
            cpu_per_100k: 3.0,
            anonymous_bytes_before: 0,
            anonymous_bytes_idle: 0,
            anonymous_bytes_first: 0,
            anonymous_bytes: 1 << 20,
            file_bytes: 0,
            written_bytes: 0,
        };
        let ceiling = crate::report::Ceiling {
            rate: 4000.0,
            p50_us: 1.0,
            p99_us: 1.0,
            server_cpu_per_100k: 2.0,
            client_cpu_per_100k: 1.0,
        };
        let report = Report {
            command: String::new(),
            partial: None,
            seconds: 1.0,
            operations: 10,
            rate,
            unanswered: 0,
            errors: Default::default(),
            kinds: vec![kind],
            figures: Default::default(),
            client_cpu_per_100k: 1.0,
            servers: vec![server_report],
            syncs: None,
            other_cores: 0.0,
            ceiling: Some(ceiling),
        };
        Run {
            scenario: "s".to_owned(),
            server: server.to_owned(),
            members: 1,
            place: "disk".to_owned(),
            round: 1,
            marked: marked.map(str::to_owned),
            start_seconds: 0.1,
            join_seconds: None,
            report,
        }
    }
}
