//! Two majorities that must agree (paper, section 6; thesis, 4.3).

use super::{IdSet, MajorityConfig, VoteResult};
use crate::mutant::{self, Mutant};

/// The voters in force (joint consensus: paper, 6; thesis, 4.3). Outside a joint configuration the outgoing
/// half is empty and imposes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JointConfig {
    /// The configuration that is being entered, or the only one.
    pub incoming: MajorityConfig,
    /// The configuration that is being left.
    pub outgoing: MajorityConfig,
}

impl JointConfig {
    /// All voters of both halves (thesis, 4.3).
    #[must_use]
    pub fn ids(&self) -> IdSet {
        self.incoming.0.iter().chain(self.outgoing.0.iter()).collect()
    }

    /// True when `id` votes in either half (thesis, 4.3).
    #[must_use]
    pub fn contains(&self, id: u64) -> bool {
        self.incoming.0.contains(id) || self.outgoing.0.contains(id)
    }

    /// The highest index that quorums of both halves have acknowledged (paper, 5.3 and 6).
    pub fn committed_index(&self, mut acked: impl FnMut(u64) -> u64) -> u64 {
        let incoming = self.incoming.committed_index(&mut acked);
        if self.outgoing.0.is_empty() || mutant::active(Mutant::CommitIgnoresOutgoing) {
            return incoming;
        }
        incoming.min(self.outgoing.committed_index(acked))
    }

    /// Won when both halves are won, lost as soon as one is lost (paper, 5.2 and 6).
    pub fn vote_result(&self, mut vote: impl FnMut(u64) -> Option<bool>) -> VoteResult {
        let incoming = self.incoming.vote_result(&mut vote);
        if mutant::active(Mutant::VoteIgnoresOutgoing) {
            return incoming;
        }
        match (incoming, self.outgoing.vote_result(vote)) {
            (a, b) if a == b => a,
            (VoteResult::Lost, _) | (_, VoteResult::Lost) => VoteResult::Lost,
            _ => VoteResult::Pending,
        }
    }
}
