//! What only the primary does: count time, offer expired leases in batches, offer checkpoints of the time left.
//!
//! Nothing is revoked or checkpointed here: the batches are proposals, and the changes come back through
//! [`Lessor::revoke`] and [`Lessor::checkpoint`] when the cluster has agreed.

use std::collections::VecDeque;

use crate::{LeaseId, Lessor};

/// A round of looking for expired leases and due checkpoints comes this often, in milliseconds.
pub const ROUND_MS: u64 = 500;
/// Leases in one batch of expired ones, and found in one round.
pub const EXPIRED_BATCH_MAX: usize = 500;
/// Batches of expired leases that may wait to be taken; while so many wait no more are looked for.
pub const EXPIRED_BATCHES_MAX: usize = 16;
/// Promotion spreads deadlines from this many leases on.
pub const SPREAD_FROM_LEASES: usize = 1000;
/// After a spread at most this many leases run out within any second: three quarters of what the rounds revoke, so
/// that leases that had piled up do not use up the whole rate.
pub const EXPIRIES_PER_SECOND_MAX: usize = 750;
/// Checkpoints in one batch.
pub const CHECKPOINT_BATCH_MAX: usize = 1000;
/// Batches of checkpoints made in one round: 1000 a second.
pub const CHECKPOINT_BATCHES_PER_ROUND: usize = 500;

/// A remaining time to be committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// The lease.
    pub id: LeaseId,
    /// Seconds left, rounded up.
    pub remaining_seconds: i64,
}

/// What the rounds have found and nobody has taken yet. Invariant: empty while the lessor is not primary.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    next_round_ms: u64,
    expired: VecDeque<Vec<LeaseId>>,
    checkpoints: VecDeque<Vec<Checkpoint>>,
}

impl Lessor {
    /// Begins to count time: every lease gets `extend_ms` (the election timeout) more than its checkpointed rest or
    /// its whole TTL, since nobody knows how much of it the former primary had used up. Many leases are spread so that
    /// they do not all run out in the same second.
    pub fn promote(&mut self, now_ms: u64, extend_ms: u64) {
        self.clear_deadlines();
        self.queues = Queues { next_round_ms: now_ms, ..Queues::default() };
        self.primary = true;
        let leases = self.slots.iter().zip(0u32..).filter_map(|(lease, slot)| Some((lease.as_ref()?, slot)));
        let mut deadlines: Vec<(u64, u32)> = leases
            .map(|(lease, slot)| (now_ms.saturating_add(extend_ms).saturating_add(lease.full_ms()), slot))
            .collect();
        if deadlines.len() >= SPREAD_FROM_LEASES {
            spread(&mut deadlines);
        }
        for (deadline_ms, slot) in deadlines {
            self.set_deadline(slot, deadline_ms);
            self.schedule_checkpoint(slot, now_ms);
        }
    }

    /// Stops counting time: nothing runs out here any more, and batches that were found but not taken are dropped.
    pub fn demote(&mut self) {
        #[cfg(feature = "mutants")]
        if crate::mutant::active(crate::mutant::Mutant::DemotedStillCounts) {
            return;
        }
        self.primary = false;
        self.clear_deadlines();
        self.queues = Queues::default();
    }

    /// Looks for expired leases and due checkpoints if a round is due. Cheap otherwise; call it as often as you like.
    pub fn handle_tick(&mut self, now_ms: u64) {
        if !self.primary || now_ms < self.queues.next_round_ms {
            return;
        }
        self.queues.next_round_ms = now_ms.saturating_add(ROUND_MS);
        // At the very end of the clock a lease that is offered would be due again at once.
        self.find_expired(now_ms.min(u64::MAX - 1));
        self.find_checkpoints(now_ms);
    }

    /// When the next [`handle_tick`](Self::handle_tick) has something to do; `None` while not primary.
    pub fn next_round_ms(&self) -> Option<u64> {
        self.primary.then_some(self.queues.next_round_ms)
    }

