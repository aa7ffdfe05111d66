//! What a node is told when it is created, and which choices are possible.

use crate::proto::{NONE, is_local_thread};

/// How linearizable reads are confirmed (thesis, 6.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadOnlyOption {
    /// By a round of heartbeats. Needs no clock.
    #[default]
    Safe,
    /// By the leader's lease (thesis, 6.4.1). Wrong when clocks drift without bound or a process pauses; needs
    /// check-quorum.
    LeaseBased,
}

/// A node's settings, etcd's `raft.Config` in other words (timing: paper, 5.6). Nothing is negotiated: nodes
/// with different settings work together.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node, not 0 and not one of the two local threads.
    pub id: u64,
    /// Ticks without a leader until a campaign (paper, 5.2; how long, 5.6 and thesis, 3.9); more than
    /// [`heartbeat_ticks`](Self::heartbeat_ticks). The real timeout is drawn from `election_ticks..2 * election_ticks`
    /// at every reset.
    pub election_ticks: u32,
    /// Ticks between a leader's heartbeats (paper, 5.2), at least 1.
    pub heartbeat_ticks: u32,
    /// Last entry that the application has applied (`lastApplied` in the paper's figure 2; it may be kept, thesis,
    /// 3.8); entries up to it are not handed out again.
    pub applied: u64,
    /// Store entries through messages to the append and apply threads instead of ready and advance: etcd's form of
    /// writing to disk beside replication (thesis, 10.2.1).
    pub async_storage_writes: bool,
    /// Bytes of encoded entries per append message (batching: thesis, 10.2.2); 0 sends one entry at a time. One entry
    /// is always sent.
    pub max_bytes_per_msg: u64,
    /// Bytes of encoded entries handed out for apply and not acknowledged, a limit of etcd's; 0 takes
    /// `max_bytes_per_msg`.
    pub max_committed_bytes_per_ready: u64,
    /// Payload bytes of the leader's uncommitted tail, a limit of etcd's; 0 is no limit.
    pub max_uncommitted_bytes: u64,
    /// Append messages in flight to one peer (pipelining: thesis, 10.2.2), at least 1.
    pub max_inflight_msgs: usize,
    /// Payload bytes in flight to one peer; 0 is no limit, else at least `max_bytes_per_msg`.
    pub max_inflight_bytes: u64,
    /// A leader that hears from no quorum for an election timeout steps down (thesis, 6.2); votes are refused while a
    /// leader lives (thesis, 4.2.3; paper, 6).
    pub check_quorum: bool,
    /// Ask whether an election could be won before disturbing the cluster with a new term (thesis, 9.6).
    pub pre_vote: bool,
    /// How reads are confirmed (thesis, 6.4).
    pub read_only: ReadOnlyOption,
    /// Read requests that may wait on a leader, for confirmation or for its first commit, at least 1. Further ones are
    /// refused with [`Error::TooManyReads`](crate::Error::TooManyReads).
    pub max_pending_reads: usize,
    /// Drop proposals on followers instead of sending them to the leader (both are in the thesis, 6.2).
    pub disable_proposal_forwarding: bool,
    /// Accept configuration changes that the applied configuration would refuse (one at a time: thesis, 4.1). The
    /// application vouches for them; etcd has the same switch.
    pub disable_conf_change_validation: bool,
    /// A leader that is removed or demoted becomes a follower when it applies that (thesis, 4.2.2); else it leads on
    /// without counting itself, as etcd's leaders do.
    pub step_down_on_removal: bool,
    /// Seed of the election timeouts (randomised: paper, 5.2). Equal inputs and seeds give equal outputs.
    pub seed: u64,
}

impl Config {
    /// etcd's settings for node `id`: 10 ticks election, 1 tick heartbeat, pre-vote and check-quorum on
    /// (timeouts: paper, 5.6 and 9.3).
    #[must_use]
    pub fn new(id: u64) -> Self {
        Self {
            id,
            election_ticks: 10,
            heartbeat_ticks: 1,
            applied: 0,
            async_storage_writes: false,
            max_bytes_per_msg: 1 << 20,
            max_committed_bytes_per_ready: 0,
            max_uncommitted_bytes: 0,
            max_inflight_msgs: 512,
            max_inflight_bytes: 0,
            check_quorum: true,
            pre_vote: true,
            read_only: ReadOnlyOption::Safe,
            max_pending_reads: 1 << 16,
            disable_proposal_forwarding: false,
            disable_conf_change_validation: false,
            step_down_on_removal: false,
            seed: 0,
        }
    }

    /// Refuses combinations that cannot work (what elections need of timeouts: paper, 5.6).
    ///
    /// # Errors
    /// The first setting that is wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.id == NONE || is_local_thread(self.id) {
            return Err(ConfigError::Id { id: self.id });
        }
        if self.heartbeat_ticks == 0 {
            return Err(ConfigError::HeartbeatTicks);
        }
        if self.election_ticks <= self.heartbeat_ticks {
            let (election, heartbeat) = (self.election_ticks, self.heartbeat_ticks);
            return Err(ConfigError::ElectionTicks { election, heartbeat });
        }
        if self.max_inflight_msgs == 0 {
            return Err(ConfigError::MaxInflightMsgs);
        }
        if self.max_pending_reads == 0 {
            return Err(ConfigError::MaxPendingReads);
        }
        if self.max_inflight_bytes != 0 && self.max_inflight_bytes < self.max_bytes_per_msg {
            let (inflight, per_msg) = (self.max_inflight_bytes, self.max_bytes_per_msg);
            return Err(ConfigError::MaxInflightBytes { inflight, per_msg });
        }
        if self.read_only == ReadOnlyOption::LeaseBased && !self.check_quorum {
            return Err(ConfigError::LeaseWithoutCheckQuorum);
        }
        Ok(())
    }
}

/// A setting that cannot work (timing: paper, 5.6).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The ID is reserved.
    #[error("node ID {id} is reserved")]
    Id {
        /// The ID.
        id: u64,
    },
    /// Heartbeats would never be sent.
    #[error("heartbeat_ticks must be at least 1")]
    HeartbeatTicks,
    /// Followers would campaign between heartbeats.
    #[error("election_ticks ({election}) must be more than heartbeat_ticks ({heartbeat})")]
    ElectionTicks {
        /// Election ticks.
        election: u32,
        /// Heartbeat ticks.
        heartbeat: u32,
    },
    /// Nothing could be sent.
    #[error("max_inflight_msgs must be at least 1")]
    MaxInflightMsgs,
    /// No read could ever wait.
    #[error("max_pending_reads must be at least 1")]
    MaxPendingReads,
    /// The byte window would never hold a full message.
    #[error("max_inflight_bytes ({inflight}) must be at least max_bytes_per_msg ({per_msg})")]
    MaxInflightBytes {
        /// Window in bytes.
        inflight: u64,
        /// Message limit in bytes.
        per_msg: u64,
    },
    /// The lease would protect nothing.
    #[error("lease-based reads need check_quorum")]
    LeaseWithoutCheckQuorum,
}
