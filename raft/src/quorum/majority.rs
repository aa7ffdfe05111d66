//! One majority quorum.

use super::{IdSet, VoteResult};
use crate::mutant::{self, Mutant};

/// A set of voters of which more than half decide (paper, 5.2 for votes, 5.3 for entries).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MajorityConfig(pub IdSet);

impl MajorityConfig {
    /// How many of `voters` make a quorum (a majority: paper, 5.2).
    #[must_use]
    pub fn quorum_of(voters: usize) -> usize {
        if mutant::active(Mutant::QuorumOffByOne) && voters > 1 {
            return voters / 2;
        }
        voters / 2 + 1
    }

    /// The highest index that a quorum has acknowledged (paper, figure 2: the N of the rules for leaders). `acked`
    /// answers 0 for a voter that acknowledged nothing.
    ///
    /// No voter at all imposes nothing: the answer is then `u64::MAX`, so that an empty half of a joint
    /// configuration never holds the other back.
    pub fn committed_index(&self, mut acked: impl FnMut(u64) -> u64) -> u64 {
        let n = self.0.len();
        if n == 0 {
            return u64::MAX;
        }
        // Every acknowledgement comes here, and nearly every cluster is small.
        let (mut few, mut many) = ([0; 7], Vec::new());
        let indexes = if let Some(few) = few.get_mut(..n) {
            few
        } else {
            many.resize(n, 0);
            &mut many[..]
        };
        for (index, id) in indexes.iter_mut().zip(self.0.as_slice()) {
            *index = acked(*id);
        }
        // With n voters and a quorum of q, the q-th highest index is the one at n - q in ascending order.
        let (_, at, _) = indexes.select_nth_unstable(n - Self::quorum_of(n));
        *at
    }

    /// How the election (paper, 5.2) stands when `vote` tells each voter's answer. No voter at all: won.
    pub fn vote_result(&self, mut vote: impl FnMut(u64) -> Option<bool>) -> VoteResult {
        if self.0.is_empty() {
            return VoteResult::Won;
        }
        let (mut granted, mut missing) = (0, 0);
        for id in self.0.iter() {
            match vote(id) {
                Some(true) => granted += 1,
                Some(false) => {}
                None => missing += 1,
            }
        }
        let quorum = Self::quorum_of(self.0.len());
        if granted >= quorum {
            VoteResult::Won
        } else if granted + missing >= quorum {
            VoteResult::Pending
        } else {
            VoteResult::Lost
        }
    }
}
