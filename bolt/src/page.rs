//! A branch or leaf page as it lies in the map (or as an inline bucket's image): bounds-checked reading.

use std::cmp::Ordering;

use crate::error::{Error, Result};
use crate::format::{BUCKET_FLAG, ELEMENT_SIZE, FLAG_BRANCH, FLAG_LEAF, HEADER_SIZE, Header, u32_at, u64_at};

/// A branch or leaf page. The element array lies within the page; keys and values are checked when they are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Page<'a> {
    /// Header, elements and data, with overflow pages.
    bytes: &'a [u8],
    /// Position of the first byte, in the terms of [`crate::memory::Memory`].
    base: u64,
    header: Header,
}

/// A leaf element.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeafElement<'a> {
    pub(crate) flags: u32,
    pub(crate) key: &'a [u8],
    pub(crate) value: &'a [u8],
}

impl<'a> Page<'a> {
    /// Checks type and element count. `bytes` is the whole page.
    pub(crate) fn new(bytes: &'a [u8], base: u64, header: Header) -> Result<Self> {
        let page = Self { bytes, base, header };
        match header.flags {
            FLAG_BRANCH if header.count == 0 => Err(page.fault("branch page without elements")),
            FLAG_BRANCH | FLAG_LEAF => {
                if HEADER_SIZE + usize::from(header.count) * ELEMENT_SIZE > bytes.len() {
                    return Err(page.fault(format!(
                        "{} elements do not fit into {} bytes",
                        header.count,
                        bytes.len()
                    )));
                }
                Ok(page)
            }
            flags => Err(page.fault(format!("type {flags:#x}, expected branch (0x1) or leaf (0x2)"))),
        }
    }

    /// The leaf image of an inline bucket: `bytes` is what follows the bucket header.
    pub(crate) fn inline(bytes: &'a [u8], base: u64) -> Result<Self> {
        if bytes.len() < HEADER_SIZE {
            return Err(Error::corrupt(
                0,
                format!("inline bucket of {} bytes has no page header", bytes.len()),
            ));
        }
        let page = Self::new(bytes, base, Header::decode(bytes))?;
        if !page.is_leaf() {
            return Err(page.fault("inline bucket is not a leaf"));
        }
        Ok(page)
    }

    #[inline]
    pub(crate) fn is_leaf(&self) -> bool {
        self.header.flags == FLAG_LEAF
    }

    pub(crate) fn id(&self) -> u64 {
        self.header.id
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        usize::from(self.header.count)
    }

    /// Pages it occupies.
    pub(crate) fn pages(&self) -> u64 {
        u64::from(self.header.overflow) + 1
    }

    /// Bytes in use: headers, keys and values.
    pub(crate) fn used(&self) -> Result<usize> {
        let mut used = HEADER_SIZE + self.len() * ELEMENT_SIZE;
        for i in 0..self.len() {
            used += self.key(i)?.len();
            if self.is_leaf() {
                used += self.leaf(i)?.value.len();
            }
        }
        Ok(used)
    }

