//! The face of the state machine: input by calls, output by [`Ready`].
//!
//! Two ways of storing, chosen by [`Config::async_storage_writes`](crate::Config): take a ready, do what it says in
//! its order, give it back with [`RawNode::advance`]; or send its storage messages to an append thread and an apply
//! thread and step their responses.

mod bootstrap;
mod ready;
mod status;

pub use self::bootstrap::Peer;
pub use self::ready::Ready;
pub use self::status::{PeerStatus, Status};

use bytes::Bytes;

use crate::config::Config;
use crate::error::Error;
use crate::proto::{ConfChange, ConfChangeV2, ConfState, Entry, HardState, Message, MessageType as T};
use crate::raft::{AppliedBatch, Raft, Role, SoftState, StorageAck};
use crate::storage::Storage;
use crate::trace::TraceEvent;

/// One node of a Raft group over the storage `S` (a server, in the words of the paper's figure 2).
///
/// It never blocks, never looks at a clock and draws randomness from the seed in its configuration only: equal calls
/// give equal outputs.
#[derive(Debug)]
pub struct RawNode<S> {
    raft: Raft<S>,
    async_storage_writes: bool,
    /// State as of the last ready.
    handed_soft: SoftState,
    handed_hard: HardState,
    /// Number of the ready that waits for its `advance`.
    outstanding: Option<u64>,
    last_ready: u64,
    turn: Box<Turn>,
}

/// What goes from a ready to its `advance`, and from there to the next ready. Boxed: an idle group does without, and
/// thousands of groups should lie close together.
#[derive(Debug, Default)]
struct Turn {
    own_messages: Vec<Message>,
    storage_ack: StorageAck,
    applied: Option<AppliedBatch>,
    spare: ready::Spare,
}

impl<S: Storage> RawNode<S> {
    /// A follower that continues from what `storage` holds (paper, 5.2 and 5.5; thesis, 3.8).
    ///
    /// # Errors
    /// A setting that cannot work, storage that fails or contradicts itself, an impossible configuration.
    pub fn new(config: &Config, storage: S) -> Result<Self, Error> {
        let raft = Raft::new(config, storage)?;
        let (handed_soft, handed_hard) = (raft.soft_state(), raft.hard_state());
        Ok(Self {
            raft,
            async_storage_writes: config.async_storage_writes,
            handed_soft,
            handed_hard,
            outstanding: None,
            last_ready: 0,
            turn: Box::default(),
        })
    }

    /// One unit of time has passed: a follower may campaign, a leader sends heartbeats (paper, 5.2) and checks that a
    /// quorum still answers (thesis, 6.2).
    ///
    /// # Errors
    /// Storage failed.
    #[inline]
    pub fn tick(&mut self) -> Result<(), Error> {
        self.raft.tick()
    }

    /// Campaigns now, if this node may (paper, 5.2; with pre-vote, thesis, 9.6).
    ///
    /// # Errors
    /// Storage failed.
    pub fn campaign(&mut self) -> Result<(), Error> {
        self.raft.hup()
    }

    /// Proposes one entry: a leader appends it, a follower sends it on (paper, 5.3; thesis, 6.2).
    ///
    /// # Errors
    /// [`Error::ProposalDropped`] with the reason.
    pub fn propose(&mut self, data: impl Into<Bytes>) -> Result<(), Error> {
        self.propose_batch(vec![Entry::normal(data)])
    }

    /// Proposes several entries at once (batching: thesis, 10.2.2): all are appended in one piece, or none. Their terms
    /// and indexes are set by the leader.
    ///
    /// # Errors
    /// [`Error::ProposalDropped`] with the reason, or no entries.
    pub fn propose_batch(&mut self, entries: Vec<Entry>) -> Result<(), Error> {
        if self.raft.role == Role::Leader {
            // What the step below would come to, without a message around it.
            return self.raft.propose(entries);
        }
        let from = self.raft.id;
        self.raft.step(&mut Message { from, entries, ..Message::new(T::Prop, from) })
    }

    /// Proposes a change of one node (thesis, 4.1). A leader that may not change the configuration now appends an empty
    /// entry instead: the proposer learns of it when that is applied.
    ///
    /// # Errors
    /// [`Error::ProposalDropped`] with the reason.
    pub fn propose_conf_change(&mut self, change: &ConfChange) -> Result<(), Error> {
        self.propose_batch(vec![change.to_entry()])
    }

    /// Proposes a change of any number of nodes, by joint consensus if it needs that (thesis, 4.3). etcd servers cannot
    /// apply it.
    ///
    /// # Errors
    /// [`Error::ProposalDropped`] with the reason.
    pub fn propose_conf_change_v2(&mut self, change: &ConfChangeV2) -> Result<(), Error> {
        self.propose_batch(vec![change.to_entry()])
    }

    /// First entry of the log; a snapshot covers everything before it (paper, 7).
    ///
    /// # Errors
    /// Storage failed.
    pub fn first_index(&self) -> Result<u64, Error> {
        self.raft.log.first_index()
    }

