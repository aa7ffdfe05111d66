//! The state machine. This file holds its state and the changes of role; each topic has a file of its own:
//!
//! | file | topic |
//! |---|---|
//! | `step.rs` | a message comes in: checks, term rules, dispatch by role |
//! | `tick.rs` | timers |
//! | `election.rs` | campaigns and votes |
//! | `proposal.rs` | proposals |
//! | `replication.rs` | the leader sends entries and counts answers |
//! | `follower.rs` | a follower takes entries, heartbeats and snapshots |
//! | `reads.rs` | linearizable reads |
//! | `transfer.rs` | leadership transfer, forgetting a leader |
//! | `membership.rs` | configuration changes take effect |
//! | `persisted.rs` | storage and the application acknowledge |

mod election;
mod follower;
mod membership;
mod persisted;
mod proposal;
mod reads;
mod replication;
mod step;
mod tick;
mod transfer;

use crate::confchange;
use crate::config::{Config, ReadOnlyOption};
use crate::error::Error;
use crate::log::RaftLog;
use crate::mutant::{self, Mutant};
use crate::proto::{ConfState, HardState, Message, MessageType, NONE};
use crate::read_only::{ReadQueue, ReadState};
use crate::rng::Rng;
use crate::storage::Storage;
use crate::trace::TraceEvent;
use crate::tracker::{Inflights, Tracker};

pub(crate) use self::persisted::{AppliedBatch, StorageAck};

/// What a node is in its term (paper, 5.1 and figure 4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Role {
    /// Takes entries from a leader, or waits for one (paper, 5.2).
    #[default]
    Follower,
    /// Asks whether it could win (thesis, 9.6).
    PreCandidate,
    /// Asks for votes (paper, 5.2).
    Candidate,
    /// Leads its term (paper, 5.3).
    Leader,
}

/// What may be forgotten on a crash: it is not among the persistent state of the paper's figure 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SoftState {
    /// Current leader, or 0.
    pub leader: u64,
    /// Current role.
    pub role: Role,
}

/// Settings that stay, in the units of the algorithm.
#[derive(Debug)]
struct Settings {
    election_ticks: u32,
    heartbeat_ticks: u32,
    max_bytes_per_msg: u64,
    max_uncommitted_bytes: u64,
    max_inflight_msgs: usize,
    max_inflight_bytes: u64,
    check_quorum: bool,
    pre_vote: bool,
    read_only: ReadOnlyOption,
    max_pending_reads: usize,
    disable_proposal_forwarding: bool,
    disable_conf_change_validation: bool,
    step_down_on_removal: bool,
}

/// One node's state (paper, figure 2, and what the thesis adds).
///
/// Invariants: `term` never decreases; `vote` changes only from 0 within a term; a leader is its own `leader`.
///
/// The first four fields are all that an idle tick touches. They stand together and aligned, so that it costs one cache
/// line: a process with thousands of groups ticks them all, and most of them are out of the cache.
#[derive(Debug)]
#[repr(C, align(16))]
pub(crate) struct Raft<S> {
    pub(crate) role: Role,
    election_elapsed: u32,
    heartbeat_elapsed: u32,
    randomized_timeout: u32,
    pub(crate) id: u64,
    pub(crate) term: u64,
    pub(crate) vote: u64,
    pub(crate) leader: u64,
    pub(crate) log: RaftLog<S>,
    pub(crate) tracker: Tracker,
    /// The outbox: may leave at once.
    pub(crate) msgs: Vec<Message>,
    /// How often the outbox has been emptied.
    filling: u64,
    /// May leave, or be stepped here, when everything before them is durable.
    pub(crate) msgs_after_append: Vec<Message>,
    pub(crate) read_states: Vec<ReadState>,
    reads: ReadQueue,
    /// Requests that wait for the first commit of the term.
    parked_reads: Vec<Message>,
    /// Start in `msgs` of the heartbeats of the newest read round, while they have not left.
    read_round: Option<usize>,
    /// Target of the leadership transfer, or 0.
    pub(crate) transferee: u64,
    /// No configuration change is accepted while `applied` is below it.
    pub(crate) pending_conf_index: u64,
    /// Payload bytes of the uncommitted tail, as far as this leader appended it.
    pub(crate) uncommitted_bytes: u64,
    /// First entry of the own leadership; entries from there on are of the current term.
    leader_first_index: u64,
    rng: Rng,
    settings: Box<Settings>,
    trace: Option<Vec<TraceEvent>>,
}

