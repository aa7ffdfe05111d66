//! Deliberate mistakes, one at a time per thread, to prove that the simulator notices them. Never for production.

stanchion_mutants::mutants! {
    /// The meta page is written before the pages it names are durable.
    MetaBeforePages,
    /// The meta page is not synced; pages of the one before are free all the same.
    MetaNotSynced,
}
