//! The calls of one connection run on that connection's own task: what came in with one read is answered with one
//! write, and nobody else is woken for it. What computes for long must not run here: see `lanes`.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use hyper::rt::Executor;
use parking_lot::Mutex;

type Call = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where the HTTP/2 library leaves the calls that it has taken in.
#[derive(Clone, Default)]
pub(super) struct Crew {
    new: Arc<Mutex<Vec<Call>>>,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Crew {
    fn execute(&self, call: F) {
        self.new.lock().push(Box::pin(call));
    }
}

impl Crew {
    /// Drives a connection and its calls until the connection ends; calls that are left then are dropped, as nobody
    /// waits for them any more.
    pub(super) async fn drive<C: Future>(&self, connection: C) -> C::Output {
        let mut connection = pin!(connection);
        let mut running = FuturesUnordered::new();
        poll_fn(|context| {
            loop {
                if let Poll::Ready(ended) = connection.as_mut().poll(context) {
                    return Poll::Ready(ended);
                }
                running.extend(self.new.lock().drain(..));
                // Calls that have ended left answers with the connection, which sends them when it is polled again.
                if !Self::advance(&mut running, context) {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    /// Runs the calls that can go on; whether one has ended.
    fn advance(running: &mut FuturesUnordered<Call>, context: &mut Context<'_>) -> bool {
        let mut ended = false;
        while let Poll::Ready(Some(())) = running.poll_next_unpin(context) {
            ended = true;
        }
        ended
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn calls_run_until_the_connection_ends() {
        let crew = Crew::default();
        let ran = Arc::new(AtomicUsize::new(0));
        let (end, ended) = oneshot::channel();
        let mut end = Some(end);
        for _ in 0..10 {
            let ran = ran.clone();
            crew.execute(async move {
                tokio::task::yield_now().await;
                ran.fetch_add(1, Ordering::Relaxed);
            });
        }
        let (watched, left) = (ran.clone(), ran.clone());
        crew.execute(async move {
            while watched.load(Ordering::Relaxed) < 10 {
                tokio::task::yield_now().await;
            }
            _ = end.take().map(|end| end.send(7));
            std::future::pending::<()>().await;
            left.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(crew.drive(ended).await, Ok(7));
        assert_eq!(ran.load(Ordering::Relaxed), 10, "what waits for ever is dropped");
    }
}
