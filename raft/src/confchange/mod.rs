//! The rules of membership changes: from one valid configuration to the next, or an error and no change.
//!
//! Nothing here knows when a change takes effect; that is `crate::raft`'s business.

#[cfg(test)]
mod tests;

use crate::mutant::{self, Mutant};
use crate::proto::{ConfChangeSingle, ConfChangeType, ConfState};
use crate::quorum::IdSet;
use crate::tracker::{Configuration, Inflights, Progress, ProgressMap};

/// Why a configuration cannot be changed like this (thesis, chapter 4; paper, 6).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfChangeError {
    /// Only leaving is possible in a joint configuration (thesis, 4.3).
    #[error("configuration is joint already")]
    AlreadyJoint,
    /// There is no joint configuration to leave.
    #[error("configuration is not joint")]
    NotJoint,
    /// The empty configuration cannot be made joint.
    #[error("the empty configuration cannot be made joint")]
    NoVotersYet,
    /// Nobody would be left to decide.
    #[error("the change removes all voters")]
    RemovesAllVoters,
    /// Two voters at once need a joint configuration: majorities would not overlap (thesis, 4.1).
    #[error("{changed} voters change at once without a joint configuration")]
    TooManyVoters {
        /// How many.
        changed: usize,
    },
    /// A node is listed twice, is node 0, or a joint field stands outside a joint configuration.
    #[error("configuration state is invalid: {reason}")]
    InvalidConfState {
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// Applies operations to a copy of configuration and progress.
pub(crate) struct Changer<'a> {
    pub(crate) config: &'a Configuration,
    pub(crate) progress: &'a ProgressMap,
    /// Last entry of the log: where a new peer is probed.
    pub(crate) last_index: u64,
    pub(crate) inflights: Inflights,
}

type Changed = Result<(Configuration, ProgressMap), ConfChangeError>;

impl Changer<'_> {
    /// The outgoing half becomes a copy of the voters, then `changes` shape the incoming half.
    pub(crate) fn enter_joint(&self, auto_leave: bool, changes: &[ConfChangeSingle]) -> Changed {
        let (mut config, mut progress) = (self.config.clone(), self.progress.clone());
        if config.is_joint() {
            return Err(ConfChangeError::AlreadyJoint);
        }
        if config.voters.incoming.0.is_empty() {
            return Err(ConfChangeError::NoVotersYet);
        }
        config.voters.outgoing = config.voters.incoming.clone();
        self.apply(&mut config, &mut progress, changes)?;
        config.auto_leave = auto_leave;
        Ok((config, progress))
    }

    /// The incoming half alone stays.
    pub(crate) fn leave_joint(&self) -> Changed {
        let (mut config, mut progress) = (self.config.clone(), self.progress.clone());
        if !config.is_joint() {
            return Err(ConfChangeError::NotJoint);
        }
        let demoted = std::mem::take(&mut config.learners_next);
        for id in demoted.iter() {
            config.learners.insert(id);
            if let Some(pr) = progress.get_mut(id) {
                pr.is_learner = true;
            }
        }
        let outgoing = std::mem::take(&mut config.voters.outgoing);
        for id in outgoing.0.iter() {
            if !config.voters.incoming.0.contains(id) && !config.learners.contains(id) {
                progress.remove(id);
            }
        }
        config.auto_leave = false;
        Ok((config, progress))
    }

    /// At most one voter comes or goes.
    pub(crate) fn simple(&self, changes: &[ConfChangeSingle]) -> Changed {
        let (mut config, mut progress) = (self.config.clone(), self.progress.clone());
        if config.is_joint() {
            return Err(ConfChangeError::AlreadyJoint);
        }
        self.apply(&mut config, &mut progress, changes)?;
        let (before, after) = (&self.config.voters.incoming.0, &config.voters.incoming.0);
        let changed = before.iter().filter(|id| !after.contains(*id)).count()
            + after.iter().filter(|id| !before.contains(*id)).count();
        if changed > 1 {
            return Err(ConfChangeError::TooManyVoters { changed });
        }
        Ok((config, progress))
    }

    fn apply(
        &self,
        config: &mut Configuration,
        progress: &mut ProgressMap,
        changes: &[ConfChangeSingle],
    ) -> Result<(), ConfChangeError> {
        for change in changes.iter().filter(|c| c.node_id != 0) {
            let id = change.node_id;
            match change.change_type {
                ConfChangeType::AddNode => self.make_voter(config, progress, id),
                ConfChangeType::AddLearnerNode => self.make_learner(config, progress, id),
                ConfChangeType::RemoveNode => remove(config, progress, id),
                ConfChangeType::UpdateNode => {}
            }
        }
        if config.voters.incoming.0.is_empty() {
            return Err(ConfChangeError::RemovesAllVoters);
        }
        Ok(())
    }

    fn make_voter(&self, config: &mut Configuration, progress: &mut ProgressMap, id: u64) {
        match progress.get_mut(id) {
            None => progress.insert(id, self.new_progress(false)),
            Some(pr) => pr.is_learner = false,
        }
        config.learners.remove(id);
        config.learners_next.remove(id);
        config.voters.incoming.0.insert(id);
    }

    fn make_learner(&self, config: &mut Configuration, progress: &mut ProgressMap, id: u64) {
        if config.learners.contains(id) {
            return;
        }
        // A node that still votes in the outgoing half must not be a learner at the same time: it waits its turn.
        let votes_outgoing = config.voters.outgoing.0.contains(id);
        config.voters.incoming.0.remove(id);
        match progress.get_mut(id) {
            None => progress.insert(id, self.new_progress(!votes_outgoing)),
            Some(pr) => pr.is_learner = !votes_outgoing,
        }
        if votes_outgoing {
            config.learners_next.insert(id);
        } else {
            config.learners.insert(id);
        }
    }

    fn new_progress(&self, is_learner: bool) -> Progress {
        let mut pr = Progress::new(self.last_index.max(1), self.inflights.clone(), is_learner);
        // It had no chance to answer yet: the next quorum check must not count it as dead.
        pr.recent_active = true;
        pr
    }
}

