//! Deliberate mistakes, to prove that the tests would notice them.
//!
//! Without the feature `mutants` every call of [`active`] is the constant `false` and costs nothing. With it, one
//! mistake at a time can be switched on for the current thread. Not for production, and not part of the API.

stanchion_mutants::mutants! {
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
