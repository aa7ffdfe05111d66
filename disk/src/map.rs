//! A read-only memory map of the beginning of a file.

use std::fmt;

/// A read-only, shared map of a file. It stays valid after the file handle is dropped.
///
/// The map hands out a raw pointer, not a slice: the file below it changes when somebody writes to it, so only its
/// user can say which bytes are at rest and may be borrowed as `&[u8]` (in `bolt`: pages that no writer reuses while
/// a reader may see them).
pub struct Map {
    inner: memmap2::MmapRaw,
}

impl Map {
    pub(crate) fn new(inner: memmap2::MmapRaw) -> Self {
        Self { inner }
    }

    /// Address of the first byte. Valid for reads of [`Map::len`] bytes as far as the file reaches.
    #[must_use]
    pub fn as_ptr(&self) -> *const u8 {
        self.inner.as_ptr()
    }

    /// Length of the map in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.len()
    }

    /// Whether the map has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Map").field("len", &self.len()).finish()
    }
}
