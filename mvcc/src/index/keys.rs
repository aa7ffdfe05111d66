//! A sorted list of byte strings in one buffer: the keys of a leaf, or the separators of an inner node.
//!
//! One allocation for all keys makes a copy of a node two `memcpy`s, and costs four bytes per key beside its own.

/// Spare room kept after growing: enough to make growing rare, little enough not to matter per key.
const SPARE_KEYS: usize = 4;

/// Sorted byte strings, stored back to back.
///
/// Invariant: `ends` never falls, its last entry is `bytes.len()`, and the strings strictly rise.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    bytes: Vec<u8>,
    ends: Vec<u32>,
}

impl Keys {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    #[inline]
    fn start(&self, i: usize) -> usize {
        if i == 0 { 0 } else { self.ends[i - 1] as usize }
    }

    #[inline]
    pub(super) fn get(&self, i: usize) -> &[u8] {
        &self.bytes[self.start(i)..self.ends[i] as usize]
    }

    /// `Ok` with the place of `key`, or `Err` with the place where it would stand.
    #[inline]
    pub(super) fn search(&self, key: &[u8]) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.len());
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
        if self.ends.len() == self.ends.capacity() {
            self.ends.reserve_exact(SPARE_KEYS);
        }
        if self.bytes.capacity() - self.bytes.len() < key.len() {
            self.bytes.reserve_exact(SPARE_KEYS * key.len());
        }
        // Append, then rotate into place: both halves move with one copy each and nothing else is allocated.
        self.bytes.extend_from_slice(key);
        if i < self.len() {
            self.bytes[at..].rotate_right(key.len());
        }
        let len = u32::try_from(key.len()).expect("a key is shorter than 4 GiB");
        self.ends.insert(i, u32::try_from(at).expect("a node is shorter than 4 GiB"));
        for end in &mut self.ends[i..] {
            *end += len;
        }
    }

    pub(super) fn remove(&mut self, i: usize) {
        let range = self.start(i)..self.ends[i] as usize;
        let len = range.len() as u32;
        self.bytes.drain(range);
        self.ends.remove(i);
        for end in &mut self.ends[i..] {
            *end -= len;
        }
    }

    /// Cuts the list before `i` and returns what followed, without spare room on either side.
    pub(super) fn split_off(&mut self, i: usize) -> Self {
        let at = self.start(i);
        let bytes = self.bytes[at..].to_vec();
        let ends = self.ends[i..].iter().map(|end| end - at as u32).collect();
        self.bytes.truncate(at);
        self.ends.truncate(i);
        self.shrink();
        Self { bytes, ends }
    }

    pub(super) fn append(&mut self, other: &Self) {
        let base = self.bytes.len() as u32;
        self.bytes.reserve_exact(other.bytes.len());
        self.bytes.extend_from_slice(&other.bytes);
        self.ends.reserve_exact(other.ends.len());
        self.ends.extend(other.ends.iter().map(|end| end + base));
    }

    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.ends.shrink_to_fit();
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
        fn it_is_a_sorted_list(ops in proptest::collection::vec((any::<bool>(), proptest::collection::vec(0u8..4, 0..5)), 0..60)) {
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
