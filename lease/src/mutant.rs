//! Deliberate mistakes, one at a time per thread, to prove that the simulator notices them. Never for production.

stanchion_mutants::mutants! {
    /// A renewal promises the whole TTL, but gives the checkpointed rest.
    RenewalKeepsCheckpoint,
    /// A new primary gives the whole TTL again, whatever was checkpointed.
    CheckpointIgnored,
    /// A lease whose revocation gets lost is never offered again.
    ExpiryOfferedOnce,
    /// A former primary keeps its deadlines.
    DemotedStillCounts,
}
