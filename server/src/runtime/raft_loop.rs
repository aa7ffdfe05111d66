//! One turn of raft: ticks, batches of proposals, waiting reads, and handing work to the others. It never waits for a
//! disk. Who takes turns is decided in `turns`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender as Queue, TryRecvError};
use stanchion_raft::ConfChange;
use stanchion_replica::Round;
use stanchion_replica::consensus::{AppendWork, ApplyWork, Consensus, ConsensusError, Dropped};
use tokio::sync::oneshot;

use super::applier::ToApplier;
use super::committer::ToCommitter;
use super::log_writer::ToWriter;
use super::shared::Shared;
use crate::metrics::Metrics;
use crate::peers::{PeerMessage, Peers};
use crate::refusal::{self, Refusal};

/// What the raft thread is told.
#[derive(Debug)]
pub(crate) enum ToRaft {
    /// An encoded request.
    Propose(Bytes),
    /// A membership change.
    ProposeChange(ConfChange),
    /// A peer's message.
    Message(PeerMessage),
    /// Messages to this member were lost.
    Unreachable(u64),
    /// A database as of this index is about to leave for a member.
    SnapshotStarted { member_id: u64, index: u64 },
    /// The transfer of a database to this member has ended.
    SnapshotSent { member_id: u64, delivered: bool },
    /// Mark the log where it is applied, and say when that is durable.
    Mark(oneshot::Sender<()>),
    /// The next election may come so many ticks earlier, if no leader is known.
    AdvanceElection(u32),
    /// Hand leadership to this member.
    TransferLeader(u64),
    /// How far another member's log is known to go, and this one's.
    Matched(u64, oneshot::Sender<Option<(u64, u64)>>),
    /// A linearizable read waits.
    Read(oneshot::Sender<Result<(), Refusal>>),
    /// Work is durable.
    Appended(Vec<AppendWork>),
    /// A batch is applied.
    Applied { work: ApplyWork, changes: Vec<(u64, ConfChange)>, opened_term: bool },
    /// A mark is durable.
    Released(stanchion_replica::Release),
    /// End.
    Stop,
}

/// Inputs taken before outputs are made: what has gathered forms one batch.
const BATCH_MAX: usize = 4096;

/// Where the raft thread's work goes.
pub(super) struct Outlets {
    pub(super) writer: Sender<ToWriter>,
    pub(super) applier: Queue<ToApplier>,
    pub(super) committer: Sender<ToCommitter>,
    pub(super) peers: Arc<Peers>,
}

/// Raft and what it needs around it.
pub(super) struct RaftLoop {
    consensus: Consensus,
    inbox: Receiver<ToRaft>,
    to_writer: Sender<ToWriter>,
    to_applier: Queue<ToApplier>,
    to_committer: Sender<ToCommitter>,
    shared: Arc<Shared>,
    peers: Arc<Peers>,
    tick: Duration,
    next_tick: Instant,
    /// How long a request may wait.
    request_timeout: Duration,
    /// Proposals of this turn, and those that raft would not take yet, with the time at which they came.
    proposals: Vec<(Instant, Bytes)>,
    changes: Vec<ConfChange>,
    /// Reads by the round that they wait for.
    reads: BTreeMap<Round, Vec<oneshot::Sender<Result<(), Refusal>>>>,
    /// Confirmed reads by the index that must be applied.
    granted: BTreeMap<u64, Vec<oneshot::Sender<Result<(), Refusal>>>>,
    applied: u64,
    /// Marks that are not durable yet, and who waits until none is left.
    releasing: usize,
    marks: Vec<oneshot::Sender<()>>,
    /// What the others have been told of `Consensus::reads_are_free`.
    reads_are_free: bool,
    metrics: Arc<Metrics>,
    /// The leader that was last counted.
    counted_leader: u64,
    /// Late reads that are counted.
    counted_late: u64,
    /// The log gives nothing back, and that has been said.
    disk_hangs: bool,
    /// The end has come: nothing is taken in any more.
    stopped: bool,
}

impl RaftLoop {
    pub(super) fn new(
        consensus: Consensus,
        inbox: Receiver<ToRaft>,
        outlets: Outlets,
        shared: Arc<Shared>,
        tick: Duration,
        request_timeout: Duration,
        metrics: Arc<Metrics>,
    ) -> RaftLoop {
        let applied = shared.applied.load(Ordering::Relaxed);
        RaftLoop {
            consensus,
            inbox,
            to_writer: outlets.writer,
            to_applier: outlets.applier,
            to_committer: outlets.committer,
            peers: outlets.peers,
            shared,
            tick,
            next_tick: Instant::now() + tick,
            request_timeout,
            proposals: Vec::new(),
            changes: Vec::new(),
            reads: BTreeMap::new(),
            granted: BTreeMap::new(),
            applied,
            releasing: 0,
            marks: Vec::new(),
            reads_are_free: false,
            metrics,
            counted_leader: 0,
            counted_late: 0,
            disk_hangs: false,
            stopped: false,
        }
    }

