//! Leadership transfer (thesis, 3.10), and forgetting a leader.

use super::{Raft, Role};
use crate::config::ReadOnlyOption;
use crate::error::Error;
use crate::proto::{Message, MessageType as T, NONE};
use crate::storage::Storage;
use crate::trace::TraceEvent;

impl<S: Storage> Raft<S> {
    pub(super) fn take_transfer(&mut self, to: u64) -> Result<(), Error> {
        let Some(pr) = self.tracker.progress.get(to).filter(|pr| !pr.is_learner) else {
            self.ignore(T::TransferLeader, to, "the target is no voter");
            return Ok(());
        };
        let caught_up = pr.match_index == self.log.last_index();
        if to == self.transferee {
            return Ok(());
        }
        self.abort_transfer();
        if to == self.id {
            return Ok(());
        }
        // One election timeout for the whole transfer, then proposals are taken again.
        self.election_elapsed = 0;
        self.transferee = to;
        self.trace(|| TraceEvent::Transfer { to });
        if caught_up {
            self.send_timeout_now(to);
            Ok(())
        } else {
            self.send_append(to, true).map(drop)
        }
    }

    pub(super) fn abort_transfer(&mut self) {
        if self.transferee != NONE {
            self.transferee = NONE;
            self.trace(|| TraceEvent::Transfer { to: NONE });
        }
    }

    pub(super) fn forward_transfer(&mut self, mut m: Message) {
        if self.leader == NONE {
            self.ignore(m.msg_type, m.from, "no leader is known");
            return;
        }
        (m.to, m.term) = (self.leader, 0);
        self.send(m);
    }

    /// Lets this follower grant pre-votes although its leader spoke lately. Its term and vote stay.
    pub(crate) fn forget_leader(&mut self) {
        // A lease rests on followers that keep faith.
        let leased = self.settings.read_only == ReadOnlyOption::LeaseBased;
        if self.role == Role::Follower && !leased {
            self.leader = NONE;
            self.trace_role();
        }
    }
}
