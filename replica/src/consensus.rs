//! The consensus half of a member: raft over the log in memory, reads in rounds, and which work goes where.
//!
//! What lives here: proposals, peer messages, ticks and disk completions go in; messages, disk work, entries to apply
//! and confirmed reads come out. What may not: the log's file, the store, time, threads.
//!
//! Three kinds of methods: `handle_*` and `propose*` for inputs, [`Consensus::take_outputs`] for what is to be done,
//! and getters. Whoever drives it takes the outputs after any input, or after many: what has gathered forms one batch.

use std::collections::BTreeMap;

use bytes::Bytes;
use stanchion_raft::{
    ConfChange, ConfState, DropReason, Entry, EntryType, HardState, LOCAL_APPEND_THREAD, LOCAL_APPLY_THREAD,
    MemStorage, Message, MessageType, RawNode, Role, Snapshot, SnapshotMetadata, StorageError,
};

use crate::boot::RaftStart;
use crate::reads::{Granted, Reads, Round};
use crate::release::{LAGGARDS, Release, ReleasePolicy};
use crate::stall::Stall;

/// Ticks and limits.
#[derive(Clone, Debug)]
pub struct ConsensusConfig {
    /// Ticks without a leader until an election.
    pub election_ticks: u32,
    /// Ticks between heartbeats.
    pub heartbeat_ticks: u32,
    /// Ask before an election whether it could be won.
    pub pre_vote: bool,
    /// Ticks until a read that was not answered is asked for again.
    pub read_retry_ticks: u32,
    /// When the log is released.
    pub release: ReleasePolicy,
    /// Seed of the election timeouts, different for each member.
    pub seed: u64,
    /// A number that no earlier start of this member had, such as the time.
    pub start_id: u64,
}

/// Why the member must stop: what raft says of its own log or storage.
#[derive(Debug, thiserror::Error)]
#[error("raft: {0}")]
pub struct ConsensusError(#[from] stanchion_raft::Error);

/// Writing to be made durable, in order. Give it back to [`Consensus::handle_appended`] when it is.
#[derive(Debug)]
#[must_use = "raft waits for it"]
pub struct AppendWork {
    message: Message,
}

impl AppendWork {
    #[cfg(test)]
    pub(crate) fn of(entries: Vec<Entry>, HardState { term, vote, commit }: HardState) -> AppendWork {
        AppendWork { message: Message { entries, term, vote, commit, ..Message::default() } }
    }

    #[cfg(test)]
    pub(crate) fn of_snapshot(snapshot: Snapshot, state: HardState) -> AppendWork {
        let mut work = AppendWork::of(Vec::new(), state);
        work.message.snapshot = Some(Box::new(snapshot));
        work
    }

    /// Entries to append; one that exists already replaces it and everything after it.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.message.entries
    }

    /// Term, vote and commit index to record, if they have changed.
    #[must_use]
    pub fn hard_state(&self) -> Option<HardState> {
        let Message { term, vote, commit, .. } = self.message;
        (term != 0 || vote != 0 || commit != 0).then_some(HardState { term, vote, commit })
    }

    /// A leader's snapshot to record before the entries.
    #[must_use]
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.message.snapshot.as_deref()
    }

    /// Somebody waits for it: without that it need not be synced.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        !self.message.responses.is_empty()
    }
}

/// Committed entries to be applied, in order. Give it back to [`Consensus::handle_applied`] afterwards.
#[derive(Debug)]
#[must_use = "raft waits for it"]
pub struct ApplyWork {
    message: Message,
}

impl ApplyWork {
    /// The entries.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.message.entries
    }
}

/// Who leads, and in which role this member is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The leader's id; 0 if none is known.
    pub leader: u64,
    /// This member's role.
    pub role: Role,
    /// The term.
    pub term: u64,
}