    /// What the raft thread waits on.
    pub(super) fn inbox(&self) -> Receiver<ToRaft> {
        self.inbox.clone()
    }

    /// When it must be stepped without any input.
    pub(super) fn next_tick(&self) -> Instant {
        self.next_tick
    }

    /// Nothing waits to be taken in.
    pub(super) fn is_idle(&self) -> bool {
        self.inbox.is_empty() && !self.stopped
    }

    /// Begins.
    pub(super) fn start(&mut self) -> Result<(), ConsensusError> {
        self.consensus.start()
    }

    /// Takes in what has gathered and hands out what follows from it; false at the end.
    pub(super) fn turn(&mut self) -> Result<bool, ConsensusError> {
        for _ in 0..BATCH_MAX {
            match self.inbox.try_recv() {
                Ok(ToRaft::Stop) | Err(TryRecvError::Disconnected) => {
                    self.stopped = true;
                    return Ok(false);
                }
                Ok(input) => self.take(input)?,
                Err(TryRecvError::Empty) => break,
            }
        }
        let works = self.step()?;
        self.hand_to_applier(works);
        Ok(true)
    }

    /// Takes one input in while nothing else [waits](Self::is_idle). The committed entries that follow from it must be
    /// applied before those of any later turn.
    pub(super) fn turn_with(&mut self, input: ToRaft) -> Result<Vec<ApplyWork>, ConsensusError> {
        self.take(input)?;
        self.step()
    }

    fn step(&mut self) -> Result<Vec<ApplyWork>, ConsensusError> {
        self.keep_time()?;
        self.propose()?;
        self.hand_out()
    }

    /// Leaves committed entries to the applier's thread.
    pub(super) fn hand_to_applier(&self, works: Vec<ApplyWork>) {
        for work in works {
            self.send_to_applier(ToApplier::Work(work));
        }
    }

    /// Ticks that were missed are not made up for: a burst of them would look like silence of the leader.
    fn keep_time(&mut self) -> Result<(), ConsensusError> {
        let now = Instant::now();
        if now >= self.next_tick {
            if now - self.next_tick > self.tick && self.shared.is_leader() {
                self.metrics.server.heartbeat_send_failures.inc();
            }
            self.consensus.handle_tick()?;
            let late = self.consensus.late_reads();
            if late > self.counted_late {
                self.metrics.server.slow_read_indexes.inc_by(late - self.counted_late);
                self.counted_late = late;
                tracing::warn!("waiting for ReadIndex response took too long, retrying");
            }
            self.notice_disk();
            self.next_tick = (self.next_tick + self.tick).max(now + self.tick / 2);
            self.forget_the_late(now);
        }
        Ok(())
    }

    fn notice_disk(&mut self) {
        let hangs = self.consensus.disk_hangs();
        if hangs && !self.disk_hangs {
            tracing::error!(
                "the log has not been written for an election timeout; this member will not lead"
            );
        } else if self.disk_hangs && !hangs {
            tracing::info!("the log is written again");
        }
        self.disk_hangs = hangs;
    }

    /// Without a leader nothing is answered: whoever has stopped waiting takes no memory.
    fn forget_the_late(&mut self, now: Instant) {
        let wait = self.request_timeout;
        self.proposals.retain(|(came, _)| now.saturating_duration_since(*came) < wait);
        for waiters in self.reads.values_mut() {
            waiters.retain(|waiter| !waiter.is_closed());
        }
    }

