//! What can be wrong with a call or a message.

use crate::confchange::ConfChangeError;
use crate::config::ConfigError;
use crate::proto::{DecodeError, MessageType};
use crate::storage::StorageError;

/// Why a proposal was not taken (routing to the leader: thesis, 6.2). The caller may try again later or elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// No leader is known.
    NoLeader,
    /// An election is running (paper, 5.2).
    Campaigning,
    /// This leader is no longer a member (thesis, 4.2.2).
    NotMember,
    /// Leadership is being transferred (thesis, 3.10).
    Transferring,
    /// The uncommitted tail is too large; a limit of etcd's.
    UncommittedTooLarge,
    /// This follower does not forward.
    ForwardingDisabled,
}

/// Why a call or message was refused (rules for servers: paper, figure 2). Nothing has changed then, unless
/// the variant says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A setting cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Storage failed or contradicts itself. The term rules of the message may have been applied already.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A configuration change or state is impossible (thesis, 4.1 and 4.3).
    #[error(transparent)]
    ConfChange(#[from] ConfChangeError),
    /// A configuration change entry cannot be decoded.
    #[error("configuration change: {0}")]
    Decode(#[from] DecodeError),
    /// The proposal was not taken.
    #[error("proposal dropped: {0:?}")]
    ProposalDropped(DropReason),
    /// A proposal without entries.
    #[error("proposal without entries")]
    EmptyProposal,
    /// A leader has as many reads waiting as it may. Ask again when some are confirmed.
    #[error("{limit} read requests wait already")]
    TooManyReads {
        /// The limit, from the settings.
        limit: usize,
    },
    /// A message of a type that never travels, or that claims to come from this node or its threads.
    #[error("{msg_type:?} from {from} is local and was stepped as if it came from a peer")]
    LocalMessage {
        /// Its type.
        msg_type: MessageType,
        /// Its sender.
        from: u64,
    },
    /// A message for somebody else.
    #[error("{msg_type:?} is for {to}, this is {id}")]
    WrongReceiver {
        /// Its type.
        msg_type: MessageType,
        /// Its receiver.
        to: u64,
        /// This node.
        id: u64,
    },
    /// An answer from a node that is not in the configuration.
    #[error("{msg_type:?} from {from}, which is not in the configuration")]
    UnknownPeer {
        /// Its type.
        msg_type: MessageType,
        /// Its sender.
        from: u64,
    },
    /// A message whose fields contradict each other.
    #[error("malformed {msg_type:?} from {from}: {what}")]
    Malformed {
        /// Its type.
        msg_type: MessageType,
        /// Its sender.
        from: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// A leader replaces an entry that is committed here, against leader completeness (paper, 5.4 and figure 3): one of
    /// the two logs is corrupt.
    #[error("entry {index} conflicts with the committed log (commit index {committed})")]
    ConflictWithCommitted {
        /// The entry.
        index: u64,
        /// Commit index here.
        committed: u64,
    },
    /// A commit index beyond the log: this node lost entries, or the leader is corrupt.
    #[error(
        "commit index {commit} is beyond the last entry, {last}: was the log corrupted, truncated or lost?"
    )]
    CommitBeyondLog {
        /// Commit index received or restored.
        commit: u64,
        /// Last entry here.
        last: u64,
    },
    /// An acknowledgement of entries that were never sent (`matchIndex` beyond the log, paper, 5.3).
    #[error("node {from} acknowledges entry {index}, the log ends at {last}")]
    AckBeyondLog {
        /// Sender.
        from: u64,
        /// Index acknowledged.
        index: u64,
        /// Last entry here.
        last: u64,
    },
    /// A snapshot is needed (paper, 7) and storage has an empty one.
    #[error("storage has no snapshot, and node {to} needs one")]
    EmptySnapshot {
        /// Who needs it.
        to: u64,
    },
    /// An applied index outside what is committed, or backwards (state-machine safety, paper, 5.4).
    #[error("applied index {index} is outside {applied}..={committed}")]
    AppliedOutOfRange {
        /// The index.
        index: u64,
        /// Applied index so far.
        applied: u64,
        /// Commit index.
        committed: u64,
    },
    /// Advanced with a ready that is not the outstanding one, or asked for the next too early: the order of writes,
    /// sends and applies (paper, figure 2; etcd's `Ready`) would be lost.
    #[error("ready {found} is not the outstanding one, {expected:?}")]
    ReadyOutOfOrder {
        /// Number of the outstanding ready, if there is one.
        expected: Option<u64>,
        /// Number given.
        found: u64,
    },
    /// A call that belongs to the other way of storing.
    #[error("{call} is not for {mode} storage writes")]
    WrongStorageMode {
        /// The call.
        call: &'static str,
        /// The node's mode.
        mode: &'static str,
    },
    /// Bootstrap of a node that has a log already.
    #[error("cannot bootstrap: the log ends at {last}, not at 0")]
    NotEmpty {
        /// Last entry.
        last: u64,
    },
}
