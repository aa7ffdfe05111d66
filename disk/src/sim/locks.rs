//! Advisory locks of a simulated disk: open-file-description locks and `flock`, which do not see each other.

use std::collections::BTreeMap;

use super::tree::NodeId;
use crate::LockKind;

#[derive(Debug, Default)]
pub(super) struct Locks {
    held: BTreeMap<NodeId, Vec<(u64, LockKind)>>,
}

/// Whether two locks of different handles exclude each other.
fn conflict(a: LockKind, b: LockKind) -> bool {
    use LockKind::{FlockExclusive, FlockShared, OfdExclusive};
    matches!(
        (a, b),
        (OfdExclusive, OfdExclusive)
            | (FlockExclusive, FlockExclusive | FlockShared)
            | (FlockShared, FlockExclusive)
    )
}

/// Whether a handle that takes `new` gives up `old`: `flock` converts, it does not add.
fn replaces(new: LockKind, old: LockKind) -> bool {
    (new == LockKind::OfdExclusive) == (old == LockKind::OfdExclusive)
}

impl Locks {
    pub(super) fn try_lock(&mut self, node: NodeId, handle: u64, kind: LockKind) -> bool {
        let held = self.held.entry(node).or_default();
        if held.iter().any(|(other, theirs)| *other != handle && conflict(kind, *theirs)) {
            return false;
        }
        held.retain(|(owner, old)| *owner != handle || !replaces(kind, *old));
        held.push((handle, kind));
        true
    }

    pub(super) fn unlock(&mut self, node: NodeId, handle: u64, kind: LockKind) {
        if let Some(held) = self.held.get_mut(&node) {
            held.retain(|(owner, old)| *owner != handle || !replaces(kind, *old));
        }
    }

    /// A handle is closed.
    pub(super) fn release(&mut self, node: NodeId, handle: u64) {
        if let Some(held) = self.held.get_mut(&node) {
            held.retain(|(owner, _)| *owner != handle);
            if held.is_empty() {
                self.held.remove(&node);
            }
        }
    }
}
