//! Decisions of the state machine, for whoever wants to watch. Off by default, and free then.

use crate::proto::{ConfState, MessageType};
use crate::raft::Role;
use crate::tracker::ProgressState;

/// One decision. A leader's and a follower's are those of the paper, section 5, unless the variant says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TraceEvent {
    /// The role, term or leader changed.
    Became {
        /// New role.
        role: Role,
        /// New term.
        term: u64,
        /// Leader, or 0.
        leader: u64,
    },
    /// A message did not count.
    Ignored {
        /// Its type.
        msg_type: MessageType,
        /// Its sender.
        from: u64,
        /// Why.
        reason: &'static str,
    },
    /// A vote (paper, 5.2, 5.4.1) or pre-vote (thesis, 9.6) was answered.
    Voted {
        /// Candidate.
        candidate: u64,
        /// Term asked for.
        term: u64,
        /// Granted or refused.
        granted: bool,
        /// It was a pre-vote.
        pre_vote: bool,
    },
    /// An own campaign did not start.
    CampaignRefused {
        /// Why.
        reason: &'static str,
    },
    /// The commit index rose (paper, 5.3, 5.4.2).
    Committed {
        /// To here.
        index: u64,
    },
    /// An append was refused: the consistency check failed (paper, 5.3).
    AppendRejected {
        /// Leader.
        from: u64,
        /// Previous index that did not match.
        index: u64,
        /// Where to go on.
        hint: u64,
    },
    /// A peer is sent entries in another way: etcd's probe, replicate and snapshot states.
    Progress {
        /// Peer.
        id: u64,
        /// New way.
        state: ProgressState,
        /// Next entry to send.
        next: u64,
    },
    /// A snapshot replaced the log (paper, 7).
    Restored {
        /// Its index.
        index: u64,
        /// Its term.
        term: u64,
    },
    /// The configuration in force changed (thesis, chapter 4; when it is applied, as in etcd).
    ConfChanged {
        /// It is now.
        conf_state: ConfState,
    },
    /// A configuration change was turned into an empty entry, as etcd does with those that may not start now.
    ConfChangeRefused {
        /// Why.
        reason: &'static str,
    },
    /// A leadership transfer began, ended or was given up (thesis, 3.10).
    Transfer {
        /// Target, 0 at the end.
        to: u64,
    },
    /// Read requests were confirmed (thesis, 6.4).
    ReadConfirmed {
        /// How many.
        count: usize,
    },
}
