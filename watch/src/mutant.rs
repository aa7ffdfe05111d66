//! Deliberate mistakes, one at a time per thread, to prove that the simulator notices them. Never for production.

use std::cell::Cell;

/// One wrong order or omission each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// What a full stream cannot take is lost, and its watcher goes on.
    FullStreamLoses,
    /// Progress is told to watchers that are behind.
    ProgressAhead,
    /// A watcher that has caught up misses what was published meanwhile.
    SyncedTooEarly,
    /// A watcher that needs compacted history goes on behind it.
    CompactionUnnoticed,
}

impl Mutant {
    /// All of them, in the order of declaration.
    pub const ALL: &'static [Mutant] = &[
        Mutant::FullStreamLoses,
        Mutant::ProgressAhead,
        Mutant::SyncedTooEarly,
        Mutant::CompactionUnnoticed,
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
