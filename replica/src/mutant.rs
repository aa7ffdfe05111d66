//! Deliberate mistakes, one at a time per thread, to prove that the simulator notices them. Never for production.

stanchion_mutants::mutants! {
    /// A revoked lease stays in the file, and comes back with a restart.
    RevokedLeaseStays,
    /// Entries at or below the applied index run again.
    AppliedAgain,
    /// The log is marked at an entry that no hard state calls committed.
    MarkWithoutCommit,
}