fn remove(config: &mut Configuration, progress: &mut ProgressMap, id: u64) {
    config.voters.incoming.0.remove(id);
    config.learners.remove(id);
    config.learners_next.remove(id);
    // It takes part until the joint configuration is left.
    if !config.voters.outgoing.0.contains(id) {
        progress.remove(id);
    }
}

/// The configuration that `cs` describes, with fresh progress for everybody.
///
/// # Errors
/// `cs` breaks an invariant of [`Configuration`].
pub(crate) fn restore(cs: &ConfState, last_index: u64, inflights: &Inflights) -> Changed {
    let invalid = |reason| ConfChangeError::InvalidConfState { reason };
    let set = |ids: &[u64]| {
        let set: IdSet = ids.iter().copied().collect();
        if set.len() == ids.len() { Ok(set) } else { Err(invalid("a node is listed twice")) }
    };
    let mut config = Configuration { auto_leave: cs.auto_leave, ..Configuration::default() };
    config.voters.incoming.0 = set(&cs.voters)?;
    config.voters.outgoing.0 = set(&cs.voters_outgoing)?;
    config.learners = set(&cs.learners)?;
    config.learners_next = set(&cs.learners_next)?;
    check(&config).map_err(invalid)?;
    if mutant::active(Mutant::SnapshotForgetsOutgoing) {
        config.voters.outgoing.0.clear();
    }
    let mut progress = ProgressMap::default();
    let all = config.voters.ids();
    for id in all.iter().chain(config.learners.iter()) {
        let mut pr = Progress::new(last_index.max(1), inflights.clone(), config.learners.contains(id));
        pr.recent_active = true;
        progress.insert(id, pr);
    }
    Ok((config, progress))
}

fn check(config: &Configuration) -> Result<(), &'static str> {
    let voters = config.voters.ids();
    if voters.iter().chain(config.learners.iter()).any(|id| id == 0 || crate::proto::is_local_thread(id)) {
        return Err("a node ID is reserved");
    }
    if config.learners.iter().any(|id| voters.contains(id)) {
        return Err("a learner is a voter");
    }
    if config.learners_next.iter().any(|id| !config.voters.outgoing.0.contains(id)) {
        return Err("a coming learner is no outgoing voter");
    }
    if config.learners_next.iter().any(|id| config.voters.incoming.0.contains(id)) {
        return Err("a coming learner is an incoming voter");
    }
    if !config.is_joint() && config.auto_leave {
        return Err("auto-leave outside a joint configuration");
    }
    if config.voters.incoming.0.is_empty() && (config.is_joint() || !config.learners.is_empty()) {
        return Err("no voters");
    }
    Ok(())
}
