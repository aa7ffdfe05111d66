//! A follower takes entries, heartbeats and snapshots from the leader of its term (paper, 5.3 and 7).

use super::{Raft, Role};
use crate::confchange;
use crate::error::Error;
use crate::log::EntryId;
use crate::mutant::{self, Mutant};
use crate::proto::{Message, MessageType as T, NONE, Snapshot};
use crate::storage::Storage;
use crate::trace::TraceEvent;

impl<S: Storage> Raft<S> {
    pub(super) fn take_append(&mut self, m: &mut Message) -> Result<(), Error> {
        if m.index < self.log.committed && !mutant::active(Mutant::AppendTruncatesAlways) {
            // An old message. What is committed is certainly equal; say how far that goes.
            self.acknowledge(m.from, self.log.committed);
            return Ok(());
        }
        let (from, commit) = (m.from, m.commit);
        let prev = EntryId { index: m.index, term: m.log_term };
        let Some(last_new) = self.log.maybe_append(prev, std::mem::take(&mut m.entries))? else {
            return self.reject_append(from, prev);
        };
        let reach = if mutant::active(Mutant::CommitBeyondMatch) { self.log.last_index() } else { last_new };
        self.raise_commit(commit.min(reach))?;
        let index = if mutant::active(Mutant::AckWholeLog) { self.log.last_index() } else { last_new };
        self.acknowledge(from, index);
        Ok(())
    }

    /// Refuses, with the largest place at which the logs could still agree: the leader then skips a whole term.
    fn reject_append(&mut self, from: u64, prev: EntryId) -> Result<(), Error> {
        let hint = self.log.find_conflict_by_term(prev)?;
        self.send(Message {
            index: prev.index,
            reject: true,
            reject_hint: hint.index,
            log_term: hint.term,
            ..Message::new(T::AppResp, from)
        });
        self.trace(|| TraceEvent::AppendRejected { from, index: prev.index, hint: hint.index });
        Ok(())
    }

    pub(super) fn take_heartbeat(&mut self, m: &mut Message) -> Result<(), Error> {
        self.raise_commit(m.commit)?;
        // The context goes back exactly as it came: leaders of other generations read it their own way.
        self.send(Message {
            context: std::mem::take(&mut m.context),
            ..Message::new(T::HeartbeatResp, m.from)
        });
        Ok(())
    }

    fn raise_commit(&mut self, to: u64) -> Result<(), Error> {
        if to > self.log.committed {
            self.log.commit_to(to)?;
            self.trace(|| TraceEvent::Committed { index: to });
        }
        Ok(())
    }

    pub(super) fn take_snapshot(&mut self, m: &mut Message) -> Result<(), Error> {
        let Some(snapshot) = m.snapshot.take() else { return Ok(()) };
        let restored = self.restore(snapshot)?;
        let index = if restored { self.log.last_index() } else { self.log.committed };
        self.acknowledge(m.from, index);
        Ok(())
    }

    /// Replaces log and configuration by the snapshot's; false if it has nothing for us.
    fn restore(&mut self, snapshot: Box<Snapshot>) -> Result<bool, Error> {
        let id = EntryId { index: snapshot.metadata.index, term: snapshot.metadata.term };
        if id.index <= self.log.committed && !mutant::active(Mutant::OldSnapshotInstalled) {
            self.ignore(T::Snap, self.leader, "the snapshot is not newer than the commit index");
            return Ok(false);
        }
        if self.role != Role::Follower {
            debug_assert!(false, "a {:?} must not restore a snapshot", self.role);
            self.become_follower(self.term + 1, NONE);
            return Ok(false);
        }
        if !snapshot.metadata.conf_state.contains(self.id) {
            self.ignore(T::Snap, self.leader, "the snapshot's configuration is without this node");
            return Ok(false);
        }
        if self.log.matches(id)? {
            // The log has it all: no need to throw away what follows.
            self.raise_commit(id.index)?;
            return Ok(false);
        }
        let conf_state = snapshot.metadata.conf_state.clone();
        // Checked before anything is given up.
        let (config, progress) = confchange::restore(&conf_state, id.index, &self.new_inflights())?;
        self.log.restore(snapshot);
        self.trace(|| TraceEvent::Restored { index: id.index, term: id.term });
        self.switch_to(config, progress)?;
        if let Some(own) = self.tracker.progress.get_mut(self.id) {
            own.maybe_update(id.index);
        }
        Ok(true)
    }
}
