//! The threads that serve gRPC. Each has a reactor of its own, and a connection with its calls and streams stays where it
//! began: on a shared queue every wake-up wakes somebody else to help, which costs more than the help is worth. What
//! computes for long would keep all connections of its lane waiting: it goes to the workers, see [`Lanes::aside`].

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::refusal::{Refusal, STOPPED};

/// The serving threads, and the workers beside them.
#[derive(Debug)]
pub struct Lanes {
    /// Never empty.
    lanes: Vec<Lane>,
    workers: Handle,
}

/// One thread; it ends when this is dropped.
#[derive(Debug)]
struct Lane {
    runtime: Handle,
    /// A clone for each connection.
    seats: Arc<()>,
    _end: Option<oneshot::Sender<()>>,
}

/// A place for one connection, taken until it is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) runtime: Handle,
    _seat: Arc<()>,
}

impl Lanes {
    /// Starts `threads` of them, or one. Must be called on the runtime whose workers take what computes for long.
    ///
    /// # Errors
    /// The system gives no thread or no reactor.
    pub fn start(threads: usize) -> io::Result<Lanes> {
        let lanes = (0..threads.max(1)).map(Lane::start).collect::<io::Result<_>>()?;
        Ok(Lanes { lanes, workers: Handle::current() })
    }

    /// Everything runs on the caller's own runtime.
    #[must_use]
    pub fn here() -> Lanes {
        let lane = Lane { runtime: Handle::current(), seats: Arc::new(()), _end: None };
        Lanes { lanes: vec![lane], workers: Handle::current() }
    }

    /// A place where there are the fewest connections.
    pub(super) fn seat(&self) -> Seat {
        let emptiest = self.lanes.iter().min_by_key(|lane| Arc::strong_count(&lane.seats));
        let lane = emptiest.expect("there is a lane");
        Seat { runtime: lane.runtime.clone(), _seat: lane.seats.clone() }
    }

    /// For what computes for long beside the call that began it.
    pub(super) fn workers(&self) -> &Handle {
        &self.workers
    }

    /// Runs on a worker what may compute for long, so that other calls do not wait for it.
    pub(super) async fn aside<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
    ) -> Result<T, Refusal> {
        self.workers.spawn(work).await.unwrap_or(Err(STOPPED))
    }
}

impl Lane {
    fn start(number: usize) -> io::Result<Lane> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel::<()>();
        thread::Builder::new().name(format!("serve-{number}")).spawn(move || {
            // Only ever dropped.
            let _ = runtime.block_on(ended);
        })?;
        Ok(Lane { runtime: handle, seats: Arc::new(()), _end: Some(end) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_go_where_there_are_the_fewest() {
        let lane = || Lane { runtime: Handle::current(), seats: Arc::new(()), _end: None };
        let lanes = Lanes { lanes: vec![lane(), lane()], workers: Handle::current() };
        let first = lanes.seat();
        let second = lanes.seat();
        let taken = |lanes: &Lanes| -> Vec<usize> {
            lanes.lanes.iter().map(|lane| Arc::strong_count(&lane.seats) - 1).collect()
        };
        assert_eq!(taken(&lanes), [1, 1]);
        drop(first);
        let third = lanes.seat();
        assert_eq!(taken(&lanes), [1, 1]);
        drop((second, third));
        assert_eq!(taken(&lanes), [0, 0]);
    }

    #[tokio::test]
    async fn a_lane_is_a_thread_of_its_own() {
        let lanes = Lanes::start(1).unwrap();
        let name = || thread::current().name().map(str::to_owned);
        let seat = lanes.seat();
        assert_eq!(seat.runtime.spawn(async move { name() }).await.unwrap().as_deref(), Some("serve-0"));
        let worker = lanes.aside(async move { Ok(name()) }).await.unwrap();
        assert_eq!(worker, name());
    }
}
