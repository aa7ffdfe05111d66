//! Deliberate mistakes, to prove that the tests would notice them.
//!
//! Without the feature `mutants` every call of [`active`] is the constant `false` and costs nothing. With it, one
//! mistake at a time can be switched on for the current thread. Not for production, and not part of the API.

macro_rules! mutants {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// One wrong comparison or omission each.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[allow(unreachable_pub, reason = "public only with the feature")]
        pub enum Mutant { $($(#[doc = $doc])+ $name,)+ }

        #[allow(unreachable_pub, reason = "public only with the feature")]
        impl Mutant {
            /// All of them, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];
        }
    };
}

mutants! {
    /// A quorum of n voters is n/2.
    QuorumOffByOne,
    /// Commit counts only the incoming half.
    CommitIgnoresOutgoing,
    /// Elections count only the incoming half.
    VoteIgnoresOutgoing,
    /// A vote is granted whatever the candidate's log.
    VoteWithoutLogCheck,
    /// Logs are compared by length alone.
    VoteComparesLengthOnly,
    /// A second candidate gets a vote in the same term.
    VoteTwicePerTerm,
    /// The vote is missing from the hard state.
    VoteNotPersisted,
    /// The term in the hard state lags by one.
    TermNotPersisted,
    /// A granted vote leaves before it is durable.
    VoteBeforePersist,
    /// An append is acknowledged before it is durable.
    AckBeforePersist,
    /// The leader counts its own entries before they are durable.
    LeaderCountsUnstable,
    /// A storage acknowledgement of an old term still counts.
    StaleStorageAck,
    /// Entries of earlier terms commit by counting.
    CommitOldTerm,
    /// A follower does not compare the previous entry's term.
    AppendWithoutMatch,
    /// A follower truncates its log even where it agrees.
    AppendTruncatesAlways,
    /// A follower acknowledges its whole log instead of what matched.
    AckWholeLog,
    /// A follower commits whatever the leader has committed, matched or not.
    CommitBeyondMatch,
    /// A heartbeat carries the leader's commit index, whatever the follower has.
    HeartbeatCommitUnclamped,
    /// A message of an earlier term is taken as if it were of this one.
    StaleTermAccepted,
    /// A leader keeps leading after it saw a higher term.
    HigherTermIgnored,
    /// Learners vote and count.
    LearnerCounts,
    /// Campaigning with committed configuration changes that are not applied.
    CampaignWithPendingConf,
    /// A second configuration change is accepted while one is pending.
    TwoPendingConfChanges,
    /// A snapshot at or before the commit index is installed.
    OldSnapshotInstalled,
    /// A snapshot's outgoing voters are dropped.
    SnapshotForgetsOutgoing,
    /// A read is answered without asking anyone.
    ReadWithoutQuorum,
    /// A read is answered before the leader committed in its term.
    ReadBeforeTermCommit,
    /// An acknowledgement of any read round counts for the newest.
    ReadAckOfAnyRound,
    /// A leader answers its waiting reads when it is deposed.
    ReadsAnsweredOnStepDown,
    /// A page of committed entries skips the entry behind it.
    ApplySkipsAfterPage,
    /// Entries are handed out for apply that are not committed.
    ApplyUncommitted,
    /// The vote is forgotten when a leader of the same term appears.
    VoteForgottenInTerm,
    /// A paused probe is never resumed.
    ProbeNeverResumes,
    /// The inflight window is never freed.
    InflightsNeverFreed,
    /// A joint configuration is never left automatically.
    AutoLeaveNever,
}

#[cfg(feature = "mutants")]
mod switch {
    use std::cell::Cell;

    use super::Mutant;

    thread_local! {
        static ACTIVE: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    /// Switches `mutant` on for this thread, or all off.
    pub fn set(mutant: Option<Mutant>) {
        ACTIVE.set(mutant);
    }

    #[inline]
    pub(crate) fn active(mutant: Mutant) -> bool {
        ACTIVE.get() == Some(mutant)
    }
}

#[cfg(feature = "mutants")]
pub(crate) use self::switch::active;
#[cfg(feature = "mutants")]
pub use self::switch::set;

#[cfg(not(feature = "mutants"))]
#[inline(always)]
pub(crate) const fn active(_: Mutant) -> bool {
    false
}
