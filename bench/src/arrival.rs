//! When operations are due. In an open loop they are due whether or not the server keeps up, and a latency counts from
//! that moment; nothing here knows what an operation is.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use rand_xoshiro::Xoshiro256PlusPlus;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use crate::keys::unit;

/// How arrivals are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Spread {
    /// Equal distances.
    Constant,
    /// Exponential distances, as of many callers who do not know each other.
    Poisson,
}

/// The moments at which operations are due, as distances from the start; rising, endless.
pub(crate) struct Schedule {
    spread: Spread,
    /// Seconds between two arrivals, on average.
    distance: f64,
    next: f64,
    random: Xoshiro256PlusPlus,
}

impl Schedule {
    /// `rate` arrivals a second, the first one `phase` (0 to 1) of a distance after the start.
    pub(crate) fn new(spread: Spread, rate: f64, phase: f64, random: Xoshiro256PlusPlus) -> Schedule {
        assert!(rate > 0.0 && rate.is_finite(), "{rate} arrivals a second");
        let distance = 1.0 / rate;
        Schedule { spread, distance, next: distance * phase, random }
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let due = Duration::from_secs_f64(self.next);
        self.next += match self.spread {
            Spread::Constant => self.distance,
            // 1 - u is above 0, so the logarithm is finite.
            Spread::Poisson => -(1.0 - unit(&mut self.random)).ln() * self.distance,
        };
        Some(due)
    }
}

/// Arrivals that are due and not taken yet; clients of one thread take them in order.
#[derive(Default)]
pub(crate) struct Arrivals {
    due: RefCell<VecDeque<Instant>>,
    came: Notify,
    ended: Cell<bool>,
}

impl Arrivals {
    /// The next arrival's intended moment; nothing when the last one has been taken.
    pub(crate) async fn take(&self) -> Option<Instant> {
        loop {
            if let Some(due) = self.due.borrow_mut().pop_front() {
                return Some(due);
            }
            if self.ended.get() {
                return None;
            }
            self.came.notified().await;
        }
    }

    /// How many nobody took, for a run that is cut short.
    pub(crate) fn left(&self) -> usize {
        self.due.borrow().len()
    }

    /// Lets arrivals fall due until `end`, or until `stopped` says so.
    pub(crate) async fn feed(
        &self,
        schedule: Schedule,
        start: Instant,
        end: Instant,
        stopped: impl Fn() -> bool,
    ) -> io::Result<()> {
        let timer = Timer::new()?;
        for due in schedule.map(|distance| start + distance).take_while(|due| *due < end) {
            timer.until(due).await?;
            if stopped() {
                break;
            }
            self.due.borrow_mut().push_back(due);
            self.came.notify_one();
        }
        self.ended.set(true);
        self.came.notify_waiters();
        // A client that is between its look and its wait finds the permit.
        self.came.notify_one();
        Ok(())
    }
}

/// A timer of the kernel: tokio's own has steps of a millisecond, longer than what is measured.
struct Timer {
    fd: AsyncFd<std::os::fd::OwnedFd>,
}

impl Timer {
    #[allow(deprecated, reason = "an OwnedFd keeps its number, which is what the newer, unsafe one asks for")]
    fn new() -> io::Result<Timer> {
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        Ok(Timer { fd: AsyncFd::with_interest(fd, Interest::READABLE)? })
    }

    async fn until(&self, due: Instant) -> io::Result<()> {
        let left = due.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        let seconds = i64::try_from(left.as_secs()).map_err(io::Error::other)?;
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec { tv_sec: seconds, tv_nsec: i64::from(left.subsec_nanos()) },
        };
        timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &once)?;
        loop {
            let mut ready = self.fd.readable().await?;
            let mut count = [0; 8];
            let read = ready.try_io(|fd| rustix::io::read(fd, &mut count).map_err(io::Error::from));
            if let Ok(read) = read {
                return read.map(|_| ());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::keys::seeded;

    #[test]
    fn constant_arrivals_keep_their_distance_and_phase() {
        let due: Vec<f64> = Schedule::new(Spread::Constant, 4.0, 0.5, seeded(1, 0))
            .take(3)
            .map(|d| d.as_secs_f64())
            .collect();
        assert_eq!(due, [0.125, 0.375, 0.625]);
    }

    #[test]
    fn poisson_arrivals_keep_the_rate_and_differ() {
        let due: Vec<Duration> =
            Schedule::new(Spread::Poisson, 1000.0, 0.0, seeded(7, 0)).take(100_001).collect();
        let seconds = due[100_000].as_secs_f64();
        assert!((98.0..102.0).contains(&seconds), "{seconds}");
        // Of exponential distances, a share of 1/e is longer than the average.
        let long = due.windows(2).filter(|pair| pair[1] - pair[0] > Duration::from_millis(1)).count();
        assert!((35_800..37_800).contains(&long), "{long}");
    }

    #[tokio::test]
    async fn arrivals_that_nobody_took_in_time_keep_their_intended_moment() {
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let arrivals = Rc::new(Arrivals::default());
                // Ten arrivals, all in the past: they fall due at once, and none is moved.
                let start = Instant::now() - Duration::from_secs(10);
                let schedule = Schedule::new(Spread::Constant, 1.0, 0.0, seeded(1, 0));
                let end = start + Duration::from_millis(9_500);
                arrivals.feed(schedule, start, end, || false).await.unwrap();
                for second in 0..10 {
                    assert_eq!(arrivals.take().await, Some(start + Duration::from_secs(second)));
                }
                assert_eq!(arrivals.take().await, None);
            })
            .await;
    }

    #[tokio::test]
    async fn an_arrival_is_not_early() {
        let arrivals = Arrivals::default();
        let start = Instant::now();
        let schedule = Schedule::new(Spread::Constant, 1000.0, 0.0, seeded(1, 0));
        arrivals.feed(schedule, start, start + Duration::from_millis(5), || false).await.unwrap();
        assert!(start.elapsed() >= Duration::from_millis(4));
        assert_eq!(arrivals.left(), 5);
    }
}
