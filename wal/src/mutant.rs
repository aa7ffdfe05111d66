//! Deliberate mistakes, one at a time per thread, to prove that the simulator notices them. Never for production.

use std::cell::Cell;

/// One wrong order or omission each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// A full segment is left without a sync.
    TailNotSynced,
    /// The name of a new segment is not synced.
    NameNotSynced,
    /// A new term or vote does not ask for a sync.
    VoteNeedsNoSync,
    /// The mark of a snapshot is not synced.
    MarkNotSynced,
}

impl Mutant {
    /// All of them, in the order of declaration.
    pub const ALL: &'static [Mutant] =
        &[Mutant::TailNotSynced, Mutant::NameNotSynced, Mutant::VoteNeedsNoSync, Mutant::MarkNotSynced];
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
