//! Giving free pages back while the store is in use.
//!
//! Compaction leaves free pages in the middle of the file. A step moves some of the last pages into them and cuts the
//! file; like a compaction, the caller drives it, a bounded piece at a time, in the committer's place.

use crate::store::Store;
use crate::{Error, Result};

/// What one step of shrinking did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShrinkStep {
    /// Pages that were moved towards the start of the file, or joined with a neighbour.
    pub pages_moved: u64,
    /// Length of the file in bytes after the step.
    pub file_size: u64,
    /// Nothing is left to do. Later commits and compactions may make more.
    pub done: bool,
    /// Nothing could be done because [read transactions](crate::ReadTxn) still see the pages: come back later.
    pub waits_for_readers: bool,
}

impl Store {
    /// Makes the file shorter by a bounded step, which moves about `pages` pages at most (64 to 1024 are useful), in a
    /// commit of its own that changes no content: a power cut leaves the store as it was. Write transactions and reads go
    /// on meanwhile, commits and compaction steps wait for it.
    ///
    /// Until the report says [`done`](ShrinkStep::done), call it again, with pauses as the disk's other users need them.
    /// A finished compaction is when to begin: compare [`size`](Self::size) with [`size_in_use`](Self::size_in_use).
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn shrink_step(&self, pages: u64) -> Result<ShrinkStep> {
        let mut committing = self.committer.lock();
        if committing.poisoned {
            return Err(Error::Poisoned);
        }
        if self.file.is_read_only() {
            return Err(Error::ReadOnly { path: self.path.clone() });
        }
        committing.poisoned = true;
        let step = self.file.shrink_step(pages)?;
        // Our own image must not be what keeps the moved pages from becoming free.
        self.publish_image()?;
        committing.poisoned = false;
        Ok(step)
    }
}
