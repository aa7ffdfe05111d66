//! The leader sends entries, snapshots and heartbeats, and counts what comes back (paper, 5.3; thesis, 10.2.1).

use super::Raft;
use crate::error::Error;
use crate::log::EntryId;
use crate::mutant::{self, Mutant};
use crate::proto::{Entry, Message, MessageType as T, NONE};
use crate::storage::{Storage, StorageError};
use crate::trace::TraceEvent;
use crate::tracker::{ProgressState, Queued};

impl<S: Storage> Raft<S> {
    /// Sends everybody what is due, and the commit index in any case.
    pub(super) fn broadcast_append(&mut self) -> Result<(), Error> {
        self.append_to_all(true)
    }

    /// Sends everybody what is due; see [`send_append`](Self::send_append).
    pub(super) fn append_to_all(&mut self, even_empty: bool) -> Result<(), Error> {
        for at in 0..self.tracker.progress.len() {
            if self.tracker.progress.id_at(at) != Some(self.id) {
                self.send_append_at(at, even_empty)?;
            }
        }
        Ok(())
    }

    /// Sends `to` the next entries, or a snapshot if they are compacted. False if nothing was sent: the peer is
    /// paused, or there are no entries and `even_empty` is false.
    pub(super) fn send_append(&mut self, to: u64, even_empty: bool) -> Result<bool, Error> {
        let Some(at) = self.tracker.progress.find(to) else { return Ok(false) };
        self.send_append_at(at, even_empty)
    }

    /// The same for the `at`-th peer.
    fn send_append_at(&mut self, at: usize, even_empty: bool) -> Result<bool, Error> {
        let Some((to, pr)) = self.tracker.progress.get_at(at) else { return Ok(false) };
        // Nothing new and nobody to tell: the common answer of the loop that fills the window.
        if pr.is_paused() || (!even_empty && pr.next > self.log.last_index()) {
            return Ok(false);
        }
        let (next, window_open) = (pr.next, pr.state != ProgressState::Replicate || !pr.inflights.is_full());
        if let Some(sent) = self.extend_queued(at, even_empty) {
            return Ok(sent);
        }
        let Some(log_term) = self.unless_compacted(self.log.term(next - 1))? else {
            return self.send_snapshot(to);
        };
        let (mut entries, mut encoded) = (Vec::new(), 0);
        if window_open {
            let found = self.log.entries_from(next, self.settings.max_bytes_per_msg, &mut entries);
            let Some(bytes) = self.unless_compacted(found)? else { return self.send_snapshot(to) };
            encoded = bytes;
        }
        if entries.is_empty() && !even_empty {
            return Ok(false);
        }
        let (count, bytes) = (entries.len() as u64, entries.iter().map(Entry::payload_len).sum());
        let queued = Queued { filling: self.filling, at: self.msgs.len(), bytes: encoded };
        let commit = self.log.committed;
        let m = super::blank(&mut self.msgs);
        (m.msg_type, m.to, m.from, m.term) = (T::App, to, self.id, self.term);
        (m.index, m.log_term, m.commit) = (next - 1, log_term, commit);
        m.entries = entries;
        if let Some(pr) = self.tracker.progress.get_at_mut(at) {
            pr.sent_entries(count, bytes);
            pr.sent_commit = commit;
            pr.queued = Some(queued);
        }
        Ok(true)
    }