/// What is to be done. Messages may leave at once.
#[derive(Debug, Default)]
pub struct Outputs {
    /// To peers.
    pub messages: Vec<Message>,
    /// To the log writer.
    pub append: Vec<AppendWork>,
    /// To the applier.
    pub apply: Vec<ApplyWork>,
    /// Reads that may run once their index is applied.
    pub granted: Vec<Granted>,
    /// Rounds that a change of leader has ended: their reads fail with that.
    pub aborted: Vec<Round>,
    /// The leader, the role or the term has changed.
    pub leadership: Option<Leadership>,
    /// The log may be released: mark it, then drop what is before it.
    pub release: Option<Release>,
    /// Members that need more than the log still holds. The message names who; its snapshot is only a place in the
    /// log: send the state as it is now with [`snapshot::of_image`](crate::snapshot::of_image), and say with
    /// [`Consensus::handle_snapshot_sent`] how that went.
    pub snapshots: Vec<Message>,
}

/// The consensus half of a member.
#[derive(Debug)]
pub struct Consensus {
    node: RawNode<MemStorage>,
    member_id: u64,
    reads: Reads,
    read_retry_ticks: u32,
    election_ticks: u32,
    stall: Stall,
    leadership: Leadership,
    policy: ReleasePolicy,
    /// Index and term of the last entry that is applied since the start.
    last_applied: Option<(u64, u64)>,
    /// Up to where the newest mark in the log goes.
    marked: u64,
    /// Bytes of entries that were applied since the last mark was asked for.
    applied_bytes: u64,
    /// Members that were sent a snapshot, and its index: the log behind it is kept until they have caught up.
    catching_up: BTreeMap<u64, u64>,
    outputs: Outputs,
}

impl Consensus {
    /// Continues from what a start found.
    ///
    /// # Errors
    /// [`ConsensusError`]: the log contradicts itself.
    pub fn new(
        member_id: u64,
        start: &RaftStart,
        config: &ConsensusConfig,
    ) -> Result<Consensus, ConsensusError> {
        let conf_state = ConfState::new(&start.voters, &start.learners);
        let mut log = MemStorage::with_conf_state(conf_state.clone());
        if start.base.index > 0 {
            let metadata = SnapshotMetadata { conf_state, index: start.base.index, term: start.base.term };
            log.apply_snapshot(Snapshot { data: Bytes::new(), metadata })
                .map_err(stanchion_raft::Error::from)?;
        }
        let entries: Vec<Entry> = start.entries.iter().map(entry).collect();
        log.append(&entries).map_err(stanchion_raft::Error::from)?;
        let stanchion_wal::HardState { term, vote, commit } = start.hard_state;
        log.set_hard_state(HardState { term, vote, commit });
        let raft = stanchion_raft::Config {
            election_ticks: config.election_ticks,
            heartbeat_ticks: config.heartbeat_ticks,
            applied: start.applied,
            async_storage_writes: true,
            pre_vote: config.pre_vote,
            seed: config.seed,
            ..stanchion_raft::Config::new(member_id)
        };
        Ok(Consensus {
            node: RawNode::new(&raft, log)?,
            member_id,
            reads: Reads::new(member_id, config.start_id),
            read_retry_ticks: config.read_retry_ticks,
            election_ticks: config.election_ticks,
            stall: Stall::default(),
            leadership: Leadership::default(),
            policy: config.release,
            last_applied: None,
            marked: start.base.index,
            applied_bytes: 0,
            catching_up: BTreeMap::new(),
            outputs: Outputs::default(),
        })
    }

    /// A tick has passed.
    ///
    /// # Errors
    /// [`ConsensusError`]: stop.
    pub fn handle_tick(&mut self) -> Result<(), ConsensusError> {
        self.stall.tick();
        if !self.disk_hangs() {
            self.node.tick()?;
        } else if self.node.is_leader() {
            self.give_up_leadership()?;
            // A quorum that hears nothing answers nothing: raft's own check ends what is left of this leadership.
            self.node.tick()?;
        }
        if let Some(attempt) = self.reads.tick(self.read_retry_ticks) {
            self.ask(attempt)?;
        }
        Ok(())
    }

