//! Deliberate mistakes, one at a time per thread, to prove that the simulator notices them. Never for production.

stanchion_mutants::mutants! {
    /// A full segment is left without a sync.
    TailNotSynced,
    /// The name of a new segment is not synced.
    NameNotSynced,
    /// A new term or vote does not ask for a sync.
    VoteNeedsNoSync,
    /// The mark of a snapshot is not synced.
    MarkNotSynced,
}