    /// Puts what is due into the newest append to `to`, if that has not left: more entries, and the commit index. A
    /// receiver cannot tell that from a leader that was asked a little later, and it saves a message with its answer
    /// for every proposal and every commit. Answers whether entries were sent that way; nothing if a message of its own
    /// is needed.
    fn extend_queued(&mut self, at: usize, even_empty: bool) -> Option<bool> {
        let (last, committed) = (self.log.last_index(), self.log.committed);
        let pr = self.tracker.progress.get_at_mut(at)?;
        let queued =
            pr.queued.filter(|q| q.filling == self.filling && pr.state == ProgressState::Replicate)?;
        let m = self.msgs.get_mut(queued.at)?;
        let held = m.entries.len();
        if m.index + held as u64 != pr.next - 1 {
            return None;
        }
        if pr.next <= last {
            let room = self.settings.max_bytes_per_msg.saturating_sub(queued.bytes);
            let bytes = self.log.extend_from(pr.next, room, &mut m.entries);
            if bytes == 0 {
                return None;
            }
            let payload = m.entries[held..].iter().map(Entry::payload_len).sum();
            pr.extended((m.entries.len() - held) as u64, payload, held == 0);
            pr.queued = Some(Queued { bytes: queued.bytes + bytes, ..queued });
        } else if !even_empty {
            return Some(false);
        }
        m.commit = committed;
        pr.sent_commit = committed;
        Some(m.entries.len() > held)
    }

