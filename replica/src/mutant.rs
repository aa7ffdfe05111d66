//! Deliberate mistakes, one at a time per thread, to prove that the simulator notices them. Never for production.

use std::cell::Cell;

/// One wrong order or omission each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A revoked lease stays in the file, and comes back with a restart.
    RevokedLeaseStays,
    /// Entries at or below the applied index run again.
    AppliedAgain,
    /// The log is marked at an entry that no hard state calls committed.
    MarkWithoutCommit,
}

impl Mutant {
    /// All of them, in the order of declaration.
    pub const ALL: &'static [Mutant] =
        &[Mutant::RevokedLeaseStays, Mutant::AppliedAgain, Mutant::MarkWithoutCommit];
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
