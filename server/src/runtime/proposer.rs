//! Asking the raft thread and waiting: for the outcome of a proposal, for the confirmation of a read.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use stanchion_replica::apply::Reply;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::answers;
use super::raft_loop::ToRaft;
use super::shared::Shared;
use super::turns::Turns;
use crate::metrics::Metrics;
use crate::refusal::{self, Refusal};

/// The way to the raft thread. Its futures own what they need, so that they outlive the call that made them.
#[derive(Clone)]
pub(super) struct Proposer {
    pub(super) shared: Arc<Shared>,
    pub(super) to_raft: Sender<ToRaft>,
    pub(super) turns: Arc<Turns>,
    /// The election timeout.
    pub(super) election: Duration,
    /// Longest wait.
    pub(super) request_timeout: Duration,
    pub(super) metrics: Arc<Metrics>,
}

/// Takes a waiter off the list when its caller goes away.
struct Waiting {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.shared.forget(self.id);
    }
}

impl Proposer {
    pub(super) fn send(&self, input: ToRaft) {
        // A thread that is gone means that the member stops: waiters run into their timeout.
        let _ = self.to_raft.send(input);
    }

    /// Waits until this member has applied what was committed before the call.
    pub(super) fn barrier(&self) -> impl Future<Output = Result<(), Refusal>> + Send + use<> {
        let confirmed = (!self.shared.reads_are_free.load(Ordering::SeqCst)).then(|| {
            let (sender, receiver) = oneshot::channel();
            self.send(ToRaft::Read(sender));
            receiver
        });
        let (wait, metrics) = (self.request_timeout, self.metrics.clone());
        async move {
            let Some(confirmed) = confirmed else { return Ok(()) };
            match timeout(wait, confirmed).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => Err(refusal::STOPPED),
                Err(_) => {
                    metrics.server.read_indexes_failed.inc();
                    Err(refusal::TIMEOUT)
                }
            }
        }
    }

    /// Sends a proposal with the request id `id` and waits for its outcome.
    pub(super) fn submit(
        &self,
        id: u64,
        input: ToRaft,
    ) -> impl Future<Output = Result<Reply, Refusal>> + Send + use<> {
        let outcome = self.shared.wait_for(id);
        let waiting = Waiting { shared: self.shared.clone(), id };
        if self.shared.waiting() == 1 {
            self.turns.offer(input);
        } else {
            self.send(input);
        }
        let (wait, shared, metrics) = (self.request_timeout, self.shared.clone(), self.metrics.clone());
        let election = self.election;
        async move {
            let _waiting = waiting;
            let began = Instant::now();
            let outcome = timeout(wait, outcome).await;
            if !matches!(outcome, Ok(Ok(_))) {
                metrics.server.proposals_failed.inc();
            }
            match outcome {
                Ok(Ok(outcome)) => outcome.map_err(answers::refused),
                Ok(Err(_)) => Err(refusal::STOPPED),
                Err(_) => Err(shared.why_late(began, election)),
            }
        }
    }
}
