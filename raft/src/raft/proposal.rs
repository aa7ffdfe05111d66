//! Proposals: appended by a leader, sent on by a follower, refused by everybody else.

use super::Raft;
use crate::error::{DropReason, Error};
use crate::mutant::{self, Mutant};
use crate::proto::{ConfChangeV2, Entry, Message, NONE};
use crate::storage::Storage;
use crate::trace::TraceEvent;

impl<S: Storage> Raft<S> {
    pub(crate) fn propose(&mut self, mut entries: Vec<Entry>) -> Result<(), Error> {
        if entries.is_empty() {
            return Err(Error::EmptyProposal);
        }
        if !self.tracker.progress.contains(self.id) {
            return Err(Error::ProposalDropped(DropReason::NotMember));
        }
        if self.transferee != NONE {
            return Err(Error::ProposalDropped(DropReason::Transferring));
        }
        let payload: u64 = entries.iter().map(Entry::payload_len).sum();
        if !self.fits_uncommitted(payload) {
            return Err(Error::ProposalDropped(DropReason::UncommittedTooLarge));
        }
        let pending_conf_index = self.check_conf_changes(&mut entries)?;
        self.pending_conf_index = pending_conf_index;
        self.append_own(entries);
        self.broadcast_append()
    }

    /// Turns configuration changes that are not allowed now into empty entries; answers the new pending index.
    fn check_conf_changes(&mut self, entries: &mut [Entry]) -> Result<u64, Error> {
        let mut pending = self.pending_conf_index;
        let last = self.log.last_index();
        for (i, e) in entries.iter_mut().enumerate() {
            let Some(change) = ConfChangeV2::from_entry(e)? else { continue };
            match self.why_not_now(pending, &change) {
                Some(reason) if !self.settings.disable_conf_change_validation => {
                    *e = Entry::default();
                    self.trace(|| TraceEvent::ConfChangeRefused { reason });
                }
                _ => pending = last + i as u64 + 1,
            }
        }
        Ok(pending)
    }

    /// Looks at the applied configuration, which may be behind: it can err either way, and applying is what decides.
    fn why_not_now(&self, pending: u64, change: &ConfChangeV2) -> Option<&'static str> {
        let joint = self.tracker.config.is_joint();
        let leave = change.changes.is_empty();
        if pending > self.log.applied && !mutant::active(Mutant::TwoPendingConfChanges) {
            Some("another change is not applied yet")
        } else if joint && !leave {
            Some("the joint configuration must be left first")
        } else if !joint && leave {
            Some("there is no joint configuration to leave")
        } else {
            None
        }
    }

    fn fits_uncommitted(&self, payload: u64) -> bool {
        // An empty tail takes anything, else a large entry could never pass. Nothing at all always fits: a leader's
        // first entry and the leave of a joint configuration must not be refused.
        payload == 0
            || self.uncommitted_bytes == 0
            || self.uncommitted_bytes.saturating_add(payload) <= self.settings.max_uncommitted_bytes
    }

    /// Appends to the own log at the own term. The own acknowledgement comes back when it is durable.
    pub(super) fn append_own(&mut self, mut entries: Vec<Entry>) {
        let mut index = self.log.last_index();
        for e in &mut entries {
            index += 1;
            (e.index, e.term) = (index, self.term);
            self.uncommitted_bytes += e.payload_len();
        }
        let last = self.log.append(entries);
        if mutant::active(Mutant::LeaderCountsUnstable)
            && let Some(own) = self.tracker.progress.get_mut(self.id)
        {
            own.maybe_update(last);
        }
        self.acknowledge(self.id, last);
    }

    pub(super) fn forward_proposal(&mut self, mut m: Message) -> Result<(), Error> {
        if m.entries.is_empty() {
            return Err(Error::EmptyProposal);
        }
        if self.leader == NONE {
            return Err(Error::ProposalDropped(DropReason::NoLeader));
        }
        if self.settings.disable_proposal_forwarding {
            return Err(Error::ProposalDropped(DropReason::ForwardingDisabled));
        }
        (m.to, m.from, m.term) = (self.leader, self.id, 0);
        self.send(m);
        Ok(())
    }
}
