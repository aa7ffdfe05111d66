//! What a caller may look at. Nothing here changes anything.

use super::RawNode;
use crate::proto::{ConfState, HardState};
use crate::raft::{Role, SoftState};
use crate::storage::Storage;
use crate::tracker::{Progress, ProgressState};

/// A node's state at a glance: that of the paper's figure 2, and what reads (thesis, 6.4), transfers (3.10) and
/// membership changes (4.1) add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This node.
    pub id: u64,
    /// Term, vote, commit index.
    pub hard_state: HardState,
    /// Leader and role.
    pub soft_state: SoftState,
    /// Last entry of the log, durable or not.
    pub last_index: u64,
    /// Last entry acknowledged as applied.
    pub applied: u64,
    /// Target of a running leadership transfer, or 0.
    pub transferee: u64,
    /// No configuration change is accepted before this index is applied.
    pub pending_conf_index: u64,
    /// Payload bytes of the leader's uncommitted tail.
    pub uncommitted_bytes: u64,
    /// Reads that wait for confirmation or for the first commit of the term.
    pub pending_reads: usize,
    /// Ticks since the leader was heard, or since the last quorum check.
    pub election_elapsed: u32,
    /// Ticks without a leader at which this node campaigns.
    pub randomized_election_timeout: u32,
}

/// A leader's view of one peer (`nextIndex` and `matchIndex` of the paper's figure 2; flow control is etcd's).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// Peer, or this node.
    pub id: u64,
    /// Last entry known to be durable there.
    pub match_index: u64,
    /// Next entry to send.
    pub next: u64,
    /// How entries are sent.
    pub state: ProgressState,
    /// Nothing is sent for now.
    pub paused: bool,
    /// Heard from since the last quorum check.
    pub recent_active: bool,
    /// Appends in flight.
    pub inflight_msgs: usize,
    /// Payload bytes in flight.
    pub inflight_bytes: u64,
    /// Index of the snapshot on its way, or 0.
    pub pending_snapshot: u64,
    /// Receives, but does not decide.
    pub is_learner: bool,
}

impl PeerStatus {
    fn of(id: u64, pr: &Progress) -> Self {
        Self {
            id,
            match_index: pr.match_index,
            next: pr.next,
            state: pr.state,
            paused: pr.is_paused(),
            recent_active: pr.recent_active,
            inflight_msgs: pr.inflights.len(),
            inflight_bytes: pr.inflights.bytes(),
            pending_snapshot: pr.pending_snapshot,
            is_learner: pr.is_learner,
        }
    }
}

impl<S: Storage> RawNode<S> {
    /// The state at a glance (state: paper, figure 2). Allocates nothing.
    #[must_use]
    pub fn status(&self) -> Status {
        let raft = &self.raft;
        let (election_elapsed, randomized_election_timeout) = raft.timers();
        Status {
            id: raft.id,
            hard_state: raft.hard_state(),
            soft_state: raft.soft_state(),
            last_index: raft.log.last_index(),
            applied: raft.log.applied,
            transferee: raft.transferee,
            pending_conf_index: raft.pending_conf_index,
            uncommitted_bytes: raft.uncommitted_bytes,
            pending_reads: raft.pending_reads(),
            election_elapsed,
            randomized_election_timeout,
        }
    }

    /// True when this node leads its term (paper, 5.1).
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.raft.role == Role::Leader
    }

    /// Current leader, or 0 (paper, 5.1).
    #[must_use]
    pub fn leader(&self) -> u64 {
        self.raft.leader
    }

    /// Current term (`currentTerm`: paper, figure 2).
    #[must_use]
    pub fn term(&self) -> u64 {
        self.raft.term
    }

    /// True when this node would campaign if it heard nothing: a voter (thesis, 4.2.1, for those who are not).
    #[must_use]
    pub fn promotable(&self) -> bool {
        self.raft.promotable()
    }

    /// The configuration in force (thesis, chapter 4).
    #[must_use]
    pub fn conf_state(&self) -> ConfState {
        self.raft.conf_state()
    }

    /// All members in ID order (`nextIndex[]`, `matchIndex[]`: paper, figure 2). Only a leader's numbers mean
    /// anything.
    pub fn peers(&self) -> impl Iterator<Item = PeerStatus> {
        self.raft.tracker.progress.iter().map(|(id, pr)| PeerStatus::of(id, pr))
    }

    /// One member (paper, figure 2).
    #[must_use]
    pub fn peer(&self, id: u64) -> Option<PeerStatus> {
        self.raft.tracker.progress.get(id).map(|pr| PeerStatus::of(id, pr))
    }

    /// Term of the entry at `index`, if it is held (`log[]`: paper, figure 2).
    #[must_use]
    pub fn entry_term(&self, index: u64) -> Option<u64> {
        self.raft.log.term(index).ok()
    }
}
