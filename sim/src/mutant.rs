//! Deliberate mistakes in how a member is driven, to prove that the checkers notice them.
//!
//! They are the mistakes that a server could make around the crates below; those of raft itself are raft's own. Without
//! the feature `mutants` every call of `active` is the constant `false` and costs nothing.

stanchion_mutants::mutants! {
    /// Raft hears that entries are durable before the log is synced.
    LogNotSynced,
    /// A new term or vote without entries is not synced.
    VoteNotSynced,
    /// A linearizable read is served at once, as a serializable one.
    ReadWithoutIndex,
    /// A confirmed read does not wait until its index is applied.
    ReadBeforeApplied,
    /// A client is told that its write succeeded when it is proposed.
    AnswerAtProposal,
    /// A proposal is made twice, as by a careless retry.
    ProposalRepeated,
    /// The store's file says that one entry more is applied than is (etcd 3.5.0 to 3.5.2).
    AppliedIndexAhead,
    /// The store's file says that one entry less is applied than is: it is applied again after a restart.
    AppliedIndexBehind,
    /// The log is marked where the database is not committed.
    ReleaseWithoutCommit,
    /// A database is sent with the index that is applied in memory, not that of the file.
    SnapshotAheadOfFile,
    /// A leader's snapshot is acknowledged, the database not put in place.
    InstallForgotten,
    /// Watchers are not told that a database has replaced the store.
    WatchNotRestored,
    /// Only the first event of a revision is published.
    WatchFirstEventOnly,
    /// Deletions are not published.
    WatchWithoutDeletes,
    /// A watcher that comes with a revision of the past begins one behind it.
    WatchStartsLate,
    /// Leases run out two seconds early by the primary's clock.
    LeaseExpiresEarly,
    /// Leases that ran out are never revoked.
    LeaseNeverExpires,
    /// Compaction is done on the member that was asked, without the log.
    CompactionNotAgreed,
    /// Raft is not told of applied membership changes.
    ChangeNotTold,
    /// A new primary does not extend the leases: those of the former one seem to have run out.
    LeaseNotExtended,
    /// A commit takes along the index of an entry whose changes come with the next one (etcd 3.5.0 to 3.5.2).
    AppliedIndexBeforeData,
    /// Making the file shorter commits changes without the index behind them (etcd 3.5.0 to 3.5.5, defragmentation).
    ShrinkForgetsIndex,
    /// A voter that was removed still counts for raft.
    RemovedStillCounts,
    /// What a failed sync left is written on, as if it were durable.
    FailedSyncForgotten,
    /// A candidate takes itself for the leader without waiting for those who came before it.
    CandidateDoesNotWait,
    /// A candidate waits for its own key, too, so that nobody is ever elected.
    CandidateWaitsForItself,
    /// A leader proclaims without asking whether its key is still there.
    ProclaimWithoutGuard,
    /// A leader proclaims a value that does not hang on its lease.
    ProclaimWithoutLease,
    /// A candidate does not notice that its key went with its lease.
    LostLeaseUnnoticed,
    /// An observer looks for the leader with a serializable read, and may go back.
    ObserverReadsStale,
    /// An observer takes the candidate that came last for the leader.
    ObserverFollowsLast,
}
