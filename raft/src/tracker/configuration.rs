//! The membership in force, as sets.

use crate::proto::ConfState;
use crate::quorum::{IdSet, JointConfig};

/// Who votes (paper, 6; thesis, 4.3), who learns (thesis, 4.2.1). [`ConfState`] is its form for storage.
///
/// Invariants, kept by `crate::confchange`:
/// - `learners` is disjoint from both halves of `voters`;
/// - `learners_next` is a subset of the outgoing voters;
/// - outside a joint configuration `learners_next` is empty and `auto_leave` is false.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    /// Voters of both halves.
    pub voters: JointConfig,
    /// Learners: non-voting members that catch up.
    pub learners: IdSet,
    /// Outgoing voters that become learners when the joint configuration is left.
    pub learners_next: IdSet,
    /// The joint configuration is left automatically.
    pub auto_leave: bool,
}

impl Configuration {
    /// True between entering and leaving a joint configuration (C-old,new of the paper, 6).
    #[must_use]
    pub fn is_joint(&self) -> bool {
        !self.voters.outgoing.0.is_empty()
    }

    /// The form for storage, IDs ascending (paper, 6).
    #[must_use]
    pub fn to_conf_state(&self) -> ConfState {
        ConfState {
            voters: self.voters.incoming.0.iter().collect(),
            learners: self.learners.iter().collect(),
            voters_outgoing: self.voters.outgoing.0.iter().collect(),
            learners_next: self.learners_next.iter().collect(),
            auto_leave: self.auto_leave,
        }
    }
}
