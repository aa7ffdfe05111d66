//! Finding a key among the sorted keys of a page or of an opened node.

use std::cmp::Ordering;

use crate::error::Result;

/// Sorted keys, whichever way they are stored.
pub(crate) trait Keys<'a>: Copy {
    fn count(self) -> usize;

    /// Key `i` (`i < count`).
    fn key_at(self, i: usize) -> Result<&'a [u8]>;

    /// First index whose key is not below `key`, and whether it is equal.
    #[inline]
    fn search(self, key: &[u8]) -> Result<(usize, bool)> {
        search_between(self, key, 0, self.count())
    }

    /// As [`search`](Self::search), beginning where the key should stand if keys lie evenly between `bounds`, or between
    /// the first key and the last one.
    #[inline]
    fn search_evenly(self, key: &[u8], bounds: Option<Bounds>) -> Result<(usize, bool)> {
        let bounds = match bounds {
            None if number(key).is_some() && self.count() > 0 => {
                Bounds::new(self.key_at(0)?, self.key_at(self.count() - 1)?)
            }
            bounds => bounds,
        };
        match bounds.and_then(|bounds| bounds.place(key, self.count())) {
            Some(guess) => search_from(self, key, guess),
            None => self.search(key),
        }
    }

    /// What the keys below child `index` of a branch lie between; `None` for the last one, which has no bound here.
    #[inline]
    fn bounds_of_child(self, index: usize) -> Result<Option<Bounds>> {
        if index + 1 >= self.count() {
            return Ok(None);
        }
        Ok(Bounds::new(self.key_at(index)?, self.key_at(index + 1)?))
    }
}

/// As [`Keys::search`], beginning at `guess` and going away from it in steps that double: one or two keys are looked at
/// when the guess is good, twice as many as by halving when it is as bad as can be.
fn search_from<'a>(keys: impl Keys<'a>, key: &[u8], guess: usize) -> Result<(usize, bool)> {
    let count = keys.count();
    let (mut low, mut high) = (0, count);
    let mut at = guess.min(high.saturating_sub(1));
    let mut step = 1;
    while low < high {
        match compare(keys.key_at(at)?, key) {
            Ordering::Equal => return Ok((at, true)),
            Ordering::Less if high < count => return search_between(keys, key, at + 1, high),
            Ordering::Less => {
                low = at + 1;
                at = (at + step).min(high - 1);
            }
            Ordering::Greater if low > 0 => return search_between(keys, key, low, at),
            Ordering::Greater => {
                high = at;
                at = at.saturating_sub(step);
            }
        }
        step *= 2;
    }
    Ok((low, false))
}

/// As [`Keys::search`], for a key that stands at or after `low` and not after `high`.
fn search_between<'a>(
    keys: impl Keys<'a>,
    key: &[u8],
    mut low: usize,
    mut high: usize,
) -> Result<(usize, bool)> {
    while low < high {
        let middle = low.midpoint(high);
        match compare(keys.key_at(middle)?, key) {
            Ordering::Less => low = middle + 1,
            Ordering::Equal => return Ok((middle, true)),
            Ordering::Greater => high = middle,
        }
    }
    Ok((low, false))
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
/// Keys that count up (revisions, sequence numbers, times) or are drawn at random lie evenly between the two, so that
/// where one stands can be computed, or nearly. A binary search waits for memory at every key that it looks at.
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
    fn place(&self, key: &[u8], len: usize) -> Option<usize> {
        let width = self.high.checked_sub(self.low).filter(|&width| width > 0)?;
        let offset = number(key)?.saturating_sub(self.low).min(width);
        // With 32 bits for the offset the product overflows for more keys than fit into memory.
        let shift = (u64::BITS - width.leading_zeros()).saturating_sub(32);
        Some(((offset >> shift).saturating_mul(len as u64) / (width >> shift)) as usize)
    }
}

fn number(key: &[u8]) -> Option<u64> {
    key.first_chunk().map(|first| u64::from_be_bytes(*first))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{ELEMENT_SIZE, FLAG_LEAF, Header};
    use crate::page::Page;
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
                    prop_assert_eq!(search_from(page, key, guess).unwrap(), expected);
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
