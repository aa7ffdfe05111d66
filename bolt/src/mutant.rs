//! Deliberate mistakes, one at a time per thread, to prove that the simulator notices them. Never for production.

use std::cell::Cell;

/// One wrong order or omission each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// The meta page is written before the pages it names are durable.
    MetaBeforePages,
    /// The meta page is not synced; pages of the one before are free all the same.
    MetaNotSynced,
}

impl Mutant {
    /// All of them, in the order of declaration.
    pub const ALL: &'static [Mutant] = &[Mutant::MetaBeforePages, Mutant::MetaNotSynced];
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
