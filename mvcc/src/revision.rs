//! Revisions and the keys under which rows are stored.
//!
//! What lives here: the order of revisions and their byte form. What may not: any knowledge of user keys.

use std::fmt;

/// Length in bytes of the stored key of a put.
pub const REVISION_LEN: usize = 17;
/// Length in bytes of the stored key of a tombstone.
pub const TOMBSTONE_LEN: usize = 18;

const SEPARATOR: u8 = b'_';
const TOMBSTONE_MARK: u8 = b't';

/// A point in the store's history: the main revision counts write transactions, the sub revision counts the changes
/// inside one of them, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision {
    /// Number of the write transaction; the first one of a new store is 2.
    pub main: i64,
    /// Number of the change inside the transaction, from 0.
    pub sub: i64,
}

impl Revision {
    /// The revision (`main`, `sub`).
    #[must_use]
    pub const fn new(main: i64, sub: i64) -> Self {
        Self { main, sub }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.main, self.sub)
    }
}

/// The key of one stored row: 17 bytes for a put, 18 for a tombstone.
///
/// ```text
/// main i64 BE (8) | '_' | sub i64 BE (8) | optional 't'
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowKey {
    /// When the change happened.
    pub revision: Revision,
    /// The row ends the life of its key.
    pub tombstone: bool,
}

impl RowKey {
    /// The key of a put.
    #[must_use]
    pub const fn put(revision: Revision) -> Self {
        Self { revision, tombstone: false }
    }

    /// The key of a tombstone.
    #[must_use]
    pub const fn tombstone(revision: Revision) -> Self {
        Self { revision, tombstone: true }
    }

    /// The stored form.
    #[must_use]
    pub fn encode(self) -> EncodedRowKey {
        let mut bytes = [0; TOMBSTONE_LEN];
        bytes[..8].copy_from_slice(&self.revision.main.to_be_bytes());
        bytes[8] = SEPARATOR;
        bytes[9..17].copy_from_slice(&self.revision.sub.to_be_bytes());
        if self.tombstone {
            bytes[17] = TOMBSTONE_MARK;
        }
        EncodedRowKey { bytes, len: if self.tombstone { TOMBSTONE_LEN } else { REVISION_LEN } }
    }

    /// Reads a stored form; `None` when it is none (wrong length, separator, mark, or a negative number).
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let tombstone = match bytes.len() {
            REVISION_LEN => false,
            TOMBSTONE_LEN if bytes[17] == TOMBSTONE_MARK => true,
            _ => return None,
        };
        if bytes[8] != SEPARATOR {
            return None;
        }
        let main = i64::from_be_bytes(bytes[..8].try_into().ok()?);
        let sub = i64::from_be_bytes(bytes[9..17].try_into().ok()?);
        (main >= 0 && sub >= 0).then_some(Self { revision: Revision { main, sub }, tombstone })
    }
}

/// The stored bytes of a [`RowKey`], without an allocation.
#[derive(Clone, Copy, Debug)]
pub struct EncodedRowKey {
    bytes: [u8; TOMBSTONE_LEN],
    len: usize,
}

impl std::ops::Deref for EncodedRowKey {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl AsRef<[u8]> for EncodedRowKey {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_the_documented_bytes() {
        let put = RowKey::put(Revision::new(8, 1)).encode();
        assert_eq!(&*put, b"\x00\x00\x00\x00\x00\x00\x00\x08_\x00\x00\x00\x00\x00\x00\x00\x01");
        let gone = RowKey::tombstone(Revision::new(8, 2)).encode();
        assert_eq!(&*gone, b"\x00\x00\x00\x00\x00\x00\x00\x08_\x00\x00\x00\x00\x00\x00\x00\x02t");
        assert_eq!(RowKey::decode(&put), Some(RowKey::put(Revision::new(8, 1))));
        assert_eq!(RowKey::decode(&gone), Some(RowKey::tombstone(Revision::new(8, 2))));
    }

    #[test]
    fn what_is_no_row_key_is_refused() {
        let good = RowKey::tombstone(Revision::new(8, 2)).encode();
        for len in 0..REVISION_LEN {
            assert_eq!(RowKey::decode(&good[..len]), None, "{len} bytes");
        }
        for (at, byte) in [(0, 0x80), (8, b'-'), (9, 0xff), (17, b'x')] {
            let mut bad = good.to_vec();
            bad[at] = byte;
            assert_eq!(RowKey::decode(&bad), None, "byte {at} = {byte}");
        }
    }
}
