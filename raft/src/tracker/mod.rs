//! What a node knows of its peers: configuration, progress of each, votes.

mod configuration;
mod inflights;
mod map;
mod progress;
#[cfg(test)]
mod tests;

pub use self::configuration::Configuration;
pub use self::inflights::Inflights;
pub use self::map::ProgressMap;
pub(crate) use self::progress::Queued;
pub use self::progress::{Progress, ProgressState};

use crate::mutant::{self, Mutant};
use crate::quorum::VoteResult;

/// Configuration, progress per peer and the votes of the running election.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tracker {
    /// Boxed, as it is large and an idle group does without.
    pub(crate) config: Box<Configuration>,
    pub(crate) progress: ProgressMap,
    /// First answer of each voter, in ID order.
    votes: Vec<(u64, bool)>,
}

impl Tracker {
    /// The highest index that the voters' quorums have acknowledged.
    pub(crate) fn committed_index(&self) -> u64 {
        let acked = |id| self.progress.get(id).map_or(0, |p| p.match_index);
        if mutant::active(Mutant::LearnerCounts) {
            return self.with_learners().voters.committed_index(acked);
        }
        self.config.voters.committed_index(acked)
    }

    fn with_learners(&self) -> Configuration {
        let mut all = Configuration::clone(&self.config);
        for id in self.config.learners.iter() {
            all.voters.incoming.0.insert(id);
        }
        all
    }

    /// True when quorums of voters were heard from since the last check.
    pub(crate) fn quorum_active(&self) -> bool {
        let vote = |id| self.progress.get(id).map(|p| p.recent_active);
        self.config.voters.vote_result(vote) == VoteResult::Won
    }

    pub(crate) fn reset_votes(&mut self) {
        self.votes.clear();
    }

    /// Records `id`'s answer unless there is one already.
    pub(crate) fn record_vote(&mut self, id: u64, granted: bool) {
        if let Err(at) = self.votes.binary_search_by_key(&id, |(voter, _)| *voter) {
            self.votes.insert(at, (id, granted));
        }
    }

    /// How the election stands under the configuration in force.
    pub(crate) fn vote_result(&self) -> VoteResult {
        let vote = |id: u64| {
            let found = self.votes.binary_search_by_key(&id, |(voter, _)| *voter);
            found.ok().map(|at| self.votes[at].1)
        };
        if mutant::active(Mutant::LearnerCounts) {
            return self.with_learners().voters.vote_result(vote);
        }
        self.config.voters.vote_result(vote)
    }

    /// True when the only voter is `id`.
    pub(crate) fn is_only_voter(&self, id: u64) -> bool {
        self.config.voters.outgoing.0.is_empty() && self.config.voters.incoming.0.as_slice() == [id]
    }
}
