//! Looking up key after key where one often stands near the one before: the leaf is kept from lookup to lookup. How a
//! leaf is found is in [`crate::cursor`].

use std::cell::Cell;

use crate::cursor::{Bucket, Leaf};
use crate::error::Result;

/// Looks up keys of one bucket. Whatever their order it finds what [`Bucket::get`] finds; keys that stand in the same
/// page as the one before are found without a walk from the root.
#[derive(Clone, Debug)]
pub struct Finder<'a> {
    bucket: Bucket<'a>,
    /// The leaf of the last lookup.
    last: Cell<Option<Leaf<'a>>>,
}

impl<'a> Finder<'a> {
    pub(crate) fn new(bucket: Bucket<'a>) -> Self {
        Self { bucket, last: Cell::new(None) }
    }

    /// The value of a key; `None` if there is none or it names a bucket.
    ///
    /// # Errors
    /// [`Error::Corrupt`](crate::Error::Corrupt).
    #[inline]
    pub fn get(&self, key: &[u8]) -> Result<Option<&'a [u8]>> {
        let near = match self.last.get() {
            Some(leaf) => self.bucket.near(leaf, key)?,
            None => None,
        };
        let leaf = match near {
            Some(leaf) => Some(leaf),
            None => self.bucket.leaf_of(key)?,
        };
        self.last.set(leaf);
        leaf.map_or(Ok(None), |leaf| self.bucket.value_at(leaf))
    }
}
