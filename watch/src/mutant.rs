//! Deliberate mistakes, one at a time per thread, to prove that the simulator notices them. Never for production.

stanchion_mutants::mutants! {
    /// What a full stream cannot take is lost, and its watcher goes on.
    FullStreamLoses,
    /// Progress is told to watchers that are behind.
    ProgressAhead,
    /// A watcher that has caught up misses what was published meanwhile.
    SyncedTooEarly,
    /// A watcher that needs compacted history goes on behind it.
    CompactionUnnoticed,
}
