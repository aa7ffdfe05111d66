//! The set of free pages: a bitmap under a tree of run lengths.
//!
//! Adding, removing and finding the lowest run of a given length cost O(log pages), whatever the number of free pages
//! and however scattered they are. It takes less than one byte per page of the file. What is free, and when, is not
//! decided here.

use crate::error::{Error, Result};

/// Neighbouring pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Run {
    pub(crate) start: u64,
    pub(crate) len: u64,
}

impl Run {
    pub(crate) fn end(self) -> u64 {
        self.start + self.len
    }
}

/// Pages of a word.
const WORD: u64 = 64;

/// The free runs of a stretch of pages: at its beginning, at its end, and the longest anywhere in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Runs {
    first: u64,
    last: u64,
    longest: u64,
}

impl Runs {
    fn of_word(word: u64) -> Self {
        let mut longest = 0;
        let mut rest = word;
        while rest != 0 {
            rest &= rest << 1;
            longest += 1;
        }
        Self { first: word.trailing_ones().into(), last: word.leading_ones().into(), longest }
    }

    /// Of two neighbouring stretches of `width` pages each.
    fn join(left: Self, right: Self, width: u64) -> Self {
        Self {
            first: if left.first == width { width + right.first } else { left.first },
            last: if right.last == width { width + left.last } else { right.last },
            longest: left.longest.max(right.longest).max(left.last + right.first),
        }
    }
}

/// Set of free pages.
///
/// Invariants: `words.len()` is a power of two; node 1 of `nodes` is the root of a binary tree, node `n` has the
/// children `2n` and `2n + 1`, node `words.len() + w` describes word `w`; `count` is the number of bits set.
#[derive(Clone, Debug)]
pub(crate) struct FreeSet {
    words: Vec<u64>,
    nodes: Vec<Runs>,
    count: u64,
}

impl Default for FreeSet {
    fn default() -> Self {
        Self { words: vec![0], nodes: vec![Runs::default(); 2], count: 0 }
    }
}

