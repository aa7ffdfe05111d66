//! The checksums by which members compare their stores.
//!
//! All of them are CRC-32C over stored bytes, so they are equal exactly where the bytes are.

use crc_fast::{CrcAlgorithm, Digest};

use crate::index::KeyIndex;
use crate::schema::Table;
use crate::{Revision, RowKey};

/// A running CRC-32C (Castagnoli).
#[derive(Clone, Debug)]
pub(crate) struct Crc(Digest);

impl Crc {
    pub(crate) fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(&self) -> u32 {
        self.0.finalize() as u32
    }
}

/// The answer to a hash of the keys at a revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvHash {
    /// CRC-32C over the rows that count.
    pub hash: u32,
    /// Compact revision under which it was taken; -1 for none. Hashes are comparable only if these are equal.
    pub compact_revision: i64,
    /// Revision that was hashed.
    pub revision: i64,
}

/// Which revisions a compaction keeps, in order, asked in order.
#[derive(Debug)]
pub(crate) struct Kept {
    revisions: Vec<Revision>,
    at: usize,
}

impl Kept {
    /// Takes the revisions in any order.
    pub(crate) fn new(mut revisions: Vec<Revision>) -> Self {
        revisions.sort_unstable();
        Self { revisions, at: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.revisions.is_empty()
    }

    /// Whether `revision` is kept. Questions must come in rising order.
    pub(crate) fn contains(&mut self, revision: Revision) -> bool {
        while self.revisions.get(self.at).is_some_and(|kept| *kept < revision) {
            self.at += 1;
        }
        self.revisions.get(self.at) == Some(&revision)
    }

    /// The revisions that count for the hash at `main` on this index, up to the compact revision: later ones are never
    /// asked for.
    pub(crate) fn for_hash(index: &KeyIndex, main: i64, compact_revision: i64) -> (Self, bool) {
        let (mut revisions, mut any) = (Vec::new(), false);
        index.hash_keep(main, |revision| {
            any = true;
            if revision.main <= compact_revision {
                revisions.push(revision);
            }
        });
        (Self::new(revisions), any)
    }
}

/// Hashes rows as they come by in order.
#[derive(Debug)]
pub(crate) struct KvHasher {
    crc: Crc,
    main: i64,
    compact_revision: i64,
}

impl KvHasher {
    /// For the hash at `main` while the compact revision is `compact_revision`.
    pub(crate) fn new(main: i64, compact_revision: i64) -> Self {
        let mut crc = Crc::new();
        crc.update(Table::Key.name().as_bytes());
        Self { crc, main, compact_revision }
    }

    /// Takes the next row; `kept` tells whether the kept set has it (true when there is no set).
    pub(crate) fn row(&mut self, key: RowKey, value: &[u8], kept: impl FnOnce() -> bool) {
        let main = key.revision.main;
        if main > self.main
            || (main == self.compact_revision && key.tombstone)
            || (main <= self.compact_revision && !kept())
        {
            return;
        }
        self.crc.update(&key.encode());
        self.crc.update(value);
    }

    pub(crate) fn finish(&self) -> KvHash {
        KvHash { hash: self.crc.finish(), compact_revision: self.compact_revision, revision: self.main }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_polynomial_is_castagnoli() {
        let mut crc = Crc::new();
        crc.update(b"1234");
        crc.update(b"56789");
        assert_eq!(crc.finish(), 0xe306_9283);
    }
}
