//! Deliberate mistakes, one at a time per thread, to prove that the simulator notices them. Never for production.

use std::cell::Cell;

/// One wrong order or omission each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Compaction removes the newest row of a key if it is that of the compact revision.
    CompactionDropsLast,
    /// A compaction that a crash cut short is not begun again.
    CompactionNotResumed,
}

impl Mutant {
    /// All of them, in the order of declaration.
    pub const ALL: &'static [Mutant] = &[Mutant::CompactionDropsLast, Mutant::CompactionNotResumed];
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