impl FreeSet {
    /// The set whose members are the bits that are *not* set among the first `pages` bits, without pages 0 and 1.
    pub(crate) fn complement(mut used: Vec<u64>, pages: u64) -> Self {
        for word in &mut used {
            *word = !*word;
        }
        used.truncate(pages.div_ceil(WORD) as usize);
        if let (Some(last), true) = (used.last_mut(), !pages.is_multiple_of(WORD)) {
            *last &= (1 << (pages % WORD)) - 1;
        }
        if let Some(first) = used.first_mut() {
            *first &= !0b11;
        }
        let count = used.iter().map(|w| u64::from(w.count_ones())).sum();
        let mut set = Self { words: used, nodes: Vec::new(), count };
        set.resize(set.words.len());
        set
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// Adds a run; a page that is free already is an error.
    pub(crate) fn insert(&mut self, run: Run) -> Result<()> {
        if run.len == 0 {
            return Ok(());
        }
        let words = run.end().div_ceil(WORD) as usize;
        if words > self.words.len() {
            self.resize(words);
        }
        for (word, mask) in masks(run) {
            if self.words[word] & mask != 0 {
                let page = word as u64 * WORD + u64::from((self.words[word] & mask).trailing_zeros());
                return Err(Error::corrupt(page, "freed twice"));
            }
        }
        for (word, mask) in masks(run) {
            self.words[word] |= mask;
        }
        self.count += run.len;
        self.update(run);
        Ok(())
    }

    /// Start of the lowest run of `len` pages or more.
    pub(crate) fn first_fit(&self, len: u64) -> Option<u64> {
        if self.nodes[1].longest < len {
            return None;
        }
        let leaves = self.words.len();
        let (mut node, mut start, mut width) = (1, 0, leaves as u64 * WORD);
        while node < leaves {
            let (left, right) = (self.nodes[2 * node], self.nodes[2 * node + 1]);
            width /= 2;
            if left.longest >= len {
                node *= 2;
            } else if left.last + right.first >= len {
                return Some(start + width - left.last);
            } else {
                node = 2 * node + 1;
                start += width;
            }
        }
        // The run is inside one word: the bits at which `len` neighbours begin.
        let word = self.words[node - leaves];
        let starts = (1..len).fold(word, |bits, i| bits & (word >> i));
        Some(start + u64::from(starts.trailing_zeros()))
    }

    /// Takes `len` neighbouring pages, the lowest there are.
    pub(crate) fn take(&mut self, len: u64) -> Option<Run> {
        let run = Run { start: self.first_fit(len)?, len };
        self.remove(run);
        Some(run)
    }

    /// Takes the free pages directly below `end`, if there are any.
    pub(crate) fn take_tail(&mut self, end: u64) -> Option<Run> {
        let start = self.tail(end);
        let run = Run { start, len: end - start };
        (run.len > 0).then(|| self.remove(run))?;
        Some(run)
    }

    /// First of the free pages directly below `end`; `end` itself if the page below is not free.
    pub(crate) fn tail(&self, end: u64) -> u64 {
        let mut start = end;
        while start > 0 {
            let (word, bit) = (((start - 1) / WORD) as usize, (start - 1) % WORD);
            let bits = self.words.get(word).map_or(0, |w| w << (WORD - 1 - bit));
            let ones = u64::from(bits.leading_ones()).min(bit + 1);
            start -= ones;
            if ones <= bit {
                break;
            }
        }
        start
    }

    /// How many free pages lie below `limit`; counts no further than `enough`.
    pub(crate) fn count_below(&self, limit: u64, enough: u64) -> u64 {
        let mut count = 0;
        for (i, word) in self.words.iter().enumerate() {
            let start = i as u64 * WORD;
            if start >= limit || count >= enough {
                break;
            }
            let below = limit - start;
            let bits = if below >= WORD { *word } else { word & ((1 << below) - 1) };
            count += u64::from(bits.count_ones());
        }
        count.min(enough)
    }

    /// All free runs, ascending; runs do not touch each other.
    pub(crate) fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        let end = self.words.len() as u64 * WORD;
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = self.next(at, true).filter(|&s| s < end)?;
            at = self.next(start, false).unwrap_or(end);
            Some(Run { start, len: at - start })
        })
    }

    /// First page from `at` on that is free (or is not).
    fn next(&self, at: u64, free: bool) -> Option<u64> {
        let mut word = (at / WORD) as usize;
        let mut skip = at % WORD;
        while let Some(&bits) = self.words.get(word) {
            let bits = (if free { bits } else { !bits }) >> skip << skip;
            if bits != 0 {
                return Some(word as u64 * WORD + u64::from(bits.trailing_zeros()));
            }
            word += 1;
            skip = 0;
        }
        None
    }

    /// Takes out a run whose pages are all free.
    pub(crate) fn remove(&mut self, run: Run) {
        for (word, mask) in masks(run) {
            debug_assert_eq!(self.words[word] & mask, mask, "only free pages are taken");
            self.words[word] &= !mask;
        }
        self.count -= run.len;
        self.update(run);
    }

    /// Brings the tree up to date with the words of a run. What has not changed at one level changes nothing above it.
    fn update(&mut self, run: Run) {
        let leaves = self.words.len();
        let (mut low, mut high) = ((run.start / WORD) as usize, ((run.end() - 1) / WORD) as usize);
        for word in low..=high {
            self.nodes[leaves + word] = Runs::of_word(self.words[word]);
        }
        (low, high) = ((leaves + low) / 2, (leaves + high) / 2);
        let mut width = WORD;
        let mut changed = true;
        while low > 0 && changed {
            changed = false;
            for node in low..=high {
                let joined = Runs::join(self.nodes[2 * node], self.nodes[2 * node + 1], width);
                changed |= self.nodes[node] != joined;
                self.nodes[node] = joined;
            }
            (low, high, width) = (low / 2, high / 2, width * 2);
        }
    }

    /// Makes room for at least `words` words and builds the tree anew.
    fn resize(&mut self, words: usize) {
        let leaves = words.next_power_of_two().max(1);
        self.words.resize(leaves, 0);
        self.nodes = vec![Runs::default(); 2 * leaves];
        self.update(Run { start: 0, len: leaves as u64 * WORD });
    }
}