    /// A peer's message has come. What no honest peer sends is refused and changes nothing.
    ///
    /// # Errors
    /// [`ConsensusError`]: [`is_fatal`](ConsensusError::is_fatal) says whether to stop or to log it.
    pub fn handle_message(&mut self, message: Message) -> Result<(), ConsensusError> {
        if message.msg_type == MessageType::TimeoutNow && self.disk_hangs() {
            // Who cannot write must not lead; the leader that offers it gives up waiting after an election timeout.
            return Ok(());
        }
        Ok(self.node.step(message)?)
    }

    /// Brings the next election nearer by `ticks` if no leader is known: at a start there is nobody to be disturbed.
    ///
    /// # Errors
    /// [`ConsensusError`]: stop.
    pub fn advance_election(&mut self, ticks: u32) -> Result<(), ConsensusError> {
        for _ in 0..ticks {
            if self.node.leader() == 0 {
                self.node.tick()?;
            }
        }
        Ok(())
    }

    /// The log writer has had work for an election timeout and has given nothing back. A member in that state hands
    /// leadership over, and does not campaign: the others go on without it. One that is alone has nobody to give way to.
    #[must_use]
    pub fn disk_hangs(&self) -> bool {
        self.stall.ticks() >= self.election_ticks && !self.is_only_voter()
    }

    /// A snapshot of the state at `index` is about to leave for a member.
    pub fn handle_snapshot_started(&mut self, member_id: u64, index: u64) {
        self.catching_up.insert(member_id, index);
    }

    /// A snapshot has reached its member, or has not.
    pub fn handle_snapshot_sent(&mut self, member_id: u64, delivered: bool) {
        if !delivered {
            self.catching_up.remove(&member_id);
        }
        self.node.report_snapshot(member_id, delivered);
    }

    /// A peer could not be reached.
    pub fn handle_unreachable(&mut self, member_id: u64) {
        self.node.report_unreachable(member_id);
    }

    /// Proposes requests, which are appended together or not at all.
    ///
    /// # Errors
    /// Why they were dropped: propose them again, here, later.
    pub fn propose(&mut self, requests: Vec<Bytes>) -> Result<(), Dropped> {
        let entries = requests.into_iter().map(Entry::normal).collect();
        self.node.propose_batch(entries).map_err(Dropped::from)
    }

    /// Proposes a membership change.
    ///
    /// # Errors
    /// As [`propose`](Self::propose).
    pub fn propose_change(&mut self, change: &ConfChange) -> Result<(), Dropped> {
        self.node.propose_conf_change(change).map_err(Dropped::from)
    }

    /// A read waits: it may run when its round is [granted](Outputs::granted).
    pub fn want_read(&mut self) -> Round {
        self.reads.want()
    }

    /// Work is durable.
    ///
    /// # Errors
    /// [`ConsensusError`]: stop.
    pub fn handle_appended(&mut self, work: AppendWork) -> Result<(), ConsensusError> {
        self.stall.take_back();
        let hard_state = work.hard_state();
        let Message { entries, snapshot, responses, .. } = work.message;
        let log = self.node.storage_mut();
        if let Some(snapshot) = snapshot {
            self.marked = snapshot.metadata.index;
            log.apply_snapshot(*snapshot).map_err(stanchion_raft::Error::from)?;
        }
        log.append(&entries).map_err(stanchion_raft::Error::from)?;
        if let Some(hard_state) = hard_state {
            log.set_hard_state(hard_state);
        }
        self.deliver(responses)
    }

    /// A committed membership change is about to take effect, in its place among the entries that are applied: give
    /// raft the change of the entry at `index`, with node 0 if the members refused it. One that a leader's snapshot has
    /// overtaken meanwhile changes nothing: raft has the snapshot's configuration already, which may have undone it.
    ///
    /// # Errors
    /// [`ConsensusError`]: stop.
    pub fn apply_change(&mut self, index: u64, change: ConfChange) -> Result<(), ConsensusError> {
        if index >= self.node.first_index()? {
            self.node.apply_conf_change(change)?;
        }
        Ok(())
    }