    /// Element `i` of a leaf page (`i < len`).
    #[inline]
    pub(crate) fn leaf(&self, i: usize) -> Result<LeafElement<'a>> {
        debug_assert!(self.is_leaf());
        let at = HEADER_SIZE + i * ELEMENT_SIZE;
        let element = &self.bytes[at..at + ELEMENT_SIZE];
        let start = at + u32_at(element, 4) as usize;
        let middle = start + u32_at(element, 8) as usize;
        let end = middle + u32_at(element, 12) as usize;
        if end > self.bytes.len() {
            return Err(self.outside(i, end));
        }
        Ok(LeafElement {
            flags: u32_at(element, 0),
            key: &self.bytes[start..middle],
            value: &self.bytes[middle..end],
        })
    }

    /// Whether leaf element `i` is a bucket; touches the element array only.
    pub(crate) fn is_bucket(&self, i: usize) -> bool {
        u32_at(self.bytes, HEADER_SIZE + i * ELEMENT_SIZE) & BUCKET_FLAG != 0
    }

    /// Key of element `i` (`i < len`).
    #[inline]
    pub(crate) fn key(&self, i: usize) -> Result<&'a [u8]> {
        let at = HEADER_SIZE + i * ELEMENT_SIZE;
        let element = &self.bytes[at..at + ELEMENT_SIZE];
        let shift = if self.is_leaf() { 4 } else { 0 };
        let start = at + u32_at(element, shift) as usize;
        let end = start + u32_at(element, shift + 4) as usize;
        self.bytes.get(start..end).ok_or_else(|| self.outside(i, end))
    }

    /// Child page of branch element `i` (`i < len`).
    pub(crate) fn child(&self, i: usize) -> u64 {
        debug_assert!(!self.is_leaf());
        u64_at(self.bytes, HEADER_SIZE + i * ELEMENT_SIZE + 8)
    }

    /// Position of a slice of this page's bytes, in the terms of `base`.
    pub(crate) fn position(&self, part: &[u8]) -> u64 {
        self.base + (part.as_ptr().addr() - self.bytes.as_ptr().addr()) as u64
    }

    /// First index whose key is not below `key`, and whether it is equal.
    pub(crate) fn search(&self, key: &[u8]) -> Result<(usize, bool)> {
        self.search_between(key, 0, self.len())
    }

    /// As [`search`](Self::search), beginning where the key should stand if keys lie evenly between `bounds`, or between
    /// the page's own first and last keys.
    pub(crate) fn search_evenly(&self, key: &[u8], bounds: Option<Bounds>) -> Result<(usize, bool)> {
        let bounds = match bounds {
            None if number(key).is_some() && self.len() > 0 => {
                Bounds::new(self.key(0)?, self.key(self.len() - 1)?)
            }
            bounds => bounds,
        };
        match bounds.and_then(|bounds| bounds.place(key, self.len())) {
            Some(guess) => self.search_from(key, guess),
            None => self.search(key),
        }
    }

    /// As [`search`](Self::search), beginning at `guess` and going away from it in steps that double: one or two keys
    /// are looked at when the guess is good, twice as many as by halving when it is as bad as can be.
    fn search_from(&self, key: &[u8], guess: usize) -> Result<(usize, bool)> {
        let (mut low, mut high) = (0, self.len());
        let mut at = guess.min(high.saturating_sub(1));
        let mut step = 1;
        while low < high {
            match compare(self.key(at)?, key) {
                Ordering::Equal => return Ok((at, true)),
                Ordering::Less if high < self.len() => return self.search_between(key, at + 1, high),
                Ordering::Less => {
                    low = at + 1;
                    at = (at + step).min(high - 1);
                }
                Ordering::Greater if low > 0 => return self.search_between(key, low, at),
                Ordering::Greater => {
                    high = at;
                    at = at.saturating_sub(step);
                }
            }
            step *= 2;
        }
        Ok((low, false))
    }

    /// As [`search`](Self::search), for a key that stands at or after `low` and not after `high`.
    fn search_between(&self, key: &[u8], mut low: usize, mut high: usize) -> Result<(usize, bool)> {
        while low < high {
            let middle = low.midpoint(high);
            match compare(self.key(middle)?, key) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok((middle, true)),
                Ordering::Greater => high = middle,
            }
        }
        Ok((low, false))
    }

    #[cold]
    fn outside(&self, i: usize, end: usize) -> Error {
        self.fault(format!("element {i} ends at byte {end} of {}", self.bytes.len()))
    }

    pub(crate) fn fault(&self, what: impl Into<String>) -> Error {
        Error::corrupt(self.header.id, what)
    }
}

/// Bytewise order. Most keys differ in their first eight bytes: those are compared without a call.
#[inline]
pub(crate) fn compare(a: &[u8], b: &[u8]) -> Ordering {
    if let (Some((first_a, rest_a)), Some((first_b, rest_b))) = (a.split_first_chunk(), b.split_first_chunk())
    {
        let (first_a, first_b) = (u64::from_be_bytes(*first_a), u64::from_be_bytes(*first_b));
        return first_a.cmp(&first_b).then_with(|| rest_a.cmp(rest_b));
    }
    a.cmp(b)
}

