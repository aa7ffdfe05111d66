//! Configuration changes take effect when they are applied (thesis, chapter 4).

use super::{Raft, Role};
use crate::confchange::Changer;
use crate::error::Error;
use crate::mutant::{self, Mutant};
use crate::proto::{ConfChangeV2, ConfState, Entry, NONE};
use crate::storage::Storage;
use crate::trace::TraceEvent;
use crate::tracker::{Configuration, ProgressMap};

impl<S: Storage> Raft<S> {
    /// Becomes a follower of term 1 whose log is `entries`, all committed.
    pub(crate) fn bootstrap(&mut self, entries: Vec<Entry>) -> Result<(), Error> {
        self.become_follower(1, NONE);
        let last = self.log.append(entries);
        self.log.commit_to(last)
    }

    pub(crate) fn apply_conf_change(&mut self, change: &ConfChangeV2) -> Result<ConfState, Error> {
        let changer = Changer {
            config: &self.tracker.config,
            progress: &self.tracker.progress,
            last_index: self.log.last_index(),
            inflights: self.new_inflights(),
        };
        let (config, progress) = if change.leave_joint() {
            changer.leave_joint()?
        } else if let Some(auto_leave) = change.enter_joint() {
            changer.enter_joint(auto_leave, &change.changes)?
        } else {
            changer.simple(&change.changes)?
        };
        self.switch_to(config, progress)?;
        Ok(self.conf_state())
    }

    pub(super) fn switch_to(&mut self, config: Configuration, progress: ProgressMap) -> Result<(), Error> {
        *self.tracker.config = config;
        self.tracker.progress = progress;
        let own = self.tracker.progress.get(self.id);
        let decides = own.is_some_and(|p| !p.is_learner);
        let conf_state = self.conf_state();
        self.trace(|| TraceEvent::ConfChanged { conf_state });
        if self.role != Role::Leader {
            return Ok(());
        }
        if !decides {
            // Whoever is neither voter nor told to stay a leader goes; else it leads on without counting itself.
            if self.settings.step_down_on_removal {
                self.become_follower(self.term, NONE);
            }
            return Ok(());
        }
        // Fewer voters may need fewer answers; new ones want to hear from us.
        if self.maybe_commit()? {
            self.broadcast_append()?;
        } else {
            self.append_to_all(false)?;
        }
        if self.transferee != NONE && !self.tracker.config.voters.contains(self.transferee) {
            self.abort_transfer();
        }
        Ok(())
    }

    /// Leaves a joint configuration that wants to be left, once everything up to its entry is applied.
    pub(super) fn maybe_auto_leave(&mut self) -> Result<(), Error> {
        let due = self.tracker.config.auto_leave
            && self.log.applied >= self.pending_conf_index
            && self.role == Role::Leader;
        if !due || mutant::active(Mutant::AutoLeaveNever) {
            return Ok(());
        }
        match self.propose(vec![ConfChangeV2::default().to_entry()]) {
            // A transfer is running: the next applied entry, or the next leader, tries again.
            Err(Error::ProposalDropped(_)) => Ok(()),
            other => other,
        }
    }
}
