//! The plain types of the protocol: entries, messages, snapshots, hard and configuration states.
//!
//! What lives here: data and its meaning, field by field. The bytes live in `codec.rs`; rules about when
//! a message may be sent or accepted live in `crate::raft`.

mod codec;
mod confchange;
mod wire;

pub use self::codec::WireForm;
pub use self::confchange::{
    ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2,
};
pub use self::wire::DecodeError;

use bytes::Bytes;

/// "No node": the absence of a leader, a vote or a transferee (`votedFor` null: paper, figure 2). Never a
/// valid node ID.
pub const NONE: u64 = 0;

/// Address of the append thread in asynchronous storage writes (etcd's `LocalAppendThread`; thesis, 10.2.1). Never a
/// valid node ID.
pub const LOCAL_APPEND_THREAD: u64 = u64::MAX;

/// Address of the apply thread in asynchronous storage writes (etcd's `LocalApplyThread`; `lastApplied` of the paper's
/// figure 2). Never a valid node ID.
pub const LOCAL_APPLY_THREAD: u64 = u64::MAX - 1;

/// Largest term or index that a message may carry; the paper (5.1, 5.3) lets both ascend without bound. Beyond it
/// arithmetic on positions could overflow; no honest cluster comes near (2^62 entries at a million a second last
/// 146,000 years).
pub const MAX_POSITION: u64 = 1 << 62;

/// True for the addresses of the append and apply threads (thesis, 10.2.1).
#[must_use]
pub fn is_local_thread(id: u64) -> bool {
    id == LOCAL_APPEND_THREAD || id == LOCAL_APPLY_THREAD
}

/// What a log entry holds (`raftpb.EntryType`; commands: paper, 5.3; configurations: paper, 6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EntryType {
    /// The application's data, or nothing at all (a leader's first entry, a refused configuration change).
    #[default]
    Normal = 0,
    /// An encoded [`ConfChange`].
    ConfChange = 1,
    /// An encoded [`ConfChangeV2`]; etcd servers stop when they meet one.
    ConfChangeV2 = 2,
}

/// One entry of the replicated log (Raft paper, figure 2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// What [`data`](Self::data) holds.
    pub entry_type: EntryType,
    /// Term of the leader that appended it.
    pub term: u64,
    /// Position in the log, from 1.
    pub index: u64,
    /// The payload; shared, never copied by this crate.
    pub data: Bytes,
}

impl Entry {
    /// A normal entry that waits for a term and an index (paper, 5.3).
    #[must_use]
    pub fn normal(data: impl Into<Bytes>) -> Self {
        Self { data: data.into(), ..Self::default() }
    }

    /// True for both kinds of configuration change (paper, 6).
    #[must_use]
    pub fn is_conf_change(&self) -> bool {
        self.entry_type != EntryType::Normal
    }

    /// Bytes of payload, as the limit on uncommitted entries and the byte window count them (thesis, 10.2.2).
    #[must_use]
    pub fn payload_len(&self) -> u64 {
        self.data.len() as u64
    }
}

