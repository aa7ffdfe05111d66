//! Latencies of one thread, and their sum over all threads. Histograms are HDR with three digits, in nanoseconds.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::error::Failure;

/// Different messages of refused requests that are told apart; the rest is one line, so that a server that puts a number
/// into its message does not fill the report.
const MESSAGES_MAX: usize = 20;

/// What one thread has seen; only what was due within the window is kept.
pub(crate) struct Recorder {
    window_start: Instant,
    window_end: Instant,
    histograms: Vec<Histogram<u64>>,
    pub(crate) errors: BTreeMap<String, u64>,
    /// Sums by name that a workload wants to see in the report, such as bytes or keys.
    pub(crate) sums: BTreeMap<&'static str, u64>,
}

impl Recorder {
    /// For `kinds` kinds of operations.
    pub(crate) fn new(kinds: usize, window_start: Instant, window_end: Instant) -> Recorder {
        let empty = || Histogram::new(3).expect("three digits are allowed");
        let histograms = (0..kinds).map(|_| empty()).collect();
        Recorder { window_start, window_end, histograms, errors: BTreeMap::new(), sums: BTreeMap::new() }
    }

    fn counts(&self, due: Instant) -> bool {
        (self.window_start..self.window_end).contains(&due)
    }

    /// An operation that was due at `due` took `latency`.
    pub(crate) fn took(&mut self, kind: usize, due: Instant, latency: Duration) {
        if self.counts(due) {
            let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX).max(1);
            self.histograms[kind].record(nanoseconds).expect("an auto-resizing histogram takes any value");
        }
    }

    /// A request that was due at `due` was refused.
    pub(crate) fn failed(&mut self, due: Instant, failure: &Failure) {
        if self.counts(due) {
            let message = failure.to_string();
            let known = self.errors.contains_key(&message) || self.errors.len() < MESSAGES_MAX;
            *self.errors.entry(if known { message } else { "others".to_owned() }).or_default() += 1;
        }
    }

    /// Adds to a sum, for work that was due at `due`.
    pub(crate) fn add(&mut self, name: &'static str, due: Instant, amount: u64) {
        if self.counts(due) {
            *self.sums.entry(name).or_default() += amount;
        }
    }

    /// Takes in what another thread has seen.
    pub(crate) fn merge(&mut self, other: &Recorder) {
        for (mine, theirs) in self.histograms.iter_mut().zip(&other.histograms) {
            mine.add(theirs).expect("an auto-resizing histogram takes any value");
        }
        other
            .errors
            .iter()
            .for_each(|(message, count)| *self.errors.entry(message.clone()).or_default() += count);
        other.sums.iter().for_each(|(name, sum)| *self.sums.entry(name).or_default() += sum);
    }

    pub(crate) fn histogram(&self, kind: usize) -> &Histogram<u64> {
        &self.histograms[kind]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_window_counts() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut recorder = Recorder::new(1, start + second, start + 3 * second);
        let refused = Failure::Refused { method: "/a", code: 8, message: "too many requests".to_owned() };
        for (seconds, latency) in [(0, 1), (1, 20), (2, 300), (3, 4000)] {
            recorder.took(0, start + seconds * second, Duration::from_millis(latency));
            recorder.failed(start + seconds * second, &refused);
            recorder.add("keys", start + seconds * second, 5);
        }
        let histogram = recorder.histogram(0);
        assert_eq!(histogram.len(), 2);
        assert!(histogram.equivalent(histogram.max(), 300_000_000));
        assert_eq!(recorder.errors.values().sum::<u64>(), 2);
        assert_eq!(recorder.sums["keys"], 10);
    }

    #[test]
    fn threads_add_up() {
        let start = Instant::now();
        let recorder = || Recorder::new(2, start, start + Duration::from_secs(1));
        let (mut one, mut other) = (recorder(), recorder());
        (1..=100).for_each(|n| one.took(0, start, Duration::from_micros(n)));
        (101..=200).for_each(|n| other.took(0, start, Duration::from_micros(n)));
        other.took(1, start, Duration::from_secs(90));
        one.merge(&other);
        assert_eq!((one.histogram(0).len(), one.histogram(1).len()), (200, 1));
        let median = one.histogram(0).value_at_quantile(0.5);
        assert!(one.histogram(0).equivalent(median, 100_000), "{median}");
    }

    #[test]
    fn messages_without_end_become_one_line() {
        let start = Instant::now();
        let mut recorder = Recorder::new(1, start, start + Duration::from_secs(1));
        for n in 0..100 {
            recorder.failed(start, &Failure::Refused { method: "/a", code: 2, message: n.to_string() });
        }
        assert_eq!(recorder.errors.len(), MESSAGES_MAX + 1);
        assert_eq!(recorder.errors["others"], 80);
    }
}
