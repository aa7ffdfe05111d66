//! Deliberate mistakes, one at a time per thread, to prove that the simulator notices them. Never for production.

stanchion_mutants::mutants! {
    /// Compaction removes the newest row of a key if it is that of the compact revision.
    CompactionDropsLast,
    /// A compaction that a crash cut short is not begun again.
    CompactionNotResumed,
}