/// What a message asks or says (`raftpb.MessageType`; the RPCs of the paper's figures 2 and 13 among them).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum MessageType {
    /// Local: start an election.
    #[default]
    Hup = 0,
    /// Local: the leader's heartbeat timer fired.
    Beat = 1,
    /// Propose entries (a client's request: paper, 5.3; sent on by followers: thesis, 6.2).
    Prop = 2,
    /// Append entries (paper, figure 2).
    App = 3,
    /// Answer to [`App`](Self::App) and [`Snap`](Self::Snap).
    AppResp = 4,
    /// Request a vote (paper, figure 2).
    Vote = 5,
    /// Answer to [`Vote`](Self::Vote).
    VoteResp = 6,
    /// Install a snapshot (paper, figure 13).
    Snap = 7,
    /// Leader is alive (the empty append of the paper, 5.2); carries commit index and read context.
    Heartbeat = 8,
    /// Answer to [`Heartbeat`](Self::Heartbeat), context echoed.
    HeartbeatResp = 9,
    /// Local: a peer could not be reached.
    Unreachable = 10,
    /// Local: a snapshot was delivered or failed.
    SnapStatus = 11,
    /// Local: the leader's quorum check (thesis, 6.2) is due.
    CheckQuorum = 12,
    /// Move leadership to `from` (thesis, 3.10).
    TransferLeader = 13,
    /// Campaign at once (thesis, 3.10).
    TimeoutNow = 14,
    /// Ask for a linearizable read position (thesis, 6.4).
    ReadIndex = 15,
    /// Answer to [`ReadIndex`](Self::ReadIndex).
    ReadIndexResp = 16,
    /// Ask whether a vote would be granted (thesis, 9.6).
    PreVote = 17,
    /// Answer to [`PreVote`](Self::PreVote).
    PreVoteResp = 18,
    /// Local: persist this (asynchronous storage writes, an addition of etcd's).
    StorageAppend = 19,
    /// Local: it is persistent.
    StorageAppendResp = 20,
    /// Local: apply this (asynchronous storage writes).
    StorageApply = 21,
    /// Local: it is applied.
    StorageApplyResp = 22,
    /// Drop the leader without changing the term; an addition of etcd's.
    ForgetLeader = 23,
}

impl MessageType {
    /// All types, in the order of their numbers in `raftpb.MessageType`.
    pub const ALL: [Self; 24] = [
        Self::Hup,
        Self::Beat,
        Self::Prop,
        Self::App,
        Self::AppResp,
        Self::Vote,
        Self::VoteResp,
        Self::Snap,
        Self::Heartbeat,
        Self::HeartbeatResp,
        Self::Unreachable,
        Self::SnapStatus,
        Self::CheckQuorum,
        Self::TransferLeader,
        Self::TimeoutNow,
        Self::ReadIndex,
        Self::ReadIndexResp,
        Self::PreVote,
        Self::PreVoteResp,
        Self::StorageAppend,
        Self::StorageAppendResp,
        Self::StorageApply,
        Self::StorageApplyResp,
        Self::ForgetLeader,
    ];

    /// Types that never travel between nodes; `step` refuses them. They are etcd's; the
    /// paper's figure 2 has only what travels.
    #[must_use]
    pub fn is_local(self) -> bool {
        matches!(
            self,
            Self::Hup
                | Self::Beat
                | Self::Unreachable
                | Self::SnapStatus
                | Self::CheckQuorum
                | Self::StorageAppend
                | Self::StorageAppendResp
                | Self::StorageApply
                | Self::StorageApplyResp
        )
    }

    /// Answers; they count only when the sender is in the configuration (results of the RPCs: paper, figure 2).
    #[must_use]
    pub fn is_response(self) -> bool {
        matches!(
            self,
            Self::AppResp
                | Self::VoteResp
                | Self::HeartbeatResp
                | Self::Unreachable
                | Self::ReadIndexResp
                | Self::PreVoteResp
                | Self::StorageAppendResp
                | Self::StorageApplyResp
        )
    }

    /// Requests that may lack a term: whoever receives them treats them as if they came from its own
    /// application (clients know no term: paper, 8).
    #[must_use]
    pub fn may_lack_term(self) -> bool {
        matches!(self, Self::Prop | Self::ReadIndex | Self::TransferLeader | Self::ForgetLeader)
    }
}

