//! Just enough of the protobuf wire format for the records of a log: varints, length-delimited fields, skipping.
//!
//! Knows nothing of what the fields mean.

/// Appends a base-128 varint.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Length of [`put_varint`]'s output.
pub(crate) fn varint_len(value: u64) -> usize {
    // 7 payload bits a byte; zero takes one byte as well.
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Takes a varint off the front; `None` when it is cut off or longer than 64 bits.
#[inline]
pub(crate) fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    if let [first, rest @ ..] = *bytes
        && *first < 0x80
    {
        *bytes = rest;
        return Some(u64::from(*first));
    }
    take_long_varint(bytes)
}

/// The same for two bytes and more. Where eight bytes are there, their end bits tell the length at once: heads of records
/// are nearly all varints, and a loop over their bytes costs a third of reading a small record.
#[inline]
fn take_long_varint(bytes: &mut &[u8]) -> Option<u64> {
    if let Some((word, _)) = bytes.split_first_chunk::<8>() {
        let word = u64::from_le_bytes(*word);
        let ends = !word & 0x8080_8080_8080_8080;
        if ends != 0 {
            let len = (ends.trailing_zeros() as usize + 1) / 8;
            *bytes = &bytes[len..];
            return Some(pack_sevens(word & (u64::MAX >> (64 - 8 * len))));
        }
    }
    take_varint_bytewise(bytes)
}

/// Puts the lower seven bits of each byte together: pairs of bytes, then of pairs, then of fours.
fn pack_sevens(word: u64) -> u64 {
    let word = (word & 0x007f_007f_007f_007f) | (word & 0x7f00_7f00_7f00_7f00) >> 1;
    let word = (word & 0x0000_3fff_0000_3fff) | (word & 0x3fff_0000_3fff_0000) >> 2;
    (word & 0x0fff_ffff) | (word & 0x0fff_ffff_0000_0000) >> 4
}

/// Any varint, near the end of the bytes or longer than eight.
#[cold]
fn take_varint_bytewise(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for (i, &byte) in bytes.iter().enumerate().take(10) {
        // The tenth byte holds the 64th bit and nothing else.
        if i == 9 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte < 0x80 {
            *bytes = &bytes[i + 1..];
            return Some(value);
        }
    }
    None
}

/// A field's value, as far as the wire format tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
    /// A fixed-width value; its bytes are of no interest here.
    Fixed,
}

/// Takes one field off the front: its number and value. `None` when the bytes are no field.
#[inline]
pub(crate) fn take_field<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Value<'a>)> {
    let tag = take_varint(bytes)?;
    let number = tag >> 3;
    if number == 0 {
        return None;
    }
    let value = match tag & 7 {
        0 => Value::Varint(take_varint(bytes)?),
        1 => take_bytes(bytes, 8).map(|_| Value::Fixed)?,
        2 => {
            let len = usize::try_from(take_varint(bytes)?).ok()?;
            Value::Bytes(take_bytes(bytes, len)?)
        }
        5 => take_bytes(bytes, 4).map(|_| Value::Fixed)?,
        // Groups (3, 4) were never used by any writer of these records.
        _ => return None,
    };
    Some((number, value))
}

fn take_bytes<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(head)
}

/// Up to `N` bytes on the stack: the small pieces of a frame, put together before they go to the log's buffer.
pub(crate) struct StackBytes<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> StackBytes<N> {
    pub(crate) fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }

    /// Appends a tag and a varint.
    pub(crate) fn put(&mut self, tag: u8, mut value: u64) {
        self.push(tag);
        while value >= 0x80 {
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }

    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Takes this one-byte tag off the front.
#[inline]
pub(crate) fn expect_tag(bytes: &mut &[u8], tag: u8) -> Option<()> {
    let (first, rest) = bytes.split_first()?;
    *bytes = rest;
    (*first == tag).then_some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_varint_comes_back(value: u64, shift in 0..64_u32, tail: u8) {
            let value = value >> shift;
            let mut out = Vec::new();
            put_varint(&mut out, value);
            prop_assert_eq!(out.len(), varint_len(value));
            out.push(tail);
            let mut rest = &out[..];
            prop_assert_eq!(take_varint(&mut rest), Some(value));
            prop_assert_eq!(rest, &[tail][..]);
        }

        #[test]
        fn both_ways_to_read_a_varint_agree(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), 0x80..=0xff_u8], 1..14)) {
            let (mut quick, mut bytewise) = (&bytes[..], &bytes[..]);
            prop_assert_eq!(take_varint(&mut quick), take_varint_bytewise(&mut bytewise));
            prop_assert_eq!(quick, bytewise);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut rest = &bytes[..];
            while let Some((number, _)) = take_field(&mut rest) {
                prop_assert!(number > 0);
            }
        }
    }

    #[test]
    fn varints_beyond_64_bits_are_refused() {
        let mut eleven = &[0x80_u8; 11][..];
        assert_eq!(take_varint(&mut eleven), None);
        let mut over = &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02][..];
        assert_eq!(take_varint(&mut over), None);
        let mut cut = &[0x80_u8, 0x80][..];
        assert_eq!(take_varint(&mut cut), None);
    }
}
