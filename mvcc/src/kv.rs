//! The stored value of a row: the protobuf encoding of a `KeyValue`.
//!
//! The stored bytes are the message itself, so they go out to clients as they are. What lives here: reading fields
//! out of those bytes and making new ones. What may not: where the bytes are kept.

use bytes::{BufMut, Bytes, BytesMut};

use crate::pb::{self, DecodeError, Reader};

/// The fields of a stored `KeyValue`, borrowed from its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyValueRef<'a> {
    /// The user's key.
    pub key: &'a [u8],
    /// Main revision of the put that began the key's current life; 0 in a tombstone.
    pub create_revision: i64,
    /// Main revision of this change; 0 in a stored tombstone, whose row key has it.
    pub mod_revision: i64,
    /// Number of puts in the key's current life, this one included; 0 in a tombstone.
    pub version: i64,
    /// The user's value.
    pub value: &'a [u8],
    /// Lease that the key is attached to; 0 for none.
    pub lease: i64,
}

const KEY: u8 = 1;
const CREATE_REVISION: u8 = 2;
const MOD_REVISION: u8 = 3;
const VERSION: u8 = 4;
const VALUE: u8 = 5;
const LEASE: u8 = 6;

impl<'a> KeyValueRef<'a> {
    /// Reads the message; unknown fields are skipped, the last of a repeated field wins.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are not a `KeyValue`.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut kv = Self::default();
        let mut reader = Reader::new(bytes);
        while let Some((field, value)) = reader.next()? {
            match field {
                1 => kv.key = value.bytes(field)?,
                2 => kv.create_revision = value.int(field)?,
                3 => kv.mod_revision = value.int(field)?,
                4 => kv.version = value.int(field)?,
                5 => kv.value = value.bytes(field)?,
                6 => kv.lease = value.int(field)?,
                _ => {}
            }
        }
        Ok(kv)
    }

    /// Length of [`encode`](Self::encode)'s output in bytes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        pb::bytes_len(self.key)
            + pb::int_len(self.create_revision)
            + pb::int_len(self.mod_revision)
            + pb::int_len(self.version)
            + pb::bytes_len(self.value)
            + pb::int_len(self.lease)
    }

    /// Writes the message as every etcd writes it: fields in ascending order, zeros left out. Equal contents give
    /// equal bytes, which the hashes rely on.
    pub fn encode_to(&self, out: &mut impl BufMut) {
        pb::put_bytes(out, KEY, self.key);
        pb::put_int(out, CREATE_REVISION, self.create_revision);
        pb::put_int(out, MOD_REVISION, self.mod_revision);
        pb::put_int(out, VERSION, self.version);
        pb::put_bytes(out, VALUE, self.value);
        pb::put_int(out, LEASE, self.lease);
    }

    /// The message in a buffer of its own.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(self.encoded_len());
        self.encode_to(&mut out);
        out.freeze()
    }
}

/// The user key of a stored row, without reading the rest when the key stands first, as it does in every row written
/// by a released server.
///
/// # Errors
/// [`DecodeError`] when the bytes are not a `KeyValue`.
pub(crate) fn user_key(row: &[u8]) -> Result<&[u8], DecodeError> {
    let mut reader = Reader::new(row);
    match reader.next()? {
        Some((1, value)) => value.bytes(1),
        _ => Ok(KeyValueRef::decode(row)?.key),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_put_has_the_documented_bytes() {
        let kv = KeyValueRef {
            key: b"foo",
            create_revision: 2,
            mod_revision: 3,
            version: 2,
            value: b"bar2",
            ..KeyValueRef::default()
        };
        assert_eq!(&kv.encode()[..], b"\x0a\x03foo\x10\x02\x18\x03\x20\x02\x2a\x04bar2");
    }

    proptest! {
        #[test]
        fn every_message_reads_back(
            key in proptest::collection::vec(any::<u8>(), 0..40),
            value in proptest::collection::vec(any::<u8>(), 0..300),
            numbers in any::<[i64; 4]>(),
        ) {
            let [create_revision, mod_revision, version, lease] = numbers;
            let kv = KeyValueRef { key: &key, create_revision, mod_revision, version, value: &value, lease };
            let bytes = kv.encode();
            prop_assert_eq!(bytes.len(), kv.encoded_len());
            prop_assert_eq!(KeyValueRef::decode(&bytes), Ok(kv));
            prop_assert_eq!(user_key(&bytes), Ok(&key[..]));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = KeyValueRef::decode(&bytes);
            let _ = user_key(&bytes);
        }
    }
}