    /// Campaigns at once if this member is the only voter: nobody else can lead, so there is no timeout to wait for.
    /// The others wait for theirs. Raft itself refuses while a committed change is not applied.
    ///
    /// # Errors
    /// [`ConsensusError`]: stop.
    pub fn start(&mut self) -> Result<(), ConsensusError> {
        if self.node.leader() == 0 && self.is_only_voter() {
            self.node.campaign()?;
        }
        Ok(())
    }

    /// Entries are applied, and their membership changes given to raft.
    ///
    /// # Errors
    /// [`ConsensusError`]: stop.
    pub fn handle_applied(&mut self, work: ApplyWork) -> Result<(), ConsensusError> {
        let last = work.message.entries.last().map(|entry| (entry.index, entry.term));
        self.applied_bytes += work.message.entries.iter().map(|entry| entry.data.len() as u64).sum::<u64>();
        self.deliver(work.message.responses)?;
        self.start()?;
        self.last_applied = last.or(self.last_applied);
        if last.is_some_and(|(index, _)| self.policy.is_due(index, self.marked, self.applied_bytes)) {
            self.mark_now()?;
        }
        Ok(())
    }

    /// Marks the log where it is applied, whatever the count says: what an older or newer release would not understand
    /// shall lie before the mark, where nobody reads it again.
    ///
    /// # Errors
    /// [`ConsensusError`]: stop.
    pub fn mark_now(&mut self) -> Result<(), ConsensusError> {
        if let Some((index, term)) = self.last_applied.filter(|(index, _)| *index > self.marked) {
            self.marked = index;
            self.applied_bytes = 0;
            let conf_state = self.node.conf_state();
            let keep_from = self.policy.keep_from(index).max(self.kept_by_size(index)?);
            self.outputs.release = Some(Release { index, term, conf_state, keep_from });
        }
        Ok(())
    }

    /// The first entry up to `marked` that is kept, as far as bytes decide: more of them for members that answer and
    /// still need them, so that large values under load do not make everybody need the database.
    fn kept_by_size(&mut self, marked: u64) -> Result<u64, ConsensusError> {
        let leads = self.leadership.role == Role::Leader;
        let peers = self.node.peers().filter(|peer| leads && peer.recent_active);
        let needed = peers.map(|peer| peer.match_index + 1).min();
        let log = self.node.storage_mut();
        let mut entries = Vec::new();
        let read = stanchion_raft::Storage::first_index(log).and_then(|first| {
            stanchion_raft::Storage::entries(log, first, marked.max(first) + 1, u64::MAX, &mut entries)
        });
        match read {
            // A leader's snapshot has come in between: it has emptied the log.
            Err(StorageError::Unavailable { .. }) => return Ok(0),
            other => other.map_err(stanchion_raft::Error::from)?,
        }
        let (soft, hard) = (self.policy.log_bytes, self.policy.log_bytes.saturating_mul(LAGGARDS));
        let (mut bytes, mut by_soft, mut by_hard) = (0u64, marked, marked);
        for entry in entries.iter().rev() {
            bytes = bytes.saturating_add(entry.data.len() as u64);
            if bytes > hard {
                break;
            }
            by_hard = entry.index;
            if bytes <= soft {
                by_soft = entry.index;
            }
        }
        Ok(needed.map_or(by_soft, |needed| needed.min(by_soft)).max(by_hard))
    }

    /// The mark of a [`Release`] is durable: the log in memory lets go of what is before it.
    ///
    /// # Errors
    /// [`ConsensusError`]: stop.
    pub fn handle_released(&mut self, release: &Release) -> Result<(), ConsensusError> {
        let log = self.node.storage_mut();
        match log.create_snapshot(release.index, release.conf_state.clone(), Bytes::new()) {
            // Another release, or a leader's snapshot, may have come as far or farther in between.
            Ok(_) | Err(StorageError::SnapshotOutOfDate { .. }) => {}
            Err(error) => return Err(stanchion_raft::Error::from(error).into()),
        }
        self.marked = self.marked.max(release.index);
        let keep_from = release.keep_from.min(self.needed_from());
        let log = self.node.storage_mut();
        let first = stanchion_raft::Storage::first_index(log).map_err(stanchion_raft::Error::from)?;
        if keep_from > first {
            log.compact(keep_from - 1).map_err(stanchion_raft::Error::from)?;
        }
        Ok(())
    }

