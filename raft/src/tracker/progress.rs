//! How far one peer's log is known to agree, and what may be sent to it.
//!
//! ```text
//!             accepted answer                     needs compacted entries
//!   Probe ----------------------> Replicate     Probe ------------------> Snapshot
//!     ^  rejection, unreachable      |            ^   status or accepted     |
//!     +------------------------------+            +--------------------------+
//! ```

use super::Inflights;
use crate::mutant::{self, Mutant};

/// How entries are sent to a peer: etcd's states around the search and the pipeline of the thesis, 10.2.2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProgressState {
    /// Where its log ends is a guess: one message at a time (paper, 5.3).
    #[default]
    Probe,
    /// It accepts what it gets: a pipeline.
    Replicate,
    /// It needs entries that are compacted (paper, 7): nothing is sent until the snapshot is settled.
    Snapshot,
}

/// Progress of one peer, in the eyes of the leader (paper, 5.3).
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Last entry known to be durable on the peer and equal to ours (`matchIndex`, paper, figure 2).
    ///
    /// Invariant: `match_index < next`.
    pub match_index: u64,
    /// First entry to send next (`nextIndex`, paper, figure 2).
    pub next: u64,
    /// Highest commit index sent. A message that carries it may get lost, so it is only a reason to save a message.
    pub(crate) sent_commit: u64,
    /// Where the newest append to this peer stands in the leader's outbox, and in which filling of the outbox. As long
    /// as it has not left, it can still take more.
    pub(crate) queued: Option<Queued>,
    /// How entries are sent.
    pub state: ProgressState,
    /// In [`ProgressState::Snapshot`], the index of the snapshot sent; else 0.
    pub pending_snapshot: u64,
    /// Heard from since the last quorum check (thesis, 6.2).
    pub recent_active: bool,
    /// Appends wait for the next heartbeat answer or acknowledgement.
    pub paused: bool,
    /// Messages on their way; only [`ProgressState::Replicate`] fills it.
    pub inflights: Inflights,
    /// Not a voter in either half (thesis, 4.2.1).
    pub is_learner: bool,
}

/// An append that may still be in the outbox.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Queued {
    /// Which filling of the outbox; it is gone when another one has begun.
    pub(crate) filling: u64,
    /// Position in the outbox.
    pub(crate) at: usize,
    /// Encoded bytes of its entries.
    pub(crate) bytes: u64,
}

impl Progress {
    pub(crate) fn new(next: u64, inflights: Inflights, is_learner: bool) -> Self {
        Self { next, inflights, is_learner, ..Self::default() }
    }

    fn reset_state(&mut self, state: ProgressState) {
        self.paused = false;
        self.pending_snapshot = 0;
        self.state = state;
        self.queued = None;
        self.inflights.reset();
    }

    pub(crate) fn become_probe(&mut self) {
        // The peer may have installed the pending snapshot: going on behind it is the better guess.
        let behind_snapshot = self.pending_snapshot + 1;
        self.reset_state(ProgressState::Probe);
        self.next = behind_snapshot.max(self.match_index + 1);
        self.sent_commit = self.sent_commit.min(self.next - 1);
    }

    pub(crate) fn become_replicate(&mut self) {
        self.reset_state(ProgressState::Replicate);
        self.next = self.match_index + 1;
    }

    pub(crate) fn become_snapshot(&mut self, index: u64) {
        self.reset_state(ProgressState::Snapshot);
        self.pending_snapshot = index;
        self.next = index + 1;
        self.sent_commit = index;
    }

    /// Forgets a snapshot that was not delivered.
    pub(crate) fn abandon_snapshot(&mut self) {
        self.pending_snapshot = 0;
    }

    /// Records that an append with `entries` entries of `bytes` payload bytes is on its way.
    pub(crate) fn sent_entries(&mut self, entries: u64, bytes: u64) {
        match self.state {
            ProgressState::Replicate => {
                if entries > 0 {
                    self.next += entries;
                    self.inflights.add(self.next - 1, bytes);
                }
                // An empty message into a full window closes it too: one per heartbeat answer is enough.
                self.paused = self.inflights.is_full();
            }
            ProgressState::Probe if entries > 0 => self.paused = true,
            ProgressState::Probe | ProgressState::Snapshot => {}
        }
    }

    /// Records that the append that was sent last has got `entries` more, with `bytes` of payload, before it left.
    /// `was_empty` tells whether it had none before.
    pub(crate) fn extended(&mut self, entries: u64, bytes: u64, was_empty: bool) {
        self.next += entries;
        if was_empty {
            self.inflights.add(self.next - 1, bytes);
        } else {
            self.inflights.extend_last(self.next - 1, bytes);
        }
        self.paused = self.inflights.is_full();
    }

    pub(crate) fn can_bump_commit(&self, commit: u64) -> bool {
        // Beyond next - 1 the peer cannot commit anyway.
        commit > self.sent_commit && self.sent_commit < self.next - 1
    }

    /// Takes an acknowledgement of `index`; false if it is old news.
    pub(crate) fn maybe_update(&mut self, index: u64) -> bool {
        if index <= self.match_index {
            return false;
        }
        self.match_index = index;
        self.next = self.next.max(index + 1);
        self.paused = false;
        true
    }

    /// Takes a rejection of the append behind `rejected`; false if it is old news.
    pub(crate) fn maybe_decrease(&mut self, rejected: u64, hint: u64) -> bool {
        if self.state == ProgressState::Replicate {
            if rejected <= self.match_index {
                return false;
            }
            self.next = self.match_index + 1;
        } else {
            if self.next - 1 != rejected {
                return false;
            }
            self.next = rejected.min(hint + 1).max(self.match_index + 1);
            self.paused = false;
        }
        self.sent_commit = self.sent_commit.min(self.next - 1);
        true
    }

    /// Lets one more append out.
    pub(crate) fn resume(&mut self) {
        if !mutant::active(Mutant::ProbeNeverResumes) {
            self.paused = false;
        }
    }

    /// True when no append may be sent (thesis, 10.2.2).
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.state == ProgressState::Snapshot || self.paused
    }
}