impl<S: Storage> Raft<S> {
    pub(crate) fn new(config: &Config, storage: S) -> Result<Self, Error> {
        config.validate()?;
        let initial = storage.initial_state()?;
        let limit = |v: u64, or: u64| if v == 0 { or } else { v };
        let applying = limit(config.max_committed_bytes_per_ready, config.max_bytes_per_msg);
        let mut raft = Self {
            role: Role::Follower,
            election_elapsed: 0,
            heartbeat_elapsed: 0,
            randomized_timeout: 0,
            id: config.id,
            term: 0,
            vote: NONE,
            leader: NONE,
            log: RaftLog::new(storage, applying.max(1))?,
            tracker: Tracker::default(),
            msgs: Vec::new(),
            filling: 0,
            msgs_after_append: Vec::new(),
            read_states: Vec::new(),
            reads: ReadQueue::default(),
            parked_reads: Vec::new(),
            read_round: None,
            transferee: NONE,
            pending_conf_index: 0,
            uncommitted_bytes: 0,
            leader_first_index: 0,
            rng: Rng::new(config.seed, config.id),
            settings: Box::new(Settings {
                election_ticks: config.election_ticks,
                heartbeat_ticks: config.heartbeat_ticks,
                max_bytes_per_msg: config.max_bytes_per_msg,
                max_uncommitted_bytes: limit(config.max_uncommitted_bytes, u64::MAX),
                max_inflight_msgs: config.max_inflight_msgs,
                max_inflight_bytes: config.max_inflight_bytes,
                check_quorum: config.check_quorum,
                pre_vote: config.pre_vote,
                read_only: config.read_only,
                max_pending_reads: config.max_pending_reads,
                disable_proposal_forwarding: config.disable_proposal_forwarding,
                disable_conf_change_validation: config.disable_conf_change_validation,
                step_down_on_removal: config.step_down_on_removal,
            }),
            trace: None,
        };
        raft.restore_configuration(&initial.conf_state)?;
        raft.load_hard_state(initial.hard_state)?;
        if config.applied > raft.log.applied {
            raft.log.applied_to(config.applied, 0)?;
        }
        raft.become_follower(raft.term, NONE);
        Ok(raft)
    }

    fn load_hard_state(&mut self, hs: HardState) -> Result<(), Error> {
        if hs.is_empty() {
            return Ok(());
        }
        let (committed, last) = (self.log.committed, self.log.last_index());
        if hs.commit < committed || hs.commit > last {
            return Err(Error::CommitBeyondLog { commit: hs.commit, last });
        }
        self.log.committed = hs.commit;
        self.term = hs.term;
        self.vote = hs.vote;
        Ok(())
    }

    fn restore_configuration(&mut self, cs: &ConfState) -> Result<(), Error> {
        let (config, progress) = confchange::restore(cs, self.log.last_index(), &self.new_inflights())?;
        *self.tracker.config = config;
        self.tracker.progress = progress;
        Ok(())
    }

    fn new_inflights(&self) -> Inflights {
        Inflights::new(self.settings.max_inflight_msgs, self.settings.max_inflight_bytes)
    }

    /// Term, vote and commit index, as they have to be recorded.
    pub(crate) fn hard_state(&self) -> HardState {
        let mut hs = HardState { term: self.term, vote: self.vote, commit: self.log.committed };
        if mutant::active(Mutant::VoteNotPersisted) {
            hs.vote = NONE;
        }
        if mutant::active(Mutant::TermNotPersisted) {
            hs.term = hs.term.saturating_sub(1);
            hs.vote = NONE;
        }
        hs
    }

    pub(crate) fn soft_state(&self) -> SoftState {
        SoftState { leader: self.leader, role: self.role }
    }

    pub(crate) fn conf_state(&self) -> ConfState {
        self.tracker.config.to_conf_state()
    }

    pub(crate) fn timers(&self) -> (u32, u32) {
        (self.election_elapsed, self.randomized_timeout)
    }

    pub(crate) fn set_randomized_timeout(&mut self, ticks: u32) {
        self.randomized_timeout = ticks.max(1);
    }

    pub(crate) fn pending_reads(&self) -> usize {
        self.reads.len() + self.parked_reads.len()
    }

    /// Takes what may leave at once. `spare` is the next outbox, empty.
    pub(crate) fn take_msgs(&mut self, spare: Vec<Message>) -> Vec<Message> {
        debug_assert!(spare.is_empty());
        self.read_round = None;
        self.filling += 1;
        std::mem::replace(&mut self.msgs, spare)
    }

    /// A voter with nothing between it and its configuration: the only kind that campaigns.
    pub(crate) fn promotable(&self) -> bool {
        self.tracker.progress.get(self.id).is_some_and(|p| !p.is_learner) && !self.log.has_pending_snapshot()
    }

    fn reset(&mut self, term: u64) {
        if self.term != term {
            self.term = term;
            self.vote = NONE;
        }
        self.leader = NONE;
        self.election_elapsed = 0;
        self.heartbeat_elapsed = 0;
        self.draw_timeout();
        self.transferee = NONE;
        self.tracker.reset_votes();
        let (last, inflights, id) = (self.log.last_index(), self.new_inflights(), self.id);
        for (peer, pr) in self.tracker.progress.iter_mut() {
            let match_index = if peer == id { last } else { 0 };
            *pr = crate::tracker::Progress::new(last + 1, inflights.clone(), pr.is_learner);
            pr.match_index = match_index;
        }
        self.pending_conf_index = 0;
        self.uncommitted_bytes = 0;
        self.drop_reads();
    }

