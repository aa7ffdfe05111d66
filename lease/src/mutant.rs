//! Deliberate mistakes, one at a time per thread, to prove that the simulator notices them. Never for production.

use std::cell::Cell;

/// One wrong order or omission each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A renewal promises the whole TTL, but gives the checkpointed rest.
    RenewalKeepsCheckpoint,
    /// A new primary gives the whole TTL again, whatever was checkpointed.
    CheckpointIgnored,
    /// A lease whose revocation gets lost is never offered again.
    ExpiryOfferedOnce,
    /// A former primary keeps its deadlines.
    DemotedStillCounts,
}

impl Mutant {
    /// All of them, in the order of declaration.
    pub const ALL: &'static [Mutant] = &[
        Mutant::RenewalKeepsCheckpoint,
        Mutant::CheckpointIgnored,
        Mutant::ExpiryOfferedOnce,
        Mutant::DemotedStillCounts,
    ];
}

thread_local! {
    static ACTIVE: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// Switches a mistake on for this thread, or all off.
pub fn set(mutant: Option<Mutant>) {
    ACTIVE.set(mutant);
}

pub(crate) fn active(mutant: Mutant) -> bool {
    ACTIVE.get() == Some(mutant)
}
