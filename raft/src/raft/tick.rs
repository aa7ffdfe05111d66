//! Timers. Time is the number of calls; nobody here looks at a clock, and no call allocates unless it sends.

use super::{Raft, Role};
use crate::error::Error;
use crate::proto::NONE;
use crate::storage::Storage;

impl<S: Storage> Raft<S> {
    #[inline]
    pub(crate) fn tick(&mut self) -> Result<(), Error> {
        match self.role {
            Role::Leader => {
                self.tick_leader();
                Ok(())
            }
            Role::Follower | Role::PreCandidate | Role::Candidate => {
                self.election_elapsed = self.election_elapsed.saturating_add(1);
                if self.election_elapsed < self.randomized_timeout { Ok(()) } else { self.election_due() }
            }
        }
    }

    /// No leader was heard for the randomised timeout (paper, 5.2): whoever may campaign does.
    fn election_due(&mut self) -> Result<(), Error> {
        if !self.promotable() {
            return Ok(());
        }
        self.election_elapsed = 0;
        self.hup()
    }

    fn tick_leader(&mut self) {
        self.heartbeat_elapsed += 1;
        self.election_elapsed += 1;
        if self.election_elapsed >= self.settings.election_ticks {
            self.election_elapsed = 0;
            if self.settings.check_quorum {
                self.check_quorum();
            }
            if self.role == Role::Leader && self.transferee != NONE {
                self.abort_transfer();
            }
        }
        if self.role == Role::Leader && self.heartbeat_elapsed >= self.settings.heartbeat_ticks {
            self.heartbeat_elapsed = 0;
            self.broadcast_heartbeat();
        }
    }

    /// A leader that nobody hears must not believe that it leads (thesis, 6.2).
    fn check_quorum(&mut self) {
        let id = self.id;
        if let Some(own) = self.tracker.progress.get_mut(id) {
            own.recent_active = true;
        }
        if !self.tracker.quorum_active() {
            self.become_follower(self.term, NONE);
        }
        for (peer, pr) in self.tracker.progress.iter_mut() {
            if peer != id {
                pr.recent_active = false;
            }
        }
    }
}