/// A message between nodes, or between the state machine and its storage threads (`raftpb.Message`): the RPCs of the
/// paper's figures 2 and 13 with their answers, pulled apart.
///
/// Which fields matter depends on [`msg_type`](Self::msg_type); the others stay at their defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// What the message is.
    pub msg_type: MessageType,
    /// Receiver.
    pub to: u64,
    /// Sender; for [`MessageType::TransferLeader`] the transferee.
    pub from: u64,
    /// Sender's term; 0 where [`MessageType::may_lack_term`].
    pub term: u64,
    /// Term of the entry at [`index`](Self::index); in a rejection the term at the hint, 0 when unknown.
    pub log_term: u64,
    /// Previous index of an append, last index of a vote request, acknowledged or rejected index of an answer.
    pub index: u64,
    /// Entries to append, propose or apply; one entry with the request's context for reads.
    pub entries: Vec<Entry>,
    /// Commit index.
    pub commit: u64,
    /// Snapshot to install.
    pub snapshot: Option<Box<Snapshot>>,
    /// The request was refused.
    pub reject: bool,
    /// Where the receiver suggests to try next after a rejection.
    pub reject_hint: u64,
    /// Opaque bytes: read context of heartbeats, `CampaignTransfer` of votes during a transfer.
    pub context: Bytes,
    /// Vote to persist; only in [`MessageType::StorageAppend`].
    pub vote: u64,
    /// Messages to deliver once this one is done; only in storage messages.
    pub responses: Vec<Message>,
}

impl Message {
    /// A `raftpb.Message` of type `msg_type` to `to`, everything else at its default.
    #[must_use]
    pub fn new(msg_type: MessageType, to: u64) -> Self {
        Self { msg_type, to, ..Self::default() }
    }
}

/// Where a snapshot stands in the log, and the configuration there (paper, 7 and figure 12).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotMetadata {
    /// Configuration after applying [`index`](Self::index).
    pub conf_state: ConfState,
    /// Last entry that the snapshot replaces.
    pub index: u64,
    /// Term of that entry.
    pub term: u64,
}

/// The state of the application at a log position (paper, section 7).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The application's bytes, not looked at here.
    pub data: Bytes,
    /// Position and configuration.
    pub metadata: SnapshotMetadata,
}

impl Snapshot {
    /// True when it replaces nothing (paper, figure 13).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.metadata.index == 0
    }
}

/// What must be durable before anything that relies on it leaves the node (paper, figure 2: persistent state).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// Current term.
    pub term: u64,
    /// Candidate voted for in that term, or [`NONE`].
    pub vote: u64,
    /// Commit index; recorded to restart faster, not needed for safety.
    pub commit: u64,
}

impl HardState {
    /// True when nothing was ever recorded (paper, figure 2).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The membership at a position of the log (paper, 6; thesis, chapter 4). The lists are sets: their order means
/// nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfState {
    /// Voters of the (incoming) configuration.
    pub voters: Vec<u64>,
    /// Nodes that receive everything and decide nothing (thesis, 4.2.1).
    pub learners: Vec<u64>,
    /// Voters of the outgoing configuration; non-empty exactly in a joint configuration.
    pub voters_outgoing: Vec<u64>,
    /// Outgoing voters that become learners when the joint configuration is left.
    pub learners_next: Vec<u64>,
    /// The joint configuration is to be left automatically.
    pub auto_leave: bool,
}

impl ConfState {
    /// A configuration of `voters` and `learners` that is not joint (thesis, 4.1; learners: 4.2.1).
    #[must_use]
    pub fn new(voters: &[u64], learners: &[u64]) -> Self {
        Self { voters: voters.to_vec(), learners: learners.to_vec(), ..Self::default() }
    }

    /// True when `id` has a place in it (thesis, 4.3).
    #[must_use]
    pub fn contains(&self, id: u64) -> bool {
        self.voters.contains(&id) || self.learners.contains(&id) || self.voters_outgoing.contains(&id)
    }

    /// The same sets, sorted (thesis, 4.3).
    #[must_use]
    pub fn sorted(&self) -> Self {
        let mut s = self.clone();
        s.voters.sort_unstable();
        s.learners.sort_unstable();
        s.voters_outgoing.sort_unstable();
        s.learners_next.sort_unstable();
        s
    }

    /// Equal as sets (thesis, 4.3).
    #[must_use]
    pub fn equivalent(&self, other: &Self) -> bool {
        self.sorted() == other.sorted()
    }
}