    /// The first entry that members need who were sent a snapshot: without it they would need another one, and so on
    /// for ever under load. Who is silent, gone or has caught up needs none.
    fn needed_from(&mut self) -> u64 {
        let node = &self.node;
        let enough = self.marked.saturating_sub(self.policy.catch_up_entries);
        self.catching_up.retain(|member_id, _| {
            node.peer(*member_id).is_some_and(|peer| peer.recent_active && peer.match_index < enough)
        });
        self.catching_up.values().min().map_or(u64::MAX, |index| index + 1)
    }

    /// Everything that is to be done since the last call.
    ///
    /// # Errors
    /// [`ConsensusError`]: stop.
    pub fn take_outputs(&mut self) -> Result<Outputs, ConsensusError> {
        if let Some(attempt) = self.reads.begin() {
            self.ask(attempt)?;
        }
        while self.node.has_ready() {
            let ready = self.node.ready()?;
            for read in &ready.read_states {
                self.outputs.granted.extend(self.reads.answer(&read.context, read.index));
            }
            for message in ready.messages {
                self.route(message);
            }
            if ready.soft_state.is_some() || ready.hard_state.is_some() {
                self.notice_leadership();
            }
            if let Some(attempt) = self.reads.begin() {
                self.ask(attempt)?;
            }
        }
        let mut outputs = std::mem::take(&mut self.outputs);
        self.stall.hand_out(outputs.append.len());
        if self.is_muted() {
            outputs.messages.retain(|m| !matches!(m.msg_type, MessageType::Heartbeat | MessageType::App));
        }
        Ok(outputs)
    }

    /// The leader, role and term now.
    #[must_use]
    pub fn leadership(&self) -> Leadership {
        self.leadership
    }

    /// The commit index.
    #[must_use]
    pub fn committed(&self) -> u64 {
        self.node.status().hard_state.commit
    }

    /// The first entry that the log in memory still holds.
    ///
    /// # Errors
    /// [`ConsensusError`]: stop.
    pub fn first_index(&self) -> Result<u64, ConsensusError> {
        Ok(self.node.first_index()?)
    }

    /// How often a linearizable read was asked for again because the answer took too long.
    #[must_use]
    pub fn late_reads(&self) -> u64 {
        self.reads.late()
    }

    /// How far another member's log is known to go while this one leads; `None` if it is no member.
    #[must_use]
    pub fn matched(&self, member_id: u64) -> Option<u64> {
        self.node.peer(member_id).map(|peer| peer.match_index)
    }

    /// Raft's own view of things.
    #[must_use]
    pub fn status(&self) -> stanchion_raft::Status {
        self.node.status()
    }

    /// An entry of a new term is applied: reads that were asked for before it may be lost, so they are asked for again.
    ///
    /// # Errors
    /// [`ConsensusError`]: stop.
    pub fn handle_opened_term(&mut self) -> Result<(), ConsensusError> {
        match self.reads.retry() {
            Some(attempt) => self.ask(attempt),
            None => Ok(()),
        }
    }

    /// Asks for leadership to be handed to `member_id`.
    ///
    /// # Errors
    /// [`ConsensusError`]: stop.
    pub fn transfer_leader(&mut self, member_id: u64) -> Result<(), ConsensusError> {
        Ok(self.node.transfer_leader(member_id)?)
    }

    /// Offers leadership to the voter that has the most, until this leader falls silent.
    fn give_up_leadership(&mut self) -> Result<(), ConsensusError> {
        if self.is_muted() {
            return Ok(());
        }
        let voters = self.node.conf_state().voters;
        let others = voters.into_iter().filter(|id| *id != self.member_id);
        let live = others.filter_map(|id| self.node.peer(id)).filter(|peer| peer.recent_active);
        match live.max_by_key(|peer| (peer.match_index, peer.id)).map(|peer| peer.id) {
            Some(successor) => self.transfer_leader(successor),
            None => Ok(()),
        }
    }

