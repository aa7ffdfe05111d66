//! Quorums: pure arithmetic on sets of voters. No progress, no messages.

mod joint;
mod majority;
mod set;
#[cfg(test)]
mod tests;

pub use self::joint::JointConfig;
pub use self::majority::MajorityConfig;
pub use self::set::IdSet;

/// How an election stands (paper, 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoteResult {
    /// Outstanding answers decide.
    Pending,
    /// A quorum refused.
    Lost,
    /// A quorum granted.
    Won,
}