    fn unless_compacted<T>(&self, answer: Result<T, StorageError>) -> Result<Option<T>, Error> {
        match answer {
            Ok(v) => Ok(Some(v)),
            Err(StorageError::Compacted { .. }) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    fn send_snapshot(&mut self, to: u64) -> Result<bool, Error> {
        let active = self.tracker.progress.get(to).is_some_and(|pr| pr.recent_active);
        if !active {
            return Ok(false);
        }
        let snapshot = match self.log.snapshot() {
            Err(Error::Storage(StorageError::SnapshotTemporarilyUnavailable)) => return Ok(false),
            other => other?,
        };
        if snapshot.is_empty() {
            return Err(Error::EmptySnapshot { to });
        }
        let index = snapshot.metadata.index;
        if let Some(pr) = self.tracker.progress.get_mut(to) {
            pr.become_snapshot(index);
        }
        self.trace_progress(to);
        self.send(Message { snapshot: Some(Box::new(snapshot)), ..Message::new(T::Snap, to) });
        Ok(true)
    }

    pub(super) fn broadcast_heartbeat(&mut self) {
        self.read_round = Some(self.msgs.len());
        let context = self.reads.context();
        let committed = self.log.committed;
        for at in 0..self.tracker.progress.len() {
            let Some(id) = self.tracker.progress.id_at(at).filter(|id| *id != self.id) else { continue };
            let Some(pr) = self.tracker.progress.get_mut(id) else { continue };
            // The peer takes the index on trust: it must not be beyond what it is known to have.
            let mut commit = committed.min(pr.match_index);
            if mutant::active(Mutant::HeartbeatCommitUnclamped) {
                commit = committed;
            }
            pr.sent_commit = commit;
            self.send(Message { commit, context: context.clone(), ..Message::new(T::Heartbeat, id) });
        }
    }

    pub(super) fn take_append_answer(&mut self, m: &Message) -> Result<(), Error> {
        let last = self.log.last_index();
        let at = self.tracker.progress.find(m.from);
        let Some((at, pr)) = at.and_then(|at| Some((at, self.tracker.progress.get_at_mut(at)?))) else {
            self.ignore(m.msg_type, m.from, "not in the configuration");
            return Ok(());
        };
        if !m.reject && m.index > last {
            return Err(Error::AckBeyondLog { from: m.from, index: m.index, last });
        }
        pr.recent_active = true;
        if m.reject { self.take_rejection(m) } else { self.take_acknowledgement(m, at) }
    }

    fn take_rejection(&mut self, m: &Message) -> Result<(), Error> {
        let mut hint = m.reject_hint;
        if m.log_term > 0 {
            // Everything of ours above this has a higher term than anything the peer has: skip it in one step.
            hint = self.log.find_conflict_by_term(EntryId { index: hint, term: m.log_term })?.index;
        }
        let Some(pr) = self.tracker.progress.get_mut(m.from) else { return Ok(()) };
        if !pr.maybe_decrease(m.index, hint) {
            self.ignore(m.msg_type, m.from, "a rejection that is out of date");
            return Ok(());
        }
        if pr.state == ProgressState::Replicate {
            pr.become_probe();
            self.trace_progress(m.from);
        }
        self.send_append(m.from, true).map(drop)
    }

    /// Takes an acknowledgement of the `at`-th peer.
    fn take_acknowledgement(&mut self, m: &Message, at: usize) -> Result<(), Error> {
        let last = self.log.last_index();
        let Some(pr) = self.tracker.progress.get_at_mut(at) else { return Ok(()) };
        let rose = pr.maybe_update(m.index);
        if !rose && (pr.match_index != m.index || pr.state != ProgressState::Probe) {
            return Ok(());
        }
        let before = pr.state;
        match before {
            ProgressState::Probe => pr.become_replicate(),
            // Any snapshot that reaches our log will do, whichever one was sent.
            ProgressState::Snapshot if pr.match_index + 1 >= self.log.first_index()? => {
                pr.become_probe();
                pr.become_replicate();
            }
            ProgressState::Snapshot => {}
            ProgressState::Replicate => pr.inflights.free_to(m.index),
        }
        let (state, caught_up) = (pr.state, pr.match_index == last);
        let behind_commit = pr.can_bump_commit(self.log.committed);
        if state != before {
            self.trace_progress(m.from);
        }
        // What is committed already cannot commit anything more.
        if m.index > self.log.committed && self.maybe_commit()? {
            self.broadcast_append()?;
        } else if m.from != self.id && behind_commit {
            self.send_append_at(at, true)?;
        }
        if m.from != self.id {
            while self.send_append_at(at, false)? {}
            if caught_up && m.from == self.transferee {
                self.send_timeout_now(m.from);
            }
        }
        Ok(())
    }

    pub(super) fn take_heartbeat_answer(&mut self, m: &Message) -> Result<(), Error> {
        let last = self.log.last_index();
        let Some(pr) = self.tracker.progress.get_mut(m.from) else { return Ok(()) };
        pr.recent_active = true;
        pr.resume();
        if pr.match_index < last || pr.state == ProgressState::Probe {
            self.send_append(m.from, true)?;
        }
        self.take_read_ack(m);
        Ok(())
    }

    /// Raises the commit index to what quorums have; true if it rose.
    pub(super) fn maybe_commit(&mut self) -> Result<bool, Error> {
        // No voter at all, which only a configuration that was never initialised has, commits nothing.
        let index = self.tracker.committed_index().min(self.log.last_index());
        // Only entries of the own term commit by counting; earlier ones come with them (paper, 5.4.2).
        let own_term = index >= self.leader_first_index || mutant::active(Mutant::CommitOldTerm);
        if index <= self.log.committed || !own_term {
            return Ok(false);
        }
        self.log.commit_to(index)?;
        self.trace(|| TraceEvent::Committed { index });
        self.release_parked_reads()?;
        Ok(true)
    }

    /// The application could not reach `id`: what was sent on trust may be lost.
    pub(crate) fn report_unreachable(&mut self, id: u64) {
        let Some(pr) = self.tracker.progress.get_mut(id) else { return };
        if pr.state == ProgressState::Replicate {
            pr.become_probe();
            self.trace_progress(id);
        }
    }

    /// The application knows what became of the snapshot to `id`.
    pub(crate) fn report_snapshot(&mut self, id: u64, delivered: bool) {
        let Some(pr) = self.tracker.progress.get_mut(id) else { return };
        if pr.state != ProgressState::Snapshot {
            return;
        }
        if !delivered {
            pr.abandon_snapshot();
        }
        pr.become_probe();
        // Delivered: its answer is on the way. Failed: no need to hurry. Either way the next heartbeat will do.
        pr.paused = true;
        self.trace_progress(id);
    }

    pub(super) fn trace_progress(&mut self, id: u64) {
        let Some(pr) = self.tracker.progress.get(id) else { return };
        let (state, next) = (pr.state, pr.next);
        self.trace(|| TraceEvent::Progress { id, state, next });
    }

    pub(super) fn send_timeout_now(&mut self, to: u64) {
        debug_assert_ne!(to, NONE);
        self.send(Message::new(T::TimeoutNow, to));
    }
}