/// The keys that a page can hold, by their first eight bytes read as a number: from `low` to `high`.
///
/// Keys that count up (revisions, sequence numbers, times) lie evenly between the two, so that where one stands can be
/// computed. A binary search waits for memory at every key that it looks at, a computed place once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    low: u64,
    high: u64,
}

impl Bounds {
    /// `None` for keys of less than eight bytes, which are not compared as numbers.
    pub(crate) fn new(low: &[u8], high: &[u8]) -> Option<Self> {
        Some(Self { low: number(low)?, high: number(high)? })
    }

    /// Where `key` would stand among `len` keys that lie evenly between the bounds; `None` if these do not differ.
    pub(crate) fn place(&self, key: &[u8], len: usize) -> Option<usize> {
        let width = self.high.checked_sub(self.low).filter(|&width| width > 0)?;
        let offset = number(key)?.saturating_sub(self.low).min(width);
        // An element count has 16 bits: with 48 bits for the offset the product cannot overflow.
        let shift = (u64::BITS - width.leading_zeros()).saturating_sub(48);
        Some(((offset >> shift) * len as u64 / (width >> shift)) as usize)
    }
}

fn number(key: &[u8]) -> Option<u64> {
    key.first_chunk().map(|first| u64::from_be_bytes(*first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A leaf page of these keys, without values.
    fn leaf(keys: &[Vec<u8>]) -> Vec<u8> {
        let header = Header { id: 2, flags: FLAG_LEAF, count: keys.len() as u16, overflow: 0 };
        let (mut bytes, mut data) = (header.encode().to_vec(), Vec::new());
        for (i, key) in keys.iter().enumerate() {
            let offset = (keys.len() - i) * ELEMENT_SIZE + data.len();
            for field in [0, offset as u32, key.len() as u32, 0] {
                bytes.extend_from_slice(&field.to_le_bytes());
            }
            data.extend_from_slice(key);
        }
        bytes.extend_from_slice(&data);
        bytes
    }

    proptest! {
        #[test]
        #[cfg_attr(miri, ignore = "safe code; takes hours")]
        fn a_guess_of_the_place_changes_nothing_but_the_way_there(
            keys in prop::collection::btree_set(prop_oneof![
                (0_u64..200).prop_map(|n| [&n.to_be_bytes()[..], b"_"].concat()),
                prop::collection::vec(any::<u8>(), 0..12),
            ], 1..60),
            asked in prop_oneof![(0_u64..200).prop_map(|n| [&n.to_be_bytes()[..], b"_"].concat()), prop::collection::vec(any::<u8>(), 0..12)],
            bounds in any::<Option<(u64, u64)>>(),
        ) {
            let keys: Vec<_> = keys.into_iter().collect();
            let bytes = leaf(&keys);
            let page = Page::new(&bytes, 0, Header::decode(&bytes)).unwrap();
            let bounds = bounds.map(|(low, high)| Bounds { low, high });
            for key in keys.iter().chain([&asked]) {
                let expected = match keys.binary_search(key) {
                    Ok(at) => (at, true),
                    Err(at) => (at, false),
                };
                prop_assert_eq!(page.search(key).unwrap(), expected);
                prop_assert_eq!(page.search_evenly(key, None).unwrap(), expected);
                prop_assert_eq!(page.search_evenly(key, bounds).unwrap(), expected);
                for guess in 0..=keys.len() {
                    prop_assert_eq!(page.search_from(key, guess).unwrap(), expected);
                }
            }
        }

        #[test]
        #[cfg_attr(miri, ignore = "safe code; takes hours")]
        fn keys_compare_as_bytes(a in prop::collection::vec(0_u8..3, 0..12), b in prop::collection::vec(0_u8..3, 0..12)) {
            prop_assert_eq!(compare(&a, &b), a.cmp(&b));
        }
    }
}