    /// A batch of expired leases to be revoked, in the order in which they ran out. A lease that is still there after
    /// [`Config::retry_ms`](crate::Config::retry_ms) comes again.
    pub fn take_expired(&mut self) -> Option<Vec<LeaseId>> {
        self.queues.expired.pop_front()
    }

    /// A batch of checkpoints to be committed.
    pub fn take_checkpoints(&mut self) -> Option<Vec<Checkpoint>> {
        self.queues.checkpoints.pop_front()
    }

    fn find_expired(&mut self, now_ms: u64) {
        if self.queues.expired.len() >= EXPIRED_BATCHES_MAX {
            return;
        }
        let mut batch = Vec::new();
        while batch.len() < EXPIRED_BATCH_MAX {
            let Some(due) = self.expiries.peek().filter(|due| due.at_ms <= now_ms) else { break };
            // It stays in the heap, later: a revoke that gets lost must not make the lease immortal.
            self.expiries.set(due.slot, now_ms.saturating_add(self.config.retry_ms.max(1)));
            #[cfg(feature = "mutants")]
            if crate::mutant::active(crate::mutant::Mutant::ExpiryOfferedOnce) {
                self.expiries.remove(due.slot);
            }
            batch.push(self.lease(due.slot).id);
        }
        if !batch.is_empty() {
            self.queues.expired.push_back(batch);
        }
    }

    fn find_checkpoints(&mut self, now_ms: u64) {
        // What the last round made must be taken first, so that a stuck committer does not grow the queue.
        while self.queues.checkpoints.len() < CHECKPOINT_BATCHES_PER_ROUND {
            let batch = self.checkpoint_batch(now_ms);
            if batch.is_empty() {
                break;
            }
            self.queues.checkpoints.push_back(batch);
        }
    }

    fn checkpoint_batch(&mut self, now_ms: u64) -> Vec<Checkpoint> {
        let mut batch = Vec::new();
        while batch.len() < CHECKPOINT_BATCH_MAX {
            let Some(due) = self.checkpoints.peek().filter(|due| due.at_ms <= now_ms) else { break };
            self.checkpoints.remove(due.slot);
            let lease = self.lease(due.slot);
            if lease.deadline_ms <= now_ms {
                continue;
            }
            let remaining_seconds = (lease.deadline_ms - now_ms).div_ceil(1000) as i64;
            // Right after a promotion the extension makes the rest longer than the TTL: nothing to keep.
            if remaining_seconds < lease.ttl_seconds {
                batch.push(Checkpoint { id: lease.id, remaining_seconds });
            }
            // Planned again even if this one gets lost on its way through the log.
            self.schedule_checkpoint(due.slot, now_ms);
        }
        batch
    }

    /// Plans the next checkpoint of a lease that has more time left than the interval.
    pub(crate) fn schedule_checkpoint(&mut self, slot: u32, now_ms: u64) {
        let Some(interval_ms) = self.config.checkpoint_interval_ms else { return };
        let left_ms = self.lease(slot).deadline_ms.saturating_sub(now_ms);
        if left_ms > interval_ms {
            self.checkpoints.set(slot, now_ms.saturating_add(interval_ms.max(1)));
        } else {
            self.checkpoints.remove(slot);
        }
    }
}

/// Moves deadlines back, never forward, until no second holds more than [`EXPIRIES_PER_SECOND_MAX`] of them.
///
/// Sorted, the n-th deadline must come a second after the (n − max)-th; taking the later of that and its own keeps
/// the order.
fn spread(deadlines: &mut [(u64, u32)]) {
    deadlines.sort_unstable();
    for n in EXPIRIES_PER_SECOND_MAX..deadlines.len() {
        let earliest_ms = deadlines[n - EXPIRIES_PER_SECOND_MAX].0.saturating_add(1000);
        deadlines[n].0 = deadlines[n].0.max(earliest_ms);
    }
}