    /// Nobody has taken leadership over in half an election timeout: followers that hear nothing elect somebody, so a
    /// leader whose disk hangs lets them hear nothing. What is not sent is as good as lost on the way.
    fn is_muted(&self) -> bool {
        self.disk_hangs() && self.stall.ticks() >= self.election_ticks + self.election_ticks / 2
    }

    /// Asks for a round of reads. Where raft holds too many already, the retry asks again.
    fn ask(&mut self, attempt: Bytes) -> Result<(), ConsensusError> {
        match self.node.read_index(attempt) {
            Err(stanchion_raft::Error::TooManyReads { .. }) => Ok(()),
            asked => Ok(asked?),
        }
    }

    /// Whether a linearizable read needs neither a round nor a wait: this member leads and is the only voter, and an
    /// entry of its term is applied. Then whatever has been acknowledged to anybody was acknowledged by this member,
    /// after it was applied here. It holds until the next [`take_outputs`](Self::take_outputs), and what makes it untrue
    /// is in those outputs: whoever shares the answer must take it back before they leave.
    #[must_use]
    pub fn reads_are_free(&self) -> bool {
        let Leadership { role, term, .. } = self.leadership;
        role == Role::Leader
            && self.last_applied.is_some_and(|(_, applied)| applied == term)
            && self.is_only_voter()
    }

    fn is_only_voter(&self) -> bool {
        let conf_state = self.node.conf_state();
        conf_state.voters == [self.member_id] && conf_state.voters_outgoing.is_empty()
    }

    fn route(&mut self, message: Message) {
        match message.to {
            LOCAL_APPEND_THREAD => self.outputs.append.push(AppendWork { message }),
            LOCAL_APPLY_THREAD => self.outputs.apply.push(ApplyWork { message }),
            _ if message.msg_type == MessageType::Snap => self.outputs.snapshots.push(message),
            _ => self.outputs.messages.push(message),
        }
    }

    /// Responses of finished work: those to this member are its own, the others leave.
    fn deliver(&mut self, responses: Vec<Message>) -> Result<(), ConsensusError> {
        for response in responses {
            if response.to == self.member_id {
                self.node.step_response(response)?;
            } else {
                self.outputs.messages.push(response);
            }
        }
        Ok(())
    }

    fn notice_leadership(&mut self) {
        let status = self.node.status();
        let now = Leadership {
            leader: status.soft_state.leader,
            role: status.soft_state.role,
            term: status.hard_state.term,
        };
        if now == self.leadership {
            return;
        }
        let led = self.leadership.leader;
        if led != 0 && led != now.leader {
            self.outputs.aborted.extend(self.reads.abort());
        }
        self.leadership = now;
        self.outputs.leadership = Some(now);
    }
}

/// Why proposals were not taken.
#[derive(Debug, thiserror::Error)]
pub enum Dropped {
    /// For now: try again.
    #[error("proposal dropped: {0:?}")]
    Now(DropReason),
    /// The member must stop.
    #[error(transparent)]
    Stop(ConsensusError),
}

impl From<stanchion_raft::Error> for Dropped {
    fn from(error: stanchion_raft::Error) -> Dropped {
        match error {
            stanchion_raft::Error::ProposalDropped(reason) => Dropped::Now(reason),
            other => Dropped::Stop(ConsensusError(other)),
        }
    }
}

impl ConsensusError {
    /// Whether this member's own log is in doubt, against a message that a peer should not have sent.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        use stanchion_raft::Error;
        matches!(
            self.0,
            Error::Storage(_) | Error::CommitBeyondLog { .. } | Error::ConflictWithCommitted { .. }
        )
    }
}

fn entry(stored: &stanchion_wal::Entry) -> Entry {
    let entry_type = match stored.kind {
        stanchion_wal::ENTRY_NORMAL => EntryType::Normal,
        1 => EntryType::ConfChange,
        _ => EntryType::ConfChangeV2,
    };
    Entry { entry_type, term: stored.term, index: stored.index, data: stored.data.clone() }
}