/// The words that a run touches, each with the bits of the run.
fn masks(run: Run) -> impl Iterator<Item = (usize, u64)> {
    (run.start / WORD..run.end().div_ceil(WORD)).map(move |word| {
        let base = word * WORD;
        let (from, to) = (run.start.saturating_sub(base), (run.end() - base).min(WORD));
        let below = |n: u64| if n == WORD { u64::MAX } else { (1 << n) - 1 };
        (word as usize, below(to) & !below(from))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn pages(set: &FreeSet) -> BTreeSet<u64> {
        set.runs().flat_map(|r| r.start..r.end()).collect()
    }

    #[test]
    fn a_page_freed_twice_is_refused() {
        let mut free = FreeSet::default();
        free.insert(Run { start: 10, len: 3 }).unwrap();
        for run in [Run { start: 12, len: 1 }, Run { start: 9, len: 2 }, Run { start: 5, len: 200 }] {
            assert!(free.insert(run).is_err(), "{run:?}");
        }
        assert_eq!(free.count(), 3);
    }

    #[test]
    fn a_complement_leaves_out_the_metas_and_what_is_beyond_the_end() {
        let used = vec![0b1000, 0];
        let set = FreeSet::complement(used, 70);
        assert_eq!(set.runs().collect::<Vec<_>>(), [Run { start: 2, len: 1 }, Run { start: 4, len: 66 }]);
        assert_eq!((set.count(), set.first_fit(66), set.first_fit(67)), (67, Some(4), None));
    }

    /// The lowest start of `len` neighbours in a model.
    fn first_fit(model: &BTreeSet<u64>, len: u64) -> Option<u64> {
        model.iter().copied().find(|&start| (start..start + len).all(|page| model.contains(&page)))
    }

    proptest! {
        #[test]
        #[cfg_attr(miri, ignore = "safe code; takes hours")]
        fn the_set_behaves_like_a_set(
            ops in prop::collection::vec((0_u8..5, 2_u64..700, prop_oneof![1_u64..6, 1_u64..200]), 1..120)
        ) {
            let mut free = FreeSet::default();
            let mut model = BTreeSet::new();
            for (op, start, len) in ops {
                let taken = match op {
                    0..3 => {
                        let new = start..start + len;
                        let fits = new.clone().all(|p| !model.contains(&p));
                        prop_assert_eq!(free.insert(Run { start, len }).is_ok(), fits);
                        if fits { model.extend(new); }
                        None
                    }
                    3 => {
                        let expected = first_fit(&model, len).map(|start| Run { start, len });
                        let taken = free.take(len);
                        prop_assert_eq!(taken, expected);
                        taken
                    }
                    _ => {
                        let taken = free.take_tail(start);
                        let below = (0..start).rev().take_while(|p| model.contains(p)).count() as u64;
                        prop_assert_eq!(taken.map_or(0, |r| r.len), below);
                        prop_assert!(taken.is_none_or(|r| r.end() == start));
                        taken
                    }
                };
                for page in taken.into_iter().flat_map(|r| r.start..r.end()) {
                    prop_assert!(model.remove(&page));
                }
                prop_assert_eq!(&pages(&free), &model);
                prop_assert_eq!(free.count(), model.len() as u64);
                prop_assert_eq!(free.count_below(start, u64::MAX), model.range(..start).count() as u64);
                let all: Vec<Run> = free.runs().collect();
                prop_assert!(all.windows(2).all(|w| w[0].end() < w[1].start));
            }
        }
    }
}
