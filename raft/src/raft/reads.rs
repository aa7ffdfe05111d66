//! Linearizable reads (thesis, 6.4): a commit index that is at least as new as anything acknowledged before.

use super::Raft;
use crate::config::ReadOnlyOption;
use crate::error::Error;
use crate::mutant::{self, Mutant};
use crate::proto::{Message, MessageType as T, NONE};
use crate::read_only::{ReadQueue, ReadState};
use crate::storage::Storage;
use crate::trace::TraceEvent;

impl<S: Storage> Raft<S> {
    pub(super) fn take_read_request(&mut self, m: Message) -> Result<(), Error> {
        if m.entries.len() != 1 {
            return Err(Error::Malformed {
                msg_type: m.msg_type,
                from: m.from,
                what: "it needs exactly one entry",
            });
        }
        let limit = self.settings.max_pending_reads;
        if self.pending_reads() >= limit {
            return Err(Error::TooManyReads { limit });
        }
        // Until its first commit a new leader does not know what its predecessors have committed.
        let committed_in_term = self.log.committed >= self.leader_first_index;
        if !committed_in_term && !mutant::active(Mutant::ReadBeforeTermCommit) {
            self.parked_reads.push(m);
            return Ok(());
        }
        self.confirm_read(m);
        Ok(())
    }

    fn confirm_read(&mut self, m: Message) {
        let index = self.log.committed;
        let lease = self.settings.read_only == ReadOnlyOption::LeaseBased;
        if lease || self.tracker.is_only_voter(self.id) {
            self.answer_read(index, m);
            return;
        }
        self.reads.push(index, m);
        if mutant::active(Mutant::ReadWithoutQuorum) {
            self.answer_confirmed_reads();
            return;
        }
        match self.read_round {
            // The heartbeats of an earlier request have not left yet: let them ask for this one too.
            Some(start) => {
                let context = self.reads.context();
                for heartbeat in self.msgs[start..].iter_mut().filter(|m| m.msg_type == T::Heartbeat) {
                    heartbeat.context = context.clone();
                }
            }
            None => self.broadcast_heartbeat(),
        }
    }

    fn answer_read(&mut self, index: u64, mut m: Message) {
        if m.from == NONE || m.from == self.id {
            let context = m.entries.pop().map(|e| e.data).unwrap_or_default();
            self.read_states.push(ReadState { index, context });
        } else {
            self.send(Message { index, entries: m.entries, ..Message::new(T::ReadIndexResp, m.from) });
        }
    }

    pub(super) fn take_read_ack(&mut self, m: &Message) {
        if m.context.is_empty() || self.reads.len() == 0 {
            return;
        }
        self.reads.acknowledge(m.from, &m.context);
        self.answer_confirmed_reads();
    }

    fn answer_confirmed_reads(&mut self) {
        let confirmed = self.reads.take_confirmed(&self.tracker.config, self.id);
        let count = confirmed.len();
        for read in confirmed {
            self.answer_read(read.index, read.request);
        }
        if count > 0 {
            self.trace(|| TraceEvent::ReadConfirmed { count });
        }
    }

    /// The first commit of the term is there: the requests that waited for it go on.
    pub(super) fn release_parked_reads(&mut self) -> Result<(), Error> {
        if self.log.committed >= self.leader_first_index {
            for m in std::mem::take(&mut self.parked_reads) {
                self.confirm_read(m);
            }
        }
        Ok(())
    }

    /// Requests of a leadership that is over. Their senders ask again; parked ones stay parked.
    pub(super) fn drop_reads(&mut self) {
        #[cfg(feature = "mutants")]
        if mutant::active(Mutant::ReadsAnsweredOnStepDown) {
            for read in self.reads.drain_all() {
                self.answer_read(self.log.committed.min(read.index), read.request);
            }
        }
        self.reads = ReadQueue::default();
        self.read_round = None;
    }

    pub(super) fn forward_read(&mut self, mut m: Message) {
        if self.leader == NONE {
            self.ignore(m.msg_type, m.from, "no leader is known");
            return;
        }
        // `from` stays: the answer goes to whoever asked, however many former leaders lie between.
        (m.to, m.term) = (self.leader, 0);
        self.send(m);
    }

    pub(super) fn take_read_answer(&mut self, m: &mut Message) {
        if let Some(entry) = m.entries.pop() {
            self.read_states.push(ReadState { index: m.index, context: entry.data });
        }
    }
}