    /// Puts a committed change into force (thesis, chapter 4; there when it is appended, here and in etcd when it is
    /// applied). To be called for every committed configuration entry, in order; a change
    /// that the application refuses is applied with all node IDs set to 0.
    ///
    /// The one exception: a leader's snapshot may overtake entries that were handed out for apply. Its configuration is
    /// in force from the moment the message was stepped, so the changes of entries below [`first_index`] are not given
    /// to this method any more.
    ///
    /// [`first_index`]: Self::first_index
    ///
    /// # Errors
    /// An impossible change; the configuration is as before.
    pub fn apply_conf_change(&mut self, change: impl Into<ConfChangeV2>) -> Result<ConfState, Error> {
        self.raft.apply_conf_change(&change.into())
    }

    /// Takes a message from a peer (the RPCs of the paper's figures 2 and 13, as one-way messages).
    ///
    /// # Errors
    /// A message that no honest peer sends, an answer from a non-member, a dropped proposal, failed storage. The
    /// caller may log it and go on; only [`Error::Storage`], [`Error::CommitBeyondLog`] and
    /// [`Error::ConflictWithCommitted`] say that this node's own log is in doubt.
    pub fn step(&mut self, mut message: Message) -> Result<(), Error> {
        self.raft.check_network(&message)?;
        self.raft.step(&mut message)
    }

    /// Takes a response of a storage message (etcd's asynchronous writes; thesis, 10.2.1) that is addressed to this
    /// node: one from the append or apply thread, or this node's own acknowledgement or vote. Asynchronous mode only.
    ///
    /// # Errors
    /// Another message, or one that does not fit what was handed out.
    pub fn step_response(&mut self, mut message: Message) -> Result<(), Error> {
        if !self.async_storage_writes {
            return Err(Error::WrongStorageMode { call: "step_response", mode: "synchronous" });
        }
        let own = message.from == self.raft.id && message.to == self.raft.id;
        match message.msg_type {
            T::StorageAppendResp => self.raft.stored(&StorageAck::of(&message)),
            T::StorageApplyResp => match AppliedBatch::of(&message.entries) {
                Some(batch) => self.raft.applied(&batch),
                None => Ok(()),
            },
            T::AppResp | T::VoteResp | T::PreVoteResp if own => self.raft.step(&mut message),
            msg_type => Err(Error::LocalMessage { msg_type, from: message.from }),
        }
    }

    /// Asks for a position from which a read is linearizable (thesis, 6.4); it comes back as a read state with
    /// `context`. Requests are lost when the leader changes: ask again, with another context.
    ///
    /// A request without a leader is dropped, and so is one that a follower sends to a leader with a full queue.
    ///
    /// # Errors
    /// [`Error::TooManyReads`] on a leader whose queue is full.
    pub fn read_index(&mut self, context: impl Into<Bytes>) -> Result<(), Error> {
        let entries = vec![Entry::normal(context)];
        self.raft.step(&mut Message { entries, ..Message::new(T::ReadIndex, self.raft.id) })
    }

    /// Asks the leader, this node or another, to hand leadership to `to` (thesis, 3.10).
    ///
    /// # Errors
    /// Storage failed.
    pub fn transfer_leader(&mut self, to: u64) -> Result<(), Error> {
        self.raft.step(&mut Message { from: to, ..Message::new(T::TransferLeader, self.raft.id) })
    }

    /// Drops the leader without changing the term (an addition of etcd's), so that pre-votes can be granted at once.
    /// Without effect on leaders and candidates, and with lease-based reads.
    pub fn forget_leader(&mut self) {
        self.raft.forget_leader();
    }

    /// What was sent to `id` may be lost: a leader goes back from pipelining to probing (thesis, 10.2.2).
    pub fn report_unreachable(&mut self, id: u64) {
        self.raft.report_unreachable(id);
    }

    /// The snapshot (paper, 7) sent to `id` was delivered or not. Every snapshot message obliges the caller to say so.
    pub fn report_snapshot(&mut self, id: u64, delivered: bool) {
        self.raft.report_snapshot(id, delivered);
    }

    /// The storage (persistent state: paper, figure 2).
    #[must_use]
    pub fn storage(&self) -> &S {
        &self.raft.log.storage
    }

    /// The storage, to write what a ready holds (paper, figure 2: updated before responding to RPCs).
    pub fn storage_mut(&mut self) -> &mut S {
        &mut self.raft.log.storage
    }

    /// This node (`candidateId`, `leaderId`: paper, figure 2).
    #[must_use]
    pub fn id(&self) -> u64 {
        self.raft.id
    }

    /// Draws no timeout (paper, 5.2): the next campaign starts after `ticks` ticks without a leader. For tests.
    pub fn set_randomized_election_timeout(&mut self, ticks: u32) {
        self.raft.set_randomized_timeout(ticks);
    }

    /// Switches the trace of decisions on or off (paper, 5, unless an event says otherwise).
    pub fn set_tracing(&mut self, on: bool) {
        self.raft.set_tracing(on);
    }

    /// Takes the decisions traced since the last call (paper, 5, unless an event says otherwise).
    pub fn take_trace(&mut self) -> Vec<TraceEvent> {
        self.raft.take_trace()
    }
}
