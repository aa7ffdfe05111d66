//! The running CRC-32C that ties all records of a log together.
//!
//! One value runs through the whole log, over the payload bytes of every record in order. A record stores the value
//! *after* its own payload, so that a lost, doubled or exchanged record breaks the chain at its place.

use crc_fast::{CrcAlgorithm, Digest};

/// A CRC-32C (Castagnoli) that can be continued from a stored value.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    digest: Digest,
}

impl Chain {
    /// Continues from a finished value; 0 is the value of no bytes at all.
    pub(crate) fn from_value(value: u32) -> Self {
        // The register holds the inverted value: finishing inverts it again.
        let register = value ^ u32::MAX;
        Self { digest: Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(register)) }
    }

    /// Takes in more bytes.
    #[inline]
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
    }

    /// The finished value over all bytes so far.
    #[inline]
    pub(crate) fn value(&self) -> u32 {
        // A 32-bit CRC: the upper half is zero.
        self.digest.finalize() as u32
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Chain;

    /// The definition, bit by bit.
    fn naive(previous: u32, bytes: &[u8]) -> u32 {
        let mut register = previous ^ u32::MAX;
        for &byte in bytes {
            register ^= u32::from(byte);
            for _ in 0..8 {
                register = (register >> 1) ^ (0x82F6_3B78 & (register & 1).wrapping_neg());
            }
        }
        register ^ u32::MAX
    }

    fn fast(previous: u32, bytes: &[u8]) -> u32 {
        let mut chain = Chain::from_value(previous);
        chain.update(bytes);
        chain.value()
    }

    #[test]
    fn check_values() {
        assert_eq!(fast(0, b""), 0);
        assert_eq!(fast(0, b"123456789"), 0xe306_9283);
        // Metadata, then snapshot, of a directory that etcd 3.5.1 wrote.
        let metadata = [
            0x08, 0xf8, 0x98, 0xf8, 0xa7, 0xaf, 0xe7, 0x8c, 0xcd, 0x24, 0x10, 0x83, 0xdb, 0xf2, 0xf4, 0xc9,
            0xbe, 0xf6, 0x85, 0x6b,
        ];
        assert_eq!(fast(0, &metadata), 0xcdee_3371);
        assert_eq!(fast(0xcdee_3371, &[8, 0, 0x10, 0]), 0x41ad_e8c6);
    }

    proptest! {
        #[test]
        fn equals_the_definition_however_it_is_cut(
            previous: u32,
            bytes in proptest::collection::vec(any::<u8>(), 0..2000),
            cut: proptest::sample::Index,
        ) {
            let expected = naive(previous, &bytes);
            prop_assert_eq!(fast(previous, &bytes), expected);
            let (a, b) = bytes.split_at(cut.index(bytes.len() + 1));
            prop_assert_eq!(fast(fast(previous, a), b), expected);
        }
    }
}
