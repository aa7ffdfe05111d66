//! A sorted list of byte strings in one buffer: the keys of a leaf, or the separators of an inner node.
//!
//! One buffer for all keys makes copying a node a few `memcpy`s. Beside it stand, for every key, its end and its *head*:
//! the four bytes after what all keys have in common. A search compares heads, which lie side by side, all at once;
//! looking into the keys themselves would wait for memory at every step. Head and end stand together, and in the node
//! itself, so that a search waits for memory twice: for the node, and for the one key whose head matches.

use smallvec::SmallVec;

/// Spare room kept after growing: enough to make growing rare, little enough not to matter per key.
const SPARE_KEYS: usize = 4;
/// Strings of a full list, whose marks need no memory of their own. Longer lists work, but slower.
pub(super) const USUAL_LEN: usize = 64;

/// Sorted byte strings, stored back to back.
///
/// Invariant: ends never fall, the last one is `bytes.len()`, and the strings strictly rise. All strings begin with
/// the same `common` bytes, and the head of each is [`head`] of what follows them.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    bytes: Vec<u8>,
    marks: SmallVec<[Mark; USUAL_LEN]>,
    common: usize,
}

/// What stands beside a string.
#[derive(Clone, Copy, Debug)]
struct Mark {
    head: u32,
    end: u32,
}

/// The first four bytes as a number that sorts like them; missing ones count as zero.
fn head(rest: &[u8]) -> u32 {
    match rest.first_chunk::<4>() {
        Some(four) => u32::from_be_bytes(*four),
        None => rest
            .iter()
            .fold(0, |head, byte| head << 8 | u32::from(*byte))
            .unbounded_shl(8 * (4 - rest.len() as u32)),
    }
}

/// Length of what two strings begin with alike.
fn common_len(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl Keys {
    pub(super) fn len(&self) -> usize {
        self.marks.len()
    }

    pub(super) fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    #[inline]
    fn start(&self, i: usize) -> usize {
        if i == 0 { 0 } else { self.marks[i - 1].end as usize }
    }

    #[inline]
    pub(super) fn get(&self, i: usize) -> &[u8] {
        &self.bytes[self.start(i)..self.marks[i].end as usize]
    }

    /// `Ok` with the place of `key`, or `Err` with the place where it would stand.
    #[inline]
    pub(super) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        if self.marks.is_empty() {
            return Err(0);
        }
        // A key that begins otherwise, or ends within the common part, is below or above all.
        let shared = &self.bytes[..self.common];
        match key[..key.len().min(self.common)].cmp(shared) {
            std::cmp::Ordering::Less => return Err(0),
            std::cmp::Ordering::Greater => return Err(self.len()),
            std::cmp::Ordering::Equal => {}
        }
        let wanted = head(&key[self.common..]);
        let (mut low, mut high) = (0, 0);
        for mark in &self.marks {
            low += usize::from(mark.head < wanted);
            high += usize::from(mark.head <= wanted);
        }
        while low < high {
            let middle = usize::midpoint(low, high);
            match self.get(middle).cmp(key) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    /// The place of the first string that is not below `key`.
    pub(super) fn lower_bound(&self, key: &[u8]) -> usize {
        self.search(key).unwrap_or_else(|at| at)
    }

    pub(super) fn push(&mut self, key: &[u8]) {
        self.insert(self.len(), key);
    }

    pub(super) fn insert(&mut self, i: usize, key: &[u8]) {
        let at = self.start(i);
        let common =
            if self.marks.is_empty() { key.len() } else { common_len(key, &self.bytes[..self.common]) };
        if self.bytes.capacity() - self.bytes.len() < key.len() {
            self.bytes.reserve_exact(SPARE_KEYS * key.len());
        }
        // Append, then rotate into place: both halves move with one copy each and nothing else is allocated.
        self.bytes.extend_from_slice(key);
        if i < self.len() {
            self.bytes[at..].rotate_right(key.len());
        }
        let len = u32::try_from(key.len()).expect("a key is shorter than 4 GiB");
        let end = u32::try_from(at).expect("a node is shorter than 4 GiB");
        self.marks.insert(i, Mark { head: head(&key[common..]), end });
        for mark in &mut self.marks[i..] {
            mark.end += len;
        }
        if common != self.common {
            self.set_common(common);
        }
    }

    /// Puts `key`, which is below all strings, in the place of the first one.
    pub(super) fn lower_first(&mut self, key: &[u8]) {
        self.remove(0);
        self.insert(0, key);
    }

    /// Computes all heads anew for strings that share their first `common` bytes.
    fn set_common(&mut self, common: usize) {
        self.common = common;
        let mut start = 0;
        for mark in &mut self.marks {
            mark.head = head(&self.bytes[start + common..mark.end as usize]);
            start = mark.end as usize;
        }
    }

    /// Computes the common part and all heads anew.
    fn rebuild_heads(&mut self) {
        let common = match self.len() {
            0 => 0,
            len => common_len(self.get(0), self.get(len - 1)),
        };
        self.set_common(common);
    }

    pub(super) fn remove(&mut self, i: usize) {
        let range = self.start(i)..self.marks[i].end as usize;
        let len = range.len() as u32;
        self.bytes.drain(range);
        self.marks.remove(i);
        for mark in &mut self.marks[i..] {
            mark.end -= len;
        }
    }

    /// Cuts the list before `i` and returns what followed, without spare room on either side.
    pub(super) fn split_off(&mut self, i: usize) -> Self {
        let at = self.start(i);
        let bytes = self.bytes[at..].to_vec();
        let marks = self.marks[i..].iter().map(|mark| Mark { end: mark.end - at as u32, ..*mark }).collect();
        self.bytes.truncate(at);
        self.marks.truncate(i);
        self.rebuild_heads();
        self.shrink();
        let mut rest = Self { bytes, marks, common: 0 };
        rest.rebuild_heads();
        rest
    }

    pub(super) fn append(&mut self, other: &Self) {
        let base = self.bytes.len() as u32;
        self.bytes.reserve_exact(other.bytes.len());
        self.bytes.extend_from_slice(&other.bytes);
        self.marks.extend(other.marks.iter().map(|mark| Mark { end: mark.end + base, ..*mark }));
        self.rebuild_heads();
    }

    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.marks.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn strings(keys: &Keys) -> Vec<Vec<u8>> {
        (0..keys.len()).map(|i| keys.get(i).to_vec()).collect()
    }

    proptest! {
        #[test]
        fn it_is_a_sorted_list(ops in proptest::collection::vec((any::<bool>(), proptest::collection::vec(0u8..3, 0..8)), 0..80)) {
            let (mut keys, mut model) = (Keys::default(), Vec::<Vec<u8>>::new());
            for (insert, key) in ops {
                let (got, expected) = (keys.search(&key), model.binary_search(&key));
                prop_assert_eq!(got, expected);
                match (insert, got) {
                    (true, Err(at)) => {
                        keys.insert(at, &key);
                        model.insert(at, key);
                    }
                    (false, Ok(at)) => {
                        keys.remove(at);
                        model.remove(at);
                    }
                    _ => {}
                }
                prop_assert_eq!(strings(&keys), model.clone());
            }
            let middle = model.len() / 2;
            let mut left = keys;
            let right = left.split_off(middle);
            prop_assert_eq!(strings(&left), &model[..middle]);
            prop_assert_eq!(strings(&right), &model[middle..]);
            left.append(&right);
            prop_assert_eq!(strings(&left), model);
        }
    }
}