    /// What no honest peer sends is refused and changes nothing.
    fn hear(&mut self, message: PeerMessage) -> Result<(), ConsensusError> {
        match self.consensus.handle_message(message.take()) {
            Err(error) if error.is_fatal() => Err(error),
            Err(error) => {
                tracing::debug!(%error, "a peer's message was refused");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn take(&mut self, input: ToRaft) -> Result<(), ConsensusError> {
        match input {
            ToRaft::Propose(request) => self.proposals.push((Instant::now(), request)),
            ToRaft::ProposeChange(change) => self.changes.push(change),
            ToRaft::Message(message) => self.hear(message)?,
            ToRaft::Unreachable(member_id) => self.consensus.handle_unreachable(member_id),
            ToRaft::SnapshotStarted { member_id, index } => {
                self.consensus.handle_snapshot_started(member_id, index);
            }
            ToRaft::SnapshotSent { member_id, delivered } => {
                self.consensus.handle_snapshot_sent(member_id, delivered);
            }
            ToRaft::Mark(done) => {
                self.consensus.mark_now()?;
                self.marks.push(done);
            }
            ToRaft::AdvanceElection(ticks) => self.consensus.advance_election(ticks)?,
            ToRaft::TransferLeader(target) => self.consensus.transfer_leader(target)?,
            ToRaft::Matched(member_id, reply) => {
                let matched = self.consensus.matched(member_id);
                let own = self.consensus.matched(self.shared.identity.member_id).unwrap_or_default();
                let _ = reply.send(matched.map(|matched| (matched, own)));
            }
            ToRaft::Read(waiter) => self.reads.entry(self.consensus.want_read()).or_default().push(waiter),
            ToRaft::Appended(works) => {
                for work in works {
                    self.consensus.handle_appended(work)?;
                }
                // A snapshot may have jumped over what reads wait for.
                self.applied = self.applied.max(self.shared.applied());
                self.answer_reads();
            }
            ToRaft::Applied { work, changes, opened_term } => {
                self.applied = work.entries().last().map_or(self.applied, |entry| entry.index);
                for (index, change) in changes {
                    self.consensus.apply_change(index, change)?;
                }
                self.consensus.handle_applied(work)?;
                if opened_term {
                    self.consensus.handle_opened_term()?;
                }
                self.answer_reads();
            }
            ToRaft::Released(release) => {
                self.releasing -= 1;
                self.consensus.handle_released(&release)?;
            }
            ToRaft::Stop => unreachable!("taken before"),
        }
        Ok(())
    }

    /// Proposals that raft drops for now are kept: a leader may come within the time that their clients wait.
    fn propose(&mut self) -> Result<(), ConsensusError> {
        if !self.proposals.is_empty() {
            match self.consensus.propose(self.proposals.iter().map(|(_, data)| data.clone()).collect()) {
                Ok(()) => self.proposals.clear(),
                Err(Dropped::Now(_)) => {}
                Err(Dropped::Stop(error)) => return Err(error),
            }
        }
        while let Some(change) = self.changes.first() {
            match self.consensus.propose_change(change) {
                Ok(()) => _ = self.changes.remove(0),
                Err(Dropped::Now(_)) => break,
                Err(Dropped::Stop(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Hands everything out but committed entries, which are returned.
    fn hand_out(&mut self) -> Result<Vec<ApplyWork>, ConsensusError> {
        let outputs = self.consensus.take_outputs()?;
        self.shared.committed.store(self.consensus.committed(), Ordering::Relaxed);
        // Before any message leaves: with it, somebody else may come to lead.
        let free = self.consensus.reads_are_free();
        if self.reads_are_free != free {
            self.reads_are_free = free;
            self.shared.reads_are_free.store(free, Ordering::SeqCst);
        }
        if let Some(leadership) = outputs.leadership {
            self.notice_leader(leadership.leader);
            self.shared.set_leadership(leadership);
            self.send_to_applier(ToApplier::Leadership(leadership));
        }
        self.peers.send(outputs.messages);
        for message in outputs.snapshots {
            self.peers.send_snapshot(message);
        }
        if !outputs.append.is_empty() {
            // A thread that is gone has ended the process, or is about to.
            let _ = self.to_writer.send(ToWriter::Append(outputs.append));
        }
        for granted in outputs.granted {
            let waiters = self.reads.remove(&granted.round).unwrap_or_default();
            self.granted.entry(granted.index).or_default().extend(waiters);
        }
        for round in outputs.aborted {
            self.metrics.server.read_indexes_failed.inc();
            for waiter in self.reads.remove(&round).unwrap_or_default() {
                let _ = waiter.send(Err(refusal::LEADER_CHANGED));
            }
        }
        if let Some(release) = outputs.release {
            self.releasing += 1;
            let _ = self.to_committer.send(ToCommitter::Release(release));
        }
        if self.releasing == 0 {
            for done in self.marks.drain(..) {
                // Who has gone needs no answer.
                let _ = done.send(());
            }
        }
        self.answer_reads();
        Ok(outputs.apply)
    }

    fn notice_leader(&mut self, leader: u64) {
        if leader != 0 && leader != self.counted_leader {
            self.counted_leader = leader;
            self.metrics.server.leader_changes_seen.inc();
        }
    }

    fn send_to_applier(&self, input: ToApplier) {
        // See `hand_out`.
        let _ = self.to_applier.send(input);
    }

    fn answer_reads(&mut self) {
        while let Some(first) = self.granted.first_entry()
            && *first.key() <= self.applied
        {
            for waiter in first.remove() {
                // Who has gone needs no answer.
                let _ = waiter.send(Ok(()));
            }
        }
    }
}