    fn draw_timeout(&mut self) {
        let election = self.settings.election_ticks;
        self.randomized_timeout = election + self.rng.below(u64::from(election)) as u32;
    }

    fn become_follower(&mut self, term: u64, leader: u64) {
        let vote = self.vote;
        self.reset(term);
        if mutant::active(Mutant::VoteForgottenInTerm) && self.vote == vote {
            self.vote = NONE;
        }
        self.leader = leader;
        self.role = Role::Follower;
        self.trace_role();
    }

    fn become_pre_candidate(&mut self) {
        // Nothing is given up yet: term, vote and timers stay. Only a real campaign disturbs the cluster.
        self.tracker.reset_votes();
        self.leader = NONE;
        self.role = Role::PreCandidate;
        self.trace_role();
    }

    fn become_candidate(&mut self) {
        self.reset(self.term + 1);
        self.vote = self.id;
        self.role = Role::Candidate;
        self.trace_role();
    }

    fn become_leader(&mut self) {
        self.reset(self.term);
        self.leader = self.id;
        self.role = Role::Leader;
        if let Some(own) = self.tracker.progress.get_mut(self.id) {
            own.become_replicate();
            own.recent_active = true;
        }
        // Anything inherited may hold a configuration change: all of it must be applied before the next one.
        self.pending_conf_index = self.log.last_index();
        self.leader_first_index = self.log.last_index() + 1;
        self.append_own(vec![crate::proto::Entry::default()]);
        self.trace_role();
    }

    fn trace_role(&mut self) {
        let (role, term, leader) = (self.role, self.term, self.leader);
        self.trace(|| TraceEvent::Became { role, term, leader });
    }

    /// Queues `m`: from this node, at its term, and behind persistence where it vouches for something durable.
    fn send(&mut self, mut m: Message) {
        use MessageType as T;
        if m.from == NONE {
            m.from = self.id;
        }
        if m.term == 0 && !matches!(m.msg_type, T::Prop | T::ReadIndex) {
            m.term = self.term;
        }
        let vote_early =
            m.to != self.id && m.msg_type == T::VoteResp && mutant::active(Mutant::VoteBeforePersist);
        match m.msg_type {
            _ if vote_early => self.msgs.push(m),
            // A vote request waits too: a candidate that wins, sends entries and forgets its term in a crash could
            // win the same term again with another log.
            T::AppResp if !m.reject => self.acknowledge(m.to, m.index),
            T::AppResp | T::VoteResp | T::PreVoteResp | T::Vote => self.msgs_after_append.push(m),
            _ => self.msgs.push(m),
        }
    }

    /// Tells `to` that this log is durable and equal up to `index`, once it is; or lets the acknowledgement before this
    /// one say it: what is durable up to here is durable up to there.
    fn acknowledge(&mut self, to: u64, index: u64) {
        if to != self.id && mutant::active(Mutant::AckBeforePersist) {
            let (from, term) = (self.id, self.term);
            self.msgs.push(Message { from, term, index, ..Message::new(MessageType::AppResp, to) });
            return;
        }
        if let Some(last) = self.msgs_after_append.last_mut()
            && last.msg_type == MessageType::AppResp
            && !last.reject
            && (last.to, last.term) == (to, self.term)
            && last.index <= index
        {
            last.index = index;
            return;
        }
        let m = blank(&mut self.msgs_after_append);
        (m.msg_type, m.to, m.from) = (MessageType::AppResp, to, self.id);
        (m.term, m.index) = (self.term, index);
    }

    pub(crate) fn set_tracing(&mut self, on: bool) {
        self.trace = on.then(Vec::new);
    }

    pub(crate) fn take_trace(&mut self) -> Vec<TraceEvent> {
        self.trace.as_mut().map(std::mem::take).unwrap_or_default()
    }

    #[inline]
    fn trace(&mut self, event: impl FnOnce() -> TraceEvent) {
        if let Some(events) = &mut self.trace {
            events.push(event());
        }
    }

    fn ignore(&mut self, msg_type: MessageType, from: u64, reason: &'static str) {
        self.trace(|| TraceEvent::Ignored { msg_type, from, reason });
    }
}

/// A message at the end of `queue`, to be filled where it stays: copying it there, just after its fields have been
/// written one by one, would stall.
fn blank(queue: &mut Vec<Message>) -> &mut Message {
    let at = queue.len();
    queue.resize_with(at + 1, Message::default);
    &mut queue[at]
}
