//! The store as all threads reach it: a leader's snapshot puts another one in its place.

use std::sync::Arc;

use parking_lot::RwLock;
use stanchion_mvcc::Store;

/// Holds the present store. Who needs a consistent view takes [`now`](Self::now) once, after any waiting: what was
/// taken before may have been replaced by a newer one meanwhile.
#[derive(Debug)]
pub(crate) struct StoreCell {
    present: RwLock<Arc<Store>>,
}

impl StoreCell {
    pub(super) fn new(store: Arc<Store>) -> Arc<StoreCell> {
        Arc::new(StoreCell { present: RwLock::new(store) })
    }

    pub(crate) fn now(&self) -> Arc<Store> {
        self.present.read().clone()
    }

    /// Images of the old store that are being read stay readable.
    pub(super) fn replace(&self, store: Arc<Store>) {
        let old = std::mem::replace(&mut *self.present.write(), store);
        // The last reference may be ours; a large index is let go without holding the lock.
        drop(old);
    }
}
