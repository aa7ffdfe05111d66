//! Flood control as zap's sampler does it: per second and call site the first 100 lines pass, then every 100th.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::callsite::Identifier;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter};

const FIRST: u64 = 100;
const THEREAFTER: u64 = 100;
const TICK: Duration = Duration::from_secs(1);

/// Counts lines per call site. The number of call sites in the program bounds its memory.
#[derive(Default)]
pub(super) struct Sampling {
    counts: Mutex<HashMap<Identifier, Count>>,
}

struct Count {
    since: Instant,
    lines: u64,
}

impl Count {
    fn pass(&mut self, now: Instant) -> bool {
        if now.duration_since(self.since) >= TICK {
            *self = Self { since: now, lines: 0 };
        }
        self.lines += 1;
        self.lines <= FIRST || (self.lines - FIRST).is_multiple_of(THEREAFTER)
    }
}

impl<S: Subscriber> Filter<S> for Sampling {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let now = Instant::now();
        let mut counts = self.counts.lock();
        let count = counts.entry(event.metadata().callsite()).or_insert(Count { since: now, lines: 0 });
        count.pass(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_thinned_and_a_new_second_starts_afresh() {
        let start = Instant::now();
        let mut count = Count { since: start, lines: 0 };
        let passed = (0..1_000).filter(|_| count.pass(start)).count();
        assert_eq!(passed, 100 + 9);
        assert!(count.pass(start + TICK));
    }
}
